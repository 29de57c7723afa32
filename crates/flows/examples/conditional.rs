//! A conditional density: simulation-based inference (Papamakarios & Murray 2016, Cranmer et al. 2020). A simulator makes
//! observations from parameters; a flow learns the posterior of the parameters for every observation at once, from
//! simulations alone. Here the posterior is known, a bent one with one or two modes.
//!
//! ```sh
//! cargo run --example conditional
//! ```
//!
//! prints how many nats the flow misses of the true posterior, and how uniform the ranks of true parameters among posterior
//! draws are, as they must be where a posterior is calibrated (Talts et al. 2018). `conditional.png` has the true posterior
//! of three observations above, the flow's below, and beside them the ranks of both parameters (grids have steps of 1).

mod support;

use std::error::Error;

use burn::{
    module::Module,
    optim::{AdamConfig, GradientsParams},
    tensor::Device,
};
use burn_flows::{
    CouplingConfig, DiagonalGaussian, Flow, FlowConfig, FlowDistribution, PermutationConfig,
    ScalarMap,
};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use support::{
    falling, moments, picture,
    simulator::{log_posterior, simulate},
    tensor, values,
};

const BATCH: usize = 256;
const STEPS: usize = 3000;
/// Tests of the calibration, posterior draws in each, and bins of the ranks.
const TESTS: usize = 2000;
const DRAWS: usize = 99;
const BINS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(0); // of the weights, and of what the flow draws
    let mut rng = ChaCha8Rng::seed_from_u64(0); // of the simulator
    let flow = fit(&mut rng, &device);
    let device = device.inner();
    let (parameters, observations) = simulate(TESTS, &mut rng);
    let learned = posterior(&flow, &observations, &device);

    let log_q = values(learned.log_prob(tensor(&parameters, &device)));
    let of_each = parameters.iter().zip(&observations).zip(log_q);
    let missed: Vec<f64> = of_each
        .map(|((at, x), log_q)| log_posterior(x, &[*at])[0] - log_q)
        .collect();
    let (kl, sd) = moments(&missed);
    println!(
        "mean KL to the true posterior {kl:.4} ± {:.4} nats",
        sd / (TESTS as f64).sqrt()
    );

    // How many draws are below the true parameter: each number from 0 to DRAWS is as likely as any other.
    let draws = values(learned.sample(DRAWS));
    let ranks = [0, 1].map(|i| {
        let mut bins = [0.0; BINS];
        for (test, truth) in parameters.iter().enumerate() {
            let draw = |n: usize| draws[2 * (n * TESTS + test) + i];
            let rank = (0..DRAWS).filter(|&n| draw(n) < truth[i]).count();
            bins[rank * BINS / (DRAWS + 1)] += BINS as f64 / TESTS as f64;
        }
        bins
    });
    for (i, bins) in ranks.iter().enumerate() {
        let squares: f64 = bins.iter().map(|share| (share - 1.0).powi(2)).sum();
        let chi_square = squares * TESTS as f64 / BINS as f64;
        println!("ranks of parameter {}: chi-square {chi_square:.1}", i + 1);
    }
    println!("(19 ± 6.2 where they are uniform, above 43.8 once in a thousand times)");

    let mut rows = [Vec::new(), Vec::new()];
    for x in [[0.0, -1.0], [1.0, 1.0], [0.0, 2.5]] {
        let panel = picture::Panel::new(-2.5..2.5, -2.0..3.0, 1.0);
        let grid = panel.grid();
        let log_q = posterior(&flow, &[x], &device).log_prob(tensor(&grid, &device));
        for (row, log_density) in rows
            .iter_mut()
            .zip([log_posterior(&x, &grid), values(log_q)])
        {
            let mut panel = panel.clone();
            panel.shade(&log_density);
            row.push(panel);
        }
    }
    for (row, bins) in rows.iter_mut().zip(&ranks) {
        let mut panel = picture::Panel::new(0.0..1.0, 0.0..2.0, 1.0);
        panel.bars(bins);
        row.push(panel);
    }
    picture::save("conditional.png", &rows)
}

/// A flow that has learned the parameters of simulations, given what was observed.
fn fit(rng: &mut ChaCha8Rng, device: &Device) -> Flow {
    let coupling = CouplingConfig {
        map: ScalarMap::Spline(8),
        hidden: vec![64, 64],
    };
    let step = [coupling.into(), PermutationConfig::Reverse.into()];
    let parts = std::iter::repeat_n(step, 6).flatten().collect();
    let mut flow = FlowConfig::new(2, parts).with_context(2).init(device);
    let mut optimizer = AdamConfig::new().init();
    for step in 0..STEPS {
        let (parameters, observations) = simulate(BATCH, rng);
        let posterior = posterior(&flow, &observations, device);
        let loss = posterior.log_prob(tensor(&parameters, device)).mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &flow);
        flow = optimizer.step(falling(2e-3, step, STEPS), flow, gradients);
    }
    flow.valid()
}

/// The flow's posteriors, one for each observation.
fn posterior(flow: &Flow, observations: &[[f64; 2]], device: &Device) -> FlowDistribution {
    let context = tensor(observations, device);
    flow.distribution(DiagonalGaussian::standard(2, device), Some(context))
}
