//! Files that are there whole or not at all, and on the disk when the call returns; and files that end.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

/// Where the size of files is limited (`ulimit -f`), writing beyond that is an error as any other, and not the end of this process.
/// To be called once.
///
/// # Errors
///
/// When the system does not let this process listen to signals.
pub fn outlive_limits() -> io::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}

/// The bytes of a file.
///
/// # Errors
///
/// When it cannot be read, or is one that may never end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    check_kind(path)?;
    fs::read(path)
}

/// Refuses pipes, which wait for somebody at their other end, and devices, some of which have none.
///
/// # Errors
///
/// When there is such a thing there, or what there is cannot be seen.
pub fn check_kind(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        return Ok(());
    }
    let no_file = "it is a pipe or a device, not a file";
    Err(io::Error::new(io::ErrorKind::InvalidInput, no_file))
}

/// Writes beside the file, then renames: nobody sees half of it, also after a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(&path.with_added_extension("part"), path, bytes)
}

/// The same, where other processes may write the same file.
pub fn replace_own(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(&own_part(path), path, bytes)
}

/// Where this process writes what becomes a file that others may write too.
fn own_part(path: &Path) -> PathBuf {
    path.with_added_extension(format!("{}.part", process::id()))
}

fn replace_by(part: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = |file: &mut File| file.write_all(bytes);
    named_when_written(part, path, write, |part, path| fs::rename(part, path))
}

/// The same, of a file that is not there yet, and that `write` writes: what somebody puts in its place meanwhile stays.
pub fn create_with<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    named_when_written(&own_part(path), path, write, rename_new)
}

fn named_when_written<E: From<io::Error>>(
    part: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
    rename: fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), E> {
    let written = write_with(part, write).and_then(|()| Ok(rename(part, path)?));
    written.inspect_err(|_| {
        // It has served its purpose, whether or not it goes.
        let _ = fs::remove_file(part);
    })?;
    Ok(sync(path.parent().unwrap_or(path))?)
}

fn rename_new(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // On some file systems no file has two names.
            File::create_new(path)?;
            fs::rename(part, path).inspect_err(|_| {
                // It is empty, and from here.
                let _ = fs::remove_file(path);
            })
        }
        linked => linked.and_then(|()| fs::remove_file(part)),
    }
}

/// Creates a folder and those that it is in, whose names the disk has when the call returns: also of those that somebody made who was
/// killed before.
pub fn create_folders(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let named = path
        .ancestors()
        .filter(|folder| folder.file_name().is_some());
    named
        .into_iter()
        .try_for_each(|folder| sync(folder.parent().unwrap_or(folder)))
}

/// Writes a file, and returns when the disk has it.
pub fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

fn write_with<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = File::create(path)?;
    write(&mut file)?;
    Ok(sync_file(&file)?)
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
    match File::open(folder) {
        // One that may be written to and not be read: it is the system's to care for.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        folder => sync_file(&folder?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_put_there_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let write = |text: &'static str| create_with(&path, |file| file.write_all(text.as_bytes()));
        write("first").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let error = write("second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let deep = folder.path().join("a/b");
        create_folders(&deep).unwrap();
        create_folders(&deep).unwrap();
        assert!(deep.is_dir());
        assert!(create_folders(&path.join("c")).is_err());
    }
}
