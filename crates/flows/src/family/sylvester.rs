//! The Sylvester flows of van den Berg, Hasenclever, Tomczak & Welling, *Sylvester Normalizing Flows for Variational
//! Inference* (2018).
//!
//! One layer is a planar one with M directions at once (their eq. 13):
//!
//! ```text
//! f(z) = z + Q R tanh(R̃ Qᵀ z + b)
//! ```
//!
//! with the M columns of Q orthonormal, and R and R̃ upper triangular. Their three kinds of Q:
//!
//! - *orthogonal*: M free vectors, made orthonormal. (By Gram and Schmidt here, M steps to the last digits, where the paper
//!   iterates the procedure of Björck and Bowie: the same set of matrices.)
//! - *Householder*: a product of H reflections, M = dim.
//! - *triangular*: the identity and the reversal of the coordinates, in turn, M = dim.
//!
//! It is invertible when r_ii r̃_ii > -1, for which the diagonals are tanh of unconstrained numbers.
//!
//! **Log-determinant.** With p = R̃ Qᵀ z + b it is that of I + diag(tanh' p) R̃ R, which is triangular:
//!
//! ```text
//! log |det| = Σ_i ln(1 + s_i (1 - tanh² p_i)),      s_i = r_ii r̃_ii
//! ```
//!
//! where near s = -1 both sums cancel. As in the planar layer (`root.rs`), 1 + s (1 - t²) = t² + (1 + s)(1 - t²); and of
//! the diagonals' unconstrained x and y
//!
//! ```text
//! 1 + tanh x tanh y = cosh(x + y) / (cosh x cosh y)
//!                   = 2 e^(|x+y| - |x| - |y|) (1 + e^(-2|x+y|)) / ((1 + e^(-2|x|)) (1 + e^(-2|y|)))
//! ```
//!
//! **Inverse.** With v = Qᵀ z and w = Qᵀ y, the layer is w = v + R tanh(R̃ v + b): from the last coordinate to the first,
//! each with those after it known, v_i + r_ii tanh(r̃_ii v_i + c_i) = w_i - (those after it), which times r̃_ii and plus
//! c_i is the planar p + s tanh p = q. Then z = y - Q R tanh p.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use serde::{Deserialize, Serialize};

use super::householder::{normalized, reflect};
use crate::{
    Bijection, FlowSize, Transformed,
    map::Direction,
    math::widened,
    ops::stack::{Form, Layers, stack},
    parameters::Parameters,
    root::{root, slope},
    stack::{Stack, check_stack},
};

/// Where Q of a Sylvester layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SylvesterBasis {
    /// So many orthonormal vectors, M. One that those before it span, to a millionth of its length, has no direction of its own:
    /// nothing moves along it.
    Orthogonal(usize),
    /// The product of so many reflections, one at least.
    Householder(usize),
    /// The identity in the first layer, the reversal in the second, and so on in turn.
    Triangular,
}

impl SylvesterBasis {
    /// M, the width of the middle of a layer in `dim` dimensions.
    pub(crate) fn width(self, dim: usize) -> usize {
        match self {
            Self::Orthogonal(vectors) => vectors,
            Self::Householder(_) | Self::Triangular => dim,
        }
    }

    /// Refuses what no Q has.
    fn check(self, dim: usize) -> Result<(), String> {
        match self {
            Self::Orthogonal(vectors) if vectors == 0 || vectors > dim => Err(format!(
                "{vectors} orthonormal vectors: in {dim} dimensions there are 1 to {dim}"
            )),
            Self::Householder(0) => Err(
                "0 reflections: a layer has one at least, and without any it is a triangular one"
                    .into(),
            ),
            _ => Ok(()),
        }
    }

    /// The numbers that Q takes.
    fn numbers(self, dim: usize) -> usize {
        match self {
            Self::Orthogonal(vectors) | Self::Householder(vectors) => vectors * dim,
            Self::Triangular => 0,
        }
    }
}

/// A stack of Sylvester layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SylvesterConfig {
    /// How many layers, one at least.
    pub layers: usize,
    /// What Q is made of.
    pub basis: SylvesterBasis,
    /// Widths of the hidden ReLU layers between a context and the parameters.
    #[serde(default)]
    pub hidden: Vec<usize>,
}

impl SylvesterConfig {
    /// `layers` layers, with a linear head where there is a context.
    pub fn new(layers: usize, basis: SylvesterBasis) -> Self {
        Self {
            layers,
            basis,
            hidden: Vec::new(),
        }
    }

    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let (layers, dim) = (self.layers as f64, dim as f64);
        let (basis, width) = match self.basis {
            SylvesterBasis::Orthogonal(vectors) => (vectors as f64 * dim, vectors as f64),
            SylvesterBasis::Householder(reflections) => (reflections as f64 * dim, dim),
            SylvesterBasis::Triangular => (0.0, dim),
        };
        let numbers = layers * (basis + width * width + 2.0 * width);
        FlowSize::of_parameters(numbers, context, &self.hidden)
    }

    pub(crate) fn check(&self, dim: usize) -> Result<(), String> {
        self.basis.check(dim)?;
        check_stack(self.layers, &self.hidden)
    }

    pub(crate) fn init(
        &self,
        dim: usize,
        context: Option<usize>,
        device: &Device,
    ) -> SylvesterStack {
        let parameters = Parameters::new(self.start(dim, device), context, &self.hidden);
        match self.basis {
            SylvesterBasis::Orthogonal(vectors) => SylvesterStack::Orthogonal(Orthogonal {
                parameters,
                vectors,
            }),
            SylvesterBasis::Householder(reflections) => SylvesterStack::Householder(Householder {
                parameters,
                reflections,
            }),
            SylvesterBasis::Triangular => SylvesterStack::Triangular(parameters),
        }
    }

    /// `[1, layers, numbers]`: the identity (R = 0), with Q, R̃ and b at random.
    fn start(&self, dim: usize, device: &Device) -> Tensor<3> {
        let (layers, width) = (self.layers, self.basis.width(dim));
        let random = |numbers, std| -> Tensor<3> {
            Tensor::random([1, layers, numbers], Distribution::Normal(0.0, std), device)
        };
        let basis = match self.basis.numbers(dim) {
            0 => None,
            numbers => Some(random(numbers, 1.0)),
        };
        let scale = (1.0 / width as f64).sqrt();
        let square = random(width * width, scale).reshape([layers, width, width]);
        let triangles = square.tril(-1).reshape([1, layers, width * width]);
        let diagonal_and_b = random(2 * width, 1.0);
        let all = [basis, Some(triangles), Some(diagonal_and_b)];
        Tensor::cat(all.into_iter().flatten().collect(), 2)
    }
}

/// The parameters under the kind of Q, whose name is part of their paths in a record: with another one the same numbers
/// are another flow, so that they must not load.
#[derive(Module, Debug)]
pub enum SylvesterStack {
    Orthogonal(Orthogonal),
    Householder(Householder),
    Triangular(Parameters),
}

#[derive(Module, Debug)]
pub struct Orthogonal {
    parameters: Parameters,
    vectors: usize,
}

#[derive(Module, Debug)]
pub struct Householder {
    parameters: Parameters,
    reflections: usize,
}

impl SylvesterStack {
    pub fn bind(&self, dim: usize, context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        let (parameters, basis) = match self {
            Self::Orthogonal(stack) => {
                (&stack.parameters, SylvesterBasis::Orthogonal(stack.vectors))
            }
            Self::Householder(stack) => (
                &stack.parameters,
                SylvesterBasis::Householder(stack.reflections),
            ),
            Self::Triangular(parameters) => (parameters, SylvesterBasis::Triangular),
        };
        Arc::new(Sylvester::new(parameters.raw(context), basis, dim))
    }
}

/// A stack of Sylvester layers with its parameters at hand.
///
/// A layer costs O(dim M) for Q and O(M²) in the middle, the inverse M roots one after the other more.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_flows::{Bijection, Sylvester, SylvesterBasis};
///
/// let device = Device::flex();
/// let basis = SylvesterBasis::Orthogonal(2);
/// // One shared stack of three layers in five dimensions.
/// let numbers = Sylvester::parameters_per_layer(basis, 5);
/// let raw = Tensor::random([1, 3, numbers], Distribution::Normal(0.0, 1.0), &device);
/// let flow = Sylvester::new(raw, basis, 5);
///
/// let z = Tensor::<2>::random([10, 5], Distribution::Normal(0.0, 1.0), &device);
/// let back = flow.inverse(flow.forward(z.clone()).value);
/// assert!((back.value - z).abs().max().into_scalar::<f32>() < 1e-3);
/// ```
#[derive(Clone, Debug)]
pub struct Sylvester {
    /// `[owners, layers, numbers]`
    raw: Tensor<3>,
    basis: SylvesterBasis,
    dim: usize,
}

impl Sylvester {
    /// How many numbers one layer takes.
    pub fn parameters_per_layer(basis: SylvesterBasis, dim: usize) -> usize {
        let width = basis.width(dim);
        basis.numbers(dim) + width * width + 2 * width
    }

    /// The stack with the given unconstrained parameters.
    ///
    /// `raw: [owners, layers, numbers]` holds of each layer, in this order, the vectors of Q, one after the other; a
    /// square matrix `[M, M]`, row by row, with R on and above its diagonal and R̃ᵀ below; the diagonal of R̃; b. Of both
    /// diagonals the tanh is taken. `owners` is 1 for parameters that all points share and the batch size for
    /// parameters of each example's own.
    ///
    /// # Panics
    ///
    /// When the last axis of `raw` is not [`parameters_per_layer`](Self::parameters_per_layer), for no reflections, and for no
    /// orthonormal vectors or more of them than dimensions.
    pub fn new(raw: Tensor<3>, basis: SylvesterBasis, dim: usize) -> Self {
        basis.check(dim).unwrap_or_else(|error| panic!("{error}"));
        let ([owners, layers, got], numbers) = (raw.dims(), Self::parameters_per_layer(basis, dim));
        assert!(
            got == numbers,
            "Sylvester parameters ({basis:?}, {dim} dimensions) are [owners, layers, {numbers}], \
             got [{owners}, {layers}, {got}]"
        );
        Self {
            raw: widened(raw),
            basis,
            dim,
        }
    }

    /// What [`forward`](Bijection::forward) does where there is no fused operation, and what that is tested against.
    #[doc(hidden)]
    pub fn forward_by_tensor_operations(&self, z: Tensor<2>) -> Transformed {
        (self.stack()).fold(z, self.layers().into_iter(), Layer::forward)
    }

    /// The same of [`inverse`](Bijection::inverse).
    #[doc(hidden)]
    pub fn inverse_by_tensor_operations(&self, y: Tensor<2>) -> Transformed {
        (self.stack()).fold(y, self.layers().into_iter().rev(), Layer::inverse)
    }

    fn form(&self, direction: Direction) -> Form {
        Form {
            layers: Layers::Sylvester(self.basis),
            dim: self.stack().dim,
            direction,
        }
    }

    fn stack(&self) -> Stack {
        let [owners, layers, _] = self.raw.dims();
        Stack {
            name: "a Sylvester flow",
            owners,
            layers,
            dim: self.dim,
        }
    }

    /// The layers; all of them are made at once.
    fn layers(&self) -> Vec<Layer> {
        let Stack { owners, layers, .. } = self.stack();
        let (dim, width) = (self.dim, self.basis.width(self.dim));
        let all = layers * owners;
        // [layers, owners, numbers]
        let mut rest = self.raw.clone().swap_dims(0, 1);
        let mut take = |numbers: usize| {
            let [_, _, left] = rest.dims();
            let taken = rest.clone().slice_dim(2, 0..numbers);
            rest = rest.clone().slice_dim(2, numbers..left);
            taken
        };

        // Vectors without a direction of their own, `[all, M, 1]`.
        let mut is_none = None;
        let basis: Vec<Basis> = match self.basis {
            SylvesterBasis::Orthogonal(vectors) => {
                let q = take(vectors * dim).reshape([all, vectors, dim]);
                let q = orthonormal(q);
                is_none = Some(q.clone().detach().abs().max_dim(2).equal_elem(0.0));
                let q = q.reshape([layers, owners, vectors, dim]);
                (0..layers)
                    .map(|k| {
                        Basis::Vectors(Box::new(q.clone().slice_dim(0, k..k + 1).squeeze_dim(0)))
                    })
                    .collect()
            }
            SylvesterBasis::Householder(reflections) => {
                let v = take(reflections * dim).reshape([all, reflections, dim]);
                let normals = normalized(v);
                let normals = normals.reshape([layers, owners, reflections * dim]);
                let normal = |k: usize, h: usize| {
                    let layer = normals.clone().slice_dim(0, k..k + 1).swap_dims(0, 1);
                    layer.slice_dim(2, h * dim..(h + 1) * dim)
                };
                (0..layers)
                    .map(|k| Basis::Reflections((0..reflections).map(|h| normal(k, h)).collect()))
                    .collect()
            }
            SylvesterBasis::Triangular => (0..layers)
                .map(|k| {
                    if k % 2 == 0 {
                        Basis::Identity
                    } else {
                        Basis::Reversal
                    }
                })
                .collect(),
        };

        let square = take(width * width).reshape([all, width, width]);
        let x = diagonal(&square);
        let y = take(width).reshape([all, 1, width]);
        let b = take(width).reshape([all, 1, width]);
        let mut r = square.clone().triu(1) + as_diagonal(x.clone().tanh());
        let r_tilde_t = square.tril(-1) + as_diagonal(y.clone().tanh());
        let mut one_plus_s = one_plus_tanh_tanh(x, y);
        if let Some(is_none) = is_none {
            // QᵀQ = I but for these; nothing moves along them, as if their rows of R were 0.
            r = r.clone() * is_none.clone().bool_not().float().cast(r.dtype());
            one_plus_s = one_plus_s.mask_fill(is_none.swap_dims(1, 2), 1.0);
        }

        (basis.into_iter().enumerate())
            .map(|(k, basis)| {
                let of = |all: &Tensor<3>| all.clone().slice_dim(0, k * owners..(k + 1) * owners);
                Layer {
                    basis,
                    r_t: of(&r).transpose(),
                    r_tilde_t: of(&r_tilde_t),
                    b: of(&b),
                    one_plus_s: of(&one_plus_s),
                }
            })
            .collect()
    }
}

impl Bijection for Sylvester {
    fn dim(&self) -> usize {
        self.dim
    }

    fn owners(&self) -> usize {
        self.stack().owners
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.stack().map(z, |z| {
            stack(&self.raw, &z, self.form(Direction::Forward))
                .unwrap_or_else(|| self.forward_by_tensor_operations(z))
        })
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.stack().map(y, |y| {
            stack(&self.raw, &y, self.form(Direction::Inverse))
                .unwrap_or_else(|| self.inverse_by_tensor_operations(y))
        })
    }
}

/// One layer. Its products are of matrices an owner, `[owners, n, dim]`.
struct Layer {
    basis: Basis,
    /// `[owners, M, M]`
    r_t: Tensor<3>,
    /// `[owners, M, M]`
    r_tilde_t: Tensor<3>,
    /// `[owners, 1, M]`
    b: Tensor<3>,
    /// 1 + r_ii r̃_ii > 0, `[owners, 1, M]`
    one_plus_s: Tensor<3>,
}

impl Layer {
    fn forward(self, z: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let z = z.swap_dims(0, 1);
        let v = self.basis.transposed(z.clone());
        let t = (v.matmul(self.r_tilde_t.clone()) + self.b.clone()).tanh();
        let log_det = self.log_det(t.clone());
        let value = z + self.basis.apply(t.matmul(self.r_t.clone()));
        (value.swap_dims(0, 1), log_det.swap_dims(0, 1))
    }

    fn inverse(self, y: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let y = y.swap_dims(0, 1);
        let t = self.solve(self.basis.transposed(y.clone()));
        let log_det = self.log_det(t.clone()).neg();
        let value = y - self.basis.apply(t.matmul(self.r_t.clone()));
        (value.swap_dims(0, 1), log_det.swap_dims(0, 1))
    }

    /// tanh p, `[owners, n, M]`, where `w = Qᵀ y` has that shape.
    fn solve(&self, w: Tensor<3>) -> Tensor<3> {
        let [_, _, width] = w.dims();
        let column = |of: &Tensor<3>, i: usize| of.clone().slice_dim(2, i..i + 1);
        // v and tanh p of the coordinates after i.
        let mut after: Option<(Tensor<3>, Tensor<3>)> = None;
        for i in (0..width).rev() {
            // Of the rows after i, what they add to column i.
            let from_after = |of: &Tensor<3>, values: &Tensor<3>| {
                let coefficients = column(of, i).slice_dim(1, i + 1..width);
                values.clone().matmul(coefficients)
            };
            let at_i = |of: &Tensor<3>| column(of, i).slice_dim(1, i..i + 1);
            let (mut rest, mut c) = (column(&w, i), column(&self.b, i));
            if let Some((v, t)) = &after {
                rest = rest - from_after(&self.r_t, t);
                c = from_after(&self.r_tilde_t, v) + c;
            }
            let q = rest.clone() * at_i(&self.r_tilde_t) + c;
            let t = root(column(&self.one_plus_s, i), q).tanh();
            let v = rest - t.clone() * at_i(&self.r_t);
            after = Some(match after {
                None => (v, t),
                Some((v_after, t_after)) => (
                    Tensor::cat(vec![v, v_after], 2),
                    Tensor::cat(vec![t, t_after], 2),
                ),
            });
        }
        after.expect("a layer has a direction").1
    }

    /// `[owners, n, 1]`
    fn log_det(&self, t: Tensor<3>) -> Tensor<3> {
        slope(self.one_plus_s.clone(), t).log().sum_dim(2)
    }
}

/// Q of one layer.
enum Basis {
    /// The columns of Q as rows, `[owners, M, dim]`.
    Vectors(Box<Tensor<3>>),
    /// The normals of the reflections, each `[owners, 1, dim]`; Q is the first one's times the second's and so on.
    Reflections(Vec<Tensor<3>>),
    Identity,
    Reversal,
}

impl Basis {
    /// Qᵀ of points `[owners, n, dim]`, `[owners, n, M]`.
    fn transposed(&self, z: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Vectors(q) => z.matmul((**q).clone().transpose()),
            Self::Reflections(normals) => (normals.iter().cloned()).fold(z, reflect),
            Self::Identity => z,
            Self::Reversal => z.flip([2]),
        }
    }

    /// Q of `[owners, n, M]`, `[owners, n, dim]`.
    fn apply(&self, t: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Vectors(q) => t.matmul((**q).clone()),
            Self::Reflections(normals) => (normals.iter().rev().cloned()).fold(t, reflect),
            Self::Identity => t,
            Self::Reversal => t.flip([2]),
        }
    }
}

/// The rows of each of `[all, M, dim]`, made orthonormal one after the other (Gram and Schmidt; twice, which is enough), and 0 where
/// those before leave too little of one to tell where it points.
fn orthonormal(vectors: Tensor<3>) -> Tensor<3> {
    let [_, count, _] = vectors.dims();
    (0..count).fold(normalized(vectors), |vectors, i| {
        let mut row = vectors.clone().slice_dim(1, i..i + 1);
        let [_, count, _] = vectors.dims();
        let after = (i + 1 < count).then(|| vectors.clone().slice_dim(1, i + 1..count));
        let before = (i > 0).then(|| vectors.slice_dim(1, 0..i));
        if let Some(before) = &before {
            for _ in 0..2 {
                let along = row.clone().matmul(before.clone().transpose());
                row = row - along.matmul(before.clone());
            }
            let square = row.clone().square().sum_dim(2);
            let is_none = square.clone().lower_elem(DEPENDENT);
            let length = square.mask_fill(is_none.clone(), 1.0).sqrt();
            row = row / length.mask_fill(is_none, f64::INFINITY);
        }
        Tensor::cat(
            [before, Some(row), after].into_iter().flatten().collect(),
            1,
        )
    })
}

/// The square of what is left at least of a vector of length 1 that points somewhere else than those before: ten roundings of `f32`.
pub(crate) const DEPENDENT: f64 = 1e-12;

/// The diagonals of `[all, M, M]`, `[all, 1, M]`.
fn diagonal(square: &Tensor<3>) -> Tensor<3> {
    let [_, width, _] = square.dims();
    (square.clone() * identity(square, width)).sum_dim(1)
}

/// `[all, 1, M]` on the diagonals of `[all, M, M]`.
fn as_diagonal(values: Tensor<3>) -> Tensor<3> {
    let [_, _, width] = values.dims();
    let identity = identity(&values, width);
    values * identity
}

/// `[1, M, M]`, beside `like`.
fn identity(like: &Tensor<3>, width: usize) -> Tensor<3> {
    Tensor::<2>::eye(width, &like.device())
        .cast(like.dtype())
        .unsqueeze_dim(0)
}

/// 1 + tanh x tanh y, without cancellation.
fn one_plus_tanh_tanh(x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    let one_plus_exp = |size: Tensor<3>| size.mul_scalar(-2.0).exp().add_scalar(1.0);
    let (sum, x, y) = ((x.clone() + y.clone()).abs(), x.abs(), y.abs());
    let exponent = sum.clone() - x.clone() - y.clone();
    let p =
        exponent.exp().mul_scalar(2.0) * one_plus_exp(sum) / (one_plus_exp(x) * one_plus_exp(y));
    // Down to where f32 still has it, as the planar layer's 1 + w·û.
    p.clamp_min(LEAST_ONE_PLUS_S)
}

/// e^-80
pub(crate) const LEAST_ONE_PLUS_S: f64 = 1.804_851_387_845_415e-35;
