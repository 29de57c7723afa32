//! A stack on slices, for the CPU backends: which rows go where.
//!
//! Owners and chunks of their rows are spread over the threads in pieces that depend on the shapes alone, so that the
//! sums do not depend on the number of threads. Rows go through all layers together, [`LANES`] at a time in the lanes of a
//! vector, or singly where there are but a few; what a layer needs of them stays in the cache. What is done to them stands
//! in a file a kind of layers.

mod lanes;
mod planar;
mod radial;
mod sylvester;

use std::iter::zip;

use burn::backend::{TensorMetadata, tensor::FloatTensor};
use burn_host::{Host, vectorized, write_chunks};
use rayon::prelude::*;

use self::{lanes::Block, planar::Planar, radial::Radial, sylvester::Sylvester};
use super::{Form, Layers, Sizes, StackBackwardOps, StackOps};
use crate::map::Direction;

macro_rules! on_the_host {
    ($backend:ty) => {
        impl StackOps for $backend {
            fn stack(
                raw: FloatTensor<Self>,
                points: FloatTensor<Self>,
                form: Form,
            ) -> FloatTensor<Self> {
                map::<Self>(raw, points, form)
            }
        }

        impl StackBackwardOps for $backend {
            fn stack_backward(
                raw: FloatTensor<Self>,
                known: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                form: Form,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                gradients::<Self>(raw, known, grad, form)
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

/// The layers of one owner, and what they do to a block of its rows, in `L` lanes and with sums kept in `A` parts.
trait OfOwner {
    /// How many numbers the gradients of all layers are summed in.
    fn sums(&self) -> usize;

    /// Appends the packed rows of a block.
    fn map<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        points: &[f32],
        block: Block,
        packed: &mut Vec<f32>,
    );

    /// Appends the gradient of a block's points, and adds its share to the sums. `known` is what
    /// [`StackBackwardOps::stack_backward`] has of that name.
    fn gradients<const L: usize, const A: usize>(
        &self,
        direction: Direction,
        known_and_grad: (&[f32], &[f32]),
        block: Block,
        of_points_and_sums: (&mut Vec<f32>, &mut [f32]),
    );

    /// The gradients of the parameters, from the sums.
    fn to_raw(&self, sums: &[f32], grad_raw: &mut [f32]);
}

enum Owner<'a> {
    Planar(Planar<'a>),
    Radial(Radial<'a>),
    Sylvester(Sylvester<'a>),
}

impl<'a> Owner<'a> {
    /// From `raw: [owners, layers, numbers]`.
    fn new(raw: &'a [f32], owner: usize, sizes: Sizes, form: Form) -> Self {
        let numbers = sizes.layers * sizes.numbers;
        let raw = &raw[owner * numbers..][..numbers];
        match form.layers {
            Layers::Planar(constraint) => Self::Planar(Planar::new(raw, form.dim, constraint)),
            Layers::Radial => Self::Radial(Radial::new(raw, form.dim)),
            Layers::Sylvester(basis) => Self::Sylvester(Sylvester::new(raw, form.dim, basis)),
        }
    }
}

vectorized! {
    /// The packed rows of a chunk.
    fn map_chunk(owner: &Owner<'_>, points: &[f32], chunk: Chunk, direction: Direction) -> Vec<f32> {
        match owner {
            Owner::Planar(layers) => map_blocks(layers, points, chunk, direction),
            Owner::Radial(layers) => map_blocks(layers, points, chunk, direction),
            Owner::Sylvester(layers) => map_blocks(layers, points, chunk, direction),
        }
    }

    /// The gradient of the rows of a chunk, `[rows, dim]`, and the chunk's sums.
    fn gradient_chunk(
        owner: &Owner<'_>,
        known_and_grad: (&[f32], &[f32]),
        chunk: Chunk,
        direction: Direction,
    ) -> (Vec<f32>, Vec<f32>) {
        match owner {
            Owner::Planar(layers) => gradient_blocks(layers, known_and_grad, chunk, direction),
            Owner::Radial(layers) => gradient_blocks(layers, known_and_grad, chunk, direction),
            Owner::Sylvester(layers) => gradient_blocks(layers, known_and_grad, chunk, direction),
        }
    }

    fn to_raw(owner: &Owner<'_>, sums: &[f32], grad_raw: &mut [f32]) {
        match owner {
            Owner::Planar(layers) => layers.to_raw(sums, grad_raw),
            Owner::Radial(layers) => layers.to_raw(sums, grad_raw),
            Owner::Sylvester(layers) => layers.to_raw(sums, grad_raw),
        }
    }
}

#[inline(always)]
fn map_blocks(
    layers: &impl OfOwner,
    points: &[f32],
    chunk: Chunk,
    direction: Direction,
) -> Vec<f32> {
    let mut packed = Vec::new();
    let mut start = 0;
    while start < chunk.len {
        let block = chunk.block(start);
        match block.count {
            1 => layers.map::<1, 8>(direction, points, block, &mut packed),
            _ => layers.map::<LANES, 1>(direction, points, block, &mut packed),
        }
        start += block.count;
    }
    packed
}

#[inline(always)]
fn gradient_blocks(
    layers: &impl OfOwner,
    known_and_grad: (&[f32], &[f32]),
    chunk: Chunk,
    direction: Direction,
) -> (Vec<f32>, Vec<f32>) {
    let (mut of_points, mut sums) = (Vec::new(), vec![0.0; layers.sums()]);
    let mut start = 0;
    while start < chunk.len {
        let block = chunk.block(start);
        let out = (&mut of_points, &mut sums[..]);
        match block.count {
            1 => layers.gradients::<1, 8>(direction, known_and_grad, block, out),
            _ => layers.gradients::<LANES, 1>(direction, known_and_grad, block, out),
        }
        start += block.count;
    }
    (of_points, sums)
}

fn map<B: Host>(raw: FloatTensor<B>, points: FloatTensor<B>, form: Form) -> FloatTensor<B> {
    let sizes = Sizes::of(&raw.shape(), &points.shape(), form);
    let (raw, points) = (B::elements(&raw), B::elements(&points));

    let packed: Vec<Vec<f32>> = (0..sizes.owners * sizes.chunks())
        .into_par_iter()
        .map(|task| {
            let chunk = sizes.chunk(task);
            let owner = Owner::new(&raw, chunk.owner, sizes, form);
            map_chunk(&owner, &points, chunk, form.direction)
        })
        .collect();

    let mut out = vec![0.0; sizes.rows * sizes.width];
    for (task, packed) in packed.iter().enumerate() {
        sizes.chunk(task).scatter(packed, sizes.width, &mut out);
    }
    B::from_elements(out, sizes.packed())
}

fn gradients<B: Host>(
    raw: FloatTensor<B>,
    known: FloatTensor<B>,
    grad: FloatTensor<B>,
    form: Form,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of(&raw.shape(), &known.shape(), form);
    let (raw, known, grad) = (B::elements(&raw), B::elements(&known), B::elements(&grad));

    let (grad_raw, grad_points) = write_chunks(
        sizes.owners * sizes.layers * sizes.numbers,
        sizes.layers * sizes.numbers,
        |i, grad_raw| {
            let owner = Owner::new(&raw, i, sizes, form);
            let first = i * sizes.chunks();
            let (grad_points, parts): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (first
                ..first + sizes.chunks())
                .into_par_iter()
                .map(|task| {
                    gradient_chunk(&owner, (&known, &grad), sizes.chunk(task), form.direction)
                })
                .unzip();
            let mut parts = parts.into_iter();
            let mut sums = parts.next().expect("an owner has rows");
            for part in parts {
                zip(&mut sums, part).for_each(|(sum, part)| *sum += part);
            }
            to_raw(&owner, &sums, grad_raw);
            grad_points
        },
    );

    let mut out = vec![0.0; sizes.rows * sizes.dim];
    for (task, grad) in grad_points.iter().flatten().enumerate() {
        sizes.chunk(task).scatter(grad, sizes.dim, &mut out);
    }
    (
        B::from_elements(grad_raw, [sizes.owners, sizes.layers, sizes.numbers]),
        B::from_elements(out, sizes.points()),
    )
}

/// Rows that share a vector's lanes.
///
/// So many that the compiler leaves the loops over them loops, and makes those vectors: it would unroll shorter ones and
/// then gather numbers along the dimensions.
const LANES: usize = 64;

/// Fewer rows than this go singly.
const FEW: usize = 8;

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
    /// The block that starts at row `start` of the chunk, as wide as the lanes if enough is left to fill some.
    #[inline(always)]
    fn block(&self, start: usize) -> Block {
        let left = self.len - start;
        Block {
            first: self.row(start),
            stride: self.owners,
            count: if left < FEW { 1 } else { left.min(LANES) },
        }
    }

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
