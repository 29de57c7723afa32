//! A Gaussian with full covariance: the density that every other should beat.

use std::f64::consts::TAU;

use super::PointSplits;

/// The most numbers of a point and its context together.
const MAX_WIDTH: usize = 512;

/// A column is taken to follow from others where the variance that is left of it is at most so many times the square of what
/// rounding may take of the numbers that it is made of: the variance of the rounding is a third of that square at most.
const FOLLOWS: f64 = 30.0;

/// The largest part of a number that is lost in single precision.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// Why there is no Gaussian of some points.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum GaussianError {
    /// It would have no bound.
    #[error(
        "the column {column:?} follows from those before it, and from the context, by a linear formula in all {rows} rows for \
         training, but for {left:.0e} of its spread, as numbers in single precision leave: a density of them has no bound; leave it \
         out, or give more rows than columns"
    )]
    Singular {
        /// What the column of the points is called.
        column: String,
        /// The standard deviation that is left of it, as a part of its own.
        left: f64,
        /// How many rows there are.
        rows: usize,
    },

    /// Its covariance would take too long.
    #[error("of {0} columns it would take too long, and {MAX_WIDTH} are the most")]
    TooWide(usize),
}

/// A normal distribution of points, given their context where there is one: its mean is then linear in the context, and
/// its covariance the same for all.
///
/// With C the covariance of context and point together, the context first, and L its Cholesky factor, C = L Lᵀ,
///
/// ```text
///     [c; x] = mean + L z,    z ~ N(0, 1)
/// ```
///
/// fixes the first numbers of z by c, and those that are left give x: forward substitution is the regression of x on c, and
/// the lower right block of L is the factor of the residuals' covariance.
#[derive(Clone, Debug)]
pub struct Gaussian {
    /// Of the context, then of the point.
    mean: Vec<f64>,
    /// L, row by row.
    factor: Vec<f64>,
    context_dim: usize,
}

impl Gaussian {
    /// That of the greatest likelihood of the points for training.
    ///
    /// # Errors
    ///
    /// When a column follows from others, or there are too many. A column of the context that does tells nothing more,
    /// and is passed over.
    pub fn fit(splits: &PointSplits) -> Result<Self, GaussianError> {
        let points = &splits.train;
        let (rows, context_dim) = (points.len(), points.context_dim());
        let width = context_dim + points.dim();
        if width > MAX_WIDTH {
            return Err(GaussianError::TooWide(width));
        }
        let mut mean = vec![0.0; width];
        for i in 0..rows {
            for (mean, number) in mean
                .iter_mut()
                .zip(numbers(points.row(i), points.context(i)))
            {
                *mean += number / rows as f64;
            }
        }
        // The lower triangle.
        let mut covariance = vec![0.0; width * width];
        let mut deviation = vec![0.0; width];
        for i in 0..rows {
            let row = numbers(points.row(i), points.context(i));
            for ((deviation, number), mean) in deviation.iter_mut().zip(row).zip(&mean) {
                *deviation = number - mean;
            }
            for (j, &factor) in deviation.iter().enumerate() {
                let out = &mut covariance[j * width..][..=j];
                for (out, other) in out.iter_mut().zip(&deviation) {
                    *out += factor * other / rows as f64;
                }
            }
        }
        let factor = cholesky(covariance, width, context_dim).map_err(|(column, left)| {
            GaussianError::Singular {
                column: splits.standardization.columns[column].name.clone(),
                left,
                rows,
            }
        })?;
        Ok(Self {
            mean,
            factor,
            context_dim,
        })
    }

    /// z of a context and a point: numbers that are standard normal if the point is. Those of the context come first, zero
    /// where one follows from others.
    ///
    /// # Panics
    ///
    /// If they are not as long as those that it was fitted to.
    pub fn whiten(&self, point: &[f32], context: &[f32]) -> Vec<f64> {
        let (width, dim) = (self.mean.len(), point.len());
        assert_eq!(
            (dim + context.len(), context.len()),
            (width, self.context_dim)
        );
        let mut z: Vec<f64> = Vec::with_capacity(width);
        for (i, (number, mean)) in numbers(point, context).zip(&self.mean).enumerate() {
            let (row, scale) = (&self.factor[i * width..][..i], self.factor[i * width + i]);
            let known: f64 = row.iter().zip(&z).map(|(l, z)| l * z).sum();
            z.push(if scale > 0.0 {
                (number - mean - known) / scale
            } else {
                0.0
            });
        }
        z
    }

    /// ln p of a point given its context, in nats, both in the units of the points that it was fitted to.
    ///
    /// # Panics
    ///
    /// If they are not as long as theirs.
    pub fn log_prob(&self, point: &[f32], context: &[f32]) -> f64 {
        let (width, z) = (self.mean.len(), self.whiten(point, context));
        let of_point = (self.context_dim..width).map(|i| {
            let scale = self.factor[i * width + i];
            -0.5 * (TAU.ln() + z[i] * z[i]) - scale.ln()
        });
        of_point.sum()
    }
}

/// Those of the context, then those of the point.
fn numbers<'a>(point: &'a [f32], context: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
    context.iter().chain(point).map(|&number| f64::from(number))
}

/// The Cholesky factor of a covariance, row by row. The columns of it that belong to a context that follows from others
/// are zero; where a later one does, the error is its number after the contexts, from 0, and the standard deviation that is left of
/// it, as a part of its own.
fn cholesky(
    mut matrix: Vec<f64>,
    width: usize,
    context_dim: usize,
) -> Result<Vec<f64>, (usize, f64)> {
    for i in 0..width {
        let (above, row) = matrix.split_at_mut(i * width);
        let row = &mut row[..width];
        for j in 0..i {
            let other = &above[j * width..][..width];
            let known: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = if other[j] > 0.0 {
                (row[j] - known) / other[j]
            } else {
                0.0
            };
        }
        let own = row[i];
        let left = own - row[..i].iter().map(|l| l * l).sum::<f64>();
        // The column is the others times these, and what is left: b of Lᵀ b = l. Each, of variance one, was rounded.
        let mut rounded = own;
        let mut factors = row[..i].to_vec();
        for j in (0..i).rev() {
            let pivot = above[j * width + j];
            factors[j] = if pivot > 0.0 { factors[j] / pivot } else { 0.0 };
            rounded += factors[j] * factors[j];
            let known = factors[j];
            let others = factors[..j].iter_mut().zip(&above[j * width..]);
            others.for_each(|(other, l)| *other -= l * known);
        }
        row[i] = match left > FOLLOWS * ROUNDING * ROUNDING * rounded {
            true => left.sqrt(),
            false if i < context_dim => 0.0,
            false => return Err((i - context_dim, (left.max(0.0) / own).sqrt())),
        };
    }
    Ok(matrix)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand::RngExt;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::points::{self, PointSplits};
    use crate::random::{Purpose, stream};

    fn load(rows: &[Vec<f64>], context: &[&str]) -> PointSplits {
        let lines = rows.iter().map(|row| {
            let cells: Vec<String> = row.iter().map(f64::to_string).collect();
            cells.join(",") + "\n"
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), lines.collect::<String>()).unwrap();
        let context: Vec<String> = context.iter().map(|&name| name.into()).collect();
        let name = file.path().to_str().unwrap().parse().unwrap();
        points::load(&name, None, &context).unwrap()
    }

    /// Rows of x = N(3, 2²), y = 10 x + N(0, 1), and noise of the third.
    fn rows(count: usize) -> Vec<Vec<f64>> {
        let mut rng = stream(5, Purpose::Prior, 0, 0);
        let mut normal = move || rng.sample::<f64, _>(StandardNormal);
        let mut row = || {
            let x = 3.0 + 2.0 * normal();
            vec![x, 10.0 * x + normal(), normal()]
        };
        (0..count).map(|_| row()).collect()
    }

    /// The mean of ln p of the test points in the user's units, and its standard error.
    fn score(splits: &PointSplits) -> (f64, f64) {
        let gaussian = Gaussian::fit(splits).unwrap();
        let (test, count) = (&splits.test, splits.test.len() as f64);
        let terms: Vec<f64> = (0..test.len())
            .map(|i| gaussian.log_prob(test.row(i), test.context(i)))
            .map(|log_prob| log_prob - splits.standardization.log_det())
            .collect();
        let mean = terms.iter().sum::<f64>() / count;
        let square = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean, (square / count).sqrt())
    }

    /// The entropy is that of three independent normals of standard deviations 2, 1 and 1: 3/2 ln(2πe) + ln 2. Given
    /// x, or given x and the third, the rest's: without ln 2 and with one or two halves less. What estimating the
    /// parameters costs, about one half of a parameter over 40,000 rows, is a hundredth of the standard error.
    #[test]
    fn of_normal_points_the_score_is_the_entropy() {
        let (rows, half) = (rows(50_000), 0.5 * (TAU * 1_f64.exp()).ln());
        for (context, entropy) in [
            (vec![], 3.0 * half + 2_f64.ln()),
            (vec!["1"], 2.0 * half),
            (vec!["3", "1"], half),
        ] {
            let (mean, error) = score(&load(&rows, &context));
            assert!(
                (mean + entropy).abs() < 4.0 * error,
                "{context:?}: {mean} ± {error}, {entropy}"
            );
            assert!(error < 0.02, "{error}");
        }
    }

    /// The regression of y on c by its textbook formula, of few rows and unit-free.
    #[test]
    fn a_condition_is_a_regression() {
        let rows: Vec<Vec<f64>> = rows(12)
            .iter()
            .map(|row| vec![row[0], row[2] * row[0]])
            .collect();
        let splits = load(&rows, &["1"]);
        let train = &splits.train;
        let pairs: Vec<[f64; 2]> = (0..train.len())
            .map(|i| [train.context(i)[0].into(), train.row(i)[0].into()])
            .collect();
        let mean =
            |of: &dyn Fn(&[f64; 2]) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let (mean_c, mean_y) = (mean(&|pair| pair[0]), mean(&|pair| pair[1]));
        let slope = mean(&|pair| (pair[0] - mean_c) * (pair[1] - mean_y))
            / mean(&|pair| (pair[0] - mean_c).powi(2));
        let residual = |pair: &[f64; 2]| pair[1] - mean_y - slope * (pair[0] - mean_c);
        let variance = mean(&|pair| residual(pair).powi(2));
        let gaussian = Gaussian::fit(&splits).unwrap();
        for point in [[0.3_f32, -1.2], [-2.0, 0.7]] {
            let known =
                -0.5 * ((TAU * variance).ln() + residual(&point.map(f64::from)).powi(2) / variance);
            let log_prob = gaussian.log_prob(&point[1..], &point[..1]);
            assert!((log_prob - known).abs() < 1e-9, "{log_prob} {known}");
        }
    }

    #[test]
    fn a_column_that_follows_from_others_has_no_density() {
        let rows = rows(100);
        let with = |more: fn(&[f64]) -> f64| -> Vec<Vec<f64>> {
            let longer = |row: &Vec<f64>| [&row[..], &[more(row)]].concat();
            rows.iter().map(longer).collect()
        };
        let follows = with(|row| 5.0 - row[0] + 0.01 * row[2]);
        for (context, last) in [
            (&[][..], "4"),
            (&["1"], "4"),
            (&["4"], "3"),
            (&["2", "1"], "4"),
        ] {
            let error = Gaussian::fit(&load(&follows, context)).unwrap_err();
            assert!(
                matches!(&error, GaussianError::Singular { column, left, rows: 80 } if column == last && *left < 1e-5),
                "{context:?}: {error:?}"
            );
        }
        // Fewer rows than columns: each of those that are left over follows.
        let mut few = load(
            &follows[..10]
                .iter()
                .map(|row| vec![row[0], row[1], row[2]])
                .collect::<Vec<_>>(),
            &[],
        );
        few.train = few.train.slice(0..3);
        assert!(Gaussian::fit(&few).is_err());
        // One hot of two: the second says what the first does, and so does a copy of a context.
        let once = load(&with(|row| f64::from(row[0] > 3.0)), &["4"]);
        let twice: Vec<Vec<f64>> = (with(|row| f64::from(row[0] > 3.0)).iter())
            .map(|row| [&row[..], &[1.0 - row[3]]].concat())
            .collect();
        let ((one, _), (two, _)) = (score(&once), score(&load(&twice, &["4", "5"])));
        assert!((one - two).abs() < 1e-6, "{one} {two}");
    }

    /// Two columns of correlation 0.6, and a third that is -3 times the first and twice the second, and what is left. Whether that
    /// is more than rounding leaves is told to a hundredth, from the third's own variance and the squares 9 and 4. A context
    /// that is there twice changes nothing.
    #[test]
    fn what_rounding_leaves_is_counted_by_the_columns_it_is_made_of() {
        let own = 9.0 + 4.0 - 2.0 * 0.6 * 6.0;
        let limit = FOLLOWS * ROUNDING.powi(2) * (own + 9.0 + 4.0);
        for (part, follows) in [(0.99, true), (1.01, false)] {
            let left = part * limit;
            #[rustfmt::skip]
            let (once, twice) = (
                vec![
                    1.0, 0.0, 0.0,
                    0.6, 1.0, 0.0,
                    -1.8, 0.2, own + left,
                ],
                vec![
                    1.0, 0.0, 0.0, 0.0,
                    1.0, 1.0, 0.0, 0.0,
                    0.6, 0.6, 1.0, 0.0,
                    -1.8, -1.8, 0.2, own + left,
                ],
            );
            for (covariance, width, context_dim) in [(once, 3, 1), (twice, 4, 2)] {
                let result = cholesky(covariance, width, context_dim);
                // A hundredth: rounding takes some 1e-15 of a difference of 2e-12.
                match result {
                    Err((1, deviation)) if follows => {
                        let ratio = deviation / (left / own).sqrt();
                        assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
                    }
                    Ok(factor) if !follows => {
                        let ratio = factor[width * width - 1] / left.sqrt();
                        assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
                    }
                    other => panic!("{part}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_thousand_columns_are_too_many() {
        let rows: Vec<Vec<f64>> = (0..10)
            .map(|i| (0..1_000).map(|j| f64::from(i * j % 7 + i)).collect())
            .collect();
        let error = Gaussian::fit(&load(&rows, &[])).unwrap_err();
        assert_eq!(error, GaussianError::TooWide(1_000));
    }
}
