//! Monotone maps of one number: what coupling and autoregressive flows do to each coordinate.

pub(crate) mod sigmoidal;
pub(crate) mod spline;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Transformed, ops};
use spline::{Spline, wrapped};

/// A monotone map of one number, by a few unconstrained parameters that are 0 for the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalarMap {
    /// y = x + t (Dinh et al. 2014, NICE).
    Additive,
    /// y = x e^s + t (Dinh et al. 2016, RealNVP), with s = a / (1 + |a| / 5) between -5 and 5 for a free a: no scale
    /// leaves e^±5, however far a network goes.
    Affine,
    /// A monotone rational-quadratic spline with so many bins on [-5, 5], and y = x beyond (Durkan et al. 2019).
    Spline(usize),
    /// The same on the circle, [-π, π): the ends share a slope, so that densities go on across ±π, and a phase is added modulo
    /// 2π, without which the spline would leave ±π where it is (Rezende et al. 2020). Networks see an angle's cosine and sine.
    /// All points of such a flow are angles, those of its base too ([`UniformTorus`](crate::UniformTorus)).
    CircularSpline(usize),
    /// The logit of a sum of so many sigmoids, with enough of which any monotone map whose slopes stay below e⁵ can be met (Huang et
    /// al. 2018, who bound no slope). Its inverse is a root that is searched for.
    Sigmoidal(usize),
}

/// The bound of s.
pub(crate) const LARGEST_LOG_SCALE: f64 = 5.0;

/// What a map's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Any real ones.
    Line,
    /// Angles, the same after a turn of 2π: those that are handed on lie in [-π, π).
    Circle,
}

/// Which way through a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Forward,
    Inverse,
}

impl ScalarMap {
    /// How many parameters the map of one number takes.
    pub const fn parameters(self) -> usize {
        match self {
            Self::Additive => 1,
            Self::Affine => 2,
            Self::Spline(bins) => bins.saturating_mul(3).saturating_sub(1),
            Self::CircularSpline(bins) => bins.saturating_mul(3).saturating_add(1),
            Self::Sigmoidal(units) => units.saturating_mul(3),
        }
    }

    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::Spline(bins) | Self::CircularSpline(bins) => spline::check(bins),
            Self::Sigmoidal(units) => sigmoidal::check(units),
            Self::Additive | Self::Affine => Ok(()),
        }
    }

    pub(crate) const fn domain(self) -> Domain {
        match self {
            Self::CircularSpline(_) => Domain::Circle,
            Self::Additive | Self::Affine | Self::Spline(_) | Self::Sigmoidal(_) => Domain::Line,
        }
    }

    /// How many numbers a network sees of a coordinate.
    pub(crate) const fn seen(self) -> usize {
        match self.domain() {
            Domain::Line => 1,
            Domain::Circle => 2,
        }
    }

    /// What a network sees of `points: [rows, dim]`, coordinate by coordinate: `[rows, dim · seen]`.
    pub(crate) fn see(self, points: Tensor<2>) -> Tensor<2> {
        match self.domain() {
            Domain::Line => points,
            Domain::Circle => {
                let [rows, dim] = points.dims();
                let seen = Tensor::stack::<3>(vec![points.clone().cos(), points.sin()], 2);
                seen.reshape([rows, 2 * dim])
            }
        }
    }

    /// The same points, by numbers that the map hands on too.
    pub(crate) fn reduced(self, points: Tensor<2>) -> Tensor<2> {
        match self.domain() {
            Domain::Line => points,
            Domain::Circle => wrapped(points),
        }
    }

    /// `points: [rows, dim]`, a row at least, with each coordinate from `kept` on mapped by its parameters, `raw: [rows, (dim -
    /// kept) · parameters]`; the others stay.
    pub(crate) fn apply(
        self,
        direction: Direction,
        points: Tensor<2>,
        kept: usize,
        raw: Tensor<2>,
    ) -> Transformed {
        if let Some(fused) = ops::map::map_points(&points, &raw, self, direction, kept) {
            return fused;
        }
        self.apply_by_tensor_operations(direction, points, kept, raw)
    }

    /// What [`apply`](Self::apply) computes, where nothing is fused.
    pub(crate) fn apply_by_tensor_operations(
        self,
        direction: Direction,
        points: Tensor<2>,
        kept: usize,
        raw: Tensor<2>,
    ) -> Transformed {
        let [rows, dim] = points.dims();
        let raw = raw.reshape([rows, dim - kept, self.parameters()]);
        let from = points.clone().slice_dim(1, kept..dim);
        let (value, log_slope) = match direction {
            Direction::Forward => self.forward(from, raw),
            Direction::Inverse => self.inverse(from, raw),
        };
        Transformed {
            value: match kept {
                0 => value,
                _ => Tensor::cat(vec![points.slice_dim(1, 0..kept), value], 1),
            },
            log_det: log_slope.sum_dim(1).squeeze_dim(1),
        }
    }

    /// y and ln dy/dx of each of `x: [rows, dim]`, by `raw: [rows, dim, parameters]`.
    fn forward(self, x: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        match self {
            Self::Additive => {
                let none = x.zeros_like();
                (x + parameter(&raw, 0), none)
            }
            Self::Affine => {
                let s = log_scale(parameter(&raw, 0));
                (x * s.clone().exp() + parameter(&raw, 1), s)
            }
            Self::Spline(bins) => Spline::line(bins).forward(x, raw),
            Self::CircularSpline(bins) => Spline::circle(bins).forward(x, raw),
            Self::Sigmoidal(units) => sigmoidal::forward(x, raw, units),
        }
    }

    /// x and ln dx/dy of each of `y: [rows, dim]`.
    fn inverse(self, y: Tensor<2>, raw: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        match self {
            Self::Additive => {
                let none = y.zeros_like();
                (y - parameter(&raw, 0), none)
            }
            Self::Affine => {
                let minus_s = log_scale(parameter(&raw, 0)).neg();
                ((y - parameter(&raw, 1)) * minus_s.clone().exp(), minus_s)
            }
            Self::Spline(bins) => Spline::line(bins).inverse(y, raw),
            Self::CircularSpline(bins) => Spline::circle(bins).inverse(y, raw),
            Self::Sigmoidal(units) => sigmoidal::inverse(y, raw, units),
        }
    }
}

/// Parameter `i` of each number, `[rows, dim]`.
fn parameter(raw: &Tensor<3>, i: usize) -> Tensor<2> {
    raw.clone().slice_dim(2, i..i + 1).squeeze_dim(2)
}

fn log_scale<const D: usize>(a: Tensor<D>) -> Tensor<D> {
    // Not `div_scalar`, whose gradient Burn multiplies by a reciprocal in `f32`.
    let part = a.clone().abs().mul_scalar(LARGEST_LOG_SCALE.recip());
    a / part.add_scalar(1.0)
}
