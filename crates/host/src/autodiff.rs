use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use burn::backend::{
    Autodiff, Backend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, NodeGuard, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

/// Puts the result of an operation into Burn's graph of gradients.
///
/// `inputs` are the nodes of the tensors that it was computed from. `gradients` takes the gradient of `output` and
/// which inputs want one, and returns one for each that does; it is called once, or never where none does.
pub fn tracked<B: Backend, C: CheckpointStrategy, const N: usize>(
    inputs: [NodeGuard; N],
    output: FloatTensor<B>,
    gradients: impl FnOnce(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + 'static,
) -> FloatTensor<Autodiff<B, C>> {
    let operation = Backward::<B, N>::prepare::<C>(Operation(gradients), inputs);
    match operation.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

/// As [`tracked`], of an operation with two results, either of which may have no gradient.
///
/// In Burn's graph an operation has one. Here that is nothing but where the gradients of the two are taken further: each of them
/// leaves its own when it has come, and the first gives the sign.
pub fn tracked_pair<B: Backend, C: CheckpointStrategy, const N: usize>(
    inputs: [NodeGuard; N],
    outputs: [FloatTensor<B>; 2],
    gradients: impl FnOnce([Option<FloatTensor<B>>; 2], [bool; N]) -> [Option<FloatTensor<B>>; N]
    + Send
    + 'static,
) -> [FloatTensor<Autodiff<B, C>>; 2] {
    let left = Arc::new(Mutex::new([None, None]));
    let of_both = left.clone();
    let both = tracked::<B, C, N>(inputs, outputs[0].clone(), move |sign, wanted| {
        drop(sign); // It shares memory with a gradient that may be written over.
        let left = std::mem::take(&mut *of_both.lock().unwrap_or_else(PoisonError::into_inner));
        gradients(left, wanted)
    });
    let [first, second] = outputs;
    [(0, first), (1, second)].map(|(i, output)| {
        let left = left.clone();
        tracked::<B, C, 1>([both.node()], output, move |grad, [_]| {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = left.iter().all(Option::is_none);
            left[i] = Some(grad.clone());
            [is_first.then_some(grad)]
        })
    })
}

struct Operation<F>(F);

impl<F> fmt::Debug for Operation<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<F>())
    }
}

impl<B, F, const N: usize> Backward<B, N> for Operation<F>
where
    B: Backend,
    F: FnOnce(FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N] + Send + 'static,
{
    type State = ();

    fn backward(self, ops: Ops<(), N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = (self.0)(grad, wanted);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
