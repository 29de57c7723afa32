//! `train sample`: what a run's best model makes, as pictures or as numbers.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cli::SampleArgs,
    density, energy,
    evaluation::refuse,
    run::{RunDir, disk::create_with, trained::Trained},
    task::{Task, TaskName},
    terminal::warn,
    vae::VaeTask,
};

/// # Errors
///
/// When the run, its data or the backend cannot be had, or what is made cannot be written.
pub fn run(args: &SampleArgs) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    match run.task()? {
        TaskName::Vae => {
            refuse(TaskName::Vae, &args.of_numbers())?;
            let trained = Trained::load(&run, args.place.apply(run.settings()?))?;
            trained.check_weights()?;
            VaeTask::draw(&run, &trained)
        }
        TaskName::Density => density::sample::run(args, &run),
        TaskName::Energy => energy::sample::run(args, run),
    }
}

/// Writes numbers as CSV to a new file, whole or not at all, or to standard output, below a header if it has names; a reader
/// that went away wants no more.
///
/// # Errors
///
/// When the file exists, or cannot be written.
pub fn write_csv(
    output: Option<&Path>,
    header: &[String],
    rows: impl Iterator<Item = Result<Vec<f64>>>,
) -> Result<()> {
    let Some(path) = output else {
        return match write(io::stdout().lock(), header, rows) {
            Err(error) if is_closed(&error) => Ok(()),
            written => written.context("cannot write to standard output"),
        };
    };
    let shown = path.display();
    ensure!(
        path.symlink_metadata().is_err(),
        "{shown} exists: name a new file with --output"
    );
    create_with(path, |file| write(file, header, rows))
        .with_context(|| format!("cannot write {shown}"))
}

fn write(
    to: impl Write,
    header: &[String],
    rows: impl Iterator<Item = Result<Vec<f64>>>,
) -> Result<()> {
    let mut writer = csv::Writer::from_writer(BufWriter::new(to));
    if !header.is_empty() {
        writer.write_record(header)?;
    }
    for row in rows {
        let row = row?;
        ensure!(
            row.iter().all(|number| number.is_finite()),
            "a sample is not finite: training had diverged, or its numbers are too large for single precision"
        );
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}

/// Those of some points that can be drawn; a warning tells how many others there are.
pub fn finite<P: AsRef<[f64]>>(mut points: Vec<P>) -> Vec<P> {
    let all = points.len();
    points.retain(|point| point.as_ref().iter().all(|number| number.is_finite()));
    if points.len() < all {
        warn(format_args!(
            "warning: {} of {all} samples are not finite, and not drawn: training had diverged, or their numbers are too large \
             for single precision",
            all - points.len()
        ));
    }
    points
}

fn is_closed(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| match cause.downcast_ref::<csv::Error>() {
        Some(error) => {
            matches!(error.kind(), csv::ErrorKind::Io(error) if error.kind() == ErrorKind::BrokenPipe)
        }
        None => (cause.downcast_ref::<io::Error>())
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe),
    })
}
