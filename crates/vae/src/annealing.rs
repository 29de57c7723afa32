use std::{fmt, str::FromStr};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::BoundTerms;

/// How the training loss approaches the negative ELBO over the updates t = 0, 1, …
///
/// Written `none`, `free-energy` or `kl-warm-up:UPDATES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Annealing {
    /// The negative ELBO from the start.
    None,
    /// The paper's: β = min(1, 0.01 + t / 10000) on the joint ln p(x, z_K).
    FreeEnergy,
    /// β = min(1, t / updates) on the KL alone.
    KlWarmUp {
        /// After how many updates β is 1.
        updates: usize,
    },
}

impl Annealing {
    /// β at update `t`.
    pub fn beta(self, t: usize) -> f64 {
        match self {
            Self::None => 1.0,
            Self::FreeEnergy => (0.01 + t as f64 / 10_000.0).min(1.0),
            Self::KlWarmUp { updates } => (t as f64 / updates as f64).min(1.0),
        }
    }

    /// The loss at update `t`, to minimise, `[n · batch]` in nats.
    pub fn loss(self, terms: &BoundTerms, t: usize) -> Tensor<1> {
        let beta = self.beta(t);
        match self {
            Self::None => terms.elbo().neg(),
            Self::FreeEnergy => terms.annealed_free_energy(beta),
            Self::KlWarmUp { .. } => terms.kl_warm_up(beta),
        }
    }
}

impl fmt::Display for Annealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::FreeEnergy => f.write_str("free-energy"),
            Self::KlWarmUp { updates } => write!(f, "kl-warm-up:{updates}"),
        }
    }
}

impl FromStr for Annealing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "free-energy" => Ok(Self::FreeEnergy),
            _ => text
                .strip_prefix("kl-warm-up:")
                .and_then(|updates| updates.parse().ok())
                .filter(|updates| *updates > 0)
                .map(|updates| Self::KlWarmUp { updates })
                .ok_or_else(|| {
                    format!("'{text}' is no annealing: use none, free-energy or kl-warm-up:UPDATES")
                }),
        }
    }
}

impl TryFrom<String> for Annealing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Annealing> for String {
    fn from(annealing: Annealing) -> Self {
        annealing.to_string()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn schedules_start_and_end_where_they_say() {
        assert_eq!(Annealing::FreeEnergy.beta(0), 0.01);
        assert_eq!(Annealing::FreeEnergy.beta(5_000), 0.51);
        assert_eq!(Annealing::FreeEnergy.beta(9_900), 1.0);
        let warm_up = Annealing::KlWarmUp { updates: 200 };
        assert_eq!(
            [0, 100, 200, 900].map(|t| warm_up.beta(t)),
            [0.0, 0.5, 1.0, 1.0]
        );
    }

    /// log p(x|z) = -3, log p(z) = -5, log q = -1: β lies on the joint in one and on the KL in the other.
    #[test]
    fn beta_lies_on_the_joint_or_on_the_kl() {
        let device = Device::flex();
        let nats = |x: f64| Tensor::<1>::from_data([x], &device);
        let terms = BoundTerms {
            log_likelihood: nats(-3.0),
            log_prior: nats(-5.0),
            log_posterior: nats(-1.0),
        };
        let loss = |annealing: Annealing, t| annealing.loss(&terms, t).into_scalar::<f32>();
        assert_eq!(loss(Annealing::None, 0), 7.0);
        assert!((loss(Annealing::FreeEnergy, 0) - (-1.0 + 0.01 * 8.0)).abs() < 1e-6);
        assert_eq!(
            loss(Annealing::KlWarmUp { updates: 4 }, 1),
            3.0 + 0.25 * 4.0
        );
    }

    #[test]
    fn annealings_are_written_as_they_are_read() {
        for text in ["none", "free-energy", "kl-warm-up:50"] {
            assert_eq!(text.parse::<Annealing>().unwrap().to_string(), text);
        }
        for text in ["kl-warm-up", "kl-warm-up:0", "kl-warm-up:-3", "linear"] {
            assert!(text.parse::<Annealing>().is_err(), "{text}");
        }
    }
}
