//! `train evaluate`: the test set's ELBO, KL and importance-sampled NLL.

use std::{fs::OpenOptions, time::Instant};

use anyhow::{Context, Result};
use flow_vae::{Estimates, ImportanceSampling, Mean};
use serde::Serialize;

use crate::{
    backend::Backend,
    cli::EvaluateArgs,
    progress::{bar, say},
    run_dir::RunDir,
    trained::Trained,
};

/// Images at once, and posterior samples of them at once: about 100 MB for MNIST.
const IMAGES_AT_ONCE: usize = 50;
const ROWS_AT_ONCE: usize = 4_000;

/// A row of `evaluations.csv`: nats per image, each with its standard error over the images.
#[derive(Serialize)]
struct Row {
    epoch: usize,
    images: usize,
    samples: usize,
    elbo: f64,
    elbo_se: f64,
    kl: f64,
    kl_se: f64,
    nll: f64,
    nll_se: f64,
    backend: Backend,
    seconds: f64,
}

/// Evaluates the best model of a run, prints the result and adds it to `evaluations.csv`.
///
/// # Errors
///
/// When the run, its data or the backend cannot be had, or the result is not finite or cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    let trained = Trained::load(&run, args.place.apply(run.config()?))?;
    let samples = args.samples.get();
    let started = Instant::now();
    let estimates = estimate(&trained, samples)?;

    let elbo = Mean::of(&estimates.elbo);
    let kl = Mean::of(&estimates.kl);
    let log_likelihood = Mean::of(&estimates.log_likelihood);
    let row = Row {
        epoch: trained.epoch,
        images: estimates.elbo.len(),
        samples,
        elbo: elbo.value,
        elbo_se: elbo.standard_error,
        kl: kl.value,
        kl_se: kl.standard_error,
        nll: -log_likelihood.value,
        nll_se: log_likelihood.standard_error,
        backend: trained.config.backend,
        seconds: started.elapsed().as_secs_f64(),
    };
    say(report(&row, &trained));
    append(&run, &row)
}

fn estimate(trained: &Trained, samples: usize) -> Result<Estimates> {
    let test = &trained.splits.test;
    let sampling = ImportanceSampling {
        samples,
        rows_at_once: ROWS_AT_ONCE,
    };
    let bar = bar(test.len() as u64, "images");
    let mut all = Estimates::default();
    for start in (0..test.len()).step_by(IMAGES_AT_ONCE) {
        let images = test.slice(start..test.len().min(start + IMAGES_AT_ONCE));
        let batch = sampling.estimate(
            &trained.vae,
            trained.binarized(&images),
            trained.noise(&images),
        )?;
        all.elbo.extend(batch.elbo);
        all.kl.extend(batch.kl);
        all.log_likelihood.extend(batch.log_likelihood);
        bar.inc(images.len() as u64);
    }
    bar.finish_and_clear();
    Ok(all)
}

fn report(row: &Row, trained: &Trained) -> String {
    let Row { samples, .. } = row;
    let config = &trained.config;
    let nll = format!("NLL({samples})");
    format!(
        "{} test images of {}, {} binarisation, epoch {}, on {}, in {:.1} s\n\
         nats per image ± standard error over the images\n\
         {:<12} {:9.3} ± {:.3}\n\
         {:<12} {:9.3} ± {:.3}\n\
         {:<12} {:9.3} ± {:.3}",
        row.images,
        config.dataset,
        config.binarization,
        row.epoch,
        row.backend,
        row.seconds,
        "ELBO",
        row.elbo,
        row.elbo_se,
        "KL",
        row.kl,
        row.kl_se,
        nll,
        row.nll,
        row.nll_se,
    )
}

fn append(run: &RunDir, row: &Row) -> Result<()> {
    let path = run.evaluations_file();
    let failed = || format!("cannot write {}", path.display());
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(failed)?;
    let is_new = file.metadata().with_context(failed)?.len() == 0;
    let mut writer = csv::WriterBuilder::new()
        .has_headers(is_new)
        .from_writer(file);
    writer.serialize(row).with_context(failed)?;
    writer.flush().with_context(failed)
}
