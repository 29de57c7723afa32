//! Looks at what a checkpoint's files describe, before Burn puts them to use.
//!
//! Burn's reader refuses files that are cut. But its loaders panic on types, ranks and sizes that nobody saves, and leave
//! out in silence what they cannot place.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Bytes, DType, Shape};
use burn_pack::{Reader, Scalar, Tensor};

/// Refuses weights that are not `f32`, or belong to no parameter, and orders of coordinates that are none.
///
/// # Errors
///
/// With what does not belong.
pub fn check_model(model: Bytes) -> Result<()> {
    Pack::read(model).map(drop)
}

/// Refuses the state of an optimiser unless it has, for each parameter of `model` that it names, tensors of the
/// parameter's shape and counts, the same ones for all.
///
/// # Errors
///
/// With what does not belong.
pub fn check_optimizer(optimizer: Bytes, model: Bytes) -> Result<()> {
    Pack::read(optimizer)?.check_state_of(&Pack::read(model)?)
}

/// Refuses the state of learning rates of different counts, or of none.
///
/// # Errors
///
/// With what the counts are.
pub fn check_scheduler(scheduler: Bytes) -> Result<()> {
    let counts = Pack::read(scheduler)?.scalars;
    // Each is named after the group of parameters that it is of.
    let mut plain = counts
        .iter()
        .map(|(name, count)| (name.split_once('.').map(|(_, name)| name), count));
    let first = plain.next().context("it holds no count")?;
    ensure!(
        plain.all(|count| count == first),
        "its counts differ: {counts:?}"
    );
    Ok(())
}

/// A count beyond this is damage: it would overflow before long.
const MOST_STEPS: u64 = u32::MAX as u64;

/// What the names of permutations end with.
const ORDER: &str = ".Permutation.order";

/// Whether the tensor is a permutation of 0, 1, 2 and so on: Burn would look for coordinates that aren't there.
fn is_order(tensor: &Tensor) -> Result<bool> {
    let bytes = tensor.to_bytes()?;
    let mut order: Vec<i64> = match tensor.dtype {
        DType::I32 => (bytes.chunks_exact(4))
            .map(|b| i32::from_le_bytes(b.try_into().expect("four bytes")).into())
            .collect(),
        DType::I64 => (bytes.chunks_exact(8))
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
            .collect(),
        _ => return Ok(false),
    };
    order.sort_unstable();
    Ok(order.into_iter().eq(0..tensor.shape.num_elements() as i64))
}

/// The descriptions in a burnpack file, without the numbers.
#[derive(Debug, Default)]
struct Pack {
    tensors: BTreeMap<String, Described>,
    scalars: BTreeMap<String, Scalar>,
    /// Of an optimiser: the paths of the parameters, by id.
    paths: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq)]
struct Described {
    /// Of the parameter.
    id: u64,
    shape: Shape,
}

impl Pack {
    fn read(bytes: Bytes) -> Result<Self> {
        let reader = Reader::from_bytes(bytes)?;
        let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
        let mut tensors = BTreeMap::new();
        for tensor in reader.into_tensors()? {
            let (name, dtype) = (&tensor.name, tensor.dtype);
            if name.ends_with(ORDER) {
                ensure!(is_order(&tensor)?, "{name} is no order of coordinates");
            } else {
                ensure!(dtype == DType::F32, "{name} is of {dtype:?}, not F32");
            }
            let id = tensor
                .param_id
                .with_context(|| format!("{name} belongs to no parameter"))?;
            let shape = tensor.shape;
            tensors.insert(tensor.name, Described { id, shape });
        }
        for (name, scalar) in &scalars {
            ensure!(
                matches!(scalar, Scalar::UInt(count) if *count <= MOST_STEPS),
                "{name} is no count: {scalar:?}"
            );
        }
        Ok(Self {
            tensors,
            scalars,
            paths,
        })
    }

    fn check_state_of(&self, model: &Self) -> Result<()> {
        let mut kinds = BTreeMap::new();
        for (id, path) in &self.paths {
            let parameter = model
                .tensors
                .get(path)
                .filter(|parameter| parameter.id.to_string() == *id)
                .with_context(|| format!("{path} is not in the model"))?;
            let rank = self.scalars.get(&format!("{id}.__rank"));
            ensure!(
                rank == Some(&Scalar::UInt(parameter.shape.rank() as u64)),
                "the rank of {path} is {rank:?}"
            );
            kinds.insert(parameter.id, (parameter, Vec::new()));
        }
        for (name, state) in &self.tensors {
            let place = kinds.get_mut(&state.id).zip(name.split_once('.'));
            let Some(((parameter, kinds), (_, kind))) =
                place.filter(|(_, (id, _))| *id == state.id.to_string())
            else {
                bail!("{name} belongs to no parameter");
            };
            ensure!(*parameter == state, "{name} has not its parameter's shape");
            kinds.push(kind);
        }
        for name in self.scalars.keys() {
            let place = name
                .split_once('.')
                .and_then(|(id, kind)| Some((kinds.get_mut(&id.parse().ok()?)?, kind)));
            let ((_, kinds), kind) =
                place.with_context(|| format!("{name} belongs to no parameter"))?;
            kinds.push(kind);
        }
        let mut kinds = kinds.into_values().map(|(_, kinds)| kinds);
        let first = kinds.next().context("it holds no state")?;
        ensure!(
            kinds.all(|other| other == first),
            "a parameter lacks a part of its state"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn_pack::Writer;

    use super::*;

    /// A file of these tensors, each named, with its type, shape and parameter.
    fn file(tensors: &[(&str, DType, &[usize], Option<u64>)]) -> Writer {
        let tensor = |&(name, dtype, shape, id): &(&str, DType, &[usize], _)| {
            let size = shape.iter().product::<usize>() * dtype.size();
            let bytes = Bytes::from_bytes_vec(vec![0; size]);
            Tensor::new(name.into(), dtype, shape.to_vec(), id, bytes)
        };
        Writer::new(tensors.iter().map(tensor).collect())
    }

    fn why(checked: Result<()>) -> String {
        format!("{:#}", checked.unwrap_err())
    }

    #[test]
    fn weights_are_of_parameters_and_single_precision() {
        let check = |dtype, id| check_model(file(&[("a", dtype, &[2], id)]).into_bytes().unwrap());
        check(DType::F32, Some(7)).unwrap();
        assert_eq!(why(check(DType::F64, Some(7))), "a is of F64, not F32");
        assert_eq!(why(check(DType::F32, None)), "a belongs to no parameter");
    }

    #[test]
    fn an_order_has_each_coordinate_once() {
        let check = |dtype: DType, bytes: Vec<u8>| {
            let size = bytes.len() / dtype.size();
            let bytes = Bytes::from_bytes_vec(bytes);
            let tensor = Tensor::new("a.Permutation.order".into(), dtype, [size], Some(7), bytes);
            check_model(Writer::new(vec![tensor]).into_bytes().unwrap())
        };
        let narrow = |order: &[i32]| order.iter().flat_map(|i| i.to_le_bytes()).collect();
        let wide = |order: &[i64]| order.iter().flat_map(|i| i.to_le_bytes()).collect();
        check(DType::I32, narrow(&[2, 0, 1])).unwrap();
        check(DType::I64, wide(&[2, 0, 1])).unwrap();
        for (dtype, bytes) in [
            (DType::I32, narrow(&[1, 2, 3])),
            (DType::I32, narrow(&[0, 0, 1])),
            (DType::I32, narrow(&[0, -1, 1])),
            (DType::I64, wide(&[0, 1, 1 << 32])),
            (DType::F32, vec![0; 4]),
        ] {
            let error = why(check(dtype, bytes));
            assert!(error.contains("no order of coordinates"), "{error}");
        }
    }

    /// The state of two parameters under an optimiser with an average and a count of steps, and what may be wrong with it.
    #[test]
    fn the_state_of_an_optimiser_is_that_of_the_model() {
        let model = || {
            let tensors = [
                ("w", DType::F32, &[2, 3][..], Some(7)),
                ("b", DType::F32, &[3], Some(8)),
            ];
            file(&tensors).into_bytes().unwrap()
        };
        let tensors = [
            ("7.average", DType::F32, &[2, 3][..], Some(7)),
            ("8.average", DType::F32, &[3], Some(8)),
        ];
        let scalars = [
            ("7.__rank", 2),
            ("8.__rank", 1),
            ("7.steps", 5),
            ("8.steps", 5),
        ];
        let paths = [("7", "w"), ("8", "b")];
        let check = |tensors: &[_], scalars: &[(&str, u64)], paths: &[(&str, &str)]| {
            let mut writer = file(tensors);
            for (name, count) in scalars {
                writer = writer.with_scalar(name, Scalar::UInt(*count));
            }
            for (id, path) in paths {
                writer = writer.with_metadata(id, path);
            }
            check_optimizer(writer.into_bytes().unwrap(), model())
        };
        check(&tensors, &scalars, &paths).unwrap();

        let [of_w, of_b] = tensors;
        for (tensors, wrong) in [
            // Of the other parameter's shape, of its id, of none that is there, and not there.
            ([of_w, ("8.average", DType::F32, &[2, 3], Some(8))], "shape"),
            ([of_w, ("8.average", DType::F32, &[4], Some(8))], "shape"),
            (
                [of_w, ("8.average", DType::F32, &[2, 3], Some(7))],
                "8.average belongs to no",
            ),
            (
                [of_w, ("9.average", DType::F32, &[3], Some(9))],
                "9.average belongs to no",
            ),
            (
                [of_w, ("8.other", DType::F32, &[3], Some(8))],
                "lacks a part",
            ),
        ] {
            let error = why(check(&tensors, &scalars, &paths));
            assert!(error.contains(wrong), "{error}, not {wrong}");
        }
        let error = why(check(&[of_b], &scalars, &paths));
        assert!(error.contains("lacks a part"), "{error}");

        let [rank_w, rank_b, steps_w, steps_b] = scalars;
        let most = u64::from(u32::MAX);
        check(
            &tensors,
            &[rank_w, rank_b, steps_w, ("8.steps", most)],
            &paths,
        )
        .unwrap();
        for (scalars, wrong) in [
            ([rank_w, ("8.__rank", 2), steps_w, steps_b], "the rank of b"),
            (
                [rank_w, rank_b, steps_w, ("8.steps", most + 1)],
                "8.steps is no count",
            ),
            (
                [rank_w, rank_b, steps_w, ("9.steps", 5)],
                "9.steps belongs to no",
            ),
            ([rank_w, rank_b, steps_w, ("8.other", 5)], "lacks a part"),
        ] {
            let error = why(check(&tensors, &scalars, &paths));
            assert!(error.contains(wrong), "{error}, not {wrong}");
        }

        for (paths, wrong) in [
            ([("7", "w"), ("8", "c")], "c is not in the model"),
            ([("7", "b"), ("8", "w")], "is not in the model"),
        ] {
            let error = why(check(&tensors, &scalars, &paths));
            assert!(error.contains(wrong), "{error}, not {wrong}");
        }
        assert!(why(check(&[], &[], &[])).contains("no state"));
    }

    #[test]
    fn the_counts_of_the_rates_are_one() {
        let check = |scalars: &[(&str, Scalar)]| {
            let mut writer = file(&[]);
            for (name, scalar) in scalars {
                writer = writer.with_scalar(name, *scalar);
            }
            check_scheduler(writer.into_bytes().unwrap())
        };
        let (four, five) = (Scalar::UInt(4), Scalar::UInt(5));
        check(&[("base.done", four), ("group.done", four)]).unwrap();
        let error = why(check(&[("base.done", four), ("group.done", five)]));
        assert!(error.contains("counts differ"), "{error}");
        // As groups that have counts of other names.
        let error = why(check(&[("base.done", four), ("group.step", four)]));
        assert!(error.contains("counts differ"), "{error}");
        assert!(why(check(&[])).contains("no count"));
        let error = why(check(&[("base.done", Scalar::Float(4.0))]));
        assert!(error.contains("no count"), "{error}");
    }
}
