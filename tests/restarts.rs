//! `train energy --restarts`: several fits of one energy.

use end_to_end::{Place, number};

#[test]
fn of_several_seeds_the_best_is_taken() {
    let at = Place::new();
    // Two layers: of ten seeds seven are in a bad optimum (experiments/figure3).
    let flags = "--energy u2 --layers 2 --epochs 40 --anneal none";
    at.train(&format!(
        "energy {flags} --restarts 2 --seed 4 --output some"
    ))
    .succeeds();
    assert_eq!(
        at.names("some"),
        ["config.json", "lock", "seed-4", "seed-5"]
    );
    // Each is what it would be by itself.
    at.train(&format!("energy {flags} --seed 5 --output alone"))
        .succeeds();
    assert_eq!(at.pack("some/seed-5/model.bpk"), at.pack("alone/model.bpk"));

    // Killed in the middle of more of them, they become what they would have.
    let mut more = at.start("energy --resume some --restarts 4");
    more.wait_for("training in some/seed-6");
    more.wait_for("epoch  3/40");
    more.kill();
    let evaluated = at.train("evaluate some");
    assert_eq!(evaluated.code, Some(0), "{evaluated:#?}");
    let missing = "some/seed-7 is not there: train energy --resume some";
    assert!(evaluated.stderr.contains(missing), "{evaluated:#?}");
    let said = at.train("energy --resume some").succeeds().stdout;
    assert!(!said.contains("some/seed-5:"), "{said}");
    at.train(&format!(
        "energy {flags} --restarts 4 --seed 4 --output all"
    ))
    .succeeds();
    for seed in 4..8 {
        let [some, all] = ["some", "all"].map(|run| format!("{run}/seed-{seed}/model.bpk"));
        assert_eq!(at.pack(&some), at.pack(&all));
    }

    // The best is that with the highest bound on the validation points, and how many are worse is what is said.
    let elbo = |seed: u64| {
        let all = at.numbers(&format!("some/seed-{seed}/metrics.csv"), "valid_elbo");
        all.into_iter().fold(f64::NEG_INFINITY, f64::max)
    };
    let best = (4..8).max_by(|a, b| elbo(*a).total_cmp(&elbo(*b))).unwrap();
    let bad = (4..8).filter(|&seed| elbo(seed) < elbo(best) - 0.1).count();
    assert!(bad > 0);
    let line = format!("the best of 4 fits is that of seed {best}; {bad} ");
    assert!(said.contains(&line), "{line}: {said}");
    at.train("evaluate some").succeeds();
    let kl = number(&at.evaluated("some"), "kl");
    let alone = number(&at.evaluated(&format!("some/seed-{best}")), "kl");
    assert_eq!(kl, alone);
    let sampled = |run: &str| {
        at.train(&format!("sample {run} --count 3"))
            .succeeds()
            .stdout
    };
    assert_eq!(sampled("some"), sampled(&format!("some/seed-{best}")));
    // A report has all of them.
    let table = at.train("report some --output report").succeeds().stdout;
    assert!(table.contains("| u2 | planar, K = 2 | 4 |"), "{table}");
    at.train("report some --output report").succeeds();

    for (flags, named) in [
        ("--resume some --restarts 3", "4"),
        ("--resume alone --restarts 3", "--config alone/config.json"),
        ("--restarts 0", "--restarts"),
        ("--restarts 2 --seed 18446744073709551615", "--seed"),
    ] {
        let outcome = at.train(&format!("energy {flags}"));
        assert!(outcome.stderr.contains(named), "{flags}: {outcome:#?}");
        assert_ne!(outcome.code, Some(0));
    }
    assert!(!at.path("runs").exists());
}

/// A rate at which most fits end in nothing; one that diverges is told of and the rest is tried.
#[test]
fn a_seed_that_diverges_is_passed_over() {
    let at = Place::new();
    let flags = "--energy u2 --flow realnvp --layers 4 --epochs 2 --anneal none --lr-warm-up 0";
    let outcome = at.train(&format!(
        "energy {flags} --lr 1000 --restarts 2 --output run"
    ));
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    for said in [
        "seed 0: training stopped",
        "seed 1: training stopped",
        "error: all 2 fits diverged",
        "--lr",
    ] {
        assert!(outcome.stderr.contains(said), "{said}: {outcome:#?}");
    }
    // What there is of them is reported.
    let report = at.train("report run --output report").succeeds().stdout;
    let row = "| u2 | realnvp, K = 4 | 2 |  | | | |  |";
    assert!(report.contains(row), "{report}");
    for seed in [0, 1] {
        let line = format!("not evaluated: run/seed-{seed} has no checkpoint yet");
        assert!(report.contains(&line), "{line}: {report}");
    }
    assert!(at.path("report/figure.png").exists());
}

/// What keeps a fit from being chosen is said; of the others the best is taken, until there is none.
#[test]
fn fits_that_cannot_be_used_are_named() {
    let at = Place::new();
    let flags = "--energy u1 --layers 1 --epochs 2 --restarts 4";
    at.train(&format!("energy {flags} --output run")).succeeds();
    let elbo = |seed: u64| at.numbers(&format!("run/seed-{seed}/metrics.csv"), "valid_elbo")[1];
    let mut fits: Vec<u64> = (0..4).collect();
    fits.sort_by(|a, b| elbo(*b).total_cmp(&elbo(*a)));
    let folder = |place: usize| format!("run/seed-{}", fits[place]);
    let check = |taken: usize, reasons: &[String]| {
        for command in ["evaluate run --samples 100", "sample run"] {
            let outcome = at.train(command);
            assert_eq!(outcome.code, Some(0), "{outcome:#?}");
            let warnings: Vec<&str> = outcome.stderr.lines().collect();
            assert_eq!(warnings.len(), reasons.len(), "{outcome:#?}");
            for reason in reasons {
                let said = |line: &&str| line.starts_with("warning: ") && line.contains(reason);
                assert!(warnings.iter().any(said), "{reason}: {outcome:#?}");
            }
            let said = outcome.stdout.contains(&folder(taken));
            assert!(said, "{}: {outcome:#?}", folder(taken));
        }
    };
    check(0, &[]);
    let model = format!("{}/checkpoint/2/model.bpk", folder(0));
    at.write(&model, "half of");
    let damaged = format!("{model} is damaged");
    check(1, std::slice::from_ref(&damaged));
    // Going on, where nothing is left to do, says the same.
    let resumed = |best: usize, reasons: &[&str]| {
        let outcome = at.train("energy --resume run");
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        assert_eq!(
            outcome.stderr.lines().count(),
            reasons.len(),
            "{outcome:#?}"
        );
        for reason in reasons {
            assert!(outcome.stderr.contains(reason), "{reason}: {outcome:#?}");
        }
        let line = format!("the best of 4 fits is that of seed {}; ", fits[best]);
        assert!(outcome.stdout.contains(&line), "{line}: {outcome:#?}");
        assert!(!outcome.stdout.contains("diverged"), "{outcome:#?}");
    };
    resumed(1, &[&damaged]);
    // The metrics of one are lost, another is gone altogether.
    std::fs::remove_file(at.path(&format!("{}/metrics.csv", folder(1)))).unwrap();
    let lost = format!(
        "{}/metrics.csv is not there, and with it the row",
        folder(1)
    );
    resumed(2, &[&damaged, &lost]);
    std::fs::remove_dir_all(at.path(&folder(2))).unwrap();
    let gone = format!("{} is not there", folder(2));
    check(3, &[damaged, lost.clone(), gone.clone()]);
    let report = at.train("report run --output report").succeeds().stdout;
    for said in [
        "| u1 | planar, K = 1 | 2 |".to_owned(),
        format!("not evaluated: {gone}"),
        format!("not evaluated: {lost}"),
    ] {
        assert!(report.contains(&said), "{said}: {report}");
    }
    std::fs::remove_dir_all(at.path(&format!("{}/checkpoint", folder(3)))).unwrap();
    std::fs::remove_file(at.path(&format!("{}/model.bpk", folder(3)))).unwrap();
    let outcome = at.train("evaluate run");
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    let said = "error: run: none of its fits can be used";
    assert!(outcome.stderr.contains(said), "{outcome:#?}");
    assert_eq!(outcome.stderr.lines().count(), 5, "{outcome:#?}");
}

/// Of weights that are gone neither a picture is drawn nor a command named that would be refused.
#[test]
fn a_fit_without_its_weights_is_named() {
    let at = Place::new();
    let flags = "--energy u2 --layers 2 --epochs 3 --restarts 2";
    at.train(&format!("energy {flags} --output run")).succeeds();
    at.train("evaluate run/seed-0 run/seed-1 --samples 1000")
        .succeeds();
    let table = || at.train("report run --output report").succeeds().stdout;
    assert!(!table().contains("not drawn"), "{}", table());
    let kl = at.numbers("report/table.csv", "kl");
    let best = usize::from(kl[1] < kl[0]);
    let run = format!("run/seed-{best}");
    std::fs::remove_dir_all(at.path(&format!("{run}/checkpoint"))).unwrap();
    std::fs::remove_file(at.path(&format!("{run}/model.bpk"))).unwrap();
    let lost = format!("{run} has no checkpoint left");
    let report = table();
    assert!(report.contains(&format!("not drawn: {lost}")), "{report}");
    assert!(!report.contains("not evaluated"), "{report}");
    assert_eq!(at.numbers("report/table.csv", "kl"), kl);
    let outcome = at.train("evaluate run --samples 1000");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(outcome.stderr.contains(&lost), "{outcome:#?}");
    assert!(!outcome.stderr.contains("--resume"), "{outcome:#?}");

    // What can be done about it.
    let before = at.files();
    at.train("energy --resume run")
        .fails(1, &[&format!("move {run} away"), &lost]);
    let mut after = at.files();
    after.retain(|path, _| before.contains_key(path));
    assert!(before == after);
    std::fs::rename(at.path(&run), at.path("aside")).unwrap();
    at.train("energy --resume run").succeeds();
    at.train(&format!(
        "energy --config aside/config.json --output {run}-again"
    ))
    .succeeds();
}

/// The first two of these seeds diverge.
#[test]
fn a_fit_beside_one_that_diverged_is_as_it_is_alone() {
    let at = Place::new();
    let flags = "energy --energy u1 --layers 2 --epochs 3 --lr 10 --lr-warm-up 100";
    let first = at.train(&format!("{flags} --seed 0 --output first"));
    assert_eq!(first.code, Some(1), "{first:#?}");
    at.train(&format!("{flags} --seed 3 --output alone"))
        .succeeds();
    let all = at.train(&format!("{flags} --restarts 4 --output all"));
    assert_eq!(all.code, Some(0), "{all:#?}");
    let [alone, beside] =
        ["alone", "all/seed-3"].map(|run| at.column(&format!("{run}/metrics.csv"), "valid_elbo"));
    assert_eq!(alone, beside);
    let best = "the best of 4 fits is that of seed 3; ";
    assert!(all.stdout.contains(best), "{all:#?}");
    assert!(
        all.stdout.ends_with(&format!("{EVALUATE_ALL}\n")),
        "{all:#?}"
    );
    assert!(all.stdout.contains("; 2 diverged\n"), "{all:#?}");
}

const EVALUATE_ALL: &str = "evaluate it with:                  cargo run -p train -- evaluate all";

/// All of these seeds diverge, each after an epoch that is kept.
#[test]
fn fits_that_diverged_later_are_no_success() {
    let at = Place::new();
    let flags = "--energy u3 --layers 4 --epochs 6 --anneal none --lr 10 --restarts 3";
    let train = format!("energy {flags} --output run");
    for arguments in [&train, "energy --resume run"] {
        let outcome = at.train(arguments);
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        let error = outcome.stderr.lines().last().unwrap();
        assert!(error.starts_with("error: all 3 fits diverged: "), "{error}");
        assert!(!outcome.stdout.contains("best of 3"), "{outcome:#?}");
        for seed in 0..3 {
            assert!(!at.saved(&format!("run/seed-{seed}")).is_empty());
            let line = (outcome.stdout.lines())
                .find(|line| line.starts_with(&format!("seed {seed}: KL(q||p)")));
            let line = line.unwrap_or_else(|| panic!("{outcome:#?}"));
            assert!(line.ends_with(", before it diverged"), "{line}");
        }
    }
}

/// What is refused leaves the folder as it was.
#[test]
fn fits_of_other_settings_are_refused() {
    let at = Place::new();
    at.train("energy --energy u3 --layers 2 --epochs 2 --restarts 2 --output run")
        .succeeds();
    // A kill while it was drawn leaves none.
    std::fs::remove_file(at.path("run/seed-0/energy.png")).unwrap();
    at.train("energy --resume run").succeeds();
    assert!(at.path("run/seed-0/energy.png").exists());

    let refused = |flags: &str, words: &[&str]| {
        let before = at.text("run/config.json");
        at.train(&format!("energy --resume run{flags}"))
            .fails(1, words);
        assert_eq!(at.text("run/config.json"), before);
    };
    refused(" --epochs 1", &["run/seed-0", "2 epochs already"]);
    // By itself a fit may go on for longer, and is what it was to the others.
    at.train("energy --resume run/seed-1 --epochs 3").succeeds();
    at.train("evaluate run --samples 100").succeeds();
    refused("", &["run/seed-1", "3 epochs already", "give --epochs 3"]);
    at.train("energy --resume run --epochs 3").succeeds();
    let config = at.text("run/config.json");
    at.write("run/config.json", config.replace("\"u3\"", "\"u2\""));
    refused("", &["run/seed-0", "other settings", "config.json"]);
    at.write("run/config.json", config);
    std::fs::remove_dir_all(at.path("run/seed-1")).unwrap();
    at.write("run/seed-1", "in the way");
    refused("", &["run/seed-1", "in the way", "move it away"]);
    std::fs::remove_file(at.path("run/seed-1")).unwrap();

    // Nor are they taken for fits by whoever reads them.
    let longer = "energy --energy u3 --layers 2 --epochs 3";
    let density = "density --layers 1 --epochs 1 --batch-size 5000";
    for (train, reason) in [
        (
            "energy --energy u1 --layers 2 --epochs 3 --seed 1",
            "other settings",
        ),
        (longer, "other settings"), // its seed is 0
        (density, "is of `train density`"),
    ] {
        at.train(&format!("{train} --output run/seed-1")).succeeds();
        refused("", &["run/seed-1", reason]);
        for command in ["evaluate run --samples 100", "sample run"] {
            let outcome = at.train(command);
            assert_eq!(outcome.code, Some(0), "{outcome:#?}");
            let warning = "warning: a fit is passed over: run/seed-1";
            assert!(outcome.stderr.starts_with(warning), "{outcome:#?}");
            assert!(outcome.stderr.contains(reason), "{outcome:#?}");
            assert!(outcome.stdout.contains("run/seed-0"), "{outcome:#?}");
        }
        let report = at.train("report run").succeeds().stdout;
        assert!(report.contains("not evaluated: run/seed-1"), "{report}");
        assert!(report.contains("| u3 | planar, K = 2 | 1 |"), "{report}");
        std::fs::remove_dir_all(at.path("run/seed-1")).unwrap();
    }
}

/// Neither the next fits nor what is said of all are those of another folder that took the name meanwhile.
#[cfg(unix)]
#[test]
fn a_folder_of_fits_that_is_moved_meanwhile() {
    let at = Place::new();
    let fits = "energy --energy u1 --layers 8 --restarts 3 --schedule constant";
    at.train(&format!("{fits} --epochs 1 --output other"))
        .succeeds();
    let before = at.files_in("other");
    let mut first = at.start(&format!("{fits} --epochs 3 --output run"));
    first.wait_for("learning curves:                   run/seed-0");
    std::fs::rename(at.path("run"), at.path("moved")).unwrap();
    std::fs::rename(at.path("other"), at.path("run")).unwrap();
    first.finish().fails(1, &["run/", "the folder was moved"]);
    assert!(at.files_in("run") == before, "it wrote there");
    at.train("energy --resume moved").succeeds();
    at.train("energy --resume run").succeeds();
}

/// A fit that is deleted while the next is trained is missing, and what is put where the one after belongs is in the way; neither is
/// touched.
#[test]
fn fits_that_go_and_come_meanwhile() {
    let at = Place::new();
    at.train("density --layers 1 --epochs 1 --batch-size 5000 --output density")
        .succeeds();
    let begin = |name: &str| {
        let flags = "energy --energy u1 --layers 2 --restarts 3 --epochs 2";
        let mut running = at.start(&format!("{flags} --output {name}"));
        running.wait_for(&format!("training in {name}/seed-1"));
        running
    };
    let running = begin("run");
    std::fs::remove_dir_all(at.path("run/seed-0")).unwrap();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let missing =
        "warning: a fit is passed over: run/seed-0 is not there: train energy --resume run makes";
    assert!(outcome.stderr.starts_with(missing), "{outcome:#?}");
    at.train("energy --resume run").succeeds();

    let running = begin("other");
    std::fs::rename(at.path("density"), at.path("other/seed-2")).unwrap();
    let density = at.files_in("other/seed-2");
    running.finish().fails(
        1,
        &[
            "other/seed-2",
            "in the way",
            "move it away",
            "is of `train density`",
        ],
    );
    assert!(at.files_in("other/seed-2") == density);
}

/// Where the best of a fit's epochs is gone, that is said, whichever fit is taken; and names that are none of ours are no fits.
#[test]
fn fits_that_have_lost_their_best_are_told_of() {
    let at = Place::new();
    at.train(
        "energy --energy u1 --layers 2 --epochs 2 --restarts 2 --schedule constant --output run",
    )
    .succeeds();
    let was = at.column("run/seed-1/metrics.csv", "valid_elbo")[0].clone();
    for file in ["metrics.csv", "checkpoint/1/manifest.json"] {
        let file = format!("run/seed-1/{file}");
        at.write(&file, at.text(&file).replace(&was, "9.5"));
    }
    std::fs::remove_dir_all(at.path("run/seed-1/checkpoint/1")).unwrap();
    let gone =
        "run/seed-1 had its best validation ELBO in epoch 1, 9.50 nats, whose weights are gone";
    for command in [
        "evaluate run --samples 100",
        "sample run --count 1",
        "report run",
    ] {
        let outcome = at.train(command);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        assert_eq!(
            outcome.stderr.matches(gone).count(),
            1,
            "{command}: {outcome:#?}"
        );
    }
    std::fs::rename(at.path("run/seed-1"), at.path("run/seed-01")).unwrap();
    let outcome = at.train("evaluate run --samples 100");
    assert!(
        outcome.stderr.contains("seed-1 is not there"),
        "{outcome:#?}"
    );
    // Of those that there are is looked at, not of all that there will be.
    at.train(&format!(
        "energy --resume run --restarts {} --epochs 1",
        u64::MAX
    ))
    .fails(1, &["has 2 epochs already"]);
}

/// A fit that is killed when it has said how it ended, and before it is drawn, has the picture of what it came to all the same.
#[test]
fn a_fit_that_was_killed_at_its_end_is_drawn() {
    let at = Place::new();
    let fits = "energy --energy u1 --layers 1 --restarts 2";
    at.train(&format!("{fits} --epochs 2 --output whole"))
        .succeeds();
    at.train(&format!("{fits} --epochs 1 --output run"))
        .succeeds();
    // And one that was killed when it had nothing but its lock begins anew.
    std::fs::remove_dir_all(at.path("run/seed-1")).unwrap();
    at.write("run/seed-1/lock", "");
    let mut running = at.start("energy --resume run --epochs 2");
    running.wait_for("best epoch");
    running.kill();
    at.train("energy --resume run --epochs 2").succeeds();
    for seed in ["seed-0", "seed-1"] {
        for name in ["energy.png", "model.safetensors"] {
            let [a, b] = ["run", "whole"].map(|run| at.bytes(&format!("{run}/{seed}/{name}")));
            assert!(a == b, "{seed}/{name}");
        }
    }
}
