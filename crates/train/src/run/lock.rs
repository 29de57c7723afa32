//! What keeps two trainings out of one folder.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};

use super::disk::check_kind;
use crate::terminal::warn;

/// Held while a training writes.
pub const LOCK: &str = "lock";

/// What none but a training writes, beside the checkpoints and the metrics.
const TRAINED: [&str; 5] = [
    "config.json",
    "curves.svg",
    "model.bpk",
    "model.safetensors",
    "summary.json",
];

/// What keeps others from training in a folder.
#[derive(Clone, Debug)]
pub struct Lock(Arc<(PathBuf, File)>);

impl Lock {
    /// Keeps other processes from training here for as long as what is returned lives; a process that is killed keeps
    /// nobody out. With a warning nobody is kept out where that cannot be had, as on some network file systems.
    ///
    /// # Errors
    ///
    /// When one is at it, or the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let file = open_lock(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => clear_halves(folder),
            Err(TryLockError::WouldBlock) => bail!(
                "another process trains in {}: wait for its end, or stop it",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                warn(format_args!(
                    "warning: cannot lock {}: {error}; see to it that no other process trains in this folder",
                    path.display()
                ));
            }
        }
        Ok(Self(Arc::new((path, file))))
    }

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
            let there = fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::new(
                    error.kind(),
                    format!(
                        "{} is gone: the folder was moved or deleted, or its lock was",
                        path.display()
                    ),
                ),
                _ => error,
            })?;
            let held = file.metadata()?;
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

/// Deletes halves of what none but a training writes, which one that was killed has left.
fn clear_halves(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let half = name.strip_suffix(".part");
        let is_ours =
            half.and_then(|half| half.rsplit_once('.'))
                .is_some_and(|(whole, process)| {
                    TRAINED.contains(&whole) && process.bytes().all(|byte| byte.is_ascii_digit())
                });
        if is_ours {
            // One that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that locks, made if it is not there.
pub fn open_lock(path: &Path) -> io::Result<File> {
    match check_kind(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{run::RunDir, vae::VaeSettings};

    #[test]
    fn two_cannot_train_in_one_folder() {
        let parent = tempfile::tempdir().unwrap();
        let run =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        let path = run.path().to_owned();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        // A copy is as good as it.
        let copy = run.clone();
        drop(run);
        Lock::take(&path).unwrap_err();
        drop(copy);
        Lock::take(&path).unwrap();
    }

    /// And that a lock is gone is said by its name.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_exchanged_is_another() {
        let parent = tempfile::tempdir().unwrap();
        let [here, away] = ["run", "away"].map(|name| parent.path().join(name));
        let run = RunDir::create(Some(&here), &VaeSettings::default()).unwrap();
        run.check().unwrap();
        fs::rename(&here, &away).unwrap();
        let error = run.check().unwrap_err().to_string();
        assert!(error.contains("lock is gone"), "{error}");
        let _other = RunDir::create(Some(&here), &VaeSettings::default()).unwrap();
        let error = run.check().unwrap_err().to_string();
        assert!(
            error.contains("is not what this training had locked"),
            "{error}"
        );
        fs::remove_dir_all(&here).unwrap();
        fs::rename(&away, &here).unwrap();
        run.check().unwrap();
    }

    /// Of another process, of an earlier one, and of nobody.
    #[test]
    fn halves_that_a_training_left_are_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        drop(RunDir::create(Some(&folder), &VaeSettings::default()).unwrap());
        let run = RunDir::open(&folder).unwrap();
        let names = ["model.bpk.12.part", "summary.json.7.part"];
        let others = ["samples.png.12.part", "model.bpk.mine.part", "model.bpk.12"];
        for name in names.iter().chain(&others) {
            fs::write(run.path().join(name), "half").unwrap();
        }
        let _lock = Lock::take(run.path()).unwrap();
        assert!(names.iter().all(|name| !run.path().join(name).exists()));
        assert!(others.iter().all(|name| run.path().join(name).exists()));
    }
}
