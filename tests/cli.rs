//! The command line: what a user types, what is printed, and what is left in the folder.

use std::{fs::File, io::BufReader};

use burn::{
    store::{ModuleSnapshot, SafetensorsStore},
    tensor::Device,
};
use end_to_end::{Outcome, Place, TEST_IMAGES, TINY, TRAIN_IMAGES, gzip, idx, images};

/// The finite numbers of a line that matches `pattern` word by word, where `#` stands for a number.
#[track_caller]
fn numbers(line: &str, pattern: &str) -> Vec<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let expected: Vec<&str> = pattern.split_whitespace().collect();
    assert_eq!(words.len(), expected.len(), "{line:?} is not {pattern:?}");
    let mut numbers: Vec<f64> = Vec::new();
    for (word, expected) in words.into_iter().zip(expected) {
        if expected == "#" {
            numbers.push(word.parse().unwrap_or_else(|_| panic!("{word:?}: {line}")));
        } else {
            assert_eq!(word, expected, "{line}");
        }
    }
    assert!(numbers.iter().all(|number| number.is_finite()), "{line}");
    numbers
}

/// The line of an output that starts with `start`.
#[track_caller]
fn line<'a>(outcome: &'a Outcome, start: &str) -> &'a str {
    let mut lines = outcome.stdout.lines();
    lines
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line starts with {start:?}: {outcome:#?}"))
}

/// Width and height of a PNG file of grey levels, which must hold more than one of them.
#[track_caller]
fn png_size(at: &Place, file: &str) -> (u32, u32) {
    let file = BufReader::new(File::open(at.path(file)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Grayscale);
    let levels: std::collections::BTreeSet<u8> = pixels.into_iter().collect();
    assert!(levels.len() > 2, "a blank picture");
    (info.width, info.height)
}

#[test]
fn bare_training_leaves_a_complete_run_folder() {
    let at = Place::new();
    let outcome = at.train("--epochs 4").succeeds();

    assert_eq!(at.names("."), ["runs"]);
    assert_eq!(at.names("runs"), ["digits-1"]);
    assert_eq!(
        at.names("runs/digits-1"),
        [
            "checkpoint",
            "config.json",
            "curves.svg",
            "lock",
            "metrics.csv",
            "model.bpk",
            "model.safetensors",
            "reconstructions.png",
            "samples.png",
            "summary.json"
        ]
    );
    // It improves all the time this early: the last is the best.
    assert_eq!(at.names("runs/digits-1/checkpoint"), ["3", "4"]);
    assert_eq!(
        at.names("runs/digits-1/checkpoint/4"),
        ["manifest.json", "model.bpk", "optim.bpk", "scheduler.bpk"]
    );

    let metrics = "runs/digits-1/metrics.csv";
    assert_eq!(at.numbers(metrics, "epoch"), [1.0, 2.0, 3.0, 4.0]);
    let elbo = at.numbers(metrics, "valid_elbo");
    assert!(elbo.windows(2).all(|pair| pair[0] < pair[1]), "{elbo:?}");
    // 64 pixels at ln 2 each is what knowing nothing gives.
    assert!(elbo[3] > -64.0 * 2.0_f64.ln(), "{elbo:?}");
    let kl = at.numbers(metrics, "valid_kl");
    assert!(kl.iter().all(|&kl| kl > 0.0), "{kl:?}");

    for (epoch, &valid) in elbo.iter().enumerate() {
        let epoch = epoch + 1;
        let pattern = format!(
            "epoch {epoch}/4 ELBO # reconstruction # KL # validation ELBO # # s # images/s"
        );
        let shown = numbers(line(&outcome, &format!("epoch {epoch}")), &pattern);
        assert!((shown[0] - (shown[1] - shown[2])).abs() < 0.02, "{shown:?}");
        assert!((shown[3] - valid).abs() < 0.01, "{shown:?}");
        assert!(shown[5] > 0.0, "{shown:?}");
    }

    let summary: serde_json::Value =
        serde_json::from_str(&at.text("runs/digits-1/summary.json")).unwrap();
    assert_eq!(summary["best_epoch"], 4);
    assert_eq!(summary["valid"]["elbo"], elbo[3]);
    assert_eq!(summary["backend"], "flex");
}

#[test]
fn runs_are_numbered_and_repeatable() {
    let at = Place::new();
    for seed in ["5", "5", "6"] {
        at.train(&format!("{TINY} --epochs 2 --seed {seed}"))
            .succeeds();
    }
    assert_eq!(at.names("runs"), ["digits-1", "digits-2", "digits-3"]);
    assert_eq!(at.metrics("runs/digits-1"), at.metrics("runs/digits-2"));
    assert_ne!(at.metrics("runs/digits-1"), at.metrics("runs/digits-3"));
}

#[test]
fn every_weight_learns() {
    let at = Place::new();
    for epochs in ["1", "2"] {
        at.train(&format!("{TINY} --epochs {epochs} --output {epochs}"))
            .succeeds();
    }
    let later = at.weights("2");
    for (name, earlier) in at.weights("1") {
        assert_ne!(earlier, later[&name], "{name} stays as it was");
    }
}

const FILE: &str = "run/evaluations.csv";
const ROW: [&str; 5] = ["elbo", "reconstruction", "kl", "nll", "gap"];

#[test]
fn evaluate_prints_and_records_the_estimates() {
    let at = Place::with_run("");
    for _ in 0..2 {
        let outcome = at.train("evaluate run --samples 50").succeeds();
        assert!(line(&outcome, "run: epoch 2").contains("checkpoint/2/model.bpk, on flex"));
        let images = line(&outcome, "250 test images of digits, dynamic binarisation");
        assert!(images.ends_with("noise seed 0"), "{images}");
        let names = ["ELBO", "reconstruction", "KL", "NLL(50)", "gap"];
        for (name, row) in names.into_iter().zip(ROW) {
            let shown = numbers(line(&outcome, name), &format!("{name} # ± #"));
            for (shown, column) in shown.into_iter().zip([row.into(), format!("{row}_se")]) {
                let saved = *at.numbers(FILE, &column).last().unwrap();
                // Three digits are shown.
                assert!(
                    (shown - saved).abs() < 0.000_51,
                    "{column}: {shown}, {saved}"
                );
            }
        }
    }
    assert_eq!(at.numbers(FILE, "samples"), [50.0, 50.0]);
    for (name, value) in [
        ("dataset", "digits"),
        ("split", "test"),
        ("backend", "flex"),
    ] {
        assert_eq!(at.column(FILE, name), [value, value]);
    }
    let [elbo, reconstruction, kl, nll, gap] = ROW.map(|name| {
        let [first, second] = at.numbers(FILE, name)[..] else {
            panic!("two evaluations have two rows");
        };
        assert_eq!(first, second, "{name}");
        first
    });
    // The three are means of f32, of about 40 nats with 24 bits.
    assert!((elbo - (reconstruction - kl)).abs() < 1e-4);
    assert!((gap - (-elbo - nll)).abs() < 1e-9, "{gap}");
    assert!(gap > 0.0, "Jensen's inequality");
    assert!(kl > 0.0, "the KL of two different Gaussians, nearly: {kl}");
}

#[test]
fn sample_draws_both_pictures() {
    let at = Place::with_run("");
    let pictures = ["run/samples.png", "run/reconstructions.png"];
    let trained = pictures.map(|file| at.bytes(file));
    for file in pictures {
        std::fs::remove_file(at.path(file)).unwrap();
    }
    let outcome = at.train("sample run").succeeds();
    assert!(line(&outcome, "samples").ends_with(pictures[0]));
    for (file, trained) in pictures.into_iter().zip(trained) {
        // Ten by ten images of 8 pixels, six times enlarged, with lines of 2 around them.
        assert_eq!(png_size(&at, file), (10 * 50 + 2, 10 * 50 + 2));
        assert_eq!(at.bytes(file), trained, "{file} is drawn as after training");
    }
}

#[test]
fn help_tells_all_flags() {
    let at = Place::new();
    let cases: [(&str, &[&str]); 4] = [
        (
            "--help",
            &[
                "--backend",
                "--dataset",
                "--data-dir",
                "--binarization",
                "--flow",
                "--layers",
                "--latent-dim",
                "--hidden",
                "--activation",
                "--epochs",
                "--batch-size",
                "--optimizer",
                "--lr",
                "--flow-lr",
                "--schedule",
                "--lr-warm-up",
                "--weight-decay",
                "--devices",
                "--anneal",
                "--samples",
                "--seed",
                "--output",
                "--resume",
                "--config",
                "evaluate",
                "sample",
                "report",
                "--features",
            ],
        ),
        (
            "evaluate --help",
            &[
                "<RUN>...",
                "--samples",
                "--split",
                "--binarization",
                "--epoch",
                "--seed",
                "--json",
                "--backend",
                "--data-dir",
                "5000",
            ],
        ),
        ("sample --help", &["<RUN>", "--backend", "--data-dir"]),
        ("report --help", &["<RUN>...", "--output"]),
    ];
    for (arguments, words) in cases {
        let help = at.train(arguments).succeeds().stdout;
        for word in words {
            assert!(help.contains(word), "{arguments} says nothing of {word}");
        }
    }
    at.train("--version").succeeds();
    assert!(at.files().is_empty());
}

#[test]
fn flags_override_a_saved_configuration() {
    let at = Place::with_run("--lr 0.002 --seed 9");
    at.train("--config run/config.json --layers 0 --epochs 1 --output plain")
        .succeeds();
    let json = |file| serde_json::from_str::<serde_json::Value>(&at.text(file)).unwrap();
    let mut expected = json("run/config.json");
    assert_eq!(
        (&expected["lr"], &expected["seed"], &expected["layers"]),
        (&0.002.into(), &9.into(), &2.into())
    );
    expected["layers"] = 0.into();
    expected["epochs"] = 1.into();
    assert_eq!(json("plain/config.json"), expected);
}

#[test]
fn no_layers_train_the_plain_vae() {
    let at = Place::new();
    at.train("--hidden 16 --latent-dim 4 --layers 0 --epochs 2 --output run")
        .succeeds();
    at.train("evaluate run --samples 10").succeeds();
    at.train("sample run").succeeds();
    let elbo = at.numbers("run/metrics.csv", "valid_elbo");
    assert!(elbo[0] < elbo[1], "{elbo:?}");
}

#[test]
fn every_choice_trains() {
    let choices = [
        ("binarization", "dynamic"),
        ("binarization", "static"),
        ("binarization", "threshold"),
        ("anneal", "none"),
        ("anneal", "free-energy"),
        ("anneal", "kl-warm-up:20"),
        ("samples", "1"),
        ("samples", "2"),
        ("optimizer", "adam"),
        ("optimizer", "adamax"),
        ("optimizer", "rmsprop"),
        ("schedule", "constant"),
        ("schedule", "linear"),
        ("lr-warm-up", "10"),
        ("weight-decay", "0.1"),
        ("flow-lr", "0.5"),
        ("activation", "tanh"),
        ("activation", "relu"),
        ("activation", "maxout:2"),
        ("hidden", "12,8"),
        ("flow", "planar"),
        ("flow", "planar-identity"),
    ];
    let at = Place::new();
    let base = "--latent-dim 4 --layers 2 --epochs 1";
    for (flag, value) in choices {
        let hidden = if flag == "hidden" { "" } else { "--hidden 16" };
        at.train(&format!(
            "{base} {hidden} --{flag} {value} --output {flag}-{value}"
        ))
        .succeeds();
    }
    // Each choice makes a difference, save for those that are the default.
    let mut curves: Vec<_> = choices
        .iter()
        .map(|(flag, value)| at.metrics(&format!("{flag}-{value}")))
        .collect();
    curves.sort();
    curves.dedup();
    assert_eq!(curves.len(), choices.len() - 4);
}

#[test]
fn a_folder_of_images_is_a_data_set() {
    let at = Place::new();
    images(&at, "plain", 28);
    at.write(
        &format!("zipped/train/{TRAIN_IMAGES}.gz"),
        gzip(&idx(60, 28, 28)),
    );
    at.write(
        &format!("zipped/test/{TEST_IMAGES}.gz"),
        gzip(&idx(20, 28, 28)),
    );
    let flags = format!("{TINY} --epochs 1 --batch-size 16");

    at.train(&format!("{flags} --dataset plain")).succeeds();
    at.train(&format!("{flags} --dataset mnist --data-dir zipped"))
        .succeeds();
    at.train(&format!("{flags} --dataset fashion-mnist --data-dir plain"))
        .succeeds();
    assert_eq!(at.names("runs"), ["fashion-mnist-1", "mnist-1", "plain-1"]);
    assert_eq!(at.metrics("runs/plain-1"), at.metrics("runs/mnist-1"));
    // Twenty test images make twenty pairs.
    assert_eq!(
        png_size(&at, "runs/plain-1/reconstructions.png"),
        (10 * 30 + 2, 4 * 30 + 2)
    );

    std::fs::rename(at.path("plain"), at.path("moved")).unwrap();
    at.train("evaluate runs/fashion-mnist-1 --samples 5 --data-dir moved")
        .succeeds();
}

#[test]
fn weights_go_out_as_safetensors() {
    let at = Place::with_run("");
    let mut vae = end_to_end::tiny().init(&Device::flex());
    let mut store = SafetensorsStore::from_file(at.path("run/model.safetensors"));
    vae.load_from(&mut store).unwrap();
    assert_eq!(end_to_end::parameters(&vae), at.weights("run"));
}

/// All else is the same.
#[test]
fn the_flow_learns_at_a_rate_of_its_own() {
    let at = Place::new();
    let [slow, fast] = ["1e-6", "1"].map(|rate| {
        let flags = format!("{TINY} --epochs 1 --flow-lr {rate} --output {rate}");
        at.train(&flags).succeeds();
        at.weights(rate)
    });
    assert_ne!(slow, fast);
}
