//! Flags that kinds of runs share.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use clap::Args;

use crate::{
    backend::{self, Backend, DeviceName},
    config::{self, Training},
    flow::{FlowName, FlowSettings},
    learn::{optimizer::OptimizerName, rate::Schedule},
    task::Settings,
};

/// Which flow.
#[derive(Args, Debug)]
pub struct FlowArgs {
    /// Family of the flow; the permutations of couplings exchange two dimensions, and in one dimension couplings are
    /// masked autoregressive layers [default: planar]
    #[arg(
        long,
        value_name = "FAMILY",
        help_heading = "Model",
        conflicts_with = "resume"
    )]
    pub flow: Option<FlowName>,

    /// Widths of the hidden layers of the networks in a layer, in families that have such [default: 64,64]
    #[arg(
        long,
        value_name = "N,…",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true,
        value_delimiter = ','
    )]
    pub flow_hidden: Option<Vec<NonZeroUsize>>,

    /// Vectors of a layer of sylvester-orthogonal, sylvester-householder [default: 8, or the dimensions]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub flow_vectors: Option<NonZeroUsize>,

    /// Bins of spline, spline-autoregressive [default: 8]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub flow_bins: Option<NonZeroUsize>,

    /// Sigmoids of naf's sums [default: 8]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub flow_sigmoids: Option<NonZeroUsize>,

    /// Layers of the flow, K in the paper; 0 is its base alone [default: 10]
    #[arg(
        long,
        value_name = "K",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub layers: Option<usize>,
}

impl FlowArgs {
    /// `base` under the flags.
    pub fn apply(&self, base: FlowSettings) -> FlowSettings {
        FlowSettings {
            flow: self.flow.unwrap_or(base.flow),
            layers: self.layers.unwrap_or(base.layers),
            flow_hidden: self.flow_hidden.clone().or(base.flow_hidden),
            flow_vectors: self.flow_vectors.or(base.flow_vectors),
            flow_bins: self.flow_bins.or(base.flow_bins),
            flow_sigmoids: self.flow_sigmoids.or(base.flow_sigmoids),
        }
    }
}

/// Where and how it is trained.
#[derive(Args, Debug)]
pub struct TrainingArgs {
    #[arg(long, value_name = "NAME", help = backend::help(), hide_possible_values = true)]
    pub backend: Option<Backend>,

    /// The backend's devices to share each batch among, by number from 0, or those of other machines, each as
    /// remote:HOST:PORT, or remote:HOST:PORT/N for the N-th from 0 of `train serve` there; the first is the main one [default:
    /// one, which the backend takes by itself]
    #[arg(long, value_name = "N,…", value_delimiter = ',', num_args = 1)]
    pub devices: Option<Vec<DeviceName>>,

    /// Epochs in all, also after a resume [default: 200 for the digits, else 100]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub epochs: Option<NonZeroUsize>,

    /// Items in a batch [default: 100]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub batch_size: Option<NonZeroUsize>,

    /// Optimiser [default: adam]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Training",
        conflicts_with = "resume"
    )]
    pub optimizer: Option<OptimizerName>,

    /// Highest learning rate [default: 0.002 for adam, 0.004 for adamax, 0.0002 for rmsprop]
    #[arg(
        long,
        value_name = "RATE",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub lr: Option<f64>,

    /// How the rate goes on from --lr to the last epoch: constant, linear or cosine [default: cosine]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Training",
        conflicts_with = "resume",
        hide_possible_values = true
    )]
    pub schedule: Option<Schedule>,

    /// Updates at first over which the rate rises to --lr [default: 200 for rmsprop, else 0]
    #[arg(
        long,
        value_name = "UPDATES",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub lr_warm_up: Option<usize>,

    /// What an update takes from each weight (from nothing that has one row, as biases do), as a multiple of the rate [default: 0]
    #[arg(
        long,
        value_name = "SHARE",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub weight_decay: Option<f64>,

    /// Seed of all random numbers [default: 0]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub seed: Option<u64>,
}

impl TrainingArgs {
    /// `base` under the flags; another optimiser brings its rate and its warm-up.
    pub fn apply<S: Settings>(&self, base: Training) -> Training {
        let backend = self.backend.unwrap_or(match &self.devices {
            // Addresses are of one backend alone, and numbers of all the others.
            Some(names) if names.iter().any(|name| name.address().is_some()) => Backend::Remote,
            Some(_) if base.backend == Backend::Remote => Backend::default(),
            _ => base.backend,
        });
        Training {
            backend,
            devices: self
                .devices
                .clone()
                .unwrap_or(match backend == base.backend {
                    true => base.devices,
                    // Another backend's have other numbers.
                    false => Vec::new(),
                }),
            epochs: self.epochs.unwrap_or(base.epochs),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            lr: self.lr.unwrap_or(match self.optimizer {
                Some(other) if other != base.optimizer => S::usual_lr(other),
                _ => base.lr,
            }),
            schedule: self.schedule.unwrap_or(base.schedule),
            lr_warm_up: self.lr_warm_up.unwrap_or(match self.optimizer {
                Some(other) if other != base.optimizer => S::usual_lr_warm_up(other),
                _ => base.lr_warm_up,
            }),
            weight_decay: self.weight_decay.or(base.weight_decay),
            seed: self.seed.unwrap_or(base.seed),
            versions: base.versions,
        }
    }
}

/// Which run.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// New folder for the run [default: runs/NAME-1, -2, …]
    #[arg(
        long,
        value_name = "FOLDER",
        help_heading = "Run",
        conflicts_with = "resume"
    )]
    pub output: Option<PathBuf>,

    /// Continue the run in this folder, with its configuration
    #[arg(
        long,
        value_name = "RUN",
        help_heading = "Run",
        conflicts_with = "config"
    )]
    pub resume: Option<PathBuf>,

    /// Start from a saved configuration, the config.json of a run; other flags override it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub config: Option<PathBuf>,
}

/// What a command line says of a run that is to be trained.
pub trait Flags {
    type Settings: Settings;

    fn run(&self) -> &RunArgs;

    /// The settings of a new run where no file says them.
    fn defaults(&self) -> Self::Settings;

    /// `base` under the flags.
    fn apply(&self, base: Self::Settings) -> Self::Settings;

    /// The settings of a new run: the file of `--config` or the defaults, under the flags.
    ///
    /// # Errors
    ///
    /// When the file is unreadable or no configuration.
    fn settings(&self) -> Result<Self::Settings> {
        let base = match &self.run().config {
            Some(path) => config::load(path)?,
            None => self.defaults(),
        };
        Ok(self.apply(base))
    }
}
