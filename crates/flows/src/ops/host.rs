//! The planar stack on slices, for the CPU backends.
//!
//! The rows of one owner go through all layers together, [`LANES`] at a time in the lanes of a vector, or singly
//! where there are but a few; what a layer needs of z stays in the cache. Owners and chunks of rows are spread over
//! the threads in pieces that depend on the shapes alone, so that the sums do not depend on the number of threads.
//!
//! With g = ∂L/∂z' and h = ∂L/∂log_det, p = 1 + w·û and det = t² + p (1 - t²), one layer hands back
//!
//! ```text
//! ∂L/∂t = g·û + 2 t (1 - p) h / det        ∂L/∂û = Σ g t
//! ∂L/∂a = ∂L/∂t (1 - t²)                   ∂L/∂p = Σ (1 - t²) h / det
//! ∂L/∂z = g + w ∂L/∂a                      ∂L/∂w = Σ z ∂L/∂a,   ∂L/∂b = Σ ∂L/∂a
//! ```
//!
//! (sums over the rows), and û = u + c w with x = w·u, s = ‖w‖² and c = (m(x) - x) / s takes them to u and w:
//!
//! ```text
//! ∂L/∂c = w·∂L/∂û        ∂L/∂x = (m'(x) - 1) / s ∂L/∂c + m'(x) ∂L/∂p        ∂L/∂s = -c / s ∂L/∂c
//! ∂L/∂u = ∂L/∂û + w ∂L/∂x        ∂L/∂w += c ∂L/∂û + u ∂L/∂x + 2 w ∂L/∂s
//! ```

use std::iter::zip;

use burn::backend::tensor::FloatTensor;
use burn_host::{
    Host,
    math::{exp, ln, ln_1p, sigmoid, softplus, tanh},
    vectorized,
};
use rayon::prelude::*;

use super::{PlanarBackwardOps, PlanarOps, Sizes};
use crate::{
    PlanarConstraint,
    planar::{LN_E_MINUS_1, LOWEST_WU, SMALLEST_SQUARED_NORM},
};

#[cfg(feature = "flex")]
impl PlanarOps for burn::backend::Flex {
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self> {
        forward::<Self>(raw, z, constraint)
    }
}

#[cfg(feature = "flex")]
impl PlanarBackwardOps for burn::backend::Flex {
    fn planar_backward(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        backward::<Self>(raw, z, grad, constraint)
    }
}

#[cfg(feature = "ndarray")]
impl PlanarOps for burn::backend::NdArray {
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self> {
        forward::<Self>(raw, z, constraint)
    }
}

#[cfg(feature = "ndarray")]
impl PlanarBackwardOps for burn::backend::NdArray {
    fn planar_backward(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        backward::<Self>(raw, z, grad, constraint)
    }
}

fn forward<B: Host>(
    raw: FloatTensor<B>,
    z: FloatTensor<B>,
    constraint: PlanarConstraint,
) -> FloatTensor<B> {
    let sizes = Sizes::of(&raw, &z);
    let (raw, z) = (B::elements(&raw), B::elements(&z));
    let width = sizes.dim + 1;

    let packed: Vec<Vec<f32>> = (0..sizes.owners * sizes.chunks())
        .into_par_iter()
        .map(|task| {
            let chunk = sizes.chunk(task);
            let stack = Stack::new(&raw, sizes, chunk.owner, constraint);
            vectorized(|| stack.forward(&z, &chunk))
        })
        .collect();

    let mut out = vec![0.0; sizes.rows * width];
    for (task, packed) in packed.iter().enumerate() {
        sizes.chunk(task).scatter(packed, width, &mut out);
    }
    B::from_elements(out, [sizes.rows, width])
}

fn backward<B: Host>(
    raw: FloatTensor<B>,
    z: FloatTensor<B>,
    grad: FloatTensor<B>,
    constraint: PlanarConstraint,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of(&raw, &z);
    let (raw, z, grad) = (B::elements(&raw), B::elements(&z), B::elements(&grad));
    let parameters = 2 * sizes.dim + 1;

    let mut grad_raw = vec![0.0; sizes.owners * sizes.layers * parameters];
    let grad_z: Vec<Vec<Vec<f32>>> = grad_raw
        .par_chunks_mut(sizes.layers * parameters)
        .enumerate()
        .map(|(owner, grad_raw)| {
            let stack = Stack::new(&raw, sizes, owner, constraint);
            let first = owner * sizes.chunks();
            let parts: Vec<(Vec<f32>, Vec<f32>)> = (first..first + sizes.chunks())
                .into_par_iter()
                .map(|task| vectorized(|| stack.backward(&z, &grad, &sizes.chunk(task))))
                .collect();
            let (mut grad_z, mut of_parameters) =
                (Vec::new(), vec![0.0; sizes.layers * (parameters + 1)]);
            for (part_of_z, part) in parts {
                zip(&mut of_parameters, part).for_each(|(sum, part)| *sum += part);
                grad_z.push(part_of_z);
            }
            vectorized(|| stack.to_raw(&of_parameters, grad_raw));
            grad_z
        })
        .collect();

    let mut out = vec![0.0; sizes.rows * sizes.dim];
    for (task, grad_z) in grad_z.iter().flatten().enumerate() {
        sizes.chunk(task).scatter(grad_z, sizes.dim, &mut out);
    }
    (
        B::from_elements(grad_raw, [sizes.owners, sizes.layers, parameters]),
        B::from_elements(out, [sizes.rows, sizes.dim]),
    )
}

/// Rows that a thread takes at a time.
const CHUNK: usize = 64;

/// Some of the rows of one owner: `first..first + len` of its n.
struct Chunk {
    owner: usize,
    first: usize,
    len: usize,
    owners: usize,
}

impl Sizes {
    /// Chunks an owner.
    fn chunks(&self) -> usize {
        (self.rows / self.owners).div_ceil(CHUNK)
    }

    fn chunk(&self, task: usize) -> Chunk {
        let n = self.rows / self.owners;
        let first = task % self.chunks() * CHUNK;
        Chunk {
            owner: task / self.chunks(),
            first,
            len: CHUNK.min(n - first),
            owners: self.owners,
        }
    }
}

impl Chunk {
    /// The place of row i of the chunk among all rows, which are sample-major.
    #[inline(always)]
    fn row(&self, i: usize) -> usize {
        (self.first + i) * self.owners + self.owner
    }

    /// Copies the chunk's rows of `width` numbers to their places in `out`.
    fn scatter(&self, rows: &[f32], width: usize, out: &mut [f32]) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            let start = self.row(i) * width;
            out[start..start + width].copy_from_slice(row);
        }
    }
}

/// Rows that share a vector's lanes.
const LANES: usize = 16;

/// Fewer rows than this go singly.
const FEW: usize = 4;

/// The layers of one owner.
struct Stack<'a> {
    dim: usize,
    constraint: PlanarConstraint,
    layers: Vec<Layer<'a>>,
    /// `[layers, dim]`
    u_hat: Vec<f32>,
}

struct Layer<'a> {
    u: &'a [f32],
    w: &'a [f32],
    b: f32,
    /// x = w·u
    wu: f32,
    /// ‖w‖², or none where w counts as 0
    squared_norm: Option<f32>,
    /// c, with û = u + c w
    along_w: f32,
    /// p = 1 + w·û
    one_plus_wu_hat: f32,
}

impl PlanarConstraint {
    /// 1 + m(x), m(x) - x and m'(x).
    fn at(self, x: f32) -> (f32, f32, f32) {
        let limited = x.max(LOWEST_WU as f32);
        match self {
            Self::Paper => (softplus(limited), softplus(-x) - 1.0, sigmoid(x)),
            Self::Identity => {
                let offset = LN_E_MINUS_1 as f32;
                // As the tensor version: ln(1 + (e^-x - 1) / e), and -1 - x below -30.
                let near = x.max(-30.0);
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

impl<'a> Stack<'a> {
    fn new(raw: &'a [f32], sizes: Sizes, owner: usize, constraint: PlanarConstraint) -> Self {
        let Sizes { layers, dim, .. } = sizes;
        let parameters = 2 * dim + 1;
        let raw = &raw[owner * layers * parameters..][..layers * parameters];
        let mut u_hat = vec![0.0; layers * dim];
        let layers = vectorized(|| {
            zip(raw.chunks_exact(parameters), u_hat.chunks_exact_mut(dim))
                .map(|(raw, u_hat)| Layer::new(raw, u_hat, constraint))
                .collect()
        });
        Self {
            dim,
            constraint,
            layers,
            u_hat,
        }
    }

    /// The packed rows `[z_K | log_det]` of a chunk.
    #[inline(always)]
    fn forward(&self, z: &[f32], chunk: &Chunk) -> Vec<f32> {
        let mut packed = Vec::with_capacity(chunk.len * (self.dim + 1));
        let mut start = 0;
        while start < chunk.len {
            let left = chunk.len - start;
            start += if left < FEW {
                self.forward_block::<1, 16>(z, chunk, start, 1, &mut packed)
            } else {
                self.forward_block::<LANES, 2>(z, chunk, start, left.min(LANES), &mut packed)
            };
        }
        packed
    }

    /// `count` rows of a chunk in `L` lanes, with sums kept in `A` parts; returns `count`.
    #[inline(always)]
    fn forward_block<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        chunk: &Chunk,
        start: usize,
        count: usize,
        packed: &mut Vec<f32>,
    ) -> usize {
        let mut z = gather::<L>(z, self.dim, self.dim, |i| chunk.row(start + i), count);
        let mut log_det = [0.0; L];
        for (layer, u_hat) in zip(&self.layers, self.u_hat.chunks_exact(self.dim)) {
            let t = layer.tanh::<L, A>(&z);
            add_outer(&mut z, u_hat, &t);
            for (log_det, t) in zip(&mut log_det, t) {
                *log_det += ln(layer.det(t));
            }
        }
        for lane in 0..count {
            packed.extend(z.iter().map(|z| z[lane]));
            packed.push(log_det[lane]);
        }
        count
    }

    /// The gradient of the rows of a chunk, `[rows, dim]`, and its share of that of each layer's û, w, b and p,
    /// `[layers, 2 dim + 2]`.
    #[inline(always)]
    fn backward(&self, z: &[f32], grad: &[f32], chunk: &Chunk) -> (Vec<f32>, Vec<f32>) {
        let mut grad_z = Vec::with_capacity(chunk.len * self.dim);
        let mut of_layers = vec![0.0; self.layers.len() * (2 * self.dim + 2)];
        let (of_z, of_layers_) = (&mut grad_z, &mut of_layers);
        let mut start = 0;
        while start < chunk.len {
            let left = chunk.len - start;
            start += if left < FEW {
                self.backward_block::<1, 16>(z, grad, chunk, start, 1, of_z, of_layers_)
            } else {
                let count = left.min(LANES);
                self.backward_block::<LANES, 2>(z, grad, chunk, start, count, of_z, of_layers_)
            };
        }
        (grad_z, of_layers)
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn backward_block<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        grad: &[f32],
        chunk: &Chunk,
        start: usize,
        count: usize,
        grad_z: &mut Vec<f32>,
        of_layers: &mut [f32],
    ) -> usize {
        let dim = self.dim;
        let row = |i| chunk.row(start + i);

        // Forward again, keeping what each layer saw.
        let mut z = gather::<L>(z, dim, dim, row, count);
        let mut before = Vec::with_capacity(self.layers.len() * dim);
        let mut tanhs = Vec::with_capacity(self.layers.len());
        for (layer, u_hat) in zip(&self.layers, self.u_hat.chunks_exact(dim)) {
            before.extend_from_slice(&z);
            let t = layer.tanh::<L, A>(&z);
            add_outer(&mut z, u_hat, &t);
            tanhs.push(t);
        }

        let mut g = gather::<L>(grad, dim + 1, dim, row, count);
        let mut h = [0.0; L];
        for (i, h) in h.iter_mut().take(count).enumerate() {
            *h = grad[row(i) * (dim + 1) + dim];
        }
        let layers = zip(&self.layers, self.u_hat.chunks_exact(dim));
        let seen = zip(before.chunks_exact(dim), &tanhs);
        let sums = of_layers.chunks_exact_mut(2 * dim + 2);
        for (((layer, u_hat), (z, t)), sums) in zip(zip(layers, seen), sums).rev() {
            let (of_u_hat, sums) = sums.split_at_mut(dim);
            let (of_w, of_scalars) = sums.split_at_mut(dim);

            let mut of_a = dot::<L, A>(u_hat, &g);
            let mut of_p = [0.0; L];
            for lane in 0..L {
                let t = t[lane];
                let slope = 1.0 - t * t;
                let h = h[lane] / layer.det(t);
                of_p[lane] = slope * h;
                of_a[lane] = (of_a[lane] + 2.0 * t * (1.0 - layer.one_plus_wu_hat) * h) * slope;
            }
            of_scalars[0] += sum(of_a);
            of_scalars[1] += sum(of_p);
            for (((of_u_hat, of_w), (g, z)), &w) in
                zip(zip(zip(of_u_hat, of_w), zip(&mut g, z)), layer.w)
            {
                *of_u_hat += sum(std::array::from_fn::<f32, L, _>(|lane| g[lane] * t[lane]));
                *of_w += sum(std::array::from_fn::<f32, L, _>(|lane| {
                    z[lane] * of_a[lane]
                }));
                for lane in 0..L {
                    g[lane] += w * of_a[lane];
                }
            }
        }
        for lane in 0..count {
            grad_z.extend(g.iter().map(|g| g[lane]));
        }
        count
    }

    /// From the gradients of each layer's û, w, b and p, `[layers, 2 dim + 2]`, to those of u, w and b,
    /// `[layers, 2 dim + 1]`.
    #[inline(always)]
    fn to_raw(&self, of_layers: &[f32], grad_raw: &mut [f32]) {
        let dim = self.dim;
        let layers = zip(&self.layers, of_layers.chunks_exact(2 * dim + 2));
        for ((layer, of_layer), grad) in zip(layers, grad_raw.chunks_exact_mut(2 * dim + 1)) {
            let (of_u_hat, of_w, of_b, of_p) = (
                &of_layer[..dim],
                &of_layer[dim..2 * dim],
                of_layer[2 * dim],
                of_layer[2 * dim + 1],
            );
            let (of_x, twice_of_s) = match layer.squared_norm {
                None => (0.0, 0.0),
                Some(s) => {
                    let (_, _, slope) = self.constraint.at(layer.wu);
                    let of_c = dot_product(layer.w, of_u_hat);
                    let through_p = if layer.wu < LOWEST_WU as f32 {
                        0.0
                    } else {
                        slope * of_p
                    };
                    (
                        (slope - 1.0) / s * of_c + through_p,
                        -2.0 * layer.along_w / s * of_c,
                    )
                }
            };
            let (grad_u, rest) = grad.split_at_mut(dim);
            let (grad_w, grad_b) = rest.split_at_mut(dim);
            for d in 0..dim {
                grad_u[d] = of_u_hat[d] + layer.w[d] * of_x;
                grad_w[d] = of_w[d]
                    + layer.along_w * of_u_hat[d]
                    + layer.u[d] * of_x
                    + layer.w[d] * twice_of_s;
            }
            grad_b[0] = of_b;
        }
    }
}

impl<'a> Layer<'a> {
    /// From the parameters u, w, b of a layer; writes û.
    #[inline(always)]
    fn new(raw: &'a [f32], u_hat: &mut [f32], constraint: PlanarConstraint) -> Self {
        let dim = u_hat.len();
        let (u, w, b) = (&raw[..dim], &raw[dim..2 * dim], raw[2 * dim]);
        let wu = dot_product(w, u);
        let squared_norm = dot_product(w, w);
        // NaN is not below: it goes on.
        let is_zero = squared_norm < SMALLEST_SQUARED_NORM as f32;
        let (one_plus_m, m_minus_identity, _) = constraint.at(wu);
        let along_w = if is_zero {
            0.0
        } else {
            m_minus_identity / squared_norm
        };
        for ((u_hat, u), w) in zip(zip(u_hat, u), w) {
            *u_hat = u + w * along_w;
        }
        Self {
            u,
            w,
            b,
            wu,
            squared_norm: (!is_zero).then_some(squared_norm),
            along_w,
            one_plus_wu_hat: if is_zero { 1.0 } else { one_plus_m },
        }
    }

    /// tanh(w·z + b)
    #[inline(always)]
    fn tanh<const L: usize, const A: usize>(&self, z: &[[f32; L]]) -> [f32; L] {
        dot::<L, A>(self.w, z).map(|wz| tanh(wz + self.b))
    }

    /// det ∂f/∂z where tanh(w·z + b) is `t`.
    #[inline(always)]
    fn det(&self, t: f32) -> f32 {
        t * t + self.one_plus_wu_hat * (1.0 - t * t)
    }
}

/// `dim` numbers of each of `count` rows, one row a lane; the lanes left over are 0.
#[inline(always)]
fn gather<const L: usize>(
    from: &[f32],
    width: usize,
    dim: usize,
    row: impl Fn(usize) -> usize,
    count: usize,
) -> Vec<[f32; L]> {
    let mut lanes = vec![[0.0; L]; dim];
    for i in 0..count {
        for (lanes, &value) in zip(&mut lanes, &from[row(i) * width..][..dim]) {
            lanes[i] = value;
        }
    }
    lanes
}

/// Σ_d w_d z_d in each lane, in `A` parts that do not wait for each other.
#[inline(always)]
fn dot<const L: usize, const A: usize>(w: &[f32], z: &[[f32; L]]) -> [f32; L] {
    let mut parts = [[0.0; L]; A];
    let (w, w_rest) = w.as_chunks::<A>();
    let (z, z_rest) = z.as_chunks::<A>();
    for (w, z) in zip(w, z) {
        for a in 0..A {
            for lane in 0..L {
                parts[a][lane] += w[a] * z[a][lane];
            }
        }
    }
    for (a, (w, z)) in zip(w_rest, z_rest).enumerate() {
        for lane in 0..L {
            parts[a][lane] += w * z[lane];
        }
    }
    std::array::from_fn(|lane| sum(std::array::from_fn::<f32, A, _>(|a| parts[a][lane])))
}

#[inline(always)]
fn dot_product(a: &[f32], b: &[f32]) -> f32 {
    let (b, b_rest) = b.as_chunks::<16>();
    let (a, a_rest) = a.as_chunks::<16>();
    let mut parts = [0.0; 16];
    for (a, b) in zip(a, b) {
        for i in 0..16 {
            parts[i] += a[i] * b[i];
        }
    }
    for (i, (a, b)) in zip(a_rest, b_rest).enumerate() {
        parts[i] += a * b;
    }
    sum(parts)
}

/// z += û t in each lane.
#[inline(always)]
fn add_outer<const L: usize>(z: &mut [[f32; L]], u_hat: &[f32], t: &[f32; L]) {
    for (z, u_hat) in zip(z, u_hat) {
        for lane in 0..L {
            z[lane] += u_hat * t[lane];
        }
    }
}

/// The sum by halves, for a power of two of terms.
#[inline(always)]
fn sum<const N: usize>(mut terms: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            terms[i] += terms[i + half];
        }
        half /= 2;
    }
    terms[0]
}
