//! The examples of burn-flows, run as a reader runs them: their numbers beside known ones, and their pictures.

use std::{collections::BTreeSet, f64::consts::PI, process::Command};

use end_to_end::{Outcome, Place, example};

fn run(at: &Place, name: &str, picture: Option<&str>) -> Outcome {
    let mut command = Command::new(example(name));
    command.args(picture);
    at.spawn(command).finish()
}

/// The numbers in the first line that has `words`, in their order.
#[track_caller]
fn numbers(outcome: &Outcome, words: &str) -> Vec<f64> {
    let line = outcome.stdout.lines().find(|line| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("no line with {words:?} in {outcome:#?}"));
    let parts = line.split(|c: char| !(c.is_ascii_digit() || "-.".contains(c)));
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Looks for a picture of so many panels across and down, with white and many shades of ink in each.
#[track_caller]
fn check_picture(at: &Place, name: &str, across: usize, down: usize) {
    let bytes = at.bytes(name);
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .expect("a PNG file");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("an image");
    let side = 248;
    let size = [across, down].map(|panels| (panels * side + 8) as u32);
    assert_eq!([info.width, info.height], size, "{name}");
    for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column))) {
        let colours: BTreeSet<&[u8]> = (0..side)
            .flat_map(|y| {
                let line = &pixels[(row * side + y) * info.line_size..][..info.line_size];
                line[3 * column * side..][..3 * side].chunks(3)
            })
            .collect();
        // Background, grid and ink.
        assert!(
            colours.len() >= 3,
            "{name}, panel {row}, {column}: {colours:?}"
        );
    }
}

#[test]
fn density() {
    let at = Place::new();
    let outcome = run(&at, "density", None).succeeds();

    let [gaussian, flow, truth] =
        ["Gaussian", "flow", "truth"].map(|model| numbers(&outcome, model));

    // The mean log-density of points of a Gaussian's moments is minus its entropy: of the covariance of two half circles
    // and noise of 0.1, from their integrals.
    let [xx, yy] = [
        0.75 + 0.01,
        (1.25 - 2.0 / PI) / 2.0 - 0.25_f64.powi(2) + 0.01,
    ];
    let xy = (0.5 - 2.0 / PI) / 2.0 - 0.5 * 0.25;
    let expected = -1.0 - (2.0 * PI).ln() - (xx * yy - xy * xy).ln() / 2.0;
    let four = |numbers: &[f64]| 4.0 * numbers[1];
    assert!(
        (gaussian[0] - expected).abs() < four(&gaussian),
        "{gaussian:?}, not {expected}"
    );

    // That of the truth is minus the entropy of the points, by quadrature.
    let expected = -entropy_of_moons();
    assert!(
        (truth[0] - expected).abs() < four(&truth),
        "{truth:?}, not {expected}"
    );

    // On the same points the flow is below the truth by its KL alone: some hundredths of a nat, where the Gaussian's is 0.9.
    let kl = truth[0] - flow[0];
    assert!((0.0..0.03).contains(&kl), "{kl}");
    check_picture(&at, "density.png", 3, 1);
}

/// The entropy of the two moons in nats: half circles of radius 1 around (0, 0) and, upside down, (1, 0.5), with noise of
/// 0.1.
fn entropy_of_moons() -> f64 {
    let curve: Vec<[f64; 2]> = (0..400)
        .map(|i| PI * (f64::from(i) + 0.5) / 200.0)
        .map(|angle| match angle < PI {
            true => [angle.cos(), angle.sin()],
            false => [1.0 + angle.cos(), 0.5 + angle.sin()],
        })
        .collect();
    let step = 0.025;
    let grid = |from: f64, to: f64| {
        (0..((to - from) / step) as usize).map(move |i| from + i as f64 * step)
    };
    let cells = grid(-1.6, 2.6).flat_map(|x| grid(-1.1, 1.6).map(move |y| [x, y]));
    let minus_p_ln_p = cells.map(|[x, y]| {
        let of_each = curve
            .iter()
            .map(|at| (-((x - at[0]).powi(2) + (y - at[1]).powi(2)) / 0.02).exp());
        let density = of_each.sum::<f64>() / 400.0 / (2.0 * PI * 0.01);
        -density * density.max(f64::MIN_POSITIVE).ln() * step * step
    });
    minus_p_ln_p.sum()
}

#[test]
fn posterior() {
    let at = Place::new();
    let outcome = run(&at, "posterior", None).succeeds();

    // Hamiltonian Monte Carlo is best off at about 65 % (Neal 2011), and worth its name while most moves are taken and some not.
    let accepted = numbers(&outcome, "accepted")[0];
    assert!((60.0..99.9).contains(&accepted), "{accepted}");

    let bounds = ["Gaussian", "planar", "IAF"].map(|q| numbers(&outcome, &format!("{q}: ELBO")));
    let (elbo, evidence) = (
        bounds.each_ref().map(|b| b[0]),
        bounds.each_ref().map(|b| b[1]),
    );
    // Each is a bound, and each family has the one before it, nearly: a Gaussian is far from this posterior.
    assert!(
        elbo[0] + 2.0 < elbo[1] && elbo[1] + 0.05 < elbo[2],
        "{elbo:?}"
    );
    assert!(
        elbo[2] < evidence[2] && evidence[2] < elbo[2] + 0.05,
        "{elbo:?}, {evidence:?}"
    );
    // Two proposals, one evidence: the planar one has the larger error, sqrt((1 / effective - 1) / draws) = 0.005.
    assert!((evidence[1] - evidence[2]).abs() < 0.03, "{evidence:?}");

    // The chains agree to a hundredth of a standard deviation. The IAF is off by what is left of the gradient's noise: at six
    // seeds by 0.023 and 2.1 % at most, where the Gaussian is off by one and more.
    let off: Vec<Vec<f64>> = (outcome.stdout.lines())
        .filter(|line| line.contains("means off by"))
        .map(|line| {
            let words = line.split_whitespace();
            words.filter_map(|word| word.parse().ok()).collect()
        })
        .collect();
    let [chain, gaussian, planar, iaf] = &off[..] else {
        panic!("{outcome:#?}")
    };
    assert!(chain[0] < 0.01 && chain[1] < 1.0, "{off:?}");
    assert!(gaussian[0] > 1.0 && gaussian[1] > 50.0, "{off:?}");
    assert!(planar[0] < 0.2 && planar[1] < 25.0, "{off:?}");
    assert!(iaf[0] < 0.05 && iaf[1] < 5.0, "{off:?}");
    check_picture(&at, "posterior.png", 4, 1);
}

#[test]
fn conditional() {
    let at = Place::new();
    let outcome = run(&at, "conditional", None).succeeds();

    let kl = numbers(&outcome, "mean KL");
    assert!(kl[0] > -3.0 * kl[1] && kl[0] < 0.02, "{kl:?}");
    // Uniform ranks in 20 bins exceed the 0.999 quantile of 19 degrees of freedom once in a thousand times.
    for parameter in ["parameter 1", "parameter 2"] {
        let chi_square = numbers(&outcome, parameter)[1];
        assert!(chi_square > 0.0 && chi_square < 43.8, "{outcome:#?}");
    }
    check_picture(&at, "conditional.png", 4, 2);
}

#[test]
fn a_picture_goes_where_the_argument_says_or_an_error_says_why_not() {
    let at = Place::new();
    let outcome = run(&at, "posterior", Some("no/folder/posterior.png"));
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(
        outcome
            .stderr
            .contains("cannot write no/folder/posterior.png"),
        "{outcome:#?}"
    );
}
