//! A step of any optimiser that keeps two numbers for each of a parameter's, in one pass.

// The trait names burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

use std::iter::zip;

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    optim::LearningRate,
    tensor::Tensor,
};
use burn_host::{Host, vectorized};
use rayon::prelude::*;

use crate::{adam, adamax, rmsprop};

/// What is done to each number.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    RmsProp(rmsprop::Step),
    Adam(adam::Step),
    Adamax(adamax::Step),
}

/// The share of a parameter that a step starts from: 1 - lr λ of a matrix, and all of what has one row.
pub fn keep<const D: usize>(lr: LearningRate, weight_decay: f32, parameter: &Tensor<D>) -> f64 {
    let is_matrix = D > 1 && parameter.dims()[0] > 1;
    if is_matrix {
        1.0 - lr * f64::from(weight_decay)
    } else {
        1.0
    }
}

/// The one operation of this crate.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
)]
pub trait UpdateOps: Backend {
    /// The new parameter and its two new states; all are `f32` and of one shape.
    fn update(
        rule: Rule,
        keep: f64,
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// The new parameter, from this share of the old one, and its two new states.
pub fn update<const D: usize>(
    rule: Rule,
    keep: f64,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<D>,
    second: Tensor<D>,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    if [&parameter, &gradient, &first, &second]
        .into_iter()
        .all(is_fused)
    {
        let (parameter, first, second) = Dispatch::update(
            rule,
            keep,
            parameter.into_dispatch(),
            gradient.into_dispatch(),
            first.into_dispatch(),
            second.into_dispatch(),
        );
        (
            Tensor::from_dispatch(parameter),
            Tensor::from_dispatch(first),
            Tensor::from_dispatch(second),
        )
    } else {
        // Not a product where nothing is taken, which would be a pass over the parameter.
        let parameter = match keep {
            1.0 => parameter,
            _ => parameter * keep,
        };
        by_tensor_operations(rule, parameter, gradient, first, second)
    }
}

fn by_tensor_operations<const D: usize>(
    rule: Rule,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    first: Tensor<D>,
    second: Tensor<D>,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    match rule {
        Rule::RmsProp(step) => step.tensor(parameter, gradient, first, second),
        Rule::Adam(step) => step.tensor(parameter, gradient, first, second),
        Rule::Adamax(step) => step.tensor(parameter, gradient, first, second),
    }
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

macro_rules! on_the_host {
    ($backend:ty) => {
        impl UpdateOps for $backend {
            fn update(
                rule: Rule,
                keep: f64,
                parameter: FloatTensor<Self>,
                gradient: FloatTensor<Self>,
                first: FloatTensor<Self>,
                second: FloatTensor<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                in_place::<Self>(rule, keep, parameter, gradient, first, second)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// Writes over the states, and the parameter over the gradient, which nobody needs afterwards: the parameter
/// itself is still held by the module that the step started from.
fn in_place<B: Host>(
    rule: Rule,
    keep: f64,
    parameter: FloatTensor<B>,
    mut gradient: FloatTensor<B>,
    mut first: FloatTensor<B>,
    mut second: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let keep = keep as f32;
    let slices = (
        &*B::elements(&parameter),
        B::elements_mut(&mut gradient),
        B::elements_mut(&mut first),
        B::elements_mut(&mut second),
    );
    each(slices, rule, keep);
    (gradient, first, second)
}

/// Numbers that a thread takes at a time: those of all four tensors fit in its cache.
const CHUNK: usize = 1 << 14;

type Slices<'a> = (&'a [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32]);

fn each((parameter, gradient, first, second): Slices<'_>, rule: Rule, keep: f32) {
    (
        parameter.par_chunks(CHUNK),
        gradient.par_chunks_mut(CHUNK),
        first.par_chunks_mut(CHUNK),
        second.par_chunks_mut(CHUNK),
    )
        .into_par_iter()
        .for_each(|slices| chunk(slices, rule, keep));
}

vectorized! {
    fn chunk(slices: Slices<'_>, rule: Rule, keep: f32) {
        match rule {
            Rule::RmsProp(step) => numbers(slices, |p, g, a, b| step.number(p * keep, g, a, b)),
            Rule::Adam(step) => numbers(slices, |p, g, a, b| step.number(p * keep, g, a, b)),
            Rule::Adamax(step) => numbers(slices, |p, g, a, b| step.number(p * keep, g, a, b)),
        }
    }
}

#[inline(always)]
fn numbers(
    (parameter, gradient, first, second): Slices<'_>,
    step: impl Fn(f32, f32, f32, f32) -> (f32, f32, f32),
) {
    let states = zip(first, second);
    for ((p, g), (a, b)) in zip(zip(parameter, gradient), states) {
        (*g, *a, *b) = step(*p, *g, *a, *b);
    }
}
