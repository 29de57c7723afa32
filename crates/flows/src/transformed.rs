use burn::tensor::Tensor;

/// What every map of this crate returns: the mapped points and how much the map stretched space there.
#[derive(Clone, Debug)]
pub struct Transformed {
    /// The mapped points, `[rows, dim]`.
    pub value: Tensor<2>,
    /// log |det ∂value/∂input| at each point, `[rows]`, in nats.
    pub log_det: Tensor<1>,
}
