//! The rational-quadratic spline, whose equations stand in `map/spline.rs`, in lanes.
//!
//! A gradient goes back to the bin (`bin.rs`), and from it to all widths and heights: x_k is the sum of the widths before, and a
//! softmax hands ∂L/∂p on as p_i (∂L/∂p_i - Σ p_j ∂L/∂p_j). The gradient of a phase is that of y.

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use burn_host::math::{exp, ln, sigmoid, softplus};

use super::{
    bin::{Bin, Place, wrapped},
    formulas::{Formulas, LANES, Lanes, weights},
};
use crate::map::{
    Direction, Domain,
    spline::{LEAST, SLOPE_1, Spline},
};

/// Which bin each lane is in.
struct Bins {
    index: Lanes,
    x: Lanes,
    y: Lanes,
    width: Lanes,
    height: Lanes,
    /// What softplus makes the slopes of, where they are not those of a line's ends.
    left: Lanes,
    right: Lanes,
}

impl Spline {
    /// What the bins see of each number: of an angle that between -π and π, without the phase on the way back.
    #[inline(always)]
    fn into_bins(self, direction: Direction, at: &Lanes, theta: &[Lanes]) -> Lanes {
        let mut inside = *at;
        if self.domain == Domain::Circle {
            for lane in 0..LANES {
                inside[lane] = match direction {
                    Direction::Forward => wrapped(at[lane]),
                    Direction::Inverse => wrapped(at[lane] - theta[3 * self.bins][lane]),
                };
            }
        }
        inside
    }

    /// What is handed on of what the bins make of each: of an angle that between -π and π, with the phase on the way there.
    #[inline(always)]
    fn out_of_bins(self, direction: Direction, value: &mut Lanes, theta: &[Lanes]) {
        if self.domain == Domain::Circle {
            for lane in 0..LANES {
                value[lane] = match direction {
                    Direction::Forward => wrapped(value[lane] + theta[3 * self.bins][lane]),
                    Direction::Inverse => wrapped(value[lane]),
                };
            }
        }
    }

    /// A NaN is not inside, and stays what it is.
    #[inline(always)]
    fn is_inside(self, x: f32) -> bool {
        match self.domain {
            Domain::Line => x.abs() < self.bound() as f32,
            Domain::Circle => x.abs() <= self.bound() as f32,
        }
    }

    /// The parameter of a knot's slope; any of those of a line's ends, which are not asked for.
    #[inline(always)]
    fn slope_of(self, knot: usize, theta: &[Lanes]) -> &Lanes {
        let slope = match self.domain {
            Domain::Line => knot.saturating_sub(1),
            Domain::Circle => knot % self.bins,
        };
        &theta[(2 * self.bins + slope).min(theta.len() - 1)]
    }

    /// The bins at the left and at the right of the knot with a slope.
    #[inline(always)]
    fn beside(self, slope: usize) -> (usize, usize) {
        match self.domain {
            Domain::Line => (slope, slope + 1),
            Domain::Circle => ((slope + self.bins - 1) % self.bins, slope),
        }
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
        let (least, share) = (self.least() as f32, self.share() as f32);
        let start = [-(self.bound() as f32); LANES];
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
        for k in 0..self.bins {
            let (widths, heights) = (&shares[k], &shares[self.bins + k]);
            let (left, right) = (self.slope_of(k, theta), self.slope_of(k + 1, theta));
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
    fn bin(&self, lane: usize, spline: Spline) -> Bin {
        let last = (spline.bins - 1) as f32;
        let slope = |raw: f32, is_end: bool| {
            let free = LEAST as f32 + softplus(raw + SLOPE_1 as f32);
            match spline.domain {
                Domain::Line if is_end => 1.0,
                Domain::Line | Domain::Circle => free,
            }
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
        let at = &self.into_bins(direction, at, theta);
        let bins = self.bins(direction, at, theta, scratch);
        let (mut value, mut log_slope) = (*at, [0.0; LANES]);
        for lane in 0..LANES {
            let bin = bins.bin(lane, self);
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
            let is_inside = self.is_inside(at[lane]);
            value[lane] = if is_inside { inside } else { at[lane] };
            log_slope[lane] = if is_inside { nats } else { 0.0 };
        }
        self.out_of_bins(direction, &mut value, theta);
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
        let x = &self.into_bins(Direction::Forward, x, theta);
        // What is left out outside takes part in products with 0.
        let mut inside = *x;
        for x in &mut inside {
            *x = if self.is_inside(*x) { *x } else { 0.0 };
        }
        let bins = self.bins(Direction::Forward, &inside, theta, shares);
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
            let bin = bins.bin(lane, self);
            let place = bin.at_x(inside[lane]);
            let (slope, slope_of_log) = (bin.slope(&place), bin.slope_of_log(&place));
            let is_inside = self.is_inside(x[lane]);
            let (slope, slope_of_log) = if is_inside {
                (slope, slope_of_log)
            } else {
                (1.0, 0.0)
            };
            let (input, g, h) = weights(direction, g[lane], h[lane], slope, slope_of_log);
            of_input[lane] = input;
            if self.domain == Domain::Circle {
                of_theta[3 * self.bins][lane] = g;
            }
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
                    of_shares[to][lane] = gradient * self.share() as f32;
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
        for k in 0..self.slopes() {
            let (left, right) = self.beside(k);
            let of_theta = &mut of_theta[2 * self.bins + k];
            for lane in 0..LANES {
                let index = of.index[lane];
                let as_left = if index == right as f32 {
                    of.left[lane]
                } else {
                    0.0
                };
                let as_right = if index == left as f32 {
                    of.right[lane]
                } else {
                    0.0
                };
                of_theta[lane] = as_left + as_right;
            }
        }
        of_input
    }

    #[inline(always)]
    fn see(self, x: &Lanes, seen: &mut [Lanes]) {
        match self.domain {
            Domain::Line => seen[0] = *x,
            Domain::Circle => {
                for lane in 0..LANES {
                    (seen[1][lane], seen[0][lane]) = x[lane].sin_cos();
                }
            }
        }
    }

    #[inline(always)]
    fn of_seen(self, seen: &[Lanes], of_seen: &[Lanes]) -> Lanes {
        let mut of_input = of_seen[0];
        if self.domain == Domain::Circle {
            for lane in 0..LANES {
                of_input[lane] =
                    seen[0][lane] * of_seen[1][lane] - seen[1][lane] * of_seen[0][lane];
            }
        }
        of_input
    }
}
