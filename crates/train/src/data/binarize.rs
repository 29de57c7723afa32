//! From grey levels to zeros and ones.

use std::fmt;

use clap::ValueEnum;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::Image;
use crate::random::{FIXED_EPOCH, Purpose, stream};

/// The seed of draws that are the same for all runs, whatever their seeds: `binarize` in ASCII.
pub(super) const FIXED_SEED: u64 = u64::from_le_bytes(*b"binarize");

/// How a grey image becomes one of zeros and ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Binarization {
    /// A pixel is one with the probability of its grey level, drawn anew in each epoch of training; validation and
    /// test images are drawn once for all runs and seeds.
    Dynamic,
    /// A pixel is one with the probability of its grey level, drawn once for all runs and seeds.
    Static,
    /// A pixel is one where its grey level is above 127.
    Threshold,
}

impl fmt::Display for Binarization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is hidden");
        f.write_str(value.get_name())
    }
}

impl Binarization {
    /// Writes an image of grey levels into `out` (as many values, 0 or 1), as it is in `epoch` of a run with `seed`: both
    /// matter to [`Self::Dynamic`] only, the seed in epochs of training.
    ///
    /// # Panics
    ///
    /// If `out` is not as long as the image.
    pub fn apply(self, image: &Image, seed: u64, epoch: u64, out: &mut [f32]) {
        let grey = &image.bytes[..];
        assert_eq!(grey.len(), out.len(), "the size of an image");
        let rng = |seed, epoch| stream(seed, Purpose::Binarize, epoch, image.position as u64);
        match self {
            Self::Dynamic if epoch != FIXED_EPOCH => draw(rng(seed, epoch), grey, out),
            Self::Dynamic | Self::Static => draw(rng(FIXED_SEED, FIXED_EPOCH), grey, out),
            Self::Threshold => {
                for (out, level) in out.iter_mut().zip(grey) {
                    *out = f32::from(*level > 127);
                }
            }
        }
    }
}

/// Draws ones with probability `grey / 255`, exactly: a uniform byte other than 255 takes 255
/// values, of which `grey` are less than `grey`.
fn draw(mut rng: impl Rng, grey: &[u8], out: &mut [f32]) {
    let mut bytes = [0; 256];
    for (grey, out) in grey.chunks(bytes.len()).zip(out.chunks_mut(bytes.len())) {
        let bytes = &mut bytes[..grey.len()];
        rng.fill_bytes(bytes);
        for byte in bytes.iter_mut() {
            while *byte == 255 {
                rng.fill_bytes(std::slice::from_mut(byte));
            }
        }
        for ((out, level), byte) in out.iter_mut().zip(grey).zip(bytes) {
            *out = f32::from(*byte < *level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn binarize(
        how: Binarization,
        images: &Images,
        index: usize,
        seed: u64,
        epoch: u64,
    ) -> Vec<f32> {
        let mut out = vec![f32::NAN; images.pixels_per_image()];
        how.apply(&images.image(index), seed, epoch, &mut out);
        assert!(out.iter().all(|&x| x == 0.0 || x == 1.0));
        out
    }

    /// Two images of middle grey, of 64 random bits each.
    fn grey() -> Images {
        Images::new(8, vec![128; 128])
    }

    /// Of n draws the share of ones has standard deviation sqrt(p (1 - p) / n); four of them are
    /// allowed, which is none for black and white and tells 254 / 255 from 254 / 256.
    #[test]
    fn the_share_of_ones_is_the_grey_level() {
        let n = 250_000.0;
        for level in [0, 1, 64, 127, 128, 200, 254, 255] {
            let images = Images::new(500, vec![level; 500 * 500]);
            let ones = binarize(Binarization::Dynamic, &images, 0, 1, 1);
            let share = ones.iter().map(|&one| f64::from(one)).sum::<f64>() / n;
            let p = f64::from(level) / 255.0;
            let tolerance = 4.0 * (p * (1.0 - p) / n).sqrt();
            assert!((share - p).abs() <= tolerance, "{level}: {share}");
        }
    }

    #[test]
    fn dynamic_depends_on_seed_epoch_and_image() {
        let how = Binarization::Dynamic;
        let one = binarize(how, &grey(), 0, 1, 1);
        assert_eq!(one, binarize(how, &grey(), 0, 1, 1));
        assert_ne!(one, binarize(how, &grey(), 1, 1, 1));
        assert_ne!(one, binarize(how, &grey(), 0, 2, 1));
        assert_ne!(one, binarize(how, &grey(), 0, 1, 2));
    }

    /// So that the numbers of two runs can be compared, whatever their seeds.
    #[test]
    fn what_validation_and_test_see_is_the_same_for_all_runs() {
        let fixed = |how, seed| binarize(how, &grey(), 0, seed, FIXED_EPOCH);
        let one = fixed(Binarization::Dynamic, 1);
        assert_eq!(one, fixed(Binarization::Dynamic, 2));
        assert_eq!(one, fixed(Binarization::Static, 3));
        assert_ne!(one, binarize(Binarization::Dynamic, &grey(), 0, 1, 1));
    }

    #[test]
    fn static_depends_on_the_image_only() {
        let how = Binarization::Static;
        let one = binarize(how, &grey(), 0, 1, 1);
        assert_eq!(one, binarize(how, &grey(), 0, 2, 2));
        assert_ne!(one, binarize(how, &grey(), 1, 1, 1));
        assert_ne!(one, binarize(Binarization::Dynamic, &grey(), 0, 1, 1));
    }

    #[test]
    fn a_slice_draws_what_the_whole_draws_there() {
        let how = Binarization::Dynamic;
        let slice = grey().slice(1..2);
        assert_eq!(
            binarize(how, &slice, 0, 1, 1),
            binarize(how, &grey(), 1, 1, 1)
        );
    }

    #[test]
    fn threshold_cuts_at_the_middle() {
        let images = Images::new(2, vec![0, 127, 128, 255]);
        let ones = binarize(Binarization::Threshold, &images, 0, 1, 1);
        assert_eq!(ones, [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn names_are_lowercase_everywhere() {
        for how in Binarization::value_variants() {
            let name = how.to_possible_value().unwrap();
            assert_eq!(
                serde_json::to_string(how).unwrap(),
                format!("{:?}", name.get_name())
            );
        }
    }
}
