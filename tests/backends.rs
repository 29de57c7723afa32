//! The same numbers on every backend, in the library and from the command line.

use std::{collections::BTreeMap, path::Path, process::Command};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use burn_flows::{Bijection, FlowConfig, Planar, PlanarConstraint};
use end_to_end::{Outcome, Place, TINY, cifar, gradients, ndarray, program, wgpu};
use flow_vae::{Activation, Likelihood, VaeConfig};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Named tensors.
type Numbers = BTreeMap<String, Vec<f32>>;

/// Two backends add the same numbers in another order: some 100 roundings of 6e-8.
const ROUNDING: f32 = 1e-5;

/// Fails where numbers differ by more than [`ROUNDING`] of what was added up to get them: of the largest of
/// their tensor, or of `unit` where that is more.
#[track_caller]
fn assert_close(got: &Numbers, expected: &Numbers, unit: f32) {
    assert!(got.keys().eq(expected.keys()));
    for (name, expected) in expected {
        let got = &got[name];
        assert_eq!(got.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(unit, |most, e| e.abs().max(most));
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            assert!(
                (g - e).abs() <= ROUNDING * scale,
                "{name}[{i}]: {g} instead of {e}, with numbers of size {scale}"
            );
        }
    }
}

/// `rows` of `columns` numbers, the same on each call: not of a device's generator, which all tests here share.
fn numbers(shape: [usize; 2], distribution: impl Distribution<f32>, device: &Device) -> Tensor<2> {
    let numbers: Vec<f32> = ChaCha8Rng::seed_from_u64(1)
        .sample_iter(distribution)
        .take(shape.iter().product())
        .collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

fn vae(likelihood: Likelihood) -> VaeConfig {
    VaeConfig {
        pixels: 16,
        likelihood,
        hidden: vec![12, 8],
        activation: Activation::Maxout { window: 2 },
        flow: FlowConfig::planar(3, 3),
    }
}

/// The terms of the bound and the gradients of the loss, with the weights of `file`.
fn vae_numbers(file: &Path, likelihood: Likelihood, device: Device) -> Numbers {
    let device = device.autodiff();
    let vae = vae(likelihood).init(&device).try_load_file(file).unwrap();
    let grey = numbers([8, 16], Uniform::new(1e-4, 1.0 - 1e-4).unwrap(), &device);
    let images = match likelihood {
        Likelihood::Bernoulli => grey.lower_elem(0.4).float(),
        Likelihood::LogitNormal => grey,
    };
    let terms = vae.terms(images, numbers([8, 3], StandardNormal, &device));
    let loss = terms.elbo().mean().neg();
    let mut numbers = gradients(&vae, &loss.backward());
    for (name, term) in [
        ("log p(x|z)", terms.log_likelihood),
        ("log p(z)", terms.log_prior),
        ("log q(z|x)", terms.log_posterior),
    ] {
        numbers.insert(name.into(), term.into_data().iter::<f32>().collect());
    }
    numbers
}

#[track_caller]
fn compare_vaes(device: Device) {
    for likelihood in [Likelihood::Bernoulli, Likelihood::LogitNormal] {
        let folder = Place::new();
        let file = folder.path("model.bpk");
        vae(likelihood)
            .init(&Device::flex())
            .save_file(&file)
            .unwrap();
        let expected = vae_numbers(&file, likelihood, Device::flex());
        for (name, numbers) in &expected {
            assert!(numbers.iter().any(|&e| e != 0.0), "{name} says nothing");
        }
        let got = vae_numbers(&file, likelihood, device.clone());
        assert_close(&got, &expected, 1e-3);
    }
}

#[test]
fn the_vae_on_ndarray() {
    compare_vaes(ndarray());
}

#[test]
fn the_vae_on_wgpu() {
    compare_vaes(wgpu());
}

/// A layer whose u and w have the product `wu`, forward or backward, with the gradients of everything.
fn planar_numbers(
    wu: f32,
    constraint: PlanarConstraint,
    points: &[f32],
    inverse: bool,
    device: Device,
) -> Numbers {
    let device = device.autodiff();
    // u = wu w / ‖w‖² + something orthogonal to w, and b = 0.
    let (w, across) = ([1.0, 2.0, -1.0], [1.0, 0.0, 1.0]);
    let u = [0, 1, 2].map(|i| w[i] * wu / 6.0 + across[i]);
    let raw = [&u[..], &w, &[0.0]].concat();
    let raw = Tensor::from_data(TensorData::new(raw, [1, 1, 7]), &device).require_grad();
    let planar = Planar::new(raw.clone(), constraint);

    let points = TensorData::new(points.to_vec(), [points.len() / 3, 3]);
    let points = Tensor::<2>::from_data(points, &device).require_grad();
    let end = if inverse {
        planar.inverse(points.clone())
    } else {
        planar.forward(points.clone())
    };
    let gradients = (end.value.clone().sum() + end.log_det.clone().sum()).backward();
    [
        ("value", end.value.into_data()),
        ("log det", end.log_det.into_data()),
        ("d points", points.grad(&gradients).unwrap().into_data()),
        ("d parameters", raw.grad(&gradients).unwrap().into_data()),
    ]
    .map(|(what, data)| (what.into(), data.iter::<f32>().collect()))
    .into()
}

#[track_caller]
fn compare_planars(device: &Device) {
    // On the plane w·z + b = 0 the determinant is as small as it gets; the other points are not near it,
    // where the way back is well-conditioned.
    let plane = [1.0, 0.0, 1.0];
    let away = [1.5, 0.2, 0.1, -0.3, -0.9, 0.4, 0.8, 0.7, -0.6];
    for constraint in [PlanarConstraint::Paper, PlanarConstraint::Identity] {
        for wu in [-50.0, -20.0, 0.0, 50.0] {
            for (points, inverse) in [(&plane[..], false), (&away, false), (&away, true)] {
                println!("{constraint:?}, w.u = {wu}, {points:?}, inverse: {inverse}");
                let run = |device| planar_numbers(wu, constraint, points, inverse, device);
                // The logarithm of a determinant near 1 is as inexact as the determinant.
                assert_close(&run(device.clone()), &run(Device::flex()), 1.0);
            }
        }
    }
}

#[test]
fn adversarial_planar_layers_on_ndarray() {
    compare_planars(&ndarray());
}

#[test]
fn adversarial_planar_layers_on_wgpu() {
    compare_planars(&wgpu());
}

/// Trains an epoch here and an epoch there, and evaluates in both places, which must agree: the random
/// numbers are the host's. On zeros and ones, and on numbers between.
fn moves(here: &str, there: &str) {
    run_moves("", here, there);
    run_moves("--dataset cifar10-patches --data-dir set", here, there);
}

fn run_moves(data: &str, here: &str, there: &str) {
    let at = Place::new();
    cifar(&at, "set");
    at.train(&format!(
        "{TINY} {data} --epochs 1 --output run --backend {here}"
    ))
    .succeeds();
    at.train(&format!("--resume run --epochs 2 --backend {there}"))
        .succeeds();
    let elbo = at.numbers("run/metrics.csv", "valid_elbo");
    assert!(elbo[0] < elbo[1], "{elbo:?}");

    for backend in [here, there] {
        at.train(&format!("evaluate run --samples 5 --backend {backend}"))
            .succeeds();
    }
    let file = "run/evaluations.csv";
    assert_eq!(at.column(file, "backend"), [here, there]);
    for name in ["elbo", "kl", "nll"] {
        let [a, b] = at.numbers(file, name)[..] else {
            panic!("two evaluations have two rows")
        };
        assert!((a - b).abs() < 1e-3, "{name}: {a} and {b} nats");
    }
}

#[test]
fn a_run_moves_from_ndarray_to_flex() {
    moves("ndarray", "flex");
}

#[test]
fn a_run_moves_from_wgpu_to_flex() {
    wgpu(); // fails here, with advice, where there is no driver
    moves("wgpu", "flex");
}

/// Runs `train` where Vulkan and EGL find no driver.
#[cfg(target_os = "linux")]
fn without_gpu(at: &Place, arguments: &str) -> Outcome {
    let mut command = Command::new(program());
    for variable in [
        "VK_DRIVER_FILES",
        "VK_ICD_FILENAMES",
        "__EGL_VENDOR_LIBRARY_FILENAMES",
    ] {
        command.env(variable, "none.json");
    }
    command.args(arguments.split_whitespace());
    at.spawn(command).finish()
}

#[cfg(target_os = "linux")]
#[test]
fn cpu_backends_need_no_gpu() {
    for backend in ["flex", "ndarray"] {
        let at = Place::new();
        for arguments in [
            &format!("{TINY} --epochs 1 --output run --backend {backend}"),
            "--resume run --epochs 2",
            "evaluate run --samples 2",
            "sample run",
        ] {
            without_gpu(&at, arguments).succeeds();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn wgpu_without_a_driver_says_what_to_install() {
    let at = Place::new();
    without_gpu(&at, "--backend wgpu").fails(1, &["wgpu", "mesa-vulkan-drivers", "--backend flex"]);
    assert!(at.files().is_empty());
}
