//! Planar layers as CubeCL kernels, for wgpu, cuda and the other cube backends.
//!
//! A unit takes one row through all layers. The gradients are those at the top of `host/planar/forward.rs` and `host/planar.rs`; being linear, the step
//! from û to u and w is made row by row. Backward, as many of an owner's samples go side by side as there is memory for;
//! those of the next launch add to theirs, and what went side by side is summed at the end.
//!
//! Indices are of 32 bits or 64, as the tensors of a launch need.

mod inverse;

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor},
    tensor::Shape,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
};

use self::inverse::{NEWTON_STEPS, inverse_backward_kernel, inverse_kernel};
use super::{Form, Layers, Sizes, StackBackwardOps, StackOps};
use crate::{
    PlanarConstraint,
    map::Direction,
    ops::kernel::{
        ROUNDS, UNITS, address_type, at_least, empty_like, log1p, sigmoid, softplus, tanh,
    },
};

/// Numbers that a backward pass may keep, but for those of one sample an owner: 128 MiB. That is 3,400 rows of 80 layers
/// in 40 dimensions.
const SCRATCH: usize = 1 << 25;

burn_host::fused_on!(Cube: "cube");

/// Whether these parameters live on a cube backend, and there is no kernel for their layers, or one that would not come to
/// the end of so many.
pub fn lacks(raw: &burn::tensor::Tensor<3>, layers: Layers) -> bool {
    if !is_fused(raw) {
        return false;
    }
    let Layers::Planar(_) = layers else {
        return true;
    };
    let [_, layers, numbers] = raw.dims();
    // Backward takes 4 rounds a dimension of a layer and 2 a layer, and copies z and its gradient. The inverse takes 2 a
    // dimension, but has its root to find.
    layers * (2 * numbers + NEWTON_STEPS) + numbers - 1 > ROUNDS
}

impl Form {
    fn constraint(self) -> PlanarConstraint {
        match self.layers {
            Layers::Planar(constraint) => constraint,
            other => unreachable!("no kernel for {other:?}"),
        }
    }
}

impl Sizes {
    /// Samples of each owner that go backward side by side.
    fn at_once(&self) -> usize {
        let a_row = self.layers * (3 * self.dim + 2);
        (SCRATCH / (self.owners * a_row)).clamp(1, self.rows / self.owners)
    }
}

impl StackOps for CubeBackend {
    fn stack(raw: FloatTensor<Self>, points: FloatTensor<Self>, form: Form) -> FloatTensor<Self> {
        let sizes = Sizes::of(&raw.shape(), &points.shape(), form);
        let (raw, points) = (into_contiguous(raw), into_contiguous(points));
        let packed = empty_like(&points, sizes.packed());
        let units = CubeDim::new_1d(UNITS);
        let launch = match form.direction {
            Direction::Forward => forward_kernel::launch,
            Direction::Inverse => inverse_kernel::launch,
        };
        launch(
            &points.client.clone(),
            calculate_cube_count_elemwise(&points.client, sizes.rows, units),
            units,
            address_type([&raw, &points, &packed]),
            raw.into_tensor_arg(),
            points.into_tensor_arg(),
            packed.clone().into_tensor_arg(),
            form.constraint(),
        );
        packed
    }
}

impl StackBackwardOps for CubeBackend {
    fn stack_backward(
        raw: FloatTensor<Self>,
        known: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let sizes = Sizes::of(&raw.shape(), &known.shape(), form);
        let Sizes {
            owners,
            layers,
            dim,
            rows,
            ..
        } = sizes;
        let at_once = sizes.at_once();
        let (raw, known, grad) = (
            into_contiguous(raw),
            into_contiguous(known),
            into_contiguous(grad),
        );
        let shape = raw.shape();
        let units = CubeDim::new_1d(UNITS);
        let launch = match form.direction {
            Direction::Forward => backward_kernel::launch,
            Direction::Inverse => inverse_backward_kernel::launch,
        };
        let seen = match form.direction {
            Direction::Forward => {
                empty_like(&known, Shape::new([at_once * owners, layers, dim + 1]))
            }
            Direction::Inverse => empty_like(&known, Shape::new([at_once * owners, dim])),
        };
        let grad_raw = empty_like(
            &known,
            Shape::new([at_once, owners * layers * (2 * dim + 1)]),
        );
        let grad_points = empty_like(&known, sizes.points());
        for first in (0..rows / owners).step_by(at_once) {
            launch(
                &known.client.clone(),
                calculate_cube_count_elemwise(&known.client, at_once * owners, units),
                units,
                address_type([&raw, &known, &grad, &seen, &grad_raw, &grad_points]),
                raw.clone().into_tensor_arg(),
                known.clone().into_tensor_arg(),
                grad.clone().into_tensor_arg(),
                seen.clone().into_tensor_arg(),
                grad_raw.clone().into_tensor_arg(),
                grad_points.clone().into_tensor_arg(),
                first,
                form.constraint(),
            );
        }
        let grad_raw = match at_once {
            1 => grad_raw,
            _ => Self::float_sum_dim(grad_raw, 0),
        };
        (Self::float_reshape(grad_raw, shape), grad_points)
    }
}

#[cube(launch, address_type = "dynamic")]
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

#[cube(launch, address_type = "dynamic")]
fn backward_kernel(
    raw: &Tensor<f32>,          // [owners, layers, 2 dim + 1]
    z: &Tensor<f32>,            // [rows, dim]
    grad: &Tensor<f32>,         // [rows, dim + 1]
    seen: &mut Tensor<f32>, // [at_once * owners, layers, dim + 1]: z before each layer, and its tanh
    grad_raw: &mut Tensor<f32>, // [at_once, owners * layers * (2 dim + 1)]
    grad_z: &mut Tensor<f32>, // [rows, dim]
    first: usize,           // the first of each owner's samples that go side by side
    #[comptime] constraint: PlanarConstraint,
) {
    let unit = ABSOLUTE_POS;
    let owners = raw.shape(0);
    let sample = first + unit / owners;
    if unit >= seen.shape(0) || sample >= z.shape(0) / owners {
        terminate!();
    }
    let owner = unit % owners;
    let row = sample * owners + owner;
    let dim = z.shape(1);
    let layers = raw.shape(1);

    for d in 0..dim {
        seen[unit * layers * (dim + 1) + d] = z[row * dim + d];
    }
    for k in 0..layers {
        let u = (owner * layers + k) * (2 * dim + 1);
        let w = u + dim;
        let here = (unit * layers + k) * (dim + 1);
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
        let here = (unit * layers + k) * (dim + 1);
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
        let (of_x, twice_of_s) =
            of_x_and_twice_of_s(wu, squared_norm, along_w, gw * t, slope * h, constraint);

        let of_u = (unit * layers + k) * (2 * dim + 1);
        let of_w = of_u + dim;
        for d in 0..dim {
            let of_u_hat = grad_z[g + d] * t;
            let to_u = of_u_hat + raw[w + d] * of_x;
            let to_w = seen[here + d] * of_a
                + along_w * of_u_hat
                + raw[u + d] * of_x
                + raw[w + d] * twice_of_s;
            add(grad_raw, of_u + d, to_u, first);
            add(grad_raw, of_w + d, to_w, first);
            grad_z[g + d] += raw[w + d] * of_a;
        }
        add(grad_raw, of_w + dim, of_a, first);
    }
}

/// ∂L/∂x and 2 ∂L/∂s from ∂L/∂c and ∂L/∂p.
#[cube]
fn of_x_and_twice_of_s(
    wu: f32,
    squared_norm: f32,
    along_w: f32,
    of_c: f32,
    of_p: f32,
    #[comptime] constraint: PlanarConstraint,
) -> (f32, f32) {
    let m_slope = sigmoid(wu + offset(constraint));
    let slope_of_p = select(wu < f32::new(-80.0), 0.0, m_slope);
    let of_x = (m_slope - 1.0) / squared_norm * of_c + slope_of_p * of_p;
    let twice_of_s = -(along_w + along_w) / squared_norm * of_c;
    (
        unless_w_is_zero(squared_norm, of_x, 0.0),
        unless_w_is_zero(squared_norm, twice_of_s, 0.0),
    )
}

/// Adds x to what stands there, or with the first samples writes over whatever the memory held.
#[cube]
fn add(sums: &mut Tensor<f32>, at: usize, x: f32, first: usize) {
    if first == 0 {
        sums[at] = x;
    } else {
        sums[at] += x;
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
            let near = at_least(wu, -30.0);
            let expm1 = -tanh(near * 0.5) * (1.0 + (-near).exp());
            log1p(expm1 * 0.367_879_44) + near - wu
        }
    };
    unless_w_is_zero(squared_norm, m_minus_identity / squared_norm, 0.0)
}

/// 1 + m(x), or 1 where w counts as 0.
#[cube]
fn one_plus_wu_hat(wu: f32, squared_norm: f32, #[comptime] constraint: PlanarConstraint) -> f32 {
    let one_plus_m = softplus(at_least(wu, -80.0) + offset(constraint));
    unless_w_is_zero(squared_norm, one_plus_m, 1.0)
}

/// x, or what it is where w counts as 0. NaN is not below: it goes on.
#[cube]
fn unless_w_is_zero(squared_norm: f32, x: f32, at_zero: f32) -> f32 {
    select(squared_norm < 1e-18, at_zero, x)
}

/// det ∂f/∂z where tanh(w·z + b) is `t`.
#[cube]
fn det(t: f32, one_plus_wu_hat: f32) -> f32 {
    t * t + one_plus_wu_hat * (1.0 - t * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backward_memory_does_not_grow_with_the_samples() {
        let sizes = |owners, samples| Sizes {
            owners,
            layers: 80,
            numbers: 81,
            rows: owners * samples,
            dim: 40,
            width: 41,
        };
        let kept =
            |sizes: Sizes| sizes.at_once() * sizes.owners * sizes.layers * (3 * sizes.dim + 2);
        for (owners, samples) in [(1, 10_000), (1, 10_000_000), (100, 5_000)] {
            assert!(kept(sizes(owners, samples)) <= SCRATCH);
        }
        // One sample an owner in any case, and no more than there are samples.
        assert_eq!(sizes(100_000, 50).at_once(), 1);
        assert_eq!(sizes(3, 7).at_once(), 7);
    }
}
