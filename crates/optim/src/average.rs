//! An average of the weights over the last part of training.

// The trait names burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

use std::collections::VecDeque;

use burn::{
    backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor},
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::Tensor,
};
use burn_host::{Host, vectorized};
use rayon::prelude::*;

/// A model whose weights are the average of another's over the updates so far, the last ones most.
///
/// ```text
/// θ̄ₜ = θ̄ₛ + (1 - (s/t)^{γ + 1}) (θₜ - θ̄ₛ)            s < t: when it was brought up to date before
///    = Σ (t'^{γ + 1} - s'^{γ + 1}) θₜ' / t^{γ + 1}     over all such times t' ≤ t, each after s'
/// ```
///
/// Steps along a stochastic gradient keep the weights moving around the point that they tend to. Their average lies nearer
/// to it, as a falling rate would bring them, but at any time. The weight of an update grows with the power γ of
/// its number, so that those averaged are 1/(γ + 2) of the whole training old in the mean, however long it is. The
/// average is brought up to date at each of the first updates, at every sixteenth later, and when it is wanted: one pass over
/// the weights, and none in most steps.
///
/// It is a module so that it is saved with the model's other state. Its tensors have no gradients, and ids of their own.
///
/// Sources: Polyak & Juditsky, *Acceleration of stochastic approximation by averaging* (1992); weights by a power,
/// Shamir & Zhang, *Stochastic gradient descent for non-smooth optimization* (2013), and, as here, Karras et al., *Analyzing
/// and improving the training dynamics of diffusion models* (2024, section 3.1).
///
/// ```
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use fused_optim::WeightAverage;
///
/// let device = Device::flex();
/// let constant = |value: f32| burn::nn::Linear {
///     weight: Param::from_tensor(Tensor::full([1, 1], value, &device)),
///     bias: None,
/// };
/// let mut average = WeightAverage::new(&constant(0.0));
/// // Weights that jump to and fro between 1 and 3.
/// for update in 1..=400 {
///     let model = constant(if update % 2 == 0 { 1.0 } else { 3.0 });
///     average = average.follow(&model); // a pass over the weights at each of the first, later at every sixteenth
///     average = average.up_to_date(&model);
/// }
/// let weight = average.model().weight.val().into_scalar::<f32>();
/// assert!((weight - 2.0).abs() < 0.1);
/// ```
#[derive(Module, Debug)]
pub struct WeightAverage<M: Module> {
    model: M,
    /// The updates so far.
    #[module(skip)]
    updates: usize,
    /// Those of them that the average knows of.
    #[module(skip)]
    seen: usize,
}

impl<M: Module> WeightAverage<M> {
    /// γ.
    pub const POWER: f64 = 16.0;

    /// Of no update yet: the weights of `model` as they are. Those that are not drawn yet are drawn here, for both.
    pub fn new(model: &M) -> Self {
        Self {
            model: model.clone().map(&mut Detach),
            updates: 0,
            seen: 0,
        }
    }

    /// To go on with a record that was saved [up to date](Self::up_to_date) after this many updates: their number is not
    /// part of it.
    pub fn after(self, updates: usize) -> Self {
        Self {
            updates,
            seen: updates,
            ..self
        }
    }

    /// The model of the averaged weights, of the last time that it was brought up to date.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The updates so far.
    pub fn updates(&self) -> usize {
        self.updates
    }

    /// To be called after every update of `model`.
    ///
    /// # Panics
    ///
    /// When `model` has other parameters than the one that this was made of.
    pub fn follow(self, model: &M) -> Self {
        let updates = self.updates + 1;
        let next = Self { updates, ..self };
        let every = if updates <= EACH_UNTIL { 1 } else { EVERY };
        if next.updates - next.seen < every {
            return next;
        }
        next.up_to_date(model)
    }

    /// With the weights of `model` now: before the average is used or saved.
    ///
    /// # Panics
    ///
    /// As [`follow`](Self::follow).
    pub fn up_to_date(self, model: &M) -> Self {
        if self.seen == self.updates {
            return self;
        }
        let before = self.seen as f64 / self.updates as f64;
        let mut weights = Weights(VecDeque::new());
        model.visit(&mut weights);
        let mut towards = Towards {
            weights,
            share: 1.0 - before.powf(Self::POWER + 1.0),
        };
        let model = self.model.map(&mut towards);
        assert!(
            towards.weights.0.is_empty(),
            "a model with fewer parameters"
        );
        Self {
            model,
            seen: self.updates,
            ..self
        }
    }
}

/// The updates at first, each of which moves the average.
const EACH_UNTIL: usize = 1024;

/// The updates between two that move it, later.
const EVERY: usize = 16;

struct Detach;

impl ModuleMapper for Detach {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let tensor = param.val().without_autodiff();
        Param::initialized(ParamId::new(), tensor)
    }
}

/// The floats of a module, in the order of visits.
struct Weights(VecDeque<(Vec<usize>, Tensor<1>)>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().without_autodiff();
        self.0
            .push_back((tensor.dims().into(), tensor.flatten(0, D - 1)));
    }
}

struct Towards {
    weights: Weights,
    share: f64,
}

impl ModuleMapper for Towards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let weights = self.weights.0.pop_front();
        let (dims, weights) = weights.expect("a model with as many parameters");
        let id = param.id;
        let average = param.into_value();
        let shape = average.dims();
        assert_eq!(dims, shape, "a model with parameters of the same shapes");
        let average = towards(average.flatten(0, D - 1), weights, self.share);
        Param::initialized(id, average.reshape(shape))
    }
}

/// The operation of this file.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
)]
pub trait AverageOps: Backend {
    /// `x + share (y - x)`.
    fn towards(x: FloatTensor<Self>, y: FloatTensor<Self>, share: f64) -> FloatTensor<Self>;
}

burn_host::fused_on!(Flex: "flex", NdArray: "ndarray");

fn towards(x: Tensor<1>, y: Tensor<1>, share: f64) -> Tensor<1> {
    if is_fused(&x) {
        let (x, y) = (x.into_dispatch(), y.into_dispatch());
        Tensor::from_dispatch(Dispatch::towards(x, y, share))
    } else {
        x.clone() + (y - x).mul_scalar(share)
    }
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl AverageOps for $backend {
            fn towards(
                mut x: FloatTensor<Self>,
                y: FloatTensor<Self>,
                share: f64,
            ) -> FloatTensor<Self> {
                let y = <Self as Host>::elements(&y);
                <Self as Host>::elements_mut(&mut x)
                    .par_chunks_mut(CHUNK)
                    .zip(y.par_chunks(CHUNK))
                    .for_each(|(x, y)| move_towards(x, y, share as f32));
                x
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

vectorized! {
    fn move_towards(x: &mut [f32], y: &[f32], share: f32) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += share * (y - *x);
        }
    }
}
