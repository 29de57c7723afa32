//! The maps of one number, of all numbers of a batch: one pass over the points and their parameters.

pub mod affine;
mod bin;
#[cfg(feature = "cube")]
mod cube;
pub mod formulas;
pub mod sigmoidal;
pub mod spline;
mod walk;

/// An expression of the formulas that a map is, of whichever type they are.
macro_rules! by_formulas {
    ($map:expr, $formulas:ident => $expression:expr) => {{
        use $crate::ops::map::{affine, sigmoidal};
        match $map {
            $crate::ScalarMap::Additive => {
                let $formulas = affine::Additive;
                $expression
            }
            $crate::ScalarMap::Affine => {
                let $formulas = affine::Affine;
                $expression
            }
            $crate::ScalarMap::Spline(bins) => {
                let $formulas = $crate::map::spline::Spline::line(bins);
                $expression
            }
            $crate::ScalarMap::CircularSpline(bins) => {
                let $formulas = $crate::map::spline::Spline::circle(bins);
                $expression
            }
            $crate::ScalarMap::Sigmoidal(units) => {
                let $formulas = sigmoidal::Sigmoidal { units };
                $expression
            }
        }
    }};
}
pub(crate) use by_formulas;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::{Shape, Tensor},
};
use burn_host::{Host, tracked_pair};

use crate::{ScalarMap, Transformed, map::Direction};

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray", Cube: "cube");

/// A map of one number at each coordinate from `kept` on.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
    Autodiff,
)]
pub trait MapOps: Backend {
    /// `points: [rows, dim]` by `raw: [rows, (dim - kept) · parameters]` to the mapped points and the log-determinant,
    /// `[rows]`, in `f32`.
    #[fusion(meta = |points, _, _, _, _| {
        let mut log_det = points.clone();
        log_det.shape = of_rows(&points.shape);
        (points.clone(), log_det)
    })]
    fn map_points(
        points: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        map: ScalarMap,
        direction: Direction,
        kept: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The derivatives of [`MapOps`].
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "cube"),
)]
pub trait MapBackwardOps: Backend {
    /// The gradients of the points and of `raw`, in their shapes, from those of the mapped points and of the log-determinant.
    /// `before` are the points where the map's own argument is.
    #[fusion(meta = |before, raw, _, _, _, _, _| (before.clone(), raw.clone()))]
    fn map_points_backward(
        before: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        of_value: FloatTensor<Self>,
        of_log_det: FloatTensor<Self>,
        map: ScalarMap,
        direction: Direction,
        kept: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn of_rows(points: &Shape) -> Shape {
    Shape::new([points[0]])
}

/// The mapped points and the log-determinant, where the backend has the fused operation; shapes as in
/// [`MapOps::map_points`], with a row at least.
pub fn map_points(
    points: &Tensor<2>,
    raw: &Tensor<2>,
    map: ScalarMap,
    direction: Direction,
    kept: usize,
) -> Option<Transformed> {
    if !is_fused(points) || !is_fused(raw) {
        return None;
    }
    #[cfg(feature = "cube")]
    if cube::lacks(points, map) {
        return None;
    }
    let (points, raw) = (points.clone().into_dispatch(), raw.clone().into_dispatch());
    let (value, log_det) = Dispatch::map_points(points, raw, map, direction, kept);
    Some(Transformed {
        value: Tensor::from_dispatch(value),
        log_det: Tensor::from_dispatch(log_det),
    })
}

impl<B: MapOps + MapBackwardOps, C: CheckpointStrategy> MapOps for Autodiff<B, C> {
    fn map_points(
        points: FloatTensor<Self>,
        raw: FloatTensor<Self>,
        map: ScalarMap,
        direction: Direction,
        kept: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = [points.node(), raw.node()];
        let (points, raw) = (points.into_primitive(), raw.into_primitive());
        let (value, log_det) = B::map_points(points.clone(), raw.clone(), map, direction, kept);
        // What the map itself, forward, takes.
        let before = match direction {
            Direction::Forward => points,
            Direction::Inverse => value.clone(),
        };
        let [value, log_det] =
            tracked_pair::<B, C, 2>(inputs, [value, log_det], move |grads, wanted| {
                let [of_value, of_log_det] = grads;
                let (device, dtype) = (before.device(), before.dtype().into());
                let zeros = |shape| B::float_zeros(shape, &device, dtype);
                let of_value = of_value.unwrap_or_else(|| zeros(before.shape()));
                let of_log_det = of_log_det.unwrap_or_else(|| zeros(of_rows(&before.shape())));
                let (of_points, of_raw) =
                    B::map_points_backward(before, raw, of_value, of_log_det, map, direction, kept);
                let [points_want, raw_wants] = wanted;
                [
                    points_want.then_some(of_points),
                    raw_wants.then_some(of_raw),
                ]
            });
        (value, log_det)
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl MapOps for $backend {
            fn map_points(
                points: FloatTensor<Self>,
                raw: FloatTensor<Self>,
                map: ScalarMap,
                direction: Direction,
                kept: usize,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let shape = points.shape();
                let sizes = Sizes::of(&shape, kept, map);
                let (points, raw) = (Self::elements(&points), Self::elements(&raw));
                let (value, log_det) = walk::values(sizes, direction, &points, &raw);
                (
                    Self::from_elements(value, shape.clone()),
                    Self::from_elements(log_det, of_rows(&shape)),
                )
            }
        }

        impl MapBackwardOps for $backend {
            fn map_points_backward(
                before: FloatTensor<Self>,
                raw: FloatTensor<Self>,
                of_value: FloatTensor<Self>,
                of_log_det: FloatTensor<Self>,
                map: ScalarMap,
                direction: Direction,
                kept: usize,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                let shape = before.shape();
                let sizes = Sizes::of(&shape, kept, map);
                let (of_points, of_raw) = walk::gradients(
                    sizes,
                    direction,
                    &Self::elements(&before),
                    &Self::elements(&raw),
                    (&Self::elements(&of_value), &Self::elements(&of_log_det)),
                );
                (
                    Self::from_elements(of_points, shape),
                    Self::from_elements(of_raw, raw.shape()),
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// `rows` points in `dim` dimensions, whose coordinates from `kept` on are mapped.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    rows: usize,
    dim: usize,
    kept: usize,
    map: ScalarMap,
}

impl Sizes {
    fn of(points: &Shape, kept: usize, map: ScalarMap) -> Self {
        let [rows, dim] = points.dims();
        Self {
            rows,
            dim,
            kept,
            map,
        }
    }

    /// Coordinates that are mapped.
    fn mapped(&self) -> usize {
        self.dim - self.kept
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::f64::consts::TAU;

    use burn::tensor::{DType, Device, TensorData};

    use super::*;
    use crate::map::Domain;

    const MAPS: [ScalarMap; 10] = [
        ScalarMap::Additive,
        ScalarMap::Affine,
        ScalarMap::Spline(1),
        ScalarMap::Spline(2),
        ScalarMap::Spline(8),
        ScalarMap::CircularSpline(1),
        ScalarMap::CircularSpline(2),
        ScalarMap::CircularSpline(8),
        ScalarMap::Sigmoidal(1),
        ScalarMap::Sigmoidal(5),
    ];
    const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Inverse];

    /// Where the operation is fused.
    fn devices() -> Vec<Device> {
        vec![
            Device::flex(),
            #[cfg(feature = "ndarray")]
            Device::ndarray(),
            #[cfg(feature = "wgpu")]
            wgpu(),
        ]
    }

    /// The GPU, or Mesa's software for one: never absent in silence.
    #[cfg(feature = "wgpu")]
    fn wgpu() -> Device {
        static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
        let init = || {
            (Device::wgpu_options().init())
                .expect("a Vulkan driver, of software if there is no GPU")
        };
        DEVICE.get_or_init(init).clone()
    }

    /// Numbers between -`size` and `size` that look random, and are the same in every float type.
    fn numbers(n: usize, size: f32) -> Vec<f32> {
        let number = |i: usize| (i as u32).wrapping_mul(2_654_435_769) as f32 / u32::MAX as f32;
        (1..=n).map(|i| (2.0 * number(i) - 1.0) * size).collect()
    }

    type Apply = fn(ScalarMap, Direction, Tensor<2>, usize, Tensor<2>) -> Transformed;

    /// Points and parameters of one application, which are the same on every device.
    struct Case {
        map: ScalarMap,
        direction: Direction,
        rows: usize,
        kept: usize,
        points: Vec<f32>,
        raw: Vec<f32>,
    }

    impl Case {
        /// Of a spline some points are outside.
        fn new(map: ScalarMap, direction: Direction, [rows, dim, kept]: [usize; 3]) -> Self {
            Self {
                map,
                direction,
                rows,
                kept,
                points: numbers(rows * dim, 6.0),
                raw: numbers(rows * (dim - kept) * map.parameters(), 3.0),
            }
        }

        /// Value, log-determinant, and the gradients of points and parameters of a weighted sum of both.
        fn run(&self, device: &Device, dtype: DType, apply: Apply) -> [Vec<f64>; 4] {
            let device = device.clone().autodiff();
            self.run_to(&device, dtype, apply, |end, [of_value, of_log_det]| {
                (end.value * of_value).sum() + (end.log_det * of_log_det.squeeze_dim(1)).sum()
            })
        }

        /// The same of any loss, which is given weights of the value and of the log-determinant.
        fn run_to(
            &self,
            device: &Device,
            dtype: DType,
            apply: Apply,
            loss: fn(Transformed, [Tensor<2>; 2]) -> Tensor<1>,
        ) -> [Vec<f64>; 4] {
            let tensor = |numbers: Vec<f32>| {
                let data = TensorData::new(numbers.clone(), [self.rows, numbers.len() / self.rows]);
                Tensor::<2>::from_data(data.convert_dtype(dtype), (device, dtype))
            };
            let points = tensor(self.points.clone()).require_grad();
            let raw = tensor(self.raw.clone()).require_grad();
            let end = apply(
                self.map,
                self.direction,
                points.clone(),
                self.kept,
                raw.clone(),
            );
            let weights = [self.points.len(), self.rows].map(|n| tensor(numbers(n, 1.0)));
            // What a loss has nothing of has a gradient of 0.
            let nothing = (points.clone().sum() + raw.clone().sum()) * 0.0;
            let gradients = (loss(end.clone(), weights) + nothing).backward();
            [
                end.value.into_data(),
                end.log_det.into_data(),
                points.grad(&gradients).unwrap().into_data(),
                raw.grad(&gradients).unwrap().into_data(),
            ]
            .map(|data| data.iter::<f64>().collect())
        }
    }

    fn maps_and_directions() -> impl Iterator<Item = (ScalarMap, Direction)> {
        (MAPS.into_iter()).flat_map(|map| DIRECTIONS.map(|direction| (map, direction)))
    }

    const RESULTS: [&str; 4] = ["value", "log_det", "d points", "d raw"];

    /// The fused numbers are as far from those of tensor operations in `f64` as those of the same in `f32` are, at most
    /// several times: other sums round otherwise.
    fn assert_fused_as_by_tensors(maps: &[ScalarMap]) {
        // Of one chunk, and of several whose lanes are not full.
        for sizes in [[3, 2, 1], [700, 5, 2], [257, 3, 0]] {
            for (map, direction) in maps_and_directions().filter(|(map, _)| maps.contains(map)) {
                let case = Case::new(map, direction, sizes);
                let by_tensors = ScalarMap::apply_by_tensor_operations;
                let exact = case.run(&Device::flex(), DType::F64, by_tensors);
                let rounded = case.run(&Device::flex(), DType::F32, by_tensors);
                for device in devices() {
                    let fused = case.run(&device, DType::F32, ScalarMap::apply);
                    for (i, exact) in exact.iter().enumerate() {
                        let largest = exact.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
                        let error = |got: &[f64]| {
                            let differences = got.iter().zip(exact).map(|(a, b)| (a - b).abs());
                            // A NaN is as wrong as can be.
                            differences.fold(
                                0.0,
                                |most: f64, e| if most.is_nan() || e <= most { most } else { e },
                            ) / largest
                        };
                        let (error, usual) = (error(&fused[i]), error(&rounded[i]));
                        let what = RESULTS[i];
                        assert!(
                            error <= 16.0 * usual + 1e-6,
                            "{what} of {map:?}, {direction:?}, {sizes:?} on {device:?} errs by {error:e}, by \
                             tensors {usual:e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_fused_lines_are_those_of_tensor_operations() {
        assert_fused_as_by_tensors(&MAPS[..2]);
    }

    #[test]
    fn the_fused_splines_are_those_of_tensor_operations() {
        assert_fused_as_by_tensors(&MAPS[2..8]);
    }

    #[test]
    fn the_fused_sigmoids_are_those_of_tensor_operations() {
        assert_fused_as_by_tensors(&MAPS[8..]);
    }

    /// Of two results either may be left alone, looked at twice, or detached; with what is kept for the way back, or with that
    /// computed again.
    #[test]
    fn what_is_not_used_of_a_map_has_no_gradient() {
        let losses: [fn(Transformed, [Tensor<2>; 2]) -> Tensor<1>; 6] = [
            |end, [of_value, _]| (end.value * of_value).sum(),
            |end, [_, of_log_det]| (end.log_det * of_log_det.squeeze_dim(1)).sum(),
            |end, [of_value, _]| {
                let twice = end.value.clone() * end.value.clone() * of_value;
                twice.sum() + end.value.sin().sum() + (end.log_det.clone() * end.log_det).sum()
            },
            // The second result's gradient comes first, or last.
            |end, [of_value, _]| {
                let weights = end.log_det.clone().unsqueeze_dim::<2>(1).exp();
                (end.value * of_value * weights).sum()
            },
            |end, _| (end.value.sum_dim(1).squeeze_dim(1).cos() * end.log_det.clone()).sum(),
            |end, _| {
                let detached = end.value.clone().detach().sum() * end.log_det.sum();
                detached + end.value.sum()
            },
        ];
        let maps = [ScalarMap::Additive, ScalarMap::Affine, ScalarMap::Spline(2)];
        for (map, direction) in maps_and_directions().filter(|(map, _)| maps.contains(map)) {
            let mut case = Case::new(map, direction, [40, 3, 1]);
            case.raw.iter_mut().for_each(|raw| *raw /= 3.0);
            for (i, loss) in losses.into_iter().enumerate() {
                let tracked = Device::flex().autodiff();
                let by_tensors = ScalarMap::apply_by_tensor_operations;
                let exact = case.run_to(&tracked, DType::F64, by_tensors, loss);
                for device in devices() {
                    let tracked = device.autodiff();
                    for device in [tracked.clone(), tracked.gradient_checkpointing()] {
                        let got = case.run_to(&device, DType::F32, ScalarMap::apply, loss);
                        for (result, (got, exact)) in got.iter().zip(&exact).enumerate() {
                            let largest = exact.iter().fold(1.0_f64, |most, x| most.max(x.abs()));
                            let is_far = |(a, b): (&f64, &f64)| {
                                let off = (a - b).abs() / largest;
                                off.is_nan() || off > 1e-4
                            };
                            assert!(
                                !got.iter().zip(exact).any(is_far),
                                "{} of loss {i} of {map:?}, {direction:?} on {device:?}: {got:?}, not {exact:?}",
                                RESULTS[result],
                            );
                        }
                    }
                }
            }
        }
    }

    /// Knots belong to two bins, which agree on all but what lies beyond.
    #[test]
    fn at_the_knots_of_a_spline_its_bins_agree() {
        let round = (ScalarMap::CircularSpline(4), std::f32::consts::PI);
        for (direction, (map, end)) in (DIRECTIONS.into_iter())
            .flat_map(|direction| [(ScalarMap::Spline(4), 5.0), round].map(|map| (direction, map)))
        {
            let mut case = Case::new(map, direction, [5, 1, 0]);
            // Equal bins, of other slopes at each knot, and no phase.
            case.points = vec![
                -end / 2.0,
                0.0,
                end / 2.0,
                f32::next_up(-end),
                f32::next_down(end),
            ];
            for raw in case.raw.chunks_mut(map.parameters()) {
                raw[..8].fill(0.0);
                raw.iter_mut().skip(12).for_each(|phase| *phase = 0.0);
            }
            let by_tensors = ScalarMap::apply_by_tensor_operations;
            let exact = case.run(&Device::flex(), DType::F64, by_tensors);
            for device in devices() {
                let fused = case.run(&device, DType::F32, ScalarMap::apply);
                for i in 0..2 {
                    for (got, exact) in fused[i].iter().zip(&exact[i]) {
                        let off = got - exact;
                        let off = match map.domain() {
                            Domain::Line => off,
                            Domain::Circle => off - TAU * (off / TAU).round(),
                        };
                        // Some roundings of 5, and of a slope's logarithm.
                        assert!(
                            off.abs() < 4e-6,
                            "{} at a knot, {direction:?} on {device:?}: {got}, not {exact}",
                            RESULTS[i],
                        );
                    }
                }
            }
        }
    }

    /// A wide, low bin with a steep end on the right, where the paper's form of the inverse cancels (ln dx/dy comes out off by 0.3 nats),
    /// and one with a steep end on the left.
    #[test]
    fn the_inverse_of_a_spline_keeps_its_digits_next_to_steep_knots() {
        // Widths, heights, slopes of the inner knots (of a circle's all but the last), and the bin.
        let rising = (vec![6.0, 0.0], vec![-6.0, 0.0], vec![6.0, 0.0], 0);
        let falling = (
            vec![-3.0, 3.0, 0.0],
            vec![3.0, -3.0, 0.0],
            vec![6.0, -5.0, -5.0],
            1,
        );
        for (widths, heights, slopes, bin) in [rising, falling] {
            let bins = widths.len();
            for map in [ScalarMap::Spline(bins), ScalarMap::CircularSpline(bins)] {
                let end = match map.domain() {
                    Domain::Line => 5.0,
                    Domain::Circle => std::f32::consts::PI,
                };
                let sum: f32 = heights.iter().map(|h: &f32| h.exp()).sum();
                let share = 1.0 - 1e-3 * bins as f32;
                let height = |k: usize| 2.0 * end * (1e-3 + share * heights[k].exp() / sum);
                let start = (0..bin).map(height).sum::<f32>() - end;
                let mut case = Case::new(map, Direction::Inverse, [2000, 1, 0]);
                case.points = (1..=2000)
                    .map(|i| start + height(bin) * i as f32 / 2001.0)
                    .collect();
                // A circle has a slope more, and a phase.
                let first = match map.domain() {
                    Domain::Line => vec![],
                    Domain::Circle => vec![0.0],
                };
                let mut raw = [&widths[..], &heights, &first, &slopes].concat();
                raw.resize(map.parameters(), 0.0);
                if map.domain() == Domain::Circle {
                    raw[map.parameters() - 1] = 0.0;
                }
                for of_point in case.raw.chunks_mut(map.parameters()) {
                    of_point.copy_from_slice(&raw);
                }
                let by_tensors = ScalarMap::apply_by_tensor_operations;
                let exact = case.run(&Device::flex(), DType::F64, by_tensors);
                let by_tensors = case.run(&Device::flex(), DType::F32, by_tensors);
                let fused: Vec<_> = (devices().iter())
                    .map(|device| case.run(device, DType::F32, ScalarMap::apply))
                    .collect();
                // Where a rounding of y is not stretched: dx/dy is 1 at most.
                let steep = |j: &usize| exact[1][*j] < 0.0;
                let steep: Vec<usize> = (1..case.points.len() - 1).filter(steep).collect();
                assert!(steep.len() > 100, "{map:?}");
                for got in fused.iter().chain([&by_tensors]) {
                    for &j in &steep {
                        for i in 0..2 {
                            // What y's own rounding, 5e-7 at 5, and those of the knots do, by the neighbours at a distance of 1e-5.
                            let [before, after] = [j - 1, j + 1].map(|j| exact[i][j]);
                            let step = f64::from(case.points[j + 1] - case.points[j - 1]);
                            let slope = (after - before).abs() / step;
                            let off = (got[i][j] - exact[i][j]).abs();
                            assert!(
                                off < 1e-5 + 4e-6 * slope,
                                "{} of {map:?} at {}: {}, not {}",
                                RESULTS[i],
                                case.points[j],
                                got[i][j],
                                exact[i][j]
                            );
                        }
                    }
                }
            }
        }
    }

    /// Zeros, from which a training starts, are the same for all: but for their own weights units would stay one.
    #[test]
    fn sigmoids_that_start_alike_part() {
        let mut case = Case::new(ScalarMap::Sigmoidal(3), Direction::Forward, [1, 1, 0]);
        case.points = vec![0.7];
        case.raw.fill(0.0);
        for apply in [ScalarMap::apply, ScalarMap::apply_by_tensor_operations] {
            let [.., of_raw] = case.run(&Device::flex(), DType::F32, apply);
            // Those of unit j are taken (j + 1) / 2 times.
            for kind in [&of_raw[3..6], &of_raw[6..9]] {
                let steps = [kind[1] / kind[0], kind[2] / kind[0]];
                assert!(
                    (steps[0] - 2.0).abs() < 1e-4 && (steps[1] - 3.0).abs() < 1e-4,
                    "{kind:?}"
                );
            }
        }
    }

    /// A training that went wrong must not look as if it had not; and what it did not reach stays as it is.
    #[test]
    fn what_is_no_number_is_the_same_everywhere() {
        let mut lost = Vec::new();
        // One bin has all the length, and one sigmoid has all the weight, whatever the parameter: a driver may see that and not look
        // at it.
        let of_several = |map: &ScalarMap| {
            !matches!(
                map,
                ScalarMap::Spline(1) | ScalarMap::CircularSpline(1) | ScalarMap::Sigmoidal(1)
            )
        };
        for (map, direction) in maps_and_directions().filter(|(map, _)| of_several(map)) {
            // Inside of a spline and outside; the middle row has the NaN.
            for (x, place) in [1.0, 7.0]
                .into_iter()
                .flat_map(|x| (0..=map.parameters()).map(move |place| (x, place)))
            {
                let mut case = Case::new(map, direction, [3, 1, 0]);
                case.points.fill(x);
                match place.checked_sub(1) {
                    None => case.points[1] = f32::NAN,
                    Some(parameter) => case.raw[map.parameters() + parameter] = f32::NAN,
                }
                let is_nan = |device: &Device| {
                    case.run(device, DType::F32, ScalarMap::apply)
                        .map(|numbers| numbers.into_iter().map(f64::is_nan).collect::<Vec<_>>())
                };
                let expected = is_nan(&Device::flex());
                assert!(place > 0 || expected[0] == [false, true, false]);
                for device in devices() {
                    let got = is_nan(&device);
                    if got != expected {
                        lost.push(format!(
                            "number {place} of {map:?}, {direction:?}, at {x} on {device:?}: {got:?}, not {expected:?}"
                        ));
                    }
                }
            }
        }
        assert!(lost.is_empty(), "a NaN in\n{}", lost.join("\n"));
    }

    /// Points and parameters that are views of something larger, in another order.
    #[test]
    fn views_are_read_in_their_own_order() {
        for device in devices() {
            let from = |n: usize, shape: [usize; 2]| {
                Tensor::<2>::from_data(TensorData::new(numbers(n, 3.0), shape), &device)
            };
            let map = ScalarMap::Spline(2);
            let (points, raw) = (from(12, [4, 3]), from(40, [4, 10]));
            let apply = |points, raw| map.apply(Direction::Forward, points, 1, raw);
            let straight = apply(points.clone(), raw.clone());
            let turned = Tensor::<2>::from_data(points.transpose().into_data(), &device);
            let larger = Tensor::cat(vec![raw.clone(), raw.clone(), raw], 1).slice_dim(1, 10..20);
            let viewed = apply(turned.transpose(), larger);
            let data = |end: Transformed| (end.value.into_data(), end.log_det.into_data());
            assert_eq!(data(viewed), data(straight), "{device:?}");
        }
    }

    #[test]
    fn at_the_ends_of_a_spline_the_line_goes_on_and_nan_stays() {
        let ends = [-5.0, 5.0, -f32::INFINITY, f32::INFINITY, f32::NAN];
        for device in devices() {
            let device = device.autodiff();
            let points = Tensor::<2>::from_data(TensorData::new(ends.to_vec(), [5, 1]), &device);
            let points = points.require_grad();
            let raw = TensorData::new(numbers(5 * 23, 3.0), [5, 23]);
            let raw = Tensor::<2>::from_data(raw, &device).require_grad();
            for direction in DIRECTIONS {
                let map = ScalarMap::Spline(8);
                let end = map_points(&points, &raw, map, direction, 0).expect("it is fused here");
                let gradients = (end.value.clone().sum() + end.log_det.clone().sum()).backward();
                let list = |tensor: Tensor<2>| tensor.into_data().to_vec::<f32>().unwrap();
                let value = list(end.value);
                assert_eq!(value[..4], ends[..4]);
                assert!(value[4].is_nan());
                assert_eq!(list(end.log_det.unsqueeze()), [0.0; 5]);
                assert_eq!(list(points.grad(&gradients).unwrap()), [1.0; 5]);
                assert_eq!(list(raw.grad(&gradients).unwrap()), [0.0; 5 * 23]);
            }
        }
    }
}
