use std::mem::MaybeUninit;

use rayon::prelude::*;

/// `len` numbers that all threads write, `chunk` at a time, and what `write` returns of each chunk.
///
/// `write` takes the number of its chunk, from 0, and the chunk, which is all zeros; the last one may be shorter. A
/// thread zeroes a chunk just before it is written, in its own cache: `vec![0.0; len]` would clear all of it first, on
/// one thread.
///
/// # Panics
///
/// When `chunk` is 0.
///
/// ```
/// let (numbers, lengths) = burn_host::write_chunks(5, 2, |i, chunk| {
///     chunk[0] = i as f32;
///     chunk.len()
/// });
/// assert_eq!(numbers, [0.0, 0.0, 1.0, 0.0, 2.0]);
/// assert_eq!(lengths, [2, 2, 1]);
/// ```
#[allow(unsafe_code)] // Memory that is not initialised.
pub fn write_chunks<R: Send>(
    len: usize,
    chunk: usize,
    write: impl Fn(usize, &mut [f32]) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    let mut numbers = Vec::with_capacity(len);
    let returned: Vec<R> = numbers.spare_capacity_mut()[..len]
        .par_chunks_mut(chunk)
        .enumerate()
        .map(|(i, chunk)| write(i, zeroed(chunk)))
        .collect();
    // SAFETY: `Vec` collects from every chunk, and each was zeroed before `write` saw it.
    unsafe { numbers.set_len(len) };
    (numbers, returned)
}

#[allow(unsafe_code)] // As above.
fn zeroed(chunk: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    chunk.fill(MaybeUninit::new(0.0));
    // SAFETY: all of it has just been written.
    unsafe { chunk.assume_init_mut() }
}
