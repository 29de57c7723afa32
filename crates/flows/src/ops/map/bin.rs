//! A bin of the rational-quadratic spline, whose equations stand in `map/spline.rs`: the arithmetic, which lanes of the host and
//! units of a kernel share.
//!
//! With n = s ξ² + d_k ξ (1 - ξ) and m = d_k+1 ξ² + 2 s ξ (1 - ξ) + d_k (1 - ξ)², y = y_k + h n / c and
//! ℓ = 2 ln s + ln m - 2 ln c.
//!
//! On the circle a phase is added to y, or subtracted before the bins are asked where y is, and angles go back to [-π, π).
//!
//! CubeCL reads plain arithmetic and plain `if`s as Rust does; exp and ln are not here, since each side has its own.

use std::f32::consts::PI;

#[cfg(feature = "cube")]
use burn_cubecl::cubecl::{self, prelude::*};

use crate::map::spline::{TINY, TURN};

/// The same angle in [-π, π), as `map::spline` has it.
#[cfg_attr(feature = "cube", cube)]
#[inline(always)]
pub fn wrapped(x: f32) -> f32 {
    let turns = (x * (1.0 / TURN as f32) + 0.5).floor();
    let rest = x - turns * TURN as f32;
    // Rounding may have counted a turn too many, or one too few.
    let rest = if rest >= PI { rest - TURN as f32 } else { rest };
    let rest = if rest < -PI { rest + TURN as f32 } else { rest };
    if rest.abs() > PI { -PI } else { rest }
}

/// A bin, and the slopes at its knots; or the gradients of these.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "cube", derive(CubeType))]
pub struct Bin {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    pub left: f32,
    pub right: f32,
}

/// A place in a bin: what y and ℓ are made of.
#[derive(Clone, Copy)]
#[cfg_attr(feature = "cube", derive(CubeType))]
pub struct Place {
    pub xi: f32,
    /// 1 - ξ, which has more digits than ξ where that is close to 1.
    pub rest: f32,
    pub around: f32,
    pub s: f32,
    pub c: f32,
    pub n: f32,
    pub m: f32,
}

/// The number, or the nearer of 0 and 1; NaN stays.
#[cfg_attr(feature = "cube", cube)]
#[inline(always)]
fn within_1(x: f32) -> f32 {
    let x = if x < 0.0 { 0.0_f32 } else { x };
    if x > 1.0 { 1.0_f32 } else { x }
}

#[cfg_attr(feature = "cube", cube)]
impl Bin {
    /// At ξ and 1 - ξ.
    #[inline(always)]
    fn at(&self, xi: f32, rest: f32) -> Place {
        let around = xi * rest;
        let s = self.height / self.width;
        Place {
            xi,
            rest,
            around,
            s,
            c: s + (self.left + self.right - 2.0 * s) * around,
            n: s * xi * xi + self.left * around,
            m: self.right * xi * xi + 2.0 * s * around + self.left * rest * rest,
        }
    }

    /// Where x is.
    #[inline(always)]
    pub fn at_x(&self, x: f32) -> Place {
        let xi = within_1((x - self.x) / self.width);
        self.at(xi, 1.0 - xi)
    }

    /// Where y is, measured from the nearer knot.
    #[inline(always)]
    pub fn at_y(&self, y: f32) -> Place {
        let q = y - self.y;
        let q = if q < 0.0 { 0.0_f32 } else { q };
        let p = self.height - q;
        let p = if p < 0.0 { 0.0_f32 } else { p };
        let is_right = p < q;
        let near = if is_right { p } else { q };
        let slope = if is_right { self.right } else { self.left };
        let near = self.past_knot(near, slope);
        let far = 1.0 - near;
        let xi = if is_right { far } else { near };
        let rest = if is_right { near } else { far };
        self.at(xi, rest)
    }

    /// How far it is along x, as a share of the width, to where y has gone by q from a knot of slope d.
    #[inline(always)]
    fn past_knot(&self, q: f32, d: f32) -> f32 {
        let s = self.height / self.width;
        let e = self.left + self.right - 2.0 * s;
        let b = self.height * d - q * e;
        let a = self.height * (s - d) + q * e;
        let square = b * b + 4.0 * s * q * a;
        let square = if square < TINY as f32 {
            TINY as f32
        } else {
            square
        };
        let root = square.sqrt();
        // Neither sum cancels.
        let xi = if b < 0.0 {
            0.5 * (root - b) / a
        } else {
            2.0 * s * q / (b + root)
        };
        within_1(xi)
    }

    /// x of a place.
    #[inline(always)]
    pub fn x_of(&self, place: &Place) -> f32 {
        self.x + place.xi * self.width
    }

    /// y of a place.
    #[inline(always)]
    pub fn y_of(&self, place: &Place) -> f32 {
        self.y + self.height * place.n / place.c
    }

    /// dy/dx
    #[inline(always)]
    pub fn slope(&self, place: &Place) -> f32 {
        place.s * place.s * place.m / (place.c * place.c)
    }

    /// dℓ/dx
    #[inline(always)]
    pub fn slope_of_log(&self, place: &Place) -> f32 {
        let (xi, s) = (place.xi, place.s);
        let rest = place.rest;
        let (e, turn) = (self.left + self.right - 2.0 * s, rest - xi);
        let of_m_by_xi = 2.0 * (self.right * xi + s * turn - self.left * rest);
        (of_m_by_xi / place.m - 2.0 * e * turn / place.c) / self.width
    }

    /// What g ∂y + h ∂ℓ is for each number of the bin.
    #[inline(always)]
    pub fn gradient(&self, place: &Place, g: f32, h: f32) -> Bin {
        let (xi, around, s) = (place.xi, place.around, place.s);
        let rest = place.rest;
        let (e, turn) = (self.left + self.right - 2.0 * s, rest - xi);
        let of_n = g * self.height / place.c;
        let of_c = -(of_n * place.n + 2.0 * h) / place.c;
        let of_m = h / place.m;
        let of_around = 2.0 * s * of_m + self.left * of_n + e * of_c;
        let of_xi = of_m * 2.0 * (self.right * xi - self.left * rest)
            + of_n * 2.0 * s * xi
            + of_around * turn;
        let of_s = 2.0 * h / s + of_m * 2.0 * around + of_n * xi * xi + of_c * (1.0 - 2.0 * around);
        Bin {
            x: -of_xi / self.width,
            y: g,
            width: -(of_s * s + of_xi * xi) / self.width,
            height: g * place.n / place.c + of_s / self.width,
            left: of_m * rest * rest + (of_n + of_c) * around,
            right: of_m * xi * xi + of_c * around,
        }
    }
}
