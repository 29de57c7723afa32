//! Normalizing flows for [Burn](https://burn.dev).
//!
//! A flow is a chain of invertible maps whose log-determinants are known, so that a simple base
//! distribution becomes a rich one with an exact density (Rezende & Mohamed, *Variational Inference
//! with Normalizing Flows*, 2015). This crate knows no data, no VAE and no command line; it runs on any
//! Burn device.
//!
//! - [`FlowConfig`] builds a [`Flow`], a Burn module whose parameters are learned, or predicted from a
//!   context: by a linear head on an encoder's features, or by a network on a covariate.
//! - [`Flow::distribution`] joins it to a base, a [`DiagonalGaussian`] or of angles a [`UniformTorus`]: draw with
//!   [`rsample_and_log_prob`](FlowDistribution::rsample_and_log_prob), score with
//!   [`log_prob`](FlowDistribution::log_prob).
//! - [`Bijection`] is a map with its parameters at hand, from wherever they are: [`Planar`], [`Radial`], [`Householder`] and
//!   [`Sylvester`] are such, and one of your own joins them.
//!
//! | [part of a flow](PartConfig) | what it is | learned | amortized | inverse |
//! |---|---|---|---|---|
//! | [`PlanarConfig`], [`RadialConfig`] | Rezende & Mohamed 2015 | yes | yes | a root; closed form |
//! | [`HouseholderConfig`] | Tomczak & Welling 2016 | yes | yes | itself |
//! | [`SylvesterConfig`] | van den Berg et al. 2018 | yes | yes | one root a direction |
//! | [`CouplingConfig`] | Dinh et al. 2014, 2016; Durkan et al. 2019; of angles Rezende et al. 2020 | yes | conditional | as cheap as forward |
//! | [`AutoregressiveConfig`] | Kingma et al. 2016, Papamakarios et al. 2017 | yes | conditional | one pass on flex and ndarray, else one a dimension |
//! | [`LuLinearConfig`], [`ActNormConfig`] | Kingma & Dhariwal 2018 | yes | no | exact |
//! | [`PermutationConfig`], [`RotationConfig`] | fixed, drawn once | no | no | exact |
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
//! let mut flow = FlowConfig::planar(2, 4).init(&device);
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

mod base;
mod bijection;
mod conditioner;
mod distribution;
mod families;
mod family;
mod flow;
mod gaussian;
mod map;
mod math;
mod network;
mod ops;
mod parameters;
mod root;
mod size;
mod stack;
mod torus;
mod transformed;

pub use base::Base;
pub use bijection::Bijection;
pub use distribution::FlowDistribution;
pub use families::PartConfig;
pub use family::{
    act_norm::ActNormConfig,
    autoregressive::AutoregressiveConfig,
    coupling::CouplingConfig,
    householder::{Householder, HouseholderConfig},
    lu_linear::LuLinearConfig,
    permutation::PermutationConfig,
    planar::{Planar, PlanarConfig, PlanarConstraint},
    radial::{Radial, RadialConfig},
    rotation::RotationConfig,
    sylvester::{Sylvester, SylvesterBasis, SylvesterConfig},
};
pub use flow::{Flow, FlowConfig, FlowConfigError};
pub use gaussian::DiagonalGaussian;
pub use map::ScalarMap;
pub use size::FlowSize;
pub use torus::UniformTorus;
pub use transformed::Transformed;

/// The examples of the README files.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../../README.md")]
struct Readme;
