//! The sum of sigmoids, whose equations stand in `map/sigmoidal.rs`, in lanes.
//!
//! With σ = σ(u_j), τ = σ(-u_j), and what unit j has of the three sums, p = w σ / S, r = w τ / T and d = w a σ τ / Σ,
//!
//! ```text
//! ∂y/∂u_j = p τ + r σ           ∂ℓ/∂u_j = d (τ - σ) - p τ + r σ
//! ∂y/∂ln w_j = p - r            ∂ℓ/∂ln w_j = d - p - r            ∂ℓ/∂ln a_j = d
//! ```

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use burn_host::math::{exp, ln, sigmoid, softplus};

use super::{
    affine::log_scale,
    formulas::{Formulas, LANES, Lanes, weights},
};
use crate::map::{
    Direction,
    sigmoidal::{STEPS, times},
};

#[derive(Clone, Copy)]
pub struct Sigmoidal {
    pub units: usize,
}

/// ln w, ln a, a and b of each unit, in lanes.
struct Units<'a> {
    log_weight: &'a [Lanes],
    log_a: &'a [Lanes],
    a: &'a [Lanes],
    b: &'a [Lanes],
}

/// ln S, ln T and the logarithm of the sum of slopes.
struct Sums {
    s: Lanes,
    t: Lanes,
    slope: Lanes,
}

impl Sigmoidal {
    /// What θ comes to, written to `made`.
    #[inline(always)]
    fn make<'a>(self, theta: &[Lanes], made: &'a mut [Lanes]) -> Units<'a> {
        let n = self.units;
        let (mut largest, mut sum) = ([f32::NEG_INFINITY; LANES], [0.0; LANES]);
        for j in 0..n {
            let times = times(j, n) as f32;
            for lane in 0..LANES {
                let logit = times * theta[j][lane];
                made[j][lane] = logit;
                // A NaN is not below: it goes on.
                largest[lane] = if logit <= largest[lane] {
                    largest[lane]
                } else {
                    logit
                };
                let (log_a, _) = log_scale(times * theta[n + j][lane]);
                made[n + j][lane] = log_a;
                made[2 * n + j][lane] = exp(log_a);
                made[3 * n + j][lane] = times * theta[2 * n + j][lane];
            }
        }
        for j in 0..n {
            for lane in 0..LANES {
                sum[lane] += exp(made[j][lane] - largest[lane]);
            }
        }
        for lane in 0..LANES {
            sum[lane] = ln(sum[lane]) + largest[lane];
        }
        for j in 0..n {
            for lane in 0..LANES {
                made[j][lane] -= sum[lane];
            }
        }
        Units {
            log_weight: &made[..n],
            log_a: &made[n..2 * n],
            a: &made[2 * n..3 * n],
            b: &made[3 * n..4 * n],
        }
    }
}

impl Units<'_> {
    /// ln(w σ), ln(w τ) and ln(w a σ τ) of unit j.
    #[inline(always)]
    fn terms(&self, j: usize, lane: usize, x: f32) -> [f32; 3] {
        let (log_weight, log_a) = (self.log_weight[j][lane], self.log_a[j][lane]);
        let u = self.a[j][lane] * x + self.b[j][lane];
        let both = softplus(-u.abs());
        let (above, below) = (
            if u < 0.0 { both } else { both + u },
            if u < 0.0 { both - u } else { both },
        );
        [
            log_weight - below,
            log_weight - above,
            log_weight + log_a - below - above,
        ]
    }

    #[inline(always)]
    fn sums(&self, x: &Lanes) -> Sums {
        let n = self.a.len();
        let mut largest = [[f32::NEG_INFINITY; LANES]; 3];
        for j in 0..n {
            for lane in 0..LANES {
                let terms = self.terms(j, lane, x[lane]);
                for i in 0..3 {
                    let is_not = terms[i] <= largest[i][lane];
                    largest[i][lane] = if is_not { largest[i][lane] } else { terms[i] };
                }
            }
        }
        let mut sums = [[0.0; LANES]; 3];
        for j in 0..n {
            for lane in 0..LANES {
                let terms = self.terms(j, lane, x[lane]);
                for i in 0..3 {
                    sums[i][lane] += exp(terms[i] - largest[i][lane]);
                }
            }
        }
        for i in 0..3 {
            for lane in 0..LANES {
                sums[i][lane] = ln(sums[i][lane]) + largest[i][lane];
            }
        }
        let [s, t, slope] = sums;
        Sums { s, t, slope }
    }

    /// y(x) less the y asked for.
    #[inline(always)]
    fn beyond(&self, x: &Lanes, y: &Lanes) -> Lanes {
        let Sums { s, t, .. } = self.sums(x);
        let mut beyond = [0.0; LANES];
        for lane in 0..LANES {
            beyond[lane] = s[lane] - t[lane] - y[lane];
        }
        beyond
    }

    /// The x of y, and the sums there: Chandrupatla's search, and a step of Newton's.
    #[inline(always)]
    fn solve(&self, y: &Lanes) -> (Lanes, Sums) {
        let (mut a, mut b) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
        for (slope, shift) in self.a.iter().zip(self.b) {
            for lane in 0..LANES {
                // A NaN is not beyond: it goes on.
                let end = (y[lane] - shift[lane]) / slope[lane];
                a[lane] = if end >= a[lane] { a[lane] } else { end };
                b[lane] = if end <= b[lane] { b[lane] } else { end };
            }
        }
        for lane in 0..LANES {
            // So far apart that rounding leaves the root between them.
            let margin = 1e-6 * (a[lane].abs() + b[lane].abs() + 1e-3);
            a[lane] -= margin;
            b[lane] += margin;
        }
        let (mut of_a, mut of_b) = (self.beyond(&a, y), self.beyond(&b, y));
        let (mut share, mut x) = ([0.5; LANES], [0.0; LANES]);
        for _ in 0..STEPS {
            for lane in 0..LANES {
                x[lane] = a[lane] + share[lane] * (b[lane] - a[lane]);
            }
            let of_x = self.beyond(&x, y);
            let mut is_found = true;
            for lane in 0..LANES {
                let is_as_a = (of_x[lane] > 0.0) == (of_a[lane] > 0.0);
                // The end that x takes the place of is c, the other one b.
                let (c, of_c) = if is_as_a {
                    (a[lane], of_a[lane])
                } else {
                    (b[lane], of_b[lane])
                };
                let (end, of_end) = if is_as_a {
                    (b[lane], of_b[lane])
                } else {
                    (a[lane], of_a[lane])
                };
                (b[lane], of_b[lane]) = (end, of_end);
                (a[lane], of_a[lane]) = (x[lane], of_x[lane]);

                let (a, b, fa, fb) = (a[lane], b[lane], of_a[lane], of_b[lane]);
                let xi = (a - b) / (c - b);
                let phi = (fa - fb) / (of_c - fb);
                let quadratic = fa / (fb - fa) * of_c / (fb - of_c)
                    + (c - a) / (b - a) * fa / (of_c - fa) * fb / (of_c - fb);
                let may_be_quadratic = phi * phi < xi && (1.0 - phi) * (1.0 - phi) < 1.0 - xi;
                let next = if may_be_quadratic { quadratic } else { 0.5 };
                let next = if next < 1e-6 { 1e-6 } else { next };
                share[lane] = if next > 1.0 - 1e-6 { 1.0 - 1e-6 } else { next };
                // What Newton's step makes good.
                let is_near = fa.abs() < 1e-4 || (a - b).abs() < 1e-6 * a.abs();
                is_found &= is_near || fa.is_nan();
            }
            if is_found {
                break;
            }
        }
        for lane in 0..LANES {
            let a_is_nearer = of_a[lane].abs() < of_b[lane].abs();
            x[lane] = if a_is_nearer { a[lane] } else { b[lane] };
        }
        let Sums { s, t, slope } = self.sums(&x);
        for lane in 0..LANES {
            x[lane] -= (s[lane] - t[lane] - y[lane]) * exp(s[lane] + t[lane] - slope[lane]);
        }
        let sums = self.sums(&x);
        (x, sums)
    }
}

impl Formulas for Sigmoidal {
    #[inline(always)]
    fn scratch(self) -> usize {
        4 * self.units
    }

    #[inline(always)]
    fn value(
        self,
        direction: Direction,
        at: &Lanes,
        theta: &[Lanes],
        scratch: &mut [Lanes],
    ) -> (Lanes, Lanes) {
        let units = self.make(theta, scratch);
        let (mut value, mut log_slope) = ([0.0; LANES], [0.0; LANES]);
        match direction {
            Direction::Forward => {
                let Sums { s, t, slope } = units.sums(at);
                for lane in 0..LANES {
                    value[lane] = s[lane] - t[lane];
                    log_slope[lane] = slope[lane] - s[lane] - t[lane];
                }
            }
            Direction::Inverse => {
                let (x, Sums { s, t, slope }) = units.solve(at);
                value = x;
                for lane in 0..LANES {
                    log_slope[lane] = s[lane] + t[lane] - slope[lane];
                }
            }
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
        let n = self.units;
        let units = self.make(theta, scratch);
        let Sums { s, t, slope } = units.sums(x);
        // ∂y/∂u_j, ∂ℓ/∂u_j and d of each unit, in the place of its gradients.
        let (mut of_x, mut of_log) = ([0.0; LANES], [0.0; LANES]);
        let mut shares = [[0.0; LANES]; 3];
        let share = |j: usize, lane: usize| {
            let [below, above, both] = units.terms(j, lane, x[lane]);
            let p = exp(below - s[lane]);
            let r = exp(above - t[lane]);
            let d = exp(both - slope[lane]);
            let sigma = sigmoid(units.a[j][lane] * x[lane] + units.b[j][lane]);
            let tau = sigmoid(-(units.a[j][lane] * x[lane] + units.b[j][lane]));
            let (up, down) = (p * tau, r * sigma);
            (p, r, d, up + down, d * (tau - sigma) - up + down)
        };
        for j in 0..n {
            for lane in 0..LANES {
                let (_, _, _, of_y, of_ell) = share(j, lane);
                of_x[lane] += units.a[j][lane] * of_y;
                of_log[lane] += units.a[j][lane] * of_ell;
            }
        }
        let mut of_input = [0.0; LANES];
        for lane in 0..LANES {
            (of_input[lane], shares[0][lane], shares[1][lane]) =
                weights(direction, g[lane], h[lane], of_x[lane], of_log[lane]);
        }
        let [g, h, total] = &mut shares;
        for j in 0..n {
            for lane in 0..LANES {
                let (p, r, d, of_y, of_ell) = share(j, lane);
                let of_u = g[lane] * of_y + h[lane] * of_ell;
                let of_log_weight = g[lane] * (p - r) + h[lane] * (d - p - r);
                total[lane] += of_log_weight;
                of_theta[j][lane] = of_log_weight;
                of_theta[n + j][lane] = of_u * x[lane] * units.a[j][lane] + h[lane] * d;
                of_theta[2 * n + j][lane] = of_u;
            }
        }
        for j in 0..n {
            let times = times(j, n) as f32;
            for lane in 0..LANES {
                let weight = exp(units.log_weight[j][lane]);
                of_theta[j][lane] = times * (of_theta[j][lane] - weight * total[lane]);
                let (_, part) = log_scale(times * theta[n + j][lane]);
                of_theta[n + j][lane] *= times * (part * part);
                of_theta[2 * n + j][lane] *= times;
            }
        }
        of_input
    }
}
