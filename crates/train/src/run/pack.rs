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
