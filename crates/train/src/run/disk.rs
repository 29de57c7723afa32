//! Files that are there whole or not at all, and on the disk when the call returns.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Writes beside the file, then renames: nobody sees half of it, also after a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(&path.with_added_extension("part"), path, bytes)
}

/// The same, by way of `part`.
pub fn replace_by(part: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_through(part, bytes)?;
    fs::rename(part, path).inspect_err(|_| {
        // It has served its purpose, whether or not it goes.
        let _ = fs::remove_file(part);
    })?;
    sync(path.parent().unwrap_or(path))
}

/// Writes a file, and returns when the disk has it.
pub fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    sync_file(&file)
}

fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        // Nothing that can be synchronised: /dev/full, or a folder on some file systems.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Returns when the disk has the names in a folder.
pub fn sync(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        // Elsewhere a folder is nothing that can be opened, and its names need no such care.
        return Ok(());
    }
    // The parent of a name alone is the empty path.
    let here = Path::new(".");
    let folder = if folder.as_os_str().is_empty() {
        here
    } else {
        folder
    };
    sync_file(&File::open(folder)?)
}
