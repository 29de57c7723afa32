//! What the flows of a whole vector share: layers whose parameters belong to owners, one after the other.

use burn::tensor::Tensor;

use crate::{Transformed, bijection::check_points, math::widened, network::check_widths};

/// The sizes of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// What it is called in messages.
    pub name: &'static str,
    pub owners: usize,
    pub layers: usize,
    pub dim: usize,
}

impl Stack {
    /// `map` of points that fit, in `f32` or `f64`, where there are both points and layers.
    pub fn map(self, points: Tensor<2>, map: impl FnOnce(Tensor<2>) -> Transformed) -> Transformed {
        check_points(self.name, &points, self.owners, self.dim);
        let [rows, _] = points.dims();
        if rows == 0 || self.layers == 0 {
            return Transformed::identity(points);
        }
        let dtype = points.dtype();
        map(widened(points)).cast(dtype)
    }

    /// `step` of layer after layer on points `[n, owners, dim]`, with log-determinants `[n, owners, 1]`.
    pub fn fold<L>(
        self,
        points: Tensor<2>,
        layers: impl Iterator<Item = L>,
        step: impl Fn(L, Tensor<3>) -> (Tensor<3>, Tensor<3>),
    ) -> Transformed {
        let [rows, dim] = points.dims();
        let n = rows / self.owners;

        let mut value = points.reshape([n, self.owners, dim]);
        let mut log_det = Tensor::zeros([n, self.owners, 1], (&value.device(), value.dtype()));
        for layer in layers {
            let (next, log_det_of_layer) = step(layer, value);
            value = next;
            log_det = log_det + log_det_of_layer;
        }
        Transformed {
            value: value.reshape([rows, dim]),
            log_det: log_det.reshape([rows]),
        }
    }
}

/// Refuses a stack of nothing, and hidden layers of no width.
pub fn check_stack(layers: usize, hidden: &[usize]) -> Result<(), String> {
    match layers {
        0 => Err("a stack has a layer at least; a flow without parts is the identity".into()),
        _ => check_widths(hidden),
    }
}
