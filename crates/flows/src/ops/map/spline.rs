//! The rational-quadratic spline, whose equations stand in `map/spline.rs`.
//!
//! With n = s ξ² + d_k ξ (1 - ξ) and m = d_k+1 ξ² + 2 s ξ (1 - ξ) + d_k (1 - ξ)², y = y_k + h n / c and
//! ℓ = 2 ln s + ln m - 2 ln c. A gradient goes back through these to the bin, and from it to all widths and heights: x_k is
//! the sum of the widths before, and a softmax hands ∂L/∂p on as p_i (∂L/∂p_i - Σ p_j ∂L/∂p_j).

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use burn_host::math::{exp, ln, sigmoid, softplus};

use super::formulas::{Formulas, LANES, Lanes, weights};
use crate::map::{
    Direction,
    spline::{BOUND, LEAST, SLOPE_1, TINY},
};

#[derive(Clone, Copy)]
pub struct Spline {
    pub bins: usize,
}

/// Which bin each lane is in.
struct Bins {
    index: Lanes,
    x: Lanes,
    y: Lanes,
    width: Lanes,
    height: Lanes,
    /// What softplus makes the slopes of, where they are not those of the ends.
    left: Lanes,
    right: Lanes,
}

/// A bin, and where in it.
#[derive(Clone, Copy)]
struct Bin {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    left: f32,
    right: f32,
}

/// What y and ℓ are made of.
#[derive(Clone, Copy)]
struct At {
    xi: f32,
    around: f32,
    s: f32,
    c: f32,
    n: f32,
    m: f32,
}

impl Spline {
    /// What the bins have of the whole beyond the least.
    #[inline(always)]
    fn share(self) -> f32 {
        (2.0 * BOUND * (1.0 - LEAST * self.bins as f64)) as f32
    }

    /// The shares of widths and heights: two softmaxes.
    #[inline(always)]
    fn shares(self, theta: &[Lanes], shares: &mut [Lanes]) {
        for (theta, shares) in theta[..2 * self.bins]
            .chunks_exact(self.bins)
            .zip(shares.chunks_exact_mut(self.bins))
        {
            let mut largest = theta[0];
            for theta in &theta[1..] {
                for lane in 0..LANES {
                    let is_larger = theta[lane] > largest[lane];
                    largest[lane] = if is_larger {
                        theta[lane]
                    } else {
                        largest[lane]
                    };
                }
            }
            let mut sum = [0.0; LANES];
            for (theta, share) in theta.iter().zip(&mut *shares) {
                for lane in 0..LANES {
                    share[lane] = exp(theta[lane] - largest[lane]);
                    sum[lane] += share[lane];
                }
            }
            for lane in 0..LANES {
                sum[lane] = 1.0 / sum[lane];
            }
            for share in shares {
                for lane in 0..LANES {
                    share[lane] *= sum[lane];
                }
            }
        }
    }

    /// The bin of each lane, by where `at` lies on one of the axes.
    #[inline(always)]
    fn bins(self, direction: Direction, at: &Lanes, theta: &[Lanes], shares: &[Lanes]) -> Bins {
        let (least, share) = ((2.0 * BOUND * LEAST) as f32, self.share());
        let start = [-(BOUND as f32); LANES];
        let (mut x, mut y) = (start, start);
        let mut bins = Bins {
            index: [0.0; LANES],
            x,
            y,
            width: start,
            height: start,
            left: [0.0; LANES],
            right: [0.0; LANES],
        };
        // The ends' slopes are not asked for.
        let slope = |inner: usize| &theta[(2 * self.bins + inner).min(theta.len() - 1)];
        for k in 0..self.bins {
            let (widths, heights) = (&shares[k], &shares[self.bins + k]);
            let (left, right) = (slope(k.saturating_sub(1)), slope(k));
            for lane in 0..LANES {
                let knot = match direction {
                    Direction::Forward => x[lane],
                    Direction::Inverse => y[lane],
                };
                let (width, height) = (widths[lane] * share + least, heights[lane] * share + least);
                let is_here = k == 0 || at[lane] >= knot;
                let pick = |new: f32, old: f32| if is_here { new } else { old };
                bins.index[lane] = pick(k as f32, bins.index[lane]);
                bins.x[lane] = pick(x[lane], bins.x[lane]);
                bins.y[lane] = pick(y[lane], bins.y[lane]);
                bins.width[lane] = pick(width, bins.width[lane]);
                bins.height[lane] = pick(height, bins.height[lane]);
                bins.left[lane] = pick(left[lane], bins.left[lane]);
                bins.right[lane] = pick(right[lane], bins.right[lane]);
                x[lane] += width;
                y[lane] += height;
            }
        }
        bins
    }
}

impl Bins {
    #[inline(always)]
    fn bin(&self, lane: usize, last: f32) -> Bin {
        let slope = |raw: f32, is_end: bool| {
            let inner = LEAST as f32 + softplus(raw + SLOPE_1 as f32);
            if is_end { 1.0 } else { inner }
        };
        Bin {
            x: self.x[lane],
            y: self.y[lane],
            width: self.width[lane],
            height: self.height[lane],
            left: slope(self.left[lane], self.index[lane] == 0.0),
            right: slope(self.right[lane], self.index[lane] == last),
        }
    }
}

impl Bin {
    /// At ξ, which is kept between 0 and 1.
    #[inline(always)]
    fn at(self, xi: f32) -> At {
        let xi = if xi < 0.0 { 0.0 } else { xi };
        let xi = if xi > 1.0 { 1.0 } else { xi };
        let rest = 1.0 - xi;
        let around = xi * rest;
        let s = self.height / self.width;
        At {
            xi,
            around,
            s,
            c: s + (self.left + self.right - 2.0 * s) * around,
            n: s * xi * xi + self.left * around,
            m: self.right * xi * xi + 2.0 * s * around + self.left * rest * rest,
        }
    }

    #[inline(always)]
    fn forward(self, x: f32) -> At {
        self.at((x - self.x) / self.width)
    }

    #[inline(always)]
    fn inverse(self, y: f32) -> At {
        let s = self.height / self.width;
        let e = self.left + self.right - 2.0 * s;
        let q = y - self.y;
        let q = if q < 0.0 { 0.0 } else { q };
        let b = self.height * self.left - q * e;
        let a = self.height * (s - self.left) + q * e;
        let square = b * b + 4.0 * s * q * a;
        let square = if square < TINY as f32 {
            TINY as f32
        } else {
            square
        };
        self.at(2.0 * s * q / (b + square.sqrt()))
    }
}

impl At {
    /// ℓ
    #[inline(always)]
    fn log_slope(self) -> f32 {
        ln(self.m) + 2.0 * ln(self.s / self.c)
    }
}

/// Not "at most the bound": a NaN is outside, and stays what it is.
#[inline(always)]
fn is_inside(x: f32) -> bool {
    x.abs() < BOUND as f32
}

impl Formulas for Spline {
    #[inline(always)]
    fn scratch(self) -> usize {
        4 * self.bins
    }

    #[inline(always)]
    fn value(
        self,
        direction: Direction,
        at: &Lanes,
        theta: &[Lanes],
        scratch: &mut [Lanes],
    ) -> (Lanes, Lanes) {
        self.shares(theta, scratch);
        let bins = self.bins(direction, at, theta, scratch);
        let last = (self.bins - 1) as f32;
        let (mut value, mut log_slope) = (*at, [0.0; LANES]);
        for lane in 0..LANES {
            let bin = bins.bin(lane, last);
            let (inside, nats) = match direction {
                Direction::Forward => {
                    let at = bin.forward(at[lane]);
                    (bin.y + bin.height * at.n / at.c, at.log_slope())
                }
                Direction::Inverse => {
                    let at = bin.inverse(at[lane]);
                    (bin.x + at.xi * bin.width, -at.log_slope())
                }
            };
            let is_inside = is_inside(at[lane]);
            value[lane] = if is_inside { inside } else { at[lane] };
            log_slope[lane] = if is_inside { nats } else { 0.0 };
        }
        (value, log_slope)
    }

    #[inline(always)]
    fn gradient(
        self,
        direction: Direction,
        x: &Lanes,
        theta: &[Lanes],
        (g, h): (&Lanes, &Lanes),
        of_theta: &mut [Lanes],
        scratch: &mut [Lanes],
    ) -> Lanes {
        let (shares, of_shares) = scratch.split_at_mut(2 * self.bins);
        self.shares(theta, shares);
        // What is left out outside takes part in products with 0.
        let mut inside = *x;
        for x in &mut inside {
            *x = if is_inside(*x) { *x } else { 0.0 };
        }
        let bins = self.bins(Direction::Forward, &inside, theta, shares);
        let last = (self.bins - 1) as f32;
        let mut of_input = [0.0; LANES];
        let mut of = Bins {
            index: bins.index,
            x: [0.0; LANES],
            y: [0.0; LANES],
            width: [0.0; LANES],
            height: [0.0; LANES],
            left: [0.0; LANES],
            right: [0.0; LANES],
        };
        for lane in 0..LANES {
            let bin = bins.bin(lane, last);
            let At {
                xi,
                around,
                s,
                c,
                n,
                m,
            } = bin.forward(inside[lane]);
            let rest = 1.0 - xi;
            let (e, turn) = (bin.left + bin.right - 2.0 * s, 1.0 - 2.0 * xi);
            let (slope, of_m_by_xi) = (
                s * s * m / (c * c),
                2.0 * (bin.right * xi + s * turn - bin.left * rest),
            );
            let slope_of_log = (of_m_by_xi / m - 2.0 * e * turn / c) / bin.width;
            let is_inside = is_inside(x[lane]);
            let (slope, slope_of_log) = if is_inside {
                (slope, slope_of_log)
            } else {
                (1.0, 0.0)
            };
            let (input, g, h) = weights(direction, g[lane], h[lane], slope, slope_of_log);
            of_input[lane] = input;
            let (g, h) = if is_inside { (g, h) } else { (0.0, 0.0) };

            let of_n = g * bin.height / c;
            let of_c = -(of_n * n + 2.0 * h) / c;
            let of_m = h / m;
            let of_around = 2.0 * s * of_m + bin.left * of_n + e * of_c;
            let of_xi = of_m * 2.0 * (bin.right * xi - bin.left * rest)
                + of_n * 2.0 * s * xi
                + of_around * turn;
            let of_s =
                2.0 * h / s + of_m * 2.0 * around + of_n * xi * xi + of_c * (1.0 - 2.0 * around);
            of.x[lane] = -of_xi / bin.width;
            of.y[lane] = g;
            of.width[lane] = -(of_s * s + of_xi * xi) / bin.width;
            of.height[lane] = g * n / c + of_s / bin.width;
            let of_left = of_m * rest * rest + (of_n + of_c) * around;
            let of_right = of_m * xi * xi + of_c * around;
            of.left[lane] = of_left * sigmoid(bins.left[lane] + SLOPE_1 as f32);
            of.right[lane] = of_right * sigmoid(bins.right[lane] + SLOPE_1 as f32);
        }
        for k in 0..self.bins {
            for (to, before, here) in [(k, &of.x, &of.width), (self.bins + k, &of.y, &of.height)] {
                for lane in 0..LANES {
                    let index = of.index[lane];
                    let here = if index == k as f32 { here[lane] } else { 0.0 };
                    let gradient = if index > k as f32 { before[lane] } else { here };
                    of_shares[to][lane] = gradient * self.share();
                }
            }
        }
        for start in [0, self.bins] {
            let mut sum = [0.0; LANES];
            for k in start..start + self.bins {
                for lane in 0..LANES {
                    sum[lane] += shares[k][lane] * of_shares[k][lane];
                }
            }
            for k in start..start + self.bins {
                for lane in 0..LANES {
                    of_theta[k][lane] = shares[k][lane] * (of_shares[k][lane] - sum[lane]);
                }
            }
        }
        for (k, of_theta) in of_theta[2 * self.bins..].iter_mut().enumerate() {
            for lane in 0..LANES {
                let index = of.index[lane];
                let as_left = if index == (k + 1) as f32 {
                    of.left[lane]
                } else {
                    0.0
                };
                let as_right = if index == k as f32 {
                    of.right[lane]
                } else {
                    0.0
                };
                of_theta[lane] = as_left + as_right;
            }
        }
        of_input
    }
}
