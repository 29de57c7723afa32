//! What a run computes is a function of its configuration and backend: not of the number of threads, the folder, or what
//! else is done meanwhile.

use std::process::Command;

use end_to_end::{Place, program};

/// Large enough for the threads to share the work.
const MODEL: &str = "--latent-dim 8 --layers 10 --epochs 1";

#[track_caller]
fn train(at: &Place, threads: usize, arguments: &str) {
    let mut command = Command::new(program());
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command.args(arguments.split_whitespace());
    at.spawn(command).finish().succeeds();
}

/// The numbers of a run.
#[derive(Clone, PartialEq)]
struct Numbers {
    metrics: Vec<Vec<String>>,
    /// Weights and the state of the optimiser, sorted, since the latter is in the order of identities that are drawn anew.
    bits: [Vec<u32>; 2],
    pictures: [Vec<u8>; 2],
    evaluation: [f64; 3],
}

fn numbers(at: &Place, run: &str) -> Numbers {
    let sorted = |file: &str| {
        let mut bits: Vec<u32> = at
            .pack(&format!("{run}/checkpoint/1/{file}"))
            .iter()
            .map(|x| x.to_bits())
            .collect();
        bits.sort_unstable();
        bits.retain(|&bits| bits != 0); // The padding depends on the order.
        bits
    };
    let pictures =
        ["samples.png", "reconstructions.png"].map(|file| at.bytes(&format!("{run}/{file}")));
    let evaluation =
        ["elbo", "nll", "kl"].map(|name| at.numbers(&format!("{run}/evaluations.csv"), name)[0]);
    Numbers {
        metrics: at.metrics(run),
        bits: ["model.bpk", "optim.bpk"].map(sorted),
        pictures,
        evaluation,
    }
}

#[track_caller]
fn is_the_same_for_any_number_of_threads(flags: &str) {
    let at = Place::new();
    end_to_end::cifar(&at, "set");
    let mut first = None;
    for threads in [1, 2, 5] {
        let run = format!("run-{threads}");
        train(&at, threads, &format!("{MODEL} {flags} --output {run}"));
        train(&at, threads, &format!("evaluate {run} --samples 20"));
        let numbers = numbers(&at, &run);
        assert!(
            *first.get_or_insert_with(|| numbers.clone()) == numbers,
            "{flags}: 1 and {threads} threads compute different numbers"
        );
    }
}

#[test]
fn threads_on_flex() {
    for flags in [
        "",
        "--activation tanh --hidden 300,200 --optimizer adamax --anneal kl-warm-up:9",
        "--optimizer rmsprop --batch-size 33 --samples 3",
        "--dataset cifar10-patches --data-dir set",
    ] {
        is_the_same_for_any_number_of_threads(&format!("--backend flex {flags}"));
    }
}

#[test]
fn threads_on_ndarray() {
    is_the_same_for_any_number_of_threads("--backend ndarray");
}

/// What is validated and evaluated does not touch what is trained.
#[test]
fn weights_depend_on_the_training_images_alone() {
    let at = Place::new();
    end_to_end::images(&at, "a", 8);
    end_to_end::images(&at, "b", 8);
    // Other test images; and other images to validate with, the last sixth.
    at.write(
        &format!("b/{}", end_to_end::TEST_IMAGES),
        end_to_end::idx(3, 8, 8),
    );
    let mut file = at.bytes(&format!("b/{}", end_to_end::TRAIN_IMAGES));
    let valid = file.len() - 10 * 64;
    file[valid..].fill(77);
    at.write(&format!("b/{}", end_to_end::TRAIN_IMAGES), file);
    for set in ["a", "b"] {
        train(
            &at,
            2,
            &format!("{MODEL} --dataset {set} --output run-{set}"),
        );
    }
    let [a, b] = ["a", "b"].map(|set| at.pack(&format!("run-{set}/checkpoint/1/model.bpk")));
    assert!(a == b);
    assert_ne!(
        at.numbers("run-a/metrics.csv", "valid_elbo"),
        at.numbers("run-b/metrics.csv", "valid_elbo")
    );
}
