//! A device that computes wrong numbers must not train.
//!
//! GPU drivers have done so: a run then ends well, having learned nothing. So before the first step each operation
//! that a training uses is computed on the device and on the CPU, with the same random numbers.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Gradients, Tensor, TensorData, activation::sigmoid},
};
use burn_flows::{Bijection, CouplingConfig, FlowConfig, Planar, PlanarConstraint, ScalarMap};
use flow_vae::{Activation, Likelihood, Vae, VaeConfig};
use rand::{SeedableRng, rngs::ChaCha8Rng};

use crate::random::fill_normal;

/// Something that is computed on both.
struct Operation {
    name: &'static str,
    run: fn(&Device) -> Vec<Vec<f32>>,
}

const OPERATIONS: [Operation; 7] = [
    Operation {
        name: "products of matrices",
        run: products,
    },
    Operation {
        name: "sums",
        run: sums,
    },
    Operation {
        name: "elementary functions",
        run: elementary,
    },
    Operation {
        name: "planar layers and their gradients",
        run: planar,
    },
    Operation {
        name: "maps of one number and their gradients",
        run: maps,
    },
    Operation {
        name: "a training step of a small VAE",
        run: |device| step(Likelihood::Bernoulli, device),
    },
    Operation {
        name: "a training step of a small VAE of logit-normal pixels",
        run: |device| step(Likelihood::LogitNormal, device),
    },
];

/// Two devices add in different orders and have different elementary functions, all of them good to some 1e-6 of the
/// largest number; what is wrong is wrong by far more than this.
const TOLERANCE: f32 = 1e-3;

/// Where a device disagrees with the CPU.
#[derive(Debug, thiserror::Error)]
#[error("{operation} come out wrong: {got} where the CPU has {expected}")]
pub struct Disagreement {
    operation: &'static str,
    got: f32,
    expected: f32,
}

/// Compares `device` with `cpu`.
///
/// # Errors
///
/// With the first operation in which they disagree.
pub fn check(device: &Device, cpu: &Device) -> Result<(), Disagreement> {
    compare(&OPERATIONS, device, cpu)
}

fn compare(operations: &[Operation], device: &Device, cpu: &Device) -> Result<(), Disagreement> {
    for Operation { name, run } in operations {
        for (got, expected) in run(device).iter().zip(run(cpu)) {
            let scale = expected.iter().fold(0.0, |most: f32, e| most.max(e.abs()));
            for (&got, &expected) in got.iter().zip(&expected) {
                // What is no number does not agree.
                let agrees = (got - expected).abs() <= TOLERANCE * scale;
                if !agrees {
                    return Err(Disagreement {
                        operation: name,
                        got,
                        expected,
                    });
                }
            }
        }
    }
    Ok(())
}

/// The same normal numbers on every device.
fn normal<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut values = vec![0.0; shape.iter().product()];
    fill_normal(&mut ChaCha8Rng::seed_from_u64(seed), &mut values);
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Of odd, of usual and of long sides.
fn products(device: &Device) -> Vec<Vec<f32>> {
    [[7, 13, 5], [100, 64, 40], [33, 784, 100]]
        .map(|[rows, inner, columns]| {
            let a = normal([rows, inner], 1, device);
            numbers(a.matmul(normal([inner, columns], 2, device)))
        })
        .into()
}

fn sums(device: &Device) -> Vec<Vec<f32>> {
    let x = normal([100, 784], 3, device);
    vec![
        numbers(x.clone().sum_dim(0)),
        numbers(x.clone().sum_dim(1)),
        numbers(x.square().sum()),
    ]
}

fn elementary(device: &Device) -> Vec<Vec<f32>> {
    let x = normal([1000], 4, device);
    // A number counts beside the largest of its list: of some within e³ none is small.
    let [rising, falling] = [x.clone().abs().exp(), x.clone().abs().neg().exp()].map(numbers);
    let x = x * 3.0;
    vec![
        rising,
        falling,
        numbers(x.clone().exp()),
        numbers(x.clone().abs().add_scalar(0.1).log()),
        numbers(x.clone().tanh()),
        numbers(x.clone().abs().sqrt()),
        numbers(sigmoid(x)),
    ]
}

fn planar(device: &Device) -> Vec<Vec<f32>> {
    let (owners, layers, dim) = (33, 5, 6);
    let device = &device.clone().autodiff();
    let raw = normal([owners, layers, 2 * dim + 1], 5, device).require_grad();
    let z = normal([2 * owners, dim], 6, device).require_grad();
    let moved = Planar::new(raw.clone(), PlanarConstraint::Paper).forward(z.clone());
    let loss = (moved.value.clone() * normal([2 * owners, dim], 7, device)).sum()
        + (moved.log_det.clone() * normal([2 * owners], 8, device)).sum();
    let gradients = loss.backward();
    vec![
        numbers(moved.value),
        numbers(moved.log_det),
        numbers(raw.grad(&gradients).expect("a leaf")),
        numbers(z.grad(&gradients).expect("a leaf")),
    ]
}

/// Of coupling layers, in both directions.
fn maps(device: &Device) -> Vec<Vec<f32>> {
    let (rows, dim) = (33, 5);
    let device = &device.clone().autodiff();
    let layers = [ScalarMap::Additive, ScalarMap::Affine, ScalarMap::Spline(8)].map(|map| {
        let hidden = vec![];
        CouplingConfig { map, hidden }.into()
    });
    let flow = FlowConfig::new(dim, layers.into()).init(device);
    let flow = flow.map(&mut Normal { seed: 12, std: 1.0 });
    let z = normal([rows, dim], 7, device).require_grad();
    let [there, back] = [flow.forward(z.clone(), None), flow.inverse(z.clone(), None)];
    let loss = ((there.value.clone() - back.value.clone()) * normal([rows, dim], 8, device)).sum()
        + ((there.log_det.clone() - back.log_det.clone()) * normal([rows], 9, device)).sum();
    let gradients = loss.backward();
    let mut all = AllGradients {
        gradients: &gradients,
        numbers: vec![
            numbers(there.value),
            numbers(there.log_det),
            numbers(back.value),
            numbers(back.log_det),
            numbers(z.grad(&gradients).expect("a leaf")),
        ],
    };
    flow.visit(&mut all);
    all.numbers
}

/// Normal numbers for all weights, of seeds after this one: the same on every device, whoever else draws on it.
struct Normal {
    seed: u64,
    std: f32,
}

impl ModuleMapper for Normal {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.seed += 1;
        param.map(|weights| {
            let weights = normal(weights.dims(), self.seed, &weights.device());
            (weights * self.std).require_grad()
        })
    }
}

fn step(likelihood: Likelihood, device: &Device) -> Vec<Vec<f32>> {
    let config = VaeConfig {
        pixels: 50,
        likelihood,
        hidden: vec![20],
        activation: Activation::Maxout { window: 4 },
        flow: FlowConfig::planar(3, 2),
    };
    let device = &device.clone().autodiff();
    let vae: Vae = config.init(device).map(&mut Normal { seed: 20, std: 0.2 });
    let grey = sigmoid(normal([40, 50], 10, device));
    let images = match likelihood {
        Likelihood::Bernoulli => grey.greater_elem(0.5).float(),
        Likelihood::LogitNormal => grey,
    };
    let terms = vae.terms(images, normal([40, 3], 11, device));
    let elbo = terms.elbo();
    let mut gradients = AllGradients {
        gradients: &elbo.clone().mean().backward(),
        numbers: vec![numbers(elbo)],
    };
    vae.visit(&mut gradients);
    gradients.numbers
}

struct AllGradients<'a> {
    gradients: &'a Gradients,
    numbers: Vec<Vec<f32>>,
}

impl ModuleVisitor for AllGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("a weight");
        self.numbers.push(numbers(gradient));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_and_with_another() {
        check(&Device::flex(), &Device::flex()).unwrap();
        #[allow(deprecated)]
        check(&Device::ndarray(), &Device::flex()).unwrap();
    }

    /// As many numbers as the operations have: values, log-determinants, gradients of inputs and of all weights, of none of
    /// which all are zero.
    #[test]
    fn every_operation_is_compared() {
        let device = Device::flex();
        let counts: Vec<Vec<usize>> = (OPERATIONS.iter())
            .map(|operation| {
                let all = (operation.run)(&device);
                for numbers in &all {
                    let is_some = numbers.iter().any(|&number| number != 0.0);
                    let is_finite = numbers.iter().all(|number| number.is_finite());
                    assert!(is_some && is_finite, "{}: {numbers:?}", operation.name);
                }
                all.iter().map(Vec::len).collect()
            })
            .collect();
        assert_eq!(counts[0], [7 * 5, 100 * 40, 33 * 100]);
        assert_eq!(counts[1], [784, 100, 1]);
        assert_eq!(counts[2], [1000; 7]);
        assert_eq!(counts[3], [66 * 6, 66, 33 * 5 * 13, 66 * 6]);
        assert_eq!(counts[4][..5], [33 * 5, 33, 33 * 5, 33, 33 * 5]);
        // A value of additive coupling moves by one number, of affine by two, of splines with eight bins by 23; two of the five
        // dimensions give three others theirs, without hidden layers.
        let weights: usize = counts[4][5..].iter().sum();
        let of_maps = [1, 2, 23].map(|n| 3 * n * (2 + 1));
        assert_eq!(weights, of_maps.iter().sum::<usize>());
        let of_a_step = |outputs: usize| {
            let hidden = |inputs: usize| 4 * 20 * (inputs + 1);
            // Mean and logarithm of the variance of three dimensions; two layers of w, u and b.
            let (base, flow) = (6 * (20 + 1), 2 * 7 * (20 + 1));
            40 + hidden(50) + base + flow + hidden(3) + outputs * (20 + 1)
        };
        assert_eq!(counts[5].iter().sum::<usize>(), of_a_step(50));
        assert_eq!(counts[6].iter().sum::<usize>(), of_a_step(2 * 50));
    }

    #[test]
    fn what_is_wrong_is_named() {
        fn more(device: &Device) -> Vec<Vec<f32>> {
            moved(device, 1.0)
        }
        fn less(device: &Device) -> Vec<Vec<f32>> {
            moved(device, -1.0)
        }
        fn moved(device: &Device, by: f32) -> Vec<Vec<f32>> {
            let wrong = *device != Device::flex();
            let mut numbers = sums(device);
            numbers[1][50] += if wrong { by } else { 0.0 };
            numbers
        }
        fn lost(device: &Device) -> Vec<Vec<f32>> {
            let wrong = *device != Device::flex();
            let mut numbers = planar(device);
            if wrong {
                numbers[3][0] = f32::NAN;
            }
            numbers
        }
        #[allow(deprecated)]
        let other = Device::ndarray();
        for run in [more, less, lost] {
            let operations = [
                OPERATIONS.into_iter().next().unwrap(),
                Operation { name: "these", run },
            ];
            let error = compare(&operations, &other, &Device::flex()).unwrap_err();
            assert!(
                error.to_string().starts_with("these come out wrong"),
                "{error}"
            );
            compare(&operations, &Device::flex(), &Device::flex()).unwrap();
        }
    }
}
