//! Elementary functions that keep their relative accuracy on every backend.
//!
//! Burn's cube backends (wgpu, cuda, …) compute `log1p(x)` as `ln(1 + x)`, which loses x against the 1, and WGSL
//! promises no more than an absolute 2⁻²¹ of a logarithm near 1.

use burn::tensor::Tensor;

/// Below this size of x, [`log1p`] sums its series.
const SERIES: f64 = 0.25;

/// Terms of the series: the first one left out is below 1e-17 of the sum.
const TERMS: usize = 10;

/// ln(1 + x) for x > -1.
pub fn log1p<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let is_small = x.clone().abs().lower_elem(SERIES);
    // Each branch sees numbers that it is made for: what a mask discards still takes part in the gradient.
    let near = log1p_series(x.clone().mask_fill(is_small.clone().bool_not(), 0.0));
    let far = x.mask_fill(is_small.clone(), 1.0).log1p();
    far.mask_where(is_small, near)
}

/// ln(1 + x) = 2 artanh(s) = 2 s (1 + s²/3 + s⁴/5 + …) with s = x / (2 + x).
fn log1p_series<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let s = x.clone() / x.add_scalar(2.0);
    let s2 = s.clone() * s.clone();
    let coefficient = |n: usize| 2.0 / (2 * n + 1) as f64;
    let last = s.zeros_like().add_scalar(coefficient(TERMS - 1));
    let sum = (0..TERMS - 1)
        .rev()
        .fold(last, |sum, n| (sum * s2.clone()).add_scalar(coefficient(n)));
    s * sum
}

/// ln(1 + e^x), to the last digits of both tails.
pub fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // ln(1 + e^x) for x ≤ 0 and x + ln(1 + e^-x) beyond: e^-|x| without |x|, whose slope at 0 is wrong.
    let is_positive = x.clone().greater_elem(0.0);
    let sign = x
        .zeros_like()
        .add_scalar(1.0)
        .mask_fill(is_positive.clone(), -1.0);
    let positive_part = x.clone().mask_fill(is_positive.bool_not(), 0.0);
    positive_part + log1p((x * sign).exp())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData};

    use super::*;

    fn check(
        function: fn(Tensor<1>) -> Tensor<1>,
        value: fn(f64) -> f64,
        slope: fn(f64) -> f64,
        at: &[f64],
    ) {
        let device = Device::flex().autodiff();
        for (dtype, tolerance) in [(DType::F64, 1e-15), (DType::F32, 3e-7)] {
            let data = TensorData::new(at.to_vec(), [at.len()]);
            let x = Tensor::<1>::from_data(data, (&device, dtype)).require_grad();
            let y = function(x.clone());
            let gradient = x.grad(&y.clone().sum().backward()).unwrap();
            let (x, y) = (x.into_data(), y.into_data());
            for ((x, y), slope_got) in x
                .iter::<f64>()
                .zip(y.iter::<f64>())
                .zip(gradient.into_data().iter::<f64>())
            {
                // What f32 rounds off its input is not the function's fault: the exact x is compared.
                let (expected, slope) = (value(x), slope(x));
                assert!(
                    (y - expected).abs() <= tolerance * expected.abs(),
                    "{x}: {y}, not {expected}"
                );
                assert!(
                    (slope_got - slope).abs() <= 4.0 * tolerance * slope,
                    "{x}: slope {slope_got}, not {slope}"
                );
            }
        }
    }

    #[test]
    fn log1p_keeps_its_digits() {
        let at = [
            -0.6, -0.25, -0.1, -1e-6, -1e-20, 0.0, 1e-20, 1e-8, 1e-3, 0.2, 0.25, 1.0, 1e6,
        ];
        check(log1p, f64::ln_1p, |x| 1.0 / (1.0 + x), &at);
    }

    #[test]
    fn softplus_keeps_its_digits() {
        let at = [
            -80.0, -20.0, -17.0, -2.0, -1e-3, 0.0, 1e-3, 1.0, 2.0, 17.0, 80.0, 1000.0,
        ];
        let value = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        check(softplus, value, |x| 1.0 / (1.0 + (-x).exp()), &at);
    }
}
