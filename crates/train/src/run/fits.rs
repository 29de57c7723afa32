//! A folder of fits with several seeds.

use std::{fs, io, ops::Range, path::PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{RunDir, is_blank, number};
use crate::task::Settings;

/// What the names of the folders of fits begin with, before the seed.
const SEED: &str = "seed-";

impl RunDir {
    /// The folder of the fit with this seed, of several.
    pub fn of_seed(&self, seed: u64) -> PathBuf {
        self.path.join(format!("{SEED}{seed}"))
    }

    /// Whether there is something where the fit with this seed belongs: what is no folder, or cannot be read, is in its way.
    pub fn has_seed(&self, seed: u64) -> bool {
        let path = self.of_seed(seed);
        path.symlink_metadata().is_ok() && !is_blank(&path).is_ok_and(|blank| blank)
    }

    /// The fit with this seed, of several with these settings.
    ///
    /// # Errors
    ///
    /// When there is none, or one of other settings.
    pub fn fit<S: Settings>(&self, settings: &S, seed: u64) -> Result<Self> {
        let path = self.of_seed(seed);
        let shown = path.display();
        if !self.has_seed(seed) {
            bail!("{}", self.lacks::<S>(seed, 0));
        }
        let in_the_way =
            || format!("{shown} is in the way of a fit: move it away, and that fit begins anew");
        let run = Self::open(&path).with_context(in_the_way)?;
        let there: S = run.settings().with_context(in_the_way)?;
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

    /// The seeds of which there is something, in order; a training goes on from a folder with nothing in it as if there were none.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn seeds_there(&self, seeds: &Range<u64>) -> Result<Vec<u64>> {
        let entries = fs::read_dir(&self.path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.with_context(|| format!("cannot read {}", self.path.display()))?;
        let seed_of = |name: &str| number(name.strip_prefix(SEED)?.as_ref());
        let mut there: Vec<u64> = (entries.iter())
            .filter_map(|entry| seed_of(entry.file_name().to_str()?))
            .filter(|seed| seeds.contains(seed))
            .filter(|&seed| self.has_seed(seed))
            .collect();
        there.sort_unstable();
        Ok(there)
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
        let there = self.seeds_there(&seeds)?;
        let fits = there.iter().map(|&seed| self.fit(&settings, seed));
        let mut fits: Vec<Result<Self>> = fits.collect();
        let first = seeds
            .clone()
            .find(|seed| there.binary_search(seed).is_err());
        if let Some(first) = first {
            let more = seeds.end - seeds.start - there.len() as u64 - 1;
            fits.push(Err(anyhow!("{}", self.lacks::<S>(first, more))));
        }
        Ok(fits)
    }

    /// That a fit is missing, and so many more.
    fn lacks<S: Settings>(&self, seed: u64, more: u64) -> String {
        let run = self.path.display();
        let more = match more {
            0 => String::new(),
            more => format!(", nor {more} more of {run}"),
        };
        format!(
            "{} is not there{more}: {} --resume {run} makes what is missing",
            self.of_seed(seed).display(),
            S::TASK.command()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::EnergySettings;

    /// Of the seeds 3 to 7 one is there.
    #[test]
    fn fits_that_are_missing_are_counted() {
        let parent = tempfile::tempdir().unwrap();
        let mut settings = EnergySettings {
            restarts: 5.try_into().unwrap(),
            ..EnergySettings::default()
        };
        settings.training.seed = 3;
        let run = RunDir::create(Some(&parent.path().join("run")), &settings).unwrap();
        RunDir::create(Some(&run.of_seed(4)), &settings.of_seed(4)).unwrap();
        // Killed before its first word.
        fs::create_dir(run.of_seed(6)).unwrap();
        fs::write(run.of_seed(6).join("lock"), "").unwrap();
        // No name of ours.
        fs::create_dir(run.path().join("seed-05")).unwrap();
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
        let run = RunDir::create(Some(&parent.path().join("run")), &settings).unwrap();
        let fit = RunDir::create(Some(&run.of_seed(1)), &settings.of_seed(1)).unwrap();
        run.settings::<EnergySettings>().unwrap();
        fit.settings::<EnergySettings>().unwrap();
        run.save_settings(&settings.of_seed(1)).unwrap();
        let error = run.settings::<EnergySettings>().unwrap_err().to_string();
        assert!(error.contains("seed-1, one of the fits"), "{error}");
    }
}
