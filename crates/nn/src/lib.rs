//! What a network is made of, for [Burn](https://burn.dev): [`linear`] layers and [`maxout`] ones, and whole networks of rectified
//! ones ([`mlp`]).
//!
//! Burn's own operations zero, copy and add to what a matrix product returns. Here a product is written once, where it
//! belongs, bias and all. On flex and ndarray, in `f32`; other backends and float types run Burn's own.
//!
//! ```
//! use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
//! use fused_nn::{linear, maxout};
//!
//! let device = Device::flex();
//! let layer = LinearConfig::new(3, 8).init(&device);
//! let x = Tensor::<2>::ones([5, 3], &device);
//! assert_eq!(linear(&layer, x.clone()).dims(), [5, 8]);
//! assert_eq!(maxout(&layer, x, 4).dims(), [5, 2]);
//! ```

// The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]
// Without a CPU backend nobody calls what is written for them.
#![cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]

mod columns;
mod linear;
mod maxout;
mod mlp;

pub use columns::affine_columns;
pub use linear::{affine, linear};
pub use maxout::maxout;
pub use mlp::{Dense, mlp};

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");
