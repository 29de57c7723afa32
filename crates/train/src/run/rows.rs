//! The tables that commands add rows to when training is over.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{RunDir, disk::read, lock::open_lock};

/// The file of `train evaluate`.
pub const EVALUATIONS: &str = "evaluations.csv";

/// The file of `train estimates`.
pub const ESTIMATES: &str = "estimates.csv";

impl RunDir {
    /// Adds a row to [`EVALUATIONS`] or [`ESTIMATES`]. A file with other columns, as older versions wrote it, or with half a last
    /// row is kept under another name, which is returned.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn add_row(&self, file: &str, row: &impl Serialize) -> Result<Option<PathBuf>> {
        let path = self.path.join(file);
        // One after the other, where there are locks; it is let go with the file.
        let lock = open_lock(&self.path.join("evaluations.lock"));
        let _locked = lock.and_then(|file| file.lock().map(|()| file));
        add_row(&path, row).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The rows of `evaluations.csv`.
    ///
    /// # Errors
    ///
    /// When a row is damaged, or the columns are those of another version.
    pub fn evaluations<Row: DeserializeOwned>(&self) -> Result<Vec<Row>> {
        let Some(text) = self.read(EVALUATIONS)? else {
            return Ok(Vec::new());
        };
        let rows = csv::Reader::from_reader(&text[..]).into_deserialize();
        let rows = rows.collect::<Result<_, _>>().map_err(Into::into);
        // Half a last row may read as a whole one.
        let is_whole = text.is_empty() || text.ends_with(b"\n");
        let rows =
            rows.and_then(|rows| is_whole.then_some(rows).context("its last row breaks off"));
        rows.with_context(|| {
            let path = self.path.display();
            format!(
                "{path}/evaluations.csv is damaged or of another version: `train evaluate {path}` keeps it under another \
                 name and begins a new one"
            )
        })
    }
}

fn add_row(path: &Path, row: &impl Serialize) -> Result<Option<PathBuf>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(row)?;
    let text = writer.into_inner().map_err(|error| error.into_error())?;
    let header = text
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);

    let before = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let fits = before.starts_with(&text[..header]) && before.ends_with(b"\n");
    let kept = if before.is_empty() || fits {
        None
    } else {
        Some(set_aside(path)?)
    };
    let new = if fits { &text[header..] } else { &text[..] };
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(new)?;
    Ok(kept)
}

/// Renames `name.csv` to the first free of `name-1.csv`, `name-2.csv`, …
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut names = (1_u64..).map(|n| path.with_file_name(format!("{stem}-{n}.csv")));
    let kept = names
        .find(|name| !name.exists())
        .expect("one of infinitely many");
    fs::rename(path, &kept)?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vae::VaeSettings;

    #[derive(Serialize)]
    struct Old {
        epoch: usize,
        elbo: f64,
    }

    #[derive(Serialize)]
    struct New {
        epoch: usize,
        split: &'static str,
        elbo: f64,
    }

    #[test]
    fn rows_of_other_columns_are_kept_and_not_mixed() {
        let parent = tempfile::tempdir().unwrap();
        let run =
            RunDir::create(Some(&parent.path().join("run")), &VaeSettings::default()).unwrap();
        let text = |name: &str| fs::read_to_string(run.path().join(name)).unwrap();
        let (elbo, split) = (-1.5, "test");
        for epoch in [1, 2] {
            let kept = run.add_row(EVALUATIONS, &Old { epoch, elbo }).unwrap();
            assert_eq!(kept, None);
        }
        let row = New {
            epoch: 3,
            split,
            elbo,
        };
        let kept = run.add_row(EVALUATIONS, &row).unwrap();
        assert_eq!(kept, Some(run.path().join("evaluations-1.csv")));
        assert_eq!(run.add_row(EVALUATIONS, &row).unwrap(), None);
        assert_eq!(text("evaluations-1.csv"), "epoch,elbo\n1,-1.5\n2,-1.5\n");
        let header = "epoch,split,elbo\n";
        assert_eq!(
            text("evaluations.csv"),
            format!("{header}3,test,-1.5\n3,test,-1.5\n")
        );

        // Cut short by a full disk.
        fs::write(run.path().join("evaluations.csv"), format!("{header}3,te")).unwrap();
        let kept = run.add_row(EVALUATIONS, &row).unwrap();
        assert_eq!(kept, Some(run.path().join("evaluations-2.csv")));
        assert_eq!(text("evaluations-2.csv"), format!("{header}3,te"));
        assert_eq!(text("evaluations.csv"), format!("{header}3,test,-1.5\n"));
    }
}
