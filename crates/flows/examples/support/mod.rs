//! What the examples share beside flows.

#![allow(dead_code)] // each example uses its own part

pub mod hmc;
pub mod irises;
pub mod moons;
pub mod picture;
pub mod simulator;

use std::f64::consts::PI;

use burn::tensor::{Device, Tensor, TensorData};

/// Points as a tensor, `[points, N]`.
pub fn tensor<const N: usize>(points: &[[f64; N]], device: &Device) -> Tensor<2> {
    let numbers: Vec<f32> = points.iter().flatten().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(numbers, [points.len(), N]), device)
}

/// The numbers of a tensor, row by row.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// A learning rate that falls from `rate` to 0 along a cosine.
pub fn falling(rate: f64, step: usize, steps: usize) -> f64 {
    rate * (1.0 + (PI * step as f64 / steps as f64).cos()) / 2.0
}

/// The mean of some numbers and their standard deviation.
pub fn moments(numbers: &[f64]) -> (f64, f64) {
    let mean =
        |f: &dyn Fn(f64) -> f64| numbers.iter().map(|&x| f(x)).sum::<f64>() / numbers.len() as f64;
    let center = mean(&|x| x);
    (center, mean(&|x| (x - center).powi(2)).sqrt())
}

/// The same of each column.
pub fn moments_of_each<const N: usize>(rows: &[[f64; N]]) -> [(f64, f64); N] {
    std::array::from_fn(|i| moments(&rows.iter().map(|row| row[i]).collect::<Vec<_>>()))
}

/// Prints how far moments are from the exact ones, in standard deviations and in per cent.
pub fn compare(got: &[(f64, f64)], exact: &[(f64, f64)]) {
    let mut worst = [0.0_f64; 2];
    for (got, exact) in got.iter().zip(exact) {
        worst[0] = worst[0].max((got.0 - exact.0).abs() / exact.1);
        worst[1] = worst[1].max((got.1 / exact.1 - 1.0).abs());
    }
    println!("  {got:5.2?}");
    println!(
        "  means off by {:.3} sd, sds by {:.1} %, at most",
        worst[0],
        100.0 * worst[1]
    );
}
