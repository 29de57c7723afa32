//! A simulator whose posterior is known: bent, and with two modes where the second observation is large.

use std::f64::consts::PI;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// Standard deviations of what is observed.
const NOISE: [f64; 2] = [1.0, 0.3];

/// So many parameters from N(0, I), and what is observed of each: the first one, and the second one plus the square of the
/// first.
pub fn simulate(count: usize, rng: &mut impl Rng) -> (Vec<[f64; 2]>, Vec<[f64; 2]>) {
    let mut normal = || rng.sample::<f64, _>(StandardNormal);
    let simulation = |_| {
        let [a, b] = [normal(), normal()];
        let noise = NOISE.map(|sd| sd * normal());
        ([a, b], [a + noise[0], b + a * a + noise[1]])
    };
    (0..count).map(simulation).unzip()
}

/// ln p(parameters | x) in nats.
pub fn log_posterior(x: &[f64; 2], parameters: &[[f64; 2]]) -> Vec<f64> {
    let normal = |x: f64, sd: f64| -(x / sd).powi(2) / 2.0 - sd.ln() - (2.0 * PI).ln() / 2.0;
    // The evidence: over the second parameter a Gaussian's integral, over the first one a sum.
    let sd = (1.0 + NOISE[1].powi(2)).sqrt();
    let slice = |a: f64| normal(a, 1.0) + normal(x[0] - a, NOISE[0]) + normal(x[1] - a * a, sd);
    let evidence: f64 = (-600..600)
        .map(|i| slice(f64::from(i) / 100.0).exp() / 100.0)
        .sum();
    let log_posterior = |&[a, b]: &[f64; 2]| {
        let likelihood = normal(x[0] - a, NOISE[0]) + normal(x[1] - b - a * a, NOISE[1]);
        normal(a, 1.0) + normal(b, 1.0) + likelihood - evidence.ln()
    };
    parameters.iter().map(log_posterior).collect()
}
