//! Weights in and out as safetensors. `pytorch.json` and the weights beside it come from `pytorch.py`, whose flows are
//! PyTorch modules.

mod support;

use std::path::Path;

use burn::{
    store::{
        ModuleSnapshot, ModuleStore, PyTorchToBurnAdapter, SafetensorsStore, bridge, burn_pack,
    },
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_flows::{
    ActNormConfig, AutoregressiveConfig, CouplingConfig, DiagonalGaussian, Flow, FlowConfig,
    LuLinearConfig, PartConfig, PermutationConfig, PlanarConfig, RotationConfig, ScalarMap,
    SylvesterBasis,
};
use serde::Deserialize;
use support::{assert_close, tensor, values};

#[derive(Deserialize)]
struct Golden {
    points: Vec<[f64; 3]>,
    planar: Vec<f64>,
    realnvp: Vec<f64>,
    maf: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("pytorch.json")).unwrap()
}

fn written_by_pytorch(name: &str) -> SafetensorsStore {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    SafetensorsStore::from_file(folder.join(format!("pytorch_{name}.safetensors")))
}

/// As the README tells it.
fn networks_of_pytorch(name: &str) -> SafetensorsStore {
    written_by_pytorch(name)
        .with_from_adapter(PyTorchToBurnAdapter)
        .skip_enum_variants(true)
        .map_indices_contiguous(true)
        .with_key_remapping(r"^layers\.", "parts.")
        .with_key_remapping(r"\.net\.", ".conditioner.layers.")
}

#[track_caller]
fn assert_log_prob(flow: &Flow, context: Option<[f64; 2]>, expected: &[f64]) {
    let (device, points) = (Device::flex(), golden().points);
    let context = context.map(|numbers| tensor(numbers.into(), [1, 2], DType::F32, &device));
    let rows = points.len();
    let points = tensor(points.concat(), [rows, 3], DType::F32, &device);
    let base = DiagonalGaussian::standard(3, &device);
    let log_prob = flow.distribution(base, context).log_prob(points);
    // Some roundings of f32, in flows whose slopes are tens at some of the points.
    assert_close("log_prob", &values(log_prob), expected, 1e-5);
}

#[test]
fn a_realnvp_of_pytorch() {
    let mut flow = FlowConfig::coupling(3, 4, ScalarMap::Affine, &[16, 16]).init(&Device::flex());
    flow.load_from(&mut networks_of_pytorch("realnvp")).unwrap();
    assert_log_prob(&flow, None, &golden().realnvp);
}

/// Which hidden unit sees what is nowhere in the file: weights of units in another order would be of another density.
#[test]
fn a_conditional_maf_of_pytorch() {
    let flow = FlowConfig::masked_autoregressive(3, 3, ScalarMap::Affine, &[5, 7]).with_context(2);
    let mut flow = flow.init(&Device::flex());
    flow.load_from(&mut networks_of_pytorch("maf")).unwrap();
    assert_log_prob(&flow, Some([0.5, -1.25]), &golden().maf);
}

#[test]
fn a_planar_flow_of_pytorch() {
    let mut flow = FlowConfig::planar(3, 4).init(&Device::flex());
    let mut store = written_by_pytorch("planar");
    let mut raw = Vec::new();
    for layer in 0..4 {
        for name in ["u", "w", "b"] {
            let tensor = store.get_tensor(&format!("layers.{layer}.{name}")).unwrap();
            let data = bridge::to_data(tensor.expect(name)).unwrap();
            raw.extend(data.iter::<f32>());
        }
    }
    let raw = TensorData::new(raw, [1, 4, 7]);
    let raw = bridge::from_data(raw, "parts.0.raw".into(), None);
    let result = flow.apply(vec![raw], None, None, true);
    assert!(result.is_success() && result.missing.is_empty(), "{result}");
    assert_log_prob(&flow, None, &golden().planar);
}

#[test]
fn what_is_saved_loads_and_into_no_other_flow() {
    let device = Device::flex();
    let flow = FlowConfig::coupling(3, 4, ScalarMap::Spline(8), &[16]);
    let saved = flow.init(&device);
    let mut store = SafetensorsStore::from_bytes(None);
    saved.save_into(&mut store).unwrap();
    let bytes = store.get_bytes().unwrap();

    let store = || SafetensorsStore::from_bytes(Some(bytes.clone()));
    let mut loaded = flow.init(&device);
    loaded.load_from(&mut store()).unwrap();
    let points = || Tensor::<2>::from_data([[0.3, -1.2, 2.0]], &device);
    let of = |flow: &Flow| flow.forward(points(), None).value.into_data();
    assert_eq!(of(&loaded), of(&saved));

    for other in [
        FlowConfig::coupling(3, 4, ScalarMap::Spline(4), &[16]),
        FlowConfig::coupling(3, 4, ScalarMap::Affine, &[16]),
        FlowConfig::masked_autoregressive(3, 4, ScalarMap::Spline(8), &[16]),
    ] {
        assert!(
            other.init(&device).load_from(&mut store()).is_err(),
            "{other:?}"
        );
    }
}

/// The names and shapes in the README's table, which leaves out the variants of enums.
#[test]
fn names() {
    let flow = |part: PartConfig| FlowConfig::new(3, vec![part]);
    let hidden = || vec![16];
    let coupling = |map| {
        flow(
            CouplingConfig {
                map,
                hidden: hidden(),
            }
            .into(),
        )
    };
    let autoregressive = |map| {
        flow(
            AutoregressiveConfig {
                map,
                hidden: hidden(),
            }
            .into(),
        )
    };
    let predicted = PlanarConfig::new(4).with_hidden(hidden());
    let triangular = SylvesterBasis::Triangular;
    for (flow, expected) in [
        (FlowConfig::planar(3, 4), "raw [1, 4, 7]"),
        (FlowConfig::sylvester(3, 4, triangular), "raw [1, 4, 15]"),
        (
            FlowConfig::sylvester(3, 4, SylvesterBasis::Orthogonal(2)),
            "parameters.raw [1, 4, 14]",
        ),
        (
            FlowConfig::sylvester(3, 4, SylvesterBasis::Householder(2)),
            "parameters.raw [1, 4, 21]",
        ),
        (FlowConfig::radial(3, 4), "parameters.raw [1, 4, 5]"),
        (FlowConfig::householder(3, 4), "parameters.raw [1, 4, 3]"),
        (
            flow(predicted.into()).with_context(2),
            "hidden.0.weight [2, 16], hidden.0.bias [16], head.weight [16, 28], head.bias [28]",
        ),
        (
            coupling(ScalarMap::Affine).with_context(2),
            "conditioner.layers.0.weight [1, 16], conditioner.layers.1.weight [16, 4], \
             conditioner.layers.1.bias [4], the flow's context_layer.weight [2, 16], \
             the flow's context_layer.bias [16]",
        ),
        (
            autoregressive(ScalarMap::Spline(2)),
            "conditioner.network.layers.0.weight [3, 16], conditioner.network.layers.0.bias [16], \
             conditioner.network.layers.1.weight [16, 15], conditioner.network.layers.1.bias [15]",
        ),
        (
            flow(ActNormConfig {}.into()),
            "log_scale [1, 3], shift [1, 3]",
        ),
        (
            flow(LuLinearConfig {}.into()),
            "factors [3, 3], bias [1, 3]",
        ),
        (flow(PermutationConfig::Reverse.into()), "order [3]"),
        (flow(RotationConfig {}.into()), "matrix [3, 3]"),
    ] {
        let tensors = flow.init(&Device::flex()).collect(None, None, true);
        let describe = |tensor: &burn_pack::Tensor| {
            let shape = tensor.shape.to_vec();
            match tensor.name.strip_prefix("parts.0.") {
                Some(name) => format!("{name} {shape:?}"),
                None => format!("the flow's {} {shape:?}", tensor.name),
            }
        };
        let got: Vec<String> = tensors.iter().map(describe).collect();
        assert_eq!(got.join(", "), expected);
    }
}
