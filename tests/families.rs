//! What every flow must do, of every family, learned and given a context: one list, one suite.

use std::{
    f64::consts::PI,
    iter::zip,
    sync::{Mutex, PoisonError},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_flows::{
    ActNormConfig, AutoregressiveConfig, Bijection, CouplingConfig, DiagonalGaussian, Flow,
    FlowConfig, FlowDistribution, LuLinearConfig, PartConfig, PermutationConfig, PlanarConfig,
    PlanarConstraint, RotationConfig, ScalarMap, SylvesterBasis, Transformed, UniformTorus,
};
use end_to_end::{largest, ndarray, wgpu};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Every family, by name. (Of those that are there for mixing, one layer is a flow too.)
fn families(dim: usize) -> Vec<(&'static str, FlowConfig)> {
    let coupling = |map| FlowConfig::coupling(dim, 3, map, &[12, 9]);
    let iaf = |map| FlowConfig::inverse_autoregressive(dim, 2, map, &[12, 9]);
    let maf = |map| FlowConfig::masked_autoregressive(dim, 2, map, &[12, 9]);
    let sylvester = |basis| FlowConfig::sylvester(dim, 3, basis);
    let of = |part: PartConfig| FlowConfig::new(dim, vec![part]);
    let identity = PlanarConfig::new(3).with_constraint(PlanarConstraint::Identity);
    let bare = |map| {
        CouplingConfig {
            map,
            hidden: vec![],
        }
        .into()
    };
    let glow = vec![
        ActNormConfig {}.into(),
        LuLinearConfig {}.into(),
        bare(ScalarMap::Affine),
        RotationConfig {}.into(),
        bare(ScalarMap::Spline(3)),
    ];
    vec![
        ("planar", FlowConfig::planar(dim, 3)),
        ("planar, identity", of(identity.with_hidden(vec![7]).into())),
        ("radial", FlowConfig::radial(dim, 3)),
        ("householder", FlowConfig::householder(dim, 3)),
        (
            "sylvester, orthogonal",
            sylvester(SylvesterBasis::Orthogonal(2)),
        ),
        (
            "sylvester, householder",
            sylvester(SylvesterBasis::Householder(3)),
        ),
        (
            "sylvester, triangular",
            sylvester(SylvesterBasis::Triangular),
        ),
        ("nice", coupling(ScalarMap::Additive)),
        ("realnvp", coupling(ScalarMap::Affine)),
        ("spline coupling", coupling(ScalarMap::Spline(4))),
        ("iaf", iaf(ScalarMap::Affine)),
        ("iaf, additive", iaf(ScalarMap::Additive)),
        ("iaf, spline", iaf(ScalarMap::Spline(4))),
        ("maf", maf(ScalarMap::Affine)),
        ("maf, spline", maf(ScalarMap::Spline(4))),
        (
            "circular spline coupling",
            coupling(ScalarMap::CircularSpline(4)),
        ),
        ("circular spline iaf", iaf(ScalarMap::CircularSpline(4))),
        ("circular spline maf", maf(ScalarMap::CircularSpline(4))),
        ("sigmoidal coupling", coupling(ScalarMap::Sigmoidal(4))),
        ("naf", maf(ScalarMap::Sigmoidal(4))),
        ("permutation", of(PermutationConfig::Random.into())),
        ("rotation", of(RotationConfig {}.into())),
        ("lu-linear", of(LuLinearConfig {}.into())),
        ("act-norm", of(ActNormConfig {}.into())),
        ("glow", FlowConfig::new(dim, glow)),
    ]
}

/// Whether the points of a family are angles.
fn is_circular(name: &str) -> bool {
    name.starts_with("circular")
}

fn distribution(
    name: &str,
    flow: &Flow,
    dim: usize,
    context: Option<Tensor<2>>,
) -> FlowDistribution {
    let device = Device::flex();
    match is_circular(name) {
        true => flow.distribution(UniformTorus::new(dim, &device), context),
        false => flow.distribution(DiagonalGaussian::standard(dim, &device), context),
    }
}

/// Examples with contexts of their own, and numbers of a context.
const BATCH: usize = 3;
const CONTEXT: usize = 4;

/// Each family without and with a context, away from its start.
fn flows(dim: usize, dtype: DType, device: &Device) -> Vec<(String, Flow, Option<Tensor<2>>)> {
    let mut flows = Vec::new();
    for (name, config) in families(dim) {
        flows.push((name.to_owned(), moved(&config, dtype, device), None));
        let context = tensor(
            numbers(1, BATCH * CONTEXT, 1.0),
            [BATCH, CONTEXT],
            dtype,
            device,
        );
        let config = config.with_context(CONTEXT);
        let name = format!("{name}, given a context");
        flows.push((name, moved(&config, dtype, device), Some(context)));
    }
    flows
}

/// The flow of `config` with noise on all that is learned; the same numbers on every device. On one without gradients nobody
/// could tell what is learned.
fn moved(config: &FlowConfig, dtype: DType, device: &Device) -> Flow {
    let start = init(config, 5, &Device::flex().autodiff());
    let moved = start.map(&mut Noise(ChaCha8Rng::seed_from_u64(6), dtype));
    init(config, 5, device).load_record(moved.into_record())
}

/// A new flow, with all that it draws: a device has one generator, which all tests here would use at once, and Burn draws
/// weights when somebody looks at them.
fn init(config: &FlowConfig, seed: u64, device: &Device) -> Flow {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    let flow = config.init(device);
    let drawn = flow.clone().into_record();
    flow.load_record(drawn)
}

/// With half as much again a coupling by splines is steep by some 1e6 in places, where `f32` has no digits to tell points apart.
const NOISE: f64 = 0.35;

struct Noise(ChaCha8Rng, DType);

impl ModuleMapper for Noise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_learned = param.is_require_grad();
        param.map(|value| {
            let (device, shape) = (value.device(), value.dims());
            let size = if is_learned { NOISE } else { 0.0 };
            let noise = (0..shape.iter().product())
                .map(|_| size * self.0.random_range(-1.0..1.0))
                .collect();
            // Rounded to f32, so that all float types have the same numbers.
            let value = value.detach().cast(self.1) + tensor(noise, shape, self.1, &device);
            let value = value.cast(DType::F32).cast(self.1);
            value.detach().set_require_grad(is_learned)
        })
    }
}

fn tensor<const D: usize>(
    values: Vec<f64>,
    shape: [usize; D],
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// `n` numbers in ±`scale` that `f32` has.
fn numbers(seed: u64, n: usize, scale: f32) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| f64::from(rng.random_range(-scale..scale)))
        .collect()
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in zip(got, expected).enumerate() {
        assert!(
            (g - e).abs() <= tolerance * (1.0 + e.abs()),
            "{what} [{i}]: {g}, not {e}"
        );
    }
}

/// In single precision a few thousand roundings of 6e-8, steepened by the maps; in double the same of 1e-16, but for
/// matrices that are orthogonal as far as `f32` can have them so.
fn tolerance(name: &str, dtype: DType) -> f64 {
    match dtype {
        DType::F64 if name.starts_with("rotation") || name.starts_with("glow") => 1e-6,
        DType::F64 => 1e-10,
        _ => 1e-3,
    }
}

#[test]
fn the_inverse_undoes_the_map_and_their_log_dets_cancel() {
    let (dim, rows) = (5, 7 * BATCH);
    for (device, dtype) in [
        (Device::flex(), DType::F64),
        (Device::flex(), DType::F32),
        (ndarray(), DType::F32),
    ] {
        let z = tensor(numbers(2, rows * dim, 3.0), [rows, dim], dtype, &device);
        for (name, flow, context) in flows(dim, dtype, &device) {
            let flow = flow.bind(context);
            let what = format!("{name}, {dtype:?}, {device:?}");
            for there_first in [true, false] {
                let (there, back) = if there_first {
                    let there = flow.forward(z.clone());
                    (there.clone(), flow.inverse(there.value))
                } else {
                    let there = flow.inverse(z.clone());
                    (there.clone(), flow.forward(there.value))
                };
                assert_close(
                    &what,
                    &values(&back.value),
                    &values(&z),
                    tolerance(&name, dtype),
                );
                let sum = values(&(there.log_det + back.log_det));
                assert_close(&what, &sum, &vec![0.0; rows], tolerance(&name, dtype));
            }
        }
    }
}

/// Rows of the Jacobians at `rows` points: `[output][row][input]`.
fn jacobians(map: impl Fn(Tensor<2>) -> Tensor<2>, z: &Tensor<2>) -> Vec<Vec<Vec<f64>>> {
    let [rows, dim] = z.dims();
    (0..dim)
        .map(|output| {
            let z = z.clone().detach().require_grad();
            let y = map(z.clone()).slice_dim(1, output..output + 1).sum();
            let of_inputs = z
                .grad(&y.backward())
                .map_or(vec![0.0; rows * dim], |grad| values(&grad));
            of_inputs.chunks(dim).map(<[f64]>::to_vec).collect()
        })
        .collect()
}

fn log_abs_det(mut matrix: Vec<Vec<f64>>) -> f64 {
    let n = matrix.len();
    let mut sum = 0.0;
    for i in 0..n {
        let pivot = (i..n)
            .max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs()))
            .unwrap();
        matrix.swap(i, pivot);
        let (upper, lower) = matrix.split_at_mut(i + 1);
        let row = &upper[i];
        sum += row[i].abs().ln();
        for other in lower {
            let share = other[i] / row[i];
            zip(other, row).for_each(|(x, y)| *x -= share * y);
        }
    }
    sum
}

#[test]
fn log_det_is_that_of_the_jacobian() {
    let (dim, rows, dtype) = (4, 2 * BATCH, DType::F64);
    let device = Device::flex().autodiff();
    let z = tensor(numbers(3, rows * dim, 2.5), [rows, dim], dtype, &device);
    for (name, flow, context) in flows(dim, dtype, &device) {
        let maps: [(&str, &dyn Fn(Tensor<2>) -> Transformed); 2] = [
            ("forward", &|z| flow.forward(z, context.clone())),
            ("inverse", &|z| flow.inverse(z, context.clone())),
        ];
        for (direction, map) in maps {
            let jacobian = jacobians(|z| map(z).value, &z);
            let expected: Vec<f64> = (0..rows)
                .map(|row| log_abs_det(jacobian.iter().map(|of| of[row].clone()).collect()))
                .collect();
            let got = values(&map(z.clone()).log_det);
            let tolerance = tolerance(&name, dtype);
            assert_close(&format!("{name}, {direction}"), &got, &expected, tolerance);
        }
    }
}

/// All learned numbers of a flow, and their gradients.
struct Learned<'a> {
    gradients: &'a GradientsParams,
    names: Vec<String>,
    /// By parameter: its name and its gradient.
    found: Vec<(String, Option<Vec<f64>>)>,
}

impl ModuleVisitor for Learned<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.names.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.names.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let gradient = self.gradients.get::<D>(param.id).map(|grad| values(&grad));
            self.found.push((self.names.join("."), gradient));
        }
    }
}

fn learned(flow: &Flow, gradients: &GradientsParams) -> Vec<(String, Option<Vec<f64>>)> {
    let mut visitor = Learned {
        gradients,
        names: Vec::new(),
        found: Vec::new(),
    };
    flow.visit(&mut visitor);
    visitor.found
}

/// Steps along a direction, parameter after parameter, from a list of them.
struct Along<'a>(&'a [Vec<f64>], usize, f64);

impl ModuleMapper for Along<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        let direction = self.0[self.1].clone();
        self.1 += 1;
        param.map(|value| {
            let (device, dtype, shape) = (value.device(), value.dtype(), value.dims());
            let step = tensor(direction, shape, dtype, &device).mul_scalar(self.2);
            (value.detach() + step).detach().require_grad()
        })
    }
}

/// A loss with another weight on every output.
fn loss(flow: &Flow, points: Tensor<2>, context: Option<Tensor<2>>, inverse: bool) -> Tensor<1> {
    let [rows, dim] = points.dims();
    let (device, dtype) = (points.device(), points.dtype());
    let flow = flow.bind(context);
    let out = if inverse {
        flow.inverse(points)
    } else {
        flow.forward(points)
    };
    let weights = tensor(numbers(8, rows * dim, 1.0), [rows, dim], dtype, &device);
    let weights_det = tensor(numbers(9, rows, 1.0), [rows], dtype, &device);
    (out.value * weights).sum() + (out.log_det * weights_det).sum()
}

/// Along random directions, by central differences in `f64`: of all parameters together, of the points and the context.
/// And every parameter has a gradient of its own.
#[test]
fn gradients_are_those_of_finite_differences() {
    let (dim, rows, dtype, h) = (4, 2 * BATCH, DType::F64, 1e-5);
    let device = Device::flex().autodiff();
    let points = tensor(numbers(7, rows * dim, 2.0), [rows, dim], dtype, &device);
    for (name, flow, context) in flows(dim, dtype, &device) {
        for inverse in [false, true] {
            let what = format!("{name}, inverse: {inverse}");
            let points = points.clone().require_grad();
            let context = context.clone().map(|context| context.require_grad());
            let mut gradients = loss(&flow, points.clone(), context.clone(), inverse).backward();
            let of_points = values(&points.grad(&gradients).unwrap());
            let of_context = context
                .as_ref()
                .and_then(|context| context.grad(&gradients));
            let gradients = GradientsParams::from_module(&mut gradients, &flow);
            let learned = learned(&flow, &gradients);

            let central = |at: &dyn Fn(f64) -> Tensor<1>| {
                (values(&at(h))[0] - values(&at(-h))[0]) / (2.0 * h)
            };
            let dot = |a: &[f64], b: &[f64]| zip(a, b).map(|(a, b)| a * b).sum::<f64>();

            let directions: Vec<Vec<f64>> = (learned.iter().enumerate())
                .map(|(i, (name, gradient))| {
                    let gradient = gradient
                        .as_ref()
                        .unwrap_or_else(|| panic!("{what}: {name} has no gradient"));
                    assert!(
                        gradient.iter().any(|x| *x != 0.0),
                        "{what}: the gradient of {name} is 0"
                    );
                    numbers(20 + i as u64, gradient.len(), 1.0)
                })
                .collect();
            let expected = central(&|step| {
                let flow = flow.clone().map(&mut Along(&directions, 0, step));
                loss(&flow, points.clone(), context.clone(), inverse)
            });
            let got: f64 = zip(&learned, &directions)
                .map(|((_, gradient), direction)| dot(gradient.as_ref().unwrap(), direction))
                .sum();
            assert_close(&format!("{what}, parameters"), &[got], &[expected], 1e-6);

            let direction = numbers(30, rows * dim, 1.0);
            let expected = central(&|step| {
                let step = tensor(direction.clone(), [rows, dim], dtype, &device).mul_scalar(step);
                loss(&flow, points.clone() + step, context.clone(), inverse)
            });
            let got = dot(&of_points, &direction);
            assert_close(&format!("{what}, points"), &[got], &[expected], 1e-6);

            if let (Some(context), Some(of_context)) = (&context, of_context) {
                let direction = numbers(31, BATCH * CONTEXT, 1.0);
                let expected = central(&|step| {
                    let step = tensor(direction.clone(), [BATCH, CONTEXT], dtype, &device)
                        .mul_scalar(step);
                    loss(&flow, points.clone(), Some(context.clone() + step), inverse)
                });
                let got = dot(&values(&of_context), &direction);
                assert_close(&format!("{what}, context"), &[got], &[expected], 1e-6);
            }
        }
    }
}

/// Sums in another order, and functions of other libraries, round otherwise: by chance to several times the error.
const AS_MUCH: f64 = 16.0;

/// The largest error of all rows of `width` numbers, each measured by the largest of its row: large ones would otherwise hide what
/// the others do.
fn error_of_rows(got: &[f64], exact: &[f64], width: usize) -> f64 {
    assert_eq!(got.len(), exact.len());
    let rows = zip(got.chunks(width), exact.chunks(width));
    let errors = rows.flat_map(|(got, exact)| {
        let scale = exact.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
        zip(got, exact).map(move |(g, e)| (g - e).abs() / scale)
    });
    largest(errors)
}

/// The same numbers in `f64` on flex are the measure.
#[test]
fn backends_agree() {
    let (dim, rows) = (5, 4 * BATCH);
    // What, of how many numbers that belong together, and they.
    let run = |device: &Device, dtype| -> Vec<(String, usize, Vec<f64>)> {
        let device = device.clone().autodiff();
        let mut all = Vec::new();
        for (name, flow, context) in flows(dim, dtype, &device) {
            let points = tensor(numbers(10, rows * dim, 2.0), [rows, dim], dtype, &device);
            for inverse in [false, true] {
                let points = points.clone().require_grad();
                let context = context.clone().map(|context| context.require_grad());
                let bound = flow.bind(context.clone());
                let out = if inverse {
                    bound.inverse(points.clone())
                } else {
                    bound.forward(points.clone())
                };
                let mut gradients =
                    loss(&flow, points.clone(), context.clone(), inverse).backward();
                let mut found = vec![
                    ("value".to_owned(), dim, values(&out.value)),
                    ("log_det".to_owned(), 1, values(&out.log_det)),
                    (
                        "points".to_owned(),
                        dim,
                        values(&points.grad(&gradients).unwrap()),
                    ),
                ];
                let of_context = context.and_then(|context| context.grad(&gradients));
                found.extend(of_context.map(|grad| ("context".to_owned(), CONTEXT, values(&grad))));
                let gradients = GradientsParams::from_module(&mut gradients, &flow);
                // Sums are as inexact as their largest terms: all of a parameter's gradient belongs together.
                found.extend(learned(&flow, &gradients).into_iter().map(|(name, of)| {
                    let of = of.unwrap();
                    (name, of.len(), of)
                }));
                let named = |(what, width, numbers)| {
                    (
                        format!("{name}, inverse: {inverse}, {what}"),
                        width,
                        numbers,
                    )
                };
                all.extend(found.into_iter().map(named));
            }
        }
        all
    };
    let exact = run(&Device::flex(), DType::F64);
    let single = run(&Device::flex(), DType::F32);
    for device in [ndarray(), wgpu()] {
        for ((got, single), exact) in zip(zip(run(&device, DType::F32), &single), &exact) {
            let (what, width, exact) = exact;
            let [got, single] = [&got.2, &single.2].map(|got| error_of_rows(got, exact, *width));
            assert!(
                single < 1e-3 && got <= AS_MUCH * single + 1e-5,
                "{what} on {device:?} errs by {got:e}, on flex by {single:e}"
            );
        }
    }
}

/// exp(log_prob) on a grid of ±9 with step 0.06, or of a whole torus; splines and ReLU networks have kinks, where the rectangle rule
/// errs by the square of the step, and what lies outside is below 1e-4.
#[test]
fn densities_integrate_to_one() {
    let device = Device::flex();
    for (name, config) in families(2) {
        let end = if is_circular(name) { PI } else { 9.0 };
        let step = 2.0 * end / 300.0;
        let side: Vec<f64> = (0..300)
            .map(|i| step * (f64::from(i) + 0.5) - end)
            .collect();
        let grid: Vec<f64> = side
            .iter()
            .flat_map(|&x| side.iter().flat_map(move |&y| [x, y]))
            .collect();
        let rows = grid.len() / 2;
        let flow = moved(&config, DType::F32, &device);
        let points = tensor(grid, [rows, 2], DType::F32, &device);
        let log_prob = distribution(name, &flow, 2, None).log_prob(points);
        let mass = values(&log_prob).iter().map(|l| l.exp()).sum::<f64>() * step * step;
        assert!((mass - 1.0).abs() < 2e-3, "{name}: mass {mass}");
    }
}

#[test]
fn a_batch_of_contexts_equals_a_loop_of_single_ones() {
    let (dim, n, dtype) = (4, 3, DType::F64);
    let device = Device::flex();
    let rows = n * BATCH;
    let z = tensor(numbers(11, rows * dim, 2.0), [rows, dim], dtype, &device);
    for (name, flow, context) in flows(dim, dtype, &device) {
        let Some(context) = context else { continue };
        let together = flow.forward(z.clone(), Some(context.clone()));
        for row in 0..rows {
            let of = |all: &Tensor<2>, i: usize| all.clone().slice_dim(0, i..i + 1);
            let single = flow.forward(of(&z, row), Some(of(&context, row % BATCH)));
            let got = values(&of(&together.value, row));
            assert_close(&name, &got, &values(&single.value), 1e-12);
            let got = values(&together.log_det)[row];
            assert_close(&name, &[got], &values(&single.log_det), 1e-12);
        }
    }
}

#[test]
fn a_sample_has_the_log_prob_that_it_came_with() {
    let device = Device::flex();
    for (name, flow, context) in flows(5, DType::F32, &device) {
        let q = distribution(&name, &flow, 5, context);
        let noise = tensor(numbers(18, 60 * 5, 2.0), [60, 5], DType::F32, &device);
        let (value, log_prob) = q.transport(noise);
        assert_close(&name, &values(&q.log_prob(value)), &values(&log_prob), 1e-3);
    }
}

/// What it takes to train one, as a user is told before: all numbers, but for orders.
#[test]
fn sizes_are_those_of_the_flows() {
    for (name, config) in families(5) {
        for config in [config.clone(), config.with_context(CONTEXT)] {
            let flow = init(&config, 5, &Device::flex());
            assert_eq!(config.size().weights, flow.num_params() as f64, "{name}");
        }
    }
}

/// What isn't mixing starts where it changes nothing; and nothing starts by changing volumes.
#[test]
fn flows_start_as_the_identity() {
    let device = Device::flex();
    let (dim, rows) = (5, 6);
    let z = tensor(
        numbers(12, rows * dim, 3.0),
        [rows, dim],
        DType::F32,
        &device,
    );
    for (name, config) in families(dim) {
        let out = init(&config, 5, &device).forward(z.clone(), None);
        assert_close(name, &values(&out.log_det), &vec![0.0; rows], 1e-5);
        let sorted = |points: &Tensor<2>| {
            let mut all = values(points);
            all.chunks_mut(dim)
                .for_each(|row| row.sort_by(f64::total_cmp));
            all
        };
        // These mix by more than an order.
        if !["householder", "rotation", "glow"].contains(&name) {
            assert_close(name, &sorted(&out.value), &sorted(&z), 1e-5);
        }
    }
}

#[test]
fn saved_flows_load_and_those_of_another_family_do_not() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.bpk");
    let z = tensor(numbers(13, 15, 2.0), [3, 5], DType::F32, &device);
    for (name, config) in families(5) {
        let flow = moved(&config, DType::F32, &device);
        flow.clone().save_file(&path).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        let config: FlowConfig = serde_json::from_str(&json).unwrap();
        let loaded = init(&config, 99, &device).try_load_file(&path).unwrap();
        let expected = values(&flow.forward(z.clone(), None).value);
        assert_eq!(
            values(&loaded.forward(z.clone(), None).value),
            expected,
            "{name}"
        );
        for (other, config) in families(5) {
            let loads = init(&config, 99, &device).try_load_file(&path).is_ok();
            assert_eq!(loads, other == name, "{name} into {other}");
        }
    }
}

#[test]
fn act_norm_starts_from_the_data_and_keeps_that() {
    let device = Device::flex();
    let (rows, dim) = (200, 3);
    let wide: Vec<f64> = (numbers(14, rows * dim, 1.0).iter().enumerate())
        .map(|(i, x)| 10.0 * (i % dim) as f64 + x * (1 + i % dim) as f64)
        .collect();
    let points = tensor(wide, [rows, dim], DType::F32, &device);
    let parts = vec![
        ActNormConfig {}.into(),
        LuLinearConfig {}.into(),
        ActNormConfig {}.into(),
    ];
    let config = FlowConfig::new(dim, parts);
    let flow = init(&config, 5, &device).standardize(points.clone(), None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.bpk");
    flow.clone().save_file(&path).unwrap();
    for flow in [
        flow,
        init(&config, 99, &device).try_load_file(&path).unwrap(),
    ] {
        let start = flow.inverse(points.clone(), None).value;
        let mean = values(&start.clone().mean_dim(0));
        assert_close("mean", &mean, &[0.0; 3], 1e-5);
        let variance = values(&start.square().mean_dim(0));
        assert_close("variance", &variance, &[1.0; 3], 1e-4);
    }
}

/// Far points and large parameters: finite, with gradients, or else a NaN would reach the whole model.
#[test]
fn wild_values_stay_finite() {
    let (dim, dtype) = (4, DType::F32);
    let device = Device::flex().autodiff();
    let sizes = [0.0, 1e-20, 1e-4, 1.0, 5.0, 30.0, 1e4];
    let points: Vec<f64> = (sizes.iter())
        .flat_map(|size| {
            numbers(15, dim, 1.0)
                .into_iter()
                .map(move |x| x.signum() * size)
        })
        .collect();
    let rows = sizes.len();
    for (name, config) in families(dim) {
        for size in [0.0, 1.0, 20.0] {
            let flow = init(&config, 5, &device).map(&mut Scaled(size));
            // A scale of e^20 after another leaves f32; everything else must stand it.
            if size > 1.0 && ["lu-linear", "act-norm", "glow"].contains(&name) {
                continue;
            }
            for inverse in [false, true] {
                let z = tensor(points.clone(), [rows, dim], dtype, &device).require_grad();
                let out = match inverse {
                    false => flow.forward(z.clone(), None),
                    true => flow.inverse(z.clone(), None),
                };
                let mut gradients =
                    (out.value.clone().sum() + out.log_det.clone().sum()).backward();
                let what = format!("{name}, parameters of size {size}, inverse: {inverse}");
                let of_points = values(&z.grad(&gradients).unwrap());
                let gradients = GradientsParams::from_module(&mut gradients, &flow);
                let mut found = vec![
                    ("value".to_owned(), Some(values(&out.value))),
                    ("log_det".to_owned(), Some(values(&out.log_det))),
                    ("points".to_owned(), Some(of_points)),
                ];
                found.extend(learned(&flow, &gradients));
                for (part, numbers) in found {
                    let numbers = numbers.unwrap_or_default();
                    assert!(
                        numbers.iter().all(|x| x.is_finite()),
                        "{what}: {part} is {numbers:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_points_are_mapped_to_none() {
    let (dim, device) = (3, Device::flex());
    for (name, flow, context) in flows(dim, DType::F32, &device) {
        let none = || Tensor::<2>::zeros([0, dim], &device);
        let q = distribution(&name, &flow, dim, context.clone());
        for (value, numbers) in [
            flow.forward(none(), context.clone()),
            flow.inverse(none(), context.clone()),
        ]
        .map(|end| (end.value, end.log_det))
        .into_iter()
        .chain([q.transport(none())])
        {
            assert_eq!((value.dims(), numbers.dims()), ([0, dim], [0]), "{name}");
        }
        assert_eq!(q.log_prob(none()).dims(), [0], "{name}");
    }
}

/// Inputs and weights that half floats have: what is computed of them is what `f32` makes of the same numbers, rounded.
#[test]
fn half_floats_are_computed_in_f32() {
    let device = Device::flex();
    let dim = 4;
    for (name, half, context) in flows(dim, DType::F16, &device) {
        let single = half.clone().map(&mut Cast(DType::F32));
        let single_context = context.clone().map(|context| context.cast(DType::F32));
        let points = tensor(numbers(19, 6 * dim, 2.0), [6, dim], DType::F16, &device);
        for inverse in [false, true] {
            let run = |flow: &Flow, points, context| match inverse {
                true => flow.inverse(points, context),
                false => flow.forward(points, context),
            };
            let got = run(&half, points.clone(), context.clone());
            assert_eq!(got.value.dtype(), DType::F16, "{name}");
            // The context alone may be half, too.
            let expected = run(&single, points.clone().cast(DType::F32), context.clone());
            let of_single = run(
                &single,
                points.clone().cast(DType::F32),
                single_context.clone(),
            );
            assert_eq!(values(&expected.value), values(&of_single.value), "{name}");
            for (got, expected) in [
                (values(&got.value), values(&expected.value.cast(DType::F16))),
                (
                    values(&got.log_det),
                    values(&expected.log_det.cast(DType::F16)),
                ),
            ] {
                assert_eq!(got, expected, "{name}, inverse: {inverse}");
            }
        }
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(self.0))
    }
}

/// Learned numbers of ± one size.
struct Scaled(f64);

impl ModuleMapper for Scaled {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        param.map(|value| {
            let (device, dtype, shape) = (value.device(), value.dtype(), value.dims());
            let signs = numbers(16, shape.iter().product(), 1.0);
            let values = signs.iter().map(|x| x.signum() * self.0).collect();
            tensor(values, shape, dtype, &device).require_grad()
        })
    }
}

/// Each coordinate of an autoregressive layer depends on those before it, whatever the widths; and on nothing else.
#[test]
fn autoregressive_layers_are_triangular() {
    let device = Device::flex().autodiff();
    let widths = [
        (1, vec![3]),
        (4, vec![]),
        (4, vec![3]),
        (5, vec![16, 15, 20]),
    ];
    // A circle's networks see two numbers of each angle.
    let maps = [
        ScalarMap::Affine,
        ScalarMap::Spline(3),
        ScalarMap::CircularSpline(3),
    ];
    for (map, (dim, hidden)) in
        (maps.into_iter()).flat_map(|map| widths.clone().map(|widths| (map, widths)))
    {
        let layer = AutoregressiveConfig { map, hidden };
        let config = FlowConfig::new(dim, vec![layer.clone().into()]);
        let flow = moved(&config, DType::F64, &device);
        let z = tensor(numbers(17, 60 * dim, 2.0), [60, dim], DType::F64, &device);
        let jacobian = jacobians(|z| flow.forward(z, None).value, &z);
        let depends =
            |output: usize, input: usize| jacobian[output].iter().any(|row| row[input] != 0.0);
        for output in 0..dim {
            for input in 0..dim {
                let seen = depends(output, input);
                assert!(
                    input <= output || !seen,
                    "{layer:?}: {output} depends on {input}"
                );
                // Where a hidden layer is as wide as the points, nothing that may be seen is cut off.
                let is_wide = layer.hidden.iter().all(|width| *width >= dim);
                assert!(
                    !is_wide || seen == (input <= output),
                    "{layer:?}: {output} and {input}"
                );
            }
        }
    }
}
