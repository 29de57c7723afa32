//! Shapes that do not belong together are refused in words, fused (`f32`) and as tensor operations (`f64`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::Param,
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor},
};
use fused_nn::{affine, affine_relu, linear, maxout};

fn zeros<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    Tensor::zeros(shape, (&Device::flex(), dtype))
}

#[track_caller]
fn refuses(words: &str, call: impl FnOnce() -> Tensor<2>) {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("a panic");
    let said = panic.downcast::<String>().expect("a message");
    assert!(said.contains(words), "{said}, not {words}");
}

#[test]
fn rows_of_another_width_than_the_layer_takes() {
    for dtype in [DType::F32, DType::F64] {
        let (x, words) = (
            || zeros([4, 5], dtype),
            "a layer from 3 to 6 takes [rows, 3], got [4, 5]",
        );
        for affine in [affine::<1>, affine_relu::<1>] {
            refuses(words, || {
                affine(x(), zeros([3, 6], dtype), zeros([6], dtype))
            });
        }
        let layer = layer(dtype);
        refuses(words, || linear(&layer, x()));
        refuses(words, || maxout(&layer, x(), 2));
    }
}

#[test]
fn biases_that_fit_neither_the_outputs_nor_the_rows() {
    for dtype in [DType::F32, DType::F64] {
        let (x, weight) = (|| zeros([4, 3], dtype), || zeros([3, 6], dtype));
        for affine in [affine::<1>, affine_relu::<1>] {
            refuses("4 rows of 6 outputs take a bias [6]", || {
                affine(x(), weight(), zeros([5], dtype))
            });
        }
        for affine in [affine::<2>, affine_relu::<2>] {
            for shape in [[2, 5], [3, 6], [8, 6], [0, 6]] {
                let words = format!("of owners that divide them, got {shape:?}");
                refuses(&words, || affine(x(), weight(), zeros(shape, dtype)));
            }
            for owners in [1, 2, 4] {
                let y = affine(x(), weight(), zeros([owners, 6], dtype));
                assert_eq!(y.dims(), [4, 6]);
            }
        }
    }
}

#[test]
fn windows_that_do_not_divide_the_outputs() {
    for dtype in [DType::F32, DType::F64] {
        for window in [0, 4, 12] {
            let words = format!("6 outputs do not fall into windows of {window}");
            refuses(&words, || {
                maxout(&layer(dtype), zeros([4, 3], dtype), window)
            });
        }
        for window in [1, 2, 3, 6] {
            let y = maxout(&layer(dtype), zeros([4, 3], dtype), window);
            assert_eq!(y.dims(), [4, 6 / window]);
        }
    }
}

/// From 3 to 6.
fn layer(dtype: DType) -> Linear {
    let mut layer = LinearConfig::new(3, 6).init(&Device::flex());
    layer.weight = Param::from_tensor(zeros([3, 6], dtype));
    layer.bias = Some(Param::from_tensor(zeros([6], dtype)));
    layer
}
