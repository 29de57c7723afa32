//! Times a training step of the paper's VAE, or its evaluation, and prints one line of JSON for each size.
//!
//! `scripts/compare-peers` runs it in turn with the same model in other frameworks.

#![recursion_limit = "256"] // wgpu's types

use std::time::Instant;

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use burn_flows::FlowConfig;
use clap::{Parser, ValueEnum};
use flow_vae::{Activation, ImportanceSampling, Vae, VaeConfig};
use fused_optim::RmsProp;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::StandardNormal;
use serde_json::json;

/// As the program that trains.
#[path = "../../train/src/process.rs"]
mod process;

const PIXELS: usize = 784;
const LATENT: usize = 40;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// What to time
    #[arg(value_enum)]
    what: What,
    /// Numbers of planar layers
    #[arg(long, value_delimiter = ',', default_value = "0,10,80")]
    layers: Vec<usize>,
    /// Images of a batch
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// How many times, after a tenth as many that do not count
    #[arg(long, default_value_t = 100)]
    repeats: usize,
    /// Samples an image, of an evaluation
    #[arg(long, default_value_t = 5000)]
    samples: usize,
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A training step: noise, bound, gradients, RMSprop with momentum; in milliseconds
    Step,
    /// ln p(x) by importance sampling; in images a second
    Nll,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "ndarray")]
    Ndarray,
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda,
}

impl Backend {
    fn device(self) -> Device {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Device::flex(),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // by Burn, in favour of flex; offered all the same
            Self::Ndarray => Device::ndarray(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
        }
    }
}

fn main() {
    let args = Args::parse();
    process::start();
    for &layers in &args.layers {
        let median = match args.what {
            What::Step => step(&args, layers),
            What::Nll => nll(&args, layers),
        };
        let backend = format!("{:?}", args.backend).to_lowercase();
        println!(
            "{}",
            json!({ "layers": layers, "batch": args.batch, "backend": backend, "median": median, "peak_mib": peak_mib() })
        );
    }
}

/// The paper's model for 28 x 28 images.
fn vae(layers: usize, device: &Device) -> Vae {
    VaeConfig {
        pixels: PIXELS,
        latent_dim: LATENT,
        hidden: vec![400],
        activation: Activation::Maxout { window: 4 },
        flow: FlowConfig::planar(layers),
    }
    .init(device)
}

fn normal(rng: &mut SmallRng, shape: [usize; 2], device: &Device) -> Tensor<2> {
    let numbers: Vec<f32> = (0..shape[0] * shape[1])
        .map(|_| rng.sample(StandardNormal))
        .collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn images(rng: &mut SmallRng, batch: usize, device: &Device) -> Tensor<2> {
    let pixels: Vec<f32> = (0..batch * PIXELS)
        .map(|_| f32::from(u8::from(rng.random_bool(0.2))))
        .collect();
    Tensor::from_data(TensorData::new(pixels, [batch, PIXELS]), device)
}

/// Milliseconds of a training step.
fn step(args: &Args, layers: usize) -> f64 {
    let device = args.backend.device().autodiff();
    let mut rng = SmallRng::seed_from_u64(0);
    let images = images(&mut rng, args.batch, &device);
    let mut model = vae(layers, &device);
    let mut optimizer = RmsProp::default().init();
    median(args.repeats, || {
        let noise = normal(&mut rng, [args.batch, LATENT], &device);
        let loss = model.terms(images.clone(), noise).elbo().mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-5, model.clone(), gradients);
        device.sync().expect("the device answers");
    }) * 1e3
}

/// Images a second of ln p(x) by importance sampling.
fn nll(args: &Args, layers: usize) -> f64 {
    let device = args.backend.device();
    let mut rng = SmallRng::seed_from_u64(0);
    let images = images(&mut rng, args.batch, &device);
    let model = vae(layers, &device).no_grad();
    let sampling = ImportanceSampling {
        samples: args.samples,
        rows_at_once: 5000,
    };
    let seconds = median(args.repeats, || {
        let noise = |n| normal(&mut rng, [n * args.batch, LATENT], &device);
        sampling
            .estimate(&model, images.clone(), noise)
            .expect("the device answers");
    });
    args.batch as f64 / seconds
}

/// The median of the seconds that `work` takes.
fn median(repeats: usize, mut work: impl FnMut()) -> f64 {
    (0..repeats.div_ceil(10)).for_each(|_| work());
    let mut seconds: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repeats / 2]
}

/// The most memory that this process has held, where Linux says so.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
