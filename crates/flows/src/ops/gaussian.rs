//! Samples of a diagonal Gaussian with their log-densities, and the log-densities of given points.
//!
//! With ε = (z - μ) / σ and ln q = -½ Σ (ε² + ln σ² + ln 2π), from g = ∂L/∂z and h = ∂L/∂ln q,
//!
//! ```text
//! of a sample z = μ + σ ε:    ∂L/∂μ = Σ g        ∂L/∂ln σ² = Σ ½ (g σ ε - h)      ∂L/∂ε = g σ - h ε
//! of a point z:               ∂L/∂μ = Σ h ε / σ  ∂L/∂ln σ² = Σ ½ h (ε² - 1)       ∂L/∂z = -h ε / σ
//! ```
//!
//! (sums over the rows of one Gaussian).

use std::{iter::zip, ops::Range};

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::Tensor,
};
use burn_host::{Host, math::exp, tracked, vectorized, write_chunks};

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

/// Samples and densities of Gaussians with `mean, log_var: [batch, dim]`, in `f32`.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
pub trait GaussianOps: Backend {
    /// `noise: [n · batch, dim]` to `[z | log_prob]: [n · batch, dim + 1]`.
    fn gaussian_rsample(
        mean: FloatTensor<Self>,
        log_var: FloatTensor<Self>,
        noise: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `value: [n · batch, dim]` to `[n · batch]`.
    fn gaussian_log_prob(
        mean: FloatTensor<Self>,
        log_var: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Samples and their log-densities, `[rows, dim]` and `[rows]`, where the backend has the fused operation.
pub fn rsample(
    mean: &Tensor<2>,
    log_var: &Tensor<2>,
    noise: &Tensor<2>,
) -> Option<(Tensor<2>, Tensor<1>)> {
    let [rows, dim] = noise.dims();
    if rows * dim == 0 || ![mean, log_var, noise].into_iter().all(is_fused) {
        return None;
    }
    let [mean, log_var, noise] =
        [mean, log_var, noise].map(|tensor| tensor.clone().into_dispatch());
    let packed = Tensor::<2>::from_dispatch(Dispatch::gaussian_rsample(mean, log_var, noise));
    Some((
        packed.clone().slice_dim(1, 0..dim),
        packed.slice_dim(1, dim..dim + 1).reshape([rows]),
    ))
}

/// The log-densities of points, `[rows]`, where the backend has the fused operation.
pub fn log_prob(mean: &Tensor<2>, log_var: &Tensor<2>, value: &Tensor<2>) -> Option<Tensor<1>> {
    let is_empty = value.shape().num_elements() == 0;
    if is_empty || ![mean, log_var, value].into_iter().all(is_fused) {
        return None;
    }
    let [mean, log_var, value] =
        [mean, log_var, value].map(|tensor| tensor.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::gaussian_log_prob(
        mean, log_var, value,
    )))
}

impl<B: GaussianOps + Host, C: CheckpointStrategy> GaussianOps for Autodiff<B, C> {
    fn gaussian_rsample(
        mean: FloatTensor<Self>,
        log_var: FloatTensor<Self>,
        noise: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [mean.node(), log_var.node(), noise.node()];
        let [mean, log_var, noise] = [mean, log_var, noise].map(|tensor| tensor.into_primitive());
        let packed = B::gaussian_rsample(mean, log_var.clone(), noise.clone());
        tracked::<B, C, 3>(inputs, packed, move |grad, wants| {
            let sizes = Sizes::of(&log_var, &noise);
            let std = deviations(&B::elements(&log_var));
            let gradients =
                sample_gradients(sizes, &std, &B::elements(&noise), &B::elements(&grad));
            sizes.wanted::<B>(gradients, wants)
        })
    }

    fn gaussian_log_prob(
        mean: FloatTensor<Self>,
        log_var: FloatTensor<Self>,
        value: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [mean.node(), log_var.node(), value.node()];
        let [mean, log_var, value] = [mean, log_var, value].map(|tensor| tensor.into_primitive());
        let nats = B::gaussian_log_prob(mean.clone(), log_var.clone(), value.clone());
        tracked::<B, C, 3>(inputs, nats, move |grad, wants| {
            let sizes = Sizes::of(&log_var, &value);
            let std = deviations(&B::elements(&log_var));
            let (mean, value) = (B::elements(&mean), B::elements(&value));
            let gradients = point_gradients(sizes, &mean, &std, &value, &B::elements(&grad));
            sizes.wanted::<B>(gradients, wants)
        })
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl GaussianOps for $backend {
            fn gaussian_rsample(
                mean: FloatTensor<Self>,
                log_var: FloatTensor<Self>,
                noise: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                let sizes = Sizes::of(&log_var, &noise);
                let (mean, log_var) = (Self::elements(&mean), Self::elements(&log_var));
                let packed = sizes.samples(&mean, &log_var, &Self::elements(&noise));
                Self::from_elements(packed, [sizes.rows, sizes.dim + 1])
            }

            fn gaussian_log_prob(
                mean: FloatTensor<Self>,
                log_var: FloatTensor<Self>,
                value: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                let sizes = Sizes::of(&log_var, &value);
                let (mean, log_var) = (Self::elements(&mean), Self::elements(&log_var));
                let nats = sizes.log_probs(&mean, &log_var, &Self::elements(&value));
                Self::from_elements(nats, [sizes.rows])
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// `batch` Gaussians in `dim` dimensions and `rows` points, row i of the Gaussian i mod `batch`.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    dim: usize,
    rows: usize,
}

/// Numbers that are worth a thread's while.
const GRAIN: usize = 1 << 14;

impl Sizes {
    fn of(log_var: &impl TensorMetadata, points: &impl TensorMetadata) -> Self {
        let ([batch, dim], [rows, _]) = (log_var.shape().dims(), points.shape().dims());
        Self { batch, dim, rows }
    }

    /// Where the numbers of row `row` and of its Gaussian are.
    #[inline(always)]
    fn places(&self, row: usize) -> (Range<usize>, Range<usize>) {
        let dim = self.dim;
        let (row, own) = (row * dim, row % self.batch * dim);
        (row..row + dim, own..own + dim)
    }

    fn samples(self, mean: &[f32], log_var: &[f32], noise: &[f32]) -> Vec<f32> {
        let std = deviations(log_var);
        let (width, at_once) = (self.dim + 1, GRAIN.div_ceil(self.dim + 1));
        let (packed, _) = write_chunks(self.rows * width, at_once * width, |i, packed| {
            sample_rows(packed, i * at_once, self, (mean, log_var, &std), noise);
        });
        packed
    }

    fn log_probs(self, mean: &[f32], log_var: &[f32], value: &[f32]) -> Vec<f32> {
        let std = deviations(log_var);
        let at_once = GRAIN.div_ceil(self.dim);
        let (nats, _) = write_chunks(self.rows, at_once, |i, nats| {
            log_prob_rows(nats, i * at_once, self, (mean, log_var, &std), value);
        });
        nats
    }

    /// For the gradients of the mean, the log-variance and the points.
    fn zeros(self) -> [Vec<f32>; 3] {
        [self.batch, self.batch, self.rows].map(|rows| vec![0.0; rows * self.dim])
    }

    fn wanted<B: Host>(
        self,
        [of_mean, of_log_var, of_points]: [Vec<f32>; 3],
        [mean_wants, log_var_wants, points_want]: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let tensor = |elements, rows| B::from_elements(elements, [rows, self.dim]);
        [
            mean_wants.then(|| tensor(of_mean, self.batch)),
            log_var_wants.then(|| tensor(of_log_var, self.batch)),
            points_want.then(|| tensor(of_points, self.rows)),
        ]
    }
}

vectorized! {
    /// σ = e^(½ ln σ²)
    fn deviations(log_var: &[f32]) -> Vec<f32> {
        let mut std = log_var.to_vec();
        for std in &mut std {
            *std = exp(0.5 * *std);
        }
        std
    }

    /// `[z | log_prob]` of the rows from `first` on, from (μ, ln σ², σ).
    fn sample_rows(
        packed: &mut [f32],
        first: usize,
        sizes: Sizes,
        gaussian: (&[f32], &[f32], &[f32]),
        noise: &[f32],
    ) {
        let (mean, log_var, std) = gaussian;
        for (i, packed) in packed.chunks_exact_mut(sizes.dim + 1).enumerate() {
            let (row, own) = sizes.places(first + i);
            let (noise, std) = (&noise[row], &std[own.clone()]);
            let (z, nats) = packed.split_at_mut(sizes.dim);
            for (((z, mean), std), noise) in zip(zip(zip(z, &mean[own.clone()]), std), noise) {
                *z = mean + std * noise;
            }
            let mut parts = [0.0; PARTS];
            for (noise, log_var) in zip(noise.chunks(PARTS), log_var[own].chunks(PARTS)) {
                for ((part, noise), log_var) in zip(zip(&mut parts, noise), log_var) {
                    *part += noise * noise + log_var;
                }
            }
            nats[0] = -0.5 * (parts.iter().sum::<f32>() + sizes.dim as f32 * LN_2_PI);
        }
    }

    fn log_prob_rows(
        nats: &mut [f32],
        first: usize,
        sizes: Sizes,
        gaussian: (&[f32], &[f32], &[f32]),
        value: &[f32],
    ) {
        let (mean, log_var, std) = gaussian;
        for (i, nats) in nats.iter_mut().enumerate() {
            let (row, own) = sizes.places(first + i);
            let points = zip(value[row].chunks(PARTS), mean[own.clone()].chunks(PARTS));
            let widths = zip(std[own.clone()].chunks(PARTS), log_var[own].chunks(PARTS));
            let mut parts = [0.0; PARTS];
            for ((value, mean), (std, log_var)) in zip(points, widths) {
                let points = zip(zip(&mut parts, value), mean);
                for (((part, value), mean), (std, log_var)) in zip(points, zip(std, log_var)) {
                    let noise = (value - mean) / std;
                    *part += noise * noise + log_var;
                }
            }
            *nats = -0.5 * (parts.iter().sum::<f32>() + sizes.dim as f32 * LN_2_PI);
        }
    }

    /// Of the mean, the log-variance and the noise. On one thread: next to the network that the gradient goes on
    /// through, this is nothing.
    fn sample_gradients(sizes: Sizes, std: &[f32], noise: &[f32], grad: &[f32]) -> [Vec<f32>; 3] {
        let [mut of_mean, mut of_log_var, mut of_noise] = sizes.zeros();
        for (i, grad) in grad.chunks_exact(sizes.dim + 1).enumerate() {
            let (row, own) = sizes.places(i);
            let (g, h) = (&grad[..sizes.dim], grad[sizes.dim]);
            let from = zip(zip(&std[own.clone()], &noise[row.clone()]), g);
            let to = zip(zip(&mut of_mean[own.clone()], &mut of_log_var[own]), &mut of_noise[row]);
            for (((of_mean, of_log_var), of_noise), ((std, noise), g)) in zip(to, from) {
                *of_mean += g;
                *of_log_var += 0.5 * (g * std * noise - h);
                *of_noise = g * std - h * noise;
            }
        }
        [of_mean, of_log_var, of_noise]
    }

    /// Of the mean, the log-variance and the points.
    fn point_gradients(
        sizes: Sizes,
        mean: &[f32],
        std: &[f32],
        value: &[f32],
        grad: &[f32],
    ) -> [Vec<f32>; 3] {
        let [mut of_mean, mut of_log_var, mut of_value] = sizes.zeros();
        for (i, &h) in grad.iter().enumerate() {
            let (row, own) = sizes.places(i);
            let from = zip(zip(&mean[own.clone()], &std[own.clone()]), &value[row.clone()]);
            let to = zip(zip(&mut of_mean[own.clone()], &mut of_log_var[own]), &mut of_value[row]);
            for (((of_mean, of_log_var), of_value), ((mean, std), value)) in zip(to, from) {
                let noise = (value - mean) / std;
                *of_mean += h * noise / std;
                *of_log_var += 0.5 * h * (noise * noise - 1.0);
                *of_value = -h * noise / std;
            }
        }
        [of_mean, of_log_var, of_value]
    }
}

const LN_2_PI: f32 = 1.837_877_1;

/// Parts of a sum that fill a vector.
const PARTS: usize = 16;
