//! The passes on slices: [`LANES`] rows at a time go through all coordinates together.

#![allow(clippy::needless_range_loop)] // Lanes go by their number.

use std::ops::Range;

use burn_host::{vectorized, write_chunks};

use super::Masked;
use crate::{
    ScalarMap,
    map::Direction,
    network::units_that_see,
    ops::map::{
        by_formulas,
        formulas::{Formulas, LANES, Lanes, gather, scatter},
    },
};

/// `[z | log_det]` of each row of `y`.
pub fn solve(y: &[f32], first: &[f32], weights: &[f32], masked: &Masked) -> Vec<f32> {
    let (dim, rows) = (masked.dim, y.len() / masked.dim);
    let network = Network::new(first, weights, masked);
    let (packed, _) = write_chunks(rows * (dim + 1), LANES * (dim + 1), |i, packed| {
        solve_rows(packed, i * LANES, y, &network);
    });
    packed
}

/// λ of each row, from ∂L/∂z and z.
pub fn transposed_solve(
    grad: &[f32],
    z: &[f32],
    first: &[f32],
    weights: &[f32],
    masked: &Masked,
) -> Vec<f32> {
    let dim = masked.dim;
    let network = Network::new(first, weights, masked);
    let (lambda, _) = write_chunks(z.len(), LANES * dim, |i, lambda| {
        transposed_solve_rows(lambda, i * LANES, grad, z, &network);
    });
    lambda
}

vectorized! {
    fn solve_rows(packed: &mut [f32], row: usize, y: &[f32], network: &Network<'_>) {
        by_formulas!(network.map, map => solve_by(map, packed, row, y, network));
    }

    fn transposed_solve_rows(
        lambda: &mut [f32],
        row: usize,
        grad: &[f32],
        z: &[f32],
        network: &Network<'_>,
    ) {
        by_formulas!(network.map, map => transposed_solve_by(map, lambda, row, grad, z, network));
    }
}

#[inline(always)]
fn solve_by<M: Formulas>(map: M, packed: &mut [f32], row: usize, y: &[f32], network: &Network<'_>) {
    let dim = network.dim;
    let rows = packed.len() / (dim + 1);
    let y = gathered(&y[row * dim..][..rows * dim], dim);
    let mut units = network.units(row, rows);
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    let mut z = vec![[0.0; LANES]; dim];
    let mut seen = vec![[0.0; LANES]; dim * network.map.seen()];
    let mut log_det = [0.0; LANES];
    for i in 0..dim {
        network.advance(&mut units, &seen, i);
        let theta = network.outputs(&mut units, &seen, i);
        let (start, log_slope) = map.value(Direction::Inverse, &y[i], theta, &mut scratch);
        z[i] = start;
        map.see(&start, &mut seen[network.of(i)]);
        for lane in 0..LANES {
            log_det[lane] += log_slope[lane];
        }
    }
    z.push(log_det);
    scatter(&z, packed);
}

#[inline(always)]
fn transposed_solve_by<M: Formulas>(
    map: M,
    lambda: &mut [f32],
    row: usize,
    grad: &[f32],
    z: &[f32],
    network: &Network<'_>,
) {
    let dim = network.dim;
    let rows = lambda.len() / dim;
    let z = gathered(&z[row * dim..][..rows * dim], dim);
    let mut of_z = gathered(&grad[row * dim..][..rows * dim], dim);
    let mut seen = vec![[0.0; LANES]; dim * network.map.seen()];
    let mut of_seen = seen.clone();
    let mut units = network.units(row, rows);
    for i in 0..dim {
        network.advance(&mut units, &seen, i);
        map.see(&z[i], &mut seen[network.of(i)]);
    }
    let mut of_units: Vec<Vec<Lanes>> = (units.hidden.iter())
        .map(|layer| vec![[0.0; LANES]; layer.len()])
        .collect();
    let mut of_theta = vec![[0.0; LANES]; network.map.parameters()];
    let mut scratch = vec![[0.0; LANES]; map.scratch()];
    for i in (0..dim).rev() {
        let back = map.of_seen(&seen[network.of(i)], &of_seen[network.of(i)]);
        for lane in 0..LANES {
            of_z[i][lane] += back[lane];
        }
        let theta = network.outputs(&mut units, &seen, i);
        // What comes back through the inverse of this number's map: λ_i, and -λ_i ∂f_i/∂θ_i.
        of_z[i] = map.gradient(
            Direction::Inverse,
            &z[i],
            theta,
            (&of_z[i], &[0.0; LANES]),
            &mut of_theta,
            &mut scratch,
        );
        network.retreat(&units, &of_theta, &mut of_units, &mut of_seen, i);
    }
    scatter(&of_z, lambda);
}

/// A masked network with its weights turned: those of a unit side by side.
struct Network<'a> {
    dim: usize,
    map: ScalarMap,
    /// `[owners, width of the first layer]`
    first: &'a [f32],
    /// The hidden ones, and that of the outputs.
    layers: Vec<Layer<'a>>,
}

struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    /// `[outputs, inputs]`
    weights: &'a [f32],
    /// None of the first layer, which has one of each owner.
    bias: &'a [f32],
}

/// What is known of the units of some rows.
struct Units {
    hidden: Vec<Vec<Lanes>>,
    /// The parameters of one number.
    theta: Vec<Lanes>,
    /// What the first layer adds, of each row: `[width]`.
    first: Vec<Lanes>,
}

impl<'a> Network<'a> {
    fn new(first: &'a [f32], mut numbers: &'a [f32], masked: &Masked) -> Self {
        let outputs = masked.dim * masked.map.parameters();
        let mut inputs = masked.dim * masked.map.seen();
        let mut take = |n: usize| {
            let (taken, rest) = numbers.split_at(n);
            numbers = rest;
            taken
        };
        let widths = masked.hidden.iter().chain([&outputs]);
        let layers = widths.enumerate().map(|(l, &outputs)| {
            let weights = take(inputs * outputs);
            let bias = take(if l == 0 { 0 } else { outputs });
            let layer = Layer {
                inputs,
                outputs,
                weights,
                bias,
            };
            inputs = outputs;
            layer
        });
        Self {
            dim: masked.dim,
            map: masked.map,
            first,
            layers: layers.collect(),
        }
    }

    /// Of rows from `row` on, nothing yet.
    #[inline(always)]
    fn units(&self, row: usize, rows: usize) -> Units {
        let width = self.layers[0].outputs;
        let owners = self.first.len() / width;
        let mut first = vec![[0.0; LANES]; width];
        for lane in 0..rows {
            let own = &self.first[(row + lane) % owners * width..][..width];
            for (lanes, &number) in first.iter_mut().zip(own) {
                lanes[lane] = number;
            }
        }
        let hidden = &self.layers[..self.layers.len() - 1];
        Units {
            hidden: (hidden.iter())
                .map(|layer| vec![[0.0; LANES]; layer.outputs])
                .collect(),
            theta: vec![[0.0; LANES]; self.map.parameters()],
            first,
        }
    }

    /// What is seen of coordinate i.
    #[inline(always)]
    fn of(&self, i: usize) -> Range<usize> {
        i * self.map.seen()..(i + 1) * self.map.seen()
    }

    /// How many of a layer's inputs see i coordinates at most: they are the first.
    #[inline(always)]
    fn seen(&self, layer: usize, i: usize) -> usize {
        match layer {
            0 => i * self.map.seen(),
            _ => units_that_see(i, self.dim, self.layers[layer].inputs),
        }
    }

    /// The units of a hidden layer that see i coordinates.
    #[inline(always)]
    fn at(&self, layer: usize, i: usize) -> Range<usize> {
        let end = units_that_see(i, self.dim, self.layers[layer].outputs);
        match i {
            0 => 0..end,
            _ => units_that_see(i - 1, self.dim, self.layers[layer].outputs)..end,
        }
    }

    /// Computes the hidden units that see i coordinates, whose numbers are known.
    #[inline(always)]
    fn advance(&self, units: &mut Units, numbers: &[Lanes], i: usize) {
        for (l, layer) in self.layers[..self.layers.len() - 1].iter().enumerate() {
            let (before, here) = units.hidden.split_at_mut(l);
            let from = before.last().map_or(numbers, Vec::as_slice);
            let (at, seen) = (self.at(l, i), self.seen(l, i));
            let to = &mut here[0][at.clone()];
            layer.products(at, &units.first, &from[..seen], to);
            for lanes in to {
                for lane in 0..LANES {
                    lanes[lane] = if lanes[lane] < 0.0 { 0.0 } else { lanes[lane] };
                }
            }
        }
    }

    /// The parameters of number i.
    #[inline(always)]
    fn outputs<'u>(&self, units: &'u mut Units, numbers: &[Lanes], i: usize) -> &'u [Lanes] {
        let l = self.layers.len() - 1;
        let from = units.hidden.last().map_or(numbers, Vec::as_slice);
        let parameters = self.map.parameters();
        let at = i * parameters..(i + 1) * parameters;
        self.layers[l].products(at, &units.first, &from[..self.seen(l, i)], &mut units.theta);
        &units.theta
    }

    /// Hands the gradient of number i's parameters back, to units that see i coordinates at most, and that of those that see i,
    /// of which nothing more comes, to what they see.
    #[inline(always)]
    fn retreat(
        &self,
        units: &Units,
        of_theta: &[Lanes],
        of_units: &mut [Vec<Lanes>],
        of_numbers: &mut [Lanes],
        i: usize,
    ) {
        let l = self.layers.len() - 1;
        let parameters = self.map.parameters();
        let to = of_units
            .last_mut()
            .map_or(&mut *of_numbers, Vec::as_mut_slice);
        let at = i * parameters..(i + 1) * parameters;
        self.layers[l].transposed(at, of_theta, &mut to[..self.seen(l, i)]);
        for l in (0..l).rev() {
            let (before, here) = of_units.split_at_mut(l);
            let (at, seen) = (self.at(l, i), self.seen(l, i));
            let of_unit = &mut here[0][at.clone()];
            for (of_unit, unit) in of_unit.iter_mut().zip(&units.hidden[l][at.clone()]) {
                for lane in 0..LANES {
                    of_unit[lane] = if unit[lane] > 0.0 { of_unit[lane] } else { 0.0 };
                }
            }
            let to = before
                .last_mut()
                .map_or(&mut *of_numbers, Vec::as_mut_slice);
            self.layers[l].transposed(at, of_unit, &mut to[..seen]);
        }
    }
}

impl Layer<'_> {
    /// Bias and products of these units with what they see.
    #[inline(always)]
    fn products(&self, units: Range<usize>, first: &[Lanes], seen: &[Lanes], to: &mut [Lanes]) {
        for (unit, to) in units.zip(to) {
            *to = match self.bias.get(unit) {
                Some(&bias) => [bias; LANES],
                None => first[unit],
            };
            let weights = &self.weights[unit * self.inputs..][..seen.len()];
            add_products(weights, seen, to);
        }
    }

    /// Adds to each of `to` its weight in each of these units times that unit's number.
    #[inline(always)]
    fn transposed(&self, units: Range<usize>, from: &[Lanes], to: &mut [Lanes]) {
        let (fours, rest) = from.as_chunks::<4>();
        let mut unit = units.start;
        for [a, b, c, d] in fours {
            let weights = |u: usize| &self.weights[(unit + u) * self.inputs..][..to.len()];
            let (wa, wb, wc, wd) = (weights(0), weights(1), weights(2), weights(3));
            for (k, to) in to.iter_mut().enumerate() {
                let (wa, wb, wc, wd) = (wa[k], wb[k], wc[k], wd[k]);
                for lane in 0..LANES {
                    to[lane] += (wa * a[lane] + wb * b[lane]) + (wc * c[lane] + wd * d[lane]);
                }
            }
            unit += 4;
        }
        for from in rest {
            let weights = &self.weights[unit * self.inputs..][..to.len()];
            for (to, &weight) in to.iter_mut().zip(weights) {
                for lane in 0..LANES {
                    to[lane] += weight * from[lane];
                }
            }
            unit += 1;
        }
    }
}

/// Adds Σ w_k x_k in each lane. Four terms at a time: the sum goes through memory once for all of them.
#[inline(always)]
fn add_products(weights: &[f32], numbers: &[Lanes], sum: &mut Lanes) {
    let (fours, rest) = numbers.as_chunks::<4>();
    let (weights, weights_rest) = weights.as_chunks::<4>();
    for ([a, b, c, d], &[wa, wb, wc, wd]) in fours.iter().zip(weights) {
        for lane in 0..LANES {
            sum[lane] += (wa * a[lane] + wb * b[lane]) + (wc * c[lane] + wd * d[lane]);
        }
    }
    for (numbers, weight) in rest.iter().zip(weights_rest) {
        for lane in 0..LANES {
            sum[lane] += weight * numbers[lane];
        }
    }
}

/// Rows of `width` numbers in lanes, a row a lane; the lanes left over are 0.
#[inline(always)]
fn gathered(rows: &[f32], width: usize) -> Vec<Lanes> {
    let mut lanes = vec![[0.0; LANES]; width];
    gather(rows, &mut lanes);
    lanes
}
