//! Files of data that may be gzipped.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The most that deflate makes of a byte: 258 bytes of two bits.
const MAX_RATIO: u64 = 1032;

/// Why no bytes can be had of a file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file system refused.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),

    /// The gzip stream is broken.
    #[error("its gzip stream breaks off or is damaged ({0}); delete it and fetch it again")]
    Gzip(io::Error),
}

/// A file that is being read.
pub struct Source {
    /// Its bytes on the disk.
    pub(super) size: u64,
    bytes: Bytes,
}

enum Bytes {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Source {
    /// Opens a file; whether it is gzipped is seen from its first bytes, not its name.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let zipped = file.fill_buf()?.starts_with(&GZIP_MAGIC);
        let bytes = if zipped {
            Bytes::Gzip(Box::new(MultiGzDecoder::new(file)))
        } else {
            Bytes::Plain(file)
        };
        Ok(Self { size, bytes })
    }

    pub(super) fn is_zipped(&self) -> bool {
        matches!(self.bytes, Bytes::Gzip(_))
    }

    /// The most bytes that a file of its size holds.
    pub(super) fn most(&self) -> u64 {
        let ratio = if self.is_zipped() { MAX_RATIO } else { 1 };
        self.size.saturating_mul(ratio)
    }

    /// Adds as many bytes as there are, `most` at most.
    pub fn read(&mut self, most: u64, out: &mut Vec<u8>) -> Result<usize, SourceError> {
        match &mut self.bytes {
            Bytes::Plain(file) => file.take(most).read_to_end(out).map_err(SourceError::Read),
            Bytes::Gzip(file) => file.take(most).read_to_end(out).map_err(SourceError::Gzip),
        }
    }
}

/// The file of this name, or with `.gz` added, if the folder has it.
pub(super) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))]
        .into_iter()
        .find(|path| path.is_file())
}
