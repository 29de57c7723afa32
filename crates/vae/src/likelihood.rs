mod bernoulli;
mod logit_normal;

use burn::tensor::{Tensor, activation::sigmoid};
use serde::{Deserialize, Serialize};

pub use bernoulli::bernoulli_log_likelihood;
pub use logit_normal::logit_normal_log_likelihood;

/// p(x | z): what the decoder's outputs mean. Written `bernoulli` or `logit-normal`.
///
/// The pixels of an image are independent given z. An image of several colours has a pixel for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// Of zeros and ones: an output a pixel, its logit ([`bernoulli_log_likelihood`]).
    #[default]
    Bernoulli,
    /// A density of numbers in (0, 1): two outputs a pixel, mean and log-variance of its logit
    /// ([`logit_normal_log_likelihood`]).
    LogitNormal,
}

impl Likelihood {
    /// How many outputs the decoder has for `pixels` pixels.
    pub fn outputs(self, pixels: usize) -> usize {
        match self {
            Self::Bernoulli => pixels,
            Self::LogitNormal => 2 * pixels,
        }
    }

    /// ln p(x | z) in nats, `[n · batch]`, for `outputs: [n · batch, outputs(pixels)]`, sample-major, and
    /// `x: [batch, pixels]`.
    ///
    /// # Panics
    ///
    /// When the rows of `outputs` are no multiple of those of `x`, or the widths do not belong together.
    pub fn log_prob(self, outputs: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Bernoulli => bernoulli_log_likelihood(outputs, x),
            Self::LogitNormal => logit_normal_log_likelihood(outputs, x),
        }
    }

    /// The image at the mean: of zeros and ones, or of logits, where it is each pixel's median. `[rows, pixels]` in
    /// [0, 1], for `outputs: [rows, outputs(pixels)]`.
    pub fn mean_image(self, outputs: Tensor<2>) -> Tensor<2> {
        let [_, width] = outputs.dims();
        match self {
            Self::Bernoulli => sigmoid(outputs),
            Self::LogitNormal => sigmoid(outputs.slice_dim(1, 0..width / 2)),
        }
    }
}
