//! The same root in `f32`, of numbers side by side in the lanes of a vector.

use burn_host::math::{exp, ln, tanh_and_rest};

/// Newton steps: five take `f32` to its last digits, and one more costs little.
const NEWTON_STEPS: usize = 6;

/// The p with p + s tanh p = q, for each q.
#[inline(always)]
pub fn root<const L: usize>(one_plus_s: f32, q: &[f32; L]) -> [f32; L] {
    let mut r = [0.0; L];
    let is_concave = one_plus_s >= 1.0;
    let towards_root = if is_concave { 1.0 } else { -1.0 };
    if is_concave {
        for lane in 0..L {
            r[lane] = left_of_root(one_plus_s, q[lane].abs());
        }
    } else {
        for lane in 0..L {
            r[lane] = right_of_root(one_plus_s, q[lane].abs());
        }
    }
    for _ in 0..NEWTON_STEPS {
        for lane in 0..L {
            let (t, rest) = tanh_and_rest(r[lane]);
            let g = one_plus_s * t + rest - q[lane].abs();
            let forth = -towards_root * g / slope(one_plus_s, t);
            // A rounded step may turn back. NaN is not below: it goes on.
            r[lane] += towards_root * if forth < 0.0 { 0.0 } else { forth };
        }
    }
    for lane in 0..L {
        r[lane] = r[lane].copysign(q[lane]);
    }
    r
}

/// The derivative of p + s tanh p where tanh p is `t`: 1 + s (1 - t²), as a sum of terms that don't cancel.
#[inline(always)]
pub fn slope(one_plus_s: f32, t: f32) -> f32 {
    t * t + one_plus_s * (1.0 - t * t)
}

/// A bound of the root of r + s tanh r = `size`, near it, for s < 0.
#[inline(always)]
fn right_of_root(one_plus_s: f32, size: f32) -> f32 {
    let minus_s = 1.0 - one_plus_s;
    let cube = 5.0 * size / minus_s;
    // To some digits, which is enough: it lies 7 % from the root.
    let cube_root = exp(ln(cube) / 3.0);
    let line = size / one_plus_s;
    let near = if line < cube_root { line } else { cube_root };
    if cube <= 1.0 { near } else { size + minus_s }
}

/// A bound of the root of r + s tanh r = `size`, near it, for s ≥ 0.
#[inline(always)]
fn left_of_root(one_plus_s: f32, size: f32) -> f32 {
    let s = one_plus_s - 1.0;
    let from_tail = size - s;
    let half_log = 0.5 * ln(2.0 * s);
    let beyond = (if from_tail < 0.0 { -from_tail } else { 0.0 })
        + (if half_log > 1.0 { half_log } else { 1.0 });
    let share = beyond / s;
    let from_knee = if share < 1.0 { -0.5 * ln(share) } else { 0.0 };
    let line = size / one_plus_s;
    let start = if from_tail > line { from_tail } else { line };
    if from_knee > start { from_knee } else { start }
}
