//! Autoregressive layers: inverse autoregressive flows (Kingma et al. 2016) as they stand, masked autoregressive flows
//! (Papamakarios et al. 2017) the other way round, with affine maps or splines (Durkan et al. 2019).
//!
//! Each coordinate goes through a monotone map of one number whose parameters a masked network (MADE) makes of the
//! coordinates before it, and of a context if there is one:
//!
//! ```text
//! f(z)_i = g(z_i; θ_i(z_1, …, z_i-1, context)),      log |det| = Σ ln g'
//! ```
//!
//! f is one pass of the network, its inverse one for each coordinate: z_i is known when those before it are. So f samples
//! fast, as a posterior wants; a density is fitted to points with the inverse of this layer.

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

/// One autoregressive layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoregressiveConfig {
    /// What is done to each coordinate.
    pub map: ScalarMap,
    /// Widths of the network's hidden ReLU layers.
    pub hidden: Vec<usize>,
}

impl AutoregressiveConfig {
    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let outputs = dim.saturating_mul(self.map.parameters());
        let widths = [&[dim], &self.hidden[..], &[outputs]].concat();
        FlowSize::of_network(&widths, context)
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        check_widths(&self.hidden)?;
        self.map.check()
    }

    /// Starts as the identity.
    pub(crate) fn init(
        &self,
        dim: usize,
        context: Option<usize>,
        device: &Device,
    ) -> Autoregressive {
        let each = self.map.parameters();
        let network = Network::autoregressive(dim, each, context, &self.hidden, device);
        Autoregressive {
            conditioner: Conditioner::new(self.map, network),
        }
    }
}

/// What a layer owns.
#[derive(Module, Debug)]
pub struct Autoregressive {
    conditioner: Conditioner,
}

impl Autoregressive {
    pub fn bind(&self, dim: usize, context: Option<&Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(BoundAutoregressive {
            conditioner: self.conditioner.bind(context),
            dim,
        })
    }
}

#[derive(Clone, Debug)]
struct BoundAutoregressive {
    conditioner: BoundConditioner,
    dim: usize,
}

impl Bijection for BoundAutoregressive {
    fn dim(&self) -> usize {
        self.dim
    }

    fn owners(&self) -> usize {
        self.conditioner.owners()
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        check_points("an autoregressive layer", &z, self.owners(), self.dim);
        if z.dims()[0] == 0 {
            return Transformed::identity(z);
        }
        let raw = self.conditioner.raw(z.clone());
        (self.conditioner.map).apply(Direction::Forward, z, 0, raw)
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        check_points("an autoregressive layer", &y, self.owners(), self.dim);
        let [rows, dim] = y.dims();
        if rows == 0 {
            return Transformed::identity(y);
        }
        let map = self.conditioner.map;
        let (mut z, mut log_det) = (Vec::new(), Tensor::zeros([rows], (&y.device(), y.dtype())));
        for i in 0..dim {
            // What is not known yet is not looked at.
            let unknown = Tensor::zeros([rows, dim - i], (&y.device(), y.dtype()));
            let known = Tensor::cat([z.clone(), vec![unknown]].concat(), 1);
            let of_i = i * map.parameters()..(i + 1) * map.parameters();
            let raw = self.conditioner.raw(known).slice_dim(1, of_i);
            let start = map.apply(Direction::Inverse, y.clone().slice_dim(1, i..i + 1), 0, raw);
            z.push(start.value);
            log_det = log_det + start.log_det;
        }
        Transformed {
            value: Tensor::cat(z, 1),
            log_det,
        }
    }
}
