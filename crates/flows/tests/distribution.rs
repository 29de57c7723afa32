//! Flows as modules and as distributions.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{DType, Device, Tensor},
};
use burn_flows::{
    Bijection, CouplingConfig, DiagonalGaussian, Flow, FlowConfig, FlowDistribution, Householder,
    HouseholderConfig, PartConfig, PermutationConfig, Planar, PlanarConfig, PlanarConstraint,
    Radial, RadialConfig, ScalarMap, Sylvester, SylvesterBasis, SylvesterConfig,
};
use support::{assert_close, tensor, uniform, values};

/// A flow in two dimensions.
fn of(config: PlanarConfig, context: Option<usize>) -> FlowConfig {
    FlowConfig {
        context,
        ..FlowConfig::new(2, vec![config.into()])
    }
}

fn planar(layers: usize, context: Option<usize>) -> FlowConfig {
    FlowConfig {
        context,
        ..FlowConfig::planar(2, layers)
    }
}

/// exp(log_prob) on a grid of ±8 with step 0.05: a smooth density in two dimensions, for which the
/// rectangle rule is far better than the 1e-3 asked; its mass outside is below 1e-5.
#[test]
fn the_density_integrates_to_one() {
    let device = Device::flex();
    let step = 0.05;
    let side: Vec<f64> = (0..320).map(|i| -8.0 + step * (i as f64 + 0.5)).collect();
    let grid: Vec<f64> = side
        .iter()
        .flat_map(|&x| side.iter().flat_map(move |&y| [x, y]))
        .collect();
    let rows = grid.len() / 2;

    for constraint in [PlanarConstraint::Paper, PlanarConstraint::Identity] {
        let raw = tensor(uniform(21, 4 * 5, 1.0), [1, 4, 5], DType::F32, &device);
        let q = FlowDistribution::new(
            DiagonalGaussian::standard(2, &device),
            Planar::new(raw, constraint),
        );
        let log_prob = q.log_prob(tensor(grid.clone(), [rows, 2], DType::F32, &device));
        let mass: f64 = values(log_prob).iter().map(|l| l.exp()).sum::<f64>() * step * step;
        assert!((mass - 1.0).abs() < 1e-3, "{constraint:?}: mass {mass}");
    }
}

/// Of layers that bend: a flow that was just built is the identity, whose log-determinant is 0.
#[test]
fn a_bent_sample_has_the_log_prob_it_came_with() {
    let device = Device::flex();
    for owners in [1, 4] {
        let numbers = |seed, n: usize| uniform(seed, n, 1.0);
        let raw = tensor(
            numbers(25, owners * 25),
            [owners, 5, 5],
            DType::F64,
            &device,
        );
        let [mean, log_var] =
            [26, 27].map(|seed| tensor(numbers(seed, 8), [4, 2], DType::F64, &device));
        let base = DiagonalGaussian::new(mean, log_var);
        let q = FlowDistribution::new(base, Planar::new(raw, PlanarConstraint::Paper));
        let noise = tensor(numbers(28, 400), [200, 2], DType::F64, &device);
        let (value, log_prob) = q.transport(noise);
        assert_close(
            "log_prob",
            &values(q.log_prob(value)),
            &values(log_prob),
            1e-8,
        );
    }
}

#[test]
fn a_sample_has_no_gradients() {
    let device = Device::flex().autodiff();
    let mean = Tensor::<2>::zeros([1, 2], &device).require_grad();
    let base = DiagonalGaussian::new(mean, Tensor::zeros([1, 2], &device));
    let q = FlowDistribution::new(base, planar(2, None).init(&device).bind(None));
    assert!(q.rsample_and_log_prob(3).0.is_tracked());
    assert!(!q.sample(3).is_tracked());
}

#[test]
#[should_panic(expected = "4 Gaussians in 2 dimensions take points [n · 4, 2], got [6, 2]")]
fn points_of_no_example() {
    let device = Device::flex();
    let zeros = || Tensor::zeros([4, 2], &device);
    DiagonalGaussian::new(zeros(), zeros()).log_prob(Tensor::zeros([6, 2], &device));
}

#[test]
fn a_sample_has_the_log_prob_it_came_with() {
    let device = Device::flex();
    for (context, batch) in [(None, 1), (Some(3), 4)] {
        let flow = planar(5, context).init(&device);
        let context = context.map(|width| {
            tensor(
                uniform(22, batch * width, 1.0),
                [batch, width],
                DType::F32,
                &device,
            )
        });
        let base = DiagonalGaussian::new(
            tensor(uniform(23, batch * 2, 1.0), [batch, 2], DType::F32, &device),
            tensor(uniform(24, batch * 2, 1.0), [batch, 2], DType::F32, &device),
        );
        let q = flow.distribution(base, context);
        let (value, log_prob) = q.rsample_and_log_prob(50);
        assert_eq!(value.dims(), [50 * batch, 2]);
        assert_close(
            "log_prob",
            &values(q.log_prob(value)),
            &values(log_prob),
            1e-3,
        );
    }
}

#[test]
fn a_flow_of_no_layers_is_the_base() {
    let device = Device::flex();
    let flow = planar(0, Some(7)).init(&device);
    let context = Tensor::zeros([4, 7], &device);
    let q = flow.distribution(DiagonalGaussian::standard(2, &device), Some(context));
    // Ten samples of each of four examples, as of a flow with layers.
    assert_eq!(q.rsample_and_log_prob(10).0.dims(), [40, 2]);

    let flow = planar(0, None).init(&device);
    let q = flow.distribution(DiagonalGaussian::standard(2, &device), None);
    let points = tensor(vec![0.5, -1.0], [1, 2], DType::F32, &device);
    let base = DiagonalGaussian::standard(2, &device).log_prob(points.clone());
    assert_close("log_prob", &values(q.log_prob(points)), &values(base), 1e-6);
}

struct MissingGradients<'a>(&'a GradientsParams, Vec<String>, Vec<String>);

impl ModuleVisitor for MissingGradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.2.push(name.to_owned());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.2.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let moved = self
            .0
            .get::<D>(param.id)
            .is_some_and(|g| values(g).iter().any(|x| *x != 0.0));
        if !moved {
            self.1.push(self.2.join("."));
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient_in_both_directions() {
    let device = Device::flex().autodiff();
    for context in [None, Some(3)] {
        let config = PlanarConfig::new(3).with_hidden(vec![8]);
        let mut flow = of(config, context).init(&device);
        let context = context
            .map(|width| tensor(uniform(25, 6 * width, 1.0), [6, width], DType::F32, &device));
        let q = |flow: &Flow| {
            flow.distribution(DiagonalGaussian::standard(2, &device), context.clone())
        };
        // Away from the start, where the head's weights are 0 and nothing behind it matters.
        let loss = q(&flow).rsample_and_log_prob(6).1.sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &flow);
        flow = AdamConfig::new().init().step(0.1, flow, gradients);
        let losses: [Tensor<1>; 2] = [
            q(&flow).rsample_and_log_prob(6).1.sum(),
            q(&flow)
                .log_prob(tensor(uniform(26, 12, 1.0), [6, 2], DType::F32, &device))
                .sum(),
        ];
        for loss in losses {
            let gradients = GradientsParams::from_grads(loss.backward(), &flow);
            let mut visitor = MissingGradients(&gradients, Vec::new(), Vec::new());
            flow.visit(&mut visitor);
            assert!(visitor.1.is_empty(), "no gradient for {:?}", visitor.1);
        }
    }
}

#[test]
fn a_saved_flow_keeps_its_log_prob_and_another_shape_is_refused() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.bpk");
    let log_prob = |flow: &Flow| {
        let points = tensor(uniform(27, 10, 1.0), [5, 2], DType::F32, &device);
        let base = DiagonalGaussian::standard(2, &device);
        values(flow.distribution(base, None).log_prob(points))
    };

    let saved = planar(3, None).init(&device);
    let expected = log_prob(&saved);
    saved.save_file(&path).unwrap();

    let loaded = planar(3, None).init(&device).try_load_file(&path).unwrap();
    assert_eq!(log_prob(&loaded), expected);

    let other = planar(4, None).init(&device);
    assert!(other.try_load_file(&path).is_err(), "3 layers went into 4");
}

#[test]
fn weights_of_one_constraint_do_not_load_under_another() {
    use PlanarConstraint::{Identity, Paper};

    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.bpk");
    for context in [None, Some(3)] {
        let flow = |constraint| {
            let config = PlanarConfig::new(3).with_constraint(constraint);
            of(config, context).init(&device)
        };
        for (saved, other) in [(Paper, Identity), (Identity, Paper)] {
            flow(saved).save_file(&path).unwrap();
            flow(saved).try_load_file(&path).unwrap();
            let error = flow(other).try_load_file(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("{other:?}")), "{error}");
        }
    }
}

#[test]
fn a_config_survives_json() {
    let config = PlanarConfig::new(7)
        .with_constraint(PlanarConstraint::Identity)
        .with_hidden(vec![32]);
    let config = of(config, Some(3));
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<FlowConfig>(&json).unwrap(), config);
    assert!(json.contains("\"identity\""), "{json}");
}

#[test]
fn what_is_no_flow_is_refused_by_part() {
    let coupling = |hidden: Vec<usize>, map| CouplingConfig { map, hidden }.into();
    let sylvester = |vectors| SylvesterConfig::new(1, SylvesterBasis::Orthogonal(vectors)).into();
    let two = |part: PartConfig| FlowConfig::new(2, vec![PlanarConfig::new(1).into(), part]);
    let affine = ScalarMap::Affine;
    for (config, message) in [
        (FlowConfig::planar(0, 1), "a flow has a dimension"),
        (planar(1, Some(0)), "a context has a number"),
        (
            two(PlanarConfig::new(0).into()),
            "part 2 of the flow: a stack has a layer",
        ),
        (
            two(PlanarConfig::new(1).with_hidden(vec![0]).into()),
            "part 2 of the flow: hidden widths [0]",
        ),
        (
            two(RadialConfig::new(0).into()),
            "part 2 of the flow: a stack has a layer",
        ),
        (
            two(HouseholderConfig::new(0).into()),
            "part 2 of the flow: a stack has a layer",
        ),
        (
            two(coupling(vec![], ScalarMap::Sigmoidal(0))),
            "part 2 of the flow: 0 sigmoids",
        ),
        (
            two(coupling(vec![4, 0], affine)),
            "part 2 of the flow: hidden widths [4, 0]",
        ),
        (
            two(coupling(vec![], ScalarMap::Spline(0))),
            "part 2 of the flow: 0 bins",
        ),
        (
            two(PartConfig::Inverse(Box::new(sylvester(3)))),
            "part 2 of the flow: 3 orthonormal",
        ),
        (
            two(coupling(vec![], ScalarMap::CircularSpline(501))),
            "part 2 of the flow: 501 bins",
        ),
        (
            two(coupling(vec![], ScalarMap::CircularSpline(4))),
            "part 2 of the flow: it takes angles, but those before it any numbers",
        ),
        (
            FlowConfig::new(
                2,
                vec![
                    coupling(vec![], ScalarMap::CircularSpline(4)),
                    PermutationConfig::Reverse.into(),
                    PartConfig::Inverse(Box::new(coupling(vec![], affine))),
                ],
            ),
            "part 3 of the flow: it takes any numbers, but those before it angles",
        ),
        (
            FlowConfig::coupling(1, 1, affine, &[]),
            "part 1 of the flow: a coupling takes two",
        ),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert_eq!(panic_of(|| drop(config.init(&Device::flex()))), error);
    }
}

/// Stacks with their parameters at hand: what they are of, and what they refuse.
#[test]
fn stacks_take_parameters_of_their_shape() {
    let raw = |numbers| Tensor::<3>::zeros([3, 2, numbers], &Device::flex());
    let sylvester =
        |vectors, numbers| Sylvester::new(raw(numbers), SylvesterBasis::Orthogonal(vectors), 4);
    let stacks: [Box<dyn Bijection>; 3] = [
        Box::new(Radial::new(raw(6))),
        Box::new(Householder::new(raw(4))),
        Box::new(sylvester(2, 16)),
    ];
    for stack in stacks {
        assert_eq!((stack.dim(), stack.owners()), (4, 3), "{stack:?}");
    }
    for (panic, message) in [
        (
            panic_of(|| drop(Radial::new(raw(2)))),
            "radial parameters are",
        ),
        (
            panic_of(|| drop(Householder::new(raw(0)))),
            "Householder vectors are",
        ),
        (
            panic_of(|| drop(sylvester(2, 15))),
            "Sylvester parameters (Orthogonal(2), 4 dimensions) are",
        ),
        (panic_of(|| drop(sylvester(5, 55))), "5 orthonormal vectors"),
    ] {
        assert!(panic.starts_with(message), "{panic}");
    }
}

/// What `run` panics with.
fn panic_of(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    }
}

/// With layers and without, so that K = 0 takes what K = 1 takes.
#[test]
fn a_flow_takes_the_shapes_it_was_built_for() {
    let device = Device::flex();
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &device);
    for layers in [0, 1] {
        for (context_dim, context, z, message) in [
            (None, Some([1, 3]), [1, 2], "was built without a context"),
            (Some(3), None, [1, 2], "was built with a context"),
            (
                Some(3),
                Some([4, 7]),
                [4, 2],
                "takes a context [batch, 3], got [4, 7]",
            ),
            (
                Some(3),
                Some([4, 3]),
                [6, 2],
                "takes [n · 4, 2], got [6, 2]",
            ),
            (None, None, [6, 5], "takes [n · 1, 2], got [6, 5]"),
        ] {
            let flow = planar(layers, context_dim).init(&device);
            let panics = [
                panic_of(|| drop(flow.forward(zeros(z), context.map(zeros)))),
                panic_of(|| drop(flow.inverse(zeros(z), context.map(zeros)))),
            ];
            for panic in panics {
                assert!(panic.contains(message), "{layers} layers: {panic}");
            }
        }
    }
}

#[test]
fn a_base_and_a_flow_of_other_examples_are_no_distribution() {
    let device = Device::flex();
    let base = |batch, dim| {
        let zeros = Tensor::<2>::zeros([batch, dim], &device);
        DiagonalGaussian::new(zeros.clone(), zeros)
    };
    let planar = |owners| {
        let raw = Tensor::zeros([owners, 1, 5], &device);
        Planar::new(raw, PlanarConstraint::Identity)
    };
    for (batch, owners, examples) in [
        (1, 4, 4),
        (4, 1, 4),
        (4, 4, 4),
        (1, 1, 1),
        (1, 0, 0),
        (0, 1, 0),
    ] {
        let q = FlowDistribution::new(base(batch, 2), planar(owners));
        let (z, log_prob) = q.rsample_and_log_prob(3);
        assert_eq!(z.dims(), [3 * examples, 2]);
        assert_eq!(log_prob.dims(), [3 * examples]);
        assert_eq!(q.log_prob(z).dims(), [3 * examples]);
    }
    for (batch, owners, dim) in [(2, 4, 2), (4, 2, 2), (0, 4, 2), (1, 1, 3)] {
        let panic = panic_of(|| drop(FlowDistribution::new(base(batch, dim), planar(owners))));
        assert!(panic.contains("are no base of"), "{panic}");
    }
}

/// σ = e^12 and its square are beyond `f16`; the density is not.
#[test]
fn a_narrow_gaussian_has_a_density_in_half_floats() {
    let device = Device::flex();
    let log_prob = |dtype| {
        let mean = tensor(vec![0.5, -1.0], [1, 2], dtype, &device);
        let log_var = tensor(vec![-24.0, 0.0], [1, 2], dtype, &device);
        let points = tensor(vec![0.5, 0.0], [1, 2], dtype, &device);
        let base = DiagonalGaussian::new(mean, log_var);
        let (z, of_sample) = base.rsample_and_log_prob(points.clone());
        let of_point = base.log_prob(points);
        for found in [z.dtype(), of_sample.dtype(), of_point.dtype()] {
            assert_eq!(found, dtype);
        }
        [
            z.cast(DType::F16).flatten(0, 1),
            of_sample.cast(DType::F16),
            of_point.cast(DType::F16),
        ]
        .map(values)
    };
    assert_eq!(log_prob(DType::F16), log_prob(DType::F32));
}

/// Of half floats what `f32` makes of the same numbers, rounded once, at the end.
#[test]
fn densities_and_draws_of_half_floats_are_rounded_once() {
    let device = Device::flex();
    for half in [DType::F16, DType::BF16] {
        let halves = |seed, shape: [usize; 2]| {
            tensor(
                uniform(seed, shape[0] * shape[1], 2.0),
                shape,
                half,
                &device,
            )
        };
        let raw = halves(41, [5, 5]).unsqueeze_dim(0);
        let (mean, log_var, points) =
            (halves(42, [1, 2]), halves(43, [1, 2]), halves(44, [300, 2]));
        let of = |dtype: DType| {
            let base = DiagonalGaussian::new(mean.clone().cast(dtype), log_var.clone().cast(dtype));
            let flow = Planar::new(raw.clone().cast(dtype), PlanarConstraint::Paper);
            let q = FlowDistribution::new(base, flow);
            let points = points.clone().cast(dtype);
            let ((z, of_sample), of_point) = (q.transport(points.clone()), q.log_prob(points));
            assert_eq!([z.dtype(), of_sample.dtype(), of_point.dtype()], [dtype; 3]);
            [
                z.cast(half).flatten(0, 1),
                of_sample.cast(half),
                of_point.cast(half),
            ]
            .map(values)
        };
        assert_eq!(of(half), of(DType::F32), "{half:?}");
    }
}

/// The determinant of 2 x 2 derivatives at `z`, by differences.
fn log_det_by_differences(map: &impl Bijection, z: [f64; 2]) -> f64 {
    let step = 1e-6;
    let at = |x: f64, y: f64| {
        let point = tensor(vec![x, y], [1, 2], DType::F64, &Device::flex());
        values(map.forward(point).value)
    };
    let along = |dx: f64, dy: f64| {
        let (after, before) = (at(z[0] + dx, z[1] + dy), at(z[0] - dx, z[1] - dy));
        [0, 1].map(|i| (after[i] - before[i]) / (2.0 * step))
    };
    let (a, b) = (along(step, 0.0), along(0.0, step));
    (a[0] * b[1] - a[1] * b[0]).abs().ln()
}

/// Where vectors that should be orthonormal point the same way or nowhere, nothing moves along those that are too many.
#[test]
fn sylvester_vectors_that_depend_on_each_other() {
    let z = [0.3, -0.8];
    let rest = [0.5, 0.4, -0.3, -0.6, -0.5, 0.7, 0.1, 0.2];
    for (vectors, moves) in [
        ([0.7, 0.3, -0.2, 0.9], true),
        ([1.0, -1.0, 0.0, 0.0], true),
        ([0.3, 0.7, 0.6, 1.4], true),
        ([1.0, -1.0, 1.0, -1.0], true),
        ([0.0, 0.0, 1.0, -1.0], true),
        ([1e-7, 2e-7, -3e30, 1e30], true),
        ([0.0; 4], false),
    ] {
        for dtype in [DType::F32, DType::F64] {
            let numbers = [&vectors[..], &rest].concat();
            let raw = |dtype| tensor(numbers.clone(), [1, 1, 12], dtype, &Device::flex());
            let map = |dtype| Sylvester::new(raw(dtype), SylvesterBasis::Orthogonal(2), 2);
            let point = tensor(z.into(), [1, 2], dtype, &Device::flex());
            let there = map(dtype).forward(point);
            let what = format!("{vectors:?}, {dtype:?}");
            let expected = log_det_by_differences(&map(DType::F64), z);
            assert_close(&what, &values(there.log_det.clone()), &[expected], 1e-5);
            assert_eq!(
                values(there.value.clone())
                    != z.map(|x| match dtype {
                        DType::F32 => f64::from(x as f32),
                        _ => x,
                    }),
                moves,
                "{what}"
            );
            let back = map(dtype).inverse(there.value);
            assert_close(&what, &values(back.value), &z, 1e-5);
            assert_close(&what, &values(back.log_det), &[-expected], 1e-5);
        }
    }
}

/// A second vector that is millionths off the first points to where the rest of it does, and one that is less off nowhere.
#[test]
fn sylvester_vectors_that_nearly_depend_on_each_other() {
    let rest = [0.5, 0.4, -0.3, -0.6, -0.5, 0.7, 0.1, 0.2];
    for dtype in [DType::F32, DType::F64] {
        let end = |second: [f64; 2]| {
            let numbers = [&[1.0, 0.0], &second[..], &rest].concat();
            let raw = tensor(numbers, [1, 1, 12], dtype, &Device::flex());
            let point = tensor(vec![0.3, -0.8], [1, 2], dtype, &Device::flex());
            let end = Sylvester::new(raw, SylvesterBasis::Orthogonal(2), 2).forward(point);
            [values(end.value), values(end.log_det)].concat()
        };
        for (off, same) in [(2e-6, [0.0, 1.0]), (5e-7, [0.0, 0.0])] {
            assert_close(
                &format!("{off}, {dtype:?}"),
                &end([1.0, off]),
                &end(same),
                1e-6,
            );
        }
    }
}

#[test]
fn reflections_at_planes_whose_normals_have_any_length() {
    for size in [2e-15, 1.0, 2e19, 1e30, 3e38] {
        let v = tensor(vec![size, -size], [1, 1, 2], DType::F32, &Device::flex());
        let z = tensor(vec![0.5, -2.0], [1, 2], DType::F32, &Device::flex());
        let out = Householder::new(v).forward(z);
        assert_close("value", &values(out.value), &[-2.0, 0.5], 1e-6);
    }
    for size in [0.0, 5e-16] {
        let v = tensor(vec![size, -size], [1, 1, 2], DType::F32, &Device::flex());
        let z = tensor(vec![0.5, -2.0], [1, 2], DType::F32, &Device::flex());
        let out = Householder::new(v).forward(z);
        assert_eq!(values(out.value), [0.5, -2.0]);
    }
}

#[test]
fn a_sylvester_layer_of_no_reflections_is_refused() {
    let none = SylvesterBasis::Householder(0);
    let error = FlowConfig::sylvester(3, 2, none).check().unwrap_err();
    assert!(error.to_string().contains("0 reflections"), "{error}");
    let raw = tensor(vec![0.0; 15], [1, 1, 15], DType::F32, &Device::flex());
    let panic = panic_of(|| drop(Sylvester::new(raw, none, 3)));
    assert!(panic.contains("0 reflections"), "{panic}");
}
