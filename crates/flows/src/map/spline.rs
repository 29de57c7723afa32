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
//! The inverse solves a quadratic in ξ (their eq. 6 to 8), in the form that does not cancel: with q = y - y_k and
//! e = d_k + d_k+1 - 2 s,
//!
//! ```text
//! ξ = 2 s q / (h d_k - q e + √((h d_k - q e)² + 4 s q (h (s - d_k) + q e)))
//! ```
//!
//! Parameters of a number: `bins` widths and `bins` heights (softmax), `bins - 1` slopes of the inner knots (softplus); the
//! outer knots are the corners of the square, with slope 1, where the line y = x goes on. Zeros are equal bins with slope 1:
//! the identity.

use burn::tensor::{Tensor, activation::softmax};

use crate::math::softplus;

/// The spline lies on [-BOUND, BOUND]².
pub const BOUND: f64 = 5.0;

/// Least width and height, as a share of the whole, and least slope.
pub const LEAST: f64 = 1e-3;

/// ln(e^(1 - LEAST) - 1): where softplus is 1 - LEAST.
pub const SLOPE_1: f64 = 0.539_742_417_236_952;

pub(super) fn check(bins: usize) -> Result<(), String> {
    if (1..=500).contains(&bins) {
        return Ok(());
    }
    // A thousand bins of the least width would fill the spline.
    Err(format!("{bins} bins: a spline has 1 to 500"))
}

pub(super) fn forward(x: Tensor<2>, raw: Tensor<3>, bins: usize) -> (Tensor<2>, Tensor<2>) {
    let (inside, is_outside) = inside(&x);
    let knots = Knots::new(raw, bins);
    let bin = knots.bin_of(&knots.x, inside.clone());
    let xi = (inside - bin.x) / bin.width.clone();
    let s = bin.height.clone() / bin.width;
    let (xi, around) = clamped(xi);
    let c = s.clone()
        + (bin.left.clone() + bin.right.clone() - s.clone().mul_scalar(2.0)) * around.clone();
    let rise = s.clone() * xi.clone().square() + bin.left.clone() * around.clone();
    let y = bin.y + bin.height * rise / c.clone();
    let log_slope = log_slope(s, bin.left, bin.right, xi, around, c);
    (
        y.mask_where(is_outside.clone(), x),
        log_slope.mask_fill(is_outside, 0.0),
    )
}

pub(super) fn inverse(y: Tensor<2>, raw: Tensor<3>, bins: usize) -> (Tensor<2>, Tensor<2>) {
    let (inside, is_outside) = inside(&y);
    let knots = Knots::new(raw, bins);
    let bin = knots.bin_of(&knots.y, inside.clone());
    let q = (inside - bin.y).clamp_min(0.0);
    let s = bin.height.clone() / bin.width.clone();
    let e = bin.left.clone() + bin.right.clone() - s.clone().mul_scalar(2.0);
    let b = bin.height.clone() * bin.left.clone() - q.clone() * e.clone();
    let a = bin.height * (s.clone() - bin.left.clone()) + q.clone() * e.clone();
    let four_ac = s.clone() * q.clone() * a.mul_scalar(4.0);
    // Of positive numbers but for rounding, which must not reach the root's infinite slope at 0.
    let root = (b.clone().square() + four_ac).clamp_min(TINY).sqrt();
    let xi = (s.clone() * q).mul_scalar(2.0) / (b + root);
    let (xi, around) = clamped(xi);
    let c = s.clone() + e * around.clone();
    let x = bin.x + xi.clone() * bin.width;
    let log_slope = log_slope(s, bin.left, bin.right, xi, around, c).neg();
    (
        x.mask_where(is_outside.clone(), y),
        log_slope.mask_fill(is_outside, 0.0),
    )
}

/// Far below the square of the least h d.
pub const TINY: f64 = 1e-24;

/// The numbers, 0 where they are outside: what a mask discards still takes part in the gradient.
fn inside(x: &Tensor<2>) -> (Tensor<2>, Tensor<2, burn::tensor::Bool>) {
    // Not "greater than": a NaN is outside, and stays what it is.
    let is_outside = x.clone().abs().lower_elem(BOUND).bool_not();
    (x.clone().mask_fill(is_outside.clone(), 0.0), is_outside)
}

/// ξ between 0 and 1, and ξ (1 - ξ).
fn clamped(xi: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let xi = xi.clamp(0.0, 1.0);
    let around = xi.clone() * xi.clone().neg().add_scalar(1.0);
    (xi, around)
}

/// ln dy/dx.
fn log_slope(
    s: Tensor<2>,
    left: Tensor<2>,
    right: Tensor<2>,
    xi: Tensor<2>,
    around: Tensor<2>,
    c: Tensor<2>,
) -> Tensor<2> {
    let rest = xi.clone().neg().add_scalar(1.0);
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

impl Knots {
    fn new(raw: Tensor<3>, bins: usize) -> Self {
        let share = 1.0 - LEAST * bins as f64;
        let lengths = |raw: Tensor<3>| {
            softmax(raw, 2)
                .mul_scalar(2.0 * BOUND * share)
                .add_scalar(2.0 * BOUND * LEAST)
        };
        let width = lengths(raw.clone().slice_dim(2, 0..bins));
        let height = lengths(raw.clone().slice_dim(2, bins..2 * bins));
        let starts = |lengths: &Tensor<3>| lengths.clone().cumsum(2) - lengths.clone();
        let inner = softplus(
            raw.clone()
                .slice_dim(2, 2 * bins..3 * bins - 1)
                .add_scalar(SLOPE_1),
        )
        .add_scalar(LEAST);
        let [rows, dim, _] = raw.dims();
        let one = Tensor::ones([rows, dim, 1], (&raw.device(), raw.dtype()));
        Self {
            x: starts(&width).sub_scalar(BOUND),
            y: starts(&height).sub_scalar(BOUND),
            width,
            height,
            left: Tensor::cat(vec![one.clone(), inner.clone()], 2),
            right: Tensor::cat(vec![inner, one], 2),
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
