//! The rational-quadratic spline, whose equations stand in `map/spline.rs`, in lanes.
//!
//! A gradient goes back to the bin (`bin.rs`), and from it to all widths and heights: x_k is the sum of the widths before, and a
//! softmax hands ∂L/∂p on as p_i (∂L/∂p_i - Σ p_j ∂L/∂p_j).

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use burn_host::math::{exp, ln, sigmoid, softplus};

use super::{
    bin::{Bin, Place},
    formulas::{Formulas, LANES, Lanes, weights},
};
use crate::map::{
    Direction,
    spline::{BOUND, LEAST, SLOPE_1},
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

/// ℓ
#[inline(always)]
fn log_slope_at(place: &Place) -> f32 {
    ln(place.m) + 2.0 * ln(place.s / place.c)
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
                    let place = bin.at_x(at[lane]);
                    (bin.y_of(&place), log_slope_at(&place))
                }
                Direction::Inverse => {
                    let place = bin.at_y(at[lane]);
                    (bin.x_of(&place), -log_slope_at(&place))
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
            let place = bin.at_x(inside[lane]);
            let (slope, slope_of_log) = (bin.slope(&place), bin.slope_of_log(&place));
            let is_inside = is_inside(x[lane]);
            let (slope, slope_of_log) = if is_inside {
                (slope, slope_of_log)
            } else {
                (1.0, 0.0)
            };
            let (input, g, h) = weights(direction, g[lane], h[lane], slope, slope_of_log);
            of_input[lane] = input;
            let (g, h) = if is_inside { (g, h) } else { (0.0, 0.0) };

            let of_bin = bin.gradient(&place, g, h);
            of.x[lane] = of_bin.x;
            of.y[lane] = of_bin.y;
            of.width[lane] = of_bin.width;
            of.height[lane] = of_bin.height;
            of.left[lane] = of_bin.left * sigmoid(bins.left[lane] + SLOPE_1 as f32);
            of.right[lane] = of_bin.right * sigmoid(bins.right[lane] + SLOPE_1 as f32);
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
