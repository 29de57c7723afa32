//! The Householder flow of Tomczak & Welling, *Improving Variational Auto-Encoders using Householder Flow* (2016).
//!
//! One layer reflects space at the plane through 0 that is orthogonal to v (their eq. 8):
//!
//! ```text
//! f(z) = (I - 2 v vᵀ / ‖v‖²) z
//! ```
//!
//! It keeps volumes, log |det| = 0, and is its own inverse. K of them are any orthogonal matrix that is a product of K
//! reflections: on a diagonal Gaussian they give it a full covariance.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, Transformed,
    math::widened,
    parameters::Parameters,
    stack::{Stack, check_stack},
};

/// A stack of Householder reflections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HouseholderConfig {
    /// How many reflections, one at least.
    pub layers: usize,
    /// Widths of the hidden ReLU layers between a context and the parameters.
    #[serde(default)]
    pub hidden: Vec<usize>,
}

impl HouseholderConfig {
    /// `layers` reflections, with a linear head where there is a context.
    pub fn new(layers: usize) -> Self {
        Self {
            layers,
            hidden: Vec::new(),
        }
    }

    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let numbers = self.layers as f64 * dim as f64;
        FlowSize::of_parameters(numbers, context, &self.hidden)
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        check_stack(self.layers, &self.hidden)
    }

    /// Starts at random planes.
    pub(crate) fn init(
        &self,
        dim: usize,
        context: Option<usize>,
        device: &Device,
    ) -> HouseholderStack {
        let shape = [1, self.layers, dim];
        let start = Tensor::random(shape, Distribution::Normal(0.0, 1.0), device);
        HouseholderStack {
            parameters: Parameters::new(start, context, &self.hidden),
        }
    }
}

/// The parameters of a stack, learned or predicted.
#[derive(Module, Debug)]
pub struct HouseholderStack {
    parameters: Parameters,
}

impl HouseholderStack {
    pub fn bind(&self, _dim: usize, context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(Householder::new(self.parameters.raw(context)))
    }
}

/// A stack of reflections with its parameters at hand.
///
/// A layer costs O(dim) in both directions.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{Bijection, Householder};
///
/// let device = Device::flex();
/// // One shared reflection in two dimensions, at the diagonal: it exchanges the coordinates.
/// let flow = Householder::new(Tensor::<3>::from_data([[[1.0, -1.0]]], &device));
/// let out = flow.forward(Tensor::from_data([[0.5, -2.0]], &device));
/// let expected = Tensor::<2>::from_data([[-2.0, 0.5]], &device);
/// out.value.into_data().assert_approx_eq::<f32>(&expected.into_data(), Default::default());
/// ```
#[derive(Clone, Debug)]
pub struct Householder {
    /// `[owners, layers, dim]`
    v: Tensor<3>,
}

impl Householder {
    /// The stack with the normals `v: [owners, layers, dim]`, of any lengths. `owners` is 1 for reflections that all
    /// points share and the batch size for each example's own. v = 0 is the identity, and v whose numbers are all below 1e-15
    /// counts as 0.
    ///
    /// # Panics
    ///
    /// When `v` has no dimensions.
    pub fn new(v: Tensor<3>) -> Self {
        let [owners, layers, dim] = v.dims();
        assert!(
            dim > 0,
            "Householder vectors are [owners, layers, dim], got [{owners}, {layers}, {dim}]"
        );
        Self { v: widened(v) }
    }

    fn stack(&self) -> Stack {
        let [owners, layers, dim] = self.v.dims();
        Stack {
            name: "a Householder flow",
            owners,
            layers,
            dim,
        }
    }

    /// v / ‖v‖ of each layer, `[1, owners, dim]`.
    fn normals(&self) -> Vec<Tensor<3>> {
        let v = self.v.clone().swap_dims(0, 1);
        let normals = normalized(v);
        let [layers, _, _] = normals.dims();
        (0..layers)
            .map(|k| normals.clone().slice_dim(0, k..k + 1))
            .collect()
    }
}

impl Bijection for Householder {
    fn dim(&self) -> usize {
        self.stack().dim
    }

    fn owners(&self) -> usize {
        self.stack().owners
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        let stack = self.stack();
        stack.map(z, |z| stack.fold(z, self.normals().into_iter(), reflected))
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        let stack = self.stack();
        stack.map(y, |y| {
            stack.fold(y, self.normals().into_iter().rev(), reflected)
        })
    }

    fn preserves_volume(&self) -> bool {
        true
    }
}

fn reflected(normal: Tensor<3>, z: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
    let value = reflect(z, normal);
    let [n, owners, _] = value.dims();
    let log_det = Tensor::zeros([n, owners, 1], (&value.device(), value.dtype()));
    (value, log_det)
}

/// `z` with its part along `normal`, of length 1 or 0, turned round.
pub fn reflect(z: Tensor<3>, normal: Tensor<3>) -> Tensor<3> {
    let along = (z.clone() * normal.clone()).sum_dim(2);
    z - normal * along.mul_scalar(2.0)
}

/// v / ‖v‖ over the last axis, and 0 where v counts as 0.
pub fn normalized(v: Tensor<3>) -> Tensor<3> {
    // Of numbers up to 1 the squares are no infinity. The result is the same for any other scale, so that this one has no slope.
    let largest = v.clone().detach().abs().max_dim(2);
    let is_zero = largest.clone().lower_elem(TINY);
    let v = v / largest.mask_fill(is_zero.clone(), f64::INFINITY);
    // The root's slope at 0 is infinite.
    let square = v.clone().square().sum_dim(2).mask_fill(is_zero, 1.0);
    v / square.sqrt()
}

/// A vector of numbers below it counts as 0.
pub(crate) const TINY: f64 = 1e-15;
