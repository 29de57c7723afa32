//! Shapes that do not belong together are refused in words, fused (`f32`) and as tensor operations (`f64`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::Param,
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor},
};
use fused_nn::{Dense, affine, linear, maxout, mlp};

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
        refuses(words, || {
            affine(x(), zeros([3, 6], dtype), zeros::<1>([6], dtype))
        });
        let layer = layer(dtype);
        refuses(words, || linear(&layer, x()));
        refuses(words, || maxout(&layer, x(), 2));
    }
}

#[test]
fn biases_that_fit_neither_the_outputs_nor_the_rows() {
    for dtype in [DType::F32, DType::F64] {
        let (x, weight) = (|| zeros([4, 3], dtype), || zeros([3, 6], dtype));
        refuses("4 rows of 6 outputs take a bias [6]", || {
            affine(x(), weight(), zeros::<1>([5], dtype))
        });
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

#[test]
fn layers_of_a_network_that_do_not_belong_together() {
    for dtype in [DType::F32, DType::F64] {
        let first = |shape: [usize; 2], owners| Dense {
            weight: zeros(shape, dtype),
            mask: None,
            bias: zeros([owners, shape[1]], dtype),
        };
        let last = |shape: [usize; 2]| Dense {
            weight: zeros(shape, dtype),
            mask: Some(zeros(shape, dtype)),
            bias: zeros([shape[1]], dtype),
        };
        let x = || zeros([4, 3], dtype);
        refuses("a layer from 2 to 6 takes [rows, 2], got [4, 3]", || {
            mlp(x(), first([2, 6], 1), vec![])
        });
        refuses("of owners that divide them, got [3, 6]", || {
            mlp(x(), first([3, 6], 3), vec![last([6, 2])])
        });
        refuses("a layer of 6 outputs before one of 5 inputs", || {
            mlp(x(), first([3, 6], 1), vec![last([5, 2])])
        });
        let mask = Some(zeros([2, 6], dtype));
        refuses(
            "a weight [6, 2] takes a mask of its shape, got [2, 6]",
            || {
                let last = Dense {
                    mask: mask.clone(),
                    ..last([6, 2])
                };
                mlp(x(), first([3, 6], 1), vec![last])
            },
        );
        let bias = zeros([3], dtype);
        refuses("4 rows of 2 outputs take a bias [2]", || {
            let last = Dense {
                bias: bias.clone(),
                ..last([6, 2])
            };
            mlp(x(), first([3, 6], 1), vec![last])
        });
        for (rows, outputs) in [(4, 2), (0, 2), (4, 0)] {
            let x = zeros([rows, 3], dtype);
            let y = mlp(x, first([3, 6], 1), vec![last([6, outputs])]);
            assert_eq!(y.dims(), [rows, outputs]);
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
