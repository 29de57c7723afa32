//! The one place that knows the layout of a run folder.
//!
//! ```text
//! runs/digits-1/
//!   config.json            what was asked for, with seed and versions
//!   metrics.csv            a row an epoch
//!   checkpoint/EPOCH/      model.bpk, optim.bpk, scheduler.bpk and their manifest.json: the best epoch and the last two
//!   model.bpk              the best epoch's weights, as flow-vae's Vae loads them; of densities and energies those of the
//!                          flow have names that begin with `flow.`
//!   model.safetensors      the same for other programs
//!   standardization.json   of a density: names, means and standard deviations of the columns
//!   *.png                  pictures of the best model
//!   summary.json           how training ended
//!   lock                   held while a training writes here; evaluations.lock while a row is added
//!   curves.svg             what was maximised, by epoch, in training and in validation
//!   evaluations.csv        a row for each `train evaluate`; those of other columns are kept as evaluations-N.csv
//!   estimates.csv, .svg    of an autoencoder: rows of `train estimates`, kept in the same way, and their picture
//! ```
//!
//! Of fits with several seeds it is a folder of such:
//!
//! ```text
//! runs/u2-1/
//!   config.json            what was asked for, with the first seed and how many there are
//!   seed-0/, seed-1/, …    a run folder each
//!   lock                   held while a training writes in any of them
//! ```

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

pub mod checkpoint;
pub mod disk;
pub mod fits;
pub mod history;
pub mod lock;
pub mod pack;
pub mod rows;
pub mod trained;

use crate::{
    backend::Backend,
    config,
    task::{Measured, Settings, TaskName},
    terminal::warn,
};
use checkpoint::{Origin, Sum};
use disk::{create_folders, read, replace_own, sync};
use history::{EpochRow, History};
use lock::{LOCK, Lock};

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held by whoever trains here.
    lock: Option<Lock>,
}

/// `summary.json`.
#[derive(Serialize, Deserialize)]
pub struct Summary {
    pub epochs: usize,
    pub best_epoch: usize,
    /// What was measured in validation at the best epoch, in nats per item.
    pub valid: BTreeMap<String, f64>,
    pub weights: usize,
    /// Of training alone, over all sessions.
    pub seconds: f64,
    pub backend: Backend,
    /// What `model.bpk` was.
    pub model: Sum,
    /// And what it is of.
    pub origin: Origin,
}

impl RunDir {
    /// A new folder for a run with these settings, [locked](Self::lock): `output`, or the first free of `runs/NAME-1`, `-2`, ….
    ///
    /// # Errors
    ///
    /// When the folder exists or cannot be written, or another process begins there.
    pub fn create(output: Option<&Path>, settings: &impl Settings) -> Result<Self> {
        let exists = |path: &Path| {
            let path = path.display();
            anyhow!(
                "the run folder {path} exists: continue it with --resume {path}, or name another one with --output"
            )
        };
        let path = match output {
            Some(path) => {
                if let Some(parent) = path.parent() {
                    create_folders(parent).with_context(|| {
                        format!("cannot create the folder {}", parent.display())
                    })?;
                }
                match fs::create_dir(path) {
                    Err(_) if is_blank(path).is_ok_and(|blank| blank) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return Err(exists(path));
                    }
                    created => created.with_context(|| {
                        format!("cannot create the run folder {}", path.display())
                    })?,
                }
                path.to_owned()
            }
            None => first_free(Path::new("runs"), &settings.short_name())?,
        };
        let run = Self { path, lock: None }.lock()?;
        // Another process may have begun before this one had the lock, and be done already.
        let is_blank =
            is_blank(&run.path).with_context(|| format!("cannot read {}", run.path.display()))?;
        ensure!(is_blank, exists(&run.path));
        run.save_settings(settings)?;
        Ok(run)
    }

    /// The run in `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self {
            path: path.into(),
            lock: None,
        };
        ensure!(
            run.config_file().is_file(),
            "{} is no run folder: it has no config.json",
            path.display()
        );
        Ok(run)
    }

    /// The same, and nobody else trains there for as long as this lives, or a copy of it.
    ///
    /// # Errors
    ///
    /// See [`Lock::take`]; when the folder around it cannot be written.
    pub fn lock(self) -> Result<Self> {
        let lock = Some(Lock::take(&self.path)?);
        // Whoever made it may have been killed before its name was on the disk.
        sync(self.path.parent().unwrap_or(&self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(Self { lock, ..self })
    }

    /// Refuses to write to another folder than was locked, if one was.
    ///
    /// # Errors
    ///
    /// See [`Lock::check`].
    pub fn check(&self) -> io::Result<()> {
        self.lock.as_ref().map_or(Ok(()), Lock::check)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn config_file(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The kind of run.
    ///
    /// # Errors
    ///
    /// When its configuration was damaged.
    pub fn task(&self) -> Result<TaskName> {
        config::task(&self.config_file())
    }

    /// The settings of the run.
    ///
    /// # Errors
    ///
    /// When they were damaged, or are of another kind of run, or of one of the fits in this folder.
    pub fn settings<S: Settings>(&self) -> Result<S> {
        let settings: S = config::load(&self.config_file())?;
        if settings.seeds().is_none() {
            let own = self.of_seed(settings.training().seed);
            ensure!(
                !own.join("config.json").exists(),
                "{} is that of {}, one of the fits in this folder: put back the folder's own, which says how many they are",
                self.config_file().display(),
                own.display()
            );
        }
        Ok(settings)
    }

    /// The settings of the run and the metrics of the epochs that it has done, for those who read no weights, which know what
    /// they were trained with.
    ///
    /// # Errors
    ///
    /// When they are damaged, or are not those of the checkpoints, or of the `summary.json`, that are there.
    pub fn tables<S: Settings>(&self, measured: &'static Measured) -> Result<(S, History)> {
        // Before the metrics, which have the row of an epoch when its checkpoint comes.
        let epochs = self.checkpoints()?;
        let settings: S = self.settings()?;
        let mut history = History::load(&self.metrics_file(), measured)?;
        checkpoint::check_settings(self, &epochs, &settings)?;
        checkpoint::check_metrics(self, &epochs, &history)?;
        let summary = self.summary()?;
        if let Some(summary) = &summary {
            Origin::check_settings(&settings, &summary.origin).with_context(|| {
                format!("the summary.json of {} does not fit", self.path.display())
            })?;
        }
        // A row comes before its checkpoint; and of a run that went on, and whose checkpoints were removed, there are rows that
        // nothing is left of.
        let done = (epochs.last().copied()).or(summary.map(|summary| summary.epochs));
        if let Some(done) = done {
            history.truncate(done);
        }
        Ok((settings, history))
    }

    /// Saves the settings, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn save_settings(&self, settings: &impl Settings) -> Result<()> {
        self.write("config.json", config::to_json(settings).as_bytes())
    }

    /// Writes a file of this folder, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written, or is another than was locked.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let written = self.check().and_then(|()| replace_own(&path, bytes));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// A file of this folder, if it is there.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read
                .map(Some)
                .with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// How training ended, if it did.
    ///
    /// # Errors
    ///
    /// When the file is damaged.
    pub fn summary(&self) -> Result<Option<Summary>> {
        let json = self.read("summary.json")?;
        let summary = json.map(|json| serde_json::from_slice(&json)).transpose();
        summary.with_context(|| format!("{}/summary.json is damaged", self.path.display()))
    }

    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    pub fn model_file(&self) -> PathBuf {
        self.path.join("model.bpk")
    }

    /// What is left of a run without checkpoints: the best epoch's weights, as [`model_file`](Self::model_file) has
    /// them, and the epoch, which `summary.json` says. Where there is no such file, nothing tells whether they are
    /// as they were.
    ///
    /// # Errors
    ///
    /// When there are none, or they are not those that `summary.json` was written with, or not of `origin`.
    pub fn model(&self, origin: &Origin) -> Result<(Vec<u8>, Option<usize>)> {
        let file = self.model_file();
        let bytes = read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let summary = self.summary()?;
        if let Some(summary) = &summary {
            ensure!(
                summary.model == Sum::of(&bytes),
                "{} is damaged: it is not what summary.json was written with, and there is no checkpoint",
                file.display()
            );
            (origin.check(&summary.origin))
                .with_context(|| format!("the weights {} do not fit", file.display()))?;
        }
        Ok((bytes, summary.map(|summary| summary.best_epoch)))
    }

    /// The folder of all checkpoints.
    pub fn checkpoint_folder(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The folder of the checkpoint of `epoch`.
    pub fn checkpoint(&self, epoch: usize) -> PathBuf {
        self.checkpoint_folder().join(epoch.to_string())
    }

    /// The epochs with a checkpoint, in order.
    ///
    /// # Errors
    ///
    /// When their folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<usize>> {
        let folder = self.checkpoint_folder();
        let names = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(|entries| {
                let folders = entries
                    .filter(|entry| entry.as_ref().map_or(true, |entry| entry.path().is_dir()));
                folders
                    .map(|entry| Ok(entry?.file_name()))
                    .collect::<io::Result<Vec<_>>>()
            }),
        };
        let names = names.with_context(|| format!("cannot read {}", folder.display()))?;
        let mut epochs: Vec<usize> = names.iter().filter_map(|name| number(name)).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// Whether there are weights, of a checkpoint or of the best epoch alone.
    ///
    /// # Errors
    ///
    /// See [`checkpoints`](Self::checkpoints).
    pub fn has_weights(&self) -> Result<bool> {
        Ok(self.model_file().is_file() || !self.checkpoints()?.is_empty())
    }

    /// The epoch whose weights `model.bpk` has, where `summary.json` and the metrics agree on it.
    fn kept(&self, history: &History) -> Option<usize> {
        // Where one of them is damaged, the checkpoints are left.
        let (summary, bytes) = (self.summary().ok()??, self.read("model.bpk").ok()??);
        let now = history.score(summary.best_epoch)?;
        let then = *summary.valid.get(history.score_name())?;
        // serde_json reads one number in ten a digit off.
        let is_of_it = (now - then).abs() <= 1e-12 * now.abs();
        (is_of_it && summary.model == Sum::of(&bytes)).then_some(summary.best_epoch)
    }

    /// The epochs whose weights are left: those of the checkpoints, and that of `model.bpk`.
    fn left(&self, history: &History) -> Result<Vec<usize>> {
        let mut left = self.checkpoints()?;
        left.extend(self.kept(history));
        Ok(left)
    }

    /// Whether the best epoch's weights are in `model.bpk` alone.
    ///
    /// # Errors
    ///
    /// When the metrics are missing or damaged, or the folder cannot be read.
    pub fn best_is_kept(&self, measured: &'static Measured) -> Result<bool> {
        if !self.model_file().is_file() {
            return Ok(false);
        }
        let checkpoints = self.checkpoints()?;
        if checkpoints.is_empty() {
            return Ok(true);
        }
        let best = self.best(measured)?.epoch;
        // One that came meanwhile is none of those, and there.
        Ok(!checkpoints.contains(&best) && !self.checkpoint(best).is_dir())
    }

    /// The row of the metrics of the epoch that is best by validation, of those whose weights are left; where there are none, of
    /// that which `summary.json` calls the best, or of all.
    ///
    /// # Errors
    ///
    /// When the metrics or `summary.json` are damaged.
    pub fn best_row(&self, measured: &'static Measured) -> Result<Option<EpochRow>> {
        let history = History::load(&self.metrics_file(), measured)?;
        let mut left = self.left(&history)?;
        if left.is_empty() {
            left.extend(self.summary()?.map(|summary| summary.best_epoch));
        }
        Ok(history.best_of(|epoch| left.is_empty() || left.contains(&epoch)))
    }

    /// Warns where the best of the epochs whose weights are left is not the best that there were: somebody has deleted those.
    ///
    /// # Errors
    ///
    /// When the metrics are damaged, or the folder cannot be read.
    pub fn tell_of_a_better_one(&self, measured: &'static Measured) -> Result<()> {
        let history = History::load(&self.metrics_file(), measured)?;
        let ends = self.checkpoints()?.last().copied();
        let ends = ends.or(self.summary().ok().flatten().map(|summary| summary.epochs));
        // A row comes before its checkpoint.
        let of_all = ends.and_then(|last| history.best_of(|epoch| epoch <= last));
        if let (Some(better), Some(best)) = (of_all, self.best_row(measured)?)
            && better.valid_score() > best.valid_score()
            && !self.left(&history)?.contains(&better.epoch)
        {
            warn(format_args!(
                "warning: {} had its best validation {} in epoch {}, {:.2} nats, whose weights are gone: the best that is left is \
                 epoch {}, {:.2} nats",
                self.path.display(),
                measured.terms[0].name,
                better.epoch,
                better.valid_score(),
                best.epoch,
                best.valid_score(),
            ));
        }
        Ok(())
    }

    /// The row of the metrics of the epoch whose weights are taken.
    ///
    /// # Errors
    ///
    /// When there are none, or the metrics are missing or damaged.
    pub fn row_of_weights(&self, measured: &'static Measured) -> Result<EpochRow> {
        if !self.checkpoints()?.is_empty() || !self.model_file().is_file() {
            return self.best(measured);
        }
        self.best_row(measured)?.with_context(|| {
            let file = self.metrics_file();
            format!("{} has no epoch to compare fits by", file.display())
        })
    }

    /// Refuses to train from the start where that would replace results. Two rows may come before the first checkpoint, which
    /// is saved while the second epoch is trained.
    ///
    /// # Errors
    ///
    /// When there are more, or weights.
    pub fn check_blank(&self, history: &History) -> Result<()> {
        ensure!(
            history.len() <= 2 && !self.model_file().exists(),
            "{run} has no checkpoint left to go on from, and training from the start would replace its results: begin a new \
             run with {command} --config {run}/config.json",
            run = self.path.display(),
            command = self.task()?,
        );
        Ok(())
    }

    /// The row of the metrics of the epoch that is best by validation, of those with a checkpoint and that of `model.bpk`.
    ///
    /// # Errors
    ///
    /// When no epoch has been finished, or the metrics are missing or damaged.
    pub fn best(&self, measured: &'static Measured) -> Result<EpochRow> {
        let path = self.path.display();
        let epochs = self.checkpoints()?;
        let history = History::load(&self.metrics_file(), measured)?;
        if epochs.is_empty() {
            self.check_blank(&history)?;
            bail!(
                "{path} has no checkpoint yet: finish an epoch with `{} --resume {path}`",
                self.task()?
            );
        }
        checkpoint::check_metrics(self, &epochs, &history)?;
        let kept = self.kept(&history);
        history
            .best_of(|epoch| epochs.contains(&epoch) || kept == Some(epoch))
            .with_context(|| {
                let file = self.metrics_file();
                format!("{} has no row of any checkpoint's epoch", file.display())
            })
    }
}

/// Whether it is a folder with nothing in it, but perhaps a lock and the half of a configuration: a process was killed before
/// its first word.
///
/// # Errors
///
/// When it is no folder, or cannot be read.
pub fn is_blank(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name == LOCK || name.starts_with("config.json.") && name.ends_with(".part");
        if !is_ours || !entry.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The number that a name is; "007" and "+7" are no names of ours.
fn number<N: FromStr + ToString>(name: &OsStr) -> Option<N> {
    let number: N = name.to_str()?.parse().ok()?;
    (name == number.to_string().as_str()).then_some(number)
}

/// The first of `name-1`, `name-2`, … that is not there yet, created.
///
/// # Errors
///
/// When `parent` cannot be written.
pub fn first_free(parent: &Path, name: &str) -> Result<PathBuf> {
    let failed = || {
        format!(
            "cannot create a folder in {}: choose another place with --output",
            parent.display()
        )
    };
    create_folders(parent).with_context(failed)?;
    let mut number = 1_u64;
    loop {
        let path = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).with_context(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::VaeSettings;

    #[test]
    fn a_folder_that_exists_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mine = parent.path().join("mine");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("config.json"), "precious").unwrap();

        let error = RunDir::create(Some(&mine), &VaeSettings::default()).unwrap_err();
        assert!(error.to_string().contains("--resume"), "{error}");
        assert_eq!(
            fs::read_to_string(mine.join("config.json")).unwrap(),
            "precious"
        );
    }

    /// What a process left that was killed before it had written its configuration, and nothing more.
    #[test]
    fn a_folder_without_a_run_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        let create = || RunDir::create(Some(&folder), &VaeSettings::default());
        for names in [&[][..], &["config.json.123.part"], &["lock"]] {
            fs::create_dir(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "{").unwrap();
            }
            create().unwrap();
            fs::remove_dir_all(&folder).unwrap();
        }
        let half = "config.json.123.part";
        for names in [
            &["notes.part"][..],
            &["config.json.old"],
            &[half, "notes"],
            &["metrics.csv"],
            &["lock", "metrics.csv"],
        ] {
            fs::create_dir(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "{").unwrap();
            }
            let error = create().unwrap_err().to_string();
            assert!(error.contains("exists"), "{names:?}: {error}");
            fs::remove_dir_all(&folder).unwrap();
        }
        // A folder is none of ours, whatever its name.
        fs::create_dir_all(folder.join(half)).unwrap();
        let error = create().unwrap_err().to_string();
        assert!(error.contains("exists"), "{error}");
    }

    #[test]
    fn unnamed_runs_are_numbered() {
        let parent = tempfile::tempdir().unwrap();
        let runs = parent.path().join("runs");
        assert_eq!(first_free(&runs, "digits").unwrap(), runs.join("digits-1"));
        assert_eq!(first_free(&runs, "digits").unwrap(), runs.join("digits-2"));
    }

    #[test]
    fn what_has_no_name_of_a_checkpoint_does_not_count() {
        let parent = tempfile::tempdir().unwrap();
        let run =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        assert!(run.checkpoints().unwrap().is_empty());
        for name in ["10", "9", "11.part", "012", "+13", "best"] {
            fs::create_dir_all(run.checkpoint_folder().join(name)).unwrap();
        }
        assert_eq!(run.checkpoints().unwrap(), [9, 10]);
    }

    /// Whoever is second has not written over the configuration of the first.
    #[test]
    fn two_cannot_begin_in_one_folder() {
        let parent = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = parent.path().join(round.to_string());
            let begin = |seed: u64| {
                let mut settings = VaeSettings::default();
                settings.training.seed = seed;
                RunDir::create(Some(&path), &settings).map(|begun| (seed, begun))
            };
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads = [1, 2, 3].map(|seed| scope.spawn(move || begin(seed)));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            let mut begun = all.into_iter().flatten();
            let (seed, run) = begun.next().expect("one of them");
            assert!(begun.next().is_none());
            let settings: VaeSettings = run.settings().unwrap();
            assert_eq!(settings.training.seed, seed);
        }
    }
}
