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

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

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

macro_rules! on_the_host {
    ($backend:ty) => {
        impl PlanarOps for $backend {
            fn planar(
                raw: FloatTensor<Self>,
                z: FloatTensor<Self>,
                constraint: PlanarConstraint,
            ) -> FloatTensor<Self> {
                forward::<Self>(raw, z, constraint)
            }
        }

        impl PlanarBackwardOps for $backend {
            fn planar_backward(
                raw: FloatTensor<Self>,
                z: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                constraint: PlanarConstraint,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                backward::<Self>(raw, z, grad, constraint)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

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
            forward_chunk(&stack, &z, chunk)
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
            let (grad_z, parts): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (first..first + sizes.chunks())
                .into_par_iter()
                .map(|task| backward_chunk(&stack, &z, &grad, sizes.chunk(task)))
                .unzip();
            let mut parts = parts.into_iter();
            let mut of_parameters = parts.next().expect("an owner has rows");
            for part in parts {
                zip(&mut of_parameters, part).for_each(|(sum, part)| *sum += part);
            }
            to_raw(&stack, &of_parameters, grad_raw);
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
///
/// So many that the compiler leaves the loops over them loops, and makes those vectors: it would unroll shorter ones and
/// then gather numbers along the dimensions.
const LANES: usize = 64;

/// Fewer rows than this go singly.
const FEW: usize = 8;

/// The layers of one owner.
struct Stack<'a> {
    dim: usize,
    constraint: PlanarConstraint,
    /// `[layers, 2 dim + 1]`
    raw: &'a [f32],
    /// `[layers, dim]`
    u_hat: Vec<f32>,
    layers: Vec<Layer>,
}

/// What a layer's parameters come to.
struct Layer {
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

/// Rows of a chunk that go through the layers side by side: `first`, and every `stride`-th after it.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    stride: usize,
    count: usize,
}

impl Chunk {
    /// The block that starts at row `start` of the chunk, as wide as the lanes if enough is left to fill some.
    #[inline(always)]
    fn block(&self, start: usize) -> Block {
        let left = self.len - start;
        Block {
            first: self.row(start),
            stride: self.owners,
            count: if left < FEW { 1 } else { left.min(LANES) },
        }
    }
}

impl<'a> Stack<'a> {
    fn new(raw: &'a [f32], sizes: Sizes, owner: usize, constraint: PlanarConstraint) -> Self {
        let Sizes { layers, dim, .. } = sizes;
        let numbers = layers * (2 * dim + 1);
        let raw = &raw[owner * numbers..][..numbers];
        let mut u_hat = vec![0.0; layers * dim];
        Self {
            layers: prepare(raw, &mut u_hat, dim, constraint),
            dim,
            constraint,
            raw,
            u_hat,
        }
    }

    /// û and w of layer `k`.
    #[inline(always)]
    fn vectors(&self, k: usize) -> (&[f32], &[f32]) {
        let dim = self.dim;
        let u_hat = &self.u_hat[k * dim..][..dim];
        (u_hat, &self.raw[k * (2 * dim + 1) + dim..][..dim])
    }

    /// A block in `L` lanes, with sums kept in `A` parts.
    #[inline(always)]
    fn forward_block<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut z = gather::<L>(z, self.dim, self.dim, block);
        let mut log_det = [0.0; L];
        for (k, layer) in self.layers.iter().enumerate() {
            let (u_hat, w) = self.vectors(k);
            let t = layer.tanh::<L, A>(w, &z);
            add_outer(&mut z, u_hat, &t);
            for lane in 0..L {
                log_det[lane] += ln(layer.det(t[lane]));
            }
        }
        for lane in 0..block.count {
            scatter(&z, lane, packed);
            packed.push(log_det[lane]);
        }
    }

    #[inline(always)]
    fn backward_block<const L: usize, const A: usize>(
        &self,
        z: &[f32],
        grad: &[f32],
        block: Block,
        (of_z, of_layers): (&mut Vec<f32>, &mut [f32]),
    ) {
        let dim = self.dim;

        // Forward again, keeping what each layer saw.
        let mut z = gather::<L>(z, dim, dim, block);
        let mut before = Vec::with_capacity(self.layers.len() * dim);
        let mut tanhs = Vec::with_capacity(self.layers.len());
        for (k, layer) in self.layers.iter().enumerate() {
            let (u_hat, w) = self.vectors(k);
            before.extend_from_slice(&z);
            let t = layer.tanh::<L, A>(w, &z);
            add_outer(&mut z, u_hat, &t);
            tanhs.push(t);
        }

        let mut g = gather::<L>(grad, dim + 1, dim, block);
        let h = gather::<L>(&grad[dim..], dim + 1, 1, block)[0];
        for k in (0..self.layers.len()).rev() {
            let (layer, t) = (&self.layers[k], &tanhs[k]);
            let (u_hat, w) = self.vectors(k);
            let sums = &mut of_layers[k * (2 * dim + 2)..][..2 * dim + 2];
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
            add_inner(of_u_hat, &g, t);
            add_inner(of_w, &before[k * dim..][..dim], &of_a);
            add_outer(&mut g, w, &of_a);
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_z);
        }
    }
}

impl Layer {
    /// From the parameters u, w, b of a layer; writes û.
    #[inline(always)]
    fn new(raw: &[f32], u_hat: &mut [f32], constraint: PlanarConstraint) -> Self {
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
            b,
            wu,
            squared_norm: if is_zero { None } else { Some(squared_norm) },
            along_w,
            one_plus_wu_hat: if is_zero { 1.0 } else { one_plus_m },
        }
    }

    /// tanh(w·z + b)
    #[inline(always)]
    fn tanh<const L: usize, const A: usize>(&self, w: &[f32], z: &[[f32; L]]) -> [f32; L] {
        let mut t = dot::<L, A>(w, z);
        for lane in 0..L {
            t[lane] = tanh(t[lane] + self.b);
        }
        t
    }

    /// det ∂f/∂z where tanh(w·z + b) is `t`.
    #[inline(always)]
    fn det(&self, t: f32) -> f32 {
        t * t + self.one_plus_wu_hat * (1.0 - t * t)
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
        for (raw, u_hat) in zip(raw.chunks_exact(2 * dim + 1), u_hat.chunks_exact_mut(dim)) {
            layers.push(Layer::new(raw, u_hat, constraint));
        }
        layers
    }

    /// The packed rows `[z_K | log_det]` of a chunk.
    fn forward_chunk(stack: &Stack<'_>, z: &[f32], chunk: Chunk) -> Vec<f32> {
        let mut packed = Vec::with_capacity(chunk.len * (stack.dim + 1));
        let mut start = 0;
        while start < chunk.len {
            let block = chunk.block(start);
            match block.count {
                1 => stack.forward_block::<1, 8>(z, block, &mut packed),
                _ => stack.forward_block::<LANES, 1>(z, block, &mut packed),
            }
            start += block.count;
        }
        packed
    }

    /// The gradient of the rows of a chunk, `[rows, dim]`, and its share of that of each layer's û, w, b and p,
    /// `[layers, 2 dim + 2]`.
    fn backward_chunk(
        stack: &Stack<'_>,
        z: &[f32],
        grad: &[f32],
        chunk: Chunk,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut of_z = Vec::with_capacity(chunk.len * stack.dim);
        let mut of_layers = vec![0.0; stack.layers.len() * (2 * stack.dim + 2)];
        let mut start = 0;
        while start < chunk.len {
            let block = chunk.block(start);
            let out = (&mut of_z, &mut of_layers[..]);
            match block.count {
                1 => stack.backward_block::<1, 8>(z, grad, block, out),
                _ => stack.backward_block::<LANES, 1>(z, grad, block, out),
            }
            start += block.count;
        }
        (of_z, of_layers)
    }

    /// From the gradients of each layer's û, w, b and p, `[layers, 2 dim + 2]`, to those of u, w and b,
    /// `[layers, 2 dim + 1]`.
    fn to_raw(stack: &Stack<'_>, of_layers: &[f32], grad_raw: &mut [f32]) {
        let dim = stack.dim;
        for (k, layer) in stack.layers.iter().enumerate() {
            let (u, rest) = stack.raw[k * (2 * dim + 1)..].split_at(dim);
            let w = &rest[..dim];
            let of_layer = &of_layers[k * (2 * dim + 2)..][..2 * dim + 2];
            let (of_u_hat, rest) = of_layer.split_at(dim);
            let (of_w, of_scalars) = rest.split_at(dim);
            let (of_b, of_p) = (of_scalars[0], of_scalars[1]);

            let (mut of_x, mut twice_of_s) = (0.0, 0.0);
            if let Some(s) = layer.squared_norm {
                let (_, _, slope) = stack.constraint.at(layer.wu);
                let of_c = dot_product(w, of_u_hat);
                of_x = (slope - 1.0) / s * of_c;
                if layer.wu >= LOWEST_WU as f32 {
                    of_x += slope * of_p;
                }
                twice_of_s = -2.0 * layer.along_w / s * of_c;
            }

            let grad = &mut grad_raw[k * (2 * dim + 1)..][..2 * dim + 1];
            let (grad_u, rest) = grad.split_at_mut(dim);
            let (grad_w, grad_b) = rest.split_at_mut(dim);
            for d in 0..dim {
                grad_u[d] = of_u_hat[d] + w[d] * of_x;
                grad_w[d] = of_w[d]
                    + layer.along_w * of_u_hat[d]
                    + u[d] * of_x
                    + w[d] * twice_of_s;
            }
            grad_b[0] = of_b;
        }
    }
}

/// `dim` numbers of each row of a block, one row a lane; the lanes left over are 0.
#[inline(always)]
fn gather<const L: usize>(from: &[f32], width: usize, dim: usize, block: Block) -> Vec<[f32; L]> {
    let mut lanes = vec![[0.0; L]; dim];
    for i in 0..block.count {
        let row = block.first + i * block.stride;
        for (lanes, &value) in zip(&mut lanes, &from[row * width..][..dim]) {
            lanes[i] = value;
        }
    }
    lanes
}

/// Appends what stands in one lane.
#[inline(always)]
fn scatter<const L: usize>(lanes: &[[f32; L]], lane: usize, to: &mut Vec<f32>) {
    let start = to.len();
    to.resize(start + lanes.len(), 0.0);
    for (to, lanes) in zip(&mut to[start..], lanes) {
        *to = lanes[lane];
    }
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
    // Apart: an index that only the run knows would keep the parts in memory.
    let mut rest = [0.0; L];
    for (w, z) in zip(w_rest, z_rest) {
        for lane in 0..L {
            rest[lane] += w * z[lane];
        }
    }
    let mut half = A / 2;
    while half > 0 {
        for a in 0..half {
            for lane in 0..L {
                parts[a][lane] += parts[a + half][lane];
            }
        }
        half /= 2;
    }
    for lane in 0..L {
        rest[lane] += parts[0][lane];
    }
    rest
}

#[inline(always)]
fn dot_product(a: &[f32], b: &[f32]) -> f32 {
    let [sum] = dot::<1, 8>(a, b.as_chunks().0);
    sum
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

/// Adds Σ over lanes of z_d t to each sum.
#[inline(always)]
fn add_inner<const L: usize>(sums: &mut [f32], z: &[[f32; L]], t: &[f32; L]) {
    for (total, z) in zip(sums, z) {
        let mut terms = [0.0; L];
        for lane in 0..L {
            terms[lane] = z[lane] * t[lane];
        }
        *total += sum(terms);
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
