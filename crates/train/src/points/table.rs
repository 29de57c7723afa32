//! Numbers from a text file of rows and columns.
//!
//! Cells are separated by semicolons, commas or tabs, the first of these that the first row has, and may be quoted. Blank
//! lines, and lines that begin with `#`, are skipped. The first row is a header if it has nothing but words, or a word where
//! the second has none. A word is neither a number nor one of the usual signs of a missing one, which are refused.

use std::fmt;
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::MIN_ROWS;
use super::header::{Header, SHOWN, is_decimal_comma, is_text, listed};
use super::lines::{COMMENT, Lines, MAX_ROW_BYTES};
use crate::data::SourceError;

/// The most numbers that are read of a file: 256 MiB in single precision, and four times that while they are read.
pub(super) const MAX_NUMBERS: usize = 1 << 26;

/// Why a file is no table of numbers.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// What it holds cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),

    /// There are bytes in it that no text has.
    #[error(
        "is no text in UTF-8, but another kind of file: save it as CSV, with UTF-8 as its encoding"
    )]
    NoText,

    /// There are letters in it that UTF-8 has not.
    #[error(
        "line {line} is no text in UTF-8, but perhaps in Latin-1: save the file with UTF-8 as its encoding, or convert it, as by \
         iconv -f latin1 -t utf-8"
    )]
    Encoding {
        /// Where they stand, from 1.
        line: u64,
    },

    /// Its first column is the number of the row, as pandas writes it, or has lost its name.
    #[error(
        "the first column has no name in the header, as an index has none that pandas wrote: leave it out of the file \
         (index=False), or name the columns to take with --columns; it is column 1"
    )]
    Nameless,

    /// There is nothing in it.
    #[error("holds no row of numbers")]
    Empty,

    /// There is nothing under its header.
    #[error("has a header, in line {line}, and no row of numbers below it")]
    HeaderAlone {
        /// Where the header stands, from 1.
        line: u64,
    },

    /// A row goes on, or a quote in it.
    #[error(
        "the row after line {before} has more than {MAX_ROW_BYTES} bytes: a quote is never closed, or it is no table",
        before = line - 1
    )]
    EndlessRow {
        /// Where it begins, from 1; comments before it count as a part.
        line: u64,
    },

    /// A row has more or fewer cells than the first.
    #[error("line {line} has {found} columns, and the first row has {expected}")]
    Length {
        /// Where it stands, from 1.
        line: u64,
        /// How many cells it has.
        found: usize,
        /// How many the first row has.
        expected: usize,
    },

    /// A cell is no number, or none that can be computed with.
    #[error(
        "line {line}, {column}: {cell:?} is not a finite number{hint}",
        hint = if is_decimal_comma(cell) {
            "; write a point for its comma"
        } else if *is_named {
            "; correct it, or leave the row out"
        } else {
            "; correct it, leave the row out, or name the columns to take with --columns"
        }
    )]
    NotFinite {
        /// Where it stands, from 1.
        line: u64,
        /// In which column.
        column: Place,
        /// What stands there.
        cell: String,
        /// Whether the column was asked for by its name or number.
        is_named: bool,
    },

    /// There are more numbers than this program reads.
    #[error(
        "goes on at line {line}, after the {MAX_NUMBERS} numbers that are read at most: name fewer columns with --columns, \
         or give a part of its rows"
    )]
    TooLarge {
        /// The first that is not read.
        line: u64,
    },

    /// There is not enough memory.
    #[error("from line {line} on it does not fit into the memory that is free")]
    Memory {
        /// The first that does not.
        line: u64,
    },

    /// Columns are asked for that it does not have.
    #[error("has no column {missing}; it has {known}")]
    Unknown {
        /// What was asked for.
        missing: String,
        /// What there is.
        known: String,
    },

    /// A column is asked for, by itself or with all, whose name others have too.
    #[error(
        "the columns {first} and {second} are both called {name:?}: rename one, or ask for columns by their numbers"
    )]
    Ambiguous {
        /// The name.
        name: String,
        /// One of them, from 1.
        first: usize,
        /// Another.
        second: usize,
    },

    /// A column is asked for twice.
    #[error("{0} is asked for more than once, among --columns and --context: name it once")]
    Repeated(Place),

    /// A cell has several lines.
    #[error(
        "line {line}: a cell in quotes goes on over the end of the line: close the quote, or leave the column out of the file"
    )]
    Quote {
        /// Where it begins, or blank lines and comments before it.
        line: u64,
    },

    /// All columns are context.
    #[error("no column is left for the points: name fewer with --context, or some with --columns")]
    NoColumn,
}

/// Where a number stands in its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which column, from 1.
    pub(super) number: usize,
    /// What the header calls it.
    pub(super) name: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}", self.number)?;
        match &self.name {
            Some(name) => write!(f, " ({name:?})"),
            None => Ok(()),
        }
    }
}

/// The chosen columns of a file.
#[derive(Debug)]
pub(super) struct Table {
    /// What the columns of the points are called: their names, or their numbers where they have none of their own.
    pub(super) columns: Vec<String>,
    /// What those of the context are called.
    pub(super) context: Vec<String>,
    /// Whether there is a header that names them.
    pub(super) has_names: bool,
    /// Row by row: a point, then its context.
    pub(super) numbers: Vec<f64>,
}

impl Table {
    /// How many numbers a row has; at least one.
    pub(super) fn width(&self) -> usize {
        self.columns.len() + self.context.len()
    }

    /// The rows.
    pub(super) fn rows(&self) -> usize {
        self.numbers.len() / self.width()
    }

    /// The numbers of a row.
    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.numbers[row * self.width()..][..self.width()]
    }

    /// What is said of the first row where it may be a header of numbers, as pandas writes of columns without names: whole ones
    /// from zero on, no two alike, of columns that have no other whole ones; or consecutive ones, as years are too, where no
    /// other row has such. In one column a first number that is whole takes as many rows as are split to be worth a word.
    pub(super) fn doubtful_header(&self) -> Option<String> {
        let width = self.width();
        let fewest = if width == 1 { MIN_ROWS } else { 2 };
        if self.has_names || self.rows() < fewest {
            return None;
        }
        let (first, rest) = self.numbers.split_at(width);
        let is_whole = |number: &f64| number.fract() == 0.0;
        // Those of a context stand last here, wherever they do in the file.
        let rises = |row: &[f64], by: fn(f64) -> bool| {
            let mut sorted = row.to_vec();
            sorted.sort_by(f64::total_cmp);
            let mut pairs = sorted.windows(2);
            row.iter().all(is_whole) && sorted[0] >= 0.0 && pairs.all(|pair| by(pair[1] - pair[0]))
        };
        let counts = |row: &[f64]| width > 1 && rises(row, |step| step == 1.0);
        let is_header = rises(first, |step| step > 0.0) && !rest.iter().any(is_whole)
            || counts(first) && !rest.chunks_exact(width).any(counts);
        let names: Vec<String> = first.iter().map(f64::to_string).collect();
        is_header.then(|| {
            format!(
                "the first row, {}, is taken as numbers, like all others: if these are the names of columns, write some that \
                 have letters",
                listed(&names[..names.len().min(SHOWN)], names.len())
            )
        })
    }

    /// Reads a file. Without `columns` the points have all that are not `context`. Either are names of the header or, where
    /// it has none such, numbers from 1; what isn't chosen may be anything.
    pub(super) fn read(
        path: &Path,
        columns: Option<&[String]>,
        context: &[String],
    ) -> Result<Self, TableError> {
        let mut rows = Rows::open(path)?;
        let (mut first, mut row) = (ByteRecord::new(), ByteRecord::new());
        if !rows.next(&mut first)? {
            return Err(TableError::Empty);
        }
        let line = rows.line();
        let mut is_row = rows.next(&mut row)?;
        let header = Header::of(first, is_row.then_some(&row));
        if header.has_names && !header.cells.iter().all(is_text) {
            return Err(TableError::Encoding { line });
        }
        let (chosen, mut table) = header.choose(columns, context)?;
        match (header.has_names, is_row) {
            (true, false) => return Err(TableError::HeaderAlone { line }),
            (true, true) => {}
            (false, _) => header.take(&header.cells, &chosen, &mut table, || line)?,
        }
        while is_row {
            header.take(&row, &chosen, &mut table, || rows.line())?;
            is_row = rows.next(&mut row)?;
        }
        Ok(table)
    }

    /// Of a table that is in memory the columns that [`read`](Self::read) would take of a file.
    pub(super) fn select(
        self,
        columns: Option<&[String]>,
        context: &[String],
    ) -> Result<Self, TableError> {
        let names = ByteRecord::from_iter(self.columns.iter().chain(&self.context));
        let (chosen, mut table) = Header::of(names, None).choose(columns, context)?;
        let rows = self.numbers.chunks_exact(self.width());
        table.numbers = rows
            .flat_map(|row| chosen.columns.iter().map(|&at| row[at]))
            .collect();
        Ok(table)
    }
}

/// The rows of a file.
struct Rows(Reader<Lines>);

impl Rows {
    fn open(path: &Path) -> Result<Self, TableError> {
        let mut lines = Lines::open(path)?;
        let separator = separator(lines.first()?);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(COMMENT))
            .delimiter(separator)
            .from_reader(lines);
        Ok(Self(reader))
    }

    /// Reads the next row, if there is one.
    fn next(&mut self, row: &mut ByteRecord) -> Result<bool, TableError> {
        self.0.get_mut().end_row();
        let before = self.0.get_ref().line();
        let is_one = self.0.read_byte_record(row).map_err(|_| {
            let failure = self.0.get_mut().take_failure();
            failure.expect("of rows of bytes, of any length, only reading fails")
        })?;
        // A quote that nobody closed would swallow the rows below.
        match row.as_slice().iter().any(|byte| b"\r\n".contains(byte)) {
            true => Err(TableError::Quote { line: before + 1 }),
            false => Ok(is_one),
        }
    }

    /// The line of the row that was read last.
    fn line(&self) -> u64 {
        self.0.get_ref().line()
    }
}

/// The first of semicolon, comma and tab that stands outside of quotes; a comma where there is one column. Where numbers
/// have decimal commas, semicolons separate them.
fn separator(line: &[u8]) -> u8 {
    const ALL: [u8; 3] = [b';', b',', b'\t'];
    // A quote opens a cell at its beginning, or goes on with one that the quote before it closed; elsewhere it means inches.
    let (mut is_quoted, mut may_open) = (false, true);
    let unquoted: Vec<u8> = (line.iter().copied())
        .filter(|&byte| {
            let turns = byte == b'"' && (is_quoted || may_open);
            may_open = turns || ALL.contains(&byte);
            is_quoted ^= turns;
            !is_quoted
        })
        .collect();
    let mut found = ALL.into_iter().filter(|one| unquoted.contains(one));
    found.next().unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::heap::peak;

    fn read_chosen(
        text: impl AsRef<[u8]>,
        columns: Option<&str>,
        context: &str,
    ) -> Result<Table, TableError> {
        let names = |list: &str| {
            list.split_terminator(',')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Table::read(file.path(), columns.map(names).as_deref(), &names(context))
    }

    fn read(text: impl AsRef<[u8]>) -> Result<Table, TableError> {
        read_chosen(text, None, "")
    }

    fn complaint(text: impl AsRef<[u8]>) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn the_same_table_in_many_dresses() {
        for text in [
            "a,b\n1,-2.5\n30,4e-1\n",
            "a,b\r\n1,-2.5\r\n30,4e-1",
            "a,b\r1,-2.5\r30,4e-1\r",
            "\u{feff}a,b\n1,-2.5\n30,4e-1\n",
            "\n# two columns; and ; more\n\na,b\n#1,2\n1,-2.5\n \r\n30,4e-1\n\n",
            "a;b\n1;-2.5\n30;4e-1\n",
            "\r\n# 5\" wide, or more\n\na;b\n1;-2.5\n30;4e-1\n",
            "a\tb\n1\t-2.5\n30\t4e-1\n",
            "\"a\",\"b\"\n\"1\",\"-2.5\"\n\"30\",.4\n",
            " a , b \n 1 ,\t-2.5\n+30., 0.4\n",
        ] {
            // A line of a space alone is a row of one cell.
            let text = text.replace("\n \r\n", "\n");
            let table = read(&text).unwrap();
            assert_eq!(table.columns, ["a", "b"], "{text:?}");
            assert_eq!(table.numbers, [1.0, -2.5, 30.0, 0.4], "{text:?}");
        }
        let table = read("1,-2.5\n30,0.4").unwrap();
        assert_eq!(table.columns, ["1", "2"]);
        assert_eq!(table.numbers, [1.0, -2.5, 30.0, 0.4]);
        let table = read("\"length, in \"\"m\"\", and more;\";width\n1;2\n").unwrap();
        assert_eq!(table.columns, ["length, in \"m\", and more;", "width"]);
        // Longer comments than are read at a time.
        let table = read(format!("#{}\na;b\n1;2\n", ",".repeat(200_000))).unwrap();
        assert_eq!(table.columns, ["a", "b"]);
    }

    #[test]
    fn separators_stand_outside_of_quotes() {
        for (line, found) in [
            ("", b','),
            ("a b", b','),
            ("a,b\tc;d", b';'),
            ("a\tb,c", b','),
            ("a\tb", b'\t'),
            (r#""a;b",c"#, b','),
            (r#"a	"b;c,d""#, b'\t'),
            (r#""a";b,c"#, b';'),
            (r#""a"";b",c"#, b','),
            (r#""a"";""b";c"#, b';'),
            (r#"a,"b;c","d;e""#, b','),
            // Inches.
            (r#"length (");width (")"#, b';'),
            (r#"a 5"";b 7""#, b';'),
            (r#"5",";""#, b','),
        ] {
            let said = char::from(separator(line.as_bytes()));
            assert_eq!(said, char::from(found), "{line}");
        }
        let table = read("length (\");width (\")\n1;2\n").unwrap();
        assert_eq!(table.columns, ["length (\")", "width (\")"]);
    }

    /// Whole numbers from zero on, no two alike, where no other is whole; or consecutive ones, where no other row has such.
    #[test]
    fn a_first_row_of_numbers_may_be_a_header() {
        let one = |rest: &str| format!("7\n{}", rest.repeat(10));
        for (text, is_said) in [
            ("0,2,5\n0.5,1.5,2.5\n", true),
            ("5,0,2\n0.5,1.5,2.5\n", true),
            ("2001,2002\n3,1\n4,8\n", true),
            ("2002,2001\n3,1\n4,8\n", true),
            (&one("0.5\n"), true),
            // Not whole, below zero, two alike.
            ("0,1.5\n0.5,1.5\n", false),
            ("-1,2\n0.5,1.5\n", false),
            ("1,1\n0.5,1.5\n", false),
            // Another whole number, and not consecutive; consecutive ones in another row, if not in all.
            ("1,2,7\n2,2,7\n", false),
            ("1,2\n3,4\n5.5,7\n", false),
            ("1,2\n5.5,7\n3,4\n", false),
            // In one column nothing is consecutive; a row alone; names.
            (&one("-1\n"), false),
            ("0,2,5\n", false),
            ("a,b\n0,1\n0.5,1.5\n", false),
        ] {
            let said = read(text).unwrap().doubtful_header();
            assert_eq!(said.is_some(), is_said, "{text:?}: {said:?}");
        }
        // Of one column as many rows as are split.
        let short = format!("7\n{}", "0.5\n".repeat(MIN_ROWS - 2));
        assert_eq!(read(short).unwrap().doubtful_header(), None);
    }

    #[test]
    fn columns_are_chosen_by_name_or_number() {
        // Words in a column of words are no header.
        let iris = "5.1,0.2,setosa\n4.9,0.3,setosa\n";
        let table = read_chosen(iris, Some("1,2"), "").unwrap();
        assert_eq!(table.numbers, [5.1, 0.2, 4.9, 0.3]);
        assert!(complaint(iris).contains("line 1, column 3: \"setosa\" is not"));

        let text = "t,x,,x,5\n1,2,3,4,6\n";
        let chosen = |columns, context| {
            let table = read_chosen(text, columns, context).unwrap();
            (
                [table.columns, table.context].concat().join(" "),
                table.numbers,
            )
        };
        // The name 5 goes before the number.
        assert_eq!(chosen(Some("5,t"), ""), ("5 t".into(), vec![6.0, 1.0]));
        assert_eq!(
            chosen(Some("4,2"), "t"),
            ("4 2 t".into(), vec![4.0, 2.0, 1.0])
        );
        assert_eq!(
            chosen(Some("3"), "5, t"),
            ("3 5 t".into(), vec![3.0, 6.0, 1.0])
        );
        assert_eq!(
            read_chosen("1,2,3", None, "2").unwrap().numbers,
            [1.0, 3.0, 2.0]
        );
        // What is not chosen may be anything.
        assert_eq!(
            read_chosen("n,x\nAda,1\n,2", Some("x"), "")
                .unwrap()
                .numbers,
            [1.0, 2.0]
        );

        for (columns, context, said) in [
            (None, "", "the columns 2 and 4 are both called \"x\""),
            (Some("x"), "", "the columns 2 and 4 are both called \"x\""),
            (
                Some("y,t,z"),
                "",
                "no column \"y\", \"z\"; it has \"t\", \"2\", \"3\", \"4\", \"5\"",
            ),
            (Some("0"), "", "no column \"0\""),
            (Some("6"), "", "no column \"6\""),
            (Some("-1"), "", "no column \"-1\""),
            (
                Some("t,2,1"),
                "",
                "column 1 (\"t\") is asked for more than once",
            ),
            (
                Some("t"),
                "1",
                "column 1 (\"t\") is asked for more than once",
            ),
            (Some(""), "t", "no column is left"),
        ] {
            let error = read_chosen(text, columns, context).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = read_chosen("1,2\n", None, "1,2").unwrap_err().to_string();
        assert!(error.contains("no column is left"), "{error}");
        let error = read_chosen("1,2\n", None, "t").unwrap_err().to_string();
        assert!(
            error.contains("\"t\"; it has no header, and the columns 1 to 2"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_column() {
        for (text, said) in [
            ("", "no row"),
            ("\n\n# nothing\n", "no row"),
            ("\n#\na,b\n#\n", "a header, in line 3, and no row"),
            ("a,1\n", "a header, in line 1, and no row"),
            (
                "a,b\n1,2\n\n#\n3,n/a\n",
                "line 5, column 2 (\"b\"): \"n/a\" is not a finite number",
            ),
            (
                "a,b\r\n1,2\r\n3,\r\n",
                "line 3, column 2 (\"b\"): \"\" is not",
            ),
            ("a,b\r1,2\r3,x\r", "line 3, column 2 (\"b\"): \"x\" is not"),
            ("a,b\r1,2\n3,x\n", "line 3, column 2 (\"b\"): \"x\" is not"),
            ("1,2\nNaN,3\n", "line 2, column 1: \"NaN\" is not"),
            ("1,na\n", "line 1, column 2: \"na\" is not"),
            ("a\n1\n-inf", "line 3, column 1 (\"a\"): \"-inf\" is not"),
            ("a\n1e999\n", "\"1e999\" is not a finite number"),
            (
                "a;b\n1,5;2\n",
                "\"1,5\" is not a finite number; write a point",
            ),
            ("a b\n1 2\n", "\"1 2\" is not a finite number; correct it"),
            ("a,b\n1,2\n1,\"\n\n\"\n", "line 3: a cell in quotes"),
            ("a,b\r1,2\r1,\"2\r3,4\r", "line 3: a cell in quotes"),
            ("\"a\nb\";c\n1;2\n", "line 1: a cell in quotes"),
            (
                "a,b\n1,2\n3\n",
                "line 3 has 1 columns, and the first row has 2",
            ),
            ("1,2\n3,4,5\n", "line 2 has 3 columns"),
            ("PK\u{3}\u{4}\0\0", "no text"),
        ] {
            let error = complaint(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
        // "Größe", and a degree sign, in Latin-1; and in a column that nobody asks for.
        assert!(complaint(b"a,Gr\xf6\xdfe\n1,2\n").contains("line 1 is no text in UTF-8"));
        assert!(complaint(b"x\n1\n7\xb0\n").contains("line 3 is no text in UTF-8"));
        assert!(read_chosen(b"a,b\n1,\xb0\n", Some("a"), "").is_ok());
        // A column that was asked for is not to be left out.
        for (columns, context, has_advice) in
            [(None, "", true), (Some("b"), "", false), (None, "b", false)]
        {
            let error = read_chosen("a,b\n1,2\n3,x\n", columns, context).unwrap_err();
            assert_eq!(
                error.to_string().contains("--columns"),
                has_advice,
                "{error}"
            );
        }
        // What pandas makes of a table, unless its index is wanted or not.
        let indexed = ",a,b\n0,1,2\n1,3,4\n";
        assert!(complaint(indexed).contains("index=False"));
        assert!(read_chosen(indexed, Some("a,b"), "").is_ok());
        assert!(read_chosen(indexed, None, "1").is_ok());
        let utf16: Vec<u8> = "a,b\n1,2\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(complaint(utf16).contains("UTF-8"));
        let long = format!("a\n{}", "x".repeat(1_000));
        assert!(complaint(long).len() < 150);
        let wide = (0..1_000)
            .map(|i| format!("c{i}"))
            .collect::<Vec<_>>()
            .join(",");
        let error = read_chosen(&wide, Some("d"), "").unwrap_err().to_string();
        assert!(error.ends_with("\"c19\" and 980 more"), "{error}");
    }

    /// A row costs a small multiple of its limit, a line without end no more.
    #[test]
    fn a_row_ends() {
        let most = 16 * MAX_ROW_BYTES;
        for (text, said) in [
            ("1".repeat(2 * MAX_ROW_BYTES), "after line 0 has more"),
            (",".repeat(2 * MAX_ROW_BYTES), "after line 0 has more"),
            (
                format!("a\n1\n\"{}", "1\n".repeat(MAX_ROW_BYTES)),
                "after line 2 has more",
            ),
        ] {
            let (held, error) = peak(|| complaint(&text));
            assert!(error.contains(said), "{error}");
            assert!(held < most, "{held} bytes");
        }
        // As many bytes in many rows are well.
        let table = read("# a\n1\n".repeat(MAX_ROW_BYTES / 4)).unwrap();
        assert_eq!(table.rows(), MAX_ROW_BYTES / 4);
    }

    #[test]
    #[cfg(unix)]
    fn a_device_is_no_file_of_points() {
        for (device, said) in [("/dev/zero", "no text"), ("/dev/null", "no row")] {
            let error = Table::read(Path::new(device), None, &[])
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_million_columns() {
        let row = |first: &str| [first, &",7".repeat(999_999)].concat();
        let text = [row("1"), row("2")].join("\n");
        let (held, table) = peak(|| read(&text).unwrap());
        assert_eq!((table.rows(), table.width()), (2, 1_000_000));
        assert!(held < 200 << 20, "{held} bytes");
    }
}
