//! Notices a training that loses what it had learned.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// How many steps, and how many items, the mean that is watched reaches back at least: one odd batch, or a row of odd
/// items in small ones, is no divergence.
const STEPS: f64 = 20.0;
const ITEMS: f64 = 2_000.0;

/// How many times as far the score may fall where it is judged mildly: while it is not what is being maximised, and in
/// the first steps, five times as many as the mean reaches back, which at full rate on random weights may make things
/// worse before they get better.
const MILD: f64 = 1_000.0;

/// How many times as far below the best as the mean may fall a single step counts, once it is judged: a density falls
/// without bound where one image is unlike what was learned, and is back at the next step.
const DEEPEST: f64 = 3.0;

/// Watches the score of the steps of a training, in nats per item; a clone watches the same one.
#[derive(Clone, Debug)]
pub struct Watch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// How far below its best the mean may fall, in nats.
    range: f64,
    /// How many steps the mean reaches back.
    horizon: f64,
    /// Steps until it is judged by its range.
    first: usize,
    /// The mean score of a step so far, as of all its items, and how many of them it is of.
    step: (f64, usize),
    seen: Seen,
    /// What had been seen by the end of the last epochs.
    ended: BTreeMap<usize, Seen>,
}

/// What a watch knows of the steps so far.
#[derive(Clone, Copy, Debug)]
struct Seen {
    best: Option<f64>,
    mean: f64,
    steps: usize,
}

/// A training that has diverged, in nats per item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    pub best: f64,
    pub now: f64,
}

impl Watch {
    /// For batches of `batch` items of a score that may fall below its best by `range` nats: far beyond what means differ
    /// by, and far less than what an explosion takes.
    pub fn new(range: f64, batch: usize) -> Self {
        let horizon = STEPS.max(ITEMS / batch as f64);
        let state = State {
            range,
            horizon,
            first: 5 * horizon as usize,
            step: (0.0, 0),
            seen: Seen {
                best: None,
                mean: 0.0,
                steps: 0,
            },
            ended: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// For a training that goes on after the epoch that had this [`line`](Self::line); none if it is no such line.
    pub fn after(self, line: &str) -> Option<Self> {
        let numbers: Vec<&str> = line.split(',').collect();
        let [best, mean, steps] = numbers[..] else {
            return None;
        };
        let [best, mean] = [best.parse::<f64>().ok()?, mean.parse::<f64>().ok()?];
        let is_seen = best.is_finite() && mean.is_finite();
        self.state.lock().expect("no panic while locked").seen = Seen {
            best: Some(best),
            mean,
            steps: steps.parse().ok()?,
        };
        is_seen.then_some(self)
    }

    /// Remembers what has been seen for the [`line`](Self::line) of this epoch.
    pub fn end(&self, epoch: usize) {
        let mut state = self.state.lock().expect("no panic while locked");
        let seen = state.seen;
        state.ended.insert(epoch, seen);
        // Its checkpoint is saved while the next epoch is trained at the latest.
        if state.ended.len() > 2 {
            state.ended.pop_first();
        }
    }

    /// What had been seen by the end of an epoch, to the last digit; none if it saw none of that one.
    pub fn line(&self, epoch: usize) -> Option<String> {
        let state = self.state.lock().expect("no panic while locked");
        let Seen { best, mean, steps } = *state.ended.get(&epoch)?;
        Some(format!("{},{mean},{steps}", best?))
    }

    /// Whether a training has lost what it had learned, by the scores of whole epochs.
    pub fn is_lost(&self, Divergence { best, now }: Divergence) -> bool {
        now < best - self.state.lock().expect("no panic while locked").range
    }

    /// Takes note of a step's score, which is `maximised` or not, of so many of `all` its items, as a device has them; and tells,
    /// when it has heard of all, in whatever order, whether training has diverged.
    pub fn see(&self, score: f64, items: usize, all: usize, maximised: bool) -> Option<Divergence> {
        let mut state = self.state.lock().expect("no panic while locked");
        let share = items as f64 / all as f64;
        let (score, items) = (state.step.0 + share * score, state.step.1 + items);
        if items < all {
            state.step = (score, items);
            return None;
        }
        state.step = (0.0, 0);
        state.seen.steps = state.seen.steps.saturating_add(1);
        let mildly = !maximised || state.seen.steps <= state.first;
        let score = match state.seen.best {
            Some(best) if !mildly => score.max(best - DEEPEST * state.range),
            _ => score,
        };
        // Of all steps at first, so that nothing has to be known beforehand.
        let reach = state.horizon.min(state.seen.steps as f64);
        state.seen.mean += (score - state.seen.mean) / reach;
        let now = state.seen.mean;
        let best = state.seen.best.unwrap_or(now);
        state.seen.best = Some(if mildly { best } else { best.max(now) });
        let range = if mildly {
            MILD * state.range
        } else {
            state.range
        };
        (now < best - range).then_some(Divergence { best, now })
    }
}

#[cfg(test)]
mod tests {
    use flow_vae::Likelihood;

    use super::*;
    use crate::vae::range;

    fn bernoulli(pixels: usize) -> f64 {
        range(Likelihood::Bernoulli, pixels)
    }

    fn logit_normal(pixels: usize) -> f64 {
        range(Likelihood::LogitNormal, pixels)
    }

    /// What is seen, step by step, until the divergence.
    fn first(watch: &Watch, elbos: impl IntoIterator<Item = f64>) -> Option<(usize, Divergence)> {
        elbos
            .into_iter()
            .enumerate()
            .find_map(|(step, elbo)| Some((step, watch.see(elbo, 1, 1, true)?)))
    }

    #[test]
    fn a_training_that_learns_and_wavers_is_left_alone() {
        let watch = Watch::new(bernoulli(784), 100);
        let learning = (0..2000).map(|t| {
            let noise = 40.0 * f64::from(t * 7919 % 13 - 6) / 6.0;
            -540.0 * f64::from(-t).exp2().max(0.2) + noise
        });
        assert_eq!(first(&watch, learning), None);
        // One batch with an image of 100,000 nats among a hundred.
        assert_eq!(first(&watch, [-1100.0, -110.0, -110.0]), None);
        // The first steps are judged mildly, from wherever they start.
        let start = (0..100).map(|t| -1000.0 - 20.0 * f64::from(t));
        assert_eq!(first(&Watch::new(bernoulli(64), 100), start.clone()), None);
        // Of four devices four scores are a step.
        let shared = || start.clone().flat_map(|elbo| [elbo; 4]);
        let on_four = Watch::new(bernoulli(64), 100);
        assert!(shared().all(|elbo| on_four.see(elbo, 25, 100, true).is_none()));
        assert!(first(&Watch::new(bernoulli(64), 100), shared()).is_some());
    }

    /// Images of which some cost nothing and some a lot, one at a time, a dozen of a kind after another.
    #[test]
    fn odd_images_in_small_batches_are_no_divergence() {
        let unlike = (0..20_000).map(|t| if t / 12 % 5 < 2 { -530.0 } else { -5.0 });
        assert_eq!(first(&Watch::new(bernoulli(784), 1), unlike), None);
    }

    #[test]
    fn what_happened_on_mnist_is_noticed_within_some_steps() {
        let watch = Watch::new(bernoulli(784), 100);
        assert_eq!(first(&watch, [-110.0; 500]), None);
        let (step, Divergence { best, now }) = first(&watch, [-835.0; 100]).unwrap();
        assert!(step < 10, "{step}");
        assert!(
            (best + 110.0).abs() < 1e-6 && now < best - 271.0,
            "{best} {now}"
        );
    }

    /// What it falls from is the best of all that came after the first steps, not what these were.
    #[test]
    fn what_was_learned_later_can_be_lost_too() {
        let watch = Watch::new(bernoulli(784), 100);
        assert_eq!(first(&watch, [-500.0; 200]), None);
        assert_eq!(first(&watch, [-100.0; 500]), None);
        let (_, Divergence { best, .. }) = first(&watch, [-450.0; 200]).unwrap();
        assert!((best + 100.0).abs() < 1e-3, "{best}");
    }

    /// As on black images that the density of a model has become narrow around.
    #[test]
    fn a_density_falls_deep_and_is_back() {
        let watch = Watch::new(logit_normal(192), 100);
        assert_eq!(first(&watch, [300.0; 500]), None);
        let spikes = (0..1000).map(|t| if t % 50 < 2 { -1e6 } else { 300.0 });
        assert_eq!(first(&watch, spikes), None);
        let (step, _) = first(&watch, [-1e6; 100]).unwrap();
        assert!(step < 20, "{step}");
        let watch = Watch::new(logit_normal(192), 100);
        assert_eq!(first(&watch, [300.0; 500]), None);
        assert!(first(&watch, [-1000.0; 100]).is_some());
    }

    #[test]
    fn a_training_that_never_learned_is_noticed_too() {
        let growing = (0..200).map(|t| -540.0 - 60.0 * f64::from(t));
        let (step, _) = first(&Watch::new(bernoulli(784), 100), growing).unwrap();
        assert!(step <= 100, "{step}");
        let far_beyond = [-540.0, -1e6, -1e6];
        assert_eq!(
            first(&Watch::new(bernoulli(784), 100), far_beyond)
                .unwrap()
                .0,
            1
        );
    }

    /// An epoch of seven steps at a time, each watched by another watch, from early losses that are judged mildly on to the one that
    /// is too much; and on two devices.
    #[test]
    fn a_resumed_training_is_watched_as_one_that_went_on() {
        let scores = (0..220).map(|t| {
            let noise = 40.0 * f64::from(t * 7919 % 13 - 6) / 6.7;
            let level = match t {
                0..90 => -540.0 - f64::from(t),
                90..180 => -110.3,
                _ => -500.1,
            };
            level + noise
        });
        let whole = Watch::new(bernoulli(784), 100);
        let mut part = Watch::new(bernoulli(784), 100);
        let mut noticed = None;
        for (t, score) in scores.enumerate() {
            let seen = whole.see(score, 1, 1, t >= 10);
            assert_eq!(part.see(score, 1, 1, t >= 10), seen, "{t}");
            noticed = noticed.or(seen.map(|_| t));
            if t % 7 == 6 {
                let epoch = 1 + t / 7;
                for watch in [&whole, &part] {
                    watch.end(epoch);
                }
                let line = part.line(epoch).unwrap();
                assert_eq!(whole.line(epoch), Some(line.clone()));
                part = Watch::new(bernoulli(784), 100).after(&line).unwrap();
            }
        }
        assert!(noticed.is_some_and(|t| t > 180), "{noticed:?}");

        let idle = Watch::new(bernoulli(784), 100);
        let idle = idle.after("-1.5,-2.25,39").unwrap();
        idle.end(3);
        assert_eq!(idle.line(3).unwrap(), "-1.5,-2.25,39");
        assert_eq!(idle.line(2), None);
        // Two devices' scores are a step, whichever comes first, and each counts by its items; a last batch that is too small for
        // both is one too.
        for scores in [[(-3.0, 3), (-5.0, 1)], [(-5.0, 1), (-3.0, 3)]] {
            let watch = Watch::new(bernoulli(784), 100);
            for (score, items) in scores {
                assert_eq!(watch.see(score, items, 4, true), None);
            }
            watch.end(1);
            assert_eq!(watch.line(1).unwrap(), "-3.5,-3.5,1");
            watch.see(-3.5, 1, 1, true);
            watch.end(2);
            assert_eq!(watch.line(2).unwrap(), "-3.5,-3.5,2");
        }
        let last = Watch::new(bernoulli(784), 100);
        let last = last.after(&format!("-1,-1,{}", usize::MAX)).unwrap();
        assert_eq!(last.see(-1.0, 1, 1, true), None);
        for line in [
            "",
            "-1,-2",
            "-1,-2,3,",
            "-1,x,3",
            "-1,-2,-3",
            "nan,-2,3",
            "-1,inf,3",
            "1e999,-2,3",
        ] {
            assert!(Watch::new(1.0, 1).after(line).is_none(), "{line}");
        }
    }

    /// Digits that a run explodes on in its first steps, and is left alone.
    #[test]
    fn what_is_lost_in_the_first_steps_is_told_of_by_the_epochs() {
        let watch = Watch::new(bernoulli(64), 100);
        assert_eq!(first(&watch, [-28.0, -70.0, -70.0, -70.0]), None);
        let fallen = |now| watch.is_lost(Divergence { best: -28.0, now });
        assert!(fallen(-70.0) && !fallen(-50.0));
    }

    #[test]
    fn while_it_is_not_maximised_only_the_absurd_is_noticed() {
        let watch = Watch::new(bernoulli(64), 100);
        let watch = watch.after("-30,-30,10000").unwrap();
        assert_eq!(watch.see(-3000.0, 1, 1, false), None);
        assert!(watch.see(-1e6, 1, 1, false).is_some());
    }
}
