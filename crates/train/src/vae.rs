//! The variational autoencoder of images, whose posterior is a flow.

pub mod estimates;
pub mod evaluate;
pub mod report;
pub mod sample;

use std::{num::NonZeroUsize, path, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use burn::{
    data::dataset::Dataset,
    module::ParamGroup,
    tensor::{Device, Tensor, TensorData},
};
use flow_vae::{Activation, Annealing, BoundTerms, Likelihood, Vae, VaeConfig};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Training, nearest_saved},
    data::{self, Binarization, DatasetName, Image, Images, Splits},
    flow::{FlowName, FlowSettings},
    learn::{
        loader::{Batch, Batcher, Role, StepNumber},
        optimizer::OptimizerName,
        watch::Watch,
    },
    random::{FIXED_EPOCH, Purpose, fill_normal, normal_rows, stream},
    run::{RunDir, trained::Trained},
    task::{Measured, Model, Score, Settings, Task, TaskName, Term},
};

/// Everything that decides what a run computes, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaeSettings {
    pub dataset: DatasetName,
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
    /// How many images validate; as many as the data set's custom is where it isn't said.
    #[serde(default)]
    pub valid_images: Option<NonZeroUsize>,
    /// None where the model sees numbers between 0 and 1.
    pub binarization: Option<Binarization>,
    #[serde(flatten)]
    pub flow: FlowSettings,
    pub latent_dim: NonZeroUsize,
    pub hidden: Vec<NonZeroUsize>,
    pub activation: Activation,
    #[serde(flatten)]
    pub training: Training,
    /// The flow's learning rate, as a multiple of `lr`.
    pub flow_lr: f64,
    pub anneal: Annealing,
    /// Posterior samples of an image in the bound that is maximised; one where it isn't said.
    #[serde(default)]
    pub samples: Option<NonZeroUsize>,
}

/// The most numbers of one tensor of an update's images, as often as they are sampled.
const MOST_NUMBERS: usize = 1 << 27;

impl VaeSettings {
    /// The defaults for a data set, a number of layers and an optimiser.
    pub fn new(dataset: DatasetName, layers: usize, optimizer: OptimizerName) -> Self {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        // The paper's model is too large for 1,400 images of 64 pixels: 40 latents leave a flow little to do there.
        let (latent_dim, epochs) = match dataset {
            DatasetName::Digits => (8, 200),
            DatasetName::Cifar10Patches => (30, 100),
            _ => (40, 100),
        };
        Self {
            binarization: dataset.binarization(),
            dataset,
            data_dir: None,
            valid_images: None,
            flow: FlowSettings::new(FlowName::Planar, layers),
            latent_dim: size(latent_dim),
            hidden: vec![size(400)],
            activation: Activation::Maxout { window: 4 },
            training: Training::new::<Self>(epochs, 100, optimizer),
            flow_lr: FlowName::Planar.lr(layers),
            anneal: Annealing::None,
            samples: None,
        }
    }

    /// Refuses values that no type refuses.
    ///
    /// # Errors
    ///
    /// With the flag at fault and what it takes.
    pub fn validate(&self, pixels: usize) -> Result<()> {
        match (self.dataset.binarization(), self.binarization) {
            (None, Some(how)) => bail!(
                "--binarization {how}: what a model sees of {} stays numbers between black and white; leave it out",
                self.dataset
            ),
            (Some(_), None) => bail!(
                "no binarization is for cifar10-patches alone: name one for {} with --binarization",
                self.dataset
            ),
            _ => {}
        }
        ensure!(
            self.flow_lr.is_finite() && self.flow_lr > 0.0,
            "--flow-lr {}: the flow's learning rate is a positive multiple of --lr",
            self.flow_lr
        );
        if let Some(samples) = self.samples.filter(|samples| samples.get() > 1) {
            ensure!(
                self.anneal == Annealing::None,
                "--anneal {}: it changes parts of the bound of one sample, and --samples {samples} maximises that of several, \
                 which has no such parts; leave one of the two out",
                self.anneal
            );
            let numbers = (self.training.batch_size.get())
                .saturating_mul(samples.get())
                .saturating_mul(pixels);
            ensure!(
                numbers <= MOST_NUMBERS,
                "--samples {samples}: of {} images in a batch (--batch-size) of {pixels} pixels each that is more than memory \
                 is for; {} is the most",
                self.training.batch_size,
                (MOST_NUMBERS / pixels / self.training.batch_size.get()).max(1)
            );
        }
        (self.training).validate([self.flow_lr.min(1.0), self.flow_lr.max(1.0)])?;
        ensure!(!self.hidden.is_empty(), "--hidden: give at least one width");
        self.flow.validate(
            self.latent_dim.get(),
            Some(self.features()),
            self.weights(pixels),
            "--layers, the flags of --flow, --latent-dim, --hidden and --activation",
        )
    }

    /// About how many weights the model has beside its flow; in floating point, since the sizes may be absurd.
    fn weights(&self, pixels: usize) -> f64 {
        let window = match self.activation {
            Activation::Maxout { window } => window as f64,
            Activation::Tanh | Activation::Relu => 1.0,
        };
        let latent = self.latent_dim.get() as f64;
        let widths: Vec<f64> = self.hidden.iter().map(|n| n.get() as f64).collect();
        let between: f64 = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let encoder = window * (pixels as f64 * first + between) + last * 2.0 * latent;
        let decoder =
            window * (latent * last + between) + first * self.likelihood().outputs(pixels) as f64;
        encoder + decoder
    }

    /// How many posterior samples of an image the bound that is maximised has.
    pub fn samples(&self) -> usize {
        self.samples.map_or(1, NonZeroUsize::get)
    }

    /// The width of the encoder's last layer, which is what the flow depends on.
    pub fn features(&self) -> usize {
        self.hidden.last().map_or(0, |width| width.get())
    }

    /// What the model says of pixels: zeros and ones, or numbers between.
    pub fn likelihood(&self) -> Likelihood {
        match self.binarization {
            Some(_) => Likelihood::Bernoulli,
            None => Likelihood::LogitNormal,
        }
    }

    /// The model for images of `pixels` pixels.
    pub fn model(&self, pixels: usize) -> VaeConfig {
        VaeConfig {
            pixels,
            likelihood: self.likelihood(),
            hidden: self.hidden.iter().map(|n| n.get()).collect(),
            activation: self.activation,
            flow: self.flow.config(self.latent_dim.get()),
        }
    }
}

impl Default for VaeSettings {
    /// Of the embedded digits, with ten layers and Adam.
    fn default() -> Self {
        Self::new(DatasetName::Digits, 10, OptimizerName::Adam)
    }
}

impl Settings for VaeSettings {
    const TASK: TaskName = TaskName::Vae;

    fn training(&self) -> &Training {
        &self.training
    }

    fn training_mut(&mut self) -> &mut Training {
        &mut self.training
    }

    fn short_name(&self) -> String {
        self.dataset.short_name()
    }

    fn make_saved(&mut self) -> Result<()> {
        let unknown = "cannot tell where the data are from any other folder";
        let data_dir = self.data_dir.as_deref().map(path::absolute).transpose();
        self.data_dir = data_dir.context(unknown)?;
        self.dataset = self.dataset.clone().absolute().context(unknown)?;
        let folder = match &self.dataset {
            DatasetName::Folder(folder) => Some(folder),
            _ => None,
        };
        for (flag, folder) in [
            ("--dataset", folder),
            ("--data-dir", self.data_dir.as_ref()),
        ] {
            let Some(folder) = folder else { continue };
            ensure!(
                folder.to_str().is_some(),
                "{flag} {}: config.json holds no path that is not UTF-8; give the folder another name, or a link",
                folder.display()
            );
        }
        self.flow_lr = nearest_saved(self.flow_lr);
        self.training.make_saved();
        Ok(())
    }
}

/// A model and its images.
#[derive(Clone)]
pub struct VaeTask {
    settings: VaeSettings,
    pub splits: Splits,
}

impl VaeTask {
    /// With the data at hand.
    ///
    /// # Errors
    ///
    /// When they are no data for these settings, or the settings ask for what cannot be.
    pub fn new(settings: VaeSettings, splits: Splits) -> Result<Self> {
        settings.validate(splits.train.pixels_per_image())?;
        splits.check(settings.binarization)?;
        let splits = splits.validated_by(settings.valid_images)?;
        Ok(Self { settings, splits })
    }
}

impl Task for VaeTask {
    type Settings = VaeSettings;
    type Model = Vae;
    type Batcher = ImageBatcher;

    fn open(settings: VaeSettings) -> Result<Self> {
        let splits = data::load(&settings.dataset, settings.data_dir.as_deref())?;
        Self::new(settings, splits)
    }

    fn settings(&self) -> &VaeSettings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut VaeSettings {
        &mut self.settings
    }

    fn describe(&self) -> String {
        let Splits {
            train, valid, test, ..
        } = &self.splits;
        let side = train.side();
        format!(
            "{} ({} training, {} validation and {} test images of {side} x {side}), K = {}{}",
            self.settings.dataset,
            train.len(),
            valid.len(),
            test.len(),
            self.settings.flow.layers,
            match self.settings.samples() {
                1 => String::new(),
                samples => format!(", ELBO of {samples} importance-weighted samples"),
            }
        )
    }

    fn fingerprint(&self) -> String {
        let mut crc32 = crc32fast::Hasher::new();
        let splits = [&self.splits.train, &self.splits.valid, &self.splits.test];
        for images in splits {
            for i in 0..images.len() {
                crc32.update(images.get(i));
            }
        }
        let (side, crc32) = (splits[0].side(), crc32.finalize());
        let counts = splits.map(Images::len);
        format!("{counts:?} images of {side} x {side} pixels with the checksum {crc32:08x}")
    }

    fn model(&self, device: &Device) -> Vae {
        let pixels = self.splits.train.pixels_per_image();
        self.settings.model(pixels).init(device)
    }

    fn dataset(&self, role: Role) -> Arc<dyn Dataset<Image>> {
        Arc::new(match role {
            Role::Train => self.splits.train.clone(),
            Role::Valid => self.splits.valid.clone(),
        })
    }

    fn batcher(&self, role: Role) -> ImageBatcher {
        ImageBatcher {
            pixels: self.splits.train.pixels_per_image(),
            binarization: self.settings.binarization,
            latent_dim: self.settings.latent_dim.get(),
            samples: self.settings.samples(),
            seed: self.settings.training.seed,
            anneal: match role {
                Role::Train => self.settings.anneal,
                Role::Valid => Annealing::None,
            },
        }
    }

    fn watch(&self) -> Watch {
        let pixels = self.splits.train.pixels_per_image();
        let range = range(self.settings.likelihood(), pixels);
        Watch::new(range, self.settings.training.batch_size.get())
    }

    fn own_rate(&self) -> Option<(ParamGroup, f64)> {
        let flow = ParamGroup::from_predicate("model.flow");
        Some((flow, self.settings.flow_lr))
    }

    fn draw(run: &RunDir, trained: &Trained<Self>) -> Result<()> {
        sample::draw(run, trained)
    }
}

/// How far the ELBO of an image may fall before training has diverged: by half of what there is to learn of it. Of a
/// pixel of zero or one that is ln 2, from knowing nothing to knowing all; of one between it is about 8, from a uniform
/// density to the narrowest that the likelihood has, which is 4.5 nats in the middle and 12.3 at the ends.
pub fn range(likelihood: Likelihood, pixels: usize) -> f64 {
    let of_a_pixel = match likelihood {
        Likelihood::Bernoulli => std::f64::consts::LN_2,
        Likelihood::LogitNormal => 8.0,
    };
    pixels as f64 * of_a_pixel / 2.0
}

/// How the model sees images.
#[derive(Clone)]
pub struct ImageBatcher {
    /// How many numbers of each.
    pub pixels: usize,
    /// From grey levels to zeros and ones; none for patches.
    pub binarization: Option<Binarization>,
    /// Numbers of noise for each sample.
    pub latent_dim: usize,
    /// Samples of each image.
    pub samples: usize,
    /// The seed of the run.
    pub seed: u64,
    pub anneal: Annealing,
}

/// What a training or a validation step needs.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// What the model sees of the images, `[batch, pixels]`.
    pub images: Tensor<2>,
    /// Standard normal noise, `[samples · batch, latent_dim]`, sample-major.
    pub noise: Tensor<2>,
    pub at: StepNumber,
    anneal: Annealing,
}

impl Batch for ImageBatch {
    fn at(&self) -> StepNumber {
        self.at
    }
}

impl Batcher for ImageBatcher {
    type Item = Image;
    type Batch = ImageBatch;

    fn batch(&self, items: Vec<Image>, role: Role, at: StepNumber, device: &Device) -> ImageBatch {
        let key_epoch = role.key_epoch(at.epoch);
        let (rows, pixels) = (items.len(), self.pixels);
        let mut images = vec![0.0; rows * pixels];
        for (seen, image) in images.chunks_exact_mut(pixels).zip(&items) {
            image.see(self.binarization, self.seed, key_epoch, seen);
        }
        let positions = items.iter().map(|image| image.position);
        let noise = normal_rows(
            self.seed,
            role.noise(),
            key_epoch,
            positions,
            self.samples,
            self.latent_dim,
        );
        let tensor = |values, shape| Tensor::from_data(TensorData::new(values, shape), device);
        ImageBatch {
            images: tensor(images, [rows, pixels]),
            noise: tensor(noise, [self.samples * rows, self.latent_dim]),
            at,
            anneal: self.anneal,
        }
    }
}

/// The bound and its parts. Where an image has several samples, the bound is that of all of them, importance-weighted, and no
/// longer the difference of the other two, which are their means.
pub const MEASURED: &Measured = &Measured {
    item: "image",
    advice: "start anew with a lower --lr, or a lower --flow-lr where the flow has many layers",
    terms: &[
        Term {
            name: "ELBO",
            column: "elbo",
            higher_is_better: true,
        },
        Term {
            name: "reconstruction",
            column: "reconstruction",
            higher_is_better: true,
        },
        Term {
            name: "KL",
            column: "kl",
            higher_is_better: false,
        },
    ],
};

impl Model for Vae {
    type Batch = ImageBatch;

    const MEASURED: &'static Measured = MEASURED;

    fn score(&self, batch: ImageBatch) -> Score {
        let [items, _] = batch.images.dims();
        let (anneal, updates) = (batch.anneal, batch.at.updates());
        let [rows, _] = batch.noise.dims();
        let terms: BoundTerms = self.terms(batch.images, batch.noise);
        let (bound, loss) = match rows / items {
            1 => (terms.elbo(), anneal.loss(&terms, updates)),
            samples => {
                let bound = terms.importance_weighted(samples);
                (bound.clone(), bound.neg())
            }
        };
        Score {
            loss: loss.mean(),
            maximised: anneal.beta(updates) == 1.0,
            terms: vec![
                bound.mean(),
                terms.log_likelihood.clone().mean(),
                terms.kl().mean(),
            ],
            items,
        }
    }
}

impl Trained<VaeTask> {
    pub fn settings(&self) -> &VaeSettings {
        &self.task.settings
    }

    /// What the model sees of image `index` of `images`, as in validation.
    pub fn see(&self, images: &Images, index: usize, out: &mut [f32]) {
        let settings = self.settings();
        let seed = settings.training.seed;
        let image = images.image(index);
        image.see(settings.binarization, seed, FIXED_EPOCH, out);
    }

    /// All of `images` [so](Self::see), `[batch, pixels]`.
    pub fn seen(&self, images: &Images) -> Tensor<2> {
        let (rows, pixels) = (images.len(), images.pixels_per_image());
        let mut values = vec![0.0; rows * pixels];
        for (i, image) in values.chunks_exact_mut(pixels).enumerate() {
            self.see(images, i, image);
        }
        Tensor::from_data(TensorData::new(values, [rows, pixels]), &self.device)
    }

    /// Noise of posterior samples, which goes on from call to call, keyed by `seed` and each of `images`: `noise(n)` is
    /// `[n · batch, latent_dim]`, sample-major, whatever the sizes of the calls before.
    pub fn noise(&self, images: &Images, seed: u64) -> impl FnMut(usize) -> Tensor<2> {
        let latent_dim = self.settings().latent_dim.get();
        let mut noise = self.noise_for(Purpose::EvaluateNoise, images, seed);
        move |n| noise(n, latent_dim)
    }

    /// The same for any purpose and width: `noise(n, width)` is `[n · batch, width]`.
    pub fn noise_for(
        &self,
        purpose: Purpose,
        images: &Images,
        seed: u64,
    ) -> impl FnMut(usize, usize) -> Tensor<2> {
        let device = self.device.clone();
        let mut streams: Vec<_> = (0..images.len())
            .map(|i| stream(seed, purpose, FIXED_EPOCH, images.position(i) as u64))
            .collect();
        move |n, width| {
            let batch = streams.len();
            let mut values = vec![0.0; n * batch * width];
            for (row, noise) in values.chunks_exact_mut(width).enumerate() {
                fill_normal(&mut streams[row % batch], noise);
            }
            Tensor::from_data(TensorData::new(values, [n * batch, width]), &device)
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::config;

    #[test]
    fn a_saved_configuration_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let settings = VaeSettings {
            flow: FlowSettings::new(FlowName::Radial, 3),
            anneal: Annealing::FreeEnergy,
            data_dir: Some("some/where".into()),
            ..VaeSettings::default()
        };
        let json = config::to_json(&settings);
        std::fs::write(&path, &json).unwrap();
        assert_eq!(config::load::<VaeSettings>(&path).unwrap(), settings);

        for (was, is, named) in [
            ("\"layers\"", "\"leyers\"", "layers"),
            ("\"data_dir\"", "\"data_dirs\"", "data_dirs"),
            ("\"vae\"", "\"density\"", "train density"),
            ("\"task\"", "\"tusk\"", "task"),
        ] {
            std::fs::write(&path, json.replace(was, is)).unwrap();
            let error = format!("{:#}", config::load::<VaeSettings>(&path).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    /// β = 0.01 + t / 10,000 is 1 at update 9,900.
    #[test]
    fn the_bound_is_maximised_when_the_annealing_is_over() {
        let settings = VaeSettings {
            anneal: Annealing::FreeEnergy,
            ..VaeSettings::default()
        };
        let task = VaeTask::open(settings).unwrap();
        let device = Device::flex();
        let model = task.model(&device);
        let maximised = [1, 100].map(|epoch| {
            let at = StepNumber {
                epoch,
                step: 1,
                steps: 100,
                items: 1,
            };
            let image = task.dataset(Role::Train).get(0).unwrap();
            let batch = task
                .batcher(Role::Train)
                .batch(vec![image], Role::Train, at, &device);
            model.score(batch).maximised
        });
        assert_eq!(maximised, [false, true]);
    }

    /// Three samples of each of two images, the first as if there were no others; ln 1/3 Σ p(x, z) / q(z | x) by their terms.
    #[test]
    fn several_samples_are_importance_weighted() {
        let task = |samples| {
            let samples = NonZeroUsize::new(samples);
            VaeTask::open(VaeSettings {
                samples,
                ..VaeSettings::default()
            })
            .unwrap()
        };
        let device = Device::flex();
        let model = task(1).model(&device);
        let batch = |samples, role| {
            let task = task(samples);
            let at = StepNumber {
                epoch: 1,
                step: 1,
                steps: 1,
                items: 2,
            };
            let images = [4, 9].map(|i| task.dataset(role).get(i).unwrap());
            task.batcher(role).batch(images.into(), role, at, &device)
        };
        let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        for role in [Role::Train, Role::Valid] {
            let (one, three) = (batch(1, role), batch(3, role));
            assert_eq!(three.noise.dims(), [6, 8]);
            assert_eq!(three.images.dims(), [2, 64]);
            let first = three.noise.clone().narrow(0, 0, 2);
            first.into_data().assert_eq(&one.noise.into_data(), true);

            let terms = model.terms(three.images.clone(), three.noise.clone());
            let log_weights = numbers(terms.elbo());
            let of_image = |i| {
                let weights = (0..3).map(|s: usize| f64::exp(log_weights[2 * s + i]));
                (weights.sum::<f64>() / 3.0).ln()
            };
            let expected = (of_image(0) + of_image(1)) / 2.0;
            let [likelihood, kl] = [terms.log_likelihood.clone(), terms.kl()]
                .map(|term| numbers(term).iter().sum::<f64>() / 6.0);
            let score = model.score(three);
            let means: Vec<f64> = (score.terms.into_iter())
                .map(|term| numbers(term)[0])
                .collect();
            for (mean, expected) in means.iter().zip([expected, likelihood, kl]) {
                assert!((mean - expected).abs() < 1e-4, "{mean} {expected}");
            }
            // The bound of several is above their mean, by far more than rounding.
            assert!(means[0] > likelihood - kl + 0.01, "{means:?}");
            assert_eq!(numbers(score.loss)[0], -means[0]);
            assert_eq!(score.items, 2);
            assert!(score.maximised);
        }
    }

    /// All but biases, which are few; a flow of no layers has none.
    #[test]
    fn weights_are_those_of_the_model() {
        let size = |n| NonZeroUsize::new(n).unwrap();
        for (activation, window) in [(Activation::Tanh, 1), (Activation::Maxout { window: 3 }, 3)] {
            let settings = VaeSettings {
                flow: FlowSettings::new(FlowName::Planar, 0),
                latent_dim: size(10),
                hidden: vec![size(30), size(20)],
                activation,
                ..VaeSettings::default()
            };
            assert_eq!(settings.features(), 20);
            let weights = settings.weights(64);
            let biases = 2 * window * (30 + 20) + 2 * 10 + 64;
            let task = VaeTask::open(settings).unwrap();
            let model = task.model(&Device::flex());
            assert_eq!(weights, (model.num_params() - biases) as f64);
        }
    }

    #[test]
    fn absurd_sizes_and_rates_are_refused() {
        let refuse = |change: &dyn Fn(&mut VaeSettings), flag: &str| {
            let mut settings = VaeSettings::default();
            change(&mut settings);
            let error = settings.validate(784).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        };
        let huge = NonZeroUsize::new(usize::MAX).unwrap();
        refuse(&|settings| settings.flow.layers = usize::MAX, "--layers");
        refuse(&|settings| settings.latent_dim = huge, "--latent-dim");
        refuse(&|settings| settings.hidden = vec![huge, huge], "--hidden");
        refuse(&|settings| settings.hidden = vec![], "--hidden");
        // Each rate is low enough, or high enough, but for the other.
        let lowest = |settings: &mut VaeSettings| {
            (settings.training.lr, settings.flow_lr) = (1e-20, 1e-30);
        };
        refuse(&lowest, "--lr");
        let highest = |settings: &mut VaeSettings| {
            (settings.training.lr, settings.flow_lr) = (5e-3, 4.0);
            settings.training.weight_decay = Some(100.0);
        };
        refuse(&highest, "--weight-decay");
        for rate in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
            refuse(&|settings| settings.training.lr = rate, "--lr");
            refuse(&|settings| settings.flow_lr = rate, "--flow-lr");
        }
        let many = |samples| {
            move |settings: &mut VaeSettings| settings.samples = NonZeroUsize::new(samples)
        };
        refuse(&many(usize::MAX), "--samples");
        // 2^27 numbers are 1,711 times 100 images of 784 pixels.
        refuse(&many(1_712), "1711 is the most");
        refuse(
            &|settings| {
                settings.samples = NonZeroUsize::new(2);
                settings.anneal = Annealing::FreeEnergy;
            },
            "--anneal free-energy",
        );
        for samples in [1, 2, 1_711] {
            let mut settings = VaeSettings::default();
            many(samples)(&mut settings);
            settings.validate(784).unwrap();
        }
        // Of one sample any annealing and any batch.
        let mut settings = VaeSettings {
            samples: NonZeroUsize::new(1),
            anneal: Annealing::FreeEnergy,
            ..VaeSettings::default()
        };
        settings.training.batch_size = huge;
        settings.validate(784).unwrap();
    }
}
