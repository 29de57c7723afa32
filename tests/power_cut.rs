//! Whatever a power cut leaves of what was written and not yet synchronised, a training goes on to the same numbers, and at
//! most the epoch in progress and the one before it are lost.
//!
//! `strace` says what the program does to its files. A model of the disk (`disk.rs`) tells after each of these calls
//! what may be there after a power cut; that is made, and the training goes on in it. Nothing has to be cut off for that, and
//! no moment is left out.
//!
//! ```sh
//! cargo test --workspace --test power_cut
//! CHANCES=20 cargo test --workspace --test power_cut    # more of what may be left
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use end_to_end::{
    Outcome, Place, TINY,
    disk::{Disk, Files, Left, calls},
    not_run,
};

/// A folder as a power cut left it.
fn place(files: &Files) -> Place {
    let at = Place::new();
    for (path, bytes) in files {
        let path = at.path(path.to_str().unwrap());
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::create_dir(path).unwrap(),
        }
    }
    at
}

/// Goes on with a training, or begins it, as somebody does who was not there.
fn go_on(at: &Place, begin: &str) -> Outcome {
    let again = match at.path("run/config.json").exists() {
        true => "--resume run",
        false => begin,
    };
    at.train(&format!("{again} --epochs 5"))
}

#[test]
fn a_power_cut_at_any_moment_loses_an_epoch_at_most() {
    let chances: u64 = std::env::var("CHANCES").map_or(2, |text| text.parse().expect("a number"));
    let begin = format!("{TINY} --output run");
    let at = Place::new();
    let Some(calls) = calls(&at, &format!("{begin} --epochs 4")) else {
        return not_run("strace is not there, or may not be used");
    };
    let whole = Place::new();
    go_on(&whole, &begin).succeeds();
    let (metrics, weights) = (whole.metrics("run"), whole.weights("run"));

    let root = at.path("").canonicalize().unwrap();
    let mut disk = Disk::new(&root);
    let mut tried = BTreeSet::new();
    for (moment, call) in calls.iter().enumerate() {
        disk.apply(call);
        // A row of the metrics says that an epoch is done; the header is none.
        let rows = match disk.after(Left::All).get(Path::new("run/metrics.csv")) {
            Some(Some(text)) => text.iter().filter(|&&byte| byte == b'\n').count() - 1,
            _ => 0,
        };
        let some = (0..chances).map(|chance| Left::Some(chance << 16 | moment as u64));
        for left in [Left::All, Left::Nothing, Left::Names]
            .into_iter()
            .chain(some)
        {
            let files = disk.after(left);
            if !tried.insert(files.clone()) {
                continue;
            }
            let at = place(&files);
            let saved = at.saved("run").last().copied().unwrap_or(0);
            let context = format!("{left:?} after {call:.200?}: {:?}", files.keys());
            assert!(saved + 2 >= rows, "{saved} of {rows} are left: {context}");
            let ended = go_on(&at, &begin);
            assert_eq!(ended.code, Some(0), "{ended:#?}: {context}");
            assert_eq!(at.metrics("run"), metrics, "{context}");
            assert_eq!(at.weights("run"), weights, "{context}");
        }
    }
    println!("{} calls, {} states of the disk", calls.len(), tried.len());
    // When it says that it is done, all is safe, but for the end of what it deletes; and the model has what there is.
    let is_deleted = |path: &Path| {
        path.iter()
            .any(|name| Path::new(name).extension() == Some("part".as_ref()))
    };
    let mut safe = disk.after(Left::Nothing);
    safe.retain(|path, _| !is_deleted(path));
    let all = disk.after(Left::All);
    assert!(safe == all, "{:?} of {:?}", safe.keys(), all.keys());
    let all: BTreeMap<_, _> = all
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, bytes?)))
        .collect();
    assert!(all == at.files(), "{:?}", all.keys());
}
