//! Permutations of the coordinates, which change what the next layer keeps or sees; log |det| = 0.

use std::sync::Arc;

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Device, Distribution, Int, Tensor, TensorData},
};
use serde::{Deserialize, Serialize};

use crate::{Bijection, FlowSize, Transformed, bijection::check_points};

/// A fixed permutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PermutationConfig {
    /// The last coordinate first.
    Reverse,
    /// Drawn once, from the device's own generator, and saved with the weights.
    Random,
}

impl PermutationConfig {
    pub(crate) fn size(&self, _dim: usize, _context: Option<usize>) -> FlowSize {
        FlowSize::default()
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        Ok(())
    }

    pub(crate) fn init(&self, dim: usize, _context: Option<usize>, device: &Device) -> Permutation {
        let mut order: Vec<usize> = (0..dim).rev().collect();
        if matches!(self, Self::Random) {
            let keys = Tensor::<1>::random([dim], Distribution::Uniform(0.0, 1.0), device);
            let keys: Vec<f32> = keys.into_data().iter::<f32>().collect();
            order.sort_by(|&i, &j| keys[i].total_cmp(&keys[j]));
        }
        let order: Vec<i32> = order.into_iter().map(|i| i as i32).collect();
        let order = Tensor::from_data(TensorData::new(order, [dim]), device);
        Permutation {
            order: Param::initialized(ParamId::new(), order),
        }
    }
}

/// The order, part of what is saved.
#[derive(Module, Debug)]
pub struct Permutation {
    /// Which coordinate comes first, second and so on, `[dim]`.
    order: Param<Tensor<1, Int>>,
}

impl Permutation {
    pub fn bind(&self, _dim: usize, _context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(Ordered(self.order.val()))
    }
}

#[derive(Clone, Debug)]
struct Ordered(Tensor<1, Int>);

impl Ordered {
    fn apply(&self, points: Tensor<2>, order: Tensor<1, Int>) -> Transformed {
        check_points("a permutation", &points, 1, self.dim());
        let none = Transformed::identity(points);
        Transformed {
            value: none.value.select(1, order),
            ..none
        }
    }
}

impl Bijection for Ordered {
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
        self.apply(y, self.0.clone().argsort(0))
    }

    fn preserves_volume(&self) -> bool {
        true
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn row(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    /// A turn of three coordinates, which is not its own inverse.
    #[test]
    fn the_inverse_puts_each_coordinate_back() {
        let device = Device::flex();
        let turn = Ordered(Tensor::from_data([1, 2, 0], &device));
        let z = Tensor::from_data([[10.0, 20.0, 30.0]], &device);
        let there = turn.forward(z.clone()).value;
        assert_eq!(row(there.clone()), [20.0, 30.0, 10.0]);
        assert_eq!(row(turn.inverse(there).value), row(z));
    }

    /// Of twenty coordinates, two draws in a row are equal, or one the reversal, once in 10^18.
    #[test]
    fn random_orders_are_drawn() {
        let device = Device::flex();
        let order = |config: PermutationConfig| {
            let order = config.init(20, None, &device).order.val().into_data();
            order.iter::<i32>().collect::<Vec<_>>()
        };
        let [first, second] = [(); 2].map(|()| order(PermutationConfig::Random));
        assert_ne!(first, second);
        assert_ne!(first, order(PermutationConfig::Reverse));
    }
}
