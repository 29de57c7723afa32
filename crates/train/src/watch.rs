//! Notices a training that loses what it had learned.

use std::sync::{Arc, Mutex};

/// How many steps the mean that is watched reaches back: one odd batch is no divergence.
const HORIZON: f64 = 20.0;

/// Steps that are judged mildly: the first ones, at full rate on random weights, may make things worse before they get
/// better.
const FIRST: usize = 100;

/// How many times as far the ELBO may fall in them.
const MILD: f64 = 20.0;

/// Watches the ELBO of the steps of a training; a clone watches the same one.
#[derive(Clone, Debug)]
pub struct Watch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// How far below its best the mean may fall, in nats.
    range: f64,
    best: f64,
    /// Steps of the mean, and those before it.
    steps: usize,
    before: usize,
    mean: f64,
}

/// A training that has diverged, in nats per image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    pub best: f64,
    pub now: f64,
}

impl Watch {
    /// For images of `pixels` pixels; `best` is the ELBO of the best epoch of a run that goes on.
    ///
    /// The ELBO may fall by half of what an image costs where nothing is known of it, ln 2 a pixel, below its best or
    /// below that: far beyond what batches differ by, and far less than what an explosion takes.
    pub fn new(pixels: usize, best: Option<f64>) -> Self {
        let of_nothing_known = pixels as f64 * std::f64::consts::LN_2;
        let state = State {
            range: of_nothing_known / 2.0,
            best: best.unwrap_or(-of_nothing_known),
            steps: 0,
            before: if best.is_some() { FIRST } else { 0 },
            mean: 0.0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Takes note of a step's ELBO and tells whether training has diverged.
    pub fn see(&self, elbo: f64) -> Option<Divergence> {
        let mut state = self.state.lock().expect("no panic while locked");
        state.steps += 1;
        // Of all steps at first, so that nothing has to be known beforehand.
        state.mean += (elbo - state.mean) / HORIZON.min(state.steps as f64);
        let State { best, mean, .. } = *state;
        let range = if state.before + state.steps <= FIRST {
            MILD * state.range
        } else {
            state.best = best.max(mean);
            state.range
        };
        (mean < best - range).then_some(Divergence { best, now: mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen, step by step, until the divergence.
    fn first(watch: &Watch, elbos: impl IntoIterator<Item = f64>) -> Option<(usize, Divergence)> {
        elbos
            .into_iter()
            .enumerate()
            .find_map(|(step, elbo)| Some((step, watch.see(elbo)?)))
    }

    #[test]
    fn a_training_that_learns_and_wavers_is_left_alone() {
        let watch = Watch::new(784, None);
        let learning = (0..2000).map(|t| {
            let noise = 40.0 * f64::from(t * 7919 % 13 - 6) / 6.0;
            -540.0 * f64::from(-t).exp2().max(0.2) + noise
        });
        assert_eq!(first(&watch, learning), None);
        // One batch with an image of 100,000 nats among a hundred.
        assert_eq!(first(&watch, [-1100.0, -110.0, -110.0]), None);
        // The first steps are judged mildly.
        assert_eq!(first(&Watch::new(784, None), [-2000.0; FIRST]), None);
    }

    #[test]
    fn what_happened_on_mnist_is_noticed_within_some_steps() {
        let watch = Watch::new(784, None);
        assert_eq!(first(&watch, [-110.0; 500]), None);
        let (step, Divergence { best, now }) = first(&watch, [-835.0; 100]).unwrap();
        assert!(step < 10, "{step}");
        assert!(
            (best + 110.0).abs() < 1e-6 && now < best - 271.0,
            "{best} {now}"
        );
    }

    #[test]
    fn a_training_that_never_learned_is_noticed_too() {
        let growing = || (0..200).map(|t| -540.0 - 60.0 * f64::from(t));
        assert!(first(&Watch::new(784, None), growing()).unwrap().0 <= FIRST);
        let far_beyond = Watch::new(784, None);
        assert_eq!(first(&far_beyond, [-1e6; 200]).unwrap().0, 0);
        let resumed = Watch::new(784, Some(-100.0));
        assert_eq!(first(&resumed, [-400.0; 200]).unwrap().0, 0);
    }
}
