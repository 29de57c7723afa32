use gemm::Parallelism;

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
        let [rows, columns] = shape;
        assert_eq!(elements.len(), rows * columns, "elements of {shape:?}");
        Self {
            elements,
            shape,
            strides: [columns, 1],
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

/// The product of two matrices, row by row, with `bias` added to each of its rows; on all threads.
///
/// # Panics
///
/// When the shapes do not fit.
pub fn product(lhs: Matrix<'_>, rhs: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    let ([rows, inner], [same, columns]) = (lhs.shape, rhs.shape);
    assert_eq!(
        inner, same,
        "a product of {:?} and {:?}",
        lhs.shape, rhs.shape
    );
    if bias.is_none() && lhs.strides[1] == 1 && rhs.strides[0] == 1 && inner > 0 {
        // Of two operands gemm rearranges that which runs along the longer side of what it writes. Written column by
        // column it is the left one, which here is the small batch and not the large weight.
        let turned = multiply(lhs, rhs, Vec::with_capacity(rows * columns), Order::Columns);
        return transpose(&turned, [columns, rows]);
    }
    let mut out = Vec::with_capacity(rows * columns);
    match bias {
        Some(bias) => {
            assert_eq!(bias.len(), columns, "a bias for each column");
            (0..rows).for_each(|_| out.extend_from_slice(bias));
        }
        None if inner == 0 => out.resize(rows * columns, 0.0),
        None => {}
    }
    multiply(lhs, rhs, out, Order::Rows)
}

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
    let len = rows * columns;
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

/// The elements of a matrix of this shape, row by row, column by column.
fn transpose(elements: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    // Tile by tile, so that both sides stay in the cache.
    const TILE: usize = 16;
    let mut out = vec![0.0; elements.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for row in row..rows.min(row + TILE) {
                for column in column..columns.min(column + TILE) {
                    out[column * rows + row] = elements[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
            }
        }
    }
}
