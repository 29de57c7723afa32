//! What speaks against a density of some points.
//!
//! A density of numbers that stand for themselves, and not for an interval, has no bound: a flow can always gain by a
//! narrower spike on a value that comes back. All numbers are rounded, and with a few decimals many rows agree in a column,
//! all the more the more rows there are; that harms nothing while the steps are finer than what a flow can resolve, and so
//! nothing is said of it. What is said of is told apart by how the ties lie, not by how many they are:
//!
//! - *few values*: [`FEW_VALUES`] at most, each of some rows, or so many that most rows have. These are counted as
//!   the equally frequent ones of which two rows agree as often: exponential numbers of whole steps, of a mean of 15, have 100
//!   values, and are worth 30. Numbers with two decimals have more wherever they spread over half a unit or more; classes, grades
//!   and most counts have fewer.
//! - *a value that stands out*: of more than a hundredth of the rows, and several times as many as have the tenth most
//!   frequent value. Rounding makes neighbouring values about as frequent, an atom, as of incomes that are zero, does not.
//! - *copies of rows* that rounding does not explain. If it did, most pairs of rows that agree in one column of many values
//!   would differ in another such.
//!
//! Without ties a density has no bound where the points lie on a curve or a surface. That is looked for in few columns
//! alone, where the dimension can be told from the number of columns, and with nothing that ties explain.
//!
//! And a few numbers far from all others make a flow of a Gaussian's tails diverge, if they are learned from, and a mean
//! log-likelihood theirs, if they are not; in a context they hide all others from the networks.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::dimension::{self, Dimension};
use super::gaussian::{Gaussian, GaussianError};
use super::{Column, PointSplits, Points};

/// A column with no more values than this has few.
const FEW_VALUES: usize = 50;

/// Rows for each of few values, below which there are just few rows.
const ROWS_PER_VALUE: usize = 4;

/// A value that stands out has at least so many rows, and so many times the rows of the tenth most frequent one.
const LEAST_COUNT: usize = 10;
const TIMES: usize = 5;

/// One row in so many is worth a word.
const ONE_IN: usize = 100;

/// The most columns, those of the context too, that a dimension is told of: of heavy tails in more, the estimate falls short
/// by as much as a surface would make it.
const MOST_COLUMNS: usize = 5;

/// The part of the columns that points on a curve or a surface fill less than, by four standard errors. A surface in four
/// fills 0.75; log-normal numbers in five seem to fill less than all ([`dimension`] is low where a density is uneven), but more
/// than this.
const FILLED: f64 = 0.85;

/// The width of the middle half of a column's numbers, in standard deviations, below which these are a few far ones'; a Gaussian's
/// have 1.35, those of exp(N(0, 1)) 0.68, Cauchy's some hundredths.
const NARROW: f64 = 0.1;

/// How many of these the farthest number is from the mean then, or nothing is far: half of the numbers may be as narrow beside
/// the other half. Of fewer than a hundred numbers none can be, and of several far ones each hides the others; so nine tenths that
/// are as narrow are enough, beside which the rest is thirty times as far on the average.
const TAIL: f64 = 10.0;

/// A number that nothing was learned from is far off if it is as many standard deviations from the mean, and so many times as
/// far as the farthest that was.
const FAR: f64 = 20.0;
const FARTHER: f64 = 5.0;

/// What speaks against a density of the points, a sentence each.
pub(super) fn of(splits: &PointSplits) -> Vec<String> {
    let train = &splits.train;
    let columns = || splits.standardization.columns.iter().enumerate();
    let mut doubts: Vec<String> = columns()
        .filter_map(|(at, column)| of_column(train, at, column))
        .collect();
    doubts.extend(of_copies(train));
    if doubts.is_empty() {
        doubts.extend(columns().filter_map(|(at, column)| of_tails(train, at, column)));
        let given = splits.standardization.context.iter().enumerate();
        doubts.extend(given.filter_map(|(at, column)| of_given_tails(train, at, column)));
    }
    // Beside numbers that far off all others lie on a point.
    if doubts.is_empty() {
        doubts.extend(of_dimension(splits));
    }
    doubts.extend(columns().filter_map(|(at, column)| of_far(splits, at, column)));
    doubts
}

fn of_dimension(splits: &PointSplits) -> Option<String> {
    let train = &splits.train;
    let (rows, dim) = (train.len(), train.dim());
    let width = dim + train.context_dim();
    let gaussian = match Gaussian::fit(splits) {
        Ok(gaussian) => gaussian,
        Err(error @ GaussianError::Singular { .. }) => return Some(error.to_string()),
        Err(GaussianError::TooWide(_)) => return None,
    };
    // What is rounded so much lies on lines by that.
    let is_rounded = |at| 2 * counts((0..rows).map(|row| train.row(row)[at])).len() < rows;
    if width == 1 || width > MOST_COLUMNS || (0..dim).any(is_rounded) {
        return None;
    }
    // So that columns that nearly follow from others by a line, which any flow can learn, are as wide as these.
    let whitened = (0..rows).map(|i| gaussian.whiten(train.row(i), train.context(i)));
    let whitened: Vec<f64> = whitened.flatten().collect();
    let all = dimension::of(&whitened, width)?;
    let given = match train.context_dim() {
        0 => None,
        numbers => {
            let contexts = whitened.chunks_exact(width).map(|row| &row[..numbers]);
            dimension::of(&contexts.collect::<Vec<_>>().concat(), numbers)
        }
    };
    // A context of few values has none.
    let none = Dimension {
        value: 0.0,
        error: 0.0,
    };
    let given = given.unwrap_or(none);
    // Of neighbours that rounding puts at the same distance there seem to be more than there are columns.
    let of_context = given.value.min(train.context_dim() as f64);
    let errors = 4.0 * (all.value * all.error).hypot(of_context * given.error);
    let filled = all.value - of_context;
    let (beside, way) = match train.context_dim() {
        0 => ("", "make it a --context that is given,"),
        _ => (" beside their context", "as from the context,"),
    };
    (filled + errors < FILLED * dim as f64).then(|| {
        format!(
            "the points fill {:.1} dimensions{beside}, of {dim}: they lie on a curve or a surface: a density of them \
             has no bound, and a flow that finds that says nothing of other points; leave a column out that follows from others, \
             {way} with --columns, or add noise",
            filled.max(0.0)
        )
    })
}

fn of_tails(train: &Points, at: usize, column: &Column) -> Option<String> {
    let tails = Tails::of((0..train.len()).map(|row| train.row(row)[at]))?;
    Some(format!(
        "{}: a few far ones are all that a flow sees of it, and most families diverge on them; take its logarithm or asinh, leave \
         those rows out, or try --flow spline, which does not move them, or --lr-warm-up 500, by which others learn their scale \
         before they move much",
        tails.said(column)
    ))
}

fn of_given_tails(train: &Points, at: usize, column: &Column) -> Option<String> {
    let tails = Tails::of((0..train.len()).map(|row| train.context(row)[at]))?;
    // A flag that few rows have, as most of them are the same number, is none the worse for it.
    (tails.half > 0.0).then(|| {
        format!(
            "{}: a few far ones are all that the networks see of this context; take its logarithm or asinh, or leave those rows out",
            tails.said(column)
        )
    })
}

/// Numbers of which a few lie far from all others, in standard deviations.
struct Tails {
    /// The width of the middle half.
    half: f64,
    /// How far the farthest is from the mean.
    most: f64,
}

impl Tails {
    fn of(numbers: impl Iterator<Item = f32>) -> Option<Self> {
        let mut numbers: Vec<f32> = numbers.collect();
        numbers.sort_unstable_by(f32::total_cmp);
        let last = numbers.len() - 1;
        let middle = |part: f64| {
            let out = (0.5 * (1.0 - part) * last as f64) as usize;
            f64::from(numbers[last - out]) - f64::from(numbers[out])
        };
        // Of numbers whose mean is zero the first is below it and the last above.
        let (half, most) = (middle(0.5), f64::from(numbers[last].max(-numbers[0])));
        let is_far = half < NARROW && most > TAIL || middle(0.9) < NARROW;
        is_far.then_some(Self { half, most })
    }

    fn said(&self, column: &Column) -> String {
        format!(
            "in the column {:?} the middle half of the numbers is {:.0e} standard deviations wide, and one lies {:.0} from the mean",
            column.name, self.half, self.most
        )
    }
}

fn of_far(splits: &PointSplits, at: usize, column: &Column) -> Option<String> {
    let farthest = |points: &Points| {
        let numbers = (0..points.len()).map(|row| points.row(row)[at]);
        let farthest = numbers.max_by(|a, b| a.abs().total_cmp(&b.abs()));
        f64::from(farthest.unwrap_or(0.0))
    };
    let learned = farthest(&splits.train).abs();
    let (what, number) = [("validation", &splits.valid), ("test", &splits.test)]
        .map(|(what, points)| (what, farthest(points)))
        .into_iter()
        .max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))?;
    let from_mean = number.abs();
    (from_mean > FAR && from_mean > FARTHER * learned).then(|| {
        format!(
            "in the column {name:?} a {what} point has {number}, {from_mean} standard deviations from the mean of the points for \
             training, of which none lies farther than {learned:.1}: that one decides the mean of {what}; correct it, or leave the row \
             out",
            name = column.name,
            number = short(column.to_user(number)),
            from_mean = short(from_mean),
        )
    })
}

/// How far the point with this index lies from all that was learned from, in words, if it does.
pub(super) fn of_one(splits: &PointSplits, points: &Points, index: usize) -> Option<String> {
    let columns = splits.standardization.columns.iter().enumerate();
    let (at, column) = columns.max_by(|(a, _), (b, _)| {
        let [a, b] = [a, b].map(|&at| points.row(index)[at].abs());
        a.total_cmp(&b)
    })?;
    let number = f64::from(points.row(index)[at]);
    (number.abs() > FAR).then(|| {
        format!(
            "{} in the column {:?}, {} standard deviations from the mean of the points for training",
            short(column.to_user(number)),
            column.name,
            short(number.abs())
        )
    })
}

/// How many rows have each of the values, the most frequent first, and each value.
fn counts(values: impl Iterator<Item = f32>) -> Vec<(usize, f32)> {
    let mut values: Vec<f32> = values.collect();
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
    // Single ones so far off that in single precision all the rest is one.
    if values <= FEW_VALUES
        && counts.get(1).is_some_and(|&(count, _)| count == 1)
        && let Some(said) = of_tails(train, at, column)
    {
        return Some(said);
    }
    if values <= FEW_VALUES && ROWS_PER_VALUE * values <= rows {
        return Some(format!(
            "the column {name:?} has only {values} different values in {rows} rows: a density of them has no bound, and a flow \
             that finds spikes there says nothing of others; leave it out with --columns, make it a --context, or add noise of \
             the width of its steps"
        ));
    }
    let (most, value) = counts[0];
    let tenth = counts.get(9).map_or(0, |&(count, _)| count);
    if most >= LEAST_COUNT && most * ONE_IN > rows && most > TIMES * tenth {
        return Some(format!(
            "in the column {name:?} {share} of the rows have the same value, {value}, and no others so many: a density of it has \
             no bound; leave these rows out, or the column with --columns, or add noise to it",
            share = percent(most, rows),
            value = shown(column.to_user(value.into()), column.std),
        ));
    }
    let ties: u64 = counts.iter().map(|&(count, _)| pairs(count)).sum();
    let worth = pairs(rows) as f64 / ties as f64;
    (worth <= FEW_VALUES as f64 && ROWS_PER_VALUE as f64 * worth <= rows as f64).then(|| {
        format!(
            "the column {name:?} has {values} different values in {rows} rows, but rows agree as often as if there were {worth:.0}: \
             a density of them has no bound, and a flow that finds spikes there says nothing of others; leave it out with \
             --columns, make it a --context, or add noise of the width of its steps"
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

/// How many pairs so many make, each in both orders.
fn pairs(count: usize) -> u64 {
    let count = count as u64;
    count * (count - 1)
}

fn hash(train: &Points, row: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    let numbers = train.row(row).iter().chain(train.context(row));
    // Negative zero is zero.
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

/// A number in the digits that single precision keeps of it.
fn short(number: f64) -> String {
    let digits: f64 = format!("{number:.5e}").parse().expect("a number");
    match digits == 0.0 || (1e-4..1e9).contains(&digits.abs()) {
        true => digits.to_string(),
        false => format!("{digits:e}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::RngExt;
    use rand::rngs::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::{counts, of_far, of_one, short, shown};
    use crate::points::{self, PointSplits, table::Table};
    use crate::random::{Purpose, stream};

    /// Points of one number, of which the first of these are for training, and the last two validate and test.
    fn in_order(numbers: &[f64]) -> PointSplits {
        let table = Table {
            columns: vec!["x".into()],
            context: Vec::new(),
            has_names: true,
            numbers: numbers.to_vec(),
        };
        let order: Vec<usize> = (0..numbers.len()).collect();
        PointSplits::cut(&table, &order, numbers.len() - 2, 1).unwrap()
    }

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

    /// A curve, a surface, and one that is given; not noise along one that is wider than the points are apart, nor what a
    /// Gaussian has too.
    #[test]
    fn points_on_a_curve_or_a_surface_are_noticed() {
        let mut rng = stream(3, Purpose::Prior, 0, 0);
        let mut rows = |count: usize, of: fn(&mut ChaCha8Rng) -> Vec<f64>, context: &[&str]| {
            doubts(
                (0..count).map(|_| of(&mut rng)).collect::<Vec<_>>(),
                context,
            )
        };
        let parabola = |rng: &mut ChaCha8Rng| {
            let x = normal(rng);
            vec![x, x * x]
        };
        fn sphere<const DIM: usize>(rng: &mut ChaCha8Rng) -> Vec<f64> {
            let point = [(); DIM].map(|()| normal(rng));
            let norm = point.map(|x| x * x).iter().sum::<f64>().sqrt();
            point.map(|x| x / norm).to_vec()
        }
        for (which, said) in [
            rows(300, parabola, &[]),
            rows(5_000, parabola, &[]),
            rows(3_000, parabola, &["1"]),
            rows(3_000, sphere::<3>, &[]),
            rows(5_000, sphere::<4>, &[]),
            rows(20_000, sphere::<4>, &[]),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(
                said.len() == 1 && said[0].contains("on a curve or a surface"),
                "{which}: {said:?}"
            );
            // What is a context already is not to become one.
            assert_eq!(said[0].contains("make it a --context"), which != 2);
        }
        let plane = |rng: &mut ChaCha8Rng| {
            let (x, y) = (normal(rng), normal(rng));
            vec![x, y, 3.0 * x - y]
        };
        let said = rows(300, plane, &[]);
        assert!(
            said.len() == 1
                && said[0].starts_with("the column \"3\" follows")
                && said[0].contains("by a linear formula"),
            "{said:?}"
        );

        let noisy = |rng: &mut ChaCha8Rng| {
            let x = normal(rng);
            vec![x, x * x + 0.05 * normal(rng)]
        };
        let thin = |rng: &mut ChaCha8Rng| {
            let x = normal(rng);
            vec![x, x + 1e-4 * normal(rng)]
        };
        // Half a kilometre an hour or twenty, beside which the first are all alike.
        let speed = |rng: &mut ChaCha8Rng| {
            let speed = match rng.random_range(0..5) {
                0..3 => 0.01 * normal(rng),
                _ => 20.0 + 8.0 * normal(rng),
            };
            vec![speed.abs(), normal(rng)]
        };
        let late = |rng: &mut ChaCha8Rng| {
            let start = 3e7 * rng.random::<f64>();
            vec![start, start - 60.0 * rng.random::<f64>().ln()]
        };
        let skewed = |rng: &mut ChaCha8Rng| (0..5).map(|_| normal(rng).exp()).collect();
        let cantor = |rng: &mut ChaCha8Rng| {
            let digits =
                (1..30).map(|place| f64::from(2 * rng.random_range(0..2_u8)) / 3_f64.powi(place));
            vec![digits.sum()]
        };
        // On lines, as one column is rounded.
        let half_rounded = |rng: &mut ChaCha8Rng| vec![normal(rng), (30.0 * normal(rng)).round()];
        let given = |rng: &mut ChaCha8Rng| vec![normal(rng), normal(rng).round(), normal(rng)];
        let at_age = |rng: &mut ChaCha8Rng| {
            let age = rng.random_range(2_000..6_000_u16);
            vec![normal(rng), normal(rng), f64::from(age) / 100.0]
        };
        for (which, said) in [
            rows(2_000, noisy, &[]),
            rows(2_000, noisy, &["1"]),
            rows(1_000, thin, &[]),
            rows(200, skewed, &[]),
            rows(1_000, skewed, &[]),
            rows(20_000, skewed, &[]),
            rows(20_000, half_rounded, &[]),
            // Of one column, be it Cantor's dust, and of more than five, there is no telling.
            rows(3_000, cantor, &[]),
            rows(5_000, sphere::<6>, &[]),
            rows(5_000, speed, &[]),
            rows(5_000, speed, &["1"]),
            rows(2_000, late, &[]),
            rows(2_000, given, &["2"]),
            rows(3_000, at_age, &["3"]),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(said.is_empty(), "{which}: {said:?}");
        }
    }

    #[test]
    fn built_in_sets_are_above_doubt() {
        for (name, set) in points::BuiltIn::ALL {
            let warnings = points::load(&points::PointsName::BuiltIn(set), None, &[]);
            let warnings = warnings.unwrap().warnings();
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        }
    }

    #[test]
    fn a_few_numbers_far_from_all_are_noticed() {
        let mut rng = stream(4, Purpose::Prior, 0, 0);
        let cauchy = (0..2_000).map(|_| vec![normal(&mut rng) / normal(&mut rng)]);
        let said = doubts(cauchy.collect::<Vec<_>>(), &[]);
        assert!(said.iter().any(|said| said.contains("asinh")), "{said:?}");
        // One row in ten thousand, wherever the split puts it.
        for row in 0..20 {
            let mut rows: Vec<_> = (0..500).map(|_| vec![normal(&mut rng)]).collect();
            rows[row][0] = -1e4;
            let said = doubts(rows, &[]);
            let what = [
                "asinh",
                "validation point has -10000",
                "test point has -10000",
            ];
            assert!(
                said.len() == 1 && what.iter().any(|what| said[0].contains(what)),
                "{row}: {said:?}"
            );
        }
        // Beside a number that far off the others lie on a point, which says nothing of them.
        let mut rows: Vec<_> = (0..2_000)
            .map(|_| vec![normal(&mut rng), normal(&mut rng)])
            .collect();
        rows[1][0] = 1e6;
        let said = doubts(rows, &[]);
        assert!(said.len() == 1 && said[0].contains("asinh"), "{said:?}");
        // Two of two hundred, and three of a hundred, of which each hides the others.
        let mut few: Vec<_> = (0..200)
            .map(|_| vec![normal(&mut rng), normal(&mut rng)])
            .collect();
        few.extend([vec![1e6, 0.0], vec![-1e6, 0.0]]);
        let many = (0..3_000).map(|i| match i % 100 {
            0..3 => vec![
                1e6 * (0.5 + rng.random::<f64>()) * f64::from(i % 2 * 2 - 1),
                normal(&mut rng),
            ],
            _ => vec![normal(&mut rng), normal(&mut rng)],
        });
        for rows in [few, many.collect()] {
            let said = doubts(rows, &[]);
            assert!(said.len() == 1 && said[0].contains("spline"), "{said:?}");
        }
        // One on either side of numbers that are not narrow but for their middle half.
        for far in [-30.0, 30.0] {
            let mut rows: Vec<_> = (0..3_000)
                .map(|i| vec![if i % 5 < 3 { 0.01 } else { 1.0 } * normal(&mut rng)])
                .collect();
            // Three, so that one is for training wherever the split puts them.
            rows.iter_mut().take(3).for_each(|row| row[0] = far);
            let said = doubts(rows, &[]);
            assert!(
                said.len() == 1 && said[0].contains("one lies 2"),
                "{said:?}"
            );
        }
        // In a context.
        let mut one: Vec<_> = (0..5_000)
            .map(|_| vec![normal(&mut rng), normal(&mut rng)])
            .collect();
        one.push(vec![1e6, 0.5]);
        let wide = (0..5_000).map(|_| vec![(3.0 * normal(&mut rng)).exp(), normal(&mut rng)]);
        for rows in [one, wide.collect()] {
            let said = doubts(rows, &["1"]);
            assert!(
                said.len() == 1 && said[0].contains("the networks see of this context"),
                "{said:?}"
            );
        }
        // A flag that few rows have.
        let flag = (0..3_000).map(|i| vec![f64::from(u8::from(i % 300 == 0)), normal(&mut rng)]);
        let said = doubts(flag.collect::<Vec<_>>(), &["1"]);
        assert!(said.is_empty(), "{said:?}");
        // Half of the numbers may be narrow beside the other half.
        let narrow = (0..3_000).map(|i| match i % 2 {
            0 => vec![normal(&mut rng)],
            _ => vec![0.01 * normal(&mut rng)],
        });
        let said = doubts(narrow.collect::<Vec<_>>(), &[]);
        assert!(said.is_empty(), "{said:?}");
    }

    /// What nothing was learned from is far if all else is near, on whichever side either lies.
    #[test]
    fn a_number_is_far_beside_those_that_were_learned_from() {
        // Of these the mean is zero and the deviation one.
        let learned = [-1.0, 1.0].repeat(500);
        let of = |learned: &[f64], valid, test| {
            let splits = in_order(&[learned, &[valid, test]].concat());
            let column = &splits.standardization.columns[0];
            let one = of_one(&splits, &splits.valid, 0);
            (of_far(&splits, 0, column), one)
        };
        for (valid, test, far, one) in [
            (0.5, -0.5, None, None),
            (19.0, -19.0, None, None),
            (
                21.0,
                0.0,
                Some("a validation point has 21, 21 standard"),
                Some("21 in the column \"x\", 21 standard"),
            ),
            (
                -21.0,
                0.0,
                Some("a validation point has -21, 21 standard"),
                Some("-21 in the column \"x\", 21 standard"),
            ),
            (
                22.0,
                -23.0,
                Some("a test point has -23, 23 standard"),
                Some("22 in"),
            ),
        ] {
            let said = of(&learned, valid, test);
            for (said, expected) in [(said.0, far), (said.1, one)] {
                assert_eq!(
                    said.is_some(),
                    expected.is_some(),
                    "{valid}, {test}: {said:?}"
                );
                assert!(expected.is_none_or(|expected| said.unwrap().contains(expected)));
            }
        }
        // Beside a fifth of that: 21 and 4.2 deviations as these are after it.
        for near in [-4.5, 4.5] {
            let mut learned = learned.clone();
            learned[0] = near;
            let (far, one) = of(&learned, 22.0, 0.0);
            assert!(far.is_none() && one.is_some(), "{far:?}, {one:?}");
        }
        // The column that is farthest, with its sign.
        let table = Table {
            columns: vec!["x".into(), "y".into()],
            context: Vec::new(),
            has_names: true,
            numbers: [
                [-1.0, -1.0, 1.0, 1.0].repeat(500),
                vec![30.0, -40.0, 0.0, 0.0],
            ]
            .concat(),
        };
        let order: Vec<usize> = (0..1_002).collect();
        let splits = PointSplits::cut(&table, &order, 1_000, 1).unwrap();
        let said = of_one(&splits, &splits.valid, 0).unwrap();
        assert!(said.starts_with("-40 in the column \"y\""), "{said}");
    }

    #[test]
    fn negative_zero_is_zero() {
        assert_eq!(counts([0.0, 1.0, -0.0].into_iter()), [(2, 0.0), (1, 1.0)]);
        let splits = in_order(&[-1.0, 0.0, -0.0, 1.0, 0.0, 0.0]);
        let zeros = [1, 2].map(|row| splits.train.row(row)[0].to_bits());
        assert_ne!(zeros[0], zeros[1], "both were zero already");
        assert_eq!(super::hash(&splits.train, 1), super::hash(&splits.train, 2));
    }

    #[test]
    fn numbers_are_said_in_their_digits() {
        for (number, std, said) in [
            (1234.5678, 2000.0, "1234.57"),
            (1234.5678, 1.0, "1234.5678"),
            (0.000_123_456_78, 0.000_2, "0.000123457"),
            (-1e-9, 1.0, "0"),
            (123_456_789.0, 1e7, "1.23457e8"),
            (1.5e-20, 1e-20, "1.50000e-20"),
        ] {
            assert_eq!(shown(number, std), said);
        }
        for (number, said) in [
            (0.0, "0"),
            (-21.000_001, "-21"),
            (1e-4, "0.0001"),
            (1.23e-5, "1.23e-5"),
            (999_999_000.0, "999999000"),
            (1e12, "1e12"),
        ] {
            assert_eq!(short(number), said);
        }
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
                vec![x, x + 0.1 * normal(rng), normal(rng)]
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

    /// So few rows, or rows that agree, that they may be chance or rounding.
    #[test]
    fn nothing_is_said_of_a_few() {
        let mut rng = stream(5, Purpose::Prior, 0, 0);
        let rng = &mut rng;
        // More than ten that agree of five thousand; of three hundred five, which are more than one in a hundred.
        for (rows, equal) in [(5_000, 25), (300, 5)] {
            let rows = (0..rows).map(|i| vec![if i < equal { 0.5 } else { normal(rng) }]);
            let said = doubts(rows.collect::<Vec<_>>(), &[]);
            assert!(said.is_empty(), "{said:?}");
        }
        // Values that are worth fewer than fifty, and of which there are as many as a quarter of the rows.
        let rows = (0..60).map(|_| vec![(10.0 * normal(rng)).round()]);
        let said = doubts(rows.collect::<Vec<_>>(), &[]);
        assert!(said.is_empty(), "{said:?}");
        // Ten copies of five thousand.
        let mut rows: Vec<_> = (0..5_000).map(|_| vec![normal(rng), normal(rng)]).collect();
        for i in 0..10 {
            rows[i] = rows[i + 10].clone();
        }
        let said = doubts(rows, &[]);
        assert!(said.is_empty(), "{said:?}");
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

        // Whole numbers, of which most are the same few.
        let waits: Vec<_> = (0..5_000)
            .map(|_| vec![normal(rng), (-15.0 * rng.random::<f64>().ln()).floor()])
            .collect();
        let said = doubts(waits.clone(), &[]);
        // tanh(1/30) of the pairs agree: they are worth 30 values, and of 4,000 rows 2 more or less by four standard errors.
        let worth = |said: &str| {
            let (_, worth) = said.split_once("as if there were ")?;
            worth.split_once(':')?.0.parse().ok()
        };
        assert!(
            said.len() == 1
                && said[0].starts_with("the column \"2\" has ")
                && worth(&said[0]).is_some_and(|worth: u32| (28..=32).contains(&worth)),
            "{said:?}"
        );
        assert!(doubts(waits, &["2"]).is_empty());

        // Pair by pair: of 320 rows 107 have a value of their own, and the others twelve.
        let mixed: Vec<f64> = (0..322)
            .map(|i| {
                if i % 3 == 0 {
                    normal(rng)
                } else {
                    f64::from(i / 3 % 12)
                }
            })
            .collect();
        let splits = in_order(&mixed);
        let said = splits.warnings();
        let train = &mixed[..320];
        let others = |i: usize| (0..320).filter(move |&j| j != i);
        let agree: usize = (0..320)
            .map(|i| others(i).filter(|&j| train[i] == train[j]).count())
            .sum();
        let expected = format!("as if there were {:.0}:", (320 * 319) as f64 / agree as f64);
        assert!(
            said.len() == 1 && said[0].contains(&expected),
            "{expected} {said:?}"
        );

        // Zeros, and a few numbers beside them that are all near.
        let few = (0..170).map(|i| vec![if i < 110 { 0.0 } else { normal(rng) }]);
        let said = doubts(few.collect::<Vec<_>>(), &[]);
        assert!(
            said.len() == 1 && said[0].contains("% of the rows have the same value, 0,"),
            "{said:?}"
        );
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
        // Of each two, both for training four times out of five, if one is: so many rows, of eight hundred, are copies.
        let share = |said: &str| said.split_once(" %")?.0.parse::<f64>().ok();
        assert!(
            said.len() == 1
                && said[0].contains("are copies of others")
                && share(&said[0]).is_some_and(|share| (35.0..45.0).contains(&share)),
            "{said:?}"
        );
        // And each with a context of its own, which is as it was.
        let row = |rng: &mut ChaCha8Rng| vec![normal(rng), normal(rng)];
        let rows: Vec<_> = (0..500).map(|_| row(rng)).collect();
        let said = doubts([rows.clone(), rows].concat(), &["2"]);
        assert!(
            said.len() == 1 && said[0].contains("are copies of others"),
            "{said:?}"
        );
        let row = |rng: &mut ChaCha8Rng| vec![normal(rng), (100.0 * normal(rng)).round()];
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
