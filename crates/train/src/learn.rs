//! Training: a new run, or one that goes on, of any kind of model.

pub mod learner;
pub mod loader;
pub mod optimizer;
mod progress;
pub mod rate;
pub mod stop;
pub mod watch;

use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::{Error as AnyError, Result, anyhow, ensure};
use burn::{
    module::Module,
    store::{ModuleSnapshot, SafetensorsStore},
    tensor::{Bytes, Device, ExecutionError},
    train::{ExecutionStrategy, Learner, MultiDeviceOptim, SupervisedTraining, TrainingError},
};

use crate::{
    backend::DeviceName,
    cli::Flags,
    config::Training,
    curves, remote,
    run::{
        RunDir, Summary,
        checkpoint::{self, Origin, Part, PartFiles, SaveAll, Sum, damaged},
        history::History,
        pack,
        trained::{Trained, load_weights},
    },
    task::{Model, Settings, Task},
    terminal::{say, warn},
};
use learner::{MeanMetric, Trainee};
use loader::{EpochLoader, Role};
use progress::{NoMetricFiles, Progress};
use stop::EndOfEpoch;
pub use stop::StopRequest;
use watch::{Divergence, Watch};

/// How a training ended, when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Complete,
    /// The user stopped it.
    Stopped,
}

/// A training that was stopped because it had lost what it had learned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(String);

/// A run that is to be trained, before anything of it is written.
pub struct Plan<S> {
    /// The run that goes on, if one does, locked.
    resumed: Option<RunDir>,
    /// The folder of a new one; none for the first that is free.
    output: Option<PathBuf>,
    pub settings: S,
}

impl<S: Settings> Plan<S> {
    /// What a command line asks for.
    ///
    /// # Errors
    ///
    /// When there is no run to go on with, another process trains it, or settings are damaged.
    pub fn of(flags: &impl Flags<Settings = S>) -> Result<Self> {
        let args = flags.run();
        let resumed = args.resume.as_deref().map(RunDir::open).transpose()?;
        let resumed = resumed.map(RunDir::lock).transpose()?;
        let settings = match &resumed {
            Some(run) => flags.apply(run.settings()?),
            None => flags.settings()?,
        };
        Ok(Self {
            resumed,
            output: args.output.clone(),
            settings,
        })
    }

    /// A run with these settings in a folder of this name, which goes on where there is one.
    ///
    /// # Errors
    ///
    /// When another process trains it.
    pub fn at(path: PathBuf, settings: S) -> Result<Self> {
        let resumed = RunDir::open(&path).ok();
        Ok(Self {
            resumed: resumed.map(RunDir::lock).transpose()?,
            output: Some(path),
            settings,
        })
    }

    /// The run that goes on, if one does.
    pub fn resumed(&self) -> Option<&RunDir> {
        self.resumed.as_ref()
    }

    /// The run's folder, which is there from now on, locked.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or a new one exists.
    pub fn begin(self) -> Result<RunDir> {
        match self.resumed {
            Some(resumed) => Ok(resumed),
            None => RunDir::create(self.output.as_deref(), &self.settings),
        }
    }
}

/// Trains, or goes on with, what a command line asks for; see [`run`].
///
/// # Errors
///
/// See [`run`].
pub fn train<T: Task>(flags: &impl Flags<Settings = T::Settings>) -> Result<Ending> {
    run::<T>(Plan::of(flags)?, &StopRequest::default())
}

/// Trains, or goes on with, a run and leaves its folder complete.
///
/// # Errors
///
/// When anything the user gave cannot be used, when the folder cannot be written, or when training fails ([`Diverged`]
/// where it diverges); what was saved before stays.
pub fn run<T: Task>(plan: Plan<T::Settings>, stop: &StopRequest) -> Result<Ending> {
    let session = Session::<T>::open(plan)?;
    let ending = if session.done < session.epochs() {
        session.train(stop)?
    } else {
        session.save_epochs()?;
        Ending::Complete
    };
    session.conclude()?;
    Ok(ending)
}

/// A run that is being trained.
struct Session<T: Task> {
    /// Locked for as long as this lives.
    run: RunDir,
    task: T,
    /// The main one first.
    devices: Vec<Device>,
    /// The epochs of the last checkpoint, which training goes on from.
    done: usize,
    history: Arc<Mutex<History>>,
}

impl<T: Task> Session<T> {
    fn open(mut plan: Plan<T::Settings>) -> Result<Self> {
        let devices = plan.settings.training().open_devices()?;
        let mut task = T::open(plan.settings)?;
        task.settings_mut().make_saved()?;
        let items = task.dataset(Role::Train).len();
        ensure!(
            devices.len() <= items,
            "--devices: {} of them would share {items} {}s",
            devices.len(),
            T::Model::MEASURED.item
        );
        plan.settings = task.settings().clone();

        // Nothing is written before all that the user gave is known to be good.
        let run = plan.begin()?;
        let done = run.checkpoints()?.last().copied().unwrap_or(0);
        ensure!(
            done <= task.settings().training().epochs.get(),
            "{} has {done} epochs already, and --epochs is how many there will be in all: give {done} or more",
            run.path().display()
        );
        let mut history = History::load(&run.metrics_file(), T::Model::MEASURED)?;
        if done == 0 {
            run.check_blank(&history)?;
        }
        history.truncate(done);
        ensure!(
            history.len() == done,
            "{} lacks epochs that the checkpoint of epoch {done} came after: put it back as it was",
            run.metrics_file().display()
        );
        checkpoint::check_metrics(&run, &run.checkpoints()?, &history)?;
        checkpoint::prepare(&run)?;
        let history = history.of(&run);
        Ok(Self {
            run,
            task,
            devices,
            done,
            history: Arc::new(Mutex::new(history)),
        })
    }

    /// The main one.
    fn device(&self) -> &Device {
        &self.devices[0]
    }

    /// One device, or several that share each batch: the gradients are added up on the first, which holds all that there is
    /// to optimise, clip and average, and from which the weights go out again. (Burn's sharded optimiser would take each part
    /// of the weights by itself, and a gradient's norm is one of the whole; its data-parallel strategy adds up on CUDA alone.)
    fn strategy(&self) -> ExecutionStrategy {
        match &self.devices[..] {
            [device] => ExecutionStrategy::single(device.clone()),
            devices => {
                ExecutionStrategy::multi(devices.to_vec(), MultiDeviceOptim::OptimMainDevice)
            }
        }
    }

    /// In all.
    fn epochs(&self) -> usize {
        self.task.settings().training().epochs.get()
    }

    /// That there are no more to come; nothing is trained where the command line says.
    fn save_epochs(&self) -> Result<()> {
        let mut settings: T::Settings = self.run.settings()?;
        settings.training_mut().epochs = self.task.settings().training().epochs;
        self.run.save_settings(&settings)
    }

    /// Hands everything to burn-train.
    fn train(&self, stop: &StopRequest) -> Result<Ending> {
        let path = self.run.path();
        let origin = Origin::of(&self.task);
        let watch = self.watch()?;
        let trainee = self.trainee(watch.clone());
        self.introduce(&trainee);
        if self.done > 0 {
            check_checkpoint(&self.run, &trainee, self.done, &origin, &self.task)?;
        }
        let [model_files, optim_files, scheduler_files] =
            PartFiles::new(&self.run, origin, self.history.clone(), watch);
        let end_of_epoch = EndOfEpoch {
            stop: stop.clone(),
            records: model_files.reading(),
        };
        self.run.save_settings(self.task.settings())?;

        let measured = T::Model::MEASURED;
        let progress = Progress::new(self.history.clone(), measured, stop.clone());
        stop.listen(!progress.is_dashboard())?;
        let Training {
            batch_size, seed, ..
        } = *self.task.settings().training();
        let loader = |role| {
            let (dataset, batcher) = (self.task.dataset(role), self.task.batcher(role));
            let (first, device) = (self.done + 1, self.device().clone());
            let loader = EpochLoader::new(dataset, batcher, role, batch_size, seed, first, device);
            Arc::new(loader.shared_among(self.devices.len()))
        };
        let mut training = SupervisedTraining::new(path, loader(Role::Train), loader(Role::Valid))
            .with_training_strategy(self.strategy().into());
        for metric in MeanMetric::terms(measured.terms) {
            training = training
                .metric_train_numeric(metric.clone())
                .metric_valid_numeric(metric);
        }
        let mut training = training
            .metric_train_numeric(MeanMetric::gradient_norm())
            .metric_train_numeric(MeanMetric::clipped())
            .metric_valid_numeric(MeanMetric::raw(measured.terms))
            .with_metric_logger(NoMetricFiles)
            .with_application_logger(None)
            .with_custom_checkpointers(model_files, optim_files, scheduler_files)
            .with_checkpointing_strategy(SaveAll)
            .early_stopping(end_of_epoch)
            .with_interrupter(stop.interrupter())
            .renderer(Box::new(progress))
            .num_epochs(self.epochs());
        if self.done > 0 {
            training = training.checkpoint(self.done);
        }
        let optimizer = self.task.settings().training().init_optimizer();
        let rate = self.task.rate().scheduler(self.task.own_rate());
        let learner = Learner::new(trainee, optimizer, rate);
        let result = match remote::caught(|| training.launch(learner)) {
            Ok(result) => result,
            Err(cause) => {
                stop.training_is_over();
                return Err(anyhow!("training stopped: {cause}; {}", self.kept()));
            }
        };
        // Gives the terminal back before anything else is said.
        drop(result.renderer);
        stop.training_is_over();
        self.ending(result.error.as_deref())
    }

    /// The model that epoch 1 starts from.
    fn trainee(&self, watch: Watch) -> Trainee<T::Model> {
        let device = self.device().clone();
        device.seed(self.task.settings().training().seed);
        let device = device.autodiff();
        let (model, steps) = (self.task.model(&device), self.task.steps());
        Trainee::new(model, steps, &device)
            .after(self.done)
            .watched(watch)
    }

    /// What knows of the epochs that are done.
    fn watch(&self) -> Result<Watch> {
        match self.done {
            0 => Ok(self.task.watch()),
            done => checkpoint::watch_after(&self.run, done, self.task.watch()),
        }
    }

    fn introduce(&self, trainee: &Trainee<T::Model>) {
        say(format_args!(
            "{} in {}: {}, {} weights, on {}{}",
            if self.done > 0 {
                "resuming"
            } else {
                "training"
            },
            self.run.path().display(),
            self.task.describe(),
            trainee.model.num_params(),
            self.task.settings().training().backend,
            match &self.task.settings().training().devices[..] {
                [] => String::new(),
                names => {
                    let names: Vec<String> = names.iter().map(DeviceName::to_string).collect();
                    format!(", devices [{}]", names.join(", "))
                }
            },
        ));
    }

    fn ending(&self, error: Option<&TrainingError>) -> Result<Ending> {
        let path = self.run.path().display();
        let saved = self.run.checkpoints()?.last().copied().unwrap_or(0);
        if let Some(error) = error {
            return Err(self.stopped(error));
        }
        if saved == self.epochs() {
            return Ok(Ending::Complete);
        }
        let at = match saved {
            0 => "before the end of epoch 1".into(),
            saved => format!("after epoch {saved}, which is saved"),
        };
        say(format_args!(
            "stopped {at}; go on with: {} --resume {path}",
            T::Settings::TASK.cargo_command()
        ));
        Ok(Ending::Stopped)
    }

    /// Why training stopped, by the cause at the bottom of burn-train's error.
    fn stopped(&self, error: &TrainingError) -> AnyError {
        let rest = self.kept();
        let mut cause: &dyn Error = error;
        if let TrainingError::EventProcessor(events) = error
            && let Some(failure) = events.failures().first()
        {
            cause = failure;
        }
        while let Some(source) = cause.source() {
            cause = source;
        }
        // What the learner refuses to go on with.
        if let Some(ExecutionError::WithContext { reason }) = cause.downcast_ref() {
            return Diverged(format!("training stopped: {reason}; {rest}")).into();
        }
        let cause = cause.to_string();
        let cause = remote::lost(&cause).unwrap_or(cause);
        anyhow!("training stopped: {cause}; {rest}")
    }

    /// What is left when training stops.
    fn kept(&self) -> String {
        // Under its name there may be another by now.
        if self.run.check().is_err() {
            return "what was saved before is in the folder, wherever that is now: --resume it there".into();
        }
        match self.run.checkpoints().unwrap_or_default().last() {
            None => "no epoch was finished, so there is no checkpoint".into(),
            Some(saved) => format!(
                "the checkpoint of epoch {saved} is kept in {}",
                self.run.path().display()
            ),
        }
    }

    /// Leaves the best model, the pictures and the summary in the folder, if any epoch was finished.
    fn conclude(self) -> Result<()> {
        let device = self.device().clone();
        let run = self.run;
        let Some(&epochs) = run.checkpoints()?.last() else {
            return Ok(());
        };
        let measured = T::Model::MEASURED;
        let best = run.best(measured)?;
        run.tell_of_a_better_one(measured)?;
        let (origin, watch) = (Origin::of(&self.task), self.task.watch());
        let trained = Trained::of_epoch(&run, None, self.task, device)?;
        let model = trained.model.clone().into_record().into_bytes()?;
        run.write("model.bpk", &model)?;
        // Of more than one entry the order would be another each time.
        let mut tensors = SafetensorsStore::from_bytes(None)
            .clear_metadata()
            .metadata("producer", "burn");
        trained.model.save_into(&mut tensors)?;
        run.write("model.safetensors", &tensors.get_bytes()?)?;

        let mut history = self.history.lock().expect("not poisoned");
        // Of what is saved.
        history.truncate(epochs);
        let (seconds, last) = (history.seconds(), history.last());
        let summary = Summary {
            epochs,
            best_epoch: best.epoch,
            valid: (measured.terms.iter().zip(&best.valid))
                .map(|(term, value)| (term.column.to_owned(), *value))
                .collect(),
            weights: trained.model.num_params(),
            seconds,
            // That of the last training, of which the command line may say another.
            backend: run.settings::<T::Settings>()?.training().backend,
            model: Sum::of(&model),
            origin,
        };
        let fallen = last.as_ref().map(|last| Divergence {
            best: best.valid_score(),
            now: last.valid_score(),
        });
        let last = match last {
            Some(last) if last.epoch != best.epoch => {
                format!(", the last {:.2}", last.valid_score())
            }
            _ => String::new(),
        };
        say(format_args!(
            "best epoch {} of {epochs}: validation {} {:.2} nats{last}; {seconds:.1} s of training",
            best.epoch,
            measured.terms[0].name,
            best.valid_score()
        ));
        // The first steps are judged too mildly for it to have been noticed there.
        if let Some(fallen) = fallen.filter(|&fallen| watch.is_lost(fallen)) {
            warn(format_args!(
                "warning: training has diverged: the last epoch is {:.2} nats per {} below the best, and the weights kept as the \
                 best are from before; {}",
                fallen.best - fallen.now,
                measured.item,
                measured.advice
            ));
        }
        let rows = history.rows();
        run.write("curves.svg", curves::of_run(rows, measured).as_bytes())?;
        say(format_args!(
            "learning curves:                   {}/curves.svg",
            run.path().display()
        ));
        T::draw(&run, &trained)?;
        // The last, so that all is there where it says that a training has ended.
        let mut json = serde_json::to_string_pretty(&summary)?;
        json.push('\n');
        run.write("summary.json", json.as_bytes())?;
        say(format_args!(
            "evaluate it with:                  cargo run -p train -- evaluate {}",
            run.path().display()
        ));
        Ok(())
    }
}

/// burn-train panics on a checkpoint that it cannot load, so it is tried first.
fn check_checkpoint<T: Task>(
    run: &RunDir,
    trainee: &Trainee<T::Model>,
    epoch: usize,
    origin: &Origin,
    task: &T,
) -> Result<()> {
    load_weights(run, trainee.clone(), epoch, origin, task)?;
    let read = |part| {
        let (file, bytes) = checkpoint::read(run, epoch, part, origin)?;
        anyhow::Ok((file, Bytes::from_bytes_vec(bytes)))
    };
    let ((_, model), (file, optimizer)) = (read(Part::Model)?, read(Part::Optim)?);
    pack::check_optimizer(optimizer, model).map_err(|_| damaged(&file))?;
    let (file, scheduler) = read(Part::Scheduler)?;
    pack::check_scheduler(scheduler).map_err(|_| damaged(&file))
}
