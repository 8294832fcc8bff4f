"""CD-k and PCD-k in numpy: float32, no temporaries, both halves of the gradient in one product."""

import numpy as np

import common

job = common.job()
weights, b, c = common.first_parameters(job.n_hidden)
generator = np.random.Generator(np.random.SFC64(1))
visible_count, hidden_count = common.VISIBLE, job.n_hidden
m = job.n_chains if job.persistent else job.rows

hidden = np.zeros((m, hidden_count), np.float32)
# Data above, chains below, so that vT [P; N] is one product.
visible = np.empty((job.rows + m, visible_count), np.float32)
means = np.empty((job.rows + m, hidden_count), np.float32)
u_visible = np.empty((m, visible_count), np.float32)
u_hidden = np.empty((m, hidden_count), np.float32)
visible_means = np.empty((m, visible_count), np.float32)
gradient = np.empty_like(weights)
# OpenBLAS multiplies by it faster than by a view of the weights; the copy pays off after a few steps.
transposed = np.empty((hidden_count, visible_count), np.float32) if job.k > 4 else weights.T
scale = np.repeat(np.float32([job.lr / job.rows, -job.lr / m]), [job.rows, m])
turn = 0


def sigmoid(x):
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)


def conditional(states, w, bias, out):
    np.matmul(states, w, out=out)
    out += bias
    sigmoid(out)


def draw(mean, u, out):
    generator.random(dtype=np.float32, out=u)
    np.less(u, mean, out=out)


def update():
    global turn, weights, b, c
    first = turn % job.batches * job.rows
    turn += 1
    visible[: job.rows] = job.data[first : first + job.rows]
    v, n = visible[job.rows :], means[job.rows :]
    conditional(visible[: job.rows], weights, c, means[: job.rows])
    if not job.persistent:
        draw(means[: job.rows], u_hidden, hidden)
    if job.k > 4:
        np.copyto(transposed, weights.T)
    for _ in range(job.k):
        conditional(hidden, transposed, b, visible_means)
        draw(visible_means, u_visible, v)
        conditional(v, weights, c, n)
        draw(n, u_hidden, hidden)
    b += scale @ visible
    c += scale @ means
    np.multiply(visible, scale[:, None], out=visible)
    np.matmul(visible.T, means, out=gradient)
    weights += gradient


def run(updates):
    # exp of a large number is infinite, and its reciprocal is the correct 0.
    with np.errstate(over="ignore"):
        for _ in range(updates):
            update()
    return updates


common.serve(run, lambda: (weights, b, c))
