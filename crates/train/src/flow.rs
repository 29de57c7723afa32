//! The flows by name.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, ensure};
use burn_flows::{FlowConfig, FlowSize, PlanarConfig, PlanarConstraint, ScalarMap, SylvesterBasis};
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
    /// Masked autoregressive layers, the inverse of iaf (--flow-hidden)
    Maf,
    /// Couplings by rational-quadratic splines with random permutations (--flow-hidden, --flow-bins)
    Spline,
    /// Masked autoregressive layers by rational-quadratic splines (--flow-hidden, --flow-bins)
    SplineAutoregressive,
    /// Neural autoregressive layers, masked ones by sums of sigmoids (--flow-hidden, --flow-sigmoids)
    Naf,
}

/// Which flow: a family, how many layers of it, and what some of the families take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowSettings {
    pub flow: FlowName,
    pub layers: usize,
    /// Widths of the hidden layers of the networks in a layer.
    #[serde(default)]
    pub flow_hidden: Option<Vec<NonZeroUsize>>,
    /// Orthonormal vectors, or reflections, of a Sylvester layer.
    #[serde(default)]
    pub flow_vectors: Option<NonZeroUsize>,
    /// Bins of a spline.
    #[serde(default)]
    pub flow_bins: Option<NonZeroUsize>,
    /// Sigmoids of a sum of them.
    #[serde(default)]
    pub flow_sigmoids: Option<NonZeroUsize>,
}

// Sizes of ours, where nothing else is asked for.
const HIDDEN: [usize; 2] = [64, 64];
const VECTORS: usize = 8;
const BINS: usize = 8;
const SIGMOIDS: usize = 8;

/// Layers that take some minutes to build where each is a network of its own.
const MOST_LAYERS: usize = 1_000_000;

/// More weights than this (1 GiB of them, six times that with gradients, Adam's state and the average) are a typing error.
const MOST_WEIGHTS: f64 = (1_u64 << 28) as f64;

impl FlowSettings {
    pub fn new(flow: FlowName, layers: usize) -> Self {
        Self {
            flow,
            layers,
            flow_hidden: None,
            flow_vectors: None,
            flow_bins: None,
            flow_sigmoids: None,
        }
    }

    /// The flow in `dim` dimensions.
    pub fn config(&self, dim: usize) -> FlowConfig {
        self.with_layers(dim, self.layers)
    }

    fn with_layers(&self, dim: usize, layers: usize) -> FlowConfig {
        let hidden: Vec<usize> = match &self.flow_hidden {
            Some(hidden) => hidden.iter().map(|width| width.get()).collect(),
            None => HIDDEN.to_vec(),
        };
        let vectors = self
            .flow_vectors
            .map_or(VECTORS.min(dim), NonZeroUsize::get);
        let bins = self.flow_bins.map_or(BINS, NonZeroUsize::get);
        let sigmoids = self.flow_sigmoids.map_or(SIGMOIDS, NonZeroUsize::get);
        let sylvester = |basis| FlowConfig::sylvester(dim, layers, basis);
        let masked = |map| FlowConfig::masked_autoregressive(dim, layers, map, &hidden);
        // Of one number nothing is left to couple it with: what it is given, if anything, says all.
        let coupling = |map| match dim {
            1 => masked(map),
            _ => FlowConfig::coupling(dim, layers, map, &hidden),
        };
        match self.flow {
            FlowName::Planar => FlowConfig::planar(dim, layers),
            FlowName::PlanarIdentity if layers == 0 => FlowConfig::planar(dim, 0),
            FlowName::PlanarIdentity => {
                let planar = PlanarConfig::new(layers).with_constraint(PlanarConstraint::Identity);
                FlowConfig::new(dim, vec![planar.into()])
            }
            FlowName::Radial => FlowConfig::radial(dim, layers),
            FlowName::Householder => FlowConfig::householder(dim, layers),
            FlowName::SylvesterOrthogonal => sylvester(SylvesterBasis::Orthogonal(vectors)),
            FlowName::SylvesterHouseholder => sylvester(SylvesterBasis::Householder(vectors)),
            FlowName::SylvesterTriangular => sylvester(SylvesterBasis::Triangular),
            FlowName::Nice => coupling(ScalarMap::Additive),
            FlowName::Realnvp => coupling(ScalarMap::Affine),
            FlowName::Iaf => {
                FlowConfig::inverse_autoregressive(dim, layers, ScalarMap::Affine, &hidden)
            }
            FlowName::Maf => masked(ScalarMap::Affine),
            FlowName::Spline => coupling(ScalarMap::Spline(bins)),
            FlowName::SplineAutoregressive => masked(ScalarMap::Spline(bins)),
            FlowName::Naf => masked(ScalarMap::Sigmoidal(sigmoids)),
        }
    }

    /// How large the flow is, given a context of so many numbers. Every layer is as large as the first; so many may be asked
    /// for that none could be built.
    pub fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let layer = FlowConfig {
            context,
            ..self.with_layers(dim, 1)
        };
        layer.size() * self.layers
    }

    /// Refuses what the family doesn't take, and more of it than can be built beside `others` weights.
    ///
    /// # Errors
    ///
    /// With the flags at fault and what they take.
    pub fn validate(
        &self,
        dim: usize,
        context: Option<usize>,
        others: f64,
        flags: &str,
    ) -> Result<()> {
        self.check_options()?;
        (self.with_layers(dim, self.layers.min(1)).check()).context("--flow")?;
        let weights = others + self.size(dim, context).weights;
        ensure!(
            weights <= MOST_WEIGHTS && self.layers <= MOST_LAYERS,
            "{flags} ask for {weights:.1e} weights in {} layers of the flow; at most {MOST_WEIGHTS:.1e} and {MOST_LAYERS} \
             are built",
            self.layers
        );
        Ok(())
    }

    fn check_options(&self) -> Result<()> {
        let flow = self.flow;
        let has_vectors = matches!(
            flow,
            FlowName::SylvesterOrthogonal | FlowName::SylvesterHouseholder
        );
        let has_bins = matches!(flow, FlowName::Spline | FlowName::SplineAutoregressive);
        for (flag, is_given, is_taken) in [
            (
                "--flow-hidden",
                self.flow_hidden.is_some(),
                flow.has_networks(),
            ),
            ("--flow-vectors", self.flow_vectors.is_some(), has_vectors),
            ("--flow-bins", self.flow_bins.is_some(), has_bins),
            (
                "--flow-sigmoids",
                self.flow_sigmoids.is_some(),
                flow == FlowName::Naf,
            ),
        ] {
            ensure!(
                is_taken || !is_given,
                "{flag}: --flow {} doesn't take it",
                flow.name()
            );
        }
        Ok(())
    }
}

impl FlowName {
    /// The learning rate of a flow of `layers` layers, as a multiple of the rest's
    /// ([measured](../../../experiments/stability/README.md)).
    pub fn lr(self, layers: usize) -> f64 {
        match self.has_networks() {
            true => 1.0,
            false => (2.0 / layers as f64).min(0.05),
        }
    }

    /// Whether a layer is a network of its own, rather than numbers that a head predicts.
    pub fn has_networks(self) -> bool {
        matches!(
            self,
            Self::Nice
                | Self::Realnvp
                | Self::Iaf
                | Self::Maf
                | Self::Spline
                | Self::SplineAutoregressive
                | Self::Naf
        )
    }

    /// As a user types it.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With an option that some families take, where that of `with` is given.
    fn settings(flow: FlowName, with: &str) -> FlowSettings {
        let number = |flag| (with == flag).then_some(NonZeroUsize::MIN);
        FlowSettings {
            flow_hidden: (with == "--flow-hidden").then(|| vec![NonZeroUsize::MIN]),
            flow_vectors: number("--flow-vectors"),
            flow_bins: number("--flow-bins"),
            flow_sigmoids: number("--flow-sigmoids"),
            ..FlowSettings::new(flow, 2)
        }
    }

    #[test]
    fn an_option_is_of_the_families_that_say_so() {
        for flow in FlowName::value_variants() {
            let value = flow.to_possible_value().unwrap();
            let help = value.get_help().unwrap().to_string();
            for flag in [
                "--flow-hidden",
                "--flow-vectors",
                "--flow-bins",
                "--flow-sigmoids",
            ] {
                let checked = settings(*flow, flag).validate(2, None, 0.0, "");
                let expected = (!help.contains(flag))
                    .then(|| format!("{flag}: --flow {} doesn't take it", flow.name()));
                assert_eq!(checked.err().map(|error| error.to_string()), expected);
            }
        }
    }

    /// Of two numbers no more than two vectors are orthonormal.
    #[test]
    fn a_layer_has_eight_vectors_or_all_that_there_are() {
        for (dim, vectors) in [(1, 1), (2, 2), (8, 8), (30, 8)] {
            let config = FlowSettings::new(FlowName::SylvesterOrthogonal, 3).config(dim);
            let expected = FlowConfig::sylvester(dim, 3, SylvesterBasis::Orthogonal(vectors));
            assert_eq!(config, expected);
        }
    }

    #[test]
    fn no_layer_is_the_base_alone() {
        for flow in FlowName::value_variants() {
            let settings = FlowSettings::new(*flow, 0);
            settings.validate(3, None, 0.0, "").unwrap();
            assert_eq!(settings.size(3, None).weights, 0.0, "{}", flow.name());
            assert!(settings.config(3).check().is_ok(), "{}", flow.name());
        }
        let identity = FlowSettings::new(FlowName::PlanarIdentity, 0).config(3);
        assert_eq!(identity, FlowConfig::planar(3, 0));
        let identity = FlowSettings::new(FlowName::PlanarIdentity, 2).config(3);
        assert_ne!(identity, FlowConfig::planar(3, 2));
    }
}
