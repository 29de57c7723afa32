"""The paper's VAE in JAX, as its users write it: pure functions, jit, a scan over the layers."""

import os

from timing import LATENT, LN_2_PI, PIXELS, UNITS, WINDOW, arguments, run

args = arguments()
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(args.threads > 1).lower()} intra_op_parallelism_threads={args.threads}"

import jax
import jax.numpy as jnp


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
        params["head"] = linear_init(keys[4], UNITS, layers * (2 * LATENT + 1))
    return params


def posterior(params, x, layers):
    """Mean, log-variance, and û, w, b and w·û of each layer, layers first."""
    h = maxout(params["encoder"], x)
    flow = None
    if layers:
        raw = linear(params["head"], h).reshape(-1, layers, 2 * LATENT + 1)
        u, w, b = raw[..., :LATENT], raw[..., LATENT : 2 * LATENT], raw[..., 2 * LATENT]
        wu = (w * u).sum(-1)
        wu_hat = jax.nn.softplus(wu) - 1
        u_hat = u + ((wu_hat - wu) / (w * w).sum(-1))[..., None] * w
        flow = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (u_hat, w, b, wu_hat))
    mean, log_var = jnp.split(linear(params["base"], h), 2, axis=-1)
    return mean, log_var, flow


def elbo(params, x, q, eps):
    mean, log_var, flow = q
    z = mean + jnp.exp(0.5 * log_var) * eps
    log_q = -0.5 * (LN_2_PI + log_var + eps * eps).sum(-1)
    if flow is not None:

        def layer(carry, parameters):
            z, log_q = carry
            u_hat, w, b, wu_hat = parameters
            t = jnp.tanh((z * w).sum(-1) + b)
            return (z + u_hat * t[..., None], log_q - jnp.log1p(wu_hat * (1 - t * t))), None

        (z, log_q), _ = jax.lax.scan(layer, (z, log_q), flow)
    logits = linear(params["logits"], maxout(params["decoder"], z))
    log_x = (x * logits - jax.nn.softplus(logits)).sum(-1)
    log_z = -0.5 * (LN_2_PI + z * z).sum(-1)
    return log_x + log_z - log_q


key = jax.random.key(0)
images = (jax.random.uniform(key, (args.batch, PIXELS)) < 0.2).astype(jnp.float32)


def step(layers):
    lr, alpha, eps, momentum = 1e-5, 0.99, 1e-5, 0.9

    def loss(params, key):
        noise = jax.random.normal(key, (args.batch, LATENT))
        return -elbo(params, images, posterior(params, images, layers), noise).mean()

    def one(params, square, buffer, key):
        key, now = jax.random.split(key)
        grads = jax.grad(loss)(params, now)
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
