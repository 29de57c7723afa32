//! y = x + t, and y = x e^s + t with s = a / (1 + |a| / 5), by θ = (t) and θ = (a, t).

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

#[cfg(feature = "cube")]
use burn_cubecl::cubecl::{self, prelude::*};
use burn_host::math::exp;

use super::formulas::{Formulas, LANES, Lanes, weights};
use crate::map::{Direction, LARGEST_LOG_SCALE};

#[derive(Clone, Copy)]
pub struct Additive;

impl Formulas for Additive {
    #[inline(always)]
    fn value(
        self,
        direction: Direction,
        at: &Lanes,
        theta: &[Lanes],
        _: &mut [Lanes],
    ) -> (Lanes, Lanes) {
        let sign = match direction {
            Direction::Forward => 1.0,
            Direction::Inverse => -1.0,
        };
        let mut value = *at;
        for lane in 0..LANES {
            value[lane] += sign * theta[0][lane];
        }
        (value, [0.0; LANES])
    }

    #[inline(always)]
    fn gradient(
        self,
        direction: Direction,
        _: &Lanes,
        _: &[Lanes],
        (g, h): (&Lanes, &Lanes),
        of_theta: &mut [Lanes],
        _: &mut [Lanes],
    ) -> Lanes {
        let mut of_input = [0.0; LANES];
        for lane in 0..LANES {
            (of_input[lane], of_theta[0][lane], _) = weights(direction, g[lane], h[lane], 1.0, 0.0);
        }
        of_input
    }
}

#[derive(Clone, Copy)]
pub struct Affine;

/// s, and 1 / (1 + |a| / 5), whose square is ds/da.
#[cfg_attr(feature = "cube", cube)]
#[inline(always)]
pub fn log_scale(a: f32) -> (f32, f32) {
    let part = 1.0 / (1.0 + a.abs() * (1.0 / LARGEST_LOG_SCALE as f32));
    (a * part, part)
}

impl Formulas for Affine {
    #[inline(always)]
    fn value(
        self,
        direction: Direction,
        at: &Lanes,
        theta: &[Lanes],
        _: &mut [Lanes],
    ) -> (Lanes, Lanes) {
        let (mut value, mut log_slope) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (s, _) = log_scale(theta[0][lane]);
            (value[lane], log_slope[lane]) = match direction {
                Direction::Forward => (at[lane] * exp(s) + theta[1][lane], s),
                Direction::Inverse => ((at[lane] - theta[1][lane]) * exp(-s), -s),
            };
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
        _: &mut [Lanes],
    ) -> Lanes {
        let mut of_input = [0.0; LANES];
        for lane in 0..LANES {
            let (s, part) = log_scale(theta[0][lane]);
            let slope = exp(s);
            let (input, g, h) = weights(direction, g[lane], h[lane], slope, 0.0);
            of_input[lane] = input;
            of_theta[0][lane] = (g * x[lane] * slope + h) * (part * part);
            of_theta[1][lane] = g;
        }
        of_input
    }
}
