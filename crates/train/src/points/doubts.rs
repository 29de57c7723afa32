//! What speaks against a density of some points.
//!
//! A density of numbers that stand for themselves, and not for an interval, has no bound: a flow can always gain by a
//! narrower spike on a value that comes back. All numbers are rounded, and with a few decimals many rows agree in a column,
//! all the more the more rows there are; that harms nothing while the steps are finer than what a flow can resolve, and so
//! nothing is said of it. What is said of is told apart by how the ties lie, not by how many they are:
//!
//! - *few values*: [`FEW_VALUES`] at most, each of some rows. Numbers with two decimals have more wherever they spread over
//!   half a unit or more; classes, grades and most counts have fewer.
//! - *a value that stands out*: of more than a hundredth of the rows, and several times as many as have the tenth most
//!   frequent value. Rounding makes neighbouring values about as frequent, an atom, as of incomes that are zero, does not.
//! - *copies of rows* that rounding does not explain. If it did, most pairs of rows that agree in one column of many values
//!   would differ in another such.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Column, Points, Standardization};

/// A column with no more values than this has few.
const FEW_VALUES: usize = 50;

/// Rows for each of few values, below which there are just few rows.
const ROWS_PER_VALUE: usize = 4;

/// A value that stands out has at least so many rows, and so many times the rows of the tenth most frequent one.
const LEAST_COUNT: usize = 10;
const TIMES: usize = 5;

/// One row in so many is worth a word.
const ONE_IN: usize = 100;

/// What speaks against a density of the training points, a sentence each.
pub(super) fn of(train: &Points, standardization: &Standardization) -> Vec<String> {
    let columns = standardization.columns.iter().enumerate();
    let mut doubts: Vec<String> = columns
        .filter_map(|(at, column)| of_column(train, at, column))
        .collect();
    doubts.extend(of_copies(train));
    doubts
}

/// How many rows have each of the values, the most frequent first, and each value.
fn counts(values: impl Iterator<Item = f32>) -> Vec<(usize, f32)> {
    // Negative zero is zero.
    let mut values: Vec<f32> = values.map(|value| value + 0.0).collect();
    values.sort_unstable_by(f32::total_cmp);
    let groups = values.chunk_by(|a, b| a == b);
    let mut counts: Vec<_> = groups.map(|group| (group.len(), group[0])).collect();
    counts.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    counts
}

fn of_column(train: &Points, at: usize, column: &Column) -> Option<String> {
    let (rows, name) = (train.len(), &column.name);
    let counts = counts((0..rows).map(|row| train.row(row)[at]));
    let values = counts.len();
    if values <= FEW_VALUES && ROWS_PER_VALUE * values <= rows {
        return Some(format!(
            "the column {name:?} has only {values} different values in {rows} rows: a density of them has no bound, and a flow \
             that finds spikes there says nothing of others; leave it out with --columns, make it a --context, or add noise of \
             the width of its steps"
        ));
    }
    let (most, value) = counts[0];
    let tenth = counts.get(9).map_or(0, |&(count, _)| count);
    (most >= LEAST_COUNT && most * ONE_IN > rows && most > TIMES * tenth).then(|| {
        format!(
            "in the column {name:?} {share} of the rows have the same value, {value}, and no others so many: a density of it has \
             no bound; leave these rows out, or the column with --columns, or add noise to it",
            share = percent(most, rows),
            value = shown(column.to_user(value.into()), column.std),
        )
    })
}

fn of_copies(train: &Points) -> Option<String> {
    let (rows, dim) = (train.len(), train.dim());
    let mut hashes: Vec<u64> = (0..rows).map(|row| hash(train, row)).collect();
    hashes.sort_unstable();
    let groups = || hashes.chunk_by(|a, b| a == b).map(<[u64]>::len);
    let (copies, equal_pairs) = (rows - groups().count(), groups().map(pairs).sum::<u64>());
    if copies * ONE_IN <= rows {
        return None;
    }
    let columns = (0..dim + train.context_dim()).map(|at| {
        counts((0..rows).map(|row| match at < dim {
            true => train.row(row)[at],
            false => train.context(row)[at - dim],
        }))
    });
    // The pairs of rows that agree in a column, for each that has many values.
    let ties: Vec<u64> = columns
        .filter(|counts| counts.len() > FEW_VALUES)
        .map(|counts| counts.iter().map(|&(count, _)| pairs(count)).sum())
        .collect();
    let fewest = ties.iter().min()?;
    (ties.len() > 1 && 2 * equal_pairs > *fewest).then(|| {
        format!(
            "{share} of the rows for training are copies of others, more than rounding explains: a density of them has no bound, \
             and those that are in validation and test too say little of it; keep one of each",
            share = percent(copies, rows),
        )
    })
}

/// How many pairs so many make.
fn pairs(count: usize) -> u64 {
    let count = count as u64;
    count * (count - 1) / 2
}

fn hash(train: &Points, row: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    let numbers = train.row(row).iter().chain(train.context(row));
    numbers.for_each(|number| (number + 0.0).to_bits().hash(&mut hasher));
    hasher.finish()
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// A number of a column, in as many digits as single precision keeps of its deviation from the mean.
fn shown(number: f64, std: f64) -> String {
    let decimals = 5.0 - std.log10().floor();
    match (0.0..=15.0).contains(&decimals) {
        true => {
            let unit = 10_f64.powf(decimals);
            // Adding zero makes a positive one of a negative.
            ((number * unit).round() / unit + 0.0).to_string()
        }
        false => format!("{number:.5e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::RngExt;
    use rand::rngs::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use crate::points;
    use crate::random::{Purpose, stream};

    fn doubts(rows: impl IntoIterator<Item = Vec<f64>>, context: &[&str]) -> Vec<String> {
        let lines = rows.into_iter().map(|row| {
            let cells: Vec<String> = row.iter().map(f64::to_string).collect();
            cells.join(",") + "\n"
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines.collect::<String>()).unwrap();
        let context: Vec<String> = context.iter().map(|&name| name.into()).collect();
        let name = file.path().to_str().unwrap().parse().unwrap();
        points::load(&name, None, &context).unwrap().warnings()
    }

    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        rng.sample(StandardNormal)
    }

    /// Continuous numbers, however they were rounded and however many there are, are left in peace.
    #[test]
    fn nothing_is_said_of_decimals() {
        let draws: [fn(&mut ChaCha8Rng) -> Vec<f64>; 5] = [
            |rng| vec![normal(rng)],
            |rng| vec![rng.random()],
            |rng| vec![normal(rng).exp()],
            |rng| {
                let x = normal(rng);
                vec![x, x + 0.1 * normal(rng), 2.0 * x]
            },
            |rng| vec![normal(rng), f64::from(rng.random_range(0..2_u8))],
        ];
        for (which, draw) in draws.into_iter().enumerate() {
            for (count, step) in [
                (20, 0.01),
                (300, 0.01),
                (3_000, 0.01),
                (60_000, 0.01),
                (300, 0.001),
                (60_000, 0.001),
            ] {
                let mut rng = stream(1, Purpose::Prior, 0, which as u64);
                let round = |x: f64| (x / step).round() * step;
                let rows = (0..count).map(|_| draw(&mut rng).into_iter().map(round).collect());
                let context: &[&str] = if which == 4 { &["2"] } else { &[] };
                let doubts = doubts(rows, context);
                assert!(
                    doubts.is_empty(),
                    "{which}, {count} rows in steps of {step}: {doubts:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_density_is_noticed() {
        let mut rng = stream(2, Purpose::Prior, 0, 0);
        let rng = &mut rng;
        let classes: Vec<_> = (0..1_000)
            .map(|i| vec![normal(rng), f64::from(i % 7)])
            .collect();
        let said = doubts(classes.clone(), &[]);
        assert!(
            said.len() == 1
                && said[0].starts_with("the column \"2\" has only 7 different values in 800 rows"),
            "{said:?}"
        );
        assert!(doubts(classes, &["2"]).is_empty());

        let incomes = (0..2_000).map(|i| vec![if i % 20 < 1 { 0.0 } else { normal(rng).exp() }]);
        let said = doubts(incomes.collect::<Vec<_>>(), &[]);
        assert!(
            said.len() == 1 && said[0].contains("% of the rows have the same value, 0,"),
            "{said:?}"
        );

        // Each row twice; and one of a hundred rows the same.
        let row = |rng: &mut ChaCha8Rng| vec![normal(rng), (100.0 * normal(rng)).round()];
        let rows: Vec<_> = (0..500).map(|_| row(rng)).collect();
        let said = doubts([rows.clone(), rows].concat(), &[]);
        assert!(
            said.len() == 1 && said[0].contains("are copies of others"),
            "{said:?}"
        );
        let rows = (0..3_000).map(|i| {
            if i % 50 == 0 {
                vec![0.123, 4.0]
            } else {
                row(rng)
            }
        });
        let said = doubts(rows.collect::<Vec<_>>(), &[]).join("\n");
        assert!(
            said.contains("copies") && said.contains("same value, 0.123,"),
            "{said:?}"
        );
    }
}
