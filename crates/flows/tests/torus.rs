//! Flows of angles: what a turn changes, the seam at ±π, the uniform base, and fits whose entropy is known.

mod support;

use std::{
    f64::consts::{PI, TAU},
    iter::zip,
    panic::{AssertUnwindSafe, catch_unwind},
};

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{DType, Device, Tensor},
};
use burn_flows::{DiagonalGaussian, Flow, FlowConfig, PermutationConfig, ScalarMap, UniformTorus};
use support::{assert_close, tensor, uniform, values};

const DIM: usize = 3;
const MAP: ScalarMap = ScalarMap::CircularSpline(5);

/// Numbers of ±`size` in place of all that is learned; the same for every device.
struct Shaken(f64, DType, u64);

impl ModuleMapper for Shaken {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let shape = value.dims();
            self.2 += 1;
            let numbers = uniform(self.2, shape.iter().product(), 1.0);
            let numbers = numbers.iter().map(|x| self.0 * x).collect();
            let device = value.device();
            tensor(numbers, shape, self.1, &device).set_require_grad(device.is_autodiff())
        })
    }
}

/// Couplings, of which one keeps a coordinate to the end, and autoregressive layers in both directions; away from their start.
fn flows(dtype: DType, device: &Device) -> Vec<(&'static str, Flow)> {
    [
        ("one coupling", FlowConfig::coupling(DIM, 1, MAP, &[9])),
        ("coupling", FlowConfig::coupling(DIM, 3, MAP, &[9])),
        (
            "inverse autoregressive",
            FlowConfig::inverse_autoregressive(DIM, 2, MAP, &[9]),
        ),
        (
            "masked autoregressive",
            FlowConfig::masked_autoregressive(DIM, 2, MAP, &[9]),
        ),
    ]
    .map(|(name, config)| (name, config.init(device).map(&mut Shaken(1.0, dtype, 0))))
    .into()
}

/// Value and log_det forward, then inverse, and the gradient of the log-density, at `points: [rows, DIM]`.
fn all_of(flow: &Flow, points: &[f64], dtype: DType, device: &Device) -> [Vec<f64>; 5] {
    let points = tensor(points.to_vec(), [points.len() / DIM, DIM], dtype, device).require_grad();
    let there = flow.forward(points.clone(), None);
    let back = flow.inverse(points.clone(), None);
    let log_prob = flow
        .distribution(UniformTorus::new(DIM, device), None)
        .log_prob(points.clone());
    let gradients = log_prob.sum().backward();
    let of_points = points.grad(&gradients).unwrap();
    [
        values(there.value),
        values(there.log_det),
        values(back.value),
        values(back.log_det),
        values(of_points),
    ]
}

const RESULTS: [&str; 5] = [
    "value",
    "log_det",
    "value of the inverse",
    "log_det of the inverse",
    "gradient of the log-density",
];

/// In `f64`, but for some roundings of a turn and what the maps make of them.
#[test]
fn a_turn_changes_nothing() {
    let device = Device::flex().autodiff();
    let points = uniform(1, 40 * DIM, PI);
    for (name, flow) in flows(DType::F64, &device) {
        let expected = all_of(&flow, &points, DType::F64, &device);
        for turns in [-1.0, 1.0, 3.0] {
            for i in 0..DIM {
                let mut turned = points.clone();
                turned
                    .iter_mut()
                    .skip(i)
                    .step_by(DIM)
                    .for_each(|x| *x += turns * TAU);
                let got = all_of(&flow, &turned, DType::F64, &device);
                for (what, (got, expected)) in zip(RESULTS, zip(got, &expected)) {
                    let what = format!("{name}, {what}, {turns} turns of coordinate {i}");
                    assert_close(&what, &got, expected, 1e-11);
                }
            }
        }
    }
}

/// π and -π are one angle, and all that is made of it; and nothing jumps on the way to it, from either side.
#[test]
fn nothing_jumps_at_the_seam() {
    let device = Device::flex().autodiff();
    let points = uniform(2, 40 * DIM, PI);
    // The end of the circle, a step from it, and some roundings.
    let cases = [
        (DType::F64, PI, 1e-8, 1e-11),
        (DType::F32, f64::from(std::f32::consts::PI), 5e-7, 1e-3),
    ];
    for (dtype, end, step, rounding) in cases {
        for (name, flow) in flows(dtype, &device) {
            for i in 0..DIM {
                let at = |x: f64| {
                    let mut points = points.clone();
                    points.iter_mut().skip(i).step_by(DIM).for_each(|y| *y = x);
                    all_of(&flow, &points, dtype, &device)
                };
                let what = format!("{name}, coordinate {i}, {dtype:?}");
                for (k, (left, right)) in zip(at(end), at(-end)).enumerate() {
                    assert_close(
                        &format!("{what} at ±π: {}", RESULTS[k]),
                        &left,
                        &right,
                        rounding,
                    );
                }
                let sides = zip(at(end - step), at(-end + step));
                for (k, (left, right)) in sides.take(4).enumerate() {
                    for off in zip(left, right).map(|(left, right)| left - right) {
                        // A value may have come round. Log-slopes change by 1e2 a unit, several layers deep by some more.
                        let turns = if k % 2 == 0 { (off / TAU).round() } else { 0.0 };
                        let off = off - turns * TAU;
                        assert!(
                            off.abs() < 1e4 * step + rounding,
                            "{what} passes ±π: {} jumps by {off}",
                            RESULTS[k]
                        );
                    }
                }
            }
        }
    }
}

/// The ends, their neighbours in `f32`, knots of equal bins, far angles, and none.
#[test]
fn angles_are_handed_on_between_minus_pi_and_pi() {
    let end = std::f32::consts::PI;
    let knots = [-end, end, -end / 5.0, end / 5.0, -0.6 * end, 0.6 * end, 0.0];
    let near = |x: f32| [x.next_down(), x, x.next_up()];
    let far = [3.0 * end, -3.0 * end, 100.0, -1e4, 1e6];
    // Where a turn less than the number's, taken from the number itself, rounds to the other side of ±π; and no digit of an angle.
    let seams = [13.0, 23.0, 25.0, -31.0, 39.0, -3999.0].map(|turns| turns * PI);
    let lost = [1e9, -3e12];
    let points: Vec<f64> = (knots.into_iter().flat_map(near).chain(far).map(f64::from))
        .chain(seams)
        .flat_map(|x| [x; DIM])
        .collect();
    let device = Device::flex().autodiff();
    for dtype in [DType::F32, DType::F64] {
        let end = if dtype == DType::F32 {
            f64::from(end)
        } else {
            PI
        };
        // Bins that are equal at first, and what any weights make of them.
        let all = flows(dtype, &device).into_iter().flat_map(|(name, flow)| {
            let start = flow.clone().map(&mut Shaken(0.0, dtype, 0));
            [(name, flow, false), (name, start, true)]
        });
        for (name, flow, is_start) in all {
            let found = all_of(&flow, &points, dtype, &device);
            for (what, numbers) in zip(RESULTS, &found) {
                let is_finite = numbers.iter().all(|x| x.is_finite());
                assert!(is_finite, "{name}, {what}, {dtype:?}: {numbers:?}");
            }
            for value in [&found[0], &found[2]] {
                let is_angle = value.iter().all(|x| (-end..end).contains(x));
                assert!(is_angle, "{name}, {dtype:?}: {value:?}");
            }
            let of_lost = all_of(&flow, &lost.map(|x| [x; DIM]).concat(), dtype, &device);
            let is_angle = |x: &f64| (-end..end).contains(x);
            assert!(
                of_lost[0].iter().chain(&of_lost[2]).all(is_angle),
                "{name}, {dtype:?}: {of_lost:?}"
            );
            if is_start {
                // The angles that came, to a rounding of the largest.
                for (got, x) in zip(&found[0], &points).chain(zip(&found[2], &points)) {
                    let turns = (got - x) / (2.0 * end);
                    let off = (turns - turns.round()) * 2.0 * end;
                    assert!(
                        off.abs() < 2e-6 + 2e-7 * x.abs(),
                        "{name}, {dtype:?}: {got} of {x}"
                    );
                }
                for log_det in [&found[1], &found[3]] {
                    assert_close(name, log_det, &vec![0.0; log_det.len()], 1e-5);
                }
            }
        }
        let none = vec![f64::NAN, 0.0, 0.0, f64::INFINITY, 0.0, 0.0];
        for (name, flow) in flows(dtype, &device) {
            let q = flow.distribution(UniformTorus::new(DIM, (&device, dtype)), None);
            let (drawn, of_drawn) = q.rsample_and_log_prob(2);
            assert_eq!([drawn.dtype(), of_drawn.dtype()], [dtype; 2], "{name}");
            let log_prob = values(q.log_prob(tensor(none.clone(), [2, DIM], dtype, &device)));
            assert!(log_prob.iter().all(|x| x.is_nan()), "{name}: {log_prob:?}");
        }
    }
}

#[test]
fn the_base_is_uniform() {
    let device = Device::flex();
    let base = UniformTorus::new(DIM, &device);
    assert_eq!(base.dims(), [1, DIM]);
    let (rows, expected) = (4096, -(DIM as f64) * TAU.ln());
    let points = base.noise(rows);
    assert_eq!(points.dims(), [rows, DIM]);
    let log_prob = values(base.log_prob(points.clone()));
    assert_close("log_prob", &log_prob, &vec![expected; rows], 1e-6);
    let points = values(points);
    assert!(points.iter().all(|x| x.abs() < PI + 1e-6));
    // The means of cos k θ and sin k θ have a standard deviation of 1 / √(2 n): five of them.
    let n = points.len() as f64;
    for k in [1.0, 2.0] {
        let means =
            [f64::cos, f64::sin].map(|of| points.iter().map(|x| of(k * x)).sum::<f64>() / n);
        assert_close("moments", &means, &[0.0; 2], 5.0 / (2.0 * n).sqrt());
    }
    let none = values(base.log_prob(Tensor::zeros([0, DIM], &device)));
    assert_eq!(none, Vec::<f64>::new());
    let identity = FlowConfig::new(DIM, vec![PermutationConfig::Random.into()]).init(&device);
    let (value, log_prob) = identity.distribution(base, None).rsample_and_log_prob(7);
    assert_eq!(value.dims(), [7, DIM]);
    assert_close("log_prob", &values(log_prob), &[expected; 7], 1e-6);
}

#[test]
fn a_base_of_other_points_is_refused() {
    let device = Device::flex();
    let message = |run: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
        match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
        }
    };
    let angles = FlowConfig::coupling(DIM, 2, MAP, &[]).init(&device);
    let got =
        message(&|| drop(angles.distribution(DiagonalGaussian::standard(DIM, &device), None)));
    assert_eq!(
        got,
        "the points of this flow are angles: its base is a UniformTorus"
    );
    let numbers = FlowConfig::planar(DIM, 2).init(&device);
    let got = message(&|| drop(numbers.distribution(UniformTorus::new(DIM, &device), None)));
    assert_eq!(
        got,
        "the points of this flow are any numbers: a UniformTorus is no base of it"
    );
    let got = message(&|| drop(angles.distribution(UniformTorus::new(2, &device), None)));
    assert!(got.contains("in 2 dimensions are no base"), "{got}");
    let got = message(&|| {
        UniformTorus::new(2, &device).log_prob(Tensor::zeros([1, 3], &device));
    });
    assert_eq!(
        got,
        "a torus in 2 dimensions takes points [n, 2], got [1, 3]"
    );
}

/// I_n(κ), by its series.
fn bessel(n: u32, kappa: f64) -> f64 {
    let half = kappa / 2.0;
    let mut term = half.powi(n as i32) / (1..=n).map(f64::from).product::<f64>();
    let mut sum = 0.0;
    for k in 1..60 {
        sum += term;
        term *= half * half / f64::from(k * (k + n));
    }
    sum
}

/// Of the von Mises distribution around 0.
fn log_density(x: f64, kappa: f64) -> f64 {
    kappa * x.cos() - (TAU * bessel(0, kappa)).ln()
}

/// ln(2π I_0) - κ I_1 / I_0
fn entropy(kappa: f64) -> f64 {
    (TAU * bessel(0, kappa)).ln() - kappa * bessel(1, kappa) / bessel(0, kappa)
}

/// KL(p || q) after 400 steps of Adam on it, each on another grid of `n` points a side: on one alone q would learn to be small
/// between its points. Of smooth densities, and round the torus, the rectangle rule has nearly all digits.
fn fitted(config: &FlowConfig, n: usize, log_p: impl Fn(&[f64]) -> f64, entropy: f64) -> f64 {
    const STEPS: usize = 400;
    let device = Device::flex().autodiff();
    let cross_entropy = |flow: &Flow, n: usize, offset: f64| {
        let points = grid(config.dim, n, offset);
        let log_p: Vec<f64> = points.chunks_exact(config.dim).map(&log_p).collect();
        let cell = (TAU / n as f64).powi(config.dim as i32);
        let weights: Vec<f64> = log_p.iter().map(|log_p| log_p.exp() * cell).collect();
        let of_p = -zip(&weights, &log_p)
            .map(|(w, log_p)| w * log_p)
            .sum::<f64>();
        assert_close(
            "mass and entropy",
            &[weights.iter().sum(), of_p],
            &[1.0, entropy],
            1e-6,
        );
        let rows = weights.len();
        let points = tensor(points, [rows, config.dim], DType::F32, &device);
        let weights = tensor(weights, [rows], DType::F32, &device);
        let q = flow.distribution(UniformTorus::new(config.dim, &device), None);
        (q.log_prob(points) * weights).sum().neg()
    };
    let mut flow = config.init(&device).map(&mut Shaken(0.3, DType::F32, 7));
    let mut optimizer = AdamConfig::new().init();
    for (step, offset) in uniform(8, STEPS, 0.5).into_iter().enumerate() {
        let rate = 0.06 * (1.0 - step as f64 / STEPS as f64);
        let gradients = cross_entropy(&flow, n, offset).backward();
        flow = optimizer.step(
            rate,
            flow.clone(),
            GradientsParams::from_grads(gradients, &flow),
        );
    }
    values(cross_entropy(&flow, 8 * n, 0.0))[0] - entropy
}

/// The points of `n` a side, each moved by this share of the way to the next.
fn grid(dim: usize, n: usize, offset: f64) -> Vec<f64> {
    let number = |i: usize| TAU * (i as f64 + 0.5 + offset) / n as f64 - PI;
    (0..n.pow(dim as u32))
        .flat_map(|i| (0..dim).map(move |d| number(i / n.pow(d as u32) % n)))
        .collect()
}

/// Around ±π, so that half of it is at either end of the numbers.
#[test]
fn a_von_mises_distribution_is_fitted() {
    let kappa = 4.0;
    let config = FlowConfig::masked_autoregressive(1, 1, ScalarMap::CircularSpline(12), &[]);
    let log_p = |at: &[f64]| log_density(at[0] - PI, kappa);
    let kl = fitted(&config, 100, log_p, entropy(kappa));
    // Of the uniform density it is ln 2π less the entropy, 1.03. What twelve bins leave is 1e-4.
    assert!((-1e-5..1e-3).contains(&kl), "KL {kl}");
}

/// A von Mises distribution of a, and of b around π + sin a, so that either is at both ends of the numbers.
#[test]
fn a_density_of_two_angles_is_fitted() {
    let (of_a, of_b) = (2.0, 4.0);
    let config = FlowConfig::coupling(2, 2, ScalarMap::CircularSpline(8), &[24]);
    let log_p =
        |at: &[f64]| log_density(at[0] - PI, of_a) + log_density(at[1] - PI - at[0].sin(), of_b);
    let kl = fitted(&config, 24, log_p, entropy(of_a) + entropy(of_b));
    // Of the uniform density it is 1.60. What networks of this size come to in these steps is 4e-3.
    assert!((-1e-5..1e-2).contains(&kl), "KL {kl}");
}

/// What a flow of one angle takes, is given a context.
#[test]
fn the_density_of_an_angle_given_a_context_integrates_to_one() {
    let device = Device::flex();
    let config = FlowConfig::masked_autoregressive(1, 2, MAP, &[8]).with_context(2);
    let flow = config.init(&device).map(&mut Shaken(0.5, DType::F64, 3));
    let context = tensor(vec![0.3, -0.7, 1.5, 0.2], [2, 2], DType::F64, &device);
    let n = 8000;
    let points = grid(1, n, 0.0).iter().flat_map(|&x| [x, x]).collect();
    let points = tensor(points, [2 * n, 1], DType::F64, &device);
    let q = flow.distribution(UniformTorus::new(1, &device), Some(context));
    let density = values(q.log_prob(points).exp());
    for owner in 0..2 {
        let mass = density.iter().skip(owner).step_by(2).sum::<f64>() * TAU / n as f64;
        // The rectangle rule, of a density with kinks and narrow peaks.
        assert!((mass - 1.0).abs() < 1e-3, "mass {mass}");
    }
    assert_ne!(density[0], density[1]);
}

/// Angles in half floats: what `f32` makes of the same numbers, rounded once.
#[test]
fn half_floats_of_angles_are_rounded_once() {
    let device = Device::flex();
    let points = tensor(uniform(51, 100 * DIM, PI), [100, DIM], DType::F16, &device);
    for (name, half) in flows(DType::F16, &device) {
        let single = half.clone().map(&mut Cast(DType::F32));
        let run = |flow: &Flow, dtype| {
            let q = flow.distribution(UniformTorus::new(DIM, (&device, dtype)), None);
            let points = points.clone().cast(dtype);
            let ((z, of_sample), of_point) = (q.transport(points.clone()), q.log_prob(points));
            assert_eq!([z.dtype(), of_sample.dtype(), of_point.dtype()], [dtype; 3]);
            [z.flatten(0, 1), of_sample, of_point].map(|found| values(found.cast(DType::F16)))
        };
        assert_eq!(run(&half, DType::F16), run(&single, DType::F32), "{name}");
    }
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.cast(self.0))
    }
}
