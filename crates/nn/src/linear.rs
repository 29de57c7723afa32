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
    nn::Linear,
    tensor::Tensor,
};

use crate::is_fused;

/// x W + b: what `layer.forward(x)` returns.
///
/// `x: [rows, inputs]` to `[rows, outputs]`.
///
/// # Panics
///
/// When `x` has another width than the layer takes.
pub fn linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let weight = layer.weight.val();
    match &layer.bias {
        Some(bias) if is_fused(&x) && is_fused(&weight) => {
            let ([rows, width], [inputs, outputs]) = (x.dims(), weight.dims());
            assert!(
                width == inputs,
                "a layer from {inputs} to {outputs} takes [rows, {inputs}], got [{rows}, {width}]"
            );
            Tensor::from_dispatch(Dispatch::affine(
                x.into_dispatch(),
                weight.into_dispatch(),
                bias.val().into_dispatch(),
            ))
        }
        _ => layer.forward(x),
    }
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait AffineOps: Backend {
    /// `x: [rows, inputs]`, `weight: [inputs, outputs]` and `bias: [outputs]` to `[rows, outputs]`.
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The derivatives of [`AffineOps`], from that of its output.
trait AffineBackwardOps: Backend {
    fn grad_of_x(weight: &FloatTensor<Self>, grad: &FloatTensor<Self>) -> FloatTensor<Self>;
    fn grad_of_weight(x: &FloatTensor<Self>, grad: &FloatTensor<Self>) -> FloatTensor<Self>;
    fn grad_of_bias(grad: &FloatTensor<Self>) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct Affine;

impl<B: AffineBackwardOps> Backward<B, 3> for Affine {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [of_x, of_weight, of_bias] = ops.parents;
        let (x, weight) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = of_weight {
            grads.register::<B>(node.id, B::grad_of_weight(&x, &grad));
        }
        if let Some(node) = of_bias {
            grads.register::<B>(node.id, B::grad_of_bias(&grad));
        }
        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::grad_of_x(&weight, &grad));
        }
    }
}

impl<B: AffineOps + AffineBackwardOps, C: CheckpointStrategy> AffineOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let output = B::affine(x.clone(), weight.clone(), bias.into_primitive());
        match Affine.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host {
    use std::iter::zip;

    use burn::backend::TensorMetadata;
    use burn_host::{Host, Matrix, product, vectorized};
    use rayon::prelude::*;

    use super::*;

    macro_rules! on_the_host {
        ($backend:ty) => {
            impl AffineOps for $backend {
                fn affine(
                    x: FloatTensor<Self>,
                    weight: FloatTensor<Self>,
                    bias: FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    let [rows, inputs] = x.shape().dims();
                    let [_, outputs] = weight.shape().dims();
                    let elements = product(
                        Matrix::new(&Self::elements(&x), [rows, inputs]),
                        Matrix::new(&Self::elements(&weight), [inputs, outputs]),
                        Some(&Self::elements(&bias)),
                    );
                    Self::from_elements(elements, [rows, outputs])
                }
            }

            impl AffineBackwardOps for $backend {
                fn grad_of_x(
                    weight: &FloatTensor<Self>,
                    grad: &FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    let [inputs, outputs] = weight.shape().dims();
                    let [rows, _] = grad.shape().dims();
                    let elements = product(
                        Matrix::new(&Self::elements(grad), [rows, outputs]),
                        Matrix::new(&Self::elements(weight), [inputs, outputs]).transpose(),
                        None,
                    );
                    Self::from_elements(elements, [rows, inputs])
                }

                fn grad_of_weight(
                    x: &FloatTensor<Self>,
                    grad: &FloatTensor<Self>,
                ) -> FloatTensor<Self> {
                    let ([rows, inputs], [_, outputs]) = (x.shape().dims(), grad.shape().dims());
                    let elements = product(
                        Matrix::new(&Self::elements(x), [rows, inputs]).transpose(),
                        Matrix::new(&Self::elements(grad), [rows, outputs]),
                        None,
                    );
                    Self::from_elements(elements, [inputs, outputs])
                }

                fn grad_of_bias(grad: &FloatTensor<Self>) -> FloatTensor<Self> {
                    let [_, outputs] = grad.shape().dims();
                    let sums = column_sums(&Self::elements(grad), outputs);
                    Self::from_elements(sums, [outputs])
                }
            }
        };
    }

    #[cfg(feature = "flex")]
    on_the_host!(burn::backend::Flex);
    #[cfg(feature = "ndarray")]
    on_the_host!(burn::backend::NdArray);

    /// Columns that a thread takes at a time.
    const COLUMNS: usize = 512;

    fn column_sums(elements: &[f32], columns: usize) -> Vec<f32> {
        let mut sums = vec![0.0; columns];
        (sums.par_chunks_mut(COLUMNS).enumerate())
            .for_each(|(i, sums)| add_rows(elements, columns, i * COLUMNS, sums));
        sums
    }

    vectorized! {
        /// Adds the part of each row that starts at `start`.
        fn add_rows(elements: &[f32], columns: usize, start: usize, sums: &mut [f32]) {
            for row in elements.chunks_exact(columns) {
                for (sum, x) in zip(&mut *sums, &row[start..]) {
                    *sum += x;
                }
            }
        }
    }
}
