use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{Base, Bijection, math::widened};

/// The distribution of f(z) for z from a base and f a flow: q_K of the paper.
///
/// ```text
/// ln q_K(z_K) = ln q_0(z_0) - Σ_k ln |det ∂f_k/∂z_{k-1}|        (Rezende & Mohamed 2015, eq. 7)
/// ```
///
/// Built by [`Flow::distribution`](crate::Flow::distribution), or from a base and a stack at hand. The base is a
/// [`DiagonalGaussian`](crate::DiagonalGaussian), or of angles a [`UniformTorus`](crate::UniformTorus). With
/// bases or parameters of `batch` examples, all rows are sample-major: `[n · batch, dim]`, where row i
/// belongs to example i mod `batch`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_flows::{DiagonalGaussian, FlowConfig};
///
/// let device = Device::flex();
/// // One posterior for each of 4 examples, from 16 features of each.
/// let flow = FlowConfig::planar(2, 3).with_context(16).init(&device);
/// let features = Tensor::zeros([4, 16], &device);
/// let base = DiagonalGaussian::new(Tensor::zeros([4, 2], &device), Tensor::zeros([4, 2], &device));
///
/// let posterior = flow.distribution(base, Some(features));
/// let (z, log_prob) = posterior.rsample_and_log_prob(10);
/// assert_eq!(z.dims(), [40, 2]);
/// assert_eq!(posterior.log_prob(z).dims(), log_prob.dims());
/// ```
#[derive(Clone, Debug)]
pub struct FlowDistribution {
    base: Base,
    flow: Arc<dyn Bijection>,
}

impl FlowDistribution {
    /// The distribution of `flow` applied to `base`. Whether it takes such points, numbers or angles, is not looked at here, as
    /// [`Flow::distribution`](crate::Flow::distribution) does.
    ///
    /// # Panics
    ///
    /// When the two have other dimensions, or each belongs to several examples, and to another number of them.
    pub fn new(base: impl Into<Base>, flow: impl Bijection + 'static) -> Self {
        let base = base.into();
        let ([batch, dim], owners, own) = (base.dims(), flow.owners(), flow.dim());
        assert!(
            dim == own && (batch == 1 || owners == 1 || batch == owners),
            "{batch} distributions in {dim} dimensions are no base of a flow of {owners} owners in {own}"
        );
        Self {
            base,
            flow: Arc::new(flow),
        }
    }

    /// `n` points an example, `[n · batch, dim]`, and their log-densities, `[n · batch]` in nats, with
    /// gradients in all parameters. The noise comes from the device's own generator.
    pub fn rsample_and_log_prob(&self, n: usize) -> (Tensor<2>, Tensor<1>) {
        let rows = n * self.examples();
        self.transport(self.base.noise(rows))
    }

    /// [`rsample_and_log_prob`](Self::rsample_and_log_prob) with noise of your own, `[n · batch, dim]`, standard normal for a
    /// Gaussian base and uniform angles for a torus: for draws that must repeat.
    ///
    /// # Panics
    ///
    /// When `noise` has another dimension, or a number of rows that is no multiple of `batch`.
    pub fn transport(&self, noise: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let dtype = noise.dtype();
        let (z, log_prob) = self.base.rsample_and_log_prob(widened(noise));
        let end = self.flow.forward(z);
        (end.value.cast(dtype), (log_prob - end.log_det).cast(dtype))
    }

    /// `n` points an example, `[n · batch, dim]`, without gradients.
    pub fn sample(&self, n: usize) -> Tensor<2> {
        self.rsample_and_log_prob(n).0.detach()
    }

    /// The log-density in nats, `[n · batch]`, of any points `value: [n · batch, dim]`, through the
    /// inverse of the flow; differentiable in the points and all parameters.
    ///
    /// # Panics
    ///
    /// As [`transport`](Self::transport).
    pub fn log_prob(&self, value: Tensor<2>) -> Tensor<1> {
        let dtype = value.dtype();
        let start = self.flow.inverse(widened(value));
        (self.base.log_prob(start.value) + start.log_det).cast(dtype)
    }

    fn examples(&self) -> usize {
        let [batch, _] = self.base.dims();
        match batch {
            1 => self.flow.owners(),
            _ => batch,
        }
    }
}
