//! Autoregressive layers: inverse autoregressive flows (Kingma et al. 2016) as they stand, masked autoregressive flows
//! (Papamakarios et al. 2017) the other way round, with affine maps or splines (Durkan et al. 2019), of angles too (Rezende et al.
//! 2020).
//!
//! Each coordinate goes through a monotone map of one number whose parameters a masked network (MADE) makes of the
//! coordinates before it, and of a context if there is one:
//!
//! ```text
//! f(z)_i = g(z_i; θ_i(z_1, …, z_i-1, context)),      log |det| = Σ ln g'
//! ```
//!
//! f is one pass of the network, and so is its inverse on flex and ndarray (`ops/autoregressive.rs`); elsewhere that is a pass for
//! each coordinate: z_i is known when those before it are.

use std::sync::Arc;

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, ScalarMap, Transformed,
    bijection::check_points,
    conditioner::{BoundConditioner, Conditioner},
    map::Direction,
    network::{Network, check_widths},
    ops,
};

/// One autoregressive layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoregressiveConfig {
    /// What is done to each coordinate.
    pub map: ScalarMap,
    /// Widths of the network's hidden ReLU layers.
    pub hidden: Vec<usize>,
}

impl AutoregressiveConfig {
    pub(crate) fn size(&self, dim: usize, context: Option<usize>) -> FlowSize {
        let outputs = dim.saturating_mul(self.map.parameters());
        let inputs = dim.saturating_mul(self.map.seen());
        let widths = [&[inputs], &self.hidden[..], &[outputs]].concat();
        FlowSize::of_network(&widths, context)
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        check_widths(&self.hidden)?;
        self.map.check()
    }

    /// Starts as the identity.
    pub(crate) fn init(
        &self,
        dim: usize,
        context: Option<usize>,
        device: &Device,
    ) -> Autoregressive {
        let numbers = [self.map.seen(), self.map.parameters()];
        let network =
            Network::autoregressive(dim, numbers, context.is_some(), &self.hidden, device);
        Autoregressive {
            conditioner: Conditioner::new(self.map, network),
        }
    }
}

/// What a layer owns.
#[derive(Module, Debug)]
pub struct Autoregressive {
    conditioner: Conditioner,
}

impl Autoregressive {
    pub fn network(&self) -> &Network {
        self.conditioner.network()
    }

    pub fn bind(&self, dim: usize, of_context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        Arc::new(BoundAutoregressive {
            conditioner: self.conditioner.bind(of_context),
            dim,
        })
    }
}

#[derive(Clone, Debug)]
struct BoundAutoregressive {
    conditioner: BoundConditioner,
    dim: usize,
}

impl BoundAutoregressive {
    /// Of a row at least.
    fn map(&self, z: Tensor<2>) -> Transformed {
        let z = self.conditioner.map.reduced(z);
        let raw = self.conditioner.raw(z.clone());
        (self.conditioner.map).apply(Direction::Forward, z, 0, raw)
    }

    /// A pass of the network for each coordinate.
    fn inverse_by_tensor_operations(&self, y: Tensor<2>) -> Transformed {
        let ([rows, dim], map) = (y.dims(), self.conditioner.map);
        let zeros = |columns: usize| Tensor::zeros([rows, columns], (&y.device(), y.dtype()));
        let (mut z, mut log_det) = (Vec::new(), zeros(1).squeeze_dim(1));
        for i in 0..dim {
            // What is not known yet is not looked at.
            let known = Tensor::cat([z.clone(), vec![zeros(dim - i)]].concat(), 1);
            let of_i = i * map.parameters()..(i + 1) * map.parameters();
            let raw = self.conditioner.raw(known).slice_dim(1, of_i);
            let start = map.apply(Direction::Inverse, y.clone().slice_dim(1, i..i + 1), 0, raw);
            z.push(start.value);
            log_det = log_det + start.log_det;
        }
        Transformed {
            value: Tensor::cat(z, 1),
            log_det,
        }
    }
}

impl Bijection for BoundAutoregressive {
    fn dim(&self) -> usize {
        self.dim
    }

    fn owners(&self) -> usize {
        self.conditioner.owners()
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        check_points("an autoregressive layer", &z, self.owners(), self.dim);
        match z.dims() {
            [0, _] => Transformed::identity(z),
            _ => self.map(z),
        }
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        check_points("an autoregressive layer", &y, self.owners(), self.dim);
        if y.dims()[0] == 0 {
            return Transformed::identity(y);
        }
        let parameters = || self.conditioner.masked();
        ops::autoregressive::inverse(&y, parameters, |z| self.map(z))
            .unwrap_or_else(|| self.inverse_by_tensor_operations(y))
    }

    fn preserves_volume(&self) -> bool {
        self.conditioner.map == ScalarMap::Additive
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::{
        module::{ModuleMapper, ModuleVisitor, Param},
        tensor::{DType, Gradients, TensorData},
    };

    use super::*;

    /// Numbers between -`size` and `size` that look random, and are the same in every float type.
    fn numbers<const D: usize>(shape: [usize; D], size: f32, dtype: DType) -> Tensor<D> {
        let n = shape.iter().product();
        let number = |i: usize| (i as u32).wrapping_mul(2_654_435_769) as f32 / u32::MAX as f32;
        let numbers: Vec<f32> = (1..=n).map(|i| (2.0 * number(i) - 1.0) * size).collect();
        let data = TensorData::new(numbers, shape).convert_dtype(dtype);
        Tensor::from_data(data, (&Device::flex().autodiff(), dtype))
    }

    /// Weights away from the start, where the last ones are 0.
    struct Shaken(DType);

    impl ModuleMapper for Shaken {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weights| numbers(weights.dims(), 0.2, self.0).require_grad())
        }
    }

    struct Collected<'a>(&'a Gradients, Vec<TensorData>);

    impl ModuleVisitor for Collected<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0).expect("all take part");
            self.1.push(gradient.into_data());
        }
    }

    /// Value, log-determinant, and the gradients of points, context and weights of a weighted sum of both.
    fn run(
        config: &AutoregressiveConfig,
        dim: usize,
        context: Option<usize>,
        dtype: DType,
        inverse: fn(&BoundAutoregressive, Tensor<2>) -> Transformed,
    ) -> Vec<Vec<f64>> {
        let (owners, n) = (context.map_or(1, |_| 3), 50);
        let layer = config.init(dim, context, &Device::flex().autodiff());
        let layer = layer.map(&mut Shaken(dtype));
        let width = layer.network().first_width();
        let context = context.map(|_| numbers([owners, width], 1.0, dtype).require_grad());
        let y = numbers([n * owners, dim], 4.0, dtype).require_grad();
        let bound = BoundAutoregressive {
            conditioner: layer.conditioner.bind(context.clone()),
            dim,
        };
        let start = inverse(&bound, y.clone());
        let loss = (start.value.clone() * numbers([n * owners, dim], 1.0, dtype)).sum()
            + (start.log_det.clone() * numbers([n * owners], 0.5, dtype)).sum();
        let gradients = loss.backward();
        let mut of_weights = Collected(&gradients, Vec::new());
        layer.visit(&mut of_weights);
        let given = [Some(&y), context.as_ref()].into_iter().flatten();
        let of_given = given.map(|tensor| tensor.grad(&gradients).unwrap().into_data());
        ([start.value.into_data(), start.log_det.into_data()].into_iter())
            .chain(of_given)
            .chain(of_weights.1)
            .map(|data| data.iter::<f64>().collect())
            .collect()
    }

    /// A frozen flow under an encoder that learns, points that move under a frozen flow, and checkpoints.
    #[test]
    fn gradients_come_to_whoever_wants_them() {
        let plain = Device::flex();
        let (tracked, checkpointed) = (
            Device::flex().autodiff(),
            Device::flex().autodiff().gradient_checkpointing(),
        );
        let map = ScalarMap::Affine;
        let config = AutoregressiveConfig {
            map,
            hidden: vec![8],
        };
        let layer = config.init(3, Some(2), &plain);
        let layer = layer.map(&mut Frozen);
        for (of_context, of_y) in [
            (&tracked, &plain),
            (&plain, &tracked),
            (&checkpointed, &checkpointed),
        ] {
            let there = |numbers: Tensor<2>, device: &Device| {
                let tensor = Tensor::<2>::from_data(numbers.into_data(), device);
                match device.is_autodiff() {
                    true => tensor.require_grad(),
                    false => tensor,
                }
            };
            let context = there(numbers([2, 8], 1.0, DType::F32), of_context);
            let y = there(numbers([6, 3], 2.0, DType::F32), of_y);
            let gradients = |inverse: fn(&BoundAutoregressive, Tensor<2>) -> Transformed| {
                let bound = BoundAutoregressive {
                    conditioner: layer.conditioner.bind(Some(context.clone())),
                    dim: 3,
                };
                let start = inverse(&bound, y.clone());
                let gradients = (start.value.sum() + start.log_det.sum()).backward();
                [&context, &y]
                    .into_iter()
                    .filter(|tensor| tensor.is_autodiff())
                    .flat_map(|tensor| {
                        tensor
                            .grad(&gradients)
                            .unwrap()
                            .into_data()
                            .iter::<f32>()
                            .collect::<Vec<_>>()
                    })
                    .collect::<Vec<_>>()
            };
            let got = gradients(Bijection::inverse);
            let expected = gradients(BoundAutoregressive::inverse_by_tensor_operations);
            assert!(!got.is_empty() && got.len() == expected.len());
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-4, "{got}, not {expected}");
            }
        }
    }

    /// The same without gradients.
    struct Frozen;

    impl ModuleMapper for Frozen {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weights| {
                let data = numbers(weights.dims(), 0.2, DType::F32).into_data();
                Tensor::from_data(data, &weights.device())
            })
        }
    }

    /// The one pass in `f32` is as far from a pass for each coordinate in `f64` as the same in `f32` is, at most several times:
    /// each rounds in an order of its own. (Gradients are those at the z that is returned. In bins that are narrow for `f32`, which
    /// larger weights make, its rounding shows: 1e-3 of the largest gradient with twice these.)
    #[test]
    fn one_pass_is_as_good_as_one_for_each_coordinate() {
        let maps = [
            ScalarMap::Additive,
            ScalarMap::Affine,
            ScalarMap::Spline(4),
            ScalarMap::CircularSpline(4),
            ScalarMap::Sigmoidal(4),
        ];
        for (map, hidden) in maps.iter().flat_map(|map| {
            // Fewer units than coordinates, more, and none.
            [vec![], vec![3], vec![8, 8], vec![7, 20, 5]].map(|hidden| (*map, hidden))
        }) {
            let config = AutoregressiveConfig { map, hidden };
            for (dim, context) in [(1, Some(2)), (2, None), (6, None), (6, Some(2))] {
                let by_tensors = BoundAutoregressive::inverse_by_tensor_operations;
                let exact = run(&config, dim, context, DType::F64, by_tensors);
                let rounded = run(&config, dim, context, DType::F32, by_tensors);
                let got = run(&config, dim, context, DType::F32, Bijection::inverse);
                for (i, exact) in exact.iter().enumerate() {
                    let largest = exact.iter().fold(1e-3_f64, |most, x| most.max(x.abs()));
                    let error = |got: &[f64]| {
                        let differences = got.iter().zip(exact).map(|(a, b)| (a - b).abs());
                        differences.fold(0.0, f64::max) / largest
                    };
                    let (error, usual) = (error(&got[i]), error(&rounded[i]));
                    assert!(
                        error <= 16.0 * usual + 2e-6,
                        "{config:?}, {dim} dimensions, context {context:?}, number {i}: {error:e}, usual {usual:e}"
                    );
                }
            }
        }
    }
}
