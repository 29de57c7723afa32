//! What evaluations say: as rows, as text and as JSON.

use std::fmt;

use flow_vae::Estimates;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    data::{Binarization, DatasetName},
    evaluation::{Split, figure},
};

/// A row of `evaluations.csv`: nats per image, each with its standard error over the images, which one image has not.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    pub epoch: Option<usize>,
    /// Its validation ELBO in `metrics.csv`, which tells its weights from those of the same epoch after a fall-back; rows of earlier
    /// programs lack it.
    #[serde(default)]
    pub valid_elbo: Option<f64>,
    pub dataset: DatasetName,
    pub split: Split,
    pub binarization: Option<Binarization>,
    /// A checksum of the numbers that were evaluated: the same in rows of the same images and draw.
    pub draw: String,
    pub images: usize,
    pub samples: usize,
    pub noise_seed: u64,
    pub elbo: f64,
    pub elbo_se: Option<f64>,
    pub reconstruction: f64,
    pub reconstruction_se: Option<f64>,
    pub kl: f64,
    pub kl_se: Option<f64>,
    pub nll: f64,
    pub nll_se: Option<f64>,
    /// -elbo - nll.
    pub gap: f64,
    pub gap_se: Option<f64>,
    pub backend: Backend,
    pub seconds: f64,
}

impl Row {
    /// Whether all of it are numbers, as all that is written is.
    pub fn is_finite(&self) -> bool {
        let errors = [
            self.elbo_se,
            self.reconstruction_se,
            self.kl_se,
            self.nll_se,
            self.gap_se,
        ];
        let numbers = [self.elbo, self.reconstruction, self.kl, self.nll, self.gap];
        (numbers.into_iter().chain(errors.into_iter().flatten())).all(f64::is_finite)
    }
}

/// A run's numbers, and those of each image that they are means of.
pub struct Evaluation {
    pub run: String,
    pub weights: String,
    /// What was evaluated, in words.
    pub heading: String,
    pub row: Row,
    pub estimates: Estimates,
}

/// How a run differs from the first: means of differences of the same images, so that what all runs find hard does
/// not count as uncertainty.
#[derive(Debug, Serialize)]
pub struct Difference<'a> {
    run: &'a str,
    minus: &'a str,
    #[serde(skip)]
    samples: usize,
    elbo: f64,
    elbo_se: Option<f64>,
    nll: f64,
    nll_se: Option<f64>,
    gap: f64,
    gap_se: Option<f64>,
}

pub fn differences(evaluations: &[Evaluation]) -> Vec<Difference<'_>> {
    let Some((first, others)) = evaluations.split_first() else {
        return Vec::new();
    };
    let to_first = |other| Difference::between(other, first);
    others.iter().map(to_first).collect()
}

impl<'a> Difference<'a> {
    fn between(run: &'a Evaluation, minus: &'a Evaluation) -> Self {
        let paired = |a: &[f64], b: &[f64]| {
            let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            figure(&differences)
        };
        let (a, b) = (&run.estimates, &minus.estimates);
        let (elbo, elbo_se) = paired(&a.elbo, &b.elbo);
        // Of negative log-likelihoods.
        let (nll, nll_se) = paired(&b.log_likelihood, &a.log_likelihood);
        let (gap, gap_se) = paired(&a.gap(), &b.gap());
        Self {
            run: &run.run,
            minus: &minus.run,
            samples: run.row.samples,
            elbo,
            elbo_se,
            nll,
            nll_se,
            gap,
            gap_se,
        }
    }
}

/// One JSON object of all.
pub fn to_json(evaluations: &[Evaluation]) -> String {
    #[derive(Serialize)]
    struct Run<'a> {
        run: &'a str,
        weights: &'a str,
        #[serde(flatten)]
        row: &'a Row,
    }
    #[derive(Serialize)]
    struct All<'a> {
        runs: Vec<Run<'a>>,
        differences: Vec<Difference<'a>>,
    }
    let runs = evaluations.iter().map(|evaluation| Run {
        run: &evaluation.run,
        weights: &evaluation.weights,
        row: &evaluation.row,
    });
    let all = All {
        runs: runs.collect(),
        differences: differences(evaluations),
    };
    serde_json::to_string_pretty(&all).expect("numbers and text are JSON")
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row, heading) = (&self.row, &self.heading);
        write!(
            f,
            "{heading}\nnats per image ± standard error over the images"
        )?;
        line(f, "ELBO", row.elbo, row.elbo_se)?;
        line(
            f,
            "reconstruction",
            row.reconstruction,
            row.reconstruction_se,
        )?;
        line(f, "KL", row.kl, row.kl_se)?;
        line(f, &nll(row.samples), row.nll, row.nll_se)?;
        line(f, "gap", row.gap, row.gap_se)
    }
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}, paired by image", self.run, self.minus)?;
        line(f, "ELBO", self.elbo, self.elbo_se)?;
        line(f, &nll(self.samples), self.nll, self.nll_se)?;
        line(f, "gap", self.gap, self.gap_se)
    }
}

/// What an estimate with so many samples is called.
pub fn nll(samples: usize) -> String {
    format!("NLL({samples})")
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: f64, se: Option<f64>) -> fmt::Result {
    let se = se.map_or("n/a".into(), |se| format!("{se:.3}"));
    write!(f, "\n{name:<14} {value:9.3} ± {se}")
}
