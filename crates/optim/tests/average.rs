//! The average of the weights, against its sum.

mod model;

use burn::{
    module::{Module, Param},
    tensor::{DType, Device, Tensor, TensorData},
};
use fused_optim::WeightAverage;
use model::{Model, SHAPE};

/// Long enough for updates that are left out.
const UPDATES: usize = 1500;

/// When it is brought up to date out of turn.
const BETWEEN: usize = 1300;

/// What the numbers of the weights are after an update; they repeat after seven.
fn value(update: usize, index: usize) -> f64 {
    (update as f64 * 0.01).sin() + (1 + index) as f64 / (1 + update) as f64
}

fn model(update: usize, device: &Device, dtype: DType) -> Model {
    let period: Vec<f64> = (0..7).map(|i| value(update, i)).collect();
    let values: Vec<f64> = (period.into_iter().cycle())
        .take(SHAPE[0] * SHAPE[1])
        .collect();
    let data = |values, shape: &[usize]| TensorData::new(values, shape).convert_dtype(dtype);
    let weight = data(values, &SHAPE);
    let bias = data(vec![value(update, 3)], &[1]);
    Model {
        weight: Param::from_tensor(Tensor::from_data(weight, (device, dtype))),
        bias: Param::from_tensor(Tensor::from_data(bias, (device, dtype))),
    }
}

/// As the documentation has it, of one number, after each of `UPDATES`.
fn expected(index: usize) -> f64 {
    let power = |t: usize| (t as f64).powf(WeightAverage::<Model>::POWER + 1.0);
    let mut times: Vec<usize> = (0..=1024).collect();
    times.extend((1040..BETWEEN).step_by(16));
    times.extend((BETWEEN..=UPDATES).step_by(16));
    let sum: f64 = times
        .windows(2)
        .map(|pair| (power(pair[1]) - power(pair[0])) * value(pair[1], index))
        .sum();
    sum / power(*times.last().unwrap())
}

fn averaged(device: &Device, dtype: DType) -> (Vec<f64>, f64) {
    let mut average = WeightAverage::new(&model(0, device, dtype));
    for update in 1..=UPDATES {
        average = average.follow(&model(update, device, dtype));
        assert_eq!(average.updates(), update);
        if update == BETWEEN {
            average = average.up_to_date(&model(update, device, dtype));
        }
    }
    let Model { weight, bias } = average.model();
    let weight = weight.val().into_data().iter::<f64>().collect();
    let bias = bias.val().into_data().iter::<f64>().next().unwrap();
    (weight, bias)
}

#[test]
fn is_the_weighted_sum_of_the_weights() {
    // A rounding each time, of numbers of at most 8, which is forgotten as they are.
    for (device, dtype, tolerance) in [
        (Device::flex(), DType::F32, 1e-5),
        (Device::flex(), DType::F64, 1e-12),
        (Device::flex().autodiff(), DType::F32, 1e-5),
        (ndarray(), DType::F32, 1e-5),
    ] {
        let (weight, bias) = averaged(&device, dtype);
        let period: Vec<f64> = (0..7).map(expected).collect();
        for (&got, &expected) in weight.iter().zip(period.iter().cycle()) {
            assert!((got - expected).abs() < tolerance, "{got}, not {expected}");
        }
        assert!((bias - expected(3)).abs() < tolerance);
    }
}

/// Burn has deprecated it in favour of flex; offered all the same.
#[allow(deprecated)]
fn ndarray() -> Device {
    Device::ndarray()
}

/// A record has the weights and not their number.
#[test]
#[should_panic(expected = "a model with fewer parameters")]
fn a_model_of_more_parameters_is_refused() {
    let device = Device::flex();
    let [with, without] = [true, false].map(|bias| {
        let config = burn::nn::LinearConfig::new(2, 2).with_bias(bias);
        config.init(&device)
    });
    WeightAverage::new(&without).follow(&with);
}

#[test]
fn goes_on_from_a_record() {
    let device = Device::flex();
    let at = |update| model(update, &device, DType::F32);
    let mut whole = WeightAverage::new(&at(0));
    for update in 1..=BETWEEN {
        whole = whole.follow(&at(update));
    }
    whole = whole.up_to_date(&at(BETWEEN));
    let record = whole.clone().into_record();
    let mut resumed = WeightAverage::new(&at(5))
        .after(BETWEEN)
        .load_record(record);
    for update in BETWEEN + 1..=UPDATES {
        whole = whole.follow(&at(update));
        resumed = resumed.follow(&at(update));
    }
    let first = |average: &WeightAverage<Model>| average.model().bias.val().into_scalar::<f32>();
    assert_eq!(first(&whole), first(&resumed));
    assert_eq!(whole.updates(), resumed.updates());
}

#[test]
#[should_panic(expected = "the same shapes")]
fn a_model_of_other_sizes_is_refused() {
    let device = Device::flex();
    let mut other = model(1, &device, DType::F32);
    other.weight = Param::from_tensor(Tensor::zeros([3, 3], &device));
    WeightAverage::new(&model(0, &device, DType::F32)).follow(&other);
}

/// What follows the model must neither move it nor be moved with it.
#[test]
fn stands_beside_the_model() {
    let device = Device::flex().autodiff();
    let before = model(1, &device, DType::F32);
    let average = WeightAverage::new(&before);
    assert_ne!(average.model().weight.id, before.weight.id);
    assert!(!average.model().weight.val().is_require_grad());
    // What shares its memory, as the copy does that validation makes.
    let copy = average.valid();
    let average = average.follow(&model(2, &device, DType::F32));
    let first = |model: &Model| model.bias.val().into_scalar::<f32>();
    assert_eq!(first(&before), value(1, 3) as f32);
    assert_eq!(first(copy.model()), value(1, 3) as f32);
    assert_eq!(first(average.model()), value(2, 3) as f32);
}
