//! What a run folder says of its run.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    evaluation::Split,
    run::{
        RunDir, Summary,
        history::{EpochRow, History},
    },
    vae::{MEASURED, VaeSettings, evaluate::Row, sample},
};

/// The noise seed whose evaluations are reported, which `train evaluate` takes by default.
const NOISE_SEED: u64 = 0;

/// A run as its folder has it now.
pub struct Run {
    /// As it was given.
    pub path: PathBuf,
    /// What tells it from the others.
    pub name: String,
    pub settings: VaeSettings,
    pub history: History,
    /// The epoch that `train evaluate` takes.
    pub best: Option<EpochRow>,
    /// Whether it can.
    pub has_weights: bool,
    /// Of a training that has ended, perhaps to be gone on with.
    pub summary: Option<Summary>,
    /// By number of samples: the last on the test images at the best epoch, with the run's own binarisation and noise
    /// seed 0.
    pub evaluations: BTreeMap<usize, Row>,
    /// How many other rows `evaluations.csv` has.
    pub left_out: usize,
    pub samples: Option<Vec<u8>>,
    pub reconstructions: Option<Vec<u8>>,
}

/// The runs in these folders; one that is named twice is there once.
///
/// # Errors
///
/// When a folder is no run's, or a file in it is damaged.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Run>> {
    let mut seen = HashSet::new();
    let mut runs = Vec::new();
    for path in paths {
        let run = RunDir::open(path)?;
        let canonical = fs::canonicalize(path)
            .with_context(|| format!("cannot read the folder {}", path.display()))?;
        if seen.insert(canonical) {
            runs.push(Run::read(&run)?);
        }
    }
    let short: HashSet<String> = runs
        .iter()
        .filter_map(|run| folder_name(&run.path))
        .collect();
    if short.len() == runs.len() {
        for run in &mut runs {
            run.name = folder_name(&run.path).expect("each has one");
        }
    }
    Ok(runs)
}

fn folder_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

impl Run {
    fn read(run: &RunDir) -> Result<Self> {
        let (settings, history): (VaeSettings, _) = run.tables(MEASURED)?;
        let best = run.best_row(MEASURED)?;
        run.tell_of_a_better_one(MEASURED)?;
        let rows: Vec<Row> = run.evaluations()?;
        let all = rows.len();
        ensure!(
            rows.iter().all(Row::is_finite),
            "{}/evaluations.csv is damaged: it has a number that is none",
            run.path().display()
        );
        let taken = rows.into_iter().filter(|row| {
            row.split == Split::Test
                && row.binarization == settings.binarization
                && row.noise_seed == NOISE_SEED
                && row.dataset.short_name() == settings.dataset.short_name()
                && best
                    .as_ref()
                    .is_some_and(|best| best.is_that_of(row.epoch, row.valid_elbo))
        });
        let evaluations: BTreeMap<usize, Row> = taken.map(|row| (row.samples, row)).collect();
        Ok(Self {
            path: run.path().to_owned(),
            name: run.path().display().to_string(),
            history,
            best,
            has_weights: run.has_weights()?,
            summary: run.summary()?,
            left_out: all - evaluations.len(),
            evaluations,
            samples: run.read(sample::SAMPLES_FILE)?,
            reconstructions: run.read(sample::RECONSTRUCTIONS_FILE)?,
            settings,
        })
    }

    /// Whether all its epochs are done.
    pub fn is_complete(&self) -> bool {
        self.history.len() >= self.settings.training.epochs.get()
    }

    /// Of which images it is, and how many of them validate where that is not what is usual.
    pub fn images(&self) -> String {
        let name = self.settings.dataset.short_name();
        match self.settings.valid_images {
            None => name,
            Some(valid) => format!("{name} ({valid} validate)"),
        }
    }

    /// How its images became black and white; nothing where they didn't.
    pub fn binarization(&self) -> String {
        (self.settings.binarization).map_or(String::new(), |how| how.to_string())
    }

    /// The evaluation with the most samples.
    pub fn closest(&self) -> Option<&Row> {
        self.evaluations.values().next_back()
    }

    /// What runs that differ only by seed have in common; where the data lie matters to none of them.
    pub fn but_for_the_seed(&self) -> VaeSettings {
        let mut settings = VaeSettings {
            data_dir: None,
            ..self.settings.clone()
        };
        settings.training.seed = 0;
        settings
    }
}
