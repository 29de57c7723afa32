//! A run's best model and what it learned from, for the commands that use a finished run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::{
    module::{Module, ModuleVisitor, Param},
    store::ModuleRecord,
    tensor::{Bytes, Device, Tensor},
};

use super::{
    RunDir,
    checkpoint::{self, Origin, Part, damaged},
    history::History,
    pack,
};
use crate::{
    learn::learner::Trainee,
    task::{Model, Settings, Task},
    terminal::warn,
};

/// Everything that evaluation and pictures need.
pub struct Trained<T: Task> {
    pub task: T,
    pub device: Device,
    pub model: T::Model,
    /// The epoch that the weights are of; unknown where `model.bpk` is all that is left of the run.
    pub epoch: Option<usize>,
    /// What that epoch came to in validation: another number where the run fell back, and made that epoch again.
    pub valid_score: Option<f64>,
    /// Where the weights were read.
    pub file: PathBuf,
}

impl<T: Task> Trained<T> {
    /// The best model of `run`, with `settings`, which may differ from the run's own in what evaluation may change.
    ///
    /// # Errors
    ///
    /// When the backend, the data or the checkpoint is missing or damaged, or they do not fit.
    pub fn load(run: &RunDir, settings: T::Settings) -> Result<Self> {
        let device = settings.training().open_device()?;
        run.tell_of_a_better_one(T::Model::MEASURED)?;
        Self::of_epoch(run, None, T::open(settings)?, device)
    }

    /// The model of a run as [`of_epoch`](Self::of_epoch) has it, with settings as they are `here`; of several fits that of the
    /// best by validation whose weights can be had, and the run that it is of. Of what keeps a fit from being chosen, a
    /// warning tells.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load), and when none of several fits can be had.
    pub fn of_best_fit(
        run: RunDir,
        epoch: Option<usize>,
        here: impl Fn(T::Settings) -> T::Settings,
    ) -> Result<(RunDir, Self)> {
        let load = |fit: &RunDir, settings: T::Settings| {
            let settings = here(settings);
            let device = settings.training().open_device()?;
            let task = T::open(settings)?;
            anyhow::Ok(Self::of_epoch(fit, epoch, task, device))
        };
        let settings: T::Settings = run.settings()?;
        if settings.seeds().is_none() {
            if epoch.is_none() {
                run.tell_of_a_better_one(T::Model::MEASURED)?;
            }
            let trained = load(&run, settings)??;
            return Ok((run, trained));
        }
        let mut fits = Vec::new();
        for fit in run.clone().fits::<T::Settings>()? {
            let read = |fit: RunDir| {
                let row = fit.row_of_weights(T::Model::MEASURED)?;
                fit.tell_of_a_better_one(T::Model::MEASURED)?;
                anyhow::Ok((row.valid_score(), fit.settings()?, fit))
            };
            match fit.and_then(read) {
                Ok(fit) => fits.push(fit),
                Err(error) => pass_over(&error),
            }
        }
        fits.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        for (_, settings, fit) in fits {
            match load(&fit, settings)? {
                // An epoch that is asked for is that of the best.
                Err(error) if epoch.is_none() => pass_over(&error),
                trained => return Ok((fit, trained?)),
            }
        }
        bail!(
            "{}: none of its fits can be used, for the reasons above",
            run.path().display()
        )
    }

    /// The model as it was after the epoch that is `asked` for, without one the best, with the device and the data at hand.
    ///
    /// # Errors
    ///
    /// When there is no checkpoint, or it is damaged or does not fit the data.
    pub fn of_epoch(run: &RunDir, asked: Option<usize>, task: T, device: Device) -> Result<Self> {
        let model = task.model(&device);
        // An evaluation may have other settings than training, but not weights of another run.
        let origin = Origin::new(&run.settings::<T::Settings>()?, task.fingerprint());
        let left = run.model_file();
        let (model, epoch, file) = if asked.is_none() && run.best_is_kept(T::Model::MEASURED)? {
            let (bytes, epoch) = run.model(&origin)?;
            let record = record(bytes).with_context(|| {
                format!("{} is damaged, and there is no checkpoint", left.display())
            })?;
            (fit(model, record, &left, &task)?, epoch, left)
        } else {
            let (epoch, file, record) = read_checkpoint::<T>(run, asked, &origin)?;
            let trainee = fit(Trainee::new(model, 1, &device), record, &file, &task)?;
            (trainee.averaged().clone(), Some(epoch), file)
        };
        let history = History::load(&run.metrics_file(), T::Model::MEASURED)?;
        Ok(Self {
            task,
            device,
            model,
            epoch,
            valid_score: epoch.and_then(|epoch| history.score(epoch)),
            file,
        })
    }
}

impl<T: Task> Trained<T> {
    /// Refuses weights that make no samples.
    ///
    /// # Errors
    ///
    /// When one is not finite.
    pub fn check_weights(&self) -> Result<()> {
        let mut all = Finite(true);
        self.model.visit(&mut all);
        ensure!(
            all.0,
            "the weights {} are not all finite: training had diverged; nothing can be drawn with them",
            self.file.display()
        );
        Ok(())
    }
}

/// Whether all numbers of a module are finite.
struct Finite(bool);

impl ModuleVisitor for Finite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let numbers = param.val().into_data();
        self.0 &= numbers.iter::<f32>().all(f32::is_finite);
    }
}

/// Tells what keeps a fit from being chosen.
pub fn pass_over(error: &anyhow::Error) {
    warn(format_args!("warning: a fit is passed over: {error:#}"));
}

/// `trainee` with the weights of the checkpoint of `epoch`.
///
/// # Errors
///
/// When the file is missing, damaged or of another run, or holds a model of other sizes.
pub fn load_weights<T: Task>(
    run: &RunDir,
    trainee: Trainee<T::Model>,
    epoch: usize,
    origin: &Origin,
    task: &T,
) -> Result<Trainee<T::Model>> {
    let (_, path, record) = read_checkpoint::<T>(run, Some(epoch), origin)?;
    fit(trainee, record, &path, task)
}

/// The weights of the checkpoint of `epoch`, or of the best: its epoch, its file and what is in it.
fn read_checkpoint<T: Task>(
    run: &RunDir,
    epoch: Option<usize>,
    origin: &Origin,
) -> Result<(usize, PathBuf, ModuleRecord)> {
    let mut gone = None;
    loop {
        let wanted = match epoch {
            Some(epoch) => epoch,
            None => run.best(T::Model::MEASURED)?.epoch,
        };
        match checkpoint::read(run, wanted, Part::Model, origin) {
            Err(error) if checkpoint::is_missing(&error) => ensure!(
                // A training may just have deleted it: another is the best then.
                epoch.is_none() && gone.replace(wanted) != Some(wanted),
                "{} has no checkpoint of epoch {wanted}: {}",
                run.path().display(),
                match &run.checkpoints()?[..] {
                    [] => "there is none at all".into(),
                    epochs => format!("there are those of the epochs {epochs:?}"),
                }
            ),
            read => {
                let (path, bytes) = read?;
                let record = record(bytes).map_err(|_| damaged(&path))?;
                return Ok((wanted, path, record));
            }
        }
    }
}

/// The record in the bytes of a file. Burn's own reading of files leaves the tensors for later, and panics where the
/// file is gone by then, as a training deletes checkpoints.
fn record(bytes: Vec<u8>) -> Result<ModuleRecord> {
    let bytes = Bytes::from_bytes_vec(bytes).shared();
    pack::check_model(bytes.clone())?;
    Ok(ModuleRecord::from_bytes(bytes)?)
}

/// `model` with the weights that were read from `path`.
fn fit<M: Module>(model: M, record: ModuleRecord, path: &Path, task: &impl Task) -> Result<M> {
    model.try_load_record(record).with_context(|| {
        format!(
            "the weights in {} do not fit the model of config.json and {}: were the configuration or the data changed \
             since, or was the run made by an earlier program (CHANGELOG.md says what loads no more; `--config` of its \
             config.json begins it anew)?",
            path.display(),
            task.fingerprint()
        )
    })
}
