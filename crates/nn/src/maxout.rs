use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::Tensor,
};

use crate::is_fused;

/// The largest of each `window` neighbours (Goodfellow et al., *Maxout Networks*, 2013).
///
/// `x: [rows, units · window]` to `[rows, units]`. The gradient goes to the first of equal ones.
///
/// # Panics
///
/// When `window` is 0 or does not divide the width of `x`.
pub fn maxout(x: Tensor<2>, window: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    assert!(
        window > 0 && width % window == 0,
        "[{rows}, {width}] does not fall into windows of {window}"
    );
    if is_fused(&x) {
        Tensor::from_dispatch(Dispatch::maxout(x.into_dispatch(), window))
    } else {
        x.reshape([rows, width / window, window])
            .max_dim(2)
            .squeeze_dim(2)
    }
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait MaxoutOps: Backend {
    /// `x: [rows, units · window]` to `[rows, units]`.
    fn maxout(x: FloatTensor<Self>, window: usize) -> FloatTensor<Self>;
}

/// The derivative of [`MaxoutOps`].
trait MaxoutBackwardOps: Backend {
    /// The gradient of `x` from `grad: [rows, units]`.
    fn maxout_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        window: usize,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct Maxout;

impl<B: MaxoutBackwardOps> Backward<B, 1> for Maxout {
    type State = (FloatTensor<B>, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let (x, window) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::maxout_backward(x, grad, window));
        }
    }
}

impl<B: MaxoutOps + MaxoutBackwardOps, C: CheckpointStrategy> MaxoutOps for Autodiff<B, C> {
    fn maxout(x: FloatTensor<Self>, window: usize) -> FloatTensor<Self> {
        let parents = [x.node()];
        let x = x.into_primitive();
        let output = B::maxout(x.clone(), window);
        match Maxout.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, window), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host {
    use std::iter::zip;

    use burn::backend::TensorMetadata;
    use burn_host::{Host, vectorized};
    use rayon::prelude::*;

    use super::*;

    macro_rules! on_the_host {
        ($backend:ty) => {
            impl MaxoutOps for $backend {
                fn maxout(x: FloatTensor<Self>, window: usize) -> FloatTensor<Self> {
                    let [rows, width] = x.shape().dims();
                    let largest = forward(&Self::elements(&x), window);
                    Self::from_elements(largest, [rows, width / window])
                }
            }

            impl MaxoutBackwardOps for $backend {
                fn maxout_backward(
                    x: FloatTensor<Self>,
                    grad: FloatTensor<Self>,
                    window: usize,
                ) -> FloatTensor<Self> {
                    let out = backward(&Self::elements(&x), &Self::elements(&grad), window);
                    Self::from_elements(out, x.shape())
                }
            }
        };
    }

    #[cfg(feature = "flex")]
    on_the_host!(burn::backend::Flex);
    #[cfg(feature = "ndarray")]
    on_the_host!(burn::backend::NdArray);

    /// Units that a thread takes at a time.
    const UNITS: usize = 4096;

    /// Units that are looked at side by side, without a branch: which neighbour is the largest nobody can predict.
    const LANES: usize = 16;

    /// The largest of each window and its place, the first of equal ones; NaN counts as largest.
    #[inline(always)]
    fn largest(x: &[f32], window: usize) -> ([f32; LANES], [f32; LANES]) {
        let (mut best, mut at) = ([f32::NEG_INFINITY; LANES], [0.0; LANES]);
        for place in 0..window {
            // Unit by unit into the lanes first, so that they are compared together.
            let mut now = [0.0; LANES];
            for (now, x) in zip(&mut now, x.chunks_exact(window)) {
                *now = x[place];
            }
            for lane in 0..LANES {
                let is_larger = now[lane] > best[lane] || now[lane].is_nan();
                best[lane] = if is_larger { now[lane] } else { best[lane] };
                at[lane] = if is_larger { place as f32 } else { at[lane] };
            }
        }
        (best, at)
    }

    fn forward(x: &[f32], window: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / window];
        (out.par_chunks_mut(UNITS).zip(x.par_chunks(UNITS * window)))
            .for_each(|(out, x)| chunk_forward(out, x, window));
        out
    }

    vectorized! {
        fn chunk_forward(out: &mut [f32], x: &[f32], window: usize) {
            for (out, x) in zip(out.chunks_mut(LANES), x.chunks(LANES * window)) {
                let (best, _) = largest(x, window);
                out.copy_from_slice(&best[..out.len()]);
            }
        }
    }

    fn backward(x: &[f32], grad: &[f32], window: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(UNITS * window)
            .zip(x.par_chunks(UNITS * window).zip(grad.par_chunks(UNITS)))
            .for_each(|(out, (x, grad))| chunk_backward(out, x, grad, window));
        out
    }

    vectorized! {
        fn chunk_backward(out: &mut [f32], x: &[f32], grad: &[f32], window: usize) {
            let blocks = zip(out.chunks_mut(LANES * window), x.chunks(LANES * window));
            for ((out, x), grad) in zip(blocks, grad.chunks(LANES)) {
                let (_, at) = largest(x, window);
                let mut of_units = [0.0; LANES];
                of_units[..grad.len()].copy_from_slice(grad);
                for place in 0..window {
                    let mut of_place = [0.0; LANES];
                    for lane in 0..LANES {
                        let is_at = at[lane] == place as f32;
                        of_place[lane] = if is_at { of_units[lane] } else { 0.0 };
                    }
                    for (out, of_place) in zip(out.chunks_exact_mut(window), of_place) {
                        out[place] = of_place;
                    }
                }
            }
        }
    }
}
