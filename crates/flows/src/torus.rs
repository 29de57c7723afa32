use std::f64::consts::PI;

use burn::tensor::{Distribution, Tensor, TensorCreationOptions};

use crate::{map::spline::TURN, math::widened};

/// The uniform distribution of `dim` angles, on a torus (on the circle where it is one): the base of a flow by
/// [`ScalarMap::CircularSpline`](crate::ScalarMap::CircularSpline).
///
/// ```text
/// ln p(θ) = -dim ln 2π
/// ```
///
/// at any θ, since an angle is the same after a turn (of numbers from 1e8 on `f32` has no digit of an angle).
///
/// A density of two angles (Rezende et al., *Normalizing Flows on Tori and Spheres*, 2020):
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{FlowConfig, ScalarMap, UniformTorus};
///
/// let device = Device::flex();
/// let flow = FlowConfig::coupling(2, 4, ScalarMap::CircularSpline(8), &[32]).init(&device);
/// let q = flow.distribution(UniformTorus::new(2, &device), None);
/// let (angles, log_prob) = q.rsample_and_log_prob(100); // between -π and π; nats
/// assert_eq!(angles.dims(), [100, 2]);
///
/// // Whichever of its numbers an angle is given by.
/// let again = q.log_prob(angles + 2.0 * std::f64::consts::PI);
/// assert!((again - log_prob).abs().max().into_scalar::<f32>() < 1e-4);
/// ```
#[derive(Clone, Debug)]
pub struct UniformTorus {
    dim: usize,
    options: TensorCreationOptions,
}

impl UniformTorus {
    /// Of `dim` angles, which are drawn on this device, in its float type or the one given: `(&device, DType::F64)`.
    pub fn new(dim: usize, options: impl Into<TensorCreationOptions>) -> Self {
        Self {
            dim,
            options: options.into(),
        }
    }

    /// One distribution, and its dimension.
    pub fn dims(&self) -> [usize; 2] {
        [1, self.dim]
    }

    /// `rows` points, `[rows, dim]` between -π and π, from the device's own generator.
    pub fn noise(&self, rows: usize) -> Tensor<2> {
        Tensor::random(
            [rows, self.dim],
            Distribution::Uniform(-PI, PI),
            self.options.clone(),
        )
    }

    /// The log-density in nats, `[rows]`, at `value: [rows, dim]`. Of what is no number it is none.
    ///
    /// # Panics
    ///
    /// When `value` has another dimension.
    pub fn log_prob(&self, value: Tensor<2>) -> Tensor<1> {
        let ([rows, dim], dtype) = (value.dims(), value.dtype());
        assert!(
            dim == self.dim,
            "a torus in {} dimensions takes points [n, {}], got [{rows}, {dim}]",
            self.dim,
            self.dim
        );
        let none = widened(value).mul_scalar(0.0).sum_dim(1);
        none.sub_scalar(dim as f64 * TURN.ln())
            .reshape([rows])
            .cast(dtype)
    }
}
