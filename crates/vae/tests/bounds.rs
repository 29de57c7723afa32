//! The bounds on a model whose evidence is known: z ~ N(0, I), x | z ~ N(z, σ² I), so x ~ N(0, (1 + σ²) I)
//! and z | x ~ N(x / (1 + σ²), σ² / (1 + σ²) I).

use burn::tensor::{Device, Tensor, TensorData};
use burn_flows::{DiagonalGaussian, FlowConfig, FlowDistribution, Planar, PlanarConstraint};
use flow_vae::{BoundTerms, Mean};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, StandardNormal};

const DIM: usize = 3;
const VARIANCE: f64 = 0.5;

fn gaussian(mean: Tensor<2>, variance: f64) -> DiagonalGaussian {
    let log_var = mean.zeros_like().add_scalar(variance.ln());
    DiagonalGaussian::new(mean, log_var)
}

fn observations(device: &Device) -> Tensor<2> {
    Tensor::from_data([[0.5, -1.0, 2.0], [0.0, 0.3, -0.7]], device)
}

/// ln p(x), `[2]`.
fn log_evidence(device: &Device) -> Vec<f64> {
    let x = observations(device);
    let [_, dim] = x.dims();
    gaussian(Tensor::zeros([1, dim], device), 1.0 + VARIANCE)
        .log_prob(x)
        .into_data()
        .iter::<f64>()
        .collect()
}

fn terms(q: &FlowDistribution, n: usize, device: &Device) -> BoundTerms {
    let x = observations(device);
    let noise: Vec<f32> = StandardNormal
        .sample_iter(ChaCha8Rng::seed_from_u64(0))
        .take(n * 2 * DIM)
        .collect();
    let noise = Tensor::from_data(TensorData::new(noise, [n * 2, DIM]), device);
    let (z, log_posterior) = q.transport(noise);
    // p(x | z) is symmetric: the density of z around x.
    BoundTerms {
        log_likelihood: gaussian(x, VARIANCE).log_prob(z.clone()),
        log_prior: DiagonalGaussian::standard(DIM, device).log_prob(z),
        log_posterior,
    }
}

fn by_example(values: Tensor<1>) -> [Vec<f64>; 2] {
    let values: Vec<f64> = values.into_data().iter::<f64>().collect();
    [0, 1].map(|i| values.iter().skip(i).step_by(2).copied().collect())
}

#[test]
fn every_bound_of_the_exact_posterior_is_the_evidence() {
    let device = Device::flex();
    let mean = observations(&device).div_scalar(1.0 + VARIANCE);
    let q = FlowDistribution::new(
        gaussian(mean, VARIANCE / (1.0 + VARIANCE)),
        FlowConfig::planar(3, 0).init(&device).bind(None),
    );
    let terms = terms(&q, 64, &device);
    let evidence = log_evidence(&device);
    for (i, elbos) in by_example(terms.elbo()).iter().enumerate() {
        for elbo in elbos {
            assert!(
                (elbo - evidence[i]).abs() < 1e-4,
                "{elbo} is not {}",
                evidence[i]
            );
        }
    }
    for (i, bound) in by_example(terms.importance_weighted(64)).iter().enumerate() {
        assert!((bound[0] - evidence[i]).abs() < 1e-4);
    }
}

/// ELBO < IWAE(4) < IWAE(64) < ln p(x) for a wrong posterior, with and without a flow on it. Each
/// mean is over thousands of draws; the gaps asserted are 4 standard errors.
#[test]
fn bounds_tighten_towards_the_evidence_and_do_not_pass_it() {
    let device = Device::flex();
    let evidence = log_evidence(&device);
    // Two layers that bend the posterior a little: u, w, b.
    let raw = Tensor::<3>::from_data(
        [[
            [0.3, -0.2, 0.1, 0.9, 0.4, -0.3, 0.2],
            [-0.1, 0.2, 0.3, -0.5, 0.8, 0.2, -0.1],
        ]],
        &device,
    );
    let planar = Planar::new(raw, PlanarConstraint::Identity);
    let base = gaussian(observations(&device).mul_scalar(0.4), 0.6);
    let none = FlowConfig::planar(3, 0).init(&device).bind(None);
    for (name, q) in [
        ("no flow", FlowDistribution::new(base.clone(), none)),
        ("planar", FlowDistribution::new(base, planar)),
    ] {
        let draws = 64 * 2_000;
        let bound = |k: usize| {
            // Rows are sample-major: each run of k samples is one estimate.
            let elbo = terms(&q, draws, &device).elbo();
            let all: Vec<BoundTerms> = elbo
                .chunk(draws / k, 0)
                .into_iter()
                .map(|log_weights| BoundTerms {
                    log_prior: log_weights.zeros_like(),
                    log_posterior: log_weights.zeros_like(),
                    log_likelihood: log_weights,
                })
                .collect();
            let estimates = all.iter().map(|t| t.importance_weighted(k)).collect();
            by_example(Tensor::cat(estimates, 0)).map(|x| Mean::of(&x))
        };
        let (elbo, iwae_4, iwae_64) = (bound(1), bound(4), bound(64));
        for i in 0..2 {
            let steps = [elbo[i], iwae_4[i], iwae_64[i]];
            for pair in steps.windows(2) {
                let slack = 4.0 * pair[0].standard_error.hypot(pair[1].standard_error);
                assert!(
                    pair[1].value - pair[0].value > -slack,
                    "{name}: {pair:?} falls"
                );
            }
            assert!(
                iwae_4[i].value - elbo[i].value > 4.0 * elbo[i].standard_error,
                "{name}: the posterior is wrong, so the bounds must differ: {steps:?}"
            );
            let last = steps[2];
            assert!(
                last.value < evidence[i] + 4.0 * last.standard_error,
                "{name}: {last:?} passes ln p(x) = {}",
                evidence[i]
            );
            assert!(
                last.value > evidence[i] - 0.5,
                "{name}: 64 samples leave {} nats",
                evidence[i] - last.value
            );
        }
    }
}

fn of_log_weights<const N: usize>(log_weights: [f32; N], device: &Device) -> BoundTerms {
    let log_likelihood = Tensor::<1>::from_data(log_weights, device);
    BoundTerms {
        log_prior: log_likelihood.zeros_like(),
        log_posterior: log_likelihood.zeros_like(),
        log_likelihood,
    }
}

/// Weights whose ratio no `f32` holds: the mean of two is half of the larger one.
#[test]
fn weights_that_are_far_apart_neither_overflow_nor_vanish() {
    let device = Device::flex();
    // Sample-major: of two examples, the first and then the second sample.
    let terms = of_log_weights([-1000.0, 500.0, -20.0, -700.0], &device);
    let bound = terms.importance_weighted(2).into_data();
    let half = 2.0_f64.ln();
    for (bound, largest) in bound.iter::<f64>().zip([-20.0, 500.0]) {
        assert!((bound - (largest - half)).abs() < 1e-4, "{bound}");
    }
}

#[test]
#[should_panic(expected = "3 rows are not 2 samples an example")]
fn rows_that_are_no_samples() {
    of_log_weights([0.0; 3], &Device::flex()).importance_weighted(2);
}

#[test]
#[should_panic(expected = "3 rows are not 0 samples an example")]
fn no_samples_have_no_mean() {
    of_log_weights([0.0; 3], &Device::flex()).importance_weighted(0);
}
