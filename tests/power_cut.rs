//! Whatever a power cut leaves of what was written and not yet synchronised, a training goes on to the same numbers, and at
//! most the epoch in progress and the one before it are lost.
//!
//! `strace` says what the program does to its files. A model of the disk (`disk.rs`) tells after each of these calls
//! what may be there after a power cut; that is made, and the training goes on in it. Nothing has to be cut off for that, and
//! no call is left out.
//!
//! ```sh
//! cargo test --workspace --test power_cut
//! CHANCES=50 cargo test --workspace --test power_cut    # more of what may be left
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
fn go_on(at: &Place, begin: &str, run: &str) -> Outcome {
    let again = match at.path(&format!("{run}/config.json")).exists() {
        true => format!("--resume {run}"),
        false => format!("{begin} --output {run}"),
    };
    at.train(&format!("{again} --epochs 6"))
}

/// A training that begins with these flags and becomes the run folder `run`, and then goes on in sessions that end at each of
/// these epochs.
fn cut(begin: &str, output: &str, run: &str, sessions: &[usize]) {
    let chances: u64 = std::env::var("CHANCES").map_or(2, |text| text.parse().expect("a number"));
    let whole = Place::new();
    go_on(&whole, begin, run).succeeds();
    let model = format!("{run}/model.bpk");
    let (metrics, weights) = (whole.metrics(run), whole.pack(&model));

    let at = Place::new();
    let mut disk = Disk::new(&at.path("").canonicalize().unwrap());
    let (mut tried, mut seen) = (BTreeSet::new(), 0);
    for epochs in sessions {
        let flags = match seen {
            0 => format!("{begin} {output} --epochs {epochs}"),
            _ => format!("--resume {run} --epochs {epochs}"),
        };
        let Some(calls) = calls(&at, &flags) else {
            return not_run("strace is not there, or may not be used");
        };
        disk.forget_what_is_open();
        for call in &calls {
            seen += 1;
            disk.apply(call);
            // A row of the metrics says that an epoch is done; the header is none.
            let now = disk.after(Left::All);
            let metrics_file = format!("{run}/metrics.csv");
            let rows = match now.get(Path::new(&metrics_file)) {
                Some(Some(text)) => text.iter().filter(|&&byte| byte == b'\n').count() - 1,
                _ => 0,
            };
            let some = (0..chances).map(|chance| Left::Some(chance << 20 | seen));
            let some = [Left::All, Left::Nothing, Left::Names]
                .into_iter()
                .chain(some);
            for left in some {
                let files = disk.after(left);
                let context = || format!("{left:?} after {call:.200?}: {:?}", files.keys());
                let saved = saved(&files, run);
                assert!(
                    saved + 2 >= rows,
                    "{saved} of {rows} are left: {}",
                    context()
                );
                if tried.contains(&files) {
                    continue;
                }
                let at = place(&files);
                let ended = go_on(&at, begin, run);
                assert_eq!(ended.code, Some(0), "{ended:#?}: {}", context());
                assert_eq!(at.metrics(run), metrics, "{}", context());
                assert!(at.pack(&model) == weights, "{}", context());
                tried.insert(files);
            }
        }
        // When it says that it is done, all is safe, but for the end of what it deletes; and the model has what there is.
        let is_deleted = |path: &Path| {
            let mut names = path.iter();
            names.any(|name| Path::new(name).extension() == Some("part".as_ref()))
        };
        let mut safe = disk.after(Left::Nothing);
        safe.retain(|path, _| !is_deleted(path));
        let all = disk.after(Left::All);
        assert!(safe == all, "{:?} of {:?}", safe.keys(), all.keys());
        let all = all.into_iter();
        let all: BTreeMap<_, _> = all
            .filter_map(|(path, bytes)| Some((path, bytes?)))
            .collect();
        assert!(all == at.files(), "{:?}", all.keys());
    }
    println!("{seen} calls, {} states of the disk", tried.len());
}

/// The last epoch with a checkpoint.
fn saved(files: &Files, run: &str) -> usize {
    let folder = format!("{run}/checkpoint");
    let epochs = files.keys().filter_map(|path| {
        let name = path.strip_prefix(&folder).ok()?;
        name.to_str()?.parse().ok()
    });
    epochs.max().unwrap_or(0)
}

/// Its best epoch is not the last, so that one is kept beside those.
#[test]
fn a_power_cut_at_any_moment_loses_an_epoch_at_most() {
    let begin = TINY.replace("--schedule", "--lr 0.1 --batch-size 20 --schedule");
    cut(&begin, "", "runs/digits-1", &[2, 5]);
}

#[test]
fn nor_does_it_where_folders_are_made_for_it() {
    cut(TINY, "--output a/b/run", "a/b/run", &[2]);
}
