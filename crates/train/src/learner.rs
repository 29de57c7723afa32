//! The VAE as burn-train's learner sees it: a step, its output, the metrics of it.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{ExecutionError, Tensor, TensorReadError},
    train::{
        InferenceStep, ItemLazy, TrainOutput, TrainStep,
        metric::{
            Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
            NumericAttributes, NumericEntry, SerializedEntry,
            state::{FormatOptions, NumericMetricState},
        },
    },
};
use flow_vae::{Annealing, BoundTerms, Vae};

use crate::data::Batch;

/// The model and the loss it is trained with.
#[derive(Module, Debug)]
pub struct Trainee {
    pub vae: Vae,
    #[module(skip)]
    anneal: Annealing,
}

impl Trainee {
    pub fn new(vae: Vae, anneal: Annealing) -> Self {
        Self { vae, anneal }
    }
}

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> TrainOutput<StepOutput> {
        let (epoch, step) = (batch.epoch, batch.step);
        let terms = self.vae.terms(batch.images, batch.noise);
        let loss = self.anneal.loss(&terms, step).mean();
        let gradients = loss.backward();
        let output = StepOutput::new(&terms, loss, epoch, step);
        TrainOutput::new(self, gradients, output)
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> StepOutput {
        let (epoch, step) = (batch.epoch, batch.step);
        let terms = self.vae.terms(batch.images, batch.noise);
        let loss = terms.elbo().mean();
        StepOutput::new(&terms, loss, epoch, step)
    }
}

/// What a step reports: on the device until [`ItemLazy::sync`], then on the host.
pub struct StepOutput {
    on_device: Tensor<1>,
    means: Means,
    epoch: usize,
    step: usize,
}

/// Means over a batch, in nats per image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means {
    pub elbo: f64,
    pub reconstruction: f64,
    pub kl: f64,
    /// How many images they are of: a short last batch counts less.
    pub images: usize,
}

impl StepOutput {
    fn new(terms: &BoundTerms, loss: Tensor<1>, epoch: usize, step: usize) -> Self {
        let [images] = terms.log_likelihood.dims();
        let means = vec![
            terms.elbo().mean(),
            terms.log_likelihood.clone().mean(),
            terms.kl().mean(),
            loss,
        ];
        Self {
            on_device: Tensor::cat(means, 0).inner(),
            means: Means {
                images,
                ..Means::default()
            },
            epoch,
            step,
        }
    }
}

impl ItemLazy for StepOutput {
    /// Reads the numbers, and refuses those that are not finite: the run stops before such weights reach
    /// a checkpoint.
    fn sync(self) -> Result<Self, ExecutionError> {
        let numbers: Vec<f64> = self
            .on_device
            .clone()
            .try_into_data()?
            .iter::<f64>()
            .collect();
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(ExecutionError::WithContext {
                reason: format!(
                    "the loss is not finite at step {} of epoch {}",
                    self.step + 1,
                    self.epoch
                ),
            });
        }
        Ok(Self {
            means: Means {
                elbo: numbers[0],
                reconstruction: numbers[1],
                kl: numbers[2],
                ..self.means
            },
            ..self
        })
    }
}

impl Adaptor<Means> for StepOutput {
    fn adapt(&self) -> Means {
        self.means
    }
}

/// One of the numbers of [`Means`], averaged over an epoch.
#[derive(Clone)]
pub struct MeanMetric {
    name: MetricName,
    pick: fn(&Means) -> f64,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl MeanMetric {
    pub fn elbo() -> Self {
        Self::new("ELBO", |means| means.elbo, true)
    }

    pub fn reconstruction() -> Self {
        Self::new("Reconstruction", |means| means.reconstruction, true)
    }

    pub fn kl() -> Self {
        Self::new("KL", |means| means.kl, false)
    }

    fn new(name: &str, pick: fn(&Means) -> f64, higher_is_better: bool) -> Self {
        Self {
            name: Arc::new(name.into()),
            pick,
            higher_is_better,
            state: NumericMetricState::default(),
        }
    }

    /// burn-train's entry, in plain decimals: its own format writes negative numbers as 2e1.
    fn entry(&self, entry: SerializedEntry) -> SerializedEntry {
        let epoch = self.state.running_value().current();
        let batch = self.state.current_value().current();
        SerializedEntry {
            formatted: format!("epoch {epoch:.2} nats - batch {batch:.2} nats"),
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
            unit: Some("nats".into()),
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        means: &Means,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update((self.pick)(means), means.images);
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
