//! The root of p + s tanh p = q for s > -1: what stands between planar and Sylvester layers and their inverses.
//!
//! The left side is odd and increasing, so p has the sign of q and the problem is r + s tanh r = |q| for
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
//! from its two terms, each to its last digits.

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub mod lanes;

use burn::tensor::Tensor;

use crate::math::tanh_and_rest;

/// Newton steps: what the worst of 1 + s from a softplus of [-80, 1e12] and |q| in [1e-40, 1e16] takes to the last
/// digits of `f64`.
const NEWTON_STEPS: usize = 8;

/// The p with p + s tanh p = q; `one_plus_s` broadcasts to the shape of `q`.
///
/// The iteration is not differentiated. Its result is a constant, and the implicit function theorem,
/// dp = -∂g / (1 + s (1 - tanh² p)) with g = p + s tanh p - q, is attached to it.
pub fn root(one_plus_s: Tensor<3>, q: Tensor<3>) -> Tensor<3> {
    let root = solve(one_plus_s.clone().detach(), q.clone().detach());
    let t = root.clone().tanh();
    // Of p + s tanh p - q, which is zero, only the derivatives in s and q matter.
    let g = one_plus_s.clone() * t.clone() - q;
    root - (g.clone() - g.detach()) / slope(one_plus_s, t).detach()
}

/// The derivative of p + s tanh p where tanh p is `t`: 1 + s (1 - t²), as a sum of terms that don't cancel.
pub fn slope(one_plus_s: Tensor<3>, t: Tensor<3>) -> Tensor<3> {
    let t2 = t.clone() * t;
    t2.clone() + one_plus_s * t2.neg().add_scalar(1.0)
}

/// By Newton's method from the side it can't overshoot from.
fn solve(one_plus_s: Tensor<3>, q: Tensor<3>) -> Tensor<3> {
    let size = q.clone().abs();
    let one_plus_s = one_plus_s.expand(size.dims());
    let is_concave = one_plus_s.clone().greater_equal_elem(1.0);
    let towards_root = (size.zeros_like().sub_scalar(1.0)).mask_fill(is_concave.clone(), 1.0);
    let mut r =
        right_of_root(&one_plus_s, &size).mask_where(is_concave, left_of_root(&one_plus_s, &size));

    for _ in 0..NEWTON_STEPS {
        let (t, rest) = tanh_and_rest(r.clone());
        let g = one_plus_s.clone() * t.clone() + rest - size.clone();
        let step = (g / slope(one_plus_s.clone(), t)).neg();
        // In exact arithmetic no step turns back; a rounded one may, and would be thrown far out
        // where the slope is nearly 0.
        r = r + towards_root.clone() * (towards_root.clone() * step).clamp_min(0.0);
    }
    r * q.sign()
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
    // R - (|q| - s), summed so that it doesn't vanish beside a large |q|.
    let beyond = from_tail.clone().neg().clamp_min(0.0)
        + (s.clone().mul_scalar(2.0).log().div_scalar(2.0)).clamp_min(1.0);
    let share = beyond / s;
    let from_knee = share.clamp_max(1.0).log().div_scalar(-2.0);
    (size.clone() / one_plus_s.clone())
        .max_pair(from_tail)
        .max_pair(from_knee)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;

    /// tanh r and r - tanh r, by Lambert's continued fraction where the difference would cancel.
    fn tanh_and_rest(r: f64) -> (f64, f64) {
        if r > 1.0 {
            return (r.tanh(), r - r.tanh());
        }
        let fraction = (1..20)
            .rev()
            .fold(41.0, |y, n| f64::from(2 * n + 1) + r * r / y);
        let y = r * r / fraction;
        (r / (1.0 + y), r * y / (1.0 + y))
    }

    /// From roots to q and back, in all corners that planar layers reach. An answer may be off by what roundings of q and of
    /// itself make of it: q over the slope, and the root.
    #[test]
    fn every_root_is_found_again() {
        let device = Device::flex();
        for (dtype, epsilon, largest) in [
            (DType::F64, f64::EPSILON, 30),
            (DType::F32, f64::from(f32::EPSILON), 30),
        ] {
            let mut softplus: Vec<f64> = (-80..=12).map(|x| f64::from(x).exp()).collect();
            softplus.extend((1..=12).map(|x| 10_f64.powi(x)));
            let mut roots: Vec<f64> = (-12..=largest).map(|x| 10_f64.powi(x)).collect();
            roots.extend((1..200).map(|x| f64::from(x) / 10.0));
            for a in softplus {
                let round = |x: f64| match dtype {
                    DType::F64 => x,
                    _ => f64::from(x as f32),
                };
                let a = round(a);
                let q: Vec<f64> = roots
                    .iter()
                    .map(|&r| {
                        let (t, rest) = tanh_and_rest(r);
                        a * t + rest
                    })
                    .collect();
                let n = roots.len();
                let tensor = |numbers: Vec<f64>, n: usize| {
                    let data = TensorData::new(numbers, [1, 1, n]).convert_dtype(dtype);
                    Tensor::<3>::from_data(data, (&device, dtype))
                };
                let found = solve(tensor(vec![a], 1), tensor(q.clone(), n)).into_data();
                let check = |by: &str, found: f64, r: f64, q: f64| {
                    let (t, _) = tanh_and_rest(r.abs());
                    let off = (q / (t * t + a * (1.0 - t * t)) + r).abs();
                    let apart = (found - r).abs();
                    assert!(
                        apart <= 4.0 * epsilon * off,
                        "{dtype:?} {by}, 1 + s = {a:e}, root {r:e}: {found:e}, off by {:.1}",
                        apart / (epsilon * off)
                    );
                };
                for ((found, &r), &q) in found.iter::<f64>().zip(&roots).zip(&q) {
                    check("tensors", found, r, q);
                    if dtype == DType::F32 {
                        for (q, r) in [(q, r), (-q, -r)] {
                            let [found] = lanes::root(a as f32, &[q as f32]);
                            check("lanes", found.into(), r, q);
                        }
                    }
                }
            }
        }
    }
}
