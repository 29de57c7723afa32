//! Elementary functions that keep their relative accuracy on every backend.
//!
//! Burn's cube backends (wgpu, cuda, …) compute `log1p(x)` as `ln(1 + x)`, which loses x against the 1, and WGSL
//! promises no more than an absolute 2⁻²¹ of a logarithm near 1.

use burn::tensor::{DType, Tensor};

/// The tensor in `f32` where its float type is narrower.
///
/// Half floats have too small a range (e^-80 and ‖w‖^-4 leave it) or too few digits: what this crate computes of them
/// it computes in `f32`, and rounds at the end.
pub fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F64 => x,
        _ => x.cast(DType::F32),
    }
}

/// ln(e - 1): softplus is 1 there.
pub const LN_E_MINUS_1: f64 = 0.541_324_854_612_918_1;

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

/// tanh x and x - tanh x for x ≥ 0, to the last digits near 0 too, where the second is x³ / 3.
///
/// Without gradients: what a mask discards is not finite everywhere.
pub fn tanh_and_rest<const D: usize>(x: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    // Below 1 Lambert's continued fraction, tanh x = x / (1 + y) with y = x² / (3 + x² / (5 + …)): nothing cancels.
    let x2 = x.clone() * x.clone();
    let last = x.zeros_like().add_scalar(LAMBERT);
    let y = (1..LAMBERT / 2)
        .rev()
        .fold(last, |y, n| (x2.clone() / y).add_scalar(2 * n + 1));
    let y = x2 / y;
    let near = x.clone() / y.clone().add_scalar(1.0);

    let is_near = x.clone().lower_elem(1.0);
    let tanh = (x.clone().tanh()).mask_where(is_near.clone(), near.clone());
    let rest = (x - tanh.clone()).mask_where(is_near, near * y);
    (tanh, rest)
}

/// Where the continued fraction of tanh ends: what is left out is below 1e-17 of it for x ≤ 1.
const LAMBERT: i64 = 19;

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
    fn tanh_and_what_it_leaves_keep_their_digits() {
        // To 20 digits (mpmath).
        let expected = [
            (0.0, 0.0, 0.0),
            (
                2.0_f64.powi(-40),
                2.0_f64.powi(-40),
                2.0_f64.powi(-120) / 3.0,
            ),
            (
                0.015_625,
                0.015_623_728_558_408_865,
                1.271_441_591_134_797_7e-6,
            ),
            (0.5, 0.462_117_157_260_009_76, 0.037_882_842_739_990_24),
            (0.984_375, 0.754_953_574_963_681_6, 0.229_421_425_036_318_4),
            (1.0, 0.761_594_155_955_764_9, 0.238_405_844_044_235_1),
            (20.0, 1.0, 19.0),
        ];
        let device = Device::flex();
        for (dtype, tolerance) in [(DType::F64, 1e-15), (DType::F32, 3e-7)] {
            for (x, tanh, rest) in expected {
                let got = tanh_and_rest(Tensor::<1>::from_data([x], (&device, dtype)));
                for (got, expected) in [(got.0, tanh), (got.1, rest)] {
                    let got: f64 = got.into_data().iter::<f64>().next().unwrap();
                    assert!(
                        (got - expected).abs() <= tolerance * expected,
                        "of {x} in {dtype:?}: {got}, not {expected}"
                    );
                }
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
