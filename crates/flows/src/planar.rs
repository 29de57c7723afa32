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
//! s = w·û > -1: odd and increasing, so p has the sign of q and the problem is r + s tanh r = |q| for
//! r = |p|. On r ≥ 0 the left side is concave for s ≥ 0 and convex for s < 0, so Newton's method
//! started left of the root for s ≥ 0, and right of it for s < 0, moves towards the root from one side and
//! cannot overshoot it. Bounds of the root to start at:
//!
//! ```text
//! s < 0:  |q| - s  and  |q|/(1 + s),  for tanh r ≤ 1 and tanh r ≤ r;
//!         (5|q|/-s)^⅓  where that is at most 1, since r - tanh r ≥ r³/5 up to there
//! s ≥ 0:  |q| - s  and  |q|/(1 + s),  for the same reasons, now from the left;
//!         -½ ln((R + s - |q|)/s),  since s - |q| + R ≥ s (1 - tanh r) ≥ s e^-2r for any R ≥ r,
//!         with R = max(|q| - s, 0) + max(½ ln 2s, 1)
//! ```
//!
//! Near the root of s near -1, r + s tanh r = (1 + s) tanh r + (r - tanh r) is as small as r³/3: it is summed
//! from its two terms, each to its last digits. Then z = y - û tanh p.
//!
//! **Gradient of the inverse.** The iteration is not differentiated. Its result p is a constant, and
//! the implicit function theorem, dp = -∂g / (1 + s (1 - tanh² p)) with g = p + s tanh p - q, is
//! attached to it.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    Transformed,
    math::{log1p, softplus, tanh_and_rest, widened},
    ops,
};

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

/// ln(e - 1): softplus is 1 there.
pub(crate) const LN_E_MINUS_1: f64 = 0.541_324_854_612_918_1;

/// A squared norm of w below this counts as w = 0, where the layer is the shift z + u tanh(b): the
/// square of its inverse, which the gradient needs, would overflow `f32`.
pub(crate) const SMALLEST_SQUARED_NORM: f64 = 1e-18;

/// Where softplus(x), the determinant at a = 0, would vanish in `f32`.
pub(crate) const LOWEST_WU: f64 = -80.0;

/// Newton steps of the inverse: what the worst of w·u in [-80, 1e12] and |q| in [1e-40, 1e16] takes to the last
/// digits of `f64`.
const NEWTON_STEPS: usize = 8;

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
                log1p(expm1.div_scalar(-core::f64::consts::E)) + near - x
            }
        }
    }
}

/// A stack of planar layers with its parameters at hand: f_K ∘ … ∘ f_1.
///
/// A value, not a module: whoever owns or predicts the parameters builds one ([`Flow`](crate::Flow)
/// does it for learned and predicted ones).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{Planar, PlanarConstraint};
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

    /// How many parameter sets the stack holds: 1, or one an example.
    pub fn owners(&self) -> usize {
        self.raw.dims()[0]
    }

    /// Dimensions of the points.
    pub fn dim(&self) -> usize {
        self.raw.dims()[2] / 2
    }

    /// z_K and the summed log-determinant (eq. 13 of the paper, with the sign of the forward map).
    ///
    /// `z: [n · owners, dim]`, sample-major: row i goes through the parameters of owner i mod `owners`.
    ///
    /// One fused operation, with one more for its gradient, in `f32` on the backends whose feature of this crate is
    /// on; tensor operations elsewhere and in `f64`. Narrower floats are computed in `f32` and rounded at the end.
    ///
    /// # Panics
    ///
    /// When `z` has another dimension, or a number of rows that `owners` does not divide.
    pub fn forward(&self, z: Tensor<2>) -> Transformed {
        self.map(z, |z| {
            ops::planar::planar(&self.raw, &z, self.constraint)
                .unwrap_or_else(|| self.forward_by_tensor_operations(z))
        })
    }

    /// What [`forward`](Self::forward) does where there is no fused operation, and what that is tested against.
    #[doc(hidden)]
    pub fn forward_by_tensor_operations(&self, z: Tensor<2>) -> Transformed {
        self.fold(z, self.layers().iter(), Layer::forward)
    }

    /// The point that [`forward`](Self::forward) takes to `y`, and the log-determinant of the inverse
    /// map there (the negative of the forward one).
    ///
    /// Shapes as in [`forward`](Self::forward). Differentiable in `y` and in the parameters. In `f32`
    /// the result is accurate to rounding except where the layer itself is flat: for w·û near -1, points
    /// near the plane w·z + b = 0 are squeezed together and can't be told apart again.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.map(y, |y| {
            self.fold(y, self.layers().iter().rev(), Layer::inverse)
        })
    }

    /// `map` of points that fit, in `f32` or `f64`, where there are both points and layers.
    fn map(&self, points: Tensor<2>, map: impl Fn(Tensor<2>) -> Transformed) -> Transformed {
        let (owners, own) = (self.owners(), self.dim());
        let [rows, dim] = points.dims();
        assert!(
            dim == own && rows.is_multiple_of(owners),
            "a planar flow of {owners} owners in {own} dimensions takes [n · {owners}, {own}], got [{rows}, {dim}]"
        );
        let [_, layers, _] = self.raw.dims();
        if rows == 0 || layers == 0 {
            return Transformed::identity(points);
        }
        let dtype = points.dtype();
        map(widened(points)).cast(dtype)
    }

    /// The layers, ready for tensor operations.
    fn layers(&self) -> Vec<Layer> {
        let [_, layers, parameters] = self.raw.dims();
        let dim = self.dim();

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

    fn fold<'a>(
        &self,
        points: Tensor<2>,
        layers: impl Iterator<Item = &'a Layer>,
        step: impl Fn(&Layer, Tensor<3>) -> (Tensor<3>, Tensor<3>),
    ) -> Transformed {
        let [rows, dim] = points.dims();
        let owners = self.owners();
        let n = rows / owners;

        let mut value = points.reshape([n, owners, dim]);
        let mut log_det = Tensor::zeros([n, owners, 1], (&value.device(), value.dtype()));
        for layer in layers {
            let (next, log_det_of_layer) = step(layer, value);
            value = next;
            log_det = log_det + log_det_of_layer;
        }
        Transformed {
            value: value.reshape([rows, dim]),
            log_det: log_det.reshape([rows]),
        }
    }
}

impl Layer {
    /// `z: [n, owners, dim]` to f(z) and log det, `[n, owners, 1]`.
    fn forward(&self, z: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let a = (z.clone() * self.w.clone()).sum_dim(2) + self.b.clone();
        let t = a.tanh();
        let log_det = self.det(t.clone()).log();
        (z + self.u_hat.clone() * t, log_det)
    }

    /// `y: [n, owners, dim]` to f⁻¹(y) and its log det, `[n, owners, 1]`.
    fn inverse(&self, y: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let q = (y.clone() * self.w.clone()).sum_dim(2) + self.b.clone();

        let root = self.clone().detach().solve(q.clone().detach());
        let t = root.clone().tanh();
        // Of p + s tanh p - q, which is zero, only the derivatives in s and q matter.
        let g = self.one_plus_wu_hat.clone() * t.clone() - q;
        let p = root - (g.clone() - g.detach()) / self.det(t).detach();

        let t = p.tanh();
        let log_det = self.det(t.clone()).log().neg();
        (y - self.u_hat.clone() * t, log_det)
    }

    /// det ∂f/∂z where tanh(w·z + b) is `t`.
    fn det(&self, t: Tensor<3>) -> Tensor<3> {
        let t2 = t.clone() * t;
        t2.clone() + self.one_plus_wu_hat.clone() * t2.neg().add_scalar(1.0)
    }

    /// The p with p + s tanh p = q, by Newton's method from the side it can't overshoot from.
    fn solve(&self, q: Tensor<3>) -> Tensor<3> {
        let size = q.clone().abs();
        let one_plus_s = self.one_plus_wu_hat.clone().expand(size.dims());
        let is_concave = one_plus_s.clone().greater_equal_elem(1.0);
        let towards_root = (size.zeros_like().sub_scalar(1.0)).mask_fill(is_concave.clone(), 1.0);
        let mut r = right_of_root(&one_plus_s, &size)
            .mask_where(is_concave, left_of_root(&one_plus_s, &size));

        for _ in 0..NEWTON_STEPS {
            let (t, rest) = tanh_and_rest(r.clone());
            let g = one_plus_s.clone() * t.clone() + rest - size.clone();
            let step = (g / self.det(t)).neg();
            // In exact arithmetic no step turns back; a rounded one may, and would be thrown far out
            // where the slope is nearly 0.
            r = r + towards_root.clone() * (towards_root.clone() * step).clamp_min(0.0);
        }
        r * q.sign()
    }

    fn detach(self) -> Self {
        Self {
            u_hat: self.u_hat.detach(),
            w: self.w.detach(),
            b: self.b.detach(),
            one_plus_wu_hat: self.one_plus_wu_hat.detach(),
        }
    }
}

/// A bound of the root of r + s tanh r = `size`, near it, for s < 0.
fn right_of_root(one_plus_s: &Tensor<3>, size: &Tensor<3>) -> Tensor<3> {
    let minus_s = one_plus_s.clone().neg().add_scalar(1.0);
    let cube = size.clone().mul_scalar(5.0) / minus_s.clone();
    let is_below_1 = cube.clone().lower_equal_elem(1.0);
    let near = cube
        .powf_scalar(1.0 / 3.0)
        .min_pair(size.clone() / one_plus_s.clone());
    (size.clone() + minus_s).mask_where(is_below_1, near)
}

/// A bound of the root of r + s tanh r = `size`, near it, for s ≥ 0.
fn left_of_root(one_plus_s: &Tensor<3>, size: &Tensor<3>) -> Tensor<3> {
    let s = one_plus_s.clone().sub_scalar(1.0);
    let from_tail = size.clone() - s.clone();
    let bound = from_tail.clone().clamp_min(0.0)
        + (s.clone().mul_scalar(2.0).log().div_scalar(2.0)).clamp_min(1.0);
    let share = (bound - from_tail.clone()) / s;
    let from_knee = share.clamp_max(1.0).log().div_scalar(-2.0);
    (size.clone() / one_plus_s.clone())
        .max_pair(from_tail)
        .max_pair(from_knee)
}
