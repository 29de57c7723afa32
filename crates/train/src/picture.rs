//! Grids of grey images as PNG files.

use anyhow::{Context, Result};

use crate::run_dir::RunDir;

/// Width of the lines between images, in pixels.
const GAP: usize = 2;
/// Small images are enlarged to about this width.
const WIDTH: usize = 48;

/// Writes square images of `side * side` values in [0, 1] each, row by row into a grid of `columns`, to
/// the PNG file `name` of the run folder.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn save_grid(
    run: &RunDir,
    name: &str,
    images: &[f32],
    side: usize,
    columns: usize,
) -> Result<()> {
    let scale = (WIDTH / side).max(1);
    let cell = side * scale + GAP;
    let rows = (images.len() / (side * side)).div_ceil(columns);
    let (width, height) = (columns * cell + GAP, rows * cell + GAP);

    let mut pixels = vec![96_u8; width * height];
    for (i, image) in images.chunks_exact(side * side).enumerate() {
        let (left, top) = (i % columns * cell + GAP, i / columns * cell + GAP);
        for y in 0..side * scale {
            for x in 0..side * scale {
                let value = image[y / scale * side + x / scale];
                pixels[(top + y) * width + left + x] = (value * 255.0).round() as u8;
            }
        }
    }

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .with_context(|| format!("cannot encode {name}"))?;
    run.write(name, &file)
}
