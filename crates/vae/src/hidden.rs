use std::{fmt, str::FromStr};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, activation::relu},
};
use fused_nn::{linear, maxout};
use serde::{Deserialize, Serialize};

/// What a hidden layer applies to its linear map. Written `maxout:4`, `tanh` or `relu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Activation {
    /// The largest of `window` linear maps (Goodfellow et al., *Maxout Networks*, 2013); 4 in the paper.
    Maxout {
        /// How many linear maps a unit chooses from.
        window: usize,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

impl Activation {
    /// Linear outputs that one unit takes.
    fn window(self) -> usize {
        match self {
            Self::Maxout { window } => window,
            Self::Tanh | Self::Relu => 1,
        }
    }

    /// Of x W + b.
    fn layer(self, layer: &Linear, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Maxout { window } => maxout(layer, x, window),
            Self::Tanh => linear(layer, x).tanh(),
            Self::Relu => relu(linear(layer, x)),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maxout { window } => write!(f, "maxout:{window}"),
            Self::Tanh => f.write_str("tanh"),
            Self::Relu => f.write_str("relu"),
        }
    }
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tanh" => Ok(Self::Tanh),
            "relu" => Ok(Self::Relu),
            "maxout" => Ok(Self::Maxout { window: 4 }),
            _ => text
                .strip_prefix("maxout:")
                .and_then(|window| window.parse().ok())
                .filter(|window| (1..=64).contains(window))
                .map(|window| Self::Maxout { window })
                .ok_or_else(|| {
                    format!("'{text}' is no activation: use tanh, relu, maxout or maxout:WINDOW with a window of 1 to 64")
                }),
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Activation> for String {
    fn from(activation: Activation) -> Self {
        activation.to_string()
    }
}

/// A stack of hidden layers, each a linear map and an activation.
#[derive(Module, Debug)]
pub struct Hidden {
    layers: Vec<Linear>,
    #[module(skip)]
    activation: Activation,
}

impl Hidden {
    /// Layers of `widths` units after `inputs` inputs.
    pub fn new(inputs: usize, widths: &[usize], activation: Activation, device: &Device) -> Self {
        let mut width = inputs;
        let layers = widths
            .iter()
            .map(|&units| {
                let inputs = std::mem::replace(&mut width, units);
                LinearConfig::new(inputs, units * activation.window()).init(device)
            })
            .collect();
        Self { layers, activation }
    }

    /// `x: [rows, inputs]` to `[rows, last width]`.
    ///
    /// # Panics
    ///
    /// When `x` has another width than the first layer takes.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.layers
            .iter()
            .fold(x, |x, layer| self.activation.layer(layer, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_written_as_they_are_read() {
        for text in ["maxout:4", "maxout:1", "tanh", "relu"] {
            assert_eq!(text.parse::<Activation>().unwrap().to_string(), text);
        }
        for text in ["maxout:0", "maxout:-1", "maxout:9999999", "gelu", ""] {
            assert!(text.parse::<Activation>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_layer_is_its_linear_map_and_its_function() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1.5, -2.0], [-0.5, 3.0]], &device);
        let numbers = |x: Tensor<2>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        for (activation, function) in [
            (Activation::Tanh, f32::tanh as fn(f32) -> f32),
            (Activation::Relu, |x| x.max(0.0)),
        ] {
            let hidden = Hidden::new(2, &[5], activation, &device);
            let linear = numbers(hidden.layers[0].forward(x.clone()));
            assert!(linear.iter().any(|&x| x < 0.0) && linear.iter().any(|&x| x > 0.0));
            for (got, x) in numbers(hidden.forward(x.clone())).iter().zip(linear) {
                assert!(
                    (got - function(x)).abs() < 1e-6,
                    "{activation}: {got} of {x}"
                );
            }
        }
    }
}
