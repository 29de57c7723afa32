//! What trains: the flags of each kind of run, and the settings that they make.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;
use flow_vae::{Activation, Annealing};

use super::groups::{Flags, FlowArgs, RunArgs, TrainingArgs};
use crate::{
    data::{self, Binarization, DatasetName},
    density::DensitySettings,
    energy::{EnergyName, EnergySettings},
    flow::FlowSettings,
    points::PointsName,
    vae::VaeSettings,
};

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

    /// Images that the best epoch is chosen by, the last of those that don't test
    /// [default: a sixth of them, of the digits 250, of cifar10-patches a tenth, of Larochelle's their own]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Data",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub valid_images: Option<NonZeroUsize>,

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
    /// iaf, maf, spline, spline-autoregressive, naf]
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

    /// Posterior samples of an image in the ELBO that is maximised, importance-weighted where they are several [default: 1]
    #[arg(
        long,
        value_name = "S",
        help_heading = "Training",
        conflicts_with = "resume",
        allow_negative_numbers = true
    )]
    pub samples: Option<NonZeroUsize>,

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

    /// Fits with so many seeds in all, from --seed on, also after a resume; the best by validation is the one that is
    /// evaluated and sampled [default: 1]
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        allow_negative_numbers = true
    )]
    pub restarts: Option<NonZeroUsize>,

    #[command(flatten)]
    pub run: RunArgs,
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
        let (dataset, data_dir, valid_images, binarization) = match &self.dataset {
            // Another data set is elsewhere, has other images, and its pixels may be of another kind. (A saved folder is absolute.)
            Some(other)
                if *other != base.dataset
                    && other.clone().absolute().ok().as_ref() != Some(&base.dataset) =>
            {
                let default = other.binarization();
                let binarization = default.map(|how| base.binarization.unwrap_or(how));
                (other.clone(), None, None, binarization)
            }
            _ => (
                base.dataset,
                base.data_dir,
                base.valid_images,
                base.binarization,
            ),
        };
        let (was, flow) = (base.flow.clone(), self.flow.apply(base.flow));
        let same_flow = (flow.flow, flow.layers) == (was.flow, was.layers);
        VaeSettings {
            dataset,
            data_dir: self.data_dir.clone().or(data_dir),
            valid_images: self.valid_images.or(valid_images),
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
            samples: self.samples.or(base.samples),
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
            restarts: self.restarts.unwrap_or(base.restarts),
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
    use clap::Parser;

    use super::*;
    use crate::{
        backend::Backend,
        cli::{Cli, Command},
        learn::optimizer::OptimizerName,
    };

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

    /// A rate, and how it rises, is an optimiser's own.
    #[test]
    fn another_optimiser_brings_its_rate() {
        let rate = |flags: &[&str]| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            let mut base = VaeSettings::default();
            (base.training.lr, base.training.lr_warm_up) = (0.5, 7);
            let training = cli.train.apply(base).training;
            (training.lr, training.lr_warm_up)
        };
        let rmsprop = OptimizerName::Rmsprop.lr();
        assert_eq!(rate(&["--optimizer", "rmsprop"]), (rmsprop, 200));
        assert_eq!(rate(&["--optimizer", "adam"]), (0.5, 7));
        assert_eq!(rate(&["--optimizer", "rmsprop", "--lr", "0.1"]), (0.1, 200));
        assert_eq!(
            rate(&["--optimizer", "rmsprop", "--lr-warm-up", "3"]),
            (rmsprop, 3)
        );
    }

    /// Numbers are of one machine's devices, addresses of others'.
    #[test]
    fn devices_say_which_backend_and_belong_to_it() {
        let names = |list: &[&str]| list.iter().map(|name| name.parse().unwrap()).collect();
        let of = |backend, devices: &[&str], flags: &[&str]| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            let mut base = VaeSettings::default();
            base.training.backend = backend;
            base.training.devices = names(devices);
            let training = cli.train.apply(base).training;
            (training.backend, training.devices)
        };
        let here = "0,1";
        let there = "remote:a:1,remote:b:1";
        for (backend, devices, flags, expected) in [
            (
                Backend::Wgpu,
                &["0", "1"][..],
                &[][..],
                (Backend::Wgpu, &["0", "1"][..]),
            ),
            (
                Backend::Wgpu,
                &["0", "1"],
                &["--backend", "wgpu"],
                (Backend::Wgpu, &["0", "1"]),
            ),
            (
                Backend::Wgpu,
                &["0", "1"],
                &["--backend", "flex"],
                (Backend::Flex, &[]),
            ),
            (
                Backend::Wgpu,
                &[],
                &["--devices", here],
                (Backend::Wgpu, &["0", "1"]),
            ),
            (
                Backend::Wgpu,
                &["0", "1"],
                &["--devices", there],
                (Backend::Remote, &["remote:a:1", "remote:b:1"]),
            ),
            (
                Backend::Remote,
                &["remote:a:1"],
                &["--devices", here],
                (Backend::default(), &["0", "1"]),
            ),
            (
                Backend::Remote,
                &["remote:a:1"],
                &[],
                (Backend::Remote, &["remote:a:1"]),
            ),
            // Refused later: not for want of a backend.
            (
                Backend::Flex,
                &[],
                &["--devices", "0,remote:a:1"],
                (Backend::Remote, &["0", "remote:a:1"]),
            ),
        ] {
            let (is, has) = expected;
            assert_eq!(of(backend, devices, flags), (is, names(has)), "{flags:?}");
        }
    }

    /// Networks say more in a layer than a row of numbers.
    #[test]
    fn an_energy_has_as_many_layers_as_help_says() {
        let layers = |flags: &[&str]| {
            let words = ["train", "energy"].iter().chain(flags);
            match Cli::parse_from(words).command {
                Some(Command::Energy(args)) => args.settings().unwrap().flow.layers,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(layers(&[]), 32);
        assert_eq!(layers(&["--flow", "radial"]), 32);
        assert_eq!(layers(&["--flow", "iaf"]), 8);
        assert_eq!(layers(&["--flow", "iaf", "--layers", "3"]), 3);
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

    /// A number of images is a data set's.
    #[test]
    fn another_data_set_is_validated_as_usual() {
        let valid = |flags: &[&str], dataset: DatasetName| {
            let cli = Cli::parse_from(["train"].iter().chain(flags));
            let base = VaeSettings {
                valid_images: NonZeroUsize::new(7),
                dataset,
                ..VaeSettings::default()
            };
            cli.train.apply(base).valid_images.map(NonZeroUsize::get)
        };
        let folder = || DatasetName::Folder("set".into()).absolute().unwrap();
        assert_eq!(valid(&["--layers", "3"], DatasetName::Digits), Some(7));
        assert_eq!(valid(&["--dataset", "mnist"], DatasetName::Digits), None);
        assert_eq!(valid(&["--dataset", "set"], folder()), Some(7));
        assert_eq!(valid(&["--dataset", "other"], folder()), None);
        let both = ["--dataset", "mnist", "--valid-images", "9"];
        assert_eq!(valid(&both, DatasetName::Digits), Some(9));
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
