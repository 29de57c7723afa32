#![allow(clippy::needless_range_loop)] // Neighbours go by their number.

use std::iter::zip;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, TensorMetadata,
        autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension, tensor::FloatTensor,
    },
    nn::Linear,
    tensor::Tensor,
};
use burn_host::{Host, tracked, vectorized, write_chunks};

use crate::{
    is_fused,
    linear::{self, check, grad_of_bias, grad_of_weight, grad_of_x},
};

/// The largest of each `window` neighbours of x W + b (Goodfellow et al., *Maxout Networks*, 2013).
///
/// `x: [rows, inputs]` to `[rows, units]`, with a layer to units · window outputs. The gradient goes to the first of
/// equal ones.
///
/// # Panics
///
/// When `x` has another width than the layer takes, or when `window` is 0 or does not divide the layer's outputs.
pub fn maxout(layer: &Linear, x: Tensor<2>, window: usize) -> Tensor<2> {
    let weight = layer.weight.val();
    let [_, outputs] = weight.dims();
    assert!(
        window > 0 && outputs % window == 0,
        "{outputs} outputs do not fall into windows of {window}"
    );
    match &layer.bias {
        Some(bias) if outputs > 0 && is_fused(&x) && is_fused(&weight) => {
            check(&x, &weight);
            Tensor::from_dispatch(Dispatch::maxout(
                x.into_dispatch(),
                weight.into_dispatch(),
                bias.val().into_dispatch(),
                window,
            ))
        }
        _ => {
            let y = linear::linear(layer, x);
            let [rows, _] = y.dims();
            y.reshape([rows, outputs / window, window])
                .max_dim(2)
                .squeeze_dim(2)
        }
    }
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait MaxoutOps: Backend {
    /// `x: [rows, inputs]`, `weight: [inputs, units · window]` and `bias: [units · window]` to `[rows, units]`.
    fn maxout(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: usize,
    ) -> FloatTensor<Self>;
}

impl<B: MaxoutOps + Host, C: CheckpointStrategy> MaxoutOps for Autodiff<B, C> {
    fn maxout(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: usize,
    ) -> FloatTensor<Self> {
        let inputs = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        let products = linear::products::<B>(&x, &weight, None);
        let output = largest::<B>(&products, &bias, window);
        tracked::<B, C, 3>(
            inputs,
            output,
            move |grad, [x_wants, weight_wants, bias_wants]| {
                let grad = grad_of_products::<B>(&products, &bias, &grad, window);
                [
                    x_wants.then(|| grad_of_x::<B>(&weight, &grad)),
                    weight_wants.then(|| grad_of_weight::<B>(&x, &grad)),
                    bias_wants.then(|| grad_of_bias::<B>(&grad, bias.shape())),
                ]
            },
        )
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl MaxoutOps for $backend {
            fn maxout(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                window: usize,
            ) -> FloatTensor<Self> {
                let products = linear::products::<Self>(&x, &weight, None);
                largest::<Self>(&products, &bias, window)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// Outputs that are worth a thread's while.
const GRAIN: usize = 1 << 14;

/// The bias is added here, where each product is read anyway.
fn largest<B: Host>(
    products: &FloatTensor<B>,
    bias: &FloatTensor<B>,
    window: usize,
) -> FloatTensor<B> {
    let [rows, outputs] = products.shape().dims();
    let (products, bias) = (B::elements(products), B::elements(bias));
    let (units, at_once) = (outputs / window, GRAIN.div_ceil(outputs));
    let (out, _) = write_chunks(rows * units, at_once * units, |i, out| {
        largest_rows(out, &products[i * at_once * outputs..], &bias, window);
    });
    B::from_elements(out, [rows, units])
}

fn grad_of_products<B: Host>(
    products: &FloatTensor<B>,
    bias: &FloatTensor<B>,
    grad: &FloatTensor<B>,
    window: usize,
) -> FloatTensor<B> {
    let [rows, outputs] = products.shape().dims();
    let (products, bias, grad) = (B::elements(products), B::elements(bias), B::elements(grad));
    let (units, at_once) = (outputs / window, GRAIN.div_ceil(outputs));
    let (out, _) = write_chunks(rows * outputs, at_once * outputs, |i, out| {
        let (products, grad) = (
            &products[i * at_once * outputs..],
            &grad[i * at_once * units..],
        );
        to_largest_rows(out, products, &bias, grad, window);
    });
    B::from_elements(out, [rows, outputs])
}

// With a window that the compiler knows the loops become vectors without a branch: 2 and 4 are the usual ones.
vectorized! {
    fn largest_rows(out: &mut [f32], products: &[f32], bias: &[f32], window: usize) {
        let rows = zip(
            out.chunks_exact_mut(bias.len() / window),
            products.chunks_exact(bias.len()),
        );
        for (out, products) in rows {
            match window {
                2 => largest_units(out, products, bias, 2),
                4 => largest_units(out, products, bias, 4),
                _ => largest_units(out, products, bias, window),
            }
        }
    }

    fn to_largest_rows(
        out: &mut [f32],
        products: &[f32],
        bias: &[f32],
        grad: &[f32],
        window: usize,
    ) {
        let rows = zip(
            out.chunks_exact_mut(bias.len()),
            products.chunks_exact(bias.len()),
        );
        for ((out, products), grad) in zip(rows, grad.chunks_exact(bias.len() / window)) {
            match window {
                2 => to_largest_units(out, products, (bias, grad), 2),
                4 => to_largest_units(out, products, (bias, grad), 4),
                _ => to_largest_units(out, products, (bias, grad), window),
            }
        }
    }
}

#[inline(always)]
fn largest_units(out: &mut [f32], products: &[f32], bias: &[f32], window: usize) {
    let units = zip(products.chunks_exact(window), bias.chunks_exact(window));
    for (out, (products, bias)) in zip(out, units) {
        *out = largest_of(products, bias, window);
    }
}

/// NaN where there is one.
#[inline(always)]
fn largest_of(products: &[f32], bias: &[f32], window: usize) -> f32 {
    let mut largest = products[0] + bias[0];
    for i in 1..window {
        let x = products[i] + bias[i];
        let is_larger = x > largest || x.is_nan();
        largest = if is_larger { x } else { largest };
    }
    largest
}

/// Each unit's gradient to the first of its largest.
#[inline(always)]
fn to_largest_units(
    out: &mut [f32],
    products: &[f32],
    (bias, grad): (&[f32], &[f32]),
    window: usize,
) {
    let units = zip(products.chunks_exact(window), bias.chunks_exact(window));
    let units = zip(out.chunks_exact_mut(window), units);
    for ((out, (products, bias)), grad) in zip(units, grad) {
        let largest = largest_of(products, bias, window);
        let mut left = *grad;
        for i in 0..window {
            let x = products[i] + bias[i];
            let is_largest = x == largest || x.is_nan();
            out[i] = if is_largest { left } else { 0.0 };
            left = if is_largest { 0.0 } else { left };
        }
    }
}
