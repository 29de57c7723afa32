//! The one place that knows the layout of a run folder.
//!
//! ```text
//! runs/digits-1/
//!   config.json            what was asked for, with seed and versions
//!   metrics.csv            a row an epoch
//!   checkpoint/            model-, optim- and scheduler-EPOCH.bpk: the best epoch and the last two
//!   model.bpk              the best epoch's weights, as flow-vae's Vae loads them
//!   samples.png            means at draws from the prior
//!   reconstructions.png    test images, each beside its reconstruction
//!   summary.json           how training ended
//!   evaluations.csv        a row for each `train evaluate`
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    config::RunConfig,
    data::DatasetName,
    history::{EpochRow, History},
};

/// The names that burn-train's file checkpointer gives to the parts of a checkpoint.
pub const CHECKPOINT_PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// A run folder that exists.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// A new folder for a run of `config`: `output`, or the first free of `runs/DATASET-1`, `-2`, …
    ///
    /// # Errors
    ///
    /// When the folder exists or cannot be written.
    pub fn create(output: Option<&Path>, config: &RunConfig) -> Result<Self> {
        let path = match output {
            Some(path) => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).with_context(|| {
                        format!("cannot create the folder {}", parent.display())
                    })?;
                }
                match fs::create_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                        "the run folder {path} exists: continue it with --resume {path}, or name \
                         another one with --output",
                        path = path.display()
                    ),
                    created => created,
                }
                .with_context(|| format!("cannot create the run folder {}", path.display()))?;
                path.to_owned()
            }
            None => first_free(Path::new("runs"), &short_name(&config.dataset))?,
        };
        let run = Self { path };
        run.save_config(config)?;
        Ok(run)
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

    /// The configuration of the run.
    ///
    /// # Errors
    ///
    /// When it was damaged.
    pub fn config(&self) -> Result<RunConfig> {
        RunConfig::load(&self.config_file())
    }

    /// Saves the configuration, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn save_config(&self, config: &RunConfig) -> Result<()> {
        self.write("config.json", config.to_json().as_bytes())
    }

    /// Writes a file of this folder, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        replace(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    pub fn model_file(&self) -> PathBuf {
        self.path.join("model.bpk")
    }

    pub fn evaluations_file(&self) -> PathBuf {
        self.path.join("evaluations.csv")
    }

    /// One file of the checkpoint of `epoch`.
    pub fn checkpoint_file(&self, part: &str, epoch: usize) -> PathBuf {
        let name = format!("{part}-{epoch}.bpk");
        self.path.join("checkpoint").join(name)
    }

    /// The epochs with a complete checkpoint, in order.
    pub fn checkpoints(&self) -> Vec<usize> {
        let Ok(entries) = fs::read_dir(self.path.join("checkpoint")) else {
            return Vec::new();
        };
        let mut epochs: Vec<usize> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let epoch = name.strip_prefix("model-")?.strip_suffix(".bpk")?;
                epoch.parse().ok()
            })
            .filter(|&epoch| {
                let exists = |part: &&str| self.checkpoint_file(part, epoch).is_file();
                CHECKPOINT_PARTS.iter().all(exists)
            })
            .collect();
        epochs.sort_unstable();
        epochs
    }

    /// The epoch of the checkpoint with the highest validation ELBO, and its row of the metrics.
    ///
    /// # Errors
    ///
    /// When no epoch has been finished, or the metrics are missing or damaged.
    pub fn best(&self) -> Result<EpochRow> {
        let path = self.path.display();
        let epochs = self.checkpoints();
        ensure!(
            !epochs.is_empty(),
            "{path} has no checkpoint yet: finish an epoch with `train --resume {path}`"
        );
        History::load(&self.metrics_file())?
            .best_of(|epoch| epochs.contains(&epoch))
            .with_context(|| {
                let file = self.metrics_file();
                format!("{} has no row of any checkpoint's epoch", file.display())
            })
    }
}

/// Writes beside the file, then renames: nobody sees half of it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

/// What a data set is called in the name of a folder.
fn short_name(dataset: &DatasetName) -> String {
    match dataset {
        DatasetName::Folder(path) => path
            .file_name()
            .map_or("images".into(), |name| name.to_string_lossy().into_owned()),
        named => named.to_string(),
    }
}

fn first_free(parent: &Path, name: &str) -> Result<PathBuf> {
    let failed = || {
        format!(
            "cannot create a run folder in {}: choose another place with --output",
            parent.display()
        )
    };
    fs::create_dir_all(parent).with_context(failed)?;
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

    #[test]
    fn a_folder_that_exists_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mine = parent.path().join("mine");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("config.json"), "precious").unwrap();

        let error = RunDir::create(Some(&mine), &RunConfig::default()).unwrap_err();
        assert!(error.to_string().contains("--resume"), "{error}");
        assert_eq!(
            fs::read_to_string(mine.join("config.json")).unwrap(),
            "precious"
        );
    }

    #[test]
    fn unnamed_runs_are_numbered() {
        let parent = tempfile::tempdir().unwrap();
        let runs = parent.path().join("runs");
        assert_eq!(first_free(&runs, "digits").unwrap(), runs.join("digits-1"));
        assert_eq!(first_free(&runs, "digits").unwrap(), runs.join("digits-2"));
    }

    #[test]
    fn a_checkpoint_with_a_missing_part_does_not_count() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&parent.path().join("run")), &RunConfig::default()).unwrap();
        assert!(run.checkpoints().is_empty());
        fs::create_dir(run.path().join("checkpoint")).unwrap();
        for epoch in [10, 9] {
            for part in CHECKPOINT_PARTS {
                fs::write(run.checkpoint_file(part, epoch), "").unwrap();
            }
        }
        fs::write(run.checkpoint_file("model", 11), "").unwrap();
        assert_eq!(run.checkpoints(), [9, 10]);
    }
}
