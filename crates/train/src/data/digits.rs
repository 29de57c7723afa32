//! The UCI digits, which smartcore carries with it: 1,797 images of 8 x 8 pixels.

use smartcore::dataset::digits;

use super::{Images, Splits};

/// The digits in the order of their file: 1,297 to train, 250 to validate and 250 to test.
pub(super) fn load() -> Splits {
    let pixels = digits::load_dataset().data.iter().map(grey).collect();
    Splits::cut(Images::new(8, pixels), 1297, 250)
}

/// The grey level in 0..=255 of a level in 0..=16.
fn grey(level: &f32) -> u8 {
    (level * 255.0 / 16.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_their_sizes_and_the_full_range_of_grey() {
        let Splits {
            train, valid, test, ..
        } = load();
        assert_eq!((train.len(), valid.len(), test.len()), (1297, 250, 250));
        assert_eq!((valid.position(0), test.position(249)), (1297, 1796));
        assert_eq!(train.pixels_per_image(), 64);
        assert_eq!([0.0, 8.0, 16.0].map(|level| grey(&level)), [0, 128, 255]);

        // The first image of the set is the well-known zero; its levels begin 0 0 5 13 9 1 0 0.
        assert_eq!(train.get(0)[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
    }
}
