//! Fits of one energy with several seeds, a run folder each in the run's: the reverse KL has bad optima, and which a fit ends
//! in is for its seed to say.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{BAD, EnergySettings, EnergyTask, MEASURED, bad, sample::PICTURE};
use crate::{
    cli::EnergyArgs,
    learn::{self, Diverged, Ending, Plan, StopRequest},
    run::{
        RunDir,
        history::History,
        trained::{Trained, pass_over},
    },
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
    settings.training.open_devices()?;
    plan.settings = settings.clone();
    if let Some(run) = plan.resumed() {
        for seed in run.seeds_there(&seeds)? {
            check_fit(run, &settings, seed)?;
        }
    }
    let run = plan.begin()?;
    run.save_settings(&settings)?;
    let mut diverged = Vec::new();
    for seed in seeds {
        run.check()?;
        let fit = settings.of_seed(seed);
        let path = run.of_seed(seed);
        // Somebody may have put something there meanwhile.
        if run.has_seed(seed) {
            check_fit(&run, &settings, seed)?;
        }
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
                diverged.push(seed);
            }
            Err(error) => return Err(error),
        }
    }
    run.check()?;
    conclude(&run, &settings, &diverged)?;
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

/// Refuses to go on with what is there and is not this fit, and with one that has more epochs or has lost its own.
fn check_fit(run: &RunDir, settings: &EnergySettings, seed: u64) -> Result<()> {
    let path = run.of_seed(seed);
    let shown = path.display();
    let fit = run.fit(settings, seed)?;
    let (done, epochs) = (
        fit.checkpoints()?.last().copied().unwrap_or(0),
        settings.training.epochs,
    );
    ensure!(
        done <= epochs.get(),
        "{shown} has {done} epochs already, and each fit is to have {epochs} in all: give --epochs {done} or more"
    );
    if done == 0 && !is_whole(&path, settings)? {
        let history = History::load(&fit.metrics_file(), MEASURED)?;
        (fit.check_blank(&history))
            .with_context(|| format!("move {shown} away, and that fit begins anew"))?;
    }
    Ok(())
}

/// Whether a fit has all its epochs, and its pictures.
fn is_whole(path: &Path, fit: &EnergySettings) -> Result<bool> {
    let Ok(run) = RunDir::open(path) else {
        return Ok(false);
    };
    let summary = run.summary()?;
    let has_all = summary.is_some_and(|summary| summary.epochs == fit.training.epochs.get());
    Ok(has_all && path.join(PICTURE).is_file() && run.model_file().is_file())
}

/// Says how near each fit has come by its best epoch's validation, which of them is the best, how many are in a bad optimum,
/// and how many `diverged`.
fn conclude(run: &RunDir, settings: &EnergySettings, diverged: &[u64]) -> Result<()> {
    let log_z = settings.energy.log_z();
    let mut distances = Vec::new();
    for seed in settings.seeds().into_iter().flatten() {
        match validated(run, settings, seed) {
            Ok(elbo) => distances.push((log_z - elbo, seed)),
            Err(_) if diverged.contains(&seed) && !has_weights(run, seed) => {
                say(format_args!("seed {seed}: diverged in its first epoch"));
            }
            Err(error) => pass_over(&error),
        }
    }
    distances.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (kl, seed) in &distances {
        let until = match diverged.contains(seed) {
            true => ", before it diverged",
            false => "",
        };
        say(format_args!(
            "seed {seed}: KL(q||p) {kl:.4} nats by validation{until}"
        ));
    }
    let (path, fits) = (run.path().display(), settings.restarts);
    ensure!(
        diverged.len() < fits.get(),
        "all {fits} fits diverged: {}",
        MEASURED.advice
    );
    let &(nearest, best) = (distances.first())
        .with_context(|| format!("{path}: none of its fits can be used, for the reasons above"))?;
    let ended = (distances.iter()).filter(|(_, seed)| !diverged.contains(seed));
    say(format_args!(
        "the best of {fits} fits is that of seed {best}; {} in a bad optimum, more than {BAD} nats from it{}",
        match bad(ended.map(|(kl, _)| *kl), nearest) {
            1 => "1 is".into(),
            count => format!("{count} are"),
        },
        match diverged.len() {
            0 => String::new(),
            count => format!("; {count} diverged"),
        }
    ));
    say(format_args!(
        "evaluate it with:                  cargo run -p train -- evaluate {path}"
    ));
    Ok(())
}

fn has_weights(run: &RunDir, seed: u64) -> bool {
    let fit = RunDir::open(&run.of_seed(seed));
    fit.and_then(|fit| fit.has_weights()).unwrap_or(true)
}

/// The bound that a fit has come to by validation, if its weights can be had.
fn validated(run: &RunDir, settings: &EnergySettings, seed: u64) -> Result<f64> {
    let fit = run.fit(settings, seed)?;
    let row = fit.row_of_weights(MEASURED)?;
    Trained::<EnergyTask>::load(&fit, settings.of_seed(seed))?;
    Ok(row.valid_score())
}
