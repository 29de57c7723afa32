use burn::{
    module::{Module, Param},
    nn::{Linear, LinearConfig},
    tensor::{Device, Distribution, Tensor, activation::relu},
};
use fused_nn::linear;
use serde::{Deserialize, Serialize};

use crate::{DiagonalGaussian, FlowDistribution, Planar, PlanarConstraint, Transformed};

/// Which flow to build; saved and read as JSON or any other serde format.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{DiagonalGaussian, FlowConfig};
///
/// let device = Device::flex();
/// // A learned flow in 2 dimensions on a standard normal base.
/// let flow = FlowConfig::planar(8).init(2, None, &device);
/// let base = DiagonalGaussian::standard(2, &device);
/// let (z, log_prob) = flow.distribution(base, None).rsample_and_log_prob(100);
/// assert_eq!(z.dims(), [100, 2]);
/// assert_eq!(log_prob.dims(), [100]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// How many layers: K in the paper. 0 is the identity.
    pub layers: usize,
    /// What keeps a layer invertible.
    #[serde(default)]
    pub constraint: PlanarConstraint,
    /// Widths of the hidden ReLU layers between a context and the parameters. None: a linear head, as
    /// the paper puts on its encoder. Without a context they have no use.
    #[serde(default)]
    pub hidden: Vec<usize>,
}

impl FlowConfig {
    /// `layers` planar layers under the paper's constraint, with a linear head where there is a context.
    pub fn planar(layers: usize) -> Self {
        Self {
            layers,
            constraint: PlanarConstraint::Paper,
            hidden: Vec::new(),
        }
    }

    /// The same flow under another constraint.
    pub fn with_constraint(self, constraint: PlanarConstraint) -> Self {
        Self { constraint, ..self }
    }

    /// The same flow, its parameters predicted by a network with these hidden widths.
    pub fn with_hidden(self, hidden: Vec<usize>) -> Self {
        Self { hidden, ..self }
    }

    /// A flow in `dim` dimensions.
    ///
    /// Without a context it has parameters of its own, which all points share. With one, of
    /// `context_dim` numbers an example, each example's parameters are predicted from it: *amortized*
    /// when the context is an encoder's features, *conditional* when it is a covariate.
    ///
    /// # Panics
    ///
    /// When `dim` is 0.
    pub fn init(&self, dim: usize, context_dim: Option<usize>, device: &Device) -> Flow {
        assert!(dim > 0, "a flow has at least one dimension");
        let parameters = (self.layers > 0).then(|| match context_dim {
            None => Parameters::learned(self.start(dim, device)),
            Some(context) => Parameters::predicted(self.start(dim, device), context, &self.hidden),
        });
        Flow {
            parameters: parameters.map(|parameters| match self.constraint {
                PlanarConstraint::Paper => Constrained::Paper(parameters),
                PlanarConstraint::Identity => Constrained::Identity(parameters),
            }),
            dim,
            context_dim,
        }
    }

    /// The parameters that a flow starts from, `[1, layers, 2 dim + 1]`: the identity (m(w·u) = 0), since random
    /// layers would blur the base before there is anything to learn from it, along random w of norm 1, away from the
    /// pole that the paper's û has at w = 0.
    fn start(&self, dim: usize, device: &Device) -> Tensor<3> {
        let random = |numbers, std| -> Tensor<3> {
            let shape = [1, self.layers, numbers];
            Tensor::random(shape, Distribution::Normal(0.0, std), device)
        };
        let w = random(dim, 1.0);
        let w = w.clone() / w.square().sum_dim(2).sqrt();
        let u = w.clone() * self.constraint.root();
        let b = random(1, (1.0 / dim as f64).sqrt());
        Tensor::cat(vec![u, w, b], 2)
    }
}

/// A normalizing flow with whatever owns or predicts its parameters; built by [`FlowConfig`].
///
/// Forward goes from the base to the latent or data space.
///
/// What is saved of it loads into a flow of the same shape and the same constraint.
#[derive(Module, Debug)]
pub struct Flow {
    /// None for the identity.
    parameters: Option<Constrained>,
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    context_dim: Option<usize>,
}

/// The parameters under their constraint, whose name is part of their paths in a record: under another one the same
/// numbers are another flow, so that they must not load.
#[derive(Module, Debug)]
enum Constrained {
    Paper(Parameters),
    Identity(Parameters),
}

/// Where the unconstrained parameters `[1 | batch, layers, numbers]` come from.
#[derive(Module, Debug)]
enum Parameters {
    Learned(Learned),
    Predicted(Predicted),
}

/// Parameters that all points share.
#[derive(Module, Debug)]
struct Learned {
    /// `[1, layers, numbers]`
    raw: Param<Tensor<3>>,
}

/// A network from a context to each example's parameters.
#[derive(Module, Debug)]
struct Predicted {
    hidden: Vec<Linear>,
    head: Linear,
    layers: usize,
}

impl Parameters {
    fn learned(start: Tensor<3>) -> Self {
        Self::Learned(Learned { raw: leaf(start) })
    }

    /// The head starts as its bias, which is `start`.
    fn predicted(start: Tensor<3>, context: usize, hidden: &[usize]) -> Self {
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
}

/// A parameter of its own: the result of arithmetic with another one would not be trained.
fn leaf<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(value.detach())
}

impl Predicted {
    /// `context: [batch, context_dim]` to `[batch, layers, numbers]`.
    fn raw(&self, context: Tensor<2>) -> Tensor<3> {
        let features = self
            .hidden
            .iter()
            .fold(context, |x, layer| relu(linear(layer, x)));
        let raw = linear(&self.head, features);
        let [batch, width] = raw.dims();
        raw.reshape([batch, self.layers, width / self.layers])
    }
}

impl Flow {
    /// z_K and Σ log |det| of `z: [n · batch, dim]`, sample-major, with the parameters of
    /// `context: [batch, context_dim]` (any number of rows without one).
    ///
    /// # Panics
    ///
    /// When shapes disagree, or when a context is missing or is given to a flow that was built without.
    pub fn forward(&self, z: Tensor<2>, context: Option<Tensor<2>>) -> Transformed {
        self.transform(context, &z.device()).forward(z)
    }

    /// The point that [`forward`](Self::forward) takes to `y`, and the log-determinant of the inverse.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn inverse(&self, y: Tensor<2>, context: Option<Tensor<2>>) -> Transformed {
        self.transform(context, &y.device()).inverse(y)
    }

    /// The distribution of this flow's output when its input is distributed as `base`.
    ///
    /// The parameters are predicted once, here, for every sample and density asked of the result.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) and [`FlowDistribution::new`].
    pub fn distribution(
        &self,
        base: DiagonalGaussian,
        context: Option<Tensor<2>>,
    ) -> FlowDistribution {
        let planar = self.transform(context, &base.device());
        FlowDistribution::new(base, Some(planar))
    }

    /// The layers for a context; there are none of the identity, on `device`.
    fn transform(&self, context: Option<Tensor<2>>, device: &Device) -> Planar {
        let owners = match (self.context_dim, &context) {
            (None, None) => 1,
            (Some(width), Some(context)) => {
                let [batch, got] = context.dims();
                assert!(
                    got == width,
                    "this flow takes a context [batch, {width}], got [{batch}, {got}]"
                );
                batch
            }
            (None, Some(_)) => panic!("this flow was built without a context, but was given one"),
            (Some(_), None) => panic!("this flow was built with a context, but was given none"),
        };
        let Some(constrained) = &self.parameters else {
            let numbers = Planar::parameters_per_layer(self.dim);
            let none = Tensor::zeros([owners, 0, numbers], device);
            return Planar::new(none, PlanarConstraint::default());
        };
        let (constraint, parameters) = match constrained {
            Constrained::Paper(parameters) => (PlanarConstraint::Paper, parameters),
            Constrained::Identity(parameters) => (PlanarConstraint::Identity, parameters),
        };
        let raw = match parameters {
            Parameters::Learned(learned) => learned.raw.val(),
            Parameters::Predicted(network) => network.raw(context.expect("looked for above")),
        };
        Planar::new(raw, constraint)
    }
}
