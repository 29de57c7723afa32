//! Small data sets as files.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use crate::Place;

/// The names that MNIST's image files have.
pub const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
/// See [`TRAIN_IMAGES`].
pub const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";

/// An IDX file of `count` images of `rows` by `columns` pixels.
pub fn idx(count: u32, rows: u32, columns: u32) -> Vec<u8> {
    let header = [0x0803, count, rows, columns];
    let header = header.into_iter().flat_map(u32::to_be_bytes);
    // 97 is odd, so that neighbouring images differ.
    let pixels = (0..count * rows * columns).map(|i| (i * 97 % 256) as u8);
    header.chain(pixels).collect()
}

/// The gzip stream of `bytes`.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Writes a data set of 60 training and 20 test images of `side * side` pixels.
pub fn images(at: &Place, folder: &str, side: u32) {
    at.write(&format!("{folder}/{TRAIN_IMAGES}"), idx(60, side, side));
    at.write(&format!("{folder}/{TEST_IMAGES}"), idx(20, side, side));
}
