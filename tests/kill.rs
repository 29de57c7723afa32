//! Killed at any moment, again and again, a run becomes what it would have become, to the last bit.
//!
//! ```sh
//! cargo test --test kill                          # a few kills on each backend
//! KILLS=200 KILL_SEED=1 cargo test --test kill    # as many as wanted, at other moments
//! ```

use std::{
    fs,
    path::Path,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use end_to_end::{Place, TINY};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().expect("a number"),
        Err(_) => default,
    }
}

/// When to kill. A random moment is a time by its nature; which of them it was is in the seed.
#[derive(Debug)]
enum Moment {
    /// So long after the program was started: in its start, an epoch, a validation, a save, or the pictures at the end.
    After(Duration),
    /// So long after a checkpoint was begun that has no name yet.
    WhileItSaves(Duration),
}

impl Moment {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        match rng.random_bool(0.5) {
            true => Self::After(Duration::from_micros(rng.random_range(0..400_000))),
            false => Self::WhileItSaves(Duration::from_micros(rng.random_range(0..3_000))),
        }
    }

    /// Returns when it has come, or `ended`.
    fn wait(&self, checkpoints: &Path, mut ended: impl FnMut() -> bool) {
        let mut until = |done: &mut dyn FnMut() -> bool| {
            while !ended() && !done() {
                thread::yield_now();
            }
        };
        let delay = match self {
            Self::After(delay) => delay,
            Self::WhileItSaves(delay) => {
                // What the last kill left is cleared away first.
                until(&mut || !is_saving(checkpoints));
                until(&mut || is_saving(checkpoints));
                delay
            }
        };
        let start = Instant::now();
        until(&mut || start.elapsed() >= *delay);
    }
}

fn is_saving(checkpoints: &Path) -> bool {
    let Ok(entries) = fs::read_dir(checkpoints) else {
        return false;
    };
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.any(|path| {
        path.extension()
            .is_some_and(|extension| extension == "part")
    })
}

fn killed_anywhere(backend: &str) {
    let (kills, seed) = (setting("KILLS", 6), setting("KILL_SEED", 0));
    println!("KILLS={kills} KILL_SEED={seed}, on {backend}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let at = Place::new();
    // So many that it is never done before the last kill.
    let flags = format!("{TINY} --backend {backend}");
    let mut arguments = format!("{flags} --epochs 1000000 --output run");
    let (mut lives, mut while_saving, mut best) = (0, 0, f64::NEG_INFINITY);
    while lives < kills || at.saved("run").is_empty() {
        let moment = Moment::draw(&mut rng);
        let mut running = at.start(&arguments);
        moment.wait(&at.path("run/checkpoint"), || !running.is_running());
        assert!(running.is_running(), "{:#?}", running.finish());
        running.kill();
        lives += 1;
        while_saving += usize::from(is_saving(&at.path("run/checkpoint")));
        if at.path("run/config.json").exists() {
            arguments = "--resume run".into();
        }
        // What was the best of all that was saved is never deleted for anything worse.
        let saved = at.saved("run");
        if !saved.is_empty() {
            let elbo = at.numbers("run/metrics.csv", "valid_elbo");
            let now = saved.iter().map(|epoch| elbo[epoch - 1]);
            let now = now.fold(f64::NEG_INFINITY, f64::max);
            assert!(now >= best, "{moment:?}: {now} after {best}, of {saved:?}");
            best = now;
        }
    }
    let saved = at.saved("run").last().copied().unwrap_or(0);
    println!("{lives} kills, {while_saving} of them in a save; {saved} epochs are saved");
    assert!(kills < 20 || while_saving > 0);
    let epochs = saved + 3;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
    at.train(&format!("{flags} --epochs {epochs} --output whole"))
        .succeeds();
    assert_eq!(at.metrics("run"), at.metrics("whole"));
    assert_eq!(at.weights("run"), at.weights("whole"));
    // And what the optimiser remembers: it leads on to the same numbers.
    for run in ["run", "whole"] {
        let epochs = epochs + 2;
        at.train(&format!("--resume {run} --epochs {epochs}"))
            .succeeds();
    }
    assert_eq!(at.metrics("run"), at.metrics("whole"));
    assert_eq!(at.names("run/checkpoint"), at.names("whole/checkpoint"));
}

#[test]
fn killed_anywhere_on_flex() {
    killed_anywhere("flex");
}

#[test]
fn killed_anywhere_on_ndarray() {
    killed_anywhere("ndarray");
}
