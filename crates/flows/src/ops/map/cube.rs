//! The maps of one number as CubeCL kernels, for wgpu, cuda and the other cube backends.
//!
//! A unit takes one coordinate of one row, forward as backward: its parameters are its own, and it needs no memory besides. A
//! row's log-determinant is summed by a second launch, a unit a row.
//!
//! A map is what it makes of one number ([`value`]) and the gradients of that ([`gradient`]), as in `formulas.rs`. Of a spline's
//! exponentials nothing is kept: each pass over the bins computes them again.
//!
//! Indices are of 32 bits or 64, as the tensors of a launch need.

use burn::{
    backend::{TensorMetadata, tensor::FloatTensor},
    tensor::Shape,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
};

use super::{
    MapBackwardOps, MapOps,
    affine::log_scale,
    bin::{Bin, Place, wrapped},
    formulas::{forward_weights, inverse_weights},
    of_rows,
};
use crate::{
    ScalarMap,
    map::{
        Direction, Domain,
        spline::{LEAST, SLOPE_1, Spline},
    },
    ops::kernel::{ROUNDS, UNITS, address_type, empty_like, sigmoid, softplus},
};

burn_host::fused_on!(Cube: "cube");

/// Whether these points live on a cube backend, and there is no kernel for the map, or they have more coordinates than one
/// comes to the end of.
pub fn lacks(points: &burn::tensor::Tensor<2>, map: ScalarMap) -> bool {
    let has_kernel = !matches!(map, ScalarMap::Sigmoidal(_));
    is_fused(points) && (!has_kernel || points.dims()[1] > ROUNDS)
}

impl MapOps for CubeBackend {
    fn map_points(
        points: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        map: ScalarMap,
        direction: Direction,
        kept: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [rows, dim] = points.shape().dims();
        let (points, raw) = (into_contiguous(points), into_contiguous(raw));
        let value = empty_like(&points, points.shape());
        let log_det = empty_like(&points, of_rows(&points.shape()));
        let log_slopes = empty_like(&points, Shape::new([rows, dim - kept]));
        let client = points.client.clone();
        let units = CubeDim::new_1d(UNITS);
        value_kernel::launch(
            &client,
            calculate_cube_count_elemwise(&client, rows * dim, units),
            units,
            address_type([&points, &raw]),
            points.into_tensor_arg(),
            raw.into_tensor_arg(),
            value.clone().into_tensor_arg(),
            log_slopes.clone().into_tensor_arg(),
            map,
            direction,
        );
        log_det_kernel::launch(
            &client,
            calculate_cube_count_elemwise(&client, rows, units),
            units,
            address_type([&log_slopes]),
            log_slopes.into_tensor_arg(),
            log_det.clone().into_tensor_arg(),
        );
        (value, log_det)
    }
}

impl MapBackwardOps for CubeBackend {
    fn map_points_backward(
        before: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        of_value: FloatTensor<Self>,
        of_log_det: FloatTensor<Self>,
        map: ScalarMap,
        direction: Direction,
        kept: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [before, raw, of_value, of_log_det] =
            [before, raw, of_value, of_log_det].map(into_contiguous);
        let of_points = empty_like(&before, before.shape());
        let of_raw = empty_like(&before, raw.shape());
        let coordinates = of_points.shape().num_elements();
        let units = CubeDim::new_1d(UNITS);
        gradient_kernel::launch(
            &before.client.clone(),
            calculate_cube_count_elemwise(&before.client, coordinates, units),
            units,
            address_type([&before, &raw]),
            before.into_tensor_arg(),
            raw.into_tensor_arg(),
            of_value.into_tensor_arg(),
            of_log_det.into_tensor_arg(),
            of_points.clone().into_tensor_arg(),
            of_raw.clone().into_tensor_arg(),
            kept,
            map,
            direction,
        );
        (of_points, of_raw)
    }
}

#[cube(launch, address_type = "dynamic")]
fn value_kernel(
    points: &Tensor<f32>,         // [rows, dim]
    raw: &Tensor<f32>,            // [rows, mapped * parameters]
    mapped: &mut Tensor<f32>,     // [rows, dim]
    log_slopes: &mut Tensor<f32>, // [rows, mapped]
    #[comptime] map: ScalarMap,
    #[comptime] direction: Direction,
) {
    let unit = ABSOLUTE_POS;
    let dim = points.shape(1);
    let row = unit / dim;
    if row >= points.shape(0) {
        terminate!();
    }
    let count = log_slopes.shape(1);
    let kept = dim - count;
    let d = unit % dim;
    if d < kept {
        mapped[unit] = points[unit];
    } else {
        let number = row * count + d - kept;
        let theta = number * comptime! { map.parameters() };
        let (value, log_slope) = value(points[unit], raw, theta, map, direction);
        mapped[unit] = value;
        log_slopes[number] = log_slope;
    }
}

#[cube(launch, address_type = "dynamic")]
fn log_det_kernel(
    log_slopes: &Tensor<f32>,  // [rows, mapped]
    log_det: &mut Tensor<f32>, // [rows]
) {
    let row = ABSOLUTE_POS;
    if row >= log_det.shape(0) {
        terminate!();
    }
    let mapped = log_slopes.shape(1);
    let mut sum = f32::new(0.0);
    for i in 0..mapped {
        sum += log_slopes[row * mapped + i];
    }
    log_det[row] = sum;
}

#[cube(launch, address_type = "dynamic")]
fn gradient_kernel(
    before: &Tensor<f32>,        // [rows, dim]
    raw: &Tensor<f32>,           // [rows, mapped * parameters]
    of_value: &Tensor<f32>,      // [rows, dim]
    of_log_det: &Tensor<f32>,    // [rows]
    of_points: &mut Tensor<f32>, // [rows, dim]
    of_raw: &mut Tensor<f32>,    // [rows, mapped * parameters]
    kept: usize,
    #[comptime] map: ScalarMap,
    #[comptime] direction: Direction,
) {
    let unit = ABSOLUTE_POS;
    let dim = of_points.shape(1);
    let row = unit / dim;
    if row >= of_points.shape(0) {
        terminate!();
    }
    let d = unit % dim;
    let g = of_value[unit];
    if d < kept {
        of_points[unit] = g;
    } else {
        let theta = (row * (dim - kept) + d - kept) * comptime! { map.parameters() };
        let (x, h) = (before[unit], of_log_det[row]);
        of_points[unit] = gradient(x, raw, theta, g, h, of_raw, map, direction);
    }
}

/// y and ℓ of x, or x and -ℓ of y; its parameters start at `theta`.
#[cube]
fn value(
    at: f32,
    raw: &Tensor<f32>,
    theta: usize,
    #[comptime] map: ScalarMap,
    #[comptime] direction: Direction,
) -> (f32, f32) {
    match map {
        ScalarMap::Additive => additive(at, raw[theta], direction),
        ScalarMap::Affine => affine(at, raw[theta], raw[theta + 1], direction),
        ScalarMap::Spline(bins) => {
            through_bins(at, raw, theta, comptime! { Spline::line(bins) }, direction)
        }
        ScalarMap::CircularSpline(bins) => {
            let spline = comptime! { Spline::circle(bins) };
            let phase = raw[theta + 3 * bins];
            match direction {
                Direction::Forward => {
                    let (y, nats) = through_bins(wrapped(at), raw, theta, spline, direction);
                    (wrapped(y + phase), nats)
                }
                Direction::Inverse => {
                    let (x, nats) =
                        through_bins(wrapped(at - phase), raw, theta, spline, direction);
                    (wrapped(x), nats)
                }
            }
        }
        ScalarMap::Sigmoidal(_) => comptime! { unreachable!("it has no kernel") },
    }
}

/// What the gradient of the input is, at this x; that of the parameters is written to `of_raw`.
#[cube]
fn gradient(
    x: f32,
    raw: &Tensor<f32>,
    theta: usize,
    g: f32,
    h: f32,
    of_raw: &mut Tensor<f32>,
    #[comptime] map: ScalarMap,
    #[comptime] direction: Direction,
) -> f32 {
    match map {
        ScalarMap::Additive => {
            let (of_input, g, _h) = weights(g, h, f32::new(1.0), f32::new(0.0), direction);
            of_raw[theta] = g;
            of_input
        }
        ScalarMap::Affine => {
            let (s, part) = log_scale(raw[theta]);
            let slope = s.exp();
            let (of_input, g, h) = weights(g, h, slope, f32::new(0.0), direction);
            of_raw[theta] = (g * x * slope + h) * (part * part);
            of_raw[theta + 1] = g;
            of_input
        }
        ScalarMap::Spline(bins) => {
            let spline = comptime! { Spline::line(bins) };
            spline_gradient(x, raw, theta, g, h, of_raw, spline, direction)
        }
        ScalarMap::CircularSpline(bins) => {
            let spline = comptime! { Spline::circle(bins) };
            spline_gradient(wrapped(x), raw, theta, g, h, of_raw, spline, direction)
        }
        ScalarMap::Sigmoidal(_) => comptime! { unreachable!("it has no kernel") },
    }
}

#[cube]
fn weights(
    g: f32,
    h: f32,
    slope: f32,
    slope_of_log: f32,
    #[comptime] direction: Direction,
) -> (f32, f32, f32) {
    match direction {
        Direction::Forward => forward_weights(g, h, slope, slope_of_log),
        Direction::Inverse => inverse_weights(g, h, slope, slope_of_log),
    }
}

#[cube]
fn additive(at: f32, t: f32, #[comptime] direction: Direction) -> (f32, f32) {
    match direction {
        Direction::Forward => (at + t, f32::new(0.0)),
        Direction::Inverse => (at - t, f32::new(0.0)),
    }
}

#[cube]
fn affine(at: f32, a: f32, t: f32, #[comptime] direction: Direction) -> (f32, f32) {
    let (s, _part) = log_scale(a);
    match direction {
        Direction::Forward => (at * s.exp() + t, s),
        Direction::Inverse => ((at - t) * (-s).exp(), -s),
    }
}

#[cube]
fn through_bins(
    at: f32,
    raw: &Tensor<f32>,
    theta: usize,
    #[comptime] spline: Spline,
    #[comptime] direction: Direction,
) -> (f32, f32) {
    let found = find(at, raw, theta, spline, direction);
    let bin = found.bin;
    let (inside, nats) = match direction {
        Direction::Forward => {
            let place = bin.at_x(at);
            (bin.y_of(&place), log_slope_at(&place))
        }
        Direction::Inverse => {
            let place = bin.at_y(at);
            (bin.x_of(&place), -log_slope_at(&place))
        }
    };
    let is_inside = is_inside(at, spline);
    (select(is_inside, inside, at), select(is_inside, nats, 0.0))
}

#[cube]
fn spline_gradient(
    x: f32,
    raw: &Tensor<f32>,
    theta: usize,
    g: f32,
    h: f32,
    of_raw: &mut Tensor<f32>,
    #[comptime] spline: Spline,
    #[comptime] direction: Direction,
) -> f32 {
    let bins = comptime! { spline.bins };
    // What is left out outside takes part in products with 0.
    let is_inside = is_inside(x, spline);
    let inside = select(is_inside, x, 0.0);
    let found = find(inside, raw, theta, spline, Direction::Forward);
    let (bin, index) = (found.bin, found.index);
    let place = bin.at_x(inside);
    let slope = select(is_inside, bin.slope(&place), 1.0);
    let slope_of_log = select(is_inside, bin.slope_of_log(&place), 0.0);
    let (of_input, g, h) = weights(g, h, slope, slope_of_log, direction);
    let of = bin.gradient(&place, select(is_inside, g, 0.0), select(is_inside, h, 0.0));

    lengths_gradient(raw, &found.widths, index, of.x, of.width, of_raw, spline);
    lengths_gradient(raw, &found.heights, index, of.y, of.height, of_raw, spline);
    for k in 0..comptime! { spline.slopes() } {
        let at = theta + 2 * bins + k;
        // The bins at the left and at the right of the knot with this slope.
        let (left, right) = match comptime! { spline.domain } {
            Domain::Line => (k, k + 1),
            Domain::Circle => ((k + bins - 1) % bins, k),
        };
        let mut of_slope = f32::new(0.0);
        if index == left {
            of_slope += of.right * sigmoid(raw[at] + SLOPE_1 as f32);
        }
        if index == right {
            of_slope += of.left * sigmoid(raw[at] + SLOPE_1 as f32);
        }
        of_raw[at] = of_slope;
    }
    if comptime! { spline.domain == Domain::Circle } {
        of_raw[theta + 3 * bins] = g;
    }
    of_input
}

/// Which bin a number is in.
#[derive(CubeType)]
struct Found {
    index: usize,
    bin: Bin,
    widths: Softmax,
    heights: Softmax,
}

/// What makes widths or heights of their parameters.
#[derive(CubeType)]
struct Softmax {
    /// Where the parameters start.
    theta: usize,
    largest: f32,
    /// One over the sum of the exponentials.
    part: f32,
}

#[cube]
impl Softmax {
    /// Of the `bins` parameters from `theta` on.
    fn of(raw: &Tensor<f32>, theta: usize, #[comptime] bins: usize) -> Softmax {
        let mut largest = raw[theta];
        for k in 1..bins {
            largest = select(raw[theta + k] > largest, raw[theta + k], largest);
        }
        let mut sum = f32::new(0.0);
        for k in 0..bins {
            sum += (raw[theta + k] - largest).exp();
        }
        Softmax {
            theta,
            largest,
            part: 1.0 / sum,
        }
    }

    /// The share of bin k.
    fn share(&self, raw: &Tensor<f32>, k: usize) -> f32 {
        (raw[self.theta + k] - self.largest).exp() * self.part
    }
}

/// The bin by where `at` lies on one of the axes.
#[cube]
fn find(
    at: f32,
    raw: &Tensor<f32>,
    theta: usize,
    #[comptime] spline: Spline,
    #[comptime] direction: Direction,
) -> Found {
    let bins = comptime! { spline.bins };
    let bound = comptime! { spline.bound() as f32 };
    let least = comptime! { spline.least() as f32 };
    let share = comptime! { spline.share() as f32 };
    let widths = Softmax::of(raw, theta, bins);
    let heights = Softmax::of(raw, theta + bins, bins);
    let (mut x, mut y) = (f32::new(-bound), f32::new(-bound));
    let mut index = 0_usize;
    let (mut bin_x, mut bin_y) = (f32::new(0.0), f32::new(0.0));
    let (mut bin_width, mut bin_height) = (f32::new(0.0), f32::new(0.0));
    for k in 0..bins {
        let width = widths.share(raw, k) * share + least;
        let height = heights.share(raw, k) * share + least;
        let is_beyond = match direction {
            Direction::Forward => at >= x,
            Direction::Inverse => at >= y,
        };
        if k == 0 || is_beyond {
            index = k;
            bin_x = x;
            bin_y = y;
            bin_width = width;
            bin_height = height;
        }
        x += width;
        y += height;
    }
    let slopes = theta + 2 * bins;
    let (mut left, mut right) = (f32::new(1.0), f32::new(1.0));
    match comptime! { spline.domain } {
        // The ends' slopes are 1.
        Domain::Line => {
            if index > 0 {
                left = slope(raw[slopes + index - 1]);
            }
            if index < bins - 1 {
                right = slope(raw[slopes + index]);
            }
        }
        Domain::Circle => {
            left = slope(raw[slopes + index]);
            right = slope(raw[slopes + (index + 1) % bins]);
        }
    }
    Found {
        index,
        bin: Bin {
            x: bin_x,
            y: bin_y,
            width: bin_width,
            height: bin_height,
            left,
            right,
        },
        widths,
        heights,
    }
}

/// The gradients of the parameters of widths, or of heights: `here` is that of the length of bin `index`, `before` that of where
/// it starts, which all lengths before it add to.
#[cube]
fn lengths_gradient(
    raw: &Tensor<f32>,
    lengths: &Softmax,
    index: usize,
    before: f32,
    here: f32,
    of_raw: &mut Tensor<f32>,
    #[comptime] spline: Spline,
) {
    let bins = comptime! { spline.bins };
    let share = comptime! { spline.share() as f32 };
    let mut sum = f32::new(0.0);
    for k in 0..bins {
        let of_length = select(index > k, before, select(index == k, here, 0.0)) * share;
        sum += lengths.share(raw, k) * of_length;
    }
    for k in 0..bins {
        let of_length = select(index > k, before, select(index == k, here, 0.0)) * share;
        of_raw[lengths.theta + k] = lengths.share(raw, k) * (of_length - sum);
    }
}

/// The slope of a knot.
#[cube]
fn slope(raw: f32) -> f32 {
    softplus(raw + SLOPE_1 as f32) + LEAST as f32
}

/// ℓ
#[cube]
fn log_slope_at(place: &Place) -> f32 {
    place.m.ln() + 2.0 * (place.s / place.c).ln()
}

/// A NaN is not inside, and stays what it is.
#[cube]
fn is_inside(x: f32, #[comptime] spline: Spline) -> bool {
    let bound = comptime! { spline.bound() as f32 };
    match comptime! { spline.domain } {
        Domain::Line => x.abs() < bound,
        Domain::Circle => x.abs() <= bound,
    }
}
