//! An amortized variational autoencoder whose posterior is a normalizing flow.
//!
//! The model of Rezende & Mohamed, *Variational Inference with Normalizing Flows* (2015), section 6.2:
//!
//! ```text
//! x → encoder → features → (μ, ln σ²), flow parameters
//! z_0 = μ + σ ε → flow → z_K → decoder → p(x | z), a likelihood
//! ```
//!
//! [`VaeConfig`] builds a [`Vae`]; [`Vae::terms`] returns the bound as its three parts, [`BoundTerms`],
//! of which the ELBO, the annealed losses ([`Annealing`]) and the importance-weighted bound are functions.
//! What they leave open is estimated by [`ImportanceSampling`], and [`AnnealedImportanceSampling`] says how well.
//! With no flow layers (K = 0) it is the plain VAE. Images are of zeros and ones, or of numbers between them:
//! [`Likelihood`].
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use burn_flows::FlowConfig;
//! use flow_vae::{Activation, Likelihood, VaeConfig};
//!
//! let device = Device::flex();
//! let vae = VaeConfig {
//!     pixels: 64,
//!     likelihood: Likelihood::Bernoulli,
//!     hidden: vec![32],
//!     activation: Activation::Maxout { window: 4 },
//!     flow: FlowConfig::planar(8, 4),
//! }
//! .init(&device);
//!
//! let images = Tensor::zeros([10, 64], &device);
//! let noise = Tensor::zeros([10, 8], &device); // standard normal draws, one an image
//! let elbo = vae.terms(images, noise).elbo(); // nats per example
//! assert_eq!(elbo.dims(), [10]);
//! ```

mod ais;
mod annealing;
mod bound;
mod hidden;
mod hmc;
mod importance;
mod likelihood;
mod ops;
mod vae;

pub use ais::{AnnealedEstimates, AnnealedImportanceSampling};
pub use annealing::Annealing;
pub use bound::BoundTerms;
pub use hidden::{Activation, Hidden};
pub use importance::{Estimates, ImportanceSampling, Mean, mean_bound};
pub use likelihood::{Likelihood, bernoulli_log_likelihood, logit_normal_log_likelihood};
pub use vae::{Vae, VaeConfig};
