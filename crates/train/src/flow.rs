//! The flows of the posterior by name.

use std::num::NonZeroUsize;

use anyhow::{Result, ensure};
use burn_flows::{FlowConfig, PlanarConfig, PlanarConstraint, ScalarMap, SylvesterBasis};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A family of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowName {
    /// Planar layers with the paper's û
    Planar,
    /// Planar layers with the û that makes u = 0 the identity
    PlanarIdentity,
    /// Radial layers
    Radial,
    /// Householder reflections
    Householder,
    /// Sylvester layers on orthonormal vectors (--flow-vectors)
    SylvesterOrthogonal,
    /// Sylvester layers on products of reflections (--flow-vectors)
    SylvesterHouseholder,
    /// Sylvester layers on the coordinates, in both orders in turn
    SylvesterTriangular,
    /// Additive couplings with random permutations (--flow-hidden)
    Nice,
    /// Affine couplings with random permutations (--flow-hidden)
    Realnvp,
    /// Inverse autoregressive layers (--flow-hidden)
    Iaf,
    /// Couplings by rational-quadratic splines with random permutations (--flow-hidden, --flow-bins)
    Spline,
}

/// What some of the families take.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowOptions {
    /// Widths of the hidden layers of the networks in a layer.
    pub hidden: Option<Vec<NonZeroUsize>>,
    /// Orthonormal vectors, or reflections, of a Sylvester layer.
    pub vectors: Option<NonZeroUsize>,
    /// Bins of a spline.
    pub bins: Option<NonZeroUsize>,
}

// Sizes of ours, where nothing else is asked for.
const HIDDEN: [usize; 2] = [64, 64];
const VECTORS: usize = 8;
const BINS: usize = 8;

impl FlowName {
    /// The flow of `layers` layers in `dim` dimensions.
    pub fn config(self, dim: usize, layers: usize, options: &FlowOptions) -> FlowConfig {
        let hidden: Vec<usize> = match &options.hidden {
            Some(hidden) => hidden.iter().map(|width| width.get()).collect(),
            None => HIDDEN.to_vec(),
        };
        let vectors = options.vectors.map_or(VECTORS.min(dim), NonZeroUsize::get);
        let bins = options.bins.map_or(BINS, NonZeroUsize::get);
        let sylvester = |basis| FlowConfig::sylvester(dim, layers, basis);
        let coupling = |map| FlowConfig::coupling(dim, layers, map, &hidden);
        match self {
            Self::Planar => FlowConfig::planar(dim, layers),
            Self::PlanarIdentity if layers == 0 => FlowConfig::planar(dim, 0),
            Self::PlanarIdentity => {
                let planar = PlanarConfig::new(layers).with_constraint(PlanarConstraint::Identity);
                FlowConfig::new(dim, vec![planar.into()])
            }
            Self::Radial => FlowConfig::radial(dim, layers),
            Self::Householder => FlowConfig::householder(dim, layers),
            Self::SylvesterOrthogonal => sylvester(SylvesterBasis::Orthogonal(vectors)),
            Self::SylvesterHouseholder => sylvester(SylvesterBasis::Householder(vectors)),
            Self::SylvesterTriangular => sylvester(SylvesterBasis::Triangular),
            Self::Nice => coupling(ScalarMap::Additive),
            Self::Realnvp => coupling(ScalarMap::Affine),
            Self::Iaf => {
                FlowConfig::inverse_autoregressive(dim, layers, ScalarMap::Affine, &hidden)
            }
            Self::Spline => coupling(ScalarMap::Spline(bins)),
        }
    }

    /// The learning rate of a flow of `layers` layers, as a multiple of the rest's
    /// ([measured](../../../experiments/stability/README.md)).
    pub fn lr(self, layers: usize) -> f64 {
        match self.has_networks() {
            true => 1.0,
            false => (2.0 / layers as f64).min(0.05),
        }
    }

    /// Whether a layer is a network of its own, rather than numbers that a head predicts.
    fn has_networks(self) -> bool {
        matches!(self, Self::Nice | Self::Realnvp | Self::Iaf | Self::Spline)
    }

    /// Refuses options that the family doesn't take.
    pub fn check(self, options: &FlowOptions) -> Result<()> {
        let has_vectors = matches!(self, Self::SylvesterOrthogonal | Self::SylvesterHouseholder);
        for (flag, is_given, is_taken) in [
            (
                "--flow-hidden",
                options.hidden.is_some(),
                self.has_networks(),
            ),
            ("--flow-vectors", options.vectors.is_some(), has_vectors),
            ("--flow-bins", options.bins.is_some(), self == Self::Spline),
        ] {
            let name = self.to_possible_value().expect("none is hidden");
            ensure!(
                is_taken || !is_given,
                "{flag}: --flow {} doesn't take it",
                name.get_name()
            );
        }
        Ok(())
    }
}
