//! A stack of layers of a whole vector, in either direction.

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

use crate::{PlanarConstraint, SylvesterBasis, Transformed, map::Direction};

/// What is done to a stack's points.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub layers: Layers,
    pub dim: usize,
    pub direction: Direction,
}

/// What a stack is made of.
#[derive(Clone, Copy, Debug)]
pub enum Layers {
    Planar(PlanarConstraint),
    Radial,
    Sylvester(SylvesterBasis),
}

impl Form {
    /// What is kept of each layer for the gradient of the inverse, which starts where that came to: tanhs, which could not
    /// be made again of rounded points. None: the gradient has the points, and makes the rest again.
    fn kept(self) -> usize {
        match (self.direction, self.layers) {
            (Direction::Forward, _) | (_, Layers::Radial) => 0,
            (Direction::Inverse, Layers::Planar(_)) => 1,
            (Direction::Inverse, Layers::Sylvester(basis)) => basis.width(self.dim),
        }
    }
}

/// A stack of layers.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff,
)]
pub trait StackOps: Backend {
    /// `raw: [owners, layers, numbers]` and `points: [n · owners, dim]` to
    /// `[mapped points | log_det | kept]: [n · owners, dim + 1 + layers · kept]`, in `f32`.
    #[fusion(dtype = points, shape = Sizes::of(raw, points, *form).packed())]
    fn stack(raw: FloatTensor<Self>, points: FloatTensor<Self>, form: Form) -> FloatTensor<Self>;
}

/// The derivatives of [`StackOps`].
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
)]
pub trait StackBackwardOps: Backend {
    /// The gradients of `raw` and the points, in their shapes, from that of the packed output. `known` is the packed
    /// output where something is kept, and the points elsewhere.
    #[fusion(meta = |raw, known, _, form| {
        let mut points = known.clone();
        points.shape = Sizes::of(&raw.shape, &known.shape, *form).points();
        (raw.clone(), points)
    })]
    fn stack_backward(
        raw: FloatTensor<Self>,
        known: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: StackOps + StackBackwardOps, C: CheckpointStrategy> StackOps for Autodiff<B, C> {
    fn stack(raw: FloatTensor<Self>, points: FloatTensor<Self>, form: Form) -> FloatTensor<Self> {
        let inputs = [raw.node(), points.node()];
        let (raw, points) = (raw.into_primitive(), points.into_primitive());
        let packed = B::stack(raw.clone(), points.clone(), form);
        let known = match form.kept() {
            0 => points,
            _ => packed.clone(),
        };
        tracked::<B, C, 2>(inputs, packed, move |grad, [raw_wants, points_want]| {
            let (of_raw, of_points) = B::stack_backward(raw, known, grad, form);
            [
                raw_wants.then_some(of_raw),
                points_want.then_some(of_points),
            ]
        })
    }
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray", Cube: "cube");

/// The mapped points and the log-determinant, where the backend has the fused operation; shapes as in
/// [`StackOps::stack`], with a row and a layer at least.
pub fn stack(raw: &Tensor<3>, points: &Tensor<2>, form: Form) -> Option<Transformed> {
    let [rows, dim] = points.dims();
    if !is_fused(raw) || !is_fused(points) {
        return None;
    }
    #[cfg(feature = "cube")]
    if cube::lacks(raw, form.layers) {
        return None;
    }
    let (raw, points) = (raw.clone().into_dispatch(), points.clone().into_dispatch());
    let packed = Tensor::<2>::from_dispatch(Dispatch::stack(raw, points, form));
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
    /// Of a layer's parameters.
    numbers: usize,
    rows: usize,
    dim: usize,
    /// Numbers of a packed row.
    width: usize,
}

impl Sizes {
    /// Of the parameters, and of anything that has a row for each point.
    fn of(raw: &Shape, rows: &Shape, form: Form) -> Self {
        let [owners, layers, numbers] = raw.dims();
        Self {
            owners,
            layers,
            numbers,
            rows: rows[0],
            dim: form.dim,
            width: form.dim + 1 + layers * form.kept(),
        }
    }

    fn points(self) -> Shape {
        Shape::new([self.rows, self.dim])
    }

    fn packed(self) -> Shape {
        Shape::new([self.rows, self.width])
    }
}
