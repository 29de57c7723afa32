//! Run folders that something happened to, full disks, and training that diverges.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use end_to_end::{Place, TINY, images, not_run, number, program};

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
    for part in ["model.bpk", "optim.bpk", "scheduler.bpk", "manifest.json"] {
        let file = format!("run/checkpoint/2/{part}");
        let good = at.bytes(&file);
        let uses: &[&str] = match part {
            "model.bpk" | "manifest.json" => &[RESUME, EVALUATE, SAMPLE],
            _ => &[RESUME],
        };
        // A manifest ends in a line break, which nobody misses either.
        let mut bad = damage(good.trim_ascii_end()).to_vec();
        if part != "manifest.json" {
            // Among the weights, where nothing but the checksum notices.
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 1;
            bad.push(flipped);
        }
        for bad in bad {
            println!("{file}: {} of {} bytes", bad.len(), good.len());
            at.write(&file, bad);
            refused(
                &at,
                uses,
                &[&file, "damaged", "delete the folder run/checkpoint/2 "],
            );
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
    std::fs::remove_dir_all(at.path("run/checkpoint/2")).unwrap();
    at.train(EVALUATE).succeeds();
    at.train("--resume run").succeeds();
    assert_eq!(at.metrics("run"), whole);
}

/// The best epoch is the best of those that are left, now and after more training, and a warning tells of a better one.
#[test]
fn the_best_epoch_is_one_that_is_there() {
    let at = Place::with_run("");
    // The first epoch, as if it had been better than all that come.
    let call_it = |epoch: usize, elbo: &str| {
        let was = at.column("run/metrics.csv", "valid_elbo")[epoch - 1].clone();
        for file in [
            "run/metrics.csv".to_owned(),
            format!("run/checkpoint/{epoch}/manifest.json"),
        ] {
            at.write(&file, at.text(&file).replace(&was, elbo));
        }
    };
    call_it(1, "-25.0");
    let gone = "ELBO in epoch 1, -25.00 nats, whose weights are gone";
    let best_is = |epoch: usize, is_best_of_all: bool| {
        let outcome = at.train(EVALUATE);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let said = format!("run: epoch {epoch},");
        assert!(outcome.stdout.contains(&said), "{outcome:#?}");
        assert_eq!(
            outcome.stderr.contains(gone),
            !is_best_of_all,
            "{outcome:#?}"
        );
    };
    best_is(1, true);
    std::fs::remove_dir_all(at.path("run/checkpoint/1")).unwrap();
    best_is(2, false);
    // An epoch that is asked for is not said to be the best.
    at.train(&format!("{EVALUATE} --epoch 2")).succeeds();
    let outcome = at.train("--resume run --epochs 3");
    assert!(outcome.stderr.contains(gone), "{outcome:#?}");
    call_it(3, "-24.0");
    at.train("--resume run --epochs 7").succeeds();
    assert_eq!(at.names("run/checkpoint"), ["3", "6", "7"]);
    best_is(3, true);
}

/// `model.bpk` has the best weights still, of a run that has ended once: they are what is used, and stay.
#[test]
fn the_best_epoch_is_not_lost_with_its_checkpoint() {
    let at = Place::new();
    at.train(&format!("{TINY} --epochs 1 --output run"))
        .succeeds();
    // As if the first epoch had been better than all that come.
    let was = at.column("run/metrics.csv", "valid_elbo")[0].clone();
    for file in ["run/metrics.csv", "run/checkpoint/1/manifest.json"] {
        at.write(file, at.text(file).replace(&was, "-20.0"));
    }
    at.train("--resume run --epochs 4").succeeds();
    assert_eq!(at.saved("run"), [1, 3, 4]);
    let (weights, evaluated) = (
        at.bytes("run/model.bpk"),
        at.train(EVALUATE).succeeds().stdout,
    );
    std::fs::remove_dir_all(at.path("run/checkpoint/1")).unwrap();
    let kept = at.train(EVALUATE).succeeds().stdout;
    assert!(
        kept.contains("run: epoch 1, weights in run/model.bpk"),
        "{kept}"
    );
    let numbers = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(numbers(&kept), numbers(&evaluated));
    at.train("report run").succeeds();
    let ended = at.train("--resume run --epochs 5").succeeds();
    assert!(ended.stdout.contains("best epoch 1 of 5"), "{ended:#?}");
    assert!(at.bytes("run/model.bpk") == weights);

    // Weights that are none of its epoch's are not.
    let model = at.bytes("run/model.bpk");
    let mut other = model.clone();
    *other.last_mut().unwrap() ^= 1;
    at.write("run/model.bpk", other);
    let said = at.train(EVALUATE).stderr;
    assert!(said.contains("whose weights are gone"), "{said}");
    at.write("run/model.bpk", model);
    let summary = at.text("run/summary.json");
    at.write(
        "run/summary.json",
        summary.replace("\"elbo\": -", "\"elbo\": -1"),
    );
    let said = at.train("report run").stderr;
    assert!(said.contains("whose weights are gone"), "{said}");
    // Of all the checkpoints nothing is left, and the summary says what was.
    at.write(
        "run/summary.json",
        summary.replace("\"best_epoch\": 1", "\"best_epoch\": 5"),
    );
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    let said = at.train("report run").stderr;
    assert!(said.contains("whose weights are gone"), "{said}");
}

/// Each is whole, but not of this run.
#[test]
fn parts_of_other_checkpoints() {
    let at = Place::with_run("");
    at.train(&format!("{TINY} --epochs 2 --seed 1 --output other"))
        .succeeds();
    let file = "run/checkpoint/2/model.bpk";
    let good = at.bytes(file);
    for other in ["run/checkpoint/1/model.bpk", "other/checkpoint/2/model.bpk"] {
        at.write(file, at.bytes(other));
        refused(&at, &[RESUME, EVALUATE, SAMPLE], &[file, "damaged"]);
    }
    at.write(file, good);

    // A whole epoch under another number, and of another run.
    let copy = |from: &str, to: &str| {
        for name in at.names(from) {
            at.write(&format!("{to}/{name}"), at.bytes(&format!("{from}/{name}")));
        }
    };
    copy("run/checkpoint/1", "run/checkpoint/2");
    refused(
        &at,
        &[RESUME, EVALUATE],
        &["run/checkpoint/2/manifest.json", "damaged"],
    );
    copy("other/checkpoint/2", "run/checkpoint/2");
    refused(
        &at,
        &[RESUME, EVALUATE],
        &["run/metrics.csv", "run/checkpoint/2", "put it back"],
    );
}

/// The state of one optimiser is nothing to another, and a run is described by one configuration.
#[test]
fn settings_that_were_changed_under_a_run() {
    let at = Place::with_run("");
    let good = at.text("run/config.json");
    for (was, is, words) in [
        (
            "\"adam\"",
            "\"adamax\"",
            ["optimizer = \"adam\"", "says \"adamax\""],
        ),
        ("\"lr\": 0.002", "\"lr\": 0.02", ["lr = 0.002", "says 0.02"]),
    ] {
        assert!(good.contains(was), "{good}");
        at.write("run/config.json", good.replace(was, is));
        refused(&at, &[RESUME, EVALUATE, SAMPLE], &words);
        refused(&at, &[RESUME], &["run/checkpoint/2", "--config"]);
    }
    at.write("run/config.json", good);
    at.train("evaluate run --samples 2 --binarization threshold")
        .succeeds();
    at.train(RESUME).succeeds();
}

#[test]
fn images_that_were_changed_under_a_run() {
    let at = Place::new();
    images(&at, "some", 8);
    at.train(&format!(
        "{TINY} --epochs 1 --dataset mnist --data-dir some --output run"
    ))
    .succeeds();
    images(&at, "others", 8);
    // One grey level of one image.
    let name = "others/t10k-images-idx3-ubyte";
    let mut bytes = at.bytes(name);
    *bytes.last_mut().unwrap() ^= 1;
    at.write(name, bytes);
    let uses = [RESUME, EVALUATE].map(|command| format!("{command} --data-dir others"));
    refused(
        &at,
        &uses.each_ref().map(String::as_str),
        &["run/checkpoint/1", "other data", "checksum"],
    );
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
            &["run/checkpoint/2", "config.json", "--config"],
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
        &["run/checkpoint/1", "of 8 x 8 pixels", "of 4 x 4"],
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

/// The best epoch is chosen by them.
#[test]
fn metrics_of_another_run() {
    let at = Place::with_run("");
    at.train(&format!("{TINY} --epochs 2 --seed 1 --output other"))
        .succeeds();
    let good = at.text("run/metrics.csv");
    let lines: Vec<&str> = good.lines().collect();
    for bad in [
        at.text("other/metrics.csv"),
        lines[..2].join("\n") + "\n",
        [lines[0], lines[2], lines[1]]
            .join("\n")
            .replace("\n2,", "\n1,")
            + "\n",
    ] {
        at.write("run/metrics.csv", bad);
        refused(
            &at,
            &[RESUME, EVALUATE, SAMPLE],
            &["run/metrics.csv", "put it back"],
        );
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
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    at.write("run/model.bpk", flipped);
    refused(&at, &[EVALUATE, SAMPLE], &["run/model.bpk", "damaged"]);
    at.write("run/model.bpk", good);
    // The same shapes, and another function.
    let config = at.text("run/config.json");
    at.write("run/config.json", config.replace("maxout:4", "maxout:2"));
    refused(
        &at,
        &[EVALUATE, SAMPLE],
        &["run/model.bpk", "activation", "--config"],
    );
    at.write("run/config.json", config);

    std::fs::remove_file(at.path("run/model.bpk")).unwrap();
    refused(
        &at,
        &[EVALUATE, SAMPLE],
        &["run", "no checkpoint", "--resume"],
    );
}

/// The weights are those that were saved, but something went wrong before.
#[test]
fn weights_that_are_no_numbers() {
    let at = Place::with_run("");
    at.spoil("run/checkpoint/2");
    refused(
        &at,
        &[EVALUATE, "evaluate run --samples 2 --json"],
        &[
            "run",
            "epoch 2",
            "run/checkpoint/2/model.bpk",
            "250 of 250 test",
            "not finite",
            "--epoch",
        ],
    );
    at.train("evaluate run --samples 2 --epoch 1").succeeds();
    refused(
        &at,
        &[SAMPLE],
        &["run/checkpoint/2/model.bpk", "not all finite"],
    );
}

/// A run that was whole after two epochs and went on to four, and of which `model.bpk` is all that is left: it is of the epoch that
/// `summary.json` says, whatever came after.
#[test]
fn weights_without_checkpoints_are_those_of_their_epoch() {
    let at = Place::with_run("");
    let kept = ["model.bpk", "summary.json"].map(|name| (name, at.bytes(&format!("run/{name}"))));
    at.train("--resume run --epochs 4").succeeds();
    let elbo = at.numbers("run/metrics.csv", "valid_elbo");
    assert!(elbo[3] > elbo[1], "{elbo:?}");
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    for (name, bytes) in kept {
        at.write(&format!("run/{name}"), bytes);
    }
    let row = at.evaluated("run --samples 2");
    assert_eq!(number(&row, "epoch"), 2.0);
    at.train("report run --output report").succeeds();
    assert_eq!(at.column("report/table.csv", "best_epoch"), ["2"]);
    let nll = number(&row, "nll").to_string();
    assert!(at.text("report/table.csv").contains(&nll), "{nll}");
}

/// A link to another disk, say.
#[cfg(unix)]
#[test]
fn a_checkpoint_whose_file_is_gone_for_good() {
    let at = Place::with_run("");
    let file = at.path("run/checkpoint/2/model.bpk");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    for arguments in [SAMPLE, EVALUATE] {
        at.train(arguments)
            .fails(1, &["run/checkpoint/2/model.bpk", "damaged", "delete"]);
    }
}

#[test]
fn results_that_cannot_be_written() {
    let at = Place::with_run("");
    at.write("run/evaluations.csv/folder", "in the way");
    at.write("run/evaluations.lock", "");
    refused(&at, &[EVALUATE], &["run/evaluations.csv"]);
    std::fs::remove_file(at.path("run/samples.png")).unwrap();
    at.write("run/samples.png/folder", "in the way");
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
    let before = at.files();
    limited("--resume run --epochs 1000000").fails(1, &["epoch 2 is kept", "run"]);
    for (path, bytes) in &before {
        if path.starts_with("run/checkpoint/2") {
            let name = path.display().to_string();
            assert!(at.bytes(&name) == *bytes, "{name}");
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

    // What could not be written whole is not left in the way.
    assert!(part.symlink_metadata().is_err());
    at.train(RESUME).succeeds();
    assert_eq!(at.numbers("run/metrics.csv", "epoch"), [1.0, 2.0, 3.0, 4.0]);
}

/// A limit on the size of files is a full disk, not the end of the program.
#[cfg(target_os = "linux")]
#[test]
fn files_that_may_not_grow() {
    let at = Place::with_run("");
    let before = at.files();
    let mut shell = Command::new("sh");
    // Less than a checkpoint's part has; `ulimit` counts blocks of 512 bytes in some shells, of 1,024 in others.
    shell.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\""]);
    shell.arg(program()).args(RESUME.split_whitespace());
    let words = [
        "checkpoint/3",
        "too large",
        "the checkpoint of epoch 2 is kept",
    ];
    at.spawn(shell).finish().fails(1, &words);
    for file in ["model.bpk", "checkpoint/2/model.bpk", "summary.json"] {
        let file = Path::new("run").join(file);
        assert!(at.files()[&file] == before[&file], "{}", file.display());
    }
    at.train(RESUME).succeeds();
}

/// A file system of its own, in memory, of four MiB; it is gone when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// None, after a word on the terminal, where this machine lets nobody mount one.
    fn mounted(at: &Place, name: &str) -> Option<Self> {
        let path = at.path(name);
        std::fs::create_dir(&path).unwrap();
        let mount = |program: &str| {
            let mut command = Command::new(program);
            if program == "sudo" {
                command.args(["--non-interactive", "mount"]);
            }
            command.args(["-t", "tmpfs", "-o", "size=4m,mode=1777", "tmpfs"]);
            command.arg(&path).output()
        };
        let is_mounted = ["mount", "sudo"]
            .iter()
            .any(|program| mount(program).is_ok_and(|output| output.status.success()));
        if !is_mounted {
            not_run("nothing can be mounted here");
            return None;
        }
        Some(Self(path))
    }

    fn again(&self, how: &str) {
        let options = format!("remount,size=4m,mode=1777,{how}");
        let arguments = ["mount", "-o", &options];
        assert!(run_as_root(&arguments, &self.0), "{how}");
    }

    /// Fills it, but for so many KiB.
    fn fill(&self, left: u64) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size - 1024 * left).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run_as_root(&["umount", "--lazy"], &self.0);
    }
}

fn run_as_root(command: &[&str], path: &Path) -> bool {
    let run = |prefix: &[&str]| {
        let all = [prefix, command].concat();
        let output = Command::new(all[0]).args(&all[1..]).arg(path).output();
        output.is_ok_and(|output| output.status.success())
    };
    run(&[]) || run(&["sudo", "--non-interactive"])
}

/// Whatever it is that finds no space: the configuration, a part of a checkpoint, its manifest or the metrics.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_costs_no_more_than_the_epoch() {
    let at = Place::new();
    let Some(disk) = Disk::mounted(&at, "disk") else {
        return;
    };
    at.train(&format!("{TINY} --epochs 2 --output disk/run"))
        .succeeds();
    let mut epochs = 2;
    for left in [0, 4, 12, 40, 80, 120, 160] {
        let saved = at.files();
        disk.fill(left);
        at.train("--resume disk/run --epochs 1000000")
            .fails(1, &["No space left", "disk/run"]);
        disk.free();
        let last = *at.saved("disk/run").last().expect("a checkpoint");
        assert!(last >= epochs, "{left} KiB: {last} after {epochs}");
        let here = format!("disk/run/checkpoint/{last}/");
        for (path, bytes) in &saved {
            if path.starts_with(&here) {
                let name = path.display().to_string();
                assert!(at.bytes(&name) == *bytes, "{left} KiB: {name}");
            }
        }
        at.train("evaluate disk/run --samples 2").succeeds();
        epochs = last + 1;
        at.train(&format!("--resume disk/run --epochs {epochs}"))
            .succeeds();
    }
    std::fs::remove_file(at.path("disk/run/evaluations.csv")).unwrap();
    disk.fill(0);
    let outcome = at.train("evaluate disk/run --samples 2");
    outcome.fails(1, &["disk/run/evaluations.csv", "No space left"]);
    assert!(outcome.stdout.contains("NLL(2)"));
    disk.free();
    at.train(&format!("{TINY} --epochs {epochs} --output whole"))
        .succeeds();
    assert_eq!(at.metrics("disk/run"), at.metrics("whole"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_read_only() {
    let at = Place::new();
    let Some(disk) = Disk::mounted(&at, "disk") else {
        return;
    };
    at.train(&format!("{TINY} --epochs 2 --output disk/run"))
        .succeeds();
    let before = at.files();
    disk.again("ro");
    for (arguments, word) in [
        ("--resume disk/run --epochs 4", "disk/run"),
        (EVALUATE_THERE, "disk/run/evaluations.csv"),
        ("sample disk/run", "disk/run/samples.png"),
        ("--epochs 1 --output disk/new", "disk/new"),
    ] {
        let outcome = at.train(arguments);
        outcome.fails(1, &[word, "Read-only"]);
        // What was computed is shown nevertheless.
        assert!(arguments != EVALUATE_THERE || outcome.stdout.contains("NLL(2)"));
    }
    disk.again("rw");
    assert!(before == at.files());
    at.train("--resume disk/run --epochs 4").succeeds();
}

#[cfg(target_os = "linux")]
const EVALUATE_THERE: &str = "evaluate disk/run --samples 2";

/// A pipe would be waited for, and `/dev/zero` read to the end of the memory.
#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_in_the_place_of_one() {
    let at = Place::with_run("");
    at.train(EVALUATE).succeeds();
    for (name, uses) in [
        ("config.json", &[RESUME, EVALUATE, SAMPLE][..]),
        ("metrics.csv", &[RESUME, EVALUATE, SAMPLE]),
        ("lock", &[RESUME]),
        ("evaluations.csv", &[EVALUATE]),
        ("checkpoint/2/manifest.json", &[RESUME, EVALUATE, SAMPLE]),
        ("checkpoint/2/model.bpk", &[RESUME, EVALUATE, SAMPLE]),
        ("checkpoint/2/optim.bpk", &[RESUME]),
        ("checkpoint/2/scheduler.bpk", &[RESUME]),
    ] {
        let name = format!("run/{name}");
        let (path, aside) = (at.path(&name), at.path("aside"));
        std::fs::rename(&path, &aside).unwrap();
        for device in ["a pipe", "/dev/zero"] {
            match device {
                "a pipe" => {
                    let made = Command::new("mkfifo").arg(&path).status();
                    assert!(made.unwrap().success());
                }
                _ => std::os::unix::fs::symlink(device, &path).unwrap(),
            }
            for arguments in uses {
                println!("{device} is {name}: {arguments}");
                let file = name.rsplit('/').next().unwrap();
                at.train(arguments).fails(1, &["run", file]);
            }
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::rename(&aside, &path).unwrap();
    }
    at.train(RESUME).succeeds();
}

#[test]
fn a_loss_that_is_not_finite_stops_before_it_is_saved() {
    let at = Place::new();
    at.train(&format!("{TINY} --lr 1e30 --output run"))
        .fails(1, &["not finite", "step", "of epoch 1", "no checkpoint"]);
    assert!(!at.path("run/model.bpk").exists());

    // The rate doubles, triples, … until it is too much.
    let rising = "--lr 1e15 --lr-warm-up 1000000000000000000";
    let at = Place::with_run(rising);
    let weights = at.bytes("run/checkpoint/2/model.bpk");
    let epochs = at.numbers("run/metrics.csv", "epoch");
    assert_eq!(epochs, [1.0, 2.0]);
    let outcome = at.train("--resume run --epochs 1000000");
    outcome.fails(1, &["diverged", "of epoch", "is kept", "run"]);
    assert!(!weights.is_empty());
    at.train("evaluate run --samples 2").succeeds();
}
