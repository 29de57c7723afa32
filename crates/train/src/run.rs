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
    fs, io,
    path::{Path, PathBuf},
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
};
use checkpoint::{Origin, Sum};
use disk::{create_folders, read, replace_by, sync};
use history::{EpochRow, History};
use lock::{LOCK, Lock};

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
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
    /// A new folder for a run with these settings, `output`, or the first free of `runs/NAME-1`, `-2`, …; and its
    /// [lock](Self::lock).
    ///
    /// # Errors
    ///
    /// When the folder exists or cannot be written, or another process begins there.
    pub fn create(output: Option<&Path>, settings: &impl Settings) -> Result<(Self, Lock)> {
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
                    Err(_) if is_blank(path) => {}
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
        let run = Self { path };
        let lock = Lock::take(&run.path)?;
        // Another process may have begun before this one had the lock, and be done already.
        ensure!(is_blank(&run.path), exists(&run.path));
        run.save_settings(settings)?;
        sync(run.path.parent().unwrap_or(&run.path))
            .with_context(|| format!("cannot write {}", run.path.display()))?;
        Ok((run, lock))
    }

    /// The run in `path`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let run = Self { path: path.into() };
        ensure!(
            run.config_file().is_file(),
            "{} is no run folder: it has no config.json",
            path.display()
        );
        Ok(run)
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
        let epochs = self.checkpoints();
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
    /// When the folder cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        // Others may write the same picture.
        let part = format!("{}.part", std::process::id());
        replace_by(&path.with_added_extension(part), &path, bytes)
            .with_context(|| format!("cannot write {}", path.display()))
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
    pub fn checkpoints(&self) -> Vec<usize> {
        let Ok(entries) = fs::read_dir(self.checkpoint_folder()) else {
            return Vec::new();
        };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        let names = folders.map(|entry| entry.file_name());
        let mut epochs: Vec<usize> = names
            .filter_map(|name| {
                let epoch: usize = name.to_str()?.parse().ok()?;
                // "007" and "+7" are no names of ours.
                (name == *epoch.to_string()).then_some(epoch)
            })
            .collect();
        epochs.sort_unstable();
        epochs
    }

    /// Whether there are weights, of a checkpoint or of the best epoch alone.
    pub fn has_weights(&self) -> bool {
        !self.checkpoints().is_empty() || self.model_file().is_file()
    }

    /// The row of the metrics of the epoch that is best by validation, of those that there are checkpoints of; where there are
    /// none, of that whose weights `summary.json` says are left, or of all.
    ///
    /// # Errors
    ///
    /// When the metrics or `summary.json` are damaged.
    pub fn best_row(&self, measured: &'static Measured) -> Result<Option<EpochRow>> {
        let mut left = self.checkpoints();
        if left.is_empty() {
            left.extend(self.summary()?.map(|summary| summary.best_epoch));
        }
        let history = History::load(&self.metrics_file(), measured)?;
        Ok(history.best_of(|epoch| left.is_empty() || left.contains(&epoch)))
    }

    /// The row of the metrics of the epoch whose weights are taken.
    ///
    /// # Errors
    ///
    /// When there are none, or the metrics are missing or damaged.
    pub fn row_of_weights(&self, measured: &'static Measured) -> Result<EpochRow> {
        if !self.checkpoints().is_empty() || !self.model_file().is_file() {
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

    /// The epoch of the checkpoint that is best by validation, and its row of the metrics.
    ///
    /// # Errors
    ///
    /// When no epoch has been finished, or the metrics are missing or damaged.
    pub fn best(&self, measured: &'static Measured) -> Result<EpochRow> {
        let path = self.path.display();
        let epochs = self.checkpoints();
        let history = History::load(&self.metrics_file(), measured)?;
        if epochs.is_empty() {
            self.check_blank(&history)?;
            bail!(
                "{path} has no checkpoint yet: finish an epoch with `{} --resume {path}`",
                self.task()?
            );
        }
        checkpoint::check_metrics(self, &epochs, &history)?;
        history
            .best_of(|epoch| epochs.contains(&epoch))
            .with_context(|| {
                let file = self.metrics_file();
                format!("{} has no row of any checkpoint's epoch", file.display())
            })
    }
}

/// Whether it is a folder with nothing in it, but perhaps a lock and the half of a configuration: a process was killed before
/// its first word.
pub fn is_blank(path: &Path) -> bool {
    let is_left = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name == LOCK || name.starts_with("config.json.") && name.ends_with(".part");
        is_ours && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_left)))
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
        let (run, _) =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        assert!(run.checkpoints().is_empty());
        for name in ["10", "9", "11.part", "012", "+13", "best"] {
            fs::create_dir_all(run.checkpoint_folder().join(name)).unwrap();
        }
        assert_eq!(run.checkpoints(), [9, 10]);
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
            let (seed, (run, _lock)) = begun.next().expect("one of them");
            assert!(begun.next().is_none());
            let settings: VaeSettings = run.settings().unwrap();
            assert_eq!(settings.training.seed, seed);
        }
    }
}
