//! Clipping by the norm of the whole gradient, against its formula.

mod model;

use burn::{
    module::{Module, Param},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor, TensorData},
};
use fused_optim::GradientClip;
use model::{Model, SHAPE};

/// How exact `f32` is over sums of some ten thousand squares.
const TOLERANCE: f64 = 1e-5;

fn model(dtype: DType) -> Model {
    let device = Device::flex().autodiff();
    Model {
        weight: Param::from_tensor(Tensor::zeros(SHAPE, (&device, dtype))),
        bias: Param::from_tensor(Tensor::zeros([1], (&device, dtype))),
    }
}

/// A gradient of the norm `norm`, a quarter of whose square is the bias's.
fn gradients(model: &Model, norm: f64) -> GradientsParams {
    let dtype = model.weight.val().dtype();
    let count = (SHAPE[0] * SHAPE[1]) as f64;
    // Elements of ±1, unevenly, times the size that the rest of the norm leaves.
    let size = norm * (0.75 / count).sqrt();
    let signs: Vec<f64> = (0..SHAPE[0] * SHAPE[1])
        .map(|i| if i % 3 == 0 { -size } else { size })
        .collect();
    let device = Device::flex();
    let mut gradients = GradientsParams::new();
    let tensor = |values: TensorData| values.convert_dtype(dtype);
    let weight = tensor(TensorData::new(signs, SHAPE));
    gradients.register(
        model.weight.id,
        Tensor::<2>::from_data(weight, (&device, dtype)),
    );
    let bias = tensor(TensorData::new(vec![norm / 2.0], [1]));
    gradients.register(
        model.bias.id,
        Tensor::<1>::from_data(bias, (&device, dtype)),
    );
    gradients
}

/// The numbers of a gradient, the bias's last.
fn numbers(model: &Model, gradients: &GradientsParams) -> Vec<f64> {
    let weight = gradients.get::<2>(model.weight.id).unwrap().into_data();
    let bias = gradients.get::<1>(model.bias.id).unwrap().into_data();
    weight.iter::<f64>().chain(bias.iter::<f64>()).collect()
}

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// What `clip` makes of gradients of these norms.
fn clipped_norms(clip: &mut GradientClip, norms: &[f64], dtype: DType) -> Vec<f64> {
    let model = model(dtype);
    norms
        .iter()
        .map(|&size| {
            norm(&numbers(
                &model,
                &clip.clip(&model, gradients(&model, size)),
            ))
        })
        .collect()
}

/// As printed in the documentation, in `f64`.
fn by_the_formula(norms: &[f64]) -> Vec<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    norms
        .iter()
        .map(|&norm| {
            let limit = if weight == 0.0 {
                norm
            } else {
                GradientClip::RATIO * sum / weight
            };
            let clipped = norm.min(limit);
            let kept = 1.0 - 1.0 / GradientClip::HORIZON;
            sum = kept * sum + clipped / GradientClip::HORIZON;
            weight = kept * weight + 1.0 / GradientClip::HORIZON;
            clipped
        })
        .collect()
}

/// Usual ones, an outlier, a lasting change, and sizes that have nothing to do with 1.
const NORMS: [f64; 9] = [75.0, 60.0, 90.0, 7500.0, 80.0, 1e4, 1e4, 1e-6, 70.0];

#[test]
fn norms_follow_the_formula_in_both_float_types() {
    let expected = by_the_formula(&NORMS);
    assert!(
        expected[3] < 200.0 && expected[5] < expected[6],
        "{expected:?}"
    );
    for dtype in [DType::F32, DType::F64] {
        let mut clip = GradientClip::new(&Device::flex().autodiff());
        let got = clipped_norms(&mut clip, &NORMS, dtype);
        for (got, expected) in got.iter().zip(&expected) {
            assert!(
                (got - expected).abs() <= TOLERANCE * expected,
                "{dtype:?}: {got}, not {expected}"
            );
        }
        let last: Vec<f64> = clip.last().into_data().iter().collect();
        assert!(
            (last[0] - 70.0).abs() < 70.0 * TOLERANCE && last[1] == 1.0,
            "{last:?}"
        );
    }
}

#[test]
fn a_usual_gradient_is_left_as_it_is_and_a_large_one_keeps_its_direction() {
    let model = model(DType::F32);
    let mut clip = GradientClip::new(&Device::flex().autodiff());
    for size in [3.0, 4.0] {
        let before = numbers(&model, &gradients(&model, size));
        let after = numbers(&model, &clip.clip(&model, gradients(&model, size)));
        assert!(before == after);
    }
    let before = numbers(&model, &gradients(&model, 1000.0));
    let after = numbers(&model, &clip.clip(&model, gradients(&model, 1000.0)));
    let last: Vec<f64> = clip.last().into_data().iter().collect();
    assert!(last[1] < 0.01, "{last:?}");
    for (before, after) in before.iter().zip(after) {
        let expected = before * last[1];
        assert!(
            (after - expected).abs() <= TOLERANCE * expected.abs(),
            "{after}, not {expected}"
        );
    }
}

/// Neither counts: what follows is as if it had not been. 1e30 has a square beyond `f32`.
#[test]
fn zeros_stay_zeros_and_an_infinite_norm_moves_nothing() {
    let mut clip = GradientClip::new(&Device::flex().autodiff());
    let before = [[0.0; 100].as_slice(), &[1e30]].concat();
    let got = clipped_norms(&mut clip, &before, DType::F32);
    assert!(got.iter().all(|&norm| norm == 0.0), "{got:?}");
    let norms = [1.0, 0.0, 1e30, f64::INFINITY, f64::NAN, 1.2, 9.0];
    let expected = [1.0, 0.0, 0.0, 0.0, 0.0, 1.2, 1.5 * 2.19 / 1.99];
    let got = clipped_norms(&mut clip, &norms, DType::F32);
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= TOLERANCE, "{got}, not {expected}");
    }
    // By tensor operations.
    let mut clip = GradientClip::new(&Device::flex().autodiff());
    let norms = [1.0, f64::INFINITY, f64::NAN];
    let got = clipped_norms(&mut clip, &norms, DType::F64);
    for (got, expected) in got.iter().zip([1.0, 0.0, 0.0]) {
        assert!((got - expected).abs() <= TOLERANCE, "{got}, not {expected}");
    }
}

/// Whose squares overflow from 256 on.
#[test]
fn half_floats_are_clipped_too() {
    let mut clip = GradientClip::new(&Device::flex().autodiff());
    let got = clipped_norms(&mut clip, &[1000.0, 1e4], DType::F16);
    for (got, expected) in got.iter().zip([1000.0, 1500.0]) {
        // 11 bits of a half float.
        assert!(
            (got - expected).abs() <= expected / 1000.0,
            "{got}, not {expected}"
        );
    }
}

#[test]
fn a_gradient_of_no_parameter_is_no_step() {
    let mut clip = GradientClip::new(&Device::flex().autodiff());
    let gradients = clip.clip(&model(DType::F32), GradientsParams::new());
    assert!(gradients.is_empty());
    assert_eq!(
        clip.last().into_data().iter::<f64>().collect::<Vec<_>>(),
        [0.0, 1.0]
    );
}

#[test]
fn a_saved_clip_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.bpk");
    let device = Device::flex().autodiff();
    let mut clip = GradientClip::new(&device);
    let (before, after) = NORMS.split_at(4);
    clipped_norms(&mut clip, before, DType::F32);
    clip.clone().save_file(&file).unwrap();
    let mut loaded = GradientClip::new(&device).try_load_file(&file).unwrap();
    let went_on = clipped_norms(&mut clip, after, DType::F32);
    assert_eq!(clipped_norms(&mut loaded, after, DType::F32), went_on);
}
