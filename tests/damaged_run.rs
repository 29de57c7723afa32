//! Run folders that something happened to, full disks, and training that diverges.

use std::process::Command;

use end_to_end::{Place, TINY, images, program};

/// Uses the run in ways that need the damaged file; each must refuse and change nothing.
#[track_caller]
fn refused(at: &Place, uses: &[&str], words: &[&str]) {
    let before = at.files();
    for arguments in uses {
        at.train(arguments).fails(1, words);
        assert!(before == at.files(), "{arguments} changed files");
    }
}

const RESUME: &str = "--resume run --epochs 4";
const EVALUATE: &str = "evaluate run --samples 2";
const SAMPLE: &str = "sample run";

/// Half of a file, all but its last byte, nothing, and noise. Checkpoints end in padding, which nobody misses.
fn damage(good: &[u8]) -> [Vec<u8>; 4] {
    let used = good.iter().rposition(|&byte| byte != 0).expect("no zeros") + 1;
    let noise = (0..used).map(|i| (i * i * 31 % 251) as u8).collect();
    let cut = |end| good[..end].to_vec();
    [cut(used / 2), cut(used - 1), cut(0), noise]
}

#[test]
fn damaged_checkpoints() {
    let at = Place::with_run("");
    for part in ["model", "optim", "scheduler"] {
        let file = format!("run/checkpoint/{part}-2.bpk");
        let good = at.bytes(&file);
        let uses: &[&str] = match part {
            "model" => &[RESUME, EVALUATE, SAMPLE],
            _ => &[RESUME],
        };
        for bad in damage(&good) {
            println!("{file}: {} of {} bytes", bad.len(), good.len());
            at.write(&file, bad);
            refused(&at, uses, &[&file, "damaged"]);
        }
        at.write(&file, good);
    }
    at.train(RESUME).succeeds();
}

/// The advice that the error gives.
#[test]
fn deleting_a_damaged_epoch_falls_back_on_the_one_before() {
    let at = Place::with_run("");
    let whole = at.metrics("run");
    for part in ["model", "optim", "scheduler"] {
        std::fs::remove_file(at.path(&format!("run/checkpoint/{part}-2.bpk"))).unwrap();
    }
    at.train(EVALUATE).succeeds();
    at.train("--resume run").succeeds();
    assert_eq!(at.metrics("run"), whole);
}

#[test]
fn checkpoints_of_another_shape() {
    let at = Place::with_run("");
    let good = at.text("run/config.json");
    for (was, is) in [
        ("\"layers\": 2", "\"layers\": 3"),
        ("\"layers\": 2", "\"layers\": 0"),
        ("\"latent_dim\": 4", "\"latent_dim\": 5"),
        ("\"maxout:4\"", "\"tanh\""),
    ] {
        assert!(good.contains(was), "{good}");
        at.write("run/config.json", good.replace(was, is));
        refused(
            &at,
            &[RESUME, EVALUATE, SAMPLE],
            &["model-2.bpk", "config.json"],
        );
    }
}

#[test]
fn images_of_another_size_than_the_checkpoint_s() {
    let at = Place::new();
    images(&at, "eight", 8);
    images(&at, "four", 4);
    at.train(&format!(
        "{TINY} --epochs 1 --dataset mnist --data-dir eight --output run"
    ))
    .succeeds();
    let other = [RESUME, EVALUATE, SAMPLE].map(|command| format!("{command} --data-dir four"));
    refused(
        &at,
        &other.each_ref().map(String::as_str),
        &["model-1.bpk", "4 x 4"],
    );
    at.train(RESUME).succeeds();
}

#[test]
fn damaged_configurations() {
    let at = Place::with_run("");
    let good = at.text("run/config.json");
    for bad in [
        good[..good.len() / 2].to_owned(),
        String::new(),
        good.replace("layers", "leyers"),
        good.replace("\"layers\": 2", "\"layers\": -2"),
        good.replace("\"flex\"", "\"tpu\""),
        "[1, 2]".into(),
    ] {
        assert_ne!(bad, good);
        at.write("run/config.json", bad);
        refused(&at, &[RESUME, EVALUATE, SAMPLE], &["run/config.json"]);
        refused(&at, &["--config run/config.json"], &["run/config.json"]);
    }
    at.write("run/config.json", b"\xff\xfe\x00");
    refused(&at, &[RESUME, EVALUATE], &["run/config.json"]);
    std::fs::remove_file(at.path("run/config.json")).unwrap();
    refused(&at, &[RESUME, EVALUATE], &["run", "config.json"]);
}

#[test]
fn damaged_metrics() {
    let at = Place::with_run("");
    let good = at.text("run/metrics.csv");
    let cut = good.rfind(',').expect("commas");
    for bad in [
        &good.as_bytes()[..cut],
        good.replace('.', ";").as_bytes(),
        good.replace("valid_elbo", "valid").as_bytes(),
        b"\xff\xfe\x00,\n\xff\xfe\x00,\n",
    ] {
        at.write("run/metrics.csv", bad);
        refused(&at, &[RESUME, EVALUATE, SAMPLE], &["run/metrics.csv"]);
    }
}

/// Checkpoints are large and may be deleted when training is over; the best model is in `model.bpk` too.
#[test]
fn the_best_model_outlives_the_checkpoints() {
    let at = Place::with_run("");
    at.train(EVALUATE).succeeds();
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    let outcome = at.train(EVALUATE).succeeds();
    assert!(
        outcome
            .stdout
            .contains("run: epoch 2, weights in run/model.bpk")
    );
    for name in ["epoch", "elbo", "nll"] {
        let [first, second] = at.numbers("run/evaluations.csv", name)[..] else {
            panic!("two evaluations have two rows");
        };
        assert_eq!(first, second, "{name}");
    }
    at.train(SAMPLE).succeeds();
    refused(
        &at,
        &["evaluate run --epoch 2"],
        &["run", "no checkpoint of epoch 2"],
    );

    let good = at.bytes("run/model.bpk");
    for bad in damage(&good) {
        at.write("run/model.bpk", bad);
        refused(&at, &[EVALUATE, SAMPLE], &["run/model.bpk", "damaged"]);
    }
    std::fs::remove_file(at.path("run/model.bpk")).unwrap();
    refused(
        &at,
        &[EVALUATE, SAMPLE],
        &["run", "no checkpoint", "--resume"],
    );
}

/// Nothing in a file of weights tells them from others, but what comes out does.
#[test]
fn weights_that_are_no_numbers() {
    let at = Place::with_run("");
    let file = "run/checkpoint/model-2.bpk";
    let good = at.bytes(file);
    let end = good.iter().rposition(|&byte| byte != 0).expect("no zeros");
    let mut bad = good.clone();
    bad[end - 3000..end].fill(0xff);
    at.write(file, bad);
    refused(
        &at,
        &[EVALUATE, "evaluate run --samples 2 --json"],
        &[
            "run",
            "epoch 2",
            file,
            "250 of 250 test",
            "not finite",
            "--epoch",
        ],
    );
    at.train("evaluate run --samples 2 --epoch 1").succeeds();
}

/// A link to another disk, say.
#[cfg(unix)]
#[test]
fn a_checkpoint_whose_file_is_gone_for_good() {
    let at = Place::with_run("");
    let file = at.path("run/checkpoint/model-2.bpk");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    for arguments in [SAMPLE, EVALUATE] {
        at.train(arguments)
            .fails(1, &["run", "no checkpoint of epoch 2"]);
    }
}

#[test]
fn results_that_cannot_be_written() {
    let at = Place::with_run("");
    at.write("run/evaluations.csv/folder", "in the way");
    refused(&at, &[EVALUATE], &["run/evaluations.csv"]);
    at.write("run/samples.png.part/folder", "in the way");
    refused(&at, &[SAMPLE], &["run/samples.png"]);
}

/// A limit on the size of files stands in for a full disk: writing fails half-way, for any user. It lies
/// between the configuration and the weights.
#[test]
fn a_disk_too_full_for_a_checkpoint() {
    let at = Place::with_run("");
    let limited = |arguments: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
        shell.arg(program()).args(arguments.split_whitespace());
        at.spawn(shell).finish()
    };
    let checkpoint = |name: &String| name.ends_with("-2.bpk");
    let before = at.files();
    limited("--resume run --epochs 1000000").fails(1, &["epoch 2 is kept", "run"]);
    for (path, bytes) in &before {
        if path.starts_with("run/checkpoint") {
            let name = path.display().to_string();
            assert!(!checkpoint(&name) || at.bytes(&name) == *bytes, "{name}");
        }
    }
    limited(&format!("{TINY} --output new")).fails(1, &["no checkpoint"]);

    // With room again it goes on as if nothing had been.
    at.train(RESUME).succeeds();
    at.train(&format!("{TINY} --epochs 4 --output whole"))
        .succeeds();
    assert_eq!(at.metrics("run"), at.metrics("whole"));
}

/// `/dev/full` in the place of the file that is written first.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_full_for_the_metrics() {
    let at = Place::with_run("");
    let part = at.path("run/metrics.csv.part");
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let before = at.text("run/metrics.csv");
    at.train(RESUME).fails(1, &["metrics.csv", "space"]);
    assert_eq!(at.text("run/metrics.csv"), before);

    std::fs::remove_file(part).unwrap();
    at.train(RESUME).succeeds();
    assert_eq!(at.numbers("run/metrics.csv", "epoch"), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_loss_that_is_not_finite_stops_before_it_is_saved() {
    let at = Place::new();
    at.train(&format!("{TINY} --lr 1e30 --output run"))
        .fails(1, &["not finite", "step", "of epoch 1", "no checkpoint"]);
    assert!(!at.path("run/model.bpk").exists());

    let at = Place::with_run("");
    let good = at.text("run/config.json");
    assert!(good.contains("\"lr\": 0.001"), "{good}");
    at.write("run/config.json", good.replace("0.001", "1e30"));
    let weights = at.bytes("run/checkpoint/model-2.bpk");
    at.train(RESUME)
        .fails(1, &["not finite", "of epoch 3", "epoch 2 is kept"]);
    assert_eq!(at.bytes("run/checkpoint/model-2.bpk"), weights);
    assert_eq!(at.numbers("run/metrics.csv", "epoch"), [1.0, 2.0]);

    at.write("run/config.json", good);
    at.train(RESUME).succeeds();
}
