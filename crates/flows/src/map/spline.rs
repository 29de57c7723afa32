//! The monotone rational-quadratic spline of Durkan, Bekasov, Murray & Papamakarios, *Neural Spline Flows* (2019).
//!
//! Between knots (x_k, y_k) and (x_k+1, y_k+1) with slopes d_k and d_k+1, where w and h are the bin's width and height,
//! s = h / w and ξ = (x - x_k) / w (their eq. 4 and 5):
//!
//! ```text
//! y     = y_k + h (s ξ² + d_k ξ (1 - ξ)) / c,            c = s + (d_k + d_k+1 - 2 s) ξ (1 - ξ)
//! dy/dx = s² (d_k+1 ξ² + 2 s ξ (1 - ξ) + d_k (1 - ξ)²) / c²
//! ```
//!
//! The inverse solves a quadratic in ξ (their eq. 6 to 8): with q = y - y_k and e = d_k + d_k+1 - 2 s,
//!
//! ```text
//! a ξ² + b ξ - s q = 0,      a = h (s - d_k) + q e,      b = h d_k - q e,      r = √(b² + 4 a s q)
//!
//! ξ = 2 s q / (b + r)  where b ≥ 0,      (r - b) / (2 a)  where b < 0
//! ```
//!
//! The first form is the paper's. Where b < 0, b + r cancels; there a = h s - b > 0, and the second form adds. And a and b cancel next
//! to the right knot, where q is nearly h, if d_k is large: there the bin is looked at from that knot. Turned round it is a bin
//! again, with 1 - ξ for ξ, h - q for q and the two slopes exchanged.
//!
//! Parameters of a number: `bins` widths and `bins` heights (softmax), and slopes of the knots (softplus). Zeros are equal bins with
//! slope 1: the identity.
//!
//! **On the line** the spline lies on [-5, 5]². The outer knots are the corners, with slope 1, where the line y = x goes on;
//! `bins - 1` slopes are those of the others.
//!
//! **On the circle** (Rezende, Papamakarios, Racanière, Albergo, Kanwar, Shanahan & Cranmer, *Normalizing Flows on Tori and
//! Spheres*, 2020, section 2.1) it lies on [-π, π]², whose corners are one point of the circle: they share a slope, so that dy/dx
//! goes on across ±π, and `bins` slopes are those of all knots but the last. The spline itself leaves ±π where it is; a phase φ,
//! the last parameter, turns what comes of it:
//!
//! ```text
//! f(θ) = spline(θ) + φ  modulo 2π
//! ```
//!
//! What is handed on lies in [-π, π), in either direction.

use std::f64::consts::PI;

use burn::tensor::{Bool, Tensor, activation::softmax};

use super::{Domain, parameter};
use crate::math::softplus;

/// Least width and height, as a share of the whole, and least slope.
pub const LEAST: f64 = 1e-3;

/// ln(e^(1 - LEAST) - 1): where softplus is 1 - LEAST.
pub const SLOPE_1: f64 = 0.539_742_417_236_952;

/// A turn.
pub const TURN: f64 = 2.0 * PI;

pub(super) fn check(bins: usize) -> Result<(), String> {
    if (1..=500).contains(&bins) {
        return Ok(());
    }
    // A thousand bins of the least width would fill the spline.
    Err(format!("{bins} bins: a spline has 1 to 500"))
}

/// A spline of so many bins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spline {
    pub bins: usize,
    pub domain: Domain,
}

impl Spline {
    pub const fn line(bins: usize) -> Self {
        let domain = Domain::Line;
        Self { bins, domain }
    }

    pub const fn circle(bins: usize) -> Self {
        let domain = Domain::Circle;
        Self { bins, domain }
    }

    /// The bins lie on [-bound, bound]².
    pub const fn bound(self) -> f64 {
        match self.domain {
            Domain::Line => 5.0,
            Domain::Circle => PI,
        }
    }

    /// The least width and height.
    pub const fn least(self) -> f64 {
        2.0 * self.bound() * LEAST
    }

    /// What the bins have of the whole beyond that.
    pub const fn share(self) -> f64 {
        2.0 * self.bound() * (1.0 - LEAST * self.bins as f64)
    }

    /// How many slopes are parameters.
    pub const fn slopes(self) -> usize {
        match self.domain {
            Domain::Line => self.bins - 1,
            Domain::Circle => self.bins,
        }
    }

    /// y and ln dy/dx of each of `x: [rows, dim]`, by `raw: [rows, dim, parameters]`.
    pub(super) fn forward(self, x: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        match self.domain {
            Domain::Line => self.through_bins(x, raw),
            Domain::Circle => {
                let phase = parameter(&raw, 3 * self.bins);
                let (y, log_slope) = self.through_bins(wrapped(x), raw);
                (wrapped(y + phase), log_slope)
            }
        }
    }

    /// x and ln dx/dy of each of `y: [rows, dim]`.
    pub(super) fn inverse(self, y: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        match self.domain {
            Domain::Line => self.back_through_bins(y, raw),
            Domain::Circle => {
                let phase = parameter(&raw, 3 * self.bins);
                let (x, log_slope) = self.back_through_bins(wrapped(y - phase), raw);
                (wrapped(x), log_slope)
            }
        }
    }

    fn through_bins(self, x: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        let (inside, is_outside) = self.inside(&x);
        let knots = Knots::new(raw, self);
        let bin = knots.bin_of(&knots.x, inside.clone());
        let xi = (inside - bin.x) / bin.width.clone();
        let s = bin.height.clone() / bin.width;
        let xi = xi.clamp(0.0, 1.0);
        let rest = xi.clone().neg().add_scalar(1.0);
        let around = xi.clone() * rest.clone();
        let c = s.clone()
            + (bin.left.clone() + bin.right.clone() - s.clone().mul_scalar(2.0)) * around.clone();
        let rise = s.clone() * xi.clone().square() + bin.left.clone() * around.clone();
        let y = bin.y + bin.height * rise / c.clone();
        let log_slope = log_slope(s, bin.left, bin.right, (xi, rest), around, c);
        (
            y.mask_where(is_outside.clone(), x),
            log_slope.mask_fill(is_outside, 0.0),
        )
    }

    fn back_through_bins(self, y: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        let (inside, is_outside) = self.inside(&y);
        let knots = Knots::new(raw, self);
        let bin = knots.bin_of(&knots.y, inside.clone());
        let q = (inside - bin.y.clone()).clamp_min(0.0);
        let p = (bin.height.clone() - q.clone()).clamp_min(0.0);
        let is_right = p.clone().lower(q.clone());
        // Each from its own half alone: what a mask discards takes part in the gradient.
        let left = bin.past_knot(q.mask_fill(is_right.clone(), 0.0), bin.left.clone());
        let right = bin.past_knot(
            p.mask_fill(is_right.clone().bool_not(), 0.0),
            bin.right.clone(),
        );
        let far = |near: &Tensor<2>| near.clone().neg().add_scalar(1.0);
        let xi = left.clone().mask_where(is_right.clone(), far(&right));
        let rest = far(&left).mask_where(is_right, right);
        let around = xi.clone() * rest.clone();
        let s = bin.height.clone() / bin.width.clone();
        let e = bin.left.clone() + bin.right.clone() - s.clone().mul_scalar(2.0);
        let c = s.clone() + e * around.clone();
        let x = bin.x + xi.clone() * bin.width;
        let log_slope = log_slope(s, bin.left, bin.right, (xi, rest), around, c).neg();
        (
            x.mask_where(is_outside.clone(), y),
            log_slope.mask_fill(is_outside, 0.0),
        )
    }

    /// The numbers, 0 where they are outside: what a mask discards still takes part in the gradient.
    fn inside(self, x: &Tensor<2>) -> (Tensor<2>, Tensor<2, Bool>) {
        let size = x.clone().abs();
        let is_inside = match self.domain {
            Domain::Line => size.lower_elem(self.bound()),
            Domain::Circle => size.lower_equal_elem(self.bound()),
        };
        // Not "greater than": a NaN is outside, and stays what it is.
        let is_outside = is_inside.bool_not();
        (x.clone().mask_fill(is_outside.clone(), 0.0), is_outside)
    }
}

/// The same angles in [-π, π). Of numbers so large that no digit of their angle is left (1e8 in `f32`) some angle.
pub(super) fn wrapped(x: Tensor<2>) -> Tensor<2> {
    let turns = (x.clone().detach())
        .mul_scalar(TURN.recip())
        .add_scalar(0.5)
        .floor();
    let rest = x - turns.mul_scalar(TURN);
    // Rounding may have counted a turn too many, or one too few. A turn from the rest: of x it would round another way.
    let dtype = rest.dtype();
    let turn_if = |is: Tensor<2, Bool>| is.float().cast(dtype).mul_scalar(TURN);
    let rest = rest.clone() - turn_if(rest.greater_equal_elem(PI));
    let rest = rest.clone() + turn_if(rest.lower_elem(-PI));
    let is_lost = rest.clone().abs().greater_elem(PI);
    rest.mask_fill(is_lost, -PI)
}

/// Far below the square of the least h d.
pub const TINY: f64 = 1e-24;

/// ln dy/dx, at ξ and 1 - ξ.
fn log_slope(
    s: Tensor<2>,
    left: Tensor<2>,
    right: Tensor<2>,
    (xi, rest): (Tensor<2>, Tensor<2>),
    around: Tensor<2>,
    c: Tensor<2>,
) -> Tensor<2> {
    let sum = right * xi.square() + (s.clone() * around).mul_scalar(2.0) + left * rest.square();
    sum.log() + (s / c).log().mul_scalar(2.0)
}

/// The knots of each number's spline.
struct Knots {
    /// `[rows, dim, bins]` of left knots, as all below.
    x: Tensor<3>,
    y: Tensor<3>,
    width: Tensor<3>,
    height: Tensor<3>,
    /// Slopes at the left and the right knots.
    left: Tensor<3>,
    right: Tensor<3>,
}

/// The bin of each number, `[rows, dim]` each.
struct Bin {
    x: Tensor<2>,
    y: Tensor<2>,
    width: Tensor<2>,
    height: Tensor<2>,
    left: Tensor<2>,
    right: Tensor<2>,
}

impl Bin {
    /// How far it is along x, as a share of the width, to where y has gone by q from a knot of slope d.
    fn past_knot(&self, q: Tensor<2>, d: Tensor<2>) -> Tensor<2> {
        let s = self.height.clone() / self.width.clone();
        let e = self.left.clone() + self.right.clone() - s.clone().mul_scalar(2.0);
        let b = self.height.clone() * d.clone() - q.clone() * e.clone();
        let a = self.height.clone() * (s.clone() - d) + q.clone() * e;
        let four_ac = s.clone() * q.clone() * a.clone().mul_scalar(4.0);
        // Of positive numbers but for rounding, which must not reach the root's infinite slope at 0.
        let root = (b.clone().square() + four_ac).clamp_min(TINY).sqrt();
        // Each form where it does not cancel, with a divisor that is none elsewhere.
        let is_negative = b.clone().lower_elem(0.0);
        let sum = (b.clone() + root.clone()).mask_fill(is_negative.clone(), 1.0);
        let a = a.mask_fill(is_negative.clone().bool_not(), 1.0);
        let xi =
            ((s * q).mul_scalar(2.0) / sum).mask_where(is_negative, (root - b).mul_scalar(0.5) / a);
        xi.clamp(0.0, 1.0)
    }
}

impl Knots {
    fn new(raw: Tensor<3>, spline: Spline) -> Self {
        let bins = spline.bins;
        let lengths = |raw: Tensor<3>| {
            softmax(raw, 2)
                .mul_scalar(spline.share())
                .add_scalar(spline.least())
        };
        let width = lengths(raw.clone().slice_dim(2, 0..bins));
        let height = lengths(raw.clone().slice_dim(2, bins..2 * bins));
        let starts = |lengths: &Tensor<3>| lengths.clone().cumsum(2) - lengths.clone();
        let slopes = 2 * bins..2 * bins + spline.slopes();
        let slopes =
            softplus(raw.clone().slice_dim(2, slopes).add_scalar(SLOPE_1)).add_scalar(LEAST);
        // Those of all knots.
        let slopes = match spline.domain {
            Domain::Line => {
                let [rows, dim, _] = raw.dims();
                let one = Tensor::ones([rows, dim, 1], (&raw.device(), raw.dtype()));
                vec![one.clone(), slopes, one]
            }
            Domain::Circle => vec![slopes.clone(), slopes.slice_dim(2, 0..1)],
        };
        let slopes = Tensor::cat(slopes, 2);
        Self {
            x: starts(&width).sub_scalar(spline.bound()),
            y: starts(&height).sub_scalar(spline.bound()),
            width,
            height,
            left: slopes.clone().slice_dim(2, 0..bins),
            right: slopes.slice_dim(2, 1..bins + 1),
        }
    }

    /// The bin that each of `at: [rows, dim]` lies in, by the left knots of that axis.
    fn bin_of(&self, starts: &Tensor<3>, at: Tensor<2>) -> Bin {
        let [rows, dim, bins] = starts.dims();
        // 1 for each left knot at or below; the last of these is the bin's. The first counts always.
        let at = at.unsqueeze_dim::<3>(2);
        let below = starts
            .clone()
            .detach()
            .lower_equal(at.detach().expand([rows, dim, bins]));
        let below = below.float().cast(starts.dtype());
        let first = below.clone().slice_dim(2, 0..1).ones_like();
        let below = Tensor::cat(vec![first, below.slice_dim(2, 1..bins)], 2);
        let next = Tensor::cat(
            vec![
                below.clone().slice_dim(2, 1..bins),
                below.clone().slice_dim(2, 0..1).zeros_like(),
            ],
            2,
        );
        let is_bin = below - next;
        let pick = |of: &Tensor<3>| (of.clone() * is_bin.clone()).sum_dim(2).squeeze_dim(2);
        Bin {
            x: pick(&self.x),
            y: pick(&self.y),
            width: pick(&self.width),
            height: pick(&self.height),
            left: pick(&self.left),
            right: pick(&self.right),
        }
    }
}
