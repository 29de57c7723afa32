//! A run that is interrupted and resumed equals the run that was not, bit for bit.

#[cfg(target_os = "linux")]
use std::{io::Write, process::Command};

#[cfg(target_os = "linux")]
use end_to_end::Running;
use end_to_end::{Place, TINY};

#[track_caller]
fn assert_same(at: &Place, run: &str, other: &str) {
    assert_eq!(at.metrics(run), at.metrics(other));
    assert_eq!(at.weights(run), at.weights(other));
    for picture in ["samples.png", "reconstructions.png"] {
        let [a, b] = [run, other].map(|run| at.bytes(&format!("{run}/{picture}")));
        assert_eq!(a, b, "{picture}");
    }
}

/// The last epoch that a run has finished and saved.
fn last_epoch(at: &Place, run: &str) -> usize {
    *at.saved(run).last().expect("a checkpoint")
}

#[test]
fn two_epochs_and_two_more_are_four() {
    // Annealing goes by the step, whose count must go on as well.
    for flags in [
        "--optimizer adam",
        "--optimizer rmsprop --anneal kl-warm-up:40",
        "--samples 3",
    ] {
        let at = Place::with_run(flags);
        at.train("--resume run --epochs 4").succeeds();
        at.train(&format!("{TINY} {flags} --epochs 4 --output whole"))
            .succeeds();
        assert_same(&at, "run", "whole");
        let elbo = at.numbers("run/metrics.csv", "valid_elbo");
        assert!(elbo[1] < elbo[3], "the best model is of a resumed epoch");
    }
}

/// After 1,024 updates the average of the weights hears of every sixteenth, and at the end of an epoch of all.
#[test]
fn a_long_training_goes_on_with_the_average_that_it_had() {
    let flags = format!("{TINY} --batch-size 3");
    let at = Place::new();
    at.train(&format!("{flags} --epochs 3 --output run"))
        .succeeds();
    at.train("--resume run --epochs 4").succeeds();
    at.train(&format!("{flags} --epochs 4 --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// With whatever a family saves: orders, matrices, networks.
#[test]
fn every_flow_is_resumed_and_evaluated() {
    for flow in [
        "planar-identity",
        "radial",
        "householder",
        "sylvester-orthogonal",
        "sylvester-householder --flow-vectors 2",
        "sylvester-triangular",
        "nice",
        "realnvp --flow-hidden 5",
        "iaf",
        "spline --flow-bins 3",
        "naf --flow-sigmoids 3",
    ] {
        let flags = format!("--flow {flow}");
        let at = Place::with_run(&flags);
        at.train("--resume run --epochs 3").succeeds();
        at.train(&format!("{TINY} {flags} --epochs 3 --output whole"))
            .succeeds();
        assert_eq!(at.metrics("run"), at.metrics("whole"), "{flow}");
        let [a, b] = ["run", "whole"].map(|run| at.pack(&format!("{run}/model.bpk")));
        assert!(a == b, "{flow}");
        at.train("evaluate run --samples 2").succeeds();
        at.train("sample run").succeeds();
    }
}

#[test]
fn a_complete_run_is_left_as_it_is() {
    let at = Place::with_run("");
    let before = at.files();
    at.train("--resume run").succeeds();
    assert!(before == at.files());
}

/// The number of epochs is out of reach, so that the signal never comes too late.
#[test]
fn ctrl_c_saves_the_epoch_and_says_how_to_go_on() {
    let at = Place::new();
    let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
    running.wait_for("epoch       2/");
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    assert!(outcome.stdout.contains("-- --resume run\n"), "{outcome:#?}");
    assert!(
        outcome.stderr.contains("stopping after this epoch"),
        "{outcome:#?}"
    );
    assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");

    let saved = last_epoch(&at, "run");
    assert!(saved >= 2);
    assert_eq!(at.column("run/metrics.csv", "epoch").len(), saved);
    at.train("evaluate run --samples 2").succeeds();

    let epochs = saved + 2;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
    at.train(&format!("{TINY} --epochs {epochs} --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// A system that shuts down, and a terminal that closes. A second signal of the kind changes nothing: one event may send
/// both.
#[cfg(unix)]
#[test]
fn other_signals_save_the_epoch_too() {
    for signals in [&["TERM"][..], &["HUP", "TERM", "HUP"]] {
        let at = Place::new();
        let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
        running.wait_for("epoch       2/");
        for signal in signals {
            running.signal(signal);
        }
        let outcome = running.finish();
        assert_eq!(outcome.code, Some(130), "{outcome:#?}");
        assert!(outcome.stdout.contains("-- --resume run\n"), "{outcome:#?}");
        assert!(
            outcome.stderr.contains("stopping after this epoch"),
            "{outcome:#?}"
        );
        let saved = last_epoch(&at, "run");
        assert_eq!(at.column("run/metrics.csv", "epoch").len(), saved);
        at.train("evaluate run --samples 2").succeeds();
    }
}

/// Then there is no training left to stop: one signal lets the pictures be drawn to their end, two do not.
#[cfg(unix)]
#[test]
fn a_signal_after_the_training_ends_nothing_but_pictures() {
    // Pictures that take long.
    let deep = "--hidden 16 --latent-dim 2 --layers 80 --epochs 1 --output run";
    let whole = Place::new();
    let mut running = whole.start(deep);
    running.wait_for("best epoch");
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    let answer = "training is over and saved";
    assert!(outcome.stderr.contains(answer), "{outcome:#?}");
    let pictures = ["posteriors.png", "reconstructions.png", "samples.png"];
    assert!(
        pictures
            .iter()
            .all(|name| whole.path("run").join(name).exists())
    );

    let at = Place::new();
    let mut running = at.start(deep);
    running.wait_for("best epoch");
    running.interrupt();
    running.wait_for_word(answer);
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    assert!(!at.path("run/posteriors.png").exists(), "too late");
    at.train("--resume run").succeeds();
    for name in pictures {
        let name = format!("run/{name}");
        assert!(at.bytes(&name) == whole.bytes(&name), "{name}");
    }
    assert!(at.path("run/summary.json").exists());
}

/// As under `nohup`.
#[cfg(target_os = "linux")]
#[test]
fn a_hang_up_that_is_ignored_stays_ignored() {
    let at = Place::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    shell.arg(end_to_end::program());
    shell.args(format!("{TINY} --epochs 1000000 --output run").split_whitespace());
    let mut running = at.spawn(shell);
    running.wait_for("epoch       2/");
    running.signal("HUP");
    running.wait_for("epoch      20/");
    running.interrupt();
    assert_eq!(running.finish().code, Some(130));
}

/// Nothing of the epoch is kept, and the one before is.
#[test]
fn a_second_ctrl_c_stops_at_once() {
    let at = Place::new();
    // Epochs that take long.
    let deep = TINY.replace("--layers 2", "--layers 640");
    let mut running = at.start(&format!(
        "{deep} --batch-size 1 --epochs 1000000 --output run"
    ));
    running.wait_for("epoch       1/");
    // That line comes before the checkpoint.
    while at.saved("run").is_empty() {
        assert!(running.is_running(), "{:#?}", running.finish());
        std::thread::yield_now();
    }
    running.interrupt();
    // Two signals of a kind are one, until the first is heard.
    running.wait_for_word("stopping after this epoch");
    running.interrupt();
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:#?}");
    assert_eq!(at.saved("run"), [1]);
    assert_eq!(at.column("run/metrics.csv", "epoch"), ["1"]);
    at.train("evaluate run --samples 2").succeeds();
}

/// A training on a terminal of its own, which types what is written into the pipe `keys`, once three epochs are there.
/// What it shows goes into the file `screen`, its process id into `pid`, and how it ended into `ended`.
#[cfg(target_os = "linux")]
fn on_a_terminal(at: &Place, redirected: &str) -> (Running, std::fs::File) {
    let made = Command::new("mkfifo").arg(at.path("keys")).status();
    assert!(made.unwrap().success());
    // For both, so that neither waits for the other.
    let mut both = std::fs::File::options();
    let keys = both.read(true).write(true).open(at.path("keys")).unwrap();
    let train = end_to_end::program().display();
    let train =
        format!("echo $$ > pid; exec {train} {TINY} --epochs 1000000 --output run{redirected}");
    // The shell outlives its terminal, and what it starts hears of its end by itself.
    let command = format!(
        "stty cols 150 rows 50; trap : HUP; sh -c '{train}'; code=$?; echo $code > code; mv code ended; exit $code"
    );
    let mut script = Command::new("sh");
    script.args([
        "-c",
        "exec script --quiet --flush --return --command \"$0\" screen < keys",
        &command,
    ]);
    script.env("TERM", "xterm");
    let mut running = at.spawn(script);
    while !(at.path("run/metrics.csv").exists() && last_row(at) >= 3) {
        assert!(running.is_running(), "{:#?}", running.finish());
        std::thread::yield_now();
    }
    (running, keys)
}

/// The dashboard gives the terminal back, and the last words stand there.
#[cfg(target_os = "linux")]
#[track_caller]
fn ends_well_on_the_terminal(at: &Place, running: Running, how: &str) {
    const ALTERNATE: [&str; 2] = ["\x1b[?1049h", "\x1b[?1049l"];
    let outcome = running.finish();
    assert_eq!(outcome.code, Some(130), "{how}: {outcome:#?}");
    let screen = String::from_utf8_lossy(&at.bytes("screen")).into_owned();
    let [entered, left] = ALTERNATE.map(|code| screen.rfind(code).expect(code));
    assert!(entered < left, "{how}");
    assert!(screen[left..].contains("-- --resume run"), "{how}");
    assert!(!screen.contains("panicked"), "{how}");
    assert_eq!(last_row(at), last_epoch(at, "run"), "{how}");
    at.train("evaluate run --samples 2").succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    for signal in ["INT", "TERM"] {
        let at = Place::new();
        let (running, _keys) = on_a_terminal(&at, "");
        kill(&at, signal);
        ends_well_on_the_terminal(&at, running, signal);
    }
}

/// The window is closed, so that nothing can be shown any more: where the shell hands on that the system hangs up, training ends
/// with the epoch; where it doesn't, it goes on, as under `nohup`.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_gone_loses_nothing() {
    // Where standard error is that terminal, or takes nothing either.
    for (hangs_up, redirected) in [(true, ""), (false, ""), (true, " 2>/dev/full")] {
        let at = Place::new();
        let (running, _keys) = on_a_terminal(&at, redirected);
        running.kill();
        let signal = match hangs_up {
            true => "HUP",
            false => {
                let before = last_row(&at);
                wait_until("20 more epochs", || last_row(&at) >= before + 20);
                "INT"
            }
        };
        kill(&at, signal);
        wait_until("an end", || at.path("ended").exists());
        assert_eq!(at.text("ended"), "130\n", "{signal}");
        let saved = last_epoch(&at, "run");
        assert_eq!(last_row(&at), saved, "{signal}");
        at.train("evaluate run --samples 2").succeeds();
        at.train(&format!("--resume run --epochs {}", saved + 1))
            .succeeds();
    }
}

/// Of a process that has nobody to speak to.
#[cfg(target_os = "linux")]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 240, "waited for {what}");
        std::thread::yield_now();
    }
}

/// Sends a signal to what runs on a terminal of its own.
#[cfg(target_os = "linux")]
fn kill(at: &Place, signal: &str) {
    let pid = at.text("pid");
    let kill = Command::new("kill")
        .args(["-s", signal, pid.trim()])
        .status();
    assert!(kill.unwrap().success());
}

/// The dashboard's own menu: `s` stops after the epoch, `k` at once, which burn-train does by a panic.
#[cfg(target_os = "linux")]
#[test]
fn both_ways_to_quit_on_the_dashboard_keep_what_is_saved() {
    for keys in ["qs", "qk"] {
        let at = Place::new();
        let (running, mut typed) = on_a_terminal(&at, "");
        typed.write_all(keys.as_bytes()).unwrap();
        ends_well_on_the_terminal(&at, running, keys);
    }
}

#[cfg(target_os = "linux")]
fn last_row(at: &Place) -> usize {
    at.column("run/metrics.csv", "epoch").len()
}

/// The second is told so, and the first goes on.
#[test]
fn two_trainings_of_one_run() {
    let at = Place::new();
    let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
    running.wait_for("epoch       2/");
    at.train("--resume run")
        .fails(1, &["another process", "run"]);
    at.train("evaluate run --samples 2").succeeds();
    running.interrupt();
    assert_eq!(running.finish().code, Some(130));
    let epochs = last_epoch(&at, "run") + 1;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
}

#[test]
fn a_run_folder_that_is_deleted_meanwhile() {
    let at = Place::new();
    let mut running = at.start(&format!("{TINY} --epochs 1000000 --output run"));
    running.wait_for("epoch       2/");
    // Not all at once, so that something new may come in between.
    while std::fs::remove_dir_all(at.path("run")).is_err() {}
    running
        .finish()
        .fails(1, &["training stopped", "run", "--resume it there"]);
    assert!(at.files().is_empty());
}

/// A training whose folder was moved leaves the run that took its name alone, and its own goes on where it was.
#[cfg(unix)]
#[test]
fn a_run_folder_that_is_moved_meanwhile() {
    let at = Place::new();
    at.train(&format!("{TINY} --seed 1 --epochs 3 --output other"))
        .succeeds();
    let before = at.files_in("other");
    let mut first = at.start(&format!("{TINY} --epochs 300 --output run"));
    first.wait_for("epoch   4/");
    std::fs::rename(at.path("run"), at.path("moved")).unwrap();
    std::fs::rename(at.path("other"), at.path("run")).unwrap();
    first
        .finish()
        .fails(1, &["training stopped", "folder", "wherever that is now"]);
    assert!(
        before.len() > 5 && at.files_in("run") == before,
        "it wrote there"
    );

    let saved = last_epoch(&at, "moved");
    assert!(saved >= 2, "{saved}");
    at.train(&format!("--resume moved --epochs {}", saved + 1))
        .succeeds();
}

/// Nor are its pictures and its summary those of another run, whose folder took the name while they were drawn.
#[cfg(unix)]
#[test]
fn a_run_folder_that_is_moved_while_it_is_drawn() {
    let at = Place::new();
    at.train(&format!("{TINY} --seed 1 --epochs 3 --output other"))
        .succeeds();
    let before = at.files_in("other");
    // Pictures that take long.
    let deep = "--hidden 16 --latent-dim 2 --layers 300 --epochs 1 --schedule constant";
    let mut first = at.start(&format!("{deep} --output run"));
    first.wait_for("samples from the prior");
    std::fs::rename(at.path("run"), at.path("moved")).unwrap();
    std::fs::rename(at.path("other"), at.path("run")).unwrap();
    first.finish().fails(1, &["run/", "the folder was moved"]);
    assert!(at.files_in("run") == before, "it wrote there");
    at.train("--resume moved").succeeds();
    assert!(at.path("moved/summary.json").exists());
}

/// As many epochs as there are already are all that there will be; and what was trained where stays as it was.
#[test]
fn a_run_may_be_called_done() {
    let at = Place::with_run("");
    let config = at.text("run/config.json");
    let longer = config.replace("\"epochs\": 2", "\"epochs\": 9");
    assert_ne!(config, longer);
    at.write("run/config.json", longer);
    at.train("--resume run --epochs 2 --backend ndarray")
        .succeeds();
    assert_eq!(at.text("run/config.json"), config);
    let summary = at.text("run/summary.json");
    assert!(
        summary.contains("\"epochs\": 2,") && summary.contains("\"backend\": \"flex\""),
        "{summary}"
    );
    let before = at.metrics("run");
    at.train("--resume run").succeeds();
    assert_eq!(at.metrics("run"), before);
}

/// Killed again and again, at whatever it is doing then.
#[test]
fn kills_cost_no_more_than_the_epoch() {
    let at = Place::new();
    let mut arguments = format!("{TINY} --epochs 1000000 --output run");
    let mut saved = 0;
    for _ in 0..5 {
        let mut running = at.start(&arguments);
        running.wait_for(&format!("epoch {:>7}/", saved + 3));
        running.kill();
        let now = last_epoch(&at, "run");
        assert!(now > saved, "epoch {now} after {saved}");
        saved = now;
        arguments = "--resume run".into();
    }
    let epochs = saved + 2;
    at.train(&format!("--resume run --epochs {epochs}"))
        .succeeds();
    at.train(&format!("{TINY} --epochs {epochs} --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// At the same step and by the same numbers, also where no session lasts as long as what the watch looks back on.
#[test]
fn a_training_that_diverges_does_so_however_it_was_interrupted() {
    let at = Place::new();
    let flags = format!("{TINY} --optimizer rmsprop --lr 0.05");
    let why = |said: &str| {
        let (_, how) = said.split_once("it diverged at ").expect("why");
        how.split_once("; the checkpoint")
            .expect("what is left")
            .0
            .to_owned()
    };
    let whole = at.train(&format!("{flags} --epochs 30 --output whole"));
    whole.fails(1, &["diverged at", "the ELBO fell from"]);
    let saved = last_epoch(&at, "whole");
    assert!(saved > 2, "{saved}: too soon to be interrupted before");
    at.train(&format!("{flags} --epochs 1 --output run"))
        .succeeds();
    for epochs in 2..=saved {
        // Perhaps with a warning of how far it has fallen.
        let resumed = at.train(&format!("--resume run --epochs {epochs}"));
        assert_eq!(resumed.code, Some(0), "{resumed:#?}");
    }
    let again = at.train("--resume run --epochs 30");
    again.fails(1, &["diverged at"]);
    assert_eq!(why(&again.stderr), why(&whole.stderr));
}

/// The rate falls from epoch to epoch: it must go on where it was, and the clipping too.
#[test]
fn a_falling_rate_goes_on_where_it_was() {
    let at = Place::new();
    let falling = TINY.replace("constant", "cosine --lr-warm-up 20");
    let mut running = at.start(&format!("{falling} --epochs 60 --output run"));
    // By then the checkpoint of the second is whole.
    running.wait_for("epoch  4/");
    running.kill();
    let saved = last_epoch(&at, "run");
    assert!((2..60).contains(&saved), "{saved}");
    at.train("--resume run").succeeds();
    at.train(&format!("{falling} --epochs 60 --output whole"))
        .succeeds();
    assert_same(&at, "run", "whole");
}

/// Nothing is lost but the time, when there is no checkpoint yet.
#[test]
fn a_run_that_never_saved_starts_over() {
    let at = Place::with_run("");
    let whole = at.metrics("run");
    let rows = at.text("run/metrics.csv");
    // The second epoch may be over before the checkpoint of the first is whole.
    for lines in [2, 3] {
        let first: Vec<&str> = rows.lines().take(lines).collect();
        at.write("run/metrics.csv", first.join("\n") + "\n");
        std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
        std::fs::remove_file(at.path("run/model.bpk")).unwrap();
        at.train("--resume run").succeeds();
        assert_eq!(at.metrics("run"), whole);
    }
}

/// Results are not replaced by a training from the start.
#[test]
fn a_run_whose_checkpoints_were_removed_is_left_alone() {
    let at = Place::with_run("");
    std::fs::remove_dir_all(at.path("run/checkpoint")).unwrap();
    let before = at.files();
    let outcome = at.train("--resume run --epochs 4");
    outcome.fails(1, &["run", "no checkpoint", "--config run/config.json"]);
    assert!(before == at.files());
}
