//! Data sets of square images.

mod amat;
mod binarize;
mod cifar;
mod digits;
mod download;
mod idx;
mod mnist;
mod patch;
mod source;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{self, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use serde::{Deserialize, Serialize};

use amat::AmatError;
use cifar::CifarError;
use idx::IdxError;

pub use binarize::Binarization;
pub use source::{Source, SourceError};

/// The largest set that is read, in pixels. The largest known, EMNIST, has half of it.
const MAX_BYTES: u64 = 1 << 30;

/// Square images; a clone or a slice shares the pixels.
#[derive(Clone)]
pub struct Images {
    kind: Kind,
    /// The pixels of the whole data set, of which this is a part.
    pixels: Arc<Vec<u8>>,
    range: Range<usize>,
}

/// An image by itself, as burn-dataset gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its bytes in its file.
    pub bytes: Vec<u8>,
    /// Its place in the whole data set (training, then validation, then test images): what its random numbers are keyed by,
    /// so that no two splits share a stream.
    pub position: usize,
}

impl Image {
    /// Writes what the model sees of it into `out`, as it is in `epoch` of a run with `seed`: one colour after the other, row
    /// by row. With a binarisation they are zeros and ones, without one a patch of numbers between 0 and 1, for which the
    /// image has to be of CIFAR-10.
    ///
    /// # Panics
    ///
    /// If `out` is not as long as that.
    pub fn see(&self, binarization: Option<Binarization>, seed: u64, epoch: u64, out: &mut [f32]) {
        match binarization {
            Some(how) => how.apply(self, seed, epoch, out),
            None => patch::cut(self, seed, epoch, out),
        }
    }
}

/// What an image is, and what the model sees of it.
#[derive(Clone, Copy)]
enum Kind {
    /// Grey levels, of which it sees all, in black and white.
    Grey { side: usize },
    /// 32 x 32 pixels of three colours, of which it sees a patch.
    Cifar10,
}

impl Images {
    /// Images of `side * side` grey levels (0 black, 255 white) each, row by row.
    ///
    /// # Panics
    ///
    /// If `side` is zero or `pixels` is not a whole number of images.
    pub fn new(side: usize, pixels: Vec<u8>) -> Self {
        Self::of(Kind::Grey { side }, pixels)
    }

    /// Images of CIFAR-10, each as its binary files have it, without the label.
    ///
    /// # Panics
    ///
    /// If `pixels` is not a whole number of images.
    pub fn cifar10(pixels: Vec<u8>) -> Self {
        Self::of(Kind::Cifar10, pixels)
    }

    fn of(kind: Kind, pixels: Vec<u8>) -> Self {
        let mut images = Self {
            kind,
            pixels: Arc::new(pixels),
            range: 0..0,
        };
        let (bytes, size) = (images.pixels.len(), images.bytes_per_image());
        assert!(bytes.is_multiple_of(size), "a partial image");
        images.range = 0..bytes / size;
        images
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Width and height in pixels of what the model sees of an image.
    pub fn side(&self) -> usize {
        match self.kind {
            Kind::Grey { side } => side,
            Kind::Cifar10 => patch::SIDE,
        }
    }

    /// In how many colours it sees them.
    pub fn colours(&self) -> usize {
        match self.kind {
            Kind::Grey { .. } => 1,
            Kind::Cifar10 => cifar::COLOURS,
        }
    }

    /// How many numbers it sees of an image: pixels, in each colour.
    pub fn pixels_per_image(&self) -> usize {
        self.colours() * self.side() * self.side()
    }

    fn bytes_per_image(&self) -> usize {
        match self.kind {
            Kind::Grey { side } => side * side,
            Kind::Cifar10 => cifar::IMAGE_BYTES,
        }
    }

    /// Image `index`, as burn-dataset gives it.
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn image(&self, index: usize) -> Image {
        Image {
            bytes: self.get(index).to_vec(),
            position: self.position(index),
        }
    }

    /// The bytes of image `index` in its file.
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn get(&self, index: usize) -> &[u8] {
        let size = self.bytes_per_image();
        let start = self.position(index) * size;
        &self.pixels[start..start + size]
    }

    /// The place of image `index` in the whole data set; see [`Image::position`].
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn position(&self, index: usize) -> usize {
        assert!(index < self.len(), "image {index} of {}", self.len());
        self.range.start + index
    }

    /// All images, so many at a time, sharing the pixels.
    pub fn batches(&self, at_once: usize) -> impl Iterator<Item = Self> {
        let starts = (0..self.len()).step_by(at_once);
        starts.map(move |start| self.slice(start..self.len().min(start + at_once)))
    }

    /// The images of `range`, sharing the pixels.
    ///
    /// # Panics
    ///
    /// If `range` ends beyond `len()`.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len(), "{range:?} of {}", self.len());
        Self {
            range: self.range.start + range.start..self.range.start + range.end,
            ..self.clone()
        }
    }
}

impl Dataset<Image> for Images {
    fn get(&self, index: usize) -> Result<Image, DatasetError> {
        Ok(self.image(index))
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// The three parts of a data set.
#[derive(Clone)]
pub struct Splits {
    /// Images to learn from.
    pub train: Images,
    /// Images to choose settings and the best epoch by.
    pub valid: Images,
    /// Images to report on.
    pub test: Images,
    /// Whether they are black and white already.
    binary: bool,
}

impl Splits {
    /// Cuts a data set into its first `train`, its next `valid` and its remaining images.
    fn cut(images: Images, train: usize, valid: usize) -> Self {
        Self {
            train: images.slice(0..train),
            valid: images.slice(train..train + valid),
            test: images.slice(train + valid..images.len()),
            binary: false,
        }
    }

    /// The same test images; of the others the last so many validate, where it is said how many.
    ///
    /// # Errors
    ///
    /// When none would be left to learn from.
    pub fn validated_by(self, valid: Option<NonZeroUsize>) -> Result<Self, DataError> {
        let Some(valid) = valid.map(NonZeroUsize::get) else {
            return Ok(self);
        };
        let all = Images {
            range: self.train.range.start..self.valid.range.end,
            ..self.train.clone()
        };
        if valid >= all.len() {
            return Err(DataError::NoneToTrain {
                valid,
                all: all.len(),
            });
        }
        let train = all.len() - valid;
        Ok(Self {
            train: all.slice(0..train),
            valid: all.slice(train..all.len()),
            ..self
        })
    }

    /// Refuses to call images what they are not: of black and white ones there is one draw, however it is made.
    ///
    /// # Errors
    ///
    /// When they are black and white already, and are to be more than taken as they are.
    pub fn check(&self, binarization: Option<Binarization>) -> Result<(), DataError> {
        match (self.binary, binarization) {
            (true, Some(other)) if other != Binarization::Static => {
                Err(DataError::Binary { other })
            }
            _ => Ok(()),
        }
    }
}

/// Which data set; parsed from, shown as and serialised as `digits`, `mnist`, `fashion-mnist`, `cifar10-patches`, or
/// the path of a folder of IDX files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DatasetName {
    /// The 1,797 digits of 8 x 8 pixels from UCI, which this program carries with it.
    Digits,
    /// The 70,000 digits of 28 x 28 pixels.
    Mnist,
    /// The 70,000 pieces of clothing of 28 x 28 pixels.
    FashionMnist,
    /// Random patches of 8 x 8 pixels, in three colours, of CIFAR-10's images.
    Cifar10Patches,
    /// A folder of IDX files with the names of MNIST's.
    Folder(PathBuf),
}

impl From<String> for DatasetName {
    fn from(name: String) -> Self {
        match name.as_str() {
            "digits" => Self::Digits,
            "mnist" => Self::Mnist,
            "fashion-mnist" => Self::FashionMnist,
            "cifar10-patches" => Self::Cifar10Patches,
            _ => Self::Folder(name.into()),
        }
    }
}

impl FromStr for DatasetName {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.to_owned().into())
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::Mnist => f.write_str("mnist"),
            Self::FashionMnist => f.write_str("fashion-mnist"),
            Self::Cifar10Patches => f.write_str("cifar10-patches"),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

impl From<DatasetName> for String {
    fn from(name: DatasetName) -> Self {
        name.to_string()
    }
}

impl DatasetName {
    /// What it is called where the place of its folder does not matter.
    pub fn short_name(&self) -> String {
        match self {
            Self::Folder(path) => path
                .file_name()
                .map_or("images".into(), |name| name.to_string_lossy().into_owned()),
            named => named.to_string(),
        }
    }

    /// How its images become zeros and ones where nothing else is asked for; none where they stay numbers between.
    pub fn binarization(&self) -> Option<Binarization> {
        match self {
            Self::Cifar10Patches => None,
            _ => Some(Binarization::Dynamic),
        }
    }

    /// This data set, from whatever folder it is named.
    ///
    /// # Errors
    ///
    /// When the current folder is not known.
    pub fn absolute(self) -> io::Result<Self> {
        Ok(match self {
            Self::Folder(folder) => Self::Folder(path::absolute(folder)?),
            named => named,
        })
    }
}

/// Reads a data set and splits it.
///
/// `data_dir` is the folder of its files; without it a folder is its own place, and `mnist` and
/// `fashion-mnist` are looked for in burn-dataset's cache folder, into which MNIST's are downloaded; `cifar10-patches`
/// needs it. For `mnist` Larochelle's binarised images are taken where the folder has them.
///
/// # Errors
///
/// See [`DataError`].
pub fn load(dataset: &DatasetName, data_dir: Option<&Path>) -> Result<Splits, DataError> {
    match (dataset, data_dir) {
        (DatasetName::Digits, None) => Ok(digits::load()),
        (DatasetName::Digits, Some(folder)) => Err(DataError::NoFiles {
            folder: folder.to_owned(),
        }),
        (DatasetName::Cifar10Patches, Some(folder)) => cifar::load(folder),
        (DatasetName::Cifar10Patches, None) => Err(DataError::NoFolder),
        (_, Some(folder)) if is_binarized(dataset, data_dir) => amat::load_folder(folder),
        (_, Some(folder)) => mnist::load_folder(folder),
        (DatasetName::Folder(folder), None) if !folder.is_dir() => Err(DataError::Unknown {
            name: dataset.to_string(),
        }),
        (DatasetName::Folder(folder), None) => mnist::load_folder(folder),
        (DatasetName::Mnist, None) => mnist::load_or_download(),
        (DatasetName::FashionMnist, None) => {
            mnist::load_folder(&mnist::cache_folder("fashion-mnist")?)
        }
    }
}

/// How the images of a data set become black and white where nothing is asked for, if they do.
pub fn usual_binarization(dataset: &DatasetName, data_dir: Option<&Path>) -> Option<Binarization> {
    match is_binarized(dataset, data_dir) {
        true => Some(Binarization::Static),
        false => dataset.binarization(),
    }
}

fn is_binarized(dataset: &DatasetName, data_dir: Option<&Path>) -> bool {
    *dataset == DatasetName::Mnist && data_dir.is_some_and(amat::is_in)
}

/// Why a data set cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The name is none of the known ones, nor a folder's.
    #[error(
        "there is no data set and no folder {name:?}: \
         give digits, mnist, fashion-mnist, cifar10-patches, or the path of a folder of IDX files; \
         of a run whose folder was moved, say with --data-dir where it is now"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },

    /// A folder was given for the digits.
    #[error(
        "--data-dir {folder}: the digits have no files; \
         name the data set too, with --dataset, or leave --data-dir out"
    )]
    NoFiles {
        /// What was given.
        folder: PathBuf,
    },

    /// No folder was given for CIFAR-10.
    #[error(
        "cifar10-patches: name the folder of CIFAR-10's binary files with --data-dir ({} in its archive)",
        cifar::SUB_FOLDER
    )]
    NoFolder,

    /// A file of CIFAR-10 is in none of its places.
    #[error(
        "found neither {file} nor {file}.gz in {folder} or its sub-folder {sub_folder}: put CIFAR-10's binary files \
         there, data_batch_1.bin to data_batch_5.bin (the first alone will do) and test_batch.bin, or name the folder \
         that holds them with --data-dir",
        sub_folder = cifar::SUB_FOLDER
    )]
    NoCifar {
        /// The file's name.
        file: String,
        /// Where it was looked for.
        folder: PathBuf,
    },

    /// A file is none of CIFAR-10's.
    #[error("{path}: {reason}")]
    Cifar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: CifarError,
    },

    /// An image file is in none of its places.
    #[error(
        "found neither {file} nor {file}.gz in {folder} or its sub-folder {split}: put {train} and \
         {test} there (label files are not needed), or name the folder that holds them with \
         --data-dir; for MNIST, `scripts/fetch-mnist FOLDER` fetches them",
        train = mnist::TRAIN.name,
        test = mnist::TEST.name
    )]
    Missing {
        /// The file's name.
        file: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
        /// The sub-folder where it was looked for next.
        split: &'static str,
    },

    /// MNIST is nowhere on this machine and cannot be downloaded.
    #[error(
        "cannot download {url}: {reason}. Without a network, put MNIST's four files, plain or .gz, into \
         {folder}: {train}, {test} (these two are read), train-labels-idx1-ubyte and \
         t10k-labels-idx1-ubyte; or name the folder that holds them with --data-dir. Where there is a \
         network, `scripts/fetch-mnist FOLDER` fetches all four",
        train = mnist::TRAIN.name,
        test = mnist::TEST.name
    )]
    Download {
        /// The address.
        url: String,
        /// Where the file would have gone.
        folder: PathBuf,
        /// What went wrong.
        reason: Box<dyn Error + Send + Sync>,
    },

    /// The user has no cache folder.
    #[error(
        "no cache folder is known for this user (is HOME set?): \
         name the folder of the image files with --data-dir"
    )]
    NoCacheFolder,

    /// A file is no usable image file.
    #[error("{path}: {reason}")]
    Idx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: IdxError,
    },

    /// One of the files of binarised images is missing beside the others.
    #[error(
        "{folder} has files of Larochelle's binarised MNIST, but neither {file} nor {file}.gz: put it there, \
         or name another folder with --data-dir"
    )]
    MissingPart {
        /// The file's name.
        file: &'static str,
        /// Where the others are.
        folder: PathBuf,
    },

    /// A file is no usable file of binarised images.
    #[error("{path}: {reason}")]
    Amat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: AmatError,
    },

    /// Something else is asked for than to take binarised images as they are.
    #[error(
        "--binarization {other}: these images are binarised already, and are used as they are: give static; \
         {other} needs MNIST's IDX files, in a folder without binarized_mnist_*.amat"
    )]
    Binary {
        /// What was asked for.
        other: Binarization,
    },

    /// Training and test images are of different sizes.
    #[error(
        "{folder}: training images are {train} pixels wide and test images {test}: \
         the two files do not belong together"
    )]
    Sides {
        /// The folder of the two files.
        folder: PathBuf,
        /// Width of a training image.
        train: usize,
        /// Width of a test image.
        test: usize,
    },

    /// All images would validate.
    #[error(
        "--valid-images {valid}: of {all} images that don't test one at least is to train on; give {} at most",
        all - 1
    )]
    NoneToTrain {
        /// How many were asked for.
        valid: usize,
        /// How many there are to train on and to validate.
        all: usize,
    },

    /// There is one training image only.
    #[error("{folder}: one training image is too few, at least one more is needed to validate")]
    TooFew {
        /// The folder of the set.
        folder: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_shown_and_serialised_alike() {
        for (name, dataset) in [
            ("digits", DatasetName::Digits),
            ("mnist", DatasetName::Mnist),
            ("fashion-mnist", DatasetName::FashionMnist),
            ("cifar10-patches", DatasetName::Cifar10Patches),
            ("some/folder", DatasetName::Folder("some/folder".into())),
            ("", DatasetName::Folder("".into())),
        ] {
            assert_eq!(name.parse(), Ok(dataset.clone()));
            assert_eq!(dataset.to_string(), name);
            let json = serde_json::to_string(&dataset).unwrap();
            assert_eq!(json, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<DatasetName>(&json).unwrap(), dataset);
        }
    }

    #[test]
    fn a_slice_shares_pixels_and_keeps_positions() {
        let images = Images::new(2, (0..40).collect());
        assert_eq!((images.len(), images.side()), (10, 2));
        let slice = images.slice(3..8).slice(1..4);
        assert_eq!(slice.len(), 3);
        assert_eq!(slice.position(0), 4);
        assert_eq!(slice.get(2), [24, 25, 26, 27]);
        assert!(Arc::ptr_eq(&images.pixels, &slice.pixels));
    }

    #[test]
    #[should_panic(expected = "image 3 of 3")]
    fn a_slice_ends() {
        Images::new(1, vec![0; 9]).slice(2..5).get(3);
    }

    #[test]
    fn images_that_are_not_there_cannot_be_had() {
        let images = Images::new(2, vec![0; 20]).slice(1..4);
        let ways: [&(dyn Fn() + std::panic::RefUnwindSafe); 4] = [
            &|| drop(images.image(3)),
            &|| drop(images.get(3).to_vec()),
            &|| drop(images.slice(0..4)),
            &|| drop(Images::new(2, vec![0; 21])),
        ];
        for (i, way) in ways.into_iter().enumerate() {
            assert!(std::panic::catch_unwind(way).is_err(), "{i}");
        }
        let parts: Vec<usize> = images.batches(2).map(|part| part.len()).collect();
        assert_eq!(parts, [2, 1]);
    }

    #[test]
    fn the_last_of_those_that_do_not_test_validate() {
        let images = Images::new(1, (0..10).collect());
        let splits = Splits::cut(images, 5, 3);
        let by = |valid| splits.clone().validated_by(NonZeroUsize::new(valid));
        let levels =
            |images: &Images| -> Vec<u8> { (0..images.len()).map(|i| images.get(i)[0]).collect() };
        for (valid, at) in [(0, 5), (1, 7), (3, 5), (7, 1)] {
            let cut = by(valid).unwrap();
            let parts = [&cut.train, &cut.valid, &cut.test].map(levels);
            let expected = [0..at, at..8, 8..10].map(Vec::from_iter);
            assert_eq!(parts, expected, "{valid}");
            assert_eq!(cut.valid.position(0), usize::from(at));
            // Once more it is the same.
            let again = cut.validated_by(NonZeroUsize::new(valid)).unwrap();
            assert_eq!(levels(&again.train), parts[0]);
        }
        let error = by(8).err().unwrap().to_string();
        assert!(
            error.contains("--valid-images 8") && error.contains("give 7 at most"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_name_gets_the_known_ones() {
        let error = load(&"mnits".parse().unwrap(), None)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"mnits\"") && error.contains("fashion-mnist"),
            "{error}"
        );
    }
}
