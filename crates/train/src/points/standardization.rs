//! Columns of mean zero and variance one, and the way back to the user's units.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::Table;

/// Why a column cannot be standardised.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    /// One of the points' says the same of all.
    #[error(
        "the column {0:?} has the same number in every row{1}: a density along it has no bound; leave it out, by naming the \
         others with --columns"
    )]
    Constant(String, Where),

    /// One of the context's says the same of all.
    #[error(
        "the column {0:?} has the same number in every row{1}: as a context it tells nothing; leave it out of --context"
    )]
    ConstantContext(String, Where),

    /// Its numbers are too far apart for their kind.
    #[error(
        "row {row} of the numbers: in the column {column:?}, {number:e} lies too far from the mean of the rows for training, \
         {mean:e}, with their standard deviation of {std:e}: correct it, or leave the row out"
    )]
    Far {
        /// Which row, from 1.
        row: usize,
        /// What its column is called.
        column: String,
        /// What stands there.
        number: f64,
        /// The column's mean.
        mean: f64,
        /// The column's standard deviation.
        std: f64,
    },
}

/// In which rows a column is constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the whole file.
    All,
    /// In the rows for training, and not in all.
    Training,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Training => {
                f.write_str(" for training, though not in those for validation and test")
            }
        }
    }
}

/// A column, and how its numbers are standardised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// By what it is found in a file: its name, or its number from 1 where the header has no name for it alone.
    pub name: String,
    /// Mean of the training rows, in the user's units.
    pub mean: f64,
    /// Standard deviation of the training rows, in the user's units; the root of the mean squared deviation.
    pub std: f64,
}

impl Column {
    /// The number that the model sees.
    pub fn to_model(&self, number: f64) -> f64 {
        (number - self.mean) / self.std
    }

    /// The user's number, of the model's.
    pub fn to_user(&self, number: f64) -> f64 {
        number * self.std + self.mean
    }
}

/// Between a user's numbers and a model's: each column less its mean, over its standard deviation, both of the training
/// rows alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardization {
    /// The columns of the points.
    pub columns: Vec<Column>,
    /// Those of their context.
    pub context: Vec<Column>,
}

impl Standardization {
    /// That of the `train` first rows of `order`.
    pub(super) fn fit(table: &Table, order: &[usize], train: usize) -> Result<Self, ColumnError> {
        let width = table.width();
        let names = table.columns.iter().chain(&table.context);
        let mut columns = Vec::with_capacity(width);
        for (column, name) in names.enumerate() {
            let numbers = |rows| numbers_of(table, rows, column);
            if is_constant(numbers(&order[..train])) {
                let place = match is_constant(numbers(order)) {
                    true => Where::All,
                    false => Where::Training,
                };
                let name = name.clone();
                return Err(match column < table.columns.len() {
                    true => ColumnError::Constant(name, place),
                    false => ColumnError::ConstantContext(name, place),
                });
            }
            let (mean, std) = moments(|| numbers(&order[..train]), train as f64);
            columns.push(Column {
                name: name.clone(),
                mean,
                std,
            });
        }
        let context = columns.split_off(table.columns.len());
        Ok(Self { columns, context })
    }

    /// What the model sees of a table's rows, in this order: the points, and their contexts.
    pub(super) fn apply(
        &self,
        table: &Table,
        order: impl ExactSizeIterator<Item = usize>,
    ) -> Result<(Vec<f32>, Vec<f32>), ColumnError> {
        let mut points = Vec::with_capacity(order.len() * self.columns.len());
        let mut contexts = Vec::with_capacity(order.len() * self.context.len());
        for row in order {
            let (point, context) = table.row(row).split_at(self.columns.len());
            for (numbers, columns, out) in [
                (point, &self.columns, &mut points),
                (context, &self.context, &mut contexts),
            ] {
                for (&number, column) in numbers.iter().zip(columns) {
                    let standardized = column.to_model(number) as f32;
                    if !standardized.is_finite() {
                        return Err(ColumnError::Far {
                            row: row + 1,
                            column: column.name.clone(),
                            number,
                            mean: column.mean,
                            std: column.std,
                        });
                    }
                    out.push(standardized);
                }
            }
        }
        Ok((points, contexts))
    }

    /// A point of the model's in the user's units.
    ///
    /// # Panics
    ///
    /// If it has not as many numbers as there are columns.
    pub fn to_user(&self, point: &[f32]) -> Vec<f64> {
        assert_eq!(point.len(), self.columns.len());
        let numbers = point.iter().zip(&self.columns);
        numbers
            .map(|(&number, column)| column.to_user(number.into()))
            .collect()
    }

    /// ln |det| of the map from the model's points to the user's, Σ ln std, in nats:
    /// ln p(user's point) = ln p(model's point) − `log_det`.
    pub fn log_det(&self) -> f64 {
        self.columns.iter().map(|column| column.std.ln()).sum()
    }
}

fn numbers_of(table: &Table, order: &[usize], column: usize) -> impl Iterator<Item = f64> {
    order.iter().map(move |&row| table.row(row)[column])
}

fn is_constant(mut numbers: impl Iterator<Item = f64>) -> bool {
    let first = numbers.next();
    numbers.all(|number| Some(number) == first)
}

/// Mean and standard deviation of `count` numbers, without an overflow where they fit into their type: the mean is summed
/// of fractions, and corrected by the mean deviation; deviations are squared as parts of the largest.
fn moments<I: Iterator<Item = f64>>(numbers: impl Fn() -> I, count: f64) -> (f64, f64) {
    let mean: f64 = numbers().map(|x| x / count).sum();
    let mean = mean + numbers().map(|x| (x - mean) / count).sum::<f64>();
    let most = numbers().map(|x| (x - mean).abs()).fold(0.0, f64::max);
    let square: f64 = numbers().map(|x| ((x - mean) / most).powi(2)).sum();
    (mean, most * (square / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of equal numbers, a sum of fractions alone is off by some hundred of the last digit.
    #[test]
    fn the_mean_of_many_numbers_is_theirs_to_the_last_digit() {
        let (number, count) = (1e6 + 0.1, 99_991);
        let (mean, _) = moments(|| std::iter::repeat_n(number, count), count as f64);
        let apart = (mean - number).abs();
        assert!(apart <= 2.0 * f64::EPSILON * number, "{apart:e}");
    }

    #[test]
    fn the_largest_numbers_have_moments() {
        let numbers = [-1.5e308, 1.5e308, -1.5e308, 1.5e308];
        let (mean, std) = moments(|| numbers.into_iter(), 4.0);
        assert_eq!((mean, std), (0.0, 1.5e308));
        // Mean -1; (3 · 1² + 3²) / 4 = 3.
        let (mean, std) = moments(|| [0.0, 0.0, 0.0, -4.0].into_iter(), 4.0);
        assert!((mean + 1.0).abs() < 1e-15 && (std - 3.0_f64.sqrt()).abs() < 1e-15);
    }
}
