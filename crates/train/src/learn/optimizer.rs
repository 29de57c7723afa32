//! The optimisers by name.

use burn::optim::ModuleOptimizer;
use clap::ValueEnum;
use fused_optim::{Adam, Adamax, RmsProp};
use serde::{Deserialize, Serialize};

/// An optimiser with the settings the literature uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Adam with β = (0.9, 0.999) and ε = 1e-8 (Kingma & Ba 2015)
    Adam,
    /// Adamax with β = (0.9, 0.999) (Kingma & Ba 2015)
    Adamax,
    /// RMSprop with decay 0.99 and momentum 0.9, as in the paper
    Rmsprop,
}

impl OptimizerName {
    /// The learning rate that it is used with where none is given.
    pub fn lr(self) -> f64 {
        match self {
            Self::Adam => 2e-3,
            Self::Adamax => 4e-3,
            Self::Rmsprop => 2e-4,
        }
    }

    /// The updates over which that rate rises where nothing else is asked for: RMSprop's first steps are ten times the
    /// rate, before its average of squares is one, and momentum makes as much of them again.
    pub fn lr_warm_up(self) -> usize {
        match self {
            Self::Adam | Self::Adamax => 0,
            Self::Rmsprop => 200,
        }
    }

    /// The optimiser for a whole model.
    pub fn init(self, weight_decay: f32) -> ModuleOptimizer {
        match self {
            Self::Adam => Adam {
                weight_decay,
                ..Adam::default()
            }
            .init(),
            Self::Adamax => Adamax {
                weight_decay,
                ..Adamax::default()
            }
            .init(),
            Self::Rmsprop => RmsProp {
                weight_decay,
                ..RmsProp::default()
            }
            .init(),
        }
    }
}
