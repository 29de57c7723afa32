//! Somebody else's model with a flow of burn-flows in it, which knows nothing of VAEs.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    optim::{AdamConfig, GradientsParams},
    tensor::{Device, Distribution, Tensor},
};
use burn_flows::{DiagonalGaussian, Flow, FlowConfig, PlanarConfig, PlanarConstraint};

/// The density of y given x: a Gaussian whose mean and width depend on x, bent by a flow that does.
#[derive(Module, Debug)]
struct Regression {
    base: Linear,
    flow: Flow,
}

impl Regression {
    fn new(device: &Device) -> Self {
        let planar = PlanarConfig::new(2)
            .with_constraint(PlanarConstraint::Identity)
            .with_hidden(vec![16]);
        Self {
            base: LinearConfig::new(1, 2).init(device),
            flow: FlowConfig::new(1, vec![planar.into()])
                .with_context(1)
                .init(device),
        }
    }

    fn log_prob(&self, x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
        let base = self.base.forward(x.clone());
        let (mean, log_var) = (base.clone().slice_dim(1, 0..1), base.slice_dim(1, 1..2));
        let base = DiagonalGaussian::new(mean, log_var);
        self.flow.distribution(base, Some(x)).log_prob(y)
    }

    fn loss(&self, x: &Tensor<2>, y: &Tensor<2>) -> Tensor<1> {
        self.log_prob(x.clone(), y.clone()).mean().neg()
    }
}

/// y = ± (1.5 + x) + noise: two branches, which no Gaussian has.
fn data(rows: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let random = |distribution| Tensor::<2>::random([rows, 1], distribution, device);
    let x = random(Distribution::Uniform(-1.0, 1.0));
    let sign = random(Distribution::Bernoulli(0.5)) * 2.0 - 1.0;
    let y = sign * (x.clone() + 1.5) + random(Distribution::Normal(0.0, 0.3));
    (x, y)
}

#[test]
fn a_conditional_density_is_learned_by_maximum_likelihood() {
    let device = Device::flex().autodiff();
    device.seed(3);
    let (x, y) = data(256, &device);
    let mut model = Regression::new(&device);
    let mut optimizer = AdamConfig::new().init();
    let before = model.loss(&x, &y).into_scalar::<f32>();
    for _ in 0..60 {
        let gradients = model.loss(&x, &y).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(3e-2, model, gradients);
    }

    // On new data it beats the best that a Gaussian can do, that of the true mean and variance given x.
    let (x, y) = data(1000, &device);
    let after = model.loss(&x, &y).into_scalar::<f32>();
    let log_var = ((x.clone() + 1.5).powf_scalar(2.0) + 0.09).log();
    let gaussian = DiagonalGaussian::new(x.zeros_like(), log_var).log_prob(y.clone());
    let gaussian = gaussian.mean().neg().into_scalar::<f32>();
    assert!(
        after < gaussian - 0.3 && gaussian < before,
        "{before} to {after}, a Gaussian has {gaussian}"
    );
    // And it looks at x.
    let blind = model.loss(&x.clone().flip([0]), &y).into_scalar::<f32>();
    assert!(after < blind, "{after}, with shuffled contexts {blind}");
}
