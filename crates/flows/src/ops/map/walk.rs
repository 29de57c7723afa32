//! The way of a map through a batch.
//!
//! Rows are divided into pieces that depend on the shapes alone, and spread over the threads; the numbers of a piece go
//! through the map [`LANES`] at a time, whichever points they are of.

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use burn_host::{vectorized, write_chunks};

use super::{
    Sizes, by_formulas,
    formulas::{Formulas, LANES, gather, scatter},
};
use crate::map::Direction;

/// Parameters that are worth a thread's while.
const GRAIN: usize = 1 << 13;

impl Sizes {
    /// Rows that a thread takes at a time.
    fn at_once(&self) -> usize {
        GRAIN.div_ceil(self.mapped() * self.map.parameters() + self.dim)
    }
}

/// `[mapped points | log_det]`, `[rows, dim + 1]`.
pub fn values(sizes: Sizes, direction: Direction, points: &[f32], raw: &[f32]) -> Vec<f32> {
    let (width, at_once) = (sizes.dim + 1, sizes.at_once());
    let (packed, _) = write_chunks(sizes.rows * width, at_once * width, |i, packed| {
        map_rows(packed, i * at_once, sizes, direction, points, raw);
    });
    packed
}

/// The gradients of points and parameters, from that of the packed output. `before` are rows of at least `dim` numbers: the
/// points where the map's own argument is.
pub fn gradients(
    sizes: Sizes,
    direction: Direction,
    before: &[f32],
    raw: &[f32],
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (numbers, at_once) = (sizes.mapped() * sizes.map.parameters(), sizes.at_once());
    let (of_raw, of_points) = write_chunks(sizes.rows * numbers, at_once * numbers, |i, of_raw| {
        gradient_rows(of_raw, i * at_once, sizes, direction, before, raw, grad)
    });
    (of_points.concat(), of_raw)
}

vectorized! {
    fn map_rows(
        packed: &mut [f32],
        first: usize,
        sizes: Sizes,
        direction: Direction,
        points: &[f32],
        raw: &[f32],
    ) {
        by_formulas!(sizes.map, map => map_by(map, packed, first, sizes, direction, points, raw));
    }

    fn gradient_rows(
        of_raw: &mut [f32],
        first: usize,
        sizes: Sizes,
        direction: Direction,
        before: &[f32],
        raw: &[f32],
        grad: &[f32],
    ) -> Vec<f32> {
        by_formulas!(sizes.map, map => {
            gradient_by(map, of_raw, first, sizes, direction, before, raw, grad)
        })
    }
}

#[inline(always)]
fn map_by<M: Formulas>(
    map: M,
    packed: &mut [f32],
    first: usize,
    sizes: Sizes,
    direction: Direction,
    points: &[f32],
    raw: &[f32],
) {
    let Sizes { dim, kept, .. } = sizes;
    let parameters = sizes.map.parameters();
    let mut theta = vec![[0.0; LANES]; parameters];
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    for (i, packed) in packed.chunks_exact_mut(dim + 1).enumerate() {
        packed[..kept].copy_from_slice(&points[(first + i) * dim..][..kept]);
    }
    let numbers = packed.len() / (dim + 1) * sizes.mapped();
    for start in (0..numbers).step_by(LANES) {
        let count = LANES.min(numbers - start);
        let mut at = [0.0; LANES];
        let (mut row, mut coordinate) = sizes.place(start);
        for lane in 0..count {
            at[lane] = points[(first + row) * dim + coordinate];
            (row, coordinate) = sizes.next(row, coordinate);
        }
        gather(
            &raw[(first * sizes.mapped() + start) * parameters..][..count * parameters],
            &mut theta,
        );
        let (value, log_slope) = map.value(direction, &at, &theta, &mut scratch);
        let (mut row, mut coordinate) = sizes.place(start);
        for lane in 0..count {
            packed[row * (dim + 1) + coordinate] = value[lane];
            packed[row * (dim + 1) + dim] += log_slope[lane];
            (row, coordinate) = sizes.next(row, coordinate);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // Of the one call.
fn gradient_by<M: Formulas>(
    map: M,
    of_raw: &mut [f32],
    first: usize,
    sizes: Sizes,
    direction: Direction,
    before: &[f32],
    raw: &[f32],
    grad: &[f32],
) -> Vec<f32> {
    let Sizes { dim, kept, .. } = sizes;
    let parameters = sizes.map.parameters();
    let (mut theta, mut of_theta) = (
        vec![[0.0; LANES]; parameters],
        vec![[0.0; LANES]; parameters],
    );
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    let numbers = of_raw.len() / parameters;
    let rows = numbers / sizes.mapped();
    let stride = before.len() / sizes.rows;
    let mut of_points = vec![0.0; rows * dim];
    for (i, of_points) in of_points.chunks_exact_mut(dim).enumerate() {
        of_points[..kept].copy_from_slice(&grad[(first + i) * (dim + 1)..][..kept]);
    }
    for start in (0..numbers).step_by(LANES) {
        let count = LANES.min(numbers - start);
        let (mut x, mut g, mut h) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let (mut row, mut coordinate) = sizes.place(start);
        for lane in 0..count {
            let grad = &grad[(first + row) * (dim + 1)..][..dim + 1];
            x[lane] = before[(first + row) * stride + coordinate];
            (g[lane], h[lane]) = (grad[coordinate], grad[dim]);
            (row, coordinate) = sizes.next(row, coordinate);
        }
        gather(
            &raw[(first * sizes.mapped() + start) * parameters..][..count * parameters],
            &mut theta,
        );
        let of_input = map.gradient(direction, &x, &theta, (&g, &h), &mut of_theta, &mut scratch);
        scatter(
            &of_theta,
            &mut of_raw[start * parameters..][..count * parameters],
        );
        let (mut row, mut coordinate) = sizes.place(start);
        for lane in 0..count {
            of_points[row * dim + coordinate] = of_input[lane];
            (row, coordinate) = sizes.next(row, coordinate);
        }
    }
    of_points
}

impl Sizes {
    /// The row and the coordinate of a mapped number.
    #[inline(always)]
    fn place(&self, number: usize) -> (usize, usize) {
        (number / self.mapped(), self.kept + number % self.mapped())
    }

    #[inline(always)]
    fn next(&self, row: usize, coordinate: usize) -> (usize, usize) {
        if coordinate + 1 == self.dim {
            (row + 1, self.kept)
        } else {
            (row, coordinate + 1)
        }
    }
}
