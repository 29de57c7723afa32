//! The Bernoulli log-likelihood from logits and its gradient: the fused operation against tensor operations.

#![recursion_limit = "256"] // wgpu's types

use std::fmt;

use bench::{Backend, backends, drawn};
use burn::tensor::{Tensor, activation::log_sigmoid};
use divan::Bencher;
use flow_vae::bernoulli_log_likelihood;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

type Way = fn(Tensor<2>, Tensor<2>) -> Tensor<1>;

struct Case {
    backend: Backend,
    way: (&'static str, Way),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.backend.name, self.way.0)
    }
}

fn by_tensor_operations(logits: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
    (logits.clone() * x + log_sigmoid(logits.neg()))
        .sum_dim(1)
        .squeeze_dim(1)
}

fn cases() -> Vec<Case> {
    let ways = [
        ("fused", bernoulli_log_likelihood as Way),
        ("tensor operations", by_tensor_operations),
    ];
    let case = |backend: Backend| {
        ways.map(|way| Case {
            backend: backend.clone(),
            way,
        })
    };
    backends().into_iter().flat_map(case).collect()
}

/// 100 images of 28 x 28.
#[divan::bench(args = cases(), max_time = 2)]
fn forward_and_backward(bencher: Bencher, case: &Case) {
    let device = &case.backend.device.clone().autodiff();
    let logits = drawn([100, 784], device).require_grad();
    let x = drawn([100, 784], device).greater_elem(0.0).float();
    bencher.bench_local(|| {
        let gradients = (case.way.1)(logits.clone(), x.clone()).sum().backward();
        let gradient = logits.grad(&gradients);
        device.sync().expect("the device answers");
        gradient
    });
}
