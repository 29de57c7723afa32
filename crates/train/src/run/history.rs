//! The metrics of the epochs so far, in memory and in `metrics.csv`.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{
    RunDir,
    disk::{self, replace},
};
use crate::task::Measured;

/// One epoch: means over the split in nats per item, of the terms that are [`Measured`] of the run's kind of model, the
/// one that is maximised first. The training numbers are averaged while the weights change; the validation ones are at the
/// epoch's end, of the average of the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpochRow {
    pub epoch: usize,
    pub train: Vec<f64>,
    pub valid: Vec<f64>,
    /// What is maximised, of the weights as they are at the epoch's end.
    pub valid_not_averaged: f64,
    /// The mean norm of the gradients before clipping; each step reports that of the step before it, the very first 0.
    pub gradient_norm: f64,
    /// The share of them that was clipped.
    pub clipped: f64,
    /// Of training, without validation and checkpoints.
    pub seconds: f64,
    /// Training items a second.
    pub items_per_second: f64,
}

impl EpochRow {
    /// Before anything is known.
    pub fn empty(measured: &Measured) -> Self {
        let terms = vec![0.0; measured.terms.len()];
        Self {
            train: terms.clone(),
            valid: terms,
            ..Self::default()
        }
    }

    /// What the best epoch has most of.
    pub fn valid_score(&self) -> f64 {
        self.valid[0]
    }

    /// Whether an evaluation that names this epoch, and what it had come to in validation, is of this row's weights.
    pub fn is_that_of(&self, epoch: Option<usize>, valid_score: Option<f64>) -> bool {
        epoch == Some(self.epoch) && valid_score.is_none_or(|score| score == self.valid_score())
    }

    /// The numbers in the order of [`columns`], the epoch apart.
    fn numbers(&self) -> Vec<f64> {
        let rest = [
            self.valid_not_averaged,
            self.gradient_norm,
            self.clipped,
            self.seconds,
            self.items_per_second,
        ];
        [&self.train[..], &self.valid, &rest].concat()
    }

    /// The inverse of [`numbers`](Self::numbers).
    fn of(epoch: usize, numbers: &[f64], measured: &Measured) -> Option<Self> {
        let (train, rest) = numbers.split_at_checked(measured.terms.len())?;
        let (valid, rest) = rest.split_at_checked(measured.terms.len())?;
        let &[
            valid_not_averaged,
            gradient_norm,
            clipped,
            seconds,
            items_per_second,
        ] = rest
        else {
            return None;
        };
        Some(Self {
            epoch,
            train: train.into(),
            valid: valid.into(),
            valid_not_averaged,
            gradient_norm,
            clipped,
            seconds,
            items_per_second,
        })
    }

    /// A line of `metrics.csv`, without its end.
    fn line(&self) -> String {
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(Vec::new());
        (writer.serialize((self.epoch, self.numbers()))).expect("numbers are CSV");
        let line = writer.into_inner().expect("memory takes all");
        String::from_utf8(line)
            .expect("CSV of numbers")
            .trim_end()
            .to_owned()
    }
}

/// The names of what `metrics.csv` has.
fn columns(measured: &Measured) -> Vec<String> {
    let of = |split: &str| {
        let names = measured
            .terms
            .iter()
            .map(|term| format!("{split}_{}", term.column));
        names.collect::<Vec<_>>()
    };
    let first = measured.terms[0].column;
    let rest = [
        format!("valid_{first}_not_averaged"),
        "gradient_norm".into(),
        "clipped".into(),
        "seconds".into(),
        format!("{}s_per_second", measured.item),
    ];
    [&["epoch".to_owned()][..], &of("train"), &of("valid"), &rest].concat()
}

/// The finished epochs of a run.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    measured: &'static Measured,
    rows: Vec<EpochRow>,
    /// Whose folder has to be there still when a row is written.
    run: Option<RunDir>,
}

impl History {
    /// Reads `metrics.csv`; a file that does not exist yet is empty.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, a row is damaged, or its columns are those of another kind of model.
    pub fn load(path: &Path, measured: &'static Measured) -> Result<Self> {
        let rows = match disk::read(path) {
            Ok(text) => {
                read(&text, measured).with_context(|| format!("{} is damaged", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        Ok(Self {
            path: path.into(),
            measured,
            rows,
            run: None,
        })
    }

    /// The same, of a run that is trained.
    pub fn of(self, run: &RunDir) -> Self {
        Self {
            run: Some(run.clone()),
            ..self
        }
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
        Some(row.line())
    }

    /// What the validation score is called in files.
    pub fn score_name(&self) -> &'static str {
        self.measured.terms[0].column
    }

    /// The validation score of an epoch.
    pub fn score(&self, epoch: usize) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.epoch == epoch)?;
        Some(row.valid_score())
    }

    /// Adds an epoch and writes the file anew, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the folder is another than was locked.
    pub fn push(&mut self, row: EpochRow) -> io::Result<()> {
        self.run.as_ref().map_or(Ok(()), RunDir::check)?;
        self.rows.push(row);
        let mut text = columns(self.measured).join(",");
        for row in &self.rows {
            text.push('\n');
            text.push_str(&row.line());
        }
        text.push('\n');
        replace(&self.path, text.as_bytes())
    }

    /// The row with the highest validation score among the epochs that `eligible` takes.
    pub fn best_of(&self, eligible: impl Fn(usize) -> bool) -> Option<EpochRow> {
        self.rows
            .iter()
            .filter(|row| eligible(row.epoch))
            .max_by(|a, b| a.valid_score().total_cmp(&b.valid_score()))
            .cloned()
    }

    /// The row of the last epoch.
    pub fn last(&self) -> Option<EpochRow> {
        self.rows.last().cloned()
    }

    /// Seconds of training in all.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }
}

fn read(text: &[u8], measured: &Measured) -> Result<Vec<EpochRow>> {
    let mut reader = csv::Reader::from_reader(text);
    let expected = columns(measured);
    let header = reader.headers()?;
    // An empty file has no header.
    ensure!(
        header.is_empty() || header.iter().eq(&expected),
        "its columns are not {}",
        expected.join(",")
    );
    let rows = reader.into_deserialize::<(usize, Vec<f64>)>().map(|row| {
        let (epoch, numbers) = row?;
        EpochRow::of(epoch, &numbers, measured).context("a row is too short or too long")
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Term;

    const MEASURED: Measured = Measured {
        item: "image",
        advice: "",
        terms: &[
            Term {
                name: "ELBO",
                column: "elbo",
                higher_is_better: true,
            },
            Term {
                name: "KL",
                column: "kl",
                higher_is_better: false,
            },
        ],
    };

    fn row(epoch: usize, valid_elbo: f64) -> EpochRow {
        EpochRow {
            epoch,
            train: vec![valid_elbo - 5.0, 2.5],
            valid: vec![valid_elbo, 1.5],
            seconds: 0.25,
            ..EpochRow::empty(&MEASURED)
        }
    }

    #[test]
    fn rows_survive_the_file_and_the_best_is_the_highest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut history = History::load(&path, &MEASURED).unwrap();
        for (epoch, elbo) in [(1, -30.0), (2, -10.000_000_000_000_002), (3, -20.0)] {
            history.push(row(epoch, elbo)).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(
                "epoch,train_elbo,train_kl,valid_elbo,valid_kl,valid_elbo_not_averaged,gradient_norm,clipped,seconds,\
                 images_per_second\n1,-35.0,2.5,-30.0,1.5,0.0,0.0,0.0,0.25,0.0\n"
            ),
            "{text}"
        );
        let mut read = History::load(&path, &MEASURED).unwrap();
        assert_eq!(read.rows, history.rows);
        assert_eq!(read.best_of(|_| true).unwrap().epoch, 2);
        assert_eq!(read.last().unwrap().epoch, 3);
        assert_eq!(read.seconds(), 0.75);
        assert_eq!(read.best_of(|epoch| epoch != 2).unwrap().epoch, 3);
        read.truncate(1);
        assert_eq!(read.best_of(|_| true).unwrap().epoch, 1);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let header = columns(&MEASURED).join(",");
        for text in [
            "epoch,train_elbo\n1,what\n".to_owned(),
            format!("{}\n1,2,3,4,5,6,7,8,9,10\n", header.replace("kl", "nll")),
            format!("{header}\n1,2,3\n"),
            format!("{header}\n1,2,3,4,5,6,7,8,9,what\n"),
            format!("{header}\n1,2,3,4,5,6,7,8,9,10,11\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", History::load(&path, &MEASURED).unwrap_err());
            assert!(error.contains("metrics.csv is damaged"), "{error}");
        }
    }
}
