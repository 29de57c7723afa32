use burn::tensor::{Device, Distribution, Tensor};

use crate::{math::widened, ops::gaussian};

/// A Gaussian with a diagonal covariance: the base of a flow.
///
/// Its rows are the distributions of `batch` examples, or one that all points share.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    mean: Tensor<2>,
    log_var: Tensor<2>,
}

impl DiagonalGaussian {
    /// The Gaussian of mean `mean: [1 | batch, dim]` and log-variance `log_var`, of the same shape.
    ///
    /// # Panics
    ///
    /// When the shapes differ.
    pub fn new(mean: Tensor<2>, log_var: Tensor<2>) -> Self {
        assert_eq!(
            mean.dims(),
            log_var.dims(),
            "the mean and the log-variance of a diagonal Gaussian have one shape"
        );
        Self { mean, log_var }
    }

    /// N(0, I) in `dim` dimensions.
    pub fn standard(dim: usize, device: &Device) -> Self {
        let zeros = Tensor::zeros([1, dim], device);
        Self::new(zeros.clone(), zeros)
    }

    /// The number of distributions and their dimension.
    pub fn dims(&self) -> [usize; 2] {
        self.mean.dims()
    }

    /// Standard normal noise for `rows` points, `[rows, dim]`, from the device's own generator.
    pub fn noise(&self, rows: usize) -> Tensor<2> {
        let [_, dim] = self.dims();
        let options = (&self.mean.device(), self.mean.dtype());
        Tensor::random([rows, dim], Distribution::Normal(0.0, 1.0), options)
    }

    /// mean + σ · noise and its log-density, differentiable in the mean and the log-variance.
    ///
    /// `noise: [n · batch, dim]`, sample-major (row i belongs to example i mod batch); returns
    /// `[n · batch, dim]` and `[n · batch]` in nats.
    ///
    /// # Panics
    ///
    /// When `noise` has another dimension, or a number of rows that `batch` does not divide.
    pub fn rsample_and_log_prob(&self, noise: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.check(&noise);
        if noise.dims()[0] == 0 {
            return (noise.clone(), no_rows(&noise));
        }
        let dtype = noise.dtype();
        let (wide, noise) = (self.widened(), widened(noise));
        let (value, log_prob) = gaussian::rsample(&wide.mean, &wide.log_var, &noise)
            .unwrap_or_else(|| wide.rsample_by_tensor_operations(noise));
        (value.cast(dtype), log_prob.cast(dtype))
    }

    fn rsample_by_tensor_operations(&self, noise: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [rows, dim] = noise.dims();
        let noise = self.by_example(noise);
        let (mean, log_var) = self.broadcast();
        let value = mean + log_var.clone().div_scalar(2.0).exp() * noise.clone();
        let log_prob = log_density(noise, log_var);
        (value.reshape([rows, dim]), log_prob)
    }

    /// The log-density in nats, `[n · batch]`, at `value: [n · batch, dim]`, sample-major.
    ///
    /// # Panics
    ///
    /// As [`rsample_and_log_prob`](Self::rsample_and_log_prob).
    pub fn log_prob(&self, value: Tensor<2>) -> Tensor<1> {
        self.check(&value);
        if value.dims()[0] == 0 {
            return no_rows(&value);
        }
        let dtype = value.dtype();
        let (wide, value) = (self.widened(), widened(value));
        gaussian::log_prob(&wide.mean, &wide.log_var, &value)
            .unwrap_or_else(|| wide.log_prob_by_tensor_operations(value))
            .cast(dtype)
    }

    fn log_prob_by_tensor_operations(&self, value: Tensor<2>) -> Tensor<1> {
        let value = self.by_example(value);
        let (mean, log_var) = self.broadcast();
        let noise = (value - mean) * log_var.clone().div_scalar(-2.0).exp();
        log_density(noise, log_var)
    }

    fn check(&self, points: &Tensor<2>) {
        let ([rows, dim], [batch, own]) = (points.dims(), self.dims());
        assert!(
            dim == own && rows.is_multiple_of(batch),
            "{batch} Gaussians in {own} dimensions take points [n · {batch}, {own}], got [{rows}, {dim}]"
        );
    }

    fn widened(&self) -> Self {
        Self {
            mean: widened(self.mean.clone()),
            log_var: widened(self.log_var.clone()),
        }
    }

    fn by_example(&self, points: Tensor<2>) -> Tensor<3> {
        let ([rows, dim], [batch, _]) = (points.dims(), self.dims());
        points.reshape([rows / batch, batch, dim])
    }

    fn broadcast(&self) -> (Tensor<3>, Tensor<3>) {
        (
            self.mean.clone().unsqueeze_dim(0),
            self.log_var.clone().unsqueeze_dim(0),
        )
    }
}

/// The densities of no points.
fn no_rows(points: &Tensor<2>) -> Tensor<1> {
    Tensor::zeros([0], (&points.device(), points.dtype()))
}

/// ln N(mean + σ noise; mean, σ²) = -½ Σ (noise² + ln σ² + ln 2π), `[n · batch]`.
fn log_density(noise: Tensor<3>, log_var: Tensor<3>) -> Tensor<1> {
    let [n, batch, _] = noise.dims();
    (noise.clone() * noise + log_var)
        .add_scalar((2.0 * core::f64::consts::PI).ln())
        .sum_dim(2)
        .div_scalar(-2.0)
        .reshape([n * batch])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, Tolerance};

    use super::*;

    #[test]
    fn log_prob_is_the_textbook_density() {
        let device = Device::flex();
        let base = DiagonalGaussian::new(
            Tensor::from_data([[1.0, -2.0]], &device),
            Tensor::from_data([[0.0, (4.0_f32).ln()]], &device),
        );
        let got = base.log_prob(Tensor::from_data([[1.5, 0.0], [1.0, -2.0]], &device));
        // ln N(0.5; 0, 1) + ln N(2; 0, 4), and the same at the mode.
        let mode = -(2.0 * std::f64::consts::PI).ln() - 2.0_f64.ln();
        let expected = Tensor::<1>::from_data([mode - 0.125 - 0.5, mode], &device);
        got.into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::default());
    }

    #[test]
    fn samples_and_points_have_one_density() {
        let device = Device::flex();
        let base = DiagonalGaussian::new(
            Tensor::from_data([[1.0, -2.0], [0.0, 3.0]], &device),
            Tensor::from_data([[0.3, -1.0], [2.0, 0.0]], &device),
        );
        let (value, log_prob) = base.rsample_and_log_prob(base.noise(6));
        base.log_prob(value)
            .into_data()
            .assert_approx_eq::<f32>(&log_prob.into_data(), Tolerance::default());
    }
}
