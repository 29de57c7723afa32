use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Tensor, activation::relu},
};
use fused_nn::affine;

use crate::math::widened;

/// Where the unconstrained parameters `[1 | batch, layers, numbers]` of a family come from.
#[derive(Module, Debug)]
pub enum Parameters {
    Learned(Learned),
    Predicted(Predicted),
}

/// Parameters that all points share.
#[derive(Module, Debug)]
pub struct Learned {
    /// `[1, layers, numbers]`
    raw: Param<Tensor<3>>,
}

/// A network from a context to each example's parameters.
#[derive(Module, Debug)]
pub struct Predicted {
    hidden: Vec<Linear>,
    head: Linear,
    layers: usize,
}

impl Parameters {
    /// Parameters that start as `start: [1, layers, numbers]`, whatever the context of so many numbers. Without one they
    /// are learned, with one predicted by a network with these hidden widths.
    pub fn new(start: Tensor<3>, context: Option<usize>, hidden: &[usize]) -> Self {
        let Some(context) = context else {
            return Self::Learned(Learned { raw: leaf(start) });
        };
        let (device, [_, layers, numbers]) = (start.device(), start.dims());
        let mut width = context;
        let hidden = hidden
            .iter()
            .map(|&next| LinearConfig::new(std::mem::replace(&mut width, next), next).init(&device))
            .collect();
        let mut head = LinearConfig::new(width, layers * numbers).init(&device);
        head.weight = leaf(Tensor::zeros([width, layers * numbers], &device));
        head.bias = Some(leaf(start.reshape([layers * numbers])));
        Self::Predicted(Predicted {
            hidden,
            head,
            layers,
        })
    }

    /// The parameters for `context: [batch, width]`, `[1 | batch, layers, numbers]`.
    ///
    /// # Panics
    ///
    /// When they are predicted and there is no context.
    pub fn raw(&self, context: Option<Tensor<2>>) -> Tensor<3> {
        match self {
            Self::Learned(learned) => learned.raw.val(),
            Self::Predicted(network) => network.raw(context.expect("a flow looks for its context")),
        }
    }
}

/// A parameter of its own: the result of arithmetic with another one would not be trained.
pub fn leaf<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(value.detach())
}

impl Predicted {
    fn raw(&self, context: Tensor<2>) -> Tensor<3> {
        let linear = |layer: &Linear, x| {
            let bias = layer.bias.as_ref().expect("each has one");
            affine(x, widened(layer.weight.val()), widened(bias.val()))
        };
        let features =
            (self.hidden.iter()).fold(widened(context), |x, layer| relu(linear(layer, x)));
        let raw = linear(&self.head, features);
        let [batch, width] = raw.dims();
        raw.reshape([batch, self.layers, width / self.layers])
    }
}
