//! Hamiltonian Monte Carlo on a tempered posterior (Neal, *MCMC using Hamiltonian dynamics*, 2011), many chains at once.
//!
//! ```text
//! ln π_β(z) = ln N(z; 0, I) + β ln p(x | z) + constant
//! H(z, r)   = ½ |z|² - β ln p(x | z) + ½ |r|²
//! ```
//!
//! A move draws a momentum r, follows H by leapfrog steps, which keep volume and can be run backwards, and accepts the end
//! with the probability min(1, e^-ΔH), so that π_β stays as it is whatever the size of the steps.

use burn::tensor::Tensor;

/// Numbers of noise that a move takes beside the momentum: half their squared length is -ln of a uniform number.
pub const OF_ACCEPTANCE: usize = 2;

/// Where chains are, a row each, with ln p(x | z) there and its slope.
#[derive(Clone, Debug)]
pub struct Points {
    /// `[rows, dim]`.
    pub z: Tensor<2>,
    /// `[rows, 1]`, in nats.
    pub log_likelihood: Tensor<2>,
    /// `[rows, dim]`.
    slope: Tensor<2>,
}

impl Points {
    /// The points `z: [rows, dim]`, of which `log_likelihood` says `[rows]` numbers, each a function of its own row.
    pub fn at(z: Tensor<2>, log_likelihood: &impl Fn(Tensor<2>) -> Tensor<1>) -> Self {
        let z = z.autodiff().require_grad();
        let nats = log_likelihood(z.clone());
        let slope = z.grad_remove(&mut nats.clone().sum().backward());
        Self {
            slope: slope.expect("z was tracked"),
            z: z.without_autodiff(),
            log_likelihood: nats.without_autodiff().unsqueeze_dim(1),
        }
    }

    /// H without the momentum's part, `[rows, 1]`.
    fn potential(&self, beta: f64) -> Tensor<2> {
        half_square(self.z.clone()) - self.log_likelihood.clone().mul_scalar(beta)
    }

    /// -∂H/∂z.
    fn force(&self, beta: f64) -> Tensor<2> {
        self.slope.clone().mul_scalar(beta) - self.z.clone()
    }

    /// These where `mask: [rows, 1]` is false, the others where it is true.
    fn or(self, others: Self, mask: Tensor<2, burn::tensor::Bool>) -> Self {
        let wide = mask.clone().expand(self.z.dims());
        Self {
            z: self.z.mask_where(wide.clone(), others.z),
            log_likelihood: self.log_likelihood.mask_where(mask, others.log_likelihood),
            slope: self.slope.mask_where(wide, others.slope),
        }
    }
}

/// ½ |row|², `[rows, 1]`.
fn half_square(rows: Tensor<2>) -> Tensor<2> {
    rows.square().sum_dim(1).div_scalar(2.0)
}

/// Moves that all have the same target and number of leapfrog steps.
pub struct Moves<'a, F> {
    /// `[rows, dim]` to `[rows]` nats, each a function of its own row.
    pub log_likelihood: &'a F,
    /// How much of it counts: 0 is the prior, 1 the posterior.
    pub beta: f64,
    /// Leapfrog steps of a move.
    pub leapfrogs: usize,
}

impl<F: Fn(Tensor<2>) -> Tensor<1>> Moves<'_, F> {
    /// Each chain's next state, and the probability that it moves, `[rows, 1]`; 0 where its end has no finite density.
    ///
    /// `step: [rows, 1]` is the size of the leapfrog steps, `noise: [rows, dim + 2]` is standard normal.
    pub fn next(&self, from: Points, step: Tensor<2>, noise: Tensor<2>) -> (Points, Tensor<2>) {
        let [_, dim] = from.z.dims();
        let momentum = noise.clone().slice_dim(1, 0..dim);
        let patience = half_square(noise.slice_dim(1, dim..dim + OF_ACCEPTANCE));
        let (to, rise) = self.leapfrog(&from, momentum, step);
        let probability = rise.clone().clamp_min(0.0).neg().exp();
        let probability = probability.mask_fill(rise.clone().is_nan(), 0.0);
        // u < e^-ΔH; no NaN is less than anything.
        (from.or(to, rise.lower(patience)), probability)
    }

    /// The end of the way from `from` with this momentum, and by how much H has risen on it, `[rows, 1]`.
    fn leapfrog(
        &self,
        from: &Points,
        mut momentum: Tensor<2>,
        step: Tensor<2>,
    ) -> (Points, Tensor<2>) {
        let energy = |at: &Points, momentum: &Tensor<2>| {
            at.potential(self.beta) + half_square(momentum.clone())
        };
        let before = energy(from, &momentum);
        let half = step.clone().div_scalar(2.0);
        let mut at = from.clone();
        for _ in 0..self.leapfrogs {
            momentum = momentum + half.clone() * at.force(self.beta);
            let z = at.z + step.clone() * momentum.clone();
            at = Points::at(z, self.log_likelihood);
            momentum = momentum + half.clone() * at.force(self.beta);
        }
        let rise = energy(&at, &momentum) - before;
        (at, rise)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use rand::{SeedableRng, rngs::ChaCha8Rng};
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    const DIM: usize = 3;
    /// Of the likelihood N(1; z_i, v_i) of each coordinate.
    const VARIANCES: [f64; DIM] = [0.1, 1.0, 10.0];

    fn log_likelihood(z: Tensor<2>) -> Tensor<1> {
        let precisions = VARIANCES.map(|variance| -0.5 / variance);
        let weights = Tensor::<1>::from_data(precisions, &z.device()).unsqueeze();
        (z.sub_scalar(1.0).square() * weights)
            .sum_dim(1)
            .squeeze_dim(1)
    }

    const MOVES: Moves<fn(Tensor<2>) -> Tensor<1>> = Moves {
        log_likelihood: &(log_likelihood as fn(Tensor<2>) -> Tensor<1>),
        beta: 0.5,
        leapfrogs: 5,
    };

    /// Mean and variance of π_½ along coordinate i: precisions add.
    fn moments(i: usize) -> (f64, f64) {
        let variance = 1.0 / (1.0 + MOVES.beta / VARIANCES[i]);
        (variance * MOVES.beta / VARIANCES[i], variance)
    }

    fn normal(rows: usize, width: usize, seed: u64) -> Tensor<2> {
        let noise = StandardNormal.sample_iter(ChaCha8Rng::seed_from_u64(seed));
        let noise: Vec<f32> = noise.take(rows * width).collect();
        Tensor::from_data(TensorData::new(noise, [rows, width]), &Device::flex())
    }

    fn steps(rows: usize, step: f64) -> Tensor<2> {
        Tensor::full([rows, 1], step, &Device::flex())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    /// Chains that begin in π_β have its mean and variance after twenty moves with steps so large that a third is refused.
    /// Over n chains the mean has a standard deviation of sqrt(v / n), the variance one of v sqrt(2 / n): four of each
    /// are allowed.
    #[test]
    fn moves_leave_the_target_as_it_is() {
        let n = 20_000;
        let columns = normal(n, DIM, 1).chunk(DIM, 1).into_iter().enumerate();
        let scaled = columns.map(|(i, column)| {
            let (mean, variance) = moments(i);
            column.mul_scalar(variance.sqrt()).add_scalar(mean)
        });
        let mut at = Points::at(Tensor::cat(scaled.collect(), 1), &log_likelihood);
        let begun = at.z.clone();
        let mut accepted = 0.0;
        for seed in 2..22 {
            let noise = normal(n, DIM + OF_ACCEPTANCE, seed);
            let (next, probability) = MOVES.next(at, steps(n, 0.75), noise);
            accepted += probability.mean().into_scalar::<f64>() / 20.0;
            at = next;
        }
        assert!((0.5..0.8).contains(&accepted), "{accepted}");
        let moved = numbers((at.z.clone() - begun).abs().min_dim(1));
        assert!(moved.iter().all(|moved| *moved > 0.0), "all have moved");
        for (i, column) in at.z.chunk(DIM, 1).into_iter().enumerate() {
            let (mean, variance) = moments(i);
            let z = numbers(column);
            let its_mean = z.iter().sum::<f64>() / n as f64;
            let its_variance = z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / n as f64;
            let root = (n as f64).sqrt();
            assert!(
                (its_mean - mean).abs() < 4.0 * variance.sqrt() / root,
                "{i}: mean {its_mean}, not {mean}"
            );
            assert!(
                (its_variance - variance).abs() < 4.0 * variance * 2.0_f64.sqrt() / root,
                "{i}: variance {its_variance}, not {variance}"
            );
        }
    }

    /// Over a fixed time the error of H is c ε² + O(ε⁴) for each chain: a quarter at half the step, with a correction of
    /// ε² itself, 1 % here.
    #[test]
    fn the_energy_error_falls_with_the_square_of_the_step() {
        let n = 200;
        let from = Points::at(normal(n, DIM, 1), &log_likelihood);
        let error = |step: f64| {
            let moves = Moves {
                leapfrogs: (0.8 / step).round() as usize,
                ..MOVES
            };
            let (_, rise) = moves.leapfrog(&from, normal(n, DIM, 2), steps(n, step));
            numbers(rise).iter().map(|rise| rise.abs()).sum::<f64>() / n as f64
        };
        let errors = [0.2, 0.1, 0.05].map(error);
        for pair in errors.windows(2) {
            let ratio = pair[0] / pair[1];
            assert!((ratio - 4.0).abs() < 0.3, "{ratio}: {errors:?}");
        }
    }

    /// A step that leads out of the numbers is refused, and its chain goes on from where it was.
    #[test]
    fn what_is_not_finite_is_refused() {
        let from = Points::at(normal(2, DIM, 1), &log_likelihood);
        let step = Tensor::from_data([[1e30], [0.1]], &Device::flex());
        let before = numbers(from.z.clone());
        let (to, probability) = MOVES.next(from, step, normal(2, DIM + OF_ACCEPTANCE, 2));
        let (after, probability) = (numbers(to.z), numbers(probability));
        assert_eq!(before[..DIM], after[..DIM]);
        assert_eq!(probability[0], 0.0);
        assert!(probability[1] > 0.9, "{probability:?}");
    }
}
