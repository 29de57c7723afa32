//! Pictures of points and of densities, without words.
//!
//! Nothing is white and much is dark: lightness falls evenly with the density, from white over yellow, green and blue to a
//! dark violet, the order of viridis (van der Walt & Smith 2015) from its light end.

use std::cmp::Ordering;
use std::ops::Range;

use anyhow::{Context, Result};

use crate::run::RunDir;

type Rgb = [u8; 3];

const WHITE: Rgb = [255; 3];
const FRAME: Rgb = [190; 3];

/// What is no number.
const GREY: Rgb = [128; 3];

/// White between the panels of a grid, in pixels.
const GAP: usize = 12;

/// The part of the pixels, or bins, that may be denser than the darkest colour says: a narrow peak leaves the rest visible.
const DENSER: f64 = 0.005;

/// Quantiles of the data between which a window shows it, and the margin on each side, as a part of what is between.
const QUANTILES: [f64; 2] = [0.005, 0.995];
const MARGIN: f64 = 0.08;

/// The most columns that a corner plot shows: the first six.
const CORNER_COLUMNS: usize = 6;

/// Pixels of red, green and blue, row by row from the top.
#[derive(Clone)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Picture {
    /// A white one.
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![WHITE; width * height],
        }
    }

    /// Paints a rectangle of these columns and rows of pixels.
    fn fill(&mut self, columns: Range<usize>, rows: Range<usize>, colour: Rgb) {
        for y in rows {
            self.pixels[y * self.width..][..self.width][columns.clone()].fill(colour);
        }
    }

    fn paste(&mut self, left: usize, top: usize, other: &Self) {
        for (y, row) in other.pixels.chunks_exact(other.width).enumerate() {
            self.pixels[(top + y) * self.width + left..][..other.width].copy_from_slice(row);
        }
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    ///
    /// When it is too large for one.
    pub fn encode(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(file)
    }

    /// Writes it to the PNG file `name` of the run folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn save(&self, run: &RunDir, name: &str) -> Result<()> {
        let file = self
            .encode()
            .with_context(|| format!("cannot encode {name}"))?;
        run.write(name, &file)
    }
}

/// Lays pictures out in rows of `columns`, each framed, with gaps between: a picture of pictures. Places that are left are
/// white; rows and columns are as high and as wide as the largest picture of all.
pub fn panels(columns: usize, pictures: &[Picture]) -> Picture {
    let size = |side: fn(&Picture) -> usize| pictures.iter().map(side).max().unwrap_or(0) + 2 + GAP;
    let (width, height) = (
        size(|picture| picture.width),
        size(|picture| picture.height),
    );
    let (columns, rows) = (columns.max(1), pictures.len().div_ceil(columns.max(1)));
    let mut all = Picture::new(columns * width + GAP, rows * height + GAP);
    for (i, picture) in pictures.iter().enumerate() {
        let (left, top) = (i % columns * width + GAP, i / columns * height + GAP);
        let (right, bottom) = (left + picture.width + 2, top + picture.height + 2);
        all.fill(left..right, top..bottom, FRAME);
        all.paste(left + 1, top + 1, picture);
    }
    all
}

/// A part of a line, from its least to its greatest number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub from: f64,
    pub to: f64,
}

impl Interval {
    /// Holds 99 % of the numbers, without the extremes, and a margin. What is not finite, or nearly not, is passed over.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().filter(|x| x.abs() < 1e300).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1) as f64;
            sorted.get((part * last).round() as usize).copied()
        };
        let [Some(from), Some(to)] = QUANTILES.map(at) else {
            return Self::around(0.0, 1.0);
        };
        let length = to - from;
        match length > 0.0 {
            true => Self::around(from + length / 2.0, length * (0.5 + MARGIN)),
            false => Self::around(from, from.abs().max(1.0)),
        }
    }

    fn around(middle: f64, half: f64) -> Self {
        Self {
            from: middle - half,
            to: middle + half,
        }
    }

    fn length(self) -> f64 {
        self.to - self.from
    }

    /// The middle of part `index` of `count` equal ones.
    fn middle(self, index: usize, count: usize) -> f64 {
        self.from + (index as f64 + 0.5) / count as f64 * self.length()
    }

    /// Which of `count` equal parts a number is in.
    fn part(self, number: f64, count: usize) -> Option<usize> {
        let place = (number - self.from) / self.length() * count as f64;
        (0.0..count as f64)
            .contains(&place)
            .then_some(place as usize)
    }
}

/// What a square picture shows of the plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From left to right.
    pub x: Interval,
    /// From bottom to top.
    pub y: Interval,
}

impl Window {
    /// The one that shows these points. Where one side is at most twice the other the scales are made the same, so that
    /// circles are round.
    pub fn of(points: &[[f64; 2]]) -> Self {
        let [x, y] = [0, 1].map(|axis| Interval::of(points.iter().map(|point| point[axis])));
        let (long, short) = (x.length().max(y.length()), x.length().min(y.length()));
        match long <= 2.0 * short {
            true => {
                let [x, y] = [x, y]
                    .map(|side| Interval::around(side.from + side.length() / 2.0, long / 2.0));
                Self { x, y }
            }
            false => Self { x, y },
        }
    }

    /// The middles of `side * side` pixels, row by row from the top: where [`density_map`] wants the density.
    pub fn grid(&self, side: usize) -> Vec<[f64; 2]> {
        let row = |y: usize| {
            (0..side).map(move |x| [self.x.middle(x, side), self.y.middle(side - 1 - y, side)])
        };
        (0..side).flat_map(row).collect()
    }
}

/// An image of `from * from` grey levels in [0, 1], enlarged to `side` pixels.
///
/// # Panics
///
/// If there are not so many levels.
pub fn image(levels: &[f32], from: usize, side: usize) -> Picture {
    assert_eq!(levels.len(), from * from);
    let level = |pixel: usize| {
        let (x, y) = (pixel % side * from / side, pixel / side * from / side);
        [(levels[y * from + x] * 255.0).round() as u8; 3]
    };
    Picture {
        width: side,
        height: side,
        pixels: (0..side * side).map(level).collect(),
    }
}

/// Paints a density, of which ln p is given at the points of [`Window::grid`]; up to a constant will do. NaN is grey.
///
/// # Panics
///
/// If there are not `side * side` values.
pub fn density_map(log_density: &[f64], side: usize) -> Picture {
    assert_eq!(log_density.len(), side * side);
    let most = (log_density.iter().copied())
        .filter(|value| *value < f64::INFINITY)
        .fold(f64::NEG_INFINITY, f64::max);
    let most = if most.is_finite() { most } else { 0.0 };
    // Where it is infinite it is shown as at its densest elsewhere.
    let relative = (log_density.iter()).map(|&value| {
        if value > most {
            1.0
        } else {
            (value - most).exp()
        }
    });
    paint(relative.collect(), side)
}

/// Paints how many of the points lie where, in bins of as many pixels as leave some points to a bin.
pub fn histogram_map(points: &[[f64; 2]], window: &Window, side: usize) -> Picture {
    let wanted = (points.len() as f64).sqrt() * 0.8;
    let pixels = (side as f64 / wanted.max(16.0)).round().max(1.0) as usize;
    let bins = side.div_ceil(pixels);
    // The last bins may be cut off by the picture's end.
    let places = |interval: Interval, number| interval.part(number, side);
    let mut counts = vec![0.0; bins * bins];
    for [x, y] in points {
        if let (Some(x), Some(y)) = (places(window.x, *x), places(window.y, *y)) {
            counts[(side - 1 - y) / pixels * bins + x / pixels] += 1.0;
        }
    }
    let bin = |pixel: usize| counts[pixel / side / pixels * bins + pixel % side / pixels];
    paint((0..side * side).map(bin).collect(), side)
}

/// Paints densities, or counts, by the share that they have of the largest.
fn paint(density: Vec<f64>, side: usize) -> Picture {
    let mut sorted: Vec<f64> = density.iter().copied().filter(|&x| x > 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let top = ((1.0 - DENSER) * sorted.len().saturating_sub(1) as f64).round() as usize;
    let top = sorted.get(top).copied().unwrap_or(1.0);
    let colours: Vec<Rgb> = (0..=255).map(|i| colour(f64::from(i) / 255.0)).collect();
    let paint = |density: &f64| match density.is_nan() {
        true => GREY,
        false => colours[((density / top).min(1.0) * 255.0).round() as usize],
    };
    Picture {
        width: side,
        height: side,
        pixels: density.iter().map(paint).collect(),
    }
}

/// All pairs of columns of many-dimensional data and samples, a panel each, of at most the [`CORNER_COLUMNS`] first:
/// below the diagonal the data, above it the samples, on it the histograms of both, the data's filled and the samples' a
/// line. The axes of a column are the same everywhere, and follow the data.
///
/// `data` and `samples` are rows of `dim` numbers each, in the same units.
///
/// # Panics
///
/// If `dim` is zero.
pub fn corner(data: &[f64], samples: &[f64], dim: usize, side: usize) -> Picture {
    let column = |rows: &[f64], at: usize| -> Vec<f64> {
        rows.chunks_exact(dim).map(|row| row[at]).collect()
    };
    let columns = dim.min(CORNER_COLUMNS);
    let data: Vec<_> = (0..columns).map(|at| column(data, at)).collect();
    let samples: Vec<_> = (0..columns).map(|at| column(samples, at)).collect();
    let axes: Vec<_> = (data.iter())
        .map(|numbers| Interval::of(numbers.iter().copied()))
        .collect();
    let pair = |of: &[Vec<f64>], x: usize, y: usize| {
        let points: Vec<_> = of[x].iter().zip(&of[y]).map(|(&x, &y)| [x, y]).collect();
        let window = Window {
            x: axes[x],
            y: axes[y],
        };
        histogram_map(&points, &window, side)
    };
    let mut pictures = Vec::new();
    for y in 0..columns {
        for x in 0..columns {
            pictures.push(match x.cmp(&y) {
                Ordering::Less => pair(&data, x, y),
                Ordering::Equal => two_histograms(&data[x], &samples[x], axes[x], side),
                Ordering::Greater => pair(&samples, x, y),
            });
        }
    }
    panels(columns, &pictures)
}

/// The histogram of `data` filled, that of `samples` as a line over it, both of the same area if nothing is outside.
fn two_histograms(data: &[f64], samples: &[f64], axis: Interval, side: usize) -> Picture {
    let bins = side.div_ceil(4).clamp(1, 48);
    let shares = |numbers: &[f64]| {
        let mut shares = vec![0.0; bins];
        for bin in numbers.iter().filter_map(|&number| axis.part(number, bins)) {
            shares[bin] += 1.0 / numbers.len() as f64;
        }
        shares
    };
    let (data, samples) = (shares(data), shares(samples));
    let most = data.iter().chain(&samples).copied().fold(0.0, f64::max);
    let height = |share: f64| match most > 0.0 {
        true => (share / most * 0.92 * side as f64).round() as usize,
        false => 0,
    };
    let mut picture = Picture::new(side, side);
    let (filled, line) = (colour(0.3), colour(0.95));
    let mut last = 0;
    for (bin, (data, samples)) in data.into_iter().zip(samples).enumerate() {
        let pixels = bin * side / bins..(bin + 1) * side / bins;
        let here = height(samples);
        picture.fill(pixels.clone(), side - height(data)..side, filled);
        // A step: up or down from the last bin's height, and along this one's.
        let (low, high) = (last.min(here), last.max(here));
        picture.fill(
            pixels.start..pixels.start + 1,
            side - high..side - low,
            line,
        );
        picture.fill(pixels, side - here.max(2)..side - here.max(2) + 2, line);
        last = here;
    }
    picture
}

/// The colour of a share of the largest density, by Oklab (Ottosson 2020): lightness falls evenly, so that equal steps of
/// density look equal; chroma and hue go through points of our own.
fn colour(share: f64) -> Rgb {
    // Share, chroma, hue in degrees.
    const POINTS: [[f64; 3]; 6] = [
        [0.0, 0.0, 105.0],
        [0.12, 0.12, 108.0],
        [0.35, 0.14, 150.0],
        [0.6, 0.09, 215.0],
        [0.8, 0.12, 270.0],
        [1.0, 0.10, 310.0],
    ];
    let after = POINTS.iter().position(|point| point[0] > share);
    let after = after.unwrap_or(POINTS.len() - 1).max(1);
    let (low, high) = (POINTS[after - 1], POINTS[after]);
    let part = (share - low[0]) / (high[0] - low[0]);
    let [_, chroma, hue] = [0, 1, 2].map(|i| low[i] + part * (high[i] - low[i]));
    let (sin, cos) = hue.to_radians().sin_cos();
    oklab(1.0 - 0.78 * share, chroma * cos, chroma * sin)
}

/// The sRGB colour of Oklab's coordinates, the nearest in each channel.
fn oklab(lightness: f64, a: f64, b: f64) -> Rgb {
    let [l, m, s] = [
        lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
        lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
        lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
    ]
    .map(|cone| cone.powi(3));
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
    .map(|linear| {
        let light = match linear <= 0.003_130_8 {
            true => 12.92 * linear,
            false => 1.055 * linear.powf(1.0 / 2.4) - 0.055,
        };
        (light.clamp(0.0, 1.0) * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::points::{self, BuiltIn, PointsName};

    fn pixel(picture: &Picture, x: usize, y: usize) -> Rgb {
        picture.pixels[y * picture.width + x]
    }

    #[test]
    fn more_is_darker() {
        let lightness =
            |[r, g, b]: Rgb| 0.2126 * f64::from(r) + 0.7152 * f64::from(g) + 0.0722 * f64::from(b);
        let colours: Vec<f64> = (0..=20)
            .map(|i| lightness(colour(f64::from(i) / 20.0)))
            .collect();
        assert_eq!(colour(0.0), WHITE);
        assert!(
            colours.windows(2).all(|pair| pair[1] < pair[0] - 1.0),
            "{colours:?}"
        );
    }

    /// Oklab's coordinates of colours of which Ottosson gives them, to a step of the channel.
    #[test]
    fn colours_are_those_of_oklab() {
        for (colour, [lightness, a, b]) in [
            ([255, 255, 255], [1.0, 0.0, 0.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 0, 0], [0.627_955, 0.224_863, 0.125_846]),
            ([0, 255, 0], [0.866_440, -0.233_888, 0.179_498]),
            ([0, 0, 255], [0.452_014, -0.032_457, -0.311_528]),
            ([128, 128, 128], [0.599_871, 0.0, 0.0]),
            // On the straight part near black: 12.92 thousandths.
            ([3, 3, 3], [0.1, 0.0, 0.0]),
        ] {
            let got = oklab(lightness, a, b);
            let is_near = |(got, expected): (u8, u8)| got.abs_diff(expected) <= 1;
            assert!(
                got.into_iter().zip(colour).all(is_near),
                "{got:?} for {colour:?}"
            );
        }
        // Half way between two of its points the chroma and the hue are.
        let (sin, cos) = 129_f64.to_radians().sin_cos();
        let share = 0.235;
        assert_eq!(
            colour(share),
            oklab(1.0 - 0.78 * share, 0.13 * cos, 0.13 * sin)
        );
    }

    /// Of a thousand different densities the five largest are as dark as can be, and the others by their share of the sixth.
    #[test]
    fn a_narrow_peak_leaves_the_rest_visible() {
        let mut density: Vec<f64> = (1..=1001).map(f64::from).collect();
        // Where nothing is does not count.
        density.extend([0.0; 20_000]);
        density.push(-1.0);
        let picture = paint(density, 1);
        let shade = |value: usize| picture.pixels[value - 1];
        for value in 996..=1001 {
            assert_eq!(shade(value), colour(1.0), "{value}");
        }
        assert_eq!(shade(498), colour(128.0 / 255.0));
        assert_eq!(shade(249), colour(64.0 / 255.0));
        assert_ne!(shade(991), colour(1.0));
    }

    #[test]
    fn an_image_is_enlarged_pixel_by_pixel() {
        let picture = image(&[0.0, 0.2, 0.4, 1.0], 2, 4);
        let rows = [[0, 0, 51, 51], [102, 102, 255, 255]];
        let expected = [rows[0], rows[0], rows[1], rows[1]].concat();
        let got: Vec<u8> = picture.pixels.iter().map(|pixel| pixel[0]).collect();
        assert_eq!((picture.width, picture.height), (4, 4));
        assert_eq!(got, expected);
    }

    /// A side has 0.8 √n bins of n points, and 16 at least: of 900 each is three pixels of 64 wide, of 10,000 one.
    #[test]
    fn bins_are_as_wide_as_the_points_are_few() {
        let interval = Interval { from: 0.0, to: 1.0 };
        let window = Window {
            x: interval,
            y: interval,
        };
        for (count, pixels) in [(1, 16), (900, 9), (10_000, 1)] {
            let picture = histogram_map(&vec![[1e-3, 1.0 - 1e-3]; count], &window, 64);
            let dark = picture.pixels.iter().filter(|&&pixel| pixel != WHITE);
            assert_eq!(dark.count(), pixels, "{count}");
        }
    }

    /// All data in the third of ten bins, half of the samples there and half in the sixth: the highest bar is 0.92 of the side, a
    /// line of half of it two pixels thick, and a step up or down where it begins and ends.
    #[test]
    fn a_histogram_is_as_high_as_its_share() {
        let axis = Interval {
            from: 0.0,
            to: 10.0,
        };
        let picture = two_histograms(&[2.5; 7], &[2.5, 5.5, 2.5, 5.5], axis, 40);
        let (filled, line) = (colour(0.3), colour(0.95));
        for y in 0..40 {
            for x in 0..40 {
                let height = 40 - y;
                let is_step = [8, 12, 20, 24].contains(&x) && height <= 18;
                let is_line = match x / 4 {
                    2 | 5 => (17..=18).contains(&height),
                    _ => height <= 2,
                };
                let expected = if is_step || is_line {
                    line
                } else if x / 4 == 2 && height <= 37 {
                    filled
                } else {
                    WHITE
                };
                assert_eq!(pixel(&picture, x, y), expected, "{x}, {y}");
            }
        }
        // Of nothing there is a line at the bottom.
        let nothing = two_histograms(&[], &[], axis, 40);
        let dark = nothing.pixels.iter().filter(|&&pixel| pixel != WHITE);
        assert_eq!(dark.count(), 2 * 40);
    }

    #[test]
    fn right_and_up_are_where_they_should_be() {
        let window = Window {
            x: Interval { from: 0.0, to: 4.0 },
            y: Interval {
                from: 10.0,
                to: 14.0,
            },
        };
        let grid = window.grid(4);
        assert_eq!(
            (grid[0], grid[3], grid[12]),
            ([0.5, 13.5], [3.5, 13.5], [0.5, 10.5])
        );
        let values: Vec<f64> = grid
            .iter()
            .map(|&[x, y]| if x > 3.0 && y > 13.0 { -700.0 } else { -2000.0 })
            .collect();
        let map = density_map(&values, 4);
        let counted = histogram_map(
            &[[3.9, 13.9], [-1.0, 12.0], [f64::NAN, 12.0], [4.0, 14.0]],
            &window,
            4,
        );
        for picture in [map, counted] {
            let dark: Vec<_> = (0..16).filter(|&at| picture.pixels[at] != WHITE).collect();
            assert_eq!(dark, [3]);
            assert_eq!(pixel(&picture, 3, 0), colour(1.0));
        }
    }

    #[test]
    fn a_map_shows_what_is_no_density() {
        let values = [f64::NEG_INFINITY, f64::NAN, f64::INFINITY, -3.0];
        assert_eq!(
            density_map(&values, 2).pixels,
            [WHITE, GREY, colour(1.0), colour(1.0)]
        );
        for value in [f64::NEG_INFINITY, f64::NAN, f64::INFINITY] {
            density_map(&[value; 4], 2);
        }
    }

    /// 0.5 % of a thousand and one numbers are outside on each side, and the rest is 86 % of the length.
    #[test]
    fn a_window_is_of_the_middle() {
        let numbers = || (0..=1000).map(f64::from);
        let [from, to] = [5.0 - 0.08 * 990.0, 995.0 + 0.08 * 990.0];
        let Interval {
            from: left,
            to: right,
        } = Interval::of(numbers().chain([f64::NAN, f64::INFINITY]));
        assert!(
            (left - from).abs() < 1e-9 && (right - to).abs() < 1e-9,
            "{left} {right}"
        );
        let near: Vec<_> = numbers().map(|x| [x, 0.6 * x]).collect();
        let far: Vec<_> = numbers().map(|x| [x, 0.4 * x]).collect();
        let ratio = |window: Window| window.y.length() / window.x.length();
        // The shorter side is made as long around its middle, whichever it is.
        for (axis, window) in [
            Window::of(&near).y,
            Window::of(&near.iter().map(|&[x, y]| [y, x]).collect::<Vec<_>>()).x,
        ]
        .into_iter()
        .enumerate()
        {
            let middle = 0.5 * (window.from + window.to);
            assert!((middle - 300.0).abs() < 1e-6, "{axis}: {window:?}");
        }
        assert!((ratio(Window::of(&near)) - 1.0).abs() < 1e-9);
        assert!((ratio(Window::of(&far)) - 0.4).abs() < 1e-9);
        assert_eq!(
            Interval::of([-7.0; 3]),
            Interval {
                from: -14.0,
                to: 0.0
            }
        );
        for few in [
            &[][..],
            &[7.0],
            &[7e20; 9],
            &[-1e308, 1e308],
            &[-1e299, 1e299],
        ] {
            let interval = Interval::of(few.iter().copied());
            assert!(
                interval.length() > 0.0 && interval.length().is_finite(),
                "{interval:?}"
            );
        }
    }

    #[test]
    fn panels_lie_in_rows() {
        let pictures = [1, 2, 3].map(|shade| {
            let mut picture = Picture::new(5, 5);
            picture.fill(0..5, 0..5, [shade; 3]);
            picture
        });
        let all = panels(2, &pictures);
        let cell = 5 + 2 + GAP;
        assert_eq!((all.width, all.height), (2 * cell + GAP, 2 * cell + GAP));
        for (x, y, shade) in [(0, 0, 1), (1, 0, 2), (0, 1, 3)] {
            let (x, y) = (x * cell + GAP + 1, y * cell + GAP + 1);
            assert_eq!(
                (pixel(&all, x, y), pixel(&all, x + 4, y + 4)),
                ([shade; 3], [shade; 3])
            );
            assert_eq!(
                (pixel(&all, x - 1, y), pixel(&all, x + 5, y + 5)),
                (FRAME, FRAME)
            );
        }
        assert_eq!(pixel(&all, cell + GAP + 3, cell + GAP + 3), WHITE);
        panels(3, &[]);
        // The largest sets the size.
        let all = panels(1, &[Picture::new(5, 4), Picture::new(2, 5)]);
        assert_eq!((all.width, all.height), (cell + GAP, 2 * cell + GAP));
    }

    #[test]
    fn a_corner_has_data_below_and_samples_above() {
        let (data, samples) = ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, f64::NAN, f64::INFINITY]);
        let side = 40;
        let picture = corner(&data, &samples, 2, side);
        let cell = side + 2 + GAP;
        assert_eq!(picture.width, 2 * cell + GAP);
        let dark = |x: usize, y: usize| {
            let (left, top) = (x * cell + GAP + 1, y * cell + GAP + 1);
            let pixels = (0..side * side).map(|i| (i % side, i / side));
            pixels
                .filter(|&(x, y)| pixel(&picture, left + x, top + y) != WHITE)
                .collect::<Vec<_>>()
        };
        // Two bins of the data, at the lower left and the upper right; one of the samples.
        let (below, above) = (dark(0, 1), dark(1, 0));
        assert_eq!(below.len(), 2 * above.len());
        assert!(
            below.iter().all(|&(x, y)| (x < 20) == (y >= 20)),
            "{below:?}"
        );
        assert!(!dark(0, 0).is_empty());
        // Nothing at all is drawn too, and of many columns six.
        corner(&[], &[], 3, side);
        assert_eq!(
            corner(&[0.0; 18], &[], 9, side).width,
            CORNER_COLUMNS * cell + GAP
        );
    }

    /// To look at: `PICTURES=FOLDER cargo test --workspace --bin train pictures -- --ignored`.
    #[test]
    #[ignore = "writes pictures, to be looked at"]
    fn pictures() {
        let folder = std::env::var("PICTURES").expect("PICTURES is the folder to write to");
        let points_of = |set| {
            let splits = points::load(&PointsName::BuiltIn(set), None, &[]).unwrap();
            let train = &splits.train;
            (0..train.len())
                .map(|i| {
                    let point = splits.standardization.to_user(train.row(i));
                    [point[0], point[1]]
                })
                .collect::<Vec<_>>()
        };
        let side = 240;
        let mut all = Vec::new();
        for (_, set) in BuiltIn::ALL {
            let points = points_of(set);
            let window = Window::of(&points);
            all.push(histogram_map(&points, &window, side));
            let densities: Option<Vec<f64>> = (window.grid(side).into_iter())
                .map(|point| set.log_density(point))
                .collect();
            all.push(match densities {
                Some(densities) => density_map(&densities, side),
                None => histogram_map(&points[..2_000], &window, side),
            });
        }
        fs::write(
            format!("{folder}/sets.png"),
            panels(4, &all).encode().unwrap(),
        )
        .unwrap();

        let columns: Vec<_> = BuiltIn::ALL.map(|(_, set)| points_of(set)).to_vec();
        let rows = |range: Range<usize>| {
            range
                .flat_map(|i| {
                    let [a, b, c, d] = [0, 1, 2, 5].map(|at| columns[at][i]);
                    [a[0], a[1], b[0] + a[0], c[0] * d[1], d[1].exp(), d[0], 1.0]
                })
                .collect::<Vec<_>>()
        };
        let picture = corner(&rows(0..5_000), &rows(5_000..10_000), 7, 160);
        fs::write(format!("{folder}/corner.png"), picture.encode().unwrap()).unwrap();
    }
}
