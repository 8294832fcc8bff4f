"""CD-k and PCD-k in JAX: one compiled program for ten updates, a scan over them and one over the k steps; buffers donated.

OPTION is the random number generator: threefry2x32, rbg or unsafe_rbg.
"""

import functools
import math

import jax
import jax.numpy as jnp

import common

UPDATES_A_CALL = 10

job = common.job()
data = jnp.asarray(job.data)
weights, b, c = common.first_parameters(job.n_hidden)
m = job.n_chains if job.persistent else job.rows
state = (
    jnp.asarray(weights),
    jnp.asarray(b),
    jnp.asarray(c),
    jnp.zeros((m, job.n_hidden), jnp.float32),
    jax.random.key(1, impl=job.option),
    jnp.int32(0),
)


def uniforms(key, units):
    return jax.random.uniform(key, (m, units), jnp.float32)


def draw(u, mean):
    return (u < mean).astype(jnp.float32)


def update(data, state, _):
    w, b, c, hidden, key, turn = state
    batch = jax.lax.dynamic_slice_in_dim(data, turn * job.rows, job.rows)
    key, start, chains = jax.random.split(key, 3)
    positive = jax.nn.sigmoid(batch @ w + c)
    if not job.persistent:
        hidden = draw(uniforms(start, job.n_hidden), positive)

    def gibbs(carry, key):
        u = uniforms(key, common.VISIBLE + job.n_hidden)
        v = draw(u[:, : common.VISIBLE], jax.nn.sigmoid(carry[0] @ w.T + b))
        n = jax.nn.sigmoid(v @ w + c)
        return (draw(u[:, common.VISIBLE :], n), v, n), None

    first = (hidden, jnp.zeros((m, common.VISIBLE), jnp.float32), jnp.zeros((m, job.n_hidden), jnp.float32))
    (hidden, v, n), _ = jax.lax.scan(gibbs, first, jax.random.split(chains, job.k))
    w = w + job.lr * (batch.T @ positive / job.rows - v.T @ n / m)
    b = b + job.lr * (batch.mean(0) - v.mean(0))
    c = c + job.lr * (positive.mean(0) - n.mean(0))
    return (w, b, c, hidden, key, (turn + 1) % job.batches), None


@functools.partial(jax.jit, donate_argnums=0)
def updates(state, data):
    return jax.lax.scan(functools.partial(update, data), state, None, UPDATES_A_CALL)[0]


def run(count):
    global state
    calls = math.ceil(count / UPDATES_A_CALL)
    for _ in range(calls):
        state = updates(state, data)
    jax.block_until_ready(state)
    return calls * UPDATES_A_CALL


common.serve(run, lambda: state[:3])
