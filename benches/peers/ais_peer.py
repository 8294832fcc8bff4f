"""Annealed importance sampling in numpy, CHAINS runs at once from the base rate of the data to the model in the last argument.

As a job its `algorithm` is `ais`; `run N` is the published schedule of 14 500 temperatures with N of them, and prints
the estimate of log Z.
"""

import sys

import numpy as np

import common

job = common.job()
weights, b, c = common.read_parameters(sys.argv[10], job.n_hidden)
generator = np.random.Generator(np.random.SFC64(1))
counts = job.data.sum(0, dtype=np.float64)
base = np.log((1 + counts) / (1 + len(job.data) - counts)).astype(np.float32)
u_visible = np.empty((job.n_chains, common.VISIBLE), np.float32)
u_hidden = np.empty((job.n_chains, job.n_hidden), np.float32)
v = np.empty_like(u_visible)
h = np.empty_like(u_hidden)


def sigmoid(x):
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)
    return x


def draw(mean, u, out):
    generator.random(dtype=np.float32, out=u)
    np.less(u, mean, out=out)


def softplus_sum(x):
    return (np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))).sum(1, dtype=np.float64)


def schedule(temperatures):
    t = np.arange(temperatures + 1) * (14_500 / temperatures)
    return np.interp(t, [0, 500, 4500, 14_500], [0, 0.5, 0.9, 1]).astype(np.float32)


def run(temperatures):
    betas = schedule(temperatures)
    log_weights = np.zeros(job.n_chains)
    h[:] = generator.random(h.shape) < 0.5
    with np.errstate(over="ignore"):
        for beta, warmer in zip(betas, betas[1:]):
            draw(sigmoid((1 - beta) * base + beta * (h @ weights.T + b)), u_visible, v)
            pre = v @ weights + c
            log_weights += (warmer - beta) * (v @ (b - base))
            log_weights += softplus_sum(warmer * pre) - softplus_sum(beta * pre)
            draw(sigmoid(warmer * pre), u_hidden, h)
    log_z_0 = np.logaddexp(0, base.astype(np.float64)).sum() + job.n_hidden * np.log(2)
    greatest = log_weights.max()
    return [temperatures, log_z_0 + greatest + np.log(np.exp(log_weights - greatest).mean())]


common.serve(run, lambda: (weights, b, c))
