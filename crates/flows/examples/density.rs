//! A density: a neural spline flow (Durkan et al. 2019) fitted to points by maximum likelihood.
//!
//! ```sh
//! cargo run --example density
//! ```
//!
//! prints the log-likelihood of test points under a Gaussian with full covariance, under the flow, and under the density
//! that the points were drawn from, which a model beats by chance alone. `density.png` has the points, the density that
//! the flow made of them, and the true one (the grid has steps of 1).

mod support;

use std::error::Error;

use burn::{
    module::Module,
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Int, Tensor, TensorData},
};
use burn_flows::{
    ActNormConfig, CouplingConfig, DiagonalGaussian, Flow, FlowConfig, LuLinearConfig, PartConfig,
    PermutationConfig, ScalarMap,
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use support::{falling, moments, moons, picture, tensor, values};

const POINTS: usize = 20_000;
const BATCH: usize = 512;
const STEPS: usize = 1200;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(0); // of the weights
    let mut rng = ChaCha8Rng::seed_from_u64(0); // of the points and the minibatches
    let (train, test) = (moons::draw(POINTS, &mut rng), moons::draw(POINTS, &mut rng));

    // A linear map of a Gaussian is a Gaussian.
    let linear = vec![LuLinearConfig {}.into()];
    // Six couplings, between which the coordinates change places.
    let coupling = CouplingConfig {
        map: ScalarMap::Spline(8),
        hidden: vec![32, 32],
    };
    let step = [coupling.into(), PermutationConfig::Reverse.into()];
    let spline = std::iter::repeat_n(step, 6).flatten().collect();

    let [gaussian, flow] = [linear, spline].map(|parts| fit(parts, &train, &mut rng, &device));
    let plain = device.inner();
    let density = |flow: &Flow, points| values(log_prob(flow, tensor(points, &plain)));
    println!("test log-likelihood, nats a point");
    for (name, log_probs) in [
        ("Gaussian", density(&gaussian, &test)),
        ("flow", density(&flow, &test)),
        ("truth", moons::log_density(&test)),
    ] {
        let (mean, sd) = moments(&log_probs);
        println!("{name:>9} {mean:8.4} ± {:.4}", sd / (POINTS as f64).sqrt());
    }

    let mut panels = [(); 3].map(|_| picture::Panel::new(-1.5..2.5, -1.75..2.25, 1.0));
    let grid = panels[0].grid();
    panels[0].dots(train.into_iter().take(5000));
    panels[1].shade(&density(&flow, &grid));
    panels[2].shade(&moons::log_density(&grid));
    picture::save("density.png", &[panels.into()])
}

/// A flow of these parts with the greatest mean log-likelihood of the points.
fn fit(
    mut parts: Vec<PartConfig>,
    points: &[[f64; 2]],
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Flow {
    let points = tensor(points, device);
    // Next to the data a scale and a shift of each coordinate, which start where they standardise it.
    parts.push(ActNormConfig {}.into());
    let mut flow = FlowConfig::new(2, parts)
        .init(device)
        .standardize(points.clone(), None);
    let mut optimizer = AdamConfig::new().init();
    for step in 0..STEPS {
        let rows: Vec<i32> = (0..BATCH)
            .map(|_| rng.random_range(0..POINTS as i32))
            .collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [BATCH]), device);
        let loss = log_prob(&flow, points.clone().select(0, rows)).mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &flow);
        flow = optimizer.step(falling(3e-3, step, STEPS), flow, gradients);
    }
    flow.valid()
}

fn log_prob(flow: &Flow, points: Tensor<2>) -> Tensor<1> {
    let base = DiagonalGaussian::standard(2, &points.device());
    flow.distribution(base, None).log_prob(points)
}
