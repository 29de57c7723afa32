//! A run's best model and its data, for the commands that use a finished run.

use anyhow::{Context, Result};
use burn::{
    module::Module,
    store::ModuleRecord,
    tensor::{Device, Tensor, TensorData},
};
use flow_vae::Vae;

use crate::{
    config::RunConfig,
    data::{self, FIXED_EPOCH, Images, Splits},
    learner::Trainee,
    random::{Purpose, fill_normal, stream},
    run_dir::RunDir,
};

/// Everything that evaluation and pictures need.
pub struct Trained {
    pub config: RunConfig,
    pub device: Device,
    pub splits: Splits,
    pub vae: Vae,
    /// The epoch that the weights are of.
    pub epoch: usize,
}

impl Trained {
    /// The best model of `run` and the data of `config`, on `config`'s backend.
    ///
    /// # Errors
    ///
    /// When the backend, the data or the checkpoint is missing or damaged, or they do not fit.
    pub fn load(run: &RunDir, config: RunConfig) -> Result<Self> {
        let device = config.backend.device()?;
        let splits = data::load(&config.dataset, config.data_dir.as_deref())?;
        Self::new(run, config, device, splits)
    }

    /// [`load`](Self::load) with the device and the data at hand.
    ///
    /// # Errors
    ///
    /// When there is no checkpoint, or it is damaged or does not fit the data.
    pub fn new(run: &RunDir, config: RunConfig, device: Device, splits: Splits) -> Result<Self> {
        let epoch = run.best()?.epoch;
        let pixels = splits.test.pixels_per_image();
        let blank = Trainee::new(config.model(pixels).init(&device), config.anneal, &device);
        let vae = load_weights(run, blank, epoch, splits.test.side())?.vae;
        Ok(Self {
            config,
            device,
            splits,
            vae,
            epoch,
        })
    }

    /// Images of `images` as zeros and ones, `[batch, pixels]`, binarised as training validated them.
    pub fn binarized(&self, images: &Images) -> Tensor<2> {
        let (rows, pixels) = (images.len(), images.pixels_per_image());
        let mut values = vec![0.0; rows * pixels];
        for (i, image) in values.chunks_exact_mut(pixels).enumerate() {
            let how = self.config.binarization;
            how.apply(images, i, self.config.seed, FIXED_EPOCH, image);
        }
        Tensor::from_data(TensorData::new(values, [rows, pixels]), &self.device)
    }

    /// Noise that goes on from call to call, keyed by each of `images`: `noise(n)` is
    /// `[n · batch, latent_dim]`, sample-major, whatever the sizes of the calls before.
    pub fn noise(&self, images: &Images) -> impl FnMut(usize) -> Tensor<2> {
        let latent_dim = self.config.latent_dim.get();
        let device = self.device.clone();
        let mut streams: Vec<_> = (0..images.len())
            .map(|i| {
                let index = images.position(i) as u64;
                stream(self.config.seed, Purpose::EvaluateNoise, FIXED_EPOCH, index)
            })
            .collect();
        move |n| {
            let batch = streams.len();
            let mut values = vec![0.0; n * batch * latent_dim];
            for (row, noise) in values.chunks_exact_mut(latent_dim).enumerate() {
                fill_normal(&mut streams[row % batch], noise);
            }
            Tensor::from_data(TensorData::new(values, [n * batch, latent_dim]), &device)
        }
    }
}

/// `model` with the weights of a checkpoint; `side` is the width of the data set's images.
///
/// # Errors
///
/// When the file is missing or damaged, or holds a model of other sizes.
pub fn load_weights(run: &RunDir, model: Trainee, epoch: usize, side: usize) -> Result<Trainee> {
    let path = run.checkpoint_file("model", epoch);
    let record = ModuleRecord::load(&path).with_context(|| damaged(&path))?;
    model.try_load_record(record).with_context(|| {
        format!(
            "the checkpoint {} does not fit the model of config.json and images of {side} x {side} pixels: \
             were the configuration or the data set changed since?",
            path.display()
        )
    })
}

/// What to say of a checkpoint file that cannot be read.
pub fn damaged(path: &std::path::Path) -> String {
    format!(
        "the checkpoint {} is damaged: delete the files of its epoch to fall back on an earlier one",
        path.display()
    )
}
