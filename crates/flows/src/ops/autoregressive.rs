//! The inverse of an autoregressive layer in one pass.
//!
//! z_i needs z_1, …, z_i-1 and no more, which is why the inverse is usually a pass of the whole network for each coordinate. But
//! hidden units are sorted by how many coordinates they see, and each can be computed, once and for all, as soon as these are
//! known. So the inverse reads each weight once, as the map itself does: for i = 1, 2, …, the units that see i - 1 coordinates, in
//! the order of layers, then the parameters of z_i, then z_i.
//!
//! Its gradient is that of f(z) = y, the implicit function theorem: with J = ∂f/∂z, which is triangular,
//!
//! ```text
//! Jᵀ λ = ∂L/∂z        ∂L/∂y = λ        ∂L/∂θ = -λᵀ ∂f/∂θ
//! ```
//!
//! and λ comes from the last coordinate to the first, each weight read once again.

mod pass;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::Tensor,
};
use burn_host::{Host, tracked};

use crate::{ScalarMap, Transformed};

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

/// The sizes of a masked network ([`Network::autoregressive`](crate::network::Network::autoregressive)), and what its outputs are
/// the parameters of.
#[derive(Clone, Debug)]
pub struct Masked {
    pub dim: usize,
    pub hidden: Vec<usize>,
    pub map: ScalarMap,
}

/// What an autoregressive layer's inverse is made of; all in `f32`.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
pub trait AutoregressiveOps: Backend {
    /// `y: [n · owners, dim]` to `[z | log_det]: [n · owners, dim + 1]`, without gradients.
    ///
    /// `first: [owners, width]` is what the first layer adds to its products: bias and context. `weights` are those of all layers,
    /// `[outputs, inputs]` each, with the biases of the others after them, in one row.
    fn autoregressive_inverse(
        y: FloatTensor<Self>,
        first: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        masked: Masked,
    ) -> FloatTensor<Self>;

    /// `z`, of which y - f(z), `rest: [n · owners, dim]`, is nothing but rounding: what has the gradients of that has those of
    /// f⁻¹(y). To `rest` alone, λ.
    fn autoregressive_solution(
        rest: FloatTensor<Self>,
        z: FloatTensor<Self>,
        first: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        masked: Masked,
    ) -> FloatTensor<Self>;
}

/// The parameters of a layer as the operation takes them.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub first: Tensor<2>,
    pub weights: Tensor<1>,
    pub masked: Masked,
}

/// The point that `forward` takes to `y: [n · owners, dim]`, with a row at least, and the log-determinant there, where the backend
/// has the fused operation.
pub fn inverse(
    y: &Tensor<2>,
    parameters: impl FnOnce() -> Parameters,
    forward: impl Fn(Tensor<2>) -> Transformed,
) -> Option<Transformed> {
    if !is_fused(y) {
        return None;
    }
    let [rows, dim] = y.dims();
    let Parameters {
        first,
        weights,
        masked,
    } = parameters();
    // Whichever of them has gradients, as Burn's own operations take it.
    let strategies = [
        y.gradient_checkpointing_strategy(),
        first.gradient_checkpointing_strategy(),
        weights.gradient_checkpointing_strategy(),
    ];
    let strategy = strategies.into_iter().flatten().next();
    let first = first.without_autodiff().into_dispatch();
    let weights = weights.without_autodiff().into_dispatch();
    let packed = Tensor::<2>::from_dispatch(Dispatch::autoregressive_inverse(
        y.clone().without_autodiff().into_dispatch(),
        first.clone(),
        weights.clone(),
        masked.clone(),
    ));
    let z = packed.clone().slice_dim(1, 0..dim);
    let Some(strategy) = strategy else {
        return Some(Transformed {
            value: z,
            log_det: packed.slice_dim(1, dim..dim + 1).reshape([rows]),
        });
    };
    let there = (z.clone().autodiff()).with_gradient_checkpointing_strategy(strategy);
    let rest = y.clone() - forward(there).value;
    let value = Tensor::<2>::from_dispatch(Dispatch::autoregressive_solution(
        rest.into_dispatch(),
        z.into_dispatch(),
        first,
        weights,
        masked,
    ));
    Some(Transformed {
        log_det: forward(value.clone()).log_det.neg(),
        value,
    })
}

impl<B: AutoregressiveOps + Host, C: CheckpointStrategy> AutoregressiveOps for Autodiff<B, C> {
    fn autoregressive_inverse(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: Masked,
    ) -> FloatTensor<Self> {
        unreachable!("it is called on tensors without gradients")
    }

    fn autoregressive_solution(
        rest: FloatTensor<Self>,
        z: FloatTensor<Self>,
        first: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        masked: Masked,
    ) -> FloatTensor<Self> {
        let inputs = [rest.node()];
        let [z, first, weights] = [z, first, weights].map(|tensor| tensor.into_primitive());
        tracked::<B, C, 1>(inputs, z.clone(), move |grad, [is_wanted]| {
            let lambda = || {
                let shape: [usize; 2] = z.shape().dims();
                let elements = pass::transposed_solve(
                    &B::elements(&grad),
                    &B::elements(&z),
                    &B::elements(&first),
                    &B::elements(&weights),
                    &masked,
                );
                B::from_elements(elements, shape)
            };
            [is_wanted.then(lambda)]
        })
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl AutoregressiveOps for $backend {
            fn autoregressive_inverse(
                y: FloatTensor<Self>,
                first: FloatTensor<Self>,
                weights: FloatTensor<Self>,
                masked: Masked,
            ) -> FloatTensor<Self> {
                let [rows, dim] = y.shape().dims();
                let elements = pass::solve(
                    &Self::elements(&y),
                    &Self::elements(&first),
                    &Self::elements(&weights),
                    &masked,
                );
                Self::from_elements(elements, [rows, dim + 1])
            }

            fn autoregressive_solution(
                _: FloatTensor<Self>,
                z: FloatTensor<Self>,
                _: FloatTensor<Self>,
                _: FloatTensor<Self>,
                _: Masked,
            ) -> FloatTensor<Self> {
                z
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);
