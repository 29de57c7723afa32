//! `train estimates`: how good the importance-sampled NLL of runs is, by the number of samples and beside annealed
//! importance sampling.

mod picture;

use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    iter::zip,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use flow_vae::{AnnealedEstimates, AnnealedImportanceSampling, ImportanceSampling, mean_bound};
use serde::Serialize;

use super::evaluate::{Subject, nll, open};
use crate::{
    backend::Backend,
    cli::EstimatesArgs,
    data::{Binarization, DatasetName},
    evaluation::{Split, figure, record},
    random::Purpose,
    run::{
        disk::{create_with, replace_own},
        rows::ESTIMATES,
    },
    terminal::{bar, say},
};

/// What is computed where nothing is asked for.
const IMAGES: usize = 100;
const SAMPLES: [usize; 6] = [1, 10, 50, 200, 1_000, 5_000];
const CHAINS: usize = 16;

/// Leapfrog steps of each move, as Wu et al. (2017) take them.
const LEAPFROGS: usize = 10;

/// The most samples, whose weights are all kept, and the most steps.
const MOST: usize = 1_000_000;

/// Estimates the NLL of the same images in several ways, prints them, adds each to its run's `estimates.csv`, and draws all
/// runs.
///
/// # Errors
///
/// When a run, its data or the backend cannot be had, when runs cannot be compared image by image, when more is asked for
/// than there is or can be held, or when a result is not finite or cannot be written.
pub fn run(args: &EstimatesArgs) -> Result<()> {
    let samples = samples(args)?;
    let subjects = open(&args.of, |all| {
        args.images.map_or(all.min(IMAGES), |images| images.get())
    })?;
    let ways: Vec<Option<AnnealedImportanceSampling>> = subjects
        .iter()
        .map(|subject| annealing(args, subject))
        .collect::<Result<_>>()?;
    let picture = place(args)?;
    let mut series = Vec::new();
    let mut recorded = Ok(());
    for (subject, annealing) in zip(&subjects, ways) {
        let started = Instant::now();
        let estimates = subject.estimates(&samples, annealing, args)?;
        let heading = subject.heading(&args.of, started.elapsed().as_secs_f64());
        let rows = subject.rows(&estimates, args);
        let apart = if series.is_empty() { "" } else { "\n" };
        say(format_args!("{apart}{heading}\n{}", Table(&rows)));
        for row in &rows {
            // What took long to compute is shown also where it cannot be written.
            recorded = recorded.and(record(&subject.run, ESTIMATES, row));
        }
        series.push((subject.name(), rows));
    }
    let svg = picture::draw(&series);
    recorded.and(write(&picture, args.picture.is_some(), svg.as_bytes()))
}

/// Where the picture goes, if there is such a folder.
fn place(args: &EstimatesArgs) -> Result<PathBuf> {
    let beside = || args.of.runs[0].join("estimates.svg");
    let path = args.picture.clone().unwrap_or_else(beside);
    ensure!(
        args.picture.is_none() || path.symlink_metadata().is_err(),
        "--picture {}: there is such a file already: name a new one",
        path.display()
    );
    let folder = path.parent().unwrap_or(Path::new(""));
    ensure!(
        folder.as_os_str().is_empty() || folder.is_dir(),
        "--picture {}: there is no folder {}",
        path.display(),
        folder.display()
    );
    Ok(path)
}

/// Where the user named the file nothing is replaced that came there meanwhile.
fn write(path: &Path, is_named: bool, svg: &[u8]) -> Result<()> {
    let written = match is_named {
        true => create_with(path, |file| file.write_all(svg)),
        false => replace_own(path, svg),
    };
    written.with_context(|| format!("cannot write {}", path.display()))?;
    say(format_args!("\nin {}", path.display()));
    Ok(())
}

/// The numbers of samples in order, each once.
fn samples(args: &EstimatesArgs) -> Result<BTreeSet<usize>> {
    let samples: BTreeSet<usize> = match &args.samples {
        Some(samples) => samples.iter().map(|samples| samples.get()).collect(),
        None => SAMPLES.into(),
    };
    for &most in &samples {
        ensure!(
            most <= MOST,
            "--samples {most}: the weights of at most {MOST} samples are kept"
        );
    }
    Ok(samples)
}

/// The annealed importance sampling that is asked for.
fn annealing(
    args: &EstimatesArgs,
    subject: &Subject,
) -> Result<Option<AnnealedImportanceSampling>> {
    let Some(steps) = args.ais.map(|steps| steps.get()) else {
        return Ok(None);
    };
    ensure!(
        steps <= MOST,
        "--ais {steps}: at most {MOST} steps are made"
    );
    let chains = args.chains.map_or(CHAINS, |chains| chains.get());
    let (_, rows_at_once) = subject.at_once();
    ensure!(
        chains <= rows_at_once.max(CHAINS),
        "--chains {chains}: at most {rows_at_once} of {} are computed at once",
        subject.name()
    );
    Ok(Some(AnnealedImportanceSampling {
        chains,
        steps,
        leapfrogs: LEAPFROGS,
    }))
}

/// How ln p(x) was estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Estimator {
    Importance,
    Annealed,
}

/// What an estimator says of each image.
struct Estimate {
    estimator: Estimator,
    /// Samples, or chains.
    samples: usize,
    log_likelihood: Vec<f64>,
    /// Of chains.
    annealed: Option<(usize, AnnealedEstimates)>,
    seconds: f64,
}

/// A row of `estimates.csv`: nats per image, each with its standard error over the images, which one image has not.
#[derive(Debug, Serialize)]
struct Row {
    epoch: Option<usize>,
    dataset: DatasetName,
    split: Split,
    binarization: Option<Binarization>,
    /// As in `evaluations.csv`, of these images.
    draw: String,
    images: usize,
    noise_seed: u64,
    estimator: Estimator,
    /// Importance samples, or chains.
    samples: usize,
    /// Of a chain.
    steps: Option<usize>,
    nll: f64,
    nll_se: Option<f64>,
    /// How far it is above the best estimate that was made with it: the annealed one, or that with the most samples. Paired by
    /// image.
    excess: f64,
    excess_se: Option<f64>,
    acceptance: Option<f64>,
    effective_chains: Option<f64>,
    backend: Backend,
    seconds: f64,
}

impl Subject {
    /// By importance sampling in order of the samples, then by annealing.
    fn estimates(
        &self,
        samples: &BTreeSet<usize>,
        annealing: Option<AnnealedImportanceSampling>,
        args: &EstimatesArgs,
    ) -> Result<Vec<Estimate>> {
        let mut estimates = self.importance(samples, args.of.seed())?;
        if let Some(annealing) = annealing {
            estimates.push(self.annealed(annealing, args.of.seed())?);
        }
        for estimate in &estimates {
            self.check_finite(&[&estimate.log_likelihood], args.of.split())?;
        }
        Ok(estimates)
    }

    /// The estimates with fewer samples are of the same draws as that with the most.
    fn importance(&self, samples: &BTreeSet<usize>, seed: u64) -> Result<Vec<Estimate>> {
        let started = Instant::now();
        let (images_at_once, rows_at_once) = self.at_once();
        let sampling = ImportanceSampling {
            samples: samples.last().copied().unwrap_or(1),
            rows_at_once,
        };
        let bar = bar(self.images.len() as u64, "images");
        let mut by_samples = vec![Vec::new(); samples.len()];
        for images in self.images.batches(images_at_once) {
            let noise = self.trained.noise(&images, seed);
            let seen = self.trained.seen(&images);
            for log_weights in sampling.log_weights(&self.trained.model, seen, noise)? {
                for (all, &samples) in zip(&mut by_samples, samples) {
                    all.push(mean_bound(&log_weights, samples));
                }
            }
            bar.inc(images.len() as u64);
        }
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let estimate = |(log_likelihood, &samples)| Estimate {
            estimator: Estimator::Importance,
            samples,
            log_likelihood,
            annealed: None,
            seconds,
        };
        Ok(zip(by_samples, samples).map(estimate).collect())
    }

    fn annealed(&self, annealing: AnnealedImportanceSampling, seed: u64) -> Result<Estimate> {
        let started = Instant::now();
        let (most, rows_at_once) = self.at_once();
        let images_at_once = (rows_at_once / annealing.chains).clamp(1, most);
        let batches = self.images.len().div_ceil(images_at_once);
        let bar = bar((2 * annealing.steps * batches) as u64, "annealing steps");
        let mut all = AnnealedEstimates::default();
        for images in self.images.batches(images_at_once) {
            let mut noise = self.trained.noise_for(Purpose::AnnealNoise, &images, seed);
            let noise = |n, width| {
                bar.inc(1);
                noise(n, width)
            };
            let seen = self.trained.seen(&images);
            let batch = annealing.estimate(&self.trained.model, seen, noise)?;
            all.log_likelihood.extend(batch.log_likelihood);
            all.acceptance.extend(batch.acceptance);
            all.effective_chains.extend(batch.effective_chains);
        }
        bar.finish_and_clear();
        Ok(Estimate {
            estimator: Estimator::Annealed,
            samples: annealing.chains,
            log_likelihood: all.log_likelihood.clone(),
            annealed: Some((annealing.steps, all)),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    fn rows(&self, estimates: &[Estimate], args: &EstimatesArgs) -> Vec<Row> {
        let settings = self.trained.settings();
        let row = |estimate: &Estimate, best: &Estimate| {
            let (log_likelihood, nll_se) = figure(&estimate.log_likelihood);
            let pairs = zip(&best.log_likelihood, &estimate.log_likelihood);
            let (excess, excess_se) = figure(&pairs.map(|(a, b)| a - b).collect::<Vec<f64>>());
            let annealed = estimate.annealed.as_ref();
            Row {
                epoch: self.trained.epoch,
                dataset: settings.dataset.clone(),
                split: args.of.split(),
                binarization: settings.binarization,
                draw: self.draw(),
                images: self.images.len(),
                noise_seed: args.of.seed(),
                estimator: estimate.estimator,
                samples: estimate.samples,
                steps: annealed.map(|(steps, _)| *steps),
                nll: -log_likelihood,
                nll_se,
                excess,
                excess_se,
                acceptance: annealed.map(|(_, all)| figure(&all.acceptance).0),
                effective_chains: annealed.map(|(_, all)| figure(&all.effective_chains).0),
                backend: settings.training.backend,
                seconds: estimate.seconds,
            }
        };
        let best = estimates.last();
        let rows = best.map(|best| estimates.iter().map(|one| row(one, best)).collect());
        rows.unwrap_or_default()
    }
}

impl Row {
    /// What the estimate is called.
    fn name(&self) -> String {
        match self.estimator {
            Estimator::Importance => nll(self.samples),
            Estimator::Annealed => "AIS".into(),
        }
    }
}

/// The rows of a run as text.
struct Table<'a>(&'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.0.last().map_or(String::new(), Row::name);
        write!(
            f,
            "nats per image ± standard error over the images; in the second column above {best}, paired by image"
        )?;
        let shown = |se: Option<f64>| se.map_or("n/a".into(), |se| format!("{se:.3}"));
        for row in self.0 {
            let (nll_se, excess_se) = (shown(row.nll_se), shown(row.excess_se));
            let (nll, excess) = (row.nll, row.excess);
            write!(f, "\n{:<14} {nll:9.3} ± {nll_se}", row.name())?;
            if row.name() != best {
                write!(f, " {excess:9.3} ± {excess_se}")?;
            }
            if let (Some(steps), Some(acceptance), Some(effective)) =
                (row.steps, row.acceptance, row.effective_chains)
            {
                write!(
                    f,
                    "   {} chains of {steps} steps, {effective:.1} of them effective, acceptance {acceptance:.2}",
                    row.samples
                )?;
            }
        }
        Ok(())
    }
}
