//! Fisher's irises, and the posterior of their logistic regression by Monte Carlo.

use smartcore::dataset::iris;

use super::{hmc, moments};

/// Weights: an intercept's, and one for each length.
pub const WEIGHTS: usize = 5;
/// Standard deviation of their prior, a Gaussian around 0.
pub const PRIOR: f64 = 5.0;

/// 1 and the four lengths, standardised, of each versicolor and virginica, times -1 for a versicolor: so the probability of
/// its kind is a sigmoid of weights times these.
pub fn flowers() -> Vec<[f64; WEIGHTS]> {
    let iris = iris::load_dataset();
    let (lengths, _) = iris.data.as_chunks::<4>();
    let both = || lengths.iter().zip(&iris.target).filter(|of| *of.1 != 0);
    let scales = [0, 1, 2, 3].map(|i| {
        let column = both().map(|(lengths, _)| f64::from(lengths[i]));
        moments(&column.collect::<Vec<_>>())
    });
    let signed = |(lengths, kind): (&[f32; 4], &u32)| {
        let sign = if *kind == 1 { -1.0 } else { 1.0 };
        let length = |i: usize| sign * (f64::from(lengths[i]) - scales[i].0) / scales[i].1;
        [sign, length(0), length(1), length(2), length(3)]
    };
    both().map(signed).collect()
}

/// So many draws of the weights' posterior.
pub fn monte_carlo(flowers: &[[f64; WEIGHTS]], draws: usize, seed: u64) -> Vec<[f64; WEIGHTS]> {
    // ln p(flowers, weights) but for a constant, and its gradient.
    let log_joint = |weights: &[f64; WEIGHTS]| {
        let mut log_joint = -weights.iter().map(|w| w * w).sum::<f64>() / (2.0 * PRIOR * PRIOR);
        let mut slope = weights.map(|w| -w / (PRIOR * PRIOR));
        for flower in flowers {
            let logit: f64 = weights.iter().zip(flower).map(|(w, x)| w * x).sum();
            log_joint -= (-logit).exp().ln_1p();
            (0..WEIGHTS).for_each(|i| slope[i] += flower[i] / (1.0 + logit.exp()));
        }
        (log_joint, slope)
    };
    hmc::chain(log_joint, 0.2..0.4, draws, seed)
}
