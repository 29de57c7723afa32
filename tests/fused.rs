//! The fused operations against the same mathematics as tensor operations in `f64`.
//!
//! The inputs are `f32` numbers, so that rounding inside is all that may differ; the tensor operations in `f32` say
//! how much that is, and the fused ones may err [`AS_MUCH`] times as far, measured by the largest number.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flows::{Planar, PlanarConstraint, Transformed};
use end_to_end::{ndarray, wgpu};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Sums in another order round otherwise, by chance to a few times the error.
const AS_MUCH: f64 = 8.0;

/// What either may err in any case, in units of the largest number: some roundings of 6e-8.
const ROUNDING: f64 = 1e-6;

/// One stack and what it is applied to.
struct Case {
    owners: usize,
    n: usize,
    layers: usize,
    dim: usize,
    constraint: PlanarConstraint,
    raw: Vec<f32>,
    z: Vec<f32>,
    /// What the outputs are weighted with in the loss, `[rows, dim + 1]`.
    weights: Vec<f32>,
}

/// z_K, log_det and the gradients in `raw` and `z`.
type Numbers = [Vec<f64>; 4];

impl Case {
    fn new(sizes: [usize; 4], constraint: PlanarConstraint, scale: f32) -> Self {
        let [owners, n, layers, dim] = sizes;
        let mut rng = ChaCha8Rng::seed_from_u64(sizes.iter().sum::<usize>() as u64);
        let mut numbers =
            |n: usize, scale: f32| (0..n).map(|_| rng.random_range(-scale..scale)).collect();
        let rows = n * owners;
        Self {
            owners,
            n,
            layers,
            dim,
            constraint,
            raw: numbers(owners * layers * (2 * dim + 1), scale / (dim as f32).sqrt()),
            z: numbers(rows * dim, 2.0),
            weights: numbers(rows * (dim + 1), 1.0),
        }
    }

    fn run(
        &self,
        device: &Device,
        dtype: DType,
        forward: fn(&Planar, Tensor<2>) -> Transformed,
    ) -> Numbers {
        let device = device.clone().autodiff();
        let (rows, dim) = (self.n * self.owners, self.dim);
        let data = |values: &[f32], shape: &[usize]| {
            TensorData::new(values.to_vec(), shape.to_vec()).convert_dtype(dtype)
        };
        let options = (&device, dtype);
        let raw = data(&self.raw, &[self.owners, self.layers, 2 * dim + 1]);
        let raw = Tensor::<3>::from_data(raw, options).require_grad();
        let z = Tensor::<2>::from_data(data(&self.z, &[rows, dim]), options).require_grad();
        let weights = Tensor::<2>::from_data(data(&self.weights, &[rows, dim + 1]), options);

        let end = forward(&Planar::new(raw.clone(), self.constraint), z.clone());
        let loss = (end.value.clone() * weights.clone().slice_dim(1, 0..dim)).sum()
            + (end.log_det.clone() * weights.slice_dim(1, dim..dim + 1).reshape([rows])).sum();
        let gradients = loss.backward();
        // Without layers nothing depends on `raw`.
        let grad_raw = raw
            .grad(&gradients)
            .unwrap_or_else(|| raw.zeros_like().inner());
        [
            end.value.into_data(),
            end.log_det.into_data(),
            grad_raw.into_data(),
            z.grad(&gradients).unwrap().into_data(),
        ]
        .map(|data| data.iter::<f64>().collect())
    }

    #[track_caller]
    fn check(&self, device: &Device) {
        let tensor_operations = Planar::forward_by_tensor_operations;
        let exact = self.run(&Device::flex(), DType::F64, tensor_operations);
        let by_tensors = self.run(&Device::flex(), DType::F32, tensor_operations);
        let fused = self.run(device, DType::F32, Planar::forward);
        for (i, what) in ["z_K", "log_det", "d raw", "d z"].iter().enumerate() {
            let scale = exact[i].iter().fold(1.0, |most: f64, x| most.max(x.abs()));
            let error = |got: &[f64]| {
                assert_eq!(got.len(), exact[i].len());
                got.iter()
                    .zip(&exact[i])
                    .map(|(got, exact)| (got - exact).abs() / scale)
                    // A NaN is as wrong as can be.
                    .fold(0.0, |most: f64, e| if e <= most { most } else { e })
            };
            let (fused, by_tensors) = (error(&fused[i]), error(&by_tensors[i]));
            assert!(
                fused <= AS_MUCH * by_tensors + ROUNDING,
                "{what} of {} x {} rows, {} layers in {} dimensions, {:?}, errs by {fused:e}, \
                 by tensor operations {by_tensors:e}, of {scale:e}",
                self.n,
                self.owners,
                self.layers,
                self.dim,
                self.constraint,
            );
        }
    }
}

/// Owners, samples of each, layers, dimensions: lanes full, partly full and single, chunks of one owner, both axes.
const SIZES: [[usize; 4]; 13] = [
    [1, 1, 1, 1],
    [1, 3, 2, 2],
    [1, 16, 3, 17],
    [1, 100, 10, 2],
    [1, 150, 4, 5],
    [1, 64, 100, 3],
    [5, 1, 4, 3],
    [5, 7, 3, 16],
    [3, 70, 2, 40],
    [100, 1, 10, 40],
    [20, 1, 100, 8],
    [2, 2, 1, 300],
    [7, 5, 0, 3],
];

fn shapes(device: &Device) {
    for constraint in [PlanarConstraint::Paper, PlanarConstraint::Identity] {
        for sizes in SIZES {
            Case::new(sizes, constraint, 1.0).check(device);
        }
    }
}

/// Parameters at the ends of what the layer is made for.
fn wild_values(device: &Device) {
    let dim = 3;
    for constraint in [PlanarConstraint::Paper, PlanarConstraint::Identity] {
        Case::new([1, 40, 2, dim], constraint, 30.0).check(device);
        Case::new([4, 1, 2, dim], constraint, 1e-3).check(device);
        let mut case = Case::new([9, 3, 1, dim], constraint, 1.0);
        for (owner, raw) in case.raw.chunks_mut(2 * dim + 1).enumerate() {
            let (u, w) = raw.split_at_mut(dim);
            match owner {
                0 => w.fill(0.0),          // w = 0, and b
                1 => w[..dim].fill(1e-10), // w that counts as 0
                2 => w[..dim].fill(1e-8),  // and that does not
                3 => (0..dim).for_each(|d| u[d] = -70.0 * w[d] / norm(&w[..dim])),
                4 => (0..dim).for_each(|d| u[d] = -90.0 * w[d] / norm(&w[..dim])),
                5 => (0..dim).for_each(|d| u[d] = 90.0 * w[d] / norm(&w[..dim])),
                6 => w[dim] = 1e4, // tanh = 1
                7 => u.fill(0.0),
                _ => raw.fill(0.0),
            }
        }
        case.check(device);
    }
}

fn norm(w: &[f32]) -> f32 {
    w.iter().map(|w| w * w).sum::<f32>()
}

#[test]
fn shapes_on_flex() {
    shapes(&Device::flex());
}

#[test]
fn shapes_on_ndarray() {
    shapes(&ndarray());
}

#[test]
fn shapes_on_wgpu() {
    shapes(&wgpu());
}

#[test]
fn wild_values_on_flex() {
    wild_values(&Device::flex());
}

#[test]
fn wild_values_on_ndarray() {
    wild_values(&ndarray());
}

#[test]
fn wild_values_on_wgpu() {
    wild_values(&wgpu());
}

/// Points and parameters that are views of something larger, in another order.
#[test]
fn views_are_read_in_their_own_order() {
    for device in [Device::flex(), ndarray(), wgpu()] {
        let case = Case::new([1, 12, 2, 3], PlanarConstraint::Paper, 1.0);
        let from = |values: &[f32], shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
        };
        let (raw, z) = (from(&case.raw, [2, 7]), from(&case.z, [12, 3]));
        let straight = Planar::new(raw.clone().unsqueeze(), case.constraint).forward(z.clone());
        // [7, 2] in memory, seen as [2, 7]; and the points from the middle of a larger tensor.
        let turned = Tensor::<2>::from_data(raw.transpose().into_data(), &device).transpose();
        let larger = Tensor::cat(vec![z.clone(), z.clone(), z], 1).slice_dim(1, 3..6);
        let viewed = Planar::new(turned.unsqueeze(), case.constraint).forward(larger);
        viewed
            .value
            .into_data()
            .assert_eq(&straight.value.into_data(), true);
        viewed
            .log_det
            .into_data()
            .assert_eq(&straight.log_det.into_data(), true);
    }
}
