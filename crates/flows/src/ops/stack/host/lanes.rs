//! Rows side by side in the lanes of a vector, `[dim][L]`; with one lane, a row as it is.

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use std::iter::zip;

use burn_host::math::ln;

/// The rows that go side by side: `first`, and every `stride`-th after it.
#[derive(Clone, Copy)]
pub struct Block {
    pub first: usize,
    pub stride: usize,
    pub count: usize,
}

/// `dim` numbers of each row of a block, one row a lane; the lanes left over are 0.
#[inline(always)]
pub fn gather<const L: usize>(
    from: &[f32],
    width: usize,
    dim: usize,
    block: Block,
) -> Vec<[f32; L]> {
    let mut lanes = vec![[0.0; L]; dim];
    for i in 0..block.count {
        let row = block.first + i * block.stride;
        for (lanes, &value) in zip(&mut lanes, &from[row * width..][..dim]) {
            lanes[i] = value;
        }
    }
    lanes
}

/// The same, with the first row in the lanes left over: what is computed of it is finite where that of the row is, so that it
/// adds nothing to sums that its gradients, 0, are factors of.
#[inline(always)]
pub fn gather_full<const L: usize>(
    from: &[f32],
    width: usize,
    dim: usize,
    block: Block,
) -> Vec<[f32; L]> {
    let mut lanes = gather::<L>(from, width, dim, block);
    for lanes in &mut lanes {
        for lane in block.count..L {
            lanes[lane] = lanes[0];
        }
    }
    lanes
}

/// Appends what stands in one lane.
#[inline(always)]
pub fn scatter<const L: usize>(lanes: &[[f32; L]], lane: usize, to: &mut Vec<f32>) {
    let start = to.len();
    to.resize(start + lanes.len(), 0.0);
    for (to, lanes) in zip(&mut to[start..], lanes) {
        *to = lanes[lane];
    }
}

/// Σ_d w_d z_d in each lane, in `A` parts that do not wait for each other.
#[inline(always)]
pub fn dot<const L: usize, const A: usize>(w: &[f32], z: &[[f32; L]]) -> [f32; L] {
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
pub fn dot_product(a: &[f32], b: &[f32]) -> f32 {
    let [sum] = dot::<1, 8>(a, b.as_chunks().0);
    sum
}

/// z += û t in each lane.
#[inline(always)]
pub fn add_outer<const L: usize>(z: &mut [[f32; L]], u_hat: &[f32], t: &[f32; L]) {
    for (z, u_hat) in zip(z, u_hat) {
        for lane in 0..L {
            z[lane] += u_hat * t[lane];
        }
    }
}

/// Adds Σ over lanes of z_d t to each sum.
#[inline(always)]
pub fn add_inner<const L: usize>(sums: &mut [f32], z: &[[f32; L]], t: &[f32; L]) {
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
pub fn sum<const N: usize>(mut terms: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            terms[i] += terms[i + half];
        }
        half /= 2;
    }
    terms[0]
}

/// Σ ln of each row, lane by lane.
#[inline(always)]
pub fn sum_of_logs<const L: usize>(mut numbers: Vec<[f32; L]>) -> [f32; L] {
    // All together: one lane alone would wait for each logarithm.
    for number in numbers.as_flattened_mut() {
        *number = ln(*number);
    }
    let mut sums = [0.0; L];
    for log in numbers {
        for lane in 0..L {
            sums[lane] += log[lane];
        }
    }
    sums
}

/// x += y in each lane.
#[inline(always)]
pub fn add<const L: usize>(x: &mut [[f32; L]], y: &[[f32; L]]) {
    for (x, y) in zip(x, y) {
        for lane in 0..L {
            x[lane] += y[lane];
        }
    }
}

#[inline(always)]
pub fn negated<const L: usize>(x: &[[f32; L]]) -> Vec<[f32; L]> {
    let mut x = x.to_vec();
    for x in x.as_flattened_mut() {
        *x = -*x;
    }
    x
}
