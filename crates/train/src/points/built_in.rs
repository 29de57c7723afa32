//! Sets of points in the plane that the literature draws, each 17,000 points of a fixed key of the random numbers.

use std::f64::consts::{PI, SQRT_2, TAU};

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use super::table::Table;
use crate::random::{Purpose, stream};

/// Points for training, validation and test.
pub(super) const PARTS: [usize; 3] = [10_000, 2_000, 5_000];

/// A set of points in the plane. Their columns are called x and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum BuiltIn {
    /// Two half circles of radius 2 that reach into each other, with normal noise of 0.2.
    TwoMoons,
    /// Uniform on every other of the 4 x 4 squares of side 2 of a board (FFJORD, Grathwohl et al. 2019).
    Checkerboard,
    /// Two spirals of one and a half turns out to a radius of π, with normal noise of 0.1.
    Spirals,
    /// Four circles of radii 0.75, 1.5, 2.25 and 3, each as probable, with normal noise of 0.08 along the radius.
    Rings,
    /// Five arms, bent by an angle of exp(r / 2) / 4 for a point r along the arm (Johnson et al. 2016).
    Pinwheel,
    /// Eight normals of standard deviation 1/√8 around the corners of an octagon of radius √8.
    EightGaussians,
}

/// Radii of the rings, and the standard deviation along them.
const RINGS: [f64; 4] = [0.75, 1.5, 2.25, 3.0];
const RING_STD: f64 = 0.08;

/// Distance of the eight Gaussians from the origin, and the standard deviation of each.
const GAUSSIAN_RADIUS: f64 = 2.0 * SQRT_2;
const GAUSSIAN_STD: f64 = SQRT_2 / 4.0;

impl BuiltIn {
    /// All of them, by the names that a user types.
    pub const ALL: [(&str, Self); 6] = [
        ("two-moons", Self::TwoMoons),
        ("checkerboard", Self::Checkerboard),
        ("spirals", Self::Spirals),
        ("rings", Self::Rings),
        ("pinwheel", Self::Pinwheel),
        ("eight-gaussians", Self::EightGaussians),
    ];

    /// The name that a user types.
    pub fn name(self) -> &'static str {
        let mut names = Self::ALL.into_iter();
        let found = names.find(|(_, set)| *set == self);
        found.expect("all are listed").0
    }

    /// The points for training, then those for validation, then those for test.
    pub(super) fn table(self) -> Table {
        let mut rng = stream(0, Purpose::Points, self as u64, 0);
        let rows = PARTS.iter().sum();
        Table {
            columns: vec!["x".into(), "y".into()],
            context: Vec::new(),
            has_names: true,
            numbers: (0..rows).flat_map(|_| self.point(&mut rng)).collect(),
        }
    }

    fn point(self, rng: &mut impl Rng) -> [f64; 2] {
        match self {
            Self::TwoMoons => {
                let (sin, cos) = rng.random_range(0.0..PI).sin_cos();
                let [x, y] = match rng.random() {
                    true => [cos - 0.5, sin - 0.25],
                    false => [0.5 - cos, 0.25 - sin],
                };
                around([2.0 * x, 2.0 * y], 0.2, rng)
            }
            Self::Checkerboard => {
                let x = rng.random_range(-4.0..4.0);
                let is_odd = (x / 2.0_f64).floor().rem_euclid(2.0);
                let row = f64::from(rng.random_range(-1..1_i8));
                [x, 4.0 * row + 2.0 * is_odd + rng.random_range(0.0..2.0)]
            }
            Self::Spirals => {
                // The root spreads the points evenly over the length of the arms.
                let angle = 3.0 * PI * rng.random::<f64>().sqrt();
                let arm = if rng.random() { 0.0 } else { PI };
                around(polar(angle / 3.0, angle + arm), 0.1, rng)
            }
            Self::Rings => {
                let radius = RINGS[rng.random_range(0..4)];
                let noise: f64 = rng.sample(StandardNormal);
                polar(radius + RING_STD * noise, rng.random_range(0.0..TAU))
            }
            Self::Pinwheel => {
                let arm = f64::from(rng.random_range(0..5_u8)) * TAU / 5.0;
                let [x, y] = around([0.0, 0.0], 1.0, rng);
                let [x, y] = [2.0 + 0.6 * x, 0.2 * y];
                let (sin, cos) = (arm + (x / 2.0).exp() / 4.0).sin_cos();
                [cos * x - sin * y, sin * x + cos * y]
            }
            Self::EightGaussians => {
                let corner = f64::from(rng.random_range(0..8_u8));
                around(gaussian_centre(corner), GAUSSIAN_STD, rng)
            }
        }
    }

    /// ln p of a point, in nats, where that has a closed form.
    pub fn log_density(self, point: [f64; 2]) -> Option<f64> {
        let square = |x: f64| x * x;
        match self {
            Self::Checkerboard => {
                let [column, row] = point.map(|x| (x / 2.0).floor());
                let is_inside = point.iter().all(|x| (-4.0..4.0).contains(x));
                Some(match is_inside && (column + row).rem_euclid(2.0) == 0.0 {
                    true => -32_f64.ln(),
                    false => f64::NEG_INFINITY,
                })
            }
            // Uniform along the circle. A radius below zero, nine standard deviations off, is left out.
            Self::Rings => {
                let radius = point[0].hypot(point[1]);
                let density: f64 = (RINGS.iter())
                    .map(|ring| (-square((radius - ring) / RING_STD) / 2.0).exp())
                    .sum();
                Some((density / (4.0 * TAU.sqrt() * RING_STD) / (TAU * radius)).ln())
            }
            Self::EightGaussians => {
                let density: f64 = (0..8)
                    .map(|corner| gaussian_centre(f64::from(corner)))
                    .map(|[x, y]| square(point[0] - x) + square(point[1] - y))
                    .map(|distance| (-distance / (2.0 * square(GAUSSIAN_STD))).exp())
                    .sum();
                Some((density / (8.0 * TAU * square(GAUSSIAN_STD))).ln())
            }
            Self::TwoMoons | Self::Spirals | Self::Pinwheel => None,
        }
    }

    /// The entropy −∫ p ln p of x and y together, in nats, where the density has a closed form: no model has a greater mean
    /// log-likelihood than its negative. By quadrature where p is smooth.
    pub fn entropy(self) -> Option<f64> {
        match self {
            Self::Checkerboard => Some(32_f64.ln()),
            _ => self.integrate(|log_density| -log_density * log_density.exp()),
        }
    }

    /// ∫ f(ln p) by the midpoint rule, whose error falls faster than any power of the step for a smooth p that ends
    /// before its window: with a quarter of the least standard deviation it is below 1e-9.
    fn integrate(self, f: impl Fn(f64) -> f64) -> Option<f64> {
        const STEP: f64 = 0.02;
        let middles = (-300..300).map(|i| (f64::from(i) + 0.5) * STEP);
        let mut sum = 0.0;
        for x in middles.clone() {
            for y in middles.clone() {
                let log_density = self.log_density([x, y])?;
                if log_density > f64::MIN {
                    sum += f(log_density) * STEP * STEP;
                }
            }
        }
        Some(sum)
    }
}

fn polar(radius: f64, angle: f64) -> [f64; 2] {
    [radius * angle.cos(), radius * angle.sin()]
}

fn gaussian_centre(corner: f64) -> [f64; 2] {
    polar(GAUSSIAN_RADIUS, corner * TAU / 8.0)
}

fn around(point: [f64; 2], std: f64, rng: &mut impl Rng) -> [f64; 2] {
    point.map(|x| x + std * rng.sample::<f64, _>(StandardNormal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_density() -> impl Iterator<Item = BuiltIn> {
        let sets = BuiltIn::ALL.into_iter().map(|(_, set)| set);
        sets.filter(|set| set.log_density([0.5, 0.5]).is_some())
    }

    /// A set that changes would be another under an old name. Of the sets with a sine the last bits are the system's.
    #[test]
    fn first_points_are_golden() {
        let firsts = BuiltIn::ALL.map(|(_, set)| set.table().numbers[..2].to_vec());
        let golden = [
            [1.1811409840392029, -0.6266609768360265],
            [3.938750285429526, -0.3421596877960549],
            [-1.068434230948409, 1.2107142931472663],
            [2.271807884000548, -0.674958040600296],
            [-0.5903216639170974, -2.0957938051358913],
            [-3.257837488141088, 0.05699916596208439],
        ];
        for (first, golden) in firsts.iter().zip(golden) {
            let is_near = first.iter().zip(golden).all(|(x, y)| (x - y).abs() < 1e-12);
            assert!(is_near, "{firsts:?}");
        }
    }

    #[test]
    fn densities_integrate_to_one() {
        let sets: Vec<_> = with_density().collect();
        assert_eq!(sets.len(), 3);
        for set in sets {
            let mass = set.integrate(f64::exp).unwrap();
            assert!((mass - 1.0).abs() < 1e-9, "{}: {mass}", set.name());
        }
    }

    /// The mean of −ln p over 17,000 points is the entropy within four standard errors of the mean.
    #[test]
    fn the_points_have_the_entropy_of_their_density() {
        for set in with_density() {
            let table = set.table();
            let terms: Vec<f64> = (table.numbers.chunks(2))
                .map(|point| -set.log_density([point[0], point[1]]).unwrap())
                .collect();
            let count = terms.len() as f64;
            let mean = terms.iter().sum::<f64>() / count;
            let square = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let (entropy, tolerance) = (set.entropy().unwrap(), 4.0 * (square / count).sqrt());
            // The terms of a uniform density are all the same.
            assert!(
                (mean - entropy).abs() <= tolerance + 1e-9,
                "{}: {mean} {entropy}",
                set.name()
            );
        }
    }

    /// Of eight Gaussians that do not overlap it is ln 8 + ln(2πe σ²), and overlap takes from it: a corner's neighbours
    /// are six standard deviations away, which takes some thousandths.
    #[test]
    fn entropies_are_known() {
        assert_eq!(BuiltIn::Checkerboard.entropy(), Some(32_f64.ln()));
        let apart = 8_f64.ln() + (TAU * 1_f64.exp() * GAUSSIAN_STD * GAUSSIAN_STD).ln();
        let entropy = BuiltIn::EightGaussians.entropy().unwrap();
        assert!(
            (0.001..0.02).contains(&(apart - entropy)),
            "{entropy} {apart}"
        );
        assert_eq!(BuiltIn::TwoMoons.entropy(), None);
    }

    #[test]
    fn all_lie_around_the_origin() {
        for (name, set) in BuiltIn::ALL {
            let table = set.table();
            assert_eq!(table.rows(), 17_000);
            for axis in 0..2 {
                let numbers = || table.numbers.iter().skip(axis).step_by(2).copied();
                let (least, most) = (numbers().fold(0.0, f64::min), numbers().fold(0.0, f64::max));
                assert!(
                    (-6.0..-1.9).contains(&least) && (1.9..6.0).contains(&most),
                    "{name}: {least} {most}"
                );
            }
        }
    }
}
