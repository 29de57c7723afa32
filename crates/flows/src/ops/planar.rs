//! The stack of planar layers.

#[cfg(feature = "cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::Tensor,
};
use burn_host::tracked;

use crate::{PlanarConstraint, Transformed};

/// The forward map of a stack of planar layers.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff,
)]
pub trait PlanarOps: Backend {
    /// `raw: [owners, layers, 2 dim + 1]` and `z: [n · owners, dim]` to `[z_K | log_det]: [n · owners, dim + 1]`,
    /// in `f32`.
    #[fusion(dtype = z, shape = packed(z))]
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self>;
}

/// The derivatives of [`PlanarOps`].
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
)]
pub trait PlanarBackwardOps: Backend {
    /// The gradients of `raw` and `z`, in their shapes, from that of the packed output.
    #[fusion(meta = |raw, z, _, _| (raw.clone(), z.clone()))]
    fn planar_backward(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: PlanarOps + PlanarBackwardOps, C: CheckpointStrategy> PlanarOps for Autodiff<B, C> {
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self> {
        let inputs = [raw.node(), z.node()];
        let (raw, z) = (raw.into_primitive(), z.into_primitive());
        let packed = B::planar(raw.clone(), z.clone(), constraint);
        tracked::<B, C, 2>(inputs, packed, move |grad, [raw_wants, z_wants]| {
            let (of_raw, of_z) = B::planar_backward(raw, z, grad, constraint);
            [raw_wants.then_some(of_raw), z_wants.then_some(of_z)]
        })
    }
}

#[cfg(feature = "cube")]
fn packed(z: &burn::tensor::Shape) -> burn::tensor::Shape {
    burn::tensor::Shape::new([z[0], z[1] + 1])
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray", Cube: "cube");

/// z_K and the log-determinant, where the backend has the fused operation; shapes as in [`PlanarOps::planar`], with a
/// row and a layer at least.
pub fn planar(raw: &Tensor<3>, z: &Tensor<2>, constraint: PlanarConstraint) -> Option<Transformed> {
    let [rows, dim] = z.dims();
    if !is_fused(raw) || !is_fused(z) {
        return None;
    }
    #[cfg(feature = "cube")]
    if cube::is_too_long(raw) {
        return None;
    }
    let (raw, z) = (raw.clone().into_dispatch(), z.clone().into_dispatch());
    let packed = Tensor::<2>::from_dispatch(Dispatch::planar(raw, z, constraint));
    Some(Transformed {
        value: packed.clone().slice_dim(1, 0..dim),
        log_det: packed.slice_dim(1, dim..dim + 1).reshape([rows]),
    })
}

/// The sizes that a stack's parameters and points agree on.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    owners: usize,
    layers: usize,
    dim: usize,
    rows: usize,
}

impl Sizes {
    fn of(raw: &impl TensorMetadata, z: &impl TensorMetadata) -> Self {
        let (raw, z) = (raw.shape(), z.shape());
        Self {
            owners: raw[0],
            layers: raw[1],
            dim: z[1],
            rows: z[0],
        }
    }
}
