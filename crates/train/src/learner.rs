//! The VAE as burn-train's learner sees it: a step, its output, the metrics of it.

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
use flow_vae::{Annealing, BoundTerms, Vae};
use fused_optim::{GradientClip, WeightAverage};

use crate::{
    data::{Batch, StepNumber},
    watch::{Divergence, Watch},
};

/// The model, the loss it is trained with, and what training remembers of its weights and gradients.
#[derive(Module, Debug)]
pub struct Trainee {
    /// What is trained.
    pub vae: Vae,
    /// What is validated and used.
    average: WeightAverage<Vae>,
    clip: GradientClip,
    /// The updates of an epoch, at whose end the average is up to date.
    #[module(skip)]
    steps: usize,
    #[module(skip)]
    anneal: Annealing,
    #[module(skip)]
    watch: Option<Watch>,
}

impl Trainee {
    /// Before its first epoch, of `steps` updates.
    pub fn new(vae: Vae, anneal: Annealing, steps: usize, device: &Device) -> Self {
        let vae = vae.materialize();
        Self {
            average: WeightAverage::new(&vae),
            vae,
            clip: GradientClip::new(device),
            steps,
            anneal,
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
    pub fn averaged(&self) -> &Vae {
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

impl TrainStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> TrainOutput<StepOutput> {
        let at = batch.at;
        let terms = self.vae.terms(batch.images, batch.noise);
        let loss = self.anneal.loss(&terms, at.updates()).mean();
        let gradients = loss.backward();
        let mut output = StepOutput::new(&terms, loss, self.clip.last(), at);
        output.watch = self.watch.clone();
        output.maximised = self.anneal.beta(at.updates()) == 1.0;
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(
        mut self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let gradients = self.clip.clip(&self.vae, gradients);
        let stepped = optimizer.step(rate, self, gradients);
        let mut average = stepped.average.follow(&stepped.vae);
        if average.updates().is_multiple_of(stepped.steps) {
            average = average.up_to_date(&stepped.vae);
        }
        Self { average, ..stepped }
    }
}

impl InferenceStep for Trainee {
    type Input = Batch;
    type Output = StepOutput;

    fn step(&self, batch: Batch) -> StepOutput {
        let raw = self.vae.terms(batch.images.clone(), batch.noise.clone());
        let terms = self.averaged().terms(batch.images, batch.noise);
        StepOutput::new(&terms, raw.elbo().mean(), self.clip.last(), batch.at)
    }
}

/// What a step reports: on the device until [`ItemLazy::sync`], then on the host.
pub struct StepOutput {
    /// ELBO, reconstruction, KL, and a number of the weights that are not averaged: the loss of a step of training, the
    /// ELBO of one of validation; the last gradient's norm and what it was multiplied by.
    on_device: Tensor<1>,
    means: Means,
    at: StepNumber,
    /// Looks at the ELBO of a step of training.
    watch: Option<Watch>,
    /// Whether it is the ELBO that is being maximised.
    maximised: bool,
}

/// Means over a batch, in nats per image, and what the optimiser did before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Means {
    pub elbo: f64,
    pub reconstruction: f64,
    pub kl: f64,
    /// In validation, of the weights that are not averaged.
    pub raw_elbo: f64,
    /// The norm of the last gradient, before it was clipped.
    pub gradient_norm: f64,
    /// Whether it was clipped: 1 or 0.
    pub clipped: f64,
    /// How many images they are of: a short last batch counts less.
    pub images: usize,
}

impl StepOutput {
    fn new(terms: &BoundTerms, raw: Tensor<1>, last_gradient: Tensor<1>, at: StepNumber) -> Self {
        let [images] = terms.log_likelihood.dims();
        let means = vec![
            terms.elbo().mean(),
            terms.log_likelihood.clone().mean(),
            terms.kl().mean(),
            raw,
        ];
        let means = Tensor::cat(means, 0).without_autodiff();
        Self {
            on_device: Tensor::cat(vec![means, last_gradient.without_autodiff()], 0),
            means: Means {
                images,
                ..Means::default()
            },
            at,
            watch: None,
            maximised: true,
        }
    }

    fn diverged(&self, how: &str, gradient_norm: f64) -> ExecutionError {
        ExecutionError::WithContext {
            reason: format!(
                "it diverged at {}: {how}; the gradient before had the norm {gradient_norm:.3e}. \
                 Start anew with a lower --lr, or a lower --flow-lr where the flow has many layers",
                self.at
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
        let [elbo, reconstruction, kl, raw, gradient_norm, scale] = numbers[..] else {
            unreachable!("six numbers were put together");
        };
        if ![elbo, reconstruction, kl, raw]
            .iter()
            .all(|number| number.is_finite())
        {
            return Err(self.diverged("the loss is not finite", gradient_norm));
        }
        if !gradient_norm.is_finite() {
            return Err(self.diverged("the gradient before is not finite", gradient_norm));
        }
        if let Some(divergence) = self
            .watch
            .as_ref()
            .and_then(|watch| watch.see(elbo, self.maximised))
        {
            let Divergence { best, now } = divergence;
            let how = format!("the ELBO fell from {best:.1} to {now:.1} nats per image");
            return Err(self.diverged(&how, gradient_norm));
        }
        Ok(Self {
            means: Means {
                elbo,
                reconstruction,
                kl,
                raw_elbo: raw,
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
        self.means
    }
}

/// One of the numbers of [`Means`], averaged over an epoch.
#[derive(Clone)]
pub struct MeanMetric {
    name: MetricName,
    /// As it follows a number.
    unit: &'static str,
    pick: fn(&Means) -> f64,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl MeanMetric {
    pub fn elbo() -> Self {
        Self::new("ELBO", " nats", |means| means.elbo, true)
    }

    pub fn reconstruction() -> Self {
        Self::new(
            "Reconstruction",
            " nats",
            |means| means.reconstruction,
            true,
        )
    }

    pub fn kl() -> Self {
        Self::new("KL", " nats", |means| means.kl, false)
    }

    /// Of validation, by the weights that are not averaged.
    pub fn raw_elbo() -> Self {
        Self::new("ELBO, not averaged", " nats", |means| means.raw_elbo, true)
    }

    pub fn gradient_norm() -> Self {
        Self::new("Gradient norm", "", |means| means.gradient_norm, false)
    }

    /// The share of steps whose gradient was clipped.
    pub fn clipped() -> Self {
        Self::new("Clipped", "", |means| means.clipped, false)
    }

    fn new(
        name: &str,
        unit: &'static str,
        pick: fn(&Means) -> f64,
        higher_is_better: bool,
    ) -> Self {
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
