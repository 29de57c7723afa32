// burn-ndarray, which Burn drops in 0.23; this project offers it.
#![allow(deprecated)]

use std::borrow::Cow;

#[cfg(feature = "ndarray")]
use burn::backend::{TensorMetadata, ndarray::NdArrayTensor};
use burn::{
    backend::{Backend, tensor::FloatTensor},
    tensor::{Shape, TensorData},
};

/// A backend whose `f32` tensors are memory of this process.
///
/// The methods panic on tensors of another float type.
pub trait Host: Backend {
    /// The elements in row-major order: borrowed where the tensor has them so, else copied.
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// The elements in row-major order, to write over; the tensor is copied first where others share its memory.
    fn elements_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32];

    /// The tensor of these elements, in row-major order; takes the memory over.
    fn from_elements(elements: Vec<f32>, shape: impl Into<Shape>) -> FloatTensor<Self> {
        Self::float_from_data(TensorData::new(elements, shape), &Default::default())
    }
}

#[cfg(feature = "flex")]
impl Host for burn::backend::Flex {
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        match tensor.as_slice() {
            Some(elements) => Cow::Borrowed(elements),
            None => Cow::Owned(tensor.to_contiguous().storage().to_vec()),
        }
    }

    fn elements_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32] {
        if tensor.as_slice::<f32>().is_none() {
            *tensor = tensor.to_contiguous();
        }
        let (start, end) = (tensor.layout().contiguous_offsets()).expect("a contiguous tensor");
        &mut tensor.storage_mut()[start..end]
    }
}

#[cfg(feature = "ndarray")]
impl Host for burn::backend::NdArray {
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        let NdArrayTensor::F32(storage) = tensor else {
            panic!("a tensor of f32, not of {:?}", tensor.dtype());
        };
        let view = storage.view();
        match view.to_slice() {
            Some(elements) => Cow::Borrowed(elements),
            None => Cow::Owned(view.iter().copied().collect()),
        }
    }

    fn elements_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32] {
        if let Cow::Owned(elements) = Self::elements(tensor) {
            *tensor = Self::from_elements(elements, tensor.shape());
        }
        let NdArrayTensor::F32(storage) = tensor else {
            unreachable!("elements() has looked");
        };
        (storage.ensure_owned().as_slice_mut()).expect("a tensor in row-major order")
    }
}
