//! The metrics of the epochs so far, in memory and in `metrics.csv`.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::disk::replace;

/// One epoch: means over the split in nats per image, from one posterior sample an image. The training
/// numbers are averaged while the weights change; the validation ones are at the epoch's end, of the average of
/// the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: usize,
    pub train_elbo: f64,
    pub train_reconstruction: f64,
    pub train_kl: f64,
    pub valid_elbo: f64,
    pub valid_reconstruction: f64,
    pub valid_kl: f64,
    /// Of the weights as they are at the epoch's end.
    pub valid_elbo_not_averaged: f64,
    /// The mean norm of the gradients before clipping; each step reports that of the step before it, the very first 0.
    pub gradient_norm: f64,
    /// The share of them that was clipped.
    pub clipped: f64,
    /// Of training, without validation and checkpoints.
    pub seconds: f64,
    /// Training images a second.
    pub images_per_second: f64,
}

/// The finished epochs of a run.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    rows: Vec<EpochRow>,
}

impl History {
    /// Reads `metrics.csv`; a file that does not exist yet is empty.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or a row is damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let rows = match csv::Reader::from_path(path) {
            Ok(mut reader) => reader
                .deserialize()
                .collect::<Result<_, _>>()
                .with_context(|| format!("{} is damaged", path.display()))?,
            Err(error) if is_missing(&error) => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self {
            path: path.into(),
            rows,
        })
    }

    /// Forgets what came after `epoch`, before a resumed run repeats it.
    pub fn truncate(&mut self, epoch: usize) {
        self.rows.retain(|row| row.epoch <= epoch);
    }

    /// The finished epochs, in order.
    pub fn rows(&self) -> &[EpochRow] {
        &self.rows
    }

    /// How many epochs are finished.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row of an epoch as `metrics.csv` has it, to the last digit.
    pub fn line(&self, epoch: usize) -> Option<String> {
        let row = self.rows.iter().find(|row| row.epoch == epoch)?;
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(Vec::new());
        writer.serialize(row).ok()?;
        let line = String::from_utf8(writer.into_inner().ok()?).ok()?;
        Some(line.trim_end().to_owned())
    }

    /// Adds an epoch and writes the file anew, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn push(&mut self, row: EpochRow) -> io::Result<()> {
        self.rows.push(row);
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            writer.serialize(row).map_err(io::Error::other)?;
        }
        let text = writer.into_inner().map_err(|error| error.into_error())?;
        replace(&self.path, &text)
    }

    /// The row with the highest validation ELBO among the epochs that `eligible` takes.
    pub fn best_of(&self, eligible: impl Fn(usize) -> bool) -> Option<EpochRow> {
        self.rows
            .iter()
            .filter(|row| eligible(row.epoch))
            .max_by(|a, b| a.valid_elbo.total_cmp(&b.valid_elbo))
            .copied()
    }

    /// The highest training ELBO of an epoch.
    pub fn best_in_training(&self) -> Option<f64> {
        let elbos = self.rows.iter().map(|row| row.train_elbo);
        elbos.max_by(f64::total_cmp)
    }

    /// The row of the last epoch.
    pub fn last(&self) -> Option<EpochRow> {
        self.rows.last().copied()
    }

    /// Seconds of training in all.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }
}

fn is_missing(error: &csv::Error) -> bool {
    matches!(error.kind(), csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, valid_elbo: f64) -> EpochRow {
        EpochRow {
            epoch,
            valid_elbo,
            ..EpochRow::default()
        }
    }

    #[test]
    fn rows_survive_the_file_and_the_best_is_the_highest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut history = History::load(&path).unwrap();
        for (epoch, elbo) in [(1, -30.0), (2, -10.000_000_000_000_002), (3, -20.0)] {
            history.push(row(epoch, elbo)).unwrap();
        }
        let mut read = History::load(&path).unwrap();
        assert_eq!(read.rows, history.rows);
        assert_eq!(read.best_of(|_| true).unwrap().epoch, 2);
        assert_eq!(read.best_of(|epoch| epoch != 2).unwrap().epoch, 3);
        read.truncate(1);
        assert_eq!(read.best_of(|_| true).unwrap().epoch, 1);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        std::fs::write(&path, "epoch,train_elbo\n1,what\n").unwrap();
        let error = format!("{:#}", History::load(&path).unwrap_err());
        assert!(error.contains("metrics.csv is damaged"), "{error}");
    }
}
