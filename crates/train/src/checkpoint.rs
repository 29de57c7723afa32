//! Which checkpoints are kept, and when training stops early.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use burn::train::{
    EarlyStoppingStrategy, Interrupter,
    checkpoint::{CheckpointingAction, CheckpointingStrategy},
    metric::store::EventStoreClient,
};

use crate::{history::History, run_dir::RunDir};

/// Saves every epoch; keeps the best by validation ELBO and the last two.
///
/// Two, because saving is asynchronous and may fail: the one before must outlive the attempt.
pub struct KeepBestAndLast {
    pub run: RunDir,
    pub history: Arc<Mutex<History>>,
}

impl CheckpointingStrategy for KeepBestAndLast {
    fn checkpointing(&mut self, epoch: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        let history = self.history.lock().expect("no panic while locked");
        let best = history.best_of(|_| true).map(|row| row.epoch);
        let old = self
            .run
            .checkpoints()
            .into_iter()
            .filter(|&saved| saved + 1 < epoch);
        let delete = old
            .filter(|&saved| Some(saved) != best)
            .map(CheckpointingAction::Delete);
        [CheckpointingAction::Save]
            .into_iter()
            .chain(delete)
            .collect()
    }
}

/// A wish to stop at the end of the epoch, when there is a checkpoint to resume from.
#[derive(Clone, Default)]
pub struct StopRequest {
    interrupted: Arc<AtomicBool>,
    /// The dashboard's quit key speaks through an interrupter of its own.
    pub dashboard: Interrupter,
}

impl StopRequest {
    /// Asks to stop; true when this was already asked before.
    pub fn ask(&self) -> bool {
        self.interrupted.swap(true, Ordering::Relaxed)
    }

    pub fn is_asked(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.dashboard.should_stop()
    }
}

/// burn-train asks after each epoch's checkpoint.
impl EarlyStoppingStrategy for StopRequest {
    fn should_stop(&mut self, _: usize, _: &EventStoreClient) -> bool {
        if self.dashboard.should_stop() {
            // The dashboard forgets the key press when it closes.
            self.ask();
        }
        self.is_asked()
    }
}
