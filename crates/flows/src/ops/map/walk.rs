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

/// The mapped points, `[rows, dim]`, and the log-determinant, `[rows]`.
pub fn values(
    sizes: Sizes,
    direction: Direction,
    points: &[f32],
    raw: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (dim, at_once) = (sizes.dim, sizes.at_once());
    let (value, log_det) = write_chunks(sizes.rows * dim, at_once * dim, |i, value| {
        map_rows(value, i * at_once, sizes, direction, points, raw)
    });
    (value, log_det.concat())
}

/// The gradients of points and parameters, from those of the mapped points and of the log-determinant. `before` are the points
/// where the map's own argument is.
pub fn gradients(
    sizes: Sizes,
    direction: Direction,
    before: &[f32],
    raw: &[f32],
    grads: (&[f32], &[f32]),
) -> (Vec<f32>, Vec<f32>) {
    let (numbers, at_once) = (sizes.mapped() * sizes.map.parameters(), sizes.at_once());
    let (of_raw, of_points) = write_chunks(sizes.rows * numbers, at_once * numbers, |i, of_raw| {
        gradient_rows(of_raw, i * at_once, sizes, direction, before, raw, grads)
    });
    (of_points.concat(), of_raw)
}

vectorized! {
    fn map_rows(
        value: &mut [f32],
        first: usize,
        sizes: Sizes,
        direction: Direction,
        points: &[f32],
        raw: &[f32],
    ) -> Vec<f32> {
        by_formulas!(sizes.map, map => map_by(map, value, first, sizes, direction, points, raw))
    }

    fn gradient_rows(
        of_raw: &mut [f32],
        first: usize,
        sizes: Sizes,
        direction: Direction,
        before: &[f32],
        raw: &[f32],
        grads: (&[f32], &[f32]),
    ) -> Vec<f32> {
        by_formulas!(sizes.map, map => {
            gradient_by(map, of_raw, first, sizes, direction, before, raw, grads)
        })
    }
}

#[inline(always)]
fn map_by<M: Formulas>(
    map: M,
    mapped: &mut [f32],
    first: usize,
    sizes: Sizes,
    direction: Direction,
    points: &[f32],
    raw: &[f32],
) -> Vec<f32> {
    let Sizes { dim, kept, .. } = sizes;
    let parameters = sizes.map.parameters();
    let mut theta = vec![[0.0; LANES]; parameters];
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    let at = sizes.mapped_of(points, first, mapped.len() / dim);
    let (mut values, mut log_slopes) = (vec![0.0; at.len()], vec![0.0; at.len()]);
    let raw = &raw[first * sizes.mapped() * parameters..][..at.len() * parameters];
    for start in (0..at.len()).step_by(LANES) {
        let numbers = start..at.len().min(start + LANES);
        let count = numbers.len();
        let mut lanes = [0.0; LANES];
        lanes[..count].copy_from_slice(&at[numbers.clone()]);
        gather(&raw[start * parameters..][..count * parameters], &mut theta);
        let (value, log_slope) = map.value(direction, &lanes, &theta, &mut scratch);
        values[numbers.clone()].copy_from_slice(&value[..count]);
        log_slopes[numbers].copy_from_slice(&log_slope[..count]);
    }
    for (i, mapped) in mapped.chunks_exact_mut(dim).enumerate() {
        mapped[..kept].copy_from_slice(&points[(first + i) * dim..][..kept]);
        mapped[kept..].copy_from_slice(&values[i * sizes.mapped()..][..sizes.mapped()]);
    }
    let mut log_det = vec![0.0; at.len() / sizes.mapped()];
    for (sum, log_slopes) in log_det
        .iter_mut()
        .zip(log_slopes.chunks_exact(sizes.mapped()))
    {
        for log_slope in log_slopes {
            *sum += log_slope;
        }
    }
    log_det
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
    (of_value, of_log_det): (&[f32], &[f32]),
) -> Vec<f32> {
    let Sizes { dim, kept, .. } = sizes;
    let parameters = sizes.map.parameters();
    let (mut theta, mut of_theta) = (
        vec![[0.0; LANES]; parameters],
        vec![[0.0; LANES]; parameters],
    );
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    let rows = of_raw.len() / parameters / sizes.mapped();
    let x = sizes.mapped_of(before, first, rows);
    let g = sizes.mapped_of(of_value, first, rows);
    let mut of_inputs = vec![0.0; x.len()];
    let raw = &raw[first * sizes.mapped() * parameters..][..x.len() * parameters];
    for start in (0..x.len()).step_by(LANES) {
        let numbers = start..x.len().min(start + LANES);
        let count = numbers.len();
        let (mut x_lanes, mut g_lanes, mut h_lanes) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        x_lanes[..count].copy_from_slice(&x[numbers.clone()]);
        g_lanes[..count].copy_from_slice(&g[numbers.clone()]);
        for lane in 0..count {
            h_lanes[lane] = of_log_det[first + (start + lane) / sizes.mapped()];
        }
        gather(&raw[start * parameters..][..count * parameters], &mut theta);
        let grads = (&g_lanes, &h_lanes);
        let of_input = map.gradient(
            direction,
            &x_lanes,
            &theta,
            grads,
            &mut of_theta,
            &mut scratch,
        );
        scatter(
            &of_theta,
            &mut of_raw[start * parameters..][..count * parameters],
        );
        of_inputs[numbers].copy_from_slice(&of_input[..count]);
    }
    let mut of_points = vec![0.0; rows * dim];
    for (i, of_points) in of_points.chunks_exact_mut(dim).enumerate() {
        of_points[..kept].copy_from_slice(&of_value[(first + i) * dim..][..kept]);
        of_points[kept..].copy_from_slice(&of_inputs[i * sizes.mapped()..][..sizes.mapped()]);
    }
    of_points
}

impl Sizes {
    /// Of `rows` rows from `first` on, the coordinates that are mapped, side by side.
    #[inline(always)]
    fn mapped_of(&self, points: &[f32], first: usize, rows: usize) -> Vec<f32> {
        let mut mapped = Vec::with_capacity(rows * self.mapped());
        for row in first..first + rows {
            mapped.extend_from_slice(&points[row * self.dim + self.kept..][..self.mapped()]);
        }
        mapped
    }
}
