//! Reader of IDX files of square grey images, plain or gzipped.
//!
//! Layout, all numbers big-endian `u32`: 0x00000803 (unsigned bytes, 3 dimensions), the number of
//! images, rows, columns; then a byte a pixel, row by row.

use std::path::Path;

use super::MAX_BYTES;
use super::source::{Source, SourceError};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
const HEADER_BYTES: u64 = 16;

/// Why a file is no usable image file.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// Its bytes cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),

    /// There is no complete header.
    #[error("is too short to be an IDX file of images; delete it and fetch it again")]
    NoHeader,

    /// A file of labels was given.
    #[error("holds labels, not images; files of images have idx3 in their names")]
    Labels,

    /// The file is of some other kind.
    #[error("is no IDX file of images: it begins with {0:#010x} instead of 0x00000803")]
    Magic(u32),

    /// The images are none, empty or not square.
    #[error("holds {count} images of {rows} x {columns} pixels; square images are needed")]
    Shape {
        /// Number of images.
        count: u32,
        /// Height of an image.
        rows: u32,
        /// Width of an image.
        columns: u32,
    },

    /// The header promises more than this program reads.
    #[error(
        "its header promises {count} images of {rows} x {columns} pixels, \
         more than the {MAX_BYTES} bytes that are read at most; it may be damaged"
    )]
    TooLarge {
        /// Number of images.
        count: u32,
        /// Height of an image.
        rows: u32,
        /// Width of an image.
        columns: u32,
    },

    /// A gzip stream is too short for what its header promises.
    #[error(
        "its header promises {promised} bytes of pixels, more than {zipped} bytes of gzip can hold; \
         delete it and fetch it again"
    )]
    TooShort {
        /// Bytes of pixels by the header.
        promised: u64,
        /// Bytes of the file.
        zipped: u64,
    },

    /// There is not enough memory.
    #[error("its {0} bytes of pixels do not fit into the memory that is free")]
    Memory(u64),

    /// The file ends early.
    #[error(
        "is cut short: its header promises {promised} bytes of pixels, it holds {found}; \
         delete it and fetch it again"
    )]
    Truncated {
        /// Bytes of pixels by the header.
        promised: u64,
        /// Bytes of pixels in the file.
        found: u64,
    },

    /// The file goes on after the last image.
    #[error("goes on after the {0} bytes of pixels that its header promises; it may be damaged")]
    Trailing(u64),
}

/// An IDX file of at least one image of `side * side` pixels, `side > 0`, open behind its header.
pub(super) struct IdxFile {
    pub(super) count: usize,
    pub(super) side: usize,
    pixels: Source,
}

impl IdxFile {
    /// Opens a file, plain or gzipped.
    ///
    /// What it promises is refused here where it is too short for it: nobody takes memory for that.
    pub(super) fn open(path: &Path) -> Result<Self, IdxError> {
        let mut pixels = Source::open(path)?;
        let [count, side] = header(&mut pixels)?;
        let promised = u64::from(count) * u64::from(side) * u64::from(side);
        let (size, zipped) = (pixels.size, pixels.is_zipped());
        let behind_header = size.saturating_sub(HEADER_BYTES);
        if zipped && promised > pixels.most() {
            let zipped = size;
            return Err(IdxError::TooShort { promised, zipped });
        }
        if !zipped && promised > behind_header {
            let found = behind_header;
            return Err(IdxError::Truncated { promised, found });
        }
        Ok(Self {
            count: count as usize,
            side: side as usize,
            pixels,
        })
    }

    /// The number of bytes of pixels.
    pub(super) fn len(&self) -> usize {
        self.count * self.side * self.side
    }

    /// Adds the pixels to `out`. Unpacks one byte more than the header promises at most, whatever the file holds.
    pub(super) fn read(mut self, out: &mut Vec<u8>) -> Result<(), IdxError> {
        let promised = self.len() as u64;
        out.try_reserve_exact(self.len())
            .map_err(|_| IdxError::Memory(promised))?;
        match self.pixels.read(promised, out)? as u64 {
            found if found < promised => Err(IdxError::Truncated { promised, found }),
            _ if self.pixels.read(1, &mut Vec::new())? > 0 => Err(IdxError::Trailing(promised)),
            _ => Ok(()),
        }
    }
}

/// The number of images and their width.
fn header(file: &mut Source) -> Result<[u32; 2], IdxError> {
    let mut header = Vec::new();
    file.read(HEADER_BYTES, &mut header)?;
    let words: Vec<u32> = header
        .as_chunks()
        .0
        .iter()
        .map(|word| u32::from_be_bytes(*word))
        .collect();
    let (count, rows, columns) = match words[..] {
        [IMAGES_MAGIC, count, rows, columns] => (count, rows, columns),
        [] | [IMAGES_MAGIC, ..] => return Err(IdxError::NoHeader),
        [LABELS_MAGIC, ..] => return Err(IdxError::Labels),
        [magic, ..] => return Err(IdxError::Magic(magic)),
    };
    if count == 0 || rows == 0 || rows != columns {
        return Err(IdxError::Shape {
            count,
            rows,
            columns,
        });
    }
    (u64::from(rows) * u64::from(columns))
        .checked_mul(count.into())
        .filter(|&bytes| bytes <= MAX_BYTES)
        .map(|_| [count, rows])
        .ok_or(IdxError::TooLarge {
            count,
            rows,
            columns,
        })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use crate::heap::peak;

    use super::*;

    /// An IDX file with the given header words and pixels.
    pub(in crate::data) fn idx(header: [u32; 4], pixels: &[u8]) -> Vec<u8> {
        let header = header.into_iter().flat_map(u32::to_be_bytes);
        header.chain(pixels.iter().copied()).collect()
    }

    pub(in crate::data) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The width of the images in the file that holds `bytes`, and their pixels.
    fn read_bytes(bytes: &[u8]) -> Result<(usize, Vec<u8>), IdxError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        fs::write(&path, bytes).unwrap();
        let file = IdxFile::open(&path)?;
        let (side, mut pixels) = (file.side, Vec::new());
        file.read(&mut pixels)?;
        Ok((side, pixels))
    }

    fn sample() -> (Vec<u8>, Vec<u8>) {
        let pixels: Vec<u8> = (0..12).collect();
        (idx([IMAGES_MAGIC, 3, 2, 2], &pixels), pixels)
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let (file, pixels) = sample();
        assert_eq!(read_bytes(&file).unwrap(), (2, pixels.clone()));
        assert_eq!(read_bytes(&gzip(&file)).unwrap(), (2, pixels));
    }

    #[test]
    fn every_proper_prefix_is_refused() {
        let (file, _) = sample();
        for whole in [file.clone(), gzip(&file)] {
            for end in 0..whole.len() {
                assert!(
                    read_bytes(&whole[..end]).is_err(),
                    "{end} of {}",
                    whole.len()
                );
            }
        }
        assert!(matches!(read_bytes(&file[..15]), Err(IdxError::NoHeader)));
        assert!(matches!(
            read_bytes(&file[..27]),
            Err(IdxError::Truncated {
                promised: 12,
                found: 11
            })
        ));
    }

    #[test]
    fn broken_gzip_is_named() {
        let (file, _) = sample();
        let mut zipped = gzip(&file);
        assert!(matches!(
            read_bytes(&zipped[..zipped.len() - 6]),
            Err(IdxError::Source(SourceError::Gzip(_)))
        ));
        let checksum = zipped.len() - 8;
        zipped[checksum] ^= 1;
        assert!(matches!(
            read_bytes(&zipped),
            Err(IdxError::Source(SourceError::Gzip(_)))
        ));
    }

    #[test]
    fn anything_after_the_images_is_refused() {
        let (mut file, _) = sample();
        let mut zipped = gzip(&file);
        zipped.extend(b"garbage");
        assert!(matches!(
            read_bytes(&zipped),
            Err(IdxError::Source(SourceError::Gzip(_)))
        ));
        file.push(0);
        assert!(matches!(read_bytes(&file), Err(IdxError::Trailing(12))));
        assert!(matches!(
            read_bytes(&gzip(&file)),
            Err(IdxError::Trailing(12))
        ));
    }

    #[test]
    fn other_kinds_of_files_are_named() {
        assert!(matches!(
            read_bytes(&[0, 0, 8, 1, 0, 0, 0, 1, 7]),
            Err(IdxError::Labels)
        ));
        let error = read_bytes(b"\x89PNG and so on").unwrap_err().to_string();
        assert!(error.contains("0x89504e47"), "{error}");
    }

    #[test]
    fn unusable_shapes_are_refused() {
        for shape in [[0, 2, 2], [1, 0, 0], [1, 2, 3]] {
            let [count, rows, columns] = shape;
            assert!(matches!(
                read_bytes(&idx([IMAGES_MAGIC, count, rows, columns], &[0; 6])),
                Err(IdxError::Shape { .. })
            ));
        }
    }

    /// Products beyond 64 bits and sets beyond the limit; and promises within it that the file is too short for.
    #[test]
    fn false_promises_take_no_memory() {
        for [count, side] in [[u32::MAX, u32::MAX], [2, 1 << 31], [(1 << 20) + 1, 32]] {
            assert!(matches!(
                read_bytes(&idx([IMAGES_MAGIC, count, side, side], &[0; 6])),
                Err(IdxError::TooLarge { .. })
            ));
        }
        let file = idx([IMAGES_MAGIC, 1 << 20, 32, 32], &[0; 6]);
        let (plain, error) = peak(|| read_bytes(&file).unwrap_err());
        assert!(matches!(
            error,
            IdxError::Truncated { promised, found: 6 } if promised == MAX_BYTES
        ));
        let (zipped, error) = peak(|| read_bytes(&gzip(&file)).unwrap_err());
        assert!(matches!(error, IdxError::TooShort { promised, .. } if promised == MAX_BYTES));
        assert!(plain.max(zipped) < 1 << 20, "{plain}, {zipped} bytes");
    }

    /// A bomb that promises four pixels and holds 64 MiB is left after five.
    #[test]
    fn a_bomb_is_left_early() {
        let bomb = gzip(&idx([IMAGES_MAGIC, 1, 2, 2], &vec![0; 64 << 20]));
        let (bytes, error) = peak(|| read_bytes(&bomb).unwrap_err());
        assert!(matches!(error, IdxError::Trailing(4)));
        assert!(bytes < 1 << 20, "{bytes} bytes");
    }

    /// What a file does hold takes its own size, once.
    #[test]
    fn pixels_are_held_once() {
        let (size, zipped) = (
            16 << 20,
            gzip(&idx([IMAGES_MAGIC, 1 << 14, 32, 32], &vec![0; 16 << 20])),
        );
        let (bytes, pixels) = peak(|| read_bytes(&zipped).unwrap().1);
        assert_eq!(pixels.len(), size);
        assert!(bytes < size + (1 << 20), "{bytes} bytes");
    }
}
