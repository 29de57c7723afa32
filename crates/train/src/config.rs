//! The configuration of a run: what is saved beside it, read with `--config`, and set by flags.

use std::{num::NonZeroUsize, path::Path};

use anyhow::{Context, Result, bail, ensure};
use burn::{optim::ModuleOptimizer, tensor::Device};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    backend::{Backend, BackendError, DeviceName},
    learn::{optimizer::OptimizerName, rate::Schedule},
    process,
    run::disk,
    task::{Settings, TaskName},
};

/// Where and how a model is trained, whatever it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub backend: Backend,
    /// Which of its devices; none for the one that it takes by itself.
    #[serde(default)]
    pub devices: Vec<DeviceName>,
    pub epochs: NonZeroUsize,
    pub batch_size: NonZeroUsize,
    pub optimizer: OptimizerName,
    pub lr: f64,
    pub schedule: Schedule,
    /// Updates over which the rate rises at first.
    pub lr_warm_up: usize,
    /// What a step takes from each weight, as a multiple of the rate; none where nothing is.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    pub seed: u64,
    /// The versions that wrote this file; whatever reads it puts its own.
    #[serde(default)]
    pub versions: Versions,
}

/// What a run was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versions {
    /// This program's.
    pub train: String,
    /// Burn's.
    pub burn: String,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            train: env!("CARGO_PKG_VERSION").into(),
            burn: "0.22.1".into(),
        }
    }
}

impl Training {
    /// With the usual rate of such runs, which falls as the cosine does.
    pub fn new<S: Settings>(epochs: usize, batch_size: usize, optimizer: OptimizerName) -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        Self {
            backend: Backend::default(),
            devices: Vec::new(),
            epochs: size(epochs),
            batch_size: size(batch_size),
            optimizer,
            lr: S::usual_lr(optimizer),
            schedule: Schedule::Cosine,
            lr_warm_up: S::usual_lr_warm_up(optimizer),
            weight_decay: None,
            seed: 0,
            versions: Versions::default(),
        }
    }

    /// Refuses rates, the lowest and the highest of which are these multiples of `lr`, that no type refuses.
    ///
    /// # Errors
    ///
    /// With the flag at fault and what it takes.
    pub fn validate(&self, [lowest, highest]: [f64; 2]) -> Result<()> {
        ensure!(
            self.lr.is_finite() && (self.lr * lowest) as f32 > 0.0,
            "--lr {}: the learning rate is a positive number that f32 has",
            self.lr
        );
        ensure!(
            self.devices.len() <= self.batch_size.get(),
            "--batch-size {}: {} devices share a batch, so that it takes an item for each",
            self.batch_size,
            self.devices.len()
        );
        if let Some(decay) = self.weight_decay {
            let rate = self.lr * highest;
            ensure!(
                decay >= 0.0 && rate * decay < 1.0 && (decay as f32).is_finite(),
                "--weight-decay {decay}: a step takes the rate, {rate} at most, times this from each weight; give a number from 0 \
                 to below {}",
                rate.recip()
            );
        }
        Ok(())
    }

    /// Where it is trained, the main device first.
    ///
    /// # Errors
    ///
    /// See [`Backend::devices`]; and where several would wait for one another.
    pub fn open_devices(&self) -> Result<Vec<Device>> {
        // The one thread that computes is the one that hands out the work and waits.
        ensure!(
            self.devices.len() < 2
                || !matches!(self.backend, Backend::Flex | Backend::Ndarray)
                || rayon::current_num_threads() > 1,
            "--devices: {} of them take two threads to compute on, and this process has one (RAYON_NUM_THREADS, or the \
             machine's cores); give --devices 0",
            self.devices.len()
        );
        if self.devices.len() > 1 {
            // Each has one of its own.
            process::check_threads(process::OTHERS + self.devices.len()).with_context(|| {
                format!(
                    "--devices: cannot start a thread for each of {} (ulimit -u)",
                    self.devices.len()
                )
            })?;
        }
        Ok(match &self.devices[..] {
            [] => vec![self.backend.device()?],
            names => self.backend.devices(names)?,
        })
    }

    /// Where a finished run is computed on: the backend's own device, of other machines' the first that was trained on.
    ///
    /// # Errors
    ///
    /// See [`Backend::device`] and [`Backend::devices`].
    pub fn open_device(&self) -> Result<Device, BackendError> {
        match (self.backend, self.devices.first()) {
            (Backend::Remote, Some(first)) => {
                let devices = self.backend.devices(std::slice::from_ref(first))?;
                Ok(devices.into_iter().next().expect("one for each name"))
            }
            (backend, _) => backend.device(),
        }
    }

    /// Makes every number one that a file holds.
    pub fn make_saved(&mut self) {
        self.lr = nearest_saved(self.lr);
        self.weight_decay = self.weight_decay.map(nearest_saved);
    }

    /// The optimiser, as it begins.
    pub fn init_optimizer(&self) -> ModuleOptimizer {
        self.optimizer.init(self.weight_decay.unwrap_or(0.0) as f32)
    }
}

/// What a configuration's file says: the kind of run, then its settings.
#[derive(Serialize)]
struct Saved<'a, S> {
    task: TaskName,
    #[serde(flatten)]
    settings: &'a S,
}

/// The configuration as it is saved.
pub fn to_json<S: Settings>(settings: &S) -> String {
    let task = S::TASK;
    let saved = Saved { task, settings };
    let mut json = serde_json::to_string_pretty(&saved).expect("a configuration is JSON");
    json.push('\n');
    json
}

/// The same by name.
pub fn to_map<S: Settings>(settings: &S) -> Map<String, Value> {
    let task = S::TASK;
    match serde_json::to_value(Saved { task, settings }) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a configuration is a JSON object"),
    }
}

/// Reads a saved configuration.
///
/// # Errors
///
/// When the file cannot be read, is no configuration, or one of another kind of run.
pub fn load<S: Settings>(path: &Path) -> Result<S> {
    let map = read(path)?;
    let task = task_of(&map, path)?;
    if task != S::TASK {
        bail!(
            "{} is of `{task}`, and not of `{}`: give it to `{task}`",
            path.display(),
            S::TASK
        );
    }
    let mut settings: S = (from_map(&map)).with_context(|| no_configuration(path))?;
    settings.training_mut().versions = Versions::default();
    Ok(settings)
}

/// The kind of run that a saved configuration is of.
///
/// # Errors
///
/// When the file cannot be read or is no configuration.
pub fn task(path: &Path) -> Result<TaskName> {
    task_of(&read(path)?, path)
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = disk::read(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| no_configuration(path))
}

fn task_of(map: &Map<String, Value>, path: &Path) -> Result<TaskName> {
    let task = map.get("task").context("it lacks \"task\"");
    task.and_then(|task| Ok(TaskName::deserialize(task)?))
        .with_context(|| no_configuration(path))
}

fn no_configuration(path: &Path) -> String {
    format!(
        "{} is no configuration; compare with the config.json of a run folder",
        path.display()
    )
}

/// Settings, with no other names among them: a flag that is misspelt here would else be one that is not given.
fn from_map<S: Settings>(map: &Map<String, Value>) -> Result<S> {
    let settings: S = serde_json::from_value(Value::Object(map.clone()))?;
    let known = to_map(&settings);
    for name in map.keys() {
        ensure!(known.contains_key(name), "unknown field `{name}`");
    }
    Ok(settings)
}

/// The nearest number that comes back from JSON as it is: serde_json reads one float in ten a digit off where it has more
/// than 15, and what is trained with has to be what is saved.
pub fn nearest_saved(number: f64) -> f64 {
    let reads = |number: &f64| {
        let text = serde_json::to_string(number).expect("a number");
        serde_json::from_str(&text).is_ok_and(|read: f64| read == *number)
    };
    let bits = number.to_bits();
    let near = (0..1000).flat_map(|i| [bits.saturating_sub(i), bits.saturating_add(i)]);
    near.map(f64::from_bits).find(reads).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_what_is_trained_with() {
        let read = |number: f64| -> f64 {
            serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap()
        };
        let given = 0.403_201_525_905_860_45;
        assert_ne!(
            read(given),
            given,
            "serde_json reads it as it is: nearest_saved has become needless"
        );
        let saved = nearest_saved(given);
        assert_eq!(read(saved), saved);
        for exponent in -320..=308 {
            let number: f64 = format!("1e{exponent}").parse().unwrap();
            let saved = nearest_saved(number);
            assert_eq!(read(saved), saved);
            // Subnormal numbers are far apart.
            let near = 1e-12 * number + f64::MIN_POSITIVE;
            assert!((saved - number).abs() <= near, "{number} became {saved}");
        }
    }

    #[test]
    fn the_version_of_burn_is_the_one_built_with() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!(
            "name = \"burn\"\nversion = \"{}\"",
            Versions::default().burn
        );
        assert!(lock.contains(&entry), "{entry} is not in Cargo.lock");
    }
}
