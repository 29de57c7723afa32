//! Every random number is a function of (seed, purpose, epoch, index), and of nothing else.
//!
//! Hence binarisation, shuffling and noise do not depend on the number of workers, on validation
//! having run, or on a restart: a resumed run draws what the uninterrupted one would have drawn.

use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// The epoch of draws that stay the same, as validation's and the test's do; epochs of training count from 1.
pub const FIXED_EPOCH: u64 = 0;

/// What a random number is drawn for. The numbers are part of every key: never renumber them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of the training images in an epoch.
    Shuffle = 1,
    /// Turning grey levels into zeros and ones.
    Binarize = 2,
    /// Noise of the posterior sample in a training step.
    TrainNoise = 3,
    /// Noise of the posterior sample in validation.
    ValidNoise = 4,
    /// Noise of the posterior samples in an evaluation.
    EvaluateNoise = 5,
    /// Latent vectors drawn from the prior.
    Prior = 6,
    /// The place of a patch in an image.
    Patch = 7,
    /// The points of a built-in set.
    Points = 8,
    /// Which rows of a file of points are for training, validation and test.
    Split = 9,
    /// Where chains of annealed importance sampling begin, and their moves.
    AnnealNoise = 10,
}

/// The generator of the key (seed, purpose, epoch, index).
///
/// The 32-byte key of ChaCha is the four numbers as they are, little-endian: ChaCha is a
/// pseudo-random function of its key, so that neighbouring keys give unrelated streams.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, epoch, index];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Fills `out` with independent standard normal numbers.
pub fn fill_normal(rng: &mut impl Rng, out: &mut [f32]) {
    for value in out {
        *value = rng.sample(StandardNormal);
    }
}

/// Rows of `width` independent standard normal numbers, one after the other: `samples` times one for each index, keyed by
/// it. The first are the same for any number of samples.
pub fn normal_rows(
    seed: u64,
    purpose: Purpose,
    epoch: u64,
    indexes: impl Iterator<Item = usize>,
    samples: usize,
    width: usize,
) -> Vec<f32> {
    let mut streams: Vec<_> = indexes
        .map(|index| stream(seed, purpose, epoch, index as u64))
        .collect();
    let batch = streams.len();
    let mut rows = vec![0.0; samples * batch * width];
    for (i, row) in rows.chunks_exact_mut(width).enumerate() {
        fill_normal(&mut streams[i % batch], row);
    }
    rows
}

/// The order of `n` items in an epoch: a permutation of `0..n`.
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut stream(seed, Purpose::Shuffle, epoch, 0));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> u64 {
        stream(seed, purpose, epoch, index).next_u64()
    }

    /// A changed stream would break the resuming of runs begun with an older version.
    #[test]
    fn streams_are_golden() {
        let max = u64::MAX;
        assert_eq!(first(0, Purpose::Shuffle, 0, 0), 0x3feb_e7d0_52d7_6565);
        assert_eq!(first(1, Purpose::Binarize, 2, 3), 0x6b27_9daa_46da_ffdc);
        assert_eq!(first(max, Purpose::Prior, max, max), 0xffee_bdfd_992b_5ffe);

        let mut noise = [0.0; 3];
        fill_normal(&mut stream(42, Purpose::TrainNoise, 1, 7), &mut noise);
        assert_eq!(noise, [-1.0540943, 0.70268285, 1.5085348]);

        assert_eq!(permutation(42, 1, 8), [3, 1, 2, 0, 4, 5, 7, 6]);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let keys = [
            first(1, Purpose::Binarize, 1, 1),
            first(2, Purpose::Binarize, 1, 1),
            first(1, Purpose::TrainNoise, 1, 1),
            first(1, Purpose::Binarize, 2, 1),
            first(1, Purpose::Binarize, 1, 2),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b), "key {i} is repeated");
        }
    }

    /// Bits of neighbouring keys agree half of the time. The standard deviation of the share over
    /// n fair bits is 1 / (2 sqrt n) = 0.00063; four of them are allowed.
    #[test]
    fn neighbouring_keys_are_unrelated() {
        let n = 10_000;
        let differing: u32 = (0..n)
            .map(|i| first(7, Purpose::Prior, 0, i) ^ first(7, Purpose::Prior, 0, i + 1))
            .map(u64::count_ones)
            .sum();
        let share = f64::from(differing) / (64.0 * n as f64);
        assert!((share - 0.5).abs() < 0.0026, "{share}");
    }

    /// The mean of n normals has standard deviation 1 / sqrt n, their mean square sqrt(2 / n);
    /// four of them are allowed.
    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let n = 100_000;
        let mut noise = vec![0.0; n];
        fill_normal(&mut stream(3, Purpose::Prior, 0, 0), &mut noise);
        let mean = noise.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let square = noise.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.0127, "mean {mean}");
        assert!((square - 1.0).abs() < 0.0179, "mean square {square}");
    }

    #[test]
    fn a_permutation_holds_each_index_once_and_changes_with_the_epoch() {
        let order = permutation(5, 1, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_ne!(order, sorted);
        assert_ne!(order, permutation(5, 2, 1000));
        assert_eq!(order, permutation(5, 1, 1000));
        assert!(permutation(5, 1, 0).is_empty());
    }
}
