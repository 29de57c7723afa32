//! Normalizing flows for [Burn](https://burn.dev).
//!
//! A flow is a chain of invertible maps whose log-determinants are known, so that a simple base
//! distribution becomes a rich one with an exact density (Rezende & Mohamed, *Variational Inference
//! with Normalizing Flows*, 2015). This crate knows no data, no VAE and no command line; it runs on any
//! Burn device.
//!
//! - [`FlowConfig`] builds a [`Flow`], a Burn module whose parameters are learned, or predicted from a
//!   context: by a linear head on an encoder's features, or by a network on a covariate.
//! - [`Flow::distribution`] joins it to a [`DiagonalGaussian`] base: draw with
//!   [`rsample_and_log_prob`](FlowDistribution::rsample_and_log_prob), score with
//!   [`log_prob`](FlowDistribution::log_prob).
//! - [`Planar`] is the map itself, over parameters from anywhere.
//!
//! Fit a density to points by maximum likelihood:
//!
//! ```
//! use burn::optim::{AdamConfig, GradientsParams};
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_flows::{DiagonalGaussian, FlowConfig};
//!
//! let device = Device::flex().autodiff();
//! let data = Tensor::<2>::random([256, 2], Distribution::Normal(1.0, 0.5), &device);
//!
//! let mut flow = FlowConfig::planar(4).init(2, None, &device);
//! let mut optimizer = AdamConfig::new().init();
//! let loss = |flow: &burn_flows::Flow| {
//!     let base = DiagonalGaussian::standard(2, &device);
//!     flow.distribution(base, None).log_prob(data.clone()).mean().neg()
//! };
//!
//! let before = loss(&flow).into_scalar::<f32>();
//! for _ in 0..50 {
//!     let gradients = GradientsParams::from_grads(loss(&flow).backward(), &flow);
//!     flow = optimizer.step(1e-2, flow, gradients);
//! }
//! assert!(loss(&flow).into_scalar::<f32>() < before);
//! ```

mod distribution;
mod flow;
mod gaussian;
mod math;
mod ops;
mod planar;
mod transformed;

pub use distribution::FlowDistribution;
pub use flow::{Flow, FlowConfig};
pub use gaussian::DiagonalGaussian;
pub use planar::{Planar, PlanarConstraint};
pub use transformed::Transformed;

/// The examples of the README files.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../../README.md")]
struct Readme;
