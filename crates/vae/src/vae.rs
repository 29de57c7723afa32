use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use burn_flows::{DiagonalGaussian, Flow, FlowConfig, FlowDistribution};
use fused_nn::linear;
use serde::{Deserialize, Serialize};

use crate::{Activation, BoundTerms, Hidden, Likelihood};

/// The sizes of a [`Vae`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Pixels of an image; a pixel of three colours counts three times.
    pub pixels: usize,
    /// What the decoder's outputs say of them.
    #[serde(default)]
    pub likelihood: Likelihood,
    /// Widths of the encoder's hidden layers; the decoder has them in reverse. One of 400 in the paper.
    pub hidden: Vec<usize>,
    /// The activation of the hidden layers; maxout with window 4 in the paper.
    pub activation: Activation,
    /// The flow of the posterior, in as many dimensions as z has; 40 in the paper. Its context is the encoder's features,
    /// whatever is written here.
    pub flow: FlowConfig,
}

impl VaeConfig {
    /// A model with random weights, drawn from the device's own generator.
    ///
    /// # Panics
    ///
    /// When `hidden` is empty, or [`FlowConfig::check`] finds something.
    pub fn init(&self, device: &Device) -> Vae {
        let features = *self.hidden.last().expect("a VAE has a hidden layer");
        let reversed: Vec<usize> = self.hidden.iter().rev().copied().collect();
        let latent_dim = self.flow.dim;
        Vae {
            encoder: Hidden::new(self.pixels, &self.hidden, self.activation, device),
            base: LinearConfig::new(features, 2 * latent_dim).init(device),
            flow: self.flow.clone().with_context(features).init(device),
            decoder: Hidden::new(latent_dim, &reversed, self.activation, device),
            logits: LinearConfig::new(self.hidden[0], self.likelihood.outputs(self.pixels))
                .init(device),
            likelihood: self.likelihood,
        }
    }
}

/// A variational autoencoder of images with a flow posterior; built by [`VaeConfig`].
#[derive(Module, Debug)]
pub struct Vae {
    encoder: Hidden,
    /// To the mean and the log-variance, side by side.
    base: Linear,
    flow: Flow,
    decoder: Hidden,
    /// To what the likelihood takes. Saved models know it by the name of Bernoulli's.
    logits: Linear,
    #[module(skip)]
    likelihood: Likelihood,
}

impl Vae {
    /// q_K(z | x) for each of `images: [batch, pixels]`: the flow on a diagonal Gaussian, all of whose
    /// parameters the encoder predicts.
    ///
    /// # Panics
    ///
    /// When the images have another number of pixels; and when the flow is one of angles, whose base is no Gaussian.
    pub fn posterior(&self, images: Tensor<2>) -> FlowDistribution {
        let features = self.encoder.forward(images);
        let [mean, log_var] = linear(&self.base, features.clone())
            .chunk(2, 1)
            .try_into()
            .expect("an even width falls into two");
        let base = DiagonalGaussian::new(mean, log_var);
        self.flow.distribution(base, Some(features))
    }

    /// What p(x | z) is given by, `[rows, outputs(pixels)]` of the [`Likelihood`], at `z: [rows, latent_dim]`.
    ///
    /// # Panics
    ///
    /// When `z` has another dimension.
    pub fn decode(&self, z: Tensor<2>) -> Tensor<2> {
        linear(&self.logits, self.decoder.forward(z))
    }

    /// ln p(x | z) in nats, `[n · batch]`, at `z: [n · batch, latent_dim]`, sample-major, for `images: [batch, pixels]`.
    ///
    /// # Panics
    ///
    /// When shapes disagree.
    pub fn log_likelihood(&self, z: Tensor<2>, images: Tensor<2>) -> Tensor<1> {
        self.likelihood.log_prob(self.decode(z), images)
    }

    /// The dimension of z.
    pub fn latent_dim(&self) -> usize {
        self.base.weight.dims()[1] / 2
    }

    /// The [mean image](Likelihood::mean_image) of p(x | z), `[rows, pixels]` in [0, 1], at `z: [rows, latent_dim]`.
    ///
    /// # Panics
    ///
    /// As [`decode`](Self::decode).
    pub fn mean_image(&self, z: Tensor<2>) -> Tensor<2> {
        self.likelihood.mean_image(self.decode(z))
    }

    /// The parts of the bound at the samples that `noise: [n · batch, latent_dim]` (standard normal,
    /// sample-major) leads to, for `images: [batch, pixels]`.
    ///
    /// # Panics
    ///
    /// When shapes disagree.
    pub fn terms(&self, images: Tensor<2>, noise: Tensor<2>) -> BoundTerms {
        let posterior = self.posterior(images.clone());
        self.terms_of(&posterior, images, noise)
    }

    /// [`terms`](Self::terms) with the posterior of `images` at hand.
    ///
    /// # Panics
    ///
    /// When shapes disagree.
    pub fn terms_of(
        &self,
        posterior: &FlowDistribution,
        images: Tensor<2>,
        noise: Tensor<2>,
    ) -> BoundTerms {
        let (z, log_posterior) = posterior.transport(noise);
        let [_, latent_dim] = z.dims();
        let prior = DiagonalGaussian::standard(latent_dim, &z.device());
        BoundTerms {
            log_likelihood: self.log_likelihood(z.clone(), images),
            log_prior: prior.log_prob(z),
            log_posterior,
        }
    }
}
