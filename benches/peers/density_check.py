"""Checks density.py by enumerated small models; ends with an error if a port is wrong.

Correct ports fail with a probability below 2e-4: 96 numbers are compared within five standard errors, 36 of which are estimated from
100 chains (Student's t).
"""

import numpy as np

import density

SIGMAS = 5
RIGHT = []


def states(n):
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def log_p(w, b, c):
    """Probabilities of all hidden states by enumeration; not normalised."""
    h = states(len(c))
    return h @ c + np.logaddexp(0, h @ w.T + b).sum(1)


def log_likelihood(rows, w, b, c):
    w, b, c = (x.astype(np.float64) for x in (w, b, c))
    return (rows @ b + np.logaddexp(0, rows @ w + c).sum(1)).mean() - np.logaddexp.reduce(log_p(w, b, c))


def bars(rows):
    """Five columns of two pixels, each all on or all off: log 32 nats."""
    return np.tile(states(5), (rows // 32, 2)).astype(np.float32)


def report(name, right, found):
    print(f"{name}: {found}", "" if right else "WRONG", flush=True)
    RIGHT.append(right)


def chains(port, k):
    """With a learning rate of 0 the chains' hidden states have the model's probabilities, and mu follows the grey levels."""
    generator = np.random.default_rng(k)
    grey = generator.random((300, 10), np.float32)
    recipe = density.Recipe(sampled=True, l2=0, n_hidden=6)
    w, b, c = 0.7 * generator.standard_normal((10, 6)), 0.5 * generator.standard_normal(10), generator.standard_normal(6)
    model = port(recipe, grey)
    if isinstance(model, density.Numpy):
        model.w, model.b, model.c = (x.astype(np.float32) for x in (w, b, c))
    else:
        model.state = *(x.astype(np.float32) for x in (w, b, c)), *model.state[3:]
    hidden = lambda: np.asarray(model.h if isinstance(model, density.Numpy) else model.state[5])
    source, rates, found = density.batches(recipe, len(grey)), np.zeros(density.STRIDE, np.float32), []
    for _ in range(600):
        model.run(next(source), rates, k)
        found.append(hidden().copy())
    p = np.exp(log_p(w, b, c) - np.logaddexp.reduce(log_p(w, b, c))) @ states(6)
    of_each = np.mean(found[100:], 0)
    z = (of_each.mean(0) - p) / (of_each.std(0, ddof=1) / np.sqrt(len(of_each)))
    report(f"{port.__name__}, hidden states, k = {k}, in standard errors", np.abs(z).max() < SIGMAS, z.round(1))
    mu = np.asarray(model.mu if isinstance(model, density.Numpy) else model.state[3])
    # An upper bound, as for independent rows; an epoch uses every row once.
    error = np.sqrt(recipe.slide / (2 - recipe.slide) * 0.25 / recipe.rows)
    z = (mu - grey.mean(0)) / error
    report(f"{port.__name__}, mu, k = {k}, in standard errors", np.abs(z).max() < SIGMAS, z.round(1))


def learnt(port, recipe, lr, v, p, *parameters):
    """W, b, c, mu, lambda after an update from v and p."""
    numbers = [x.astype(np.float32) for x in parameters]
    if port is density.Jax:
        return [np.asarray(x, np.float64) for x in density.jax_programs()[1](recipe, np.float32(lr), v, p, *numbers)]
    model = port(recipe, np.zeros((recipe.rows, v.shape[1]), np.float32))
    model.w, model.b, model.c, model.mu, model.lam = numbers
    model.v[:], model.p[:] = v, p
    model.learn(np.float32(lr))
    return [x.astype(np.float64) for x in (model.w, model.b, model.c, model.mu, model.lam)]


def gradient(port):
    """An update follows the published equations, and is the same for flipped data and a flipped model."""
    generator = np.random.default_rng(3)
    recipe, lr = density.Recipe(sampled=True, l2=2e-4, n_hidden=6), 0.2
    m = recipe.rows
    v, p = (generator.random((2 * m, 10)) < 0.3).astype(np.float32), generator.random((2 * m, 6), np.float32)
    before = [generator.standard_normal(n) for n in [(10, 6), 10, 6]] + [generator.random(n) for n in [10, 6]]
    after = learnt(port, recipe, lr, v, p, *before)
    w, b, c, mu, lam = before
    mu, lam = 0.99 * mu + 0.01 * v[:m].mean(0), 0.99 * lam + 0.01 * p[:m].mean(0)
    gw = (v[m:].T @ p[m:] - v[:m].T @ p[:m]).astype(np.float64) / m
    gb, gc = v[m:].mean(0) - v[:m].mean(0), p[m:].mean(0) - p[:m].mean(0)
    gw -= np.outer(gb, lam) + np.outer(mu, gc)
    expected = [w * (1 - lr * recipe.l2) - lr * gw, b - lr * (gb - gw @ lam), c - lr * (gc - gw.T @ mu), mu, lam]
    # Sums of at most 2m products in float32; their magnitudes add up to less than 4.
    error = max(np.abs(x - y).max() for x, y in zip(after, expected))
    report(f"{port.__name__}, an update's error", error < 2 * m * 2**-22, error)
    recipe = density.Recipe(sampled=True, l2=0, n_hidden=6)
    w, b, c, mu, lam = learnt(port, recipe, lr, v, p, *before)
    flip = lambda w, b, c, mu, lam: (-w, -b, c + w.sum(0), 1 - mu, lam)
    flipped = flip(*learnt(port, recipe, lr, 1 - v, p, *flip(*before)))
    error = max(np.abs(x - y).max() for x, y in zip(flipped, (w, b, c, mu, lam)))
    report(f"{port.__name__}, an update's error with all data flipped", error < 2 * m * 2**-22, error)


def learning(port):
    """The exact log-likelihood of bars rises with the updates and approaches -log 32, the maximum."""
    grey = bars(3200)
    for flipped in (False, True):
        rows = 1 - grey if flipped else grey
        found = []
        for updates in (50, 500, 5000):
            recipe = density.Recipe(sampled=False, l2=2e-4, n_hidden=6)
            found.append(log_likelihood(rows, *density.train(port, recipe, rows, updates)))
        name = f"{port.__name__}, log-likelihood of {'flipped ' * flipped}bars after 50, 500, 5000 updates"
        report(name, found == sorted(found) and -np.log(32) - 0.2 < found[-1] < -np.log(32), np.round(found, 3))


for port in (density.Numpy, density.Jax):
    gradient(port)
    for k in (1, 2, 5):
        chains(port, k)
    learning(port)
if not all(RIGHT):
    raise SystemExit("density.py is wrong")
