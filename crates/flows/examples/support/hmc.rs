//! Hamiltonian Monte Carlo (Neal, *MCMC using Hamiltonian dynamics*, 2011): slow and exact.

use std::ops::Range;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::StandardNormal;

/// Leapfrog steps between two states.
const LEAPFROGS: usize = 12;

/// So many states of a chain that starts at 0 and forgets its first `states / 10`.
///
/// `target` is a log-density, but for a constant, and its gradient; the size of the leapfrog steps is drawn from `steps`
/// for each state.
pub fn chain<const N: usize>(
    target: impl Fn(&[f64; N]) -> (f64, [f64; N]),
    steps: Range<f64>,
    states: usize,
    seed: u64,
) -> Vec<[f64; N]> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let kinetic = |p: &[f64; N]| p.iter().map(|p| p * p).sum::<f64>() / 2.0;
    let mut x = [0.0; N];
    let (mut log_density, mut slope) = target(&x);
    let forgotten = states / 10;
    let mut visited = Vec::with_capacity(forgotten + states);
    for _ in 0..forgotten + states {
        let mut p: [f64; N] = std::array::from_fn(|_| rng.sample(StandardNormal));
        let before = log_density - kinetic(&p);
        let step = rng.random_range(steps.clone());
        let (mut to, mut at, mut uphill) = (x, log_density, slope);
        for _ in 0..LEAPFROGS {
            (0..N).for_each(|i| p[i] += step / 2.0 * uphill[i]);
            (0..N).for_each(|i| to[i] += step * p[i]);
            (at, uphill) = target(&to);
            (0..N).for_each(|i| p[i] += step / 2.0 * uphill[i]);
        }
        if rng.random::<f64>().ln() < at - kinetic(&p) - before {
            (x, log_density, slope) = (to, at, uphill);
        }
        visited.push(x);
    }
    visited.split_off(forgotten)
}

/// The share of a chain's moves that were accepted: after the others it is where it was.
pub fn accepted<const N: usize>(states: &[[f64; N]]) -> f64 {
    let moved = states.windows(2).filter(|pair| pair[0] != pair[1]);
    moved.count() as f64 / (states.len() - 1) as f64
}
