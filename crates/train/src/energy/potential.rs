//! The energies, and the constants that they are known up to.

use std::fmt;

use burn::tensor::{DType, Device, Tensor, TensorData, activation::sigmoid};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One of the paper's four energies U(z), of densities exp(-U(z)) / Z (Rezende & Mohamed 2015, Table 1):
///
/// ```text
/// w1 = sin(2π z1 / 4)    w2 = 3 exp(-((z1 - 1) / 0.6)² / 2)    w3 = 3 σ((z1 - 1) / 0.3)
/// U1 = ((‖z‖ - 2) / 0.4)² / 2 - ln(exp(-((z1 - 2) / 0.6)² / 2) + exp(-((z1 + 2) / 0.6)² / 2))
/// U2 = ((z2 - w1) / 0.4)² / 2
/// U3 = -ln(exp(-((z2 - w1) / 0.35)² / 2) + exp(-((z2 - w1 + w2) / 0.35)² / 2))
/// U4 = -ln(exp(-((z2 - w1) / 0.4)² / 2) + exp(-((z2 - w1 + w3) / 0.35)² / 2))
/// ```
///
/// The last three don't rise with z1, so that they have a Z on a bounded window alone; the paper's figure shows ±4. Here the
/// window has walls that a gradient can climb: outside, ((|zi| - 4) / 0.2)² / 2 is added for each coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnergyName {
    /// Two half rings
    U1,
    /// A wave
    U2,
    /// A wave that parts and meets again
    U3,
    /// A wave that parts
    U4,
}

/// Half the width of the window.
pub const WINDOW: f64 = 4.0;

/// How soft its walls are.
const WALL: f64 = 0.2;

/// Half the width of what is integrated over: nine standard deviations into the walls.
pub const REACH: f64 = WINDOW + 9.0 * WALL;

impl fmt::Display for EnergyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is hidden");
        f.write_str(value.get_name())
    }
}

/// ((x - centre) / width)² / 2.
fn well(x: Tensor<1>, centre: f64, width: f64) -> Tensor<1> {
    let x = x.sub_scalar(centre).div_scalar(width);
    (x.clone() * x).div_scalar(2.0)
}

/// -ln(exp(-a) + exp(-b)), of any a and b.
fn either(a: Tensor<1>, b: Tensor<1>) -> Tensor<1> {
    let apart = (a.clone() - b.clone()).abs();
    // Where they are far apart the smaller one is all.
    a.min_pair(b) - apart.neg().exp().log1p()
}

impl EnergyName {
    /// U at `z: [n, 2]`, `[n]` in nats.
    pub fn of(self, z: Tensor<2>) -> Tensor<1> {
        let coordinate = |i: usize| z.clone().slice_dim(1, i..i + 1).squeeze_dim::<1>(1);
        let (z1, z2) = (coordinate(0), coordinate(1));
        let from_wave = z2.clone() - (z1.clone().mul_scalar(std::f64::consts::PI / 2.0)).sin();
        let inside = match self {
            Self::U1 => {
                let square = z1.clone() * z1.clone() + z2.clone() * z2.clone();
                // At the origin the norm has no gradient.
                let norm = square.clamp_min(1e-12).sqrt();
                well(norm, 2.0, 0.4)
                    + either(well(z1.clone(), 2.0, 0.6), well(z1.clone(), -2.0, 0.6))
            }
            Self::U2 => well(from_wave, 0.0, 0.4),
            Self::U3 => {
                let w2 = well(z1.clone(), 1.0, 0.6).neg().exp().mul_scalar(3.0);
                let other = well(from_wave.clone() + w2, 0.0, 0.35);
                either(well(from_wave, 0.0, 0.35), other)
            }
            Self::U4 => {
                let w3 = sigmoid(z1.clone().sub_scalar(1.0).div_scalar(0.3)).mul_scalar(3.0);
                let other = well(from_wave.clone() + w3, 0.0, 0.35);
                either(well(from_wave, 0.0, 0.4), other)
            }
        };
        let beyond = |x: Tensor<1>| (x.abs().sub_scalar(WINDOW)).clamp_min(0.0);
        inside + well(beyond(z1), 0.0, WALL) + well(beyond(z2), 0.0, WALL)
    }

    /// U in the cells of a grid, in double precision, on the CPU.
    pub fn on(self, grid: &Grid) -> Vec<f64> {
        let z = grid.tensor(0..grid.len(), DType::F64, &Device::flex());
        self.of(z).into_data().iter::<f64>().collect()
    }

    /// -U there: the logarithm of the density, up to a constant.
    pub fn log_density_on(self, grid: &Grid) -> Vec<f64> {
        self.on(grid).into_iter().map(|u| -u).collect()
    }

    /// ln Z, by the rectangle rule in double precision. Its error is below 1e-6: on smooth functions that vanish at the ends it
    /// would fall faster than any power of the step, and where the walls begin the curvature jumps.
    pub fn log_z(self) -> f64 {
        let grid = Grid::new(REACH, 800);
        let sum: f64 = self.on(&grid).iter().map(|u| (-u).exp()).sum();
        (sum * grid.cell()).ln()
    }
}

/// The centres of the cells of a square, row by row from the top as pictures have them.
pub struct Grid {
    reach: f64,
    side: usize,
}

impl Grid {
    /// Of `side` by `side` cells, from -`reach` to `reach`.
    pub fn new(reach: f64, side: usize) -> Self {
        Self { reach, side }
    }

    pub fn len(&self) -> usize {
        self.side * self.side
    }

    /// The area of a cell.
    pub fn cell(&self) -> f64 {
        (2.0 * self.reach / self.side as f64).powi(2)
    }

    fn point(&self, i: usize) -> [f64; 2] {
        let at = |i: usize| self.reach * ((2 * i + 1) as f64 / self.side as f64 - 1.0);
        [at(i % self.side), -at(i / self.side)]
    }

    /// Some of the centres, `[n, 2]`.
    pub fn tensor(
        &self,
        range: std::ops::Range<usize>,
        dtype: DType,
        device: &Device,
    ) -> Tensor<2> {
        let rows = range.len();
        let points: Vec<f64> = range.flat_map(|i| self.point(i)).collect();
        Tensor::from_data(TensorData::new(points, [rows, 2]), (device, dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pictures have them: the first row is the highest.
    #[test]
    fn a_grid_begins_at_the_top_left() {
        let grid = Grid::new(1.0, 2);
        let points: Vec<[f64; 2]> = (0..grid.len()).map(|i| grid.point(i)).collect();
        assert_eq!(points, [[-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]);
        assert_eq!(grid.cell(), 1.0);
    }

    /// The formulas once more, a number at a time.
    fn reference(name: EnergyName, [z1, z2]: [f64; 2]) -> f64 {
        let bell = |x: f64, width: f64| (-0.5 * (x / width).powi(2)).exp();
        let w1 = (2.0 * std::f64::consts::PI * z1 / 4.0).sin();
        let w2 = 3.0 * bell(z1 - 1.0, 0.6);
        let w3 = 3.0 / (1.0 + (-(z1 - 1.0) / 0.3).exp());
        match name {
            EnergyName::U1 => {
                0.5 * ((z1.hypot(z2) - 2.0) / 0.4).powi(2)
                    - (bell(z1 - 2.0, 0.6) + bell(z1 + 2.0, 0.6)).ln()
            }
            EnergyName::U2 => 0.5 * ((z2 - w1) / 0.4).powi(2),
            EnergyName::U3 => -(bell(z2 - w1, 0.35) + bell(z2 - w1 + w2, 0.35)).ln(),
            EnergyName::U4 => -(bell(z2 - w1, 0.4) + bell(z2 - w1 + w3, 0.35)).ln(),
        }
    }

    fn values(name: EnergyName, points: &[[f64; 2]], dtype: DType) -> Vec<f64> {
        let data = TensorData::new(points.concat(), [points.len(), 2]);
        let z = Tensor::from_data(data, (&Device::flex(), dtype));
        name.of(z).into_data().iter::<f64>().collect()
    }

    const ALL: [EnergyName; 4] = [
        EnergyName::U1,
        EnergyName::U2,
        EnergyName::U3,
        EnergyName::U4,
    ];

    #[test]
    fn energies_are_those_of_the_paper_inside_the_window() {
        let points = [
            [0.3, -0.2],
            [2.0, 0.0],
            [-1.0, 1.5],
            [1.0, -1.9],
            [3.9, -3.9],
        ];
        for name in ALL {
            for (got, z) in values(name, &points, DType::F64).iter().zip(points) {
                let expected = reference(name, z);
                assert!(
                    (got - expected).abs() < 1e-9,
                    "{name} {z:?}: {got}, not {expected}"
                );
            }
        }
    }

    /// Where one of two wells underflows, and where both do.
    #[test]
    fn energies_are_finite_and_slope_back_far_outside() {
        for name in ALL {
            let points = [[0.0, 0.0], [4.5, 100.0], [-1e4, 1e4], [3e4, 0.0]];
            for (u, z) in values(name, &points, DType::F32).iter().zip(points) {
                assert!(u.is_finite(), "{name} {z:?}: {u}");
            }
            let device = Device::flex().autodiff();
            let z = Tensor::<2>::from_data([[0.0, 0.0], [50.0, -60.0]], &device).require_grad();
            let gradients = name.of(z.clone()).sum().backward();
            let slope: Vec<f32> = z.grad(&gradients).unwrap().into_data().iter().collect();
            assert!(slope.iter().all(|x| x.is_finite()), "{name}: {slope:?}");
            assert!(slope[2] > 0.0 && slope[3] < 0.0, "{name}: {slope:?}");
        }
    }

    /// Of the wave alone, Z is known: over z2 a Gaussian of width 0.4, over z1 the window and its two walls, each half a
    /// Gaussian of width 0.2. (The wave is far from the walls of z2, ten widths.)
    #[test]
    fn the_constant_of_the_wave_is_known() {
        let root = (2.0 * std::f64::consts::PI).sqrt();
        let expected = (0.4 * root * (2.0 * WINDOW + WALL * root)).ln();
        let got = EnergyName::U2.log_z();
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }

    /// By a rule of other nodes: twice as coarse, and shifted.
    #[test]
    fn the_constants_do_not_depend_on_the_grid() {
        for name in ALL {
            let (side, reach) = (389, REACH + 0.3);
            let step = 2.0 * reach / side as f64;
            let at = |i: usize| step * (i as f64 + 0.5) - reach;
            let points: Vec<[f64; 2]> = (0..side)
                .flat_map(|i| (0..side).map(move |j| [at(i), at(j)]))
                .collect();
            let sum: f64 = values(name, &points, DType::F64)
                .iter()
                .map(|u| (-u).exp())
                .sum();
            let (coarse, fine) = ((sum * step * step).ln(), name.log_z());
            assert!((coarse - fine).abs() < 1e-6, "{name}: {coarse}, {fine}");
        }
    }
}
