//! The stack of planar layers, in either direction.

#[cfg(feature = "cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension, tensor::FloatTensor,
    },
    tensor::{Shape, Tensor},
};
use burn_host::tracked;

use crate::{PlanarConstraint, Transformed, map::Direction};

/// A stack of planar layers.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff,
)]
pub trait PlanarOps: Backend {
    /// `raw: [owners, layers, 2 dim + 1]` and `points: [n · owners, dim]` to
    /// `[mapped points | log_det]: [n · owners, dim + 1]`, in `f32`. The inverse appends tanh(w·z + b) of each layer, which
    /// its gradient needs and could not make again of a rounded z: `[n · owners, dim + 1 + layers]`.
    #[fusion(dtype = points, shape = Sizes::of(raw, points).packed(*direction))]
    fn planar(
        raw: FloatTensor<Self>,
        points: FloatTensor<Self>,
        constraint: PlanarConstraint,
        direction: Direction,
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
    /// The gradients of `raw` and the points, in their shapes, from that of the packed output. `known` is the points that
    /// went forward, or what the inverse came to, packed.
    #[fusion(meta = |raw, known, _, _, _| {
        let mut points = known.clone();
        points.shape = Sizes::of(&raw.shape, &known.shape).points();
        (raw.clone(), points)
    })]
    fn planar_backward(
        raw: FloatTensor<Self>,
        known: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        constraint: PlanarConstraint,
        direction: Direction,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: PlanarOps + PlanarBackwardOps, C: CheckpointStrategy> PlanarOps for Autodiff<B, C> {
    fn planar(
        raw: FloatTensor<Self>,
        points: FloatTensor<Self>,
        constraint: PlanarConstraint,
        direction: Direction,
    ) -> FloatTensor<Self> {
        let inputs = [raw.node(), points.node()];
        let (raw, points) = (raw.into_primitive(), points.into_primitive());
        let packed = B::planar(raw.clone(), points.clone(), constraint, direction);
        let known = match direction {
            Direction::Forward => points,
            Direction::Inverse => packed.clone(),
        };
        tracked::<B, C, 2>(inputs, packed, move |grad, [raw_wants, points_want]| {
            let (of_raw, of_points) = B::planar_backward(raw, known, grad, constraint, direction);
            [
                raw_wants.then_some(of_raw),
                points_want.then_some(of_points),
            ]
        })
    }
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray", Cube: "cube");

/// The mapped points and the log-determinant, where the backend has the fused operation; shapes as in
/// [`PlanarOps::planar`], with a row and a layer at least.
pub fn planar(
    raw: &Tensor<3>,
    points: &Tensor<2>,
    constraint: PlanarConstraint,
    direction: Direction,
) -> Option<Transformed> {
    let [rows, dim] = points.dims();
    if !is_fused(raw) || !is_fused(points) {
        return None;
    }
    #[cfg(feature = "cube")]
    if cube::is_too_long(raw) {
        return None;
    }
    let (raw, points) = (raw.clone().into_dispatch(), points.clone().into_dispatch());
    let packed = Tensor::<2>::from_dispatch(Dispatch::planar(raw, points, constraint, direction));
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
    /// Of the parameters, and of anything that has a row for each point.
    fn of(raw: &Shape, rows: &Shape) -> Self {
        Self {
            owners: raw[0],
            layers: raw[1],
            dim: raw[2] / 2,
            rows: rows[0],
        }
    }

    fn points(self) -> Shape {
        Shape::new([self.rows, self.dim])
    }

    fn packed(self, direction: Direction) -> Shape {
        Shape::new([self.rows, self.width(direction)])
    }

    /// Numbers of a packed row.
    fn width(self, direction: Direction) -> usize {
        match direction {
            Direction::Forward => self.dim + 1,
            Direction::Inverse => self.dim + 1 + self.layers,
        }
    }
}
