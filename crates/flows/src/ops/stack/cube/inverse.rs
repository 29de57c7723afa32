//! The inverse of the stack and its gradient, as they are derived at the top of `host/planar/inverse.rs`; the root is that of
//! `root.rs`.

use burn_cubecl::cubecl::{self, prelude::*};

use super::{add, along_w, det, of_x_and_twice_of_s, one_plus_wu_hat, tanh};
use crate::PlanarConstraint;

/// Newton steps: five take `f32` to its last digits, and one more costs little.
pub const NEWTON_STEPS: usize = 6;

#[cube(launch, address_type = "dynamic")]
pub fn inverse_kernel(
    raw: &Tensor<f32>,        // [owners, layers, 2 dim + 1]
    y: &Tensor<f32>,          // [rows, dim]
    packed: &mut Tensor<f32>, // [rows, dim + 1 + layers]
    #[comptime] constraint: PlanarConstraint,
) {
    let row = ABSOLUTE_POS;
    let dim = y.shape(1);
    if row >= y.shape(0) {
        terminate!();
    }
    let layers = raw.shape(1);
    let owner = row % raw.shape(0);
    let out = row * (dim + 1 + layers);

    for d in 0..dim {
        packed[out + d] = y[row * dim + d];
    }
    let mut log_det = f32::new(0.0);
    for i in 0..layers {
        let k = layers - 1 - i;
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let mut wu = f32::new(0.0);
        let mut squared_norm = f32::new(0.0);
        let mut q = raw[w + dim];
        for d in 0..dim {
            wu += raw[w + d] * raw[u + d];
            squared_norm += raw[w + d] * raw[w + d];
            q += raw[w + d] * packed[out + d];
        }
        let along_w = along_w(wu, squared_norm, constraint);
        let one_plus_wu_hat = one_plus_wu_hat(wu, squared_norm, constraint);
        let t = tanh(root(one_plus_wu_hat, q));
        packed[out + dim + 1 + k] = t;
        log_det -= det(t, one_plus_wu_hat).ln();
        for d in 0..dim {
            packed[out + d] -= (raw[u + d] + along_w * raw[w + d]) * t;
        }
    }
    packed[out + dim] = log_det;
}

#[cube(launch, address_type = "dynamic")]
pub fn inverse_backward_kernel(
    raw: &Tensor<f32>,          // [owners, layers, 2 dim + 1]
    known: &Tensor<f32>,        // [rows, dim + 1 + layers], what the inverse came to, packed
    grad: &Tensor<f32>,         // [rows, dim + 1 + layers]
    seen: &mut Tensor<f32>,     // [at_once * owners, dim]: y of each layer
    grad_raw: &mut Tensor<f32>, // [at_once, owners * layers * (2 dim + 1)]
    grad_y: &mut Tensor<f32>,   // [rows, dim]
    first: usize,               // the first of each owner's samples that go side by side
    #[comptime] constraint: PlanarConstraint,
) {
    let unit = ABSOLUTE_POS;
    let owners = raw.shape(0);
    let sample = first + unit / owners;
    if unit >= seen.shape(0) || sample >= known.shape(0) / owners {
        terminate!();
    }
    let owner = unit % owners;
    let row = sample * owners + owner;
    let dim = grad_y.shape(1);
    let layers = raw.shape(1);
    let packed = row * (dim + 1 + layers);
    let g = row * dim;
    let here = unit * dim;

    for d in 0..dim {
        seen[here + d] = known[packed + d];
        grad_y[g + d] = grad[packed + d];
    }
    let h = grad[packed + dim];
    for k in 0..layers {
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let mut wu = f32::new(0.0);
        let mut squared_norm = f32::new(0.0);
        let mut gu = f32::new(0.0);
        let mut gw = f32::new(0.0);
        for d in 0..dim {
            wu += raw[w + d] * raw[u + d];
            squared_norm += raw[w + d] * raw[w + d];
            gu += grad_y[g + d] * raw[u + d];
            gw += grad_y[g + d] * raw[w + d];
        }
        let along_w = along_w(wu, squared_norm, constraint);
        let one_plus_wu_hat = one_plus_wu_hat(wu, squared_norm, constraint);

        let t = known[packed + dim + 1 + k];
        let slope = -(t * t) + 1.0;
        let det = det(t, one_plus_wu_hat);
        let h = h / det;
        let of_a = ((t + t) * (one_plus_wu_hat - 1.0) * h - gu - along_w * gw) * slope;
        let of_q = of_a / det;
        let of_p = -(t * of_q) - slope * h;
        let (of_x, twice_of_s) =
            of_x_and_twice_of_s(wu, squared_norm, along_w, -(gw * t), of_p, constraint);

        let of_u = (unit * layers + k) * (2 * dim + 1);
        let of_w = of_u + dim;
        for d in 0..dim {
            seen[here + d] += (raw[u + d] + along_w * raw[w + d]) * t;
            let of_u_hat = -(grad_y[g + d] * t);
            let to_u = of_u_hat + raw[w + d] * of_x;
            let to_w = seen[here + d] * of_q
                + along_w * of_u_hat
                + raw[u + d] * of_x
                + raw[w + d] * twice_of_s;
            add(grad_raw, of_u + d, to_u, first);
            add(grad_raw, of_w + d, to_w, first);
            grad_y[g + d] += raw[w + d] * of_q;
        }
        add(grad_raw, of_w + dim, of_q, first);
    }
}

/// The p with p + s tanh p = q.
#[cube]
fn root(one_plus_s: f32, q: f32) -> f32 {
    let size = q.abs();
    let s = one_plus_s - 1.0;
    let is_concave = one_plus_s >= 1.0;
    let line = size / one_plus_s;

    // Bounds of the root from the right, for s < 0; the cube root lies 7 % from it, so that some digits are enough.
    let cube = f32::new(5.0) * size / -s;
    let cube_root = (cube.ln() / 3.0).exp();
    let near = select(cube_root < line, cube_root, line);
    let right = select(cube <= 1.0, near, size - s);

    // And from the left, for s ≥ 0; a logarithm near 1 has an absolute error.
    let from_tail = size - s;
    let half_log = (s + s).ln() * 0.5;
    let beyond = select(from_tail < 0.0, -from_tail, 0.0) + select(half_log > 1.0, half_log, 1.0);
    let share = beyond / s;
    let from_knee = select(share < 1.0, -(share.ln() * 0.5) - 1e-6, 0.0);
    let start = select(from_tail > line, from_tail, line);
    let left = select(from_knee > start, from_knee, start);

    let towards_root = select(is_concave, f32::new(1.0), f32::new(-1.0));
    let mut r = select(is_concave, left, right);
    for _ in 0..NEWTON_STEPS {
        // tanh r and r - tanh r, as burn-host's.
        let r2 = r * r;
        let denominator = ((r2 + 210.0) * r2 + 4725.0) * r2 + 10395.0;
        let near = r * ((r2 * 21.0 + 1260.0) * r2 + 10395.0) / denominator;
        let near_rest = r * r2 * ((r2 + 189.0) * r2 + 3465.0) / denominator;
        let e = (-(r + r)).exp();
        let far = (-e + 1.0) / (e + 1.0);
        let is_near = r < 1.0;
        let t = select(is_near, near, far);
        let rest = select(is_near, near_rest, r - far);

        let forth = -towards_root * (one_plus_s * t + rest - size) / det(t, one_plus_s);
        // A rounded step may turn back. NaN is not below: it goes on.
        r += towards_root * select(forth < 0.0, 0.0, forth);
    }
    select(q < 0.0, -r, r)
}
