use burn::tensor::Tensor;

/// The three parts of the variational bound at one sample z_K of q(z | x), each `[n · batch]` in nats,
/// sample-major. Nothing here reduces over the batch.
///
/// ```text
/// ln p(x) ≥ E_q[ln p(x | z_K) + ln p(z_K) - ln q_K(z_K | x)]        (Rezende & Mohamed 2015, eq. 3 and 15)
/// ```
#[derive(Clone, Debug)]
pub struct BoundTerms {
    /// ln p(x | z_K).
    pub log_likelihood: Tensor<1>,
    /// ln p(z_K).
    pub log_prior: Tensor<1>,
    /// ln q_K(z_K | x) = ln q_0(z_0 | x) - Σ_k ln |det ∂f_k/∂z_{k-1}|.
    pub log_posterior: Tensor<1>,
}

impl BoundTerms {
    /// The evidence lower bound, one sample a row.
    pub fn elbo(&self) -> Tensor<1> {
        self.log_likelihood.clone() - self.kl()
    }

    /// The estimate ln q(z_K | x) - ln p(z_K) of KL(q || p); single samples may be negative.
    pub fn kl(&self) -> Tensor<1> {
        self.log_posterior.clone() - self.log_prior.clone()
    }

    /// The paper's annealed free energy, to minimise: `beta` on the whole joint (its eq. 20).
    ///
    /// ```text
    /// F_β = ln q_K(z_K | x) - β (ln p(x | z_K) + ln p(z_K))
    /// ```
    pub fn annealed_free_energy(&self, beta: f64) -> Tensor<1> {
        let joint = self.log_likelihood.clone() + self.log_prior.clone();
        self.log_posterior.clone() - joint.mul_scalar(beta)
    }

    /// The loss under KL warm-up, to minimise: `beta` on the KL alone (Bowman et al. 2016, Sønderby et
    /// al. 2016).
    ///
    /// ```text
    /// L_β = -ln p(x | z_K) + β (ln q_K(z_K | x) - ln p(z_K))
    /// ```
    pub fn kl_warm_up(&self, beta: f64) -> Tensor<1> {
        self.kl().mul_scalar(beta) - self.log_likelihood.clone()
    }

    /// The importance-weighted bound of `n` samples an example, `[batch]` (Burda et al. 2016):
    ///
    /// ```text
    /// ln 1/n Σ_i p(x, z_i) / q(z_i | x)
    /// ```
    ///
    /// # Panics
    ///
    /// When `n` does not divide the number of rows.
    pub fn importance_weighted(&self, n: usize) -> Tensor<1> {
        let log_weights = self.elbo();
        let [rows] = log_weights.dims();
        assert!(
            n > 0 && rows % n == 0,
            "{rows} rows are not {n} samples an example"
        );
        let log_weights = log_weights.reshape([n, rows / n]);
        let largest = log_weights.clone().detach().max_dim(0);
        let mean = (log_weights - largest.clone()).exp().mean_dim(0);
        (mean.log() + largest).reshape([rows / n])
    }
}
