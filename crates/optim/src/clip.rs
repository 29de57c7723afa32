//! Clipping by the norm of the whole gradient.

// The trait names burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    tensor::{DType, Device, Tensor},
};
use burn_host::{Host, vectorized};
use rayon::prelude::*;

/// Keeps the norm of the whole gradient within a multiple of its usual size.
///
/// ```text
/// g ← g · min(1, c m / ‖g‖)        m ← the mean of the norms so far, each as it was clipped
/// ```
///
/// The mean forgets exponentially, [`HORIZON`](Self::HORIZON) steps back; so the bound goes with the model, the data and
/// the size of a batch, and no number of its own has to fit them. A gradient that is suddenly many times as large as all
/// before, which is how an explosion begins, moves the weights as far as a usual one; a lasting growth is
/// followed at half a percent a step, a fall at one. The first gradient is taken as it is; one of zeros counts as none; and
/// one whose norm is infinite or no number comes out as zeros.
///
/// It is a module so that its state is saved with the model's, and a resumed training clips as the uninterrupted one
/// would have. Its tensors have no gradients.
///
/// Sources: the norm of the whole gradient, Pascanu et al., *On the difficulty of training recurrent neural networks*
/// (2013); a bound by the norms seen so far, Seetharaman et al., *AutoClip* (2020).
///
/// ```
/// use burn::{nn::LinearConfig, optim::GradientsParams, tensor::{Device, Tensor}};
/// use fused_optim::{Adam, GradientClip};
///
/// let device = Device::flex().autodiff();
/// let mut model = LinearConfig::new(4, 1).init(&device);
/// let (mut optimizer, mut clip) = (Adam::default().init(), GradientClip::new(&device));
/// for size in [1.0, 1000.0] {
///     let loss = model.forward(Tensor::<2>::ones([8, 4], &device) * size).sum();
///     let gradients = GradientsParams::from_grads(loss.backward(), &model);
///     let gradients = clip.clip(&model, gradients);
///     model = optimizer.step(1e-3, model, gradients);
/// }
/// let [norm, scale] = clip.last().into_data().try_to_vec::<f32>().unwrap()[..] else {
///     unreachable!("two numbers")
/// };
/// assert!(norm > 1000.0 && scale < 0.01);
/// ```
#[derive(Module, Debug)]
pub struct GradientClip {
    /// The sum of the clipped norms and of their weights, whose ratio is their mean: `[2]`.
    sums: Param<Tensor<1>>,
    /// The norm of the last gradient, before it was clipped, and what it was multiplied by: `[2]`.
    last: Param<Tensor<1>>,
}

impl GradientClip {
    /// c, how many times its usual size a gradient may have.
    pub const RATIO: f64 = 1.5;

    /// How many steps the mean reaches back.
    pub const HORIZON: f64 = 100.0;

    /// Before the first gradient.
    pub fn new(device: &Device) -> Self {
        let buffer = |values: [f32; 2]| {
            let tensor = Tensor::from_data(values, &device.clone().inner());
            Param::initialized(ParamId::new(), tensor)
        };
        Self {
            sums: buffer([0.0, 0.0]),
            last: buffer([0.0, 1.0]),
        }
    }

    /// The gradients of `module`, clipped.
    pub fn clip<M: Module>(&mut self, module: &M, gradients: GradientsParams) -> GradientsParams {
        let mut squares = SumOfSquares {
            gradients: &gradients,
            sums: Vec::new(),
        };
        module.visit(&mut squares);
        if squares.sums.is_empty() {
            return gradients;
        }
        let norm = Tensor::cat(squares.sums, 0).sum().sqrt();

        let [sum, weight] = parts(self.sums.val().without_autodiff());
        let is_first = weight.clone().equal_elem(0.0);
        let limit = (sum.clone() / weight.clone())
            .mul_scalar(Self::RATIO)
            .mask_where(is_first, norm.clone());
        let is_usual = norm.clone().greater_elem(0.0);
        let is_usual = is_usual.bool_and(norm.clone().lower_elem(f32::INFINITY));
        // Of what is left, nothing stays nothing, and the rest is left out.
        let rest = norm.clone().equal_elem(0.0).float().cast(DType::F32);
        let scale = rest.mask_where(
            is_usual.clone(),
            (limit.clone() / norm.clone()).clamp_max(1.0),
        );

        let kept = 1.0 - 1.0 / Self::HORIZON;
        let clipped = norm.clone().min_pair(limit).div_scalar(Self::HORIZON);
        let next = vec![
            sum.clone().mul_scalar(kept) + clipped,
            weight
                .clone()
                .mul_scalar(kept)
                .add_scalar(1.0 / Self::HORIZON),
        ];
        let sums = Tensor::cat(vec![sum, weight], 0)
            .mask_where(is_usual.expand([2]), Tensor::cat(next, 0));
        self.sums = Param::initialized(self.sums.id, sums);
        let last = vec![norm, scale.clone()];
        self.last = Param::initialized(self.last.id, Tensor::cat(last, 0));

        let mut scaled = Scaled { gradients, scale };
        module.visit(&mut scaled);
        scaled.gradients
    }

    /// The norm of the last gradient before it was clipped, and what it was multiplied by, `[2]`; 0 and 1 before the
    /// first.
    pub fn last(&self) -> Tensor<1> {
        self.last.val()
    }
}

/// The two numbers of `[2]`, each `[1]`.
fn parts(pair: Tensor<1>) -> [Tensor<1>; 2] {
    [pair.clone().slice(0..1), pair.slice(1..2)]
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(sum_of_squares(gradient));
        }
    }
}

struct Scaled {
    gradients: GradientsParams,
    scale: Tensor<1>,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let scaled = scale(gradient, self.scale.clone());
            self.gradients.register(param.id, scaled);
        }
    }
}

/// The operations of this file.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
)]
pub trait ClipOps: Backend {
    /// Of all elements, `[1]`; in `f32`, as `x` is.
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x` times the one number of `scale`; zeros where that is 0, whatever `x` is.
    fn scale(x: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self>;
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    if is_fused(&x) {
        Tensor::from_dispatch(Dispatch::sum_of_squares(x.into_dispatch()))
    } else {
        // Squares of half floats would overflow.
        let x = match x.dtype() {
            DType::F64 => x,
            _ => x.cast(DType::F32),
        };
        x.square().sum().cast(DType::F32)
    }
}

fn scale<const D: usize>(x: Tensor<D>, scale: Tensor<1>) -> Tensor<D> {
    if is_fused(&x) {
        Tensor::from_dispatch(Dispatch::scale(x.into_dispatch(), scale.into_dispatch()))
    } else {
        let (dtype, shape) = (x.dtype(), x.shape());
        let left_out = scale.clone().equal_elem(0.0).reshape([1; D]).expand(shape);
        (x * scale.reshape([1; D]).cast(dtype)).mask_fill(left_out, 0.0)
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl ClipOps for $backend {
            fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
                let sum = host_sum_of_squares(&<Self as Host>::elements(&x));
                <Self as Host>::from_elements(vec![sum], [1])
            }

            fn scale(mut x: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
                let scale = <Self as Host>::elements(&scale)[0];
                // Nearly always, and then there is nothing to pass over.
                if scale != 1.0 {
                    <Self as Host>::elements_mut(&mut x)
                        .par_chunks_mut(CHUNK)
                        .for_each(|chunk| multiply(chunk, scale));
                }
                x
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// Numbers that a thread takes at a time; sums are of these, in order, whatever the number of threads.
const CHUNK: usize = 1 << 14;

fn host_sum_of_squares(x: &[f32]) -> f32 {
    let sums: Vec<f32> = x.par_chunks(CHUNK).map(squares).collect();
    sums.iter().sum()
}

/// Sums side by side, enough of them that none waits for the one before.
const LANES: usize = 64;

vectorized! {
    fn squares(x: &[f32]) -> f32 {
        let mut sums = [0.0; LANES];
        let (whole, rest) = x.as_chunks::<LANES>();
        for x in whole {
            for i in 0..LANES {
                sums[i] += x[i] * x[i];
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x * x;
        }
        sums.iter().sum()
    }

    fn multiply(x: &mut [f32], scale: f32) {
        if scale == 0.0 {
            // Infinity times 0 is no number.
            x.fill(0.0);
        }
        for x in x {
            *x *= scale;
        }
    }
}
