//! How many dimensions points fill, whatever the number of their columns.

/// The most points that are asked for their neighbours, and among how many these are looked for: what it costs is their
/// product.
const ASKED: usize = 4_000;
const AMONG: usize = 10_000;

/// How many different values of a column lie between two that are put evenly.
const STEP: usize = 10;

/// The fewest that an estimate is made of.
const FEWEST: usize = 100;

/// An estimate and its relative standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimension {
    pub(super) value: f64,
    pub(super) error: f64,
}

/// The intrinsic dimension of points, by their two nearest neighbours (Facco, d'Errico, Rodriguez & Laio 2017): in d dimensions
/// of even density the distance of the second is more than m times that of the first with the probability m^-d, so that the
/// logarithms of these ratios are exponential numbers of the mean 1/d. As the paper's, the estimate asks nothing of the largest
/// tenth but that they are the largest: it is the likeliest d then, where the paper fits a line. Points that there is a copy of
/// are left out; to others they are two neighbours at once, as in more dimensions.
///
/// Its relative error is 1 / √k, of the k ratios that are not the largest. None where there are too few points, or half of them
/// have a copy.
///
/// `points` are rows of `dim` numbers each, in any units: each column is [spread] first.
pub(super) fn of(points: &[f64], dim: usize) -> Option<Dimension> {
    let rows = points.len() / dim;
    let among = rows.min(AMONG);
    let asked = among.min(ASKED);
    if asked < FEWEST {
        return None;
    }
    let points = spread(&points[..among * dim], dim);
    let row = |i: usize| &points[i * dim..][..dim];
    let mut ratios: Vec<f64> = (0..asked)
        .filter_map(|i| {
            let (mut first, mut second) = (f64::INFINITY, f64::INFINITY);
            for j in (0..among).filter(|&j| j != i) {
                let pairs = row(i).iter().zip(row(j));
                let square = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
                if square < first {
                    (first, second) = (square, first);
                } else if square < second {
                    second = square;
                }
            }
            // Of squares.
            (first > 0.0).then(|| 0.5 * (second / first).ln())
        })
        .collect();
    let count = ratios.len();
    if 2 * count < asked {
        return None;
    }
    let kept = count - count / 10;
    let (smaller, &mut largest, _) = ratios.select_nth_unstable_by(kept - 1, f64::total_cmp);
    let sum = smaller.iter().sum::<f64>() + (count - kept + 1) as f64 * largest;
    // By kept / sum it would be too high by as much as one ratio in kept.
    let value = (kept - 1) as f64 / sum;
    let error = 1.0 / (kept as f64).sqrt();
    value.is_finite().then_some(Dimension { value, error })
}

/// Rows whose columns go evenly from 0 to 1, by lines through each [`STEP`]th of a column's different values. So a few numbers far
/// from all others set no scale, nor is a column much narrower than the others where most of its numbers are, and what lies on a
/// curve or a surface does so still. Within a step numbers are as far apart, beside each other, as they were: by ranks all would be
/// at the same distance.
fn spread(points: &[f64], dim: usize) -> Vec<f64> {
    let mut spread = points.to_vec();
    for column in 0..dim {
        let numbers = || points.iter().skip(column).step_by(dim);
        let mut values: Vec<f64> = numbers().copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let mut knots: Vec<f64> = values.iter().copied().step_by(STEP).collect();
        // The last step is a longer one.
        let [.., last] = values[..] else { continue };
        if knots.len() > 1 {
            knots.pop();
        }
        knots.push(last);
        let steps = knots.len() - 1;
        for (out, &number) in spread.iter_mut().skip(column).step_by(dim).zip(numbers()) {
            let step = knots
                .partition_point(|&knot| knot <= number)
                .clamp(1, steps.max(1))
                - 1;
            let (from, to) = (knots[step], knots[steps.min(step + 1)]);
            let part = if to > from {
                (number - from) / (to - from)
            } else {
                0.0
            };
            *out = (step as f64 + part) / steps as f64;
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::random::{Purpose, stream};

    fn normal(count: usize) -> Vec<f64> {
        let mut rng = stream(6, Purpose::Prior, 0, 0);
        (0..count).map(|_| rng.sample(StandardNormal)).collect()
    }

    /// Within four standard errors, and what the curvature of a Gaussian's density takes of five dimensions.
    #[test]
    fn gaussians_have_as_many_as_columns_and_a_sphere_one_less() {
        for dim in 1..=5 {
            let Dimension { value, error } = of(&normal(4_000 * dim), dim).unwrap();
            let off = value / dim as f64 - 1.0;
            assert!(off.abs() < 4.0 * error + 0.02, "{value}, not {dim}");
        }
        for dim in 3..=5 {
            let mut sphere = normal(4_000 * dim);
            for point in sphere.chunks_exact_mut(dim) {
                let norm = point.iter().map(|x| x * x).sum::<f64>().sqrt();
                point.iter_mut().for_each(|x| *x /= norm);
            }
            let Dimension { value, error } = of(&sphere, dim).unwrap();
            let off = value / (dim - 1) as f64 - 1.0;
            assert!(off.abs() < 4.0 * error + 0.02, "{value}, not {}", dim - 1);
        }
    }

    /// Numbers far from all others, and a column of which most are narrow, take no dimension away.
    #[test]
    fn the_scale_of_a_part_of_a_column_is_that_part_s() {
        let mut far = normal(8_000);
        let mut narrow = far.clone();
        for x in far.iter_mut().step_by(2) {
            *x *= 1e-5;
        }
        for i in 0..60 {
            far[100 * i] = if i % 2 == 0 { 10.0 } else { -10.0 };
        }
        for x in narrow.iter_mut().step_by(2).take(2_400) {
            *x *= 1e-5;
        }
        for points in [far, narrow] {
            let Dimension { value, error } = of(&points, 2).unwrap();
            // A sixtieth of the points lies on lines along the edges, and so do a few between two scales.
            assert!((value / 2.0 - 1.0).abs() < 4.0 * error + 0.04, "{value}");
        }
        let mut curve = normal(8_000);
        for point in curve.chunks_exact_mut(2) {
            point[1] = (3.0 * point[0]).sin();
        }
        curve[0] = 1e6;
        let Dimension { value, error } = of(&curve, 2).unwrap();
        assert!((value - 1.0).abs() < 4.0 * error + 0.04, "{value}");
    }

    /// By the sorted distances of each point, with no ratio above the nine-hundredth of a thousand.
    #[test]
    fn the_largest_tenth_are_taken_for_the_largest_of_the_rest() {
        let points = normal(2_000);
        let places = spread(&points, 2);
        let places: Vec<&[f64]> = places.chunks_exact(2).collect();
        let mut ratios: Vec<f64> = (0..1_000)
            .map(|i| {
                let far =
                    |j: usize| (places[i][0] - places[j][0]).hypot(places[i][1] - places[j][1]);
                let mut distances: Vec<f64> = (0..1_000).map(far).collect();
                distances.sort_by(f64::total_cmp);
                // The nearest of all is the point itself.
                (distances[2] / distances[1]).ln()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let sum: f64 = ratios.iter().map(|ratio| ratio.min(ratios[899])).sum();
        let Dimension { value, error } = of(&points, 2).unwrap();
        assert!((value * sum / 899.0 - 1.0).abs() < 1e-9, "{value}");
        assert_eq!(error, 1.0 / 30.0);
    }

    /// Each tenth of the squares from 0 on is a knot, and the last of all in place of the knot before it.
    #[test]
    fn columns_go_evenly_from_knot_to_knot() {
        let squares = |count: usize| (0..count).map(|i| (i * i) as f64);
        for (count, last) in [(21, 400.0), (25, 576.0)] {
            // Beside a column of one value.
            let points: Vec<f64> = squares(count).flat_map(|square| [square, 7.0]).collect();
            let expected = squares(count).map(|square| match square < 100.0 {
                true => square / 100.0 / 2.0,
                false => (1.0 + (square - 100.0) / (last - 100.0)) / 2.0,
            });
            let expected: Vec<f64> = expected.flat_map(|number| [number, 0.0]).collect();
            assert_eq!(spread(&points, 2), expected);
        }
    }

    #[test]
    fn copies_and_few_points_say_nothing() {
        let points = normal(1_000);
        assert!(of(&points[..2 * FEWEST - 2], 2).is_none());
        assert!(of(&[points.clone(), points.clone()].concat(), 2).is_none());
        let third = [&points[..], &points[..200]].concat();
        let Dimension { value, error } = of(&third, 2).unwrap();
        assert!(value > 2.0 * (1.0 - 4.0 * error), "{value}");
        assert!(of(&[0.0; 500], 1).is_none());
    }
}
