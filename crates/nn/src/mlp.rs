//! Dense layers one after the other, rectified between, as one operation.
//!
//! Some rows at a time go through all layers, so that what is between stays in the cache, and threads share the rows; backward
//! the same. What each piece of the rows says of the weights' gradients is summed in the end. In Burn's graph an operation
//! has a fixed number of inputs: networks of more than three layers are several.

use std::borrow::Cow;

use burn::{
    backend::{
        Autodiff, Backend, Dispatch, ExtensionType, TensorMetadata,
        autodiff::{checkpoint::strategy::CheckpointStrategy, ops::NodeGuard},
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{Tensor, activation::relu},
};
use burn_host::{Host, Matrix, product, product_onto, tracked};
use rayon::prelude::*;

use crate::{
    is_fused,
    linear::{
        add_rows, affine_by_tensor_operations, check, check_bias, column_sums, keep_where_positive,
        rectify,
    },
};

/// x (W ∘ M) + b, with a weight, a mask and a bias at hand.
#[derive(Clone, Debug)]
pub struct Dense<const D: usize> {
    /// `[inputs, outputs]`
    pub weight: Tensor<2>,
    /// What the weight is multiplied by, number by number, if by anything: no gradient comes to it.
    pub mask: Option<Tensor<2>>,
    /// `[outputs]`, or `[owners, outputs]`, of which row i of x takes that of owner i mod `owners`.
    pub bias: Tensor<D>,
}

impl<const D: usize> Dense<D> {
    /// The weight times the mask.
    pub fn masked(&self) -> Tensor<2> {
        let weight = self.weight.clone();
        match &self.mask {
            Some(mask) => weight * mask.clone().detach(),
            None => weight,
        }
    }

    fn into_dispatch(self) -> Layer<Dispatch> {
        Layer {
            weight: self.weight.into_dispatch(),
            bias: self.bias.into_dispatch(),
            mask: match self.mask {
                Some(mask) => Mask::Numbers(mask.into_dispatch()),
                None => Mask::Ones,
            },
        }
    }

    fn is_fused(&self) -> bool {
        let [inputs, outputs] = self.weight.dims();
        let mask = self.mask.as_ref().unwrap_or(&self.weight);
        inputs > 0
            && outputs > 0
            && [&self.weight, mask].into_iter().all(is_fused)
            && is_fused(&self.bias)
    }
}

/// A multilayer perceptron: dense layers with max(0, ·) after all but the last.
///
/// `x: [rows, inputs]` to `[rows, outputs of the last]`. The first layer's bias may be each example's own.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use fused_nn::{Dense, mlp};
///
/// let device = Device::flex();
/// let (x, mask) = (Tensor::<2>::from_floats([[1.0], [2.0]], &device), None);
/// // |x| = max(0, x) + max(0, -x)
/// let weight = Tensor::from_floats([[1.0, -1.0]], &device);
/// let first = Dense { weight, mask: mask.clone(), bias: Tensor::zeros([1, 2], &device) };
/// let last = Dense { weight: Tensor::ones([2, 1], &device), mask, bias: Tensor::zeros([1], &device) };
/// let y = mlp(x.neg(), first, vec![last]);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [1.0, 2.0]);
/// ```
///
/// # Panics
///
/// When widths disagree, a mask has another shape than its weight, or a bias's owners do not divide the rows.
pub fn mlp(x: Tensor<2>, first: Dense<2>, rest: Vec<Dense<1>>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    check(&x, &first.weight);
    check_bias(rows, &first.weight, &first.bias);
    check_mask(&first);
    rest.iter().fold(first.weight.dims(), |[_, width], layer| {
        let [inputs, _] = layer.weight.dims();
        assert!(
            width == inputs,
            "a layer of {width} outputs before one of {inputs} inputs"
        );
        check_bias(rows, &layer.weight, &layer.bias);
        check_mask(layer);
        layer.weight.dims()
    });
    let is_fused = is_fused(&x) && first.is_fused() && rest.iter().all(Dense::is_fused);
    if !is_fused || rows == 0 || inputs == 0 {
        return by_tensor_operations(x, first, rest);
    }
    let mut layers = vec![first.into_dispatch()];
    layers.extend(rest.into_iter().map(Dense::into_dispatch));
    let (mut x, mut layers) = (x.into_dispatch(), layers.into_iter().peekable());
    while let Some(first) = layers.next() {
        let piece = match (layers.next(), layers.next()) {
            (Some(second), Some(third)) => Layers::Three(first, second, third),
            (Some(second), None) => Layers::Two(first, second),
            (None, _) => Layers::One(first),
        };
        x = Dispatch::mlp(x, piece, layers.peek().is_some());
    }
    Tensor::from_dispatch(x)
}

fn check_mask<const D: usize>(layer: &Dense<D>) {
    let (weight, mask) = (layer.weight.dims(), layer.mask.as_ref().map(Tensor::dims));
    assert!(
        mask.is_none_or(|mask| mask == weight),
        "a weight {weight:?} takes a mask of its shape, got {:?}",
        mask.unwrap_or_default()
    );
}

fn by_tensor_operations(x: Tensor<2>, first: Dense<2>, rest: Vec<Dense<1>>) -> Tensor<2> {
    let x = affine_by_tensor_operations(x, first.masked(), first.bias);
    rest.into_iter().fold(x, |x, layer| {
        affine_by_tensor_operations(relu(x), layer.masked(), layer.bias)
    })
}

/// The layers of one operation, each with two inputs that may want gradients.
#[derive(ExtensionType)]
enum Layers<B: Backend> {
    One(#[extension_type] Layer<B>),
    Two(#[extension_type] Layer<B>, #[extension_type] Layer<B>),
    Three(
        #[extension_type] Layer<B>,
        #[extension_type] Layer<B>,
        #[extension_type] Layer<B>,
    ),
}

#[derive(ExtensionType)]
struct Layer<B: Backend> {
    weight: FloatTensor<B>,
    /// `[outputs]`, and of the first perhaps `[owners, outputs]`.
    bias: FloatTensor<B>,
    #[extension_type]
    mask: Mask<B>,
}

#[derive(ExtensionType)]
enum Mask<B: Backend> {
    Ones,
    Numbers(FloatTensor<B>),
}

impl<B: Backend> Layers<B> {
    fn into_vec(self) -> Vec<Layer<B>> {
        match self {
            Self::One(first) => vec![first],
            Self::Two(first, second) => vec![first, second],
            Self::Three(first, second, third) => vec![first, second, third],
        }
    }
}

#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff,
)]
trait MlpOps: Backend {
    /// `x: [rows, inputs]` through the layers, with max(0, ·) after the last one too if that `is_rectified`. There is a row, an
    /// input and an output at least.
    fn mlp(
        x: FloatTensor<Self>,
        #[extension_type] layers: Layers<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self>;
}

impl<B: MlpOps + Host, C: CheckpointStrategy> MlpOps for Autodiff<B, C> {
    fn mlp(x: FloatTensor<Self>, layers: Layers<Self>, is_rectified: bool) -> FloatTensor<Self> {
        let layers = layers.into_vec();
        // x, and a weight and a bias of each layer.
        match layers.len() {
            1 => tracked_mlp::<B, C, 3>(x, layers, is_rectified),
            2 => tracked_mlp::<B, C, 5>(x, layers, is_rectified),
            _ => tracked_mlp::<B, C, 7>(x, layers, is_rectified),
        }
    }
}

fn tracked_mlp<B: Host, C: CheckpointStrategy, const N: usize>(
    x: FloatTensor<Autodiff<B, C>>,
    layers: Vec<Layer<Autodiff<B, C>>>,
    is_rectified: bool,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes: Vec<NodeGuard> = [x.node()]
        .into_iter()
        .chain(layers.iter().map(|layer| layer.weight.node()))
        .chain(layers.iter().map(|layer| layer.bias.node()))
        .collect();
    let nodes: [NodeGuard; N] = nodes.try_into().expect("three, five or seven inputs");
    let x = x.into_primitive();
    let layers: Vec<Layer<B>> = (layers.into_iter())
        .map(|layer| Layer {
            weight: layer.weight.into_primitive(),
            bias: layer.bias.into_primitive(),
            mask: match layer.mask {
                Mask::Ones => Mask::Ones,
                Mask::Numbers(mask) => Mask::Numbers(mask.into_primitive()),
            },
        })
        .collect();
    let network = Network::new(&layers, is_rectified);
    let (output, hidden) = network.forward(&B::elements(&x), true);
    let output = B::from_elements(output, [x.shape()[0], network.outputs()]);
    let rectified = is_rectified.then(|| output.clone());
    tracked::<B, C, N>(nodes, output, move |grad, wanted| {
        let mut grad = grad;
        if let Some(output) = &rectified {
            keep_where_positive(B::elements_mut(&mut grad), &B::elements(output));
        }
        let network = Network::new(&layers, is_rectified);
        let gradients = network.backward(&B::elements(&x), &hidden, &B::elements(&grad), &wanted);
        let shapes = [x.shape()]
            .into_iter()
            .chain(layers.iter().map(|layer| layer.weight.shape()))
            .chain(layers.iter().map(|layer| layer.bias.shape()));
        let gradients: Vec<Option<FloatTensor<B>>> = (gradients.into_iter().zip(shapes))
            .map(|(gradient, shape)| Some(B::from_elements(gradient?, shape)))
            .collect();
        (gradients.try_into()).unwrap_or_else(|_| unreachable!("one for each input"))
    })
}

macro_rules! on_the_host {
    ($backend:ty) => {
        impl MlpOps for $backend {
            fn mlp(
                x: FloatTensor<Self>,
                layers: Layers<Self>,
                is_rectified: bool,
            ) -> FloatTensor<Self> {
                let layers = layers.into_vec();
                let network = Network::new(&layers, is_rectified);
                let (output, _) = network.forward(&Self::elements(&x), false);
                Self::from_elements(output, [x.shape()[0], network.outputs()])
            }
        }
    };
}

#[cfg(feature = "flex")]
on_the_host!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
on_the_host!(burn::backend::NdArray);

struct Network<'a> {
    layers: Vec<Numbers<'a>>,
    /// How many biases the first layer has.
    owners: usize,
    is_rectified: bool,
}

/// A layer's.
struct Numbers<'a> {
    inputs: usize,
    outputs: usize,
    /// Multiplied by the mask.
    weight: Cow<'a, [f32]>,
    mask: Option<Cow<'a, [f32]>>,
    bias: Cow<'a, [f32]>,
}

impl<'a> Network<'a> {
    fn new<B: Host>(layers: &'a [Layer<B>], is_rectified: bool) -> Self {
        let layers: Vec<Numbers<'_>> = layers.iter().map(Numbers::of).collect();
        Self {
            owners: layers[0].bias.len() / layers[0].outputs,
            layers,
            is_rectified,
        }
    }

    fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].outputs
    }

    /// How many rows a thread takes through the layers at a time. It depends on sizes alone, so that no sum depends on threads.
    fn rows_at_once(&self, rows: usize) -> usize {
        let weights = self.layers.iter().map(|layer| layer.weight.len()).sum();
        rows_at_once(rows, weights)
    }

    /// The output of each row, and of the rows that went together, what all layers but the last gave, where that `is_kept`.
    fn forward(&self, x: &[f32], is_kept: bool) -> (Vec<f32>, Vec<Hidden>) {
        let (inputs, last) = (self.layers[0].inputs, self.layers.len() - 1);
        let rows = self.rows_at_once(x.len() / inputs);
        let (outputs, hidden): (Vec<_>, Vec<_>) = (x.par_chunks(rows * inputs).enumerate())
            .map(|(i, x)| {
                let mut hidden: Hidden = Vec::new();
                let n = x.len() / inputs;
                for (l, layer) in self.layers.iter().enumerate() {
                    let from = hidden.last().map_or(x, Vec::as_slice);
                    let biases = match l {
                        0 => self.first_biases(i * rows, n),
                        _ => layer.bias.repeat(n),
                    };
                    let mut to = product_onto(
                        Matrix::new(from, [n, layer.inputs]),
                        Matrix::new(&layer.weight, [layer.inputs, layer.outputs]),
                        biases,
                    );
                    if l < last || self.is_rectified {
                        rectify(&mut to);
                    }
                    if !is_kept {
                        hidden.clear();
                    }
                    hidden.push(to);
                }
                let output = hidden.pop().expect("a layer");
                (output, hidden)
            })
            .unzip();
        (joined(outputs), hidden)
    }

    /// What the first layer adds to `n` rows from `row` on.
    fn first_biases(&self, row: usize, n: usize) -> Vec<f32> {
        let Numbers { outputs, bias, .. } = &self.layers[0];
        let mut biases = Vec::with_capacity(n * outputs);
        for row in row..row + n {
            biases.extend_from_slice(&bias[row % self.owners * outputs..][..*outputs]);
        }
        biases
    }

    /// The gradients of x, of each weight and of each bias, as far as they are wanted, from that of the output (before it was
    /// rectified).
    fn backward(
        &self,
        x: &[f32],
        hidden: &[Hidden],
        grad: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (inputs, outputs) = (self.layers[0].inputs, self.outputs());
        let rows = self.rows_at_once(x.len() / inputs);
        let pieces: Vec<Vec<Option<Vec<f32>>>> = (x.par_chunks(rows * inputs))
            .zip(grad.par_chunks(rows * outputs))
            .zip(hidden)
            .map(|((x, grad), hidden)| self.piece_backward(x, hidden, grad, wanted))
            .collect();
        // Of x, and of the first bias where that has several owners, each row's; of the others sums.
        let first_bias = 1 + self.layers.len();
        let is_by_row = |i: usize| i == 0 || i == first_bias && self.owners > 1;
        let mut of_inputs: Vec<Vec<Vec<f32>>> = wanted.iter().map(|_| Vec::new()).collect();
        for piece in pieces {
            for (all, of_piece) in of_inputs.iter_mut().zip(piece) {
                all.extend(of_piece);
            }
        }
        let mut gradients: Vec<Option<Vec<f32>>> = (of_inputs.into_iter().zip(wanted).enumerate())
            .map(|(i, (pieces, &is_wanted))| {
                is_wanted.then(|| {
                    if is_by_row(i) {
                        joined(pieces)
                    } else {
                        summed(pieces)
                    }
                })
            })
            .collect();
        for (gradient, layer) in gradients[1..].iter_mut().zip(&self.layers) {
            if let (Some(gradient), Some(mask)) = (gradient, &layer.mask) {
                multiply(gradient, mask);
            }
        }
        if let Some(of_rows) = &mut gradients[first_bias]
            && of_rows.len() != self.layers[0].bias.len()
        {
            // The rows of all owners follow one another, again and again.
            *of_rows = column_sums(of_rows, self.layers[0].bias.len());
        }
        gradients
    }

    /// The same of some rows: of x and of the first bias of several owners each row's, of the others sums.
    fn piece_backward(
        &self,
        x: &[f32],
        hidden: &Hidden,
        grad: &[f32],
        wanted: &[bool],
    ) -> Vec<Option<Vec<f32>>> {
        let (layers, n) = (self.layers.len(), x.len() / self.layers[0].inputs);
        let mut gradients = vec![None; 1 + 2 * layers];
        let mut grad = Cow::Borrowed(grad);
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let from = if l == 0 { x } else { &hidden[l - 1] };
            let of_output = Matrix::new(&grad, [n, layer.outputs]);
            if wanted[1 + l] {
                let from = Matrix::new(from, [n, layer.inputs]).transpose();
                gradients[1 + l] = Some(product(from, of_output, None));
            }
            let before = (l > 0 || wanted[0]).then(|| {
                let weight = Matrix::new(&layer.weight, [layer.inputs, layer.outputs]);
                product(of_output, weight.transpose(), None)
            });
            if wanted[1 + layers + l] {
                gradients[1 + layers + l] = Some(match l {
                    0 if self.owners > 1 => grad.into_owned(),
                    _ => {
                        let mut sums = vec![0.0; layer.outputs];
                        add_rows(&grad, layer.outputs, 0, &mut sums);
                        sums
                    }
                });
            }
            let Some(mut before) = before else { break };
            if l > 0 {
                keep_where_positive(&mut before, from);
                grad = Cow::Owned(before);
            } else {
                gradients[0] = Some(before);
                break;
            }
        }
        gradients
    }
}

impl<'a> Numbers<'a> {
    fn of<B: Host>(layer: &'a Layer<B>) -> Self {
        let [inputs, outputs] = layer.weight.shape().dims();
        let mut weight = B::elements(&layer.weight);
        let mask = match &layer.mask {
            Mask::Ones => None,
            Mask::Numbers(mask) => Some(B::elements(mask)),
        };
        if let Some(mask) = &mask {
            multiply(weight.to_mut(), mask);
        }
        Self {
            inputs,
            outputs,
            weight,
            mask,
            bias: B::elements(&layer.bias),
        }
    }
}

/// Of some rows, what each layer gives.
type Hidden = Vec<Vec<f32>>;

/// Pieces of so much work that a thread takes one, and not more than have room for their sums. Of weights too many for a cache
/// there is one piece, whose products all threads share.
fn rows_at_once(rows: usize, weights: usize) -> usize {
    let pieces = match weights {
        ..=LARGE => (rows.saturating_mul(weights) / WORK)
            .min(rows / FEWEST)
            .clamp(1, MOST),
        _ => 1,
    };
    rows.div_ceil(pieces)
}

/// Weights of 512 kB.
const LARGE: usize = 1 << 17;
/// Products and sums that take a thread some microseconds.
const WORK: usize = 1 << 18;
/// Rows over which the reading and summing of weights spreads.
const FEWEST: usize = 24;
const MOST: usize = 32;

fn joined(mut pieces: Vec<Vec<f32>>) -> Vec<f32> {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces.concat(),
    }
}

fn summed(pieces: Vec<Vec<f32>>) -> Vec<f32> {
    let mut pieces = pieces.into_iter();
    let mut sum = pieces.next().expect("a piece");
    for piece in pieces {
        add_rows(&piece, sum.len(), 0, &mut sum);
    }
    sum
}

burn_host::vectorized! {
    fn multiply(numbers: &mut [f32], by: &[f32]) {
        for (x, y) in numbers.iter_mut().zip(by) {
            *x *= y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_worth_their_while() {
        // A coupling's network and a batch: two threads have as much each.
        assert_eq!(rows_at_once(100, 6_656), 50);
        assert_eq!(rows_at_once(5_000, 6_656), 157);
        // Few rows, and many weights.
        assert_eq!(rows_at_once(20, 100_000), 20);
        assert_eq!(rows_at_once(1, 1), 1);
        assert_eq!(rows_at_once(5_000, 1 << 20), 5_000);
        assert_eq!(rows_at_once(usize::MAX, 1 << 17), usize::MAX.div_ceil(32));
    }
}
