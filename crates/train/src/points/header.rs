//! The first row of a table, and the columns that are chosen by it.

use std::mem;

use csv::ByteRecord;

use super::table::{MAX_NUMBERS, Place, Table, TableError};

/// How many columns, or letters of a cell, a message names.
pub(super) const SHOWN: usize = 20;

/// What stands for a number that is missing, in small letters.
const MISSING: [&str; 9] = ["", "-", ".", "?", "na", "n/a", "nan", "none", "null"];

/// The columns to take.
pub(super) struct Chosen {
    /// Those of the points, then those of the context.
    pub(super) columns: Vec<usize>,
    /// How many of them, the first, nobody asked for by name or number.
    not_named: usize,
}

/// What the first row says of the columns.
pub(super) struct Header {
    pub(super) cells: ByteRecord,
    pub(super) has_names: bool,
    /// The columns in the order of their names.
    sorted: Vec<usize>,
}

impl Header {
    /// Of the first row and the one that follows it.
    pub(super) fn of(first: ByteRecord, second: Option<&ByteRecord>) -> Self {
        let has_names = match second {
            Some(second) => {
                let mut pairs = first.iter().zip(second);
                first.iter().all(is_word)
                    || pairs.any(|(name, cell)| is_word(name) && !is_word(cell))
            }
            None => first.iter().any(is_word),
        };
        let mut sorted: Vec<usize> = Vec::new();
        if has_names {
            sorted.extend(0..first.len());
            sorted.sort_by_key(|&column| first[column].trim_ascii());
        }
        Self {
            cells: first,
            has_names,
            sorted,
        }
    }

    fn width(&self) -> usize {
        self.cells.len()
    }

    /// The columns of this name.
    fn called(&self, name: &[u8]) -> &[usize] {
        let key = |&column: &usize| self.cells[column].trim_ascii();
        let start = self.sorted.partition_point(|column| key(column) < name);
        let count = self.sorted[start..].partition_point(|column| key(column) == name);
        &self.sorted[start..start + count]
    }

    fn name(&self, column: usize) -> Option<&[u8]> {
        let name = self.cells[column].trim_ascii();
        (self.has_names && !name.is_empty()).then_some(name)
    }

    fn place(&self, column: usize) -> Place {
        Place {
            number: column + 1,
            name: self.name(column).map(text),
        }
    }

    /// By what the column is found in another file: its name, or its number where it has none to itself.
    fn label(&self, column: usize) -> String {
        match self.name(column) {
            Some(name) if self.called(name).len() == 1 => text(name),
            _ => (column + 1).to_string(),
        }
    }

    /// The column of this name, else of this number, from 1.
    fn find(&self, wanted: &str) -> Result<Option<usize>, TableError> {
        match self.called(wanted.trim_ascii().as_bytes()) {
            [] => Ok((wanted.trim_ascii().parse().ok())
                .and_then(|number: usize| number.checked_sub(1))
                .filter(|&column| column < self.width())),
            [column] => Ok(Some(*column)),
            [first, second, ..] => Err(self.ambiguous(*first, *second)),
        }
    }

    fn ambiguous(&self, first: usize, second: usize) -> TableError {
        TableError::Ambiguous {
            name: text(self.cells[first].trim_ascii()),
            first: first + 1,
            second: second + 1,
        }
    }

    fn find_all<'a>(
        &self,
        wanted: impl Iterator<Item = &'a String>,
    ) -> Result<Vec<usize>, TableError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in wanted {
            match self.find(name)? {
                Some(column) => found.push(column),
                None => missing.push(format!("{name:?}")),
            }
        }
        match missing.len() {
            0 => Ok(found),
            _ => Err(TableError::Unknown {
                missing: listed(&missing, missing.len()),
                known: self.known(),
            }),
        }
    }

    /// The columns that are not taken.
    fn others(&self, is_taken: &[bool]) -> Result<Vec<usize>, TableError> {
        let others: Vec<usize> = (0..self.width())
            .filter(|&column| !is_taken[column])
            .collect();
        if self.has_names && others.first() == Some(&0) && self.name(0).is_none() {
            return Err(TableError::Nameless);
        }
        for name in others.iter().filter_map(|&column| self.name(column)) {
            if let [first, second, ..] = self.called(name) {
                return Err(self.ambiguous(*first, *second));
            }
        }
        Ok(others)
    }

    /// The columns to take, those of the context last, and the table that their numbers belong in.
    pub(super) fn choose(
        &self,
        columns: Option<&[String]>,
        context: &[String],
    ) -> Result<(Chosen, Table), TableError> {
        let named = columns.unwrap_or_default();
        let mut named_columns = self.find_all(named.iter().chain(context))?;
        let context = named_columns.split_off(named.len());
        let mut is_taken = vec![false; self.width()];
        for &column in context.iter().chain(&named_columns) {
            if mem::replace(&mut is_taken[column], true) {
                return Err(TableError::Repeated(self.place(column)));
            }
        }
        let (columns, not_named) = match columns {
            Some(_) => (named_columns, 0),
            None => {
                let others = self.others(&is_taken)?;
                let count = others.len();
                (others, count)
            }
        };
        if columns.is_empty() {
            return Err(TableError::NoColumn);
        }
        let labels = |columns: &[usize]| columns.iter().map(|&at| self.label(at)).collect();
        let table = Table {
            columns: labels(&columns),
            context: labels(&context),
            has_names: self.has_names,
            numbers: Vec::new(),
        };
        let chosen = Chosen {
            columns: [columns, context].concat(),
            not_named,
        };
        Ok((chosen, table))
    }

    /// Adds the chosen numbers of a row that begins in `line`.
    pub(super) fn take(
        &self,
        row: &ByteRecord,
        chosen: &Chosen,
        table: &mut Table,
        line: impl Fn() -> u64,
    ) -> Result<(), TableError> {
        let out = &mut table.numbers;
        if row.len() != self.width() {
            return Err(TableError::Length {
                line: line(),
                found: row.len(),
                expected: self.width(),
            });
        }
        if out.len() + chosen.columns.len() > MAX_NUMBERS {
            return Err(TableError::TooLarge { line: line() });
        }
        out.try_reserve(chosen.columns.len())
            .map_err(|_| TableError::Memory { line: line() })?;
        for (i, &column) in chosen.columns.iter().enumerate() {
            let number = number(&row[column]).filter(|number| number.is_finite());
            out.push(number.ok_or_else(|| match is_text(&row[column]) {
                true => TableError::NotFinite {
                    line: line(),
                    column: self.place(column),
                    cell: text(&row[column]).chars().take(SHOWN).collect(),
                    is_named: i >= chosen.not_named,
                },
                false => TableError::Encoding { line: line() },
            })?);
        }
        Ok(())
    }

    /// What there is, for a message.
    fn known(&self) -> String {
        let width = self.width();
        match self.has_names {
            true => {
                let names = (0..width.min(SHOWN)).map(|column| format!("{:?}", self.label(column)));
                listed(&names.collect::<Vec<_>>(), width)
            }
            false => format!("no header, and the columns 1 to {width}"),
        }
    }
}

/// The first of `all` names.
pub(super) fn listed(names: &[String], all: usize) -> String {
    let shown = &names[..names.len().min(SHOWN)];
    match all - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(super) fn is_text(cell: &[u8]) -> bool {
    str::from_utf8(cell).is_ok()
}

fn text(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).into_owned()
}

/// What a cell says, which may be infinite or NaN.
fn number(cell: &[u8]) -> Option<f64> {
    str::from_utf8(cell.trim_ascii()).ok()?.parse().ok()
}

/// Whether a cell can only be a name.
fn is_word(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    let mut missing = MISSING.iter().map(|sign| sign.as_bytes());
    number(cell).is_none() && !missing.any(|sign| cell.eq_ignore_ascii_case(sign))
}

pub(super) fn is_decimal_comma(cell: &str) -> bool {
    number(cell.replacen(',', ".", 1).as_bytes()).is_some() && number(cell.as_bytes()).is_none()
}
