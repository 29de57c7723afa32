//! `train energy`: a flow fitted to a distribution that is known up to a constant, by its energy.

pub mod evaluate;
mod potential;
pub mod report;
pub mod restarts;
pub mod sample;

use std::{num::NonZeroUsize, ops::Range, sync::Arc};

use anyhow::{Result, ensure};
use burn::{
    data::dataset::{Dataset, DatasetError},
    module::{Module, Param},
    tensor::{Device, Tensor, TensorData},
};
use burn_flows::{DiagonalGaussian, Flow, FlowDistribution};
use flow_vae::{Annealing, BoundTerms};
use serde::{Deserialize, Serialize};

use crate::{
    config::Training,
    flow::{FlowName, FlowSettings},
    learn::{
        loader::{Batch, Batcher, Role, StepNumber},
        optimizer::OptimizerName,
        watch::Watch,
    },
    random::normal_rows,
    run::{RunDir, trained::Trained},
    task::{Measured, Model, Score, Settings, Task, TaskName, Term},
};

pub use potential::EnergyName;

/// Dimensions of the energies.
pub const DIM: usize = 2;

/// Updates that count as an epoch, since there are no data that would say how long one is.
const UPDATES: usize = 100;

/// The most points of a step.
const MOST_POINTS: usize = 1_000_000;

/// Points by which epochs are compared.
const VALID: usize = 5_000;

/// How far the bound may fall below its best: the wells are some nats deep, and what is outside of the window costs hundreds.
const RANGE: f64 = 50.0;

/// How much farther from the target than the best of its seeds a fit is in a bad optimum, in nats.
const BAD: f64 = 0.1;

/// How many fits are in a bad optimum, of so far from the target, where the nearest is `nearest`.
fn bad(distances: impl Iterator<Item = f64>, nearest: f64) -> usize {
    distances.filter(|kl| *kl > nearest + BAD).count()
}

/// Everything that decides what a run computes, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnergySettings {
    pub energy: EnergyName,
    #[serde(flatten)]
    pub flow: FlowSettings,
    #[serde(flatten)]
    pub training: Training,
    pub anneal: Annealing,
    /// How many seeds are tried, from that of the training on.
    #[serde(default = "one")]
    pub restarts: NonZeroUsize,
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

impl EnergySettings {
    /// The defaults for an energy, a family, a number of layers and an optimiser.
    pub fn new(energy: EnergyName, flow: FlowSettings, optimizer: OptimizerName) -> Self {
        Self {
            energy,
            flow,
            training: Training::new::<Self>(200, 250, optimizer),
            anneal: Annealing::FreeEnergy,
            restarts: one(),
        }
    }
}

impl Default for EnergySettings {
    /// Of the first energy, with 32 planar layers as in the paper's figure and Adam.
    fn default() -> Self {
        let flow = FlowSettings::new(FlowName::Planar, 32);
        Self::new(EnergyName::U1, flow, OptimizerName::Adam)
    }
}

impl Settings for EnergySettings {
    const TASK: TaskName = TaskName::Energy;

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    /// Two and a half times that of models with encoders: a few numbers learn faster
    /// ([measured](../../../experiments/figure3/README.md)).
    fn usual_lr(optimizer: OptimizerName) -> f64 {
        2.5 * optimizer.lr()
    }

    /// Networks that move at full rate at once throw points to where the walls are steep.
    fn usual_lr_warm_up(_: OptimizerName) -> usize {
        500
    }

    fn seeds(&self) -> Option<Range<u64>> {
        let (first, count) = (self.training.seed, self.restarts.get() as u64);
        (count > 1).then(|| first..first.saturating_add(count))
    }

    fn of_seed(&self, seed: u64) -> Self {
        let mut fit = self.clone();
        (fit.training.seed, fit.restarts) = (seed, one());
        fit
    }

    fn short_name(&self) -> String {
        self.energy.to_string()
    }

    fn make_saved(&mut self) -> Result<()> {
        self.training.make_saved();
        Ok(())
    }
}

/// A flow and the energy that it is fitted to.
#[derive(Clone)]
pub struct EnergyTask {
    settings: EnergySettings,
}

impl Task for EnergyTask {
    type Settings = EnergySettings;
    type Model = Approximation;
    type Batcher = NoiseBatcher;

    fn open(settings: EnergySettings) -> Result<Self> {
        settings.training.validate([1.0; 2])?;
        ensure!(
            settings.training.batch_size.get() <= MOST_POINTS,
            "--batch-size {}: a step takes at most {MOST_POINTS} points",
            settings.training.batch_size
        );
        (settings.flow).validate(
            DIM,
            None,
            2.0 * DIM as f64,
            "--layers and the flags of --flow",
        )?;
        ensure!(
            !matches!(settings.anneal, Annealing::KlWarmUp { .. }),
            "--anneal {}: an energy has no prior to warm up to; give free-energy or none",
            settings.anneal
        );
        Ok(Self { settings })
    }

    fn settings(&self) -> &EnergySettings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut EnergySettings {
        &mut self.settings
    }

    fn describe(&self) -> String {
        format!(
            "the energy {}, {} with K = {}",
            self.settings.energy,
            self.settings.flow.flow.name(),
            self.settings.flow.layers
        )
    }

    fn fingerprint(&self) -> String {
        format!("the energy {}", self.settings.energy)
    }

    fn model(&self, device: &Device) -> Approximation {
        let zeros = || Param::from_tensor(Tensor::zeros([1, DIM], device));
        Approximation {
            mean: zeros(),
            log_var: zeros(),
            flow: self.settings.flow.config(DIM).init(device),
            energy: self.settings.energy,
        }
    }

    fn dataset(&self, role: Role) -> Arc<dyn Dataset<usize>> {
        let batch_size = self.settings.training.batch_size.get();
        Arc::new(Numbers(match role {
            Role::Train => UPDATES * batch_size,
            Role::Valid => VALID,
        }))
    }

    fn batcher(&self, role: Role) -> NoiseBatcher {
        NoiseBatcher {
            seed: self.settings.training.seed,
            anneal: match role {
                Role::Train => self.settings.anneal,
                Role::Valid => Annealing::None,
            },
        }
    }

    fn watch(&self) -> Watch {
        Watch::new(RANGE, self.settings.training.batch_size.get())
    }

    fn draw(run: &RunDir, trained: &Trained<Self>) -> Result<()> {
        sample::draw(run, trained)
    }
}

/// q: a flow on a Gaussian whose mean and variances are learned too.
#[derive(Module, Debug)]
pub struct Approximation {
    mean: Param<Tensor<2>>,
    log_var: Param<Tensor<2>>,
    flow: Flow,
    #[module(skip)]
    energy: EnergyName,
}

impl Approximation {
    pub fn distribution(&self) -> FlowDistribution {
        let base = DiagonalGaussian::new(self.mean.val(), self.log_var.val());
        self.flow.distribution(base, None)
    }
}

/// The bound ln Z ≥ E_q[-U(z) - ln q(z)] and its parts (Rezende & Mohamed 2015, eq. 15, with -U for the joint).
pub const MEASURED: &Measured = &Measured {
    item: "point",
    advice: "start anew with a lower --lr, or a longer --lr-warm-up",
    terms: &[
        Term {
            name: "ELBO",
            column: "elbo",
            higher_is_better: true,
        },
        Term {
            name: "energy",
            column: "energy",
            higher_is_better: false,
        },
        Term {
            name: "entropy",
            column: "entropy",
            higher_is_better: true,
        },
    ],
};

impl Model for Approximation {
    type Batch = NoiseBatch;

    const MEASURED: &'static Measured = MEASURED;

    fn score(&self, batch: NoiseBatch) -> Score {
        let [items, _] = batch.noise.dims();
        let (anneal, updates) = (batch.anneal, batch.at.updates());
        let (z, log_q) = self.distribution().transport(batch.noise);
        let energy = self.energy.of(z);
        let terms = BoundTerms {
            log_prior: energy.zeros_like(),
            log_likelihood: energy.clone().neg(),
            log_posterior: log_q.clone(),
        };
        Score {
            loss: anneal.loss(&terms, updates).mean(),
            maximised: anneal.beta(updates) == 1.0,
            terms: vec![terms.elbo().mean(), energy.mean(), log_q.mean().neg()],
            items,
        }
    }
}

/// The points of an epoch, of which nothing is known beforehand but their numbers, from 0.
struct Numbers(usize);

impl Dataset<usize> for Numbers {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        Ok(index)
    }

    fn len(&self) -> usize {
        self.0
    }
}

/// Draws noise that points are made of, other in each epoch of training.
#[derive(Clone)]
pub struct NoiseBatcher {
    /// The seed of the run.
    seed: u64,
    anneal: Annealing,
}

#[derive(Clone, Debug)]
pub struct NoiseBatch {
    /// Standard normal, `[batch, 2]`.
    noise: Tensor<2>,
    at: StepNumber,
    anneal: Annealing,
}

impl Batch for NoiseBatch {
    fn at(&self) -> StepNumber {
        self.at
    }
}

impl Batcher for NoiseBatcher {
    type Item = usize;
    type Batch = NoiseBatch;

    fn batch(&self, items: Vec<usize>, role: Role, at: StepNumber, device: &Device) -> NoiseBatch {
        let (epoch, rows) = (role.key_epoch(at.epoch), items.len());
        let noise = normal_rows(self.seed, role.noise(), epoch, items.into_iter(), 1, DIM);
        NoiseBatch {
            noise: Tensor::from_data(TensorData::new(noise, [rows, DIM]), device),
            at,
            anneal: self.anneal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{FIXED_EPOCH, Purpose, fill_normal, stream};

    fn batch(noise: &NoiseBatcher, role: Role, epoch: usize, step: usize) -> NoiseBatch {
        let at = StepNumber {
            epoch,
            step,
            steps: UPDATES,
            items: 2,
        };
        noise.batch(vec![3, 5], role, at, &Device::flex())
    }

    #[test]
    fn validation_has_the_same_noise_in_each_epoch_and_none_of_training() {
        let noise = NoiseBatcher {
            seed: 7,
            anneal: Annealing::None,
        };
        let values = |role, epoch| {
            let batch = batch(&noise, role, epoch, 1);
            batch.noise.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let valid = values(Role::Valid, 1);
        assert_eq!(valid, values(Role::Valid, 2));
        let train = [values(Role::Train, 1), values(Role::Train, 2)];
        assert_ne!(train[0], train[1]);
        assert!(train.iter().flatten().all(|number| !valid.contains(number)));
        let mut rng = stream(7, Purpose::ValidNoise, FIXED_EPOCH, 3);
        let mut expected = [0.0; DIM];
        fill_normal(&mut rng, &mut expected);
        assert_eq!(valid[..DIM], expected);
    }

    /// β = 0.01 + t / 10,000 is 1 at update 9,900.
    #[test]
    fn the_bound_is_maximised_when_the_annealing_is_over() {
        let task = EnergyTask::open(EnergySettings::default()).unwrap();
        let model = task.model(&Device::flex());
        let noise = NoiseBatcher {
            seed: 0,
            anneal: Annealing::FreeEnergy,
        };
        let score = |epoch| model.score(batch(&noise, Role::Train, epoch, 1));
        let [first, late] = [score(1), score(100)];
        assert!(!first.maximised && late.maximised);
        let number = |tensor: &Tensor<1>| tensor.clone().into_scalar::<f32>();
        let [elbo, energy, entropy] = [0, 1, 2].map(|i| number(&late.terms[i]));
        assert!((elbo - (entropy - energy)).abs() < 1e-4);
        assert!((number(&late.loss) + elbo).abs() < 1e-4);
        let [energy, entropy] = [1, 2].map(|i| number(&first.terms[i]));
        assert!((number(&first.loss) - (0.01 * energy - entropy)).abs() < 1e-4);
    }

    #[test]
    fn a_bad_optimum_is_farther_than_the_nearest() {
        let count = |distances: &[f64], nearest| bad(distances.iter().copied(), nearest);
        assert_eq!(count(&[0.02, 0.11, 0.13, 0.5, 3.0], 0.02), 3);
        assert_eq!(count(&[0.02, 0.11, 0.13, 0.5, 3.0], 0.41), 1);
        assert_eq!(count(&[0.02, 0.11], 0.02), 0);
        assert_eq!(count(&[], 0.02), 0);
    }

    #[test]
    fn an_explosion_is_noticed() {
        let task = EnergyTask::open(EnergySettings::default()).unwrap();
        let watch = task.watch();
        assert!((0..1000).all(|_| watch.see(2.0, 1, 1, true).is_none()));
        assert!((0..100).any(|_| watch.see(2.0 - 3.0 * RANGE, 1, 1, true).is_some()));
    }

    #[test]
    fn rates_are_those_that_help_says() {
        assert_eq!(EnergySettings::default().training.lr, 0.005);
        assert_eq!(EnergySettings::default().training.lr_warm_up, 500);
        assert_eq!(EnergySettings::usual_lr(OptimizerName::Rmsprop), 0.0005);
    }
}
