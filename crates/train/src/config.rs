//! The configuration of a run: what is saved beside it, read with `--config`, and set by flags.

use std::{
    num::NonZeroUsize,
    path::{self, Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use burn_flows::{FlowConfig, FlowSize};
use flow_vae::{Activation, Annealing, Likelihood, VaeConfig};
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    data::{Batching, Binarization, DatasetName},
    flow::{FlowName, FlowOptions},
    optimizer::OptimizerName,
    rate::{Rate, Schedule},
};

/// Everything that decides what a run computes, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    pub backend: Backend,
    pub dataset: DatasetName,
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
    /// None where the model sees numbers between 0 and 1.
    pub binarization: Option<Binarization>,
    pub flow: FlowName,
    /// Widths of the hidden layers of the networks in a layer of the flow, where it has such.
    #[serde(default)]
    pub flow_hidden: Option<Vec<NonZeroUsize>>,
    /// Vectors of a Sylvester layer.
    #[serde(default)]
    pub flow_vectors: Option<NonZeroUsize>,
    /// Bins of a spline.
    #[serde(default)]
    pub flow_bins: Option<NonZeroUsize>,
    pub layers: usize,
    pub latent_dim: NonZeroUsize,
    pub hidden: Vec<NonZeroUsize>,
    pub activation: Activation,
    pub epochs: NonZeroUsize,
    pub batch_size: NonZeroUsize,
    pub optimizer: OptimizerName,
    pub lr: f64,
    /// The flow's learning rate, as a multiple of `lr`.
    pub flow_lr: f64,
    pub schedule: Schedule,
    /// Updates over which the rate rises at first.
    pub lr_warm_up: usize,
    pub anneal: Annealing,
    pub seed: u64,
    /// The versions that wrote this file; whatever reads it puts its own.
    #[serde(default)]
    pub versions: Versions,
}

/// What a run was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// This program's.
    pub train: String,
    /// Burn's.
    pub burn: String,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            train: env!("CARGO_PKG_VERSION").into(),
            burn: "0.22.1".into(),
        }
    }
}

impl RunConfig {
    /// The defaults for a data set, a number of layers and an optimiser.
    pub fn new(dataset: DatasetName, layers: usize, optimizer: OptimizerName) -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        // The paper's model is too large for 1,400 images of 64 pixels: 40 latents leave a flow little to do there.
        let (latent_dim, epochs) = match dataset {
            DatasetName::Digits => (8, 200),
            DatasetName::Cifar10Patches => (30, 100),
            _ => (40, 100),
        };
        Self {
            backend: Backend::Flex,
            binarization: dataset.binarization(),
            dataset,
            data_dir: None,
            flow: FlowName::Planar,
            flow_hidden: None,
            flow_vectors: None,
            flow_bins: None,
            layers,
            latent_dim: size(latent_dim),
            hidden: vec![size(400)],
            activation: Activation::Maxout { window: 4 },
            epochs: size(epochs),
            batch_size: size(100),
            optimizer,
            lr: optimizer.lr(),
            flow_lr: FlowName::Planar.lr(layers),
            schedule: Schedule::Cosine,
            lr_warm_up: 0,
            anneal: Annealing::None,
            seed: 0,
            versions: Versions::default(),
        }
    }

    /// The learning rate over a training with this many images.
    pub fn rate(&self, images: usize) -> Rate {
        let steps = images.div_ceil(self.batch_size.get());
        let updates = self.epochs.get().saturating_mul(steps);
        Rate::new(self.lr, self.schedule, self.lr_warm_up, updates)
    }
}

impl Default for RunConfig {
    /// Of the embedded digits, with ten layers and Adam.
    fn default() -> Self {
        Self::new(DatasetName::Digits, 10, OptimizerName::Adam)
    }
}

/// Layers that take some minutes to build where each is a network of its own.
const MOST_LAYERS: usize = 1_000_000;

/// More weights than this (4 GiB of them, four times that with Adam's state and the average) are a typing error.
const MOST_WEIGHTS: f64 = (1_u64 << 30) as f64;

impl RunConfig {
    /// Reads a saved configuration.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no configuration.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let config: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is no configuration; compare with the config.json of a run folder",
                path.display()
            )
        })?;
        Ok(Self {
            versions: Versions::default(),
            ..config
        })
    }

    /// As it comes back from its file: serde_json reads one float in ten a digit off where it has more than 15, and what is
    /// trained with has to be what is saved. The nearest rates that it reads as they are.
    pub fn into_saved(self) -> Self {
        let reads = |rate: &f64| {
            let text = serde_json::to_string(rate).expect("a number");
            serde_json::from_str(&text).is_ok_and(|read: f64| read == *rate)
        };
        let nearest = |rate: f64| {
            let bits = rate.to_bits();
            let near = (0..1000).flat_map(|i| [bits.saturating_sub(i), bits.saturating_add(i)]);
            near.map(f64::from_bits).find(reads).unwrap_or(rate)
        };
        Self {
            lr: nearest(self.lr),
            flow_lr: nearest(self.flow_lr),
            ..self
        }
    }

    /// This configuration, from whatever folder it is used.
    ///
    /// # Errors
    ///
    /// When the current folder is not known.
    pub fn absolute(self) -> Result<Self> {
        let unknown = "cannot tell where the data are from any other folder";
        let data_dir = self.data_dir.as_deref().map(path::absolute).transpose();
        Ok(Self {
            dataset: self.dataset.absolute().context(unknown)?,
            data_dir: data_dir.context(unknown)?,
            ..self
        })
    }

    /// The configuration as it is saved.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a configuration is JSON");
        json.push('\n');
        json
    }

    /// Refuses values that no type refuses.
    ///
    /// # Errors
    ///
    /// With the flag at fault and what it takes.
    pub fn validate(&self, pixels: usize) -> Result<()> {
        let folder = match &self.dataset {
            DatasetName::Folder(folder) => Some(folder),
            _ => None,
        };
        for (flag, folder) in [
            ("--dataset", folder),
            ("--data-dir", self.data_dir.as_ref()),
        ] {
            let Some(folder) = folder else { continue };
            ensure!(
                folder.to_str().is_some(),
                "{flag} {}: config.json holds no path that is not UTF-8; give the folder another name, or a link",
                folder.display()
            );
        }
        match (self.dataset.binarization(), self.binarization) {
            (None, Some(how)) => bail!(
                "--binarization {how}: what a model sees of {} stays numbers between black and white; leave it out",
                self.dataset
            ),
            (Some(_), None) => bail!(
                "no binarization is for cifar10-patches alone: name one for {} with --binarization",
                self.dataset
            ),
            _ => {}
        }
        ensure!(
            self.flow_lr.is_finite() && self.flow_lr > 0.0,
            "--flow-lr {}: the flow's learning rate is a positive multiple of --lr",
            self.flow_lr
        );
        ensure!(
            self.lr.is_finite() && (self.lr * self.flow_lr.min(1.0)) as f32 > 0.0,
            "--lr {}: the learning rate is a positive number that f32 has",
            self.lr
        );
        ensure!(!self.hidden.is_empty(), "--hidden: give at least one width");
        let options = self.flow_options();
        self.flow.check(&options)?;
        let latent_dim = self.latent_dim.get();
        (self.flow.config(latent_dim, self.layers.min(1), &options))
            .check()
            .context("--flow, --latent-dim")?;
        let weights = self.weights(pixels);
        ensure!(
            weights <= MOST_WEIGHTS && self.layers <= MOST_LAYERS,
            "--flow, --layers, --latent-dim, --hidden and --activation ask for {weights:.1e} weights in {} layers \
             of the flow; at most {MOST_WEIGHTS:.1e} and {MOST_LAYERS} are built",
            self.layers
        );
        Ok(())
    }

    /// About how many weights the model has; in floating point, since the sizes may be absurd.
    fn weights(&self, pixels: usize) -> f64 {
        let window = match self.activation {
            Activation::Maxout { window } => window as f64,
            Activation::Tanh | Activation::Relu => 1.0,
        };
        let latent = self.latent_dim.get() as f64;
        let widths: Vec<f64> = self.hidden.iter().map(|n| n.get() as f64).collect();
        let between: f64 = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let encoder = window * (pixels as f64 * first + between) + last * 2.0 * latent;
        let decoder =
            window * (latent * last + between) + first * self.likelihood().outputs(pixels) as f64;
        encoder + decoder + self.flow_size().weights
    }

    fn flow_options(&self) -> FlowOptions {
        FlowOptions {
            hidden: self.flow_hidden.clone(),
            vectors: self.flow_vectors,
            bins: self.flow_bins,
        }
    }

    /// How large the flow is. Every layer is as large as the first; so many may be asked for that none could be built.
    pub fn flow_size(&self) -> FlowSize {
        let features = self.hidden.last().map_or(0, |width| width.get());
        let layer = (self.flow)
            .config(self.latent_dim.get(), 1, &self.flow_options())
            .with_context(features);
        layer.size() * self.layers
    }

    /// The posterior's flow.
    fn flow(&self) -> FlowConfig {
        (self.flow).config(self.latent_dim.get(), self.layers, &self.flow_options())
    }

    /// What the model says of pixels: zeros and ones, or numbers between.
    pub fn likelihood(&self) -> Likelihood {
        match self.binarization {
            Some(_) => Likelihood::Bernoulli,
            None => Likelihood::LogitNormal,
        }
    }

    /// The model for images of `pixels` pixels.
    pub fn model(&self, pixels: usize) -> VaeConfig {
        VaeConfig {
            pixels,
            likelihood: self.likelihood(),
            hidden: self.hidden.iter().map(|n| n.get()).collect(),
            activation: self.activation,
            flow: self.flow(),
        }
    }

    /// How batches are made.
    pub fn batching(&self) -> Batching {
        Batching {
            binarization: self.binarization,
            batch_size: self.batch_size,
            latent_dim: self.latent_dim.get(),
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_what_is_trained_with() {
        let given = RunConfig {
            lr: 0.403_201_525_905_860_45,
            ..RunConfig::default()
        };
        let read =
            |config: &RunConfig| -> RunConfig { serde_json::from_str(&config.to_json()).unwrap() };
        assert_ne!(
            read(&given),
            given,
            "serde_json reads it as it is: into_saved has become needless"
        );
        let saved = given.clone().into_saved();
        assert_eq!(read(&saved), saved);
        for exponent in -320..=308 {
            let lr: f64 = format!("1e{exponent}").parse().unwrap();
            let saved = RunConfig {
                lr,
                ..given.clone()
            }
            .into_saved();
            assert_eq!(read(&saved), saved);
            // Subnormal numbers are far apart.
            let near = 1e-12 * lr + f64::MIN_POSITIVE;
            assert!((saved.lr - lr).abs() <= near, "{lr} became {}", saved.lr);
        }
    }

    #[test]
    fn the_version_of_burn_is_the_one_built_with() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!(
            "name = \"burn\"\nversion = \"{}\"",
            Versions::default().burn
        );
        assert!(lock.contains(&entry), "{entry} is not in Cargo.lock");
    }

    #[test]
    fn a_saved_configuration_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let config = RunConfig {
            layers: 3,
            anneal: Annealing::FreeEnergy,
            data_dir: Some("some/where".into()),
            ..RunConfig::default()
        };
        std::fs::write(&path, config.to_json()).unwrap();
        assert_eq!(RunConfig::load(&path).unwrap(), config);

        std::fs::write(&path, config.to_json().replace("layers", "leyers")).unwrap();
        let error = format!("{:#}", RunConfig::load(&path).unwrap_err());
        assert!(error.contains("leyers"), "{error}");
    }

    #[test]
    fn absurd_sizes_and_rates_are_refused() {
        let refuse = |config: RunConfig, flag: &str| {
            let error = config.validate(784).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        };
        let huge = NonZeroUsize::new(usize::MAX).unwrap();
        let default = RunConfig::default;
        refuse(
            RunConfig {
                layers: usize::MAX,
                ..default()
            },
            "--layers",
        );
        refuse(
            RunConfig {
                latent_dim: huge,
                ..default()
            },
            "--latent-dim",
        );
        refuse(
            RunConfig {
                hidden: vec![huge, huge],
                ..default()
            },
            "--hidden",
        );
        refuse(
            RunConfig {
                hidden: vec![],
                ..default()
            },
            "--hidden",
        );
        for lr in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
            refuse(RunConfig { lr, ..default() }, "--lr");
            let flow_lr = lr;
            refuse(
                RunConfig {
                    flow_lr,
                    ..default()
                },
                "--flow-lr",
            );
        }
        default().validate(784).unwrap();
    }
}
