//! The planar stack against independent numbers: golden values, its own Jacobian, finite differences.

mod support;

use burn::tensor::{DType, Device, Tensor};
use burn_flows::{Bijection, Planar, PlanarConstraint};
use serde::Deserialize;
use support::{assert_close, tensor, uniform, values};

const CONSTRAINTS: [PlanarConstraint; 2] = [PlanarConstraint::Paper, PlanarConstraint::Identity];

#[derive(Deserialize)]
struct Golden {
    name: String,
    constraint: PlanarConstraint,
    raw: Vec<Vec<f64>>,
    z: Vec<f64>,
    value: Vec<f64>,
    log_det: f64,
}

/// `golden.json` comes from `golden.py`: the paper's formulas as printed, at 60 digits.
#[test]
fn golden_values() {
    let cases: Vec<Golden> = serde_json::from_str(include_str!("golden.json")).unwrap();
    let device = Device::flex();
    for case in cases {
        // f32: a few roundings of numbers of size 50 for f64's 1e-13 and f32's 2e-5.
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 2e-5)] {
            let (layers, dim) = (case.raw.len(), case.z.len());
            let raw = tensor(case.raw.concat(), [1, layers, 2 * dim + 1], dtype, &device);
            let flow = Planar::new(raw, case.constraint);
            let what = format!("{} ({:?}, {dtype:?})", case.name, case.constraint);

            let forward = flow.forward(tensor(case.z.clone(), [1, dim], dtype, &device));
            assert_close(&what, &values(forward.value), &case.value, tolerance);
            assert_close(&what, &values(forward.log_det), &[case.log_det], tolerance);

            // The squeezed cases lose in the inverse what the forward map rounds away.
            let tolerance = tolerance * if case.name.contains('-') { 1e2 } else { 1e1 };
            let inverse = flow.inverse(tensor(case.value.clone(), [1, dim], dtype, &device));
            assert_close(&what, &values(inverse.value), &case.z, tolerance);
            assert_close(&what, &values(inverse.log_det), &[-case.log_det], tolerance);
        }
    }
}

/// The Jacobian by autodiff, one output at a time, against log_det, in both directions.
#[test]
fn log_det_is_the_log_determinant_of_the_jacobian() {
    let device = Device::flex().autodiff();
    let (dim, layers, rows) = (3, 4, 5);
    for constraint in CONSTRAINTS {
        let raw = uniform(1, rows * layers * 7, 1.5);
        let raw = tensor(raw, [rows, layers, 7], DType::F64, &device);
        let flow = Planar::new(raw, constraint);
        let points = uniform(2, rows * dim, 2.0);

        for inverse in [false, true] {
            let apply = |z: Tensor<2>| {
                if inverse {
                    flow.inverse(z)
                } else {
                    flow.forward(z)
                }
            };
            // jacobian[output][row][input]
            let jacobian: Vec<Vec<f64>> = (0..dim)
                .map(|output| {
                    let z = tensor(points.clone(), [rows, dim], DType::F64, &device).require_grad();
                    let y = apply(z.clone())
                        .value
                        .slice_dim(1, output..output + 1)
                        .sum();
                    values(z.grad(&y.backward()).unwrap())
                })
                .collect();
            let expected: Vec<f64> = (0..rows)
                .map(|row| {
                    let j = |o: usize, i: usize| jacobian[o][row * dim + i];
                    let det = j(0, 0) * (j(1, 1) * j(2, 2) - j(1, 2) * j(2, 1))
                        - j(0, 1) * (j(1, 0) * j(2, 2) - j(1, 2) * j(2, 0))
                        + j(0, 2) * (j(1, 0) * j(2, 1) - j(1, 1) * j(2, 0));
                    det.abs().ln()
                })
                .collect();
            let z = tensor(points.clone(), [rows, dim], DType::F64, &device);
            let what = format!("{constraint:?}, inverse: {inverse}");
            assert_close(&what, &values(apply(z).log_det), &expected, 1e-11);
        }
    }
}

#[test]
fn inverse_undoes_forward_and_their_log_dets_cancel() {
    let device = Device::flex();
    let (dim, layers, rows) = (5, 12, 64);
    for constraint in CONSTRAINTS {
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-3)] {
            let raw = uniform(3, layers * 11, 1.0);
            let flow = Planar::new(tensor(raw, [1, layers, 11], dtype, &device), constraint);
            let z = uniform(4, rows * dim, 3.0);

            let there = flow.forward(tensor(z.clone(), [rows, dim], dtype, &device));
            let back = flow.inverse(there.value);
            let what = format!("{constraint:?}, {dtype:?}");
            assert_close(&what, &values(back.value), &z, tolerance);
            let sum = values(there.log_det + back.log_det);
            assert_close(&what, &sum, &vec![0.0; rows], tolerance);
        }
    }
}

/// w·u from -200 to 200 crossed with a from -1000 to 1000, and w = 0: all finite, with gradients.
#[test]
fn wild_values_stay_finite_in_value_and_gradient() {
    let device = Device::flex().autodiff();
    for constraint in CONSTRAINTS {
        let mut raw = Vec::new();
        let mut z = Vec::new();
        for wu in [-200.0, -50.0, -20.0, -1.0, 0.0, 1.0, 20.0, 50.0, 200.0] {
            for b in [-1000.0, -30.0, -1e-6, 0.0, 0.5, 30.0, 1000.0] {
                for w in [
                    [1.0, 0.0],
                    [1e-3, 1e-3],
                    [0.0, 0.0],
                    [1e-10, 0.0],
                    [30.0, 40.0],
                ] {
                    let norm: f64 = w[0] * w[0] + w[1] * w[1];
                    let u = w.map(|x| if norm > 1e-12 { x * wu / norm } else { wu });
                    raw.extend([u[0], u[1], w[0], w[1], b]);
                    z.extend([0.3, -0.3]);
                }
            }
        }
        let rows = z.len() / 2;
        let raw = tensor(raw, [rows, 1, 5], DType::F32, &device).require_grad();
        let z = tensor(z, [rows, 2], DType::F32, &device).require_grad();

        for inverse in [false, true] {
            let flow = Planar::new(raw.clone(), constraint);
            let out = if inverse {
                flow.inverse(z.clone())
            } else {
                flow.forward(z.clone())
            };
            let gradients = (out.value.clone().sum() + out.log_det.clone().sum()).backward();
            for (name, numbers) in [
                ("value", values(out.value)),
                ("log_det", values(out.log_det)),
                ("gradient of z", values(z.grad(&gradients).unwrap())),
                (
                    "gradient of the parameters",
                    values(raw.grad(&gradients).unwrap()),
                ),
            ] {
                let per_row = numbers.len() / rows;
                for (i, x) in numbers.iter().enumerate() {
                    let row = i / per_row;
                    let parameters = values(raw.clone().slice_dim(0, row..row + 1));
                    assert!(
                        x.is_finite(),
                        "{constraint:?}, inverse: {inverse}: {name} is {x} at [u, w, b] = {parameters:?}"
                    );
                }
            }
        }
    }
}

/// The inverse in one dimension, w = 1 and b = 0, against bisection in `f64`: from w·u = -80, where the root is nearly
/// triple, to a knee that Newton's method has to find in a long tail.
#[test]
fn the_inverse_is_right_to_its_last_digits_from_flat_to_steep() {
    // r - tanh r = (r cosh r - sinh r) / cosh r, by series below 1, where it cancels: Σ 2k r^(2k + 1) / (2k + 1)!
    let rest = |r: f64| {
        if r > 1.0 {
            return r - r.tanh();
        }
        let (mut power, mut sum) = (r, 0.0);
        for k in (2..24).step_by(2).map(f64::from) {
            power *= r * r / (k * (k + 1.0));
            sum += k * power;
        }
        sum / r.cosh()
    };
    let device = Device::flex();
    for wu in [
        -80.0, -60.0, -36.0, -20.0, -5.0, -1.0, 0.5, 3.0, 50.0, 1e4, 1e8,
    ] {
        // 1 + w·û of the paper's constraint.
        let p = f64::max(wu, 0.0) + (-wu.abs()).exp().ln_1p();
        let from_knee = (-8..8).map(|i| p + f64::from(i));
        let sizes = (-30..8).map(|i| 10.0_f64.powi(i)).chain(from_knee);
        let q: Vec<f64> = sizes.filter(|q| *q > 0.0).collect();
        let root = |q: f64| {
            let (mut low, mut high) = (0.0, q + 2.0);
            for _ in 0..200 {
                let middle = f64::midpoint(low, high);
                let is_low = rest(middle) + p * middle.tanh() < q;
                *(if is_low { &mut low } else { &mut high }) = middle;
            }
            high
        };
        let roots: Vec<f64> = q.iter().map(|&q| root(q)).collect();
        let log_dets: Vec<f64> = (roots.iter())
            .map(|r| -(r.tanh().powi(2) + p * (1.0 - r.tanh().powi(2))).ln())
            .collect();

        // The worst condition is that of w·u + 1 in û and of y - û t: 1e-16, or 6e-8, of numbers of size w·u and q.
        for (dtype, unit) in [(DType::F64, 1e-15), (DType::F32, 5e-7)] {
            // A knee is lost in the rounding of q where w·u has more digits than it: asked for in f64 alone.
            if dtype == DType::F32 && wu > 100.0 {
                continue;
            }
            let raw = tensor(vec![wu, 1.0, 0.0], [1, 1, 3], dtype, &device);
            let rows = q.len();
            let y = tensor(q.clone(), [rows, 1], dtype, &device);
            let out = Planar::new(raw, PlanarConstraint::Paper).inverse(y);
            let (value, log_det) = (values(out.value), values(out.log_det));
            for i in 0..rows {
                let size = roots[i].max(wu.abs() * roots[i].tanh()).max(q[i]);
                assert!(
                    (value[i] - roots[i]).abs() <= 4.0 * unit * size,
                    "{dtype:?}, w.u = {wu}, q = {}: {}, not {}",
                    q[i],
                    value[i],
                    roots[i]
                );
                assert!(
                    (log_det[i] - log_dets[i]).abs() <= 40.0 * unit * (1.0 + wu.abs()),
                    "{dtype:?}, w.u = {wu}, q = {}: log det {}, not {}",
                    q[i],
                    log_det[i],
                    log_dets[i]
                );
            }
        }
    }
}

/// At w·û near -1 the inverse is steep; its gradient in y is e^log_det, and that is right too.
#[test]
fn the_inverse_of_a_flat_layer_has_its_gradient() {
    let device = Device::flex().autodiff();
    let raw = tensor(vec![-36.0, 1.0, 0.0], [1, 1, 3], DType::F64, &device);
    let q = vec![1e-18, 1e-12, -1e-6, 0.1];
    let y = tensor(q.clone(), [4, 1], DType::F64, &device).require_grad();
    let out = Planar::new(raw, PlanarConstraint::Paper).inverse(y.clone());
    let slope = values(y.grad(&out.value.sum().backward()).unwrap());
    for (slope, log_det) in slope.iter().zip(values(out.log_det)) {
        assert!((slope.ln() - log_det).abs() < 1e-12, "{slope}, e^{log_det}");
    }
}

/// Half floats hold neither e^-80 nor the inverse of a small squared norm: they are rounded inputs and outputs, and
/// what is computed of them is what `f32` makes of the same numbers.
#[test]
fn half_floats_are_computed_in_f32() {
    let device = Device::flex();
    let rows = [
        [1.0, 2.0, 0.0, 0.0, 0.5],      // w = 0
        [1.0, 2.0, 0.015625, 0.0, 0.5], // ‖w‖^-4 = 2^24
        [-50.0, 0.0, 1.0, 0.0, 0.0],    // det = e^-50
        [-50.0, 3.0, 1.0, 0.0, 0.25],
        [0.5, -0.5, 0.75, 1.0, -0.25],
    ];
    let points = vec![0.0, 0.5, 0.0, 0.5, 0.0, 0.5, 1.0, 0.5, -0.5, 0.25];
    let n = rows.len();
    for constraint in CONSTRAINTS {
        for half in [DType::F16, DType::BF16] {
            for inverse in [false, true] {
                let run = |dtype: DType| {
                    let device = device.clone().autodiff();
                    // Exact in either type.
                    let raw = tensor(rows.concat(), [n, 1, 5], dtype, &device).require_grad();
                    let z = tensor(points.clone(), [n, 2], dtype, &device).require_grad();
                    let flow = Planar::new(raw.clone(), constraint);
                    let out = if inverse {
                        flow.inverse(z.clone())
                    } else {
                        flow.forward(z.clone())
                    };
                    assert_eq!((out.value.dtype(), out.log_det.dtype()), (dtype, dtype));
                    let gradients =
                        (out.value.clone().sum() + out.log_det.clone().sum()).backward();
                    let grad = z.grad(&gradients).unwrap();
                    assert!(raw.grad(&gradients).is_some());
                    [
                        out.value.cast(half).into_data(),
                        out.log_det.cast(half).into_data(),
                        grad.cast(half).into_data(),
                    ]
                };
                for (got, expected) in run(half).iter().zip(run(DType::F32)) {
                    assert_eq!(
                        got.iter::<f64>().collect::<Vec<_>>(),
                        expected.iter::<f64>().collect::<Vec<_>>()
                    );
                }
            }
        }
    }
}

/// No rows are no rows, whoever owns the parameters.
#[test]
fn no_points_stay_none() {
    let device = Device::flex();
    for owners in [0, 1, 4] {
        let raw = Tensor::<3>::zeros([owners, 2, 5], &device);
        let flow = Planar::new(raw, PlanarConstraint::Paper);
        let z = Tensor::<2>::zeros([0, 2], &device);
        for out in [flow.forward(z.clone()), flow.inverse(z)] {
            assert_eq!(out.value.dims(), [0, 2]);
            assert_eq!(out.log_det.dims(), [0]);
        }
    }
}

#[test]
#[should_panic(expected = "takes [n · 0, 2], got [3, 2]")]
fn points_that_nobody_owns_panic() {
    let device = Device::flex();
    let raw = Tensor::zeros([0, 1, 5], &device);
    Planar::new(raw, PlanarConstraint::Paper).forward(Tensor::zeros([3, 2], &device));
}

#[test]
fn zero_u_under_the_identity_constraint_is_the_identity() {
    let device = Device::flex();
    let mut raw = uniform(5, 3 * 5, 2.0);
    for layer in raw.chunks_mut(5) {
        layer[..2].fill(0.0);
    }
    let flow = Planar::new(
        tensor(raw, [1, 3, 5], DType::F32, &device),
        PlanarConstraint::Identity,
    );
    let z = tensor(uniform(6, 20, 3.0), [10, 2], DType::F32, &device);
    for out in [flow.forward(z.clone()), flow.inverse(z.clone())] {
        out.value.into_data().assert_eq(&z.to_data(), true);
        // ln 1 of a softplus that rounds to 1.
        assert_close("log_det", &values(out.log_det), &[0.0; 10], 1e-6);
    }
}

#[test]
fn zero_w_is_the_shift_by_u_tanh_b() {
    let device = Device::flex();
    for constraint in CONSTRAINTS {
        let raw = tensor(
            vec![2.0, -3.0, 0.0, 0.0, 0.5],
            [1, 1, 5],
            DType::F64,
            &device,
        );
        let flow = Planar::new(raw, constraint);
        let out = flow.forward(tensor(vec![0.1, 0.2], [1, 2], DType::F64, &device));
        let t = 0.5_f64.tanh();
        assert_close(
            "shift",
            &values(out.value),
            &[0.1 + 2.0 * t, 0.2 - 3.0 * t],
            1e-14,
        );
        assert_close("log_det", &values(out.log_det), &[0.0], 1e-14);
    }
}

/// Autodiff through the inverse against central differences of it, in f64: in y and in every parameter.
#[test]
fn gradients_of_the_inverse_match_finite_differences() {
    let device = Device::flex().autodiff();
    let (dim, layers, rows) = (2, 3, 4);
    let numbers = layers * (2 * dim + 1);
    for constraint in CONSTRAINTS {
        let raw = uniform(7, numbers, 1.2);
        let y = uniform(8, rows * dim, 2.0);
        // A loss with a different weight on every output.
        let loss = |raw: Tensor<3>, y: Tensor<2>| {
            let out = Planar::new(raw, constraint).inverse(y);
            let weights = tensor(
                uniform(9, rows * dim, 1.0),
                [rows, dim],
                DType::F64,
                &device,
            );
            let weights_det = tensor(uniform(10, rows, 1.0), [rows], DType::F64, &device);
            (out.value * weights).sum() + (out.log_det * weights_det).sum()
        };
        let as_raw = |x: &[f64]| tensor(x.to_vec(), [1, layers, 2 * dim + 1], DType::F64, &device);
        let as_y = |x: &[f64]| tensor(x.to_vec(), [rows, dim], DType::F64, &device);

        let (raw_leaf, y_leaf) = (as_raw(&raw).require_grad(), as_y(&y).require_grad());
        let gradients = loss(raw_leaf.clone(), y_leaf.clone()).backward();

        let h = 1e-5; // error of order h², and 1e-16 / h of rounding
        let central = |x: &[f64], f: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
            (0..x.len())
                .map(|i| {
                    let at = |delta: f64| {
                        let mut x = x.to_vec();
                        x[i] += delta;
                        f(&x)
                    };
                    (at(h) - at(-h)) / (2.0 * h)
                })
                .collect()
        };
        let by_raw = central(&raw, &|x| values(loss(as_raw(x), as_y(&y)))[0]);
        let by_y = central(&y, &|x| values(loss(as_raw(&raw), as_y(x)))[0]);
        assert_close(
            "raw",
            &values(raw_leaf.grad(&gradients).unwrap()),
            &by_raw,
            1e-7,
        );
        assert_close("y", &values(y_leaf.grad(&gradients).unwrap()), &by_y, 1e-7);
    }
}

/// Parameters of each example's own equal a loop of single calls, also for several samples an example.
#[test]
fn a_batch_of_parameters_equals_a_loop() {
    let device = Device::flex();
    let (dim, layers, batch, n) = (3, 2, 4, 3);
    let raw = uniform(11, batch * layers * 7, 1.0);
    let z = uniform(12, n * batch * dim, 2.0);
    let together = Planar::new(
        tensor(raw.clone(), [batch, layers, 7], DType::F64, &device),
        PlanarConstraint::Paper,
    )
    .forward(tensor(z.clone(), [n * batch, dim], DType::F64, &device));
    let (value, log_det) = (values(together.value), values(together.log_det));

    for row in 0..n * batch {
        let owner = row % batch;
        let own = raw[owner * layers * 7..(owner + 1) * layers * 7].to_vec();
        let single = Planar::new(
            tensor(own, [1, layers, 7], DType::F64, &device),
            PlanarConstraint::Paper,
        )
        .forward(tensor(
            z[row * dim..(row + 1) * dim].to_vec(),
            [1, dim],
            DType::F64,
            &device,
        ));
        assert_close(
            "value",
            &value[row * dim..(row + 1) * dim],
            &values(single.value),
            1e-14,
        );
        assert_close(
            "log_det",
            &log_det[row..row + 1],
            &values(single.log_det),
            1e-14,
        );
    }
}

#[test]
#[should_panic(expected = "planar parameters are [owners, layers, 2 dim + 1], got [1, 2, 4]")]
fn parameters_of_an_impossible_shape_panic() {
    Planar::new(
        Tensor::zeros([1, 2, 4], &Device::flex()),
        PlanarConstraint::Paper,
    );
}

#[test]
#[should_panic(expected = "takes [n · 3, 2], got [4, 2]")]
fn rows_that_no_owner_has_panic() {
    let device = Device::flex();
    let raw = Tensor::zeros([3, 1, 5], &device);
    Planar::new(raw, PlanarConstraint::Paper).forward(Tensor::zeros([4, 2], &device));
}
