//! Larochelle's binarised MNIST: three text files, an image a line, its 784 pixels as 0 or 1 with spaces between them.

use std::path::{Path, PathBuf};

use super::source::{Source, SourceError, find};
use super::{DataError, Images, MAX_BYTES, Splits};

/// Training, validation and test images.
const FILES: [&str; 3] = [
    "binarized_mnist_train.amat",
    "binarized_mnist_valid.amat",
    "binarized_mnist_test.amat",
];

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;

/// How much text is looked at at a time.
const CHUNK: u64 = 1 << 16;

/// Why a file is no usable file of binarised images.
#[derive(Debug, thiserror::Error)]
pub enum AmatError {
    /// What it holds cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),

    /// Something else than a pixel.
    #[error("number {number} of line {line} is neither 0 nor 1")]
    Number {
        /// Where it stands, from 1.
        line: usize,
        /// Where in the line, from 1.
        number: usize,
    },

    /// A line breaks off.
    #[error(
        "line {line} has {found} numbers, and an image has {PIXELS}; where it is the last, the file is cut short: \
         delete it and fetch it again"
    )]
    Short {
        /// Where it stands, from 1.
        line: usize,
        /// How many numbers it has.
        found: usize,
    },

    /// A line goes on.
    #[error("line {line} has more than the {PIXELS} numbers of an image")]
    Long {
        /// Where it stands, from 1.
        line: usize,
    },

    /// There is nothing in it.
    #[error("holds no image; delete it and fetch it again")]
    Empty,

    /// There are more images than this program reads.
    #[error("goes on at line {line}, after the {MAX_BYTES} pixels that are read at most")]
    TooLarge {
        /// The first that is not read.
        line: usize,
    },

    /// There is not enough memory.
    #[error("from line {line} on it does not fit into the memory that is free")]
    Memory {
        /// The first that does not.
        line: usize,
    },
}

/// Whether the folder has any of the three files.
pub(super) fn is_in(folder: &Path) -> bool {
    FILES.iter().any(|file| find(folder, file).is_some())
}

/// Reads the three files of a folder.
pub(super) fn load_folder(folder: &Path) -> Result<Splits, DataError> {
    let mut paths = Vec::new();
    for file in FILES {
        paths.push(find(folder, file).ok_or_else(|| DataError::MissingPart {
            file,
            folder: folder.to_owned(),
        })?);
    }
    let (mut pixels, mut counts) = (Vec::new(), Vec::new());
    for path in paths {
        let count = read(&path, &mut pixels).map_err(|reason| bad(path, reason))?;
        counts.push(count);
    }
    pixels.shrink_to_fit();
    Ok(Splits {
        binary: true,
        ..Splits::cut(Images::new(SIDE, pixels), counts[0], counts[1])
    })
}

fn bad(path: PathBuf, reason: AmatError) -> DataError {
    DataError::Amat { path, reason }
}

/// Adds the pixels of a file to `out`, 0 or 255 each, and tells how many images they are.
fn read(path: &Path, out: &mut Vec<u8>) -> Result<usize, AmatError> {
    let mut file = Source::open(path)?;
    let (mut place, mut chunk) = (Place::default(), Vec::new());
    while file.read(CHUNK, &mut chunk)? > 0 {
        for byte in chunk.drain(..) {
            place.take(byte, out)?;
        }
    }
    if place.number > 0 {
        place.end_line()?;
    }
    match place.lines {
        0 => Err(AmatError::Empty),
        lines => Ok(lines),
    }
}

/// How far a file has been read.
#[derive(Default)]
struct Place {
    /// Lines that have ended.
    lines: usize,
    /// Numbers of the line so far.
    number: usize,
    /// Whether the byte before was a digit, so that this one is none.
    in_number: bool,
}

impl Place {
    fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), AmatError> {
        let line = self.lines + 1;
        match byte {
            b'0' | b'1' if !self.in_number => {
                match self.number {
                    0 => reserve(line, out)?,
                    PIXELS => return Err(AmatError::Long { line }),
                    _ => {}
                }
                out.push(255 * (byte - b'0'));
                self.number += 1;
                self.in_number = true;
            }
            b' ' | b'\t' | b'\r' => self.in_number = false,
            b'\n' => self.end_line()?,
            _ => {
                let number = self.number + usize::from(!self.in_number);
                return Err(AmatError::Number { line, number });
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), AmatError> {
        let (line, found) = (self.lines + 1, self.number);
        if found < PIXELS {
            return Err(AmatError::Short { line, found });
        }
        *self = Self {
            lines: line,
            ..Self::default()
        };
        Ok(())
    }
}

/// Makes room for the image of a line.
fn reserve(line: usize, out: &mut Vec<u8>) -> Result<(), AmatError> {
    if (out.len() + PIXELS) as u64 > MAX_BYTES {
        return Err(AmatError::TooLarge { line });
    }
    out.try_reserve(PIXELS)
        .map_err(|_| AmatError::Memory { line })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Binarization;
    use super::super::idx::tests::gzip;
    use super::*;
    use crate::heap::peak;
    use crate::random::FIXED_EPOCH;

    /// A line of which the pixel at `one` is one.
    fn line(one: usize) -> String {
        let pixels: Vec<&str> = (0..PIXELS)
            .map(|i| ["0", "1"][usize::from(i == one)])
            .collect();
        pixels.join(" ") + "\n"
    }

    fn read_bytes(bytes: &[u8]) -> Result<(usize, Vec<u8>), AmatError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images");
        fs::write(&path, bytes).unwrap();
        let mut pixels = Vec::new();
        let count = read(&path, &mut pixels)?;
        Ok((count, pixels))
    }

    fn white(pixels: &[u8]) -> Vec<usize> {
        assert!(pixels.iter().all(|level| [0, 255].contains(level)));
        let ones = pixels.iter().enumerate().filter(|(_, level)| **level > 0);
        ones.map(|(at, _)| at).collect()
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let file = line(3) + &line(783);
        let (count, pixels) = read_bytes(file.as_bytes()).unwrap();
        assert_eq!((count, white(&pixels)), (2, vec![3, PIXELS + 783]));
        for same in [
            gzip(file.as_bytes()),
            file.trim_end().into(),
            file.replace('\n', " \r\n").into(),
        ] {
            assert_eq!(read_bytes(&same).unwrap(), (2, pixels.clone()));
        }
    }

    /// Also where a chunk ends in the middle of a line.
    #[test]
    fn lines_and_numbers_are_counted() {
        let good = line(0).repeat(100);
        let bad = |end: &str| read_bytes((good.clone() + end).as_bytes()).unwrap_err();
        let half = line(0)[..2 * 391].to_owned();
        assert!(matches!(
            bad(&half),
            AmatError::Short {
                line: 101,
                found: 391
            }
        ));
        assert!(matches!(
            bad("\n"),
            AmatError::Short {
                line: 101,
                found: 0
            }
        ));
        let long = line(0).replace('\n', " 1\n");
        assert!(matches!(bad(&long), AmatError::Long { line: 101 }));
        for other in ["2", "10", "0.5", "-1", "x", "\0", "é"] {
            let error = bad(&format!("{half}{other} 0"));
            assert!(
                matches!(
                    error,
                    AmatError::Number {
                        line: 101,
                        number: 392
                    }
                ),
                "{other}: {error}"
            );
        }
        assert!(matches!(read_bytes(b"").unwrap_err(), AmatError::Empty));
    }

    #[test]
    fn broken_gzip_is_named() {
        let zipped = gzip((line(1) + &line(2)).as_bytes());
        for end in 2..zipped.len() {
            let error = read_bytes(&zipped[..end]).unwrap_err();
            let SourceError::Gzip(_) = (match error {
                AmatError::Source(error) => error,
                other => panic!("{end}: {other}"),
            }) else {
                panic!("{end} bytes are no gzip")
            };
        }
    }

    /// A line of 16 million numbers, and one of digits without a space between them, are left where they go wrong.
    #[test]
    fn huge_lines_take_no_memory() {
        let spaced = gzip("0 ".repeat(1 << 24).as_bytes());
        let (bytes, error) = peak(|| read_bytes(&spaced).unwrap_err());
        assert!(matches!(error, AmatError::Long { line: 1 }));
        let dense = gzip("0".repeat(1 << 24).as_bytes());
        let (more, error) = peak(|| read_bytes(&dense).unwrap_err());
        assert!(matches!(error, AmatError::Number { line: 1, number: 1 }));
        assert!(bytes.max(more) < 1 << 20, "{bytes}, {more} bytes");
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, lines) in FILES.iter().zip([5, 3, 2]) {
            let text: String = (0..lines).map(line).collect();
            fs::write(folder.path().join(file), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_files_are_the_splits_and_images_stay_as_they_are() {
        let folder = folder();
        let splits = load_folder(folder.path()).unwrap();
        let Splits {
            train, valid, test, ..
        } = &splits;
        assert_eq!((train.len(), valid.len(), test.len()), (5, 3, 2));
        assert_eq!((train.side(), test.position(1)), (28, 9));
        for images in [train, valid, test] {
            for index in 0..images.len() {
                assert_eq!(white(images.get(index)), [index]);
                let mut pixels = vec![f32::NAN; PIXELS];
                Binarization::Static.apply(&images.image(index), 0, FIXED_EPOCH, &mut pixels);
                let levels: Vec<u8> = pixels.iter().map(|&pixel| 255 * pixel as u8).collect();
                assert_eq!(levels, images.get(index));
            }
        }
        splits.check(Some(Binarization::Static)).unwrap();
        for other in [Binarization::Dynamic, Binarization::Threshold] {
            let error = splits.check(Some(other)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("--binarization {other}")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let folder = folder();
        let path = folder.path().join(FILES[1]);
        let error = || load_folder(folder.path()).err().unwrap().to_string();
        fs::write(&path, "0 1 2").unwrap();
        let text = error();
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        assert!(text.contains("number 3 of line 1"), "{text}");
        fs::remove_file(&path).unwrap();
        assert!(is_in(folder.path()));
        let text = error();
        assert!(
            text.contains("neither binarized_mnist_valid.amat nor"),
            "{text}"
        );
        for file in [FILES[0], FILES[2]] {
            fs::remove_file(folder.path().join(file)).unwrap();
        }
        assert!(!is_in(folder.path()));
    }
}
