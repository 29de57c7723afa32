//! `scripts/table2`: a table in any number of sittings.

use std::{path::Path, process::Command};

use end_to_end::{Outcome, Place, Running, images, program};

const FLAGS: &str = "--dataset mnist --hidden 16 --latent-dim 4 --seed 0";

/// Two rows of one table and one of another.
fn rows(epochs: usize) -> String {
    format!(
        "[static]
flags = '{FLAGS} --binarization static'
epochs = {epochs}
samples = [2, 4]
[static.rows]
k0 = '--layers 0'
k2 = '--layers 2'
[dynamic]
flags = '{FLAGS}'
epochs = 1
samples = [2]
[dynamic.rows]
k0 = '--layers 0'
"
    )
}

fn start(at: &Place, arguments: &str) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/table2");
    let mut command = Command::new(script);
    command.arg("--program").arg(program());
    command.args("--rows rows.toml --runs runs --mnist set".split(' '));
    command.args(arguments.split_whitespace());
    at.spawn(command)
}

fn table2(at: &Place, arguments: &str) -> Outcome {
    start(at, arguments).finish()
}

fn place(epochs: usize) -> Place {
    let at = Place::new();
    images(&at, "set", 8);
    at.write("rows.toml", rows(epochs));
    at
}

fn evaluated(at: &Place, row: &str) -> Vec<f64> {
    at.numbers(&format!("runs/{row}/evaluations.csv"), "samples")
}

#[test]
fn a_table_is_trained_evaluated_and_reported_once() {
    let at = place(2);
    let outcome = table2(&at, "--jobs 2");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("3 of 3 rows, 5 of 5 epochs"),
        "{outcome:#?}"
    );
    for row in ["static/k0", "static/k2"] {
        assert_eq!(evaluated(&at, row), [2.0, 4.0]);
        assert_eq!(
            at.numbers(&format!("runs/{row}/metrics.csv"), "epoch"),
            [1.0, 2.0]
        );
    }
    assert_eq!(evaluated(&at, "dynamic/k0"), [2.0]);
    assert_eq!(
        at.column("runs/static-report/table.csv", "layers"),
        ["0", "2"]
    );
    assert_eq!(
        at.column("runs/dynamic-report/table.csv", "binarization"),
        ["dynamic"]
    );

    // Nothing is left to do; the report is the same.
    let before = at.files();
    let again = table2(&at, "");
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(
        again.stderr,
        "3 of 3 rows, 5 of 5 epochs, about 0 h 00 min left\n"
    );
    assert_eq!(again.stdout, outcome.stdout);
    assert!(before == at.files());

    // A line more is a row more.
    let more = rows(2) + "k1 = '--layers 1'\n";
    at.write("rows.toml", more);
    assert_eq!(table2(&at, "--table dynamic").code, Some(0));
    assert_eq!(
        at.column("runs/dynamic-report/table.csv", "layers"),
        ["0", "1"]
    );
}

/// By a signal that it answers and by one that it cannot: each time it goes on, and becomes what it would have become.
#[test]
fn it_goes_on_where_it_was_interrupted() {
    let epochs = 150;
    let whole = place(epochs);
    assert_eq!(table2(&whole, "--table static").code, Some(0));
    let at = place(epochs);
    let saved = || at.saved("runs/static/k0").last().copied().unwrap_or(0);
    for signal in ["INT", "TERM", "HUP"] {
        let before = saved();
        let mut script = start(&at, "--table static");
        while saved() <= before + 1 {
            assert!(script.is_running(), "it trains");
            std::thread::yield_now();
        }
        script.signal(signal);
        let outcome = script.finish();
        assert_eq!(outcome.code, Some(130), "{outcome:#?}");
        assert!(saved() < epochs, "{signal} came too late");
    }
    let outcome = table2(&at, "--table static");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("2 of 2 rows, 300 of 300 epochs"),
        "{outcome:#?}"
    );
    for row in ["runs/static/k0", "runs/static/k2"] {
        assert_eq!(at.metrics(row), whole.metrics(row));
        let nll = |at: &Place| at.column(&format!("{row}/evaluations.csv"), "nll");
        assert_eq!(nll(&at), nll(&whole));
    }
}

#[test]
fn what_goes_wrong_is_said_and_the_rest_goes_on() {
    let at = place(1);
    let outcome = table2(&at, "--report");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert_eq!(
        outcome.stdout,
        "static: no row has been begun\ndynamic: no row has been begun\n"
    );
    at.write(
        "rows.toml",
        rows(1).replace("k0 = '--layers 0'\nk2", "k0 = '--layers 0 --lr -1'\nk2"),
    );
    let outcome = table2(&at, "");
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("static/k0 failed: error: --lr -1"),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("2 of 3 rows"), "{outcome:#?}");
    assert_eq!(at.column("runs/static-report/table.csv", "layers"), ["2"]);

    // Other settings are another row.
    at.write("rows.toml", rows(3));
    let before = at.files();
    let outcome = table2(&at, "");
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("other flags") && outcome.stderr.contains(".flags"),
        "{outcome:#?}"
    );
    assert!(before == at.files());
    for (arguments, word) in [
        ("--table nice", "static, dynamic"),
        ("--jobs 0", "--jobs"),
        ("--rows nowhere", "nowhere"),
    ] {
        let outcome = table2(&at, arguments);
        assert_eq!(outcome.code, Some(2), "{outcome:#?}");
        assert!(outcome.stderr.contains(word), "{outcome:#?}");
    }
}
