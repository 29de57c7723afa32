//! Q of the layers of one owner, applied to blocks of rows, and back to what it is made of.
//!
//! **Orthonormal vectors.** With u_i = v_i - Σ_{j<i} a_j q_j, a_j = q_j·v_i, and q_i = u_i / ‖u_i‖, from the last to the first
//!
//! ```text
//! ∂L/∂u_i = (∂L/∂q_i - (q_i·∂L/∂q_i) q_i) / ‖u_i‖        b_j = q_j·∂L/∂u_i
//! ∂L/∂v_i = ∂L/∂u_i - Σ_{j<i} b_j q_j                   ∂L/∂q_j -= a_j ∂L/∂v_i + b_j u_i   for j < i
//! ```
//!
//! (all but the last ∂L/∂v_i times ‖u_i‖, which f32 may not have), where the last is a_j ∂L/∂u_i + b_j v_i less Σ_l (a_j b_l + b_j a_l) q_l, which is symmetric in j and l: vectors that stay
//! orthonormal don't move that way, and it is large where ‖u_i‖ is small.
//!
//! **Reflections** are turned back by themselves, so that what each saw is made again from what came out. x' = x - 2 n (n·x)
//! hands back ∂L/∂x, the reflected ∂L/∂x' = g, and
//!
//! ```text
//! ∂L/∂n = -2 [(n·g) x + (n·x) g]
//! ```

use burn_host::vectorized;

use super::super::lanes::{add_inner, add_outer, dot, dot_product};
use crate::{
    SylvesterBasis,
    family::{householder::TINY, sylvester::DEPENDENT},
};

/// Of all layers.
pub struct Basis {
    kind: SylvesterBasis,
    dim: usize,
    /// The vectors of one layer.
    count: usize,
    /// `[layers, count, dim]`: orthonormal, or the normals of reflections.
    vectors: Vec<f32>,
    /// `[layers, count]`
    lengths: Vec<Length>,
}

/// What a vector was divided by; f32 may have no number for the product.
#[derive(Clone, Copy)]
struct Length {
    /// A power of two, the vector's size.
    scale: f32,
    /// In that measure; 0 of what counts as 0, or points nowhere else than those before.
    length: f32,
}

impl Basis {
    /// From `raw: [layers, numbers]`, whose first ones are the vectors.
    pub fn new(raw: &[f32], numbers: usize, dim: usize, kind: SylvesterBasis) -> Self {
        let count = match kind {
            SylvesterBasis::Orthogonal(count) | SylvesterBasis::Householder(count) => count,
            SylvesterBasis::Triangular => 0,
        };
        let layers = raw.chunks_exact(numbers);
        let mut vectors = Vec::with_capacity(layers.len() * count * dim);
        let mut lengths = Vec::with_capacity(layers.len() * count);
        for layer in layers {
            let start = vectors.len();
            vectors.extend_from_slice(&layer[..count * dim]);
            make(&mut vectors[start..], &mut lengths, dim, kind);
        }
        Self {
            kind,
            dim,
            count,
            vectors,
            lengths,
        }
    }

    /// Whether vector `i` of layer `k` is one of several that should be orthonormal and points nowhere else than those before.
    pub fn is_none(&self, k: usize, i: usize) -> bool {
        matches!(self.kind, SylvesterBasis::Orthogonal(_))
            && self.lengths[k * self.count + i].length == 0.0
    }

    /// How many numbers the gradients of a layer's vectors take.
    pub fn numbers(&self) -> usize {
        self.count * self.dim
    }

    #[inline(always)]
    fn vectors(&self, k: usize) -> std::slice::ChunksExact<'_, f32> {
        self.vectors[k * self.numbers()..][..self.numbers()].chunks_exact(self.dim)
    }

    /// Qᵀ of points `[dim]`, `[M]`, in layer `k`.
    #[inline(always)]
    pub fn transposed<const L: usize, const A: usize>(
        &self,
        k: usize,
        z: &[[f32; L]],
    ) -> Vec<[f32; L]> {
        match self.kind {
            SylvesterBasis::Orthogonal(_) => self.vectors(k).map(|q| dot::<L, A>(q, z)).collect(),
            SylvesterBasis::Householder(_) => {
                let mut x = z.to_vec();
                for n in self.vectors(k) {
                    reflect::<L, A>(n, &mut x);
                }
                x
            }
            SylvesterBasis::Triangular => in_turn(k, z),
        }
    }

    /// Q of `[M]`, `[dim]`.
    #[inline(always)]
    pub fn apply<const L: usize, const A: usize>(&self, k: usize, c: &[[f32; L]]) -> Vec<[f32; L]> {
        match self.kind {
            SylvesterBasis::Orthogonal(_) => {
                let mut x = vec![[0.0; L]; self.dim];
                for (q, c) in self.vectors(k).zip(c) {
                    add_outer(&mut x, q, c);
                }
                x
            }
            SylvesterBasis::Householder(_) => {
                let mut x = c.to_vec();
                for n in self.vectors(k).rev() {
                    reflect::<L, A>(n, &mut x);
                }
                x
            }
            SylvesterBasis::Triangular => in_turn(k, c),
        }
    }

    /// Adds to the gradients of the vectors what they owe to v = Qᵀ z, where ∂L/∂v is `of_v` and `z` is what it was; hands
    /// back Q ∂L/∂v.
    #[inline(always)]
    pub fn transposed_gradients<const L: usize, const A: usize>(
        &self,
        k: usize,
        z: &[[f32; L]],
        of_v: &[[f32; L]],
        sums: &mut [f32],
    ) -> Vec<[f32; L]> {
        match self.kind {
            SylvesterBasis::Orthogonal(_) => {
                for (sums, of_v) in sums.chunks_exact_mut(self.dim).zip(of_v) {
                    add_inner(sums, z, of_v);
                }
                self.apply::<L, A>(k, of_v)
            }
            SylvesterBasis::Householder(_) => {
                let (mut x, mut g) = (self.transposed::<L, A>(k, z), of_v.to_vec());
                let sums = sums.chunks_exact_mut(self.dim);
                for (n, sums) in self.vectors(k).zip(sums).rev() {
                    reflect::<L, A>(n, &mut x);
                    of_normal::<L, A>(n, &x, &g, sums);
                    reflect::<L, A>(n, &mut g);
                }
                g
            }
            SylvesterBasis::Triangular => in_turn(k, of_v),
        }
    }

    /// The same of x = Q c, where ∂L/∂x is `g`; hands back ∂L/∂c.
    #[inline(always)]
    pub fn apply_gradients<const L: usize, const A: usize>(
        &self,
        k: usize,
        c: &[[f32; L]],
        g: &[[f32; L]],
        sums: &mut [f32],
    ) -> Vec<[f32; L]> {
        match self.kind {
            SylvesterBasis::Orthogonal(_) => {
                for (sums, c) in sums.chunks_exact_mut(self.dim).zip(c) {
                    add_inner(sums, g, c);
                }
                self.transposed::<L, A>(k, g)
            }
            SylvesterBasis::Householder(_) => {
                let (mut x, mut g) = (self.apply::<L, A>(k, c), g.to_vec());
                let sums = sums.chunks_exact_mut(self.dim);
                for (n, sums) in self.vectors(k).zip(sums) {
                    reflect::<L, A>(n, &mut x);
                    of_normal::<L, A>(n, &x, &g, sums);
                    reflect::<L, A>(n, &mut g);
                }
                g
            }
            SylvesterBasis::Triangular => in_turn(k, g),
        }
    }

    /// From the gradients of layer `k`'s vectors as they are used, which it uses up, to those of `raw` ones.
    #[inline(always)]
    pub fn to_raw(&self, k: usize, raw: &[f32], of_vectors: &mut [f32], grad_raw: &mut [f32]) {
        let dim = self.dim;
        let lengths = &self.lengths[k * self.count..][..self.count];
        let q = &self.vectors[k * self.numbers()..][..self.numbers()];
        for i in (0..self.count).rev() {
            let (before, rest) = of_vectors.split_at_mut(i * dim);
            let (v, q_i) = (&raw[i * dim..][..dim], &q[i * dim..][..dim]);
            let of_q_i = &rest[..dim];
            let Length { scale, length } = lengths[i];
            if length == 0.0 {
                // It counts as 0, and has no slope.
                continue;
            }
            let along = dot_product(q_i, of_q_i);
            // ∂L/∂u_i, and below ∂L/∂v_i, times ‖u_i‖.
            let of_v = &mut grad_raw[i * dim..][..dim];
            for d in 0..dim {
                of_v[d] = of_q_i[d] - along * q_i[d];
            }
            if let SylvesterBasis::Orthogonal(_) = self.kind {
                let vectors = || q[..i * dim].chunks_exact(dim);
                for (q_j, of_q_j) in vectors().zip(before.chunks_exact_mut(dim)) {
                    let b = dot_product(q_j, of_v);
                    for d in 0..dim {
                        of_v[d] -= b * q_j[d];
                        of_q_j[d] -= b * q_i[d];
                    }
                }
                let v: Vec<f32> = v.iter().map(|v| v / scale / length).collect();
                for (q_j, of_q_j) in vectors().zip(before.chunks_exact_mut(dim)) {
                    let a = dot_product(q_j, &v);
                    for d in 0..dim {
                        of_q_j[d] -= a * of_v[d];
                    }
                }
            }
            of_v.iter_mut().for_each(|x| *x = *x / length / scale);
        }
    }
}

/// As it is in one layer and turned round in the next.
#[inline(always)]
fn in_turn<const L: usize>(k: usize, z: &[[f32; L]]) -> Vec<[f32; L]> {
    let mut z = z.to_vec();
    if k % 2 == 1 {
        z.reverse();
    }
    z
}

#[inline(always)]
fn reflect<const L: usize, const A: usize>(n: &[f32], x: &mut [[f32; L]]) {
    let mut along = dot::<L, A>(n, x);
    for along in &mut along {
        *along *= -2.0;
    }
    add_outer(x, n, &along);
}

/// Adds ∂L/∂n of a reflection that `x` went into, where ∂L/∂x' is `g`.
#[inline(always)]
fn of_normal<const L: usize, const A: usize>(
    n: &[f32],
    x: &[[f32; L]],
    g: &[[f32; L]],
    sums: &mut [f32],
) {
    let (mut along_g, mut along_x) = (dot::<L, A>(n, g), dot::<L, A>(n, x));
    for along in along_g.iter_mut().chain(&mut along_x) {
        *along *= -2.0;
    }
    add_inner(sums, x, &along_g);
    add_inner(sums, g, &along_x);
}

vectorized! {
    /// Makes a layer's vectors what they are used as, and appends their lengths.
    fn make(vectors: &mut [f32], lengths: &mut Vec<Length>, dim: usize, kind: SylvesterBasis) {
        for i in 0..vectors.len() / dim {
            let (before, rest) = vectors.split_at_mut(i * dim);
            let v = &mut rest[..dim];
            let mut by = normalize(v);
            if let SylvesterBasis::Orthogonal(_) = kind && i > 0 {
                // Gram and Schmidt; twice, which is enough.
                for q in before.chunks_exact(dim).chain(before.chunks_exact(dim)) {
                    let along = dot_product(q, v);
                    for d in 0..dim {
                        v[d] -= along * q[d];
                    }
                }
                let square = dot_product(v, v);
                // NaN is not below: it goes on.
                let is_none = square < DEPENDENT as f32;
                let left = if is_none { 0.0 } else { square.sqrt() };
                divide(v, left);
                by.length *= left;
            }
            lengths.push(by);
        }
    }
}

/// Gives a vector the length 1, unless it counts as 0.
#[inline(always)]
fn normalize(v: &mut [f32]) -> Length {
    if v.iter().all(|x| x.abs() < TINY as f32) {
        divide(v, 0.0);
        return Length {
            scale: 1.0,
            length: 0.0,
        };
    }
    let largest = v.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    // The power of two below it, by which nothing is rounded, so that no square is infinite. (Of NaN alone there is none.)
    let scale = match f32::from_bits(largest.to_bits() & f32::INFINITY.to_bits()) {
        0.0 => 1.0,
        scale => scale,
    };
    v.iter_mut().for_each(|x| *x /= scale);
    let length = dot_product(v, v).sqrt();
    divide(v, length);
    Length { scale, length }
}

/// By 0 to 0.
#[inline(always)]
fn divide(v: &mut [f32], by: f32) {
    for x in v {
        *x = if by == 0.0 { 0.0 } else { *x / by };
    }
}
