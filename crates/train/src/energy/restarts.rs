//! Fits of one energy with several seeds, a run folder each in the run's: the reverse KL has bad optima, and which a fit ends
//! in is for its seed to say.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{BAD, EnergySettings, EnergyTask, MEASURED, sample::PICTURE};
use crate::{
    cli::EnergyArgs,
    learn::{self, Diverged, Ending, Plan, StopRequest},
    run::RunDir,
    task::{Settings, Task, TaskName},
    terminal::{say, warn},
};

/// Trains, or goes on with, one fit, or as many as `--restarts` says, one after the other. One that diverges is told of, and
/// does not keep the others from being tried.
///
/// # Errors
///
/// See [`learn::run`]; and when all diverge.
pub fn train(args: &EnergyArgs) -> Result<Ending> {
    let mut plan = Plan::of(args)?;
    if let Some(run) = plan.resumed() {
        check(run, &plan.settings)?;
    }
    let stop = StopRequest::default();
    let Some(seeds) = plan.settings.seeds() else {
        return learn::run::<EnergyTask>(plan, &stop);
    };
    let (first, count) = (plan.settings.training.seed, plan.settings.restarts.get());
    ensure!(
        first.checked_add(count as u64).is_some(),
        "--seed {first} and --restarts {count}: there are no seeds beyond 2^64"
    );
    // Nothing is written before all that the user gave is known to be good.
    let mut task = EnergyTask::open(plan.settings)?;
    task.settings_mut().make_saved()?;
    let settings = task.settings().clone();
    settings.training.backend.device()?;
    plan.settings = settings.clone();
    if let Some(run) = plan.resumed() {
        for seed in seeds.clone() {
            check_fit(&run.of_seed(seed), &of_seed(&settings, seed))?;
        }
    }
    let (run, _lock) = plan.begin()?;
    run.save_settings(&settings)?;
    for seed in seeds {
        let fit = of_seed(&settings, seed);
        let path = run.of_seed(seed);
        if is_whole(&path, &fit)? {
            continue;
        }
        let ended = match stop.is_asked() {
            true => Ok(Ending::Stopped),
            false => Plan::at(path, fit).and_then(|plan| learn::run::<EnergyTask>(plan, &stop)),
        };
        match ended {
            Ok(Ending::Complete) => {}
            Ok(Ending::Stopped) => {
                say(format_args!(
                    "go on with all fits:               {} --resume {}",
                    TaskName::Energy.cargo_command(),
                    run.path().display()
                ));
                return Ok(Ending::Stopped);
            }
            Err(error) if error.is::<Diverged>() => {
                warn(format_args!("seed {seed}: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    conclude(run, &settings)?;
    Ok(Ending::Complete)
}

/// Refuses to make several fits of one, or fewer of several.
fn check(run: &RunDir, settings: &EnergySettings) -> Result<()> {
    let path = run.path().display();
    let (before, now) = (
        run.settings::<EnergySettings>()?.restarts,
        settings.restarts,
    );
    ensure!(
        before.get() > 1 || now.get() == 1,
        "{path} is one fit: begin {now} with {} --config {path}/config.json --restarts {now}",
        TaskName::Energy
    );
    ensure!(
        now >= before,
        "{path} has {before} fits, and --restarts is how many there will be in all: give {before} or more"
    );
    Ok(())
}

/// The settings of one of the fits.
fn of_seed(settings: &EnergySettings, seed: u64) -> EnergySettings {
    let mut fit = settings.clone();
    (fit.training.seed, fit.restarts) = (seed, super::one());
    fit
}

/// Refuses to go on with what is not this fit, if anything is there, and with one that has more epochs.
fn check_fit(path: &Path, fit: &EnergySettings) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let shown = path.display();
    let run = RunDir::open(path).with_context(|| {
        format!("{shown} is in the way of a fit: move it away, and that fit begins anew")
    })?;
    let there = run.settings::<EnergySettings>()?;
    let mut as_there = fit.clone();
    as_there.training.epochs = there.training.epochs;
    as_there.training.backend = there.training.backend;
    as_there.training.versions = there.training.versions.clone();
    ensure!(
        there == as_there,
        "{shown} is a fit of other settings than the folder around it: one of the two config.json was exchanged; put it back, or \
         move {shown} away, and that fit begins anew"
    );
    let (done, epochs) = (
        run.checkpoints().last().copied().unwrap_or(0),
        fit.training.epochs,
    );
    ensure!(
        done <= epochs.get(),
        "{shown} has {done} epochs already, and --epochs is how many there will be in all: give {done} or more"
    );
    Ok(())
}

/// Whether a fit has all its epochs, and its pictures.
fn is_whole(path: &Path, fit: &EnergySettings) -> Result<bool> {
    let Ok(run) = RunDir::open(path) else {
        return Ok(false);
    };
    let summary = run.summary()?;
    let has_all = summary.is_some_and(|summary| summary.epochs == fit.training.epochs.get());
    // The last that is made of a run.
    Ok(has_all && path.join(PICTURE).is_file() && run.model_file().is_file())
}

/// Says how near each fit has come by its best epoch's validation, which of them is the best, and how many are in a bad
/// optimum.
fn conclude(run: RunDir, settings: &EnergySettings) -> Result<()> {
    let log_z = settings.energy.log_z();
    let mut distances = Vec::new();
    for fit in run.clone().fits::<EnergySettings>()? {
        let fit = fit?;
        let seed = fit.settings::<EnergySettings>()?.training.seed;
        match fit.best_row(MEASURED)? {
            Some(row) if fit.has_weights() => distances.push((log_z - row.valid_score(), seed)),
            _ => say(format_args!("seed {seed}: diverged in its first epoch")),
        }
    }
    distances.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (kl, seed) in &distances {
        say(format_args!(
            "seed {seed}: KL(q||p) {kl:.4} nats by validation"
        ));
    }
    let &(nearest, best) = distances
        .first()
        .context("no fit finished an epoch: start anew with a lower --lr")?;
    let bad = distances.iter().filter(|(kl, _)| *kl > nearest + BAD);
    let path = run.path().display();
    say(format_args!(
        "the best of {} fits is that of seed {best}; {} in a bad optimum, more than {BAD} nats from it",
        distances.len(),
        match bad.count() {
            1 => "1 is".into(),
            count => format!("{count} are"),
        }
    ));
    say(format_args!(
        "evaluate it with:                  cargo run -p train -- evaluate {path}"
    ));
    Ok(())
}
