//! Annealed importance sampling of models whose ln p(x) is known.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Distribution as Draw, Tensor, TensorData},
};
use burn_flows::{DiagonalGaussian, FlowConfig};
use flow_vae::{Activation, AnnealedEstimates, AnnealedImportanceSampling, Likelihood, VaeConfig};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, StandardNormal};

/// Standard normal numbers for `batch` images, which go on from call to call.
fn normal(batch: usize, seed: u64) -> impl FnMut(usize, usize) -> Tensor<2> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    move |n, width| {
        let noise = StandardNormal.sample_iter(&mut rng);
        let noise: Vec<f32> = noise.take(n * batch * width).collect();
        Tensor::from_data(TensorData::new(noise, [n * batch, width]), &Device::flex())
    }
}

/// Of a mean of n weights with the effective number m the relative standard deviation is sqrt(1/m - 1/n), and so is that of
/// its logarithm, but for terms of its square. Four of them are allowed, and 1e-3 for what `f32` rounds.
#[track_caller]
fn is_near(estimates: &AnnealedEstimates, chains: usize, expected: &[f64]) {
    let all = estimates.log_likelihood.iter();
    for ((estimate, m), expected) in all.zip(&estimates.effective_chains).zip(expected) {
        let relative = (1.0 / m - 1.0 / chains as f64).max(0.0).sqrt();
        assert!(relative < 0.1, "{m} of {chains} chains say too little");
        assert!(
            (estimate - expected).abs() < 4.0 * relative + 1e-3,
            "{estimate} ± {relative}, not {expected}"
        );
    }
}

const X: [[f32; 2]; 3] = [[0.0, 0.0], [1.5, -1.0], [-3.0, 4.0]];
/// Rows of A.
const A: [[f64; 2]; 2] = [[2.0, 0.5], [-1.0, 1.0]];
const VARIANCE: f64 = 0.2;

/// ln p(x | z) of x | z ~ N(A z, σ² I), sample-major.
fn linear(z: Tensor<2>) -> Tensor<1> {
    linear_at(Tensor::from_data(X, &Device::flex()), z)
}

/// Of these x.
fn linear_at(x: Tensor<2>, z: Tensor<2>) -> Tensor<1> {
    let device = Device::flex();
    let ([batch, _], [rows, _]) = (x.dims(), z.dims());
    let a = Tensor::<2>::from_data(A, &device).transpose();
    let x = x.repeat_dim(0, rows / batch);
    // Symmetric in x and its mean.
    let log_var = Tensor::full([rows, 2], VARIANCE.ln(), &device);
    DiagonalGaussian::new(x, log_var).log_prob(z.matmul(a))
}

/// ln N(x; 0, A Aᵀ + σ² I).
fn log_evidence() -> Vec<f64> {
    let covariance = |i: usize, j: usize| {
        let noise = if i == j { VARIANCE } else { 0.0 };
        A[i][0] * A[j][0] + A[i][1] * A[j][1] + noise
    };
    let [a, b, d] = [(0, 0), (0, 1), (1, 1)].map(|(i, j)| covariance(i, j));
    let determinant = a * d - b * b;
    let log_density = |x: &[f32; 2]| {
        let [x, y] = x.map(f64::from);
        let square = (d * x * x - 2.0 * b * x * y + a * y * y) / determinant;
        -0.5 * (square + determinant.ln()) - (2.0 * std::f64::consts::PI).ln()
    };
    X.iter().map(log_density).collect()
}

/// Whatever the number of steps, the mean weight is p(x); a single one is importance sampling from the prior.
#[test]
fn of_a_linear_gaussian_model_it_is_the_evidence() {
    let expected = log_evidence();
    for (steps, leapfrogs, chains) in [(1, 1, 200_000), (5, 2, 20_000), (100, 5, 1_000)] {
        let ais = AnnealedImportanceSampling {
            chains,
            steps,
            leapfrogs,
        };
        let estimates = ais
            .estimate_of(linear, X.len(), 2, normal(X.len(), 1))
            .unwrap();
        is_near(&estimates, chains, &expected);
    }
}

/// A hundred steps are worth more than twenty, and both accept what they should: the pilot's aim is 0.65, which sizes that
/// still move, and four chains that say how far, miss by some percent.
#[test]
fn more_steps_have_more_even_weights() {
    let [few, many] = [20, 200].map(|steps| {
        let ais = AnnealedImportanceSampling {
            chains: 200,
            steps,
            leapfrogs: 5,
        };
        ais.estimate_of(linear, X.len(), 2, normal(X.len(), 2))
            .unwrap()
    });
    for (few, many) in few.effective_chains.iter().zip(&many.effective_chains) {
        assert!(1.0 <= *few && few < many && *many <= 200.0, "{few}, {many}");
    }
    for acceptance in many.acceptance {
        assert!((acceptance - 0.65).abs() < 0.1, "{acceptance}");
    }
}

/// Two steps are one move, of which a likelihood that says nothing has nothing to refuse but what a leapfrog step errs by. Noise is
/// asked for as often as is said.
#[test]
fn a_flat_likelihood_leaves_the_prior() {
    let ais = AnnealedImportanceSampling {
        chains: 100,
        steps: 2,
        leapfrogs: 1,
    };
    let flat = |z: Tensor<2>| z.mul_scalar(0.0).sum_dim(1).squeeze_dim(1);
    let (mut asked, mut draws) = (0, normal(3, 4));
    let noise = |n, width| {
        asked += 1;
        draws(n, width)
    };
    let estimates = ais.estimate_of(flat, 3, 2, noise).unwrap();
    assert_eq!(asked, 2 * ais.steps);
    for i in 0..3 {
        assert!(estimates.log_likelihood[i].abs() < 1e-9);
        assert!((estimates.effective_chains[i] - 100.0).abs() < 1e-9);
        let acceptance = estimates.acceptance[i];
        assert!(0.9 < acceptance && acceptance <= 1.0, "{acceptance}");
    }
}

#[test]
#[should_panic(expected = "takes a chain and a step")]
fn no_chains_say_nothing() {
    estimate_with(0, 1);
}

#[test]
#[should_panic(expected = "takes a chain and a step")]
fn no_steps_lead_nowhere() {
    estimate_with(1, 0);
}

fn estimate_with(chains: usize, steps: usize) {
    let ais = AnnealedImportanceSampling {
        chains,
        steps,
        leapfrogs: 1,
    };
    let _ = ais.estimate_of(linear, X.len(), 2, normal(X.len(), 1));
}

/// Weights times four: a decoder that is not the same everywhere.
struct Steeper;

impl ModuleMapper for Steeper {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| weight.mul_scalar(4.0))
    }
}

/// With two latents ln p(x) is a sum over a grid: of smooth functions that are 0 at its ends the sum is as good as the
/// integral.
#[test]
fn of_a_decoder_it_is_the_integral_over_a_grid() {
    const SIDE: usize = 161;
    const END: f64 = 6.0;
    let device = Device::flex();
    device.seed(3);
    let vae = VaeConfig {
        pixels: 36,
        likelihood: Likelihood::Bernoulli,
        hidden: vec![10],
        activation: Activation::Tanh,
        flow: FlowConfig::planar(2, 2),
    }
    .init(&device)
    .map(&mut Steeper);
    let images: Tensor<2> = Tensor::random([2, 36], Draw::Bernoulli(0.4), &device);

    let spacing = 2.0 * END / (SIDE - 1) as f64;
    let at = |i: usize| i as f64 * spacing - END;
    let grid: Vec<f64> = (0..SIDE * SIDE)
        .flat_map(|i| [at(i % SIDE), at(i / SIDE)])
        .collect();
    let grid = Tensor::<2>::from_data(TensorData::new(grid, [SIDE * SIDE, 2]), &device);
    let prior = DiagonalGaussian::standard(2, &device).log_prob(grid.clone());
    let expected = [0, 1].map(|i| {
        let image = images.clone().slice_dim(0, i..i + 1);
        let joint = prior.clone() + vae.log_likelihood(grid.clone(), image);
        let joint: Vec<f64> = joint.into_data().iter::<f64>().collect();
        let most = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = joint.iter().map(|nats| (nats - most).exp()).sum();
        most + (sum * spacing * spacing).ln()
    });

    let ais = AnnealedImportanceSampling {
        chains: 500,
        steps: 200,
        leapfrogs: 5,
    };
    // A model that is being trained gives the same.
    let trained = vae.clone().train();
    for vae in [vae, trained] {
        let estimates = ais.estimate(&vae, images.clone(), normal(2, 4)).unwrap();
        is_near(&estimates, ais.chains, &expected);
    }
}

/// With the noise that it has alone, an image among others has the estimate that it has alone, but for rounding: step sizes
/// are its own.
#[test]
fn an_image_is_estimated_by_itself() {
    let ais = AnnealedImportanceSampling {
        chains: 3,
        steps: 30,
        leapfrogs: 3,
    };
    let of = |images: &[usize]| {
        let mut each: Vec<_> = images.iter().map(|i| normal(1, *i as u64)).collect();
        let noise = |n: usize, width: usize| {
            let each = each.iter_mut().map(|noise| noise(n, width));
            let each: Vec<Tensor<3>> = each.map(|noise| noise.unsqueeze_dim(1)).collect();
            Tensor::cat(each, 1).reshape([n * images.len(), width])
        };
        let x = Tensor::<2>::from_data(X, &Device::flex());
        let x = Tensor::cat(
            images
                .iter()
                .map(|&i| x.clone().slice_dim(0, i..i + 1))
                .collect(),
            0,
        );
        let log_likelihood = |z| linear_at(x.clone(), z);
        ais.estimate_of(log_likelihood, images.len(), 2, noise)
            .unwrap()
            .log_likelihood
    };
    let all = of(&[0, 1, 2]);
    for i in 0..3 {
        let alone = of(&[i])[0];
        assert!((all[i] - alone).abs() < 1e-3, "{i}: {all:?}, {alone}");
    }
}

#[test]
fn no_images_have_no_estimates() {
    let ais = AnnealedImportanceSampling {
        chains: 2,
        steps: 2,
        leapfrogs: 2,
    };
    let nothing = ais.estimate_of(linear, 0, 2, normal(0, 0)).unwrap();
    assert_eq!(nothing, AnnealedEstimates::default());
}

/// With the same pilot two chains are what each is alone. Steps that went on adapting to what the chains do
/// would change the estimate; `f32` rounds 1e-4 of it.
#[test]
fn chains_do_not_look_at_each_other() {
    let of = |chains: &[u64]| {
        let mut pilot = normal(1, 100);
        let mut each: Vec<_> = chains.iter().map(|&seed| normal(1, seed)).collect();
        let (mut asked, steps) = (0, 30);
        let noise = |n: usize, width: usize| {
            asked += 1;
            match asked <= steps {
                true => pilot(n, width),
                false => Tensor::cat(each.iter_mut().map(|noise| noise(1, width)).collect(), 0),
            }
        };
        let ais = AnnealedImportanceSampling {
            chains: chains.len(),
            steps,
            leapfrogs: 3,
        };
        let x = Tensor::<2>::from_data([X[2]], &Device::flex());
        let estimates = ais.estimate_of(|z| linear_at(x.clone(), z), 1, 2, noise);
        estimates.unwrap().log_likelihood[0]
    };
    let mean = ((of(&[1]).exp() + of(&[2]).exp()) / 2.0).ln();
    let both = of(&[1, 2]);
    assert!((both - mean).abs() < 1e-3, "{both}, not {mean}");
}
