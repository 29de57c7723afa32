//! Pictures of the examples: panels beside and below each other in a PNG file. They carry no text: what they show stands at
//! the top of each program.

use std::{env, error::Error, fs, ops::Range};

/// Width and height of a panel, in pixels, and the white between panels.
const SIDE: usize = 240;
const GAP: usize = 8;

const INK: [u8; 3] = [31, 90, 160];
const GRID: [u8; 3] = [225; 3];

/// A window on the plane, with a grid of light lines.
#[derive(Clone)]
pub struct Panel {
    x: Range<f64>,
    y: Range<f64>,
    pixels: Vec<[u8; 3]>,
}

impl Panel {
    /// An empty one that shows these ranges, with lines at the multiples of `step`.
    pub fn new(x: Range<f64>, y: Range<f64>, step: f64) -> Self {
        let pixels = vec![[255; 3]; SIDE * SIDE];
        let mut panel = Self { x, y, pixels };
        let lines = |range: &Range<f64>| {
            let [first, last] = [(range.start / step).ceil(), (range.end / step).floor()];
            (first as i64..=last as i64).map(move |i| i as f64 * step)
        };
        for x in lines(&panel.x) {
            panel.fill(x..x, panel.y.clone(), GRID);
        }
        for y in lines(&panel.y) {
            panel.fill(panel.x.clone(), y..y, GRID);
        }
        panel
    }

    /// The points that the pixels stand for, row by row from the top.
    pub fn grid(&self) -> Vec<[f64; 2]> {
        let at = |range: &Range<f64>, i: usize| {
            range.start + (range.end - range.start) * (i as f64 + 0.5) / SIDE as f64
        };
        (0..SIDE * SIDE)
            .map(|i| [at(&self.x, i % SIDE), at(&self.y, SIDE - 1 - i / SIDE)])
            .collect()
    }

    /// Shades each pixel by its density, of which `log_density` has the logarithms at the points of [`grid`](Self::grid).
    pub fn shade(&mut self, log_density: &[f64]) {
        let largest = log_density.iter().copied().fold(f64::MIN, f64::max);
        for (pixel, log_density) in self.pixels.iter_mut().zip(log_density) {
            // The root of the density: the tails can be seen.
            let share = ((log_density - largest) / 2.0).exp();
            for (colour, ink) in pixel.iter_mut().zip(INK) {
                *colour = (f64::from(*colour) * (1.0 - share) + f64::from(ink) * share) as u8;
            }
        }
    }

    /// A dot for each point inside.
    pub fn dots(&mut self, points: impl IntoIterator<Item = [f64; 2]>) {
        for [x, y] in points {
            if self.x.contains(&x) && self.y.contains(&y) {
                let (column, row) = self.pixel(x, y);
                self.pixels[row * SIDE + column] = INK;
            }
        }
    }

    /// Bars of these heights across the panel.
    pub fn bars(&mut self, heights: &[f64]) {
        let width = (self.x.end - self.x.start) / heights.len() as f64;
        for (i, &height) in heights.iter().enumerate() {
            let left = self.x.start + i as f64 * width;
            self.fill(left..left + width, 0.0..height, INK);
        }
    }

    fn fill(&mut self, x: Range<f64>, y: Range<f64>, colour: [u8; 3]) {
        let (left, bottom) = self.pixel(x.start, y.start);
        let (right, top) = self.pixel(x.end, y.end);
        for row in top..=bottom {
            self.pixels[row * SIDE..][left..=right].fill(colour);
        }
    }

    /// The column and the row of the nearest pixel.
    fn pixel(&self, x: f64, y: f64) -> (usize, usize) {
        let at = |range: &Range<f64>, value: f64| {
            let share = (value - range.start) / (range.end - range.start);
            ((share * SIDE as f64) as usize).min(SIDE - 1)
        };
        (at(&self.x, x), SIDE - 1 - at(&self.y, y))
    }
}

/// Writes rows of panels, all of one length, to the PNG file that the program's first argument names, `default` without
/// one, and prints its name.
///
/// # Errors
///
/// When it can't be written.
pub fn save(default: &str, rows: &[Vec<Panel>]) -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).unwrap_or_else(|| default.to_owned());
    let along = |panels: usize| panels * (SIDE + GAP) + GAP;
    let (width, height) = (along(rows[0].len()), along(rows.len()));
    let mut image = vec![[255; 3]; width * height];
    for (i, row) in rows.iter().enumerate() {
        for (j, panel) in row.iter().enumerate() {
            for (y, pixels) in panel.pixels.chunks(SIDE).enumerate() {
                let start = (along(i) + y) * width + along(j);
                image[start..][..SIDE].copy_from_slice(pixels);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_flattened())?;
    writer.finish()?;
    fs::write(&path, file).map_err(|error| format!("cannot write {path}: {error}"))?;
    println!("see {path}");
    Ok(())
}
