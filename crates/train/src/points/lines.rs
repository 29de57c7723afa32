//! A file of text, line by line, with the lines counted and none longer than memory is meant to hold.

use std::io::{self, Read};
use std::path::Path;

use super::table::TableError;
use crate::data::Source;

/// The most bytes between the end of a row and the end of the next. Room for 200,000 columns of 20 digits.
pub(super) const MAX_ROW_BYTES: usize = 1 << 22;

/// What the lines that are no rows begin with.
pub(super) const COMMENT: u8 = b'#';

/// How much is read of the file at a time.
const CHUNK: u64 = 1 << 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes of a file. A call of [`read`](Read::read) ends with a line at the latest: whoever reads more only when
/// nothing is left has never seen more than the line in hand, so that its number is the one of [`line`](Self::line).
pub(super) struct Lines {
    source: Source,
    buffer: Vec<u8>,
    /// How much of the buffer is given away.
    given: usize,
    /// The last byte that is given away.
    last: u8,
    /// Ends of lines that are given away.
    ends: u64,
    /// Bytes, and ends of lines, that the row before ended with.
    row_bytes: usize,
    row_start: u64,
    /// Why the last call of `read` failed.
    failure: Option<TableError>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let mut source = Source::open(path)?;
        let mut buffer = Vec::new();
        source.read(CHUNK, &mut buffer)?;
        if buffer.contains(&0) {
            return Err(TableError::NoText);
        }
        let given = match buffer.starts_with(BYTE_ORDER_MARK) {
            true => BYTE_ORDER_MARK.len(),
            false => 0,
        };
        Ok(Self {
            source,
            buffer,
            given,
            last: b'\n',
            ends: 0,
            row_bytes: 0,
            row_start: 0,
            failure: None,
        })
    }

    /// The first line that is neither blank nor a comment, without its end. Nothing is given away for it; of more than
    /// [`MAX_ROW_BYTES`] of comments it may be one of them.
    pub(super) fn first(&mut self) -> Result<&[u8], TableError> {
        let mut start = self.given;
        loop {
            let rest = &self.buffer[start..];
            let end = rest.iter().position(|byte| b"\r\n".contains(byte));
            match end {
                Some(length) if length == 0 || rest[0] == COMMENT => start += length + 1,
                Some(length) => return Ok(&self.buffer[start..start + length]),
                None if self.buffer.len() < MAX_ROW_BYTES
                    && self.source.read(CHUNK, &mut self.buffer)? > 0 => {}
                None => return Ok(&self.buffer[start..]),
            }
        }
    }

    /// The number, from 1, of the line that the last byte given away belongs to.
    pub(super) fn line(&self) -> u64 {
        self.ends + u64::from(!b"\r\n".contains(&self.last))
    }

    /// Says that a row is complete: the next one may be as long.
    pub(super) fn end_row(&mut self) {
        self.row_bytes = 0;
        self.row_start = self.line();
    }

    /// Why the last call of `read` failed, once.
    pub(super) fn take_failure(&mut self) -> Option<TableError> {
        self.failure.take()
    }

    fn give(&mut self, out: &mut [u8]) -> Result<usize, TableError> {
        if self.given == self.buffer.len() {
            self.buffer.clear();
            self.given = 0;
            self.source.read(CHUNK, &mut self.buffer)?;
        }
        let rest = &self.buffer[self.given..];
        let end = rest.iter().position(|byte| b"\r\n".contains(byte));
        let count = end.map_or(rest.len(), |end| end + 1).min(out.len());
        let Some(&last) = rest[..count].last() else {
            return Ok(0);
        };
        out[..count].copy_from_slice(&rest[..count]);
        // "\r\n" is one end.
        self.ends += match last {
            b'\r' => 1,
            b'\n' => u64::from(count > 1 || self.last != b'\r'),
            _ => 0,
        };
        (self.given, self.last) = (self.given + count, last);
        self.row_bytes += count;
        if self.row_bytes > MAX_ROW_BYTES {
            return Err(TableError::EndlessRow {
                line: self.row_start + 1,
            });
        }
        Ok(count)
    }
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.give(out).map_err(|failure| {
            self.failure = Some(failure);
            io::Error::other("see take_failure")
        })
    }
}
