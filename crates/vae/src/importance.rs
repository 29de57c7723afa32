use burn::tensor::{Tensor, TensorReadError};

use crate::{BoundTerms, Vae};

/// ln p(x) by importance sampling from the posterior, in chunks of bounded memory.
///
/// ```text
/// ln p(x) ≈ ln 1/S Σ_s p(x | z_s) p(z_s) / q(z_s | x),   z_s ~ q(z | x)     (Burda et al. 2016)
/// ```
///
/// A lower bound in expectation that tightens as S grows; Rezende & Mohamed report it with S = 200, most
/// later papers with 5,000.
#[derive(Clone, Copy, Debug)]
pub struct ImportanceSampling {
    /// S, how many samples an image.
    pub samples: usize,
    /// How many samples, of all images of a batch together, pass through the decoder at once.
    pub rows_at_once: usize,
}

/// What the samples say of each image of a batch, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimates {
    /// ln p(x) by importance sampling.
    pub log_likelihood: Vec<f64>,
    /// The mean of the single-sample bounds.
    pub elbo: Vec<f64>,
    /// The mean of ln p(x | z).
    pub reconstruction: Vec<f64>,
    /// The mean of ln q(z | x) - ln p(z).
    pub kl: Vec<f64>,
}

impl Estimates {
    /// How far the bound is below ln p(x), an estimate of KL(q(z | x) || p(z | x)): what a better posterior,
    /// as a flow makes it, can gain. In the mean it is too low, by as much as ln p(x) by importance sampling is; of one sample
    /// it is 0.
    pub fn gap(&self) -> Vec<f64> {
        let pairs = self.log_likelihood.iter().zip(&self.elbo);
        pairs
            .map(|(log_likelihood, elbo)| log_likelihood - elbo)
            .collect()
    }
}

impl ImportanceSampling {
    /// The estimates for `images: [batch, pixels]`.
    ///
    /// `noise(n)` returns standard normal draws for the next `n` samples of every image,
    /// `[n · batch, latent_dim]`, sample-major.
    ///
    /// # Errors
    ///
    /// When the device fails while the numbers are read back.
    ///
    /// # Panics
    ///
    /// When shapes disagree or `samples` is 0.
    pub fn estimate(
        &self,
        vae: &Vae,
        images: Tensor<2>,
        noise: impl FnMut(usize) -> Tensor<2>,
    ) -> Result<Estimates, TensorReadError> {
        let [batch, _] = images.dims();
        let mut log_sums = vec![f64::NEG_INFINITY; batch];
        let [mut elbo, mut reconstruction, mut kl] = [(); 3].map(|()| vec![0.0; batch]);
        self.chunks(vae, images, noise, |n, terms| {
            let log_means = terms.importance_weighted(n).try_into_vec_as::<f64>()?;
            for (log_sum, log_mean) in log_sums.iter_mut().zip(log_means) {
                *log_sum = log_add_exp(*log_sum, log_mean + (n as f64).ln());
            }
            let share = n as f64 / self.samples as f64;
            add_means(&mut elbo, terms.elbo(), share)?;
            add_means(&mut kl, terms.kl(), share)?;
            add_means(&mut reconstruction, terms.log_likelihood, share)
        })?;
        let log_samples = (self.samples as f64).ln();
        Ok(Estimates {
            log_likelihood: log_sums.iter().map(|sum| sum - log_samples).collect(),
            elbo,
            reconstruction,
            kl,
        })
    }

    /// ln p(x, z_s) - ln q(z_s | x) of each image's samples, in their order: what [`mean_bound`] takes. Noise, errors and
    /// panics as of [`estimate`](Self::estimate); it holds `samples` numbers an image.
    ///
    /// # Errors
    ///
    /// When the device fails while the numbers are read back.
    ///
    /// # Panics
    ///
    /// When shapes disagree or `samples` is 0.
    pub fn log_weights(
        &self,
        vae: &Vae,
        images: Tensor<2>,
        noise: impl FnMut(usize) -> Tensor<2>,
    ) -> Result<Vec<Vec<f64>>, TensorReadError> {
        let [batch, _] = images.dims();
        let mut all = vec![Vec::new(); batch];
        self.chunks(vae, images, noise, |_, terms| {
            for row in terms.elbo().try_into_vec_as::<f64>()?.chunks_exact(batch) {
                for (own, log_weight) in all.iter_mut().zip(row) {
                    own.push(*log_weight);
                }
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Shows `take` the terms of all samples, so many of every image at a time.
    fn chunks(
        &self,
        vae: &Vae,
        images: Tensor<2>,
        mut noise: impl FnMut(usize) -> Tensor<2>,
        mut take: impl FnMut(usize, BoundTerms) -> Result<(), TensorReadError>,
    ) -> Result<(), TensorReadError> {
        assert!(self.samples > 0, "importance sampling takes a sample");
        let [batch, _] = images.dims();
        if batch == 0 {
            return Ok(());
        }
        let posterior = vae.posterior(images.clone());
        let at_once = (self.rows_at_once / batch).max(1);
        let mut done = 0;
        while done < self.samples {
            let n = at_once.min(self.samples - done);
            take(n, vae.terms_of(&posterior, images.clone(), noise(n)))?;
            done += n;
        }
        Ok(())
    }
}

/// The importance-weighted bound of `samples` samples, in nats, from more log-weights of one image than that: the mean over as
/// many sets of so many as there are, none of which shares a weight. All have the same expectation, and their mean varies less
/// than a single one.
///
/// # Panics
///
/// When `samples` is 0 or there are fewer weights.
///
/// ```
/// use flow_vae::mean_bound;
///
/// let log_weights = [-3.0, -1.0, -2.0, -2.0];
/// assert_eq!(mean_bound(&log_weights, 1), -2.0); // the ELBO
/// assert!(mean_bound(&log_weights, 2) > -2.0);
/// assert!(mean_bound(&log_weights, 4) > mean_bound(&log_weights, 2));
/// ```
pub fn mean_bound(log_weights: &[f64], samples: usize) -> f64 {
    assert!(
        samples > 0 && samples <= log_weights.len(),
        "{} log-weights have no set of {samples}",
        log_weights.len()
    );
    let sets = log_weights.chunks_exact(samples);
    let n = sets.len() as f64;
    sets.map(log_mean_exp).sum::<f64>() / n
}

/// ln of the mean of e^x; NaN when one is.
pub(crate) fn log_mean_exp(values: &[f64]) -> f64 {
    let sum = (values.iter()).fold(f64::NEG_INFINITY, |sum, value| log_add_exp(sum, *value));
    sum - (values.len() as f64).ln()
}

/// Adds `share` times each example's mean over its samples.
fn add_means(totals: &mut [f64], rows: Tensor<1>, share: f64) -> Result<(), TensorReadError> {
    let ([rows_in_all], batch) = (rows.dims(), totals.len());
    let means = rows.reshape([rows_in_all / batch, batch]).mean_dim(0);
    for (total, mean) in totals.iter_mut().zip(means.try_into_vec_as::<f64>()?) {
        *total += share * mean;
    }
    Ok(())
}

/// ln(e^a + e^b); NaN when either is.
fn log_add_exp(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY {
        return b;
    }
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

/// A mean over a data set, with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The standard deviation over examples, divided by the root of their number: how far the mean of
    /// another test set of this size would lie, not how far the estimate of any one example is off.
    pub standard_error: f64,
}

impl Mean {
    /// The mean of `values`, one an example; NaN when there is none, as the standard error is of one.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
        Self {
            value,
            standard_error: (squares / (n - 1.0) / n).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_add_exp_of_far_numbers_neither_overflows_nor_vanishes() {
        assert_eq!(log_add_exp(-1000.0, -1000.0), -1000.0 + 2.0_f64.ln());
        assert_eq!(log_add_exp(f64::NEG_INFINITY, -3.0), -3.0);
        assert_eq!(log_add_exp(1000.0, -1000.0), 1000.0);
        assert!(log_add_exp(1.0, f64::NAN).is_nan());
    }

    /// Of weights 1, 3 and 5, 7; what is left over makes no set.
    #[test]
    fn a_mean_bound_is_of_sets_that_share_no_weight() {
        let log_weights = [1.0, 3.0, 5.0, 7.0, 1e9].map(f64::ln);
        let expected = f64::midpoint(2.0_f64.ln(), 6.0_f64.ln());
        assert!((mean_bound(&log_weights[..4], 2) - expected).abs() < 1e-12);
        assert!((mean_bound(&log_weights, 2) - expected).abs() < 1e-12);
        for samples in [0, 6] {
            let bound = std::panic::catch_unwind(|| mean_bound(&log_weights, samples));
            assert!(bound.is_err(), "{samples}");
        }
    }

    #[test]
    fn the_gap_is_what_the_bound_lacks() {
        let estimates = Estimates {
            log_likelihood: vec![-90.0, -80.5],
            elbo: vec![-93.0, -81.0],
            ..Estimates::default()
        };
        assert_eq!(estimates.gap(), [3.0, 0.5]);
    }

    #[test]
    fn the_standard_error_is_that_of_a_mean() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 6.0]);
        assert_eq!(mean.value, 3.0);
        // Variance 14/3 with n - 1, over n = 4.
        assert!((mean.standard_error - (14.0_f64 / 12.0).sqrt()).abs() < 1e-12);
    }
}
