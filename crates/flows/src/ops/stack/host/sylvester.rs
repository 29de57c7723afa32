//! Sylvester layers.
//!
//! With v = Qᵀ z, p = R̃ v + b, t = tanh p and c = R t a layer is y = z + Q c, and of its log-determinant's terms
//! det_i = t_i² + P_i (1 - t_i²), with P_i = 1 + r_ii r̃_ii. Either direction hands back what the loss changes by Q (`basis`), R,
//! R̃, b and P. Here r_ii = tanh x, r̃_ii = tanh x̃ take the diagonals to x and x̃ of their own:
//!
//! ```text
//! ∂L/∂x = (∂L/∂r_ii + r̃_ii ∂L/∂P_i) (1 - r_ii²)
//! ```
//!
//! and so for x̃, where 1 - tanh² x = 4 e / (1 + e)², e = e^(-2|x|), keeps its digits.

mod basis;
mod forward;
mod inverse;

use burn_host::{
    math::{exp, tanh},
    vectorized,
};

use self::basis::Basis;
use super::{OfOwner, lanes::Block};
use crate::{
    SylvesterBasis,
    family::sylvester::{LEAST_ONE_PLUS_S, Sylvester as Family},
    map::Direction,
    root::lanes::slope,
};

/// The layers of one owner.
pub struct Sylvester<'a> {
    dim: usize,
    /// M
    width: usize,
    /// Of a layer.
    numbers: usize,
    /// `[layers, numbers]`
    raw: &'a [f32],
    basis: Basis,
    /// R, `[layers, M, M]`
    r: Vec<f32>,
    /// R̃, `[layers, M, M]`
    r_tilde: Vec<f32>,
    /// P, `[layers, M]`
    one_plus_s: Vec<f32>,
}

/// The numbers of one layer.
struct Layer<'a> {
    r: &'a [f32],
    r_tilde: &'a [f32],
    b: &'a [f32],
    one_plus_s: &'a [f32],
}

/// Where the gradients of one layer stand.
struct Sums<'a> {
    of_vectors: &'a mut [f32],
    of_r: &'a mut [f32],
    of_r_tilde: &'a mut [f32],
    of_b: &'a mut [f32],
    of_one_plus_s: &'a mut [f32],
}

impl<'a> Sylvester<'a> {
    /// From `raw: [layers, numbers]`.
    pub fn new(raw: &'a [f32], dim: usize, kind: SylvesterBasis) -> Self {
        let (numbers, width) = (Family::parameters_per_layer(kind, dim), kind.width(dim));
        let layers = raw.len() / numbers;
        let basis = Basis::new(raw, numbers, dim, kind);
        let mut r = vec![0.0; layers * width * width];
        let mut r_tilde = r.clone();
        let mut one_plus_s = vec![0.0; layers * width];
        let matrices = r
            .chunks_exact_mut(width * width)
            .zip(r_tilde.chunks_exact_mut(width * width));
        let layers = raw
            .chunks_exact(numbers)
            .zip(matrices)
            .zip(one_plus_s.chunks_exact_mut(width));
        for (k, ((raw, (r, r_tilde)), one_plus_s)) in layers.enumerate() {
            make(&raw[basis.numbers()..], r, r_tilde, one_plus_s);
            for i in (0..width).filter(|&i| basis.is_none(k, i)) {
                // Nothing moves along it.
                r[i * width..(i + 1) * width].fill(0.0);
                one_plus_s[i] = 1.0;
            }
        }
        Self {
            dim,
            width,
            numbers,
            raw,
            basis,
            r,
            r_tilde,
            one_plus_s,
        }
    }

    #[inline(always)]
    fn layers(&self) -> usize {
        self.raw.len() / self.numbers
    }

    #[inline(always)]
    fn layer(&self, k: usize) -> Layer<'_> {
        let m = self.width;
        Layer {
            r: &self.r[k * m * m..][..m * m],
            r_tilde: &self.r_tilde[k * m * m..][..m * m],
            b: &self.raw[(k + 1) * self.numbers - m..][..m],
            one_plus_s: &self.one_plus_s[k * m..][..m],
        }
    }

    /// How many numbers the gradients of a layer are summed in.
    #[inline(always)]
    fn sums_of_layer(&self) -> usize {
        self.basis.numbers() + 2 * self.width * self.width + 2 * self.width
    }

    #[inline(always)]
    fn sums_at<'b>(&self, sums: &'b mut [f32], k: usize) -> Sums<'b> {
        let m = self.width;
        let layer = &mut sums[k * self.sums_of_layer()..][..self.sums_of_layer()];
        let (of_vectors, rest) = layer.split_at_mut(self.basis.numbers());
        let (of_r, rest) = rest.split_at_mut(m * m);
        let (of_r_tilde, rest) = rest.split_at_mut(m * m);
        let (of_b, of_one_plus_s) = rest.split_at_mut(m);
        Sums {
            of_vectors,
            of_r,
            of_r_tilde,
            of_b,
            of_one_plus_s,
        }
    }
}

impl Layer<'_> {
    /// det_i where tanh p_i is `t`.
    #[inline(always)]
    fn det(&self, i: usize, t: f32) -> f32 {
        slope(self.one_plus_s[i], t)
    }
}

/// `upper` times `x`, of an upper triangular matrix `[M, M]`.
#[inline(always)]
fn times<const L: usize>(upper: &[f32], x: &[[f32; L]]) -> Vec<[f32; L]> {
    let m = x.len();
    let mut y = vec![[0.0; L]; m];
    for i in 0..m {
        for j in i..m {
            for lane in 0..L {
                y[i][lane] += upper[i * m + j] * x[j][lane];
            }
        }
    }
    y
}

/// Its transpose times `x`.
#[inline(always)]
fn transposed_times<const L: usize>(upper: &[f32], x: &[[f32; L]]) -> Vec<[f32; L]> {
    let m = x.len();
    let mut y = vec![[0.0; L]; m];
    for i in 0..m {
        for j in i..m {
            for lane in 0..L {
                y[j][lane] += upper[i * m + j] * x[i][lane];
            }
        }
    }
    y
}

/// Adds Σ over lanes of x_i y_j to the upper triangle of sums.
#[inline(always)]
fn add_upper<const L: usize>(sums: &mut [f32], x: &[[f32; L]], y: &[[f32; L]]) {
    let m = x.len();
    for i in 0..m {
        super::lanes::add_inner(&mut sums[i * m + i..(i + 1) * m], &y[i..], &x[i]);
    }
}

/// 1 - tanh² x
#[inline(always)]
fn slope_of_tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// 1 + tanh x tanh y, without cancellation.
#[inline(always)]
fn one_plus_tanh_tanh(x: f32, y: f32) -> f32 {
    let one_plus_exp = |x: f32| 1.0 + exp(-2.0 * x.abs());
    2.0 * exp((x + y).abs() - x.abs() - y.abs()) * one_plus_exp(x + y)
        / (one_plus_exp(x) * one_plus_exp(y))
}

vectorized! {
    /// R, R̃ and P of a layer from what follows its vectors.
    fn make(raw: &[f32], r: &mut [f32], r_tilde: &mut [f32], one_plus_s: &mut [f32]) {
        let m = one_plus_s.len();
        for i in 0..m {
            let (x, y) = (raw[i * m + i], raw[m * m + i]);
            for j in i + 1..m {
                r[i * m + j] = raw[i * m + j];
                r_tilde[i * m + j] = raw[j * m + i];
            }
            r[i * m + i] = tanh(x);
            r_tilde[i * m + i] = tanh(y);
            let p = one_plus_tanh_tanh(x, y);
            // NaN is not below: it goes on.
            let is_least = p < LEAST_ONE_PLUS_S as f32;
            one_plus_s[i] = if is_least { LEAST_ONE_PLUS_S as f32 } else { p };
        }
    }
}

impl OfOwner for Sylvester<'_> {
    #[inline(always)]
    fn sums(&self) -> usize {
        self.layers() * self.sums_of_layer()
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
        let m = self.width;
        let mut sums = sums.to_vec();
        for k in 0..self.layers() {
            let layer = self.layer(k);
            let sums = self.sums_at(&mut sums, k);
            let raw = &self.raw[k * self.numbers..][..self.numbers];
            let grad = &mut grad_raw[k * self.numbers..][..self.numbers];
            let vectors = self.basis.numbers();
            self.basis
                .to_raw(k, &raw[..vectors], sums.of_vectors, &mut grad[..vectors]);
            let (raw, grad) = (&raw[vectors..], &mut grad[vectors..]);
            for i in 0..m {
                let is_none = self.basis.is_none(k, i);
                for j in i + 1..m {
                    grad[i * m + j] = if is_none { 0.0 } else { sums.of_r[i * m + j] };
                    grad[j * m + i] = sums.of_r_tilde[i * m + j];
                }
                let at = i * m + i;
                let (x, y) = (raw[at], raw[m * m + i]);
                let is_limited = one_plus_tanh_tanh(x, y) < LEAST_ONE_PLUS_S as f32;
                let of_p = if is_limited {
                    0.0
                } else {
                    sums.of_one_plus_s[i]
                };
                grad[at] = match is_none {
                    true => 0.0,
                    false => (sums.of_r[at] + layer.r_tilde[at] * of_p) * slope_of_tanh(x),
                };
                grad[m * m + i] = (sums.of_r_tilde[at] + layer.r[at] * of_p) * slope_of_tanh(y);
                grad[m * m + m + i] = sums.of_b[i];
            }
        }
    }
}
