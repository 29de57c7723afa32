//! `train`: a new run, or one that goes on.

use std::{
    error::Error,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, bail, ensure};
use burn::{
    module::Module,
    optim::{OptimizerRecord, lr_scheduler::LrSchedulerRecord},
    train::{ExecutionStrategy, Interrupter, Learner, SupervisedTraining, TrainingError},
};
use serde::Serialize;

use crate::{
    backend::Backend,
    checkpoint::{KeepBestAndLast, StopRequest},
    cli::TrainArgs,
    config::RunConfig,
    data::{self, EpochLoader, Role, Splits},
    history::History,
    learner::{MeanMetric, Trainee},
    progress::{NoMetricFiles, Progress, say},
    run_dir::RunDir,
    sample,
    trained::{Trained, damaged, load_weights},
};

/// How a training ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Complete,
    /// The user stopped it.
    Stopped,
}

/// `summary.json`.
#[derive(Serialize)]
struct Summary {
    epochs: usize,
    best_epoch: usize,
    /// At the best epoch, in nats per image.
    valid_elbo: f64,
    valid_kl: f64,
    weights: usize,
    /// Of training alone, over all sessions.
    seconds: f64,
    backend: Backend,
}

/// Trains, or goes on with, a run and leaves its folder complete.
///
/// # Errors
///
/// When anything the user gave cannot be used, when the folder cannot be written, or when training fails;
/// what was saved before stays.
pub fn run(args: &TrainArgs) -> Result<Ending> {
    let resumed = args.resume.as_deref().map(RunDir::open).transpose()?;
    let config = match &resumed {
        Some(run) => args.apply(run.config()?),
        None => args.config()?,
    };
    let device = config.backend.device()?;
    let splits = data::load(&config.dataset, config.data_dir.as_deref())?;
    config.validate(splits.train.pixels_per_image())?;

    let (run, done) = match resumed {
        Some(run) => {
            let done = run.checkpoints().last().copied().unwrap_or(0);
            run.save_config(&config)?;
            (run, done)
        }
        None => (RunDir::create(args.output.as_deref(), &config)?, 0),
    };

    device.seed(config.seed);
    let vae = config
        .model(splits.train.pixels_per_image())
        .init(&device.clone().autodiff());
    let model = Trainee::new(vae, config.anneal).materialize();
    introduce(&run, &config, &splits, &model, done);
    if done > 0 {
        check_checkpoint(&run, &model, done, splits.train.side())?;
    }

    let history = Arc::new(Mutex::new(History::load(&run.metrics_file())?));
    history.lock().expect("not poisoned").truncate(done);
    let stop = StopRequest::default();
    let ending = if done < config.epochs.get() {
        launch(&run, &config, &splits, device, model, done, &history, &stop)?
    } else {
        Ending::Complete
    };
    conclude(&run, config, &history)?;
    Ok(ending)
}

/// Hands everything to burn-train.
#[allow(clippy::too_many_arguments)]
fn launch(
    run: &RunDir,
    config: &RunConfig,
    splits: &Splits,
    device: burn::tensor::Device,
    model: Trainee,
    done: usize,
    history: &Arc<Mutex<History>>,
    stop: &StopRequest,
) -> Result<Ending> {
    let loader = |images: &data::Images, role| {
        let first_epoch = done + 1;
        let batching = config.batching();
        Arc::new(EpochLoader::new(
            images.clone(),
            role,
            batching,
            first_epoch,
            device.clone(),
        ))
    };
    let (train, valid) = (
        loader(&splits.train, Role::Train),
        loader(&splits.valid, Role::Valid),
    );

    let interrupter = Interrupter::new();
    listen_to_ctrl_c(stop.clone(), interrupter.clone())?;
    let progress = Progress::new(history.clone(), interrupter.clone(), stop.dashboard.clone());
    let keep = KeepBestAndLast {
        run: run.clone(),
        history: history.clone(),
    };
    let mut training = SupervisedTraining::new(run.path(), train, valid)
        .with_training_strategy(ExecutionStrategy::single(device).into())
        .metrics((
            MeanMetric::elbo(),
            MeanMetric::reconstruction(),
            MeanMetric::kl(),
        ))
        .with_metric_logger(NoMetricFiles)
        .with_application_logger(None)
        .with_default_checkpointers()
        .with_checkpointing_strategy(keep)
        .early_stopping(stop.clone())
        .with_interrupter(interrupter)
        .renderer(Box::new(progress))
        .num_epochs(config.epochs.get());
    if done > 0 {
        training = training.checkpoint(done);
    }
    let result = training.launch(Learner::new(model, config.optimizer.init(), config.lr));
    // Gives the terminal back before anything else is said.
    drop(result.renderer);

    let saved = run.checkpoints().last().copied().unwrap_or(0);
    if let Some(error) = result.error {
        let rest = if saved > 0 {
            format!(
                "the checkpoint of epoch {saved} is kept in {}",
                run.path().display()
            )
        } else {
            "no epoch was finished, so there is no checkpoint".into()
        };
        bail!("training stopped: {}; {rest}", describe(&error));
    }
    if saved < config.epochs.get() {
        let path = run.path().display();
        let at = match saved {
            0 => "before the end of epoch 1".into(),
            saved => format!("after epoch {saved}, which is saved"),
        };
        say(format_args!(
            "stopped {at}; go on with: cargo run -p train -- --resume {path}"
        ));
        return Ok(Ending::Stopped);
    }
    Ok(Ending::Complete)
}

/// The first Ctrl-C asks to stop after the epoch, the second stops at once.
fn listen_to_ctrl_c(stop: StopRequest, interrupter: Interrupter) -> Result<()> {
    ctrlc::set_handler(move || {
        if stop.ask() {
            interrupter.stop(Some("interrupted"));
        } else {
            eprintln!(
                "\nstopping after this epoch, when it is saved; Ctrl-C again stops at once and loses it"
            );
        }
    })
    .context("cannot listen to Ctrl-C")
}

/// burn-train panics on a checkpoint that it cannot load, so it is tried first.
fn check_checkpoint(run: &RunDir, model: &Trainee, epoch: usize, side: usize) -> Result<()> {
    load_weights(run, model.clone(), epoch, side)?;
    let optimizer = run.checkpoint_file("optim", epoch);
    OptimizerRecord::load(&optimizer).with_context(|| damaged(&optimizer))?;
    let scheduler = run.checkpoint_file("scheduler", epoch);
    LrSchedulerRecord::load(&scheduler).with_context(|| damaged(&scheduler))?;
    Ok(())
}

fn introduce(run: &RunDir, config: &RunConfig, splits: &Splits, model: &Trainee, done: usize) {
    let side = splits.train.side();
    let verb = if done > 0 { "resuming" } else { "training" };
    say(format_args!(
        "{verb} in {}: {} ({} training, {} validation and {} test images of {side} x {side}), K = {}, {} weights, on {}",
        run.path().display(),
        config.dataset,
        splits.train.len(),
        splits.valid.len(),
        splits.test.len(),
        config.layers,
        model.num_params(),
        config.backend,
    ));
}

/// Leaves the best model, the pictures and the summary in the folder, if any epoch was finished.
fn conclude(run: &RunDir, config: RunConfig, history: &Mutex<History>) -> Result<()> {
    if run.checkpoints().is_empty() {
        return Ok(());
    }
    let best = run.best()?;
    let trained = Trained::load(run, config)?;
    let weights = trained.vae.num_params();
    trained
        .vae
        .clone()
        .save_file(run.model_file())
        .with_context(|| format!("cannot write {}", run.model_file().display()))?;

    let seconds = history.lock().expect("not poisoned").seconds();
    let summary = Summary {
        epochs: *run.checkpoints().last().expect("there is one"),
        best_epoch: best.epoch,
        valid_elbo: best.valid_elbo,
        valid_kl: best.valid_kl,
        weights,
        seconds,
        backend: trained.config.backend,
    };
    let mut json = serde_json::to_string_pretty(&summary)?;
    json.push('\n');
    run.write("summary.json", json.as_bytes())?;
    say(format_args!(
        "best epoch {}: validation ELBO {:.2} nats; {seconds:.1} s of training",
        best.epoch, best.valid_elbo
    ));
    sample::draw(run, &trained)?;
    say(format_args!(
        "evaluate it with:                  cargo run -p train -- evaluate {}",
        run.path().display()
    ));
    ensure!(
        best.valid_elbo.is_finite(),
        "the validation ELBO is not finite"
    );
    Ok(())
}

/// The cause at the bottom of burn-train's error.
fn describe(error: &TrainingError) -> String {
    let mut cause: &dyn Error = error;
    if let TrainingError::EventProcessor(events) = error
        && let Some(failure) = events.failures().first()
    {
        cause = failure;
    }
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref() {
        Some(burn::tensor::ExecutionError::WithContext { reason }) => reason.clone(),
        _ => cause.to_string(),
    }
}
