//! The model as a whole.

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use burn_flows::FlowConfig;
use flow_vae::{
    Activation, Estimates, ImportanceSampling, Likelihood, Vae, VaeConfig, bernoulli_log_likelihood,
};

fn config(layers: usize) -> VaeConfig {
    VaeConfig {
        pixels: 16,
        likelihood: Likelihood::Bernoulli,
        hidden: vec![12, 8],
        activation: Activation::Maxout { window: 2 },
        flow: FlowConfig::planar(3, layers),
    }
}

fn images(device: &Device) -> Tensor<2> {
    Tensor::random([5, 16], Distribution::Bernoulli(0.4), device)
}

#[test]
fn chunks_of_samples_add_up_to_one_call() {
    let device = Device::flex();
    let vae = config(3).init(&device);
    let images = images(&device);
    let noise: Tensor<2> = Tensor::random([50 * 5, 3], Distribution::Normal(0.0, 1.0), &device);
    let estimate = |rows_at_once: usize| {
        let mut at = 0;
        let sampling = ImportanceSampling {
            samples: 50,
            rows_at_once,
        };
        sampling
            .estimate(&vae, images.clone(), |n| {
                let from = at;
                at += n * 5;
                noise.clone().slice_dim(0, from..at)
            })
            .unwrap()
    };
    let whole = estimate(usize::MAX);
    for rows_at_once in [1, 35, 249] {
        let parts = estimate(rows_at_once);
        for (parts, whole) in [
            (&parts.log_likelihood, &whole.log_likelihood),
            (&parts.elbo, &whole.elbo),
            (&parts.kl, &whole.kl),
        ] {
            for (a, b) in parts.iter().zip(whole) {
                assert!(
                    (a - b).abs() < 1e-4,
                    "{rows_at_once} rows at once: {a}, not {b}"
                );
            }
        }
    }
    for (elbo, log_likelihood) in whole.elbo.iter().zip(&whole.log_likelihood) {
        assert!(
            elbo <= log_likelihood,
            "Jensen's inequality, for any weights"
        );
    }
}

/// With one sample ln 1/S Σ w is the sample's own ln w, to the last digit; so it is with equal ones, but for rounding.
#[test]
fn a_likelihood_of_equal_samples_is_their_bound() {
    let device = Device::flex();
    let vae = config(3).init(&device);
    let noise: Tensor<2> = Tensor::random([5, 3], Distribution::Normal(0.0, 1.0), &device);
    let images = images(&device);
    let estimate = |samples, rows_at_once| {
        let sampling = ImportanceSampling {
            samples,
            rows_at_once,
        };
        sampling
            .estimate(&vae, images.clone(), |n| noise.clone().repeat_dim(0, n))
            .unwrap()
    };
    let one = estimate(1, 5);
    assert_eq!(one.log_likelihood, one.elbo);
    for rows_at_once in [5, 15, 35] {
        let all = estimate(7, rows_at_once);
        for (log_likelihood, elbo) in all.log_likelihood.iter().zip(&all.elbo) {
            // Some roundings of 1e-6 nats; ln (8 / 7) is 0.13.
            assert!(
                (log_likelihood - elbo).abs() < 1e-5,
                "{log_likelihood}, not {elbo}"
            );
        }
    }
}

#[test]
fn no_images_have_no_terms() {
    let device = Device::flex();
    for layers in [0, 3] {
        let vae = config(layers).init(&device);
        let none = || {
            (
                Tensor::zeros([0, 16], &device),
                Tensor::zeros([0, 3], &device),
            )
        };
        let (images, noise) = none();
        assert_eq!(vae.terms(images, noise).elbo().dims(), [0]);
        let sampling = ImportanceSampling {
            samples: 4,
            rows_at_once: 10,
        };
        let (images, noise) = none();
        let nothing = sampling.estimate(&vae, images, |_| noise.clone()).unwrap();
        assert_eq!(nothing, Estimates::default());
    }
}

#[test]
#[should_panic(expected = "importance sampling takes a sample")]
fn no_samples_are_no_estimate() {
    let device = Device::flex();
    let sampling = ImportanceSampling {
        samples: 0,
        rows_at_once: 10,
    };
    let noise = |_| Tensor::zeros([0, 3], &device);
    let _ = sampling.estimate(&config(0).init(&device), images(&device), noise);
}

#[test]
#[should_panic(expected = "logits [6, 16] do not belong to images [5, 16]")]
fn logits_of_other_images() {
    let device = Device::flex();
    bernoulli_log_likelihood(Tensor::zeros([6, 16], &device), images(&device));
}

#[test]
fn no_layers_are_the_plain_vae() {
    let device = Device::flex();
    let vae = config(0).init(&device);
    let plain = config(3).init(&device).num_params() - config(0).init(&device).num_params();
    // A head of 8 features to 3 layers of 2 · 3 + 1 numbers.
    assert_eq!(plain, (8 + 1) * 3 * 7);
    let terms = vae.terms(images(&device), Tensor::zeros([5, 3], &device));
    assert_eq!(terms.elbo().dims(), [5]);
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vae.bpk");
    config(3).init(&device).save_file(&path).unwrap();
    for other in [
        VaeConfig {
            flow: FlowConfig::planar(4, 3),
            ..config(3)
        },
        VaeConfig {
            pixels: 25,
            ..config(3)
        },
        VaeConfig {
            likelihood: Likelihood::LogitNormal,
            ..config(3)
        },
        VaeConfig {
            hidden: vec![12],
            ..config(3)
        },
        config(2),
        config(0),
    ] {
        let loaded: Result<Vae, _> = other.init(&device).try_load_file(&path);
        assert!(loaded.is_err(), "{other:?} took it");
    }
}
