use std::borrow::Cow;

use burn::{
    backend::{Backend, tensor::FloatTensor},
    tensor::{Shape, TensorData, read_sync},
};

/// A backend whose `f32` tensors are memory of this process.
///
/// The methods panic on tensors of another float type.
pub trait Host: Backend {
    /// The elements in row-major order: borrowed where the tensor has them so, else copied.
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// The elements in row-major order, to write over: the tensor's own memory where nobody shares it.
    fn into_elements(tensor: FloatTensor<Self>) -> Vec<f32> {
        read_sync(Self::float_into_data(tensor))
            .expect("a tensor on the host")
            .try_into_vec()
            .expect("a tensor of f32")
    }

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
            None => Cow::Owned(Self::into_elements(tensor.clone())),
        }
    }
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)] // Burn drops burn-ndarray in 0.23; this project offers it.
impl Host for burn::backend::NdArray {
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]> {
        use burn::backend::ndarray::NdArrayTensor;
        if let NdArrayTensor::F32(storage) = tensor
            && let Some(elements) = storage.view().to_slice()
        {
            return Cow::Borrowed(elements);
        }
        Cow::Owned(Self::into_elements(tensor.clone()))
    }
}
