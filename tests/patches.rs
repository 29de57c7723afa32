//! Patches of CIFAR-10's images, whose pixels are numbers: from the files to the pictures.

use std::{fs::File, io::BufReader};

use end_to_end::{Place, TEST_BATCH, TINY, TRAIN_BATCH, batch, cifar, gzip};
use serde_json::Value;

const DATA: &str = "--dataset cifar10-patches --data-dir set";

/// A folder with a data set `set`.
fn place() -> Place {
    let at = Place::new();
    cifar(&at, "set");
    at
}

#[track_caller]
fn json(at: &Place, file: &str) -> Value {
    serde_json::from_str(&at.text(file)).unwrap()
}

/// Width and height of a PNG file in colour.
#[track_caller]
fn colour_size(at: &Place, file: &str) -> (u32, u32) {
    let file = BufReader::new(File::open(at.path(file)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let is_colour = |pixel: &[u8]| pixel.iter().any(|level| *level != pixel[0]);
    assert!(pixels.chunks_exact(3).any(is_colour), "a grey picture");
    (info.width, info.height)
}

#[test]
fn a_run_from_training_to_pictures() {
    let at = place();
    at.train(&format!("{DATA} --layers 2 --hidden 16 --epochs 3"))
        .succeeds();
    let run = "runs/cifar10-patches-1";
    let config = json(&at, &format!("{run}/config.json"));
    assert_eq!(config["latent_dim"], 30);
    assert_eq!(config["binarization"], Value::Null);

    let elbo = at.numbers(&format!("{run}/metrics.csv"), "valid_elbo");
    assert!(elbo.windows(2).all(|pair| pair[0] < pair[1]), "{elbo:?}");
    // Ten by ten patches of 8 pixels, six times enlarged, with lines of 2 around them; of 20 test images as many pairs.
    for (picture, rows) in [("samples", 10), ("reconstructions", 4)] {
        let size = colour_size(&at, &format!("{run}/{picture}.png"));
        assert_eq!(size, (10 * 50 + 2, rows * 50 + 2));
    }

    let outcome = at.train(&format!("evaluate {run} --samples 5")).succeeds();
    let seen = "20 test images of cifar10-patches, not binarised (crc32:";
    assert!(outcome.stdout.contains(seen), "{outcome:#?}");
    let rows = format!("{run}/evaluations.csv");
    assert_eq!(at.column(&rows, "binarization"), [""]);
    let outcome = at.train(&format!("evaluate {run} --samples 5 --json"));
    let all: Value = serde_json::from_str(&outcome.succeeds().stdout).unwrap();
    assert_eq!(all["runs"][0]["binarization"], Value::Null);
    let nll = all["runs"][0]["nll"].as_f64().unwrap();
    assert_eq!(at.numbers(&rows, "nll"), [nll, nll]);

    let pictures = ["samples.png", "reconstructions.png"].map(|name| format!("{run}/{name}"));
    let before = pictures.each_ref().map(|file| at.bytes(file));
    at.train(&format!("sample {run}")).succeeds();
    assert_eq!(pictures.each_ref().map(|file| at.bytes(file)), before);
}

#[test]
fn a_resumed_run_equals_the_uninterrupted_one() {
    let at = place();
    let flags = format!("{TINY} {DATA}");
    at.train(&format!("{flags} --epochs 2 --output run"))
        .succeeds();
    at.train("--resume run --epochs 4").succeeds();
    at.train(&format!("{flags} --epochs 4 --output whole"))
        .succeeds();
    assert_eq!(at.metrics("run"), at.metrics("whole"));
    for file in ["samples.png", "reconstructions.png"] {
        let [a, b] = ["run", "whole"].map(|run| at.bytes(&format!("{run}/{file}")));
        assert!(a == b, "{file}");
    }
    let [a, b] = ["run", "whole"].map(|run| at.pack(&format!("{run}/checkpoint/4/model.bpk")));
    assert!(a == b);
}

/// An epoch that saw what the one before saw would have the same loss at a rate that moves nothing.
#[test]
fn training_sees_other_patches_in_each_epoch_and_the_rest_the_same() {
    let at = place();
    // Posteriors whose samples hardly differ: what is left is the patches.
    at.train(&format!(
        "{TINY} {DATA} --lr 1e-20 --epochs 2 --output a --seed 1"
    ))
    .succeeds();
    let [first, second] = at.numbers("a/metrics.csv", "train_reconstruction")[..] else {
        panic!("two epochs")
    };
    assert!((first - second).abs() > 1e-3, "{first}, {second}");
    let valid = at.numbers("a/metrics.csv", "valid_elbo");
    assert_eq!(valid[0], valid[1]);

    at.train(&format!("{TINY} {DATA} --epochs 1 --output b --seed 2"))
        .succeeds();
    at.train("evaluate a b --samples 2").succeeds();
    let [a, b] = ["a", "b"].map(|run| at.column(&format!("{run}/evaluations.csv"), "draw"));
    assert_eq!(a, b);
}

/// As the archive unpacks, and gzipped.
#[test]
fn files_are_found_where_they_may_be() {
    let at = place();
    let archive = "archive/cifar-10-batches-bin";
    at.write(&format!("{archive}/{TRAIN_BATCH}"), batch(60));
    at.write(&format!("{archive}/{TEST_BATCH}.gz"), gzip(&batch(20)));
    for (folder, run) in [("set", "a"), ("archive", "b"), (archive, "c")] {
        at.train(&format!(
            "{TINY} --dataset cifar10-patches --data-dir {folder} --epochs 1 --output {run}"
        ))
        .succeeds();
    }
    assert_eq!(at.metrics("a"), at.metrics("b"));
    assert_eq!(at.metrics("a"), at.metrics("c"));
    // A run goes on wherever they were moved, and knows them.
    std::fs::rename(at.path("set"), at.path("moved")).unwrap();
    at.train("--resume a --epochs 2 --data-dir moved")
        .succeeds();
    at.write(&format!("moved/{TEST_BATCH}"), batch(19));
    at.train("evaluate a --samples 2")
        .fails(1, &["trained on other data", "[54, 6, 20]", "[54, 6, 19]"]);
}

/// The density of what is always the same has a bound: 192 pixels of no less than the least variance.
#[test]
fn images_of_one_colour_have_the_densities_that_they_can_have() {
    let most_of = |x: f64| {
        let of_logit = (8.0 - (2.0 * std::f64::consts::PI).ln()) / 2.0;
        192.0 * (of_logit - (x * (1.0 - x)).ln())
    };
    let at = Place::new();
    for (level, x) in [(0, 1e-4), (128, 0.502), (255, 1.0 - 1e-4)] {
        let plain = |count| {
            let mut bytes = batch(count);
            for record in bytes.chunks_exact_mut(3073) {
                record[1..].fill(level);
            }
            bytes
        };
        at.write(&format!("set/{TRAIN_BATCH}"), plain(60));
        at.write(&format!("set/{TEST_BATCH}"), plain(20));
        at.train(&format!(
            "{DATA} --hidden 16 --latent-dim 4 --layers 2 --lr 0.01 --batch-size 6 --epochs 60 --output {level}"
        ))
        .succeeds();
        let elbo = at.numbers(&format!("{level}/metrics.csv"), "valid_elbo");
        let (first, last) = (elbo[0], elbo[59]);
        assert!(last > first, "{level}: {first} to {last}");
        assert!(last < most_of(x), "{level}: {last}");
        assert!(last > most_of(x) / 2.0, "{level}: {last}");
    }
}

#[track_caller]
fn refuses(at: &Place, arguments: &str, words: &[&str]) {
    let before = at.files();
    at.train(arguments).fails(1, words);
    assert!(before == at.files(), "{arguments} changed files");
}

#[test]
fn what_does_not_go_with_patches() {
    let at = place();
    at.train(&format!("{TINY} {DATA} --epochs 1 --output run"))
        .succeeds();
    refuses(
        &at,
        &format!("{DATA} --binarization static"),
        &["--binarization static", "cifar10-patches", "leave it out"],
    );
    refuses(
        &at,
        "evaluate run --binarization threshold",
        &["--binarization threshold", "cifar10-patches"],
    );
    refuses(&at, "--dataset cifar10-patches", &["--data-dir"]);
    // And what does not go with other data.
    let null = at.text("run/config.json");
    at.write("null.json", null.replace("cifar10-patches", "mnist"));
    refuses(
        &at,
        "--config null.json --dataset fashion-mnist --data-dir nowhere",
        &["nowhere"],
    );
    at.train("--config run/config.json --dataset digits --output digits")
        .succeeds();
    assert_eq!(json(&at, "digits/config.json")["binarization"], "dynamic");
    at.train(&format!(
        "--config digits/config.json {DATA} --output again"
    ))
    .succeeds();
    assert_eq!(json(&at, "again/config.json"), json(&at, "run/config.json"));
    let digits = at.text("digits/config.json");
    at.write("null.json", digits.replace("\"dynamic\"", "null"));
    refuses(
        &at,
        "--config null.json",
        &["no binarization", "digits", "--binarization"],
    );
}

#[test]
fn broken_files() {
    let good = batch(60);
    let label = |record: usize| {
        let mut file = good.clone();
        file[3073 * record] = 99;
        file
    };
    let zipped = gzip(&good);
    let cases = [
        ("empty", vec![], "holds 0 bytes"),
        ("half a record", good[..1500].to_vec(), "holds 1500 bytes"),
        (
            "a byte more",
            [good.clone(), vec![7]].concat(),
            "holds 184381",
        ),
        ("one image", good[..3073].to_vec(), "too few"),
        ("a label of CIFAR-100", label(3), "image 4 has the label 99"),
        ("too many images", good.repeat(167), "more than the 10000"),
        ("half a gzip", zipped[..zipped.len() / 2].to_vec(), "gzip"),
        ("a gzip of something else", gzip(b"hello"), "holds 5 bytes"),
    ];
    let at = place();
    for (what, bytes, word) in cases {
        eprintln!("{what}"); // shown when it fails
        at.write(&format!("set/{TRAIN_BATCH}"), bytes);
        refuses(&at, DATA, &["set", word]);
    }
    std::fs::remove_file(at.path(&format!("set/{TRAIN_BATCH}"))).unwrap();
    refuses(&at, DATA, &["set", TRAIN_BATCH, ".gz", "--data-dir"]);
    at.write("set/data_batch_2.bin", &good);
    refuses(&at, DATA, &["set", TRAIN_BATCH]);
    refuses(
        &at,
        "--dataset cifar10-patches --data-dir nowhere",
        &["nowhere", TRAIN_BATCH],
    );
}
