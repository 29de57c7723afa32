//! `train energy`: the distance from a distribution whose constant is known by quadrature.

use end_to_end::{Place, number, picture::dark};

/// Of the wave, whose constant is known in closed form, and quickly.
const WAVE: &str = "energy --energy u2 --layers 8 --epochs 120";

#[test]
fn layers_come_close_and_the_estimates_agree() {
    let at = Place::new();
    at.train(&format!("{WAVE} --output flow")).succeeds();
    at.train("energy --energy u2 --layers 0 --epochs 40 --anneal none --output gaussian")
        .succeeds();
    let [flow, gaussian] = ["flow", "gaussian"].map(|run| at.evaluated(run));

    // 0.4 √2π wide over z2; over z1 as wide as the window and its two walls of half a Gaussian each.
    let root = (2.0 * std::f64::consts::PI).sqrt();
    let log_z = (0.4 * root * (8.0 + 0.2 * root)).ln();
    assert!(!flow["kl_on_grid"].is_null(), "{flow}");
    for row in [&flow, &gaussian] {
        let get = |name| number(row, name);
        assert!((get("log_z") - log_z).abs() < 1e-6, "{row}");
        // Of 100,000 samples, against the sum over cells of 0.023 that neither noise nor a sample's place is in: four
        // standard errors, and the rectangle rule's error on what a planar layer may bend. Of the Gaussian, which is wider than
        // the target, the grid may lack too much for a number.
        let apart = row["kl_on_grid"].as_f64().map(|kl| (get("kl") - kl).abs());
        assert!(
            apart.is_none_or(|apart| apart < 4.0 * get("kl_se") + 2e-3),
            "{row}"
        );
        assert!((get("mass_on_grid") - 1.0).abs() < 2e-3, "{row}");
        assert!(get("kl") > 0.0, "{row}");
        let share = get("effective_share");
        assert!(share > 0.0 && share <= 1.0, "{row}");
    }
    // The Gaussian's weights have no mean that samples would find; the flow's have.
    let apart = (number(&flow, "log_z_by_importance") - log_z).abs();
    assert!(
        apart < 4.0 * number(&flow, "log_z_by_importance_se"),
        "{flow}"
    );
    // A Gaussian cannot be a wave: as wide as the sine is high it loses about ln(0.8/0.4), and the flow nearly nothing.
    assert!(number(&gaussian, "kl") > 0.5, "{gaussian}");
    assert!(number(&flow, "kl") < 0.2, "{flow}");

    // Of the mean over so many samples.
    assert!(number(&flow, "kl_se") < 0.01, "{flow}");
    let other = at.evaluated("flow --seed 1");
    let apart = (number(&other, "elbo") - number(&flow, "elbo")).abs();
    assert!(
        apart > 0.0 && apart < 7.0 * number(&flow, "kl_se"),
        "{other}"
    );
    at.train("evaluate flow --samples 1")
        .fails(1, &["--samples 1"]);

    // Samples are of the same distribution: their mean energy is that of the metrics. (Few lie in the walls, which rise
    // by less than 0.02 in the mean.)
    at.train("sample flow --count 20000 --output z.csv")
        .succeeds();
    let (z1, z2) = (at.numbers("z.csv", "z1"), at.numbers("z.csv", "z2"));
    let wells = z1.iter().zip(&z2).map(|(z1, z2)| {
        let from_wave = (z2 - (std::f64::consts::PI / 2.0 * z1).sin()) / 0.4;
        let beyond = (z1.abs() - 4.0).max(0.0) / 0.2;
        (from_wave * from_wave + beyond * beyond) / 2.0
    });
    let mean = wells.sum::<f64>() / 20_000.0;
    let energy = *at
        .numbers("flow/metrics.csv", "valid_energy")
        .last()
        .unwrap();
    assert!((mean - energy).abs() < 0.05, "{mean}, {energy}");

    // The bound is the one of the metrics, from other samples, and the difference of its parts.
    let column = |name: &str| *at.numbers("flow/metrics.csv", name).last().unwrap();
    let elbo = column("valid_elbo");
    assert!((elbo - (column("valid_entropy") - column("valid_energy"))).abs() < 1e-4);
    assert!((elbo - number(&flow, "elbo")).abs() < 0.05, "{elbo}");

    // The target, the density and its samples are each where the wave is: what is more than half as dark as the darkest within
    // two standard deviations of it, where the density is down to an eighth. And over the whole width.
    let picture = at.picture("flow/energy.png");
    for panel in 0..3 {
        check_wave(&picture.darkness(panel, 0, 240));
    }
    let curves = at.text("flow/curves.svg");
    for word in [
        "ELBO",
        "class=\"h0 d0 training\"",
        "class=\"h0 d0 validation\"",
    ] {
        assert!(curves.contains(word), "{word} in {curves}");
    }
}

#[track_caller]
fn check_wave(darkness: &[f64]) {
    let places = dark(darkness, 0.5);
    let points = places.iter().map(|[x, y]| [8.0 * x - 4.0, 4.0 - 8.0 * y]);
    let on_wave = points.clone().filter(|[z1, z2]| {
        let wave = (std::f64::consts::PI / 2.0 * z1).sin();
        (z2 - wave).abs() < 0.8
    });
    let share = on_wave.count() as f64 / places.len() as f64;
    assert!(share > 0.95, "{share} of the ink is on the wave");
    for side in [-1.0, 1.0] {
        let far = points.clone().filter(|[z1, _]| z1 * side > 2.0).count();
        assert!(10 * far > places.len(), "{far} of {}", places.len());
    }
}

/// A Gaussian that a reckless rate made much wider than the window, of which the grid would say that it is near.
#[test]
fn a_grid_that_does_not_hold_the_fit_says_nothing_of_it() {
    let at = Place::new();
    at.train(
        "energy --layers 0 --epochs 1 --lr 1 --lr-warm-up 0 --schedule constant --output wide",
    )
    .succeeds();
    let printed = at.train("evaluate wide --samples 1000").succeeds().stdout;
    let row = at.evaluated("wide");
    let mass = number(&row, "mass_on_grid");
    assert!(mass < 0.98 && row["kl_on_grid"].is_null(), "{row}");
    assert!(number(&row, "kl") > 1.0, "{row}");
    let line = format!("n/a            on a grid that holds {mass:.4} of q, and all of p\n");
    assert!(printed.contains(&line), "{line}: {printed}");
    // Neither the row nor the report trips over what is not there.
    at.train("evaluate wide --samples 1000").succeeds();
    at.train("report wide --output report").succeeds();
    assert_eq!(at.column("report/table.csv", "kl_on_grid"), [""]);
}

/// A thousandth of q so far beyond the grid that it makes more than a nat of the KL, if the machine's arithmetic leads there too: a
/// number on the grid agrees with the samples', or there is none.
#[test]
fn a_grid_that_lacks_little_far_away_says_nothing() {
    let at = Place::new();
    at.train(
        "energy --energy u3 --layers 4 --epochs 1 --seed 9 --anneal none --lr 14 --output far",
    );
    let row = at.evaluated("far");
    let agrees = row["kl_on_grid"]
        .as_f64()
        .is_none_or(|kl| (kl - number(&row, "kl")).abs() < 4.0 * number(&row, "kl_se") + 0.01);
    assert!(agrees, "{row}");
}

#[test]
fn it_goes_on_as_if_it_had_not_stopped() {
    let at = Place::new();
    let short = "energy --energy u4 --layers 3 --batch-size 20";
    at.train(&format!("{short} --epochs 4 --output whole"))
        .succeeds();
    at.train(&format!(
        "{short} --epochs 2 --schedule constant --output first"
    ))
    .succeeds();
    at.train(&format!(
        "{short} --epochs 4 --schedule constant --output whole-constant"
    ))
    .succeeds();
    at.train("energy --resume first --epochs 4").succeeds();
    let [metrics, resumed] = ["whole-constant", "first"].map(|run| {
        let file = format!("{run}/metrics.csv");
        ["train_elbo", "train_energy", "valid_elbo", "gradient_norm"]
            .map(|name| at.column(&file, name))
    });
    assert_eq!(metrics, resumed);
    assert_eq!(
        at.pack("whole-constant/checkpoint/4/model.bpk"),
        at.pack("first/checkpoint/4/model.bpk")
    );
    // Samples are a function of their seed.
    let sampled = at.train("sample whole --count 7").succeeds().stdout;
    assert_eq!(
        at.train("sample whole --count 7").succeeds().stdout,
        sampled
    );
    assert_eq!(sampled.lines().count(), 8);
    assert!(sampled.starts_with("z1,z2\n"), "{sampled}");
    assert_ne!(
        at.train("sample whole --count 7 --seed 1")
            .succeeds()
            .stdout,
        sampled
    );
    let more = at.train("sample whole --count 9").succeeds().stdout;
    assert!(more.starts_with(&sampled), "{more}");
    at.train("sample whole --count 7 --output z.csv").succeeds();
    assert_eq!(at.text("z.csv"), sampled);
    at.train("sample whole --count 7 --output z.csv")
        .fails(1, &["z.csv", "exists", "--output"]);
    assert_eq!(at.text("z.csv"), sampled);
}

/// A file may not become longer than half a kilobyte here, as on a disk that fills up: nothing is left to be taken for all.
#[cfg(unix)]
#[test]
fn samples_are_there_whole_or_not_at_all() {
    let at = Place::new();
    at.train("energy --layers 1 --epochs 1 --output run")
        .succeeds();
    let mut shell = std::process::Command::new("sh");
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    shell.args(["-c", limited]).arg(end_to_end::program());
    shell.args(["sample", "run", "--count", "10000", "--output", "z.csv"]);
    at.spawn(shell).finish().fails(1, &["cannot write z.csv"]);
    assert_eq!(at.names("."), ["run"]);
    at.train("sample run --count 10000 --output z.csv")
        .succeeds();
    assert_eq!(at.names("."), ["run", "z.csv"]);
    assert_eq!(at.numbers("z.csv", "z1").len(), 10_000);
}

#[test]
fn what_says_nothing_of_an_energy_is_refused() {
    let at = Place::new();
    at.train("energy --epochs 1 --layers 1 --output run")
        .succeeds();
    for (arguments, named) in [
        ("evaluate run --split valid", "--split"),
        ("evaluate run --binarization static", "--binarization"),
        ("evaluate run --data-dir .", "--data-dir"),
        ("sample run --count 3 --context z.csv", "--context"),
        ("sample run --seed 3", "--seed"),
        ("--resume run", "train energy"),
        ("density --resume run", "train energy"),
        ("log-prob run z.csv", "train energy"),
        ("energy --anneal kl-warm-up:10", "--anneal"),
        ("energy --flow-bins 3", "--flow-bins"),
        ("energy --layers 99999999999", "--layers"),
        ("energy --lr nan", "--lr"),
        ("energy --batch-size 1000001", "--batch-size"),
    ] {
        at.train(arguments).fails(1, &[named]);
    }
    assert_eq!(at.names("."), ["run"]);
}

#[test]
fn a_report_puts_seeds_together_and_draws_the_figure() {
    let at = Place::new();
    for seed in 0..3 {
        let flags = "--energy u2 --layers 2 --epochs 2 --anneal none";
        at.train(&format!("energy {flags} --seed {seed} --output s{seed}"))
            .succeeds();
    }
    at.train("energy --energy u1 --layers 0 --epochs 1 --output other")
        .succeeds();
    for run in ["s0", "s1"] {
        at.train(&format!("evaluate {run}")).succeeds();
    }
    let printed = at
        .train("report s0 s1 s2 other --output report")
        .succeeds()
        .stdout;
    let row = "| u2 | planar, K = 2, anneal = \"none\", epochs = 2 | 3 |";
    assert!(printed.contains(row), "{printed}");
    assert!(printed.contains("of 2 evaluated | | | |"), "{printed}");
    assert!(
        printed.contains("not evaluated: train evaluate s2"),
        "{printed}"
    );
    assert_eq!(at.text("report/table.md").lines().count(), 4);
    let kl = at.column("report/table.csv", "kl");
    let of_run = at.numbers("s0/evaluations.csv", "kl")[0].to_string();
    assert_eq!((kl.len(), &kl[0], kl[2].as_str()), (4, &of_run, ""));
    // Two energies down; the target, K = 2 and K = 0 across.
    let picture = at.bytes("report/figure.png");
    let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    let (width, height) = (size(16), size(20));
    assert!(width > height && width < 2 * height, "{width} x {height}");
    // First the wave itself.
    check_wave(&at.picture("report/figure.png").darkness(0, 0, 120));
    // A report is written over by one of the same runs, and of no others.
    at.train("report s0 s1 s2 other --output report").succeeds();
    at.train("report s0 --output report")
        .fails(1, &["other runs", "--output"]);
    let density = "density --layers 1 --epochs 1 --batch-size 5000 --output density";
    at.train(density).succeeds();
    at.train("report density").fails(1, &["evaluate"]);
    at.train("report s0 density").fails(1, &["train density"]);
}

#[test]
fn weights_that_are_no_numbers_have_no_divergence() {
    let at = Place::new();
    at.train("energy --energy u1 --layers 2 --epochs 2 --output run")
        .succeeds();
    let best = *at.saved("run").last().unwrap();
    at.spoil(&format!("run/checkpoint/{best}"));
    let words = ["of 1000 samples are not finite", "model.bpk", "--epoch"];
    at.train(&format!("evaluate run --samples 1000 --epoch {best}"))
        .fails(1, &words);
    assert!(!at.path("run/evaluations.csv").exists());
    at.draws_nothing();
}

/// Over forty seeds the bound varies as each of them says: their deviation is known to 11 %, and three times that is allowed.
#[test]
fn standard_errors_are_those_of_other_samples() {
    let at = Place::new();
    at.train("energy --energy u1 --layers 2 --epochs 2 --output run")
        .succeeds();
    for seed in 0..40 {
        at.train(&format!("evaluate run --samples 500 --seed {seed}"))
            .succeeds();
    }
    let rows = "run/evaluations.csv";
    for name in ["elbo", "kl"] {
        let each = at.numbers(rows, name);
        let said = at.numbers(rows, &format!("{name}_se")).iter().sum::<f64>() / 40.0;
        let mean = each.iter().sum::<f64>() / 40.0;
        let squares: f64 = each.iter().map(|x| (x - mean).powi(2)).sum();
        let ratio = (squares / 39.0).sqrt() / said;
        assert!((ratio - 1.0).abs() < 0.33, "{name}: {ratio}");
    }
}

/// Of several evaluations a report takes that of the best epoch with the most samples.
#[test]
fn a_report_takes_the_closest_evaluation_of_the_best_epoch() {
    let at = Place::new();
    at.train("energy --energy u1 --layers 2 --epochs 2 --output run")
        .succeeds();
    let elbo = at.numbers("run/metrics.csv", "valid_elbo");
    let best = 1 + usize::from(elbo[1] > elbo[0]);
    for (epoch, samples) in [(best, 1_000), (best, 4_000), (best, 500), (3 - best, 9_000)] {
        at.train(&format!("evaluate run --epoch {epoch} --samples {samples}"))
            .succeeds();
    }
    at.train("report run --output report").succeeds();
    let kl = at.column("run/evaluations.csv", "kl")[1].clone();
    assert_eq!(at.column("report/table.csv", "kl"), [kl]);
}

/// What was computed is shown, also where it cannot be written, and so are the runs after it.
#[test]
fn numbers_that_cannot_be_written_are_shown() {
    let at = Place::new();
    at.train("energy --energy u1 --layers 2 --epochs 1 --output one")
        .succeeds();
    at.train("energy --config one/config.json --seed 1 --output two")
        .succeeds();
    at.write("one/evaluations.csv/folder", "in the way");
    for flags in ["", " --json"] {
        let outcome = at.train(&format!("evaluate one two --samples 100{flags}"));
        outcome.fails(1, &["one/evaluations.csv"]);
        assert_eq!(
            outcome.stdout.matches("checkpoint/1/model.bpk").count(),
            2,
            "{outcome:#?}"
        );
    }
    assert_eq!(at.column("two/evaluations.csv", "samples"), ["100", "100"]);
}

/// They are not drawn, and that is said; where numbers are asked for, none are written.
#[test]
fn samples_beyond_single_precision_are_not_drawn() {
    for begin in [
        "energy --energy u1 --layers 2 --epochs 1 --output run",
        "density --points two-moons --layers 2 --flow planar --epochs 1 --output run",
    ] {
        let at = Place::new();
        at.train(begin).succeeds();
        at.fill("run/checkpoint/1", f32::MAX);
        let outcome = at.train("sample run");
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let word = "samples are not finite, and not drawn";
        assert!(outcome.stderr.contains(word), "{outcome:#?}");
        at.train("sample run --count 2 --output points")
            .fails(1, &["a sample is not finite"]);
        assert!(!at.path("points").exists());
    }
}

/// Whatever weights a few samples have, their deviation says little of how far off their mean is.
#[test]
fn few_samples_have_no_evidence() {
    let at = Place::new();
    at.train("energy --energy u1 --layers 2 --epochs 5 --output run")
        .succeeds();
    let few = at.train("evaluate run --samples 99").succeeds().stdout;
    assert!(
        few.contains("n/a            by importance sampling, "),
        "{few}"
    );
    let many = at.train("evaluate run --samples 20000").succeeds().stdout;
    assert!(!many.contains("n/a            by importance"), "{many}");
    for column in ["log_z_by_importance", "log_z_by_importance_se"] {
        let cells = at.column("run/evaluations.csv", column);
        assert!(
            cells[0].is_empty() && cells[1].parse::<f64>().is_ok(),
            "{cells:?}"
        );
    }
}
