//! Sets of points, standardised, in three parts: what a density is fitted to.

mod built_in;
mod dimension;
mod doubts;
pub mod gaussian;
mod header;
mod lines;
mod name;
mod standardization;
mod table;

use std::ops::Range;
use std::path::{self, Path};
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use rand::seq::SliceRandom;

use crate::random::{Purpose, stream};
use crate::run::disk::check_kind;
use table::Table;

pub use built_in::BuiltIn;
pub use name::PointsName;
pub use standardization::{Column, ColumnError, Standardization};
pub use table::TableError;

/// The fewest rows that are split into three parts.
const MIN_ROWS: usize = 10;

/// Points that a model is given, each perhaps with a context; a clone or a slice shares the numbers.
#[derive(Clone)]
pub struct Points {
    rows: Arc<Rows>,
    range: Range<usize>,
}

/// The rows of a whole set, standardised.
struct Rows {
    dim: usize,
    context_dim: usize,
    points: Vec<f32>,
    contexts: Vec<f32>,
}

/// A point by itself, as burn-dataset gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The numbers of the point, standardised.
    pub values: Vec<f32>,
    /// Its context, standardised; empty where there is none.
    pub context: Vec<f32>,
}

impl Points {
    /// The rows of a table in this order.
    fn of(
        standardization: &Standardization,
        table: &Table,
        order: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Self, ColumnError> {
        let range = 0..order.len();
        let (points, contexts) = standardization.apply(table, order)?;
        let rows = Rows {
            dim: standardization.columns.len(),
            context_dim: standardization.context.len(),
            points,
            contexts,
        };
        Ok(Self {
            rows: Arc::new(rows),
            range,
        })
    }

    /// The number of points.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// How many numbers a point has.
    pub fn dim(&self) -> usize {
        self.rows.dim
    }

    /// How many numbers its context has; zero where there is none.
    pub fn context_dim(&self) -> usize {
        self.rows.context_dim
    }

    /// The numbers of point `index`, standardised.
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.rows.points[self.position(index) * self.dim()..][..self.dim()]
    }

    /// The context of point `index`, standardised.
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn context(&self, index: usize) -> &[f32] {
        let width = self.context_dim();
        &self.rows.contexts[self.position(index) * width..][..width]
    }

    /// Point `index`, as burn-dataset gives it.
    fn point(&self, index: usize) -> Point {
        Point {
            values: self.row(index).to_vec(),
            context: self.context(index).to_vec(),
        }
    }

    /// Those of some places, one after the other.
    ///
    /// # Panics
    ///
    /// If one is beyond `len()`.
    pub fn some(&self, indexes: impl IntoIterator<Item = usize>) -> Vec<Point> {
        let points = indexes.into_iter().map(|index| self.point(index));
        points.collect()
    }

    /// The place of point `index` in the whole set (training, then validation, then test points): no two parts
    /// share one.
    ///
    /// # Panics
    ///
    /// If `index >= len()`.
    pub fn position(&self, index: usize) -> usize {
        assert!(index < self.len(), "point {index} of {}", self.len());
        self.range.start + index
    }

    /// The points of `range`, sharing the numbers.
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

impl Dataset<Point> for Points {
    fn get(&self, index: usize) -> Result<Point, DatasetError> {
        Ok(self.point(index))
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// The three parts of a set of points, standardised by the first.
#[derive(Clone)]
pub struct PointSplits {
    /// Points to learn from.
    pub train: Points,
    /// Points to choose settings and the best epoch by.
    pub valid: Points,
    /// Points to report on.
    pub test: Points,
    /// Which columns they have, and the way back to the user's units.
    pub standardization: Standardization,
    /// Whether the columns have names: those of a file without a header have none.
    pub has_names: bool,
    /// What is said of a first row that looks like a header of numbers.
    first_row: Option<String>,
}

impl PointSplits {
    /// Standardises the rows of a table, in this order, of which the first `train` are learnt from and the next `valid`
    /// validate.
    fn cut(
        table: &Table,
        order: &[usize],
        train: usize,
        valid: usize,
    ) -> Result<Self, ColumnError> {
        let standardization = Standardization::fit(table, order, train)?;
        let points = Points::of(&standardization, table, order.iter().copied())?;
        Ok(Self {
            train: points.slice(0..train),
            valid: points.slice(train..train + valid),
            test: points.slice(train + valid..points.len()),
            standardization,
            has_names: table.has_names,
            first_row: table.doubtful_header(),
        })
    }

    /// Tells sets, or choices of their columns, apart: a checksum of all that a model sees, of the columns' names and of
    /// their units. These in single precision, since the last bit of a built-in set's is the system's sine's.
    pub fn fingerprint(&self) -> u32 {
        let mut crc32 = crc32fast::Hasher::new();
        let mut bytes = Vec::new();
        let columns = &self.standardization.columns;
        bytes.extend((columns.len() as u64).to_le_bytes());
        for column in columns.iter().chain(&self.standardization.context) {
            bytes.extend(column.name.as_bytes());
            bytes.extend((column.mean as f32).to_le_bytes());
            bytes.extend((column.std as f32).to_le_bytes());
        }
        for part in [&self.train, &self.valid, &self.test] {
            bytes.extend((part.len() as u64).to_le_bytes());
            for i in 0..part.len() {
                let numbers = part.row(i).iter().chain(part.context(i));
                bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
                crc32.update(&bytes);
                bytes.clear();
            }
        }
        crc32.finalize()
    }

    /// In words, what is far from all points for training in that of `index`, one of `points`, if anything is.
    pub fn far(&self, points: &Points, index: usize) -> Option<String> {
        doubts::of_one(self, points, index)
    }

    /// What speaks against a density of these points, a sentence each; see [`doubts`].
    pub fn warnings(&self) -> Vec<String> {
        let header = self.first_row.clone();
        header.into_iter().chain(doubts::of(self)).collect()
    }
}

/// The rows of a file, as a model sees them and as they stand there.
pub struct FileRows {
    /// All, standardised.
    pub points: Points,
    table: Table,
}

impl FileRows {
    /// The numbers of row `index` as the file has them, those of the points, then those of the context.
    ///
    /// # Panics
    ///
    /// If there are not so many rows.
    pub fn row(&self, index: usize) -> &[f64] {
        self.table.row(index)
    }

    /// What speaks against reading all rows as numbers, in words, if anything does.
    pub fn warning(&self) -> Option<String> {
        self.table.doubtful_header()
    }
}

/// Reads or draws points, splits them, and standardises them by the training part.
///
/// `columns` are those of the points, all if there are none, less those of the `context`; each by the name that the header
/// gives it, or else by its number from 1. Both columns of the built-in sets are the points', unless one is the context.
///
/// The rows of a file are shuffled by a key of their own, not by a run's seed: every run has the same test points of it. Of
/// ten rows eight are for training, one for validation and one for test.
///
/// # Errors
///
/// See [`PointsError`].
pub fn load(
    name: &PointsName,
    columns: Option<&[String]>,
    context: &[String],
) -> Result<PointSplits, PointsError> {
    let of = || name.clone();
    let (table, order, [train, valid]) = match name {
        PointsName::BuiltIn(set) => {
            let table = set.table().select(columns, context);
            let table = table.map_err(|reason| PointsError::Table { of: of(), reason })?;
            let order = (0..table.rows()).collect();
            let [train, valid, _] = built_in::PARTS;
            (table, order, [train, valid])
        }
        PointsName::File(path) if !path.exists() => {
            return Err(PointsError::Unknown { of: of() });
        }
        PointsName::File(path) if check_kind(path).is_err() || is_passing(path) => {
            return Err(PointsError::ReadOnce { of: of() });
        }
        PointsName::File(path) => {
            let table = read(path, columns, context)?;
            let rows = table.rows();
            if rows < MIN_ROWS {
                return Err(PointsError::TooFew { of: of(), rows });
            }
            let mut order: Vec<usize> = (0..rows).collect();
            order.shuffle(&mut stream(0, Purpose::Split, 0, 0));
            (table, order, [rows - 2 * (rows / 10), rows / 10])
        }
    };
    PointSplits::cut(&table, &order, train, valid)
        .map_err(|reason| PointsError::Column { of: of(), reason })
}

/// Whether it is a name for what a process has open, such as `/dev/stdin`, whatever is behind it for now. What lies in memory
/// is a file as any.
fn is_passing(path: &Path) -> bool {
    let path = path::absolute(path).unwrap_or_else(|_| path.into());
    path.starts_with("/proc") || path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

/// All rows of a file, in their order, for a model of points so standardised. The file must have the columns of these
/// names, wherever they stand, or of these numbers where the file that was learnt from named none; it may have more.
///
/// # Errors
///
/// See [`PointsError`]. One row is enough, and all may be the same.
pub fn read_for(path: &Path, standardization: &Standardization) -> Result<FileRows, PointsError> {
    let names = |columns: &[Column]| {
        let names = columns.iter().map(|column| column.name.clone());
        names.collect::<Vec<_>>()
    };
    let columns = names(&standardization.columns);
    let table = read(path, Some(&columns), &names(&standardization.context))?;
    let points = Points::of(standardization, &table, 0..table.rows());
    let points = points.map_err(|reason| PointsError::Column {
        of: PointsName::File(path.into()),
        reason,
    })?;
    Ok(FileRows { points, table })
}

fn read(path: &Path, columns: Option<&[String]>, context: &[String]) -> Result<Table, PointsError> {
    Table::read(path, columns, context).map_err(|reason| PointsError::Table {
        of: PointsName::File(path.into()),
        reason,
    })
}

/// Why points cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PointsError {
    /// The name is none of the known ones, nor a file's.
    #[error(
        "there are no points and no file {of:?}: give {known}, or the path of a CSV file",
        of = of.to_string(),
        known = BuiltIn::ALL.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// What was asked for.
        of: PointsName,
    },

    /// What it holds is gone when it was read.
    #[error(
        "{of}: is a pipe, a device or what a process has open, which a run could not read again when it goes on or is \
         evaluated: write the points to a file, and give its own name"
    )]
    ReadOnce {
        /// Which points.
        of: PointsName,
    },

    /// The file is no table of numbers, or has not the columns that are asked for.
    #[error("{of}: {reason}")]
    Table {
        /// Which points.
        of: PointsName,
        /// What is wrong with them.
        reason: TableError,
    },

    /// A column cannot be standardised.
    #[error("{of}: {reason}")]
    Column {
        /// Which points.
        of: PointsName,
        /// What is wrong with them.
        reason: ColumnError,
    },

    /// There are too few rows for three parts.
    #[error(
        "{of}: holds {rows} rows of numbers, and {MIN_ROWS} are needed at least, to train with most, and to validate and \
         test with a tenth each"
    )]
    TooFew {
        /// Which points.
        of: PointsName,
        /// How many there are.
        rows: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use proptest::{collection::vec, prelude::*};
    use rand::RngExt;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::heap::peak;
    use crate::hostile::{attack, gzip, paid};

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.into()).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn load_text(text: &str, context: &[&str]) -> Result<PointSplits, PointsError> {
        let file = file(text);
        load(&PointsName::File(file.path().into()), None, &names(context))
    }

    fn complaint(text: &str, context: &[&str]) -> String {
        load_text(text, context).err().unwrap().to_string()
    }

    /// Thirty rows of i, i² and i mod 7.
    fn table() -> String {
        let rows = (0..30).map(|i| format!("{i},{},{}\n", i * i, i % 7));
        "i,square,rest\n".to_owned() + &rows.collect::<String>()
    }

    #[test]
    fn a_misspelt_name_gets_the_known_ones() {
        let error = load(&"two-mons".parse().unwrap(), None, &[])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("\"two-mons\"") && error.contains("two-moons"),
            "{error}"
        );
    }

    #[test]
    fn built_in_sets_have_their_sizes_and_may_have_a_context() {
        let name = "rings".parse().unwrap();
        let splits = load(&name, None, &[]).unwrap();
        let PointSplits {
            train, valid, test, ..
        } = &splits;
        assert_eq!(
            [train.len(), valid.len(), test.len()],
            [10_000, 2_000, 5_000]
        );
        assert_eq!((valid.position(0), test.position(4_999)), (10_000, 16_999));
        assert_eq!(
            (train.dim(), train.context_dim(), train.context(3).len()),
            (2, 0, 0)
        );
        let given = load(&name, None, &names(&["x"])).unwrap();
        assert_eq!(
            (given.test.row(7)[0], given.test.context(7)[0]),
            (test.row(7)[1], test.row(7)[0])
        );
        assert!(load(&name, None, &names(&["z"])).is_err());
    }

    #[test]
    fn every_row_is_in_one_part_and_standardised_by_the_first() {
        let splits = load_text(&table(), &["rest"]).unwrap();
        let parts = [&splits.train, &splits.valid, &splits.test];
        assert_eq!(parts.map(Points::len), [24, 3, 3]);
        for column in 0..3 {
            let number = |i| match column {
                2 => splits.train.context(i)[0],
                _ => splits.train.row(i)[column],
            };
            let mean =
                |of: fn(f64) -> f64| (0..24).map(|i| of(number(i).into())).sum::<f64>() / 24.0;
            // Of numbers around one in single precision.
            assert!(mean(|x| x).abs() < 1e-6 && (mean(|x| x * x) - 1.0).abs() < 1e-6);
        }

        let mut seen = Vec::new();
        for part in parts {
            for i in 0..part.len() {
                let point = splits.standardization.to_user(part.row(i));
                let [column] = &splits.standardization.context[..] else {
                    panic!("one column");
                };
                let number = point[0].round();
                let back = [number, number * number, number % 7.0];
                let context = column.to_user(part.context(i)[0].into());
                for (x, y) in [point[0], point[1], context].iter().zip(back) {
                    assert!((x - y).abs() < 1e-4, "{x} {y}");
                }
                let context = [splits.standardization.context[0].to_model(back[2]) as f32];
                assert_eq!(context, part.context(i));
                seen.push(number as usize);
            }
        }
        assert!(!seen.is_sorted());
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..30));
    }

    /// A density in units a thousand times smaller is a thousandth in each direction.
    #[test]
    fn the_determinant_is_of_the_units() {
        let scaled = table()
            .replace(",", "e3,")
            .replacen("ie3,squaree3,", "i,square,", 1);
        let [here, there] = [table(), scaled].map(|text| load_text(&text, &["rest"]).unwrap());
        let factor = there.standardization.log_det() - here.standardization.log_det();
        assert!((factor - 2.0 * 1000_f64.ln()).abs() < 1e-12, "{factor}");
        let stds = here.standardization.columns.iter().map(|column| column.std);
        assert!((here.standardization.log_det() - stds.product::<f64>().ln()).abs() < 1e-12);
        assert_eq!(here.train.row(5), there.train.row(5));
    }

    #[test]
    fn ten_rows_are_enough() {
        let rows = |count: usize| {
            (0..count)
                .map(|i| format!("{}\n", i * i))
                .collect::<String>()
        };
        let splits = load_text(&rows(10), &[]).unwrap();
        assert_eq!(
            [splits.train.len(), splits.valid.len(), splits.test.len()],
            [8, 1, 1]
        );
        let error = complaint(&rows(9), &[]);
        assert!(
            error.contains("holds 9 rows") && error.contains("10 are needed"),
            "{error}"
        );
    }

    #[test]
    fn columns_without_a_scale_are_refused() {
        let text = |cell: &dyn Fn(usize) -> String| {
            (0..30)
                .map(|i| format!("{i},{}\n", cell(i)))
                .collect::<String>()
        };
        // 0.1 thirty times has a variance by rounding.
        let error = complaint(&text(&|_| "0.1".into()), &[]);
        assert!(
            error.contains("column \"2\" has the same number in every row: a density"),
            "{error}"
        );
        let error = complaint(&text(&|_| "0.1".into()), &["2"]);
        assert!(error.contains("as a context it tells nothing"), "{error}");

        // The row that tells them apart is in the test part.
        let tested = {
            let splits = load_text(&text(&|i| i.to_string()), &[]).unwrap();
            let number = splits.standardization.to_user(splits.test.row(0))[0].round();
            number as usize
        };
        let error = complaint(&text(&|i| u8::from(i == tested).to_string()), &[]);
        assert!(
            error.contains("in every row for training, though"),
            "{error}"
        );
        let error = complaint(
            &text(&|i| {
                if i == tested {
                    "1e308".into()
                } else {
                    i.to_string()
                }
            }),
            &[],
        );
        let row = format!(
            "row {} of the numbers: in the column \"2\", 1e308 lies too far",
            tested + 1
        );
        assert!(error.contains(&row), "{error}");

        // Large and small numbers are none the worse for it.
        let plain = load_text(&text(&|i| i.to_string()), &[]).unwrap();
        for exponent in ["e306", "e-306"] {
            let splits = load_text(&text(&|i| format!("{i}{exponent}")), &[]).unwrap();
            let difference = splits.train.row(3)[1] - plain.train.row(3)[1];
            assert!(difference.abs() < 1e-6, "{exponent}: {difference}");
        }
        let error = complaint(
            &text(&|i| if i % 2 == 0 { "1.7e308" } else { "-1.7e308" }.into()),
            &[],
        );
        assert!(error.contains("too far"), "{error}");
    }

    #[test]
    fn another_file_is_read_by_the_names_of_the_first() {
        let splits = load_text(&table(), &["rest"]).unwrap();
        let read = |text: &str| read_for(file(text).path(), &splits.standardization);
        let rows = read("more,rest,square,i\nx,3,100,10\n").unwrap();
        assert_eq!(rows.row(0), [10.0, 100.0, 3.0]);
        let points = rows.points;
        assert_eq!(
            (points.len(), points.dim(), points.context_dim()),
            (1, 2, 1)
        );
        let point = splits.standardization.to_user(points.row(0));
        assert!((point[0] - 10.0).abs() < 1e-5 && (point[1] - 100.0).abs() < 1e-4);
        assert_eq!(
            points.context(0),
            [splits.standardization.context[0].to_model(3.0) as f32]
        );
        let constant = read("i,square,rest\n1,1,1\n1,1,1\n").unwrap().points;
        assert_eq!(constant.row(0), constant.row(1));

        for (text, said) in [
            (
                "i,rest\n1,2\n",
                "no column \"square\"; it has \"i\", \"rest\"",
            ),
            ("i,square\n1,2\n", "no column \"rest\"; it has"),
            (
                "1,2,3\n",
                "no column \"i\", \"square\", \"rest\"; it has no header, and the columns 1 to 3",
            ),
            ("i,square,rest\n", "no row"),
            (
                "i,square,rest\n1,1e308,1\n",
                "row 1 of the numbers: in the column \"square\"",
            ),
        ] {
            let error = read(text).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
        // Where the first had no header, by number.
        let nameless = table().replacen("i,square,rest\n", "", 1);
        let nameless = load_text(&nameless, &["3"]).unwrap().standardization;
        let rows = read_for(file("10,100,3").path(), &nameless).unwrap();
        assert_eq!(rows.points.row(0).len(), 2);
        assert_eq!(rows.warning(), None);
        let rows = read_for(file("0,1,2\n10,100,3\n").path(), &nameless).unwrap();
        let warning = rows.warning().unwrap();
        assert!(
            warning.contains("the first row, 0, 1, 2, is taken"),
            "{warning}"
        );
        assert!(read_for(file("10,100").path(), &nameless).is_err());
    }

    #[test]
    fn a_fingerprint_is_of_all_that_is_seen() {
        let name = PointsName::BuiltIn(BuiltIn::Checkerboard);
        let of = |name: &PointsName, columns: &[&str], context: &[&str]| {
            let splits = load(name, Some(&names(columns)), &names(context));
            splits.unwrap().fingerprint()
        };
        let prints = [
            of(&name, &["x", "y"], &[]),
            of(&name, &["y", "x"], &[]),
            of(&name, &["x"], &["y"]),
            of(&name, &["x"], &[]),
            of(&"rings".parse().unwrap(), &["x", "y"], &[]),
        ];
        for (i, print) in prints.iter().enumerate() {
            assert!(!prints[..i].contains(print), "{i}");
        }
        assert_eq!(prints[0], of(&name, &["x", "y"], &[]));
        // What is drawn and how it is standardised: another number would be other points under an old name.
        assert_eq!(prints[0], 0xc98f54b1);

        let print = |text: &str| load_text(text, &[]).unwrap().fingerprint();
        let shifted = table().replace("29,841,1", "29,841,1.001");
        assert_ne!(print(&table()), print(&shifted));
        assert_ne!(
            print(&table()),
            print(&table().replace("square", "squares"))
        );
        // The key of the split is no run's.
        assert_eq!(print(&table()), 0x21ff405c);
    }

    #[test]
    fn points_are_a_dataset_of_burn() {
        let valid = load_text(&table(), &["rest"]).unwrap().valid;
        let dataset: &dyn Dataset<Point> = &valid;
        assert_eq!(dataset.len(), 3);
        let point = dataset.get(2).unwrap();
        assert_eq!(
            (&point.values[..], &point.context[..]),
            (valid.row(2), valid.context(2))
        );
        assert_eq!(valid.slice(1..3).slice(1..2).row(0), valid.row(2));
    }

    #[test]
    #[should_panic(expected = "point 3 of 3")]
    fn a_part_ends() {
        load_text(&table(), &[]).unwrap().valid.row(3);
    }

    /// To measure: `cargo test --workspace --bin train a_million_rows -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures how long a million rows of six columns take, and how much memory"]
    fn a_million_rows() {
        let mut rng = stream(0, Purpose::Prior, 0, 0);
        let mut text = String::new();
        for _ in 0..1_000_000 {
            let row: [f64; 6] = std::array::from_fn(|_| rng.sample(StandardNormal));
            text.extend(row.map(|number| format!("{number},")));
            text.pop();
            text.push('\n');
        }
        let file = file(&text);
        let mut start = Instant::now();
        let mut lap = |what| {
            println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
            start = Instant::now();
        };
        let (held, splits) = peak(|| load(&PointsName::File(file.path().into()), None, &[]));
        lap(format!(
            "{} bytes of text, {held} at most in memory",
            text.len()
        ));
        let splits = splits.unwrap();
        lap(format!("warnings: {:?}", splits.warnings()));
        lap(format!("fingerprint: {:08x}", splits.fingerprint()));
        lap(format!(
            "Gaussian: {:?}",
            gaussian::Gaussian::fit(&splits).is_ok()
        ));
    }

    /// A number is two bytes of text, and eight in memory, twice for a moment while they grow, and four more standardised;
    /// a column that is named is forty.
    const TIMES: usize = 64;

    const WORDS: &[&str] = &[
        "\n", "\r", ",", ";", "\t", "\"", "#", " ", "-", "NaN", "inf", "1e308", "1e999", "-1e308",
        "e", "\u{feff}", "\0", "i", "rest", "\u{e9}",
    ];

    #[test]
    fn broken_files() {
        let file = file(&table());
        let name = PointsName::File(file.path().into());
        let good = load(&name, None, &names(&["rest"])).unwrap();
        attack(file.path(), usize::MAX, WORDS, || {
            for context in [&[][..], &["rest"]] {
                if let Ok(splits) = load(&name, None, &names(context)) {
                    splits.warnings();
                    splits.fingerprint();
                    if let Ok(gaussian) = gaussian::Gaussian::fit(&splits) {
                        gaussian.log_prob(splits.test.row(0), splits.test.context(0));
                    }
                }
            }
            let _ = read_for(file.path(), &good.standardization);
            TIMES * paid(file.path())
        });
    }

    #[test]
    fn broken_gzipped_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), gzip(table().as_bytes())).unwrap();
        let name = PointsName::File(file.path().into());
        attack(file.path(), 48, &["\u{1f}", "\0\0\0"], || {
            let _ = load(&name, None, &[]);
            TIMES * paid(file.path())
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes(bytes in vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"01.,;\t\n\r\"#-e"[..])], 0..2_000)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &bytes).unwrap();
            let (held, _) = peak(|| load(&PointsName::File(file.path().into()), None, &[]).is_ok());
            prop_assert!(held < TIMES * bytes.len() + (256 << 10), "{held} bytes for {}", bytes.len());
        }
    }
}
