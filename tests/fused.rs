//! The fused operations against the same mathematics as tensor operations in `f64`.
//!
//! The inputs are `f32` numbers, so that rounding inside is all that may differ; the tensor operations in `f32` say
//! how much that is, and the fused ones may err [`AS_MUCH`] times as far, measured by the largest of the numbers that
//! belong together: those of one owner, and of its gradients those of a layer's parts, as u, w and b. Owners of large numbers would
//! otherwise hide what the others do. The sizes are such that threads share the work.

use burn::{
    module::Param,
    nn::LinearConfig,
    optim::{GradientsParams, ModuleOptimizer},
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_flows::{
    Bijection, DiagonalGaussian, Planar, PlanarConstraint, Radial, Sylvester, SylvesterBasis,
    Transformed,
};
use end_to_end::{largest, ndarray, wgpu};
use flow_vae::bernoulli_log_likelihood;
use fused_nn::{Dense, affine, affine_columns, maxout, mlp};
use fused_optim::{Adam, Adamax, RmsProp};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

/// Sums in another order round otherwise, by chance to several times the error.
const AS_MUCH: f64 = 16.0;

/// What either may err in any case, in units of the largest number: some roundings of 6e-8.
const ROUNDING: f64 = 1e-6;

/// What WGSL's e^x may err at -80: 3 + 2 · 80 units in the last place.
const WGSL_EXP: f64 = 163.0 * 1.2e-7;

/// What a stack is made of.
#[derive(Clone, Copy, Debug)]
enum Layers {
    Planar(PlanarConstraint),
    Radial,
    Sylvester(SylvesterBasis),
}

const PLANAR: [Layers; 2] = [
    Layers::Planar(PlanarConstraint::Paper),
    Layers::Planar(PlanarConstraint::Identity),
];

impl Layers {
    /// How many numbers each part of a layer's parameters has.
    fn parts(self, dim: usize) -> Vec<usize> {
        match self {
            Self::Planar(_) => vec![dim, dim, 1],
            Self::Radial => vec![dim, 2],
            Self::Sylvester(basis) => {
                let (vectors, m) = match basis {
                    SylvesterBasis::Orthogonal(m) => (m, m),
                    SylvesterBasis::Householder(vectors) => (vectors, dim),
                    SylvesterBasis::Triangular => (0, dim),
                };
                vec![vectors * dim, m * m, m, m]
            }
        }
    }

    fn numbers(self, dim: usize) -> usize {
        self.parts(dim).iter().sum()
    }

    fn map(self, raw: Tensor<3>, points: Tensor<2>, how: How) -> Transformed {
        let [_, dim] = points.dims();
        macro_rules! of {
            ($stack:expr) => {{
                let stack = $stack;
                match (how.inverse, how.fused) {
                    (false, true) => stack.forward(points),
                    (false, false) => stack.forward_by_tensor_operations(points),
                    (true, true) => stack.inverse(points),
                    (true, false) => stack.inverse_by_tensor_operations(points),
                }
            }};
        }
        match self {
            Self::Planar(constraint) => of!(Planar::new(raw, constraint)),
            Self::Radial => of!(Radial::new(raw)),
            Self::Sylvester(basis) => of!(Sylvester::new(raw, basis, dim)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct How {
    inverse: bool,
    fused: bool,
}

/// One stack and what it is applied to.
struct Case {
    owners: usize,
    n: usize,
    layers: usize,
    dim: usize,
    of: Layers,
    raw: Vec<f32>,
    z: Vec<f32>,
    /// What the outputs are weighted with in the loss, `[rows, dim + 1]`.
    weights: Vec<f32>,
    /// What may err in any case, [`ROUNDING`] or more.
    rounding: f64,
}

/// The mapped points, log_det and the gradients in `raw` and the points.
type Numbers = [Vec<f64>; 4];

impl Case {
    fn new(sizes: [usize; 4], of: Layers, scale: f32) -> Self {
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
            of,
            raw: numbers(
                owners * layers * of.numbers(dim),
                scale / (dim as f32).sqrt(),
            ),
            z: numbers(rows * dim, 2.0),
            weights: numbers(rows * (dim + 1), 1.0),
            rounding: ROUNDING,
        }
    }

    fn run(&self, device: &Device, dtype: DType, how: How) -> Numbers {
        let device = device.clone().autodiff();
        let (rows, dim) = (self.n * self.owners, self.dim);
        let data = |values: &[f32], shape: &[usize]| {
            TensorData::new(values.to_vec(), shape.to_vec()).convert_dtype(dtype)
        };
        let options = (&device, dtype);
        let raw = data(&self.raw, &[self.owners, self.layers, self.of.numbers(dim)]);
        let raw = Tensor::<3>::from_data(raw, options).require_grad();
        let z = Tensor::<2>::from_data(data(&self.z, &[rows, dim]), options).require_grad();
        let weights = Tensor::<2>::from_data(data(&self.weights, &[rows, dim + 1]), options);

        let end = self.of.map(raw.clone(), z.clone(), how);
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
        for inverse in [false, true] {
            self.check_one(device, inverse);
        }
    }

    #[track_caller]
    fn check_one(&self, device: &Device, inverse: bool) {
        let how = |fused| How { inverse, fused };
        let exact = self.run(&Device::flex(), DType::F64, how(false));
        let by_tensors = self.run(&Device::flex(), DType::F32, how(false));
        let fused = self.run(device, DType::F32, how(true));
        for (i, what) in ["points", "log_det", "d raw", "d points"]
            .iter()
            .enumerate()
        {
            let groups = match i {
                0 | 3 => self.rows_of_owners(self.dim),
                1 => self.rows_of_owners(1),
                _ => self.parameters_of_owners(),
            };
            assert_eq!(fused[i].len(), exact[i].len());
            for group in groups {
                // A sum of logarithms near 0 is as inexact as its terms together.
                let least = if i == 1 {
                    self.layers.max(1) as f64
                } else {
                    1.0
                };
                let scale = group
                    .iter()
                    .fold(least, |most, &at| most.max(exact[i][at].abs()));
                let error = |got: &[f64]| {
                    largest((group.iter()).map(|&at| (got[at] - exact[i][at]).abs() / scale))
                };
                let (fused, by_tensors) = (error(&fused[i]), error(&by_tensors[i]));
                assert!(
                    fused <= AS_MUCH * by_tensors + self.rounding,
                    "inverse: {inverse}, {what} at {} of {} x {} rows, {} layers in {} dimensions, {:?}, errs by {fused:e}, \
                     by tensor operations {by_tensors:e}, of {scale:e}",
                    group[0],
                    self.n,
                    self.owners,
                    self.layers,
                    self.dim,
                    self.of,
                );
            }
        }
    }

    /// Where the numbers of each owner stand in `[rows, width]`.
    fn rows_of_owners(&self, width: usize) -> Vec<Vec<usize>> {
        let places = |owner| {
            let rows = (0..self.n).map(move |i| i * self.owners + owner);
            rows.flat_map(|row| row * width..(row + 1) * width)
                .collect()
        };
        (0..self.owners).map(places).collect()
    }

    /// Where the parts of each owner's parameters stand, of all layers.
    fn parameters_of_owners(&self) -> Vec<Vec<usize>> {
        let numbers = self.of.numbers(self.dim);
        let mut groups = Vec::new();
        for owner in 0..self.owners {
            let mut start = 0;
            for part in self.of.parts(self.dim) {
                let layers = (0..self.layers).map(|k| (owner * self.layers + k) * numbers + start);
                groups.push(layers.flat_map(|at| at..at + part).collect::<Vec<_>>());
                start += part;
            }
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// Owners, samples of each, layers, dimensions: lanes full, partly full and single, chunks of one owner, both axes.
const SIZES: [[usize; 4]; 15] = [
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
    [2, 360, 160, 100], // more samples than the kernel has memory to take side by side
    [1, 3, 200, 200],   // more layers than it has rounds for
    [7, 5, 0, 3],
];

fn shapes(device: &Device) {
    for of in PLANAR {
        for sizes in SIZES {
            Case::new(sizes, of, 1.0).check(device);
        }
    }
}

/// The stacks without kernels.
fn other_stacks(device: &Device) {
    let sizes = [
        [1, 1, 1, 1],
        [1, 3, 2, 2],
        [1, 100, 5, 3],
        [5, 7, 3, 6],
        [3, 70, 2, 16],
        [100, 1, 4, 20],
        [7, 5, 0, 3],
    ];
    for sizes in sizes {
        let dim: usize = sizes[3];
        for of in [
            Layers::Radial,
            Layers::Sylvester(SylvesterBasis::Orthogonal(1)),
            Layers::Sylvester(SylvesterBasis::Orthogonal(dim.div_ceil(2))),
            Layers::Sylvester(SylvesterBasis::Orthogonal(dim)),
            Layers::Sylvester(SylvesterBasis::Householder(3)),
            Layers::Sylvester(SylvesterBasis::Triangular),
        ] {
            // Scaled by the square root of the dimensions: this is of the size that layers start with, and more.
            for scale in [1.0, 4.0] {
                let mut case = Case::new(sizes, of, scale);
                if let Layers::Sylvester(_) = of {
                    // Back-substitution adds up a layer's numbers one after the other, a rounding of 6e-8 each, and an owner's
                    // tensor operations may be exact by chance.
                    let [_, _, layers, _] = sizes;
                    case.rounding = case.rounding.max((layers * dim) as f64 * 6e-8);
                }
                if let Layers::Sylvester(SylvesterBasis::Orthogonal(_)) = of {
                    // Of hundreds of sets of vectors some nearly depend on each other: what is left of one without those
                    // before is short, and is divided by its length.
                    case.rounding *= 10.0;
                }
                case.check(device);
            }
        }
    }
}

/// Parameters at the ends of what radial and Sylvester layers are made for.
fn other_wild_values(device: &Device) {
    let triangular = Layers::Sylvester(SylvesterBasis::Triangular);
    // Diagonals near r r̃ = -1, where 1 + tanh x tanh y cancels, and below its limit; and far in one of the tails.
    for (x, y) in [
        (4.0, -4.0),
        (7.0, -7.1),
        (30.0, -30.0),
        (41.0, -40.8),
        (42.0, -43.0),
        (30.0, 9.0),
    ] {
        let mut case = Case::new([1, 2, 1, 1], triangular, 1.0);
        (case.raw, case.z) = (vec![x, y, 0.0], vec![0.0, 0.5]);
        case.check(device);
    }
    // Lanes left over, where a point at 0 would be too near the centre.
    let mut case = Case::new([1, 40, 1, 1], Layers::Radial, 1.0);
    case.raw = vec![0.0, -87.0, 15.0];
    case.z = (0..40_u8).map(|i| f32::from(20 + i % 7)).collect();
    case.check(device);
    // A small α, where the root's plain form cancels.
    let mut case = Case::new([1, 3, 2, 3], Layers::Radial, 1.0);
    for raw in case.raw.chunks_mut(5) {
        (raw[3], raw[4]) = (-10.0, 4.0);
    }
    case.check(device);
    // Vectors that are beyond the square root of what f32 has, that point nowhere, or nowhere else than those before.
    for vectors in [
        [[0.3, 0.7, -0.2], [2e19, 1e19, 0.0], [-0.7, 0.3, 0.1]],
        [[0.3, 0.7, -0.2], [0.6, 1.4, -0.4], [-0.7, 0.3, 0.1]],
        [[1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0]],
        [[1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [0.3, -0.7, 0.0]],
        [[0.3, 0.7, -0.2], [-0.7, 0.3, 0.1], [-0.4, 1.0, -0.1]],
        [[0.3, 0.7, -0.2], [3e38, 2e38, 0.0], [-0.7, 0.3, 0.1]],
        [[0.0; 3], [1.0, 0.2, -0.4], [0.0; 3]],
        [[0.0; 3]; 3],
    ] {
        let orthogonal = Layers::Sylvester(SylvesterBasis::Orthogonal(3));
        let mut case = Case::new([1, 20, 2, 3], orthogonal, 1.0);
        let numbers = orthogonal.numbers(3);
        case.raw[numbers..][..9].copy_from_slice(vectors.as_flattened());
        case.check(device);
        let reflections = Layers::Sylvester(SylvesterBasis::Householder(3));
        let mut case = Case::new([1, 20, 2, 3], reflections, 1.0);
        case.raw[..9].copy_from_slice(vectors.as_flattened());
        case.check(device);
    }
    // Vectors that count as 0.
    for size in [0.0, 5e-16, 2e-15, 1e-10] {
        let mut case = Case::new(
            [1, 20, 2, 3],
            Layers::Sylvester(SylvesterBasis::Householder(2)),
            1.0,
        );
        case.raw[..3].fill(size);
        case.check(device);
    }
}

#[test]
fn other_wild_values_on_flex() {
    other_wild_values(&Device::flex());
}

#[test]
fn other_stacks_on_flex() {
    other_stacks(&Device::flex());
}

#[test]
fn other_stacks_on_ndarray() {
    other_stacks(&ndarray());
}

/// Parameters at the ends of what the layer is made for.
fn wild_values(device: &Device) {
    let dim = 3;
    for constraint in PLANAR {
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

        // On the plane w·z + b = 0, where the determinant is 1 + w·û: the slope of that in w·u divided by it
        // is 1 down to w·u = -80, and 0 below. The inverse's gradient is a number divided by it.
        let mut flat = Case::new([2, 3, 1, dim], constraint, 1.0);
        for (wu, raw) in [-79.0, -81.0]
            .into_iter()
            .zip(flat.raw.chunks_mut(2 * dim + 1))
        {
            let (u, w) = raw.split_at_mut(dim);
            w.copy_from_slice(&[1.0, -0.5, 2.0, -0.5]);
            (0..dim).for_each(|d| u[d] = wu * w[d] / norm(&w[..dim]));
        }
        for z in flat.z.chunks_mut(dim) {
            z.copy_from_slice(&[0.5, 1.0, 0.25]);
        }
        flat.rounding += WGSL_EXP;
        flat.check(device);
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

/// A training that went wrong must not look as if it had not.
#[test]
fn what_is_not_a_number_stays_none() {
    let others = [
        Layers::Radial,
        Layers::Sylvester(SylvesterBasis::Orthogonal(1)),
        Layers::Sylvester(SylvesterBasis::Householder(1)),
        Layers::Sylvester(SylvesterBasis::Triangular),
    ];
    let on_the_host =
        [Device::flex(), ndarray()].map(|device| (device, [&PLANAR[..], &others].concat()));
    for (device, stacks) in on_the_host.into_iter().chain([(wgpu(), PLANAR.to_vec())]) {
        for (of, inverse) in stacks.iter().flat_map(|&of| [(of, false), (of, true)]) {
            // Each number of a layer, and the points.
            for i in 0..=of.numbers(1) {
                // Rows side by side in lanes, and single ones.
                let mut case = Case::new([1, 66, 1, 1], of, 1.0);
                match case.raw.get_mut(i) {
                    Some(number) => *number = f32::NAN,
                    None => case.z.fill(f32::NAN),
                }
                let how = How {
                    inverse,
                    fused: true,
                };
                for (j, numbers) in case.run(&device, DType::F32, how).iter().enumerate() {
                    assert!(
                        numbers.iter().all(|x| x.is_nan()),
                        "result {j} of a NaN at {i} of {of:?}, inverse: {inverse}: {numbers:?}",
                    );
                }
            }
        }
    }
}

/// A rectifier hides none.
#[test]
fn a_network_of_what_is_not_a_number_is_none() {
    for device in [Device::flex(), ndarray()] {
        let device = device.autodiff();
        let x = Tensor::<2>::from_data([[1.0, f32::NAN], [1.0, 2.0]], &device);
        let weight = Tensor::<2>::ones([2, 3], &device).require_grad();
        let first = Dense {
            weight: weight.clone(),
            mask: None,
            bias: Tensor::zeros([1, 3], &device),
        };
        let last = Dense {
            weight: Tensor::eye(3, &device),
            mask: None,
            bias: Tensor::zeros([3], &device),
        };
        let y = mlp(x, first, vec![last]);
        let gradients = y.clone().sum().backward();
        let y: Vec<f32> = y.into_data().try_to_vec().unwrap();
        assert!(y[..3].iter().all(|y| y.is_nan()) && y[3..] == [3.0; 3]);
        let of_weight = weight.grad(&gradients).unwrap().into_data();
        let of_weight: Vec<f32> = of_weight.try_to_vec().unwrap();
        assert!(of_weight[..3] == [2.0; 3] && of_weight[3..].iter().all(|x| x.is_nan()));
    }
}

/// Points and parameters that are views of something larger, in another order.
#[test]
fn views_are_read_in_their_own_order() {
    for device in [Device::flex(), ndarray(), wgpu()] {
        let constraint = PlanarConstraint::Paper;
        let case = Case::new([1, 12, 2, 3], Layers::Planar(constraint), 1.0);
        let from = |values: &[f32], shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
        };
        let (raw, z) = (from(&case.raw, [2, 7]), from(&case.z, [12, 3]));
        let straight = Planar::new(raw.clone().unsqueeze(), constraint).forward(z.clone());
        // [7, 2] in memory, seen as [2, 7]; and the points from the middle of a larger tensor.
        let turned = Tensor::<2>::from_data(raw.transpose().into_data(), &device).transpose();
        let larger = Tensor::cat(vec![z.clone(), z.clone(), z], 1).slice_dim(1, 3..6);
        let viewed = Planar::new(turned.unsqueeze(), constraint).forward(larger);
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

/// Fails where numbers differ by more than [`ROUNDING`] of the largest of their row.
#[track_caller]
fn assert_rows_close(got: &[f64], exact: &[f64], width: usize, what: &str) {
    assert_eq!(got.len(), exact.len(), "{what}");
    for (got, exact) in got.chunks(width).zip(exact.chunks(width)) {
        let scale = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        for (got, exact) in got.iter().zip(exact) {
            assert!(
                (got - exact).abs() <= ROUNDING * scale,
                "{what}: {got}, not {exact}, of {scale}"
            );
        }
    }
}

const PIXELS: usize = 37;

/// The likelihood and its gradients in the logits and in x, whose image each of `n` samples shares.
fn likelihood(device: &Device, dtype: DType) -> [Vec<f64>; 3] {
    let device = device.clone().autodiff();
    let (n, batch, pixels) = (30, 7, PIXELS);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // Logits in the tails too, where 1 - sigmoid would cancel.
    let logits: Vec<f32> = (0..n * batch * pixels)
        .map(|i| rng.random_range(-1.0..1.0) * [1.0, 20.0, 100.0][i % 3])
        .collect();
    let x: Vec<f32> = (0..batch * pixels)
        .map(|i| [0.0, 1.0, 0.0, rng.random_range(0.0..1.0)][i % 4])
        .collect();
    let tensor = |values: Vec<f32>, rows| {
        let data = TensorData::new(values, [rows, pixels]).convert_dtype(dtype);
        Tensor::<2>::from_data(data, (&device, dtype)).require_grad()
    };
    let (logits, x) = (tensor(logits, n * batch), tensor(x, batch));
    let nats = bernoulli_log_likelihood(logits.clone(), x.clone());
    // Another weight for each row.
    let weights = Tensor::arange(1..(n * batch) as i64 + 1, &device)
        .float()
        .cast(dtype);
    let gradients = (nats.clone() * weights).sum().backward();
    [
        nats.into_data(),
        logits.grad(&gradients).unwrap().into_data(),
        x.grad(&gradients).unwrap().into_data(),
    ]
    .map(|data| data.iter::<f64>().collect())
}

#[test]
fn the_likelihood_on_flex_and_ndarray() {
    let exact = likelihood(&Device::flex(), DType::F64);
    for device in [Device::flex(), ndarray()] {
        let got = likelihood(&device, DType::F32);
        for (i, width) in [1, PIXELS, PIXELS].into_iter().enumerate() {
            assert_rows_close(&got[i], &exact[i], width, &format!("result {i}"));
        }
    }
}

/// Samples, their densities and those of points, and the gradients in mean, log-variance, noise and points.
fn gaussian(device: &Device, dtype: DType, batch: usize) -> Vec<Vec<f64>> {
    let device = device.clone().autodiff();
    let (rows, dim) = (100 * batch, 37);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut tensor = |rows: usize, scale: f32| {
        let numbers: Vec<f32> = (0..rows * dim)
            .map(|_| rng.random_range(-scale..scale))
            .collect();
        let data = TensorData::new(numbers, [rows, dim]).convert_dtype(dtype);
        Tensor::<2>::from_data(data, (&device, dtype)).require_grad()
    };
    let (mean, log_var) = (tensor(batch, 2.0), tensor(batch, 2.0));
    let (noise, points) = (tensor(rows, 3.0), tensor(rows, 3.0));
    let weights = tensor(rows, 1.0).detach();
    let weight_of_row = weights.clone().slice_dim(1, 0..1).reshape([rows]);

    let base = DiagonalGaussian::new(mean.clone(), log_var.clone());
    let (z, of_samples) = base.rsample_and_log_prob(noise.clone());
    let of_points = base.log_prob(points.clone());
    let results = [
        z.clone().into_data(),
        of_samples.clone().into_data(),
        of_points.clone().into_data(),
    ];
    let loss = (z * weights).sum()
        + (of_samples * weight_of_row.clone()).sum()
        + (of_points * weight_of_row.square()).sum();
    let gradients = loss.backward();
    let gradients =
        [mean, log_var, noise, points].map(|tensor| tensor.grad(&gradients).unwrap().into_data());
    (results.into_iter().chain(gradients))
        .map(|data| data.iter::<f64>().collect())
        .collect()
}

#[test]
fn gaussians_everywhere() {
    for batch in [1, 7] {
        let exact = gaussian(&Device::flex(), DType::F64, batch);
        for device in [Device::flex(), ndarray(), wgpu()] {
            let got = gaussian(&device, DType::F32, batch);
            for (i, width) in [37, 1, 1, 37, 37, 37, 37].into_iter().enumerate() {
                assert_rows_close(&got[i], &exact[i], width, &format!("result {i} of {batch}"));
            }
        }
    }
}

/// Steps of the optimisers in the model that the others are in.
#[test]
fn the_optimisers_take_the_same_steps_everywhere() {
    let optimizers: [fn() -> ModuleOptimizer; 3] = [
        || RmsProp::default().init(),
        || Adam::default().init(),
        || Adamax::default().init(),
    ];
    for optimizer in optimizers {
        let run = |device: &Device| -> Vec<f32> {
            let device = device.clone().autodiff();
            let at: Vec<f32> = (0..20_000).map(|i| i as f32 / 8192.0 - 1.0).collect();
            let at = Tensor::<2>::from_data(TensorData::new(at, [100, 200]), &device);
            let mut param = Param::from_tensor(at);
            let mut optimizer = optimizer();
            for step in 0..3 {
                let loss = (param.val() * (step as f32 + 0.3)).sin().sum();
                let gradients = GradientsParams::from_grads(loss.backward(), &param);
                param = optimizer.step(0.01, param, gradients);
            }
            param.val().into_data().iter().collect()
        };
        let expected = run(&Device::flex());
        for device in [ndarray(), wgpu()] {
            for (got, expected) in run(&device).iter().zip(&expected) {
                // Gradients near 0 are divided by their own size: by sines and cosines of 1e-6 or so.
                assert!((got - expected).abs() < 1e-4, "{got}, not {expected}");
            }
        }
    }
}

/// A layer, and its gradients in x, W and b; every product rounds as `f32` does.
fn maxout_layer(device: &Device, dtype: DType, window: usize) -> [Vec<f64>; 4] {
    let device = device.clone().autodiff();
    let (rows, inputs, units) = (120, 70, 160);
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut data = |shape: &[usize]| {
        let n = shape.iter().product();
        // Eighths: no two outputs of a window are equal but for rounding, which would choose between them.
        let numbers: Vec<f32> = (0..n)
            .map(|_| rng.random_range(-200..200) as f32 / 8.0)
            .collect();
        TensorData::new(numbers, shape.to_vec()).convert_dtype(dtype)
    };
    let options = (&device, dtype);
    let x = Tensor::<2>::from_data(data(&[rows, inputs]), options).require_grad();
    let weights = Tensor::<2>::from_data(data(&[rows, units]), options);
    let mut layer = LinearConfig::new(inputs, units * window).init(&device);
    let weight = Tensor::from_data(data(&[inputs, units * window]), options);
    let bias = Tensor::from_data(data(&[units * window]), options);
    layer.weight = Param::from_tensor(weight);
    layer.bias = Some(Param::from_tensor(bias));

    let bias = layer.bias.as_ref().unwrap().val();
    let y = maxout(&layer, x.clone(), window);
    let gradients = (y.clone() * weights).sum().backward();
    [
        y.into_data(),
        x.grad(&gradients).unwrap().into_data(),
        layer.weight.val().grad(&gradients).unwrap().into_data(),
        bias.grad(&gradients).unwrap().into_data(),
    ]
    .map(|data| data.iter::<f64>().collect())
}

/// The columns of two layers on the same x, apart, and the gradients of x, weights and biases. Of the first layer one part takes no
/// part in the loss and one takes part twice, of the second the last takes none. Every product is exact in `f32`.
///
/// `frozen`: of the weights and biases no gradient is asked for.
fn columns(
    device: &Device,
    dtype: DType,
    frozen: bool,
    of: fn(Tensor<2>, Tensor<2>, Tensor<1>, &[usize]) -> Vec<Tensor<2>>,
) -> Vec<Vec<f64>> {
    let (rows, inputs) = (50, 30);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut numbers = |shape: &[usize]| {
        let n = shape.iter().product();
        let eighths = (0..n).map(|_| rng.random_range(-200..200) as f32 / 8.0);
        TensorData::new(eighths.collect::<Vec<_>>(), shape.to_vec()).convert_dtype(dtype)
    };
    let options = (device, dtype);
    let x = Tensor::<2>::from_data(numbers(&[rows, inputs]), options).require_grad();
    let (mut loss, mut values, mut layers) = (x.clone().sum(), Vec::new(), Vec::new());
    let parts = [
        (&[7, 20, 1, 64][..], &[1, 2, 3, 1][..]),
        (&[20, 20, 5], &[1, 0]),
    ];
    for (widths, taken) in parts {
        let outputs = widths.iter().sum();
        let weight = Tensor::<2>::from_data(numbers(&[inputs, outputs]), options);
        let bias = Tensor::<1>::from_data(numbers(&[outputs]), options);
        let (weight, bias) = match frozen {
            true => (weight, bias),
            false => (weight.require_grad(), bias.require_grad()),
        };
        let y = of(x.clone(), weight.clone(), bias.clone(), widths);
        for &i in taken {
            let y = y[i].clone();
            let weights = Tensor::<2>::from_data(numbers(&y.dims()), options);
            loss = loss + (y * weights).sum();
        }
        values.extend(y.into_iter().map(Tensor::into_data));
        layers.push((weight, bias));
    }
    let gradients = loss.backward();
    values.push(x.grad(&gradients).unwrap().into_data());
    for (weight, bias) in layers.into_iter().filter(|_| !frozen) {
        values.push(weight.grad(&gradients).unwrap().into_data());
        values.push(bias.grad(&gradients).unwrap().into_data());
    }
    values
        .into_iter()
        .map(|data| data.iter().collect())
        .collect()
}

#[test]
fn columns_are_those_of_the_whole_layer() {
    let sliced = |x, weight, bias, widths: &[usize]| {
        let all = affine(x, weight, bias);
        let mut end = 0;
        let part = |width: &usize| {
            end += width;
            all.clone().slice_dim(1, end - width..end)
        };
        widths.iter().map(part).collect()
    };
    for frozen in [false, true] {
        let exact = columns(&Device::flex().autodiff(), DType::F64, frozen, sliced);
        for device in [Device::flex(), ndarray(), wgpu()] {
            let tracked = device.autodiff();
            for device in [tracked.clone(), tracked.gradient_checkpointing()] {
                let got = columns(&device, DType::F32, frozen, affine_columns);
                assert_eq!(got, exact);
            }
        }
    }
    let by_slices = columns(
        &Device::flex().autodiff(),
        DType::F64,
        false,
        affine_columns,
    );
    let exact = columns(&Device::flex().autodiff(), DType::F64, false, sliced);
    assert_eq!(by_slices, exact);
    let device = Device::flex();
    let nothing = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &device);
    let bias = Tensor::zeros([3], &device);
    let of_no_rows = affine_columns(nothing([0, 2]), nothing([2, 3]), bias, &[0, 3]);
    let shapes: Vec<_> = of_no_rows.iter().map(Tensor::dims).collect();
    assert_eq!(shapes, [[0, 0], [0, 3]]);
}

#[test]
#[should_panic(expected = "3 outputs do not fall into [1, 1]")]
fn widths_are_those_of_all_columns() {
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &Device::flex());
    let bias = Tensor::zeros([3], &Device::flex());
    affine_columns(zeros([4, 2]), zeros([2, 3]), bias, &[1, 1]);
}

#[test]
fn maxout_layers_everywhere() {
    for window in [1, 2, 3, 4] {
        let exact = maxout_layer(&Device::flex(), DType::F64, window);
        for device in [Device::flex(), ndarray(), wgpu()] {
            // Sums of products of eighths are exact in any order, since these stay below 2^18.
            let got = maxout_layer(&device, DType::F32, window);
            assert_eq!(got, exact, "{window}");
        }
    }
}

/// A network of whole numbers, so few and small that every sum is exact in `f32`.
#[derive(Clone, Copy, Debug)]
struct Mlp {
    layers: usize,
    rows: usize,
    /// Of the first layer's biases.
    owners: usize,
    masked: bool,
    /// Who asks for gradients, a bit each: x, and then weight and bias of each layer.
    wants: u16,
}

impl Mlp {
    const WIDTHS: [usize; 6] = [30, 24, 20, 16, 12, 5];

    /// What comes out, and the gradients of all that wants one.
    fn run(self, device: &Device, dtype: DType) -> Vec<Vec<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut numbers = |shape: &[usize], share: f64| {
            let n = shape.iter().product();
            let mut number = || match rng.random_bool(share) {
                true => rng.random_range(-2..=2_i8).into(),
                false => 0.0,
            };
            let numbers: Vec<f32> = (0..n).map(|_| number()).collect();
            TensorData::new(numbers, shape.to_vec()).convert_dtype(dtype)
        };
        let options = (device, dtype);
        let mut tracked = Vec::new();
        let mut tensor = |data: TensorData, input: usize| {
            let tensor = Tensor::<2>::from_data(data, options);
            if self.wants >> input & 1 == 0 {
                return tensor;
            }
            tracked.push(tensor.require_grad());
            tracked.last().expect("just there").clone()
        };
        let x = tensor(numbers(&[self.rows, Self::WIDTHS[0]], 0.5), 0);
        let mut layers = Vec::new();
        for (i, widths) in Self::WIDTHS[..=self.layers].windows(2).enumerate() {
            let owners = if layers.is_empty() { self.owners } else { 1 };
            let weight = tensor(numbers(widths, 0.2), 2 * i + 1);
            let bias = tensor(numbers(&[owners, widths[1]], 0.2), 2 * i + 2);
            let mask = self.masked.then(|| {
                let mask = numbers(widths, 0.5);
                Tensor::<2>::from_data(mask, options)
                    .not_equal_elem(0.0)
                    .float()
                    .cast(dtype)
            });
            layers.push(Dense { weight, mask, bias });
        }
        let rest = layers.split_off(1);
        let rest = rest.into_iter().map(|Dense { weight, mask, bias }| Dense {
            weight,
            mask,
            bias: bias.squeeze_dim::<1>(0),
        });
        let y = mlp(x, layers.remove(0), rest.collect());
        // At once: what wgpu's data are read from is written over when y is used up.
        let numbers_of = |tensor: Tensor<2>| tensor.into_data().iter().collect::<Vec<f64>>();
        let mut found = vec![numbers_of(y.clone())];
        let weights = Tensor::<2>::from_data(numbers(&y.dims(), 0.5), options);
        if !tracked.is_empty() {
            let gradients = (y * weights).sum().backward();
            let gradients = tracked.iter().map(|tensor| tensor.grad(&gradients));
            found.extend(gradients.map(|gradient| numbers_of(gradient.unwrap())));
        }
        found
    }
}

/// Of one operation and of several, of one piece of the rows and of several, the last one shorter.
#[test]
fn whole_networks_everywhere() {
    let one = Mlp {
        layers: 3,
        rows: 903,
        owners: 1,
        masked: false,
        wants: u16::MAX,
    };
    let depths = (1..=5).flat_map(|layers| {
        [false, true].map(|masked| Mlp {
            layers,
            masked,
            ..one
        })
    });
    let owners = [(903, 3), (903, 301), (903, 903), (7, 1), (7, 7)].map(|(rows, owners)| Mlp {
        rows,
        owners,
        ..one
    });
    // One of all inputs, all but one, and none; of several owners, too.
    let wants = [(2, 1), (4, 1), (3, 301)]
        .into_iter()
        .flat_map(|(layers, owners)| {
            let wants = (0..=2 * layers).flat_map(|i| [1 << i, !(1 << i)]);
            wants.chain([0]).map(move |wants| Mlp {
                layers,
                owners,
                wants,
                masked: true,
                ..one
            })
        });
    // What the second operation of five layers is given in several pieces, too.
    let tall = Mlp {
        layers: 5,
        rows: 2_600,
        ..one
    };
    for network in depths.chain(owners).chain(wants).chain([tall]) {
        let exact = network.run(&Device::flex().autodiff(), DType::F64);
        let largest = exact
            .iter()
            .flatten()
            .fold(0.0_f64, |most, x| most.max(x.abs()));
        assert!(
            largest > 0.0 && largest < 2_f64.powi(24),
            "{network:?}: {largest}"
        );
        for device in [Device::flex(), ndarray(), wgpu()] {
            let tracked = device.autodiff();
            for device in [tracked.clone(), tracked.gradient_checkpointing()] {
                let got = network.run(&device, DType::F32);
                for (i, (got, exact)) in got.iter().zip(&exact).enumerate() {
                    let other = (0..exact.len()).find(|&j| got[j] != exact[j]);
                    assert!(
                        other.is_none(),
                        "{network:?} on {device:?}: number {other:?} of {i}: {:?}",
                        other.map(|j| (got[j], exact[j]))
                    );
                }
            }
        }
        if network.wants == 0 {
            assert!(
                network.run(&Device::flex(), DType::F32) == exact,
                "{network:?}"
            );
        }
    }
}
