"""Flows as densities in FlowJAX, as its users write it."""

import os

from timing import flow_arguments, run_flows

args = flow_arguments()
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(args.threads > 1).lower()} intra_op_parallelism_threads={args.threads}"

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import paramax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import coupling_flow, masked_autoregressive_flow

from timing import BINS, BOUND, HIDDEN, TRANSFORMS


def flow_of(name):
    make = coupling_flow if name in ("realnvp", "spline") else masked_autoregressive_flow
    spline = {"transformer": RationalQuadraticSpline(knots=BINS, interval=BOUND)} if "spline" in name else {}
    base = Normal(jnp.zeros(args.latent))
    return make(jax.random.key(0), base_dist=base, flow_layers=TRANSFORMS, nn_width=HIDDEN, nn_depth=2, **spline)


def fit(name):
    params, static = eqx.partition(flow_of(name), eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable))
    optimizer = optax.adam(1e-3)
    points = jax.random.normal(jax.random.key(1), (args.batch, args.latent))

    @eqx.filter_jit
    def step(params, state):
        def loss(params):
            return -paramax.unwrap(eqx.combine(params, static)).log_prob(points).mean()

        gradients = eqx.filter_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return eqx.apply_updates(params, updates), state

    held = [params, optimizer.init(params)]

    def work():
        held[:] = jax.block_until_ready(step(*held))

    return work


def sample(name):
    flow = flow_of(name)
    draw = eqx.filter_jit(lambda key: flow.sample(key, (args.batch,)))
    return lambda: jax.block_until_ready(draw(jax.random.key(2)))


run_flows(args, "FlowJAX, jit", fit, sample)
