//! What `train estimates` computes, and where it writes it.

use end_to_end::{Place, TINY, number};

const FILE: &str = "run/estimates.csv";

/// A mean over all subsets of one sample is the ELBO, and the set of all samples is what `evaluate` takes.
#[test]
fn the_ends_are_what_evaluate_says() {
    let at = Place::with_run("");
    at.train("estimates run --images 250 --samples 20,1,4,20")
        .succeeds();
    let evaluated = at.evaluated("run --samples 20");
    let [samples, nll, excess] = ["samples", "nll", "excess"].map(|name| at.numbers(FILE, name));
    assert_eq!(samples, [1.0, 4.0, 20.0]);
    // Sums of `f32` in another order.
    assert!((nll[0] + number(&evaluated, "elbo")).abs() < 1e-4);
    assert!((nll[2] - number(&evaluated, "nll")).abs() < 1e-4);
    // Jensen's inequality: of the same draws, for each image.
    assert!(nll[0] > nll[1] && nll[1] > nll[2], "{nll:?}");
    for (excess, nll_here) in excess.iter().zip(&nll) {
        assert!((excess - (nll_here - nll[2])).abs() < 1e-9);
    }
    // Paired by image, as `evaluate` has the gap; of the last to itself there is none.
    let errors = at.numbers(FILE, "excess_se");
    assert!(
        (errors[0] - number(&evaluated, "gap_se")).abs() < 1e-4,
        "{errors:?}, {evaluated}"
    );
    assert!(
        errors[0] > errors[1] && errors[1] > 0.0 && errors[2] == 0.0,
        "{errors:?}"
    );
    let draw = at.column(FILE, "draw");
    assert!(draw.iter().all(|draw| *draw == evaluated["draw"]));
}

/// In four dimensions 5,000 samples are near enough to ln p(x), and so are sixteen chains of 200 steps: two estimates that share
/// no random number, of 30 images. Each of these has an error of sqrt(1/m - 1/16) by m effective chains, and their mean a
/// standard deviation of that over sqrt 30: four are allowed, and 0.02 for the bias of both.
#[test]
fn annealing_agrees_where_importance_sampling_is_exact() {
    let at = Place::new();
    at.train(&format!("{TINY} --epochs 20 --output run"))
        .succeeds();
    let told = at
        .train("estimates run --images 30 --samples 1,5000 --ais 200")
        .succeeds()
        .stdout;
    for words in [
        "the first 30 test images",
        "above AIS",
        "16 chains of 200 steps",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let annealed = |name: &str| at.column(FILE, name)[2].parse::<f64>().expect("a number");
    assert_eq!(
        at.column(FILE, "estimator"),
        ["importance", "importance", "annealed"]
    );
    let (effective, acceptance) = (annealed("effective_chains"), annealed("acceptance"));
    assert!(effective > 8.0 && effective <= 16.0, "{effective}");
    assert!((acceptance - 0.65).abs() < 0.1, "{acceptance}");
    let excess = at.numbers(FILE, "excess");
    let allowed = 4.0 * (1.0 / effective - 1.0 / 16.0).sqrt() / 30.0_f64.sqrt() + 0.02;
    assert!(
        excess[1].abs() < allowed,
        "{excess:?}, not within {allowed}"
    );
    assert!(
        excess[0] > allowed,
        "the ELBO is no such estimate: {excess:?}"
    );
    // Its own noise, whatever the run's seed; another seed, other noise.
    let nll = |flags: &str| {
        at.train(&format!(
            "estimates run --images 3 --samples 5 --ais 5 {flags}"
        ))
        .succeeds();
        at.column(FILE, "nll").pop().expect("a row")
    };
    assert_eq!(nll(""), nll("--seed 0"));
    assert_ne!(nll(""), nll("--seed 1"));
}

/// `train report` takes evaluations of all test images, and neither of these files knows the other.
#[test]
fn a_report_knows_nothing_of_estimates() {
    let at = Place::with_run("");
    at.train("evaluate run --samples 2").succeeds();
    let table = || {
        at.train("report run --output report").succeeds();
        at.text("report/table.csv")
    };
    let before = (table(), at.text("run/evaluations.csv"));
    at.train("estimates run --images 5 --samples 2,3 --ais 3")
        .succeeds();
    assert_eq!(before, (table(), at.text("run/evaluations.csv")));
}

#[test]
fn runs_are_drawn_beside_each_other() {
    let at = Place::with_run("");
    at.train("--config run/config.json --layers 0 --output plain")
        .succeeds();
    let flags = "--images 5 --samples 1,5";
    at.train(&format!("estimates run plain {flags}")).succeeds();
    let picture = at.text("run/estimates.svg");
    for words in [">run<", ">plain<", "above NLL(5)"] {
        assert!(picture.contains(words), "{words} in {picture}");
    }
    assert_eq!(at.column("plain/estimates.csv", "samples"), ["1", "5"]);
    at.train(&format!("estimates run {flags} --picture a.svg"))
        .succeeds();
    assert!(!at.text("a.svg").contains(">plain<"));
    assert_eq!(at.text("run/estimates.svg"), picture);
    // One sample is a point, and one image has no standard error.
    let told = at.train("estimates run --images 1 --samples 1").succeeds();
    assert!(told.stdout.contains("± n/a"), "{told:#?}");
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_computed() {
    let at = Place::with_run("");
    at.train("density --epochs 1 --layers 1 --output points")
        .succeeds();
    let before = at.files();
    for (arguments, code, words) in [
        ("run --images 0", 2, ["--images", "0"]),
        ("run --images 251", 1, ["--images 251", "250 test images"]),
        ("run --samples 0", 2, ["--samples", "0"]),
        ("run --samples 1,,2", 2, ["--samples", "''"]),
        (
            "run --samples 1,2000000",
            1,
            ["--samples 2000000", "1000000"],
        ),
        ("run --ais 0", 2, ["--ais", "0"]),
        ("run --ais 2000000", 1, ["--ais 2000000", "1000000"]),
        ("run --chains 2", 2, ["required", "not provided"]),
        ("run --ais 2 --chains 0", 2, ["--chains", "0"]),
        (
            "run --ais 2 --chains 9999999",
            1,
            ["--chains 9999999", "at once"],
        ),
        (
            "run --ais 2 --picture no/where.svg",
            1,
            ["no/where.svg", "folder"],
        ),
        (
            "run --picture run/config.json",
            1,
            ["run/config.json", "already"],
        ),
        ("nowhere", 1, ["nowhere", "run"]),
        ("points", 1, ["points", "train density"]),
    ] {
        at.train(&format!("estimates {arguments}"))
            .fails(code, &words);
        assert!(before == at.files(), "{arguments} changed files");
    }
}
