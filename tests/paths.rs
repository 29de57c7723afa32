//! Where data and runs are: named from anywhere, moved, and by names that are no text.

use std::process::Command;

use end_to_end::{Outcome, Place, TINY, images, program};

/// Runs `train` in a folder of the place.
#[track_caller]
fn train_in(at: &Place, folder: &str, arguments: &str) -> Outcome {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cd \"$0\" && exec \"$@\"", folder]);
    shell.arg(program()).args(arguments.split_whitespace());
    at.spawn(shell).finish()
}

#[test]
fn a_run_can_be_used_from_any_folder() {
    let at = Place::new();
    images(&at, "set", 8);
    std::fs::create_dir(at.path("elsewhere")).unwrap();
    for (run, data) in [
        ("a", "--dataset set"),
        ("b", "--dataset mnist --data-dir ./set"),
    ] {
        at.train(&format!("{TINY} --epochs 1 --output {run} {data}"))
            .succeeds();
        for arguments in [
            format!("evaluate ../{run} --samples 2"),
            format!("--resume ../{run} --epochs 2"),
            format!("--config ../{run}/config.json --epochs 1 --output ../{run}-2"),
        ] {
            train_in(&at, "elsewhere", &arguments).succeeds();
        }
    }
}

#[test]
fn a_data_set_that_was_moved_is_named_anew() {
    let at = Place::new();
    images(&at, "set", 8);
    at.train(&format!("{TINY} --epochs 1 --dataset set --output run"))
        .succeeds();
    std::fs::rename(at.path("set"), at.path("moved")).unwrap();
    at.train("evaluate run --samples 2")
        .fails(1, &["set", "--data-dir"]);
    at.train("evaluate run --samples 2 --data-dir moved")
        .succeeds();
    at.train("sample run --data-dir moved").succeeds();
    at.train("--resume run --epochs 2 --data-dir moved")
        .succeeds();
    // And from now on it is there.
    at.train("evaluate run --samples 2").succeeds();
}

#[test]
fn the_digits_are_in_no_folder() {
    let at = Place::new();
    images(&at, "set", 8);
    at.train("--data-dir set")
        .fails(1, &["--data-dir set", "digits", "--dataset"]);
    // Nor does a configuration's folder go with another data set.
    at.train(&format!(
        "{TINY} --epochs 1 --dataset mnist --data-dir set --output run"
    ))
    .succeeds();
    at.train("--config run/config.json --dataset digits --epochs 1 --output digits")
        .succeeds();
}

#[test]
fn fewer_epochs_than_there_are() {
    let at = Place::with_run("");
    let before = at.files();
    at.train("--resume run --epochs 1")
        .fails(1, &["run", "2 epochs already", "--epochs"]);
    assert!(before == at.files());
}

#[cfg(unix)]
mod names_that_are_no_text {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    const NAME: &[u8] = b"a\xff";

    /// Runs `train` with `NAME` in the place of each `?`, in a folder.
    #[track_caller]
    fn train(at: &Place, folder: &str, arguments: &str) -> Outcome {
        let name = |text: &str| -> Vec<u8> {
            let mut bytes = Vec::new();
            for byte in text.bytes() {
                match byte {
                    b'?' => bytes.extend_from_slice(NAME),
                    byte => bytes.push(byte),
                }
            }
            bytes
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", "cd \"$0\" && exec \"$@\""]);
        shell.arg(OsStr::from_bytes(&name(folder))).arg(program());
        for argument in arguments.split_whitespace() {
            shell.arg(OsStr::from_bytes(&name(argument)));
        }
        at.spawn(shell).finish()
    }

    fn place() -> Place {
        let at = Place::new();
        images(&at, "set", 8);
        let folder = at.path("").join(OsStr::from_bytes(NAME));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(at.path("set"), folder.join("set")).unwrap();
        at
    }

    #[test]
    fn data_are_not_read_from_there_and_nothing_is_written() {
        let at = place();
        let before = at.files();
        for (folder, arguments, code, word) in [
            (".", "--dataset ?/set", 2, "UTF-8"),
            (".", "--dataset mnist --data-dir ?/set", 1, "--data-dir"),
            ("?", "--dataset set", 1, "--dataset"),
            ("?", "--dataset mnist --data-dir set", 1, "--data-dir"),
        ] {
            train(&at, folder, arguments).fails(code, &[word]);
            assert!(before == at.files(), "{arguments} changed files");
        }
    }

    #[test]
    fn runs_may_be_there() {
        let at = place();
        for (folder, run) in [(".", "?/run"), ("?", "here")] {
            for arguments in [
                format!("{TINY} --epochs 1 --output {run}"),
                format!("--resume {run} --epochs 2"),
                format!("evaluate {run} --samples 2"),
                format!("sample {run}"),
            ] {
                train(&at, folder, &arguments).succeeds();
            }
        }
    }
}
