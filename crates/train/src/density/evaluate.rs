//! `train evaluate` of densities: the log-likelihood of points that nothing was fitted to, beside a Gaussian's.

use std::{fmt, time::Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::DensityTask;
use crate::{
    backend::Backend,
    cli::EvaluateArgs,
    evaluation::{Split, each, figure, refuse},
    points::{PointsName, gaussian::Gaussian},
    run::trained::Trained,
    task::{Task, TaskName},
    terminal::warn,
};

/// How far above a Gaussian's a mean log-density is suspicious, in nats a dimension: of data a hundredth as wide as they
/// look.
const SUSPICIOUS: f64 = 4.6;

/// A row of `evaluations.csv`: nats per point in the user's units, each with its standard error over the points, which one
/// point has not.
#[derive(Debug, Serialize)]
pub struct Row {
    pub epoch: Option<usize>,
    pub points: PointsName,
    pub split: Split,
    pub count: usize,
    pub log_likelihood: f64,
    pub log_likelihood_se: Option<f64>,
    /// Of the Gaussian with full covariance of the training points, linear in the context; none where it has no bound.
    pub gaussian: Option<f64>,
    pub gaussian_se: Option<f64>,
    /// What the flow is better, paired by point.
    pub gain: Option<f64>,
    pub gain_se: Option<f64>,
    pub backend: Backend,
    pub seconds: f64,
}

/// Evaluates runs of densities.
///
/// # Errors
///
/// When a run, its points or the backend cannot be had, or a result is not finite or cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    refuse(
        TaskName::Density,
        &[
            ("--samples", args.samples.is_some()),
            ("--binarization", args.of.binarization.is_some()),
            ("--seed", args.of.seed.is_some()),
        ],
    )?;
    let settings = |settings| args.of.place.apply_to_points(settings);
    each::<DensityTask, _>(args, settings, |trained| evaluate(trained, args.of.split()))
}

fn evaluate(trained: &Trained<DensityTask>, split: Split) -> Result<Row> {
    let started = Instant::now();
    let (settings, splits) = (trained.task.settings(), &trained.task.points);
    let points = match split {
        Split::Valid => &splits.valid,
        Split::Test => &splits.test,
    };
    let log_probs = trained.log_probs(points)?;
    let lost: Vec<usize> = (0..points.len())
        .filter(|&i| !log_probs[i].is_finite())
        .collect();
    if let [first, ..] = lost[..] {
        bail!(
            "the log-densities of {} of {} {split} points are not finite with the weights {}: {}",
            lost.len(),
            points.len(),
            trained.file.display(),
            match splits.far(points, first) {
                Some(far) => format!("one of them has {far}; correct it, or leave the row out"),
                None => "training had diverged; evaluate another epoch with --epoch".into(),
            }
        );
    }
    let (log_likelihood, log_likelihood_se) = figure(&log_probs);
    let gaussian = match Gaussian::fit(splits) {
        Ok(gaussian) => {
            let log_det = splits.standardization.log_det();
            let log_prob = |i| gaussian.log_prob(points.row(i), points.context(i)) - log_det;
            Some((0..points.len()).map(log_prob).collect::<Vec<f64>>())
        }
        Err(error) => {
            warn(format_args!(
                "warning: no Gaussian to compare with: {error}"
            ));
            None
        }
    };
    let gains = gaussian.as_ref().map(|gaussian| {
        let pairs = log_probs.iter().zip(gaussian);
        pairs
            .map(|(flow, gaussian)| flow - gaussian)
            .collect::<Vec<f64>>()
    });
    let [gaussian, gain] = [gaussian, gains].map(|values| values.map(|values| figure(&values)));
    if let Some((gain, Some(se))) = gain
        && is_suspicious(gain, se, points.dim())
    {
        warn(format_args!(
            "warning: the density is {gain:.1} nats above a Gaussian's, as of points that lie on a line or a surface, or on \
             few values: there the density has no bound, and this number means little"
        ));
    }
    Ok(Row {
        epoch: trained.epoch,
        points: settings.points.clone(),
        split,
        count: points.len(),
        log_likelihood,
        log_likelihood_se,
        gaussian: gaussian.map(|(value, _)| value),
        gaussian_se: gaussian.and_then(|(_, se)| se),
        gain: gain.map(|(value, _)| value),
        gain_se: gain.and_then(|(_, se)| se),
        backend: settings.training.backend,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// By two standard errors: a gain on a few points far from all others is about as large as its own error.
fn is_suspicious(gain: f64, se: f64, dim: usize) -> bool {
    gain - 2.0 * se > SUSPICIOUS * dim as f64
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epoch.map_or("?".into(), |epoch| epoch.to_string());
        let line = |name: &str, value: f64, se: Option<f64>| {
            let se = se.map_or("n/a".into(), |se| format!("{se:.3}"));
            format!("\n{name:<16} {value:9.3} ± {se}")
        };
        write!(
            f,
            "epoch {epoch}, {} {} points of {}, on {}, in {:.1} s; nats per point ± standard error over the points{}",
            self.count,
            self.split,
            self.points,
            self.backend,
            self.seconds,
            line(
                "log-likelihood",
                self.log_likelihood,
                self.log_likelihood_se
            ),
        )?;
        if let (Some(gaussian), Some(gain)) = (self.gaussian, self.gain) {
            f.write_str(&line("of a Gaussian", gaussian, self.gaussian_se))?;
            f.write_str(&line("gain, paired", gain, self.gain_se))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln 100 is 4.605: the width of what is a hundredth as wide as it looks, in each dimension.
    #[test]
    fn a_gain_is_suspicious_by_the_dimension() {
        for dim in [1, 6] {
            let narrow = |times: f64| dim as f64 * times.ln();
            assert!(is_suspicious(narrow(101.0), 0.0, dim));
            assert!(!is_suspicious(narrow(99.0), 0.0, dim));
        }
    }

    /// One of 300 points at 1e5 standard deviations costs the Gaussian 1e10 / 2 nats; the others' gain is 0.
    #[test]
    fn a_gain_on_a_single_point_is_not_suspicious() {
        let mut gains = [0.0; 300];
        gains[17] = 5e9;
        let (gain, se) = figure(&gains);
        assert!(!is_suspicious(gain, se.unwrap(), 2));
    }
}
