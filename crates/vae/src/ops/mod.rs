//! Fused operations of the model, each with its backward pass, on the CPU backends.
//!
//! Every other backend and float type keeps the tensor operations; a GPU backend with fusion makes few kernels of them
//! by itself.

// The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

pub mod bernoulli;

use burn::backend::DispatchTensorKind;

/// Whether the operations of this module are implemented where a tensor of this kind lives.
#[allow(unreachable_patterns)] // Which backends there are besides is for Burn's features to say.
fn is_fused(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        DispatchTensorKind::Autodiff(inner) => is_fused(inner),
        _ => false,
    }
}
