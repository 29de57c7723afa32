//! The steps against Burn's own and against the formulas.

mod model;

use burn::{
    module::Param,
    optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, RmsPropConfig},
    tensor::{DType, Device, Tensor, TensorData},
};
use fused_optim::{Adam, Adamax, RmsProp};
use model::{Model, SHAPE};

const LR: f64 = 0.01;

/// Large enough to be seen beside a gradient.
const EPSILON: f32 = 0.05;

fn model() -> Model {
    let device = Device::flex().autodiff();
    // Not the device's generator, which tests side by side would share.
    let weight: Vec<f32> = (0..SHAPE[0] * SHAPE[1])
        .map(|i| 2.0 * (i as f32 * 0.7).sin())
        .collect();
    let weight = Tensor::from_data(TensorData::new(weight, SHAPE), &device);
    Model {
        weight: Param::from_tensor(weight),
        bias: Param::from_tensor(Tensor::from_data([0.5], &device)),
    }
}

/// Gradients of the `step`-th step, some of them 0.
fn gradients(model: &Model, step: usize) -> GradientsParams {
    let loss = ((model.weight.val() + model.bias.val().unsqueeze()) * (step as f32 + 0.3))
        .sin()
        .clamp_min(-0.9)
        .sum();
    GradientsParams::from_grads(loss.backward(), model)
}

fn train(mut optimizer: ModuleOptimizer, steps: usize) -> [TensorData; 2] {
    let mut model = model();
    for step in 0..steps {
        let gradients = gradients(&model, step);
        model = optimizer.step(LR, model, gradients);
    }
    [model.weight.val().into_data(), model.bias.val().into_data()]
}

#[track_caller]
fn assert_same(ours: ModuleOptimizer, burns: ModuleOptimizer) {
    let (ours, burns) = (train(ours, 5), train(burns, 5));
    for (ours, burns) in ours.iter().zip(&burns) {
        ours.assert_eq(burns, true);
    }
}

#[test]
fn rmsprop_gives_the_numbers_of_burns() {
    let burns = RmsPropConfig::new().with_momentum(0.9);
    assert_same(RmsProp::default().init(), burns.init());
    let ours = RmsProp {
        alpha: 0.9,
        momentum: 0.5,
        epsilon: 1e-3,
        weight_decay: 0.0,
    };
    let burns = RmsPropConfig::new()
        .with_alpha(0.9)
        .with_momentum(0.5)
        .with_epsilon(1e-3);
    assert_same(ours.init(), burns.init());
}

#[test]
fn adam_gives_the_numbers_of_burns() {
    for epsilon in [1e-8, EPSILON] {
        let ours = Adam {
            epsilon,
            ..Adam::default()
        };
        assert_same(ours.init(), AdamConfig::new().with_epsilon(epsilon).init());
    }
}

/// The optimisers with this decay.
fn decaying(weight_decay: f32) -> [ModuleOptimizer; 3] {
    [
        Adam {
            weight_decay,
            ..Adam::default()
        }
        .init(),
        Adamax {
            weight_decay,
            ..Adamax::default()
        }
        .init(),
        RmsProp {
            weight_decay,
            ..RmsProp::default()
        }
        .init(),
    ]
}

/// Of any float type: what a step takes is far below what `f32` tells from 1. What has one row stays.
#[test]
fn a_small_decay_is_there_in_doubles_and_none_of_a_row() {
    let device = Device::flex().autodiff();
    let dtype = DType::F64;
    for rows in [3, 1] {
        let weight = Tensor::<2>::ones([rows, 2], (&device, dtype));
        let bias = Tensor::<1>::ones([1], (&device, dtype));
        for mut optimizer in decaying(1e-5) {
            let model = Model {
                weight: Param::from_tensor(weight.clone()),
                bias: Param::from_tensor(bias.clone()),
            };
            // Nothing to learn: a gradient of 0.
            let loss = model.weight.val().mul_scalar(0.0).sum() + model.bias.val().mul_scalar(0.0);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let model = optimizer.step(LR, model, gradients);
            let expected = if rows == 1 { 1.0 } else { 1.0 - 1e-7 };
            for got in model.weight.val().into_data().iter::<f64>() {
                // λ itself is of `f32`.
                assert!((got - expected).abs() < 1e-13, "{got}, not {expected}");
            }
        }
    }
}

/// 1 - lr λ of the old weight and the same step from there; all of a bias.
#[test]
fn a_decay_takes_its_share_of_weights_alone() {
    let start: Vec<f64> = model().weight.val().into_data().iter().collect();
    for (plain, decayed) in decaying(0.0).into_iter().zip(decaying(5.0)) {
        let ([plain, bias], [decayed, same]) = (train(plain, 1), train(decayed, 1));
        same.assert_eq(&bias, true);
        let pairs = plain.iter::<f64>().zip(decayed.iter::<f64>());
        for (was, (plain, decayed)) in start.iter().zip(pairs) {
            let taken = plain - decayed;
            // Numbers of at most 2, rounded three times.
            assert!((taken - 5.0 * LR * was).abs() < 5e-7, "{taken} of {was}");
        }
    }
}

#[test]
fn adam_with_a_decay_takes_the_step_of_burns_adamw() {
    let burns = AdamWConfig::new().with_weight_decay(5.0).with_epsilon(1e-8);
    let [adam, ..] = decaying(5.0);
    let ([ours, _], [burns, _]) = (train(adam, 1), train(burns.init(), 1));
    for (ours, burns) in ours.iter::<f64>().zip(burns.iter::<f64>()) {
        // Not to the last bit: it corrects the moments in another order.
        assert!((ours - burns).abs() < 5e-7, "{ours}, not {burns}");
    }
}

#[test]
fn adamax_follows_its_formula() {
    for epsilon in [1e-8, EPSILON] {
        adamax_with(epsilon);
    }
}

/// Adamax as printed, in `f64`.
#[track_caller]
fn adamax_with(epsilon: f32) {
    let with = Adamax::default();
    let optimizer = Adamax { epsilon, ..with };
    let [weight, _] = train(optimizer.init(), 4);
    let start = model();
    let bias = |bias: &Model| bias.bias.val().into_data().iter::<f64>().next().unwrap();
    // Gradients depend on the parameters, so that the formula is run on the same ones, step by step.
    let mut optimizer = optimizer.init();
    let mut model = start;
    let values = |model: &Model| -> Vec<f64> { model.weight.val().into_data().iter().collect() };
    let mut expected = values(&model);
    let (mut m, mut u) = (vec![0.0; expected.len()], vec![0.0_f64; expected.len()]);
    for step in 0..4 {
        let scale = f64::from(step as f32 + 0.3);
        let (now, bias) = (values(&model), bias(&model));
        for i in 0..now.len() {
            let phase = (now[i] + bias) * scale;
            let g = if phase.sin() < -0.9 {
                0.0
            } else {
                phase.cos() * scale
            };
            m[i] = 0.9 * m[i] + 0.1 * g;
            u[i] = (0.999 * u[i]).max(g.abs());
            expected[i] -= LR / (1.0 - 0.9_f64.powi(step + 1)) * m[i] / (u[i] + f64::from(epsilon));
        }
        let gradients = gradients(&model, step as usize);
        model = optimizer.step(LR, model, gradients);
    }
    for (got, expected) in weight.iter::<f64>().zip(expected) {
        // Four steps of at most 0.01, each rounded at some 1e-7 of a number near 1; a sine that rounds to the other
        // side of the kink would be off by a whole step.
        assert!((got - expected).abs() < 2e-6, "{got}, not {expected}");
    }
}

/// In `f64` the steps are tensor operations.
#[test]
fn doubles_take_the_same_steps() {
    let optimizers: [fn() -> ModuleOptimizer; 3] = [
        || {
            let epsilon = EPSILON;
            let with = RmsProp::default();
            RmsProp {
                epsilon,
                weight_decay: 5.0,
                ..with
            }
            .init()
        },
        || {
            let epsilon = EPSILON;
            let with = Adam::default();
            Adam {
                epsilon,
                weight_decay: 5.0,
                ..with
            }
            .init()
        },
        || {
            let epsilon = EPSILON;
            let with = Adamax::default();
            Adamax {
                epsilon,
                weight_decay: 5.0,
                ..with
            }
            .init()
        },
    ];
    for optimizer in optimizers {
        let run = |dtype: DType| -> Vec<f64> {
            let device = Device::flex().autodiff();
            let at: Vec<f64> = (0..50).map(|i| f64::from(i) / 16.0 - 1.5).collect();
            let weight = TensorData::new(at, [5, 10]).convert_dtype(dtype);
            let weight = Tensor::<2>::from_data(weight, (&device, dtype));
            let bias = Tensor::<1>::from_data(
                TensorData::new(vec![0.5], [1]).convert_dtype(dtype),
                (&device, dtype),
            );
            let mut model = Model {
                weight: Param::from_tensor(weight),
                bias: Param::from_tensor(bias),
            };
            let mut optimizer = optimizer();
            for step in 0..3 {
                let gradients = gradients(&model, step);
                model = optimizer.step(LR, model, gradients);
            }
            assert_eq!(model.weight.val().dtype(), dtype);
            model.weight.val().into_data().iter().collect()
        };
        for (single, double) in run(DType::F32).iter().zip(run(DType::F64)) {
            assert!((single - double).abs() < 1e-5, "{single}, not {double}");
        }
    }
}

/// States are remembered, in memory that nobody else sees.
#[test]
fn a_step_leaves_the_old_model_and_its_gradient_alone() {
    let before = model();
    let weight = before.weight.val().into_data();
    let gradients = gradients(&before, 0);
    let gradient = gradients.get::<2>(before.weight.id).unwrap();
    let values = gradient.clone().into_data();
    let after = RmsProp::default()
        .init()
        .step(LR, before.clone(), gradients);
    before.weight.val().into_data().assert_eq(&weight, true);
    gradient.into_data().assert_eq(&values, true);
    assert_ne!(after.weight.val().into_data(), weight);
}

#[test]
fn saved_states_go_on_where_they_were() {
    let optimizers: [fn() -> ModuleOptimizer; 3] = [
        || RmsProp::default().init(),
        || Adam::default().init(),
        || Adamax::default().init(),
    ];
    for optimizer in optimizers {
        let (mut model, mut first) = (model(), optimizer());
        for step in 0..2 {
            let gradients = gradients(&model, step);
            model = first.step(LR, model, gradients);
        }
        let mut second = optimizer().from_bytes(first.into_bytes().unwrap()).unwrap();
        let went_on = first.step(LR, model.clone(), gradients(&model, 2));
        let restored = second.step(LR, model.clone(), gradients(&model, 2));
        let (a, b) = (went_on.weight.val(), restored.weight.val());
        a.into_data().assert_eq(&b.into_data(), true);
    }
}
