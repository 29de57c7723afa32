//! What the fused CPU operations of this workspace are written with.
//!
//! - [`Host`]: the tensors of Burn's CPU backends, flex and ndarray, as slices.
//! - [`vectorized`]: runs a closure compiled for the widest vectors that the CPU has.
//! - [`product`]: of two matrices, by the crate gemm.
//! - [`math`]: elementary functions without branches or calls, which the compiler turns into vectors there.
//!
//! ```
//! use burn_host::{math, vectorized};
//!
//! let mut x = vec![-1.0_f32, 0.0, 1.0];
//! vectorized(|| {
//!     for x in &mut x {
//!         *x = math::tanh(*x);
//!     }
//! });
//! assert_eq!(x[1], 0.0);
//! assert!((x[2] - 1.0_f32.tanh()).abs() < 1e-7);
//! ```

pub mod math;
mod matrix;
mod tensor;

pub use matrix::{Matrix, product};
pub use tensor::Host;

/// Runs `work` with AVX-512 or AVX2 where the CPU has it (asked once, at run time), else as the target is.
///
/// Only what is inlined into the closure is compiled for the wider vectors: mark it `#[inline(always)]`.
#[inline(always)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
