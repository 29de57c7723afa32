//! A batch that several devices share is the batch that one has. A CPU backend has one device, which may be named twice.

use std::process::Command;

use end_to_end::{Place, TINY, program};

/// The numbers of an epoch, by their columns, and what rounding may make of them in two epochs: steps of Adam, some 30 of
/// at most 2e-3, that begin 1e-6 apart.
const COLUMNS: [(&str, f64); 4] = [
    ("train_elbo", 1e-3),
    ("valid_elbo", 1e-3),
    ("valid_kl", 1e-3),
    // A sum of the devices' gradients, in place of their mean, would be as many times as long.
    ("gradient_norm", 1e-3),
];

#[track_caller]
fn assert_close(at: &Place, run: &str, other: &str) {
    for (column, tolerance) in COLUMNS {
        let [a, b] = [run, other].map(|run| at.numbers(&format!("{run}/metrics.csv"), column));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            assert!(
                (a - b).abs() < tolerance * a.abs(),
                "{column}: {a} in {run}, {b} in {other}"
            );
        }
    }
}

#[test]
fn several_devices_train_as_one_does() {
    // Annealed by the step, which all devices count alike.
    let annealed = "--anneal kl-warm-up:10";
    let at = Place::with_run(annealed);
    // The digits' last batch has 97 images, which neither two nor three divide.
    for devices in ["0", "0,0", "0,0,0"] {
        let run = format!("on-{}", devices.len());
        at.train(&format!(
            "{TINY} {annealed} --epochs 2 --devices {devices} --output {run}"
        ))
        .succeeds();
        assert_close(&at, "run", &run);
    }
    assert_eq!(at.metrics("run"), at.metrics("on-1"));
    at.train(&format!(
        "{TINY} {annealed} --epochs 2 --devices 0,0 --backend ndarray --output other"
    ))
    .succeeds();
    assert_close(&at, "run", "other");
}

/// Two gradients have one sum, whichever comes first.
#[test]
fn two_devices_go_on_exactly_and_so_does_one_after_them() {
    let at = Place::with_run("--devices 0,0");
    let whole = format!("{TINY} --epochs 3 --devices 0,0 --output whole");
    at.train(&whole).succeeds();
    for (flags, copy) in [("", "again"), ("--devices 0", "alone")] {
        for (file, bytes) in at.files() {
            if let Ok(file) = file.strip_prefix("run") {
                at.write(&format!("{copy}/{}", file.display()), bytes);
            }
        }
        at.train(&format!("--resume {copy} --epochs 3 {flags}"))
            .succeeds();
        assert_close(&at, "whole", copy);
    }
    assert_eq!(at.weights("whole"), at.weights("again"));
    assert!(
        at.text("alone/config.json")
            .contains("\"devices\": [\n    0\n  ]")
    );
    at.train("evaluate alone --samples 2").succeeds();
}

/// A last batch of one image is one device's alone: what notices a divergence counts that step too, and goes on where it was.
#[test]
fn a_step_of_fewer_images_than_devices_is_a_step() {
    let at = Place::new();
    // Of the 1,297 images three batches of 432, and one.
    let flags = format!("{TINY} --batch-size 432 --devices 0,0");
    at.train(&format!("{flags} --epochs 3 --output whole"))
        .succeeds();
    at.train(&format!("{flags} --epochs 1 --output run"))
        .succeeds();
    for epochs in [2, 3] {
        at.train(&format!("--resume run --epochs {epochs}"))
            .succeeds();
    }
    let watch = |run: &str| {
        let manifest = at.text(&format!("{run}/checkpoint/3/manifest.json"));
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        manifest["watch"].as_str().unwrap().to_owned()
    };
    assert_eq!(watch("run"), watch("whole"));
    assert!(watch("run").ends_with(",12"), "{}", watch("run"));
}

/// Points of a density, and noise for an energy.
#[test]
fn so_do_other_kinds_of_runs() {
    for kind in [
        "density --points two-moons --layers 2",
        "energy --energy u1 --layers 2",
    ] {
        let at = Place::new();
        for (run, devices) in [("run", "0"), ("other", "0,0")] {
            at.train(&format!(
                "{kind} --epochs 2 --devices {devices} --output {run}"
            ))
            .succeeds();
        }
        let score = if kind.starts_with("density") {
            "log_likelihood"
        } else {
            "elbo"
        };
        for column in [
            "gradient_norm",
            &format!("train_{score}"),
            &format!("valid_{score}"),
        ] {
            let [a, b] =
                ["run", "other"].map(|run| at.numbers(&format!("{run}/metrics.csv"), column));
            assert_eq!(a.len(), 2);
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() < 1e-2 * a.abs(), "{kind}, {column}: {a}, {b}");
            }
        }
    }
}

/// That thread would wait for itself.
#[test]
fn one_thread_is_not_shared() {
    let at = Place::new();
    let mut command = Command::new(program());
    command
        .args(TINY.split(' '))
        .args(["--devices", "0,0", "--output", "run"])
        .env("RAYON_NUM_THREADS", "1");
    at.spawn(command)
        .finish()
        .fails(1, &["--devices: 2 of them take two threads"]);
    assert!(!at.path("run").exists());
}

/// The fits of a run of several seeds may go on elsewhere, together or each by itself.
#[test]
fn fits_go_on_on_other_devices() {
    let at = Place::new();
    let energy = "energy --energy u1 --layers 2";
    at.train(&format!("{energy} --epochs 1 --restarts 2 --output run"))
        .succeeds();
    at.train("energy --resume run/seed-0 --devices 0,0 --epochs 2")
        .succeeds();
    at.train("energy --resume run --devices 0,0,0 --epochs 2")
        .succeeds();
    at.train("evaluate run --samples 10").succeeds();
    at.train("report run run/seed-0 --output table").succeeds();
    let table = at.text("table/table.md");
    assert!(!table.contains("devices"), "{table}");
}

#[test]
fn devices_that_are_not_there_are_refused() {
    let at = Place::new();
    for (flags, code, said) in [
        (
            "--devices 1",
            1,
            "--devices 1: the backend flex has one device, number 0, here",
        ),
        (
            "--devices 0,7",
            1,
            "--devices 7: the backend flex has one device, number 0, here",
        ),
        ("--devices 0,0,0 --batch-size 2", 1, "--batch-size 2"),
        ("--devices=-1", 2, "--devices"),
        ("--devices a", 2, "--devices"),
        ("--devices 0,", 2, "--devices"),
    ] {
        let outcome = at.train(&format!("{TINY} {flags} --output run"));
        outcome.fails(code, &[said]);
        assert!(!at.path("run").exists());
    }
}
