//! Reader of IDX files of square grey images, plain or gzipped.
//!
//! Layout, all numbers big-endian `u32`: 0x00000803 (unsigned bytes, 3 dimensions), the number of
//! images, rows, columns; then a byte a pixel, row by row.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
const HEADER_BYTES: usize = 16;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The largest set that is read. The largest known, EMNIST, has half of it.
const MAX_BYTES: u64 = 1 << 30;

/// The contents of an IDX file: at least one image of `side * side` pixels, `side > 0`.
#[derive(Debug, PartialEq)]
pub(super) struct IdxImages {
    pub(super) side: usize,
    pub(super) pixels: Vec<u8>,
}

impl IdxImages {
    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.pixels.len() / (self.side * self.side)
    }
}

/// Why a file is no usable image file.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// The file system refused.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),

    /// The gzip stream is broken.
    #[error("its gzip stream breaks off or is damaged ({0}); delete it and fetch it again")]
    Gzip(io::Error),

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

    /// The file ends early.
    #[error(
        "is cut short: its header promises {promised} bytes of pixels, it holds {found}; \
         delete it and fetch it again"
    )]
    Truncated {
        /// Bytes of pixels by the header.
        promised: u64,
        /// Bytes of pixels in the file.
        found: usize,
    },

    /// The file goes on after the last image.
    #[error("goes on after the {0} bytes of pixels that its header promises; it may be damaged")]
    Trailing(u64),
}

/// Reads the images of a file; whether it is gzipped is seen from its first bytes, not its name.
pub(super) fn read(path: &Path) -> Result<IdxImages, IdxError> {
    let mut file = BufReader::new(File::open(path)?);
    if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
        parse(MultiGzDecoder::new(file)).map_err(|error| match error {
            IdxError::Read(error) => IdxError::Gzip(error),
            error => error,
        })
    } else {
        parse(file)
    }
}

/// Reads as many bytes as there are, at most one more than the header promises: neither a false
/// header nor a gzip bomb can take memory that the file does not pay for.
fn parse(mut reader: impl Read) -> Result<IdxImages, IdxError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    reader
        .by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
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
    let promised = (u64::from(rows) * u64::from(columns))
        .checked_mul(count.into())
        .filter(|&bytes| bytes <= MAX_BYTES)
        .ok_or(IdxError::TooLarge {
            count,
            rows,
            columns,
        })?;

    let mut pixels = Vec::new();
    reader.take(promised + 1).read_to_end(&mut pixels)?;
    match pixels.len() {
        found if (found as u64) < promised => Err(IdxError::Truncated { promised, found }),
        found if found as u64 > promised => Err(IdxError::Trailing(promised)),
        _ => Ok(IdxImages {
            side: rows as usize,
            pixels,
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

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

    fn read_bytes(bytes: &[u8]) -> Result<IdxImages, IdxError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    fn sample() -> (Vec<u8>, Vec<u8>) {
        let pixels: Vec<u8> = (0..12).collect();
        (idx([IMAGES_MAGIC, 3, 2, 2], &pixels), pixels)
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let (file, pixels) = sample();
        let images = read_bytes(&file).unwrap();
        assert_eq!((images.side, images.len()), (2, 3));
        assert_eq!(images.pixels, pixels);
        assert_eq!(read_bytes(&gzip(&file)).unwrap(), images);
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
            Err(IdxError::Gzip(_))
        ));
        let checksum = zipped.len() - 8;
        zipped[checksum] ^= 1;
        assert!(matches!(read_bytes(&zipped), Err(IdxError::Gzip(_))));
    }

    #[test]
    fn anything_after_the_images_is_refused() {
        let (mut file, _) = sample();
        let mut zipped = gzip(&file);
        zipped.extend(b"garbage");
        assert!(matches!(read_bytes(&zipped), Err(IdxError::Gzip(_))));
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

    /// Products beyond 64 bits and sets beyond the limit; and a promise within it, which must not
    /// be believed either.
    #[test]
    fn false_promises_take_no_memory() {
        for [count, side] in [[u32::MAX, u32::MAX], [2, 1 << 31], [(1 << 20) + 1, 32]] {
            assert!(matches!(
                read_bytes(&idx([IMAGES_MAGIC, count, side, side], &[0; 6])),
                Err(IdxError::TooLarge { .. })
            ));
        }
        let images = parse(&idx([IMAGES_MAGIC, 1 << 20, 32, 32], &[0; 6])[..]);
        assert!(matches!(
            images,
            Err(IdxError::Truncated { promised, found: 6 }) if promised == MAX_BYTES
        ));
    }

    /// A bomb that promises four pixels and unpacks to 2^40 bytes is left after five.
    #[test]
    fn a_bomb_is_left_early() {
        let header = idx([IMAGES_MAGIC, 1, 2, 2], &[]);
        let bomb = header.chain(io::repeat(0).take(1 << 40));
        assert!(matches!(parse(bomb), Err(IdxError::Trailing(4))));
    }
}
