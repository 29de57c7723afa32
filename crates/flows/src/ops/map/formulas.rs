//! What a map of one number says of itself, for many numbers side by side.

#[cfg(feature = "cube")]
use burn_cubecl::cubecl::{self, prelude::*};

use crate::map::Direction;

/// Numbers side by side: so many that the compiler leaves the loops over them loops, and makes those vectors.
pub const LANES: usize = 64;

/// A number in each lane.
pub type Lanes = [f32; LANES];

/// A monotone map y of x by parameters θ, both in lanes.
///
/// With ℓ = ln dy/dx, a gradient through the map needs, from g = ∂L/∂y and h = ∂L/∂ℓ,
///
/// ```text
/// ∂L/∂x = g y' + h ∂ℓ/∂x        ∂L/∂θ = g ∂y/∂θ + h ∂ℓ/∂θ
/// ```
///
/// and one through its inverse, which hands on x and -ℓ, from g = ∂L/∂x and h = ∂L/∂(-ℓ), by the implicit function theorem
///
/// ```text
/// ∂L/∂y = (g - h ∂ℓ/∂x) / y'    ∂L/∂θ = -∂L/∂y ∂y/∂θ - h ∂ℓ/∂θ
/// ```
///
/// so that both are one sum over θ, of other weights ([`weights`]).
pub trait Formulas: Copy {
    /// Numbers in lanes that a call may write to.
    #[inline(always)]
    fn scratch(self) -> usize {
        0
    }

    /// y and ℓ of x, or x and -ℓ of y.
    fn value(
        self,
        direction: Direction,
        at: &Lanes,
        theta: &[Lanes],
        scratch: &mut [Lanes],
    ) -> (Lanes, Lanes);

    /// What the gradient of the input is, at this x, and that of θ, written to `of_theta`.
    fn gradient(
        self,
        direction: Direction,
        x: &Lanes,
        theta: &[Lanes],
        gradient: (&Lanes, &Lanes),
        of_theta: &mut [Lanes],
        scratch: &mut [Lanes],
    ) -> Lanes;

    /// What a network sees of x: [`ScalarMap::seen`](crate::ScalarMap::seen) numbers.
    #[inline(always)]
    fn see(self, x: &Lanes, seen: &mut [Lanes]) {
        seen[0] = *x;
    }

    /// The gradient of x, from that of what is seen of it.
    #[inline(always)]
    fn of_seen(self, _seen: &[Lanes], of_seen: &[Lanes]) -> Lanes {
        of_seen[0]
    }
}

/// The gradient of the input, and what ∂y/∂θ and ∂ℓ/∂θ are multiplied by, from g, h, y' and ∂ℓ/∂x.
#[inline(always)]
pub fn weights(
    direction: Direction,
    g: f32,
    h: f32,
    slope: f32,
    slope_of_log: f32,
) -> (f32, f32, f32) {
    match direction {
        Direction::Forward => forward_weights(g, h, slope, slope_of_log),
        Direction::Inverse => inverse_weights(g, h, slope, slope_of_log),
    }
}

/// Those of the map.
#[cfg_attr(feature = "cube", cube)]
#[inline(always)]
pub fn forward_weights(g: f32, h: f32, slope: f32, slope_of_log: f32) -> (f32, f32, f32) {
    (g * slope + h * slope_of_log, g, h)
}

/// Those of its inverse.
#[cfg_attr(feature = "cube", cube)]
#[inline(always)]
pub fn inverse_weights(g: f32, h: f32, slope: f32, slope_of_log: f32) -> (f32, f32, f32) {
    let of_y = (g - h * slope_of_log) / slope;
    (of_y, -of_y, -h)
}

/// Rows of numbers into lanes, a row a lane.
#[inline(always)]
pub fn gather(rows: &[f32], lanes: &mut [Lanes]) {
    for (lane, row) in rows.chunks_exact(lanes.len()).enumerate() {
        for (lanes, &number) in lanes.iter_mut().zip(row) {
            lanes[lane] = number;
        }
    }
}

/// Lanes into rows of numbers.
#[inline(always)]
pub fn scatter(lanes: &[Lanes], rows: &mut [f32]) {
    for (lane, row) in rows.chunks_exact_mut(lanes.len()).enumerate() {
        for (lanes, number) in lanes.iter().zip(row) {
            *number = lanes[lane];
        }
    }
}
