//! What a training run shows and writes down as it goes.
//!
//! burn-train tells its renderer everything in order: each split's start, its items, its final metrics.
//! [`Progress`] listens, writes `metrics.csv`, and shows Burn's dashboard or a line an epoch.

use std::{
    collections::HashMap,
    fmt,
    io::{ErrorKind, IsTerminal, Write},
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context, Result};
use burn::train::{
    Interrupter, LearnerSummary,
    checkpoint::CheckpointerError,
    logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger},
    metric::{
        MetricDefinition, MetricId, MetricName, NumericEntry,
        store::{EpochSummary, MetricsUpdate, Split},
    },
    renderer::{
        EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
        MetricsRendererTraining, tui::TuiMetricsRendererWrapper,
    },
};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    history::{EpochRow, History},
    stop::StopRequest,
};

/// A line on standard output about a work that goes on whoever reads it.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error, if anybody is there: a terminal may have closed.
pub fn warn(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard output that is what a command is for. A reader that went away wants no more.
///
/// # Errors
///
/// When it cannot be written.
pub fn print(line: impl fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn bar(length: u64, unit: &str) -> ProgressBar {
    let style = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length).with_style(style)
}

/// Listens to a training run.
pub struct Progress {
    history: Arc<Mutex<History>>,
    /// Stops the run when the metrics cannot be written.
    interrupter: Interrupter,
    stop: StopRequest,
    /// Whether the dashboard has said so in this split.
    answered: bool,
    display: Display,
    names: HashMap<MetricId, MetricName>,
    row: EpochRow,
    epochs: usize,
    images: usize,
    started: Instant,
}

enum Display {
    Dashboard(Box<TuiMetricsRendererWrapper>),
    Lines(ProgressBar),
}

impl Progress {
    /// Shows the dashboard on a terminal, where its quit key goes to `stop`; lines elsewhere.
    pub fn new(history: Arc<Mutex<History>>, interrupter: Interrupter, stop: StopRequest) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let display = if terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb") {
            Display::Dashboard(Box::new(TuiMetricsRendererWrapper::new(
                stop.dashboard.clone(),
                None,
            )))
        } else {
            Display::Lines(bar(0, "images"))
        };
        Self {
            history,
            interrupter,
            stop,
            answered: false,
            display,
            names: HashMap::new(),
            row: EpochRow::default(),
            epochs: 0,
            images: 0,
            started: Instant::now(),
        }
    }

    /// Whether the terminal belongs to the dashboard, and nothing else should write to it.
    pub fn is_dashboard(&self) -> bool {
        matches!(self.display, Display::Dashboard(_))
    }

    fn dashboard(&mut self) -> Option<&mut TuiMetricsRendererWrapper> {
        match &mut self.display {
            Display::Dashboard(dashboard) => Some(dashboard),
            Display::Lines(_) => None,
        }
    }

    /// Shows that a wish to stop was heard, among the dashboard's counters, which are forgotten after each split.
    fn answer(&mut self) {
        if self.stop.is_asked()
            && !self.answered
            && let Some(dashboard) = self.dashboard()
        {
            dashboard.log_event_training(StopRequest::ANSWER.into());
            self.answered = true;
        }
    }

    /// Keeps a metric's final value of the epoch.
    fn keep(&mut self, state: &MetricState, split: &Split) {
        let MetricState::Numeric(entry, Some(NumericEntry::Final(value))) = state else {
            return;
        };
        let name = self.names.get(&entry.metric_id).map(|name| name.as_str());
        let row = &mut self.row;
        let field = match (split, name) {
            (Split::Train, Some("ELBO")) => &mut row.train_elbo,
            (Split::Train, Some("Reconstruction")) => &mut row.train_reconstruction,
            (Split::Train, Some("KL")) => &mut row.train_kl,
            (Split::Train, Some("Gradient norm")) => &mut row.gradient_norm,
            (Split::Train, Some("Clipped")) => &mut row.clipped,
            (Split::Valid, Some("ELBO")) => &mut row.valid_elbo,
            (Split::Valid, Some("Reconstruction")) => &mut row.valid_reconstruction,
            (Split::Valid, Some("KL")) => &mut row.valid_kl,
            (Split::Valid, Some("ELBO, not averaged")) => &mut row.valid_elbo_not_averaged,
            _ => return,
        };
        *field = *value;
    }

    fn line(&self) -> String {
        let row = &self.row;
        let width = self.epochs.to_string().len();
        format!(
            "epoch {:>width$}/{}  ELBO {:8.2}  reconstruction {:8.2}  KL {:6.2}  validation ELBO {:8.2}  {:5.1} s  {:6.0} images/s",
            row.epoch,
            self.epochs,
            row.train_elbo,
            row.train_reconstruction,
            row.train_kl,
            row.valid_elbo,
            row.seconds,
            row.images_per_second,
        )
    }
}

impl TrainingProgressLogger for Progress {
    fn start(&mut self, epochs: usize, first: usize, items: Option<usize>, label: Option<&str>) {
        self.epochs = epochs;
        if let Some(dashboard) = self.dashboard() {
            dashboard.start(epochs, first, items, label);
        }
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.images = items;
        self.answered = false;
        self.started = Instant::now();
        match &mut self.display {
            Display::Dashboard(dashboard) => {
                make_ctrl_c_a_signal();
                dashboard.start_split(split, items);
            }
            Display::Lines(bar) => {
                bar.reset();
                bar.set_length(items as u64);
                bar.set_message(split.to_owned());
            }
        }
    }

    fn update_split(&mut self, items: usize) {
        match &mut self.display {
            Display::Dashboard(dashboard) => dashboard.update_split(items),
            Display::Lines(bar) => bar.set_position(items as u64),
        }
    }

    fn end_split(&mut self) {
        if let Some(dashboard) = self.dashboard() {
            dashboard.end_split();
        }
    }

    fn update_epoch(&mut self, epoch: usize) {
        if self.interrupter.should_stop() {
            // Its numbers may be of a part of the images, and it gets no checkpoint.
            return;
        }
        self.row.epoch = epoch;
        let written = self
            .history
            .lock()
            .expect("no panic while locked")
            .push(self.row);
        if let Err(error) = written {
            let error = std::io::Error::new(error.kind(), format!("metrics.csv: {error}"));
            self.interrupter.fail(CheckpointerError::IOError(error));
        }
        let line = self.line();
        match &mut self.display {
            Display::Dashboard(dashboard) => dashboard.update_epoch(epoch),
            Display::Lines(bar) => bar.suspend(|| say(line)),
        }
    }

    fn end(&mut self) {
        match &mut self.display {
            Display::Dashboard(dashboard) => TrainingProgressLogger::end(dashboard.as_mut()),
            Display::Lines(bar) => bar.finish_and_clear(),
        }
    }

    fn log_event_training(&mut self, event: String) {
        if let Some(dashboard) = self.dashboard() {
            dashboard.log_event_training(event);
        }
    }
}

impl MetricsRendererTraining for Progress {
    fn update_train(&mut self, state: MetricState) {
        self.keep(&state, &Split::Train);
        // Set with every item, so that at the end it is the time of the last one.
        self.row.seconds = self.started.elapsed().as_secs_f64();
        self.row.images_per_second = self.images as f64 / self.row.seconds;
        self.answer();
        if let Some(dashboard) = self.dashboard() {
            dashboard.update_train(state);
        }
    }

    fn update_valid(&mut self, state: MetricState) {
        self.keep(&state, &Split::Valid);
        self.answer();
        if let Some(dashboard) = self.dashboard() {
            dashboard.update_valid(state);
        }
    }

    fn on_train_end(
        &mut self,
        summary: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        match self.dashboard() {
            Some(dashboard) => dashboard.on_train_end(summary),
            None => Ok(()),
        }
    }
}

impl MetricsRenderer for Progress {
    fn manual_close(&mut self) {
        if let Some(dashboard) = self.dashboard() {
            dashboard.manual_close();
        }
    }

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.clone());
        if let Some(dashboard) = self.dashboard() {
            dashboard.register_metric(definition);
        }
    }
}

// burn-train's renderers serve its evaluator as well, which this program does not use.

impl MetricsRendererEvaluation for Progress {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for Progress {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

/// The dashboard puts the terminal in raw mode, where Ctrl-C is a key like others and nobody listens to it.
#[cfg(unix)]
fn make_ctrl_c_a_signal() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if let Ok(mut terminal) = tcgetattr(&stdin) {
        terminal.local_modes.insert(LocalModes::ISIG);
        // Where this fails, the dashboard's quit key is left.
        let _ = tcsetattr(&stdin, OptionalActions::Now, &terminal);
    }
}

#[cfg(not(unix))]
fn make_ctrl_c_a_signal() {}

/// Stands in for burn-train's logger, which writes a file a metric and epoch and panics on a full disk;
/// `metrics.csv` has it all.
pub struct NoMetricFiles;

impl MetricLogger for NoMetricFiles {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its means may be of a part of the images, and no checkpoint comes after it.
    #[test]
    fn an_epoch_that_was_cut_short_has_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("metrics.csv");
        let history = Arc::new(Mutex::new(History::load(&file).unwrap()));
        let interrupter = Interrupter::new();
        let stop = StopRequest::default();
        let mut progress = Progress::new(history.clone(), interrupter.clone(), stop);
        progress.update_epoch(1);
        interrupter.stop(Some("interrupted"));
        progress.update_epoch(2);
        assert_eq!(history.lock().unwrap().len(), 1);
        assert_eq!(History::load(&file).unwrap().len(), 1);
    }
}
