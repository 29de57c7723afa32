//! Larochelle's binarised MNIST, as files that readers have and this repository does not.

use end_to_end::{Place, TEST_IMAGES, TINY, TRAIN_IMAGES, gzip, idx};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

const PIXELS: usize = 784;

/// Text of so many images.
fn text(seed: u64, images: usize) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::new();
    for _ in 0..images {
        let pixels: Vec<&str> = (0..PIXELS)
            .map(|_| ["0", "1"][usize::from(rng.random_bool(0.2))])
            .collect();
        text += &(pixels.join(" ") + "\n");
    }
    text
}

/// 30, 20 and 10 images.
fn files(at: &Place, folder: &str) {
    for (seed, (part, images)) in [("train", 30), ("valid", 20), ("test", 10)]
        .into_iter()
        .enumerate()
    {
        at.write(
            &format!("{folder}/binarized_mnist_{part}.amat"),
            text(seed as u64, images),
        );
    }
}

const TRAIN: &str = "set/binarized_mnist_train.amat";

#[test]
fn the_files_are_the_splits_and_static_without_asking() {
    let at = Place::new();
    files(&at, "set");
    // The images of the IDX files beside them are not asked for.
    at.write(&format!("set/{TRAIN_IMAGES}"), idx(60, 28, 28));
    at.write(&format!("set/{TEST_IMAGES}"), idx(20, 28, 28));
    let train = format!("{TINY} --epochs 1 --dataset mnist --data-dir set");
    let outcome = at.train(&format!("{train} --output run")).succeeds();
    assert!(
        outcome
            .stdout
            .contains("30 training, 20 validation and 10 test images of 28 x 28"),
        "{outcome:#?}"
    );
    let config: serde_json::Value = serde_json::from_str(&at.text("run/config.json")).unwrap();
    assert_eq!(config["binarization"], "static");

    // What is evaluated is what the file has, byte by byte.
    at.train("evaluate run --samples 2").succeeds();
    let pixels = at
        .text("set/binarized_mnist_test.amat")
        .replace([' ', '\n'], "");
    let pixels: Vec<u8> = pixels.bytes().map(|digit| digit - b'0').collect();
    let draw = format!("crc32:{:08x}", crc32fast::hash(&pixels));
    assert_eq!(at.column("run/evaluations.csv", "draw"), [draw]);

    // Gzipped, and asked for by name, all is the same.
    for part in ["train", "valid", "test"] {
        let text = at.bytes(&format!("set/binarized_mnist_{part}.amat"));
        at.write(
            &format!("zipped/binarized_mnist_{part}.amat.gz"),
            gzip(&text),
        );
    }
    let same = train.replace("--data-dir set", "--data-dir zipped --binarization static");
    at.train(&format!("{same} --output zipped-run")).succeeds();
    assert_eq!(at.metrics("run"), at.metrics("zipped-run"));
    at.train("--resume run --epochs 2 --data-dir zipped")
        .succeeds();
}

#[test]
fn anything_else_than_to_take_them_as_they_are_is_refused() {
    let at = Place::new();
    files(&at, "set");
    let train = format!("{TINY} --epochs 1 --dataset mnist --data-dir set");
    let refuses = |arguments: &str, how: &str| {
        let before = at.files();
        at.train(arguments)
            .fails(1, &["--binarization", how, "static"]);
        assert!(before == at.files(), "{arguments} changed files");
    };
    for how in ["dynamic", "threshold"] {
        refuses(&format!("{train} --binarization {how}"), how);
    }
    at.train(&format!("{train} --output run")).succeeds();
    refuses(
        "evaluate run --samples 2 --binarization threshold",
        "threshold",
    );
    at.train(&format!("{TINY} --epochs 1 --output digits"))
        .succeeds();
    refuses(
        "--config digits/config.json --dataset mnist --data-dir set",
        "dynamic",
    );
}

#[test]
fn broken_files_are_named_with_the_line() {
    let at = Place::new();
    files(&at, "set");
    let good = at.text(TRAIN);
    let line = 2 * PIXELS;
    let zipped = gzip(good.as_bytes());
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("nothing", vec![], &["no image"]),
        (
            "half a line",
            good[..3 * line - 100].into(),
            &["line 3", "734 numbers", "784"],
        ),
        (
            "a number too many",
            good.replacen('\n', " 1\n", 1).into(),
            &["line 1", "more than"],
        ),
        (
            "a line too many",
            (good.clone() + "\n").into(),
            &["line 31", "0 numbers"],
        ),
        (
            "another number",
            [&good[..line], "0 1 7 0\n"].concat().into(),
            &["number 3 of line 2"],
        ),
        (
            "grey levels",
            good.replace('1', "0.5").into(),
            &["of line 1", "neither 0 nor 1"],
        ),
        ("an IDX file", idx(60, 28, 28), &["number 1 of line 1"]),
        ("half a gzip", zipped[..zipped.len() / 2].into(), &["gzip"]),
    ];
    for (what, bytes, words) in cases {
        eprintln!("{what}"); // shown when it fails
        at.write(TRAIN, bytes);
        let before = at.files();
        at.train("--dataset mnist --data-dir set")
            .fails(1, &[&[TRAIN], words].concat());
        assert!(before == at.files(), "{what} changed files");
    }
    std::fs::remove_file(at.path(TRAIN)).unwrap();
    at.train("--dataset mnist --data-dir set")
        .fails(1, &["set", "binarized_mnist_train.amat.gz", "--data-dir"]);
}
