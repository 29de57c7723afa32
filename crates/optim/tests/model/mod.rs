//! The model of these tests.

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};

#[derive(Module, Debug)]
pub struct Model {
    /// Of [`SHAPE`].
    pub weight: Param<Tensor<2>>,
    /// One number.
    pub bias: Param<Tensor<1>>,
}

/// More than what a thread takes at a time, and no multiple of it.
pub const SHAPE: [usize; 2] = [150, 333];
