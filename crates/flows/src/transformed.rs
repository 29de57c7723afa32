use burn::tensor::{DType, Tensor};

/// What every map of this crate returns: the mapped points and how much the map stretched space there.
#[derive(Clone, Debug)]
pub struct Transformed {
    /// The mapped points, `[rows, dim]`.
    pub value: Tensor<2>,
    /// log |det ∂value/∂input| at each point, `[rows]`, in nats.
    pub log_det: Tensor<1>,
}

impl Transformed {
    /// What the identity returns of `points: [rows, dim]`.
    pub(crate) fn identity(points: Tensor<2>) -> Self {
        let [rows, _] = points.dims();
        Self {
            log_det: Tensor::zeros([rows], (&points.device(), points.dtype())),
            value: points,
        }
    }

    /// The same numbers in another float type.
    pub(crate) fn cast(self, dtype: DType) -> Self {
        Self {
            value: self.value.cast(dtype),
            log_det: self.log_det.cast(dtype),
        }
    }
}
