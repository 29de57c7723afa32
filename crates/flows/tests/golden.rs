//! Layers against independent numbers: `golden_families.json` comes from `golden_families.py`, the papers' formulas as
//! printed, at 60 digits.

mod support;

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor},
};
use burn_flows::{
    Bijection, CouplingConfig, FlowConfig, Householder, Radial, ScalarMap, Sylvester,
    SylvesterBasis,
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
