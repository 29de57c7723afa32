//! What kernels have in common: how they are launched, and elementary functions.

use burn::tensor::Shape;
use burn_cubecl::{
    cubecl::{self, prelude::*},
    ops::numeric::empty_device,
    tensor::CubeTensor,
};

/// Units of a cube: few, so that a small batch is spread over the device too.
pub const UNITS: u32 = 32;

/// Mesa's software driver leaves a shader after so many rounds of all its loops together, without a word (llvmpipe's
/// `LP_MAX_TGSI_LOOP_ITERATIONS`, seen in 22.3).
pub const ROUNDS: usize = 65_535;

/// What indexes the largest of these tensors.
pub fn address_type<const N: usize>(tensors: [&CubeTensor; N]) -> AddressType {
    let each = tensors.map(CubeTensor::required_address_type);
    each.into_iter().max().unwrap_or_default()
}

/// Room for numbers of this shape, where `tensor` is; what is in it is left from before.
pub fn empty_like(tensor: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device::<f32>(tensor.client.clone(), tensor.device.clone(), shape)
}

/// The larger of x and `least`, and NaN where x is, which WGSL's max may swallow.
#[cube]
pub fn at_least(x: f32, least: f32) -> f32 {
    select(x < least, least, x)
}

/// tanh x; WGSL promises no relative accuracy near 0, and û, which it multiplies, can be large.
#[cube]
pub fn tanh(x: f32) -> f32 {
    let e = (-(x.abs() + x.abs())).exp();
    let far = (-e + 1.0) / (e + 1.0);
    // As burn-host's.
    let x2 = x * x;
    let near = x2 * f32::new(-5.704_988_7e-3) + 2.063_909e-2;
    let near = x2 * near - 5.373_971_6e-2;
    let near = x2 * near + 1.333_144_2e-1;
    let near = x2 * near - 3.333_328e-1;
    let near = x2 * near * x + x;
    select(x.abs() < 0.625, near, select(x < 0.0, -far, far))
}

/// 1 / (1 + e^-x), without overflow.
#[cube]
pub fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    select(x < 0.0, e, 1.0) / (1.0 + e)
}

/// ln(1 + e^x), to the last digits of both tails.
#[cube]
pub fn softplus(x: f32) -> f32 {
    at_least(x, 0.0) + log1p_series((-x.abs()).exp())
}

/// ln(1 + x) for x > -1.
#[cube]
pub fn log1p(x: f32) -> f32 {
    select(x.abs() < 0.25, log1p_series(x), (1.0 + x).ln())
}

/// ln(1 + x) = 2 artanh(s) = 2 s (1 + s²/3 + s⁴/5 + …) with s = x / (2 + x), for x in [-0.25, 1].
#[cube]
fn log1p_series(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let s2 = s * s;
    let sum = s2 * f32::new(0.066_666_67) + 0.076_923_08;
    let sum = s2 * sum + 0.090_909_09;
    let sum = s2 * sum + 0.111_111_11;
    let sum = s2 * sum + 0.142_857_15;
    let sum = s2 * sum + 0.2;
    let sum = s2 * sum + 0.333_333_34;
    2.0 * s * (1.0 + s2 * sum)
}
