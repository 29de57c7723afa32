//! What `train evaluate` computes, on which images and with which weights.

use std::fs;

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use end_to_end::{Place, TEST_IMAGES, TINY, TRAIN_IMAGES, idx, program, tiny};
use flow_vae::ImportanceSampling;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::StandardNormal;
use serde_json::Value;

/// What an evaluation says in JSON.
#[track_caller]
fn evaluate(at: &Place, arguments: &str) -> Value {
    let outcome = at.train(&format!("evaluate --json {arguments}")).succeeds();
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
}

#[track_caller]
fn number(of: &Value, name: &str) -> f64 {
    of[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} of {of}"))
}

/// Writes an IDX file of `count` images of 8 x 8 pixels, all of this level.
fn plain(at: &Place, file: &str, count: u32, level: u8) {
    let mut bytes = idx(count, 8, 8);
    let header = bytes.len() - (count * 8 * 8) as usize;
    bytes[header..].fill(level);
    at.write(file, bytes);
}

/// With one sample the importance-weighted bound is the ELBO itself.
#[test]
fn one_sample_leaves_no_gap() {
    let at = Place::with_run("");
    let run = &evaluate(&at, "run --samples 1")["runs"][0];
    assert_eq!(number(run, "nll"), -number(run, "elbo"));
    assert_eq!(number(run, "nll_se"), number(run, "elbo_se"));
    assert_eq!((number(run, "gap"), number(run, "gap_se")), (0.0, 0.0));
}

/// Each number is the mean of what the library says of each image, and its standard error that of this mean. Noise of another
/// seed leaves both nearly as they are: images differ by far more than 5,000
/// samples of one.
#[test]
fn numbers_and_their_errors_are_of_the_images() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Black and white, so that binarisation changes nothing: a bar, and a few pixels turned.
    let mut set = |file: &str, count: u32| -> Vec<f32> {
        let mut bytes = idx(count, 8, 8);
        let header = bytes.len() - 64 * count as usize;
        for image in bytes[header..].chunks_exact_mut(64) {
            let row = rng.random_range(0..8);
            for (i, pixel) in image.iter_mut().enumerate() {
                *pixel = 255 * u8::from((i / 8 == row) != rng.random_bool(0.02));
            }
        }
        at.write(&format!("set/{file}"), &bytes);
        bytes[header..]
            .iter()
            .map(|&byte| f32::from(byte / 255))
            .collect()
    };
    set(TRAIN_IMAGES, 600);
    let images = set(TEST_IMAGES, 100);
    at.train(&format!("{TINY} --dataset set --epochs 8 --output run"))
        .succeeds();
    let run = &evaluate(&at, "run --samples 5000")["runs"][0];

    let device = Device::flex();
    let vae = tiny().init(&device);
    let vae = vae
        .try_load_file(at.path("run/model.bpk"))
        .unwrap()
        .no_grad();
    let sampling = ImportanceSampling {
        samples: 5_000,
        rows_at_once: 10_000,
    };
    let images = Tensor::from_data(TensorData::new(images, [100, 64]), &device);
    let noise = |n: usize| {
        let numbers: Vec<f32> = (0..100 * n * 4)
            .map(|_| rng.sample(StandardNormal))
            .collect();
        Tensor::<2>::from_data(TensorData::new(numbers, [100 * n, 4]), &device)
    };
    let estimates = sampling.estimate(&vae, images, noise).unwrap();
    let nll: Vec<f64> = estimates.log_likelihood.iter().map(|ln_p| -ln_p).collect();
    let gap = estimates.gap();
    let mut errors = Vec::new();
    for (name, each, tolerance) in [
        ("elbo", &estimates.elbo, 0.004),
        ("reconstruction", &estimates.reconstruction, 0.004),
        ("kl", &estimates.kl, 0.03),
        ("nll", &nll, 0.004),
        ("gap", &gap, 0.04),
    ] {
        let mean = each.iter().sum::<f64>() / 100.0;
        let squares: f64 = each.iter().map(|x| (x - mean).powi(2)).sum();
        let se = (squares / 99.0 / 100.0).sqrt();
        let (got, got_se) = (number(run, name), number(run, &format!("{name}_se")));
        assert!(
            (got - mean).abs() < 0.2 * se + 0.02,
            "{name}: {got}, {mean} ± {se}"
        );
        assert!(
            (got_se / se - 1.0).abs() < tolerance,
            "{name}: {got_se}, {se}"
        );
        errors.push((se, tolerance));
    }
    // So that one taken for another is noticed.
    errors.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for pair in errors.windows(2) {
        let [(low, below), (high, above)] = [pair[0], pair[1]];
        assert!(high * (1.0 - above) > low * (1.0 + below), "{errors:?}");
    }
}

/// A model that has seen black images alone finds white ones most unlikely: 64 pixels cost more than the ln 2 each that
/// knowing nothing costs.
#[test]
fn the_test_set_is_evaluated_and_validation_on_demand() {
    let at = Place::new();
    plain(&at, &format!("set/{TRAIN_IMAGES}"), 60, 0);
    plain(&at, &format!("set/{TEST_IMAGES}"), 20, 255);
    at.train(&format!("{TINY} --dataset set --epochs 8 --output run"))
        .succeeds();
    let nothing_known = -64.0 * 2.0_f64.ln();
    for (flag, split, images, above) in [
        ("", "test", 20, false),
        ("--split test", "test", 20, false),
        ("--split valid", "valid", 10, true),
    ] {
        let all = evaluate(&at, &format!("run --samples 10 {flag}"));
        let run = &all["runs"][0];
        assert_eq!(run["split"], split);
        assert_eq!(run["images"], images);
        let elbo = number(run, "elbo");
        assert_eq!(elbo > nothing_known, above, "{split}: {elbo}");
    }
}

/// The test images are the same ones, under the same draw, and those that validate are others.
#[test]
fn fewer_images_may_validate() {
    let at = Place::new();
    let more = format!("{TINY} --epochs 1 --valid-images 50 --output more");
    let outcome = at.train(&more).succeeds();
    let images = "1497 training, 50 validation and 250 test images";
    assert!(outcome.stdout.contains(images), "{outcome:#?}");
    at.train(&format!("{TINY} --epochs 1 --output usual"))
        .succeeds();
    let both = evaluate(&at, "more usual --samples 1");
    let [more, usual] = [0, 1].map(|run| &both["runs"][run]);
    assert_eq!(more["images"], 250);
    assert_eq!(more["draw"], usual["draw"]);
    let valid = evaluate(&at, "more --samples 1 --split valid");
    assert_eq!(valid["runs"][0]["images"], 50);
    at.train("evaluate more usual --split valid")
        .fails(1, &["validation images differ"]);
    at.train("report more usual --output told").succeeds();
    for file in ["told/table.md", "told/table.csv", "told/curves.svg"] {
        assert!(at.text(file).contains("digits (50 validate)"), "{file}");
    }
    // A run that goes on does so with those that it has.
    let outcome = at.train("--resume more --epochs 2").succeeds();
    assert!(outcome.stdout.contains(images), "{outcome:#?}");
}

/// Validation in training took one sample an image, from other noise: both means have a standard error below 0.1.
#[test]
fn each_epoch_has_the_elbo_that_training_saw() {
    const TOLERANCE: f64 = 0.3;
    let at = Place::with_run("");
    let seen = at.numbers("run/metrics.csv", "valid_elbo");
    assert!(seen[1] - seen[0] > 2.0 * TOLERANCE, "alike: {seen:?}");
    for (epoch, seen) in (1..).zip(seen) {
        let all = evaluate(
            &at,
            &format!("run --samples 20 --split valid --epoch {epoch}"),
        );
        let run = &all["runs"][0];
        assert_eq!(run["epoch"], epoch);
        let elbo = number(run, "elbo");
        assert!(
            (elbo - seen).abs() < TOLERANCE,
            "epoch {epoch}: {elbo}, {seen}"
        );
        let parts = number(run, "reconstruction") - number(run, "kl");
        assert!((elbo - parts).abs() < 1e-3, "{run}");
    }
    at.train("evaluate run --epoch 3")
        .fails(1, &["run", "epoch 3", "[1, 2]"]);
}

/// Training deletes the checkpoints that it has no use for, whoever reads them.
#[test]
fn a_run_is_evaluated_while_it_trains() {
    let at = Place::new();
    let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
    // Two rows may come before the first checkpoint.
    running.wait_for("epoch       4/");
    let epochs: Vec<f64> = (0..5)
        .map(|_| {
            number(
                &evaluate(&at, "run --samples 1 --split valid")["runs"][0],
                "epoch",
            )
        })
        .collect();
    running.kill();
    assert!(epochs.is_sorted() && epochs[0] >= 1.0, "{epochs:?}");
}

/// What is random in an evaluation is its own, so that runs can be compared.
#[test]
fn estimates_depend_on_the_seed_that_is_given_alone() {
    let at = Place::with_run("");
    let elbo = |arguments: &str| {
        let all = evaluate(&at, &format!("run --samples 2 {arguments}"));
        number(&all["runs"][0], "elbo")
    };
    let before = elbo("");
    assert_eq!(before, elbo("--seed 0"));
    assert_ne!(before, elbo("--seed 1"));
    assert_ne!(before, elbo("--binarization threshold"));

    // The same weights, as of a run of another seed.
    for file in ["run/config.json", "run/checkpoint/2/manifest.json"] {
        let text = at.text(file);
        assert!(text.contains("\"seed\": 0"), "{text}");
        at.write(file, text.replace("\"seed\": 0", "\"seed\": 7"));
    }
    assert_eq!(before, elbo(""));
}

#[test]
fn runs_are_compared_image_by_image() {
    let at = Place::with_run("");
    at.train("--config run/config.json --layers 0 --epochs 4 --output plain")
        .succeeds();
    let all = evaluate(&at, "run plain run --samples 20");
    let runs = &all["runs"];
    let [plain, same] = &all["differences"].as_array().expect("a list")[..] else {
        panic!("two runs are compared with the first: {all}");
    };
    assert_eq!(
        (&plain["run"], &plain["minus"]),
        (&"plain".into(), &"run".into())
    );
    for name in ["elbo", "nll", "gap"] {
        let difference = number(&runs[1], name) - number(&runs[0], name);
        // Sums of 250 f64 in another order.
        assert!(
            (number(plain, name) - difference).abs() < 1e-9,
            "{name}: {all}"
        );

        let se = format!("{name}_se");
        let unpaired = number(&runs[0], &se).hypot(number(&runs[1], &se));
        let paired = number(plain, &se);
        assert!(
            0.0 < paired && paired < unpaired,
            "{name}: {paired}, {unpaired}"
        );
        assert_eq!((number(same, name), number(same, &se)), (0.0, 0.0));
    }
    // Each has its row, and its part of the text.
    assert_eq!(at.column("run/evaluations.csv", "nll").len(), 2);
    assert_eq!(at.column("plain/evaluations.csv", "nll").len(), 1);
    let text = at
        .train("evaluate run plain --samples 20")
        .succeeds()
        .stdout;
    let elbo = format!("ELBO {:>19.3} ±", number(plain, "elbo"));
    let (_, differences) = text
        .split_once("\n\nplain - run, paired by image\n")
        .expect(&text);
    assert!(differences.starts_with(&elbo), "{elbo}\n{text}");
}

#[test]
fn runs_of_other_images_are_not_compared() {
    let at = Place::with_run("");
    plain(&at, &format!("set/{TRAIN_IMAGES}"), 60, 0);
    plain(&at, &format!("set/{TEST_IMAGES}"), 20, 255);
    at.train(&format!("{TINY} --epochs 1 --dataset set --output other"))
        .succeeds();
    at.train(&format!(
        "{TINY} --epochs 1 --binarization threshold --output threshold"
    ))
    .succeeds();
    let before = at.files();
    let compare = "evaluate run --samples 2";
    at.train(&format!("{compare} other")).fails(
        1,
        &[
            "run and other",
            "test images differ",
            "250 of 8 x 8 of digits",
            "20 of",
        ],
    );
    at.train(&format!("{compare} threshold")).fails(
        1,
        &["run and threshold", "dynamic; threshold", "--binarization"],
    );
    at.train(&format!("{compare} nowhere"))
        .fails(1, &["nowhere"]);
    assert!(before == at.files(), "nothing was evaluated");
    at.train(&format!("{compare} threshold --binarization static"))
        .succeeds();
}

#[test]
fn one_image_has_no_standard_error() {
    let at = Place::new();
    at.write(&format!("set/{TRAIN_IMAGES}"), idx(60, 8, 8));
    at.write(&format!("set/{TEST_IMAGES}"), idx(1, 8, 8));
    at.train(&format!("{TINY} --dataset set --epochs 1 --output run"))
        .succeeds();
    let text = at.train("evaluate run --samples 2").succeeds().stdout;
    assert_eq!(text.matches("± n/a\n").count(), 5, "{text}");
    let all = evaluate(&at, "run --samples 2");
    for name in ["elbo", "reconstruction", "kl", "nll", "gap"] {
        number(&all["runs"][0], name);
        let se = format!("{name}_se");
        assert_eq!(all["runs"][0][&se], Value::Null);
        assert_eq!(at.column("run/evaluations.csv", &se), ["", ""]);
    }
}

/// Written by a version that knew neither split nor draw.
#[test]
fn rows_of_an_older_version_are_kept_apart() {
    let at = Place::with_run("");
    let old = "epoch,images,samples,elbo\n2,250,50,-40.5\n";
    at.write("run/evaluations.csv", old);
    let outcome = at.train("evaluate run --samples 2");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("run/evaluations-1.csv"),
        "{outcome:#?}"
    );
    assert_eq!(at.text("run/evaluations-1.csv"), old);
    at.train("evaluate run --samples 2").succeeds();
    assert_eq!(at.numbers("run/evaluations.csv", "samples"), [2.0, 2.0]);
    assert!(!fs::exists(at.path("run/evaluations-2.csv")).unwrap());
}

/// What nobody can read was not told, and is recorded all the same.
#[cfg(target_os = "linux")]
#[test]
fn an_evaluation_that_cannot_be_shown_fails() {
    let at = Place::with_run("");
    for flags in ["", "--json"] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" > /dev/full"]);
        shell.arg(end_to_end::program());
        shell.args(format!("evaluate run --samples 2 {flags}").split_whitespace());
        let outcome = at.spawn(shell).finish();
        outcome.fails(1, &["standard output", "space"]);
    }
    assert_eq!(at.column("run/evaluations.csv", "epoch").len(), 2);
}

/// A checkpoint's weights, as the program nests them.
#[derive(burn::module::Module, Debug)]
struct Trainee {
    model: flow_vae::Vae,
    average: fused_optim::WeightAverage<flow_vae::Vae>,
    clip: fused_optim::GradientClip,
}

/// What is validated and kept is the average of the weights, which lies nearer to where they tend at a constant rate.
#[test]
fn what_is_kept_is_the_average() {
    use burn::{module::Module, tensor::Device};
    let at = Place::new();
    at.train(&format!("{TINY} --lr 0.05 --epochs 60 --output run"))
        .succeeds();
    let epoch = *at.numbers("run/metrics.csv", "epoch").last().unwrap();
    let [averaged, raw] = ["valid_elbo", "valid_elbo_not_averaged"].map(|name| {
        let elbo = at.numbers("run/metrics.csv", name);
        elbo[40..].iter().sum::<f64>() / 20.0
    });
    assert!(averaged > raw + 0.1, "{averaged}, {raw}");

    let device = Device::flex();
    let model = end_to_end::tiny().init(&device);
    let trainee = Trainee {
        average: fused_optim::WeightAverage::new(&model),
        model,
        clip: fused_optim::GradientClip::new(&device),
    };
    let best = at.text("run/summary.json");
    let best: serde_json::Value = serde_json::from_str(&best).unwrap();
    let best = best["best_epoch"].as_f64().unwrap();
    assert!(best <= epoch);
    let file = at.path(&format!("run/checkpoint/{best}/model.bpk"));
    let trainee = trainee.try_load_file(file).unwrap();
    let kept = at.weights("run");
    assert_eq!(end_to_end::parameters(trainee.average.model()), kept);
    assert_ne!(end_to_end::parameters(&trainee.model), kept);
}

/// A number that nobody can read was not told.
#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_printed() {
    let at = Place::with_run("");
    for arguments in [
        "evaluate run --samples 2",
        "evaluate run --samples 2 --json",
    ] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" > /dev/full"]);
        shell.arg(program()).args(arguments.split_whitespace());
        at.spawn(shell)
            .finish()
            .fails(1, &["standard output", "No space left"]);
    }
    // It is in the table nevertheless.
    assert_eq!(at.numbers("run/evaluations.csv", "samples"), [2.0, 2.0]);
}
