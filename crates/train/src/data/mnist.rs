//! MNIST, and all sets that come as files of its names.

use std::path::{Path, PathBuf};

use super::idx::{IdxError, IdxFile};
use super::{DataError, Images, Splits, download, source};

/// The mirror that burn-dataset downloads from.
const URL: &str = "https://storage.googleapis.com/cvdf-datasets/mnist";

/// One of the two image files of a set.
pub(super) struct ImageFile {
    /// Its name; it may have `.gz` added.
    pub(super) name: &'static str,
    /// The sub-folder in which burn-dataset keeps it.
    split: &'static str,
    /// The SHA-256 of MNIST's, unpacked.
    sha256: &'static str,
}

pub(super) const TRAIN: ImageFile = ImageFile {
    name: "train-images-idx3-ubyte",
    split: "train",
    sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
};

pub(super) const TEST: ImageFile = ImageFile {
    name: "t10k-images-idx3-ubyte",
    split: "test",
    sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
};

/// Reads MNIST from burn-dataset's cache folder, after downloading what is missing there.
pub(super) fn load_or_download() -> Result<Splits, DataError> {
    let folder = cache_folder("mnist")?;
    for file in [TRAIN, TEST] {
        if find(&folder, &file).is_none() {
            let url = format!("{URL}/{}.gz", file.name);
            let path = folder.join(file.split).join(file.name);
            download::fetch(&url, &path, file.sha256).map_err(|reason| DataError::Download {
                url,
                folder: folder.clone(),
                reason,
            })?;
        }
    }
    load_folder(&folder)
}

/// The folder in which burn-dataset keeps, or would keep, the set of this name.
pub(super) fn cache_folder(name: &str) -> Result<PathBuf, DataError> {
    let cache = dirs::cache_dir().ok_or(DataError::NoCacheFolder)?;
    Ok(cache.join("burn-dataset").join(name))
}

/// Reads the two image files of a folder. The last sixth of the training images, at least one,
/// validates; of MNIST's 60,000 that is the customary 10,000.
pub(super) fn load_folder(folder: &Path) -> Result<Splits, DataError> {
    let (train_path, train) = open(folder, &TRAIN)?;
    let (test_path, test) = open(folder, &TEST)?;
    if train.side != test.side {
        return Err(DataError::Sides {
            folder: folder.to_owned(),
            train: train.side,
            test: test.side,
        });
    }
    let (count, side) = (train.count, train.side);
    if count < 2 {
        return Err(DataError::TooFew {
            folder: folder.to_owned(),
        });
    }
    let valid = (count / 6).max(1);
    // Reserved for both at once: a data set is held once, and never moved.
    let (mut pixels, size) = (Vec::new(), train.len() + test.len());
    pixels
        .try_reserve_exact(size)
        .map_err(|_| bad(&train_path, IdxError::Memory(size as u64)))?;
    train
        .read(&mut pixels)
        .map_err(|reason| bad(&train_path, reason))?;
    test.read(&mut pixels)
        .map_err(|reason| bad(&test_path, reason))?;
    Ok(Splits::cut(Images::new(side, pixels), count - valid, valid))
}

fn open(folder: &Path, file: &ImageFile) -> Result<(PathBuf, IdxFile), DataError> {
    let path = find(folder, file).ok_or_else(|| DataError::Missing {
        file: file.name,
        folder: folder.to_owned(),
        split: file.split,
    })?;
    let file = IdxFile::open(&path).map_err(|reason| bad(&path, reason))?;
    Ok((path, file))
}

fn bad(path: &Path, reason: IdxError) -> DataError {
    let path = path.to_owned();
    DataError::Idx { path, reason }
}

/// Looks for a file in the folder itself and where burn-dataset keeps it.
fn find(folder: &Path, file: &ImageFile) -> Option<PathBuf> {
    source::find(folder, file.name).or_else(|| source::find(&folder.join(file.split), file.name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::idx::tests::{gzip, idx};
    use super::*;

    /// `count` images of `side * side` pixels, all pixels of image i being `first + i`.
    fn images(count: u8, side: u32, first: u8) -> Vec<u8> {
        let size = (side * side) as usize;
        let pixels: Vec<u8> = (0..count).flat_map(|i| vec![first + i; size]).collect();
        idx([0x0803, count.into(), side, side], &pixels)
    }

    #[test]
    fn a_folder_is_split_and_positions_run_through() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TRAIN.name), images(13, 2, 0)).unwrap();
        let zipped = format!("{}.gz", TEST.name);
        fs::write(folder.path().join(zipped), gzip(&images(3, 2, 100))).unwrap();

        let Splits {
            train, valid, test, ..
        } = load_folder(folder.path()).unwrap();
        assert_eq!((train.len(), valid.len(), test.len()), (11, 2, 3));
        assert_eq!(train.get(10), [10; 4]);
        assert_eq!(valid.get(0), [11; 4]);
        assert_eq!(test.get(2), [102; 4]);
        assert_eq!(test.position(0), 13);
    }

    #[test]
    fn the_layout_of_burn_dataset_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for (file, count) in [(TRAIN, 2), (TEST, 1)] {
            let split = folder.path().join(file.split);
            fs::create_dir(&split).unwrap();
            fs::write(split.join(file.name), images(count, 1, 0)).unwrap();
        }
        let splits = load_folder(folder.path()).unwrap();
        assert_eq!((splits.train.len(), splits.valid.len()), (1, 1));
    }

    #[test]
    fn a_missing_file_is_named_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TRAIN.name), images(2, 1, 0)).unwrap();
        let error = load_folder(folder.path()).err().unwrap().to_string();
        assert!(error.contains("t10k-images-idx3-ubyte.gz"), "{error}");
        assert!(
            error.contains(&folder.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TRAIN.name);
        fs::write(&path, b"").unwrap();
        let error = load_folder(folder.path()).err().unwrap().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }

    #[test]
    fn sets_that_cannot_be_split_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: ImageFile, bytes| fs::write(folder.path().join(file.name), bytes);
        write(TEST, images(1, 2, 0)).unwrap();
        write(TRAIN, images(1, 2, 0)).unwrap();
        assert!(matches!(
            load_folder(folder.path()),
            Err(DataError::TooFew { .. })
        ));
        write(TRAIN, images(2, 3, 0)).unwrap();
        assert!(matches!(
            load_folder(folder.path()),
            Err(DataError::Sides {
                train: 3,
                test: 2,
                ..
            })
        ));
    }
}
