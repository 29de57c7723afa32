//! What the benchmarks share.

#![recursion_limit = "256"] // wgpu's types

use std::sync::OnceLock;

use burn::tensor::{Device, Distribution, Tensor};

/// A backend to measure on.
#[derive(Clone, Debug)]
pub struct Backend {
    /// As `--backend` spells it.
    pub name: &'static str,
    /// Its device, without autodiff.
    pub device: Device,
}

/// flex, ndarray, and wgpu where it finds an adapter; where it does not, standard error says so.
pub fn backends() -> Vec<Backend> {
    // A device of wgpu is set up once in a process.
    static BACKENDS: OnceLock<Vec<Backend>> = OnceLock::new();
    BACKENDS.get_or_init(find).clone()
}

fn find() -> Vec<Backend> {
    #[allow(deprecated)] // by Burn, in favour of flex; offered all the same
    let ndarray = Device::ndarray();
    let mut backends = vec![
        Backend {
            name: "flex",
            device: Device::flex(),
        },
        Backend {
            name: "ndarray",
            device: ndarray,
        },
    ];
    match Device::wgpu_options().init() {
        Ok(device) => backends.push(Backend {
            name: "wgpu",
            device,
        }),
        Err(error) => eprintln!("NOT MEASURED: wgpu, which finds no adapter here: {error}"),
    }
    backends
}

/// Standard normal numbers.
pub fn drawn<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}
