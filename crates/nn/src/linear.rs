use std::iter::zip;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    nn::Linear,
    tensor::{Shape, Tensor},
};
use burn_host::{Host, Matrix, product, tracked, vectorized, write_chunks};

use crate::is_fused;

/// x W + b: what `layer.forward(x)` returns.
///
/// `x: [rows, inputs]` to `[rows, outputs]`.
///
/// # Panics
///
/// When `x` has another width than the layer takes.
pub fn linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    match &layer.bias {
        Some(bias) => affine(x, layer.weight.val(), bias.val()),
        None => layer.forward(x),
    }
}

/// x W + b of a weight and a bias that are at hand.
///
/// `x: [rows, inputs]`, `weight: [inputs, outputs]` and `bias: [outputs]` to `[rows, outputs]`. Or `bias: [owners, outputs]`, of
/// which row i takes that of owner i mod `owners`.
///
/// # Panics
///
/// When the widths disagree, or `owners` does not divide `rows`.
pub fn affine<const D: usize>(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<D>) -> Tensor<2> {
    check(&x, &weight);
    check_bias(x.dims()[0], &weight, &bias);
    if !(is_fused(&x) && is_fused(&weight)) {
        return affine_by_tensor_operations(x, weight, bias);
    }
    Tensor::from_dispatch(Dispatch::affine(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

pub(crate) fn affine_by_tensor_operations<const D: usize>(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<D>,
) -> Tensor<2> {
    let ([rows, _], [_, outputs]) = (x.dims(), weight.dims());
    let owners = owners(&bias);
    if owners == 1 {
        return burn::tensor::module::linear(x, weight, Some(bias.reshape([outputs])));
    }
    let by_owner = x.matmul(weight).reshape([rows / owners, owners, outputs]);
    (by_owner + bias.reshape([1, owners, outputs])).reshape([rows, outputs])
}

pub(crate) fn check(x: &Tensor<2>, weight: &Tensor<2>) {
    let ([rows, width], [inputs, outputs]) = (x.dims(), weight.dims());
    assert!(
        width == inputs,
        "a layer from {inputs} to {outputs} takes [rows, {inputs}], got [{rows}, {width}]"
    );
}

pub(crate) fn check_bias<const D: usize>(rows: usize, weight: &Tensor<2>, bias: &Tensor<D>) {
    let [_, outputs] = weight.dims();
    let dims = bias.dims();
    let owners = owners(bias);
    assert!(
        dims.last() == Some(&outputs) && owners > 0 && rows.is_multiple_of(owners),
        "{rows} rows of {outputs} outputs take a bias [{outputs}] or [owners, {outputs}] of owners that divide them, got {dims:?}"
    );
}

fn owners<const D: usize>(bias: &Tensor<D>) -> usize {
    bias.dims()[..D - 1].iter().product()
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait AffineOps: Backend {
    /// `x: [rows, inputs]`, `weight: [inputs, outputs]` and `bias: [outputs]` or `[owners, outputs]` to `[rows, outputs]`.
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl<B: AffineOps + Host, C: CheckpointStrategy> AffineOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let inputs = [x.node(), weight.node(), bias.node()];
        let of_bias = bias.shape();
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let output = B::affine(x.clone(), weight.clone(), bias.into_primitive());
        tracked::<B, C, 3>(
            inputs,
            output,
            move |grad, [x_wants, weight_wants, bias_wants]| {
                [
                    x_wants.then(|| grad_of_x::<B>(&weight, &grad)),
                    weight_wants.then(|| grad_of_weight::<B>(&x, &grad)),
                    bias_wants.then(|| grad_of_bias::<B>(&grad, of_bias)),
                ]
            },
        )
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl AffineOps for $backend {
            fn affine(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                products::<Self>(&x, &weight, Some(&bias))
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

pub(crate) fn products<B: Host>(
    x: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: Option<&FloatTensor<B>>,
) -> FloatTensor<B> {
    let ([rows, inputs], [_, outputs]) = (x.shape().dims(), weight.shape().dims());
    let elements = product(
        Matrix::new(&B::elements(x), [rows, inputs]),
        Matrix::new(&B::elements(weight), [inputs, outputs]),
        bias.map(B::elements).as_deref(),
    );
    B::from_elements(elements, [rows, outputs])
}

pub(crate) fn grad_of_x<B: Host>(weight: &FloatTensor<B>, grad: &FloatTensor<B>) -> FloatTensor<B> {
    let ([inputs, outputs], [rows, _]) = (weight.shape().dims(), grad.shape().dims());
    let elements = product(
        Matrix::new(&B::elements(grad), [rows, outputs]),
        Matrix::new(&B::elements(weight), [inputs, outputs]).transpose(),
        None,
    );
    B::from_elements(elements, [rows, inputs])
}

pub(crate) fn grad_of_weight<B: Host>(x: &FloatTensor<B>, grad: &FloatTensor<B>) -> FloatTensor<B> {
    let ([rows, inputs], [_, outputs]) = (x.shape().dims(), grad.shape().dims());
    let elements = product(
        Matrix::new(&B::elements(x), [rows, inputs]).transpose(),
        Matrix::new(&B::elements(grad), [rows, outputs]),
        None,
    );
    B::from_elements(elements, [inputs, outputs])
}

pub(crate) fn grad_of_bias<B: Host>(grad: &FloatTensor<B>, of_bias: Shape) -> FloatTensor<B> {
    if grad.shape() == of_bias {
        return grad.clone();
    }
    // The rows of all owners follow one another, again and again.
    let sums = column_sums(&B::elements(grad), of_bias.num_elements());
    B::from_elements(sums, of_bias)
}

/// Columns that a thread takes at a time.
const COLUMNS: usize = 512;

pub(crate) fn column_sums(elements: &[f32], columns: usize) -> Vec<f32> {
    let (sums, _) = write_chunks(columns, COLUMNS, |i, sums| {
        add_rows(elements, columns, i * COLUMNS, sums);
    });
    sums
}

vectorized! {
    /// NaN stays.
    pub(crate) fn rectify(numbers: &mut [f32]) {
        for x in numbers {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
    }

    pub(crate) fn keep_where_positive(grad: &mut [f32], output: &[f32]) {
        for (grad, output) in zip(grad, output) {
            *grad = if *output > 0.0 || output.is_nan() { *grad } else { 0.0 };
        }
    }

    /// Adds the part of each row that starts at `start`.
    pub(crate) fn add_rows(elements: &[f32], columns: usize, start: usize, sums: &mut [f32]) {
        for row in elements.chunks_exact(columns) {
            for (sum, x) in zip(&mut *sums, &row[start..]) {
                *sum += x;
            }
        }
    }
}
