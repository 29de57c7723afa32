//! Σ_i ln Bernoulli(x_i; σ(l_i)) for each row, in one pass over the logits; and its gradient g (x - σ(l)) in another.

use std::iter::zip;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::{Shape, Tensor},
};
use burn_host::{
    Host,
    math::{sigmoid, softplus},
    tracked, vectorized, write_chunks,
};

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

/// The log-likelihood of each row.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
pub trait BernoulliOps: Backend {
    /// `logits: [n · batch, pixels]`, sample-major, and `x: [batch, pixels]` to `[n · batch]`, in `f32`.
    fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The log-likelihood of each row where the backend has the fused operation.
pub fn bernoulli(logits: &Tensor<2>, x: &Tensor<2>) -> Option<Tensor<1>> {
    let is_empty = logits.shape().num_elements() == 0;
    (!is_empty && is_fused(logits) && is_fused(x)).then(|| {
        let (logits, x) = (logits.clone(), x.clone());
        Tensor::from_dispatch(Dispatch::bernoulli(
            logits.into_dispatch(),
            x.into_dispatch(),
        ))
    })
}

impl<B: BernoulliOps + Host, C: CheckpointStrategy> BernoulliOps for Autodiff<B, C> {
    fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let inputs = [logits.node(), x.node()];
        let (logits, x) = (logits.into_primitive(), x.into_primitive());
        let output = B::bernoulli(logits.clone(), x.clone());
        tracked::<B, C, 2>(inputs, output, move |grad, [logits_want, x_wants]| {
            [
                logits_want.then(|| grad_of_logits::<B>(&logits, &x, &grad)),
                x_wants.then(|| grad_of_x::<B>(&logits, &x, &grad)),
            ]
        })
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl BernoulliOps for $backend {
            fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
                forward::<Self>(&logits, &x)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// Numbers that are worth a thread's while.
const GRAIN: usize = 4096;

fn forward<B: Host>(logits: &FloatTensor<B>, x: &FloatTensor<B>) -> FloatTensor<B> {
    let shape = logits.shape();
    let (rows, pixels) = (shape[0], shape[1]);
    let (logits, x) = (B::elements(logits), B::elements(x));
    let at_once = GRAIN.div_ceil(pixels);
    let (nats, _) = write_chunks(rows, at_once, |i, nats| {
        for (nats, row) in zip(nats, i * at_once..) {
            let start = row * pixels % x.len();
            let logits = &logits[row * pixels..][..pixels];
            *nats = log_likelihood(logits, &x[start..start + pixels]);
        }
    });
    B::from_elements(nats, [rows])
}

fn grad_of_logits<B: Host>(
    logits: &FloatTensor<B>,
    x: &FloatTensor<B>,
    grad: &FloatTensor<B>,
) -> FloatTensor<B> {
    let shape = logits.shape();
    let pixels = shape[1];
    let (logits, x, grad) = (B::elements(logits), B::elements(x), B::elements(grad));
    let at_once = GRAIN.div_ceil(pixels);
    let (out, _) = write_chunks(logits.len(), at_once * pixels, |i, out| {
        for (out, row) in zip(out.chunks_exact_mut(pixels), i * at_once..) {
            let start = row * pixels % x.len();
            let logits = &logits[row * pixels..][..pixels];
            gradient(out, logits, &x[start..start + pixels], grad[row]);
        }
    });
    B::from_elements(out, shape)
}

/// Σ over samples of g l: asked for by nobody who trains on data, so that tensor operations will do.
fn grad_of_x<B: Backend>(
    logits: &FloatTensor<B>,
    x: &FloatTensor<B>,
    grad: &FloatTensor<B>,
) -> FloatTensor<B> {
    let (rows, shape) = (logits.shape()[0], x.shape());
    let each = B::float_mul(
        logits.clone(),
        B::float_reshape(grad.clone(), Shape::new([rows, 1])),
    );
    let by_sample = Shape::new([rows / shape[0], shape[0] * shape[1]]);
    let sum = B::float_sum_dim(B::float_reshape(each, by_sample), 0);
    B::float_reshape(sum, shape)
}

vectorized! {
    /// g (x - σ(l))
    fn gradient(out: &mut [f32], logits: &[f32], x: &[f32], g: f32) {
        for (out, (l, x)) in zip(out, zip(logits, x)) {
            *out = g * (x - sigmoid(*l));
        }
    }
}

vectorized! {
    /// Σ x l - ln(1 + e^l), in 16 parts, which keep each other's rounding small besides.
    fn log_likelihood(logits: &[f32], x: &[f32]) -> f32 {
        let ((l, l_rest), (x, x_rest)) = (logits.as_chunks::<16>(), x.as_chunks::<16>());
        let mut parts = [0.0; 16];
        for (l, x) in zip(l, x) {
            for i in 0..16 {
                parts[i] += x[i] * l[i] - softplus(l[i]);
            }
        }
        let mut rest = 0.0;
        for (l, x) in zip(l_rest, x_rest) {
            rest += x * l - softplus(*l);
        }
        parts.iter().sum::<f32>() + rest
    }
}
