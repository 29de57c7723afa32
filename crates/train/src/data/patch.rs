//! Patches of colour images, as numbers between 0 and 1.

use rand::RngExt;

use super::binarize::FIXED_SEED;
use super::{Image, cifar};
use crate::random::{FIXED_EPOCH, Purpose, stream};

/// Width of a patch.
pub(super) const SIDE: usize = 8;

/// How far numbers keep from 0 and 1, where logits end.
const EPS: f64 = 1e-4;

/// Writes a patch of an image of CIFAR-10 into `out`: 64 numbers of red, row by row, as many of green and of blue.
///
/// Its place is drawn anew in each epoch of a run with `seed`, and in [`FIXED_EPOCH`] once for all runs and seeds.
///
/// # Panics
///
/// If it is no such image, or `out` no such patch.
pub(super) fn cut(image: &Image, seed: u64, epoch: u64, out: &mut [f32]) {
    let sizes = (cifar::IMAGE_BYTES, cifar::COLOURS * SIDE * SIDE);
    assert_eq!(
        (image.bytes.len(), out.len()),
        sizes,
        "the size of an image"
    );
    let seed = if epoch == FIXED_EPOCH {
        FIXED_SEED
    } else {
        seed
    };
    let [top, left] = place(seed, epoch, image.position);
    let colours = image.bytes.chunks_exact(cifar::SIDE * cifar::SIDE);
    for (out, colour) in out.chunks_exact_mut(SIDE * SIDE).zip(colours) {
        let rows = colour.chunks_exact(cifar::SIDE).skip(top);
        for (out, row) in out.chunks_exact_mut(SIDE).zip(rows) {
            for (out, byte) in out.iter_mut().zip(&row[left..]) {
                *out = number(*byte);
            }
        }
    }
}

/// The first row and column, of 25 each.
fn place(seed: u64, epoch: u64, position: usize) -> [usize; 2] {
    let mut rng = stream(seed, Purpose::Patch, epoch, position as u64);
    [(); 2].map(|()| rng.random_range(0..=(cifar::SIDE - SIDE) as u32) as usize)
}

/// The paper's x = ε + (1 - 2 ε) byte / 255, without noise: the likelihood is a density at 256 values.
fn number(byte: u8) -> f32 {
    (EPS + (1.0 - 2.0 * EPS) * f64::from(byte) / 255.0) as f32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::Images;

    /// Two images; the byte of colour c, row y and column x is 80 c + 2 y + x, in the second one more.
    fn images() -> Images {
        let bytes = (0..2).flat_map(|i| {
            (0..3 * 32 * 32).map(move |at| (at / 1024 * 80 + at / 32 % 32 * 2 + at % 32 + i) as u8)
        });
        Images::cifar10(bytes.collect())
    }

    fn patch(images: &Images, index: usize, seed: u64, epoch: u64) -> Vec<f32> {
        let mut out = vec![f32::NAN; images.pixels_per_image()];
        cut(&images.image(index), seed, epoch, &mut out);
        out
    }

    #[test]
    fn a_patch_is_red_then_green_then_blue_row_by_row() {
        let got = patch(&images(), 1, 4, 7);
        let [top, left] = place(4, 7, 1);
        for c in 0..3 {
            for y in 0..8 {
                for x in 0..8 {
                    let byte = 80 * c + 2 * (top + y) + left + x + 1;
                    let at = got[64 * c + 8 * y + x];
                    assert_eq!(at, number(byte as u8), "{c} {y} {x}");
                }
            }
        }
    }

    #[test]
    fn numbers_keep_their_distance_from_0_and_1() {
        assert_eq!([0, 255].map(number), [1e-4, 1.0 - 1e-4]);
        assert_eq!(number(51), (1e-4 + 0.9998 * 0.2) as f32);
        let mut last = 0.0;
        for byte in 0..=255 {
            assert!(number(byte) > last);
            last = number(byte);
        }
    }

    /// A changed draw would break the resuming of runs begun with an older version.
    #[test]
    fn places_are_golden() {
        let keys = [(0, 1, 0), (42, 3, 59_999), (FIXED_SEED, FIXED_EPOCH, 5)];
        let places = keys.map(|(seed, epoch, position)| place(seed, epoch, position));
        assert_eq!(places, [[4, 18], [18, 10], [3, 13]]);
    }

    #[test]
    fn a_place_depends_on_seed_epoch_and_image() {
        let places = |seed, epoch, first| (first..first + 50).map(move |i| place(seed, epoch, i));
        assert!(places(1, 1, 0).eq(places(1, 1, 0)));
        for (seed, epoch, first) in [(2, 1, 0), (1, 2, 0), (1, 1, 50)] {
            assert!(!places(1, 1, 0).eq(places(seed, epoch, first)));
        }
    }

    /// So that the numbers of two runs can be compared, whatever their seeds.
    #[test]
    fn what_validation_and_test_see_is_the_same_for_all_runs() {
        let images = images();
        let fixed = |seed| patch(&images, 0, seed, FIXED_EPOCH);
        assert_eq!(fixed(1), fixed(2));
        assert_eq!(fixed(3), patch(&images.slice(0..1), 0, 3, FIXED_EPOCH));
    }

    /// Of n draws each of the 625 places has n / 625 in the mean, with a standard deviation of its root.
    #[test]
    fn all_places_are_equally_likely() {
        let n = 62_500;
        let mut counts = BTreeMap::new();
        for i in 0..n {
            *counts.entry(place(1, 1, i)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 625);
        for (place, count) in counts {
            assert!((50..=150).contains(&count), "{place:?}: {count} of {n}");
        }
    }
}
