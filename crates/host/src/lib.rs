//! What the fused operations of this workspace are written with.
//!
//! - [`Host`]: the tensors of Burn's CPU backends, flex and ndarray, as slices.
//! - [`fused_on!`]: asks whether a tensor lives where a crate has its operations.
//! - [`tracked`] and [`tracked_pair`]: put an operation of one result or two into Burn's graph of gradients.
//! - [`vectorized!`]: compiles a function for the widest vectors that the CPU has.
//! - [`write_chunks`]: numbers that all threads write.
//! - [`product`]: of two matrices, by the crate gemm; [`product_onto`] adds it to what is there.
//! - [`math`]: elementary functions without branches or calls, which the compiler turns into vectors there.
//!
//! ```
//! use burn_host::{math, vectorized};
//!
//! vectorized! {
//!     fn tanh(numbers: &mut [f32]) {
//!         for x in numbers {
//!             *x = math::tanh(*x);
//!         }
//!     }
//! }
//!
//! let mut x = vec![-1.0_f32, 0.0, 1.0];
//! tanh(&mut x);
//! assert_eq!(x[1], 0.0);
//! assert!((x[2] - 1.0_f32.tanh()).abs() < 1e-7);
//! ```

mod autodiff;
mod chunks;
pub mod math;
mod matrix;
mod tensor;

pub use autodiff::{tracked, tracked_pair};
pub use chunks::write_chunks;
pub use matrix::{Matrix, product, product_onto};
pub use tensor::Host;

/// `fn is_fused(tensor) -> bool`: whether the tensor is of `f32` and lives on one of these backends, or an autodiff of
/// one, whose feature of the calling crate is on.
///
/// ```
/// burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");
///
/// let numbers = burn::tensor::Tensor::<1>::zeros([2], &burn::tensor::Device::flex());
/// assert_eq!(is_fused(&numbers), cfg!(feature = "flex"));
/// ```
#[macro_export]
macro_rules! fused_on {
    ($($backend:ident: $feature:literal),* $(,)?) => {
        /// Whether the operations of this crate are implemented where this tensor lives.
        fn is_fused<const D: usize>(tensor: &::burn::tensor::Tensor<D>) -> bool {
            use ::burn::backend::DispatchTensorKind;

            #[allow(unreachable_patterns)] // Which backends there are besides is for Burn's features to say.
            fn is_on(kind: &DispatchTensorKind) -> bool {
                match kind {
                    $(#[cfg(feature = $feature)]
                    DispatchTensorKind::$backend(_) => true,)*
                    DispatchTensorKind::Autodiff(inner) => is_on(inner),
                    _ => false,
                }
            }

            tensor.dtype() == ::burn::tensor::DType::F32
                && is_on(&tensor.clone().into_dispatch().kind)
        }
    };
}

/// Compiles a function for AVX-512, for AVX2 and for the target as it is; each call takes the widest that the CPU has
/// (asked once, at run time).
///
/// Only what is inlined into the function is compiled for the wider vectors: what it calls is marked
/// `#[inline(always)]`, and its loops are plain ones, since a closure, or an iterator's adapter with one, is inlined
/// only where the compiler finds it small. The function has no type parameters, and no lifetimes in what it returns.
#[macro_export]
macro_rules! vectorized {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) $(-> $output)? {
            #[allow(unused_parens)]
            struct Arguments<T>(T);

            #[allow(unused_parens)]
            impl $crate::__pulp::WithSimd for Arguments<($($type,)*)> {
                type Output = ($($output)?);

                #[inline(always)]
                fn with_simd<S: $crate::__pulp::Simd>(self, _: S) -> Self::Output {
                    let ($($argument,)*) = self.0;
                    $body
                }
            }

            $crate::__pulp::Arch::new().dispatch(Arguments(($($argument,)*)))
        }
    )*};
}

#[doc(hidden)]
pub use pulp as __pulp;
