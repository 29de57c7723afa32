//! Grids of images as PNG files.

use anyhow::{Context, Result};

use crate::{data::Images, run::RunDir};

/// Width of the lines between images, in pixels.
const GAP: usize = 2;
/// Small images are enlarged to about this width.
const WIDTH: usize = 48;

/// Writes images of values in [0, 1], one colour after the other, row by row into a grid of `columns`, to the PNG file
/// `name` of the run folder; of the sides and colours of those `like` them.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn save_grid(
    run: &RunDir,
    name: &str,
    images: &[f32],
    like: &Images,
    columns: usize,
) -> Result<()> {
    let (side, colours, size) = (like.side(), like.colours(), like.pixels_per_image());
    let scale = (WIDTH / side).max(1);
    let cell = side * scale + GAP;
    let rows = (images.len() / size).div_ceil(columns);
    let (width, height) = (columns * cell + GAP, rows * cell + GAP);

    let mut pixels = vec![96_u8; width * height * colours];
    for (i, image) in images.chunks_exact(size).enumerate() {
        let (left, top) = (i % columns * cell + GAP, i / columns * cell + GAP);
        for y in 0..side * scale {
            for x in 0..side * scale {
                let (from, to) = (y / scale * side + x / scale, (top + y) * width + left + x);
                for colour in 0..colours {
                    let value = image[colour * side * side + from];
                    pixels[to * colours + colour] = (value * 255.0).round() as u8;
                }
            }
        }
    }

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(match colours {
        1 => png::ColorType::Grayscale,
        _ => png::ColorType::Rgb,
    });
    encoder.set_depth(png::BitDepth::Eight);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&pixels))
        .with_context(|| format!("cannot encode {name}"))?;
    run.write(name, &file)
}
