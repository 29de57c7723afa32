//! Checkpoints: a folder an epoch, which is there whole or not at all.
//!
//! burn-train saves model, optimiser and learning rate at the same time, each on a thread of its own. They go into
//! `checkpoint/EPOCH.part`; the last one writes the manifest, and when all is on the disk the folder gets its name.
//! The manifest has a checksum of each part, and says what the checkpoint is of, so that nothing but this
//! state, with these settings and these data, is gone on with or evaluated.

use std::{
    collections::BTreeMap,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
};

use anyhow::{Context, Result, bail, ensure};
use burn::{
    tensor::Bytes,
    train::{
        checkpoint::{
            Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
        },
        metric::store::EventStoreClient,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    RunDir,
    disk::{self, sync, write_through},
    history::History,
};
use crate::{
    config,
    learn::watch::Watch,
    remote,
    task::{Settings, Task},
};

/// A part of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Model,
    Optim,
    Scheduler,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Model, Self::Optim, Self::Scheduler];

    pub fn file_name(self) -> &'static str {
        match self {
            Self::Model => "model.bpk",
            Self::Optim => "optim.bpk",
            Self::Scheduler => "scheduler.bpk",
        }
    }
}

/// What a checkpoint is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Those of `config.json` that the numbers depend on.
    settings: BTreeMap<String, Value>,
    /// What tells data from other data, in words.
    data: String,
}

impl Origin {
    /// A run that is gone on with may be longer and on another backend, and its data may have moved.
    const FREE: [&str; 8] = [
        "backend", "data_dir", "dataset", "devices", "epochs", "points", "restarts", "versions",
    ];

    /// Of the settings as they are, and the data as they are there.
    pub fn new<S: Settings>(settings: &S, data: String) -> Self {
        Self {
            settings: Self::of_settings(settings),
            data,
        }
    }

    /// That of `task`.
    pub fn of<T: Task>(task: &T) -> Self {
        Self::new(task.settings(), task.fingerprint())
    }

    fn of_settings(settings: &impl Settings) -> BTreeMap<String, Value> {
        let all = config::to_map(settings).into_iter();
        all.filter(|(name, _)| !Self::FREE.contains(&name.as_str()))
            .collect()
    }

    /// Refuses the state of other settings or data; `self` is what the run is `now`.
    pub fn check(&self, saved: &Self) -> Result<()> {
        compare(&self.settings, &saved.settings)?;
        ensure!(
            self.data == saved.data,
            "it was trained on other data: {}; these are {}",
            saved.data,
            self.data
        );
        Ok(())
    }

    /// Refuses settings that are not those of `saved` state, whatever the data are.
    pub fn check_settings(settings: &impl Settings, saved: &Self) -> Result<()> {
        compare(&Self::of_settings(settings), &saved.settings)
    }
}

fn compare(now: &BTreeMap<String, Value>, then: &BTreeMap<String, Value>) -> Result<()> {
    for name in now.keys().chain(then.keys()) {
        // A setting that came later is as it is where it is not given.
        let given = |value: Option<&'_ Value>| value.filter(|value| !value.is_null()).cloned();
        let (is, was) = (given(now.get(name)), given(then.get(name)));
        if is != was {
            let shown = |value: Option<Value>| {
                value.map_or("nothing".to_owned(), |value| value.to_string())
            };
            bail!(
                "it was trained with {name} = {}, and config.json says {}: put config.json back as it was, or begin \
                 a new run with --config",
                shown(was),
                shown(is)
            );
        }
    }
    Ok(())
}

/// `manifest.json`.
#[derive(Serialize, Deserialize)]
struct Manifest {
    epoch: usize,
    /// Its row of `metrics.csv`.
    metrics: String,
    /// What the watch had seen by its end; earlier programs did not say.
    watch: Option<String>,
    parts: BTreeMap<Part, Sum>,
    origin: Origin,
}

/// What a file has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    bytes: usize,
    crc32: u32,
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len(),
            crc32: crc32fast::hash(bytes),
        }
    }
}

/// The file of one part of the checkpoint of `epoch`, and what is in it, if it is what was saved there.
///
/// # Errors
///
/// With an [`io::Error`] of the kind `NotFound` below when there is none; when it is damaged, or not of `origin`.
pub fn read(run: &RunDir, epoch: usize, part: Part, origin: &Origin) -> Result<(PathBuf, Vec<u8>)> {
    let manifest = manifest(run, epoch)?;
    let folder = run.checkpoint(epoch);
    (origin.check(&manifest.origin))
        .with_context(|| format!("the checkpoint {} does not fit", folder.display()))?;
    let file = folder.join(part.file_name());
    let bytes = read_file(&folder, &file)?;
    ensure!(
        manifest.parts.get(&part) == Some(&Sum::of(&bytes)),
        damaged(&file)
    );
    Ok((file, bytes))
}

/// A watch that goes on from the end of `epoch`.
///
/// # Errors
///
/// When there is no such checkpoint, or its manifest is damaged.
pub fn watch_after(run: &RunDir, epoch: usize, watch: Watch) -> Result<Watch> {
    match manifest(run, epoch)?.watch {
        None => Ok(watch),
        Some(line) => watch
            .after(&line)
            .with_context(|| damaged(&run.checkpoint(epoch).join("manifest.json"))),
    }
}

/// Refuses metrics that are not those of the checkpoints that are there: the best epoch is chosen by them.
///
/// # Errors
///
/// With the first epoch that they disagree on; when a manifest is damaged.
pub fn check_metrics(run: &RunDir, epochs: &[usize], history: &History) -> Result<()> {
    for (epoch, manifest) in manifests(run, epochs)? {
        ensure!(
            history.line(epoch).as_ref() == Some(&manifest.metrics),
            "{} {} the row of epoch {epoch} that the checkpoint {} came after: put it back as it was, or name the epoch \
             to evaluate with --epoch",
            run.metrics_file().display(),
            match run.metrics_file().exists() {
                true => "has not",
                false => "is not there, and with it",
            },
            run.checkpoint(epoch).display()
        );
    }
    Ok(())
}

/// Refuses settings that are not those of the checkpoints that are there.
///
/// # Errors
///
/// With the first setting that differs; when a manifest is damaged.
pub fn check_settings(run: &RunDir, epochs: &[usize], settings: &impl Settings) -> Result<()> {
    for (epoch, manifest) in manifests(run, epochs)? {
        Origin::check_settings(settings, &manifest.origin).with_context(|| {
            let folder = run.checkpoint(epoch);
            format!("the checkpoint {} does not fit", folder.display())
        })?;
    }
    Ok(())
}

/// Those of the epochs that still have a checkpoint: a training may just have deleted one.
fn manifests(run: &RunDir, epochs: &[usize]) -> Result<Vec<(usize, Manifest)>> {
    let mut there = Vec::new();
    for &epoch in epochs {
        match manifest(run, epoch) {
            Err(error) if is_missing(&error) => {}
            manifest => there.push((epoch, manifest?)),
        }
    }
    Ok(there)
}

fn manifest(run: &RunDir, epoch: usize) -> Result<Manifest> {
    let folder = run.checkpoint(epoch);
    let file = folder.join("manifest.json");
    let manifest: Manifest =
        serde_json::from_slice(&read_file(&folder, &file)?).map_err(|_| damaged(&file))?;
    ensure!(manifest.epoch == epoch, damaged(&file));
    Ok(manifest)
}

/// Of what is in a checkpoint's folder nothing is missing, unless the folder is.
fn read_file(folder: &Path, path: &Path) -> Result<Vec<u8>> {
    match disk::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => {
            Err(damaged(path))
        }
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Whether it says that there is no such checkpoint.
pub fn is_missing(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What to say of a file of a checkpoint that is not what was written there.
pub fn damaged(file: &Path) -> anyhow::Error {
    let folder = file.parent().unwrap_or(file);
    anyhow::anyhow!(
        "the checkpoint {} is damaged: delete the folder {} to fall back on another epoch, or on model.bpk \
         where that has its weights",
        file.display(),
        folder.display()
    )
}

/// Saves and loads one part of checkpoints for burn-train.
pub struct PartFiles {
    part: Part,
    shared: Arc<Shared>,
}

/// What the three threads have in common.
struct Shared {
    run: RunDir,
    origin: Origin,
    history: Arc<Mutex<History>>,
    watch: Watch,
    /// The parts that are written, of epochs that are not whole yet.
    written: Mutex<BTreeMap<usize, BTreeMap<Part, Sum>>>,
    reading: Reading,
}

/// Which records are read, part by part.
///
/// burn-train hands an epoch's records to threads and trains on. But what Burn gives of a tensor on a GPU is read when somebody looks
/// at it, and an optimiser writes its state over meanwhile: a checkpoint would hold moments of later steps. So the next epoch
/// waits until the records are read; they are written to the disk beside it.
#[derive(Clone, Default)]
pub struct Reading(Arc<(Mutex<BTreeMap<usize, usize>>, Condvar)>);

impl Reading {
    /// Returns when all parts of this epoch are read, or could not be.
    pub fn wait(&self, epoch: usize) {
        let (read, changed) = &*self.0;
        let read = read.lock().expect("no panic while locked");
        let parts = |read: &BTreeMap<usize, usize>| read.get(&epoch).copied().unwrap_or(0);
        let mut read = changed
            .wait_while(read, |read| parts(read) < Part::ALL.len())
            .expect("no panic while locked");
        read.remove(&epoch);
    }

    /// One part less to wait for when this is dropped, even by a panic of the device.
    fn part(&self, epoch: usize) -> PartOfReading<'_> {
        PartOfReading(self, epoch)
    }
}

struct PartOfReading<'a>(&'a Reading, usize);

impl Drop for PartOfReading<'_> {
    fn drop(&mut self) {
        let (read, changed) = &*self.0.0;
        *read
            .lock()
            .expect("no panic while locked")
            .entry(self.1)
            .or_default() += 1;
        changed.notify_all();
    }
}

impl PartFiles {
    /// Of model, optimiser and schedule, in this order.
    pub fn new(
        run: &RunDir,
        origin: Origin,
        history: Arc<Mutex<History>>,
        watch: Watch,
    ) -> [Self; 3] {
        let shared = Arc::new(Shared {
            run: run.clone(),
            origin,
            history,
            watch,
            written: Mutex::default(),
            reading: Reading::default(),
        });
        Part::ALL.map(|part| Self {
            part,
            shared: shared.clone(),
        })
    }

    /// What tells when an epoch's records are read.
    pub fn reading(&self) -> Reading {
        self.shared.reading.clone()
    }
}

/// Makes the folder of checkpoints, and deletes in it what a training left that was killed while it saved or deleted.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn prepare(run: &RunDir) -> Result<()> {
    let folder = run.checkpoint_folder();
    clear(&folder).with_context(|| format!("cannot write {}", folder.display()))
}

fn clear(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_unfinished = path
            .extension()
            .is_some_and(|extension| extension == "part");
        if is_unfinished && path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if is_unfinished {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Shared {
    /// Where a checkpoint is before and after it counts.
    fn unfinished(&self, epoch: usize) -> PathBuf {
        self.run.checkpoint(epoch).with_extension("part")
    }

    fn save(&self, epoch: usize, part: Part, bytes: &[u8]) -> io::Result<()> {
        self.run.check()?;
        let unfinished = self.unfinished(epoch);
        // Not its parents: a run folder that was deleted meanwhile must not come back as a torso.
        match fs::create_dir(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        write_through(&unfinished.join(part.file_name()), bytes)?;
        let mut written = self.written.lock().expect("no panic while locked");
        let parts = written.entry(epoch).or_default();
        parts.insert(part, Sum::of(bytes));
        if parts.len() < Part::ALL.len() {
            return Ok(());
        }
        // The epoch's row comes before its checkpoint: whoever adds it holds this until the disk has it.
        let history = self.history.lock().expect("no panic while locked");
        let manifest = Manifest {
            epoch,
            metrics: history
                .line(epoch)
                .expect("a row comes before its checkpoint"),
            watch: self.watch.line(epoch),
            parts: written.remove(&epoch).expect("just inserted"),
            origin: self.origin.clone(),
        };
        drop(history);
        let mut json = serde_json::to_vec_pretty(&manifest)?;
        json.push(b'\n');
        write_through(&unfinished.join("manifest.json"), &json)?;
        sync(&unfinished)?;
        self.run.check()?;
        fs::rename(&unfinished, self.run.checkpoint(epoch))?;
        sync(&self.run.checkpoint_folder())?;
        self.forget_old_ones()
    }

    /// Keeps the best by validation and the last two, of those that are there: an older one is deleted when
    /// what replaces it is safe.
    fn forget_old_ones(&self) -> io::Result<()> {
        let history = self.history.lock().expect("no panic while locked");
        // Under the name of the folder there may be another's by now, which this history knows nothing of.
        self.run.check()?;
        let saved = self.run.checkpoints().map_err(io::Error::other)?;
        let best = history.best_of(|epoch| saved.contains(&epoch));
        let best = best.map(|row| row.epoch);
        for &epoch in saved.iter().rev().skip(2) {
            if Some(epoch) != best {
                // Under its name it is whole or not there at all, also after a power cut.
                let unfinished = self.unfinished(epoch);
                self.run.check()?;
                fs::rename(self.run.checkpoint(epoch), &unfinished)?;
                sync(&self.run.checkpoint_folder())?;
                self.run.check()?;
                fs::remove_dir_all(unfinished)?;
            }
        }
        Ok(())
    }
}

/// What is to be written. Burn panics on a device that is lost, and burn-train on a thread that ended so, without saying why.
fn bytes_of(record: impl Checkpoint) -> io::Result<Bytes> {
    let read = panic::catch_unwind(AssertUnwindSafe(|| record.checkpoint_into_bytes()));
    read.map_err(|payload| io::Error::other(remote::said(&*payload).to_owned()))?
        .map_err(io::Error::other)
}

impl<R: Checkpoint> Checkpointer<R> for PartFiles {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let reading = self.shared.reading.part(epoch);
        let bytes = bytes_of(record);
        drop(reading);
        bytes
            .and_then(|bytes| self.shared.save(epoch, self.part, &bytes))
            .map_err(|error| {
                let folder = self.shared.run.checkpoint(epoch);
                let text = format!("cannot save {}: {error}", folder.display());
                CheckpointerError::IOError(io::Error::new(error.kind(), text))
            })
    }

    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        unreachable!("SaveAll deletes nothing")
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        let Shared { run, origin, .. } = &*self.shared;
        let (_, bytes) = read(run, epoch, self.part, origin)
            .map_err(|error| CheckpointerError::Unknown(format!("{error:#}")))?;
        R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes)).map_err(CheckpointerError::Record)
    }
}

/// Saves every epoch. What is deleted is not for burn-train to say: it would delete the old before the new is safe.
pub struct SaveAll;

impl CheckpointingStrategy for SaveAll {
    fn checkpointing(&mut self, _: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{self, RecvTimeoutError},
        thread,
        time::Duration,
    };

    use burn::store::RecordError;

    use super::*;
    use crate::{
        learn::stop::{EndOfEpoch, StopRequest},
        vae::{MEASURED, VaeSettings},
    };

    /// So that settings which come to a program don't make the runs of an earlier one useless.
    #[test]
    fn a_setting_that_is_not_given_need_not_be_known() {
        let origin = |settings: &str| Origin {
            settings: serde_json::from_str(settings).unwrap(),
            data: "the data".into(),
        };
        let before = origin(r#"{"layers": 10}"#);
        let later = origin(r#"{"layers": 10, "flow_sigmoids": null}"#);
        let given = origin(r#"{"layers": 10, "flow_sigmoids": 8}"#);
        later.check(&before).unwrap();
        before.check(&later).unwrap();
        let message = given.check(&before).unwrap_err().to_string();
        let said = "trained with flow_sigmoids = nothing, and config.json says 8";
        assert!(message.contains(said), "{message}");
    }

    #[test]
    fn what_a_killed_training_left_is_deleted_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let run = RunDir::create(Some(&path), &VaeSettings::default()).unwrap();
        let folder = run.checkpoint_folder();
        for name in ["3", "4.part", "best"] {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("model.bpk"), "weights").unwrap();
        }
        for name in ["notes", "5.part"] {
            fs::write(folder.join(name), "words").unwrap();
        }
        prepare(&run).unwrap();
        let mut names: Vec<_> = (fs::read_dir(&folder).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["3", "best", "notes"]);
        assert!(folder.join("3/model.bpk").is_file());
    }

    /// A record that does this when it is read.
    struct Record(Box<dyn FnOnce() -> Result<Bytes, RecordError> + Send>);

    impl Checkpoint for Record {
        fn checkpoint_into_bytes(self) -> Result<Bytes, RecordError> {
            (self.0)()
        }

        fn checkpoint_from_bytes(_: Bytes) -> Result<Self, RecordError> {
            unreachable!("it is only saved")
        }

        fn save(self, _: PathBuf) -> Result<(), CheckpointerError> {
            unreachable!("a checkpoint's part knows its file")
        }

        fn load(_: PathBuf) -> Result<Self, CheckpointerError> {
            unreachable!("a checkpoint's part knows its file")
        }
    }

    /// A record that is read late, one on a device that is lost, and one that can't be read; and before, those of another epoch.
    #[test]
    fn the_next_epoch_waits_until_all_records_are_read_or_lost() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let run = RunDir::create(Some(&path), &VaeSettings::default()).unwrap();
        prepare(&run).unwrap();
        let origin = Origin::new(&VaeSettings::default(), "the data".into());
        let history = Arc::new(Mutex::new(
            History::load(&run.metrics_file(), MEASURED).unwrap(),
        ));
        let [model, optim, scheduler] = PartFiles::new(&run, origin, history, Watch::new(1.0, 1));
        let end_of_epoch = EndOfEpoch {
            stop: StopRequest::default(),
            records: model.reading(),
        };
        let (stop, last) = (end_of_epoch.stop.clone(), end_of_epoch.clone());
        let empty = || Record(Box::new(|| Ok(Bytes::from_bytes_vec(Vec::new()))));
        let unreadable = || {
            let error = RecordError::Validation("no such type".into());
            Record(Box::new(|| Err(error)))
        };
        model.save(1, empty()).unwrap();
        optim.save(1, empty()).unwrap();

        let (went_on, hears) = mpsc::channel();
        thread::scope(|scope| {
            let next = scope.spawn(move || {
                let stops = end_of_epoch.stops(2);
                // Nobody listens any more, as it should be.
                let _ = went_on.send(());
                stops
            });
            let lost = || optim.save(2, Record(Box::new(|| panic!("the device is lost"))));
            // On a thread of its own, as burn-train has it, since what isn't caught must not keep the third from being read.
            let lost = scope.spawn(lost).join();
            let unread = scheduler.save(2, unreadable());
            // An epoch that doesn't wait begins now; that none does can only be seen by having looked a while.
            let late = move || match hears.recv_timeout(Duration::from_millis(200)) {
                Err(RecvTimeoutError::Timeout) => Ok(Bytes::from_bytes_vec(Vec::new())),
                begun => panic!("the next epoch began: {begun:?}"),
            };
            model.save(2, Record(Box::new(late))).unwrap();
            assert!(!next.join().unwrap(), "nobody asked to stop");
            let lost = lost.expect("a panic is an error");
            for (result, words) in [(lost, "the device is lost"), (unread, "no such type")] {
                let said = result.unwrap_err().to_string();
                assert!(
                    said.contains("cannot save") && said.contains(words),
                    "{said}"
                );
            }
        });
        assert_eq!(run.checkpoints().unwrap(), Vec::<usize>::new());

        stop.dashboard.stop(None);
        for part in [&model, &optim, &scheduler] {
            part.save(3, unreadable()).unwrap_err();
        }
        assert!(last.stops(3), "it was asked for");
    }
}
