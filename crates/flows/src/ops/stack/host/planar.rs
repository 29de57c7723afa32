//! Planar layers.
//!
//! Either direction hands back what the loss changes by û, w, b and p = 1 + w·û of a layer (`forward`, `inverse`).
//! Here û = u + c w with x = w·u, s = ‖w‖² and c = (m(x) - x) / s takes them to u and w:
//!
//! ```text
//! ∂L/∂c = w·∂L/∂û        ∂L/∂x = (m'(x) - 1) / s ∂L/∂c + m'(x) ∂L/∂p        ∂L/∂s = -c / s ∂L/∂c
//! ∂L/∂u = ∂L/∂û + w ∂L/∂x        ∂L/∂w += c ∂L/∂û + u ∂L/∂x + 2 w ∂L/∂s
//! ```

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

mod forward;
mod inverse;

use std::iter::zip;

use burn_host::{
    math::{exp, ln_1p, sigmoid, softplus, tanh},
    vectorized,
};

use super::{
    OfOwner,
    lanes::{Block, dot, dot_product},
};
use crate::{
    PlanarConstraint,
    family::planar::{LOWEST_WU, SMALLEST_SQUARED_NORM},
    map::Direction,
    math::LN_E_MINUS_1,
    root::lanes::slope,
};

/// Layers whose parameters are made ready together.
const AT_ONCE: usize = 64;

/// The layers of one owner.
pub struct Planar<'a> {
    pub dim: usize,
    /// `[layers, 2 dim + 1]`
    raw: &'a [f32],
    /// `[layers, dim]`
    u_hat: Vec<f32>,
    pub layers: Vec<Layer>,
}

/// What a layer's parameters come to.
pub struct Layer {
    pub b: f32,
    /// p = 1 + w·û
    pub one_plus_wu_hat: f32,
    /// c, with û = u + c w
    along_w: f32,
    /// ∂c/∂x and ∂c/∂s
    slopes_of_along_w: [f32; 2],
    /// ∂p/∂x
    slope_of_p: f32,
}

impl PlanarConstraint {
    /// 1 + m(x), m(x) - x and m'(x).
    #[inline(always)]
    fn at(self, x: f32) -> (f32, f32, f32) {
        let limited = if x < LOWEST_WU as f32 {
            LOWEST_WU as f32
        } else {
            x
        };
        match self {
            Self::Paper => (softplus(limited), softplus(-x) - 1.0, sigmoid(x)),
            Self::Identity => {
                let offset = LN_E_MINUS_1 as f32;
                // As the tensor version: ln(1 + (e^-x - 1) / e), and -1 - x below -30.
                let near = if x < -30.0 { -30.0 } else { x };
                let expm1 = -tanh(near / 2.0) * (1.0 + exp(-near));
                (
                    softplus(limited + offset),
                    ln_1p(expm1 / std::f32::consts::E) + near - x,
                    sigmoid(x + offset),
                )
            }
        }
    }
}

impl<'a> Planar<'a> {
    /// From `raw: [layers, 2 dim + 1]`.
    pub fn new(raw: &'a [f32], dim: usize, constraint: PlanarConstraint) -> Self {
        let mut u_hat = vec![0.0; raw.len() / (2 * dim + 1) * dim];
        Self {
            layers: prepare(raw, &mut u_hat, dim, constraint),
            dim,
            raw,
            u_hat,
        }
    }

    /// û and w of layer `k`.
    #[inline(always)]
    pub fn vectors(&self, k: usize) -> (&[f32], &[f32]) {
        let dim = self.dim;
        let u_hat = &self.u_hat[k * dim..][..dim];
        (u_hat, &self.raw[k * (2 * dim + 1) + dim..][..dim])
    }

    /// Where the gradients of layer `k` stand: of û, of w, and of b and p.
    #[inline(always)]
    pub fn of_layer<'b>(
        &self,
        sums: &'b mut [f32],
        k: usize,
    ) -> (&'b mut [f32], &'b mut [f32], &'b mut [f32]) {
        let numbers = 2 * self.dim + 2;
        let (of_u_hat, rest) = sums[k * numbers..][..numbers].split_at_mut(self.dim);
        let (of_w, of_scalars) = rest.split_at_mut(self.dim);
        (of_u_hat, of_w, of_scalars)
    }
}

impl OfOwner for Planar<'_> {
    /// Of each layer's û, w, b and p.
    #[inline(always)]
    fn sums(&self) -> usize {
        self.layers.len() * (2 * self.dim + 2)
    }

    #[inline(always)]
    fn map<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        points: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        match direction {
            Direction::Forward => self.forward::<L, A>(points, block, packed),
            Direction::Inverse => self.inverse::<L, A>(points, block, packed),
        }
    }

    #[inline(always)]
    fn gradients<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        (known, grad): (&[f32], &[f32]),
        block: Block,
        out: (&mut Vec<f32>, &mut [f32]),
    ) {
        match direction {
            Direction::Forward => self.forward_gradients::<L, A>(known, grad, block, out),
            Direction::Inverse => self.inverse_gradients::<L, A>(known, grad, block, out),
        }
    }

    #[inline(always)]
    fn to_raw(&self, sums: &[f32], grad_raw: &mut [f32]) {
        let dim = self.dim;
        for (k, layer) in self.layers.iter().enumerate() {
            let (u, rest) = self.raw[k * (2 * dim + 1)..].split_at(dim);
            let w = &rest[..dim];
            let of_layer = &sums[k * (2 * dim + 2)..][..2 * dim + 2];
            let (of_u_hat, rest) = of_layer.split_at(dim);
            let (of_w, of_scalars) = rest.split_at(dim);
            let (of_b, of_p) = (of_scalars[0], of_scalars[1]);

            let of_c = dot_product(w, of_u_hat);
            let [slope_in_x, slope_in_s] = layer.slopes_of_along_w;
            let of_x = slope_in_x * of_c + layer.slope_of_p * of_p;
            let twice_of_s = 2.0 * slope_in_s * of_c;

            let grad = &mut grad_raw[k * (2 * dim + 1)..][..2 * dim + 1];
            let (grad_u, rest) = grad.split_at_mut(dim);
            let (grad_w, grad_b) = rest.split_at_mut(dim);
            for d in 0..dim {
                grad_u[d] = of_u_hat[d] + w[d] * of_x;
                grad_w[d] = of_w[d] + layer.along_w * of_u_hat[d] + u[d] * of_x + w[d] * twice_of_s;
            }
            grad_b[0] = of_b;
        }
    }
}

impl Layer {
    /// tanh(w·z + b)
    #[inline(always)]
    pub fn tanh<const L: usize, const A: usize>(&self, w: &[f32], z: &[[f32; L]]) -> [f32; L] {
        let mut t = dot::<L, A>(w, z);
        for lane in 0..L {
            t[lane] = tanh(t[lane] + self.b);
        }
        t
    }

    /// det ∂f/∂z where tanh(w·z + b) is `t`.
    #[inline(always)]
    pub fn det(&self, t: f32) -> f32 {
        slope(self.one_plus_wu_hat, t)
    }

    /// Of each lane.
    #[inline(always)]
    pub fn dets<const L: usize>(&self, t: &[f32; L]) -> [f32; L] {
        let mut dets = [0.0; L];
        for lane in 0..L {
            dets[lane] = self.det(t[lane]);
        }
        dets
    }
}

/// `AT_ONCE` layers at most, from u, w and b of each; writes each one's û.
#[inline(always)]
fn prepare_some(
    raw: &[f32],
    u_hat: &mut [f32],
    dim: usize,
    constraint: PlanarConstraint,
    layers: &mut Vec<Layer>,
) {
    let (mut wu, mut squared_norm) = ([0.0; AT_ONCE], [1.0; AT_ONCE]);
    for (k, raw) in raw.chunks_exact(2 * dim + 1).enumerate() {
        let (u, w) = (&raw[..dim], &raw[dim..2 * dim]);
        wu[k] = dot_product(w, u);
        squared_norm[k] = dot_product(w, w);
    }

    let (mut one_plus_wu_hat, mut slope_of_p) = ([1.0; AT_ONCE], [0.0; AT_ONCE]);
    let [mut along_w, mut of_x, mut of_s] = [[0.0; AT_ONCE]; 3];
    for k in 0..AT_ONCE {
        let (x, s) = (wu[k], squared_norm[k]);
        let (one_plus_m, m_minus_identity, slope) = constraint.at(x);
        // NaN is not below: it goes on.
        let is_zero = s < SMALLEST_SQUARED_NORM as f32;
        let is_limited = x < LOWEST_WU as f32;
        one_plus_wu_hat[k] = if is_zero { 1.0 } else { one_plus_m };
        slope_of_p[k] = if is_zero || is_limited { 0.0 } else { slope };
        let c = m_minus_identity / s;
        along_w[k] = if is_zero { 0.0 } else { c };
        of_x[k] = if is_zero { 0.0 } else { (slope - 1.0) / s };
        of_s[k] = if is_zero { 0.0 } else { -c / s };
    }

    let vectors = zip(raw.chunks_exact(2 * dim + 1), u_hat.chunks_exact_mut(dim));
    for (k, (raw, u_hat)) in vectors.enumerate() {
        let (u, w) = (&raw[..dim], &raw[dim..2 * dim]);
        for ((u_hat, u), w) in zip(zip(u_hat, u), w) {
            *u_hat = u + w * along_w[k];
        }
        layers.push(Layer {
            b: raw[2 * dim],
            one_plus_wu_hat: one_plus_wu_hat[k],
            along_w: along_w[k],
            slopes_of_along_w: [of_x[k], of_s[k]],
            slope_of_p: slope_of_p[k],
        });
    }
}

vectorized! {
    /// The layers of one owner from their parameters `[layers, 2 dim + 1]`; writes each layer's û.
    fn prepare(
        raw: &[f32],
        u_hat: &mut [f32],
        dim: usize,
        constraint: PlanarConstraint,
    ) -> Vec<Layer> {
        let mut layers = Vec::with_capacity(u_hat.len() / dim);
        let some = raw.chunks(AT_ONCE * (2 * dim + 1));
        for (raw, u_hat) in zip(some, u_hat.chunks_mut(AT_ONCE * dim)) {
            prepare_some(raw, u_hat, dim, constraint, &mut layers);
        }
        layers
    }
}
