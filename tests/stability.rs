//! Training at the defaults does not explode, on images like MNIST's that nobody has to download.

use end_to_end::{Place, TEST_IMAGES, TRAIN_IMAGES};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

const SIDE: usize = 28;

/// White strokes with soft edges on black, of three corners each: grey levels and sizes as MNIST has them.
fn strokes(count: usize, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut corner = || [rng.random_range(6.0..22.0_f32), rng.random_range(4.0..24.0)];
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE);
    for _ in 0..count {
        let corners: [[f32; 2]; 4] = std::array::from_fn(|_| corner());
        for y in 0..SIDE {
            for x in 0..SIDE {
                let at = [x as f32, y as f32];
                let distance = (corners.windows(2))
                    .map(|ends| distance(at, ends[0], ends[1]))
                    .fold(f32::INFINITY, f32::min);
                pixels.push((255.0 * (2.2 - distance).clamp(0.0, 1.0)) as u8);
            }
        }
    }
    pixels
}

/// From a point to a line between two others.
fn distance(at: [f32; 2], from: [f32; 2], to: [f32; 2]) -> f32 {
    let minus = |a: [f32; 2], b: [f32; 2]| [a[0] - b[0], a[1] - b[1]];
    let dot = |a: [f32; 2], b: [f32; 2]| a[0] * b[0] + a[1] * b[1];
    let (along, to_point) = (minus(to, from), minus(at, from));
    let share = (dot(along, to_point) / dot(along, along)).clamp(0.0, 1.0);
    let rest = minus(to_point, along.map(|x| share * x));
    dot(rest, rest).sqrt()
}

/// An IDX file of them.
fn file(count: usize, seed: u64) -> Vec<u8> {
    let header = [0x0803, count as u32, SIDE as u32, SIDE as u32];
    let header = header.into_iter().flat_map(u32::to_be_bytes);
    header.chain(strokes(count, seed)).collect()
}

/// The images as a data set `strokes`.
fn place() -> Place {
    let at = Place::new();
    at.write(&format!("strokes/{TRAIN_IMAGES}"), file(2_400, 1));
    at.write(&format!("strokes/{TEST_IMAGES}"), file(100, 2));
    at
}

/// More than twice the default rate, so that some hundred steps are enough to tell.
#[track_caller]
fn is_stable(layers: usize) {
    let at = place();
    at.train(&format!(
        "--dataset strokes --layers {layers} --epochs 10 --lr 5e-3 --output run"
    ))
    .succeeds();
    let elbo = at.numbers("run/metrics.csv", "train_elbo");
    println!("{elbo:?}");
    let mut best = f64::NEG_INFINITY;
    for &elbo in &elbo {
        assert!(elbo > best - 50.0, "{elbo} nats after {best}");
        best = best.max(elbo);
    }
    assert!(best > -543.0 / 2.0, "it learned: {best}");
    // What the first steps did to the random weights was bounded.
    assert!(at.numbers("run/metrics.csv", "gradient_norm")[0] > 0.0);
    assert!(at.numbers("run/metrics.csv", "clipped")[0] > 0.0);
}

#[test]
fn twenty_layers_do_not_explode() {
    is_stable(20);
}

#[test]
fn eighty_layers_do_not_explode() {
    is_stable(80);
}

/// Its explosion falls into the first steps, which are judged mildly: whoever looks at the end alone is told nevertheless.
#[test]
fn a_run_that_ends_far_below_its_best_says_so() {
    let at = Place::new();
    // How far it falls is for rounding to say, and whether the last epoch is that far down: one at least of several is.
    let mut fallen = 0;
    for seed in 0..4 {
        let run = at.train(&format!(
            "--optimizer rmsprop --lr 0.01 --epochs 6 --seed {seed} --output run-{seed}"
        ));
        assert_eq!(run.code, Some(0), "{run:#?}");
        let elbo = at.numbers(&format!("run-{seed}/metrics.csv"), "valid_elbo");
        let best = elbo.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Half of what there is to know of 64 pixels.
        let has_fallen = best - elbo[5] > 32.0 * std::f64::consts::LN_2;
        let said =
            run.stderr.contains("warning: training has diverged") && run.stderr.contains("--lr");
        assert_eq!(said, has_fallen, "{elbo:?}, {run:#?}");
        fallen += usize::from(has_fallen);
    }
    assert!(fallen > 0, "none of these says anything");
}

/// At rates that nothing can hold: not one epoch of it is saved.
#[test]
fn a_run_that_diverges_says_where_and_fails() {
    let at = place();
    for (rate, how) in [("1e30", "not finite"), ("0.03", "the ELBO fell from")] {
        let outcome = at.train(&format!(
            "--dataset strokes --layers 4 --lr {rate} --output run-{rate}"
        ));
        outcome.fails(1, &["diverged at step", "of epoch 1", how, "norm", "--lr"]);
        let left = at.names(&format!("run-{rate}"));
        assert_eq!(left, ["checkpoint", "config.json", "lock"]);
        assert!(at.names(&format!("run-{rate}/checkpoint")).is_empty());
    }
}
