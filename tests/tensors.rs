//! The numbers in a module.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Gradients, Tensor},
};

/// The values of all parameters, by their paths in the module.
pub fn parameters(module: &impl Module) -> BTreeMap<String, Vec<f32>> {
    visit(module, None)
}

/// The gradients of all parameters.
///
/// # Panics
///
/// When a parameter has none.
pub fn gradients(module: &impl Module, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    visit(module, Some(gradients))
}

fn visit(module: &impl Module, gradients: Option<&Gradients>) -> BTreeMap<String, Vec<f32>> {
    let mut visitor = Visitor {
        path: Vec::new(),
        gradients,
        found: BTreeMap::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

struct Visitor<'a> {
    path: Vec<String>,
    gradients: Option<&'a Gradients>,
    found: BTreeMap<String, Vec<f32>>,
}

impl ModuleVisitor for Visitor<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let tensor = match self.gradients {
            None => param.val(),
            Some(gradients) => param
                .val()
                .grad(gradients)
                .unwrap_or_else(|| panic!("{path} has no gradient")),
        };
        self.found
            .insert(path, tensor.into_data().iter::<f32>().collect());
    }
}

/// The largest of some errors; a NaN is as wrong as can be.
pub fn largest(errors: impl Iterator<Item = f64>) -> f64 {
    errors.fold(
        0.0,
        |most: f64, e| if most.is_nan() || e <= most { most } else { e },
    )
}
