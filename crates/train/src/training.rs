//! `train`: a new run, or one that goes on.

use std::{
    error::Error,
    fs::File,
    sync::{Arc, Mutex},
};

use anyhow::{Result, bail, ensure};
use burn::{
    module::Module,
    tensor::{Bytes, Device},
    train::{ExecutionStrategy, Interrupter, Learner, SupervisedTraining, TrainingError},
};

use crate::{
    checkpoint::{self, Origin, Part, PartFiles, SaveAll, Sum, damaged},
    cli::TrainArgs,
    config::RunConfig,
    data::{self, EpochLoader, Images, Role, Splits},
    history::History,
    learner::{MeanMetric, Trainee},
    pack,
    progress::{NoMetricFiles, Progress, say},
    run_dir::{RunDir, Summary},
    sample,
    stop::StopRequest,
    trained::{Trained, load_weights},
    watch::Watch,
};

/// How a training ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Complete,
    /// The user stopped it.
    Stopped,
}

/// Trains, or goes on with, a run and leaves its folder complete.
///
/// # Errors
///
/// When anything the user gave cannot be used, when the folder cannot be written, or when training fails;
/// what was saved before stays.
pub fn run(args: &TrainArgs) -> Result<Ending> {
    let session = Session::open(args)?;
    let ending = if session.done < session.config.epochs.get() {
        session.train()?
    } else {
        Ending::Complete
    };
    session.conclude()?;
    Ok(ending)
}

/// A run that is being trained.
struct Session {
    run: RunDir,
    /// Held for as long as this lives.
    _lock: Option<File>,
    config: RunConfig,
    device: Device,
    splits: Splits,
    /// The epochs of the last checkpoint, which training goes on from.
    done: usize,
    history: Arc<Mutex<History>>,
}

impl Session {
    fn open(args: &TrainArgs) -> Result<Self> {
        let resumed = args.resume.as_deref().map(RunDir::open).transpose()?;
        let mut lock = resumed.as_ref().map(RunDir::lock).transpose()?.flatten();
        let config = match &resumed {
            Some(run) => args.apply(run.config()?),
            None => args.config()?,
        };
        let device = config.backend.device()?;
        let splits = data::load(&config.dataset, config.data_dir.as_deref())?;
        let config = config.absolute()?;
        config.validate(splits.train.pixels_per_image())?;
        splits.check(config.binarization)?;
        let config = config.into_saved();

        // Nothing is written before all that the user gave is known to be good.
        let run = match resumed {
            Some(run) => run,
            None => {
                let run = RunDir::create(args.output.as_deref(), &config)?;
                lock = run.lock()?;
                run
            }
        };
        let done = run.checkpoints().last().copied().unwrap_or(0);
        ensure!(
            done <= config.epochs.get(),
            "{} has {done} epochs already, and --epochs is how many there will be in all: give {done} or more",
            run.path().display()
        );
        let mut history = History::load(&run.metrics_file())?;
        // Two rows may come before the first checkpoint, which is saved while the second epoch is trained.
        ensure!(
            done > 0 || (history.len() <= 2 && !run.model_file().exists()),
            "{run} has no checkpoint left to go on from, and training from the start would replace its results: \
             begin a new run with --config {run}/config.json",
            run = run.path().display()
        );
        history.truncate(done);
        ensure!(
            history.len() == done,
            "{} lacks epochs that the checkpoint of epoch {done} came after: put it back as it was",
            run.metrics_file().display()
        );
        checkpoint::check_metrics(&run, &run.checkpoints(), &history)?;
        checkpoint::prepare(&run)?;
        Ok(Self {
            run,
            _lock: lock,
            config,
            device,
            splits,
            done,
            history: Arc::new(Mutex::new(history)),
        })
    }

    /// Hands everything to burn-train.
    fn train(&self) -> Result<Ending> {
        let (config, path) = (&self.config, self.run.path());
        let origin = Origin::new(config, &self.splits);
        let model = self.model();
        self.introduce(&model);
        if self.done > 0 {
            check_checkpoint(
                &self.run,
                &model,
                self.done,
                &origin,
                self.splits.train.side(),
            )?;
        }
        let [model_files, optim_files, scheduler_files] =
            PartFiles::new(&self.run, origin, self.history.clone());
        self.run.save_config(config)?;

        let interrupter = Interrupter::new();
        let stop = StopRequest::default();
        let progress = Progress::new(self.history.clone(), interrupter.clone(), stop.clone());
        stop.listen(interrupter.clone(), !progress.is_dashboard())?;
        let train = self.loader(&self.splits.train, Role::Train);
        let valid = self.loader(&self.splits.valid, Role::Valid);
        let mut training = SupervisedTraining::new(path, train, valid)
            .with_training_strategy(ExecutionStrategy::single(self.device.clone()).into())
            .metrics((
                MeanMetric::elbo(),
                MeanMetric::reconstruction(),
                MeanMetric::kl(),
            ))
            .metric_train_numeric(MeanMetric::gradient_norm())
            .metric_train_numeric(MeanMetric::clipped())
            .metric_valid_numeric(MeanMetric::raw_elbo())
            .with_metric_logger(NoMetricFiles)
            .with_application_logger(None)
            .with_custom_checkpointers(model_files, optim_files, scheduler_files)
            .with_checkpointing_strategy(SaveAll)
            .early_stopping(stop)
            .with_interrupter(interrupter)
            .renderer(Box::new(progress))
            .num_epochs(config.epochs.get());
        if self.done > 0 {
            training = training.checkpoint(self.done);
        }
        let rate = config
            .rate(self.splits.train.len())
            .with_flow(config.flow_lr);
        let result = training.launch(Learner::new(model, config.optimizer.init(), rate));
        // Gives the terminal back before anything else is said.
        drop(result.renderer);
        self.ending(result.error.as_deref())
    }

    /// The model that epoch 1 starts from.
    fn model(&self) -> Trainee {
        self.device.seed(self.config.seed);
        let pixels = self.splits.train.pixels_per_image();
        let device = self.device.clone().autodiff();
        let vae = self.config.model(pixels).init(&device);
        let steps = self
            .splits
            .train
            .len()
            .div_ceil(self.config.batch_size.get());
        let mut watch = Watch::new(
            self.config.likelihood(),
            pixels,
            self.config.batch_size.get(),
        );
        let history = self.history.lock().expect("no panic while locked");
        if let Some(best) = history.best_in_training() {
            watch = watch.after(self.done * steps, best);
        }
        Trainee::new(vae, self.config.anneal, steps, &device)
            .after(self.done)
            .watched(watch)
    }

    fn loader(&self, images: &Images, role: Role) -> Arc<EpochLoader> {
        let (batching, next) = (self.config.batching(), self.done + 1);
        Arc::new(EpochLoader::new(
            images.clone(),
            role,
            batching,
            next,
            self.device.clone(),
        ))
    }

    fn introduce(&self, model: &Trainee) {
        let side = self.splits.train.side();
        say(format_args!(
            "{} in {}: {} ({} training, {} validation and {} test images of {side} x {side}), \
             K = {}, {} weights, on {}",
            if self.done > 0 {
                "resuming"
            } else {
                "training"
            },
            self.run.path().display(),
            self.config.dataset,
            self.splits.train.len(),
            self.splits.valid.len(),
            self.splits.test.len(),
            self.config.layers,
            model.vae.num_params(),
            self.config.backend,
        ));
    }

    fn ending(&self, error: Option<&TrainingError>) -> Result<Ending> {
        let path = self.run.path().display();
        let saved = self.run.checkpoints().last().copied().unwrap_or(0);
        if let Some(error) = error {
            let rest = match saved {
                0 => "no epoch was finished, so there is no checkpoint".into(),
                saved => format!("the checkpoint of epoch {saved} is kept in {path}"),
            };
            bail!("training stopped: {}; {rest}", describe(error));
        }
        if saved == self.config.epochs.get() {
            return Ok(Ending::Complete);
        }
        let at = match saved {
            0 => "before the end of epoch 1".into(),
            saved => format!("after epoch {saved}, which is saved"),
        };
        say(format_args!(
            "stopped {at}; go on with: cargo run -p train -- --resume {path}"
        ));
        Ok(Ending::Stopped)
    }

    /// Leaves the best model, the pictures and the summary in the folder, if any epoch was finished.
    fn conclude(self) -> Result<()> {
        let run = self.run;
        let Some(&epochs) = run.checkpoints().last() else {
            return Ok(());
        };
        let best = run.best()?;
        let origin = Origin::new(&self.config, &self.splits);
        let trained = Trained::new(&run, self.config, self.device, self.splits)?;
        let model = trained.vae.clone().into_record().into_bytes()?;
        run.write("model.bpk", &model)?;

        let mut history = self.history.lock().expect("not poisoned");
        // Of what is saved.
        history.truncate(epochs);
        let (seconds, last) = (history.seconds(), history.last());
        let summary = Summary {
            epochs,
            best_epoch: best.epoch,
            valid_elbo: best.valid_elbo,
            valid_kl: best.valid_kl,
            weights: trained.vae.num_params(),
            seconds,
            backend: trained.config.backend,
            model: Sum::of(&model),
            origin,
        };
        let mut json = serde_json::to_string_pretty(&summary)?;
        json.push('\n');
        run.write("summary.json", json.as_bytes())?;
        let last = match last {
            Some(last) if last.epoch != best.epoch => format!(", the last {:.2}", last.valid_elbo),
            _ => String::new(),
        };
        say(format_args!(
            "best epoch {} of {epochs}: validation ELBO {:.2} nats{last}; {seconds:.1} s of training",
            best.epoch, best.valid_elbo
        ));
        sample::draw(&run, &trained)?;
        say(format_args!(
            "evaluate it with:                  cargo run -p train -- evaluate {}",
            run.path().display()
        ));
        Ok(())
    }
}

/// burn-train panics on a checkpoint that it cannot load, so it is tried first.
fn check_checkpoint(
    run: &RunDir,
    model: &Trainee,
    epoch: usize,
    origin: &Origin,
    side: usize,
) -> Result<()> {
    load_weights(run, model.clone(), epoch, origin, side)?;
    let read = |part| {
        let (file, bytes) = checkpoint::read(run, epoch, part, origin)?;
        anyhow::Ok((file, Bytes::from_bytes_vec(bytes)))
    };
    let ((_, model), (file, optimizer)) = (read(Part::Model)?, read(Part::Optim)?);
    pack::check_optimizer(optimizer, model).map_err(|_| damaged(&file))?;
    let (file, scheduler) = read(Part::Scheduler)?;
    pack::check_scheduler(scheduler).map_err(|_| damaged(&file))
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
