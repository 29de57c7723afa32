//! The place of the fused operations in Burn's graph of gradients.

use burn::backend::{
    Autodiff, Backend,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use super::{PlanarBackwardOps, PlanarOps};
use crate::PlanarConstraint;

#[derive(Debug)]
struct Planar;

impl<B: Backend + PlanarBackwardOps> Backward<B, 2> for Planar {
    type State = (FloatTensor<B>, FloatTensor<B>, PlanarConstraint);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [raw_node, z_node] = ops.parents;
        let (raw, z, constraint) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let (grad_raw, grad_z) = B::planar_backward(raw, z, grad, constraint);
        if let Some(node) = raw_node {
            grads.register::<B>(node.id, grad_raw);
        }
        if let Some(node) = z_node {
            grads.register::<B>(node.id, grad_z);
        }
    }
}

impl<B: Backend + PlanarOps + PlanarBackwardOps, C: CheckpointStrategy> PlanarOps
    for Autodiff<B, C>
{
    fn planar(
        raw: FloatTensor<Self>,
        z: FloatTensor<Self>,
        constraint: PlanarConstraint,
    ) -> FloatTensor<Self> {
        let parents = [raw.node(), z.node()];
        let (raw, z) = (raw.into_primitive(), z.into_primitive());
        let packed = B::planar(raw.clone(), z.clone(), constraint);
        match Planar.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((raw, z, constraint), packed),
            OpsKind::UnTracked(prep) => prep.finish(packed),
        }
    }
}
