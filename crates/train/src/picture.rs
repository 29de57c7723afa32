//! Grids of images as PNG files.

use anyhow::{Context, Result, ensure};

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
/// When a value is not finite, or the folder cannot be written.
pub fn save_grid(
    run: &RunDir,
    name: &str,
    images: &[f32],
    like: &Images,
    columns: usize,
) -> Result<()> {
    ensure!(
        images.iter().all(|value| value.is_finite()),
        "the images for {name} are not finite"
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::VaeSettings;

    /// Grey images of odd side, and patches in three colours: each pixel of a grid is that of its image, or a line.
    #[test]
    fn a_grid_has_each_image_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(&folder.path().join("run")), &VaeSettings::default());
        let run = run.unwrap();
        for (like, count, columns) in [
            (Images::new(5, vec![0; 25]), 3, 2),
            (Images::new(60, vec![0; 3600]), 2, 1),
            (Images::cifar10(vec![0; 3072]), 5, 3),
        ] {
            let (side, colours) = (like.side(), like.colours());
            let level = |image: usize, colour: usize, y: usize, x: usize| {
                (1 + 101 * image + 53 * colour + 7 * y + 3 * x) % 256
            };
            let mut images = Vec::new();
            for image in 0..count {
                for colour in 0..colours {
                    for at in 0..side * side {
                        images.push(level(image, colour, at / side, at % side) as f32 / 255.0);
                    }
                }
            }
            save_grid(&run, "grid.png", &images, &like, columns).unwrap();

            let file = std::fs::read(run.path().join("grid.png")).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(file))
                .read_info()
                .unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let frame = reader.next_frame(&mut pixels).unwrap();
            // Images are enlarged by a whole number, to 48 pixels at most or as they are.
            let enlarged = match side {
                5 => 45,
                8 => 48,
                _ => side,
            };
            let cell = enlarged + 2;
            let rows = count.div_ceil(columns);
            let size = [columns, rows].map(|cells| (cells * cell + 2) as u32);
            assert_eq!([frame.width, frame.height], size);
            assert_eq!(pixels.len(), (size[0] * size[1]) as usize * colours);
            for (i, &got) in pixels.iter().enumerate() {
                let (colour, at) = (i % colours, i / colours);
                let [x, y] = [at % size[0] as usize, at / size[0] as usize];
                let image = y / cell * columns + x / cell;
                let is_line = x % cell < 2 || y % cell < 2 || image >= count;
                let [x, y] = [x, y].map(|at| (at % cell).saturating_sub(2) * side / enlarged);
                let expected = if is_line {
                    96
                } else {
                    level(image, colour, y, x)
                };
                assert_eq!(usize::from(got), expected, "{at}, colour {colour}");
            }
        }
    }
}
