use burn::tensor::{Tensor, activation::log_sigmoid};

use crate::ops::bernoulli::bernoulli;

/// Σ_i ln Bernoulli(x_i; sigmoid(logit_i)), in nats per row.
///
/// `logits: [n · batch, pixels]`, sample-major, and `x: [batch, pixels]` in [0, 1]; returns
/// `[n · batch]`. From logits and without a cancelling 1 - sigmoid:
///
/// ```text
/// x ln σ(l) + (1 - x) ln σ(-l) = x l + ln σ(-l)
/// ```
///
/// # Panics
///
/// When the rows of `logits` are no multiple of those of `x`, or the widths differ.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use flow_vae::bernoulli_log_likelihood;
///
/// let device = Device::flex();
/// let logits = Tensor::from_data([[0.0, 200.0]], &device);
/// let x = Tensor::from_data([[1.0, 0.0]], &device);
/// let nats: f32 = bernoulli_log_likelihood(logits, x).into_scalar();
/// assert!((nats - (0.5_f32.ln() - 200.0)).abs() < 1e-4);
/// ```
pub fn bernoulli_log_likelihood(logits: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
    let [rows, pixels] = logits.dims();
    let [batch, width] = x.dims();
    assert!(
        pixels == width && rows.is_multiple_of(batch),
        "logits [{rows}, {pixels}] do not belong to images [{batch}, {width}]"
    );
    bernoulli(&logits, &x).unwrap_or_else(|| by_tensor_operations(logits, x))
}

fn by_tensor_operations(logits: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
    let ([rows, pixels], [batch, _]) = (logits.dims(), x.dims());
    if rows == 0 {
        return Tensor::zeros([0], (&logits.device(), logits.dtype()));
    }
    let logits = logits.reshape([rows / batch, batch, pixels]);
    let x = x.unsqueeze_dim(0);
    (logits.clone() * x + log_sigmoid(logits.neg()))
        .sum_dim(2)
        .reshape([rows])
}
