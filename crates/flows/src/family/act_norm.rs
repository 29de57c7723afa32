//! A scale and a shift of each coordinate, which start so that the data come out standardised (Kingma & Dhariwal 2018).
//!
//! ```text
//! f(z) = z e^s + t,      log |det| = Σ s
//! ```

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, Transformed,
    bijection::{check_points, of_each},
    map::Direction,
    math::widened,
    parameters::leaf,
};

/// One layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActNormConfig {}

impl ActNormConfig {
    pub(crate) fn size(&self, dim: usize, _context: Option<usize>) -> FlowSize {
        FlowSize {
            weights: 2.0 * dim as f64,
            ..FlowSize::default()
        }
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        Ok(())
    }

    /// Starts as the identity, until [`Flow::standardize`](crate::Flow::standardize).
    pub(crate) fn init(&self, dim: usize, _context: Option<usize>, device: &Device) -> ActNorm {
        let zeros = || leaf(Tensor::zeros([1, dim], device));
        ActNorm {
            log_scale: zeros(),
            shift: zeros(),
        }
    }
}

/// The learned numbers.
#[derive(Module, Debug)]
pub struct ActNorm {
    /// s, `[1, dim]`
    log_scale: Param<Tensor<2>>,
    /// t, `[1, dim]`
    shift: Param<Tensor<2>>,
}

impl ActNorm {
    pub fn bind(&self, _dim: usize, _context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(Bound {
            log_scale: widened(self.log_scale.val()),
            shift: widened(self.shift.val()),
        })
    }

    /// This layer with the scale and shift by which what it makes of `points: [rows, dim]`, in this direction, has mean 0 and
    /// variance 1. A constant coordinate keeps its scale.
    pub fn standardizing(self, points: Tensor<2>, direction: Direction) -> Self {
        // Seen from the first row, a constant coordinate is 0 to the last digit, and has no variance of rounding.
        let origin = points.clone().slice_dim(0, 0..1);
        let points = points - origin.clone();
        // Of numbers up to 1 no square is 0 or infinite for their size.
        let largest = points.clone().abs().max_dim(0);
        let is_constant = largest.clone().lower_elem(TINY);
        let largest = largest.mask_fill(is_constant.clone(), 1.0);
        let points = points / largest.clone();
        let mean = points.clone().mean_dim(0);
        let variance = (points - mean.clone()).square().mean_dim(0);
        let variance = variance.mask_fill(is_constant, 1.0);
        let log_deviation = largest.clone().log() + variance.log().div_scalar(2.0);
        let mean = mean * largest + origin;
        let (log_scale, shift) = match direction {
            // (y - t) e^-s
            Direction::Inverse => (log_deviation, mean),
            // z e^s + t
            Direction::Forward => {
                let log_scale = log_deviation.neg();
                (log_scale.clone(), (mean * log_scale.exp()).neg())
            }
        };
        let set = |param: Param<Tensor<2>>, value: Tensor<2>| {
            param.map(|old| {
                let requires = old.is_require_grad();
                value.detach().cast(old.dtype()).set_require_grad(requires)
            })
        };
        Self {
            log_scale: set(self.log_scale, log_scale),
            shift: set(self.shift, shift),
        }
    }
}

/// A coordinate that stays this near to its first is constant: beyond, the inverse of its deviation is a number that `f32` has, of ten
/// billion points, too.
const TINY: f64 = 1e-33;

#[derive(Clone, Debug)]
struct Bound {
    log_scale: Tensor<2>,
    shift: Tensor<2>,
}

impl Bound {
    fn log_det(&self, rows: usize) -> Tensor<1> {
        of_each(self.log_scale.clone().sum(), rows)
    }
}

impl Bijection for Bound {
    fn dim(&self) -> usize {
        self.shift.dims()[1]
    }

    fn owners(&self) -> usize {
        1
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        check_points("ActNorm", &z, 1, self.dim());
        let [rows, _] = z.dims();
        Transformed {
            value: z * self.log_scale.clone().exp() + self.shift.clone(),
            log_det: self.log_det(rows),
        }
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        check_points("ActNorm", &y, 1, self.dim());
        let [rows, _] = y.dims();
        Transformed {
            value: (y - self.shift.clone()) * self.log_scale.clone().neg().exp(),
            log_det: self.log_det(rows).neg(),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
        tensor.to_data().iter::<f32>().collect()
    }

    #[track_caller]
    fn assert_close<const D: usize>(got: &Tensor<D>, expected: &[f32]) {
        let got = values(got);
        assert_eq!(got.len(), expected.len());
        let far = |(got, expected): (&f32, &f32)| (got - expected).abs() > 1e-5;
        assert!(
            !got.iter().zip(expected).any(far),
            "{got:?}, not {expected:?}"
        );
    }

    #[test]
    fn a_point_is_scaled_and_then_shifted() {
        let device = Device::flex();
        let norm = ActNorm {
            log_scale: leaf(Tensor::from_data([[2.0_f32.ln(), 0.0]], &device)),
            shift: leaf(Tensor::from_data([[3.0, -1.0]], &device)),
        };
        let norm = norm.bind(2, None);
        let there = norm.forward(Tensor::from_data([[1.0, 5.0]], &device));
        assert_close(&there.value, &[5.0, 4.0]);
        assert_close(&there.log_det, &[2.0_f32.ln()]);
        let back = norm.inverse(there.value);
        assert_close(&back.value, &[1.0, 5.0]);
        assert_close(&back.log_det, &[-2.0_f32.ln()]);
    }

    /// Of points that something else learns from, too: what it starts as is a number.
    #[test]
    fn it_starts_from_the_mean_and_the_deviation_and_a_constant_keeps_its_scale() {
        let device = Device::flex().autodiff();
        let points = Tensor::<2>::from_data([[10.0, 7.0], [14.0, 7.0]], &device).require_grad();
        let norm = ActNormConfig {}.init(2, None, &device);
        let norm = norm.standardizing(points.mul_scalar(1.0), Direction::Inverse);
        assert_close(&norm.shift.val(), &[12.0, 7.0]);
        assert_close(&norm.log_scale.val(), &[2.0_f32.ln(), 0.0]);
        assert!(norm.shift.is_require_grad() && norm.log_scale.is_require_grad());
    }

    /// Squares of these are 0 or infinite in `f32`.
    #[test]
    fn it_starts_from_points_of_any_size() {
        let device = Device::flex();
        for direction in [Direction::Forward, Direction::Inverse] {
            for size in [1e-30_f32, 1e-15, 1.0, 1e19, 1e30] {
                let points = [[0.5 * size, -size], [2.5 * size, 3.0 * size]];
                let points = Tensor::<2>::from_data(points, &device);
                let norm = ActNormConfig {}.init(2, None, &device);
                let norm = norm.standardizing(points.clone(), direction).bind(2, None);
                let there = match direction {
                    Direction::Forward => norm.forward(points),
                    Direction::Inverse => norm.inverse(points),
                };
                // Some roundings of ln 1e30, which is 69.
                let off = values(&there.value).into_iter().zip([-1.0, -1.0, 1.0, 1.0]);
                for (got, expected) in off {
                    assert!(
                        (got - expected).abs() < 1e-4,
                        "{direction:?}, {size}: {got}"
                    );
                }
            }
        }
    }

    /// Whose mean in `f32` is another number than the constant.
    #[test]
    fn a_constant_of_many_rows_is_none_the_less_constant() {
        let device = Device::flex();
        for (constant, rows) in [(0.1, 10), (0.1, 1000), (-2.3, 4000)] {
            let points = Tensor::full([rows, 1], constant, &device);
            let norm = ActNormConfig {}.init(1, None, &device);
            let norm = norm.standardizing(points, Direction::Inverse);
            assert_eq!(
                values(&norm.log_scale.val()),
                [0.0],
                "{constant}, {rows} rows"
            );
            assert_eq!(values(&norm.shift.val()), [constant as f32]);
        }
    }
}
