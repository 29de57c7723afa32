//! CIFAR-10 (Krizhevsky 2009), from its binary files.
//!
//! Layout: a record an image, 10,000 a file; a byte of label, 0 to 9, then 1,024 bytes of red, row by row, as many of
//! green and of blue.

use std::path::{Path, PathBuf};

use super::source::{self, Source, SourceError};
use super::{DataError, Images, Splits};

/// Width of an image.
pub(super) const SIDE: usize = 32;

/// Red, green and blue.
pub(super) const COLOURS: usize = 3;

/// Bytes of an image.
pub(super) const IMAGE_BYTES: usize = COLOURS * SIDE * SIDE;

const RECORD_BYTES: u64 = 1 + IMAGE_BYTES as u64;
const LABELS: u8 = 10;
const MAX_IMAGES: u64 = 10_000;

/// The folder in CIFAR-10's archive.
pub(super) const SUB_FOLDER: &str = "cifar-10-batches-bin";

const TEST: &str = "test_batch.bin";

/// Why a file is none of CIFAR-10's.
#[derive(Debug, thiserror::Error)]
pub enum CifarError {
    /// Its bytes cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),

    /// It is empty, or ends within a record.
    #[error(
        "holds {0} bytes, which are no records of {RECORD_BYTES}, a label and 32 x 32 pixels of three colours; \
         delete it and fetch it again"
    )]
    Size(u64),

    /// It goes on after the last image.
    #[error("holds more than the {MAX_IMAGES} images of a file of CIFAR-10")]
    TooLarge,

    /// It is another set's.
    #[error(
        "image {image} has the label {label}, and CIFAR-10's are 0 to 9: it is damaged, or another set's"
    )]
    Label {
        /// Which image, from 1.
        image: u64,
        /// The first byte of its record.
        label: u8,
    },

    /// There is not enough memory.
    #[error("its images do not fit into the memory that is free")]
    Memory,
}

/// Reads the files of a folder: data_batch_1.bin and those that follow it up to the fifth, and test_batch.bin. The last
/// tenth of the training images, at least one, validates; of 50,000 that is the customary 5,000.
pub(super) fn load(folder: &Path) -> Result<Splits, DataError> {
    let missing = |file: String| DataError::NoCifar {
        file,
        folder: folder.to_owned(),
    };
    let batches = (1..=5).map(|i| format!("data_batch_{i}.bin"));
    let found: Vec<_> = batches.map(|name| (find(folder, &name), name)).collect();
    let last = found.iter().rposition(|(path, _)| path.is_some());
    let mut files = Vec::new();
    for (path, name) in found.into_iter().take(last.unwrap_or(0) + 1) {
        files.push(CifarFile::open(path.ok_or_else(|| missing(name))?)?);
    }
    let test = find(folder, TEST).ok_or_else(|| missing(TEST.into()))?;
    let test = CifarFile::open(test)?;

    // Reserved for all at once: a data set is held once, and never moved.
    let mut pixels = Vec::new();
    let images: u64 = files.iter().chain([&test]).map(|file| file.most).sum();
    pixels
        .try_reserve_exact(images as usize * IMAGE_BYTES)
        .map_err(|_| test.bad(CifarError::Memory))?;
    for file in files {
        file.read(&mut pixels)?;
    }
    let train = pixels.len() / IMAGE_BYTES;
    test.read(&mut pixels)?;
    if train < 2 {
        let folder = folder.to_owned();
        return Err(DataError::TooFew { folder });
    }
    let valid = (train / 10).max(1);
    Ok(Splits::cut(Images::cifar10(pixels), train - valid, valid))
}

/// Looks for a file in the folder itself and in the archive's.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    source::find(folder, name).or_else(|| source::find(&folder.join(SUB_FOLDER), name))
}

struct CifarFile {
    path: PathBuf,
    source: Source,
    /// The most images that are in it.
    most: u64,
}

impl CifarFile {
    fn open(path: PathBuf) -> Result<Self, DataError> {
        match Source::open(&path) {
            Ok(source) => Ok(Self {
                most: (source.most() / RECORD_BYTES).min(MAX_IMAGES),
                path,
                source,
            }),
            Err(error) => Err(DataError::Cifar {
                path,
                reason: error.into(),
            }),
        }
    }

    fn bad(&self, reason: CifarError) -> DataError {
        let path = self.path.clone();
        DataError::Cifar { path, reason }
    }

    /// Adds the pixels of all images to `out`. Unpacks one record more than are read at most, whatever the file holds.
    fn read(mut self, out: &mut Vec<u8>) -> Result<(), DataError> {
        match read(&mut self.source, out) {
            Ok(()) => Ok(()),
            Err(reason) => Err(self.bad(reason)),
        }
    }
}

fn read(source: &mut Source, out: &mut Vec<u8>) -> Result<(), CifarError> {
    let mut record = Vec::new();
    for image in 1.. {
        record.clear();
        let bytes = source.read(RECORD_BYTES, &mut record)? as u64;
        if bytes == 0 && image > 1 {
            break;
        }
        if bytes < RECORD_BYTES {
            return Err(CifarError::Size((image - 1) * RECORD_BYTES + bytes));
        }
        if image > MAX_IMAGES {
            return Err(CifarError::TooLarge);
        }
        let label = record[0];
        if label >= LABELS {
            return Err(CifarError::Label { image, label });
        }
        out.extend_from_slice(&record[1..]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::idx::tests::gzip;
    use super::*;
    use crate::heap::peak;

    /// `count` records, all bytes of image i being `first + i`.
    fn records(count: usize, first: u8) -> Vec<u8> {
        let record = |i: usize| {
            let mut record = vec![first.wrapping_add(i as u8); RECORD_BYTES as usize];
            record[0] = (i % 10) as u8;
            record
        };
        (0..count).flat_map(record).collect()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(SUB_FOLDER)).unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn refused(bytes: Vec<u8>) -> String {
        let folder = folder(&[("data_batch_1.bin", bytes), (TEST, records(1, 0))]);
        load(folder.path()).err().unwrap().to_string()
    }

    #[test]
    fn batches_follow_each_other_and_the_last_tenth_validates() {
        let in_archive = |name| format!("{SUB_FOLDER}/{name}");
        let folder = folder(&[
            ("data_batch_1.bin.gz", gzip(&records(12, 0))),
            ("data_batch_2.bin", records(9, 12)),
            (&in_archive("data_batch_3.bin"), records(2, 21)),
            (&in_archive("test_batch.bin.gz"), gzip(&records(3, 100))),
        ]);
        let Splits {
            train, valid, test, ..
        } = load(folder.path()).unwrap();
        assert_eq!((train.len(), valid.len(), test.len()), (21, 2, 3));
        assert_eq!(train.get(20), [20; IMAGE_BYTES]);
        assert_eq!(valid.get(1), [22; IMAGE_BYTES]);
        assert_eq!(test.get(2), [102; IMAGE_BYTES]);
        assert_eq!(test.position(0), 23);
        assert_eq!(
            (test.side(), test.colours(), test.pixels_per_image()),
            (8, 3, 192)
        );
    }

    #[test]
    fn a_batch_between_others_is_missed() {
        let (one, test) = (records(1, 0), records(1, 0));
        for (files, named) in [
            (vec![(TEST, test.clone())], "data_batch_1.bin"),
            (vec![("data_batch_1.bin", one.clone())], TEST),
            (
                vec![
                    ("data_batch_1.bin", one.clone()),
                    ("data_batch_3.bin", one.clone()),
                    (TEST, test),
                ],
                "data_batch_2.bin",
            ),
        ] {
            let folder = folder(&files);
            let error = load(folder.path()).err().unwrap().to_string();
            assert!(error.contains(&format!("neither {named} nor")), "{error}");
            let place = folder.path().display().to_string();
            assert!(error.contains(&place), "{error}");
        }
    }

    #[test]
    fn every_proper_prefix_but_of_whole_records_is_refused() {
        let file = records(2, 0);
        for end in [0, 1, 3072, 3074, 6145] {
            for bytes in [file[..end].to_vec(), gzip(&file[..end])] {
                let error = refused(bytes);
                assert!(error.contains(&format!("holds {end} bytes")), "{error}");
            }
        }
        let zipped = gzip(&file);
        for end in 2..zipped.len() {
            let error = refused(zipped[..end].to_vec());
            assert!(error.contains("gzip"), "{error}");
        }
        assert!(refused(records(1, 0)).contains("one training image"));
    }

    #[test]
    fn other_files_are_named() {
        let mut file = records(3, 0);
        file[2 * RECORD_BYTES as usize] = 10;
        let error = refused(file);
        assert!(error.contains("image 3 has the label 10"), "{error}");
        assert!(error.contains("data_batch_1.bin:"), "{error}");
    }

    /// Four times as many images as a file of CIFAR-10 has, which gzip makes small, are left after the first 10,000.
    #[test]
    fn a_bomb_is_left_early() {
        let most = MAX_IMAGES as usize * IMAGE_BYTES;
        let bomb = gzip(&vec![0; 4 * most]);
        let folder = folder(&[("data_batch_1.bin", bomb), (TEST, records(1, 0))]);
        let (bytes, error) = peak(|| load(folder.path()).err().unwrap());
        assert!(error.to_string().contains("more than the 10000"), "{error}");
        assert!(bytes < most + (1 << 20), "{bytes} bytes");
    }

    /// What is read takes its own size, once.
    #[test]
    fn pixels_are_held_once() {
        let file = records(2_000, 0);
        let folder = folder(&[("data_batch_1.bin", file.clone()), (TEST, file)]);
        let (bytes, splits) = peak(|| load(folder.path()).unwrap());
        assert_eq!(splits.test.len(), 2_000);
        assert!(bytes < 4_000 * IMAGE_BYTES + (1 << 20), "{bytes} bytes");
    }
}
