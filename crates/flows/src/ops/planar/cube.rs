//! The planar stack as CubeCL kernels: one launch forward and one backward, for wgpu, cuda and the other cube backends.
//!
//! A unit takes one row through all layers. The gradients are those at the top of `host/stack.rs`; being linear, the step
//! from û to u and w is made row by row, and rows that share their parameters are summed at the end.

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::Shape,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device,
    tensor::CubeTensor,
};

use super::{PlanarBackwardOps, PlanarOps, Sizes};
use crate::PlanarConstraint;

/// Units of a cube: few, so that a small batch is spread over the device too.
const UNITS: u32 = 32;

impl PlanarOps for CubeBackend {
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self> {
        let Sizes { rows, dim, .. } = Sizes::of(&raw, &z);
        let (raw, z) = (into_contiguous(raw), into_contiguous(z));
        let packed = empty_like(&z, [rows, dim + 1]);
        let units = CubeDim::new_1d(UNITS);
        forward_kernel::launch(
            &z.client.clone(),
            calculate_cube_count_elemwise(&z.client, rows, units),
            units,
            raw.into_tensor_arg(),
            z.into_tensor_arg(),
            packed.clone().into_tensor_arg(),
            constraint,
        );
        packed
    }
}

impl PlanarBackwardOps for CubeBackend {
    fn planar_backward(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Sizes {
            owners,
            layers,
            dim,
            rows,
        } = Sizes::of(&raw, &z);
        let (raw, z, grad) = (
            into_contiguous(raw),
            into_contiguous(z),
            into_contiguous(grad),
        );
        let shape = raw.shape();
        let seen = empty_like(&z, [rows, layers, dim + 1]);
        let grad_raw = empty_like(&z, [rows, layers, 2 * dim + 1]);
        let grad_z = empty_like(&z, [rows, dim]);
        let units = CubeDim::new_1d(UNITS);
        backward_kernel::launch(
            &z.client.clone(),
            calculate_cube_count_elemwise(&z.client, rows, units),
            units,
            raw.into_tensor_arg(),
            z.into_tensor_arg(),
            grad.into_tensor_arg(),
            seen.into_tensor_arg(),
            grad_raw.clone().into_tensor_arg(),
            grad_z.clone().into_tensor_arg(),
            constraint,
        );
        let grad_raw = if rows == owners {
            grad_raw
        } else {
            let by_sample = Shape::new([rows / owners, owners * layers * (2 * dim + 1)]);
            Self::float_sum_dim(Self::float_reshape(grad_raw, by_sample), 0)
        };
        (Self::float_reshape(grad_raw, shape), grad_z)
    }
}

fn empty_like<const D: usize>(tensor: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_device::<f32>(
        tensor.client.clone(),
        tensor.device.clone(),
        Shape::new(shape),
    )
}

#[cube(launch)]
fn forward_kernel(
    raw: &Tensor<f32>,        // [owners, layers, 2 dim + 1]
    z: &Tensor<f32>,          // [rows, dim]
    packed: &mut Tensor<f32>, // [rows, dim + 1]
    #[comptime] constraint: PlanarConstraint,
) {
    let row = ABSOLUTE_POS;
    let dim = z.shape(1);
    if row >= z.shape(0) {
        terminate!();
    }
    let layers = raw.shape(1);
    let owner = row % raw.shape(0);
    let out = row * (dim + 1);

    for d in 0..dim {
        packed[out + d] = z[row * dim + d];
    }
    let mut log_det = f32::new(0.0);
    for k in 0..layers {
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let mut wu = f32::new(0.0);
        let mut squared_norm = f32::new(0.0);
        let mut a = raw[w + dim];
        for d in 0..dim {
            wu += raw[w + d] * raw[u + d];
            squared_norm += raw[w + d] * raw[w + d];
            a += raw[w + d] * packed[out + d];
        }
        let along_w = along_w(wu, squared_norm, constraint);
        let one_plus_wu_hat = one_plus_wu_hat(wu, squared_norm, constraint);
        let t = tanh(a);
        log_det += det(t, one_plus_wu_hat).ln();
        for d in 0..dim {
            packed[out + d] += (raw[u + d] + along_w * raw[w + d]) * t;
        }
    }
    packed[out + dim] = log_det;
}

#[cube(launch)]
fn backward_kernel(
    raw: &Tensor<f32>,          // [owners, layers, 2 dim + 1]
    z: &Tensor<f32>,            // [rows, dim]
    grad: &Tensor<f32>,         // [rows, dim + 1]
    seen: &mut Tensor<f32>,     // [rows, layers, dim + 1]: z before each layer, and its tanh
    grad_raw: &mut Tensor<f32>, // [rows, layers, 2 dim + 1]
    grad_z: &mut Tensor<f32>,   // [rows, dim]
    #[comptime] constraint: PlanarConstraint,
) {
    let row = ABSOLUTE_POS;
    let dim = z.shape(1);
    if row >= z.shape(0) {
        terminate!();
    }
    let layers = raw.shape(1);
    let owner = row % raw.shape(0);

    for d in 0..dim {
        seen[row * layers * (dim + 1) + d] = z[row * dim + d];
    }
    for k in 0..layers {
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let here = (row * layers + k) * (dim + 1);
        let next = here + dim + 1;
        let mut wu = f32::new(0.0);
        let mut squared_norm = f32::new(0.0);
        let mut a = raw[w + dim];
        for d in 0..dim {
            wu += raw[w + d] * raw[u + d];
            squared_norm += raw[w + d] * raw[w + d];
            a += raw[w + d] * seen[here + d];
        }
        let along_w = along_w(wu, squared_norm, constraint);
        let t = tanh(a);
        seen[here + dim] = t;
        if k + 1 < layers {
            for d in 0..dim {
                seen[next + d] = seen[here + d] + (raw[u + d] + along_w * raw[w + d]) * t;
            }
        }
    }

    for d in 0..dim {
        grad_z[row * dim + d] = grad[row * (dim + 1) + d];
    }
    let h = grad[row * (dim + 1) + dim];
    for i in 0..layers {
        let k = layers - 1 - i;
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let here = (row * layers + k) * (dim + 1);
        let g = row * dim;
        let mut wu = f32::new(0.0);
        let mut squared_norm = f32::new(0.0);
        let mut gu = f32::new(0.0);
        let mut gw = f32::new(0.0);
        for d in 0..dim {
            wu += raw[w + d] * raw[u + d];
            squared_norm += raw[w + d] * raw[w + d];
            gu += grad_z[g + d] * raw[u + d];
            gw += grad_z[g + d] * raw[w + d];
        }
        let along_w = along_w(wu, squared_norm, constraint);
        let one_plus_wu_hat = one_plus_wu_hat(wu, squared_norm, constraint);

        let t = seen[here + dim];
        let slope = -(t * t) + 1.0;
        let h = h / det(t, one_plus_wu_hat);
        let of_a = (gu + along_w * gw + (t + t) * (-one_plus_wu_hat + 1.0) * h) * slope;
        let of_p = slope * h;
        let of_c = gw * t;
        let mut of_x = f32::new(0.0);
        let mut twice_of_s = f32::new(0.0);
        if squared_norm >= 1e-18 {
            let m_slope = sigmoid(wu + offset(constraint));
            of_x = (m_slope - 1.0) / squared_norm * of_c;
            if wu >= f32::new(-80.0) {
                of_x += m_slope * of_p;
            }
            twice_of_s = -(along_w + along_w) / squared_norm * of_c;
        }

        let of_u = (row * layers + k) * (2 * dim + 1);
        let of_w = of_u + dim;
        for d in 0..dim {
            let of_u_hat = grad_z[g + d] * t;
            grad_raw[of_u + d] = of_u_hat + raw[w + d] * of_x;
            grad_raw[of_w + d] = seen[here + d] * of_a
                + along_w * of_u_hat
                + raw[u + d] * of_x
                + raw[w + d] * twice_of_s;
            grad_z[g + d] += raw[w + d] * of_a;
        }
        grad_raw[of_w + dim] = of_a;
    }
}

/// What m adds to its argument: ln(e - 1) makes m(0) = 0.
#[cube]
fn offset(#[comptime] constraint: PlanarConstraint) -> f32 {
    match constraint {
        PlanarConstraint::Paper => f32::new(0.0),
        PlanarConstraint::Identity => f32::new(0.541_324_9),
    }
}

/// (m(x) - x) / ‖w‖², or 0 where w counts as 0.
#[cube]
fn along_w(wu: f32, squared_norm: f32, #[comptime] constraint: PlanarConstraint) -> f32 {
    let m_minus_identity = match constraint {
        PlanarConstraint::Paper => softplus(-wu) - 1.0,
        PlanarConstraint::Identity => {
            let near = max(wu, -30.0);
            let expm1 = -tanh(near * 0.5) * (1.0 + (-near).exp());
            log1p(expm1 * 0.367_879_44) + near - wu
        }
    };
    select(squared_norm >= 1e-18, m_minus_identity / squared_norm, 0.0)
}

/// 1 + m(x), or 1 where w counts as 0.
#[cube]
fn one_plus_wu_hat(wu: f32, squared_norm: f32, #[comptime] constraint: PlanarConstraint) -> f32 {
    let one_plus_m = softplus(max(wu, -80.0) + offset(constraint));
    select(squared_norm >= 1e-18, one_plus_m, 1.0)
}

/// det ∂f/∂z where tanh(w·z + b) is `t`.
#[cube]
fn det(t: f32, one_plus_wu_hat: f32) -> f32 {
    t * t + one_plus_wu_hat * (1.0 - t * t)
}

/// tanh x; WGSL promises no relative accuracy near 0, and û, which it multiplies, can be large.
#[cube]
fn tanh(x: f32) -> f32 {
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
fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    select(x < 0.0, e, 1.0) / (1.0 + e)
}

/// ln(1 + e^x), to the last digits of both tails.
#[cube]
fn softplus(x: f32) -> f32 {
    max(x, 0.0) + log1p_series((-x.abs()).exp())
}

/// ln(1 + x) for x > -1.
#[cube]
fn log1p(x: f32) -> f32 {
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
