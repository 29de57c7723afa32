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
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub mod checkpoint;
pub mod disk;
pub mod history;
pub mod pack;
pub mod trained;

use crate::{
    backend::Backend,
    config,
    task::{Measured, Settings, TaskName},
    terminal::warn,
};
use checkpoint::{Origin, Sum};
use disk::{check_kind, create_folders, read, replace_by, sync};
use history::{EpochRow, History};

/// What the names of the folders of fits begin with, before the seed.
const SEED: &str = "seed-";

/// Held while a training writes.
const LOCK: &str = "lock";

/// What none but a training writes, beside the checkpoints and the metrics.
const TRAINED: [&str; 5] = [
    "config.json",
    "curves.svg",
    "model.bpk",
    "model.safetensors",
    "summary.json",
];

/// The file of `train evaluate`.
pub const EVALUATIONS: &str = "evaluations.csv";

/// The file of `train estimates`.
pub const ESTIMATES: &str = "estimates.csv";

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// What keeps others from training in a folder.
#[derive(Clone, Debug)]
pub struct Lock(Arc<(PathBuf, File)>);

impl Lock {
    /// Looks whether the folder of this name is still the one that was locked: it may have been moved, or its lock deleted, and
    /// another training have begun under its name.
    ///
    /// # Errors
    ///
    /// When it is another, or none.
    pub fn check(&self) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;

            let (path, file) = &*self.0;
            let [there, held] = [fs::metadata(path)?, file.metadata()?];
            if (there.dev(), there.ino()) != (held.dev(), held.ino()) {
                return Err(io::Error::other(format!(
                    "{} is not what this training had locked: the folder was moved, or another training began in it",
                    path.display()
                )));
            }
        }
        Ok(())
    }
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
        let lock = run.lock()?;
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

    /// Keeps other processes from training here for as long as what is returned lives; a process that is killed keeps
    /// nobody out. With a warning nobody is kept out where that cannot be had, as on some network file systems.
    ///
    /// # Errors
    ///
    /// When one is at it, or the folder cannot be written.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.join(LOCK);
        let file = open_lock(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => self.clear_halves(),
            Err(TryLockError::WouldBlock) => bail!(
                "another process trains in {}: wait for its end, or stop it",
                self.path.display()
            ),
            Err(TryLockError::Error(error)) => {
                warn(format_args!(
                    "warning: cannot lock {}: {error}; see to it that no other process trains in this folder",
                    path.display()
                ));
            }
        }
        Ok(Lock(Arc::new((path, file))))
    }

    /// Deletes halves of what none but a training writes, which one that was killed has left.
    fn clear_halves(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let half = name.strip_suffix(".part");
            let is_ours =
                half.and_then(|half| half.rsplit_once('.'))
                    .is_some_and(|(whole, process)| {
                        TRAINED.contains(&whole)
                            && process.bytes().all(|byte| byte.is_ascii_digit())
                    });
            if is_ours {
                // One that stays does no harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Adds a row to [`EVALUATIONS`] or [`ESTIMATES`]. A file with other columns, as older versions wrote it, or with half a last
    /// row is kept under another name, which is returned.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn add_row(&self, file: &str, row: &impl Serialize) -> Result<Option<PathBuf>> {
        let path = self.path.join(file);
        // One after the other, where there are locks; it is let go with the file.
        let lock = open_lock(&self.path.join("evaluations.lock"));
        let _locked = lock.and_then(|file| file.lock().map(|()| file));
        add_row(&path, row).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The rows of `evaluations.csv`.
    ///
    /// # Errors
    ///
    /// When a row is damaged, or the columns are those of another version.
    pub fn evaluations<Row: DeserializeOwned>(&self) -> Result<Vec<Row>> {
        let Some(text) = self.read(EVALUATIONS)? else {
            return Ok(Vec::new());
        };
        let rows = csv::Reader::from_reader(&text[..]).into_deserialize();
        let rows = rows.collect::<Result<_, _>>().map_err(Into::into);
        // Half a last row may read as a whole one.
        let is_whole = text.is_empty() || text.ends_with(b"\n");
        let rows =
            rows.and_then(|rows| is_whole.then_some(rows).context("its last row breaks off"));
        rows.with_context(|| {
            let path = self.path.display();
            format!(
                "{path}/evaluations.csv is damaged or of another version: `train evaluate {path}` keeps it under another \
                 name and begins a new one"
            )
        })
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

    /// The folder of the fit with this seed, of several.
    pub fn of_seed(&self, seed: u64) -> PathBuf {
        self.path.join(format!("{SEED}{seed}"))
    }

    /// The fit with this seed, of several with these settings.
    ///
    /// # Errors
    ///
    /// When there is none, or one of other settings.
    pub fn fit<S: Settings>(&self, settings: &S, seed: u64) -> Result<Self> {
        let path = self.of_seed(seed);
        let shown = path.display();
        let run = Self::open(&path).with_context(|| {
            format!("{shown} is in the way of a fit: move it away, and that fit begins anew")
        })?;
        let there: S = run.settings()?;
        let mut expected = settings.of_seed(seed);
        // By itself it may have gone on for longer, and elsewhere.
        let training = expected.training_mut();
        let its = there.training();
        (training.epochs, training.backend) = (its.epochs, its.backend);
        training.devices.clone_from(&its.devices);
        ensure!(
            there == expected,
            "{shown} is a fit of other settings than the folder around it: one of the two config.json was exchanged; put it \
             back, or move {shown} away, and that fit begins anew"
        );
        Ok(run)
    }

    /// The fits of a run of several seeds, in their order, each as a run or the reason why it is none; of another this run
    /// alone.
    ///
    /// # Errors
    ///
    /// When the configuration was damaged.
    pub fn fits<S: Settings>(self) -> Result<Vec<Result<Self>>> {
        let settings: S = self.settings()?;
        let Some(seeds) = settings.seeds() else {
            return Ok(vec![Ok(self)]);
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let seed_of = |name: &str| name.strip_prefix(SEED)?.parse().ok();
        let mut there: Vec<u64> = entries
            .filter_map(|entry| seed_of(entry.file_name().to_str()?))
            .filter(|seed| seeds.contains(seed))
            .collect();
        there.sort_unstable();
        there.dedup();
        let fits = there.iter().map(|&seed| self.fit(&settings, seed));
        let mut fits: Vec<Result<Self>> = fits.collect();
        let first = seeds
            .clone()
            .find(|seed| there.binary_search(seed).is_err());
        if let Some(first) = first {
            let run = self.path.display();
            let more = match seeds.end - seeds.start - there.len() as u64 - 1 {
                0 => String::new(),
                more => format!(", nor {more} more of {run}"),
            };
            fits.push(Err(anyhow!(
                "{} is not there{more}: {} --resume {run} makes what is missing",
                self.of_seed(first).display(),
                S::TASK.command()
            )));
        }
        Ok(fits)
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

fn open_lock(path: &Path) -> io::Result<File> {
    match check_kind(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn add_row(path: &Path, row: &impl Serialize) -> Result<Option<PathBuf>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(row)?;
    let text = writer.into_inner().map_err(|error| error.into_error())?;
    let header = text
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);

    let before = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let fits = before.starts_with(&text[..header]) && before.ends_with(b"\n");
    let kept = if before.is_empty() || fits {
        None
    } else {
        Some(set_aside(path)?)
    };
    let new = if fits { &text[header..] } else { &text[..] };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(new)?;
    Ok(kept)
}

/// Renames `name.csv` to the first free of `name-1.csv`, `name-2.csv`, …
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut names = (1_u64..).map(|n| path.with_file_name(format!("{stem}-{n}.csv")));
    let kept = names
        .find(|name| !name.exists())
        .expect("one of infinitely many");
    fs::rename(path, &kept)?;
    Ok(kept)
}

/// Whether it is a folder with nothing in it, but perhaps a lock and the half of a configuration: a process was killed before
/// its first word.
pub fn is_blank(path: &Path) -> bool {
    let is_left = |entry: io::Result<fs::DirEntry>| {
        let name = entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
        name.is_ok_and(|name| {
            name == LOCK || name.starts_with("config.json.") && name.ends_with(".part")
        })
    };
    fs::read_dir(path).is_ok_and(|mut names| names.all(is_left))
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
    use crate::{energy::EnergySettings, vae::VaeSettings};

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

    #[test]
    fn two_cannot_train_in_one_folder() {
        let parent = tempfile::tempdir().unwrap();
        let (run, _) =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        let lock = run.lock().unwrap();
        let error = run.lock().unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(lock);
        run.lock().unwrap();
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

    /// Of another process, of an earlier one, and of nobody.
    #[test]
    fn halves_that_a_training_left_are_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let (run, lock) =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        drop(lock);
        let names = ["model.bpk.12.part", "summary.json.7.part"];
        let others = ["samples.png.12.part", "model.bpk.mine.part", "model.bpk.12"];
        for name in names.iter().chain(&others) {
            fs::write(run.path().join(name), "half").unwrap();
        }
        let _lock = run.lock().unwrap();
        assert!(names.iter().all(|name| !run.path().join(name).exists()));
        assert!(others.iter().all(|name| run.path().join(name).exists()));
    }

    /// Of the seeds 3 to 7 one is there.
    #[test]
    fn fits_that_are_missing_are_counted() {
        let parent = tempfile::tempdir().unwrap();
        let mut settings = EnergySettings {
            restarts: 5.try_into().unwrap(),
            ..EnergySettings::default()
        };
        settings.training.seed = 3;
        let (run, _) = RunDir::create(Some(&parent.path().join("run")), &settings).unwrap();
        RunDir::create(Some(&run.of_seed(4)), &settings.of_seed(4)).unwrap();
        let mut fits = run.fits::<EnergySettings>().unwrap();
        let missing = fits.pop().unwrap().unwrap_err().to_string();
        assert!(
            missing.contains("seed-3 is not there, nor 3 more of"),
            "{missing}"
        );
        assert!(matches!(&fits[..], [Ok(_)]));
    }

    #[test]
    fn a_fits_own_configuration_is_not_that_of_the_folder_around_it() {
        let parent = tempfile::tempdir().unwrap();
        let settings = EnergySettings {
            restarts: 2.try_into().unwrap(),
            ..EnergySettings::default()
        };
        let (run, _) = RunDir::create(Some(&parent.path().join("run")), &settings).unwrap();
        let (fit, _) = RunDir::create(Some(&run.of_seed(1)), &settings.of_seed(1)).unwrap();
        run.settings::<EnergySettings>().unwrap();
        fit.settings::<EnergySettings>().unwrap();
        run.save_settings(&settings.of_seed(1)).unwrap();
        let error = run.settings::<EnergySettings>().unwrap_err().to_string();
        assert!(error.contains("seed-1, one of the fits"), "{error}");
    }

    #[derive(Serialize)]
    struct Old {
        epoch: usize,
        elbo: f64,
    }

    #[derive(Serialize)]
    struct New {
        epoch: usize,
        split: &'static str,
        elbo: f64,
    }

    #[test]
    fn rows_of_other_columns_are_kept_and_not_mixed() {
        let parent = tempfile::tempdir().unwrap();
        let (run, _) =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        let text = |name: &str| fs::read_to_string(run.path().join(name)).unwrap();
        let (elbo, split) = (-1.5, "test");
        for epoch in [1, 2] {
            let kept = run.add_row(EVALUATIONS, &Old { epoch, elbo }).unwrap();
            assert_eq!(kept, None);
        }
        let row = New {
            epoch: 3,
            split,
            elbo,
        };
        let kept = run.add_row(EVALUATIONS, &row).unwrap();
        assert_eq!(kept, Some(run.path().join("evaluations-1.csv")));
        assert_eq!(run.add_row(EVALUATIONS, &row).unwrap(), None);
        assert_eq!(text("evaluations-1.csv"), "epoch,elbo\n1,-1.5\n2,-1.5\n");
        let header = "epoch,split,elbo\n";
        assert_eq!(
            text("evaluations.csv"),
            format!("{header}3,test,-1.5\n3,test,-1.5\n")
        );

        // Cut short by a full disk.
        fs::write(run.path().join("evaluations.csv"), format!("{header}3,te")).unwrap();
        let kept = run.add_row(EVALUATIONS, &row).unwrap();
        assert_eq!(kept, Some(run.path().join("evaluations-2.csv")));
        assert_eq!(text("evaluations-2.csv"), format!("{header}3,te"));
        assert_eq!(text("evaluations.csv"), format!("{header}3,test,-1.5\n"));
    }
}
