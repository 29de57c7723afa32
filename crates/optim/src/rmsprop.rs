use burn::{
    optim::{LearningRate, ModuleOptimizer, Optimizer},
    tensor::{Device, Tensor},
};

use crate::{
    RecordState,
    update::{Rule, keep, update},
};

/// RMSprop with momentum (Tieleman & Hinton, *Lecture 6.5*, 2012), the paper's optimiser.
///
/// ```text
/// v ← α v + (1 - α) g²        m ← μ m + g / (√v + ε)        θ ← θ - lr m
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// α, how much of the mean square is kept.
    pub alpha: f32,
    /// μ, how much of the last step is kept.
    pub momentum: f32,
    /// ε, outside the root.
    pub epsilon: f32,
    /// λ of the [decay](crate#weight-decay).
    pub weight_decay: f32,
}

impl Default for RmsProp {
    /// α = 0.99, μ = 0.9, ε = 1e-5: what Burn's own is set to; no decay.
    fn default() -> Self {
        Self {
            alpha: 0.99,
            momentum: 0.9,
            epsilon: 1e-5,
            weight_decay: 0.0,
        }
    }
}

impl RmsProp {
    /// The optimiser of a whole module.
    pub fn init(self) -> ModuleOptimizer {
        self.into()
    }
}

/// What [`RmsProp`] remembers of a parameter.
#[derive(Clone, RecordState)]
pub struct RmsPropState<const D: usize> {
    /// v
    pub square_avg: Tensor<D>,
    /// m
    pub momentum: Tensor<D>,
}

impl Optimizer for RmsProp {
    type State<const D: usize> = RmsPropState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<RmsPropState<D>>,
    ) -> (Tensor<D>, Option<RmsPropState<D>>) {
        let (square_avg, momentum) = match state {
            Some(state) => (state.square_avg, state.momentum),
            None => (parameter.zeros_like(), parameter.zeros_like()),
        };
        let rule = Rule::RmsProp(Step { with: *self, lr });
        let keep = keep(lr, self.weight_decay, &parameter);
        let (parameter, square_avg, momentum) =
            update(rule, keep, parameter, gradient, square_avg, momentum);
        let state = RmsPropState {
            square_avg,
            momentum,
        };
        (parameter, Some(state))
    }

    fn to_device<const D: usize>(state: RmsPropState<D>, device: &Device) -> RmsPropState<D> {
        RmsPropState {
            square_avg: state.square_avg.to_device(device),
            momentum: state.momentum.to_device(device),
        }
    }
}

/// One step with a learning rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    with: RmsProp,
    lr: LearningRate,
}

impl Step {
    #[inline(always)]
    pub fn number(self, p: f32, g: f32, v: f32, m: f32) -> (f32, f32, f32) {
        let RmsProp {
            alpha,
            momentum,
            epsilon,
            ..
        } = self.with;
        let v = v * alpha + g * g * (1.0 - alpha);
        let m = m * momentum + g / (v.sqrt() + epsilon);
        (p - m * self.lr as f32, v, m)
    }

    pub fn tensor<const D: usize>(
        self,
        p: Tensor<D>,
        g: Tensor<D>,
        v: Tensor<D>,
        m: Tensor<D>,
    ) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
        let RmsProp {
            alpha,
            momentum,
            epsilon,
            ..
        } = self.with;
        let v = v * alpha + g.clone().square() * (1.0 - alpha);
        let m = m * momentum + g / (v.clone().sqrt() + epsilon);
        (p - m.clone() * self.lr, v, m)
    }
}
