//! Batches for Burn's training loop.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;

use crate::random::{FIXED_EPOCH, Purpose, permutation};

/// What a step is given.
pub trait Batch: Clone + Send + 'static {
    /// Which batch it is.
    fn at(&self) -> StepNumber;
}

/// What becomes of the items of a data set, which may be any of burn-dataset's.
pub trait Batcher: Clone + Send + Sync + 'static {
    type Item: 'static;
    type Batch: Batch;

    /// The batch of these items, as they are at this step. What becomes of an item depends on it and the epoch (in
    /// validation on nothing else), and not on its place in a batch.
    fn batch(
        &self,
        items: Vec<Self::Item>,
        role: Role,
        at: StepNumber,
        device: &Device,
    ) -> Self::Batch;
}

/// Where in a training a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepNumber {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step within the epoch, from 1.
    pub step: usize,
    /// The steps of an epoch.
    pub steps: usize,
    /// The items of the step, on all devices.
    pub items: usize,
}

impl StepNumber {
    /// The updates that went before.
    pub fn updates(self) -> usize {
        (self.epoch - 1) * self.steps + self.step - 1
    }
}

impl fmt::Display for StepNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            epoch, step, steps, ..
        } = self;
        write!(f, "step {step} of {steps} of epoch {epoch}")
    }
}

/// What batches are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another order, and other random numbers, in each epoch.
    Train,
    /// The same batches, in the order of the data set, in each epoch.
    Valid,
}

impl Role {
    /// What random numbers are keyed by where they differ by epoch in training alone.
    pub fn key_epoch(self, epoch: usize) -> u64 {
        match self {
            Self::Train => epoch as u64,
            Self::Valid => FIXED_EPOCH,
        }
    }

    /// What the noise of its steps is drawn for.
    pub fn noise(self) -> Purpose {
        match self {
            Self::Train => Purpose::TrainNoise,
            Self::Valid => Purpose::ValidNoise,
        }
    }
}

/// Gives the batches of the next epoch at each call of [`DataLoader::iter`].
///
/// What an epoch holds depends on its number, not on the epochs that this loader gave before.
pub struct EpochLoader<B: Batcher> {
    dataset: Arc<dyn Dataset<B::Item>>,
    batcher: B,
    role: Role,
    batch_size: NonZeroUsize,
    /// Of the order of the items in training.
    seed: u64,
    device: Device,
    /// How many devices share a batch.
    devices: usize,
    /// For which of them this loader is; none if it gives all of it.
    part: Option<usize>,
    next_epoch: AtomicUsize,
}

impl<B: Batcher> EpochLoader<B> {
    /// A loader of all items of `dataset`, in batches of `batch_size` (the last one of an epoch has what remains), or in one of
    /// all where there are fewer, onto `device`; `first_epoch` is 1, or more after a restart.
    pub fn new(
        dataset: Arc<dyn Dataset<B::Item>>,
        batcher: B,
        role: Role,
        batch_size: NonZeroUsize,
        seed: u64,
        first_epoch: usize,
        device: Device,
    ) -> Self {
        let all = NonZeroUsize::new(dataset.len()).unwrap_or(NonZeroUsize::MIN);
        Self {
            devices: 1,
            part: None,
            dataset,
            batcher,
            role,
            batch_size: batch_size.min(all),
            seed,
            device,
            next_epoch: first_epoch.into(),
        }
    }

    /// The number of batches in an epoch.
    pub fn num_batches(&self) -> usize {
        self.dataset.len().div_ceil(self.batch_size.get())
    }

    /// The same, to be [sliced](DataLoader::slice) for so many devices, no more than it has items.
    pub fn shared_among(self, devices: usize) -> Self {
        Self { devices, ..self }
    }

    /// Which items of a batch of so many this loader gives: the devices' shares differ by one at most.
    fn share(&self, batch: usize) -> Range<usize> {
        match self.part {
            None => 0..batch,
            Some(i) => batch * i / self.devices..batch * (i + 1) / self.devices,
        }
    }

    fn derive(&self, part: Option<usize>, device: Device) -> Arc<dyn DataLoader<B::Batch>> {
        Arc::new(Self {
            dataset: self.dataset.clone(),
            batcher: self.batcher.clone(),
            role: self.role,
            batch_size: self.batch_size,
            seed: self.seed,
            device,
            devices: self.devices,
            part,
            next_epoch: self.next_epoch.load(Ordering::Relaxed).into(),
        })
    }
}

impl<B: Batcher> DataLoader<B::Batch> for EpochLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B::Batch> + 'a> {
        let epoch = self.next_epoch.fetch_add(1, Ordering::Relaxed);
        let order = match self.role {
            Role::Train => permutation(self.seed, epoch as u64, self.dataset.len()),
            Role::Valid => (0..self.dataset.len()).collect(),
        };
        Box::new(Epoch {
            loader: self,
            epoch,
            order,
            done: 0,
            given: 0,
        })
    }

    fn num_items(&self) -> usize {
        let (all, size) = (self.dataset.len(), self.batch_size.get());
        all / size * self.share(size).len() + self.share(all % size).len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B::Batch>> {
        self.derive(self.part, device.clone())
    }

    /// For the device whose slice of the items, as Burn's `split_dataloader` cuts them, starts here: its share of each batch.
    /// (Not of the epoch's order, of which several devices would make other batches than one.)
    fn slice(&self, start: usize, _end: usize) -> Arc<dyn DataLoader<B::Batch>> {
        let part = start / (self.dataset.len() / self.devices);
        self.derive(Some(part), self.device.clone())
    }
}

/// The batches of one epoch.
struct Epoch<'a, B: Batcher> {
    loader: &'a EpochLoader<B>,
    epoch: usize,
    order: Vec<usize>,
    /// Items of the order that are behind.
    done: usize,
    /// How many of them this loader gave.
    given: usize,
}

impl<B: Batcher> Iterator for Epoch<'_, B> {
    type Item = Result<B::Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let loader = self.loader;
        let size = loader.batch_size.get();
        let batch = self.order[self.done..].chunks(size).next()?;
        let at = StepNumber {
            epoch: self.epoch,
            step: self.done / size + 1,
            steps: loader.num_batches(),
            items: batch.len(),
        };
        let indexes = &batch[loader.share(batch.len())];
        self.done += batch.len();
        self.given += indexes.len();
        if indexes.is_empty() {
            // Of a last batch with fewer items than there are devices: the others go on.
            return None;
        }
        let items = loader.dataset.get_many(indexes.to_vec());
        Some(items.map(|items| (loader.batcher).batch(items, loader.role, at, &loader.device)))
    }
}

impl<B: Batcher> DataLoaderIterator<B::Batch> for Epoch<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.given, self.loader.num_items(), Some("items".into()))
    }
}

#[cfg(test)]
mod tests {
    use burn::data::{dataloader::split::split_dataloader, dataset::InMemDataset};
    use burn::tensor::Tensor;
    use flow_vae::Annealing;

    use super::*;
    use crate::{
        data::{Binarization, Image, Images},
        vae::{ImageBatch, ImageBatcher},
    };

    /// Eleven images of 3 x 3 pixels in batches of four. Pixel `bit` of image i is white if i has
    /// that bit and black otherwise, so that binarisation leaves the images recognisable.
    fn loader(role: Role, first_epoch: usize) -> EpochLoader<ImageBatcher> {
        let pixels = (0..11u16).flat_map(|i| (0..9).map(move |bit| 255 * (i >> bit & 1) as u8));
        let images = Images::new(3, pixels.collect());
        let batcher = ImageBatcher {
            pixels: images.pixels_per_image(),
            binarization: Some(Binarization::Dynamic),
            latent_dim: 2,
            seed: 9,
            samples: 1,
            anneal: Annealing::None,
        };
        let batch_size = NonZeroUsize::new(4).unwrap();
        let dataset = Arc::new(images);
        EpochLoader::new(
            dataset,
            batcher,
            role,
            batch_size,
            9,
            first_epoch,
            Device::flex(),
        )
    }

    /// The rows (image, noise) of the next epoch.
    fn rows(loader: &dyn DataLoader<ImageBatch>) -> Vec<(Vec<f32>, Vec<f32>)> {
        let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().unwrap();
        loader
            .iter()
            .map(Result::unwrap)
            .flat_map(|batch| {
                let images = values(batch.images);
                let noise = values(batch.noise);
                let rows = images.chunks(9).zip(noise.chunks(2));
                rows.map(|(image, noise)| (image.to_vec(), noise.to_vec()))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Which image a row shows.
    fn number(image: &[f32]) -> usize {
        let bits = image.iter().enumerate();
        bits.map(|(bit, &one)| (one as usize) << bit).sum()
    }

    #[test]
    fn a_restart_gives_the_epoch_that_would_have_come() {
        let whole = loader(Role::Train, 1);
        let epochs = [rows(&whole), rows(&whole), rows(&whole)];
        assert_ne!(epochs[0], epochs[2]);
        assert_eq!(rows(&loader(Role::Train, 3)), epochs[2]);

        let moved = loader(Role::Train, 1);
        moved.iter();
        moved.iter();
        assert_eq!(rows(&*moved.to_device(&Device::flex())), epochs[2]);
        assert_eq!(rows(&moved), epochs[2]);
    }

    #[test]
    fn an_epoch_of_training_has_each_image_once() {
        let rows = rows(&loader(Role::Train, 1));
        let mut numbers: Vec<usize> = rows.iter().map(|(image, _)| number(image)).collect();
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..11));
    }

    #[test]
    fn validation_repeats_itself_in_order() {
        let loader = loader(Role::Valid, 1);
        let first = rows(&loader);
        assert!(first.iter().map(|(image, _)| number(image)).eq(0..11));
        assert_eq!(first, rows(&loader));
    }

    #[test]
    fn no_noise_is_used_twice() {
        let train = loader(Role::Train, 1);
        let valid = loader(Role::Valid, 1);
        let rows = [rows(&train), rows(&train), rows(&valid)].concat();
        for (i, (_, noise)) in rows.iter().enumerate() {
            assert!(rows[..i].iter().all(|(_, other)| noise != other), "row {i}");
        }
    }

    /// The rows of each batch of the next epoch, and how many the step has in all.
    fn batches(loader: &dyn DataLoader<ImageBatch>) -> Vec<(Vec<f32>, usize)> {
        let values = |tensor: Tensor<2>| tensor.into_data().try_to_vec::<f32>().unwrap();
        loader
            .iter()
            .map(Result::unwrap)
            .map(|batch| (values(batch.images), batch.at.items))
            .collect()
    }

    /// As Burn cuts it, of four, four and three images.
    #[test]
    fn devices_are_given_together_the_batches_of_one() {
        for (role, devices) in [
            (Role::Train, 1),
            (Role::Valid, 2),
            (Role::Train, 2),
            (Role::Train, 3),
            (Role::Train, 4),
        ] {
            let whole = batches(&loader(role, 2));
            let shared: Arc<dyn DataLoader<ImageBatch>> =
                Arc::new(loader(role, 2).shared_among(devices));
            let parts = split_dataloader(shared, &vec![Device::flex(); devices]);
            let items: usize = parts.iter().map(|part| part.num_items()).sum();
            assert_eq!(items, 11);
            let parts: Vec<_> = parts.iter().map(|part| batches(&**part)).collect();
            for (step, (batch, items)) in whole.iter().enumerate() {
                let given = parts.iter().map(|part| part.get(step));
                let sizes = given
                    .clone()
                    .map(|part| part.map_or(0, |(part, _)| part.len() / 9));
                let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
                assert!(most - least <= 1, "{least} and {most} of {items}");
                assert!(given.clone().flatten().all(|(_, of)| of == items));
                let together: Vec<f32> =
                    given.flatten().flat_map(|(part, _)| part.clone()).collect();
                assert_eq!(&together, batch);
            }
        }
    }

    /// One that somebody brings is as good, and its errors arrive.
    #[test]
    fn any_data_set_of_burn_will_do() {
        struct Broken;
        impl Dataset<Image> for Broken {
            fn get(&self, _: usize) -> Result<Image, DatasetError> {
                Err(DatasetError::new(std::fmt::Error))
            }

            fn len(&self) -> usize {
                11
            }
        }
        let ours = loader(Role::Train, 1);
        let of = |dataset| EpochLoader {
            dataset,
            ..loader(Role::Train, 1)
        };
        let images: Vec<Image> = (0..11).map(|i| ours.dataset.get(i).unwrap()).collect();
        let theirs = of(Arc::new(InMemDataset::new(images)));
        assert_eq!(rows(&theirs), rows(&ours));
        assert!(of(Arc::new(Broken)).iter().next().unwrap().is_err());
    }

    #[test]
    fn batches_are_counted_and_the_last_is_kept() {
        let loader = loader(Role::Train, 2);
        assert_eq!((loader.num_items(), loader.num_batches()), (11, 3));
        let mut batches = loader.iter();
        let mut seen = Vec::new();
        while let Some(batch) = batches.next() {
            let batch = batch.unwrap();
            let done = batches.progress().items_processed;
            seen.push((
                batch.at.to_string(),
                batch.at.updates(),
                batch.images.dims(),
                batch.noise.dims(),
                done,
            ));
        }
        assert_eq!(
            seen,
            [
                ("step 1 of 3 of epoch 2".into(), 3, [4, 9], [4, 2], 4),
                ("step 2 of 3 of epoch 2".into(), 4, [4, 9], [4, 2], 8),
                ("step 3 of 3 of epoch 2".into(), 5, [3, 9], [3, 2], 11),
            ]
        );
        assert!(batches.progress().is_completed());
    }
}
