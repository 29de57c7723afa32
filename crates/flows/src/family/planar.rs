//! The planar flow of Rezende & Mohamed, *Variational Inference with Normalizing Flows* (2015).
//!
//! One layer bends space along one direction (their eq. 10):
//!
//! ```text
//! f(z) = z + û tanh(w·z + b)
//! ```
//!
//! It is invertible when w·û > -1, which their appendix A.1 enforces through
//!
//! ```text
//! û(w, u) = u + [m(w·u) - w·u] w / ‖w‖²        so that   w·û = m(w·u) > -1
//! ```
//!
//! **Log-determinant.** With a = w·z + b the paper's |1 + w·û (1 - tanh² a)| cancels as w·û nears -1:
//! in `f32`, m(-20) rounds to -1. The same number without cancellation is a sum of non-negative terms,
//!
//! ```text
//! det = tanh² a + (1 + w·û)(1 - tanh² a),      1 + w·û a softplus of w·u
//! ```
//!
//! **Inverse.** Along w the layer is the scalar map p + s tanh p = q with p = w·z + b, q = w·y + b and
//! s = w·û > -1, whose root has a file of its own (`root.rs`). Then z = y - û tanh p.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, Transformed,
    map::Direction,
    math::{LN_E_MINUS_1, log1p, softplus, widened},
    ops::stack::{Form, Layers, stack},
    parameters::Parameters,
    root::{root, slope},
    stack::{Stack, check_stack},
};

/// A stack of planar layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanarConfig {
    /// How many layers, one at least: K in the paper.
    pub layers: usize,
    /// What keeps a layer invertible.
    #[serde(default)]
    pub constraint: PlanarConstraint,
    /// Widths of the hidden ReLU layers between a context and the parameters. None: a linear head, as
    /// the paper puts on its encoder. Without a context they have no use.
    #[serde(default)]
    pub hidden: Vec<usize>,
}

impl PlanarConfig {
    /// `layers` layers under the paper's constraint, with a linear head where there is a context.
    pub fn new(layers: usize) -> Self {
        Self {
            layers,
            constraint: PlanarConstraint::Paper,
            hidden: Vec::new(),
        }
    }

    /// The same under another constraint.
    pub fn with_constraint(self, constraint: PlanarConstraint) -> Self {
        Self { constraint, ..self }
    }

    /// The same with the parameters predicted by a network with these hidden widths.
    pub fn with_hidden(self, hidden: Vec<usize>) -> Self {
        Self { hidden, ..self }
    }

    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let numbers = self.layers as f64 * (2.0 * dim as f64 + 1.0);
        FlowSize::of_parameters(numbers, context, &self.hidden)
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        check_stack(self.layers, &self.hidden)
    }

    pub(crate) fn init(&self, dim: usize, context: Option<usize>, device: &Device) -> PlanarStack {
        let parameters = Parameters::new(self.start(dim, device), context, &self.hidden);
        match self.constraint {
            PlanarConstraint::Paper => PlanarStack::Paper(parameters),
            PlanarConstraint::Identity => PlanarStack::Identity(parameters),
        }
    }

    /// The parameters that a flow starts from, `[1, layers, 2 dim + 1]`: the identity (m(w·u) = 0), since random
    /// layers would blur the base before there is anything to learn from it, along random w of norm 1, away from the
    /// pole that the paper's û has at w = 0.
    fn start(&self, dim: usize, device: &Device) -> Tensor<3> {
        let random = |numbers, std| -> Tensor<3> {
            let shape = [1, self.layers, numbers];
            Tensor::random(shape, Distribution::Normal(0.0, std), device)
        };
        let w = random(dim, 1.0);
        let w = w.clone() / w.square().sum_dim(2).sqrt();
        let u = w.clone() * self.constraint.root();
        let b = random(1, (1.0 / dim as f64).sqrt());
        Tensor::cat(vec![u, w, b], 2)
    }
}

/// The parameters under their constraint, whose name is part of their paths in a record: under another one the same
/// numbers are another flow, so that they must not load.
#[derive(Module, Debug)]
pub enum PlanarStack {
    Paper(Parameters),
    Identity(Parameters),
}

impl PlanarStack {
    pub fn bind(&self, _dim: usize, context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        let (parameters, constraint) = match self {
            Self::Paper(parameters) => (parameters, PlanarConstraint::Paper),
            Self::Identity(parameters) => (parameters, PlanarConstraint::Identity),
        };
        Arc::new(Planar::new(parameters.raw(context), constraint))
    }
}

/// Which m keeps w·û above -1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanarConstraint {
    /// The paper's m(x) = -1 + softplus(x).
    ///
    /// m(0) = -0.307, so u = 0 is not the identity, and û grows like 0.307 / ‖w‖ as w → 0.
    #[default]
    Paper,
    /// m(x) = -1 + softplus(x + ln(e - 1)).
    ///
    /// m(0) = 0, so û stays bounded as w → 0 and u = 0 is exactly the identity.
    Identity,
}

/// A squared norm of w below this counts as w = 0, where the layer is the shift z + u tanh(b): the
/// square of its inverse, which the gradient needs, would overflow `f32`.
pub(crate) const SMALLEST_SQUARED_NORM: f64 = 1e-18;

/// Where softplus(x), the determinant at a = 0, would vanish in `f32`.
pub(crate) const LOWEST_WU: f64 = -80.0;

impl PlanarConstraint {
    /// The x of m(x) = 0, where a layer is the identity.
    pub(crate) fn root(self) -> f64 {
        match self {
            Self::Paper => LN_E_MINUS_1,
            Self::Identity => 0.0,
        }
    }

    /// 1 + m(x) > 0.
    fn one_plus_m(self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clamp_min(LOWEST_WU);
        match self {
            Self::Paper => softplus(x),
            Self::Identity => softplus(x.add_scalar(LN_E_MINUS_1)),
        }
    }

    /// m(x) - x, without cancellation.
    fn m_minus_identity(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            // softplus(x) - x = softplus(-x)
            Self::Paper => softplus(x.neg()).sub_scalar(1.0),
            // softplus(x + ln(e - 1)) - 1 - x = ln(1 + (e^-x - 1) / e), exactly 0 at x = 0;
            // below -30 it is -1 - x to the last digit, and e^-x would overflow.
            Self::Identity => {
                let near = x.clone().clamp_min(-30.0);
                // e^-x - 1 = -tanh(x / 2) (1 + e^-x)
                let expm1 =
                    near.clone().div_scalar(2.0).tanh() * near.clone().neg().exp().add_scalar(1.0);
                log1p(expm1.mul_scalar(-core::f64::consts::E.recip())) + near - x
            }
        }
    }
}

/// A stack of planar layers with its parameters at hand: f_K ∘ … ∘ f_1.
///
/// A value, not a module: whoever owns or predicts the parameters builds one ([`Flow`](crate::Flow)
/// does it for learned and predicted ones).
///
/// Each direction is one fused operation, with one more for its gradient, in `f32` on the backends whose feature of this crate is
/// on; tensor operations elsewhere and in `f64`. Both directions exist for every input, and both are differentiable in
/// the points and the parameters. In `f32` the inverse is accurate to rounding except where the layer itself is flat: for
/// w·û near -1, points near the plane w·z + b = 0 are squeezed together and can't be told apart again. A layer costs
/// O(dim), its inverse some steps of Newton's method more.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{Bijection, Planar, PlanarConstraint};
///
/// let device = Device::flex();
/// // One shared stack of one layer in two dimensions: u = (1, 0), w = (1, 0), b = 0.
/// let raw = Tensor::<3>::from_data([[[1.0, 0.0, 1.0, 0.0, 0.0]]], &device);
/// let flow = Planar::new(raw, PlanarConstraint::Paper);
///
/// let z = Tensor::<2>::from_data([[0.5, -1.0]], &device);
/// let y = flow.forward(z.clone());
/// let back = flow.inverse(y.value);
/// back.value.into_data().assert_approx_eq::<f32>(&z.into_data(), Default::default());
/// ```
#[derive(Clone, Debug)]
pub struct Planar {
    /// `[owners, layers, 2 dim + 1]`
    raw: Tensor<3>,
    constraint: PlanarConstraint,
}

/// One layer, ready to broadcast over samples `[n, owners, dim]`.
#[derive(Clone, Debug)]
struct Layer {
    /// `[1, owners, dim]`
    u_hat: Tensor<3>,
    /// `[1, owners, dim]`
    w: Tensor<3>,
    /// `[1, owners, 1]`
    b: Tensor<3>,
    /// 1 + w·û > 0, `[1, owners, 1]`
    one_plus_wu_hat: Tensor<3>,
}

impl Planar {
    /// How many numbers one layer takes in `dim` dimensions: u, w and b.
    pub const fn parameters_per_layer(dim: usize) -> usize {
        2 * dim + 1
    }

    /// The stack with the given unconstrained parameters.
    ///
    /// `raw: [owners, layers, 2 dim + 1]` holds u, w and b of each layer, in this order. `owners` is 1
    /// for parameters that all points share and the batch size for parameters of each example's own.
    ///
    /// # Panics
    ///
    /// When the last axis of `raw` is not an odd number of at least 3.
    pub fn new(raw: Tensor<3>, constraint: PlanarConstraint) -> Self {
        let [owners, layers, parameters] = raw.dims();
        assert!(
            parameters >= 3 && parameters % 2 == 1,
            "planar parameters are [owners, layers, 2 dim + 1], got [{owners}, {layers}, {parameters}]"
        );
        Self {
            raw: widened(raw),
            constraint,
        }
    }

    /// What [`forward`](Bijection::forward) does where there is no fused operation, and what that is tested against.
    #[doc(hidden)]
    pub fn forward_by_tensor_operations(&self, z: Tensor<2>) -> Transformed {
        self.stack().fold(z, self.layers().iter(), Layer::forward)
    }

    /// The same of [`inverse`](Bijection::inverse).
    #[doc(hidden)]
    pub fn inverse_by_tensor_operations(&self, y: Tensor<2>) -> Transformed {
        self.stack()
            .fold(y, self.layers().iter().rev(), Layer::inverse)
    }

    fn stack(&self) -> Stack {
        let [owners, layers, parameters] = self.raw.dims();
        Stack {
            name: "a planar flow",
            owners,
            layers,
            dim: parameters / 2,
        }
    }

    fn form(&self, direction: Direction) -> Form {
        Form {
            layers: Layers::Planar(self.constraint),
            dim: self.stack().dim,
            direction,
        }
    }

    /// The layers, ready for tensor operations.
    fn layers(&self) -> Vec<Layer> {
        let Stack { layers, dim, .. } = self.stack();
        let parameters = Self::parameters_per_layer(dim);

        let raw = self.raw.clone().swap_dims(0, 1);
        let u = raw.clone().slice_dim(2, 0..dim);
        let w = raw.clone().slice_dim(2, dim..2 * dim);
        let b = raw.slice_dim(2, 2 * dim..parameters);

        let wu = (w.clone() * u.clone()).sum_dim(2);
        let squared_norm = (w.clone() * w.clone()).sum_dim(2);
        let is_zero = squared_norm.clone().lower_elem(SMALLEST_SQUARED_NORM);
        let along_w = (self.constraint.m_minus_identity(wu.clone())
            / squared_norm.mask_fill(is_zero.clone(), 1.0))
        .mask_fill(is_zero.clone(), 0.0);
        let u_hat = u + w.clone() * along_w;
        let one_plus_wu_hat = self.constraint.one_plus_m(wu).mask_fill(is_zero, 1.0);

        (0..layers)
            .map(|k| Layer {
                u_hat: u_hat.clone().slice_dim(0, k..k + 1),
                w: w.clone().slice_dim(0, k..k + 1),
                b: b.clone().slice_dim(0, k..k + 1),
                one_plus_wu_hat: one_plus_wu_hat.clone().slice_dim(0, k..k + 1),
            })
            .collect()
    }
}

impl Bijection for Planar {
    fn dim(&self) -> usize {
        self.stack().dim
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

impl Layer {
    /// `z: [n, owners, dim]` to f(z) and log det, `[n, owners, 1]`.
    fn forward(&self, z: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let a = (z.clone() * self.w.clone()).sum_dim(2) + self.b.clone();
        let t = a.tanh();
        let log_det = slope(self.one_plus_wu_hat.clone(), t.clone()).log();
        (z + self.u_hat.clone() * t, log_det)
    }

    /// `y: [n, owners, dim]` to f⁻¹(y) and its log det, `[n, owners, 1]`.
    fn inverse(&self, y: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let q = (y.clone() * self.w.clone()).sum_dim(2) + self.b.clone();

        let p = root(self.one_plus_wu_hat.clone(), q);
        let t = p.tanh();
        let log_det = slope(self.one_plus_wu_hat.clone(), t.clone()).log().neg();
        (y - self.u_hat.clone() * t, log_det)
    }
}
