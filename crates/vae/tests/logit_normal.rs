//! The logit-normal likelihood against textbook formulas in `f64`.

use std::f64::consts::PI;

use burn::tensor::{DType, Device, Tensor, TensorData};
use flow_vae::{Likelihood, logit_normal_log_likelihood};

fn tensor<const D: usize>(values: &[f64], shape: [usize; D], dtype: DType) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), shape).convert_dtype(dtype);
    Tensor::from_data(data, (&Device::flex().autodiff(), dtype))
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// ln p of one pixel, in nats.
fn textbook(mean: f64, r: f64, x: f64) -> f64 {
    let log_var = -8.0 + (r + 8.0).max(0.0) + (-(r + 8.0).abs()).exp().ln_1p();
    let logit = (x / (1.0 - x)).ln();
    -0.5 * ((logit - mean).powi(2) / log_var.exp() + log_var + (2.0 * PI).ln())
        - (x * (1.0 - x)).ln()
}

const MEANS: [f64; 5] = [-9.2, -1.0, 0.0, 0.3, 5.0];
const LOG_VARS: [f64; 5] = [-12.0, -8.0, -3.0, 0.0, 2.0];
const PIXELS: [f64; 5] = [1e-4, 0.02, 0.5, 0.7, 0.9999];

/// All combinations, as one image of 125 pixels and its outputs.
fn grid() -> (Vec<f64>, Vec<f64>) {
    let all = (0..125).map(|i| (MEANS[i / 25], LOG_VARS[i / 5 % 5], PIXELS[i % 5]));
    let (mut means, mut rest, mut x) = (Vec::new(), Vec::new(), Vec::new());
    for (mean, r, pixel) in all {
        means.push(mean);
        rest.push(r);
        x.push(pixel);
    }
    means.extend(rest);
    (means, x)
}

/// ∫ p dx over (0, 1) by midpoints, for which nothing but the density itself is asked for.
#[test]
fn its_density_integrates_to_one() {
    const POINTS: usize = 200_000;
    let x: Vec<f64> = (0..POINTS)
        .map(|i| (i as f64 + 0.5) / POINTS as f64)
        .collect();
    for (mean, r) in [
        (0.0, 0.0),
        (0.4, -3.0),
        (-2.0, 0.5),
        (1.5, -20.0),
        (0.1, 1.0),
    ] {
        let x = tensor(&x, [POINTS, 1], DType::F64);
        let outputs = tensor(&[mean, r], [1, 2], DType::F64).repeat_dim(0, POINTS);
        let density = logit_normal_log_likelihood(outputs, x).exp();
        let mass = numbers(density.mean())[0];
        assert!((mass - 1.0).abs() < 1e-6, "{mass} at {mean}, {r}");
    }
}

#[test]
fn it_is_the_sum_of_the_pixels_densities() {
    let (outputs, x) = grid();
    let expected: f64 = (0..125)
        .map(|i| textbook(outputs[i], outputs[125 + i], x[i]))
        .sum();
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-3)] {
        let got = logit_normal_log_likelihood(
            tensor(&outputs, [1, 250], dtype),
            tensor(&x, [1, 125], dtype),
        );
        let got = numbers(got)[0];
        assert!(
            (got - expected).abs() <= tolerance * expected.abs(),
            "{got}, not {expected}"
        );
    }
}

/// Central differences of the textbook's density, in the means, the log-variances and the pixels.
#[test]
fn its_gradients_are_differences() {
    let (outputs, x) = grid();
    let slope = |i: usize, part: usize| {
        let at = [outputs[i], outputs[125 + i], x[i]];
        let h = 1e-6 * if part == 2 { x[i].min(1.0 - x[i]) } else { 1.0 };
        let moved = |h: f64| {
            let mut at = at;
            at[part] += h;
            textbook(at[0], at[1], at[2])
        };
        (moved(h) - moved(-h)) / (2.0 * h)
    };
    for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 2e-3)] {
        let outputs = tensor(&outputs, [1, 250], dtype).require_grad();
        let x = tensor(&x, [1, 125], dtype).require_grad();
        let nats = logit_normal_log_likelihood(outputs.clone(), x.clone());
        let gradients = nats.sum().backward();
        let of_outputs = numbers(outputs.grad(&gradients).unwrap());
        let of_x = numbers(x.grad(&gradients).unwrap());
        for i in 0..125 {
            for (part, got) in [of_outputs[i], of_outputs[125 + i], of_x[i]]
                .into_iter()
                .enumerate()
            {
                let expected = slope(i, part);
                assert!(
                    (got - expected).abs() <= tolerance * expected.abs().max(1.0),
                    "part {part} of {i}: {got}, not {expected} in {dtype:?}"
                );
            }
        }
    }
}

/// Outputs that no training should come to, and the pixels next to 0 and 1.
#[test]
fn extremes_are_finite() {
    let mut outputs = Vec::new();
    let (mut rest, mut x) = (Vec::new(), Vec::new());
    for mean in [-1e4, -10.0, 0.0, 1e4] {
        for r in [-1e30, -1e4, -100.0, -8.0, 0.0, 100.0, 1e4] {
            for pixel in [1e-30, 1e-4, 0.5, 0.9999, 1.0 - 2e-7] {
                outputs.push(mean);
                rest.push(r);
                x.push(pixel);
            }
        }
    }
    let n = x.len();
    outputs.extend(rest);
    let outputs = tensor(&outputs, [1, 2 * n], DType::F32).require_grad();
    let x = tensor(&x, [1, n], DType::F32);
    let nats = logit_normal_log_likelihood(outputs.clone(), x);
    let gradient = numbers(outputs.grad(&nats.clone().sum().backward()).unwrap());
    assert!(numbers(nats)[0].is_finite());
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
}

/// Row i of the outputs belongs to image i mod batch.
#[test]
fn samples_share_their_images() {
    let x = tensor(&[0.1, 0.2, 0.8, 0.9], [2, 2], DType::F32);
    let values: Vec<f64> = (0..24).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
    let outputs = tensor(&values, [6, 4], DType::F32);
    let all = numbers(logit_normal_log_likelihood(outputs.clone(), x.clone()));
    for (row, nats) in all.into_iter().enumerate() {
        let one = logit_normal_log_likelihood(
            outputs.clone().slice_dim(0, row..row + 1),
            x.clone().slice_dim(0, row % 2..row % 2 + 1),
        );
        assert_eq!(numbers(one), [nats], "row {row}");
    }
    let none = logit_normal_log_likelihood(
        tensor(&[], [0, 4], DType::F32),
        tensor(&[], [0, 2], DType::F32),
    );
    assert_eq!(none.dims(), [0]);
}

#[test]
fn the_image_at_the_mean_logits_is_the_median() {
    let outputs = tensor(&[0.0, 2.0, 5.0, -1.0], [1, 4], DType::F64);
    let image = numbers(Likelihood::LogitNormal.mean_image(outputs));
    assert_eq!(image.len(), 2);
    for (got, logit) in image.into_iter().zip([0.0_f64, 2.0]) {
        assert!((got - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-12, "{got}");
    }
}

#[test]
#[should_panic(expected = "outputs [1, 3] do not belong to images [1, 3]")]
fn outputs_of_another_likelihood_are_refused() {
    let x = tensor(&[0.5; 3], [1, 3], DType::F32);
    logit_normal_log_likelihood(x.clone(), x);
}
