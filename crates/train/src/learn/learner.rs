//! A model as burn-train's learner sees it: a step, its output, the metrics of it.

use std::sync::Arc;

use burn::{
    module::Module,
    optim::{
        GradientsParams, ModuleOptimizer, lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    },
    tensor::{Device, ExecutionError, Tensor, TensorReadError},
    train::{
        InferenceStep, ItemLazy, TrainOutput, TrainStep,
        metric::{
            Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
            NumericAttributes, NumericEntry, SerializedEntry,
            state::{FormatOptions, NumericMetricState},
        },
    },
};
use fused_optim::{GradientClip, WeightAverage};

use super::{
    loader::{Batch, Role, StepNumber},
    watch::{Divergence, Watch},
};
use crate::task::{Measured, Model, Score, Term};

/// The model, and what training remembers of its weights and gradients.
#[derive(Module, Debug)]
pub struct Trainee<M: Module> {
    /// What is trained.
    pub model: M,
    /// What is validated and used.
    average: WeightAverage<M>,
    clip: GradientClip,
    /// The updates of an epoch, at whose end the average is up to date.
    #[module(skip)]
    steps: usize,
    #[module(skip)]
    watch: Option<Watch>,
}

impl<M: Module> Trainee<M> {
    /// Before its first epoch, of `steps` updates.
    pub fn new(model: M, steps: usize, device: &Device) -> Self {
        Self {
            average: WeightAverage::new(&model),
            model,
            clip: GradientClip::new(device),
            steps,
            watch: None,
        }
    }

    /// The same, to go on from a checkpoint after this many epochs.
    pub fn after(self, epochs: usize) -> Self {
        Self {
            average: self.average.after(epochs * self.steps),
            ..self
        }
    }

    /// The model with its weights averaged over the last part of training.
    pub fn averaged(&self) -> &M {
        self.average.model()
    }

    /// The same, whose training fails when it diverges.
    pub fn watched(self, watch: Watch) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }
}

impl<M: Model> TrainStep for Trainee<M> {
    type Input = M::Batch;
    type Output = StepOutput;

    fn step(&self, batch: M::Batch) -> TrainOutput<StepOutput> {
        let at = batch.at();
        let score = self.model.score(batch);
        let raw = score.loss.clone();
        // burn-train adds the gradients of all devices up.
        let loss = match at.items {
            items if items == score.items => score.loss.clone(),
            items => (score.loss.clone()).mul_scalar(score.items as f64 / items as f64),
        };
        let gradients = loss.backward();
        let mut output =
            StepOutput::new(M::MEASURED, score, raw, self.clip.last(), at, Role::Train);
        output.watch = self.watch.clone();
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(
        mut self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let gradients = self.clip.clip(&self.model, gradients);
        let stepped = optimizer.step(rate, self, gradients);
        let mut average = stepped.average.follow(&stepped.model);
        if average.updates().is_multiple_of(stepped.steps) {
            average = average.up_to_date(&stepped.model);
        }
        Self { average, ..stepped }
    }
}

impl<M: Model> InferenceStep for Trainee<M> {
    type Input = M::Batch;
    type Output = StepOutput;

    fn step(&self, batch: M::Batch) -> StepOutput {
        let at = batch.at();
        let raw = self.model.score(batch.clone()).terms.swap_remove(0);
        let score = self.averaged().score(batch);
        StepOutput::new(M::MEASURED, score, raw, self.clip.last(), at, Role::Valid)
    }
}

/// What a step reports: on the device until [`ItemLazy::sync`], then on the host.
pub struct StepOutput {
    measured: &'static Measured,
    /// The measured terms, and a number of the weights that are not averaged: the loss of a step of training, the first
    /// term of one of validation; the last gradient's norm and what it was multiplied by.
    on_device: Tensor<1>,
    means: Means,
    at: StepNumber,
    role: Role,
    /// Looks at the first term of a step of training.
    watch: Option<Watch>,
    /// Whether it is that which is being maximised.
    maximised: bool,
}

/// Means over a batch, in nats per item, and what the optimiser did before it.
#[derive(Clone, Debug, Default)]
pub struct Means {
    pub terms: Vec<f64>,
    /// In validation, the first term by the weights that are not averaged.
    pub raw: f64,
    /// The norm of the last gradient, before it was clipped.
    pub gradient_norm: f64,
    /// Whether it was clipped: 1 or 0.
    pub clipped: f64,
    /// How many items they are of: a short last batch counts less.
    pub items: usize,
}

impl StepOutput {
    fn new(
        measured: &'static Measured,
        score: Score,
        raw: Tensor<1>,
        last_gradient: Tensor<1>,
        at: StepNumber,
        role: Role,
    ) -> Self {
        let mut numbers = score.terms;
        numbers.push(raw);
        let means = Tensor::cat(numbers, 0).without_autodiff();
        Self {
            measured,
            on_device: Tensor::cat(vec![means, last_gradient.without_autodiff()], 0),
            means: Means {
                items: score.items,
                ..Means::default()
            },
            at,
            role,
            watch: None,
            maximised: score.maximised,
        }
    }

    /// Of a step of validation, which is no training's fault alone.
    fn lost(&self) -> ExecutionError {
        let Measured { item, advice, .. } = self.measured;
        ExecutionError::WithContext {
            reason: format!(
                "the loss is not finite in validation, at {}: {item}s are there that are unlike all for training, or it diverged: look \
                 at those, or {advice}",
                self.at
            ),
        }
    }

    fn diverged(&self, how: &str, gradient_norm: f64) -> ExecutionError {
        ExecutionError::WithContext {
            reason: format!(
                "it diverged at {}: {how}; the gradient before had the norm {gradient_norm:.3e}: {}",
                self.at, self.measured.advice
            ),
        }
    }
}

impl ItemLazy for StepOutput {
    /// Reads the numbers, and refuses those that are not finite or far worse than what was seen: the run stops before
    /// such weights reach a checkpoint.
    fn sync(self) -> Result<Self, ExecutionError> {
        let numbers: Vec<f64> = self
            .on_device
            .clone()
            .try_into_data()?
            .iter::<f64>()
            .collect();
        let (means, [gradient_norm, scale]) = numbers
            .split_last_chunk()
            .expect("the gradient's two numbers are the last");
        let (gradient_norm, scale) = (*gradient_norm, *scale);
        if !means.iter().all(|number| number.is_finite()) {
            return Err(match self.role {
                Role::Train => self.diverged("the loss is not finite", gradient_norm),
                Role::Valid => self.lost(),
            });
        }
        let (&raw, terms) = means.split_last().expect("that of the raw weights");
        if !gradient_norm.is_finite() {
            return Err(self.diverged("the gradient before is not finite", gradient_norm));
        }
        if let Some(watch) = &self.watch {
            let (items, all) = (self.means.items, self.at.items);
            if let Some(Divergence { best, now }) = watch.see(terms[0], items, all, self.maximised)
            {
                let name = self.measured.terms[0].name;
                let how = format!("the {name} fell from {best:.1} to {now:.1} nats");
                return Err(self.diverged(&how, gradient_norm));
            }
            if self.at.step == self.at.steps {
                watch.end(self.at.epoch);
            }
        }
        Ok(Self {
            means: Means {
                terms: terms.into(),
                raw,
                gradient_norm,
                clipped: f64::from(scale < 1.0),
                ..self.means
            },
            ..self
        })
    }
}

impl Adaptor<Means> for StepOutput {
    fn adapt(&self) -> Means {
        self.means.clone()
    }
}

/// One of the numbers of [`Means`], averaged over an epoch.
#[derive(Clone)]
pub struct MeanMetric {
    name: MetricName,
    /// As it follows a number.
    unit: &'static str,
    pick: Pick,
    higher_is_better: bool,
    state: NumericMetricState,
}

#[derive(Clone, Copy)]
enum Pick {
    Term(usize),
    Raw,
    GradientNorm,
    Clipped,
}

impl Pick {
    fn of(self, means: &Means) -> f64 {
        match self {
            Self::Term(i) => means.terms[i],
            Self::Raw => means.raw,
            Self::GradientNorm => means.gradient_norm,
            Self::Clipped => means.clipped,
        }
    }
}

impl MeanMetric {
    /// What is measured, in order.
    pub fn terms(measured: &[Term]) -> Vec<Self> {
        let metric = |(i, term): (usize, &Term)| {
            Self::new(term.name, " nats", Pick::Term(i), term.higher_is_better)
        };
        measured.iter().enumerate().map(metric).collect()
    }

    /// What is maximised, in validation, by the weights that are not averaged.
    pub fn raw(measured: &[Term]) -> Self {
        Self::new(&Self::raw_name(measured), " nats", Pick::Raw, true)
    }

    pub fn raw_name(measured: &[Term]) -> String {
        format!("{}, not averaged", measured[0].name)
    }

    pub fn gradient_norm() -> Self {
        Self::new("Gradient norm", "", Pick::GradientNorm, false)
    }

    /// The share of steps whose gradient was clipped.
    pub fn clipped() -> Self {
        Self::new("Clipped", "", Pick::Clipped, false)
    }

    fn new(name: &str, unit: &'static str, pick: Pick, higher_is_better: bool) -> Self {
        Self {
            name: Arc::new(name.into()),
            unit,
            pick,
            higher_is_better,
            state: NumericMetricState::default(),
        }
    }

    /// burn-train's entry, in plain decimals: its own format writes negative numbers as 2e1.
    fn entry(&self, entry: SerializedEntry) -> SerializedEntry {
        let unit = self.unit;
        let epoch = self.state.running_value().current();
        let batch = self.state.current_value().current();
        SerializedEntry {
            formatted: format!("epoch {epoch:.2}{unit} - batch {batch:.2}{unit}"),
            ..entry
        }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name())
    }
}

impl Metric for MeanMetric {
    type Input = Means;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: (!self.unit.is_empty()).then(|| self.unit.trim().into()),
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        means: &Means,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update(self.pick.of(means), means.items);
        Ok(self.entry(self.state.compute_update(self.format())))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(self.state.compute_final(self.format())))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for MeanMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::MEASURED as VAE;

    /// What a step says whose terms, other number, and last gradient's norm and scale are these.
    fn read(terms: [f32; 3], raw: f32, gradient: [f32; 2]) -> Result<Means, String> {
        let tensor = |number: f32| Tensor::<1>::from_data([number], &Device::flex());
        let score = Score {
            terms: terms.map(tensor).into(),
            loss: tensor(0.0),
            maximised: true,
            items: 7,
        };
        let at = StepNumber {
            epoch: 2,
            step: 3,
            steps: 5,
            items: 7,
        };
        let last = Tensor::from_data(gradient, &Device::flex());
        let output = StepOutput::new(VAE, score, tensor(raw), last, at, Role::Train);
        let read = output.sync().map(|output| output.adapt());
        read.map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn numbers_are_read_in_their_order() {
        let means = read([-1.0, 2.0, 3.0], 4.0, [5.0, 0.5]).unwrap();
        assert_eq!(means.terms, [-1.0, 2.0, 3.0]);
        let rest = (means.raw, means.gradient_norm, means.clipped, means.items);
        assert_eq!(rest, (4.0, 5.0, 1.0, 7));
        let means = read([-1.0, 2.0, 3.0], 4.0, [0.5, 1.0]).unwrap();
        assert_eq!((means.gradient_norm, means.clipped), (0.5, 0.0));
    }

    /// Any one of them is enough.
    #[test]
    fn what_is_not_finite_stops_the_training() {
        let (terms, raw, gradient) = ([-1.0, 2.0, 3.0], 4.0, [5.0, 1.0]);
        for (read, wrong) in [
            (read([-1.0, f32::NAN, 3.0], raw, gradient), "the loss is"),
            (read(terms, f32::INFINITY, gradient), "the loss is"),
            (read(terms, raw, [f32::NAN, 1.0]), "the gradient before is"),
        ] {
            let error = read.unwrap_err();
            assert!(error.contains("step 3 of 5 of epoch 2"), "{error}");
            assert!(error.contains(wrong), "{error}, not {wrong}");
        }
    }
}
