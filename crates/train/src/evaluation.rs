//! What evaluations of all kinds of runs have in common.

use std::fmt;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use flow_vae::Mean;
use serde::{Deserialize, Serialize};

use crate::{
    cli::EvaluateArgs,
    density, energy,
    run::{RunDir, rows::EVALUATIONS, trained::Trained},
    task::{Task, TaskName},
    terminal::{say, warn},
    vae,
};

/// Which part of the data is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the best epoch was chosen by
    Valid,
    /// What nothing was chosen by
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "validation",
            Self::Test => "test",
        })
    }
}

/// `train evaluate`: how good a run's best model is; of several runs, all of one kind.
///
/// # Errors
///
/// When a run, its data or the backend cannot be had, when runs are of several kinds, or when a result is not finite or
/// cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    match RunDir::open(&args.of.runs[0])?.task()? {
        TaskName::Vae => vae::evaluate::run(args),
        TaskName::Density => density::evaluate::run(args),
        TaskName::Energy => energy::evaluate::run(args),
    }
}

/// Refuses flags that are given and say nothing of this kind of run.
///
/// # Errors
///
/// With the first such flag.
pub fn refuse(task: TaskName, flags: &[(&str, bool)]) -> Result<()> {
    for (flag, is_given) in flags {
        ensure!(
            !is_given,
            "{flag} says nothing of a run of `{task}`: leave it out"
        );
    }
    Ok(())
}

/// Adds a row to a file of the run, [`EVALUATIONS`] or [`ESTIMATES`](crate::run::rows::ESTIMATES).
///
/// # Errors
///
/// When the folder cannot be written.
pub fn record(run: &RunDir, file: &str, row: &impl Serialize) -> Result<()> {
    if let Some(kept) = run.add_row(file, row)? {
        warn(format_args!(
            "{file} had other columns or half a row: it is kept as {}",
            kept.display()
        ));
    }
    Ok(())
}

/// A run and the row of its evaluation.
#[derive(Serialize)]
struct Evaluated<R> {
    run: String,
    weights: String,
    #[serde(flatten)]
    row: R,
}

/// Evaluates runs one after the other, of fits with several seeds the best by validation, with their settings as they are `here`: prints each, or in the end all as one JSON
/// object, and adds each to its run's `evaluations.csv`.
///
/// # Errors
///
/// When a run, what it names or the backend cannot be had, or a result cannot be written.
pub fn each<T: Task, R: Serialize + fmt::Display>(
    args: &EvaluateArgs,
    here: impl Fn(T::Settings) -> T::Settings,
    evaluate: impl Fn(&Trained<T>) -> Result<R>,
) -> Result<()> {
    let mut evaluated = Vec::new();
    let mut recorded = Ok(());
    for path in &args.of.runs {
        let epoch = args.of.epoch.map(|epoch| epoch.get());
        let (run, trained) = Trained::<T>::of_best_fit(RunDir::open(path)?, epoch, &here)?;
        let row = evaluate(&trained)?;
        let (run_name, weights) = (path.display(), trained.file.display());
        if !args.json {
            let apart = if evaluated.is_empty() { "" } else { "\n" };
            say(format_args!(
                "{apart}{run_name}: weights in {weights}\n{row}"
            ));
        }
        // What took long to compute is shown also where it cannot be written.
        recorded = recorded.and(record(&run, EVALUATIONS, &row));
        evaluated.push(Evaluated {
            run: run_name.to_string(),
            weights: weights.to_string(),
            row,
        });
    }
    if args.json {
        let all = serde_json::json!({ "runs": evaluated });
        say(serde_json::to_string_pretty(&all)?);
    }
    recorded
}

/// The mean and its standard error, which needs two values.
pub fn figure(values: &[f64]) -> (f64, Option<f64>) {
    let Mean {
        value,
        standard_error,
    } = Mean::of(values);
    (value, (values.len() > 1).then_some(standard_error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_no_standard_error() {
        assert_eq!(figure(&[-3.5]), (-3.5, None));
        assert_eq!(figure(&[1.0, 3.0]), (2.0, Some(1.0)));
    }
}
