//! How a user ends a training before its time: Ctrl-C, the dashboard's quit key, and the signals of a system that shuts
//! down or of a terminal that closes.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use burn::train::{EarlyStoppingStrategy, Interrupter, metric::store::EventStoreClient};

use crate::{run::checkpoint::Reading, terminal::warn};

/// A wish to stop at the end of the epoch, when there is a checkpoint to resume from; the same for all trainings of a process,
/// one after the other.
#[derive(Clone, Default)]
pub struct StopRequest {
    asked: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    listens: Arc<AtomicBool>,
    /// Stops the training at once. Each has its own, which remembers how it ended.
    interrupter: Arc<Mutex<Interrupter>>,
    /// The dashboard's quit key speaks through an interrupter of its own.
    pub dashboard: Interrupter,
}

impl StopRequest {
    /// What the first wish is answered with.
    pub const ANSWER: &str =
        "stopping after this epoch, when it is saved; one more Ctrl-C stops at once and loses it";

    /// What a wish is answered with that comes later: pictures mostly take seconds.
    const TOO_LATE: &str = "training is over and saved; the pictures are being drawn, and then it ends; one more Ctrl-C ends it \
                            now, and --resume draws what is missing";

    /// Listens to those who want to end this process: Ctrl-C, again, means after this step, and once more, or when training is
    /// over, now; SIGTERM and SIGHUP, which may both come of one event, only ask. A process that was told to outlive its terminal (`nohup`) doesn't hear of its end.
    /// Answers on standard error if `speak`. To be called when a training begins; from the second on, it listens already.
    ///
    /// # Errors
    ///
    /// When the system does not let this process listen.
    pub fn listen(&self, speak: bool) -> Result<()> {
        self.over.store(false, Ordering::Relaxed);
        *self.interrupter.lock().expect("no holder panics") = Interrupter::default();
        if self.listens.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let stop = self.clone();
        let answer = move || match stop.over.load(Ordering::Relaxed) {
            true => warn(format_args!("\n{}", Self::TOO_LATE)),
            false if speak => warn(format_args!("\n{}", Self::ANSWER)),
            false => {}
        };
        let (stop, say) = (self.clone(), answer.clone());
        let mut interrupted = false;
        let on_ctrl_c = move || match stop.ask() {
            // A step that waits for a device that doesn't answer hears of nothing, nor do pictures.
            true if interrupted || stop.over.load(Ordering::Relaxed) => {
                std::process::exit(crate::STOPPED.into());
            }
            true => {
                interrupted = true;
                stop.interrupter().stop(Some("interrupted"));
            }
            false => say(),
        };
        ctrlc::set_handler(on_ctrl_c).context("cannot listen to Ctrl-C")?;
        #[cfg(unix)]
        self.listen_to_the_system(answer)
            .context("cannot listen to signals")?;
        Ok(())
    }

    #[cfg(unix)]
    fn listen_to_the_system(&self, answer: impl Fn() + Send + 'static) -> std::io::Result<()> {
        use signal_hook::{
            consts::{SIGHUP, SIGTERM},
            iterator::Signals,
        };
        let mut signals = Signals::new([SIGTERM])?;
        if !is_ignored(SIGHUP) {
            signals.add_signal(SIGHUP)?;
        }
        let stop = self.clone();
        std::thread::Builder::new().spawn(move || {
            for _ in signals.forever() {
                if !stop.ask() {
                    answer();
                }
            }
        })?;
        Ok(())
    }

    /// That of the training which runs.
    pub fn interrupter(&self) -> Interrupter {
        (self.interrupter.lock().expect("no holder panics")).clone()
    }

    /// Asks to stop; true when this was already asked before.
    fn ask(&self) -> bool {
        self.asked.swap(true, Ordering::Relaxed)
    }

    /// To be called when training has ended.
    pub fn training_is_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) || self.dashboard.should_stop()
    }
}

/// What is between an epoch's checkpoint and the next epoch, where burn-train asks whether to stop.
#[derive(Clone)]
pub struct EndOfEpoch {
    pub stop: StopRequest,
    pub records: Reading,
}

impl EndOfEpoch {
    /// Whether training ends here, when the next epoch may begin.
    pub fn stops(&self, epoch: usize) -> bool {
        self.records.wait(epoch);
        if self.stop.dashboard.should_stop() {
            // The dashboard forgets the key press when it closes.
            self.stop.ask();
        }
        self.stop.is_asked()
    }
}

impl EarlyStoppingStrategy for EndOfEpoch {
    fn should_stop(&mut self, epoch: usize, _: &EventStoreClient) -> bool {
        self.stops(epoch)
    }
}

/// Whether this process was started with a signal ignored, as Linux tells; elsewhere nobody knows.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}
