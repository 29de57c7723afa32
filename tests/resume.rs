//! A run that is interrupted and resumed equals the run that was not, bit for bit.

use end_to_end::{Place, TINY};

#[track_caller]
fn assert_same(at: &Place, run: &str, other: &str) {
    assert_eq!(at.metrics(run), at.metrics(other));
    assert_eq!(at.weights(run), at.weights(other));
    for picture in ["samples.png", "reconstructions.png"] {
        let [a, b] = [run, other].map(|run| at.bytes(&format!("{run}/{picture}")));
        assert_eq!(a, b, "{picture}");
    }
}

/// The last epoch that a run has finished and saved.
fn last_epoch(at: &Place, run: &str) -> usize {
    let names = at.names(&format!("{run}/checkpoint"));
    let epochs = names.iter().filter_map(|name| {
        let epoch = name.strip_prefix("model-")?.strip_suffix(".bpk")?;
        epoch.parse().ok()
    });
    epochs.max().expect("a checkpoint")
}

#[test]
fn two_epochs_and_two_more_are_four() {
    // Annealing goes by the step, whose count must go on as well.
    for flags in [
        "--optimizer adam",
        "--optimizer rmsprop --anneal kl-warm-up:40",
    ] {
        let at = Place::with_run(flags);
        at.train("--resume run --epochs 4").succeeds();
        at.train(&format!("{TINY} {flags} --epochs 4 --output whole"))
            .succeeds();
        assert_same(&at, "run", "whole");
        let elbo = at.numbers("run/metrics.csv", "valid_elbo");
        assert!(elbo[1] < elbo[3], "the best model is of a resumed epoch");
    }
}

#[test]
fn a_complete_run_is_left_as_it_is() {
    let at = Place::with_run("");
    let before = at.files();
    at.train("--resume run").succeeds();
    assert!(before == at.files());
}

/// The number of epochs is out of reach, so that the signal never comes too late.
#[test]
fn ctrl_c_saves_the_epoch_and_says_how_to_go_on() {
    let at = Place::new();
    let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
    running.wait_for("epoch       2/");
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    assert!(outcome.stdout.contains("-- --resume run\n"), "{outcome:#?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");

    let saved = last_epoch(&at, "run");
    assert!(saved >= 2);
    assert_eq!(at.column("run/metrics.csv", "epoch").len(), saved);
    at.train("evaluate run --samples 2").succeeds();

    let epochs = saved + 2;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
    at.train(&format!("{TINY} --epochs {epochs} --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// Killed again and again, at whatever it is doing then.
#[test]
fn a_power_cut_costs_no_more_than_the_epoch() {
    let at = Place::new();
    let mut arguments = format!("{TINY} --epochs 1000000 --output run");
    let mut saved = 0;
    for _ in 0..5 {
        let mut running = at.start(&arguments);
        running.wait_for(&format!("epoch {:>7}/", saved + 3));
        running.kill();
        let now = last_epoch(&at, "run");
        assert!(now > saved, "epoch {now} after {saved}");
        saved = now;
        arguments = "--resume run".into();
    }
    let epochs = saved + 2;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
    at.train(&format!("{TINY} --epochs {epochs} --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// The rate falls from epoch to epoch: it must go on where it was, and the clipping too.
#[test]
fn a_falling_rate_goes_on_where_it_was() {
    let at = Place::new();
    let falling = TINY.replace("constant", "cosine --lr-warm-up 20");
    let mut running = at.start(&format!("{falling} --epochs 60 --output run"));
    running.wait_for("epoch  3/");
    running.kill();
    let saved = last_epoch(&at, "run");
    assert!((2..60).contains(&saved), "{saved}");
    at.train("--resume run").succeeds();
    at.train(&format!("{falling} --epochs 60 --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// Nothing is lost but the time, when there is no checkpoint yet.
#[test]
fn a_run_that_never_saved_starts_over() {
    let at = Place::with_run("");
    let whole = at.metrics("run");
    let rows = at.text("run/metrics.csv");
    let first: Vec<&str> = rows.lines().take(2).collect();
    at.write("run/metrics.csv", first.join("\n") + "\n");
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    std::fs::remove_file(at.path("run/model.bpk")).unwrap();
    at.train("--resume run").succeeds();
    assert_eq!(at.metrics("run"), whole);
}

/// Results are not replaced by a training from the start.
#[test]
fn a_run_whose_checkpoints_were_removed_is_left_alone() {
    let at = Place::with_run("");
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    let before = at.files();
    let outcome = at.train("--resume run --epochs 4");
    outcome.fails(1, &["run", "no checkpoint", "--config run/config.json"]);
    assert!(before == at.files());
}
