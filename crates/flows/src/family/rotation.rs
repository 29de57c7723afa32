//! A fixed random orthogonal matrix, which mixes the coordinates before the next layer (Rezende & Mohamed 2015, of NICE);
//! log |det| = 0.

use std::sync::Arc;

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Device, Distribution, Tensor, TensorData},
};
use serde::{Deserialize, Serialize};

use crate::{Bijection, FlowSize, Transformed, bijection::check_points, math::widened};

/// A matrix drawn once, uniformly among the orthogonal ones, from the device's own generator, and saved with the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationConfig {}

impl RotationConfig {
    pub(crate) fn size(&self, dim: usize, _context: Option<usize>) -> FlowSize {
        FlowSize {
            weights: (dim as f64).powi(2),
            ..FlowSize::default()
        }
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        Ok(())
    }

    pub(crate) fn init(&self, dim: usize, _context: Option<usize>, device: &Device) -> Rotation {
        let normal = Tensor::<2>::random([dim, dim], Distribution::Normal(0.0, 1.0), device);
        let normal: Vec<f64> = normal.into_data().iter::<f64>().collect();
        let matrix = TensorData::new(orthonormal_rows(normal, dim), [dim, dim]);
        let matrix = Tensor::from_data(matrix, device);
        Rotation {
            matrix: Param::initialized(ParamId::new(), matrix),
        }
    }
}

/// Gram and Schmidt, each row twice. Rows that are Gaussian make a matrix that is uniform (Haar).
fn orthonormal_rows(mut rows: Vec<f64>, dim: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for i in 0..dim {
        let (before, row) = rows.split_at_mut(i * dim);
        let row = &mut row[..dim];
        for before in before.chunks(dim).chain(before.chunks(dim)) {
            let along = dot(before, row);
            row.iter_mut()
                .zip(before)
                .for_each(|(x, y)| *x -= along * y);
        }
        let length = dot(row, row).sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    rows
}

/// The matrix, part of what is saved; it is not trained.
#[derive(Module, Debug)]
pub struct Rotation {
    /// `[dim, dim]`, multiplied from the right.
    matrix: Param<Tensor<2>>,
}

impl Rotation {
    pub fn bind(&self, _dim: usize, _context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(Bound(widened(self.matrix.val())))
    }
}

#[derive(Clone, Debug)]
struct Bound(Tensor<2>);

impl Bound {
    fn apply(&self, points: Tensor<2>, matrix: Tensor<2>) -> Transformed {
        check_points("a rotation", &points, 1, self.dim());
        let none = Transformed::identity(points);
        Transformed {
            value: none.value.matmul(matrix),
            ..none
        }
    }
}

impl Bijection for Bound {
    fn dim(&self) -> usize {
        self.0.dims()[0]
    }

    fn owners(&self) -> usize {
        1
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.apply(z, self.0.clone())
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.apply(y, self.0.clone().transpose())
    }

    fn preserves_volume(&self) -> bool {
        true
    }
}
