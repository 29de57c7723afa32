use burn::{
    optim::{AdamState, AdaptiveMomentumState, LearningRate, ModuleOptimizer, Optimizer},
    tensor::{Device, Tensor},
};

use crate::update::{Rule, keep, update};

/// Adam (Kingma & Ba, *Adam: A Method for Stochastic Optimization*, 2015).
///
/// ```text
/// m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
/// θ ← θ - lr m̂ / (√v̂ + ε)     with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ)
/// ```
///
/// With a decay it is AdamW (Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, 2019).
///
/// Its state is that of Burn's [`Adam`](burn::optim::Adam), and so are its records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// β₁, how much of the mean is kept.
    pub beta_1: f32,
    /// β₂, how much of the mean square is kept.
    pub beta_2: f32,
    /// ε
    pub epsilon: f32,
    /// λ of the [decay](crate#weight-decay).
    pub weight_decay: f32,
}

impl Default for Adam {
    /// The paper's β₁ = 0.9, β₂ = 0.999 and ε = 1e-8; no decay.
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Adam {
    /// The optimiser of a whole module.
    pub fn init(self) -> ModuleOptimizer {
        self.into()
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let keep = keep(lr, self.weight_decay, &parameter);
        moments(keep, parameter, gradient, state, |time| {
            Rule::Adam(Step::new(*self, lr, time))
        })
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

/// A step by the rule of its time, from this share of the parameter, of Adam and its like: two moments, which begin at 0.
pub(crate) fn moments<const D: usize>(
    keep: f64,
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<AdamState<D>>,
    rule: impl FnOnce(usize) -> Rule,
) -> (Tensor<D>, Option<AdamState<D>>) {
    let last = state.map(|state| state.momentum).unwrap_or_else(|| {
        AdaptiveMomentumState::new(0, parameter.zeros_like(), parameter.zeros_like())
    });
    let time = last.time + 1;
    let (first, second) = (last.moment_1, last.moment_2);
    let (parameter, first, second) = update(rule(time), keep, parameter, gradient, first, second);
    let state = AdamState::new(AdaptiveMomentumState::new(time, first, second));
    (parameter, Some(state))
}

/// The step at a time t.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    with: Adam,
    lr: LearningRate,
    /// √(1 - β₂ᵗ) / (1 - β₁ᵗ)
    correction: f32,
    /// ε √(1 - β₂ᵗ)
    epsilon: f32,
}

impl Step {
    fn new(with: Adam, lr: LearningRate, time: usize) -> Self {
        let time = time as i32;
        let root = (1.0 - with.beta_2.powi(time)).sqrt();
        Self {
            with,
            lr,
            correction: root / (1.0 - with.beta_1.powi(time)),
            epsilon: with.epsilon * root,
        }
    }

    #[inline(always)]
    pub fn number(self, p: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let Adam { beta_1, beta_2, .. } = self.with;
        let m = m * beta_1 + g * (1.0 - beta_1);
        let v = v * beta_2 + g * g * (1.0 - beta_2);
        let step = m * self.correction / (v.sqrt() + self.epsilon);
        (p - step * self.lr as f32, m, v)
    }

    pub fn tensor<const D: usize>(
        self,
        p: Tensor<D>,
        g: Tensor<D>,
        m: Tensor<D>,
        v: Tensor<D>,
    ) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
        let Adam { beta_1, beta_2, .. } = self.with;
        let m = m * beta_1 + g.clone() * (1.0 - beta_1);
        let v = v * beta_2 + g.square() * (1.0 - beta_2);
        let step = m.clone() * self.correction / (v.clone().sqrt() + self.epsilon);
        (p - step * self.lr, m, v)
    }
}
