//! The networks that couple coordinates: from some of them, and a context, to the parameters of maps of others.

use std::iter::zip;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, TensorData},
};
use fused_nn::{affine, affine_relu};

use crate::{
    ScalarMap,
    math::widened,
    ops::autoregressive::{Masked, Parameters},
    parameters::leaf,
};

/// ReLU layers whose last one starts at 0, so that what they are the parameters of starts as the identity.
#[derive(Module, Debug)]
pub struct Network {
    layers: Vec<Linear>,
    /// What each weight is multiplied by, where some connections must not be. Follows from the sizes: not saved.
    masks: Vec<Tensor<2>>,
    /// To what is added to the first layer.
    context: Option<Linear>,
}

impl Network {
    /// From `inputs` numbers, at least one, to `outputs`.
    pub fn dense(
        inputs: usize,
        outputs: usize,
        context: Option<usize>,
        hidden: &[usize],
        device: &Device,
    ) -> Self {
        let widths: Vec<usize> = [&[inputs], hidden, &[outputs]].concat();
        Self::new(&widths, Vec::new(), context, device)
    }

    /// From `dim` numbers, of each of which `seen` are looked at, to `each` for every one of them, which depend on the numbers
    /// before it alone (Germain et al. 2015, MADE).
    ///
    /// Unit j of a hidden layer of width n sees the first j dim / n numbers, rounded down. So the units are sorted by what
    /// they see, and some see the context alone: the first number's parameters depend on it too.
    pub fn autoregressive(
        dim: usize,
        [seen, each]: [usize; 2],
        context: Option<usize>,
        hidden: &[usize],
        device: &Device,
    ) -> Self {
        let widths: Vec<usize> = [&[dim * seen], hidden, &[dim * each]].concat();
        // A number i counts as seeing i + 1 numbers, the parameters of number i see those of units that see i at most.
        let inputs: Vec<usize> = (0..dim * seen).map(|i| i / seen + 1).collect();
        let outputs: Vec<usize> = (0..dim * each).map(|i| i / each).collect();
        let hidden = hidden
            .iter()
            .map(|&width| (0..width).map(|j| seen_by(j, dim, width)).collect());
        let sees: Vec<Vec<usize>> = [inputs]
            .into_iter()
            .chain(hidden)
            .chain([outputs])
            .collect();
        let masks = zip(&sees, &sees[1..])
            .map(|(from, to)| {
                let mask: Vec<f32> = (from.iter())
                    .flat_map(|from| to.iter().map(move |to| f32::from(u8::from(from <= to))))
                    .collect();
                Tensor::from_data(TensorData::new(mask, [from.len(), to.len()]), device)
            })
            .collect();
        Self::new(&widths, masks, context, device)
    }

    fn new(
        widths: &[usize],
        masks: Vec<Tensor<2>>,
        context: Option<usize>,
        device: &Device,
    ) -> Self {
        let mut layers: Vec<Linear> = zip(widths, &widths[1..])
            .map(|(&from, &to)| LinearConfig::new(from, to).init(device))
            .collect();
        let last = layers.last_mut().expect("there is a layer to the outputs");
        last.weight = leaf(last.weight.val().zeros_like());
        last.bias = last.bias.as_ref().map(|bias| leaf(bias.val().zeros_like()));
        let context = context.map(|context| {
            LinearConfig::new(context, widths[1])
                .with_bias(false)
                .init(device)
        });
        Self {
            layers,
            masks,
            context,
        }
    }

    /// The network for a context `[batch, width]`, which is looked at here, once.
    pub fn bind(&self, context: Option<&Tensor<2>>) -> BoundNetwork {
        let layers: Vec<(Tensor<2>, Tensor<1>)> = (self.layers.iter().enumerate())
            .map(|(i, layer)| {
                let weight = widened(layer.weight.val());
                let weight = match self.masks.get(i) {
                    Some(mask) => weight.clone() * mask.clone().cast(weight.dtype()),
                    None => weight,
                };
                let bias = layer.bias.as_ref().expect("layers have a bias");
                (weight, widened(bias.val()))
            })
            .collect();
        let of_context = self.context.as_ref().map(|layer| {
            let context = context.expect("a flow looks for its context").clone();
            let (_, bias) = &layers[0];
            affine(widened(context), widened(layer.weight.val()), bias.clone())
        });
        BoundNetwork { layers, of_context }
    }
}

/// How many of `dim` numbers unit j of a masked layer sees: none to all but the last.
fn seen_by(j: usize, dim: usize, width: usize) -> usize {
    j * dim / width
}

/// How many units of a masked layer see i numbers at most: they are the first.
pub fn units_that_see(i: usize, dim: usize, width: usize) -> usize {
    ((i + 1) * width).div_ceil(dim).min(width)
}

/// Refuses hidden layers of no width.
pub fn check_widths(hidden: &[usize]) -> Result<(), String> {
    match hidden.contains(&0) {
        true => Err(format!(
            "hidden widths {hidden:?}: a layer has a unit at least"
        )),
        false => Ok(()),
    }
}

/// A [`Network`] with what it makes of a context.
#[derive(Clone, Debug)]
pub struct BoundNetwork {
    layers: Vec<(Tensor<2>, Tensor<1>)>,
    /// The first layer's bias of each example, `[batch, width]`.
    of_context: Option<Tensor<2>>,
}

impl BoundNetwork {
    /// How many examples the context has; 1 without one.
    pub fn owners(&self) -> usize {
        self.of_context.as_ref().map_or(1, |of| of.dims()[0])
    }

    /// Of a masked network, what its inverse takes.
    pub fn masked(&self, map: ScalarMap) -> Parameters {
        let ((weight, bias), rest) = self.layers.split_first().expect("there is a layer");
        let turned = |weight: &Tensor<2>| weight.clone().transpose().flatten::<1>(0, 1);
        let of_rest = rest
            .iter()
            .flat_map(|(weight, bias)| [turned(weight), bias.clone()]);
        let [inputs, _] = weight.dims();
        Parameters {
            first: match &self.of_context {
                Some(of_context) => of_context.clone(),
                None => bias.clone().unsqueeze_dim(0),
            },
            weights: Tensor::cat([turned(weight)].into_iter().chain(of_rest).collect(), 0),
            masked: Masked {
                dim: inputs / map.seen(),
                hidden: rest.iter().map(|(weight, _)| weight.dims()[0]).collect(),
                map,
            },
        }
    }

    /// `x: [n · owners, inputs]`, sample-major, to `[n · owners, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut x = x;
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            let (weight, bias) = (weight.clone(), bias.clone());
            let is_last = i + 1 == self.layers.len();
            x = match (&self.of_context, is_last) {
                (Some(of_context), false) if i == 0 => affine_relu(x, weight, of_context.clone()),
                (Some(of_context), true) if i == 0 => affine(x, weight, of_context.clone()),
                (_, false) => affine_relu(x, weight, bias),
                (_, true) => affine(x, weight, bias),
            };
        }
        x
    }
}
