#![allow(clippy::needless_range_loop)] // Tiles go by their numbers.

use gemm::Parallelism;

use crate::{vectorized, write_chunks};

/// A matrix of numbers in memory: row by row, or the transpose of one that is.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    elements: &'a [f32],
    shape: [usize; 2],
    /// From a row to the next, and from a column to the next.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// The matrix whose rows follow one another in `elements`.
    ///
    /// # Panics
    ///
    /// When there are not as many elements as the shape says.
    pub fn new(elements: &'a [f32], shape: [usize; 2]) -> Self {
        assert_eq!(elements.len(), size(shape), "elements of {shape:?}");
        Self {
            elements,
            shape,
            strides: [shape[1], 1],
        }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transpose(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self {
            shape: [columns, rows],
            strides: [column, row],
            ..self
        }
    }
}

/// How many numbers a matrix has. Checked in every build, since what gemm may touch rests on it.
fn size(shape: [usize; 2]) -> usize {
    let [rows, columns] = shape;
    rows.checked_mul(columns)
        .unwrap_or_else(|| panic!("no memory holds a matrix of {shape:?}"))
}

/// The product of two matrices, row by row, with `bias` added to each of its rows, or, where that is as long as several,
/// to as many at a time; on all threads.
///
/// # Panics
///
/// When the shapes do not fit, or no memory could hold the product.
pub fn product(lhs: Matrix<'_>, rhs: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let ([rows, inner], [same, columns]) = (lhs.shape, rhs.shape);
    assert_eq!(
        inner, same,
        "a product of {:?} and {:?}",
        lhs.shape, rhs.shape
    );
    if let Some(bias) = bias {
        let (len, all) = (bias.len(), size([rows, columns]));
        assert!(
            len >= columns && (len == 0 || len.is_multiple_of(columns) && all.is_multiple_of(len)),
            "a bias of {len} for {rows} rows of {columns}"
        );
        return multiply(lhs, rhs, repeated(bias, all / len.max(1)), Order::Rows);
    }
    if inner == 0 {
        return vec![0.0; size([rows, columns])];
    }
    let both_along_inner = lhs.strides[1] == 1 && rhs.strides[0] == 1;
    if both_along_inner && rows > 0 && rows * (inner + columns) < inner * columns {
        return from_the_left(lhs, rhs);
    }
    let out = Vec::with_capacity(size([rows, columns]));
    multiply(lhs, rhs, out, Order::Rows)
}

/// The product of two matrices, row by row, added to `out`, which it fills.
///
/// # Panics
///
/// When the shapes do not fit, or `out` is not as long as the product.
pub fn product_onto(lhs: Matrix<'_>, rhs: Matrix<'_>, out: Vec<f32>) -> Vec<f32> {
    assert_eq!(
        lhs.shape[1], rhs.shape[0],
        "a product of {:?} and {:?}",
        lhs.shape, rhs.shape
    );
    assert_eq!(
        out.len(),
        size([lhs.shape[0], rhs.shape[1]]),
        "numbers to add the product of {:?} and {:?} to",
        lhs.shape,
        rhs.shape
    );
    multiply(lhs, rhs, out, Order::Rows)
}

/// The product of x and the transpose of W, both stored row by row, with W the larger.
///
/// gemm wants one of the two transposed, the one that runs along the longer side of what it writes, and does that on
/// one thread. Here x and the result are transposed, on all.
fn from_the_left(lhs: Matrix<'_>, rhs: Matrix<'_>) -> Vec<f32> {
    let ([rows, inner], [_, columns]) = (lhs.shape, rhs.shape);
    // gemm takes vectors of 16 rows as they are.
    let height = rows.next_multiple_of(16);
    let turned = transpose(lhs.elements, [rows, inner], [inner, height]);
    let lhs = Matrix::new(&turned, [inner, height]).transpose();
    let out = Vec::with_capacity(size([height, columns]));
    let out = multiply(lhs, rhs, out, Order::Columns);
    transpose(&out, [columns, height], [rows, columns])
}

/// `row`, `times` times.
fn repeated(row: &[f32], times: usize) -> Vec<f32> {
    if row.is_empty() {
        return Vec::new();
    }
    let chunk = GRAIN.div_ceil(row.len()) * row.len();
    let (out, _) = write_chunks(size([times, row.len()]), chunk, |_, out| {
        (out.chunks_exact_mut(row.len())).for_each(|out| out.copy_from_slice(row));
    });
    out
}

/// Numbers that are worth a thread's while.
const GRAIN: usize = 1 << 14;

/// How a product lies in memory.
enum Order {
    Rows,
    Columns,
}

/// Writes the product into `out`, or adds it to what stands there, row by row or column by column.
///
/// # Panics
///
/// When `out` is neither empty with room for the product nor as long as it.
#[allow(unsafe_code)] // gemm's interface is pointers; all that they reach is checked here.
fn multiply(lhs: Matrix<'_>, rhs: Matrix<'_>, mut out: Vec<f32>, by: Order) -> Vec<f32> {
    let ([rows, inner], [_, columns]) = (lhs.shape, rhs.shape);
    let len = size([rows, columns]);
    if len == 0 || inner == 0 {
        return out;
    }
    let [row, column] = match by {
        Order::Rows => [columns, 1],
        Order::Columns => [1, rows],
    };
    assert_eq!(inner, rhs.shape[0]);
    assert!(out.capacity() >= len && (out.is_empty() || out.len() == len));
    let strides = |matrix: Matrix<'_>| matrix.strides.map(|stride| stride as isize);
    let ([lhs_row, lhs_column], [rhs_row, rhs_column]) = (strides(lhs), strides(rhs));
    // SAFETY: `Matrix` holds shape[0] · shape[1] elements at these strides, and `out` has room for as many as are
    // written, which are all of them: they are initialised before the length says so, and read only where they are.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            column as isize,
            row as isize,
            !out.is_empty(),
            lhs.elements.as_ptr(),
            lhs_column,
            lhs_row,
            rhs.elements.as_ptr(),
            rhs_column,
            rhs_row,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
        out.set_len(len);
    }
    out
}

/// The transpose of `elements: [rows, columns]`, cut or filled up with zeros to the shape `to`.
fn transpose(elements: &[f32], [_, columns]: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let chunk = GRAIN.div_ceil(to[1] * TILE) * to[1] * TILE;
    let (out, _) = write_chunks(size(to), chunk, |i, out| {
        transpose_into(out, to[1], elements, columns, i * chunk / to[1]);
    });
    out
}

/// Tile by tile, so that both sides stay in the cache, and the tile in registers.
const TILE: usize = 16;

vectorized! {
    /// Writes as many columns of the rows `from`, from column `first` on, as `to` has rows of `width`.
    fn transpose_into(to: &mut [f32], width: usize, from: &[f32], columns: usize, first: usize) {
        let rows_of_from = width.min(from.len() / columns);
        for (block, to) in to.chunks_mut(TILE * width).enumerate() {
            let column = first + block * TILE;
            let count = to.len() / width;
            let mut row = 0;
            while row < rows_of_from {
                let rows = TILE.min(rows_of_from - row);
                let from = &from[row * columns + column..];
                if count == TILE && rows == TILE {
                    tile(&mut to[row..], width, from, columns);
                } else {
                    for i in 0..count {
                        for j in 0..rows {
                            to[i * width + row + j] = from[j * columns + i];
                        }
                    }
                }
                row += TILE;
            }
        }
    }
}

#[inline(always)]
fn tile(to: &mut [f32], width: usize, from: &[f32], columns: usize) {
    let mut tile = [[0.0; TILE]; TILE];
    for j in 0..TILE {
        tile[j].copy_from_slice(&from[j * columns..][..TILE]);
    }
    for i in 0..TILE {
        let to = &mut to[i * width..][..TILE];
        for j in 0..TILE {
            to[j] = tile[j][i];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    /// 2⁶⁴ elements, of which `usize` keeps none.
    #[test]
    #[should_panic(expected = "no memory holds a matrix of [4294967296, 4294967296]")]
    fn a_shape_that_wraps_around_is_refused() {
        Matrix::new(&[], [1 << 32, 1 << 32]);
    }

    #[test]
    #[should_panic(expected = "no memory holds a matrix of [4294967296, 4294967296]")]
    fn so_is_a_product_that_wraps_around() {
        let (lhs, rhs) = (
            Matrix::new(&[], [1 << 32, 0]),
            Matrix::new(&[], [0, 1 << 32]),
        );
        product(lhs, rhs, None);
    }

    /// gemm would write beyond it, or leave numbers that nobody gave.
    #[test]
    fn a_product_is_added_to_as_many_numbers() {
        let numbers = [1.0; 6];
        let (lhs, rhs) = (Matrix::new(&numbers, [2, 3]), Matrix::new(&numbers, [3, 2]));
        assert_eq!(product_onto(lhs, rhs, vec![1.0; 4]), [4.0; 4]);
        for (rhs, out, words) in [
            (rhs, 3, "numbers to add the product of [2, 3] and [3, 2] to"),
            (rhs, 5, "numbers to add the product of [2, 3] and [3, 2] to"),
            (lhs, 6, "a product of [2, 3] and [2, 3]"),
        ] {
            let panic = catch_unwind(|| product_onto(lhs, rhs, vec![1.0; out])).unwrap_err();
            let said = panic.downcast::<String>().unwrap();
            assert!(said.contains(words), "{said}, not {words}");
        }
    }

    #[test]
    fn products_are_sums_of_products() {
        // Numbers whose products and sums are exact.
        let numbers = |n: usize, step: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
        };
        for [rows, inner, columns] in [
            [1, 1, 1],
            [3, 5, 2],
            [17, 33, 65],
            [100, 40, 130],
            [3, 400, 300],
            [33, 130, 257],
            [20, 2000, 40], // for several threads
            [2, 0, 3],
            [0, 2, 3],
        ] {
            let (a, b, bias) = (
                numbers(rows * inner, 5),
                numbers(inner * columns, 7),
                numbers(columns, 3),
            );
            let expected = |bias: &[f32]| -> Vec<f32> {
                (0..rows * columns)
                    .map(|i| {
                        let (row, column) = (i / columns, i % columns);
                        let sum: f32 = (0..inner)
                            .map(|k| a[row * inner + k] * b[k * columns + column])
                            .sum();
                        sum + bias[column]
                    })
                    .collect()
            };
            let turned = |m: &[f32], [rows, columns]: [usize; 2]| -> Vec<f32> {
                (0..rows * columns)
                    .map(|i| m[i % rows * columns + i / rows])
                    .collect()
            };
            let (a_turned, b_turned) = (turned(&a, [rows, inner]), turned(&b, [inner, columns]));
            let (lhs, rhs) = (
                Matrix::new(&a, [rows, inner]),
                Matrix::new(&b, [inner, columns]),
            );
            let lhs_turned = Matrix::new(&a_turned, [inner, rows]).transpose();
            let rhs_turned = Matrix::new(&b_turned, [columns, inner]).transpose();
            for (lhs, rhs) in [(lhs, rhs), (lhs_turned, rhs), (lhs, rhs_turned)] {
                assert_eq!(product(lhs, rhs, None), expected(&vec![0.0; columns]));
                assert_eq!(product(lhs, rhs, Some(&bias)), expected(&bias));
                let biases = bias.repeat(rows);
                assert_eq!(product_onto(lhs, rhs, biases), expected(&bias));
            }
        }
    }
}
