//! The learning rate as training goes.

use std::{f64::consts::PI, fmt};

use burn::{
    module::ParamGroup,
    optim::{
        LearningRate,
        lr_scheduler::{LrScheduler, LrSchedulerRecord, module_lr_scheduler::ModuleLrScheduler},
    },
};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the rate goes from its highest, after the warm-up, to the end of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays
    Constant,
    /// Down to 0 along a straight line
    Linear,
    /// Down to 0 along half a wave of the cosine (Loshchilov & Hutter 2017)
    Cosine,
}

impl Schedule {
    /// The share of the highest rate where `progress`, from 0 to 1, of the way is done.
    fn share(self, progress: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - progress,
            Self::Cosine => (1.0 + (PI * progress).cos()) / 2.0,
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("none is hidden");
        f.write_str(value.get_name())
    }
}

/// The rate at each update, a function of the update's number and of how many there will be: a run that is resumed with
/// more epochs goes on at the rate that a run of that length has there.
#[derive(Clone, Debug)]
pub struct Rate {
    pub highest: f64,
    pub schedule: Schedule,
    /// Updates at first over which the rate rises to its highest.
    pub warm_up: usize,
    /// Updates of the whole training.
    pub updates: usize,
    /// Updates that are done, which is all that a checkpoint knows.
    done: usize,
}

impl Rate {
    pub fn new(highest: f64, schedule: Schedule, warm_up: usize, updates: usize) -> Self {
        Self {
            highest,
            schedule,
            warm_up,
            updates,
            done: 0,
        }
    }

    /// For a model of which some parameters learn at another multiple of the rate.
    pub fn scheduler(self, own: Option<(ParamGroup, f64)>) -> ModuleLrScheduler {
        let scheduler = ModuleLrScheduler::new(self.clone());
        match own {
            Some((group, factor)) => {
                let highest = factor * self.highest;
                scheduler.with_group(group, Self { highest, ..self })
            }
            None => scheduler,
        }
    }

    /// The rate of the update after `done` others.
    fn at(&self, done: usize) -> f64 {
        if done < self.warm_up {
            return self.highest * (done + 1) as f64 / self.warm_up as f64;
        }
        let (done, all) = (
            done - self.warm_up,
            self.updates.saturating_sub(self.warm_up),
        );
        self.highest
            * self
                .schedule
                .share((done as f64 / all.max(1) as f64).min(1.0))
    }
}

/// The name of the one number of the state.
const DONE: &str = "done";

impl LrScheduler for Rate {
    fn step(&mut self) -> LearningRate {
        let rate = self.at(self.done);
        self.done += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar(DONE, self.done as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        self.done = record.scalar::<u64>(DONE).unwrap_or(0) as usize;
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;

    use super::*;

    fn rates(mut rate: Rate, updates: usize) -> Vec<f64> {
        (0..updates).map(|_| rate.step()).collect()
    }

    #[track_caller]
    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got}, not {expected}");
        }
    }

    #[test]
    fn schedules_go_from_the_highest_towards_zero() {
        let rate = |schedule| Rate::new(2.0, schedule, 0, 4);
        assert_close(&rates(rate(Schedule::Constant), 4), &[2.0; 4]);
        assert_close(&rates(rate(Schedule::Linear), 4), &[2.0, 1.5, 1.0, 0.5]);
        let half = (PI / 4.0).cos();
        let cosine = [2.0, 1.0 + half, 1.0, 1.0 - half];
        assert_close(&rates(rate(Schedule::Cosine), 4), &cosine);
    }

    #[test]
    fn a_group_alone_has_a_rate_of_its_own() {
        let flow = ParamGroup::from_predicate("model.flow");
        let mut rates = Rate::new(2.0, Schedule::Linear, 0, 2).scheduler(Some((flow, 0.1)));
        let id = ParamId::new();
        for share in [1.0, 0.5] {
            let rates = rates.step();
            let of = |path| rates.lr_from_param(id, Some(path));
            let got = [
                "model.encoder.layers.0.weight",
                "model.flow.parameters.head",
            ]
            .map(of);
            assert_close(&got, &[2.0 * share, 0.2 * share]);
        }
    }

    #[test]
    fn a_warm_up_comes_first_and_takes_from_the_rest() {
        let rate = Rate::new(1.0, Schedule::Linear, 2, 6);
        assert_close(&rates(rate, 6), &[0.5, 1.0, 1.0, 0.75, 0.5, 0.25]);
        // Longer than the training itself.
        let rate = Rate::new(1.0, Schedule::Cosine, 8, 2);
        assert_close(&rates(rate, 3), &[0.125, 0.25, 0.375]);
    }

    #[test]
    fn a_resumed_run_has_the_rates_of_one_of_its_length() {
        let length = |updates| Rate::new(1.0, Schedule::Cosine, 1, updates);
        for (before, after) in [(8, 8), (5, 8), (8, 6)] {
            let mut first = length(before);
            for _ in 0..4 {
                first.step();
            }
            let mut resumed = length(after);
            resumed.load_record(first.to_record());
            assert_close(&rates(resumed, 2), &rates(length(after), 6)[4..]);
        }
    }
}
