//! What commands take that use runs.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    backend::{self, Backend},
    data::Binarization,
    density::DensitySettings,
    evaluation::Split,
    points::PointsName,
    task::Settings,
    vae::VaeSettings,
};

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

    /// Picture of all runs, a new SVG file [default: estimates.svg in the folder of the first]
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

    /// Refuses, for pictures, what goes with numbers.
    ///
    /// # Errors
    ///
    /// When such a flag is given.
    pub fn check_is_without_a_count(&self) -> Result<()> {
        for (flag, is_given) in self.of_a_count() {
            ensure!(
                !is_given,
                "{flag} goes with samples as numbers: say how many with --count, or leave it out"
            );
        }
        Ok(())
    }

    /// What goes with a count of samples alone, and whether it is given.
    fn of_a_count(&self) -> Vec<(&'static str, bool)> {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn sample(flags: &str) -> SampleArgs {
        let words = ["train", "sample", "run"].into_iter();
        match Cli::parse_from(words.chain(flags.split_whitespace())).command {
            Some(Command::Sample(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_run_is_computed_where_it_was_or_elsewhere() {
        let mut settings = VaeSettings::default();
        settings.training.backend = Backend::Wgpu;
        settings.data_dir = Some("there".into());
        for (flags, backend, folder) in [
            ("", Backend::Wgpu, "there"),
            ("--backend flex", Backend::Flex, "there"),
            ("--data-dir here", Backend::Wgpu, "here"),
        ] {
            let place = sample(flags).place;
            let moved = place.apply(settings.clone());
            assert_eq!(moved.training.backend, backend);
            assert_eq!(moved.data_dir, Some(folder.into()));
            let mut points = DensitySettings::default();
            points.training.backend = Backend::Wgpu;
            assert_eq!(place.apply_to_points(points).training.backend, backend);
        }
    }

    #[test]
    fn what_goes_with_numbers() {
        for (flags, given) in [
            ("", &[][..]),
            ("--count 3", &["--count"]),
            (
                "--count 3 --output x --seed 1 --context y",
                &["--context", "--output", "--seed", "--count"],
            ),
        ] {
            let mut of_numbers = sample(flags).of_numbers();
            of_numbers.retain(|(_, is_given)| *is_given);
            let names: Vec<_> = of_numbers.into_iter().map(|(flag, _)| flag).collect();
            assert_eq!(names, given);
            assert_eq!(
                sample(flags).check_is_without_a_count().is_ok(),
                given.len() < 2
            );
        }
    }
}
