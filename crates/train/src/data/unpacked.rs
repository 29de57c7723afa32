//! Files that may be gzipped, which is seen from their first bytes, not their names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why what a file holds cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The file system refused.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),

    /// The gzip stream is broken.
    #[error("its gzip stream breaks off or is damaged ({0}); delete it and fetch it again")]
    Gzip(io::Error),
}

/// What is still to be read of a file.
pub(super) enum Unpacked {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Unpacked {
    /// Opens a file, and tells how many bytes it has as it is.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), UnpackError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let this = if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
            Self::Gzip(Box::new(MultiGzDecoder::new(file)))
        } else {
            Self::Plain(file)
        };
        Ok((this, size))
    }

    /// Adds as many bytes to `out` as there are, `most` at most.
    pub(super) fn read(&mut self, most: u64, out: &mut Vec<u8>) -> Result<usize, UnpackError> {
        match self {
            Self::Plain(file) => file.take(most).read_to_end(out).map_err(UnpackError::Read),
            Self::Gzip(file) => file.take(most).read_to_end(out).map_err(UnpackError::Gzip),
        }
    }
}

/// The file of this name, or with `.gz` added, if the folder has it.
pub(super) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))]
        .into_iter()
        .find(|path| path.is_file())
}
