use burn::{
    module::Module,
    tensor::{Tensor, TensorReadError},
};

use crate::{
    Vae,
    hmc::{Moves, OF_ACCEPTANCE, Points},
    importance::log_mean_exp,
};

/// ln p(x) by annealed importance sampling: the gold standard that [`ImportanceSampling`](crate::ImportanceSampling) is
/// held against.
///
/// ```text
/// π_t(z) ∝ p(z) p(x | z)^β_t,   0 = β_0 < β_1 < … < β_T = 1
/// z_0 ~ p(z),   z_t ~ a move that leaves π_t as it is, from z_{t-1}
/// ln w = Σ_t (β_t - β_{t-1}) ln p(x | z_{t-1}),   E w = p(x)       (Neal, *Annealed Importance Sampling*, 2001)
/// ```
///
/// Each chain leads from the prior to the posterior, by a move of Hamiltonian Monte Carlo at each β; the path is that of
/// Wu, Burda, Salakhutdinov & Grosse, *On the Quantitative Analysis of Decoder-Based Generative Models* (2017): β_t goes
/// along a logistic curve from -4 to 4. It begins at the prior and not at q(z | x), from which it would be shorter: what is
/// held against q must not share the places that q overlooks. So the estimate depends on the decoder alone, and models with
/// different posteriors have equally good ones.
///
/// The mean over chains of w is p(x) without bias, for any number of steps; its logarithm is too low in the mean, the less so
/// the more steps and chains: of two estimates the higher is probably the nearer one.
///
/// The size of the leapfrog steps is one for each image and each β. It comes of [`PILOT`](Self::PILOT) chains that go the
/// same way before, with noise of their own, and lengthen or shorten their steps as more or less than 65 % of their moves are
/// accepted. The chains that count take the sizes as they then are and change nothing, so that every move of theirs leaves
/// its π_t as it is: with an adaptation that looked at them it would not.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_flows::FlowConfig;
/// use flow_vae::{Activation, AnnealedImportanceSampling, Likelihood, VaeConfig};
///
/// let device = Device::flex();
/// let vae = VaeConfig {
///     pixels: 16,
///     likelihood: Likelihood::Bernoulli,
///     hidden: vec![8],
///     activation: Activation::Tanh,
///     flow: FlowConfig::planar(2, 0),
/// }
/// .init(&device);
///
/// let images = Tensor::zeros([3, 16], &device);
/// let ais = AnnealedImportanceSampling { chains: 4, steps: 20, leapfrogs: 5 };
/// let normal = |n, width| Tensor::random([n * 3, width], Distribution::Normal(0.0, 1.0), &device);
/// let annealed = ais.estimate(&vae, images, normal).unwrap();
/// assert_eq!(annealed.log_likelihood.len(), 3); // nats
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AnnealedImportanceSampling {
    /// Chains an image, each of which gives a weight.
    pub chains: usize,
    /// T, how many steps lead from the prior to the posterior.
    pub steps: usize,
    /// Leapfrog steps of each move.
    pub leapfrogs: usize,
}

/// What the chains say of each image of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnnealedEstimates {
    /// ln p(x), in nats.
    pub log_likelihood: Vec<f64>,
    /// (Σ w)² / Σ w², from 1, where one chain has all the weight, to the number of chains, where all have the same.
    pub effective_chains: Vec<f64>,
    /// The mean probability that a move was accepted; 1 where there is none.
    pub acceptance: Vec<f64>,
}

/// What the pilot's steps aim at, near the best share for this kind of move (Beskos et al., *Optimal tuning of the hybrid
/// Monte Carlo algorithm*, 2013).
const ACCEPTANCE: f64 = 0.65;
/// By how much the logarithm of the pilot's step size changes where a share is wrong by 1.
const GAIN: f64 = 0.2;
/// The pilot's first step size; the prior's scale is 1.
const FIRST_STEP: f64 = 0.5;
/// Half the width of the logistic curve that β follows.
const WIDTH: f64 = 4.0;

impl AnnealedImportanceSampling {
    /// Chains an image that find the step sizes.
    pub const PILOT: usize = 4;

    /// The estimates for `images: [batch, pixels]`.
    ///
    /// `noise(n, width)` returns standard normal draws, independent of all before, for `n` chains of every image,
    /// `[n · batch, width]`, sample-major. It is asked 2 T times: by the pilot and then by the chains that count, once for
    /// where they begin and once a move.
    ///
    /// # Errors
    ///
    /// When the device fails while the numbers are read back.
    ///
    /// # Panics
    ///
    /// When shapes disagree, or `chains` or `steps` is 0.
    pub fn estimate(
        &self,
        vae: &Vae,
        images: Tensor<2>,
        noise: impl FnMut(usize, usize) -> Tensor<2>,
    ) -> Result<AnnealedEstimates, TensorReadError> {
        // The gradient in z alone is asked for.
        let (vae, images) = (vae.valid(), images.without_autodiff());
        let [batch, _] = images.dims();
        let log_likelihood = |z| vae.log_likelihood(z, images.clone());
        self.estimate_of(log_likelihood, batch, vae.latent_dim(), noise)
    }

    /// As [`estimate`](Self::estimate), of any model with a standard normal prior: ln ∫ N(z; 0, I) p(x | z) dz for each of
    /// `batch` observations x.
    ///
    /// `log_likelihood` is ln p(x | z) in nats, `[n · batch]`, of `z: [n · batch, latent_dim]`, sample-major; each number is
    /// a function of its own row, differentiable in it.
    ///
    /// # Errors
    ///
    /// When the device fails while the numbers are read back.
    ///
    /// # Panics
    ///
    /// When shapes disagree, `chains` or `steps` is 0, or `log_likelihood` is not a function of z.
    pub fn estimate_of(
        &self,
        log_likelihood: impl Fn(Tensor<2>) -> Tensor<1>,
        batch: usize,
        latent_dim: usize,
        mut noise: impl FnMut(usize, usize) -> Tensor<2>,
    ) -> Result<AnnealedEstimates, TensorReadError> {
        assert!(
            self.chains > 0 && self.steps > 0,
            "annealed importance sampling takes a chain and a step"
        );
        if batch == 0 {
            return Ok(AnnealedEstimates::default());
        }
        let width = latent_dim + OF_ACCEPTANCE;
        let moves = |t| Moves {
            log_likelihood: &log_likelihood,
            beta: self.beta(t),
            leapfrogs: self.leapfrogs,
        };

        let mut pilot = Points::at(noise(Self::PILOT, latent_dim), &log_likelihood);
        let mut step = Tensor::full([batch, 1], FIRST_STEP, &pilot.z.device());
        let mut steps = Vec::new();
        for t in 1..self.steps {
            let every = step.clone().repeat_dim(0, Self::PILOT);
            let (next, accepted) = moves(t).next(pilot, every, noise(Self::PILOT, width));
            pilot = next;
            let off = mean_over_chains(accepted, batch).sub_scalar(ACCEPTANCE);
            step = step * off.mul_scalar(GAIN).exp();
            steps.push(step.clone());
        }

        let mut at = Points::at(noise(self.chains, latent_dim), &log_likelihood);
        let mut log_weights = vec![0.0; self.chains * batch];
        let mut acceptance = Tensor::zeros_like(&step);
        for t in 1..=self.steps {
            let share = self.beta(t) - self.beta(t - 1);
            let nats = at.log_likelihood.clone().try_into_vec_as::<f64>()?;
            for (log_weight, nats) in log_weights.iter_mut().zip(nats) {
                *log_weight += share * nats;
            }
            // After the last weight nobody asks where the chains are.
            if let Some(step) = steps.get(t - 1) {
                let every = step.clone().repeat_dim(0, self.chains);
                let (next, accepted) = moves(t).next(at, every, noise(self.chains, width));
                at = next;
                acceptance = acceptance + mean_over_chains(accepted, batch);
            }
        }
        let acceptance = acceptance.try_into_vec_as::<f64>()?;
        let by_image = |i: usize| -> Vec<f64> {
            let own = log_weights.iter().skip(i).step_by(batch);
            own.copied().collect()
        };
        Ok(AnnealedEstimates {
            log_likelihood: (0..batch).map(|i| log_mean_exp(&by_image(i))).collect(),
            effective_chains: (0..batch).map(|i| effective(&by_image(i))).collect(),
            acceptance: match self.steps {
                1 => vec![1.0; batch],
                steps => acceptance
                    .iter()
                    .map(|sum| sum / (steps - 1) as f64)
                    .collect(),
            },
        })
    }

    /// β_t, from 0 at 0 to 1 at T.
    fn beta(&self, t: usize) -> f64 {
        let logistic = |t: f64| 1.0 / (1.0 + (-WIDTH * (2.0 * t - 1.0)).exp());
        let (first, last) = (logistic(0.0), logistic(1.0));
        (logistic(t as f64 / self.steps as f64) - first) / (last - first)
    }
}

/// `[n · batch, 1]`, sample-major, to `[batch, 1]`.
fn mean_over_chains(rows: Tensor<2>, batch: usize) -> Tensor<2> {
    let [all, _] = rows.dims();
    rows.reshape([all / batch, batch])
        .mean_dim(0)
        .reshape([batch, 1])
}

/// (Σ w)² / Σ w².
fn effective(log_weights: &[f64]) -> f64 {
    let n = log_weights.len() as f64;
    let twice: Vec<f64> = log_weights.iter().map(|w| 2.0 * w).collect();
    n * (2.0 * log_mean_exp(log_weights) - log_mean_exp(&twice)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_leads_from_the_prior_to_the_posterior() {
        for steps in [1, 2, 7, 1000] {
            let ais = AnnealedImportanceSampling {
                chains: 1,
                steps,
                leapfrogs: 1,
            };
            let betas: Vec<f64> = (0..=steps).map(|t| ais.beta(t)).collect();
            assert_eq!((betas[0], betas[steps]), (0.0, 1.0));
            assert!(betas.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn equal_weights_are_all_effective_and_one_alone_is_one() {
        assert!((effective(&[-900.0; 5]) - 5.0).abs() < 1e-9);
        assert!((effective(&[-900.0, -100.0, -900.0]) - 1.0).abs() < 1e-9);
        // Weights 1 and 3: 16 / 10.
        assert!((effective(&[0.0, 3.0_f64.ln()]) - 1.6).abs() < 1e-12);
    }
}
