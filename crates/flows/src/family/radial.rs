//! The radial flow of Rezende & Mohamed, *Variational Inference with Normalizing Flows* (2015).
//!
//! One layer pushes points away from a centre, or pulls them there (their eq. 14):
//!
//! ```text
//! f(z) = z + β̂ h (z - z₀),      h = 1 / (α + r),      r = ‖z - z₀‖
//! ```
//!
//! with α = softplus(raw) > 0. It is invertible when β̂ ≥ -α, which their appendix A.2 enforces through
//! β̂ = -α + softplus(β). With s = softplus(β) = α + β̂ > 0:
//!
//! **Log-determinant.** Their det = (1 + β̂ h)^(d - 1) (1 + β̂ h + β̂ h' r), h' = -1 / (α + r)², is of positive terms only:
//!
//! ```text
//! 1 + β̂ h           = (r + s) / (r + α)
//! 1 + β̂ h + β̂ h' r  = (r² + 2 α r + α s) / (r + α)²
//! ```
//!
//! **Inverse.** ρ = ‖y - z₀‖ = r (r + s) / (r + α), so r² + (s - ρ) r - α ρ = 0, whose root in r ≥ 0 is, with p = ρ - s,
//!
//! ```text
//! r = (p + √(p² + 4 α ρ)) / 2  =  2 α ρ / (√(p² + 4 α ρ) - p)
//! ```
//!
//! where the first form is for p ≥ 0 and the second, in which nothing cancels, for p < 0. Then
//! z = z₀ + (y - z₀) (r + α) / (r + s).

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, Transformed,
    map::Direction,
    math::{LN_E_MINUS_1, softplus, widened},
    ops::stack::{Form, Layers, stack},
    parameters::Parameters,
    stack::{Stack, check_stack},
};

/// A stack of radial layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadialConfig {
    /// How many layers, one at least.
    pub layers: usize,
    /// Widths of the hidden ReLU layers between a context and the parameters.
    #[serde(default)]
    pub hidden: Vec<usize>,
}

impl RadialConfig {
    /// `layers` layers, with a linear head where there is a context.
    pub fn new(layers: usize) -> Self {
        Self {
            layers,
            hidden: Vec::new(),
        }
    }

    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let numbers = self.layers as f64 * (dim as f64 + 2.0);
        FlowSize::of_parameters(numbers, context, &self.hidden)
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        check_stack(self.layers, &self.hidden)
    }

    /// Starts as the identity (β̂ = 0) around random centres, with α = 1.
    pub(crate) fn init(&self, dim: usize, context: Option<usize>, device: &Device) -> RadialStack {
        let centre = Tensor::random(
            [1, self.layers, dim],
            Distribution::Normal(0.0, 1.0),
            device,
        );
        let ones = Tensor::full([1, self.layers, 2], LN_E_MINUS_1, device);
        let start = Tensor::cat(vec![centre, ones], 2);
        RadialStack {
            parameters: Parameters::new(start, context, &self.hidden),
        }
    }
}

/// The parameters of a stack, learned or predicted.
#[derive(Module, Debug)]
pub struct RadialStack {
    parameters: Parameters,
}

impl RadialStack {
    pub fn bind(&self, _dim: usize, context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(Radial::new(self.parameters.raw(context)))
    }
}

/// A stack of radial layers with its parameters at hand.
///
/// A layer and its inverse cost O(dim).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{Bijection, Radial};
///
/// let device = Device::flex();
/// // One shared layer in two dimensions: z₀ = (0, 0), α = softplus(0.5), s = softplus(1).
/// let raw = Tensor::<3>::from_data([[[0.0, 0.0, 0.5, 1.0]]], &device);
/// let flow = Radial::new(raw);
///
/// let z = Tensor::<2>::from_data([[0.5, -1.0]], &device);
/// let back = flow.inverse(flow.forward(z.clone()).value);
/// back.value.into_data().assert_approx_eq::<f32>(&z.into_data(), Default::default());
/// ```
#[derive(Clone, Debug)]
pub struct Radial {
    /// `[owners, layers, dim + 2]`
    raw: Tensor<3>,
}

impl Radial {
    /// The stack with the given unconstrained parameters.
    ///
    /// `raw: [owners, layers, dim + 2]` holds z₀, that of α and β of each layer, in this order. `owners` is 1
    /// for parameters that all points share and the batch size for parameters of each example's own.
    ///
    /// # Panics
    ///
    /// When the last axis of `raw` is less than 3.
    pub fn new(raw: Tensor<3>) -> Self {
        let [owners, layers, parameters] = raw.dims();
        assert!(
            parameters >= 3,
            "radial parameters are [owners, layers, dim + 2], got [{owners}, {layers}, {parameters}]"
        );
        Self { raw: widened(raw) }
    }

    /// What [`forward`](Bijection::forward) does where there is no fused operation, and what that is tested against.
    #[doc(hidden)]
    pub fn forward_by_tensor_operations(&self, z: Tensor<2>) -> Transformed {
        (self.stack()).fold(z, self.layers().into_iter(), Layer::forward)
    }

    /// The same of [`inverse`](Bijection::inverse).
    #[doc(hidden)]
    pub fn inverse_by_tensor_operations(&self, y: Tensor<2>) -> Transformed {
        (self.stack()).fold(y, self.layers().into_iter().rev(), Layer::inverse)
    }

    fn form(&self, direction: Direction) -> Form {
        Form {
            layers: Layers::Radial,
            dim: self.stack().dim,
            direction,
        }
    }

    fn stack(&self) -> Stack {
        let [owners, layers, parameters] = self.raw.dims();
        Stack {
            name: "a radial flow",
            owners,
            layers,
            dim: parameters - 2,
        }
    }

    fn layers(&self) -> Vec<Layer> {
        let Stack { layers, dim, .. } = self.stack();
        let raw = self.raw.clone().swap_dims(0, 1);
        let positive = softplus(raw.clone().slice_dim(2, dim..dim + 2));
        (0..layers)
            .map(|k| Layer {
                centre: raw.clone().slice_dim(0, k..k + 1).slice_dim(2, 0..dim),
                alpha: positive.clone().slice_dim(0, k..k + 1).slice_dim(2, 0..1),
                s: positive.clone().slice_dim(0, k..k + 1).slice_dim(2, 1..2),
            })
            .collect()
    }
}

impl Bijection for Radial {
    fn dim(&self) -> usize {
        self.stack().dim
    }

    fn owners(&self) -> usize {
        self.stack().owners
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        self.stack().map(z, |z| {
            stack(&self.raw, &z, self.form(Direction::Forward))
                .unwrap_or_else(|| self.forward_by_tensor_operations(z))
        })
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        self.stack().map(y, |y| {
            stack(&self.raw, &y, self.form(Direction::Inverse))
                .unwrap_or_else(|| self.inverse_by_tensor_operations(y))
        })
    }
}

/// One layer, to broadcast over `[n, owners, dim]`.
struct Layer {
    /// z₀, `[1, owners, dim]`
    centre: Tensor<3>,
    /// `[1, owners, 1]`
    alpha: Tensor<3>,
    /// α + β̂, `[1, owners, 1]`
    s: Tensor<3>,
}

impl Layer {
    fn forward(self, z: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let from_centre = z - self.centre.clone();
        let r = norm(from_centre.clone());
        let stretch = (r.clone() + self.s.clone()) / (r.clone() + self.alpha.clone());
        let log_det = self.log_det(r, &from_centre);
        (self.centre + from_centre * stretch, log_det)
    }

    fn inverse(self, y: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let from_centre = y - self.centre.clone();
        let rho = norm(from_centre.clone());
        let p = rho.clone() - self.s.clone();
        let product = self.alpha.clone() * rho;
        let root = (p.clone().square() + product.clone().mul_scalar(4.0))
            .clamp_min(TINY)
            .sqrt();
        let is_far = p.clone().greater_equal_elem(0.0);
        // Each branch sees numbers that it is made for: what a mask discards still takes part in the gradient.
        let far = (p.clone() + root.clone()).div_scalar(2.0);
        let below = root - p.mask_fill(is_far.clone(), -1.0);
        let near = product.mul_scalar(2.0) / below;
        let r = near.mask_where(is_far, far);
        let shrink = (r.clone() + self.alpha.clone()) / (r.clone() + self.s.clone());
        let log_det = self.log_det(r, &from_centre).neg();
        (self.centre + from_centre * shrink, log_det)
    }

    /// ln det ∂f/∂z where the distance from the centre is `r`, in as many dimensions as `point` has.
    fn log_det(&self, r: Tensor<3>, point: &Tensor<3>) -> Tensor<3> {
        let [_, _, dim] = point.dims();
        let (alpha, s) = (self.alpha.clone(), self.s.clone());
        let out = r.clone() + alpha.clone();
        let across = (r.clone() + s.clone()) / out.clone();
        // (r² + 2 α r + α s) / (r + α)² by shares of r + α, which are at most 1.
        let (of_r, of_alpha) = (r / out.clone(), alpha / out.clone());
        let along = of_r.clone() * (of_r + of_alpha.clone().mul_scalar(2.0)) + of_alpha * (s / out);
        across.log().mul_scalar((dim - 1) as f64) + along.log()
    }
}

/// A square below which a distance counts as none: the slope of its root would be infinite.
pub(crate) const TINY: f64 = 1e-30;

/// ‖x‖ over the last axis, with slope 0 at 0.
fn norm(x: Tensor<3>) -> Tensor<3> {
    x.square().sum_dim(2).clamp_min(TINY).sqrt()
}
