//! The networks that couple coordinates: from some of them, and a context, to the parameters of maps of others.

use std::iter::zip;

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, TensorData},
};
use fused_nn::{Dense, mlp};

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
}

impl Network {
    /// From `inputs` numbers, at least one, to `outputs`. Where there is a context, the first layer's bias comes from there.
    pub fn dense(
        inputs: usize,
        outputs: usize,
        has_context: bool,
        hidden: &[usize],
        device: &Device,
    ) -> Self {
        let widths: Vec<usize> = [&[inputs], hidden, &[outputs]].concat();
        Self::new(&widths, Vec::new(), has_context, device)
    }

    /// From `dim` numbers, of each of which `seen` are looked at, to `each` for every one of them, which depend on the numbers
    /// before it alone (Germain et al. 2015, MADE).
    ///
    /// Unit j of a hidden layer of width n sees the first j dim / n numbers, rounded down. So the units are sorted by what
    /// they see, and some see the context alone: the first number's parameters depend on it too.
    pub fn autoregressive(
        dim: usize,
        [seen, each]: [usize; 2],
        has_context: bool,
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
        Self::new(&widths, masks, has_context, device)
    }

    fn new(widths: &[usize], masks: Vec<Tensor<2>>, has_context: bool, device: &Device) -> Self {
        let mut layers: Vec<Linear> = (zip(widths, &widths[1..]).enumerate())
            .map(|(i, (&from, &to))| {
                LinearConfig::new(from, to)
                    .with_bias(i > 0 || !has_context)
                    .init(device)
            })
            .collect();
        zero(layers.last_mut().expect("there is a layer to the outputs"));
        Self { layers, masks }
    }

    /// A layer from a context of so many numbers to the first layer's bias.
    pub fn context_layer(&self, context: usize, device: &Device) -> Linear {
        let mut layer = LinearConfig::new(context, self.first_width()).init(device);
        if self.layers.len() == 1 {
            zero(&mut layer);
        }
        layer
    }

    /// How long the first layer's bias is.
    pub fn first_width(&self) -> usize {
        self.layers[0].weight.dims()[1]
    }

    /// The network, where there is a context with what that gives, the first layer's bias of each example: `[batch, first width]`.
    pub fn bind(&self, of_context: Option<Tensor<2>>) -> BoundNetwork {
        let mut layers = (self.layers.iter().enumerate()).map(|(i, layer)| {
            let weight = widened(layer.weight.val());
            let mask = (self.masks.get(i)).map(|mask| mask.clone().cast(weight.dtype()));
            let bias = layer.bias.as_ref().map(|bias| widened(bias.val()));
            (weight, mask, bias)
        });
        let (weight, mask, bias) = layers.next().expect("there is a layer");
        let bias = match bias {
            Some(bias) => bias.unsqueeze_dim(0),
            None => of_context.expect("a flow looks for its context"),
        };
        let rest = layers.map(|(weight, mask, bias)| Dense {
            weight,
            mask,
            bias: bias.expect("only the first has none"),
        });
        BoundNetwork {
            rest: rest.collect(),
            first: Dense { weight, mask, bias },
        }
    }
}

/// Makes it return zeros.
fn zero(layer: &mut Linear) {
    layer.weight = leaf(layer.weight.val().zeros_like());
    layer.bias = (layer.bias.as_ref()).map(|bias| leaf(bias.val().zeros_like()));
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

/// A [`Network`] with weights and biases at hand.
#[derive(Clone, Debug)]
pub struct BoundNetwork {
    /// The bias is `[1, width]`, or each example's own, `[batch, width]`.
    first: Dense<2>,
    rest: Vec<Dense<1>>,
}

impl BoundNetwork {
    /// How many examples the context has; 1 without one.
    pub fn owners(&self) -> usize {
        self.first.bias.dims()[0]
    }

    /// Of a masked network, what its inverse takes.
    pub fn masked(&self, map: ScalarMap) -> Parameters {
        let turned = |weight: Tensor<2>| weight.transpose().flatten::<1>(0, 1);
        let of_rest =
            (self.rest.iter()).flat_map(|layer| [turned(layer.masked()), layer.bias.clone()]);
        let [inputs, _] = self.first.weight.dims();
        let weights = [turned(self.first.masked())].into_iter().chain(of_rest);
        Parameters {
            first: self.first.bias.clone(),
            weights: Tensor::cat(weights.collect(), 0),
            masked: Masked {
                dim: inputs / map.seen(),
                hidden: (self.rest.iter())
                    .map(|layer| layer.weight.dims()[0])
                    .collect(),
                map,
            },
        }
    }

    /// `x: [n · owners, inputs]`, sample-major, to `[n · owners, outputs]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        mlp(x, self.first.clone(), self.rest.clone())
    }
}
