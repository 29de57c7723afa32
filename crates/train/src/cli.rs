//! The command line.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use flow_vae::{Activation, Annealing};

use crate::{
    backend::{self, Backend},
    config::{self, Training},
    data::{self, Binarization, DatasetName},
    flow::{FlowName, FlowSettings},
    learn::{optimizer::OptimizerName, rate::Schedule},
    task::Settings,
    vae::{VaeSettings, evaluate::Split},
};

/// Train a variational autoencoder whose posterior is a normalizing flow.
///
/// Without arguments it learns the handwritten digits that it carries with it, and leaves a run
/// folder with the configuration, metrics, checkpoints and pictures.
#[derive(Parser, Debug)]
#[command(name = "train", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  train                                    the embedded digits, some seconds on two cores
  train --backend wgpu                     the same on a GPU
  train --dataset mnist --layers 80        MNIST with 80 planar layers
  train --resume runs/digits-1             go on after an interruption
  train evaluate runs/digits-1             the test set's ELBO and NLL, and the gap between them
  train evaluate runs/a runs/b             the same of both, and their paired differences
  train sample runs/digits-1               pictures
  train report runs/a runs/b               their table, learning curves and a page")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainArgs,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print the ELBO, its parts and the importance-sampled NLL of a run's best model on the test set; of several
    /// runs, also how they differ
    Evaluate(EvaluateArgs),
    /// Write the table of runs, finished or under way, their learning curves, and both as a page with their pictures
    Report(ReportArgs),
    /// Draw samples from the prior, and test images beside their reconstructions
    Sample(SampleArgs),
}

/// What `train` takes without a subcommand. A flag that is not given leaves the configuration as it is.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// digits, mnist, fashion-mnist, cifar10-patches, or a folder of IDX files with MNIST's names [default: digits]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Data",
        conflicts_with = "resume"
    )]
    pub dataset: Option<DatasetName>,

    /// Folder of the data set's files: IDX, for mnist also Larochelle's binarized_mnist_*.amat, CIFAR-10's binary ones
    /// [default: a folder's own, else burn-dataset's cache folder; needed for cifar10-patches]
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub data_dir: Option<PathBuf>,

    /// How grey levels become black and white [default: dynamic; static where they are that already; none for
    /// cifar10-patches]
    #[arg(
        long,
        value_name = "HOW",
        help_heading = "Data",
        conflicts_with = "resume"
    )]
    pub binarization: Option<Binarization>,

    #[command(flatten)]
    pub flow: FlowArgs,

    /// Dimensions of the latent space [default: 8 for the digits, 30 for cifar10-patches, else 40]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub latent_dim: Option<NonZeroUsize>,

    /// Widths of the encoder's hidden layers, as 400 or 300,200; the decoder has them in reverse
    /// [default: 400]
    #[arg(
        long,
        value_name = "N,…",
        help_heading = "Model",
        conflicts_with = "resume",
        allow_negative_numbers = true,
        value_delimiter = ','
    )]
    pub hidden: Option<Vec<NonZeroUsize>>,

    /// tanh, relu, maxout or maxout:WINDOW [default: maxout:4]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Model",
        conflicts_with = "resume"
    )]
    pub activation: Option<Activation>,

    #[command(flatten)]
    pub training: TrainingArgs,

    /// Learning rate of the flow, as a multiple of --lr [default: 0.05, or 2 / K where that is less; 1 for nice, realnvp,
    /// iaf, maf, spline, spline-autoregressive]
    #[arg(
        long,
        value_name = "FACTOR",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub flow_lr: Option<f64>,

    /// none, free-energy (the paper's, on the joint) or kl-warm-up:UPDATES [default: none]
    #[arg(
        long,
        value_name = "HOW",
        help_heading = "Training",
        conflicts_with = "resume"
    )]
    pub anneal: Option<Annealing>,

    #[command(flatten)]
    pub run: RunArgs,
}

/// Which flow.
#[derive(Args, Debug)]
pub struct FlowArgs {
    /// Family of the flow [default: planar]
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
        }
    }
}

/// Where and how it is trained.
#[derive(Args, Debug)]
pub struct TrainingArgs {
    #[arg(long, value_name = "NAME", help = backend::help(), hide_possible_values = true)]
    pub backend: Option<Backend>,

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

    /// Updates at first over which the rate rises to --lr [default: 0]
    #[arg(
        long,
        value_name = "UPDATES",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub lr_warm_up: Option<usize>,

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
    /// `base` under the flags; another optimiser brings its rate, which is a multiple of its usual one.
    pub fn apply(&self, base: Training) -> Training {
        Training {
            backend: self.backend.unwrap_or(base.backend),
            epochs: self.epochs.unwrap_or(base.epochs),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            lr: self.lr.unwrap_or(match self.optimizer {
                Some(other) if other != base.optimizer => other.lr(),
                _ => base.lr,
            }),
            schedule: self.schedule.unwrap_or(base.schedule),
            lr_warm_up: self.lr_warm_up.unwrap_or(base.lr_warm_up),
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

#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// Folder of the run; of several, the others are compared with the first, image by image
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// Importance samples for each image
    #[arg(
        long,
        value_name = "S",
        default_value = "5000",
        allow_negative_numbers = true
    )]
    pub samples: NonZeroUsize,

    /// Images to evaluate on
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: Split,

    /// How grey levels become black and white [default: as in training]
    #[arg(long, value_name = "HOW")]
    pub binarization: Option<Binarization>,

    /// Evaluate the checkpoint of this epoch [default: the best by validation ELBO]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epoch: Option<NonZeroUsize>,

    /// Seed of the posterior samples, whatever the run's own
    #[arg(
        long,
        value_name = "N",
        default_value = "0",
        allow_negative_numbers = true
    )]
    pub seed: u64,

    /// Print one JSON object, with the names of evaluations.csv
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub place: Place,
}

impl EvaluateArgs {
    /// The settings of a run, as it is evaluated.
    pub fn apply(&self, settings: VaeSettings) -> VaeSettings {
        let settings = self.place.apply(settings);
        VaeSettings {
            binarization: self.binarization.or(settings.binarization),
            ..settings
        }
    }
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folders of the runs, in the order of the table; those that differ only by seed are put together
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// Folder for the report, a new one or that of an earlier report of these runs [default: report-1, -2, …]
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct SampleArgs {
    /// Folder of the run
    pub run: PathBuf,

    #[command(flatten)]
    pub place: Place,
}

/// Where a finished run is computed on, when not where it was trained.
#[derive(Args, Debug)]
pub struct Place {
    #[arg(long, value_name = "NAME", help = backend::help(), hide_possible_values = true)]
    pub backend: Option<Backend>,

    /// Folder of the data set's files, when it is not where training found them
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// `settings`, here.
    pub fn apply(&self, mut settings: VaeSettings) -> VaeSettings {
        settings.training.backend = self.backend.unwrap_or(settings.training.backend);
        VaeSettings {
            data_dir: self.data_dir.clone().or(settings.data_dir),
            ..settings
        }
    }
}

impl Flags for TrainArgs {
    type Settings = VaeSettings;

    fn run(&self) -> &RunArgs {
        &self.run
    }

    fn defaults(&self) -> VaeSettings {
        let default = VaeSettings::default();
        let dataset = self.dataset.clone().unwrap_or(default.dataset);
        VaeSettings {
            binarization: data::usual_binarization(&dataset, self.data_dir.as_deref()),
            ..VaeSettings::new(
                dataset,
                self.flow.layers.unwrap_or(default.flow.layers),
                self.training
                    .optimizer
                    .unwrap_or(default.training.optimizer),
            )
        }
    }

    fn apply(&self, base: VaeSettings) -> VaeSettings {
        let (dataset, data_dir, binarization) = match &self.dataset {
            // Another data set is elsewhere, and its pixels may be of another kind.
            Some(other) if *other != base.dataset => {
                let default = other.binarization();
                let binarization = default.map(|how| base.binarization.unwrap_or(how));
                (other.clone(), None, binarization)
            }
            _ => (base.dataset, base.data_dir, base.binarization),
        };
        let (was, flow) = (base.flow.clone(), self.flow.apply(base.flow));
        let same_flow = (flow.flow, flow.layers) == (was.flow, was.layers);
        VaeSettings {
            dataset,
            data_dir: self.data_dir.clone().or(data_dir),
            binarization: self.binarization.or(binarization),
            latent_dim: self.latent_dim.unwrap_or(base.latent_dim),
            hidden: self.hidden.clone().unwrap_or(base.hidden),
            activation: self.activation.unwrap_or(base.activation),
            flow_lr: self.flow_lr.unwrap_or(match same_flow {
                true => base.flow_lr,
                false => flow.flow.lr(flow.layers),
            }),
            flow,
            training: self.training.apply(base.training),
            anneal: self.anneal.unwrap_or(base.anneal),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_override_a_configuration_and_leave_the_rest() {
        let cli = Cli::parse_from(["train", "--layers", "3", "--hidden", "20,10"]);
        let mut base = VaeSettings::default();
        base.flow.layers = 7;
        base.training.lr = 0.5;
        let settings = cli.train.apply(base);
        let widths: Vec<usize> = settings.hidden.iter().map(|n| n.get()).collect();
        assert_eq!(
            (settings.flow.layers, settings.training.lr, widths),
            (3, 0.5, vec![20, 10])
        );
    }

    /// A rate is an optimiser's own.
    #[test]
    fn another_optimiser_brings_its_rate() {
        let rate = |flags: &[&str]| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            let mut base = VaeSettings::default();
            base.training.lr = 0.5;
            cli.train.apply(base).training.lr
        };
        assert_eq!(
            rate(&["--optimizer", "rmsprop"]),
            OptimizerName::Rmsprop.lr()
        );
        assert_eq!(rate(&["--optimizer", "adam"]), 0.5);
        assert_eq!(rate(&["--optimizer", "rmsprop", "--lr", "0.1"]), 0.1);
    }

    /// The share of the rate that the flow has is one of its layers and family.
    #[test]
    fn another_flow_brings_its_rate() {
        let rate = |flags: &[&str]| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            let base = VaeSettings {
                flow_lr: 0.5,
                ..VaeSettings::default()
            };
            cli.train.apply(base).flow_lr
        };
        assert_eq!(rate(&["--layers", "40"]), 0.05);
        assert_eq!(rate(&["--layers", "160"]), 0.0125);
        assert_eq!(rate(&["--layers", "0"]), 0.05);
        assert_eq!(rate(&["--layers", "10"]), 0.5);
        assert_eq!(rate(&["--layers", "160", "--flow", "iaf"]), 1.0);
        assert_eq!(rate(&["--layers", "160", "--flow-lr", "1"]), 1.0);
    }

    /// Whether there is one is for the data set to say.
    #[test]
    fn another_data_set_is_binarised_as_before_if_at_all() {
        let binarization = |flags: &[&str], base| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            cli.train.apply(base).binarization
        };
        let grey = || VaeSettings {
            binarization: Some(Binarization::Threshold),
            ..VaeSettings::default()
        };
        let patches = || cli_config(&["--dataset", "cifar10-patches"]);
        assert_eq!(patches().binarization, None);
        for (flags, base, expected) in [
            (
                ["--dataset", "mnist"],
                grey(),
                Some(Binarization::Threshold),
            ),
            (["--dataset", "cifar10-patches"], grey(), None),
            (["--dataset", "cifar10-patches"], patches(), None),
            (
                ["--dataset", "mnist"],
                patches(),
                Some(Binarization::Dynamic),
            ),
        ] {
            assert_eq!(binarization(&flags, base), expected, "{flags:?}");
        }
    }

    fn cli_config(flags: &[&str]) -> VaeSettings {
        let cli = Cli::parse_from(["train"].iter().chain(flags));
        cli.train.settings().unwrap()
    }

    #[test]
    fn a_resumed_run_takes_no_other_configuration() {
        for flag in [["--layers", "3"], ["--lr", "0.1"], ["--output", "x"]] {
            let arguments = ["train", "--resume", "runs/a"].into_iter().chain(flag);
            assert!(Cli::try_parse_from(arguments).is_err(), "{flag:?}");
        }
        let more = [
            "train",
            "--resume",
            "runs/a",
            "--epochs",
            "7",
            "--backend",
            "wgpu",
        ];
        assert!(Cli::try_parse_from(more).is_ok());
    }
}
