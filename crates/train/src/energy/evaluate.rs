//! `train evaluate` of energies: how far the approximation is from its target.

use std::{fmt, time::Instant};

use anyhow::{Result, ensure};
use burn::tensor::{DType, Tensor, TensorData};
use flow_vae::Mean;
use serde::{Deserialize, Serialize};

use super::{
    DIM, EnergyName, EnergySettings, EnergyTask,
    potential::{Grid, REACH},
};
use crate::{
    backend::Backend,
    cli::EvaluateArgs,
    evaluation::{each, refuse},
    random::{FIXED_EPOCH, Purpose, normal_rows},
    run::trained::Trained,
    task::{Task, TaskName},
};

/// Samples where no number is asked for.
const SAMPLES: usize = 100_000;

/// Points that are computed at once.
pub const AT_ONCE: usize = 10_000;

/// What is known of each is kept: a million take 17 megabytes.
const MOST: usize = 100_000_000;

/// Samples of the target that importance samples are to be worth, in all, if an error to first order is to say how far off they are.
const EFFECTIVE: f64 = 100.0;

/// Cells on a side of the grid on which the density is integrated.
const SIDE: usize = 500;

/// How far the number on the grid may be from what it stands for, in nats, if the samples' own error is not larger: else it is
/// no check of them.
const CLOSE: f64 = 0.01;

/// A row of `evaluations.csv`, in nats, each estimate from samples with its standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub epoch: Option<usize>,
    /// Its validation ELBO in `metrics.csv`, which tells its weights from those of the same epoch after a fall-back; rows of earlier
    /// programs lack it.
    #[serde(default)]
    pub valid_elbo: Option<f64>,
    pub energy: EnergyName,
    pub samples: usize,
    pub noise_seed: u64,
    pub elbo: f64,
    pub elbo_se: f64,
    /// ln Z of the target, by quadrature.
    pub log_z: f64,
    /// KL(q || p) = ln Z - ELBO.
    pub kl: f64,
    pub kl_se: f64,
    /// The same integral on a grid, from the density rather than from samples; none where the grid, which holds all of the
    /// target, does not hold q, or is too coarse for it.
    pub kl_on_grid: Option<f64>,
    /// How much of q the grid holds.
    pub mass_on_grid: f64,
    /// ln Z by importance sampling from q; none where the samples are worth too few.
    pub log_z_by_importance: Option<f64>,
    pub log_z_by_importance_se: Option<f64>,
    /// As importance samples: they are worth this share of as many samples of the target itself.
    pub effective_share: f64,
    pub backend: Backend,
    pub seconds: f64,
}

/// Evaluates runs of energies.
///
/// # Errors
///
/// When a run or the backend cannot be had, or a result is not finite or cannot be written.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    refuse(
        TaskName::Energy,
        &[
            ("--split", args.of.split.is_some()),
            ("--binarization", args.of.binarization.is_some()),
            ("--data-dir", args.of.place.data_dir.is_some()),
        ],
    )?;
    let samples = args.samples.map_or(SAMPLES, |samples| samples.get());
    let settings = |mut settings: EnergySettings| {
        args.of.place.apply_backend(&mut settings);
        settings
    };
    each::<EnergyTask, _>(args, settings, |trained| {
        evaluate(trained, samples, args.of.seed())
    })
}

/// Evaluates one model.
///
/// # Errors
///
/// When the device fails or a result is not finite.
pub fn evaluate(trained: &Trained<EnergyTask>, samples: usize, seed: u64) -> Result<Row> {
    ensure!(
        samples > 1,
        "--samples 1: a standard error takes two samples at least"
    );
    ensure!(
        samples <= MOST,
        "--samples {samples}: the weights of at most {MOST} samples are kept"
    );
    let started = Instant::now();
    let settings = trained.task.settings();
    let q = trained.model.distribution();
    // ln w = -U(z) - ln q(z) at samples of q.
    let mut log_weights: Vec<f64> = Vec::new();
    let mut is_beyond: Vec<bool> = Vec::new();
    for start in (0..samples).step_by(AT_ONCE) {
        let noise = noise(
            trained,
            start..samples.min(start + AT_ONCE),
            Purpose::EvaluateNoise,
            seed,
        );
        let (z, log_q) = q.transport(noise);
        let coordinates: Vec<f64> = z.clone().try_into_data()?.iter::<f64>().collect();
        let points = coordinates.chunks_exact(DIM);
        is_beyond.extend(points.map(|z| z.iter().any(|x| x.abs() > REACH)));
        let log_w = settings.energy.of(z).neg() - log_q;
        log_weights.extend(log_w.try_into_data()?.iter::<f64>());
    }
    let lost = log_weights.iter().filter(|w| !w.is_finite()).count();
    ensure!(
        lost == 0,
        "{lost} of {samples} samples are not finite with the weights {}: training had diverged; evaluate another epoch with \
         --epoch",
        trained.file.display()
    );
    let elbo = Mean::of(&log_weights);
    let importance = Importance::of(&log_weights);
    let says = importance.effective_share * samples as f64 >= EFFECTIVE;
    let log_z = settings.energy.log_z();
    let on_grid = on_grid(trained, log_z)?;
    ensure!(
        on_grid.kl.is_finite(),
        "the density is not finite everywhere with the weights {}: training had diverged; evaluate another epoch with --epoch",
        trained.file.display()
    );
    let beyond = Part::beyond(&log_weights, &is_beyond, log_z);
    let on_cells = log_weights.iter().zip(&is_beyond);
    let on_cells = on_cells.filter(|&(_, &is_beyond)| !is_beyond);
    let widest = on_cells.fold(0.0, |widest: f64, (log_w, _)| {
        widest.max((log_z - log_w).abs())
    });
    let is_check = on_grid.error(&beyond, widest) <= elbo.standard_error.max(CLOSE);
    Ok(Row {
        epoch: trained.epoch,
        valid_elbo: trained.valid_score,
        energy: settings.energy,
        samples,
        noise_seed: seed,
        elbo: elbo.value,
        elbo_se: elbo.standard_error,
        log_z,
        kl: log_z - elbo.value,
        kl_se: elbo.standard_error,
        kl_on_grid: is_check.then_some(on_grid.kl),
        mass_on_grid: on_grid.mass,
        log_z_by_importance: says.then_some(importance.log_mean),
        log_z_by_importance_se: says.then_some(importance.standard_error),
        effective_share: importance.effective_share,
        backend: settings.training.backend,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Standard normal noise of some points of a stream that a point each goes on, `[n, 2]`.
pub fn noise(
    trained: &Trained<EnergyTask>,
    points: std::ops::Range<usize>,
    purpose: Purpose,
    seed: u64,
) -> Tensor<2> {
    let rows = points.len();
    let noise = normal_rows(seed, purpose, FIXED_EPOCH, points, 1, DIM);
    Tensor::from_data(TensorData::new(noise, [rows, DIM]), &trained.device)
}

/// ln q on the cells of a square, row by row from the top.
pub fn log_density(trained: &Trained<EnergyTask>, grid: &Grid) -> Result<Vec<f64>> {
    let q = trained.model.distribution();
    let mut log_q = Vec::new();
    for start in (0..grid.len()).step_by(AT_ONCE) {
        let cells = start..grid.len().min(start + AT_ONCE);
        let z = grid.tensor(cells, DType::F32, &trained.device);
        log_q.extend(q.log_prob(z).try_into_data()?.iter::<f64>());
    }
    Ok(log_q)
}

/// A part of q.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Σ q (ln q - ln p) over it, in nats.
    kl: f64,
    /// Σ q over it.
    mass: f64,
}

impl Part {
    /// Of what the grid lacks: the samples that lie there tell.
    fn beyond(log_weights: &[f64], is_beyond: &[bool], log_z: f64) -> Self {
        let share = 1.0 / log_weights.len() as f64;
        let there = log_weights.iter().zip(is_beyond);
        let there = there.filter(|&(_, &is_beyond)| is_beyond);
        there.fold(Self::default(), |part, (log_w, _)| Self {
            kl: part.kl + share * (log_z - log_w),
            mass: part.mass + share,
        })
    }

    /// By how much its KL differs from all of q's, about, where `beyond` is what it lacks: by that, and where both together are not
    /// one, since the cells are too coarse, by as much of the largest |ln q - ln p| of samples there: what cells pass over is where q
    /// is narrow.
    fn error(&self, beyond: &Self, largest: f64) -> f64 {
        let missed = (self.mass + beyond.mass - 1.0).abs();
        beyond.kl.abs() + missed * largest.max(self.kl.abs())
    }
}

/// What a grid that holds all of the target has of q, in the middles of its cells.
fn on_grid(trained: &Trained<EnergyTask>, log_z: f64) -> Result<Part> {
    let grid = Grid::new(REACH, SIDE);
    let log_q = log_density(trained, &grid)?;
    let energy = trained.task.settings().energy.on(&grid);
    let mut part = Part::default();
    for (log_q, energy) in log_q.iter().zip(&energy) {
        let q = log_q.exp() * grid.cell();
        // Where it underflows, 0 ln 0 is 0.
        if q != 0.0 {
            part.kl += q * (log_q + energy + log_z);
            part.mass += q;
        }
    }
    Ok(part)
}

/// What importance weights say.
struct Importance {
    /// The logarithm of their mean, and its standard error to first order.
    log_mean: f64,
    standard_error: f64,
    /// (Σ w)² / (n Σ w²) (Kong 1992).
    effective_share: f64,
}

impl Importance {
    fn of(log_weights: &[f64]) -> Self {
        let largest = log_weights
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = log_weights.iter().map(|w| (w - largest).exp()).collect();
        let Mean {
            value,
            standard_error,
        } = Mean::of(&weights);
        let squares = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
        Self {
            log_mean: value.ln() + largest,
            standard_error: standard_error / value,
            effective_share: value * value / squares,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epoch = self.epoch.map_or("?".into(), |epoch| epoch.to_string());
        let by_importance = match (self.log_z_by_importance, self.log_z_by_importance_se) {
            (Some(log_z), Some(se)) => format!("{log_z:9.4} ± {se:.4}"),
            _ => format!("{:>9}         ", "n/a"),
        };
        write!(
            f,
            "energy {}, epoch {epoch}, {} samples, noise seed {}, on {}, in {:.1} s; nats ± standard error\n\
             ELBO            {:9.4} ± {:.4}\n\
             ln Z            {:9.4}            by quadrature\n\
             ln Z            {}   by importance sampling, {:.1} % effective\n\
             KL(q||p)        {:9.4} ± {:.4}   ln Z - ELBO\n\
             KL(q||p)        {:>9}            on a grid that holds {:.4} of q, and all of p",
            self.energy,
            self.samples,
            self.noise_seed,
            self.backend,
            self.seconds,
            self.elbo,
            self.elbo_se,
            self.log_z,
            by_importance,
            100.0 * self.effective_share,
            self.kl,
            self.kl_se,
            self.kl_on_grid
                .map_or("n/a".into(), |kl| format!("{kl:.4}")),
            self.mass_on_grid,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of fits that were measured: a thousandth of q that is far beyond, and cells that count three thousandths too many.
    #[test]
    fn a_grid_is_wrong_by_what_it_lacks_and_by_what_it_counts_twice() {
        let part = |kl, mass| Part { kl, mass };
        let error = part(14.02, 0.999).error(&part(1.198, 0.001), 14.02);
        assert!((error - 1.198).abs() < 1e-9, "{error}");
        let error = part(37.8077, 1.0031).error(&Part::default(), 0.0);
        assert!((error - 0.0031 * 37.8077).abs() < 1e-9, "{error}");
        // Where q is below p a part of the KL is negative, and cells may count too little.
        let error = part(-2.0, 0.98).error(&part(-0.3, 0.01), 1.5);
        assert!((error - (0.3 + 0.01 * 2.0)).abs() < 1e-12, "{error}");
        // Between the cells lies a hundredth of q, in a spike that is 6 nats above p: the rest is p itself.
        let error = part(-0.0099, 0.99).error(&Part::default(), 6.2);
        assert!((error - 0.062).abs() < 1e-12, "{error}");
    }

    /// Two of four samples lie beyond.
    #[test]
    fn samples_tell_what_a_grid_lacks() {
        let is_beyond = [true, false, true, false];
        let beyond = Part::beyond(&[1.0, 2.0, -3.0, 0.0], &is_beyond, 0.5);
        let kl = ((0.5 - 1.0) + (0.5 + 3.0)) / 4.0;
        assert!((beyond.kl - kl).abs() < 1e-12 && (beyond.mass - 0.5).abs() < 1e-12);
        assert_eq!(Part::beyond(&[1.0], &[false], 0.5).mass, 0.0);
    }

    /// Equal weights are worth all samples; one that is all is worth one.
    #[test]
    fn importance_weights_are_worth_what_they_are() {
        let same = Importance::of(&[-1000.0; 10]);
        assert!((same.log_mean + 1000.0).abs() < 1e-12 && same.standard_error < 1e-12);
        assert!((same.effective_share - 1.0).abs() < 1e-12);
        let one = Importance::of(&[0.0, -800.0, -800.0, -800.0]);
        assert!((one.effective_share - 0.25).abs() < 1e-12);
        assert!((one.log_mean - 0.25_f64.ln()).abs() < 1e-12);
        // Weights of 1 and 3: a mean of 2, a deviation of √2, an error of the mean of 1.
        let two = Importance::of(&[0.0, 3.0_f64.ln()]);
        assert!((two.log_mean - 2.0_f64.ln()).abs() < 1e-12);
        assert!((two.standard_error - 0.5).abs() < 1e-12);
    }
}
