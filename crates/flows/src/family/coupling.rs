//! Coupling layers: NICE and RealNVP (Dinh et al. 2014, 2016), and neural spline flows (Durkan et al. 2019), of angles too (Rezende
//! et al. 2020).
//!
//! The first half of the coordinates stays; each of the others goes through a monotone map of one number whose parameters
//! a network makes of the first half, and of a context if there is one:
//!
//! ```text
//! f(z) = (z_A, g(z_B; θ(z_A, context))),      log |det| = Σ ln g'
//! ```
//!
//! Which half that is a permutation between layers changes. The network sees z_A alone, which f keeps, so that the inverse
//! costs what f costs.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, ScalarMap, Transformed,
    bijection::check_points,
    conditioner::{BoundConditioner, Conditioner},
    map::Direction,
    network::{Network, check_widths},
};

/// One coupling layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CouplingConfig {
    /// What is done to each of the second half of the coordinates.
    pub map: ScalarMap,
    /// Widths of the network's hidden ReLU layers.
    pub hidden: Vec<usize>,
}

impl CouplingConfig {
    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let outputs = (dim - dim / 2).saturating_mul(self.map.parameters());
        let inputs = dim / 2 * self.map.seen();
        let widths = [&[inputs], &self.hidden[..], &[outputs]].concat();
        FlowSize::of_network(&widths, context)
    }

    pub(crate) fn check(&self, dim: usize) -> Result<(), String> {
        if dim < 2 {
            return Err("a coupling takes two dimensions at least".into());
        }
        check_widths(&self.hidden)?;
        self.map.check()
    }

    /// Starts as the identity.
    pub(crate) fn init(&self, dim: usize, context: Option<usize>, device: &Device) -> Coupling {
        let kept = dim / 2;
        let outputs = (dim - kept) * self.map.parameters();
        let inputs = kept * self.map.seen();
        let network = Network::dense(inputs, outputs, context.is_some(), &self.hidden, device);
        Coupling {
            conditioner: Conditioner::new(self.map, network),
        }
    }
}

/// What a layer owns.
#[derive(Module, Debug)]
pub struct Coupling {
    conditioner: Conditioner,
}

impl Coupling {
    pub fn network(&self) -> &Network {
        self.conditioner.network()
    }

    pub fn bind(&self, dim: usize, of_context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(BoundCoupling {
            conditioner: self.conditioner.bind(of_context),
            dim,
        })
    }
}

#[derive(Clone, Debug)]
struct BoundCoupling {
    conditioner: BoundConditioner,
    dim: usize,
}

impl BoundCoupling {
    fn apply(&self, direction: Direction, points: Tensor<2>) -> Transformed {
        check_points("a coupling", &points, self.owners(), self.dim);
        if points.dims()[0] == 0 {
            return Transformed::identity(points);
        }
        let kept = self.dim / 2;
        let points = self.conditioner.map.reduced(points);
        let raw = (self.conditioner).raw(points.clone().slice_dim(1, 0..kept));
        (self.conditioner.map).apply(direction, points, kept, raw)
    }
}

impl Bijection for BoundCoupling {
    fn dim(&self) -> usize {
        self.dim
    }

    fn owners(&self) -> usize {
        self.conditioner.owners()
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.apply(Direction::Forward, z)
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.apply(Direction::Inverse, y)
    }

    fn preserves_volume(&self) -> bool {
        self.conditioner.map == ScalarMap::Additive
    }
}
