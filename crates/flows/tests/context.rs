//! What a context adds to the networks of a flow, which is one layer for all of them.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor},
};
use burn_flows::{
    ActNormConfig, CouplingConfig, Flow, FlowConfig, PartConfig, PermutationConfig, ScalarMap,
};
use support::{assert_close, tensor, uniform, values};

/// Three additive couplings of a plane without hidden layers, the coordinates exchanged after the first: each adds a number to the
/// second coordinate, its column of the context's layer, since what it makes of the first starts at 0.
fn shifts() -> FlowConfig {
    let coupling = CouplingConfig {
        map: ScalarMap::Additive,
        hidden: Vec::new(),
    };
    let coupling = PartConfig::from(coupling);
    let exchange = PermutationConfig::Reverse.into();
    FlowConfig::new(
        2,
        vec![coupling.clone(), exchange, coupling.clone(), coupling],
    )
    .with_context(2)
}

/// Of the context's layer, `[2, 3]` and `[3]`.
const WEIGHT: [f64; 6] = [0.5, -1.0, 2.0, 1.5, 0.25, -0.75];
const BIAS: [f64; 3] = [4.0, 8.0, -16.0];

struct Set(DType);

impl ModuleMapper for Set {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype = self.0;
        param.map(|value| {
            let (shape, device) = (value.dims(), value.device());
            let set = match shape[..] {
                [2, 3] => tensor(WEIGHT.to_vec(), shape, dtype, &device),
                [3] => tensor(BIAS.to_vec(), shape, dtype, &device),
                _ => value.cast(dtype).detach(),
            };
            match device.is_autodiff() {
                true => set.require_grad(),
                false => set,
            }
        })
    }
}

fn set(config: &FlowConfig, dtype: DType, device: &Device) -> Flow {
    config.init(device).map(&mut Set(dtype))
}

/// Every number here is exact in `f16`.
#[test]
fn each_network_gets_its_own_columns() {
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let device = Device::flex().autodiff();
        let flow = set(&shifts(), dtype, &device);
        let z = tensor(vec![0.0, 1.0, 2.0, 3.0], [2, 2], dtype, &device);
        let context = tensor(vec![1.0, 0.0, 1.0, 2.0], [2, 2], dtype, &device).require_grad();
        let out = flow.forward(z.clone(), Some(context.clone()));

        // The couplings add 4.5, 7 and -14 for the first example, 7.5, 7.5 and -15.5 for the second: the first one to what was
        // the second coordinate, the others to what was the first.
        let first = [1.0 + 4.5, 0.0 + 7.0 - 14.0];
        let second = [3.0 + 7.5, 2.0 + 7.5 - 15.5];
        assert_eq!(values(out.value.clone()), [first, second].concat());
        assert_eq!(values(out.log_det), [0.0; 2]);
        let back = flow.inverse(out.value.clone(), Some(context.clone()));
        assert_eq!(values(back.value), values(z));

        // Of the sum of all coordinates: the sums of W's rows, for either example.
        let gradients = out.value.sum().backward();
        let of_context = values(context.grad(&gradients).unwrap());
        assert_eq!(of_context, [1.5, 1.0, 1.5, 1.0], "{dtype:?}");
    }
}

#[test]
fn whatever_the_context_a_flow_starts_as_the_identity() {
    let device = Device::flex();
    for hidden in [vec![], vec![8]] {
        for map in [ScalarMap::Additive, ScalarMap::Affine, ScalarMap::Spline(4)] {
            let hidden = hidden.clone();
            let coupling = CouplingConfig { map, hidden };
            let flow = FlowConfig::new(3, vec![coupling.into()]).with_context(2);
            let [z, context] = [(1, 3), (2, 2)].map(|(seed, width)| {
                let numbers = uniform(seed, 5 * width, 2.0);
                tensor(numbers, [5, width], DType::F32, &device)
            });
            let out = flow.init(&device).forward(z.clone(), Some(context));
            assert_close("value", &values(out.value), &values(z), 1e-6);
            assert_close("log_det", &values(out.log_det), &[0.0; 5], 1e-6);
        }
    }
}

/// Networks without hidden layers beside others: their columns start at 0, those of the others do not.
#[test]
fn networks_of_other_depths_start_with_their_own_columns() {
    let device = Device::flex();
    let coupling = |hidden: &[usize]| {
        PartConfig::from(CouplingConfig {
            map: ScalarMap::Affine,
            hidden: hidden.to_vec(),
        })
    };
    let parts = vec![coupling(&[8]), coupling(&[]), coupling(&[])];
    let flow = FlowConfig::new(3, parts).with_context(2).init(&device);
    let z = tensor(uniform(1, 15, 2.0), [5, 3], DType::F32, &device);
    let context = tensor(uniform(2, 10, 2.0), [5, 2], DType::F32, &device);
    let out = flow.forward(z.clone(), Some(context));
    assert_close("value", &values(out.value), &values(z), 1e-6);
}

/// Turned round, its other direction is the one towards the base.
#[test]
fn an_act_norm_that_is_turned_round_starts_from_the_data_too() {
    let device = Device::flex();
    let turned = PartConfig::Inverse(Box::new(ActNormConfig {}.into()));
    let points = tensor(uniform(3, 128, 4.0), [64, 2], DType::F32, &device) + 10.0;
    let flow = FlowConfig::new(2, vec![turned]).init(&device);
    let z = values(
        flow.standardize(points.clone(), None)
            .inverse(points, None)
            .value,
    );
    for i in 0..2 {
        let column = || z.iter().skip(i).step_by(2);
        let mean = column().sum::<f64>() / 64.0;
        let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / 64.0;
        assert_close("moments", &[mean, variance], &[0.0, 1.0], 1e-4);
    }
}

#[test]
#[should_panic(expected = "no points have no mean and variance")]
fn act_norm_does_not_start_from_nothing() {
    let flow = FlowConfig::new(2, vec![ActNormConfig {}.into()]).init(&Device::flex());
    flow.standardize(Tensor::zeros([0, 2], &Device::flex()), None);
}

#[test]
fn a_start_is_made_of_points_of_the_flow() {
    let device = Device::flex();
    let flow = || FlowConfig::new(2, vec![ActNormConfig {}.into()]);
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &device);
    let start = |flow: FlowConfig, points, context| {
        let start = || flow.init(&device).standardize(points, context);
        let panic = catch_unwind(AssertUnwindSafe(start)).unwrap_err();
        *panic.downcast::<String>().unwrap()
    };
    let said = start(flow(), zeros([4, 3]), None);
    assert!(said.contains("takes [n · 1, 2], got [4, 3]"), "{said}");
    let said = start(flow().with_context(1), zeros([3, 2]), Some(zeros([2, 1])));
    assert!(said.contains("takes [n · 2, 2], got [3, 2]"), "{said}");
}

/// What ActNorm sees has gone back through the couplings after it, each with its own columns.
#[test]
fn act_norm_starts_behind_what_the_context_does() {
    // f16 has eleven bits, of points up to 20.
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F16, 2e-2)] {
        let device = Device::flex();
        let mut config = shifts();
        config.parts.insert(0, ActNormConfig {}.into());
        let n = 64;
        let [points, context] =
            [3, 4].map(|seed| tensor(uniform(seed, 2 * n, 4.0), [n, 2], dtype, &device));
        let flow = set(&config, dtype, &device);
        let flow = flow.standardize(points.clone(), Some(context.clone()));
        let z = values(flow.inverse(points, Some(context)).value);
        for i in 0..2 {
            let column = || z.iter().skip(i).step_by(2);
            let mean = column().sum::<f64>() / n as f64;
            let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            assert_close("moments", &[mean, variance], &[0.0, 1.0], tolerance);
        }
    }
}

#[test]
fn a_context_is_for_flows_that_have_one() {
    let device = Device::flex();
    let without = FlowConfig::new(2, vec![ActNormConfig {}.into()]);
    let with = without.clone().with_context(2);
    let zeros = || Tensor::<2>::zeros([4, 2], &device);
    for (config, context, expected) in [
        (
            without,
            Some(zeros()),
            "this flow was built without a context, but was given one",
        ),
        (
            with,
            None,
            "this flow was built with a context, but was given none",
        ),
    ] {
        let flow = config.init(&device);
        let calls: [&dyn Fn(); 3] = [
            &|| drop(flow.forward(zeros(), context.clone())),
            &|| drop(flow.inverse(zeros(), context.clone())),
            &|| drop(flow.clone().standardize(zeros(), context.clone())),
        ];
        for call in calls {
            let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("a panic");
            assert_eq!(panic.downcast_ref(), Some(&expected));
        }
    }
}
