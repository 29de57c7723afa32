//! Σ_i ln Bernoulli(x_i; σ(l_i)) for each row, in one pass over the logits; and its gradient g (x - σ(l)) in another.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{DType, Shape, Tensor},
};

use super::is_fused;

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

/// The derivative of [`BernoulliOps`].
pub trait BernoulliBackwardOps: Backend {
    /// The gradient of the logits from that of the output, `grad: [n · batch]`.
    fn bernoulli_backward(
        logits: FloatTensor<Self>,
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The log-likelihood of each row where the backend has the fused operation.
pub fn bernoulli(logits: &Tensor<2>, x: &Tensor<2>) -> Option<Tensor<1>> {
    let of_f32 = logits.dtype() == DType::F32 && x.dtype() == DType::F32;
    let logits = logits.clone().into_dispatch();
    (of_f32 && is_fused(&logits.kind))
        .then(|| Tensor::from_dispatch(Dispatch::bernoulli(logits, x.clone().into_dispatch())))
}

#[derive(Debug)]
struct Bernoulli;

impl<B: Backend + BernoulliBackwardOps> Backward<B, 2> for Bernoulli {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [logits_node, x_node] = ops.parents;
        let (logits, x) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = x_node {
            grads.register::<B>(node.id, grad_of_x::<B>(&logits, &x, grad.clone()));
        }
        if let Some(node) = logits_node {
            grads.register::<B>(node.id, B::bernoulli_backward(logits, x, grad));
        }
    }
}

/// Σ over samples of g l: asked for by nobody who trains on data, so that tensor operations will do.
fn grad_of_x<B: Backend>(
    logits: &FloatTensor<B>,
    x: &FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (rows, shape) = (logits.shape()[0], x.shape());
    let each = B::float_mul(
        logits.clone(),
        B::float_reshape(grad, Shape::new([rows, 1])),
    );
    let by_sample = Shape::new([rows / shape[0], shape[0] * shape[1]]);
    let sum = B::float_sum_dim(B::float_reshape(each, by_sample), 0);
    B::float_reshape(sum, shape)
}

impl<B: Backend + BernoulliOps + BernoulliBackwardOps, C: CheckpointStrategy> BernoulliOps
    for Autodiff<B, C>
{
    fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let parents = [logits.node(), x.node()];
        let (logits, x) = (logits.into_primitive(), x.into_primitive());
        let output = B::bernoulli(logits.clone(), x.clone());
        match Bernoulli.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((logits, x), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host {
    use std::iter::zip;

    use burn_host::{
        Host,
        math::{sigmoid, softplus},
        vectorized,
    };
    use rayon::prelude::*;

    use super::*;

    macro_rules! on_the_host {
        ($backend:ty) => {
            impl BernoulliOps for $backend {
                fn bernoulli(logits: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
                    forward::<Self>(logits, x)
                }
            }

            impl BernoulliBackwardOps for $backend {
                fn bernoulli_backward(
                    logits: FloatTensor<Self>,
                    x: FloatTensor<Self>,
                    grad: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    backward::<Self>(logits, x, grad)
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

    fn forward<B: Host>(logits: FloatTensor<B>, x: FloatTensor<B>) -> FloatTensor<B> {
        let shape = logits.shape();
        let (rows, pixels) = (shape[0], shape[1]);
        let (logits, x) = (B::elements(&logits), B::elements(&x));
        let row = |(row, logits): (usize, &[f32])| {
            let start = row * pixels % x.len();
            log_likelihood(logits, &x[start..start + pixels])
        };
        let nats: Vec<f32> = logits
            .par_chunks_exact(pixels)
            .enumerate()
            .with_min_len(GRAIN.div_ceil(pixels))
            .map(row)
            .collect();
        B::from_elements(nats, [rows])
    }

    fn backward<B: Host>(
        logits: FloatTensor<B>,
        x: FloatTensor<B>,
        grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let shape = logits.shape();
        let pixels = shape[1];
        let (logits, x, grad) = (B::elements(&logits), B::elements(&x), B::elements(&grad));
        let mut out = vec![0.0; logits.len()];
        out.par_chunks_exact_mut(pixels)
            .zip(logits.par_chunks_exact(pixels).zip(grad.par_iter()))
            .enumerate()
            .with_min_len(GRAIN.div_ceil(pixels))
            .for_each(|(row, (out, (logits, g)))| {
                let start = row * pixels % x.len();
                gradient(out, logits, &x[start..start + pixels], *g);
            });
        B::from_elements(out, shape)
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
}
