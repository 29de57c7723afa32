"""Flows as densities in zuko or nflows on PyTorch, eager, as their users write it."""

from timing import BINS, BOUND, HIDDEN, TRANSFORMS, flow_arguments, run_flows

args = flow_arguments()

import torch

torch.set_num_threads(args.threads)


def of_zuko(name):
    import zuko

    hidden = [HIDDEN, HIDDEN]
    # zuko couples with masks: half of the coordinates at a time, in turn.
    passes = {"passes": 2} if name in ("realnvp", "spline") else {}
    if "spline" in name:
        return zuko.flows.NSF(args.latent, transforms=TRANSFORMS, bins=BINS, hidden_features=hidden, **passes)
    return zuko.flows.MAF(args.latent, transforms=TRANSFORMS, hidden_features=hidden, **passes)


def of_nflows(name):
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.nn.nets import MLP
    from nflows.transforms import CompositeTransform, RandomPermutation
    from nflows.transforms.autoregressive import (
        MaskedAffineAutoregressiveTransform,
        MaskedPiecewiseRationalQuadraticAutoregressiveTransform,
    )
    from nflows.transforms.coupling import AffineCouplingTransform, PiecewiseRationalQuadraticCouplingTransform
    from nflows.utils.torchutils import create_mid_split_binary_mask

    spline = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}

    class Network(MLP):
        def forward(self, inputs, context=None):
            return super().forward(inputs)

    def network(inputs, outputs):
        return Network([inputs], [outputs], [HIDDEN, HIDDEN])

    def transform():
        mask = create_mid_split_binary_mask(args.latent)
        masked = {"features": args.latent, "hidden_features": HIDDEN, "num_blocks": 1, "use_residual_blocks": False}
        match name:
            case "realnvp":
                return AffineCouplingTransform(mask, network)
            case "maf":
                return MaskedAffineAutoregressiveTransform(**masked)
            case "spline":
                return PiecewiseRationalQuadraticCouplingTransform(mask, network, **spline)
            case "spline-autoregressive":
                return MaskedPiecewiseRationalQuadraticAutoregressiveTransform(**masked, **spline)

    transforms = [part for _ in range(TRANSFORMS) for part in (transform(), RandomPermutation(args.latent))]
    return Flow(CompositeTransform(transforms), StandardNormal([args.latent]))


def log_prob(flow, points):
    return flow.log_prob(points) if args.library == "nflows" else flow().log_prob(points)


def flow_of(name):
    torch.manual_seed(0)
    return of_nflows(name) if args.library == "nflows" else of_zuko(name)


def fit(name):
    flow = flow_of(name)
    points = torch.randn(args.batch, args.latent)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)

    def work():
        optimizer.zero_grad()
        (-log_prob(flow, points).mean()).backward()
        optimizer.step()

    return work


def sample(name):
    flow = flow_of(name)

    def work():
        with torch.no_grad():
            flow.sample(args.batch) if args.library == "nflows" else flow().sample((args.batch,))

    return work


run_flows(args, f"{args.library}, eager", fit, sample)
