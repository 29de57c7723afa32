//! `train report`: what runs have come to, in a folder of its own.

pub mod folder;

use anyhow::{Result, bail};

use crate::{cli::ReportArgs, energy, run::RunDir, task::TaskName, vae};

/// # Errors
///
/// When a run cannot be read, runs are of several kinds, or the folder holds something else or cannot be written.
pub fn run(args: &ReportArgs) -> Result<()> {
    let first = &args.runs[0];
    match RunDir::open(first)?.task()? {
        TaskName::Vae => vae::report::run(args),
        TaskName::Energy => energy::report::run(args),
        TaskName::Density => bail!(
            "{}: runs of `{}` have no report; `train evaluate RUN…` prints them one after another",
            first.display(),
            TaskName::Density
        ),
    }
}
