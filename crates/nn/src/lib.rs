//! What a network is made of, for [Burn](https://burn.dev): [`linear`] layers and [`maxout`].
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
//! let y = maxout(linear(&layer, x.clone()), 4);
//! assert_eq!(y.dims(), [5, 2]);
//! ```

// The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

mod linear;
mod maxout;

pub use linear::linear;
pub use maxout::maxout;

use burn::{
    backend::DispatchTensorKind,
    tensor::{DType, Tensor},
};

/// Whether the operations of this crate are implemented where this tensor lives.
fn is_fused<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && is_host(&tensor.clone().into_dispatch().kind)
}

#[allow(unreachable_patterns)] // Which backends there are besides is for Burn's features to say.
fn is_host(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        DispatchTensorKind::Autodiff(inner) => is_host(inner),
        _ => false,
    }
}
