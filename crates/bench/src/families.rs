//! The flows by name; and flows as densities: a step of a fit by maximum likelihood, and samples.

use std::process::ExitCode;

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use burn_flows::{DiagonalGaussian, FlowConfig, ScalarMap, SylvesterBasis};
use clap::ValueEnum;
use fused_optim::Adam;
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;

use crate::{Args, median, normal, peak_mib};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Family {
    Realnvp,
    Maf,
    Spline,
    SplineAutoregressive,
    Planar,
    Radial,
    SylvesterOrthogonal,
}

/// Of a VAE.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Posterior {
    Planar,
    Nice,
    Iaf,
    SylvesterOrthogonal,
}

impl Posterior {
    pub fn config(self, dim: usize, layers: usize) -> FlowConfig {
        match self {
            Self::Planar => FlowConfig::planar(dim, layers),
            Self::Nice => FlowConfig::coupling(dim, layers, ScalarMap::Additive, &HIDDEN),
            Self::Iaf => {
                FlowConfig::inverse_autoregressive(dim, layers, ScalarMap::Affine, &HIDDEN)
            }
            Self::SylvesterOrthogonal => {
                FlowConfig::sylvester(dim, layers, SylvesterBasis::Orthogonal(VECTORS))
            }
        }
    }
}

const VECTORS: usize = 8;
const TRANSFORMS: usize = 5;
const HIDDEN: [usize; 2] = [64, 64];
const BINS: usize = 8;

impl Family {
    fn config(self, dim: usize) -> FlowConfig {
        let coupling = |map| FlowConfig::coupling(dim, TRANSFORMS, map, &HIDDEN);
        let masked = |map| FlowConfig::masked_autoregressive(dim, TRANSFORMS, map, &HIDDEN);
        match self {
            Self::Realnvp => coupling(ScalarMap::Affine),
            Self::Maf => masked(ScalarMap::Affine),
            Self::Spline => coupling(ScalarMap::Spline(BINS)),
            Self::SplineAutoregressive => masked(ScalarMap::Spline(BINS)),
            Self::Planar => FlowConfig::planar(dim, TRANSFORMS),
            Self::Radial => FlowConfig::radial(dim, TRANSFORMS),
            Self::SylvesterOrthogonal => {
                FlowConfig::sylvester(dim, TRANSFORMS, SylvesterBasis::Orthogonal(VECTORS))
            }
        }
    }
}

/// A line for each of the flows.
pub fn run(args: &Args, device: &Device, time: fn(&Args, &FlowConfig, &Device) -> f64) -> ExitCode {
    for &family in &args.flows {
        let config = family.config(args.latent.get());
        let milliseconds = time(args, &config, device);
        let name = family.to_possible_value().expect("none is hidden");
        println!(
            "{}",
            json!({
                "backend": format!("{:?}", args.backend).to_lowercase(),
                "flow": name.get_name(),
                "dim": args.latent.get(),
                "batch": args.batch.get(),
                "median": milliseconds,
                "peak_mib": peak_mib(),
            })
        );
    }
    ExitCode::SUCCESS
}

/// Milliseconds of a step.
pub fn fit(args: &Args, config: &FlowConfig, device: &Device) -> f64 {
    let device = device.clone().autodiff();
    let mut rng = SmallRng::seed_from_u64(0);
    let points = normal(&mut rng, [args.batch.get(), config.dim], &device);
    let mut flow = config.init(&device);
    let mut optimizer = Adam::default().init();
    median(args.repeats.get(), || {
        let base = DiagonalGaussian::standard(config.dim, &device);
        let log_prob = flow.distribution(base, None).log_prob(points.clone());
        let gradients = GradientsParams::from_grads(log_prob.mean().neg().backward(), &flow);
        flow = optimizer.step(1e-3, flow.clone(), gradients);
        device.sync().expect("the device answers");
    }) * 1e3
}

/// Milliseconds of the way from the base.
pub fn sample(args: &Args, config: &FlowConfig, device: &Device) -> f64 {
    let mut rng = SmallRng::seed_from_u64(0);
    let flow = config.init(device);
    let noise: Tensor<2> = normal(&mut rng, [args.batch.get(), config.dim], device);
    median(args.repeats.get(), || {
        drop(flow.forward(noise.clone(), None).value.into_data());
    }) * 1e3
}

/// Milliseconds of the log-densities of points.
pub fn score(args: &Args, config: &FlowConfig, device: &Device) -> f64 {
    let mut rng = SmallRng::seed_from_u64(0);
    let flow = config.init(device);
    let base = DiagonalGaussian::standard(config.dim, device);
    let points: Tensor<2> = normal(&mut rng, [args.batch.get(), config.dim], device);
    median(args.repeats.get(), || {
        let density = flow.distribution(base.clone(), None);
        drop(density.log_prob(points.clone()).into_data());
    }) * 1e3
}
