"""The paper's VAE in JAX, as its users write it: pure functions, jit, a scan over the layers."""

import os

from timing import HIDDEN, LATENT, LN_2_PI, PIXELS, UNITS, VECTORS, WINDOW, arguments, run

args = arguments()
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(args.threads > 1).lower()} intra_op_parallelism_threads={args.threads}"

import jax
import jax.numpy as jnp
import numpy as np


def linear_init(key, inputs, outputs):
    bound = inputs**-0.5
    a, b = jax.random.split(key)
    return {
        "w": jax.random.uniform(a, (inputs, outputs), minval=-bound, maxval=bound),
        "b": jax.random.uniform(b, (outputs,), minval=-bound, maxval=bound),
    }


def linear(p, x):
    return x @ p["w"] + p["b"]


def maxout(p, x):
    y = linear(p, x)
    return y.reshape(*y.shape[:-1], -1, WINDOW).max(-1)


def init(key, layers):
    keys = jax.random.split(key, 5)
    params = {
        "encoder": linear_init(keys[0], PIXELS, UNITS * WINDOW),
        "base": linear_init(keys[1], UNITS, 2 * LATENT),
        "decoder": linear_init(keys[2], LATENT, UNITS * WINDOW),
        "logits": linear_init(keys[3], UNITS, PIXELS),
    }
    if layers:
        params["flow"] = FLOWS[args.flow].init(keys[4], layers)
    return params


class Planar:
    """û, w, b and w·û of each layer, layers first, by a head on the features."""

    def init(key, layers):
        return linear_init(key, UNITS, layers * (2 * LATENT + 1))

    def bind(params, h):
        raw = linear(params, h).reshape(len(h), -1, 2 * LATENT + 1)
        u, w, b = raw[..., :LATENT], raw[..., LATENT : 2 * LATENT], raw[..., 2 * LATENT]
        wu = (w * u).sum(-1)
        wu_hat = jax.nn.softplus(wu) - 1
        u_hat = u + ((wu_hat - wu) / (w * w).sum(-1))[..., None] * w
        return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (u_hat, w, b, wu_hat))

    def layer(parameters, z):
        u_hat, w, b, wu_hat = parameters
        t = jnp.tanh((z * w).sum(-1) + b)
        return z + u_hat * t[..., None], jnp.log1p(wu_hat * (1 - t * t))


class Networks:
    """Layers that are a network each, given the features: their weights, layers first, what the features add to
    each, and a permutation."""

    def stacked(key, layers, inputs, outputs):
        def one(key):
            keys = jax.random.split(key, 4)
            return {
                "first": linear_init(keys[0], inputs, HIDDEN),
                "context": linear_init(keys[1], UNITS, HIDDEN)["w"],
                "second": linear_init(keys[2], HIDDEN, HIDDEN),
                "last": linear_init(keys[3], HIDDEN, outputs),
            }

        return jax.vmap(one)(jax.random.split(key, layers))

    def bind(params, h):
        orders = [np.random.default_rng(k).permutation(LATENT) for k in range(len(params["context"]))]
        return params, jnp.einsum("bi,kio->kbo", h, params["context"]), jnp.array(orders)


def masked(p, mask, x):
    return x @ (p["w"] * mask) + p["b"]


class Nice(Networks):
    def init(key, layers):
        return Networks.stacked(key, layers, LATENT // 2, LATENT // 2)

    def layer(parameters, z):
        p, of_features, order = parameters
        kept, moved = jnp.split(z, 2, axis=-1)
        h = jax.nn.relu(linear(p["first"], kept) + of_features)
        shift = linear(p["last"], jax.nn.relu(linear(p["second"], h)))
        z = jnp.concatenate([kept, moved + shift], axis=-1)[..., order]
        return z, jnp.zeros(z.shape[:-1])


class Iaf(Networks):
    def init(key, layers):
        return Networks.stacked(key, layers, LATENT, 2 * LATENT)

    def layer(parameters, z):
        p, of_features, _ = parameters
        inputs, units = jnp.arange(1, LATENT + 1), jnp.arange(HIDDEN) * LATENT // HIDDEN
        outputs = jnp.repeat(jnp.arange(LATENT), 2)
        h = jax.nn.relu(masked(p["first"], inputs[:, None] <= units, z) + of_features)
        h = jax.nn.relu(masked(p["second"], units[:, None] <= units, h))
        raw = masked(p["last"], units[:, None] <= outputs, h).reshape(*z.shape, 2)
        s = raw[..., 0] / (1 + jnp.abs(raw[..., 0]) / 5)
        return (z * jnp.exp(s) + raw[..., 1])[..., ::-1], s.sum(-1)


class Sylvester:
    """On orthonormal vectors, by a head on the features and Gram and Schmidt."""

    NUMBERS = VECTORS * (LATENT + VECTORS + 2)

    def init(key, layers):
        return linear_init(key, UNITS, layers * Sylvester.NUMBERS)

    def bind(params, h):
        raw = jnp.swapaxes(linear(params, h).reshape(len(h), -1, Sylvester.NUMBERS), 0, 1)
        free, square, diagonal, b = jnp.split(
            raw, [VECTORS * LATENT, VECTORS * (LATENT + VECTORS), VECTORS * (LATENT + VECTORS + 1)], axis=-1
        )
        q = []
        for vector in jnp.split(free.reshape(*raw.shape[:2], VECTORS, LATENT), VECTORS, axis=2):
            vector = vector[:, :, 0]
            for other in q:
                vector = vector - (vector * other).sum(-1, keepdims=True) * other
            q.append(vector / jnp.linalg.norm(vector, axis=-1, keepdims=True))
        square = square.reshape(*raw.shape[:2], VECTORS, VECTORS)
        r_ii, r_tilde_ii = jnp.tanh(jnp.diagonal(square, axis1=2, axis2=3)), jnp.tanh(diagonal)
        eye = jnp.eye(VECTORS)
        r = jnp.triu(square, 1) + eye * r_ii[..., None]
        r_tilde = jnp.triu(jnp.swapaxes(square, 2, 3), 1) + eye * r_tilde_ii[..., None]
        return jnp.stack(q, axis=2), r, r_tilde, b, r_ii * r_tilde_ii

    def layer(parameters, z):
        q, r, r_tilde, b, s = parameters
        t = jnp.tanh(jnp.einsum("bij,bjd,...bd->...bi", r_tilde, q, z) + b)
        z = z + jnp.einsum("bjd,bji,...bi->...bd", q, r, t)
        return z, jnp.log1p(s * (1 - t * t)).sum(-1)


FLOWS = {"planar": Planar, "nice": Nice, "iaf": Iaf, "sylvester-orthogonal": Sylvester}


def posterior(params, x, layers):
    """Mean, log-variance, and the parameters of each layer of the flow, layers first."""
    h = maxout(params["encoder"], x)
    flow = FLOWS[args.flow].bind(params["flow"], h) if layers else None
    mean, log_var = jnp.split(linear(params["base"], h), 2, axis=-1)
    return mean, log_var, flow


def elbo(params, x, q, eps):
    mean, log_var, flow = q
    z = mean + jnp.exp(0.5 * log_var) * eps
    log_q = -0.5 * (LN_2_PI + log_var + eps * eps).sum(-1)
    if flow is not None:

        def layer(carry, parameters):
            z, log_q = carry
            z, log_det = FLOWS[args.flow].layer(parameters, z)
            return (z, log_q - log_det), None

        (z, log_q), _ = jax.lax.scan(layer, (z, log_q), flow)
    logits = linear(params["logits"], maxout(params["decoder"], z))
    log_x = (x * logits - jax.nn.softplus(logits)).sum(-1)
    log_z = -0.5 * (LN_2_PI + z * z).sum(-1)
    return log_x + log_z - log_q


key = jax.random.key(0)
images = (jax.random.uniform(key, (args.batch, PIXELS)) < 0.2).astype(jnp.float32)


def step(layers):
    lr, alpha, eps, momentum, max_norm = 1e-5, 0.99, 1e-5, 0.9, 1e3

    def loss(params, key):
        noise = jax.random.normal(key, (args.batch, LATENT))
        return -elbo(params, images, posterior(params, images, layers), noise).mean()

    def one(params, square, buffer, key):
        key, now = jax.random.split(key)
        grads = jax.grad(loss)(params, now)
        norm = jnp.sqrt(sum((g * g).sum() for g in jax.tree.leaves(grads)))
        grads = jax.tree.map(lambda g: g * jnp.minimum(1, max_norm / norm), grads)
        square = jax.tree.map(lambda v, g: alpha * v + (1 - alpha) * g * g, square, grads)
        buffer = jax.tree.map(lambda m, g, v: momentum * m + g / (jnp.sqrt(v) + eps), buffer, grads, square)
        params = jax.tree.map(lambda p, m: p - lr * m, params, buffer)
        return params, square, buffer, key

    one = jax.jit(one, donate_argnums=(0, 1, 2))
    params = init(key, layers)
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = [params, zeros(), zeros(), jax.random.key(1)]

    def work():
        state[:] = one(*state)
        jax.block_until_ready(state)

    return work


def nll(layers):
    params = init(key, layers)
    at_once = max(1, 5000 // args.batch)
    chunks = -(-args.samples // at_once)
    assert chunks * at_once == args.samples, "the samples divide into equal chunks"

    @jax.jit
    def estimate(params, key):
        q = posterior(params, images, layers)

        def chunk(key, _):
            key, now = jax.random.split(key)
            eps = jax.random.normal(now, (at_once, args.batch, LATENT))
            return key, jax.nn.logsumexp(elbo(params, images, q, eps), axis=0)

        key, parts = jax.lax.scan(chunk, key, length=chunks)
        return jax.nn.logsumexp(parts, axis=0) - jnp.log(args.samples), key

    state = [jax.random.key(1)]

    def work():
        result, state[0] = estimate(params, state[0])
        result.block_until_ready()

    return work


run(args, "jax-jit", step, nll)
