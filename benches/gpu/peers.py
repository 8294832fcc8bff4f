"""PyTorch and JAX on the GPU of this machine, at what benches/cuda.rs times of harmonium.

    peers.py MNIST            a line of JSON for each way to do each job, within some hundred seconds
    peers.py MNIST --quick    tiny sizes, to see that everything works, on any device
    peers.py --table LINES    such lines and harmonium's as a table in Markdown

The work is that of benches/peers: the grey levels of the first 50 000 images as float32, first weights within the same bounds, P and
N as means, chains as samples. Chains, annealing and free energies take the model that the tutorial's updates have made before.
PyTorch is taken as it is, and with an update (a step, a temperature) captured as a CUDA graph; JAX as jitted scans over donated
buffers, with the fastest of its generators at the tutorial's update. Both with products in float32 and in what is faster (TF32).
`host` and `device` are seconds a call by the host's clock and by the device's events, of which JAX has none.
"""

import contextlib
import functools
import gzip
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

VISIBLE = 784
ROWS = 50_000
LR = 0.1
HIDDEN = 500
RUNS = 100
TEMPERATURES = 14_500
# Of the temperatures so many are timed.
TIMED_TEMPERATURES = 500
# How long each may take altogether, and one job.
LIMITS = {"torch": 40, "jax": 58}
JOB_LIMIT = 15
QUICK = "--quick" in sys.argv
# Name: hidden units, persistent, k, rows, chains.
UPDATES = {
    "tutorial": (500, True, 15, 20, 20),
    "cd1-1024": (1024, False, 1, 128, 128),
    "pcd1-2048": (2048, True, 1, 512, 512),
}
# Name: chains, steps.
SWEEPS = {"10000x1": (10_000, 1), "10000x15": (10_000, 15), "20x15": (20, 15)}
if QUICK:
    UPDATES = {name: (10, persistent, 2, 4, 4) for name, (_, persistent, *_) in UPDATES.items()}
    SWEEPS = {name: (8, k) for name, (_, k) in SWEEPS.items()}
    HIDDEN, RUNS, TIMED_TEMPERATURES, ROWS = 10, 4, 7, 100
FREE_ENERGIES = 100 if QUICK else 10_000


def images(folder):
    import numpy as np

    with gzip.open(pathlib.Path(folder) / "train-images-idx3-ubyte.gz") as file:
        grey = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, VISIBLE)[:ROWS]
    return grey.astype(np.float32) / np.float32(255)


def first_parameters(n_hidden):
    import numpy as np

    limit = 4 * math.sqrt(6 / (VISIBLE + n_hidden))
    weights = np.random.default_rng(123).uniform(-limit, limit, (VISIBLE, n_hidden)).astype(np.float32)
    return weights, np.zeros(VISIBLE, np.float32), np.zeros(n_hidden, np.float32)


def base_rate(data):
    import numpy as np

    counts = data.sum(0, dtype=np.float64)
    return np.log((1 + counts) / (1 + len(data) - counts)).astype(np.float32)


def schedule():
    import numpy as np

    t = np.arange(TIMED_TEMPERATURES + 1) * (TEMPERATURES / TIMED_TEMPERATURES)
    return np.interp(t, [0, 500, 4500, TEMPERATURES], [0, 0.5, 0.9, 1]).astype(np.float32)


class Reports:
    """Does jobs within their limits, and says what came of each."""

    def __init__(self, library, **common):
        self.end = time.monotonic() + LIMITS[library]
        self.common = common

    def job(self, who, job, unit, work):
        """`work` gives how many units a call does, and the lists of seconds a call by the host and by the device."""
        report = {"who": who, "job": job, "unit": unit} | self.common
        left = int(min(JOB_LIMIT, self.end - time.monotonic()))
        if left < 2:
            report["problem"] = "left out for want of time"
        else:
            signal.signal(signal.SIGALRM, self.too_long)
            signal.alarm(left)
            try:
                units, host, device, *more = work()
                report |= {"units_a_call": units, "host": statistics.median(host), "host_least": min(host), "host_most": max(host)}
                if device:
                    report |= {"device": statistics.median(device), "device_least": min(device), "device_most": max(device)}
                for each in more:
                    report |= each
            except Exception as problem:
                report["problem"] = f"{type(problem).__name__}: {problem}"[:500]
            finally:
                signal.alarm(0)
        print(json.dumps(report), flush=True)
        return report

    @staticmethod
    def too_long(*_):
        raise TimeoutError("too long")


def repeat(stretch):
    """Seconds a call: `stretch(calls)` gives those of so many calls by the host and, perhaps, by the device."""
    stretch(1)
    host, _ = stretch(2)
    calls = 1 if QUICK else max(1, int(0.1 / host))
    found = [stretch(calls) for _ in range(2 if QUICK else 5)]
    return [host for host, _ in found], [device for _, device in found if device is not None]


# --- PyTorch ------------------------------------------------------------------------------------------------------------------


def torch_peer(folder):
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda and not QUICK:
        sys.exit("PyTorch finds no GPU")
    reports = Reports("torch", version=torch.__version__, gpu=torch.cuda.get_device_name() if cuda else "none")
    host_data = images(folder)
    data = torch.tensor(host_data, device=device)
    tensor = functools.partial(torch.tensor, device=device)

    def stretch(call, calls):
        if cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
        start = time.perf_counter()
        if cuda:
            begin.record()
        for _ in range(calls):
            call()
        if not cuda:
            return (time.perf_counter() - start) / calls, None
        end.record()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return seconds / calls, begin.elapsed_time(end) / 1e3 / calls

    def captured(call):
        """The same as one launch."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def gibbs(state, hidden):
        w, b, c = state
        v = torch.bernoulli(torch.sigmoid(torch.addmm(b, hidden, w.t())))
        n = torch.sigmoid(torch.addmm(c, v, w))
        return torch.bernoulli(n), v, n

    class Update:
        def __init__(self, n_hidden, persistent, k, rows, chains):
            self.state = [tensor(x) for x in first_parameters(n_hidden)]
            self.persistent, self.k, self.rows, self.chains = persistent, k, rows, chains
            self.hidden = torch.zeros(chains, n_hidden, device=device)
            # Which rows is known on the device, so that a graph need not be told.
            self.which = torch.arange(rows, device=device)
            self.last = len(data) // rows * rows

        def __call__(self):
            w, b, c = self.state
            batch = torch.index_select(data, 0, self.which)
            self.which.add_(self.rows).remainder_(self.last)
            positive = torch.sigmoid(torch.addmm(c, batch, w))
            hidden = self.hidden if self.persistent else torch.bernoulli(positive)
            for _ in range(self.k):
                hidden, v, n = gibbs(self.state, hidden)
            w.addmm_(batch.t(), positive, alpha=LR / self.rows).addmm_(v.t(), n, alpha=-LR / self.chains)
            b.add_(batch.mean(0) - v.mean(0), alpha=LR)
            c.add_(positive.mean(0) - n.mean(0), alpha=LR)
            if self.persistent:
                self.hidden.copy_(hidden)

    class Sweep:
        def __init__(self, state, chains, k):
            self.state, self.k = state, k
            self.hidden = torch.bernoulli(torch.full((chains, HIDDEN), 0.5, device=device))

        def __call__(self):
            hidden = self.hidden
            for _ in range(self.k):
                hidden, _, _ = gibbs(self.state, hidden)
            self.hidden.copy_(hidden)

    class Temperature:
        """From one temperature of all runs to the next, and from the last to the first."""

        def __init__(self, state):
            self.state, self.base, self.betas = state, tensor(base_rate(host_data)), tensor(schedule())
            self.at = torch.zeros(1, dtype=torch.int64, device=device)
            self.hidden = torch.bernoulli(torch.full((RUNS, HIDDEN), 0.5, device=device))
            self.log_weights = torch.zeros(RUNS, dtype=torch.float64, device=device)

        def __call__(self):
            w, b, c = self.state
            beta = torch.index_select(self.betas, 0, self.at)
            warmer = torch.index_select(self.betas, 0, self.at + 1)
            self.at.add_(1).remainder_(TIMED_TEMPERATURES)
            v = torch.bernoulli(torch.sigmoid(torch.lerp(self.base, torch.addmm(b, self.hidden, w.t()), beta)))
            pre = torch.addmm(c, v, w)
            hot, cold = torch.nn.functional.softplus(beta * pre), torch.nn.functional.softplus(warmer * pre)
            gain = (warmer - beta) * torch.mv(v, b - self.base)
            self.log_weights.add_(gain).add_((cold - hot).sum(1, dtype=torch.float64))
            self.hidden.copy_(torch.bernoulli(torch.sigmoid(warmer * pre)))

    def free_energies(state):
        w, b, c = state
        rows = data[:FREE_ENERGIES]
        return -torch.mv(rows, b) - torch.nn.functional.softplus(torch.addmm(c, rows, w)).sum(1)

    for precision, setting in [("float32", "highest"), ("TF32", "high")]:
        torch.set_float32_matmul_precision(setting)
        # A model for what does not train. It is there even if the tutorial's update cannot be timed.
        model = [tensor(x) for x in first_parameters(HIDDEN)]

        def ways(job, unit, make, units=1, calls=1):
            """Times the same call as it is and captured; `calls` of it, that do so many `units` together, are one."""
            for captures in [False, True] if cuda else [False]:

                def work():
                    one = make()
                    call = captured(one) if captures else one
                    many = call if calls == 1 else lambda: [call() for _ in range(calls)] and None
                    with torch.no_grad():
                        return units, *repeat(functools.partial(stretch, many))

                reports.job(f"PyTorch {'graph' if captures else 'eager'}, {precision}", job, unit, work)

        with torch.no_grad():
            for name, job in UPDATES.items():
                ways(name, "update", lambda: Update(*job))
            with contextlib.suppress(Exception):
                update = Update(*UPDATES["tutorial"])
                one = captured(update) if cuda else update
                for _ in range(2 if QUICK else 3000):
                    one()
                model = update.state
            for name, (chains, k) in SWEEPS.items():
                ways(name, "step of all chains", lambda: Sweep(model, chains, k), units=k)
            ways("ais", "temperature of 100 runs", lambda: Temperature(model), TIMED_TEMPERATURES, TIMED_TEMPERATURES)
            ways("free-energies", "row", lambda: functools.partial(free_energies, model), FREE_ENERGIES)


# --- JAX ----------------------------------------------------------------------------------------------------------------------


def jax_peer(folder):
    import jax
    import jax.numpy as jnp

    where = jax.devices()[0]
    if where.platform == "cpu" and not QUICK:
        sys.exit("JAX finds no GPU")
    reports = Reports("jax", version=jax.__version__, gpu=where.device_kind)
    host_data = images(folder)
    data = jnp.asarray(host_data)
    updates_a_call = 5 if QUICK else 100

    def draw(key, mean):
        return (jax.random.uniform(key, mean.shape, jnp.float32) < mean).astype(jnp.float32)

    def gibbs(parameters, carry, key):
        w, b, c = parameters
        down, up = jax.random.split(key)
        v = draw(down, jax.nn.sigmoid(carry[0] @ w.T + b))
        n = jax.nn.sigmoid(v @ w + c)
        return (draw(up, n), v, n), None

    def sweep(parameters, hidden, key, k):
        m = len(hidden)
        first = (hidden, jnp.zeros((m, VISIBLE), jnp.float32), jnp.zeros_like(hidden))
        return jax.lax.scan(functools.partial(gibbs, parameters), first, jax.random.split(key, k))[0]

    def update(job, data, state, _):
        n_hidden, persistent, k, rows, m = job
        w, b, c, hidden, key, turn = state
        batch = jax.lax.dynamic_slice_in_dim(data, turn * rows, rows)
        key, start, chains = jax.random.split(key, 3)
        positive = jax.nn.sigmoid(batch @ w + c)
        if not persistent:
            hidden = draw(start, positive)
        hidden, v, n = sweep((w, b, c), hidden, chains, k)
        w = w + LR * (batch.T @ positive / rows - v.T @ n / m)
        b = b + LR * (batch.mean(0) - v.mean(0))
        c = c + LR * (positive.mean(0) - n.mean(0))
        return (w, b, c, hidden, key, (turn + 1) % (len(data) // rows)), None

    def updates(job, generator):
        """The first state, and a function that takes it, and gives it after so many updates."""
        many = jax.jit(
            lambda state, data: jax.lax.scan(functools.partial(update, job, data), state, None, updates_a_call)[0],
            donate_argnums=0,
        )
        state = (
            *map(jnp.asarray, first_parameters(job[0])),
            jnp.zeros((job[4], job[0]), jnp.float32),
            jax.random.key(1, impl=generator),
            jnp.int32(0),
        )
        return state, lambda state: many(state, data)

    def sweeps(parameters, chains, k, generator):
        calls = 1 if chains > 1000 and k > 1 else 10
        many = jax.jit(
            lambda state, parameters: jax.lax.scan(
                lambda state, _: (next_state(parameters, state), None), state, None, calls
            )[0],
            donate_argnums=0,
        )

        def next_state(parameters, state):
            hidden, key = state
            key, own = jax.random.split(key)
            return sweep(parameters, hidden, own, k)[0], key

        state = (jnp.zeros((chains, HIDDEN), jnp.float32), jax.random.key(1, impl=generator))
        return state, lambda state: many(state, parameters), k * calls

    def annealing(parameters, generator):
        base, betas = jnp.asarray(base_rate(host_data)), jnp.asarray(schedule())

        def temperature(parameters, state, pair):
            w, b, c = parameters
            hidden, log_weights, key = state
            beta, warmer = pair
            key, down, up = jax.random.split(key, 3)
            v = draw(down, jax.nn.sigmoid((1 - beta) * base + beta * (hidden @ w.T + b)))
            pre = v @ w + c
            gain = (warmer - beta) * (v @ (b - base))
            gain += (jax.nn.softplus(warmer * pre) - jax.nn.softplus(beta * pre)).sum(1)
            return (draw(up, jax.nn.sigmoid(warmer * pre)), log_weights + gain, key), None

        many = jax.jit(
            lambda state, parameters: jax.lax.scan(
                functools.partial(temperature, parameters), state, (betas[:-1], betas[1:])
            )[0],
            donate_argnums=0,
        )
        state = (
            jnp.zeros((RUNS, HIDDEN), jnp.float32),
            jnp.zeros(RUNS, jnp.float32),
            jax.random.key(1, impl=generator),
        )
        return state, lambda state: many(state, parameters)

    def timed(state, call):
        """Seconds a call from one state to the next; and the last state."""

        def stretch(calls):
            nonlocal state
            start = time.perf_counter()
            for _ in range(calls):
                state = call(state)
            jax.block_until_ready(state)
            return (time.perf_counter() - start) / calls, None

        return *repeat(stretch), state

    # Which of the generators is the fastest.
    speeds = {}
    generator = "threefry2x32"
    for candidate in ["rbg", "threefry2x32", "unsafe_rbg"]:

        def work():
            host, device, _ = timed(*updates(UPDATES["tutorial"], candidate))
            speeds[candidate] = statistics.median(host)
            return updates_a_call, host, device, {"generator": candidate}

        reports.job(f"JAX {candidate}, default precision", "tutorial", "update", work)
    if speeds:
        generator = min(speeds, key=speeds.get)

    for precision, setting in [("float32", "highest"), ("default precision", "default")]:
        with jax.default_matmul_precision(setting):
            model = tuple(map(jnp.asarray, first_parameters(HIDDEN)))
            who = f"JAX, {precision}"
            said = {"generator": generator}
            for name, job in UPDATES.items():

                def work():
                    nonlocal model
                    host, device, state = timed(*updates(job, generator))
                    if name == "tutorial":
                        model = state[:3]
                    return updates_a_call, host, device, said

                reports.job(who, name, "update", work)
            for name, (chains, k) in SWEEPS.items():

                def work():
                    state, call, units = sweeps(model, chains, k, generator)
                    return units, *timed(state, call)[:2], said

                reports.job(who, name, "step of all chains", work)

            def work():
                return TIMED_TEMPERATURES, *timed(*annealing(model, generator))[:2], said

            reports.job(who, "ais", "temperature of 100 runs", work)

            def work():
                rows = data[:FREE_ENERGIES]
                f = jax.jit(lambda rows, w, b, c: -(rows @ b) - jax.nn.softplus(rows @ w + c).sum(1))
                return FREE_ENERGIES, *timed(None, lambda _: f(rows, *model))[:2]

            reports.job(who, "free-energies", "row", work)


# --- The table ----------------------------------------------------------------------------------------------------------------


def table(path):
    """Microseconds a unit of work, by the host's clock; and by the device's in parentheses, where it is known."""
    lines = [json.loads(line) for line in open(path) if line.startswith("{")]
    names = {line["job"]: line["unit"] for line in lines}
    for line in lines:
        if line["who"] == "harmonium":
            line["who"] = f"harmonium, {line['sums']}"
    whos = list(dict.fromkeys(line["who"] for line in lines))
    print("Microseconds by the host's clock (by the device's events)\n")
    print("| | " + " | ".join(f"{job}, {unit}" for job, unit in names.items()) + " |")
    print("|---|" + "---|" * len(names))
    for who in whos:
        cells = []
        for job in names:
            found = [line for line in lines if line["who"] == who and line["job"] == job]
            if not found:
                cells.append("")
            elif "problem" in found[-1]:
                cells.append(found[-1]["problem"][:30].replace("|", "/").replace("\n", " "))
            else:
                micro = lambda clock: f"{found[-1][clock] / found[-1]['units_a_call'] * 1e6:.4g}"
                cells.append(micro("host") + (f" ({micro('device')})" if "device" in found[-1] else ""))
        print(f"| {who} | " + " | ".join(cells) + " |")


def main():
    if "--table" in sys.argv:
        return table(sys.argv[sys.argv.index("--table") + 1])
    folder = sys.argv[1]
    peers = {"torch": torch_peer, "jax": jax_peer}
    for name, peer in peers.items():
        if f"--only-{name}" in sys.argv:
            return peer(folder)
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    status = 0
    for name in peers:
        # Each in a process of its own: neither holds memory or spoils the other's libraries.
        command = [sys.executable, *sys.argv, f"--only-{name}"]
        try:
            done = subprocess.run(command, env=environment, timeout=LIMITS[name] + 12).returncode
        except subprocess.TimeoutExpired:
            done = "too long"
        if done:
            status = 1
            print(json.dumps({"who": name, "job": "all", "unit": "", "problem": f"ended with {done}"}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
