//! Fused operations: one pass over memory where the tensor version makes a dozen an operation.
//!
//! Each has a host implementation on slices, for flex and ndarray, and a CubeCL kernel, for wgpu, cuda and the other
//! cube backends, behind the crate feature of the backend's name. They compute in `f32`. For every other backend and
//! float type the callers keep the same mathematics as tensor operations, which is also what the tests compare with.

#![allow(deprecated)] // The traits name burn-ndarray, which Burn drops in 0.23; this project offers it.

mod autodiff;
#[cfg(feature = "cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;

use burn::{
    backend::{
        Backend, Dispatch, DispatchTensorKind, TensorMetadata, backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, Shape, Tensor},
};

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

#[cfg(feature = "cube")]
fn packed(z: &Shape) -> Shape {
    Shape::new([z[0], z[1] + 1])
}

/// z_K and the log-determinant, where the backend has the fused operation; shapes as in [`PlanarOps::planar`].
pub fn planar(raw: &Tensor<3>, z: &Tensor<2>, constraint: PlanarConstraint) -> Option<Transformed> {
    let [rows, dim] = z.dims();
    let nothing_to_do = rows == 0 || raw.dims()[1] == 0;
    if nothing_to_do || raw.dtype() != DType::F32 || z.dtype() != DType::F32 {
        return None;
    }
    let z = z.clone().into_dispatch();
    if !is_fused(&z.kind) {
        return None;
    }
    let packed = Dispatch::planar(raw.clone().into_dispatch(), z, constraint);
    let packed = Tensor::<2>::from_dispatch(packed);
    Some(Transformed {
        value: packed.clone().slice_dim(1, 0..dim),
        log_det: packed.slice_dim(1, dim..dim + 1).reshape([rows]),
    })
}

/// Whether the operations of this module are implemented where a tensor of this kind lives.
#[allow(unreachable_patterns)] // Which backends there are besides is for Burn's features to say.
fn is_fused(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        #[cfg(feature = "cube")]
        DispatchTensorKind::Cube(_) => true,
        DispatchTensorKind::Autodiff(inner) => is_fused(inner),
        _ => false,
    }
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
