//! The planar stack on slices, for the CPU backends: which rows go where.
//!
//! Owners and chunks of their rows are spread over the threads in pieces that depend on the shapes alone, so that the
//! sums do not depend on the number of threads. What is done to a chunk is in `stack`, `forward` and `inverse`.

mod forward;
mod inverse;
mod lanes;
mod stack;

use std::iter::zip;

use burn::backend::{TensorMetadata, tensor::FloatTensor};
use burn_host::{Host, write_chunks};
use rayon::prelude::*;

use self::stack::{Stack, gradient_chunk, map_chunk, to_raw};
use super::{PlanarBackwardOps, PlanarOps, Sizes};
use crate::{PlanarConstraint, map::Direction};

macro_rules! on_the_host {
    ($backend:ty) => {
        impl PlanarOps for $backend {
            fn planar(
                raw: FloatTensor<Self>,
                points: FloatTensor<Self>,
                constraint: PlanarConstraint,
                direction: Direction,
            ) -> FloatTensor<Self> {
                map::<Self>(raw, points, constraint, direction)
            }
        }

        impl PlanarBackwardOps for $backend {
            fn planar_backward(
                raw: FloatTensor<Self>,
                known: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                constraint: PlanarConstraint,
                direction: Direction,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                gradients::<Self>(raw, known, grad, constraint, direction)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

fn map<B: Host>(
    raw: FloatTensor<B>,
    points: FloatTensor<B>,
    constraint: PlanarConstraint,
    direction: Direction,
) -> FloatTensor<B> {
    let sizes = Sizes::of(&raw.shape(), &points.shape());
    let (raw, points) = (B::elements(&raw), B::elements(&points));
    let width = sizes.width(direction);

    let packed: Vec<Vec<f32>> = (0..sizes.owners * sizes.chunks())
        .into_par_iter()
        .map(|task| {
            let chunk = sizes.chunk(task);
            let stack = sizes.stack(&raw, chunk.owner, constraint);
            map_chunk(&stack, &points, chunk, direction)
        })
        .collect();

    let mut out = vec![0.0; sizes.rows * width];
    for (task, packed) in packed.iter().enumerate() {
        sizes.chunk(task).scatter(packed, width, &mut out);
    }
    B::from_elements(out, [sizes.rows, width])
}

fn gradients<B: Host>(
    raw: FloatTensor<B>,
    known: FloatTensor<B>,
    grad: FloatTensor<B>,
    constraint: PlanarConstraint,
    direction: Direction,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of(&raw.shape(), &known.shape());
    let (raw, known, grad) = (B::elements(&raw), B::elements(&known), B::elements(&grad));
    let parameters = 2 * sizes.dim + 1;

    let (grad_raw, grad_points) = write_chunks(
        sizes.owners * sizes.layers * parameters,
        sizes.layers * parameters,
        |owner, grad_raw| {
            let stack = sizes.stack(&raw, owner, constraint);
            let first = owner * sizes.chunks();
            let (grad_points, parts): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (first
                ..first + sizes.chunks())
                .into_par_iter()
                .map(|task| gradient_chunk(&stack, &known, &grad, sizes.chunk(task), direction))
                .unzip();
            let mut parts = parts.into_iter();
            let mut of_parameters = parts.next().expect("an owner has rows");
            for part in parts {
                zip(&mut of_parameters, part).for_each(|(sum, part)| *sum += part);
            }
            to_raw(&stack, &of_parameters, grad_raw);
            grad_points
        },
    );

    let mut out = vec![0.0; sizes.rows * sizes.dim];
    for (task, grad) in grad_points.iter().flatten().enumerate() {
        sizes.chunk(task).scatter(grad, sizes.dim, &mut out);
    }
    (
        B::from_elements(grad_raw, [sizes.owners, sizes.layers, parameters]),
        B::from_elements(out, [sizes.rows, sizes.dim]),
    )
}

/// Rows that a thread takes at a time.
const CHUNK: usize = 64;

/// Some of the rows of one owner: `first..first + len` of its n.
struct Chunk {
    owner: usize,
    first: usize,
    len: usize,
    owners: usize,
}

impl Sizes {
    fn stack<'a>(&self, raw: &'a [f32], owner: usize, constraint: PlanarConstraint) -> Stack<'a> {
        let numbers = self.layers * (2 * self.dim + 1);
        Stack::new(&raw[owner * numbers..][..numbers], self.dim, constraint)
    }

    /// Chunks an owner.
    fn chunks(&self) -> usize {
        (self.rows / self.owners).div_ceil(CHUNK)
    }

    fn chunk(&self, task: usize) -> Chunk {
        let n = self.rows / self.owners;
        let first = task % self.chunks() * CHUNK;
        Chunk {
            owner: task / self.chunks(),
            first,
            len: CHUNK.min(n - first),
            owners: self.owners,
        }
    }
}

impl Chunk {
    /// The place of row i of the chunk among all rows, which are sample-major.
    #[inline(always)]
    fn row(&self, i: usize) -> usize {
        (self.first + i) * self.owners + self.owner
    }

    /// Copies the chunk's rows of `width` numbers to their places in `out`.
    fn scatter(&self, rows: &[f32], width: usize, out: &mut [f32]) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            let start = self.row(i) * width;
            out[start..start + width].copy_from_slice(row);
        }
    }
}
