//! The bound where the encoder predicts what nobody would: where it is a number, so are all gradients; elsewhere it is
//! not finite, and so cannot be taken for a result.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Distribution, Tensor},
};
use burn_flows::FlowConfig;
use flow_vae::{Activation, ImportanceSampling, Likelihood, Vae, VaeConfig};

const LATENTS: usize = 3;

fn vae(layers: usize, likelihood: Likelihood, device: &Device) -> Vae {
    VaeConfig {
        pixels: 16,
        likelihood,
        hidden: vec![8],
        activation: Activation::Maxout { window: 2 },
        flow: FlowConfig::planar(LATENTS, layers),
    }
    .init(device)
}

/// Predicts the same base for every image.
struct Base {
    mean: f32,
    log_var: f32,
    path: Vec<String>,
}

impl ModuleMapper for Base {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match &self.path[..] {
            [base, weight] if base == "base" && weight == "weight" => {
                param.map(|x| x.zeros_like().require_grad())
            }
            [base, bias] if base == "base" && bias == "bias" => param.map(|x| {
                let [mean, log_var] = [self.mean, self.log_var].map(|x| vec![x; LATENTS]);
                let data = Tensor::<1>::from_floats(&[mean, log_var].concat()[..], &x.device());
                data.reshape(x.shape()).detach().require_grad()
            }),
            _ => param,
        }
    }
}

/// How many gradients there are, and which of them are no numbers.
struct NoNumbers<'a> {
    gradients: &'a burn::tensor::Gradients,
    path: Vec<String>,
    seen: usize,
    found: Vec<String>,
}

impl ModuleVisitor for NoNumbers<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("a gradient");
        self.seen += 1;
        if gradient.into_data().iter::<f32>().any(|x| x.is_nan()) {
            self.found.push(self.path.join("."));
        }
    }
}

/// The bound of five images, after a look at the gradients.
fn bound(mean: f32, log_var: f32, layers: usize, likelihood: Likelihood, device: &Device) -> f32 {
    let device = device.clone().autodiff();
    device.seed(1);
    let vae = vae(layers, likelihood, &device).map(&mut Base {
        mean,
        log_var,
        path: Vec::new(),
    });
    let images = Tensor::random([5, 16], Distribution::Uniform(0.1, 0.9), &device);
    let noise = Tensor::random([5, LATENTS], Distribution::Normal(0.0, 1.0), &device);
    let loss = vae.terms(images.clone(), noise.clone()).elbo().mean();
    let gradients = loss.backward();
    let mut visitor = NoNumbers {
        gradients: &gradients,
        path: Vec::new(),
        seen: 0,
        found: Vec::new(),
    };
    vae.visit(&mut visitor);
    let value: f32 = loss.into_scalar();
    let what = format!("mean {mean:e}, log-variance {log_var:e}, K = {layers}, {likelihood:?}");
    assert!(visitor.seen > 6, "{what}");
    assert!(
        visitor.found.is_empty() || !value.is_finite(),
        "{what}: the bound is {value}, and the gradients of {:?} are no numbers",
        visitor.found
    );
    let sampling = ImportanceSampling {
        samples: 2,
        rows_at_once: 5,
    };
    let estimates = sampling.estimate(&vae, images, |n| noise.clone().repeat_dim(0, n));
    let all = estimates.unwrap();
    // Two samples of the same noise: what is said of ln p(x) must not look better than the bound does.
    for (nll, elbo) in all.log_likelihood.iter().zip(&all.elbo) {
        assert!(
            nll.is_finite() == elbo.is_finite()
                && (!elbo.is_finite() || (nll - elbo).abs() <= 1e-5 * elbo.abs()),
            "{what}: {nll} and {elbo}"
        );
    }
    value
}

const LARGE: [f32; 5] = [1e30, -1e30, f32::MAX, f32::INFINITY, f32::NAN];

#[test]
fn no_bound_that_is_a_number_has_gradients_that_are_none() {
    for device in [Device::flex()] {
        for likelihood in [Likelihood::Bernoulli, Likelihood::LogitNormal] {
            for layers in [0, 3] {
                let bound = |mean, log_var| bound(mean, log_var, layers, likelihood, &device);
                for mean in [0.0, -30.0, 1e4, 1e15].into_iter().chain(LARGE) {
                    for log_var in [0.0, 30.0, 88.0, 200.0, -88.0, -200.0]
                        .into_iter()
                        .chain(LARGE)
                    {
                        bound(mean, log_var);
                    }
                }
                // A posterior that is a point is no number's fault, nor is one that is far away.
                for (mean, log_var) in [(0.0, -88.0), (0.0, -200.0), (0.0, -1e30), (1e4, -200.0)] {
                    let value = bound(mean, log_var);
                    assert!(value.is_finite(), "{mean:e}, {log_var:e}: {value}");
                }
                for (mean, log_var) in [(1e30, 0.0), (f32::NAN, 0.0), (0.0, 1e30), (0.0, f32::NAN)]
                {
                    let value = bound(mean, log_var);
                    assert!(!value.is_finite(), "{mean:e}, {log_var:e}: {value}");
                }
            }
        }
    }
}
