//! What a training run shows and writes down as it goes.
//!
//! burn-train tells its renderer everything in order: each split's start, its items, its final metrics.
//! [`Progress`] listens, writes `metrics.csv`, and shows Burn's dashboard or a line an epoch.

use std::{
    collections::HashMap,
    io::IsTerminal,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Instant,
};

use burn::train::{
    LearnerSummary,
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
use indicatif::ProgressBar;

use super::{learner::MeanMetric, stop::StopRequest};
use crate::{
    run::history::{EpochRow, History},
    task::Measured,
    terminal::{self, bar, say},
};

/// Listens to a training run.
pub struct Progress {
    history: Arc<Mutex<History>>,
    measured: &'static Measured,
    /// Its interrupter stops the run at once: when the metrics cannot be written, or the dashboard was told to.
    stop: StopRequest,
    /// Whether the dashboard has said so in this split.
    answered: bool,
    display: Display,
    names: HashMap<MetricId, MetricName>,
    row: EpochRow,
    epochs: usize,
    items: usize,
    started: Instant,
}

enum Display {
    Dashboard(Box<TuiMetricsRendererWrapper>),
    Lines(ProgressBar),
}

impl Progress {
    /// Shows the dashboard on a terminal, where its quit key goes to `stop`; lines elsewhere.
    pub fn new(
        history: Arc<Mutex<History>>,
        measured: &'static Measured,
        stop: StopRequest,
    ) -> Self {
        let on_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let display = if on_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb") {
            #[cfg(unix)]
            terminal::outlive_the_dashboard();
            Display::Dashboard(Box::new(TuiMetricsRendererWrapper::new(
                stop.dashboard.clone(),
                None,
            )))
        } else {
            Display::Lines(bar(0, &format!("{}s", measured.item)))
        };
        Self {
            history,
            measured,
            stop,
            answered: false,
            display,
            names: HashMap::new(),
            row: EpochRow::empty(measured),
            epochs: 0,
            items: 0,
            started: Instant::now(),
        }
    }

    /// Whether the terminal belongs to the dashboard, and nothing else should write to it.
    pub fn is_dashboard(&self) -> bool {
        matches!(self.display, Display::Dashboard(_))
    }

    /// Tells the dashboard something, if there is one. The key `k` of its own menu makes it panic at the next word, which
    /// would end this process without a word of how to go on: that is a wish to stop at once.
    fn on_dashboard(&mut self, tell: impl FnOnce(&mut TuiMetricsRendererWrapper)) {
        let Display::Dashboard(dashboard) = &mut self.display else {
            return;
        };
        if catch_unwind(AssertUnwindSafe(|| tell(dashboard))).is_err() {
            self.stop.interrupter().stop(Some("interrupted"));
            self.close();
        }
    }

    /// Gives the terminal back.
    fn close(&mut self) {
        let display = mem::replace(&mut self.display, Display::Lines(ProgressBar::hidden()));
        // A dashboard that was told to kill panics here too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(display)));
        #[cfg(unix)]
        terminal::the_dashboard_is_over();
    }

    /// Shows that a wish to stop was heard, among the dashboard's counters, which are forgotten after each split.
    fn answer(&mut self) {
        if self.stop.is_asked() && !self.answered {
            self.on_dashboard(|dashboard| dashboard.log_event_training(StopRequest::ANSWER.into()));
            self.answered = true;
        }
    }

    /// Keeps a metric's final value of the epoch.
    fn keep(&mut self, state: &MetricState, split: &Split) {
        let MetricState::Numeric(entry, Some(NumericEntry::Final(value))) = state else {
            return;
        };
        let Some(name) = self.names.get(&entry.metric_id) else {
            return;
        };
        let terms = self.measured.terms;
        let row = &mut self.row;
        let of_split = match split {
            Split::Train => &mut row.train,
            Split::Valid => &mut row.valid,
            Split::Test(_) => return,
        };
        if let Some(i) = terms.iter().position(|term| term.name == name.as_str()) {
            of_split[i] = *value;
        } else if *name.as_ref() == MeanMetric::raw_name(terms) {
            row.valid_not_averaged = *value;
        } else if name.as_str() == "Gradient norm" {
            row.gradient_norm = *value;
        } else if name.as_str() == "Clipped" {
            row.clipped = *value;
        }
    }

    fn line(&self) -> String {
        let row = &self.row;
        let width = self.epochs.to_string().len();
        let terms = (self.measured.terms.iter().zip(&row.train))
            .map(|(term, value)| format!("  {} {value:8.2}", term.name));
        format!(
            "epoch {:>width$}/{}{}  validation {} {:8.2}  {:5.1} s  {:6.0} {}s/s",
            row.epoch,
            self.epochs,
            terms.collect::<String>(),
            self.measured.terms[0].name,
            row.valid_score(),
            row.seconds,
            row.items_per_second,
            self.measured.item,
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.close();
    }
}

impl TrainingProgressLogger for Progress {
    fn start(&mut self, epochs: usize, first: usize, items: Option<usize>, label: Option<&str>) {
        self.epochs = epochs;
        self.on_dashboard(|dashboard| dashboard.start(epochs, first, items, label));
    }

    fn start_split(&mut self, split: &str, items: usize) {
        self.items = items;
        self.answered = false;
        self.started = Instant::now();
        if let Display::Lines(bar) = &mut self.display {
            bar.reset();
            bar.set_length(items as u64);
            bar.set_message(split.to_owned());
        }
        self.on_dashboard(|dashboard| {
            make_ctrl_c_a_signal();
            dashboard.start_split(split, items);
        });
    }

    fn update_split(&mut self, items: usize) {
        if let Display::Lines(bar) = &mut self.display {
            bar.set_position(items as u64);
        }
        self.on_dashboard(|dashboard| dashboard.update_split(items));
    }

    fn end_split(&mut self) {
        self.on_dashboard(|dashboard| dashboard.end_split());
    }

    fn update_epoch(&mut self, epoch: usize) {
        if self.stop.interrupter().should_stop() {
            // Its numbers may be of a part of the images, and it gets no checkpoint.
            return;
        }
        self.row.epoch = epoch;
        let written = self
            .history
            .lock()
            .expect("no panic while locked")
            .push(self.row.clone());
        if let Err(error) = written {
            let error = std::io::Error::new(error.kind(), format!("metrics.csv: {error}"));
            self.stop
                .interrupter()
                .fail(CheckpointerError::IOError(error));
        }
        let line = self.line();
        if let Display::Lines(bar) = &mut self.display {
            bar.suspend(|| say(line));
        }
        self.on_dashboard(|dashboard| dashboard.update_epoch(epoch));
    }

    fn end(&mut self) {
        if let Display::Lines(bar) = &mut self.display {
            bar.finish_and_clear();
        }
        self.on_dashboard(TrainingProgressLogger::end);
    }

    fn log_event_training(&mut self, event: String) {
        self.on_dashboard(|dashboard| dashboard.log_event_training(event));
    }
}

impl MetricsRendererTraining for Progress {
    fn update_train(&mut self, state: MetricState) {
        self.keep(&state, &Split::Train);
        // Set with every item, so that at the end it is the time of the last one.
        self.row.seconds = self.started.elapsed().as_secs_f64();
        self.row.items_per_second = self.items as f64 / self.row.seconds;
        self.answer();
        self.on_dashboard(|dashboard| dashboard.update_train(state));
    }

    fn update_valid(&mut self, state: MetricState) {
        self.keep(&state, &Split::Valid);
        self.answer();
        self.on_dashboard(|dashboard| dashboard.update_valid(state));
    }

    fn on_train_end(
        &mut self,
        summary: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let mut shown = Ok(());
        self.on_dashboard(|dashboard| shown = dashboard.on_train_end(summary));
        shown
    }
}

impl MetricsRenderer for Progress {
    fn manual_close(&mut self) {
        self.on_dashboard(|dashboard| dashboard.manual_close());
    }

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id.clone(), definition.name.clone());
        self.on_dashboard(|dashboard| dashboard.register_metric(definition));
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
    use burn::{
        data::dataloader,
        train::metric::{Metric, MetricEntry, MetricMetadata, Numeric},
    };

    use super::{super::learner::Means, *};
    use crate::vae::MEASURED as VAE;

    /// What burn-train tells of a metric at the end of an epoch whose steps had these means.
    fn told(progress: &mut Progress, mut metric: MeanMetric, steps: &[Means]) -> MetricState {
        let at = MetricMetadata {
            progress: dataloader::Progress {
                items_processed: 1,
                items_total: 1,
                unit: None,
            },
            iteration: None,
            lr: None,
        };
        for step in steps {
            metric.update(step, &at).unwrap();
        }
        let id = MetricId::new(metric.name());
        progress.register_metric(MetricDefinition::new(id.clone(), &metric));
        let entry = MetricEntry::new(id, metric.compute().unwrap());
        MetricState::Numeric(entry, Some(metric.final_value()))
    }

    /// Of two steps, the second of fewer items.
    #[test]
    fn every_mean_has_its_column() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::load(&folder.path().join("metrics.csv"), VAE).unwrap();
        let history = Arc::new(Mutex::new(history));
        let mut progress = Progress::new(history.clone(), VAE, StopRequest::default());
        let steps = |first: f64| {
            [(first, 3), (first + 4.0, 1)].map(|(x, items)| Means {
                terms: vec![x, x + 10.0, x + 20.0],
                raw: x + 30.0,
                gradient_norm: x + 40.0,
                clipped: x + 50.0,
                items,
            })
        };
        let (train, valid) = (steps(100.0), steps(200.0));
        for metric in MeanMetric::terms(VAE.terms) {
            let state = told(&mut progress, metric.clone(), &train);
            progress.update_train(state);
            let state = told(&mut progress, metric, &valid);
            progress.update_valid(state);
        }
        for metric in [MeanMetric::gradient_norm(), MeanMetric::clipped()] {
            let state = told(&mut progress, metric, &train);
            progress.update_train(state);
        }
        let state = told(&mut progress, MeanMetric::raw(VAE.terms), &valid);
        progress.update_valid(state);
        progress.update_epoch(7);
        let row = history.lock().unwrap().last().unwrap();
        let expected = EpochRow {
            epoch: 7,
            train: vec![101.0, 111.0, 121.0],
            valid: vec![201.0, 211.0, 221.0],
            valid_not_averaged: 231.0,
            gradient_norm: 141.0,
            clipped: 151.0,
            ..row.clone()
        };
        assert_eq!(row, expected);
    }

    /// Its means may be of a part of the images, and no checkpoint comes after it.
    #[test]
    fn an_epoch_that_was_cut_short_has_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("metrics.csv");
        let history = Arc::new(Mutex::new(History::load(&file, VAE).unwrap()));
        let stop = StopRequest::default();
        let mut progress = Progress::new(history.clone(), VAE, stop.clone());
        progress.update_epoch(1);
        stop.interrupter().stop(Some("interrupted"));
        progress.update_epoch(2);
        assert_eq!(history.lock().unwrap().len(), 1);
        assert_eq!(History::load(&file, VAE).unwrap().len(), 1);
    }
}
