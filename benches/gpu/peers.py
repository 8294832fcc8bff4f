"""PyTorch and JAX on the GPU of this machine, with the jobs of benches/cuda.rs.

    peers.py MNIST [MODEL]    a line of JSON for each job and each implementation, within 110 seconds
    peers.py MNIST --quick    tiny sizes, a smoke test on any device
    peers.py --table LINES    tables in Markdown from these lines and harmonium's

The work is that of benches/peers: the grey levels of the first 50 000 images as float32, first weights within the same
bounds, P and N as means, chains as samples. Chains, annealing and free energies use MODEL, which benches/cuda.rs saves.
PyTorch is an update (a step, a temperature) captured as a CUDA graph; JAX is jitted scans over donated buffers, with the generator
that was the fastest of three on an H100. Both with products in float32 and in TF32, which is faster.
`host` and `device` are seconds per call by the host's clock and by the device's events; JAX has none.

The mean pseudo-likelihood of 200 rows after 2500 of the tutorial's updates, and log Z of MODEL after the whole schedule, check that
all do the same work.
"""

import concurrent.futures
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
# Per call.
TIMED_TEMPERATURES = 500
# One epoch.
COMPARED_UPDATES = 2500
# Between the largest and the smallest pseudo-likelihood, relative to their mean, and between estimates of log Z:
# benches/peers/run.py explains why.
TOLERANCE = 0.06
ANNEALING_TOLERANCE = 10.0
# Seconds for each library in total, for one job, and for JAX's compilation; the rest is for timing.
LIMITS = {"torch": 32, "jax": 74}
JOB_LIMIT = 15
COMPILE_LIMIT = 54
BEGUN = time.monotonic()
GENERATOR = "threefry2x32"
QUICK = "--quick" in sys.argv
# Name: hidden units, persistent, k, rows, chains.
UPDATES = {
    "tutorial": (500, True, 15, 20, 20),
    "cd1-1024": (1024, False, 1, 128, 128),
    "pcd1-2048": (2048, True, 1, 512, 512),
}
# Name: chains, steps.
SWEEPS = {"20x15": (20, 15), "10000x15": (10_000, 15)}
if QUICK:
    UPDATES = {name: (10, persistent, 2, 4, 4) for name, (_, persistent, *_) in UPDATES.items()}
    SWEEPS = {name: (8, k) for name, (_, k) in SWEEPS.items()}
    HIDDEN, RUNS, TEMPERATURES, TIMED_TEMPERATURES, ROWS, COMPARED_UPDATES = 10, 4, 14, 7, 400, 10
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

    t = np.arange(TEMPERATURES + 1) * (14_500 / TEMPERATURES)
    return np.interp(t, [0, 500, 4500, 14_500], [0, 0.5, 0.9, 1]).astype(np.float32)


def model(path):
    """The weights and biases from benches/cuda.rs; without a file the initial ones."""
    import numpy as np

    if path is None:
        return first_parameters(HIDDEN)
    parameters = np.fromfile(path, np.float32)
    w, b, c = np.split(parameters, [VISIBLE * HIDDEN, VISIBLE * HIDDEN + VISIBLE])
    return w.reshape(VISIBLE, HIDDEN), b, c


def pseudo_likelihood(parameters, rows):
    """The exact mean log pseudo-likelihood of 200 rows, as in benches/peers/run.py."""
    import numpy as np

    w, b, c = (np.asarray(x, np.float32) for x in parameters)
    softplus = lambda x: np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    x = np.round(rows[:200])
    a = x @ w + c
    before = softplus(a)
    total = np.zeros(len(x))
    for i in range(VISIBLE):
        change = 1 - 2 * x[:, i]
        total -= softplus(change * b[i] + (softplus(a + change[:, None] * w[i]) - before).sum(1))
    return float(total.mean())


def log_z(base, log_weights):
    """The estimate of annealing from the model with biases `base` and no weights."""
    import numpy as np

    log_weights = np.asarray(log_weights, np.float64)
    base = np.logaddexp(0, np.float64(base)).sum() + HIDDEN * math.log(2)
    return base + float(np.logaddexp.reduce(log_weights)) - math.log(len(log_weights))


class Reports:
    """Runs jobs within their limits, and reports the results."""

    def __init__(self, library, **common):
        self.end = BEGUN + LIMITS[library]
        self.common = common

    def job(self, who, job, unit, work):
        """`work` returns the units per call, and the lists of seconds per call by the host and by the device."""
        report = {"who": who, "job": job, "unit": unit} | self.common
        left = int(min(JOB_LIMIT, self.end - time.monotonic()))
        if left < 2:
            report["problem"] = "skipped: no time left"
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

    def found(self, who, what, work):
        """Reports a result that must be the same for all."""
        report = {"who": who, "job": "same work"} | self.common
        try:
            report[what] = work()
        except Exception as problem:
            report["problem"] = f"{type(problem).__name__}: {problem}"[:500]
        print(json.dumps(report), flush=True)

    @staticmethod
    def too_long(*_):
        raise TimeoutError("took too long")


def repeat(stretch):
    """Seconds per call: `stretch(calls)` returns the seconds of `calls` calls by the host and, if known, by the device."""
    stretch(1)
    host, _ = stretch(2)
    calls = 1 if QUICK else max(1, int(0.1 / host))
    found = [stretch(calls) for _ in range(2 if QUICK else 3)]
    return [host for host, _ in found], [device for _, device in found if device is not None]


# --- PyTorch ------------------------------------------------------------------------------------------------------------------


def torch_peer(folder, path):
    import torch

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda and not QUICK:
        sys.exit("PyTorch finds no GPU")
    reports = Reports("torch", version=torch.__version__, gpu=torch.cuda.get_device_name() if cuda else "none")
    host_data = images(folder)
    base = base_rate(host_data)
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
            # The row numbers are on the device, so that a graph needs no argument.
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
            self.state, self.base, self.betas = state, tensor(base), tensor(schedule())
            self.at = torch.zeros(1, dtype=torch.int64, device=device)
            self.hidden = torch.bernoulli(torch.full((RUNS, HIDDEN), 0.5, device=device))
            self.log_weights = torch.zeros(RUNS, dtype=torch.float64, device=device)

        def __call__(self):
            w, b, c = self.state
            beta = torch.index_select(self.betas, 0, self.at)
            warmer = torch.index_select(self.betas, 0, self.at + 1)
            self.at.add_(1).remainder_(TEMPERATURES)
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

    trained = [tensor(x) for x in model(path)]
    for precision, setting in [("float32", "highest"), ("TF32", "high")]:
        torch.set_float32_matmul_precision(setting)
        who = f"PyTorch graph, {precision}"

        def time_job(job, unit, make, units=1, calls=1, check=None):
            """Times `calls` calls with `units` units together, and then checks their result."""

            def work():
                one = make()
                call = captured(one) if cuda else one
                many = call if calls == 1 else lambda: [call() for _ in range(calls)] and None
                times = repeat(functools.partial(stretch, many))
                if check:
                    check(one, call)
                return units, *times

            reports.job(who, job, unit, work)

        def check_update(update, call):
            # From the initial state, because the capture has made some updates.
            for x, first in zip(update.state, first_parameters(UPDATES["tutorial"][0])):
                x.copy_(tensor(first))
            update.hidden.zero_()
            update.which.copy_(torch.arange(update.rows, device=device))
            for _ in range(COMPARED_UPDATES):
                call()
            reports.found(who, "pseudo_likelihood", lambda: pseudo_likelihood([x.cpu() for x in update.state], host_data))

        def check_annealing(temperature, call):
            temperature.at.zero_()
            temperature.log_weights.zero_()
            for _ in range(TEMPERATURES):
                call()
            reports.found(who, "log_z", lambda: log_z(base, temperature.log_weights.cpu()))

        with torch.no_grad():
            for name, job in UPDATES.items():
                time_job(name, "update", lambda: Update(*job), check=check_update if name == "tutorial" else None)
            for name, (chains, k) in SWEEPS.items():
                time_job(name, "step of all chains", lambda: Sweep(trained, chains, k), units=k)
            several = TIMED_TEMPERATURES
            time_job("ais", "temperature of 100 runs", lambda: Temperature(trained), several, several, check_annealing)
            time_job("free-energies", "row", lambda: functools.partial(free_energies, trained), FREE_ENERGIES)


# --- JAX ----------------------------------------------------------------------------------------------------------------------


def jax_peer(folder, path):
    import jax
    import jax.numpy as jnp

    where = jax.devices()[0]
    if where.platform == "cpu" and not QUICK:
        sys.exit("JAX finds no GPU")
    reports = Reports("jax", version=jax.__version__, gpu=where.device_kind, generator=GENERATOR)
    host_data = images(folder)
    data = jnp.asarray(host_data)
    base, betas = base_rate(host_data), schedule()
    trained = tuple(map(jnp.asarray, model(path)))
    key = lambda: jax.random.key(1, impl=GENERATOR)
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

    def temperature(parameters, base, state, pair):
        w, b, c = parameters
        hidden, log_weights, key = state
        beta, warmer = pair
        key, down, up = jax.random.split(key, 3)
        v = draw(down, jax.nn.sigmoid((1 - beta) * base + beta * (hidden @ w.T + b)))
        pre = v @ w + c
        gain = (warmer - beta) * (v @ (b - base))
        gain += (jax.nn.softplus(warmer * pre) - jax.nn.softplus(beta * pre)).sum(1)
        return (draw(up, jax.nn.sigmoid(warmer * pre)), log_weights + gain, key), None

    class Program:
        """A function from a state, and further arguments, to the next state; its units of work; the first state."""

        def __init__(self, job, unit, units, first, given, function):
            self.job, self.unit, self.units, self.first, self.given = job, unit, units, first, given
            self.function = jax.jit(function, donate_argnums=0, keep_unused=True)

        def compiled(self, setting):
            with jax.default_matmul_precision(setting):
                return self.function.lower(self.first(), *self.given).compile()

    def updates(name, job):
        first = lambda: (
            *map(jnp.asarray, first_parameters(job[0])),
            jnp.zeros((job[4], job[0]), jnp.float32),
            key(),
            jnp.int32(0),
        )
        many = lambda state, data: jax.lax.scan(functools.partial(update, job, data), state, None, updates_a_call)[0]
        return Program(name, "update", updates_a_call, first, [data], many)

    def sweeps(name, chains, k):
        calls = 1 if chains > 1000 else 10

        def one(parameters, state, _):
            hidden, key = state
            key, own = jax.random.split(key)
            return (sweep(parameters, hidden, own, k)[0], key), None

        first = lambda: (jnp.zeros((chains, HIDDEN), jnp.float32), key())
        many = lambda state, parameters: jax.lax.scan(functools.partial(one, parameters), state, None, calls)[0]
        return Program(name, "step of all chains", k * calls, first, [trained], many)

    def pairs(number):
        """Some of the temperatures, each paired with the next one."""
        at = number * TIMED_TEMPERATURES
        return jnp.asarray(betas[at : at + TIMED_TEMPERATURES]), jnp.asarray(betas[at + 1 : at + TIMED_TEMPERATURES + 1])

    annealed = lambda: (jnp.zeros((RUNS, HIDDEN), jnp.float32), jnp.zeros(RUNS, jnp.float32), key())
    # The most informative first, in case time runs out.
    programs = [
        updates("tutorial", UPDATES["tutorial"]),
        sweeps("20x15", *SWEEPS["20x15"]),
        Program(
            "ais",
            "temperature of 100 runs",
            TIMED_TEMPERATURES,
            annealed,
            [trained, jnp.asarray(base), pairs(0)],
            lambda state, parameters, base, pairs: jax.lax.scan(functools.partial(temperature, parameters, base), state, pairs)[0],
        ),
        updates("pcd1-2048", UPDATES["pcd1-2048"]),
        updates("cd1-1024", UPDATES["cd1-1024"]),
        sweeps("10000x15", *SWEEPS["10000x15"]),
        Program(
            "free-energies",
            "row",
            FREE_ENERGIES,
            lambda: jnp.zeros(FREE_ENERGIES, jnp.float32),
            [data[:FREE_ENERGIES], *trained],
            lambda _, rows, w, b, c: -(rows @ b) - jax.nn.softplus(rows @ w + c).sum(1),
        ),
    ]

    def timed(program, call):
        """Seconds a call."""
        state = program.first()

        def stretch(calls):
            nonlocal state
            start = time.perf_counter()
            for _ in range(calls):
                state = call(state, *program.given)
            jax.block_until_ready(state)
            return (time.perf_counter() - start) / calls, None

        return repeat(stretch)

    def check(who, program, call):
        state = program.first()
        if program.job == "tutorial":
            for _ in range(COMPARED_UPDATES // updates_a_call):
                state = call(state, *program.given)
            reports.found(who, "pseudo_likelihood", lambda: pseudo_likelihood(state[:3], host_data))
        if program.job == "ais":
            for number in range(TEMPERATURES // TIMED_TEMPERATURES):
                state = call(state, *program.given[:2], pairs(number))
            reports.found(who, "log_z", lambda: log_z(base, state[1]))

    # Sequential compilation would take most of the time: XLA tries many kernels for every product.
    runs = [
        (f"JAX, {precision}", program, setting)
        for program in programs
        for precision, setting in [("default precision", "default"), ("float32", "highest")]
    ]
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    futures = [pool.submit(program.compiled, setting) for _, program, setting in runs]
    concurrent.futures.wait(futures, timeout=BEGUN + COMPILE_LIMIT - time.monotonic())
    pool.shutdown(wait=False, cancel_futures=True)
    for (who, program, _), future in zip(runs, futures):

        def work():
            if not future.done():
                raise TimeoutError("compiling took too long")
            call = future.result()
            # Parallel compilation inflates the times.
            note = {"compiled_meanwhile": sum(not each.done() for each in futures)}
            times = timed(program, call)
            check(who, program, call)
            return program.units, *times, note

        reports.job(who, program.job, program.unit, work)
    # Without waiting for compilations.
    sys.stdout.flush()
    os._exit(0)


# --- The table ----------------------------------------------------------------------------------------------------------------


def table(path):
    """Microseconds per unit of work, by the host's clock; then the results that must be the same."""
    lines = [json.loads(line) for line in open(path) if line.startswith("{")]
    for line in lines:
        if "sums" in line:
            line["who"] = f"harmonium, {line['sums']}"
    timed = [line for line in lines if line["job"] != "same work"]
    whos = list(dict.fromkeys(line["who"] for line in timed))
    print("| microseconds | " + " | ".join(whos) + " |")
    print("|---|" + "---|" * len(whos))
    units = {line["job"]: "" for line in timed} | {line["job"]: f", {line['unit']}" for line in timed if line["unit"]}
    for job, unit in units.items():
        cells = []
        for who in whos:
            found = [line for line in timed if line["who"] == who and line["job"] == job]
            if not found:
                cells.append("")
            elif "problem" in found[-1]:
                cells.append(found[-1]["problem"][:60].replace("|", "/").replace("\n", " "))
            else:
                note = " during compilation" if found[-1].get("compiled_meanwhile") else ""
                cells.append(f"{found[-1]['host'] / found[-1]['units_a_call'] * 1e6:.3g}{note}")
        print(f"| {job}{unit} | " + " | ".join(cells) + " |")
    for what, name, bound in [
        ("pseudo_likelihood", f"Mean log pseudo-likelihood of 200 rows after {COMPARED_UPDATES} updates", TOLERANCE),
        ("log_z", "log Z of one model by annealing", ANNEALING_TOLERANCE),
    ]:
        found = {line["who"]: line[what] for line in lines if what in line}
        if not found:
            continue
        apart = max(found.values()) - min(found.values())
        unit = ""
        if what == "pseudo_likelihood":
            apart, bound, unit = 100 * apart / abs(statistics.mean(found.values())), 100 * bound, " %"
        print(f"\n{name}: " + ", ".join(f"{who} {value:.2f}" for who, value in found.items()), end="; ")
        print(f"{apart:.2f}{unit} apart, at most {bound:g}{unit} allowed.")
        if not (apart <= bound and all(map(math.isfinite, found.values()))):
            print("WARNING: the results differ, so the programs do not do the same work.")


def main():
    if "--table" in sys.argv:
        return table(sys.argv[sys.argv.index("--table") + 1])
    folder, path = ([argument for argument in sys.argv[1:] if not argument.startswith("--")] + [None])[:2]
    if path and not os.path.exists(path):
        sys.exit(f"{path} is missing")
    peers = {"torch": torch_peer, "jax": jax_peer}
    for name, peer in peers.items():
        if f"--only-{name}" in sys.argv:
            return peer(folder, path)
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    status = 0
    for name in peers:
        # In separate processes, so that neither holds memory or affects the other's libraries.
        command = [sys.executable, *sys.argv, f"--only-{name}"]
        try:
            done = subprocess.run(command, env=environment, timeout=LIMITS[name] + 2).returncode
        except subprocess.TimeoutExpired:
            done = "a timeout"
        if done:
            status = 1
            print(json.dumps({"who": name, "job": "all", "unit": "", "problem": f"ended with {done}"}), flush=True)
    if path:
        report = {"who": "harmonium", "job": "same work", "sums": "canonical"}
        print(json.dumps(report | {"pseudo_likelihood": pseudo_likelihood(model(path), images(folder))}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
