"""The recipe `density` in numpy and in JAX: PCD with a centred gradient, a falling learning rate and a mean at the end.

It learns W, b, c from rows of grey levels, 100 per update: new bits each time (*sampled*), or fixed bits.
With V, P of these rows, V', N of as many persistent chains after k steps (P, N hidden means given V, V'), and with < > a mean
over rows, it ascends

    W <- W (1 - lr l2) + lr D,   b <- b + lr (<V> - <V'> - D lambda),   c <- c + lr (<P> - <N> - D^T mu),
    D = <(V - mu)(P - lambda)^T> - <(V' - mu)(N - lambda)^T>,

where mu and lambda follow the means of V and P (J. Melchior, A. Fischer and L. Wiskott, How to center deep Boltzmann machines,
JMLR 17, 2016). The number of updates follows from a trial of both k, so that a run fills its time.

density_check.py compares both with enumerated small models.
"""

import dataclasses
import functools
import time

import numpy as np

# The number of updates between two terms of the mean over parameters, and of one compiled call in JAX.
STRIDE = 10


@dataclasses.dataclass(frozen=True)
class Recipe:
    sampled: bool
    l2: float
    n_hidden: int = 500
    rows: int = 100  # and chains
    lr: float = 0.2  # falls linearly to 0
    few: int = 1  # steps of the first part of the updates
    many: int = 5  # steps of the others
    first_part: float = 0.6
    mean_part: float = 0.2  # of the updates, the last ones
    slide: float = 0.01
    seed: int = 1

    def first(self, grey):
        """W, b, c, mu, lambda and the chains' hidden states."""
        generator = np.random.default_rng(self.seed)
        n_rows, n_visible = grey.shape
        mean = grey.mean(0, dtype=np.float64)
        clipped = mean.clip(1 / n_rows, 1 - 1 / n_rows)
        numbers = [
            0.01 * generator.standard_normal((n_visible, self.n_hidden)),
            np.log(clipped / (1 - clipped)),
            np.zeros(self.n_hidden),
            mean,
            np.full(self.n_hidden, 0.5),
            generator.random((self.rows, self.n_hidden)) < 0.5,
        ]
        return [x.astype(np.float32) for x in numbers]


class Numpy:
    """float32, preallocated, both phases in one product; a transposed copy of W if several steps multiply by it."""

    def __init__(self, recipe, grey):
        self.recipe, self.grey = recipe, grey
        self.w, self.b, self.c, self.mu, self.lam, self.h = recipe.first(grey)
        self.generator = np.random.SFC64(recipe.seed)
        m, (n_visible, n_hidden) = recipe.rows, self.w.shape
        # Data above, chains below.
        self.v = np.empty((2 * m, n_visible), np.float32)
        self.p = np.empty((2 * m, n_hidden), np.float32)
        self.sign = np.repeat(np.float32([1 / m, -1 / m]), m)
        self.visible_mean = np.empty((m, n_visible), np.float32)
        self.u_visible, self.u_hidden = np.empty_like(self.visible_mean), np.empty_like(self.h)
        self.transposed = np.empty((n_hidden, n_visible), np.float32)
        self.d = np.empty_like(self.w)

    def draw(self, mean, u, out):
        # Two uniforms from each raw number; Generator.random takes more than twice as long.
        raw = self.generator.random_raw(u.size // 2).view(np.uint32).reshape(u.shape)
        np.multiply(raw, np.float32(2**-32), out=u, casting="unsafe", dtype=np.float32)
        np.less(u, mean, out=out)

    def conditional(self, states, w, bias, out):
        np.matmul(states, w, out=out)
        out += bias
        np.negative(out, out=out)
        np.exp(out, out=out)
        out += 1
        np.reciprocal(out, out=out)

    def gather(self, rows, k):
        """Fills v and p: the rows and their hidden means, and those of the chains after k steps."""
        m = self.recipe.rows
        data, chains = self.v[:m], self.v[m:]
        np.take(self.grey, rows, axis=0, out=data, mode="clip")
        if self.recipe.sampled:
            self.draw(data, self.u_visible, data)
        transposed = self.w.T
        if k > 1:
            np.copyto(self.transposed, transposed)
            transposed = self.transposed
        for left in reversed(range(k)):
            self.conditional(self.h, transposed, self.b, self.visible_mean)
            self.draw(self.visible_mean, self.u_visible, chains)
            # The last step's product includes the data.
            known = slice(m if left else 0, None)
            self.conditional(self.v[known], self.w, self.c, self.p[known])
            self.draw(self.p[m:], self.u_hidden, self.h)

    def learn(self, lr):
        """Ascends by v and p, and overwrites them."""
        m, slide = self.recipe.rows, self.recipe.slide
        self.mu += slide * (self.v[:m].mean(0) - self.mu)
        self.lam += slide * (self.p[:m].mean(0) - self.lam)
        db, dc = self.sign @ self.v, self.sign @ self.p
        self.v -= self.mu
        self.v *= self.sign[:, None]
        self.p -= self.lam
        np.matmul(self.v.T, self.p, out=self.d)
        self.b += lr * (db - self.d @ self.lam)
        self.c += lr * (dc - self.mu @ self.d)
        self.w *= 1 - lr * np.float32(self.recipe.l2)
        self.d *= lr
        self.w += self.d

    def run(self, rows, rates, k):
        """An update for each of `rates`, float32, with as many rows of `rows`."""
        # exp of a large number is infinite, and its reciprocal is the correct 0.
        with np.errstate(over="ignore"):
            for batch, lr in zip(rows, rates):
                self.gather(batch, k)
                self.learn(lr)

    def parameters(self):
        return self.w, self.b, self.c


class Jax:
    """One compiled program for STRIDE updates, a scan over them and one over the k steps; buffers donated."""

    def __init__(self, recipe, grey):
        import jax.numpy as jnp

        self.recipe, self.grey = recipe, jnp.asarray(grey)
        turn = jnp.uint32(recipe.seed * 0x9E3779B9 % 2**32)
        self.state = *map(jnp.asarray, recipe.first(grey)), turn

    def run(self, rows, rates, k):
        """An update for each of `rates`, float32, with as many rows of `rows`."""
        self.state = jax_programs()[0](self.recipe, k, self.grey, rows, rates, self.state)

    def parameters(self):
        return [np.asarray(x) for x in self.state[:3]]


@functools.cache
def jax_programs():
    """Updates and their parameters; a function, so that JAX is loaded only if needed."""
    import jax
    import jax.numpy as jnp

    def mixed(x):
        """A bijection of 32 bits in which each depends on all (C. Wellons' lowbias32)."""
        x = (x ^ x >> 16) * jnp.uint32(0x7FEB352D)
        x = (x ^ x >> 15) * jnp.uint32(0x846CA68B)
        return x ^ x >> 16

    def draw(turn, mean):
        """Bits from numbers that are a hash of turn and position: XLA fuses them with the comparison, and JAX's own
        generators are much slower."""
        position = jax.lax.iota(jnp.uint32, mean.size).reshape(mean.shape)
        bits = mixed(mixed(position) ^ mixed(turn))
        return ((bits >> 8).astype(jnp.float32) * 2**-24 < mean).astype(jnp.float32)

    def update(recipe, k, grey, state, given):
        w, b, c, mu, lam, h, turn = state
        rows, lr = given
        m = recipe.rows
        visible = lambda turn, h: draw(turn, jax.nn.sigmoid(h @ w.T + b))
        step = lambda i, h: draw(turn + 2 * i + 2, jax.nn.sigmoid(visible(turn + 2 * i + 1, h) @ w + c))
        data = draw(turn, grey[rows]) if recipe.sampled else grey[rows]
        h = jax.lax.fori_loop(np.uint32(0), np.uint32(k - 1), step, h)
        # The last step's product includes the data.
        v = jnp.concatenate([data, visible(turn + 2 * k - 1, h)])
        p = jax.nn.sigmoid(v @ w + c)
        h = draw(turn + 2 * k, p[m:])
        return (*learn(recipe, lr, v, p, w, b, c, mu, lam), h, turn + 2 * k + 1), None

    def learn(recipe, lr, v, p, w, b, c, mu, lam):
        m = recipe.rows
        (v_data, v_chains), (p_data, p_chains) = ((x[:m].mean(0), x[m:].mean(0)) for x in (v, p))
        mu += recipe.slide * (v_data - mu)
        lam += recipe.slide * (p_data - lam)
        sign = jnp.repeat(jnp.array([1 / m, -1 / m], jnp.float32), m)
        d = ((v - mu) * sign[:, None]).T @ (p - lam)
        b += lr * (v_data - v_chains - d @ lam)
        c += lr * (p_data - p_chains - mu @ d)
        return w * (1 - lr * recipe.l2) + lr * d, b, c, mu, lam

    @functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
    def updates(recipe, k, grey, rows, rates, state):
        return jax.lax.scan(functools.partial(update, recipe, k, grey), state, (rows, rates))[0]

    return updates, jax.jit(learn, static_argnums=0)


def batches(recipe, n_rows):
    """Rows for STRIDE updates at a time, without end; shuffled every epoch, whose remainder is dropped."""
    generator = np.random.default_rng(recipe.seed + 1)
    stored = np.empty((0, recipe.rows), np.int64)
    while True:
        while len(stored) < STRIDE:
            epoch = generator.permutation(n_rows)[: n_rows // recipe.rows * recipe.rows]
            stored = np.concatenate([stored, epoch.reshape(-1, recipe.rows)])
        yield stored[:STRIDE]
        stored = stored[STRIDE:]


def seconds_an_update(port, recipe, grey, k, budget):
    """Times STRIDE updates and more, for about this many seconds, after an untimed warm-up."""
    model, source = port(recipe, grey), batches(recipe, len(grey))
    rates = np.full(STRIDE, recipe.lr, np.float32)

    def run():
        model.run(next(source), rates, k)
        model.parameters()

    run()
    run()
    start, done = time.perf_counter(), 0
    while time.perf_counter() < start + budget:
        run()
        done += STRIDE
    return (time.perf_counter() - start) / done


def planned(port, recipe, grey, seconds, budget=2.0):
    """The number of updates that fill these seconds; all its parts are multiples of STRIDE."""
    few, many = (seconds_an_update(port, recipe, grey, k, budget) for k in (recipe.few, recipe.many))
    unit = 5 * STRIDE
    mean = recipe.first_part * few + (1 - recipe.first_part) * many
    return max(1, round(seconds / mean / unit)) * unit


def train(port, recipe, grey, updates):
    """W, b and c after this many updates: means over the last ones."""
    model, source = port(recipe, grey), batches(recipe, len(grey))
    rates = (recipe.lr * (1 - np.arange(updates) / updates)).astype(np.float32)
    first_part, before_mean = round(recipe.first_part * updates), round((1 - recipe.mean_part) * updates)
    sums, taken = [np.zeros(x.shape) for x in model.parameters()], 0
    for start in range(0, updates, STRIDE):
        k = recipe.few if start < first_part else recipe.many
        model.run(next(source), rates[start : start + STRIDE], k)
        if start >= before_mean:
            taken += 1
            for total, x in zip(sums, model.parameters()):
                total += x
    return [(total / taken).astype(np.float32) for total in sums]
