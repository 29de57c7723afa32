//! Times a training step of the paper's VAE, its evaluation, or what they are made of, and prints one line of JSON for
//! each size.
//!
//! `scripts/compare-peers` runs it in turn with the same model in other frameworks.

#![recursion_limit = "256"] // wgpu's types

use std::{iter::zip, num::NonZeroUsize, process::ExitCode, time::Instant};

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use burn_flows::{Bijection, Planar, PlanarConstraint, Transformed};
use burn_host::{Matrix, product};
use clap::{Parser, ValueEnum};
use flow_vae::{Activation, ImportanceSampling, Likelihood, Vae, VaeConfig};
use fused_optim::{Adam, GradientClip, RmsProp, WeightAverage};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::StandardNormal;
use rayon::prelude::*;
use serde_json::json;

mod families;

/// As the program that trains.
#[path = "../../train/src/process.rs"]
mod process;

const WINDOW: usize = 4;

#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// What to time
    #[arg(value_enum)]
    what: What,
    /// Numbers of planar layers
    #[arg(long, value_delimiter = ',', default_value = "0,10,80")]
    layers: Vec<usize>,
    /// Dimensions of z
    #[arg(long, default_value = "40")]
    latent: NonZeroUsize,
    /// Units of each network's hidden layer
    #[arg(long, default_value = "400")]
    hidden: NonZeroUsize,
    /// Width and height of an image, in pixels
    #[arg(long, default_value = "28")]
    side: NonZeroUsize,
    /// Images of a batch
    #[arg(long, default_value = "100")]
    batch: NonZeroUsize,
    /// How many times, after a tenth as many that do not count
    #[arg(long, default_value = "100")]
    repeats: NonZeroUsize,
    /// Samples an image, of an evaluation
    #[arg(long, default_value = "5000")]
    samples: NonZeroUsize,
    /// The VAE's posterior
    #[arg(long, value_enum, default_value = "planar")]
    flow: families::Posterior,
    /// Flows to fit or to sample
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "realnvp,maf,spline,spline-autoregressive"
    )]
    flows: Vec<families::Family>,
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
}

impl Args {
    fn pixels(&self) -> usize {
        self.side.get().pow(2)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A training step: noise, bound, gradients and the bound on their norm, RMSprop with momentum; in milliseconds
    Step,
    /// What the bound on the gradient's norm adds to a step with Adam, as a share of the rest
    Clip,
    /// What the average of the weights adds to it
    Average,
    /// ln p(x) by importance sampling; in images a second
    Nll,
    /// What a training step cannot do without: its matrix products, and a pass over parameters, gradients and the
    /// optimiser's state; each alone, in milliseconds
    Floor,
    /// The same one after another, as a step has them
    FloorInOrder,
    /// The stack of planar layers alone, with parameters of each image's own, forward and backward; in milliseconds
    Stack,
    /// The same by tensor operations
    StackByTensors,
    /// A step of a density's fit by maximum likelihood, for each of --flows in --latent dimensions: log_prob, gradients,
    /// Adam; in milliseconds
    Fit,
    /// --batch points of each of --flows, from the base; in milliseconds
    Sample,
    /// The log-densities of --batch points, without gradients; in milliseconds
    Score,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    Flex,
    Ndarray,
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda,
}

impl Backend {
    /// The device, or why there is none.
    fn device(self) -> Result<Device, String> {
        Ok(match self {
            Self::Flex => Device::flex(),
            #[allow(deprecated)] // by Burn, in favour of flex; offered all the same
            Self::Ndarray => Device::ndarray(),
            Self::Wgpu => (Device::wgpu_options().init()).map_err(|error| {
                format!("wgpu finds no usable GPU here ({error}); measure on the CPU with --backend flex")
            })?,
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::cuda(0),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    process::keep_memory();
    process::join_the_pool().expect("threads");
    let device = match args.backend.device() {
        Ok(device) => device,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let time: fn(&Args, usize, &Device) -> f64 = match args.what {
        What::Step => step,
        What::Clip => |args, layers, device| extras(args, layers, device)[0],
        What::Average => |args, layers, device| extras(args, layers, device)[1],
        What::Nll => nll,
        What::Floor => |args, layers, _| floor(args, layers, true),
        What::FloorInOrder => |args, layers, _| floor(args, layers, false),
        What::Stack => |args, layers, device| stack(args, layers, device, Planar::forward),
        What::StackByTensors => {
            |args, layers, device| stack(args, layers, device, Planar::forward_by_tensor_operations)
        }
        What::Fit => return families::run(&args, &device, families::fit),
        What::Sample => return families::run(&args, &device, families::sample),
        What::Score => return families::run(&args, &device, families::score),
    };
    for &layers in &args.layers {
        let median = time(&args, layers, &device);
        let backend = format!("{:?}", args.backend).to_lowercase();
        println!(
            "{}",
            json!({
                "backend": backend,
                "layers": layers,
                "latent": args.latent.get(),
                "hidden": args.hidden.get(),
                "side": args.side.get(),
                "batch": args.batch.get(),
                "median": median,
                "peak_mib": peak_mib(),
            })
        );
    }
    ExitCode::SUCCESS
}

/// The paper's model, for images of any size.
fn vae(args: &Args, layers: usize, device: &Device) -> Vae {
    VaeConfig {
        pixels: args.pixels(),
        likelihood: Likelihood::Bernoulli,
        hidden: vec![args.hidden.get()],
        activation: Activation::Maxout { window: WINDOW },
        flow: args.flow.config(args.latent.get(), layers),
    }
    .init(device)
}

fn normal<const D: usize>(rng: &mut SmallRng, shape: [usize; D], device: &Device) -> Tensor<D> {
    let numbers: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.sample(StandardNormal))
        .collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn images(args: &Args, rng: &mut SmallRng, device: &Device) -> Tensor<2> {
    let shape = [args.batch.get(), args.pixels()];
    let pixels: Vec<f32> = (0..shape.iter().product())
        .map(|_| f32::from(u8::from(rng.random_bool(0.2))))
        .collect();
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

/// Milliseconds of a training step.
fn step(args: &Args, layers: usize, device: &Device) -> f64 {
    let device = device.clone().autodiff();
    let mut rng = SmallRng::seed_from_u64(0);
    let images = images(args, &mut rng, &device);
    let mut model = vae(args, layers, &device);
    let (mut clip, mut optimizer) = (GradientClip::new(&device), RmsProp::default().init());
    median(args.repeats.get(), || {
        let noise = normal(&mut rng, [args.batch.get(), args.latent.get()], &device);
        let loss = model.terms(images.clone(), noise).elbo().mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let gradients = clip.clip(&model, gradients);
        model = optimizer.step(1e-5, model.clone(), gradients);
        device.sync().expect("the device answers");
    }) * 1e3
}

/// Seconds of what keeps a training from exploding and of the average, over those of all else in the same steps.
fn extras(args: &Args, layers: usize, device: &Device) -> [f64; 2] {
    let device = device.clone().autodiff();
    let mut rng = SmallRng::seed_from_u64(0);
    let images = images(args, &mut rng, &device);
    let mut model = vae(args, layers, &device);
    let (mut clip, mut optimizer) = (GradientClip::new(&device), Adam::default().init());
    // In the rhythm that it has after its first thousand updates.
    let mut average = WeightAverage::new(&model).after(1 << 20);
    let mut seconds = [0.0; 3];
    let repeats = args.repeats.get();
    for repeat in 0..repeats + repeats.div_ceil(10) {
        let mut start = Instant::now();
        let mut lap = |device: &Device| {
            device.sync().expect("the device answers");
            std::mem::replace(&mut start, Instant::now())
                .elapsed()
                .as_secs_f64()
        };
        let noise = normal(&mut rng, [args.batch.get(), args.latent.get()], &device);
        let loss = model.terms(images.clone(), noise).elbo().mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let mut rest = lap(&device);
        let gradients = clip.clip(&model, gradients);
        let clipping = lap(&device);
        model = optimizer.step(1e-5, model.clone(), gradients);
        rest += lap(&device);
        average = average.follow(&model);
        let averaging = lap(&device);
        if repeat >= repeats.div_ceil(10) {
            for (sum, lap) in zip(&mut seconds, [clipping, averaging, rest]) {
                *sum += lap;
            }
        }
    }
    let [clipping, averaging, rest] = seconds;
    [clipping / rest, averaging / rest]
}

/// Images a second of ln p(x) by importance sampling.
fn nll(args: &Args, layers: usize, device: &Device) -> f64 {
    let mut rng = SmallRng::seed_from_u64(0);
    let images = images(args, &mut rng, device);
    let model = vae(args, layers, device).no_grad();
    let sampling = ImportanceSampling {
        samples: args.samples.get(),
        rows_at_once: 5000,
    };
    let seconds = median(args.repeats.get(), || {
        let noise = |n| normal(&mut rng, [n * args.batch.get(), args.latent.get()], device);
        sampling
            .estimate(&model, images.clone(), noise)
            .expect("the device answers");
    });
    args.batch.get() as f64 / seconds
}

/// Milliseconds of the matrix products of a training step and of a pass over memory: each `alone`, again and again with
/// its operands in the cache, or one after another as in a step, where each finds what the others have left there.
fn floor(args: &Args, layers: usize, alone: bool) -> f64 {
    let (rows, latent) = (args.batch.get(), args.latent.get());
    let (units, pixels) = (args.hidden.get(), args.pixels());
    let numbers = layers * Planar::parameters_per_layer(latent);
    let mut sizes = vec![
        [pixels, units * WINDOW],
        [units, 2 * latent],
        [units, numbers],
        [latent, units * WINDOW],
        [units, pixels],
    ];
    sizes.retain(|[_, outputs]| *outputs > 0);
    let of = |rows: usize, columns: usize| vec![0.5_f32; rows * columns];
    let numbers: Vec<[Vec<f32>; 3]> = (sizes.iter())
        .map(|&[inputs, outputs]| [of(rows, inputs), of(inputs, outputs), of(rows, outputs)])
        .collect();
    let matrices: Vec<[Matrix<'_>; 3]> = zip(&numbers, &sizes)
        .map(|([x, w, g], &[inputs, outputs])| {
            [
                Matrix::new(x, [rows, inputs]),
                Matrix::new(w, [inputs, outputs]),
                Matrix::new(g, [rows, outputs]),
            ]
        })
        .collect();
    let parameters: usize = (sizes.iter())
        .map(|[inputs, outputs]| (inputs + 1) * outputs)
        .sum();
    let parameter = vec![0.5_f32; parameters];
    let mut rest = [(); 3].map(|()| vec![0.5_f32; parameters]);

    let mut works: Vec<Box<dyn FnMut() + '_>> = Vec::new();
    for &[x, w, _] in &matrices {
        works.push(Box::new(move || drop(product(x, w, None))));
    }
    for (layer, &[x, w, g]) in matrices.iter().enumerate().rev() {
        works.push(Box::new(move || drop(product(x.transpose(), g, None))));
        // Images, the first inputs, want no gradient.
        if layer > 0 {
            works.push(Box::new(move || drop(product(g, w.transpose(), None))));
        }
    }
    works.push(Box::new(|| pass(&parameter, &mut rest)));

    let repeats = args.repeats.get();
    let seconds: f64 = if alone {
        works.iter_mut().map(|work| median(repeats, work)).sum()
    } else {
        median(repeats, || works.iter_mut().for_each(|work| work()))
    };
    seconds * 1e3
}

/// Reads the parameters, and reads and writes the gradients and the optimiser's two states.
fn pass(parameter: &[f32], [gradient, first, second]: &mut [Vec<f32>; 3]) {
    const CHUNK: usize = 1 << 14;
    (
        parameter.par_chunks(CHUNK),
        gradient.par_chunks_mut(CHUNK),
        first.par_chunks_mut(CHUNK),
        second.par_chunks_mut(CHUNK),
    )
        .into_par_iter()
        .for_each(|(p, g, a, b)| {
            for (((p, g), a), b) in p.iter().zip(g).zip(a).zip(b) {
                *a += *g;
                *b += *a;
                *g = *p + *b;
            }
        });
}

/// Milliseconds of the stack, forward and backward.
fn stack(
    args: &Args,
    layers: usize,
    device: &Device,
    forward: fn(&Planar, Tensor<2>) -> Transformed,
) -> f64 {
    let device = device.clone().autodiff();
    let mut rng = SmallRng::seed_from_u64(0);
    let numbers = Planar::parameters_per_layer(args.latent.get());
    let raw = normal(&mut rng, [args.batch.get(), layers, numbers], &device) * 0.1;
    let raw = raw.detach().require_grad();
    let z = normal(&mut rng, [args.batch.get(), args.latent.get()], &device).require_grad();
    median(args.repeats.get(), || {
        let end = forward(
            &Planar::new(raw.clone(), PlanarConstraint::Paper),
            z.clone(),
        );
        drop((end.value.sum() + end.log_det.sum()).backward());
        device.sync().expect("the device answers");
    }) * 1e3
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
