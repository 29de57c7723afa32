//! Two moons, the points of many a paper on densities.

use std::f64::consts::PI;

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// Standard deviation of the points around their curve.
const NOISE: f64 = 0.1;

/// Half a circle, and another one upside down that reaches into it.
fn curve(upside_down: bool, angle: f64) -> [f64; 2] {
    let (y, x) = angle.sin_cos();
    if upside_down {
        [1.0 - x, 0.5 - y]
    } else {
        [x, y]
    }
}

/// `count` points.
pub fn draw(count: usize, rng: &mut impl Rng) -> Vec<[f64; 2]> {
    let point = |_| {
        let at = curve(rng.random(), rng.random_range(0.0..PI));
        at.map(|x| x + NOISE * rng.sample::<f64, _>(StandardNormal))
    };
    (0..count).map(point).collect()
}

/// Their log-density in nats: that of the mean of Gaussians along the curves.
pub fn log_density(points: &[[f64; 2]]) -> Vec<f64> {
    let half =
        |upside_down| (0..200).map(move |i| curve(upside_down, PI * (f64::from(i) + 0.5) / 200.0));
    let curve: Vec<[f64; 2]> = half(false).chain(half(true)).collect();
    let log_density = |[x, y]: &[f64; 2]| {
        let squared = |at: &[f64; 2]| ((x - at[0]).powi(2) + (y - at[1]).powi(2)) / NOISE.powi(2);
        let sum: f64 = curve.iter().map(|at| (-squared(at) / 2.0).exp()).sum();
        (sum / curve.len() as f64 / (2.0 * PI * NOISE.powi(2))).ln()
    };
    points.iter().map(log_density).collect()
}
