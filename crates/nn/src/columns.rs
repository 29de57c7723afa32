//! A layer whose outputs several others take, each some columns.
//!
//! An operation of Burn's graph has one result. Were the columns taken out of it by slices, each would hand back a gradient as
//! large as the whole, zeros but for its own columns, and those are added up: with K equal parts K² of a part's. Here each part
//! writes its columns into one gradient, which the product takes when all have ([`Gradient`]). Elsewhere than on flex and ndarray,
//! in `f32`, there are slices, of halves.

use std::{
    iter::zip,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    tensor::Tensor,
};
use burn_host::{Host, tracked};

use crate::{
    affine, is_fused,
    linear::{check, check_bias, grad_of_bias, grad_of_weight, grad_of_x, products},
};

/// The columns of [`affine`], apart: so many, `[rows, width]`, for each of `widths`.
///
/// # Panics
///
/// As [`affine`], and when the widths do not add up to the outputs.
pub fn affine_columns(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    widths: &[usize],
) -> Vec<Tensor<2>> {
    check(&x, &weight);
    check_bias(x.dims()[0], &weight, &bias);
    let [_, outputs] = weight.dims();
    assert!(
        widths.iter().sum::<usize>() == outputs,
        "{outputs} outputs do not fall into {widths:?}"
    );
    if !(is_fused(&x) && is_fused(&weight)) || widths.contains(&0) {
        return halved(affine(x, weight, bias), widths);
    }
    let gradient = Gradient::default();
    let all = Dispatch::affine_of_all(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        gradient.clone(),
    );
    let ends = widths.iter().scan(0, |end, width| {
        *end += width;
        Some(*end)
    });
    (zip(ends, widths).map(|(end, width)| end - width..end))
        .map(|columns| Dispatch::columns(all.clone(), columns, gradient.clone()))
        .map(Tensor::from_dispatch)
        .collect()
}

/// The columns by slices, half of the parts at a time: K parts hand back log K wholes, not K.
fn halved(all: Tensor<2>, widths: &[usize]) -> Vec<Tensor<2>> {
    if widths.len() < 2 {
        return widths.iter().map(|_| all.clone()).collect();
    }
    let (left, right) = widths.split_at(widths.len() / 2);
    let (middle, end) = (left.iter().sum(), widths.iter().sum());
    let [of_left, of_right] = [0..middle, middle..end].map(|half| all.clone().slice_dim(1, half));
    [halved(of_left, left), halved(of_right, right)].concat()
}

/// The gradient of a product, row by row, as far as its parts have come; nothing before the first.
#[derive(Clone, Debug, Default)]
struct Gradient(Arc<Mutex<Vec<f32>>>);

impl Gradient {
    /// Adds that of some columns to the whole, which is `[rows, width]`; whether it is the first.
    fn add(&self, part: &[f32], columns: Range<usize>, [rows, width]: [usize; 2]) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = all.is_empty();
        if is_first {
            *all = vec![0.0; rows * width];
        }
        let rows = zip(
            all.chunks_exact_mut(width),
            part.chunks_exact(columns.len()),
        );
        for (row, part) in rows {
            for (sum, x) in zip(&mut row[columns.clone()], part) {
                *sum += x;
            }
        }
        is_first
    }

    fn take(&self) -> Vec<f32> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait ColumnsOps: Backend {
    /// As `affine`, but that the gradient of the result is what [`columns`](Self::columns) of it have left in `gradient`.
    fn affine_of_all(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: Gradient,
    ) -> FloatTensor<Self>;

    /// Some columns of `all: [rows, width]`. To `all` goes a mere sign that there is a gradient.
    fn columns(
        all: FloatTensor<Self>,
        columns: Range<usize>,
        gradient: Gradient,
    ) -> FloatTensor<Self>;
}

impl<B: ColumnsOps + Host, C: CheckpointStrategy> ColumnsOps for Autodiff<B, C> {
    fn affine_of_all(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: Gradient,
    ) -> FloatTensor<Self> {
        let inputs = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let output = products::<B>(&x, &weight, Some(&bias));
        let shape = output.shape();
        tracked::<B, C, 3>(
            inputs,
            output,
            move |_, [x_wants, weight_wants, bias_wants]| {
                let grad = B::from_elements(gradient.take(), shape);
                [
                    x_wants.then(|| grad_of_x::<B>(&weight, &grad)),
                    weight_wants.then(|| grad_of_weight::<B>(&x, &grad)),
                    bias_wants.then(|| grad_of_bias::<B>(&grad, bias.shape())),
                ]
            },
        )
    }

    fn columns(
        all: FloatTensor<Self>,
        columns: Range<usize>,
        gradient: Gradient,
    ) -> FloatTensor<Self> {
        let (inputs, shape) = ([all.node()], all.shape().dims());
        let output = B::columns(all.into_primitive(), columns.clone(), gradient.clone());
        tracked::<B, C, 1>(inputs, output, move |grad, [all_wants]| {
            let is_first = all_wants && gradient.add(&B::elements(&grad), columns, shape);
            [is_first.then(|| B::from_elements(vec![0.0], [1, 1]))]
        })
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl ColumnsOps for $backend {
            fn affine_of_all(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                _: Gradient,
            ) -> FloatTensor<Self> {
                products::<Self>(&x, &weight, Some(&bias))
            }

            fn columns(
                all: FloatTensor<Self>,
                columns: Range<usize>,
                _: Gradient,
            ) -> FloatTensor<Self> {
                let [rows, width] = all.shape().dims();
                let mut part = Vec::with_capacity(rows * columns.len());
                for row in <Self as Host>::elements(&all).chunks_exact(width) {
                    part.extend_from_slice(&row[columns.clone()]);
                }
                <Self as Host>::from_elements(part, [rows, columns.len()])
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);
