use burn::{module::Module, tensor::Tensor};

use crate::{
    ScalarMap,
    network::{BoundNetwork, Network},
    ops::autoregressive::Parameters,
};

/// A network under the name of the map whose parameters it makes, which is part of its paths in a record: the same
/// weights are another flow with another map, so that they must not load.
#[derive(Module, Debug)]
pub enum Conditioner {
    Additive(Network),
    Affine(Network),
    Spline(BySpline),
    CircularSpline(BySpline),
    Sigmoidal(BySigmoids),
}

#[derive(Module, Debug)]
pub struct BySpline {
    network: Network,
    bins: usize,
}

#[derive(Module, Debug)]
pub struct BySigmoids {
    network: Network,
    units: usize,
}

impl Conditioner {
    /// `network` has [`ScalarMap::seen`] inputs for each number that it sees, and [`ScalarMap::parameters`] outputs for each that is
    /// mapped.
    pub fn new(map: ScalarMap, network: Network) -> Self {
        match map {
            ScalarMap::Additive => Self::Additive(network),
            ScalarMap::Affine => Self::Affine(network),
            ScalarMap::Spline(bins) => Self::Spline(BySpline { network, bins }),
            ScalarMap::CircularSpline(bins) => Self::CircularSpline(BySpline { network, bins }),
            ScalarMap::Sigmoidal(units) => Self::Sigmoidal(BySigmoids { network, units }),
        }
    }

    pub fn network(&self) -> &Network {
        match self {
            Self::Additive(network) | Self::Affine(network) => network,
            Self::Spline(by) | Self::CircularSpline(by) => &by.network,
            Self::Sigmoidal(by) => &by.network,
        }
    }

    fn map(&self) -> ScalarMap {
        match self {
            Self::Additive(_) => ScalarMap::Additive,
            Self::Affine(_) => ScalarMap::Affine,
            Self::Spline(by) => ScalarMap::Spline(by.bins),
            Self::CircularSpline(by) => ScalarMap::CircularSpline(by.bins),
            Self::Sigmoidal(by) => ScalarMap::Sigmoidal(by.units),
        }
    }

    /// The conditioner with what [`Network::bind`] takes.
    pub fn bind(&self, of_context: Option<Tensor<2>>) -> BoundConditioner {
        BoundConditioner {
            network: self.network().bind(of_context),
            map: self.map(),
        }
    }
}

/// A [`Conditioner`] with weights and biases at hand.
#[derive(Clone, Debug)]
pub struct BoundConditioner {
    network: BoundNetwork,
    pub map: ScalarMap,
}

impl BoundConditioner {
    /// How many examples the context has; 1 without one.
    pub fn owners(&self) -> usize {
        self.network.owners()
    }

    /// What `points: [n · owners, seen coordinates]`, sample-major, make of the map's parameters, `[n · owners, mapped ·
    /// parameters]`.
    pub fn raw(&self, points: Tensor<2>) -> Tensor<2> {
        self.network.forward(self.map.see(points))
    }

    /// What the inverse of an autoregressive layer takes.
    pub fn masked(&self) -> Parameters {
        self.network.masked(self.map)
    }
}
