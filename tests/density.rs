//! `train density`: fits whose best possible log-likelihood is known, in the units that the points came in.

use std::fmt::Write;

use burn::{
    store::{ModuleSnapshot, SafetensorsStore},
    tensor::{Device, Tensor},
};
use burn_flows::{DiagonalGaussian, FlowConfig, ScalarMap};
use end_to_end::{Outcome, Place, number, picture::dark};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rand_distr::StandardNormal;
use serde_json::Value;

/// Rows of three columns: x of any kind, far from zero; y and z a Gaussian of it, correlated.
fn gaussian(rows: usize) -> String {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || -> f64 { rng.sample(StandardNormal) };
    let mut text = "x,y,z\n".to_owned();
    for _ in 0..rows {
        let x = 1000.0 + 5.0 * normal();
        let y = 0.02 * (x - 1000.0) + 0.03 * normal();
        let z = 40.0 * y + 0.5 * normal();
        writeln!(text, "{x},{y},{z}").unwrap();
    }
    text
}

/// ln √(2πe) + ln σ: of a Gaussian the entropy.
fn entropy(sigma: f64) -> f64 {
    0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + sigma.ln()
}

#[test]
fn a_gaussian_is_fitted_as_well_as_can_be() {
    let at = Place::new();
    at.write("points.csv", gaussian(5_000));
    at.train("density --points points.csv --flow maf --layers 2 --epochs 30 --output run")
        .succeeds();
    let row = at.evaluated("run");
    // Its logarithms of density have a variance of dim / 2: standard errors of sqrt(1.5 / 500) = 0.055.
    let best = -(entropy(5.0) + entropy(0.03) + entropy(0.5));
    let (got, se) = (
        number(&row, "log_likelihood"),
        number(&row, "log_likelihood_se"),
    );
    assert!((got - best).abs() < 3.0 * se, "{row}, {best}");
    let known_se = (1.5_f64 / 500.0).sqrt();
    assert!((se / known_se - 1.0).abs() < 0.2, "{row}");
    // And as well as the Gaussian that is fitted in closed form, point by point.
    let gain = number(&row, "gain");
    assert!(gain.abs() < 0.03, "{row}");
    assert!(
        (gain - (got - number(&row, "gaussian"))).abs() < 1e-9,
        "{row}"
    );
    // The Gaussian's density varies as the true one does; of the gain, which is nearly nothing at each point, nearly nothing does.
    let (gaussian_se, gain_se) = (number(&row, "gaussian_se"), number(&row, "gain_se"));
    assert!((gaussian_se / known_se - 1.0).abs() < 0.2, "{row}");
    assert!(gain_se > 0.0 && gain_se < 0.2 * gaussian_se, "{row}");
}

#[test]
fn what_is_given_is_not_fitted() {
    let at = Place::new();
    at.write("points.csv", gaussian(5_000));
    at.train(
        "density --points points.csv --context x --flow maf --layers 2 --epochs 30 --output run",
    )
    .succeeds();
    let row = at.evaluated("run");
    let best = -(entropy(0.03) + entropy(0.5));
    let (got, se) = (
        number(&row, "log_likelihood"),
        number(&row, "log_likelihood_se"),
    );
    assert!((got - best).abs() < 3.0 * se, "{row}, {best}");
    assert!(number(&row, "gain").abs() < 0.03, "{row}");

    // Samples at 1010 have a mean of 0.2, and those at 995 of -0.1; of 2,000 it errs by 0.0007, and the fit by a little.
    at.write("given.csv", "x\n1010\n995\n");
    at.train("sample run --count 2000 --context given.csv --output samples.csv")
        .succeeds();
    let (x, y) = (
        at.numbers("samples.csv", "x"),
        at.numbers("samples.csv", "y"),
    );
    assert_eq!(y.len(), 4_000);
    for (given, y, mean) in [(x[0], &y[..2_000], 0.2), (x[2_000], &y[2_000..], -0.1)] {
        let got = y.iter().sum::<f64>() / 2_000.0;
        // Of so many their deviation errs by 1.6 %, and the fit by a little.
        let variance = y.iter().map(|y| (y - got).powi(2)).sum::<f64>() / 2_000.0;
        assert!((variance.sqrt() / 0.03 - 1.0).abs() < 0.1, "{variance}");
        let x: f64 = if mean > 0.0 { 1010.0 } else { 995.0 };
        assert_eq!(given, x);
        assert!((got - mean).abs() < 0.006, "{got}, not {mean}");
    }
    at.train("sample run --count 3")
        .fails(1, &["given x: name a CSV file", "--context"]);
    at.train("sample run --context given.csv")
        .fails(1, &["--context goes with", "--count"]);
    // What it says of a bad cell can be done: there is no --columns here.
    at.write("bad.csv", "x\n1010\nn/a\n");
    let bad = at.train("sample run --count 3 --context bad.csv");
    assert!(!bad.stderr.contains("--columns"), "{}", bad.stderr);
    bad.fails(1, &["bad.csv", "line 3", "\"n/a\""]);
    at.train("sample run --count 3 --context points.png")
        .fails(1, &["points.png"]);
}

/// In the user's units: of a cell of the plane, the density times its area; of the whole plane, 1.
#[test]
fn densities_are_those_of_the_units_that_the_points_have() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut points = "a;b\n".to_owned();
    for _ in 0..2_000 {
        let (u, v): (f64, f64) = (rng.sample(StandardNormal), rng.sample(StandardNormal));
        writeln!(points, "{};{}", 500.0 + 30.0 * u, 0.001 * (v + u * u)).unwrap();
    }
    at.write("points.csv", points);
    at.train("density --points points.csv --layers 3 --epochs 10 --output run")
        .succeeds();
    let (cells, width) = (240, [30.0 * 12.0, 0.001 * 40.0]);
    let mut grid = "b,a,c\n".to_owned();
    for i in 0..cells {
        for j in 0..cells {
            let at = |k: usize| (k as f64 + 0.5) / f64::from(cells as u32);
            let (a, b) = (500.0 + width[0] * (at(i) - 0.5), width[1] * (at(j) - 0.25));
            writeln!(grid, "{b},{a},0").unwrap();
        }
    }
    at.write("grid.csv", grid);
    at.train("log-prob run grid.csv --output density.csv")
        .succeeds();
    let log_prob = at.numbers("density.csv", "log_prob");
    assert_eq!(log_prob.len(), cells * cells);
    let cell = width[0] * width[1] / (cells * cells) as f64;
    let mass: f64 = log_prob.iter().map(|p| p.exp() * cell).sum();
    // Splines have kinks; and what lies outside of six deviations is below a thousandth.
    assert!((mass - 1.0).abs() < 5e-3, "{mass}");
    // A parabola is no Gaussian's.
    let row = at.evaluated("run");
    assert!(number(&row, "gain") > 0.1, "{row}");
    // Points, density and samples are where the mass is: half way across, and in the lower half, below 0.004.
    let picture = at.picture("run/density.png");
    let panels = [0, 1, 2].map(|panel| picture.darkness(panel, 0, 300));
    for panel in &panels {
        let places = dark(panel, 0.5);
        let centre = [0, 1].map(|i| {
            let sum: f64 = places.iter().map(|place| place[i]).sum();
            sum / places.len() as f64
        });
        assert!((centre[0] - 0.5).abs() < 0.1, "{centre:?}");
        assert!((0.6..0.95).contains(&centre[1]), "{centre:?}");
    }
    // They show the same, and not upside down. (Of 200 points the first panel has but some bins.)
    let flipped: Vec<f64> = panels[2].rchunks(300).flatten().copied().collect();
    let [same, other] = [&panels[2], &flipped].map(|panel| correlation(&panels[1], panel));
    assert!(same > 0.8 && other < 0.3, "{same}, {other}");
    at.train("log-prob run points.csv").succeeds();
    at.write("short.csv", "a\n1\n");
    at.train("log-prob run short.csv")
        .fails(1, &["short.csv", "b"]);
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |f: fn(f64, f64) -> f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f(a - mean_a, b - mean_b)).sum()
    };
    product(|a, b| a * b) / (product(|a, _| a * a) * product(|_, b| b * b)).sqrt()
}

/// Two contexts, of which y follows each in its own way; one column is left, and the default fits it.
#[test]
fn contexts_are_told_apart() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut points = "w,y,x\n".to_owned();
    for _ in 0..2_000 {
        let [x, w, noise] = [(); 3].map(|()| rng.sample::<f64, _>(StandardNormal));
        writeln!(points, "{w},{},{x}", x - 3.0 * w + 0.1 * noise).unwrap();
    }
    at.write("points.csv", points);
    at.train("density --points points.csv --context x,w --layers 2 --epochs 20 --output run")
        .succeeds();
    at.write("given.csv", "w,x\n1,0\n0,1\n");
    at.train("sample run --count 500 --context given.csv --output samples.csv")
        .succeeds();
    let y = at.numbers("samples.csv", "y");
    for (y, mean) in y.chunks(500).zip([-3.0, 1.0]) {
        let got = y.iter().sum::<f64>() / 500.0;
        // A hundredth by the draws, and what twenty epochs leave.
        assert!((got - mean).abs() < 0.3, "{got}, not {mean}");
    }
}

/// Beside its samples a context stands as it was given, and not as the network saw it.
#[test]
fn a_context_is_written_back_as_it_was_given() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut points = "k,y\n".to_owned();
    for i in 0..300 {
        writeln!(points, "{},{}", i % 3, rng.sample::<f64, _>(StandardNormal)).unwrap();
    }
    at.write("points.csv", points);
    at.train("density --points points.csv --context k --layers 1 --epochs 1 --output run")
        .succeeds();
    at.write("given.csv", "k\n0\n0.001\n123.456\n0.30000000000000004\n");
    at.train("sample run --count 1 --context given.csv --output samples.csv")
        .succeeds();
    let given = at.numbers("samples.csv", "k");
    assert_eq!(given, [0.0, 0.001, 123.456, 0.1 + 0.2]);
}

/// A density is for other programs too: the weights as burn-flows loads them, and the units.
#[test]
fn what_is_saved_is_the_density() {
    let at = Place::new();
    at.write("points.csv", gaussian(300));
    at.train("density --points points.csv --layers 2 --epochs 2 --output run")
        .succeeds();
    let device = Device::flex();
    let mut flow = FlowConfig::coupling(3, 2, ScalarMap::Spline(8), &[64, 64]).init(&device);
    let mut store = SafetensorsStore::from_file(at.path("run/model.safetensors"))
        .with_key_remapping(r"^flow\.", "");
    flow.load_from(&mut store).unwrap();
    let units: Value = serde_json::from_str(&at.text("run/standardization.json")).unwrap();
    let (mut seen, mut log_det) = (Vec::new(), 0.0);
    for (i, of_point) in [1003.0, 0.1, 4.0].into_iter().enumerate() {
        let column = &units["columns"][i];
        seen.push(((of_point - number(column, "mean")) / number(column, "std")) as f32);
        log_det += number(column, "std").ln();
    }
    let q = flow.distribution(DiagonalGaussian::standard(3, &device), None);
    let points = Tensor::<1>::from_data(&seen[..], &device).unsqueeze();
    let expected = f64::from(q.log_prob(points).into_scalar::<f32>()) - log_det;
    at.write("point.csv", "x,y,z\n1003,0.1,4\n");
    at.train("log-prob run point.csv --output p.csv").succeeds();
    let got = at.numbers("p.csv", "log_prob")[0];
    assert!((got - expected).abs() < 1e-4, "{got}, not {expected}");
}

/// Columns that have no names have none in samples either, which are points again.
#[test]
fn samples_of_nameless_columns_are_points() {
    let at = Place::new();
    let points = gaussian(100);
    at.write("points.csv", points.split_once('\n').unwrap().1);
    at.train("density --points points.csv --layers 1 --epochs 1 --output run")
        .succeeds();
    at.train("sample run --count 5 --output samples.csv")
        .succeeds();
    assert_eq!(at.text("samples.csv").lines().count(), 5);
    std::fs::rename(at.path("points.csv"), at.path("moved.csv")).unwrap();
    let printed = at
        .train("log-prob run samples.csv --data-dir moved.csv")
        .succeeds()
        .stdout;
    assert_eq!(printed.lines().count(), 6);
}

/// A reader that wants no more ends nothing but the samples; and a name may be a number beside one that is none.
#[cfg(unix)]
#[test]
fn samples_are_read_as_far_as_one_likes() {
    let at = Place::new();
    at.write("points.csv", gaussian(100).replacen("x,y,z", "x,5,z", 1));
    at.train("density --points points.csv --layers 1 --epochs 1 --output run")
        .succeeds();
    let mut shell = std::process::Command::new("sh");
    let pipe = "{ \"$0\" sample run --count 100000; echo $? > code; } | head -n 1";
    shell.args(["-c", pipe]).arg(end_to_end::program());
    let printed = at.spawn(shell).finish().succeeds().stdout;
    assert_eq!(
        (printed.as_str(), at.text("code").as_str()),
        ("x,5,z\n", "0\n")
    );
    let mut shell = std::process::Command::new("sh");
    let full = "\"$0\" sample run --count 3 > /dev/full";
    shell.args(["-c", full]).arg(end_to_end::program());
    if at.path("/dev/full").exists() {
        at.spawn(shell)
            .finish()
            .fails(1, &["cannot write to standard output"]);
    }
}

/// And a cell that would swallow rows, and a flow of no layers, begin nothing.
#[test]
fn what_is_no_table_and_no_flow_is_refused() {
    let at = Place::new();
    let good = gaussian(40);
    at.write(
        "quote.csv",
        format!("a,b\n1,2\n\"3,4\n{}", "5,6\n".repeat(30)),
    );
    at.train("density --points quote.csv")
        .fails(1, &["quote.csv", "line 3", "quote"]);
    at.write("good.csv", good);
    at.train("density --points good.csv --layers 0")
        .fails(1, &["--layers 0"]);
    assert!(!at.path("runs").exists());
}

#[test]
fn every_family_is_fitted_and_judged_by_the_right_points() {
    let at = Place::new();
    for flow in [
        "planar",
        "planar-identity",
        "radial",
        "householder",
        "sylvester-orthogonal",
        "sylvester-householder",
        "sylvester-triangular",
        "nice",
        "realnvp",
        "iaf",
        "maf",
        "spline",
        "spline-autoregressive",
        "naf",
    ] {
        let flags = "--points pinwheel --layers 2 --epochs 3 --batch-size 200 --lr 0.01";
        at.train(&format!("density {flags} --flow {flow} --output {flow}"))
            .succeeds();
        let row = at.evaluated(flow);
        // A rotation makes nothing but Gaussians. Of the others, after so short a training, all gain more than five of their
        // standard errors.
        let (gain, gain_se) = (number(&row, "gain"), number(&row, "gain_se"));
        let least = if flow == "householder" {
            -0.1
        } else {
            5.0 * gain_se
        };
        assert!(gain > least, "{flow}: {row}");
        assert_eq!(
            (&row["split"], number(&row, "count")),
            (&"test".into(), 5_000.0)
        );
        // The validation points are those that the epochs were chosen by.
        let valid = at.evaluated(&format!("{flow} --split valid"));
        let best = at.numbers(&format!("{flow}/metrics.csv"), "valid_log_likelihood");
        let best = best.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let got = number(&valid, "log_likelihood");
        assert!((got - best).abs() < 1e-4, "{flow}: {valid}, {best}");
        assert_eq!(
            (&valid["split"], number(&valid, "count")),
            (&"valid".into(), 2_000.0)
        );
        at.train(&format!("sample {flow} --count 3")).succeeds();
    }
}

#[test]
fn it_goes_on_as_if_it_had_not_stopped_and_with_the_same_points_alone() {
    let at = Place::new();
    at.write("points.csv", gaussian(500));
    let flags = "--points points.csv --layers 2 --schedule constant --batch-size 50";
    at.train(&format!("density {flags} --epochs 4 --output whole"))
        .succeeds();
    at.train(&format!("density {flags} --epochs 2 --output first"))
        .succeeds();
    at.train("density --resume first --epochs 4").succeeds();
    let file = |run: &str| format!("{run}/metrics.csv");
    for name in ["train_log_likelihood", "valid_log_likelihood"] {
        assert_eq!(
            at.column(&file("whole"), name),
            at.column(&file("first"), name)
        );
    }
    assert_eq!(
        at.pack("whole/checkpoint/4/model.bpk"),
        at.pack("first/checkpoint/4/model.bpk")
    );
    // The file may move, and must not change.
    std::fs::rename(at.path("points.csv"), at.path("moved.csv")).unwrap();
    at.train("evaluate whole").fails(1, &["points.csv"]);
    at.train("evaluate whole --data-dir moved.csv").succeeds();
    at.write("points.csv", gaussian(501));
    at.train("evaluate whole").fails(1, &["other data"]);
    at.train("density --resume whole --epochs 5")
        .fails(1, &["other data"]);
}

#[test]
fn bad_points_are_named_and_nothing_is_begun() {
    let at = Place::new();
    let good = gaussian(40);
    for (name, text, flags, named) in [
        ("empty", String::new(), "", "empty"),
        ("header", "x,y\n".into(), "", "header"),
        ("few", gaussian(5), "", "5"),
        ("word", good.replacen(",0.", ",n/a", 1), "", "line"),
        ("infinite", good.replace("1000.", "inf"), "", "line"),
        ("ragged", format!("{good}1,2\n"), "", "line 42"),
        (
            "constant",
            "x,y\n".to_owned() + &"1,2\n".repeat(30),
            "",
            "constant",
        ),
        (
            "indexed",
            ",x,y\n".to_owned() + &"0,1,2\n".repeat(30),
            "",
            "index=False",
        ),
        ("unknown", good.clone(), "--context w", "w"),
        ("all", good.clone(), "--context x,y,z", "context"),
        (
            "twice",
            good.clone(),
            "--columns x --context x",
            "more than once",
        ),
    ] {
        let file = format!("{name}.csv");
        at.write(&file, text);
        let named = if name == "constant" {
            "same number"
        } else {
            named
        };
        at.train(&format!("density --points {file} {flags}"))
            .fails(1, &[&file, named]);
    }
    at.train("density --points nowhere.csv")
        .fails(1, &["nowhere.csv", "two-moons"]);
    assert!(!at.path("runs").exists());
}

/// What has no header is said to have none; a header of numbers cannot be told from a row, but may look like one.
#[test]
fn a_header_of_numbers_is_noticed() {
    let at = Place::new();
    let rows = gaussian(60).split_once('\n').unwrap().1.to_owned();
    let train = |header: &str, output: &str| {
        at.write("points.csv", format!("{header}{rows}"));
        let flags = "--columns 1,2 --layers 1 --epochs 1";
        at.train(&format!(
            "density --points points.csv {flags} --output {output}"
        ))
    };
    let named = train("x,y,z\n", "named").succeeds().stdout;
    assert!(
        named.contains("points of 2 columns), spline") && named.contains("(48 training"),
        "{named}"
    );
    let nameless = train("", "nameless").succeeds().stdout;
    assert!(
        nameless.contains("points of 2 columns without a header), spline"),
        "{nameless}"
    );
    let numbered = train("2019,2020,2021\n", "numbered");
    assert!(numbered.stdout.contains("(49 training"), "{numbered:#?}");
    let said = "the first row, 2019, 2020, is taken as numbers";
    assert!(numbered.stderr.contains(said), "{numbered:#?}");
    at.write("asked.csv", format!("2019,2020,2021\n{rows}"));
    at.write("points.csv", &rows);
    let asked = at.train("log-prob nameless asked.csv --output p.csv");
    assert!(asked.stderr.contains(said), "{asked:#?}");
}

/// And what is given, whether its columns are of whole numbers or not.
#[test]
fn a_header_of_numbers_is_noticed_over_whole_numbers_too() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut rows = String::new();
    for _ in 0..300 {
        let [a, b] = [(); 2].map(|()| rng.random_range(0..1_000));
        writeln!(rows, "{a},{b},{}", rng.sample::<f64, _>(StandardNormal)).unwrap();
    }
    at.write("points.csv", &rows);
    let flags = "--context 2,1 --layers 1 --epochs 1";
    let plain = at.train(&format!(
        "density --points points.csv {flags} --output plain"
    ));
    assert!(!plain.succeeds().stderr.contains("first row"));
    for first in ["0,1,2", "2019,2020,2021"] {
        at.write("headed.csv", format!("{first}\n{rows}"));
        let headed = at.train(&format!(
            "density --points headed.csv {flags} --output {}",
            &first[..1]
        ));
        assert!(headed.stderr.contains("the first row, "), "{headed:#?}");
    }
    at.write("given.csv", "0,1\n5,17\n3,900\n");
    let sampled = at.train("sample plain --count 1 --context given.csv --output samples.csv");
    let said = "given.csv: the first row, 1, 0, is taken as numbers";
    assert!(sampled.stderr.contains(said), "{sampled:#?}");
}

/// A run reads its points again; who asks for their log-density once does not.
#[cfg(unix)]
#[test]
fn points_from_a_pipe_are_refused_before_anything_is_read() {
    let at = Place::new();
    at.write("points.csv", gaussian(60));
    let made = std::process::Command::new("mkfifo")
        .arg(at.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    for points in ["/dev/null", "/dev/zero", "pipe"] {
        at.train(&format!("density --points {points}"))
            .fails(1, &[points, "pipe", "write the points to a file"]);
    }
    // Nor what is a file for now.
    for points in ["/dev/stdin", "/proc/self/fd/0", "/dev/fd/0"] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("\"$0\" density --points {points} < points.csv");
        shell.args(["-c", &script]).arg(end_to_end::program());
        at.spawn(shell)
            .finish()
            .fails(1, &[points, "pipe", "write the points to a file"]);
    }
    assert_eq!(at.names("."), ["pipe", "points.csv"]);
    at.train("density --points points.csv --layers 1 --epochs 1 --output run")
        .succeeds();
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "cat points.csv | \"$0\" log-prob run /dev/stdin --output piped.csv",
    ]);
    at.spawn({
        shell.arg(end_to_end::program());
        shell
    })
    .finish()
    .succeeds();
    at.train("log-prob run points.csv --output read.csv")
        .succeeds();
    assert_eq!(at.bytes("piped.csv"), at.bytes("read.csv"));
}

/// Points on few values, or on a line, have a density without bound; a number for it would be no triumph.
#[test]
fn a_density_without_bound_is_noticed() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut few = "a,b\n".to_owned();
    for _ in 0..500 {
        let b: f64 = rng.sample(StandardNormal);
        writeln!(few, "{},{b}", rng.random_range(0..3)).unwrap();
    }
    at.write("few.csv", few);
    let trained = at.train("density --points few.csv --epochs 1 --layers 1 --output run");
    assert!(trained.stderr.contains("no bound"), "{}", trained.stderr);
    let evaluated = at.train("evaluate run");
    assert!(
        evaluated.stderr.contains("no bound"),
        "{}",
        evaluated.stderr
    );
}

/// As of a spike and a few points around it: nothing is wrong with the fit, and the gain says little.
#[test]
fn a_gain_that_is_too_good_is_noticed() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut points = "x\n".to_owned();
    for i in 0..5_000 {
        let width = if i % 100 == 0 { 1.0 } else { 1e-5 };
        writeln!(points, "{}", width * rng.sample::<f64, _>(StandardNormal)).unwrap();
    }
    at.write("points.csv", points);
    at.train("density --points points.csv --layers 3 --epochs 30 --output run");
    let evaluated = at.train("evaluate run");
    let gain = at.numbers("run/evaluations.csv", "gain")[0];
    assert!(gain > 4.6, "{gain}");
    let said = format!("{gain:.1} nats above a Gaussian's");
    assert!(evaluated.stderr.contains(&said), "{}", evaluated.stderr);
}

/// It is the file's, wherever the split put it, and no training's: of 200 rows, the fifth is for test, the seventh validates and
/// the first is for training.
#[test]
fn a_point_far_from_all_is_named() {
    let at = Place::new();
    let train = |row: usize| {
        let text = gaussian(200);
        let lines = text.lines().enumerate();
        let lines = lines.map(|(i, line)| match i == row {
            true => "1e25,0.1,4\n".to_owned(),
            false => format!("{line}\n"),
        });
        at.write(&format!("{row}.csv"), lines.collect::<String>());
        let flags = "--flow maf --layers 2 --epochs 2";
        at.train(&format!(
            "density --points {row}.csv {flags} --output {row}"
        ))
    };
    let check = |outcome: &Outcome, said: &[&str]| {
        for said in said {
            assert!(outcome.stderr.contains(said), "{said}: {outcome:#?}");
        }
    };
    check(
        &train(5),
        &["in the column \"x\" a test point has", "leave the row out"],
    );
    let evaluated = at.train("evaluate 5");
    assert_eq!(evaluated.code, Some(1), "{evaluated:#?}");
    check(&evaluated, &["one of them has", "in the column \"x\", "]);
    assert!(!evaluated.stderr.contains("had diverged"), "{evaluated:#?}");

    let trained = train(7);
    assert_eq!(trained.code, Some(1), "{trained:#?}");
    let said = "in the column \"x\" a validation point has";
    check(&trained, &[said, "unlike all for training"]);
    check(&train(1), &["in the column \"x\" the middle half", "asinh"]);
}

/// At the full rate maf diverges on a column without moments, of which one number is a thousand times as far as most; by what
/// the warning advises it comes to its density. The entropy is ln 4π of Cauchy's numbers and ln √(2πe) of the other column; beside
/// the standard errors a tenth of a nat is for what 1,600 updates leave to learn.
#[test]
fn a_slow_start_holds_numbers_far_from_all() {
    let at = Place::new();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut points = "x,y\n-70000,0.5\n".to_owned();
    for _ in 0..5_000 {
        let [a, b, y] = [(); 3].map(|()| rng.sample::<f64, _>(StandardNormal));
        writeln!(points, "{},{y}", a / b).unwrap();
    }
    at.write("points.csv", points);
    let flags = "--flow maf --lr-warm-up 500 --output run";
    let trained = at.train(&format!("density --points points.csv {flags}"));
    assert_eq!(trained.code, Some(0), "{trained:#?}");
    let advice = "--lr-warm-up 500";
    assert!(trained.stderr.contains(advice), "{trained:#?}");
    at.train("evaluate run");
    let of = |name| at.numbers("run/evaluations.csv", name)[0];
    let entropy = (4.0 * std::f64::consts::PI).ln() + entropy(1.0);
    let off = (of("log_likelihood") + entropy).abs();
    assert!(off < 3.0 * of("log_likelihood_se") + 0.1, "{off}");
}

#[test]
fn weights_that_are_no_numbers_have_no_density() {
    let at = Place::new();
    at.train("density --points two-moons --layers 2 --flow planar --epochs 2 --output run")
        .succeeds();
    let best = *at.saved("run").last().unwrap();
    at.spoil(&format!("run/checkpoint/{best}"));
    let words = ["test points are not finite", "model.bpk", "--epoch"];
    at.train(&format!("evaluate run --epoch {best}"))
        .fails(1, &words);
    assert!(!at.path("run/evaluations.csv").exists());
    at.draws_nothing();
}
