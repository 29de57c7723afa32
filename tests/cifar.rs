//! Small data sets in CIFAR-10's binary format.

use crate::Place;

/// The names of CIFAR-10's first training file and of its test file.
pub const TRAIN_BATCH: &str = "data_batch_1.bin";
/// See [`TRAIN_BATCH`].
pub const TEST_BATCH: &str = "test_batch.bin";

/// A file of `count` images whose colours change slowly from pixel to pixel, each colour and image at its own pace.
pub fn batch(count: usize) -> Vec<u8> {
    let record = |image: usize| {
        let pixels = (0..3 * 32 * 32).map(move |at| {
            let (colour, y, x) = (at / 1024, at / 32 % 32, at % 32);
            let phase = (image * 97 + colour * 60) as f64 / 40.0;
            let wave = ((x * (1 + image % 3) + y * (1 + colour)) as f64 / 9.0 + phase).sin();
            (128.0 + 100.0 * wave) as u8
        });
        std::iter::once((image % 10) as u8).chain(pixels)
    };
    (0..count).flat_map(record).collect()
}

/// Writes a data set of 60 training and 20 test images.
pub fn cifar(at: &Place, folder: &str) {
    at.write(&format!("{folder}/{TRAIN_BATCH}"), batch(60));
    at.write(&format!("{folder}/{TEST_BATCH}"), batch(20));
}
