//! `train evaluate` of VAEs: the ELBO, its parts and the importance-sampled NLL of runs, and how runs differ.

mod report;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flate2::Crc;
use flow_vae::{Activation, Estimates, ImportanceSampling};

use super::{MEASURED, VaeSettings, VaeTask};
use crate::{
    cli::{EvaluateArgs, Subjects},
    data::{self, Images, Splits},
    evaluation::{Split, figure, record},
    run::{RunDir, rows::EVALUATIONS, trained::Trained},
    task::Settings,
    terminal::{bar, say},
};
use report::{Evaluation, differences, to_json};

pub use report::{Row, nll};

const IMAGES_AT_ONCE: usize = 50;

/// The most numbers that a tensor has, be it of pixels, of a hidden layer or of the flow's parameters: 32 MiB.
const NUMBERS_AT_ONCE: usize = 1 << 23;

/// The images of a part of the data.
fn images(split: Split, splits: &Splits) -> &Images {
    match split {
        Split::Valid => &splits.valid,
        Split::Test => &splits.test,
    }
}

/// Samples an image where no number is asked for.
const SAMPLES: usize = 5_000;

/// The most samples of an image.
const MOST: usize = 1_000_000;

/// Evaluates runs, prints the results, adds each to its run's `evaluations.csv`, and compares the runs with the first.
///
/// # Errors
///
/// When a run, its data or the backend cannot be had, when runs cannot be compared image by image, or when a result is
/// not finite or cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let subjects = open(&args.of, |all| all)?;
    let mut evaluations = Vec::new();
    let mut recorded = Ok(());
    for subject in &subjects {
        let evaluation = subject.evaluate(args)?;
        if !args.json {
            let apart = if evaluations.is_empty() { "" } else { "\n" };
            say(format_args!("{apart}{evaluation}"));
        }
        // What took long to compute is shown also where it cannot be written.
        recorded = recorded.and(record(&subject.run, EVALUATIONS, &evaluation.row));
        evaluations.push(evaluation);
    }
    if args.json {
        say(to_json(&evaluations));
    } else {
        for difference in differences(&evaluations) {
            say(format_args!("\n{difference}"));
        }
    }
    recorded
}

/// A run and the images that it is evaluated on.
pub struct Subject {
    pub run: RunDir,
    pub trained: Trained<VaeTask>,
    pub images: Images,
    /// CRC-32 of their bytes.
    bytes: u32,
    /// CRC-32 of what the model sees: of zeros and ones, a byte each, or of the bytes of numbers between.
    draw: u32,
}

/// The runs, all on one backend, as far as they can be compared: what can be refused is refused before the long part. Of
/// all images the first are taken, as many as `count` says of how many there are.
pub fn open(args: &Subjects, count: impl Fn(usize) -> usize) -> Result<Vec<Subject>> {
    let mut runs = Vec::new();
    for path in &args.runs {
        let run = RunDir::open(path)?;
        let settings = args.apply(run.settings()?);
        runs.push((run, settings));
    }
    let first = &runs.first().context("no run is given")?.1;
    let backend = first.training().backend;
    let device = first.training().open_device()?;
    let mut subjects: Vec<Subject> = Vec::new();
    for (run, mut settings) in runs {
        settings.training_mut().backend = backend;
        let place = |of: &VaeSettings| (of.dataset.clone(), of.data_dir.clone(), of.valid_images);
        let at_hand = (subjects.last().map(|last| &last.trained))
            .filter(|last| place(last.settings()) == place(&settings));
        let splits = match at_hand {
            Some(last) => last.task.splits.clone(),
            None => data::load(&settings.dataset, settings.data_dir.as_deref())?,
        };
        let epoch = args.epoch.map(|epoch| epoch.get());
        if epoch.is_none() {
            run.tell_of_a_better_one(MEASURED)?;
        }
        let task = VaeTask::new(settings, splits)?;
        let trained = Trained::of_epoch(&run, epoch, task, device.clone())?;
        let subject = Subject::new(run, trained, args.split(), &count)?;
        if let Some(first) = subjects.first() {
            subject.check_pairs_with(first, args.split())?;
        }
        subjects.push(subject);
    }
    Ok(subjects)
}

impl Subject {
    fn new(
        run: RunDir,
        trained: Trained<VaeTask>,
        split: Split,
        count: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let all = images(split, &trained.task.splits);
        let count = count(all.len());
        ensure!(
            count <= all.len(),
            "--images {count}: {} has {} {split} images",
            trained.settings().dataset,
            all.len()
        );
        let images = all.slice(0..count);
        let (mut bytes, mut draw) = (Crc::new(), Crc::new());
        let mut pixels = vec![0.0; images.pixels_per_image()];
        for index in 0..images.len() {
            bytes.update(images.get(index));
            trained.see(&images, index, &mut pixels);
            let seen: Vec<u8> = match trained.settings().binarization {
                Some(_) => pixels.iter().map(|&pixel| u8::from(pixel > 0.5)).collect(),
                None => pixels.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            draw.update(&seen);
        }
        Ok(Self {
            run,
            trained,
            images,
            bytes: bytes.sum(),
            draw: draw.sum(),
        })
    }

    pub fn name(&self) -> String {
        self.run.path().display().to_string()
    }

    /// Refuses runs whose differences would not be of the same images.
    fn check_pairs_with(&self, first: &Self, split: Split) -> Result<()> {
        let no_pairs = || {
            format!(
                "{} and {} cannot be compared image by image",
                first.name(),
                self.name()
            )
        };
        let key = |of: &Self| (of.images.len(), of.images.side(), of.bytes);
        let what = |of: &Self| {
            let (n, side) = (of.images.len(), of.images.side());
            format!(
                "{n} of {side} x {side} of {}",
                of.trained.settings().dataset
            )
        };
        ensure!(
            key(self) == key(first),
            "{}: their {split} images differ ({}; {})",
            no_pairs(),
            what(first),
            what(self)
        );
        // Only binarisations differ on the same images.
        let how = |of: &Self| {
            of.trained
                .settings()
                .binarization
                .map_or("none".into(), |how| how.to_string())
        };
        ensure!(
            self.draw == first.draw,
            "{}: their binarisations differ ({}; {}): name one for both with --binarization",
            no_pairs(),
            how(first),
            how(self)
        );
        Ok(())
    }

    fn evaluate(&self, args: &EvaluateArgs) -> Result<Evaluation> {
        let settings = self.trained.settings();
        let (samples, args) = (
            args.samples.map_or(SAMPLES, |samples| samples.get()),
            &args.of,
        );
        ensure!(
            samples <= MOST,
            "--samples {samples}: at most {MOST} an image"
        );
        let started = Instant::now();
        let estimates = self.estimate(samples, args.seed())?;
        let each = [&estimates.elbo, &estimates.kl, &estimates.log_likelihood];
        self.check_finite(&each, args.split())?;
        let seconds = started.elapsed().as_secs_f64();
        let (elbo, elbo_se) = figure(&estimates.elbo);
        let (reconstruction, reconstruction_se) = figure(&estimates.reconstruction);
        let (kl, kl_se) = figure(&estimates.kl);
        let (log_likelihood, nll_se) = figure(&estimates.log_likelihood);
        let (gap, gap_se) = figure(&estimates.gap());
        let row = Row {
            epoch: self.trained.epoch,
            valid_elbo: self.trained.valid_score,
            dataset: settings.dataset.clone(),
            split: args.split(),
            binarization: settings.binarization,
            draw: self.draw(),
            images: self.images.len(),
            samples,
            noise_seed: args.seed(),
            elbo,
            elbo_se,
            reconstruction,
            reconstruction_se,
            kl,
            kl_se,
            nll: -log_likelihood,
            nll_se,
            gap,
            gap_se,
            backend: settings.training.backend,
            seconds,
        };
        Ok(Evaluation {
            run: self.name(),
            weights: self.trained.file.display().to_string(),
            heading: self.heading(args, seconds),
            row,
            estimates,
        })
    }

    /// The checksum of the numbers that the model sees.
    pub fn draw(&self) -> String {
        format!("crc32:{:08x}", self.draw)
    }

    /// What was evaluated, in words.
    pub fn heading(&self, args: &Subjects, seconds: f64) -> String {
        let settings = self.trained.settings();
        let epoch = match self.trained.epoch {
            Some(epoch) => format!("epoch {epoch}"),
            None => "unknown epoch".into(),
        };
        let all = images(args.split(), &self.trained.task.splits).len();
        let first = if self.images.len() < all {
            "the first "
        } else {
            ""
        };
        let binarization = settings
            .binarization
            .map_or("not binarised".into(), |how| format!("{how} binarisation"));
        format!(
            "{}: {epoch}, weights in {}, on {}, in {seconds:.1} s\n\
             {first}{} {} images of {}, {binarization} ({}), noise seed {}",
            self.name(),
            self.trained.file.display(),
            settings.training.backend,
            self.images.len(),
            args.split(),
            settings.dataset,
            self.draw(),
            args.seed()
        )
    }

    fn estimate(&self, samples: usize, seed: u64) -> Result<Estimates> {
        let (trained, images) = (&self.trained, &self.images);
        let (images_at_once, rows_at_once) = self.at_once();
        let sampling = ImportanceSampling {
            samples,
            rows_at_once,
        };
        let bar = bar(images.len() as u64, "images");
        let mut all = Estimates::default();
        for images in images.batches(images_at_once) {
            let noise = trained.noise(&images, seed);
            let batch = sampling.estimate(&trained.model, trained.seen(&images), noise)?;
            all.elbo.extend(batch.elbo);
            all.reconstruction.extend(batch.reconstruction);
            all.kl.extend(batch.kl);
            all.log_likelihood.extend(batch.log_likelihood);
            bar.inc(images.len() as u64);
        }
        bar.finish_and_clear();
        Ok(all)
    }

    /// How many images, and how many posterior samples of all of them together, are computed at once.
    pub fn at_once(&self) -> (usize, usize) {
        at_once(self.trained.settings(), self.images.pixels_per_image())
    }

    /// Refuses estimates, each of all images, that are not finite: a mean over all but the images that overflow would be of
    /// something else.
    pub fn check_finite(&self, estimates: &[&Vec<f64>], split: Split) -> Result<()> {
        let all = self.images.len();
        let finite =
            (0..all).filter(|&image| (estimates.iter()).all(|values| values[image].is_finite()));
        let lost = all - finite.count();
        ensure!(
            lost == 0,
            "{}: the estimates of {lost} of {all} {split} images are not finite with the weights {}{}: \
             they were damaged, or training had diverged; evaluate another epoch with --epoch",
            self.name(),
            self.trained
                .epoch
                .map_or(String::new(), |epoch| format!("of epoch {epoch} in ")),
            self.trained.file.display(),
        );
        Ok(())
    }
}

/// [`Subject::at_once`] of images of so many pixels.
fn at_once(settings: &VaeSettings, pixels: usize) -> (usize, usize) {
    let fitting = |numbers: usize| (NUMBERS_AT_ONCE / numbers).max(1);
    let window = match settings.activation {
        Activation::Maxout { window } => window,
        Activation::Tanh | Activation::Relu => 1,
    };
    let latent_dim = settings.latent_dim.get();
    let hidden = settings.hidden.iter().map(|width| width.get() * window);
    let outputs = settings.likelihood().outputs(pixels);
    // As numbers of so many digits, which saturate.
    let flow = (settings.flow).size(latent_dim, Some(settings.features()));
    let (of_context, of_point) = (flow.of_context as usize, flow.of_point as usize);
    let widest = hidden.fold(outputs.max(latent_dim).max(of_point), usize::max);
    let rows = fitting(widest);
    (
        fitting(of_context.max(1)).min(rows).min(IMAGES_AT_ONCE),
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_are_computed_few_at_once() {
        let mut settings = VaeSettings {
            latent_dim: 40.try_into().unwrap(),
            ..VaeSettings::default()
        };
        let rows = NUMBERS_AT_ONCE / 1600; // 400 units of window 4
        assert_eq!(at_once(&settings, 784), (IMAGES_AT_ONCE, rows));
        assert_eq!(at_once(&settings, 256 * 256), (IMAGES_AT_ONCE, 128));
        assert_eq!(at_once(&settings, 4096 * 4096), (1, 1));
        settings.flow.layers = 10_000;
        assert_eq!(at_once(&settings, 784), (NUMBERS_AT_ONCE / 810_000, rows));
    }
}
