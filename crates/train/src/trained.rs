//! A run's best model and its data, for the commands that use a finished run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::{
    module::Module,
    store::ModuleRecord,
    tensor::{Bytes, Device, Tensor, TensorData},
};
use flow_vae::Vae;

use crate::{
    checkpoint::{self, Origin, Part, damaged},
    config::RunConfig,
    data::{self, FIXED_EPOCH, Images, Splits},
    learner::Trainee,
    pack,
    random::{Purpose, fill_normal, stream},
    run_dir::RunDir,
};

/// Everything that evaluation and pictures need.
pub struct Trained {
    pub config: RunConfig,
    pub device: Device,
    pub splits: Splits,
    pub vae: Vae,
    /// The epoch that the weights are of; unknown where `model.bpk` is all that is left of the run.
    pub epoch: Option<usize>,
    /// Where the weights were read.
    pub file: PathBuf,
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
        Self::of_epoch(run, None, config, device, splits)
    }

    /// The model as it was after `epoch`; without one the best.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_epoch(
        run: &RunDir,
        epoch: Option<usize>,
        config: RunConfig,
        device: Device,
        splits: Splits,
    ) -> Result<Self> {
        let (side, pixels) = (splits.test.side(), splits.test.pixels_per_image());
        config.validate(pixels)?;
        splits.check(config.binarization)?;
        let vae = config.model(pixels).init(&device);

        // An evaluation may have other settings than training, but not weights of another run.
        let origin = Origin::new(&run.config()?, &splits);
        let left = run.model_file();
        let (vae, epoch, file) =
            if epoch.is_none() && run.checkpoints().is_empty() && left.is_file() {
                let (bytes, epoch) = run.model(&origin)?;
                let record = record(bytes).with_context(|| {
                    format!("{} is damaged, and there is no checkpoint", left.display())
                })?;
                (fit(vae, record, &left, side)?, epoch, left)
            } else {
                let (epoch, file, record) = read_checkpoint(run, epoch, &origin)?;
                let trainee = Trainee::new(vae, config.anneal, 1, &device);
                let trainee = fit(trainee, record, &file, side)?;
                (trainee.averaged().clone(), Some(epoch), file)
            };
        Ok(Self {
            config,
            device,
            splits,
            vae,
            epoch,
            file,
        })
    }

    /// What the model sees of image `index` of `images`, as in validation.
    pub fn see(&self, images: &Images, index: usize, out: &mut [f32]) {
        let RunConfig {
            binarization, seed, ..
        } = self.config;
        images.see(index, binarization, seed, FIXED_EPOCH, out);
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

    /// Noise that goes on from call to call, keyed by `seed` and each of `images`: `noise(n)` is
    /// `[n · batch, latent_dim]`, sample-major, whatever the sizes of the calls before.
    pub fn noise(&self, images: &Images, seed: u64) -> impl FnMut(usize) -> Tensor<2> {
        let latent_dim = self.config.latent_dim.get();
        let device = self.device.clone();
        let mut streams: Vec<_> = (0..images.len())
            .map(|i| {
                let index = images.position(i) as u64;
                stream(seed, Purpose::EvaluateNoise, FIXED_EPOCH, index)
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

/// `model` with the weights of the checkpoint of `epoch`; `side` is the width of the data set's images.
///
/// # Errors
///
/// When the file is missing, damaged or of another run, or holds a model of other sizes.
pub fn load_weights(
    run: &RunDir,
    model: Trainee,
    epoch: usize,
    origin: &Origin,
    side: usize,
) -> Result<Trainee> {
    let (_, path, record) = read_checkpoint(run, Some(epoch), origin)?;
    fit(model, record, &path, side)
}

/// The weights of the checkpoint of `epoch`, or of the best: its epoch, its file and what is in it.
fn read_checkpoint(
    run: &RunDir,
    epoch: Option<usize>,
    origin: &Origin,
) -> Result<(usize, PathBuf, ModuleRecord)> {
    let mut gone = None;
    loop {
        let wanted = match epoch {
            Some(epoch) => epoch,
            None => run.best()?.epoch,
        };
        match checkpoint::read(run, wanted, Part::Model, origin) {
            Err(error) if checkpoint::is_missing(&error) => ensure!(
                // A training may just have deleted it: another is the best then.
                epoch.is_none() && gone.replace(wanted) != Some(wanted),
                "{} has no checkpoint of epoch {wanted}: {}",
                run.path().display(),
                match &run.checkpoints()[..] {
                    [] => "there is none at all".into(),
                    epochs => format!("there are those of the epochs {epochs:?}"),
                }
            ),
            read => {
                let (path, bytes) = read?;
                let record = record(bytes).map_err(|_| damaged(&path))?;
                return Ok((wanted, path, record));
            }
        }
    }
}

/// The record in the bytes of a file. Burn's own reading of files leaves the tensors for later, and panics where the
/// file is gone by then, as a training deletes checkpoints.
fn record(bytes: Vec<u8>) -> Result<ModuleRecord> {
    let bytes = Bytes::from_bytes_vec(bytes).shared();
    pack::check_model(bytes.clone())?;
    Ok(ModuleRecord::from_bytes(bytes)?)
}

/// `model` with the weights that were read from `path`.
fn fit<M: Module>(model: M, record: ModuleRecord, path: &Path, side: usize) -> Result<M> {
    model.try_load_record(record).with_context(|| {
        format!(
            "the weights in {} do not fit the model of config.json and images of {side} x {side} pixels: \
             were the configuration or the data set changed since?",
            path.display()
        )
    })
}
