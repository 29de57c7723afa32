//! Settings and images at their extremes: it trains, or says what went wrong; nothing that is no number is saved.

use end_to_end::{Place, TEST_IMAGES, TINY, TRAIN_IMAGES, images, not_run, strace};

/// An IDX file of `count` images whose pixels are all `grey`.
fn filled(count: u32, side: u32, grey: u8) -> Vec<u8> {
    let header = [0x0803, count, side, side];
    let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
    bytes.resize(bytes.len() + (count * side * side) as usize, grey);
    bytes
}

/// Trains under `flags`, and checks what that leaves; whether it got to the end.
#[track_caller]
fn survives(at: &Place, flags: &str) -> bool {
    let outcome = at.train(&format!("{flags} --output run"));
    let ended = outcome.code == Some(0);
    if !ended {
        outcome.fails(1, &["training stopped: it diverged at step", "--lr"]);
    }
    if !at.path("run/metrics.csv").exists() {
        assert!(!ended);
        return false;
    }
    for column in [
        "train_elbo",
        "valid_elbo",
        "valid_elbo_not_averaged",
        "valid_kl",
        "gradient_norm",
    ] {
        for number in at.numbers("run/metrics.csv", column) {
            assert!(number.is_finite(), "{flags}: {column} is {number}");
        }
    }
    if !at.names("run/checkpoint").is_empty() {
        // It refuses results that are not finite.
        at.train("evaluate run --samples 2").succeeds();
        at.train("sample run").succeeds();
    }
    ended
}

#[test]
fn rates_that_are_far_too_high() {
    for rate in ["0.03", "10", "1e6", "1e38"] {
        for optimizer in ["adam", "adamax", "rmsprop"] {
            let flags = format!("{TINY} --epochs 3 --lr {rate} --optimizer {optimizer}");
            let ended = survives(&Place::new(), &flags);
            println!("{rate} {optimizer}: {ended}");
            assert!(
                ended || rate != "0.03" || optimizer == "rmsprop",
                "{optimizer}"
            );
        }
    }
}

#[test]
fn one_image_at_a_time() {
    let at = Place::new();
    images(&at, "few", 8);
    assert!(survives(
        &at,
        &format!("{TINY} --epochs 20 --batch-size 1 --dataset few")
    ));
}

#[test]
fn very_deep_and_very_wide() {
    let deep = "--hidden 16 --latent-dim 4 --layers 640 --epochs 2";
    assert!(survives(&Place::new(), deep));
    let wide = "--hidden 16 --latent-dim 2000 --layers 2 --epochs 2";
    assert!(survives(&Place::new(), wide));
}

/// Means and log-variances that nobody learned: the mean, then the log-variance, of each latent.
#[test]
fn an_encoder_at_its_extremes() {
    let at = Place::new();
    // A rate at which nothing moves, so that the average of the weights is the weights.
    at.train(&format!("{TINY} --epochs 2 --lr 1e-30 --output good"))
        .succeeds();
    let bytes = |numbers: &[f32]| -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|x| x.to_le_bytes());
        numbers.collect()
    };
    let was = bytes(&at.weights("good")["base.bias"]);
    let good = at.files();
    for mean in [0.0, 1e10, -1e30, f32::MAX, f32::NAN] {
        for log_var in [0.0, 88.0, 200.0, -200.0, 1e30, -1e30, f32::NAN] {
            if mean == 0.0 && log_var == 0.0 {
                continue;
            }
            println!("mean {mean:e}, log-variance {log_var:e}");
            for (path, bytes) in &good {
                let name = path.strip_prefix("good").unwrap().display();
                at.write(&format!("run/{name}"), bytes);
            }
            let file = "run/checkpoint/2/model.bpk";
            let is = bytes(&[[mean; 4], [log_var; 4]].concat());
            let before = at.bytes(file);
            let (after, count) = replaced(&before, &was, &is);
            // The model's and the average's.
            assert_eq!(count, 2);
            at.replace_part("run/checkpoint/2", "model.bpk", after);

            let outcome = at.train("--resume run --epochs 4");
            if outcome.code == Some(0) {
                // Far below what it was before, it says so.
                let warning = "warning: training has diverged: the last epoch is ";
                let said = &outcome.stderr;
                assert!(said.is_empty() || said.starts_with(warning), "{said}");
            } else {
                outcome.fails(1, &["it diverged at step", "of epoch 3", "epoch 2 is kept"]);
                assert_eq!(at.saved("run"), [1, 2]);
            }
            for epoch in at.saved("run").into_iter().filter(|&epoch| epoch != 2) {
                for part in ["model.bpk", "optim.bpk"] {
                    let numbers = at.pack(&format!("run/checkpoint/{epoch}/{part}"));
                    assert!(numbers.iter().all(|x| x.is_finite()), "{epoch}, {part}");
                }
            }
            for column in ["train_elbo", "valid_elbo", "valid_kl", "gradient_norm"] {
                let numbers = at.numbers("run/metrics.csv", column);
                assert!(numbers.iter().all(|x| x.is_finite()), "{column}");
            }
            std::fs::remove_dir_all(at.path("run")).unwrap();
        }
    }
}

/// `bytes` with `is` for each `was`, and how many these were.
fn replaced(bytes: &[u8], was: &[u8], is: &[u8]) -> (Vec<u8>, usize) {
    let mut after = bytes.to_vec();
    let places: Vec<usize> = (0..=bytes.len() - was.len())
        .filter(|&at| bytes[at..].starts_with(was))
        .collect();
    for &at in &places {
        after[at..][..is.len()].copy_from_slice(is);
    }
    (after, places.len())
}

/// The first thread, one of the pool's; the first that a training starts; and the last.
#[test]
fn threads_that_the_system_does_not_give() {
    for missing in [1, 2, 17] {
        let at = Place::new();
        let Some(mut command) = strace() else {
            return not_run("strace is not there, or may not be used");
        };
        let inject = format!("inject=?clone,?clone3:error=EAGAIN:when={missing}+");
        command.args([
            "-o",
            "/dev/null",
            "-e",
            "trace=?clone,?clone3",
            "-e",
            &inject,
        ]);
        command.arg(end_to_end::program());
        command.args(["--output", "run"]);
        command.env("RAYON_NUM_THREADS", "2");
        at.spawn(command)
            .finish()
            .fails(1, &["cannot start threads", "ulimit -u"]);
        assert!(at.files().is_empty());
    }
}

/// Nothing to learn but one number a pixel, which a logit never reaches: the bound tends to 0, or to that of a fair coin.
#[test]
fn images_of_one_grey_level() {
    for (grey, expected) in [(0, -5.0..0.0), (255, -5.0..0.0), (128, -50.0..-40.0)] {
        let at = Place::new();
        at.write(&format!("flat/{TRAIN_IMAGES}"), filled(600, 8, grey));
        at.write(&format!("flat/{TEST_IMAGES}"), filled(20, 8, grey));
        for layers in [0, 4] {
            let at_rate = "--hidden 16 --latent-dim 4 --epochs 60 --lr 1e-2 --schedule constant";
            let run = format!("run-{layers}");
            at.train(&format!(
                "{at_rate} --dataset flat --layers {layers} --output {run}"
            ))
            .succeeds();
            let elbo = *at
                .numbers(&format!("{run}/metrics.csv"), "valid_elbo")
                .last()
                .unwrap();
            assert!(expected.contains(&elbo), "{grey}, K = {layers}: {elbo}");
        }
    }
}
