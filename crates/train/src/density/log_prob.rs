//! `train log-prob`: the log-density of points of a file.

use anyhow::{Result, bail};

use super::DensityTask;
use crate::{
    cli::LogProbArgs,
    points,
    run::{RunDir, trained::Trained},
    sample::write_csv,
    terminal::warn,
};

/// # Errors
///
/// When the run, its points or the backend cannot be had, when the file has not the columns that the density is of, or what
/// is computed is not finite or cannot be written.
pub fn run(args: &LogProbArgs) -> Result<()> {
    let run = RunDir::open(&args.run)?;
    let settings = args.place.apply_to_points(run.settings()?);
    let trained = Trained::<DensityTask>::load(&run, settings)?;
    let rows = points::read_for(&args.points, &trained.task.points.standardization)?;
    if let Some(warning) = rows.warning() {
        warn(format_args!(
            "warning: {}: {warning}",
            args.points.display()
        ));
    }
    let log_probs = trained.log_probs(&rows.points)?;
    if let Some(row) = log_probs.iter().position(|p| !p.is_finite()) {
        bail!(
            "{}: the log-density of row {} is not finite: it lies too far from all that the density was fitted to",
            args.points.display(),
            row + 1
        );
    }
    let rows = log_probs.into_iter().map(|p| Ok(vec![p]));
    write_csv(args.output.as_deref(), &["log_prob".to_owned()], rows)
}
