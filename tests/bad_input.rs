//! Whatever a user gets wrong at the start: one line of error that says what and where, nothing written.

use std::process::Command;

use end_to_end::{Place, TEST_IMAGES, TINY, TRAIN_IMAGES, gzip, idx, images};

/// The parser of the command line refuses with this code, the program itself with 1.
const USAGE: i32 = 2;

#[track_caller]
fn refuses(at: &Place, arguments: &str, code: i32, words: &[&str]) {
    let before = at.files();
    at.train(arguments).fails(code, words);
    assert!(before == at.files(), "{arguments} changed files");
}

#[test]
fn flags_that_cannot_be_parsed() {
    let at = Place::new();
    for (arguments, words) in [
        ("--batch-size 0", ["--batch-size", "0"]),
        ("--batch-size -5", ["--batch-size", "-5"]),
        ("--layers -1", ["--layers", "-1"]),
        ("--layers 2.5", ["--layers", "2.5"]),
        ("--latent-dim 0", ["--latent-dim", "0"]),
        ("--hidden 0", ["--hidden", "0"]),
        ("--hidden 16,,16", ["--hidden", "''"]),
        ("--epochs 0", ["--epochs", "0"]),
        ("--lr fast", ["--lr", "fast"]),
        ("--seed -1", ["--seed", "-1"]),
        ("--backend tpu", ["--backend", "tpu"]),
        ("--flow glow", ["--flow", "glow"]),
        ("--activation gelu", ["--activation", "gelu"]),
        ("--activation maxout:0", ["--activation", "maxout:0"]),
        ("--optimizer sgd", ["--optimizer", "sgd"]),
        ("--anneal linear", ["--anneal", "linear"]),
        ("--anneal kl-warm-up:0", ["--anneal", "kl-warm-up:0"]),
        ("--samples 0", ["--samples", "0"]),
        ("--binarization grey", ["--binarization", "grey"]),
        ("--valid-images 0", ["--valid-images", "0"]),
        ("--frobnicate", ["--frobnicate", "unexpected"]),
        ("--resume run --lr 0.1", ["--resume", "--lr"]),
        ("evaluate run --samples 0", ["--samples", "0"]),
        ("evaluate run --split train", ["--split", "train"]),
        ("evaluate run --epoch 0", ["--epoch", "0"]),
        ("evaluate run --seed -1", ["--seed", "-1"]),
        (
            "evaluate run --binarization grey",
            ["--binarization", "grey"],
        ),
        ("evaluate", ["required", "argument"]),
        ("report", ["required", "argument"]),
        ("explain run", ["explain", "unrecognized"]),
    ] {
        refuses(&at, arguments, USAGE, &words);
    }
}

#[test]
fn values_that_cannot_be_used() {
    let at = Place::new();
    for (arguments, word) in [
        (
            "--flow-bins 4",
            "--flow-bins: --flow planar doesn't take it",
        ),
        ("--flow iaf --flow-vectors 4", "--flow-vectors: --flow iaf"),
        (
            "--flow spline --flow-bins 501",
            "501 bins: a spline has 1 to 500",
        ),
        (
            "--flow sylvester-orthogonal --flow-vectors 9",
            "in 8 dimensions there are 1 to 8",
        ),
        ("--flow nice --layers 99999999999", "--layers"),
        ("--flow iaf --flow-hidden 99999999999", "--flow"),
        ("--valid-images 1547", "give 1546 at most"),
        ("--lr -1", "--lr -1"),
        ("--lr 0", "--lr 0"),
        ("--lr nan", "--lr NaN"),
        ("--lr inf", "--lr inf"),
        ("--layers 18446744073709551615", "--layers"),
        ("--latent-dim 18446744073709551615", "--latent-dim"),
        ("--latent-dim 1000000", "--latent-dim"),
        ("--hidden 18446744073709551615", "--hidden"),
        ("--hidden 100000,100000", "--hidden"),
        ("--dataset mnits", "\"mnits\""),
        ("--backend cuda", "--features cuda"),
        ("--config nowhere.json", "nowhere.json"),
        ("--resume nowhere", "nowhere"),
        ("evaluate nowhere", "nowhere"),
        ("sample nowhere", "nowhere"),
        ("report nowhere", "nowhere"),
    ] {
        refuses(&at, arguments, 1, &[word]);
    }
}

#[test]
fn batches_larger_than_the_data_are_one_batch() {
    let at = Place::new();
    for (output, size) in [("whole", "1297"), ("more", "18446744073709551615")] {
        at.train(&format!(
            "{TINY} --epochs 1 --batch-size {size} --output {output}"
        ))
        .succeeds();
    }
    assert_eq!(at.metrics("whole"), at.metrics("more"));
    at.train(&format!(
        "{TINY} --epochs 1 --batch-size 18446744073709551615 --devices 0,0 --output shared"
    ))
    .succeeds();
    // Of noise there is no end.
    at.train("energy --batch-size 18446744073709551615 --output energy")
        .fails(1, &["--batch-size", "at most 1000000"]);
    assert!(!at.path("energy").exists());
}

/// They may never end.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_configuration() {
    let at = Place::new();
    let pipe = Command::new("mkfifo").arg(at.path("pipe")).status();
    assert!(pipe.unwrap().success());
    for file in ["pipe", "/dev/zero"] {
        at.train(&format!("--config {file} --output run"))
            .fails(1, &[file, "a pipe or a device"]);
    }
    assert!(!at.path("run").exists());
}

#[test]
fn broken_image_files() {
    let good = idx(60, 8, 8);
    let header = |word: usize, value: u32| {
        let mut file = good.clone();
        file[4 * word..][..4].copy_from_slice(&value.to_be_bytes());
        file
    };
    let zipped = gzip(&good);
    let mut flipped = zipped.clone();
    let checksum = flipped.len() - 8;
    flipped[checksum] ^= 1;
    let cases = [
        ("empty", vec![], "too short"),
        ("half a header", good[..9].to_vec(), "too short"),
        ("half the pixels", good[..2000].to_vec(), "cut short"),
        ("another magic", header(0, 0xcafe), "0x0000cafe"),
        ("labels", header(0, 0x0801), "labels"),
        ("a promise of more", header(1, 61), "promises 3904 bytes"),
        ("a promise of far more", header(1, u32::MAX), "promises"),
        ("an image too many", header(1, 59), "goes on"),
        (
            "images of no size",
            [header(2, 0), vec![]].concat(),
            "0 x 8",
        ),
        ("no images", header(1, 0), "0 images"),
        ("one image", idx(1, 8, 8), "too few"),
        ("oblong images", idx(60, 8, 9), "8 x 9"),
        (
            "another size than the test's",
            idx(60, 9, 9),
            "test images 8",
        ),
        ("half a gzip", zipped[..zipped.len() / 2].to_vec(), "gzip"),
        ("a gzip with a wrong checksum", flipped, "gzip"),
        (
            "a gzip of something else",
            gzip(b"hello, hello"),
            "no IDX file",
        ),
    ];
    let at = Place::new();
    images(&at, "set", 8);
    for (what, bytes, word) in cases {
        eprintln!("{what}"); // shown when it fails
        at.write(&format!("set/{TRAIN_IMAGES}"), bytes);
        refuses(&at, "--dataset mnist --data-dir set", 1, &["set", word]);
        refuses(&at, "--dataset set", 1, &["set", word]);
    }
}

#[test]
fn missing_image_files_are_named() {
    let at = Place::new();
    at.write("set/readme", "");
    for dataset in ["mnist", "fashion-mnist"] {
        let arguments = format!("--dataset {dataset} --data-dir set");
        refuses(
            &at,
            &arguments,
            1,
            &["set", TRAIN_IMAGES, TEST_IMAGES, ".gz", "--data-dir"],
        );
    }
    at.write(&format!("set/{TRAIN_IMAGES}"), idx(60, 8, 8));
    refuses(&at, "--dataset set", 1, &["set", TEST_IMAGES]);
    refuses(
        &at,
        "--dataset mnist --data-dir nowhere",
        1,
        &["nowhere", TRAIN_IMAGES],
    );
}

#[test]
fn folders_that_cannot_be_written() {
    let at = Place::new();
    at.write("taken/notes.txt", "precious");
    at.write("file", "no folder");
    refuses(&at, "--output taken", 1, &["taken", "exists", "--output"]);
    refuses(&at, "--output file", 1, &["file"]);
    refuses(&at, "--output file/run", 1, &["file"]);
    at.write("runs", "no folder either");
    refuses(&at, "", 1, &["runs", "--output"]);
}

/// The work is done, and its end says what was not told; who closes the pipe knows that, and is not troubled.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written() {
    let at = Place::with_run("");
    let shell = |script: &str, arguments: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).arg(end_to_end::program());
        at.spawn({
            shell.args(arguments.split_whitespace());
            shell
        })
        .finish()
    };
    for (arguments, file) in [
        ("--help", None),
        ("evaluate --help", None),
        ("--version", None),
        ("--resume run --epochs 3", Some("run/checkpoint/3")),
        ("evaluate run --samples 2", Some("run/evaluations.csv")),
        ("sample run", Some("run/samples.png")),
        ("report run --output report", Some("report/table.md")),
    ] {
        shell("exec \"$0\" \"$@\" > /dev/full", arguments)
            .fails(1, &["standard output", "No space left"]);
        assert!(file.is_none_or(|file| at.path(file).exists()), "{file:?}");

        let piped = "{ \"$0\" \"$@\"; echo $? > code; } | true";
        shell(piped, &arguments.replace("epochs 3", "epochs 4")).succeeds();
        assert_eq!(at.text("code"), "0\n", "{arguments}");
    }
}

/// serde_json reads it to and fro between two floats.
#[test]
fn a_rate_that_no_configuration_holds_exactly() {
    let at = Place::new();
    at.train(&format!("{TINY} --epochs 1 --lr 1e-25 --output run"))
        .succeeds();
    at.train("--resume run --epochs 2").succeeds();
    at.train("--resume run --epochs 3").succeeds();
}
