//! The folder of a report, which nothing else is overwritten in.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{disk::replace_own, first_free};

/// The table, whose runs tell one report from another.
pub const TABLE: &str = "table.csv";

/// The column with their folders.
pub const RUN: &str = "run";

/// A folder that is empty or holds a report of the same runs, or of some of them.
pub struct Folder(PathBuf);

impl Folder {
    /// `output`, or the first free of `report-1`, `-2`, …
    ///
    /// # Errors
    ///
    /// When it holds anything else, or cannot be made.
    pub fn new(output: Option<&Path>, runs: &[PathBuf]) -> Result<Self> {
        let Some(path) = output else {
            return first_free(Path::new(""), "report").map(Self);
        };
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        let is_empty = fs::read_dir(path)
            .and_then(|mut entries| entries.next().transpose())
            .with_context(|| format!("cannot read the folder {}", path.display()))?
            .is_none();
        if !is_empty {
            check(path, runs)?;
        }
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.0.join(name);
        replace_own(&path, text.as_ref())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Refuses a folder with anything but a report of these runs.
fn check(folder: &Path, runs: &[PathBuf]) -> Result<()> {
    let Some(reported) = reported(&folder.join(TABLE)) else {
        bail!(
            "{} exists and holds no report: name another folder with --output",
            folder.display()
        );
    };
    let mut others = reported.iter().filter(|path| {
        // A slash at the end does not matter.
        !runs.iter().any(|run| run == Path::new(path))
    });
    ensure!(
        others.next().is_none(),
        "{} holds a report of other runs ({}): name those too, or another folder with --output",
        folder.display(),
        reported.join(", ")
    );
    Ok(())
}

/// The runs in the table of a report.
fn reported(table: &Path) -> Option<Vec<String>> {
    let mut table = csv::Reader::from_path(table).ok()?;
    if table.headers().ok()?.get(0) != Some(RUN) {
        return None;
    }
    let runs = table
        .records()
        .map(|row| Some(row.ok()?.get(0)?.to_owned()));
    let runs = runs.collect::<Option<Vec<String>>>()?;
    // Means over seeds are of no one run.
    Some(runs.into_iter().filter(|run| !run.is_empty()).collect())
}
