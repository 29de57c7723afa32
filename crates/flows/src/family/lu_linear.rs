//! A learned linear map by its LU factors (Kingma & Dhariwal 2018, without their fixed permutation, which is a layer of
//! its own here).
//!
//! ```text
//! f(z) = L U z + b,      log |det| = Σ ln u_ii
//! ```
//!
//! with 1 on L's diagonal and u_ii = e^(a free number) on U's. It costs O(dim²) in both directions, and the inverse of the
//! two factors, dim steps, once a call.

use std::sync::Arc;

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use crate::{
    Bijection, FlowSize, Transformed,
    bijection::{check_points, of_each},
    math::widened,
    parameters::leaf,
};

/// One linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LuLinearConfig {}

impl LuLinearConfig {
    pub(crate) fn size(&self, dim: usize, _context: Option<usize>) -> FlowSize {
        FlowSize {
            weights: (dim as f64 + 1.0) * dim as f64,
            ..FlowSize::default()
        }
    }

    pub(crate) fn check(&self, _dim: usize) -> Result<(), String> {
        Ok(())
    }

    /// Starts as the identity.
    pub(crate) fn init(&self, dim: usize, _context: Option<usize>, device: &Device) -> LuLinear {
        LuLinear {
            factors: leaf(Tensor::zeros([dim, dim], device)),
            bias: leaf(Tensor::zeros([1, dim], device)),
        }
    }
}

/// The learned numbers.
#[derive(Module, Debug)]
pub struct LuLinear {
    /// L below the diagonal, ln u_ii on it, U above, `[dim, dim]`.
    factors: Param<Tensor<2>>,
    /// `[1, dim]`
    bias: Param<Tensor<2>>,
}

impl LuLinear {
    pub fn bind(&self, dim: usize, _context: Option<Tensor<2>>) -> Arc<dyn Bijection> {
        let factors = widened(self.factors.val());
        let eye = Tensor::<2>::eye(dim, &factors.device()).cast(factors.dtype());
        let log_diagonal = (factors.clone() * eye.clone()).sum_dim(0);
        Arc::new(Bound {
            lower: factors.clone().tril(-1) + eye.clone(),
            upper: factors.triu(1) + log_diagonal.clone().exp() * eye,
            log_diagonal,
            bias: widened(self.bias.val()),
        })
    }
}

#[derive(Clone, Debug)]
struct Bound {
    lower: Tensor<2>,
    upper: Tensor<2>,
    /// `[1, dim]`, as the bias
    log_diagonal: Tensor<2>,
    bias: Tensor<2>,
}

impl Bound {
    fn log_det(&self, rows: usize) -> Tensor<1> {
        of_each(self.log_diagonal.clone().sum(), rows)
    }
}

impl Bijection for Bound {
    fn dim(&self) -> usize {
        self.bias.dims()[1]
    }

    fn owners(&self) -> usize {
        1
    }

    fn forward(&self, z: Tensor<2>) -> Transformed {
        check_points("a linear layer", &z, 1, self.dim());
        let [rows, _] = z.dims();
        // Points are rows: (L U z)ᵀ = zᵀ Uᵀ Lᵀ.
        let product = z
            .matmul(self.upper.clone().transpose())
            .matmul(self.lower.clone().transpose());
        Transformed {
            value: product + self.bias.clone(),
            log_det: self.log_det(rows),
        }
    }

    fn inverse(&self, y: Tensor<2>) -> Transformed {
        check_points("a linear layer", &y, 1, self.dim());
        let [rows, _] = y.dims();
        let unit_upper = self.upper.clone() * self.log_diagonal.clone().transpose().neg().exp();
        let of_lower = inverse_of_unit_lower(&self.lower).transpose();
        // U = D (D⁻¹ U), and what is transposed is lower.
        let of_upper = inverse_of_unit_lower(&unit_upper.transpose());
        let scaled =
            (y - self.bias.clone()).matmul(of_lower) * self.log_diagonal.clone().neg().exp();
        Transformed {
            value: scaled.matmul(of_upper),
            log_det: self.log_det(rows).neg(),
        }
    }
}

/// The inverse of a lower triangular matrix with 1 on its diagonal, row after row: X_i = e_i - L_i,<i X_<i.
fn inverse_of_unit_lower(lower: &Tensor<2>) -> Tensor<2> {
    let [dim, _] = lower.dims();
    let eye = Tensor::<2>::eye(dim, &lower.device()).cast(lower.dtype());
    let first = eye.clone().slice_dim(0, 0..1);
    (1..dim).fold(first, |known, i| {
        let before = lower.clone().slice([i..i + 1, 0..i]);
        let row = eye.clone().slice_dim(0, i..i + 1) - before.matmul(known.clone());
        Tensor::cat(vec![known, row], 0)
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    /// What is saved means this: L = (1, 0; ½, 1), U = (2, 3; 0, 4), so that L U = (2, 3; 1, 5½).
    #[test]
    fn the_factors_are_of_the_matrix() {
        let device = Device::flex();
        let layer = LuLinear {
            factors: leaf(Tensor::from_data(
                [[2.0_f32.ln(), 3.0], [0.5, 4.0_f32.ln()]],
                &device,
            )),
            bias: leaf(Tensor::from_data([[1.0, -1.0]], &device)),
        };
        let out = layer
            .bind(2, None)
            .forward(Tensor::from_data([[1.0, 2.0]], &device));
        let expected = Tensor::<2>::from_data([[9.0, 11.0]], &device);
        (out.value.into_data()).assert_approx_eq::<f32>(&expected.into_data(), Default::default());
        let expected = Tensor::<1>::from_data([8.0_f32.ln()], &device);
        (out.log_det.into_data())
            .assert_approx_eq::<f32>(&expected.into_data(), Default::default());
    }
}
