//! A posterior in a model of your own: Bayesian logistic regression on Fisher's irises, versicolor or virginica from four
//! lengths. The two are nearly separable, so that the posterior of the weights is skewed and no Gaussian.
//!
//! ```sh
//! cargo run --example posterior
//! ```
//!
//! fits a diagonal Gaussian, planar layers and an inverse autoregressive flow to it by the evidence lower bound. It prints
//! their bounds and, beside those of Hamiltonian Monte Carlo, mean and standard deviation of each weight; and the evidence by
//! importance sampling, which is worth what share of the draws is effective. `posterior.png` has draws of the weights of the petals' length and width: Monte Carlo, Gaussian, planar, IAF (the
//! grid has steps of 5).

mod support;

use std::error::Error;

use burn::{
    module::{Module, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Tensor, activation::log_sigmoid},
};
use burn_flows::{DiagonalGaussian, Flow, FlowConfig, FlowDistribution, ScalarMap};
use support::{
    compare, falling, hmc,
    irises::{self, PRIOR, WEIGHTS},
    moments_of_each, picture, tensor, values,
};

const STEPS: usize = 2000;
/// Draws that each step takes of the posterior, and that the result is judged by.
const SAMPLES: usize = 64;
const DRAWS: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(0); // of the flows' weights, and of what is drawn from them
    let flowers = irises::flowers();

    let reference = irises::monte_carlo(&flowers, DRAWS, 0);
    let exact = moments_of_each(&reference);
    let accepted = 100.0 * hmc::accepted(&reference);
    println!(
        "mean and standard deviation of each weight\nMonte Carlo, {accepted:.1} % accepted\n  {exact:5.2?}"
    );
    println!("the same from another seed");
    compare(
        &moments_of_each(&irises::monte_carlo(&flowers, DRAWS, 1)),
        &exact,
    );

    let mut draws = vec![reference];
    for (name, flow) in [
        ("Gaussian", FlowConfig::new(WEIGHTS, Vec::new())),
        ("planar", FlowConfig::planar(WEIGHTS, 16)),
        (
            "IAF",
            FlowConfig::inverse_autoregressive(WEIGHTS, 4, ScalarMap::Affine, &[32]),
        ),
    ] {
        let (weights, log_q) = fit(flow, &flowers, &device).rsample_and_log_prob(DRAWS);
        let log_ratio = log_joint(&weights, &flowers) - log_q;
        let bound = log_ratio.clone().mean().into_scalar::<f32>();
        // Importance sampling, and how many of a hundred draws count in it.
        let importance = log_ratio.exp();
        let evidence = importance.clone().mean().into_scalar::<f32>();
        let square = importance.square().mean().into_scalar::<f32>();
        let effective = 100.0 * evidence.powi(2) / square;
        draws.push(values(weights).as_chunks().0.to_vec());
        println!(
            "{name}: ELBO {bound:.3}, log-evidence {:.3}, {effective:.1} % effective",
            evidence.ln()
        );
        compare(&moments_of_each(&draws[draws.len() - 1]), &exact);
    }

    let panels = draws.iter().map(|draws| {
        let mut panel = picture::Panel::new(-3.0..20.0, -3.0..20.0, 5.0);
        panel.dots(draws.iter().step_by(DRAWS / 5000).map(|w| [w[3], w[4]]));
        panel
    });
    picture::save("posterior.png", &[panels.collect()])
}

/// A Gaussian with mean and width of its own, and a flow of it.
#[derive(Module, Debug)]
struct Posterior {
    mean: Param<Tensor<2>>,
    log_var: Param<Tensor<2>>,
    flow: Flow,
}

impl Posterior {
    fn distribution(&self) -> FlowDistribution {
        let base = DiagonalGaussian::new(self.mean.val(), self.log_var.val());
        self.flow.distribution(base, None)
    }
}

/// The q of the greatest evidence lower bound, E_q [ln p(flowers, weights) - ln q(weights)].
fn fit(flow: FlowConfig, flowers: &[[f64; WEIGHTS]], device: &Device) -> FlowDistribution {
    let zeros = || Param::from_tensor(Tensor::zeros([1, WEIGHTS], device));
    let mut q = Posterior {
        mean: zeros(),
        log_var: zeros(),
        flow: flow.init(device),
    };
    let mut optimizer = AdamConfig::new().init();
    for step in 0..STEPS {
        let (weights, log_q) = q.distribution().rsample_and_log_prob(SAMPLES);
        let loss = (log_q - log_joint(&weights, flowers)).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &q);
        q = optimizer.step(falling(1e-2, step, STEPS), q, gradients);
    }
    q.valid().distribution()
}

/// ln p(flowers, weights) in nats for each of `weights: [n, WEIGHTS]`. All that a posterior asks of a model: put yours here.
fn log_joint(weights: &Tensor<2>, flowers: &[[f64; WEIGHTS]]) -> Tensor<1> {
    let flowers = tensor(flowers, &weights.device());
    let log_likelihood = log_sigmoid(weights.clone().matmul(flowers.transpose())).sum_dim(1);
    let log_var = Tensor::full([1, WEIGHTS], 2.0 * PRIOR.ln(), &weights.device());
    let prior = DiagonalGaussian::new(log_var.zeros_like(), log_var);
    log_likelihood.squeeze_dim::<1>(1) + prior.log_prob(weights.clone())
}
