//! The sum of sigmoids of Huang, Krueger, Lacoste & Courville, *Neural Autoregressive Flows* (2018): with enough units any monotone
//! map (their proposition 1), so that an autoregressive flow of them approaches any density. Theirs bounds no a_j; here ln a_j stays
//! below 5, and with it the slope: Σ w_j a_j σ σ' ≤ e⁵ S T, since x (1 - x) is concave. Steeper maps take several layers.
//!
//! Their deep sigmoidal flow of one layer (their eq. 8): with u_j = a_j x + b_j, a_j > 0 and weights w_j that sum to 1,
//!
//! ```text
//! y     = logit Σ w_j σ(u_j) = ln S - ln T,      S = Σ w_j σ(u_j),   T = Σ w_j σ(-u_j) = 1 - S
//! dy/dx = Σ w_j a_j σ(u_j) σ(-u_j) / (S T)
//! ```
//!
//! Each sum is one of exponentials of sums of logarithms, so that it has its digits in both tails, where S or T vanishes.
//!
//! **Inverse.** None in closed form. At the x that is asked for, σ(y) is a mean of σ(u_j): y lies between the least u_j and the
//! largest, and x between the least (y - b_j) / a_j and the largest. Between them the root is searched for by
//! inverse quadratic interpolation where three points let hope for it, and by halving elsewhere (Chandrupatla, *A new hybrid
//! quadratic/bisection algorithm for finding the zero of a nonlinear function without using derivatives*, 1997), since Newton's
//! method runs to and fro between the bends of such sums; a step of Newton's makes the last digits.
//!
//! Parameters of a number: n of w (softmax), n of ln a (bounded as the affine map's s), n of b. Zeros make a_j = 1 and b_j = 0, the identity. Units that are the
//! same at first would stay so; those of unit j are taken 2 j / (n + 1) times, j from 1, so that they part.

use burn::tensor::{DType, Tensor, TensorData};

use super::log_scale;
use crate::math::softplus;

/// Steps of the search: what takes parameters of size 30 to the last digits of `f64` (those of size 1 take 14).
pub const STEPS: usize = 32;

pub(super) fn check(units: usize) -> Result<(), String> {
    match units {
        1..=1000 => Ok(()),
        _ => Err(format!("{units} sigmoids: a map has 1 to 1000")),
    }
}

/// How many times the parameters of unit j, from 0, are taken.
pub fn times(j: usize, units: usize) -> f64 {
    2.0 * (j + 1) as f64 / (units + 1) as f64
}

/// The units of each number, `[rows, dim, units]`.
struct Units {
    log_weight: Tensor<3>,
    log_a: Tensor<3>,
    a: Tensor<3>,
    b: Tensor<3>,
}

/// What the sums come to at some x.
struct Sums {
    /// ln S - ln T, `[rows, dim, 1]`
    y: Tensor<3>,
    /// ln dy/dx, `[rows, dim, 1]`
    log_slope: Tensor<3>,
}

impl Units {
    fn new(raw: Tensor<3>, units: usize) -> Self {
        let times: Vec<f64> = (0..units).map(|j| times(j, units)).collect();
        let options = (&raw.device(), raw.dtype());
        let times = Tensor::<3>::from_data(TensorData::new(times, [1, 1, units]), options);
        let part = |i: usize| raw.clone().slice_dim(2, i * units..(i + 1) * units) * times.clone();
        let (logits, log_a) = (part(0), log_scale(part(1)));
        Self {
            log_weight: logits.clone() - log_sum_exp(logits),
            a: log_a.clone().exp(),
            log_a,
            b: part(2),
        }
    }

    fn detached(&self) -> Self {
        Self {
            log_weight: self.log_weight.clone().detach(),
            log_a: self.log_a.clone().detach(),
            a: self.a.clone().detach(),
            b: self.b.clone().detach(),
        }
    }

    /// At `x: [rows, dim, 1]`.
    fn at(&self, x: Tensor<3>) -> Sums {
        let u = self.a.clone() * x + self.b.clone();
        let (below, above) = (
            softplus(u.clone().neg()).neg() + self.log_weight.clone(),
            softplus(u).neg(),
        );
        let slopes = below.clone() + above.clone() + self.log_a.clone();
        let log_s = log_sum_exp(below);
        let log_t = log_sum_exp(above + self.log_weight.clone());
        Sums {
            y: log_s.clone() - log_t.clone(),
            log_slope: log_sum_exp(slopes) - log_s - log_t,
        }
    }

    /// The x of `y: [rows, dim, 1]`, without gradients.
    fn solve(&self, y: Tensor<3>) -> Tensor<3> {
        let ends = (y.clone() - self.b.clone()) / self.a.clone();
        let (low, high) = (ends.clone().min_dim(2), ends.max_dim(2));
        // So far apart that rounding leaves the root between them.
        let margin = (low.clone().abs() + high.clone().abs())
            .add_scalar(1e-3)
            .mul_scalar(1e-6);
        let (mut a, mut b) = (low - margin.clone(), high + margin);
        let beyond = |x: &Tensor<3>| self.at(x.clone()).y - y.clone();
        let (mut of_a, mut of_b) = (beyond(&a), beyond(&b));
        let mut share = a.zeros_like().add_scalar(0.5);
        // What Newton's step makes good.
        let enough = match y.dtype() {
            DType::F64 => 1e-8,
            _ => 1e-4,
        };
        for step in 0..STEPS {
            // Asked now and then: a device has to answer.
            if step > 4 && step % 4 == 0 {
                let left = of_a.clone().abs().min_pair(of_b.clone().abs()).max();
                if left.into_scalar::<f32>() <= enough {
                    break;
                }
            }
            let x = a.clone() + share * (b.clone() - a.clone());
            let of_x = beyond(&x);
            let is_as_a = (of_x.clone().greater_elem(0.0)).equal(of_a.clone().greater_elem(0.0));
            // The end that x takes the place of is c, the other one b.
            let c = b.clone().mask_where(is_as_a.clone(), a.clone());
            let of_c = of_b.clone().mask_where(is_as_a.clone(), of_a.clone());
            b = a.mask_where(is_as_a.clone(), b);
            of_b = of_a.mask_where(is_as_a, of_b);
            (a, of_a) = (x, of_x);

            let xi = (a.clone() - b.clone()) / (c.clone() - b.clone());
            let phi = (of_a.clone() - of_b.clone()) / (of_c.clone() - of_b.clone());
            let rest = |x: Tensor<3>| x.neg().add_scalar(1.0);
            let may_be_quadratic = (phi.clone().square().lower(xi.clone()))
                .bool_and(rest(phi).square().lower(rest(xi)));
            let quadratic = of_a.clone() / (of_b.clone() - of_a.clone()) * of_c.clone()
                / (of_b.clone() - of_c.clone())
                + (c - a.clone()) / (b.clone() - a.clone()) * of_a.clone()
                    / (of_c.clone() - of_a.clone())
                    * of_b.clone()
                    / (of_c - of_b.clone());
            let halves = quadratic.zeros_like().add_scalar(0.5);
            share = halves
                .mask_where(may_be_quadratic, quadratic)
                .clamp(1e-6, 1.0 - 1e-6);
        }
        let a_is_nearer = of_a.abs().lower(of_b.abs());
        let x = b.mask_where(a_is_nearer, a);
        let Sums { y: at, log_slope } = self.at(x.clone());
        x - (at - y) / log_slope.exp()
    }
}

pub(super) fn forward(x: Tensor<2>, raw: Tensor<3>, units: usize) -> (Tensor<2>, Tensor<2>) {
    let Sums { y, log_slope } = Units::new(raw, units).at(x.unsqueeze_dim(2));
    (y.squeeze_dim(2), log_slope.squeeze_dim(2))
}

pub(super) fn inverse(y: Tensor<2>, raw: Tensor<3>, units: usize) -> (Tensor<2>, Tensor<2>) {
    let y = y.unsqueeze_dim(2);
    let units = Units::new(raw, units);
    let x = units.detached().solve(y.clone().detach());
    // As in `root.rs`: of y(x) - y, which is zero, only the derivatives in y and the parameters matter.
    let Sums { y: at, log_slope } = units.at(x.clone());
    let beyond = at - y;
    let x = x - (beyond.clone() - beyond.detach()) / log_slope.exp().detach();
    let log_slope = units.at(x.clone()).log_slope.neg();
    (x.squeeze_dim(2), log_slope.squeeze_dim(2))
}

/// ln Σ e^x over the last axis, `[rows, dim, 1]`.
fn log_sum_exp(x: Tensor<3>) -> Tensor<3> {
    let largest = x.clone().detach().max_dim(2);
    (x - largest.clone()).exp().sum_dim(2).log() + largest
}
