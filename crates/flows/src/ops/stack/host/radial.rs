//! Radial layers.
//!
//! With d = z - z₀, r = ‖d‖ and out = r + α, a layer is z₀ + d m with m = (r + s) / out, and of D dimensions
//!
//! ```text
//! log det = (D - 1) ln m + ln along,      along = (r² + 2 α r + α s) / out²
//! ∂/∂r = (α - s) [(D - 1) / (out (r + s)) + 2 α / (along out³)]
//! ∂/∂s = (D - 1) / (r + s) + α / (along out²)
//! ∂/∂α = -(D - 1) / out + (r (s - 2α) - α s) / (along out³)
//! ```
//!
//! **Gradient.** With g = ∂L/∂z', h = ∂L/∂log_det and k = g·d,
//!
//! ```text
//! ∂L/∂r = k (α - s) / out² + h ∂/∂r       ∂L/∂s = Σ k / out + h ∂/∂s       ∂L/∂α = Σ -k (r + s) / out² + h ∂/∂α
//! ∂L/∂z = g m + d/r ∂L/∂r                 ∂L/∂z₀ = Σ g - ∂L/∂z
//! ```
//!
//! (sums over the rows). The inverse is y ↦ z₀ + d / m where now d = y - z₀, and r is the root of r (r + s) / out = ρ = ‖d‖,
//! whose slope in r is `along`. With g = ∂L/∂z, and h turned round since the log-determinant is,
//!
//! ```text
//! ∂L/∂r = k (s - α) / (r + s)² - h ∂/∂r                      ∂L/∂ρ = ∂L/∂r / along
//! ∂L/∂s = Σ -k out / (r + s)² - h ∂/∂s - r / out ∂L/∂ρ        ∂L/∂α = Σ k / (r + s) - h ∂/∂α + r (r + s) / out² ∂L/∂ρ
//! ∂L/∂y = g / m + d/ρ ∂L/∂ρ                                  ∂L/∂z₀ = Σ g - ∂L/∂y
//! ```

#![allow(clippy::needless_range_loop)] // Lanes and layers go by their number.

use burn_host::math::{ln, sigmoid, softplus};

use super::{
    OfOwner,
    lanes::{Block, gather, gather_full, scatter, sum},
};
use crate::{family::radial::TINY, map::Direction};

/// The layers of one owner.
pub struct Radial<'a> {
    dim: usize,
    /// `[layers, dim + 2]`
    raw: &'a [f32],
    /// α and s of each layer.
    scalars: Vec<[f32; 2]>,
}

/// What a layer does to a row.
struct Row {
    /// The distance from the centre before the forward map, and after it.
    r: f32,
    rho: f32,
    /// r + α
    out: f32,
    along: f32,
    /// What points are stretched by, forward.
    m: f32,
}

impl<'a> Radial<'a> {
    /// From `raw: [layers, dim + 2]`.
    pub fn new(raw: &'a [f32], dim: usize) -> Self {
        let scalars = raw.chunks_exact(dim + 2);
        Self {
            scalars: scalars
                .map(|layer| [softplus(layer[dim]), softplus(layer[dim + 1])])
                .collect(),
            dim,
            raw,
        }
    }

    fn centre(&self, k: usize) -> &[f32] {
        &self.raw[k * (self.dim + 2)..][..self.dim]
    }

    /// The layers in the order of a direction.
    #[inline(always)]
    fn layer(&self, direction: Direction, i: usize) -> usize {
        match direction {
            Direction::Forward => i,
            Direction::Inverse => self.scalars.len() - 1 - i,
        }
    }

    /// Points, as they are seen from the centre of layer `k`, and what the layer does to each.
    #[inline(always)]
    fn seen<const L: usize>(
        &self,
        k: usize,
        direction: Direction,
        points: &[[f32; L]],
    ) -> (Vec<[f32; L]>, [Row; L]) {
        let mut from_centre = points.to_vec();
        let mut square = [0.0; L];
        for (d, centre) in self.centre(k).iter().enumerate() {
            for lane in 0..L {
                from_centre[d][lane] -= centre;
                square[lane] += from_centre[d][lane] * from_centre[d][lane];
            }
        }
        let [alpha, s] = self.scalars[k];
        let rows = std::array::from_fn(|lane| row(alpha, s, direction, square[lane]));
        (from_centre, rows)
    }
}

/// The row whose distance from the centre has this square, before the forward map or before the inverse.
#[inline(always)]
fn row(alpha: f32, s: f32, direction: Direction, square: f32) -> Row {
    // NaN is not below: it goes on.
    let distance = root(square);
    let (r, rho) = match direction {
        Direction::Forward => (distance, distance * (distance + s) / (distance + alpha)),
        Direction::Inverse => {
            let p = distance - s;
            let product = alpha * distance;
            let root = root(p * p + 4.0 * product);
            let r = if p >= 0.0 {
                0.5 * (p + root)
            } else {
                2.0 * product / (root - p)
            };
            (r, distance)
        }
    };
    let out = r + alpha;
    let (of_r, of_alpha) = (r / out, alpha / out);
    Row {
        r,
        rho,
        out,
        along: of_r * (of_r + 2.0 * of_alpha) + of_alpha * (s / out),
        m: (r + s) / out,
    }
}

/// The root of a square, away from 0.
#[inline(always)]
fn root(square: f32) -> f32 {
    let square = if square < TINY as f32 {
        TINY as f32
    } else {
        square
    };
    square.sqrt()
}

/// The derivatives of the forward log-determinant in r, s and α.
#[inline(always)]
fn slopes(alpha: f32, s: f32, dim: usize, row: &Row) -> [f32; 3] {
    let Row { r, out, along, .. } = *row;
    let across = (dim - 1) as f32;
    let (of_r, of_alpha) = (r / out, alpha / out);
    let part = along * out;
    [
        (alpha - s) / out * (across / (r + s) + 2.0 * of_alpha / part),
        across / (r + s) + of_alpha / part,
        -across / out + (of_r * ((s - 2.0 * alpha) / out) - of_alpha * (s / out)) / part,
    ]
}

impl OfOwner for Radial<'_> {
    /// Of each layer's z₀, α and s.
    #[inline(always)]
    fn sums(&self) -> usize {
        self.raw.len()
    }

    #[inline(always)]
    fn map<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        points: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    ) {
        let mut points = gather_full::<L>(points, self.dim, self.dim, block);
        let mut log_det = [0.0; L];
        for i in 0..self.scalars.len() {
            let k = self.layer(direction, i);
            let (from_centre, rows) = self.seen(k, direction, &points);
            let mut stretch = [0.0; L];
            for lane in 0..L {
                let Row { m, along, .. } = rows[lane];
                let log = (self.dim - 1) as f32 * ln(m) + ln(along);
                (stretch[lane], log_det[lane]) = match direction {
                    Direction::Forward => (m, log_det[lane] + log),
                    Direction::Inverse => (1.0 / m, log_det[lane] - log),
                };
            }
            for (d, centre) in self.centre(k).iter().enumerate() {
                for lane in 0..L {
                    points[d][lane] = centre + from_centre[d][lane] * stretch[lane];
                }
            }
        }
        for lane in 0..block.count {
            scatter(&points, lane, packed);
            packed.push(log_det[lane]);
        }
    }

    #[inline(always)]
    fn gradients<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        (points, grad): (&[f32], &[f32]),
        block: Block,
        (of_points, sums): (&mut Vec<f32>, &mut [f32]),
    ) {
        let dim = self.dim;
        // The map again, keeping what each layer saw.
        let mut points = gather_full::<L>(points, dim, dim, block);
        let mut seen = Vec::with_capacity(self.scalars.len());
        for i in 0..self.scalars.len() {
            let k = self.layer(direction, i);
            let (from_centre, rows) = self.seen(k, direction, &points);
            for (d, centre) in self.centre(k).iter().enumerate() {
                for lane in 0..L {
                    let m = rows[lane].m;
                    let stretch = match direction {
                        Direction::Forward => m,
                        Direction::Inverse => 1.0 / m,
                    };
                    points[d][lane] = centre + from_centre[d][lane] * stretch;
                }
            }
            seen.push((k, from_centre, rows));
        }

        let mut g = gather::<L>(grad, dim + 1, dim, block);
        let h = gather::<L>(&grad[dim..], dim + 1, 1, block)[0];
        for (k, from_centre, rows) in seen.iter().rev() {
            let [alpha, s] = self.scalars[*k];
            let sums = &mut sums[k * (dim + 2)..][..dim + 2];
            let mut along_d = [0.0; L];
            for d in 0..dim {
                for lane in 0..L {
                    along_d[lane] += g[d][lane] * from_centre[d][lane];
                }
            }
            let [mut stretch, mut radially, mut of_alpha, mut of_s] = [[0.0; L]; 4];
            for lane in 0..L {
                let row = &rows[lane];
                let Row {
                    r,
                    rho,
                    out,
                    along,
                    m,
                } = *row;
                let (k, h) = (along_d[lane], h[lane]);
                let [in_r, in_s, in_alpha] = slopes(alpha, s, dim, row);
                let of_distance;
                match direction {
                    Direction::Forward => {
                        stretch[lane] = m;
                        of_distance = k / out * ((alpha - s) / out) + h * in_r;
                        of_s[lane] = k / out + h * in_s;
                        of_alpha[lane] = -k / out * m + h * in_alpha;
                    }
                    Direction::Inverse => {
                        let end = r + s;
                        stretch[lane] = 1.0 / m;
                        of_distance = (k / end * ((s - alpha) / end) - h * in_r) / along;
                        of_s[lane] = -k / end / m - h * in_s - r / out * of_distance;
                        of_alpha[lane] = k / end - h * in_alpha + r / out * m * of_distance;
                    }
                }
                let distance = match direction {
                    Direction::Forward => r,
                    Direction::Inverse => rho,
                };
                // At the centre itself the distance has no slope.
                let is_there = distance * distance <= TINY as f32;
                radially[lane] = if is_there {
                    0.0
                } else {
                    of_distance / distance
                };
            }
            sums[dim] += sum(of_alpha);
            sums[dim + 1] += sum(of_s);
            for d in 0..dim {
                let mut of_centre = [0.0; L];
                for lane in 0..L {
                    let of_z = g[d][lane] * stretch[lane] + from_centre[d][lane] * radially[lane];
                    of_centre[lane] = g[d][lane] - of_z;
                    g[d][lane] = of_z;
                }
                sums[d] += sum(of_centre);
            }
        }
        for lane in 0..block.count {
            scatter(&g, lane, of_points);
        }
    }

    #[inline(always)]
    fn to_raw(&self, sums: &[f32], grad_raw: &mut [f32]) {
        grad_raw.copy_from_slice(sums);
        let layers = self.raw.chunks_exact(self.dim + 2);
        for (raw, grad) in layers.zip(grad_raw.chunks_exact_mut(self.dim + 2)) {
            for i in [self.dim, self.dim + 1] {
                grad[i] *= sigmoid(raw[i]);
            }
        }
    }
}
