use std::{error, fmt, iter::zip};

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};
use fused_nn::affine_columns;
use serde::{Deserialize, Serialize};

use crate::{
    AutoregressiveConfig, Base, Bijection, CouplingConfig, FlowDistribution, FlowSize,
    HouseholderConfig, PermutationConfig, PlanarConfig, RadialConfig, ScalarMap, SylvesterBasis,
    SylvesterConfig, Transformed,
    bijection::{Chain, check_points},
    families::{Family, Part, PartConfig},
    map::{Direction, Domain},
    math::widened,
    network::Network,
    parameters::leaf,
};

/// Which flow to build; saved and read as JSON or any other serde format.
///
/// A named flow, or any chain of parts:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{ActNormConfig, CouplingConfig, DiagonalGaussian, FlowConfig, LuLinearConfig, ScalarMap};
///
/// let device = Device::flex();
/// // Eight planar layers in two dimensions, whose parameters are learned.
/// let flow = FlowConfig::planar(2, 8).init(&device);
/// let base = DiagonalGaussian::standard(2, &device);
/// let (z, log_prob) = flow.distribution(base, None).rsample_and_log_prob(100);
/// assert_eq!(z.dims(), [100, 2]);
/// assert_eq!(log_prob.dims(), [100]);
///
/// // A step of Glow with a spline, given a context of sixteen numbers.
/// let coupling = CouplingConfig { map: ScalarMap::Spline(8), hidden: vec![64] };
/// let step = vec![ActNormConfig {}.into(), LuLinearConfig {}.into(), coupling.into()];
/// let flow = FlowConfig::new(6, step).with_context(16).init(&device);
/// let out = flow.forward(Tensor::zeros([4, 6], &device), Some(Tensor::zeros([4, 16], &device)));
/// assert_eq!(out.log_det.dims(), [4]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Dimensions of the points.
    pub dim: usize,
    /// How many numbers the context of an example has. Without one all points share the flow's own parameters. With one
    /// they are predicted from it: the flow is *amortized* when that is an encoder's features, *conditional* when it is a
    /// covariate.
    #[serde(default)]
    pub context: Option<usize>,
    /// The parts, the first one next to the base. None are the identity.
    pub parts: Vec<PartConfig>,
}

impl FlowConfig {
    /// The parts one after the other, without a context.
    pub fn new(dim: usize, parts: Vec<PartConfig>) -> Self {
        Self {
            dim,
            context: None,
            parts,
        }
    }

    /// The same flow given a context of so many numbers.
    pub fn with_context(self, context: usize) -> Self {
        Self {
            context: Some(context),
            ..self
        }
    }

    /// `layers` planar layers under the paper's constraint (Rezende & Mohamed 2015). 0 layers of any flow are the identity.
    pub fn planar(dim: usize, layers: usize) -> Self {
        Self::stack(dim, layers, PlanarConfig::new(layers))
    }

    /// `layers` radial layers (Rezende & Mohamed 2015).
    pub fn radial(dim: usize, layers: usize) -> Self {
        Self::stack(dim, layers, RadialConfig::new(layers))
    }

    /// `layers` reflections (Tomczak & Welling 2016).
    pub fn householder(dim: usize, layers: usize) -> Self {
        Self::stack(dim, layers, HouseholderConfig::new(layers))
    }

    /// `layers` Sylvester layers (van den Berg et al. 2018).
    pub fn sylvester(dim: usize, layers: usize, basis: SylvesterBasis) -> Self {
        Self::stack(dim, layers, SylvesterConfig::new(layers, basis))
    }

    /// `layers` couplings by `map`, a random permutation after each, networks with these hidden widths: NICE with
    /// [`ScalarMap::Additive`], RealNVP with [`ScalarMap::Affine`] (Dinh et al. 2014, 2016), a neural spline flow with
    /// [`ScalarMap::Spline`] (Durkan et al. 2019), a flow of angles with [`ScalarMap::CircularSpline`] (Rezende et al. 2020). Two
    /// coordinates are exchanged: of their permutations half change nothing.
    pub fn coupling(dim: usize, layers: usize, map: ScalarMap, hidden: &[usize]) -> Self {
        let hidden = hidden.to_vec();
        let coupling = CouplingConfig { map, hidden };
        let mixing = match dim {
            2 => PermutationConfig::Reverse,
            _ => PermutationConfig::Random,
        };
        Self::repeated(dim, layers, coupling.into(), mixing)
    }

    /// `layers` autoregressive layers by `map`, the order reversed after each, networks with these hidden widths: an
    /// inverse autoregressive flow (Kingma et al. 2016), which samples in one pass.
    pub fn inverse_autoregressive(
        dim: usize,
        layers: usize,
        map: ScalarMap,
        hidden: &[usize],
    ) -> Self {
        let hidden = hidden.to_vec();
        let layer = AutoregressiveConfig { map, hidden };
        Self::repeated(dim, layers, layer.into(), PermutationConfig::Reverse)
    }

    /// The same the other way round: a masked autoregressive flow (Papamakarios et al. 2017), whose densities take one
    /// pass; with [`ScalarMap::Spline`] the autoregressive neural spline flow. In one dimension the conditioner sees the context
    /// alone: with [`ScalarMap::CircularSpline`] a density on the circle.
    pub fn masked_autoregressive(
        dim: usize,
        layers: usize,
        map: ScalarMap,
        hidden: &[usize],
    ) -> Self {
        let hidden = hidden.to_vec();
        let layer = AutoregressiveConfig { map, hidden };
        let layer = PartConfig::Inverse(Box::new(layer.into()));
        Self::repeated(dim, layers, layer, PermutationConfig::Reverse)
    }

    fn stack(dim: usize, layers: usize, stack: impl Into<PartConfig>) -> Self {
        let parts = (layers > 0).then(|| stack.into());
        Self::new(dim, parts.into_iter().collect())
    }

    fn repeated(dim: usize, layers: usize, layer: PartConfig, mixing: PermutationConfig) -> Self {
        let step = [layer, mixing.into()];
        let steps = std::iter::repeat_n(step, layers);
        Self::new(dim, steps.flatten().collect())
    }

    /// Looks for what no type refuses.
    ///
    /// # Errors
    ///
    /// With the part at fault, and what it takes.
    pub fn check(&self) -> Result<(), FlowConfigError> {
        if self.dim == 0 {
            return Err(FlowConfigError("a flow has a dimension at least".into()));
        }
        if self.context == Some(0) {
            return Err(FlowConfigError("a context has a number at least".into()));
        }
        (self.parts.iter().enumerate()).try_for_each(|(i, part)| {
            (part.check(self.dim)).map_err(|message| {
                FlowConfigError(format!("part {} of the flow: {message}", i + 1))
            })
        })?;
        self.domain().map(|_| ())
    }

    /// What the coordinates must be, if the parts ask for one kind.
    fn domain(&self) -> Result<Option<Domain>, FlowConfigError> {
        let mut all = None;
        for (i, part) in self.parts.iter().enumerate() {
            let own = part.domain();
            if all.is_some() && own.is_some() && own != all {
                let (own, before) = match own {
                    Some(Domain::Circle) => ("angles", "any numbers"),
                    _ => ("any numbers", "angles"),
                };
                return Err(FlowConfigError(format!(
                    "part {} of the flow: it takes {own}, but those before it {before}: beside circular splines all parts \
                     are of circular splines, or permutations",
                    i + 1
                )));
            }
            all = all.or(own);
        }
        Ok(all)
    }

    /// How large the flow is.
    pub fn size(&self) -> FlowSize {
        let size = |part: &PartConfig| part.size(self.dim, self.context);
        self.parts
            .iter()
            .map(size)
            .fold(FlowSize::default(), FlowSize::and)
    }

    /// A flow with random parameters, drawn from the device's own generator; but for permutations, rotations and Householder
    /// reflections it starts as the identity, or next to it.
    ///
    /// # Panics
    ///
    /// When [`check`](Self::check) finds something.
    pub fn init(&self, device: &Device) -> Flow {
        let domain =
            (self.check().and_then(|()| self.domain())).unwrap_or_else(|error| panic!("{error}"));
        let init = |part: &PartConfig| part.init(self.dim, self.context, device);
        let parts: Vec<Part> = self.parts.iter().map(init).collect();
        let context_layers = (self.context).map_or(Vec::new(), |context| {
            let networks = parts.iter().filter_map(Part::network);
            let layer = |network: &Network| network.context_layer(context, device);
            networks.map(layer).collect()
        });
        Flow {
            context_layer: side_by_side(&context_layers),
            parts,
            dim: self.dim,
            context: self.context,
            domain,
        }
    }
}

/// Why a [`FlowConfig`] is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowConfigError(String);

impl fmt::Display for FlowConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for FlowConfigError {}

/// A normalizing flow with whatever owns or predicts its parameters; built by [`FlowConfig`].
///
/// Forward goes from the base to the latent or data space. Every family has an inverse for every input, so no direction
/// returns an error. (Of points whose squares the float type does not hold, beyond 1e19 in `f32`, some know no more than NaN.)
///
/// Points, base and context are of the float type that the weights are of, `f32` as [`FlowConfig::init`] makes them; half floats
/// and `f32` may be mixed.
///
/// What is saved of it loads into a flow of the same shape, families and constraints.
#[derive(Module, Debug)]
pub struct Flow {
    parts: Vec<Part>,
    /// From a context to the first layers of all networks that look at points too, their biases side by side: one product.
    context_layer: Option<Linear>,
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    context: Option<usize>,
    #[module(skip)]
    domain: Option<Domain>,
}

impl Flow {
    /// z_K and Σ log |det| of `z: [n · batch, dim]`, sample-major, with the parameters of
    /// `context: [batch, context]` (any number of rows without one).
    ///
    /// # Panics
    ///
    /// When shapes disagree, or when a context is missing or is given to a flow that was built without.
    pub fn forward(&self, z: Tensor<2>, context: Option<Tensor<2>>) -> Transformed {
        self.bind(context).forward(z)
    }

    /// The point that [`forward`](Self::forward) takes to `y`, and the log-determinant of the inverse.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn inverse(&self, y: Tensor<2>, context: Option<Tensor<2>>) -> Transformed {
        self.bind(context).inverse(y)
    }

    /// The distribution of this flow's output when its input is distributed as `base`.
    ///
    /// The parameters are predicted once, here, for every sample and density asked of the result.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) and [`FlowDistribution::new`]; and when a flow of circular splines starts from anything but a
    /// torus, or another one from that, since densities would be wrong.
    pub fn distribution(
        &self,
        base: impl Into<Base>,
        context: Option<Tensor<2>>,
    ) -> FlowDistribution {
        let base = base.into();
        match (self.domain, base.domain()) {
            (Some(Domain::Circle), Domain::Line) => {
                panic!("the points of this flow are angles: its base is a UniformTorus")
            }
            (Some(Domain::Line), Domain::Circle) => {
                panic!("the points of this flow are any numbers: a UniformTorus is no base of it")
            }
            _ => FlowDistribution::new(base, self.bind(context)),
        }
    }

    /// The map for a context, with its parameters at hand: networks on the context run here, once.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn bind(&self, context: Option<Tensor<2>>) -> impl Bijection + Clone + use<> {
        let owners = (context.as_ref()).map_or(1, |context| context.dims()[0]);
        let maps = zip(&self.parts, self.given(context));
        Chain {
            dim: self.dim,
            owners,
            maps: maps
                .map(|(part, given)| part.bind(self.dim, given))
                .collect(),
        }
    }

    /// What each part is given of a context, which is there if the flow was built with one.
    fn given(&self, context: Option<Tensor<2>>) -> Vec<Option<Tensor<2>>> {
        match (self.context, context.as_ref().map(Tensor::dims)) {
            (None, None) => {}
            (Some(width), Some([batch, got])) => assert!(
                got == width,
                "this flow takes a context [batch, {width}], got [{batch}, {got}]"
            ),
            (None, Some(_)) => panic!("this flow was built without a context, but was given one"),
            (Some(_), None) => panic!("this flow was built with a context, but was given none"),
        }
        let networks = self.parts.iter().map(Part::network);
        let widths: Vec<usize> = (networks.flatten()).map(Network::first_width).collect();
        let columns = match (&self.context_layer, &context) {
            (Some(layer), Some(context)) => {
                let bias = layer.bias.as_ref().expect("it is all biases");
                let (weight, bias) = (widened(layer.weight.val()), widened(bias.val()));
                affine_columns(widened(context.clone()), weight, bias, &widths)
            }
            _ => Vec::new(),
        };
        let mut columns = columns.into_iter();
        (self.parts.iter())
            .map(|part| match part.network() {
                Some(_) => columns.next(),
                None => context.clone(),
            })
            .collect()
    }

    /// This flow with every ActNorm, turned round or not, at its data-dependent start (Kingma & Dhariwal 2018): what each one
    /// makes of `points: [n · batch, dim]`, on their way to the base, has mean 0 and variance 1. A coordinate that is constant, to 1e-33,
    /// keeps its scale.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), and when there are no points.
    pub fn standardize(mut self, points: Tensor<2>, context: Option<Tensor<2>>) -> Self {
        assert!(points.dims()[0] > 0, "no points have no mean and variance");
        let owners = (context.as_ref()).map_or(1, |context| context.dims()[0]);
        check_points("a flow", &points, owners, self.dim);
        let mut points = widened(points);
        let given = self.given(context);
        for (part, given) in zip(&mut self.parts, given).rev() {
            let direction = match part {
                Part::Forward(_) => Direction::Inverse,
                Part::Inverse(_) => Direction::Forward,
            };
            if let Part::Forward(Family::ActNorm(norm)) | Part::Inverse(Family::ActNorm(norm)) =
                part
            {
                *norm = norm.clone().standardizing(points.clone(), direction);
            }
            points = part.bind(self.dim, given).inverse(points).value;
        }
        self
    }
}

/// A layer to the outputs of all of them, if there are any.
fn side_by_side(layers: &[Linear]) -> Option<Linear> {
    let mut all = layers.first()?.clone();
    let weights = layers.iter().map(|layer| layer.weight.val()).collect();
    let biases = layers
        .iter()
        .filter_map(|layer| Some(layer.bias.as_ref()?.val()));
    all.weight = leaf(Tensor::cat(weights, 1));
    all.bias = Some(leaf(Tensor::cat(biases.collect(), 0)));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two coordinates' permutations half change nothing: two layers would map one alone.
    #[test]
    fn couplings_in_the_plane_map_both_coordinates() {
        let plane = FlowConfig::coupling(2, 2, ScalarMap::Affine, &[]);
        let reversed = PartConfig::from(PermutationConfig::Reverse);
        assert!(
            plane
                .parts
                .iter()
                .skip(1)
                .step_by(2)
                .all(|part| *part == reversed)
        );
        let space = FlowConfig::coupling(3, 2, ScalarMap::Affine, &[]);
        assert_eq!(space.parts[1], PermutationConfig::Random.into());
    }
}
