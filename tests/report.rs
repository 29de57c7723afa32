//! What `train report` says of runs, and where it writes it.

use end_to_end::{Place, TINY};

/// The rows of a report's table by column, without spaces around the cells.
fn markdown(at: &Place, report: &str) -> Vec<Vec<String>> {
    let text = at.text(&format!("{report}/table.md"));
    let lines = text.lines().take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let inner = line.trim_matches('|').split(" | ");
        inner.map(|cell| cell.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

/// Three seeds, of which the last was not evaluated with as many samples, and a run without a flow that was not at all.
fn four_runs() -> Place {
    let at = Place::with_run("");
    for (run, flags) in [
        ("one", "--seed 1"),
        ("two", "--seed 2"),
        ("three", "--seed 3"),
        ("plain", "--layers 0"),
    ] {
        at.train(&format!(
            "--config run/config.json {flags} --output runs/{run}"
        ))
        .succeeds();
    }
    at.train("evaluate runs/one runs/two runs/three --samples 2")
        .succeeds();
    at.train("evaluate runs/one runs/two --samples 4")
        .succeeds();
    at
}

const RUNS: &str = "runs/one runs/plain runs/two runs/three";

#[test]
fn the_table_has_what_was_evaluated_and_says_what_was_not() {
    let at = four_runs();
    let before = at.files();
    let outcome = at
        .train(&format!("report {RUNS} --output report"))
        .succeeds();

    let table = markdown(&at, "report");
    let names: Vec<&str> = table[2..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["one", "two", "three", "mean of 3 seeds", "plain"]);
    assert_eq!(table[0][8..], ["-ELBO", "KL(q‖p)", "NLL(2)", "NLL(4)"]);
    let evaluated =
        |run: &str, name: &str| at.numbers(&format!("runs/{run}/evaluations.csv"), name);
    for (row, run) in [(2, "one"), (3, "two")] {
        let [elbo, elbo_se, gap, gap_se, nll, nll_se] =
            ["elbo", "elbo_se", "gap", "gap_se", "nll", "nll_se"].map(|name| evaluated(run, name));
        let expected = [
            format!("{:.3} ± {:.3}", -elbo[1], elbo_se[1]),
            format!("{:.3} ± {:.3}", gap[1], gap_se[1]),
            format!("{:.3} ± {:.3}", nll[0], nll_se[0]),
            format!("{:.3} ± {:.3}", nll[1], nll_se[1]),
        ];
        assert_eq!(table[row][8..], expected);
    }
    assert_eq!(table[4][11], "", "three was not evaluated with 4 samples");
    assert_eq!(
        table[6][1..8],
        ["planar", "0", "digits", "dynamic", "0", "2", "2"]
    );
    assert!(table[6][8..].iter().all(String::is_empty));

    // The mean of all three seeds, which all have NLL(2) alone.
    let values = ["one", "two", "three"].map(|run| evaluated(run, "nll")[0]);
    let mean = values.iter().sum::<f64>() / 3.0;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let shown = format!("{mean:.3} ± {:.3}", (squares / 2.0 / 3.0).sqrt());
    assert_eq!(table[5][8..], ["", "", shown.as_str(), ""]);

    let csv = "report/table.csv";
    assert_eq!(at.column(csv, "seeds"), ["1", "2", "3", "1, 2, 3", "0"]);
    assert_eq!(at.column(csv, "run")[3], "");
    assert_eq!(
        at.column(csv, "nll_4")[..2],
        ["one", "two"].map(|run| evaluated(run, "nll")[1].to_string())
    );
    assert_eq!(at.column(csv, "samples"), ["4", "4", "2", "", ""]);

    let missing: Vec<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("not evaluated: train "))
        .collect();
    the_page_says_the_same(&at, &missing);
    // What is trained for the same stands on the same axes, and seeds have one name.
    let curves = at.text("report/curves.svg");
    let words: Vec<&str> = (curves.split("<text").skip(1))
        .map(|rest| rest.split_once('>').unwrap().1.split_once('<').unwrap().0)
        .filter(|word| word.parse::<f64>().is_err())
        .collect();
    assert_eq!(
        words,
        [
            "ELBO, digits, dynamic binarisation",
            "epoch",
            "one, seeds 1, 2, 3",
            "plain"
        ]
    );
    assert_eq!(
        missing,
        [
            "evaluate runs/three --samples 4",
            "evaluate runs/plain --samples 2",
            "evaluate runs/plain --samples 4"
        ]
    );
    // What it asks for fills the table, and the runs themselves are left as they were.
    let mut after = at.files();
    after.retain(|path, _| !path.starts_with("report"));
    assert!(before == after);
    for command in missing {
        at.train(command).succeeds();
    }
    let outcome = at
        .train(&format!("report {RUNS} --output report"))
        .succeeds();
    assert!(!outcome.stdout.contains("not evaluated"), "{outcome:#?}");
    assert!(
        markdown(&at, "report")[2..]
            .iter()
            .all(|row| !row[11].is_empty())
    );
}

/// As the table and the notes below it in Markdown, and what is printed.
fn the_page_says_the_same(at: &Place, missing: &[&str]) {
    let page = at.text("report/report.html");
    let between = |text: &str, tag: &str| -> Vec<String> {
        let [start, end] = [format!("<{tag}>"), format!("</{tag}>")];
        let parts = text.split(&start).skip(1);
        let ends = parts.map(|part| part.split_once(&end).unwrap().0);
        ends.map(str::to_owned).collect()
    };
    let (table, rest) = page.split_once("</table>").unwrap();
    let mut expected = markdown(at, "report");
    // Under the header stands a line.
    let header = expected.remove(0);
    expected.remove(0);
    assert_eq!(between(table, "th"), header);
    assert_eq!(between(table, "td"), expected.concat());
    let (text, _) = rest.split_once("<h2>").unwrap();
    let notes = at.text("report/table.md");
    let notes: Vec<&str> = notes
        .lines()
        .filter(|line| !line.starts_with('|') && !line.is_empty())
        .collect();
    assert_eq!(
        notes.len(),
        2,
        "none is left out, and all can be compared: {notes:?}"
    );
    let mut paragraphs = between(text, "p");
    assert_eq!(paragraphs.pop().unwrap(), "Not evaluated yet:");
    assert_eq!(paragraphs, notes);
    let commands = missing.iter().map(|command| format!("train {command}"));
    assert_eq!(between(text, "code"), commands.collect::<Vec<_>>());
}

/// A mean is of runs with seeds of their own that saw the same zeros and ones; where they did not, a note says so.
#[test]
fn what_cannot_be_compared_is_not_averaged() {
    let at = Place::new();
    for (run, seed) in [("one", 1), ("two", 2), ("three", 3)] {
        at.train(&format!("{TINY} --epochs 1 --seed {seed} --output {run}"))
            .succeeds();
    }
    for samples in [1, 2] {
        at.train(&format!("evaluate one two three --samples {samples}"))
            .succeeds();
    }
    for (path, bytes) in at.files() {
        if let Ok(name) = path.strip_prefix("one") {
            at.write(&format!("again/{}", name.display()), bytes);
        }
    }
    let names = |runs: &str| {
        at.train(&format!("report {runs}")).succeeds();
        let mut reports = at.names("");
        reports.retain(|name| name.starts_with("report-"));
        let report = reports.pop().unwrap();
        let names = markdown(&at, &report)
            .into_iter()
            .skip(2)
            .map(|row| row[0].clone());
        (
            names.collect::<Vec<_>>(),
            at.text(&format!("{report}/table.md")),
            at.text(&format!("{report}/report.html")),
        )
    };
    assert_eq!(names("one").0, ["one"]);
    assert_eq!(names("one again").0, ["one", "again"]);
    let (rows, notes, _) = names("one again two");
    assert_eq!(rows, ["one", "again", "two", "mean of 2 seeds"]);
    assert!(!notes.contains("compared"), "{notes}");

    let draw = at.column("three/evaluations.csv", "draw")[0].clone();
    let text = at
        .text("three/evaluations.csv")
        .replace(&draw, "crc32:0badd1ce");
    at.write("three/evaluations.csv", text);
    let (rows, notes, page) = names("one two three");
    assert_eq!(rows, ["one", "two", "three", "mean of 2 seeds"]);
    // Each by name once, whatever the number of its evaluations.
    let note = format!("(crc32:0badd1ce of three; {draw} of one, two)");
    assert!(notes.contains("**Not all can be compared**"), "{notes}");
    assert!(notes.contains(&note), "{note}: {notes}");
    assert!(page.contains("<strong>Not all can be compared</strong>: the zeros"));
}

/// Rows of other splits, epochs, binarisations and noise seeds are not the test's; of two alike the later one counts.
#[test]
fn only_the_test_itself_is_reported() {
    let at = Place::with_run("");
    at.train("evaluate run --samples 2").succeeds();
    let text = at.text("run/evaluations.csv");
    let (header, row) = text.split_once('\n').unwrap();
    let column = |name: &str| header.split(',').position(|other| other == name).unwrap();
    let with = |changes: &[(&str, &str)]| {
        let mut cells: Vec<&str> = row.trim_end().split(',').collect();
        for (name, value) in changes {
            cells[column(name)] = value;
        }
        cells.join(",") + "\n"
    };
    let rows = [
        with(&[("nll", "1.5")]),
        with(&[("nll", "42.5"), ("nll_se", "0.25")]),
        with(&[("nll", "2.5"), ("split", "valid")]),
        with(&[("nll", "3.5"), ("epoch", "1")]),
        with(&[("nll", "4.5"), ("epoch", "")]),
        with(&[("nll", "5.5"), ("binarization", "threshold")]),
        with(&[("nll", "6.5"), ("noise_seed", "1")]),
        // Of the same epoch, before the run fell back and made it again; and of another run.
        with(&[("nll", "7.5"), ("valid_elbo", "-25.5")]),
        with(&[("nll", "8.5"), ("dataset", "mnist")]),
    ];
    at.write(
        "run/evaluations.csv",
        format!("{header}\n{}", rows.concat()),
    );
    let outcome = at.train("report run").succeeds();
    assert_eq!(markdown(&at, "report-1")[2][10], "42.500 ± 0.250");
    assert!(outcome.stdout.contains("(8 in all)"), "{outcome:#?}");
    // What no evaluation writes.
    at.write(
        "run/evaluations.csv",
        format!("{header}\n{}", with(&[("nll", "NaN")])),
    );
    at.train("report run")
        .fails(1, &["evaluations.csv", "damaged"]);
}

/// A setting or a number that was changed after training is none of the run's.
#[test]
fn an_edited_run_is_not_reported() {
    let at = Place::with_run("");
    let (config, metrics) = (at.text("run/config.json"), at.text("run/metrics.csv"));
    let other = config.replace("\"seed\": 0", "\"seed\": 7");
    assert_ne!(config, other);
    let better = metrics.replacen("\n1,-", "\n1,-1", 1);
    assert_ne!(metrics, better);
    let refuses = |words: &[&str]| at.train("report run --output report").fails(1, words);

    at.write("run/config.json", other.clone());
    refuses(&["checkpoint", "seed = 0", "config.json says 7"]);
    at.write("run/config.json", config.clone());
    at.write("run/metrics.csv", better);
    refuses(&["metrics.csv", "epoch 1"]);
    at.write("run/metrics.csv", metrics);
    at.train("report run --output report").succeeds();
    // Without a checkpoint its end is known all the same.
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    at.write("run/config.json", other);
    refuses(&["summary.json", "seed = 0"]);
}

/// A training that goes on, and one that has only begun.
#[test]
fn runs_under_way_are_reported() {
    let at = Place::with_run("");
    let config = at.text("run/config.json");
    let longer = config.replace("\"epochs\": 2", "\"epochs\": 5");
    assert_ne!(config, longer);
    at.write("run/config.json", longer.clone());
    at.write("begun/config.json", longer);
    at.train("report run begun").succeeds();
    let table = markdown(&at, "report-1");
    assert_eq!(table[2][6..8], ["2 of 5", "2"]);
    assert_eq!(table[3][6..8], ["0 of 5", ""]);
    at.train("report begun").succeeds();
    assert!(at.text("report-2/curves.svg").contains("no epoch yet"));
}

#[test]
fn the_page_has_everything_in_it() {
    let at = Place::with_run("--seed 9");
    std::fs::rename(at.path("run"), at.path("a<b>&c")).unwrap();
    at.train("report a<b>&c").succeeds();
    let page = at.text("report-1/report.html");
    assert_eq!(
        page.matches("src=\"data:image/png;base64,iVBORw0KGgo")
            .count(),
        2
    );
    assert_eq!(page.matches("<svg ").count(), 1);
    assert_eq!(
        page.matches(" d=\"M").count(),
        at.text("report-1/curves.svg").matches(" d=\"M").count()
    );
    assert!(page.contains("<td>seed</td><td>9</td>"));
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("a&lt;b&gt;&amp;c") && !page.contains("<b>"));
    // Nothing is loaded, nothing runs, nothing tells where the runs are.
    for word in [
        "<script",
        "<link",
        "url(",
        "@import",
        "href",
        "src=\"http",
        "data_dir",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    let here = at.path("").display().to_string();
    assert!(!page.contains(here.trim_end_matches('/')));
}

#[test]
fn nothing_is_overwritten_but_the_same_report() {
    let at = Place::with_run("");
    at.train("--config run/config.json --seed 1 --output other")
        .succeeds();
    at.write("mine/table.md", "precious");
    at.write("tables/table.csv", "precious,numbers\n1,2\n");
    at.write("file", "no folder");
    let refuses = |arguments: &str, words: &[&str]| {
        let before = at.files();
        at.train(arguments).fails(1, words);
        assert!(before == at.files(), "{arguments} changed files");
    };
    refuses(
        "report run --output mine",
        &["mine", "no report", "--output"],
    );
    refuses("report run --output tables", &["tables", "no report"]);
    refuses("report run --output run", &["run", "no report"]);
    refuses("report run --output file", &["file"]);
    refuses("report run nowhere --output new", &["nowhere"]);
    refuses("report mine", &["mine", "config.json"]);

    // The same runs, more of them, and no others.
    std::fs::create_dir(at.path("report")).unwrap();
    at.train("report run/ --output report").succeeds();
    at.write("report/notes.txt", "mine");
    at.train("report run --output report").succeeds();
    at.train("report other run run --output report").succeeds();
    assert_eq!(at.column("report/table.csv", "run"), ["other", "run"]);
    refuses(
        "report run --output report",
        &["report", "other", "--output"],
    );
    assert_eq!(
        at.names("report"),
        [
            "curves.svg",
            "notes.txt",
            "report.html",
            "table.csv",
            "table.md"
        ]
    );
}

/// Of a run whose weights are gone its evaluations are left; where there are none there will not be any.
#[test]
fn runs_without_weights_are_not_to_be_evaluated() {
    let at = Place::with_run("");
    let report = || at.train("report run --output report").succeeds().stdout;
    assert!(report().contains("not evaluated: train evaluate run\n"));
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    assert!(report().contains("not evaluated: train evaluate run\n"));
    at.train("evaluate run --samples 2").succeeds();
    std::fs::remove_file(at.path("run/model.bpk")).unwrap();
    assert!(!report().contains("not evaluated"));
    std::fs::remove_file(at.path("run/evaluations.csv")).unwrap();
    let said = report();
    assert!(
        said.contains("not evaluated: run has no checkpoint\n"),
        "{said}"
    );
}

#[test]
fn damaged_evaluations_are_named() {
    let at = Place::with_run("");
    at.train("evaluate run --samples 2").succeeds();
    let good = at.text("run/evaluations.csv");
    for bad in [
        good.replace("digits,test", "digits,tset"),
        good.replace(",elbo,", ",bound,"),
        good[..good.len() - 9].into(),
    ] {
        at.write("run/evaluations.csv", bad);
        at.train("report run")
            .fails(1, &["run/evaluations.csv", "train evaluate run"]);
    }
    assert_eq!(at.names(""), ["run"]);
}
