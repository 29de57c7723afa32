//! A stack of planar layers, forward and with its gradients: the fused operation against tensor operations.

#![recursion_limit = "256"] // wgpu's types

use std::fmt;

use bench::{Backend, backends, drawn};
use burn::tensor::Tensor;
use burn_flows::{Bijection, Planar, PlanarConstraint, Transformed};
use divan::Bencher;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Owners, rows, layers, dimensions: a training step at K = 10 and 80, an evaluation, and learned densities.
const SIZES: [[usize; 4]; 5] = [
    [100, 100, 10, 40],
    [100, 100, 80, 40],
    [100, 5000, 80, 40],
    [1, 10_000, 10, 2],
    [1, 1000, 32, 64],
];

struct Case {
    backend: Backend,
    way: (&'static str, fn(&Planar, Tensor<2>) -> Transformed),
    sizes: [usize; 4],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [owners, rows, layers, dim] = self.sizes;
        let (backend, way) = (self.backend.name, self.way.0);
        write!(
            f,
            "{rows} rows of {owners}, K = {layers}, D = {dim}: {backend}, {way}"
        )
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for sizes in SIZES {
        for backend in backends() {
            for way in [
                (
                    "fused",
                    Planar::forward as fn(&Planar, Tensor<2>) -> Transformed,
                ),
                ("tensor operations", Planar::forward_by_tensor_operations),
            ] {
                cases.push(Case {
                    backend: backend.clone(),
                    way,
                    sizes,
                });
            }
        }
    }
    cases
}

#[divan::bench(args = cases(), max_time = 2)]
fn forward(bencher: Bencher, case: &Case) {
    let [owners, rows, layers, dim] = case.sizes;
    let device = &case.backend.device;
    let raw = drawn([owners, layers, 2 * dim + 1], device) * 0.1;
    let planar = Planar::new(raw, PlanarConstraint::Paper);
    let z = drawn([rows, dim], device);
    bencher.bench_local(|| {
        let end = (case.way.1)(&planar, z.clone());
        device.sync().expect("the device answers");
        end
    });
}

#[divan::bench(args = cases(), max_time = 2)]
fn forward_and_backward(bencher: Bencher, case: &Case) {
    let [owners, rows, layers, dim] = case.sizes;
    let device = &case.backend.device.clone().autodiff();
    let raw = (drawn([owners, layers, 2 * dim + 1], device) * 0.1)
        .detach()
        .require_grad();
    let z = drawn([rows, dim], device).require_grad();
    bencher.bench_local(|| {
        let end = (case.way.1)(
            &Planar::new(raw.clone(), PlanarConstraint::Paper),
            z.clone(),
        );
        let gradients = (end.value.sum() + end.log_det.sum()).backward();
        let grads = (raw.grad(&gradients), z.grad(&gradients));
        device.sync().expect("the device answers");
        grads
    });
}
