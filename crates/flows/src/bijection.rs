use std::{fmt, sync::Arc};

use burn::tensor::Tensor;

use crate::{Transformed, math::widened};

/// An invertible map with its parameters at hand, those of one context or of a batch of them.
///
/// Points are `[n · owners, dim]`, sample-major: row i goes through the parameters of owner i mod
/// [`owners`](Self::owners). What a family owns or predicts becomes one of these ([`Flow::bind`](crate::Flow::bind)); a map
/// of your own joins them through [`FlowDistribution::new`](crate::FlowDistribution::new), and is given points in `f32` where those of
/// the distribution are half floats.
pub trait Bijection: fmt::Debug + Send + Sync {
    /// Dimensions of the points.
    fn dim(&self) -> usize;

    /// How many parameter sets there are: 1, which all points share, or one an example.
    fn owners(&self) -> usize;

    /// The image of `z: [n · owners, dim]` and log |det| there.
    ///
    /// # Panics
    ///
    /// When `z` has another dimension, or a number of rows that `owners` does not divide.
    fn forward(&self, z: Tensor<2>) -> Transformed;

    /// The point that [`forward`](Self::forward) takes to `y`, and log |det| of the inverse there.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    fn inverse(&self, y: Tensor<2>) -> Transformed;

    /// Whether log |det| is 0 everywhere: then a chain does not add it. (So of a point that becomes NaN here nothing in the
    /// log-determinant tells.)
    fn preserves_volume(&self) -> bool {
        false
    }
}

/// The same map in the other direction.
#[derive(Clone, Debug)]
pub(crate) struct Inverse(pub Arc<dyn Bijection>);

impl Bijection for Inverse {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn owners(&self) -> usize {
        self.0.owners()
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.0.inverse(z)
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.0.forward(y)
    }

    fn preserves_volume(&self) -> bool {
        self.0.preserves_volume()
    }
}

/// Maps one after the other; none are the identity.
///
/// Narrow floats are computed in `f32`, on the way from each map to the next too, and rounded at the end.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub dim: usize,
    pub owners: usize,
    pub maps: Vec<Arc<dyn Bijection>>,
}

impl Chain {
    fn fold<'a>(
        &self,
        points: Tensor<2>,
        maps: impl Iterator<Item = &'a Arc<dyn Bijection>>,
        step: impl Fn(&dyn Bijection, Tensor<2>) -> Transformed,
    ) -> Transformed {
        check_points("a flow", &points, self.owners, self.dim);
        let dtype = points.dtype();
        let (mut value, mut log_det) = (widened(points), None);
        for map in maps {
            let after = step(&**map, value);
            value = after.value;
            if !map.preserves_volume() {
                log_det = Some(match log_det {
                    None => after.log_det,
                    Some(before) => before + after.log_det,
                });
            }
        }
        let end = match log_det {
            None => Transformed::identity(value),
            Some(log_det) => Transformed { value, log_det },
        };
        end.cast(dtype)
    }
}

impl Bijection for Chain {
    fn dim(&self) -> usize {
        self.dim
    }

    fn owners(&self) -> usize {
        self.owners
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.fold(z, self.maps.iter(), |map, z| map.forward(z))
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.fold(y, self.maps.iter().rev(), |map, y| map.inverse(y))
    }

    fn preserves_volume(&self) -> bool {
        self.maps.iter().all(|map| map.preserves_volume())
    }
}

/// Panics where `points` do not belong to `owners` of a map in `dim` dimensions.
#[track_caller]
pub(crate) fn check_points(what: &str, points: &Tensor<2>, owners: usize, dim: usize) {
    let [rows, got] = points.dims();
    assert!(
        got == dim && rows.is_multiple_of(owners),
        "{what} of {owners} owners in {dim} dimensions takes [n · {owners}, {dim}], got [{rows}, {got}]"
    );
}

/// `value: [1]` of each of `rows`.
pub(crate) fn of_each(value: Tensor<1>, rows: usize) -> Tensor<1> {
    match rows {
        0 => Tensor::zeros([0], (&value.device(), value.dtype())),
        _ => value.expand([rows]),
    }
}
