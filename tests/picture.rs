//! The panels of pictures, as numbers.

use std::io::Cursor;

/// A PNG file of panels: framed, with gaps between.
pub struct Picture {
    width: usize,
    pixels: Vec<u8>,
    channels: usize,
}

/// Between panels, and the frame of each.
const GAP: usize = 12;
const FRAME: usize = 1;

impl Picture {
    /// Of the bytes of a PNG file.
    pub fn of(png: &[u8]) -> Self {
        let mut reader = png::Decoder::new(Cursor::new(png))
            .read_info()
            .expect("a PNG file");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("an image");
        Self {
            width: info.width as usize,
            channels: info.color_type.samples(),
            pixels,
        }
    }

    /// How dark the pixels of a square panel of this side are, row by row from the top: 0 is white, 1 the darkest of it.
    pub fn darkness(&self, column: usize, row: usize, side: usize) -> Vec<f64> {
        let corner = |i: usize| i * (side + 2 * FRAME + GAP) + GAP + FRAME;
        let darkness = |at: usize| {
            let (x, y) = (corner(column) + at % side, corner(row) + at / side);
            let pixel = &self.pixels[(y * self.width + x) * self.channels..][..self.channels];
            let light: f64 = pixel.iter().map(|&byte| f64::from(byte)).sum();
            1.0 - light / (255.0 * self.channels as f64)
        };
        let all: Vec<f64> = (0..side * side).map(darkness).collect();
        let most = all.iter().copied().fold(0.0, f64::max);
        assert!(most > 0.3, "panel {column}, {row} is empty");
        all.into_iter().map(|dark| dark / most).collect()
    }
}

/// The places of the pixels that are at least so dark, from (0, 0) at the upper left corner to (1, 1).
pub fn dark(darkness: &[f64], least: f64) -> Vec<[f64; 2]> {
    let side = darkness.len().isqrt();
    let at = |i: usize| (i as f64 + 0.5) / side as f64;
    (0..darkness.len())
        .filter(|&i| darkness[i] >= least)
        .map(|i| [at(i % side), at(i / side)])
        .collect()
}
