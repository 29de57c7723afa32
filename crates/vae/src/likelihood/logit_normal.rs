use std::f64::consts::PI;

use burn::tensor::{Tensor, activation::log_sigmoid};

/// The least log-variance of a logit.
///
/// Without one the likelihood of bytes has no maximum: a pixel that is predicted exactly has any density, the narrower
/// the more. At e^-8 a logit's standard deviation is 0.018; those of neighbouring bytes are 4 / 255 = 0.016 apart where
/// they are closest. What is narrower describes bytes, not images.
const LEAST: f64 = -8.0;

/// Σ_i ln [N(logit x_i; μ_i, e^{a_i}) / (x_i (1 - x_i))], the density of numbers in (0, 1) whose logits are normal, in
/// nats per row.
///
/// `outputs: [n · batch, 2 · pixels]`, sample-major: the means μ of a row, then numbers r of its log-variances;
/// `x: [batch, pixels]`, 0 and 1 excluded, where there is no density. Returns `[n · batch]`.
///
/// ```text
/// a = -8 + ln(1 + e^{r + 8})      r, but for a smooth bound below: with no bound there is no maximum
/// logit x = ln x - ln(1 - x),     d logit x / dx = 1 / (x (1 - x))
/// ```
///
/// The likelihood of Rezende & Mohamed (2015), section 6.2, for patches of CIFAR-10; the bound is ours.
///
/// # Panics
///
/// When the rows of `outputs` are no multiple of those of `x`, or `outputs` are not twice as wide.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use flow_vae::logit_normal_log_likelihood;
///
/// let device = Device::flex();
/// let outputs = Tensor::from_data([[0.0, 0.0]], &device); // a standard normal logit
/// let x = Tensor::from_data([[0.5]], &device);
/// let nats: f32 = logit_normal_log_likelihood(outputs, x).into_scalar();
/// let at_its_mode = 4.0 / (2.0 * std::f32::consts::PI).sqrt();
/// assert!((nats - at_its_mode.ln()).abs() < 1e-3);
/// ```
pub fn logit_normal_log_likelihood(outputs: Tensor<2>, x: Tensor<2>) -> Tensor<1> {
    let ([rows, width], [batch, pixels]) = (outputs.dims(), x.dims());
    assert!(
        width == 2 * pixels && rows.is_multiple_of(batch),
        "outputs [{rows}, {width}] do not belong to images [{batch}, {pixels}]"
    );
    if rows == 0 {
        return Tensor::zeros([0], (&outputs.device(), outputs.dtype()));
    }
    let [mean, log_var]: [Tensor<3>; 2] = outputs
        .reshape([rows / batch, batch, width])
        .chunk(2, 2)
        .try_into()
        .expect("an even width falls into two");
    let log_var = log_sigmoid(log_var.neg().add_scalar(LEAST))
        .neg()
        .add_scalar(LEAST);
    let (ln_x, ln_rest) = (x.clone().log(), x.neg().add_scalar(1.0).log());
    let logit = (ln_x.clone() - ln_rest.clone()).unsqueeze_dim(0);
    let noise = (logit - mean) * log_var.clone().div_scalar(-2.0).exp();
    let of_logits = (noise.square() + log_var)
        .add_scalar((2.0 * PI).ln())
        .sum_dim(2)
        .div_scalar(-2.0);
    let log_jacobian = (ln_x + ln_rest).sum_dim(1).unsqueeze_dim(0);
    (of_logits - log_jacobian).reshape([rows])
}
