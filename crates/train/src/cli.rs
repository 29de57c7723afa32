//! The command line.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use flow_vae::{Activation, Annealing};

use crate::{
    backend::{self, Backend},
    config::{self, Training},
    data::{self, Binarization, DatasetName},
    density::DensitySettings,
    energy::{EnergyName, EnergySettings},
    evaluation::Split,
    flow::{FlowName, FlowSettings},
    learn::{optimizer::OptimizerName, rate::Schedule},
    points::PointsName,
    task::Settings,
    vae::VaeSettings,
};

/// Train normalizing flows: as the posterior of a variational autoencoder, as a density, or against an energy.
///
/// Without arguments an autoencoder learns the handwritten digits that it carries with it, and leaves a run
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
  train estimates runs/digits-1 --ais 500  how good that NLL is
  train sample runs/digits-1               pictures
  train report runs/a runs/b               their table, learning curves and a page
  train energy --energy u2                 planar layers against one of the paper's energies
  train density --points two-moons         a spline flow fitted to points; or to those of a CSV file
  train sample runs/two-moons-1 --count 9  as many points of it
  train log-prob runs/two-moons-1 new.csv  the log-density of others")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainArgs,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Fit a flow to points: their density, or that of some columns given others
    #[command(mut_arg("flow", |arg| arg.help("Family of the flow [default: spline]")))]
    #[command(mut_arg("layers", |arg| arg.help("Layers of the flow [default: 6]")))]
    #[command(mut_arg("epochs", |arg| arg.help("Epochs in all, also after a resume [default: 100]")))]
    #[command(mut_arg("batch_size", |arg| arg.help("Points in a batch [default: 250]")))]
    Density(DensityArgs),
    /// Fit a flow to a distribution that is known up to a constant, by its energy
    #[command(mut_arg("layers", |arg| arg.help(
        "Layers of the flow; 0 is a Gaussian [default: 32; 8 where each has a network of its own]"
    )))]
    #[command(mut_arg("lr", |arg| arg.help(
        "Highest learning rate [default: 0.005 for adam, 0.01 for adamax, 0.0005 for rmsprop]"
    )))]
    #[command(mut_arg("lr_warm_up", |arg| arg.help(
        "Updates at first over which the rate rises to --lr [default: 500]"
    )))]
    #[command(mut_arg("epochs", |arg| arg.help(
        "Epochs of 100 updates in all, also after a resume [default: 200]"
    )))]
    #[command(mut_arg("batch_size", |arg| arg.help("Points in a batch [default: 250]")))]
    Energy(EnergyArgs),
    /// Print how good a run's best model is: the ELBO, its parts and the importance-sampled NLL on the test set, the
    /// log-likelihood of test points, or the distance from the energy's distribution; of several runs of images, also how
    /// they differ
    Evaluate(EvaluateArgs),
    /// Print how good the importance-sampled NLL of autoencoders is: by the number of samples, and beside annealed importance
    /// sampling; and draw it
    #[command(mut_arg("runs", |arg| arg.help("Folder of the run; several are drawn beside each other")))]
    Estimates(EstimatesArgs),
    /// Print the log-density in nats of the points of a CSV file, in its own units
    LogProb(LogProbArgs),
    /// Write the table of runs; of autoencoders also their learning curves and a page with both and their pictures, of energies
    /// the figure of their densities
    Report(ReportArgs),
    /// Draw pictures of what a run's best model makes, or, with --count, write samples as CSV
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

/// What `train density` takes.
#[derive(Args, Debug)]
pub struct DensityArgs {
    /// two-moons, checkerboard, spirals, rings, pinwheel, eight-gaussians, or a CSV file [default: two-moons]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub points: Option<PointsName>,

    /// Columns of the file that are fitted, by name or by number from 1 [default: all but those of --context]
    #[arg(
        long,
        value_name = "COLUMN,…",
        value_delimiter = ',',
        help_heading = "Data",
        conflicts_with = "resume"
    )]
    pub columns: Option<Vec<String>>,

    /// Columns that are given: the density is that of the others given these
    #[arg(
        long,
        value_name = "COLUMN,…",
        value_delimiter = ',',
        help_heading = "Data",
        conflicts_with = "resume"
    )]
    pub context: Option<Vec<String>>,

    #[command(flatten)]
    pub flow: FlowArgs,

    #[command(flatten)]
    pub training: TrainingArgs,

    #[command(flatten)]
    pub run: RunArgs,
}

/// What `train energy` takes.
#[derive(Args, Debug)]
pub struct EnergyArgs {
    /// The energy, as the paper's Table 1 numbers them [default: u1]
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub energy: Option<EnergyName>,

    #[command(flatten)]
    pub flow: FlowArgs,

    #[command(flatten)]
    pub training: TrainingArgs,

    /// none or free-energy: the energy counts for 0.01 at first, for all after 9,900 updates [default: free-energy]
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

    /// Updates at first over which the rate rises to --lr [default: 200 for rmsprop, else 0]
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
    /// `base` under the flags; another optimiser brings its rate and its warm-up.
    pub fn apply<S: Settings>(&self, base: Training) -> Training {
        Training {
            backend: self.backend.unwrap_or(base.backend),
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
    #[command(flatten)]
    pub of: Subjects,

    /// Importance samples for each image, or samples of an approximation [default: 5000; 100000 against an energy]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub samples: Option<NonZeroUsize>,

    /// Print one JSON object, with the names of evaluations.csv
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct EstimatesArgs {
    #[command(flatten)]
    pub of: Subjects,

    /// How many images, the first of them [default: 100, or all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub images: Option<NonZeroUsize>,

    /// Numbers of importance samples for each image [default: 1,10,50,200,1000,5000]
    #[arg(
        long,
        value_name = "S,…",
        allow_negative_numbers = true,
        value_delimiter = ','
    )]
    pub samples: Option<Vec<NonZeroUsize>>,

    /// Steps of annealed importance sampling from the prior to the posterior, which the rest is held against; 1,000 and more
    /// are worth having [default: none of it]
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    pub ais: Option<NonZeroUsize>,

    /// Chains of annealed importance sampling for each image [default: 16]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        requires = "ais"
    )]
    pub chains: Option<NonZeroUsize>,

    /// Picture of all runs, an SVG file [default: estimates.svg in the folder of the first]
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
}

/// Runs, and what of them is evaluated.
#[derive(Args, Debug)]
pub struct Subjects {
    /// Folder of the run; of several runs of images, the others are compared with the first, image by image
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,

    /// Data to evaluate on [default: test]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<Split>,

    /// How grey levels become black and white [default: as in training]
    #[arg(long, value_name = "HOW")]
    pub binarization: Option<Binarization>,

    /// Evaluate the checkpoint of this epoch [default: the best by validation]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epoch: Option<NonZeroUsize>,

    /// Seed of the samples, whatever the run's own [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub place: Place,
}

impl Subjects {
    pub fn split(&self) -> Split {
        self.split.unwrap_or(Split::Test)
    }

    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

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

    /// Write so many samples of a density or an approximation as CSV, in the units of its points; given a context, so
    /// many for each row of it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub count: Option<NonZeroUsize>,

    /// CSV file of the columns that the density was given
    #[arg(long, value_name = "FILE")]
    pub context: Option<PathBuf>,

    /// New file for the samples [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Seed of the samples [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,

    #[command(flatten)]
    pub place: Place,
}

impl SampleArgs {
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// What goes with samples as numbers, and whether it is given.
    pub fn of_numbers(&self) -> Vec<(&'static str, bool)> {
        let mut flags = self.of_a_count();
        flags.push(("--count", self.count.is_some()));
        flags
    }

    /// What goes with a count of samples alone, and whether it is given.
    pub fn of_a_count(&self) -> Vec<(&'static str, bool)> {
        vec![
            ("--context", self.context.is_some()),
            ("--output", self.output.is_some()),
            ("--seed", self.seed.is_some()),
        ]
    }
}

#[derive(Args, Debug)]
pub struct LogProbArgs {
    /// Folder of the run
    pub run: PathBuf,

    /// CSV file with the columns that the density is of, and given
    pub points: PathBuf,

    /// New file for the log-densities [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub place: Place,
}

/// Where a finished run is computed on, when not where it was trained.
#[derive(Args, Debug)]
pub struct Place {
    #[arg(long, value_name = "NAME", help = backend::help(), hide_possible_values = true)]
    pub backend: Option<Backend>,

    /// Folder of the data set's files, or file of the points, when it is not where training found them
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<PathBuf>,
}

impl Place {
    /// The backend that is asked for.
    pub fn apply_backend(&self, settings: &mut impl Settings) {
        let training = settings.training_mut();
        training.backend = self.backend.unwrap_or(training.backend);
    }

    /// The settings of a density, here.
    pub fn apply_to_points(&self, mut settings: DensitySettings) -> DensitySettings {
        self.apply_backend(&mut settings);
        let moved = self.data_dir.clone().map(PointsName::File);
        DensitySettings {
            points: moved.unwrap_or(settings.points),
            ..settings
        }
    }

    /// Those of images, here.
    pub fn apply(&self, mut settings: VaeSettings) -> VaeSettings {
        self.apply_backend(&mut settings);
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
            training: self.training.apply::<Self::Settings>(base.training),
            anneal: self.anneal.unwrap_or(base.anneal),
        }
    }
}

impl Flags for EnergyArgs {
    type Settings = EnergySettings;

    fn run(&self) -> &RunArgs {
        &self.run
    }

    fn defaults(&self) -> EnergySettings {
        let default = EnergySettings::default();
        let flow = self.flow.flow.unwrap_or(default.flow.flow);
        let layers = if flow.has_networks() {
            8
        } else {
            default.flow.layers
        };
        let optimizer = (self.training.optimizer).unwrap_or(default.training.optimizer);
        EnergySettings::new(default.energy, FlowSettings::new(flow, layers), optimizer)
    }

    fn apply(&self, base: EnergySettings) -> EnergySettings {
        EnergySettings {
            energy: self.energy.unwrap_or(base.energy),
            flow: self.flow.apply(base.flow),
            training: self.training.apply::<Self::Settings>(base.training),
            anneal: self.anneal.unwrap_or(base.anneal),
        }
    }
}

impl Flags for DensityArgs {
    type Settings = DensitySettings;

    fn run(&self) -> &RunArgs {
        &self.run
    }

    fn defaults(&self) -> DensitySettings {
        let default = DensitySettings::default();
        let optimizer = (self.training.optimizer).unwrap_or(default.training.optimizer);
        DensitySettings::new(default.points, default.flow, optimizer)
    }

    fn apply(&self, base: DensitySettings) -> DensitySettings {
        DensitySettings {
            points: self.points.clone().unwrap_or(base.points),
            columns: self.columns.clone().or(base.columns),
            context: self.context.clone().unwrap_or(base.context),
            flow: self.flow.apply(base.flow),
            training: self.training.apply::<Self::Settings>(base.training),
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
