//! Layers against independent numbers: `golden_families.json` comes from `golden_families.py`, the papers' formulas as
//! printed, at 60 digits; `golden_libraries.json` from `golden_libraries.py`, other libraries with PyTorch's autograd.

mod support;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{DType, Device, Gradients, Tensor},
};
use burn_flows::{
    AutoregressiveConfig, Bijection, CouplingConfig, FlowConfig, Householder, Planar,
    PlanarConstraint, Radial, ScalarMap, Sylvester, SylvesterBasis,
};
use serde::Deserialize;
use support::{assert_close, tensor, values};

#[derive(Deserialize)]
struct Golden {
    name: String,
    kind: String,
    count: usize,
    raw: Vec<f64>,
    z: Vec<f64>,
    value: Vec<f64>,
    log_det: f64,
}

#[test]
fn golden_values() {
    let cases: Vec<Golden> = serde_json::from_str(include_str!("golden_families.json")).unwrap();
    for case in cases {
        for dtype in [DType::F64, DType::F32] {
            check(&case, dtype);
        }
    }
}

fn check(case: &Golden, dtype: DType) {
    let device = Device::flex().autodiff();
    let what = format!("{} ({dtype:?})", case.name);
    let dim = case.z.len();
    let raw = || tensor(case.raw.clone(), [1, 1, case.raw.len()], dtype, &device);
    let sylvester = |basis| -> Box<dyn Bijection> { Box::new(Sylvester::new(raw(), basis, dim)) };
    let (flow, z, expected): (Box<dyn Bijection>, _, _) = match case.kind.as_str() {
        "spline" => {
            // The second of two coordinates, by parameters that are a bias.
            let coupling = CouplingConfig {
                map: ScalarMap::Spline(case.count),
                hidden: Vec::new(),
            };
            let flow = FlowConfig::new(2, vec![coupling.into()]).init(&device);
            let flow = flow.map(&mut Set(&case.raw, dtype)).bind(None);
            let beside = |x: &[f64]| vec![0.75, x[0]];
            (Box::new(flow), beside(&case.z), beside(&case.value))
        }
        kind => {
            let flow: Box<dyn Bijection> = match kind {
                "radial" => Box::new(Radial::new(raw())),
                "reflection" => Box::new(Householder::new(raw())),
                "orthogonal" => sylvester(SylvesterBasis::Orthogonal(case.count)),
                "householder" => sylvester(SylvesterBasis::Householder(case.count)),
                "triangular" => sylvester(SylvesterBasis::Triangular),
                other => panic!("{other} is none of the kinds"),
            };
            (flow, case.z.clone(), case.value.clone())
        }
    };
    let points = |numbers: &[f64]| tensor(numbers.to_vec(), [1, numbers.len()], dtype, &device);
    let out = flow.forward(points(&z));
    // Some roundings of f64 and f32.
    let tolerance = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
    assert_close(&what, &values(out.value), &expected, tolerance);
    assert_close(&what, &values(out.log_det), &[case.log_det], tolerance);

    // Where the map is flat by e^-log_det, its inverse is as steep, and so are the roundings.
    let tolerance = tolerance * (-case.log_det).max(0.0).exp();
    if tolerance < 1e-2 {
        let back = flow.inverse(points(&expected));
        assert_close(&what, &values(back.value), &z, 10.0 * tolerance);
        assert_close(
            &what,
            &values(back.log_det),
            &[-case.log_det],
            1e2 * tolerance,
        );
    }
}

/// Puts numbers into the one vector of a network.
struct Set<'a>(&'a [f64], DType);

impl ModuleMapper for Set<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let value = value.detach().cast(self.1).detach();
            if D == 2 {
                return value.require_grad();
            }
            let shape = value.dims();
            tensor(self.0.to_vec(), shape, self.1, &value.device()).require_grad()
        })
    }
}

/// A layer of another library.
#[derive(Deserialize)]
struct OfLibrary {
    name: String,
    kind: String,
    dim: usize,
    points: Vec<f64>,
    raw: Vec<f64>,
    value: Vec<f64>,
    log_det: Vec<f64>,
    /// Of value and log-determinant in the loss, whose gradients are the last two.
    weights: Vec<f64>,
    weights_of_log_det: Vec<f64>,
    of_points: Vec<f64>,
    of_raw: Vec<f64>,
}

#[test]
fn values_and_gradients_of_other_libraries() {
    let cases: Vec<OfLibrary> =
        serde_json::from_str(include_str!("golden_libraries.json")).unwrap();
    for case in cases {
        for dtype in [DType::F64, DType::F32] {
            case.check(dtype);
        }
    }
}

impl OfLibrary {
    fn check(&self, dtype: DType) {
        let device = Device::flex().autodiff();
        let rows = self.log_det.len();
        let points = tensor(self.points.clone(), [rows, self.dim], dtype, &device).require_grad();
        let raw = tensor(self.raw.clone(), [1, 1, self.raw.len()], dtype, &device).require_grad();
        let map = match self.kind.as_str() {
            "affine" => Some(ScalarMap::Affine),
            "spline" | "inverse-spline" => Some(ScalarMap::Spline((self.raw.len() + 1) / 3)),
            "circular" | "inverse-circular" => Some(ScalarMap::CircularSpline(self.raw.len() / 3)),
            _ => None,
        };
        let of_number = map.map(|map| self.one_number(map, dtype, &device));
        let end = match (&of_number, self.kind.as_str()) {
            (Some(flow), "inverse-spline" | "inverse-circular") => {
                flow.inverse(points.clone(), None)
            }
            (Some(flow), _) => flow.forward(points.clone(), None),
            (None, kind) => {
                let raw = raw.clone();
                let layer: Box<dyn Bijection> = match kind {
                    "planar" => Box::new(Planar::new(raw, PlanarConstraint::Paper)),
                    "radial" => Box::new(Radial::new(raw)),
                    "reflection" => Box::new(Householder::new(raw)),
                    "triangular" => {
                        Box::new(Sylvester::new(raw, SylvesterBasis::Triangular, self.dim))
                    }
                    other => panic!("{other} is none of the kinds"),
                };
                layer.forward(points.clone())
            }
        };
        let weights = tensor(self.weights.clone(), [rows, self.dim], dtype, &device);
        let of_log_det = tensor(self.weights_of_log_det.clone(), [rows], dtype, &device);
        let loss = (end.value.clone() * weights).sum() + (end.log_det.clone() * of_log_det).sum();
        let gradients = loss.backward();
        let of_raw = match &of_number {
            Some(flow) => {
                let mut bias = OfBias(&gradients, Vec::new());
                flow.visit(&mut bias);
                bias.1
            }
            None => values(raw.grad(&gradients).unwrap()),
        };

        // Some roundings of f64 and f32, which gradients have more of.
        let tolerance = if dtype == DType::F64 { 1e-13 } else { 1e-5 };
        let of_points = values(points.grad(&gradients).unwrap());
        for (which, got, expected, tolerance) in [
            ("value", values(end.value), &self.value, tolerance),
            ("log_det", values(end.log_det), &self.log_det, tolerance),
            (
                "gradient of points",
                of_points,
                &self.of_points,
                10.0 * tolerance,
            ),
            ("gradient of raw", of_raw, &self.of_raw, 10.0 * tolerance),
        ] {
            let what = format!("{}, {which} ({dtype:?})", self.name);
            assert_close(&what, &got, expected, tolerance);
        }
    }

    /// A map of one number, whose parameters are the bias of a network that sees nothing.
    fn one_number(&self, map: ScalarMap, dtype: DType, device: &Device) -> burn_flows::Flow {
        let hidden = Vec::new();
        let layer = AutoregressiveConfig { map, hidden };
        let flow = FlowConfig::new(1, vec![layer.into()]).init(device);
        flow.map(&mut Set(&self.raw, dtype))
    }
}

/// The gradient of the one vector of a network.
struct OfBias<'a>(&'a Gradients, Vec<f64>);

impl ModuleVisitor for OfBias<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 1 {
            self.1 = values(param.val().grad(self.0).unwrap());
        }
    }
}
