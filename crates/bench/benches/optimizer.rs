//! A step of the optimisers on the largest weight of the paper's model at K = 80: one pass against Burn's own.

#![recursion_limit = "256"] // wgpu's types

use std::fmt;

use bench::{Backend, backends, drawn};
use burn::{
    module::{Module, Param},
    optim::{AdamConfig, GradientsParams, ModuleOptimizer, RmsPropConfig},
    tensor::Tensor,
};
use divan::Bencher;
use fused_optim::{Adam, Adamax, RmsProp};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[derive(Module, Debug)]
struct Weight {
    weight: Param<Tensor<2>>,
}

type Named = (&'static str, fn() -> ModuleOptimizer);

struct Case {
    backend: Backend,
    optimizer: Named,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.backend.name, self.optimizer.0)
    }
}

fn cases() -> Vec<Case> {
    let optimizers: [Named; 5] = [
        ("RMSprop, fused", || RmsProp::default().init()),
        ("RMSprop, Burn's", || RmsPropConfig::new().init()),
        ("Adam, fused", || Adam::default().init()),
        ("Adam, Burn's", || AdamConfig::new().init()),
        ("Adamax, fused", || Adamax::default().init()),
    ];
    let case = |backend: Backend| {
        optimizers.map(|optimizer| Case {
            backend: backend.clone(),
            optimizer,
        })
    };
    backends().into_iter().flat_map(case).collect()
}

#[divan::bench(args = cases(), max_time = 2)]
fn step(bencher: Bencher, case: &Case) {
    let device = &case.backend.device.clone().autodiff();
    let weight = drawn([400, 6480], device);
    let mut model = Some(Weight {
        weight: Param::from_tensor(weight),
    });
    let mut optimizer = (case.optimizer.1)();
    let gradient = drawn([400, 6480], &case.backend.device);
    bencher
        // A gradient that nobody shares, as the backward pass makes it.
        .with_inputs(|| gradient.clone() * 1.0)
        .bench_local_values(|gradient| {
            let before = model.take().expect("a model");
            let mut gradients = GradientsParams::new();
            gradients.register(before.weight.id, gradient);
            model = Some(optimizer.step(1e-3, before, gradients));
            device.sync().expect("the device answers");
        });
}
