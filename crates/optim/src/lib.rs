//! Optimisers for [Burn](https://burn.dev) that pass over a parameter once.
//!
//! As tensor operations a step of RMSprop or Adam is a dozen passes over the parameter, its gradient and its two
//! states, each with a tensor of its own to write to. Here it is one, in the memory of the gradient and the states, on
//! flex and ndarray; on other backends, and in other float types than `f32`, the steps are tensor operations as before
//! (a GPU backend with fusion makes them one kernel by itself).
//!
//! [`Adam`] and [`RmsProp`] give the numbers that Burn's own give, to the last bit; [`Adamax`] Burn has not.
//!
//! # Weight decay
//!
//! Each takes a `weight_decay` λ, apart from the gradient (Loshchilov & Hutter, *Decoupled Weight Decay Regularization*,
//! 2019): a step starts from (1 - lr λ) θ. What has one row, a bias or the parameters that all points of a flow share, is left
//! alone.
//!
//! ```
//! use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
//! use fused_optim::RmsProp;
//!
//! let device = Device::flex().autodiff();
//! device.seed(0);
//! let mut model = LinearConfig::new(4, 1).init(&device);
//! let mut optimizer = RmsProp::default().init();
//!
//! let x = Tensor::<2>::ones([8, 4], &device);
//! let loss = |model: &burn::nn::Linear| model.forward(x.clone()).square().mean();
//! let before = loss(&model).into_scalar::<f32>();
//! for _ in 0..20 {
//!     let gradients = GradientsParams::from_grads(loss(&model).backward(), &model);
//!     model = optimizer.step(1e-3, model, gradients);
//! }
//! assert!(loss(&model).into_scalar::<f32>() < before);
//! ```

// Without a CPU backend nobody calls what is written for them.
#![cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]

// Where Burn's derive of `RecordState` looks for them.
use burn::optim::{RecordState, StateSink, StateSource};

mod adam;
mod adamax;
mod average;
mod clip;
mod rmsprop;
mod update;

pub use adam::Adam;
pub use adamax::Adamax;
pub use average::WeightAverage;
pub use clip::GradientClip;
pub use rmsprop::{RmsProp, RmsPropState};
