use burn::{
    optim::{AdamState, LearningRate, ModuleOptimizer, Optimizer},
    tensor::{Device, Tensor},
};

use crate::{
    adam::moments,
    update::{Rule, keep},
};

/// Adamax, Adam with the largest gradient in place of the root mean square (Kingma & Ba 2015, section 7.1).
///
/// ```text
/// m ← β₁ m + (1 - β₁) g        u ← max(β₂ u, |g|)        θ ← θ - lr / (1 - β₁ᵗ) m / (u + ε)
/// ```
///
/// ε, which the paper has not, keeps a parameter that never had a gradient where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adamax {
    /// β₁, how much of the mean is kept.
    pub beta_1: f32,
    /// β₂, how much of the largest gradient is kept.
    pub beta_2: f32,
    /// ε
    pub epsilon: f32,
    /// λ of the [decay](crate#weight-decay).
    pub weight_decay: f32,
}

impl Default for Adamax {
    /// The paper's β₁ = 0.9 and β₂ = 0.999, and ε = 1e-8; no decay.
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl Adamax {
    /// The optimiser of a whole module.
    pub fn init(self) -> ModuleOptimizer {
        self.into()
    }
}

impl Optimizer for Adamax {
    /// `moment_2` is u.
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
            Rule::Adamax(Step::new(*self, lr, time))
        })
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState::new(state.momentum.to_device(device))
    }
}

/// The step at a time t.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    with: Adamax,
    /// lr / (1 - β₁ᵗ)
    lr: LearningRate,
}

impl Step {
    fn new(with: Adamax, lr: LearningRate, time: usize) -> Self {
        let correction = 1.0 - f64::from(with.beta_1).powi(time as i32);
        Self {
            with,
            lr: lr / correction,
        }
    }

    #[inline(always)]
    pub fn number(self, p: f32, g: f32, m: f32, u: f32) -> (f32, f32, f32) {
        let Adamax {
            beta_1,
            beta_2,
            epsilon,
            ..
        } = self.with;
        let m = m * beta_1 + g * (1.0 - beta_1);
        let (kept, size) = (u * beta_2, g.abs());
        // NaN is not less: it goes on.
        let u = if size < kept { kept } else { size };
        (p - m / (u + epsilon) * self.lr as f32, m, u)
    }

    pub fn tensor<const D: usize>(
        self,
        p: Tensor<D>,
        g: Tensor<D>,
        m: Tensor<D>,
        u: Tensor<D>,
    ) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
        let Adamax {
            beta_1,
            beta_2,
            epsilon,
            ..
        } = self.with;
        let m = m * beta_1 + g.clone() * (1.0 - beta_1);
        let u = (u * beta_2).max_pair(g.abs());
        (p - m.clone() / (u.clone() + epsilon) * self.lr, m, u)
    }
}
