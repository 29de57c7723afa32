//! The list of all families: a line for each gives it a place in configurations, in flows and in what they save.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize,
    bijection::Inverse,
    family::{
        act_norm::{ActNorm, ActNormConfig},
        autoregressive::{Autoregressive, AutoregressiveConfig},
        coupling::{Coupling, CouplingConfig},
        householder::{HouseholderConfig, HouseholderStack},
        lu_linear::{LuLinear, LuLinearConfig},
        permutation::{Permutation, PermutationConfig},
        planar::{PlanarConfig, PlanarStack},
        radial::{RadialConfig, RadialStack},
        rotation::{Rotation, RotationConfig},
        sylvester::{SylvesterConfig, SylvesterStack},
    },
    map::Domain,
    network::Network,
};

macro_rules! families {
    ($($name:ident: $config:ident => $module:ident,)*) => {
        /// One part of a flow: one layer of a family, or a stack of several.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum PartConfig {
            $(
                #[doc = concat!("See [`", stringify!($config), "`].")]
                $name($config),
            )*
            /// A part in the other direction.
            Inverse(Box<PartConfig>),
        }

        $(
            impl From<$config> for PartConfig {
                fn from(config: $config) -> Self {
                    Self::$name(config)
                }
            }
        )*

        impl PartConfig {
            /// What is wrong with it in `dim` dimensions, if anything is.
            pub(crate) fn check(&self, dim: usize) -> Result<(), String> {
                match self {
                    $(Self::$name(config) => config.check(dim),)*
                    Self::Inverse(config) => config.check(dim),
                }
            }

            pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
                match self {
                    $(Self::$name(config) => config.size(dim, context),)*
                    Self::Inverse(config) => config.size(dim, context),
                }
            }

            pub(crate) fn init(&self, dim: usize, context: Option<usize>, device: &Device) -> Part {
                match self {
                    $(Self::$name(config) => {
                        Part::Forward(Family::$name(config.init(dim, context, device)))
                    })*
                    Self::Inverse(config) => match config.init(dim, context, device) {
                        Part::Forward(family) => Part::Inverse(family),
                        Part::Inverse(family) => Part::Forward(family),
                    },
                }
            }
        }

        /// What a part owns. The names of the family and of the direction are part of the paths in a record: the same
        /// numbers in another one are another flow, so that they must not load.
        #[derive(Module, Debug)]
        pub enum Family {
            $($name($module),)*
        }

        impl Family {
            /// The map for `given: [batch, width]` of a context: the context itself, or, where there is a
            /// [network](Part::network) that looks at points too, its first layer's bias.
            pub fn bind(&self, dim: usize, given: Option<Tensor<2>>) -> Arc<dyn Bijection> {
                match self {
                    $(Self::$name(family) => family.bind(dim, given),)*
                }
            }
        }
    };
}

families! {
    Planar: PlanarConfig => PlanarStack,
    Radial: RadialConfig => RadialStack,
    Householder: HouseholderConfig => HouseholderStack,
    Sylvester: SylvesterConfig => SylvesterStack,
    Coupling: CouplingConfig => Coupling,
    Autoregressive: AutoregressiveConfig => Autoregressive,
    Permutation: PermutationConfig => Permutation,
    Rotation: RotationConfig => Rotation,
    LuLinear: LuLinearConfig => LuLinear,
    ActNorm: ActNormConfig => ActNorm,
}

impl PartConfig {
    /// What the coordinates must be, if a part asks for one kind.
    pub(crate) fn domain(&self) -> Option<Domain> {
        match self {
            Self::Coupling(config) => Some(config.map.domain()),
            Self::Autoregressive(config) => Some(config.map.domain()),
            Self::Permutation(_) => None,
            Self::Inverse(config) => config.domain(),
            _ => Some(Domain::Line),
        }
    }
}

/// A family in one direction.
#[derive(Module, Debug)]
pub enum Part {
    Forward(Family),
    Inverse(Family),
}

impl Part {
    /// The network that looks at points and a context, if there is one.
    pub fn network(&self) -> Option<&Network> {
        let (Self::Forward(family) | Self::Inverse(family)) = self;
        match family {
            Family::Coupling(layer) => Some(layer.network()),
            Family::Autoregressive(layer) => Some(layer.network()),
            _ => None,
        }
    }

    /// As [`Family::bind`].
    pub fn bind(&self, dim: usize, given: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        match self {
            Self::Forward(family) => family.bind(dim, given),
            Self::Inverse(family) => Arc::new(Inverse(family.bind(dim, given))),
        }
    }
}
