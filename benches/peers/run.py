"""Times harmonium and its peers, alternately, on the same updates of the same data; prints a Markdown table.

    python benches/peers/run.py            the whole comparison, about twenty minutes on a quiet machine with two cores
    python benches/peers/run.py --quick    a few updates each, as a smoke test

Every program warms up with the same number of updates and stays alive; then each makes updates in turn, round after round.
"""

import argparse
import gzip
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import threadpoolctl

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROWS = 50_000
VISIBLE = 784
# Name, arguments of common.job, updates before the parameters are compared, and before times are measured. The first number
# is an epoch, rounded up to ten updates; ten epochs for the third job, where the pseudo-likelihoods of five of our
# seeds have a standard deviation of 4.5 % after three epochs and of 0.5 % after ten.
TRAINING = [
    ("tutorial: 784 x 500, PCD-15, 20 rows, 20 chains", "500 pcd 15 20 20 0.1", 2500, 3000),
    ("784 x 1024, CD-1, 128 rows", "1024 cd 1 128 128 0.1", 390, 800),
    ("784 x 2048, PCD-1, 512 rows, 512 chains", "2048 pcd 1 512 512 0.1", 1000, 1000),
]
ANNEALING = ("AIS: 784 x 500, 100 runs; ms a temperature of all runs", "500 ais 1 20 100 0")
PUBLISHED_TEMPERATURES = 14_500
GENERATORS = ["threefry2x32", "rbg", "unsafe_rbg"]
# Between the largest and the smallest mean pseudo-likelihood, relative to their mean: all do the same except for their random
# numbers. Programs were within 0.8 % at the first two jobs and 5.4 % at the third.
TOLERANCE = 0.06
# The temperatures of the schedule after which both estimates of log Z are compared, and their largest difference in nats. Estimates
# from so short a schedule have a standard deviation of two.
COMPARED_TEMPERATURES = 2000
ANNEALING_TOLERANCE = 10.0


def build():
    command = ["cargo", "build", "--release", "--features", "openblas", "--example", "peers_worker"]
    done = subprocess.run([*command, "--message-format", "json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(m["executable"] for m in messages if m.get("target", {}).get("name") == "peers_worker" and m["executable"])


class Worker:
    """A program of the comparison: on a number of cores, alive until closed, idle between commands."""

    def __init__(self, name, command, threads, cores):
        self.name, self.times = name, []
        environment = {key: value for key, value in os.environ.items() if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        for variable in ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]:
            environment[variable] = str(threads)
        environment |= {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores[:threads])), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended early")
        return line.split()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def run(self, updates):
        """Makes at least that many updates; returns their number, and milliseconds per update."""
        done, seconds, *self.found = self.ask(f"run {updates}")
        return int(done), 1000 * float(seconds) / int(done)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def pseudo_likelihood(path, n_hidden, rows):
    """The exact mean log pseudo-likelihood of some rows."""
    numbers = np.fromfile(path, np.float32)
    w, b, c = np.split(numbers, [VISIBLE * n_hidden, VISIBLE * n_hidden + VISIBLE])
    w = w.reshape(VISIBLE, n_hidden)
    softplus = lambda x: np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x)))
    x = np.round(rows)
    a = x @ w + c
    before = softplus(a)
    total = np.zeros(len(x))
    for i in range(VISIBLE):
        change = 1 - 2 * x[:, i]
        difference = -change * b[i] - (softplus(a + change[:, None] * w[i]) - before).sum(1)
        total -= softplus(-difference)
    return total.mean()


def measure(workers, rounds, seconds):
    """Alternates, so that other load of the machine affects all."""
    for worker in workers:
        worker.speed = worker.run(10)[1]
    for _ in range(rounds):
        for worker in workers:
            # Until the pools of the others sleep.
            time.sleep(0.2)
            worker.times.append(worker.run(max(10, round(1000 * seconds / worker.speed)))[1])


def table(title, results, head):
    print(f"\n### {title}\n")
    threads = list(next(iter(results.values())))
    columns = [f"{head}, {t} thread{'s' * (t > 1)} | times ours" for t in threads]
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---|---|" * len(threads))
    ours = results["harmonium"]
    for name, times in results.items():
        cells = [f"{times[t]:.3g} | {times[t] / ours[t]:.2f}" for t in threads if t in times]
        print(f"| {name} | " + " | ".join(cells) + " |")


def python(script):
    return [sys.executable, str(HERE / script)]


def fastest_generator(data, job, threads, cores):
    """The fastest of JAX's three random number generators for this job."""
    speeds = {}
    for generator in GENERATORS:
        worker = Worker(generator, [*python("jax_peer.py"), data, *job.split(), str(threads), generator], threads, cores)
        worker.run(10)
        speeds[generator] = min(worker.run(10)[1] for _ in range(3))
        worker.close()
    return min(speeds, key=speeds.get)


def compare(ours, data, job, warm_up, threads, settings, images, scratch):
    """Milliseconds per update of each program, and their mean pseudo-likelihoods if they are compared."""
    check, start = warm_up
    arguments = [data, *job.split(), str(threads)]
    cores = settings.cores
    generator = fastest_generator(data, job, threads, cores)
    commands = {
        "harmonium": [ours, *arguments, "cpu"],
        "harmonium, pseudo-likelihood monitored": [ours, *arguments, "cpu-pl"],
        "harmonium's matrix sums, OpenBLAS": [ours, *arguments, "gemm"],
        f"JAX jit + scan ({generator})": [*python("jax_peer.py"), *arguments, generator],
        "numpy": [*python("numpy_peer.py"), *arguments, "-"],
    }
    n_hidden, algorithm, k, rows, chains, _ = job.split()
    if (algorithm, k, rows) == ("pcd", "1", chains):
        commands["scikit-learn"] = [*python("sklearn_peer.py"), *arguments, "-"]
    workers, quality = [], {}
    for name, command in commands.items():
        worker = Worker(name, command, threads, cores)
        done = worker.run(check)[0]
        worker.ask(f"save {scratch / 'parameters'}")
        quality[name] = pseudo_likelihood(scratch / "parameters", int(n_hidden), images)
        if start > done:
            worker.run(start - done)
        workers.append(worker)
    measure(workers, settings.rounds, settings.seconds)
    workers[0].ask(f"save {scratch / f'{n_hidden}.model'}")
    for worker in workers:
        worker.close()
    # One name for JAX with any generator.
    name = lambda worker: "JAX jit + scan" if worker.name.startswith("JAX") else worker.name
    return {name(worker): statistics.median(worker.times) for worker in workers}, quality, generator


def describe(settings):
    model = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), platform.machine())
    flags = next((x for x in open("/proc/cpuinfo") if x.startswith("flags")), "")
    print(f"{model}, {os.cpu_count()} cores, AVX-512 {'yes' if ' avx512f' in flags else 'no'}; {time.strftime('%Y-%m-%d')}.", end=" ")
    rustc = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True).stdout.split()[1]
    names = ["jax", "numpy", "scikit-learn"]
    versions = subprocess.run([sys.executable, "-m", "pip", "freeze"], stdout=subprocess.PIPE, text=True).stdout.split()
    print(f"rustc {rustc}, Python {platform.python_version()},", ", ".join(v for v in versions if v.split("==")[0] in names), end=". ")
    kernels = [f"{p['internal_api']} {p['version']} {p.get('architecture', '')}" for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
    print(f"numpy's BLAS: {', '.join(kernels)}. Medians of {settings.rounds} alternating rounds of {settings.seconds:g} s.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of a program per round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--jobs", type=int, nargs="+", default=[0, 1, 2, 3], help="0: tutorial, 1: CD-1, 2: PCD-1, 3: AIS")
    settings = parser.parse_args()
    if settings.quick:
        settings.rounds, settings.seconds = 2, 0.1
    settings.cores = sorted(os.sched_getaffinity(0))
    settings.threads = [t for t in settings.threads if t <= len(settings.cores)]
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        if variable in os.environ:
            # numpy has already loaded its OpenBLAS: restart without the variable.
            del os.environ[variable]
            os.execv(sys.executable, [sys.executable, *sys.argv])
    images = ROOT / "data/mnist/train-images-idx3-ubyte.gz"
    if not images.exists():
        sys.exit(f"{images} is missing")
    pixels = np.frombuffer(gzip.open(images).read(), np.uint8, offset=16).reshape(-1, VISIBLE)[:ROWS]
    ours = build()
    describe(settings)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        data = str(scratch / "images")
        pixels.tofile(data)
        judged = pixels[:200].astype(np.float32) / 255
        for title, job, *warm_up in [TRAINING[i] for i in settings.jobs if i < len(TRAINING)]:
            if settings.quick:
                warm_up = [20, 20]
            results, generators = {}, {}
            for threads in settings.threads:
                times, quality, generators[threads] = compare(ours, data, job, warm_up, threads, settings, judged, scratch)
                for name, milliseconds in times.items():
                    results.setdefault(name, {})[threads] = milliseconds
                spread = (max(quality.values()) - min(quality.values())) / -statistics.mean(quality.values())
                failed |= not settings.quick and spread > TOLERANCE
            table(title, results, "ms an update")
            print("\nJAX's generator: " + ", ".join(f"{g} at {t}" for t, g in generators.items()) + ".", end=" ")
            values = ", ".join(f"{name} {value:.2f}" for name, value in quality.items())
            print(f"Mean log pseudo-likelihood of 200 rows after {warm_up[0]} updates: {values}; {100 * spread:.1f} % apart, at most {100 * TOLERANCE:.0f} % allowed.", flush=True)
        model = str(scratch / "500.model")
        if len(TRAINING) in settings.jobs:
            if not os.path.exists(model):
                # The tutorial's job was not selected: only its model.
                worker = Worker("harmonium", [ours, data, *TRAINING[0][1].split(), "1", "cpu"], 1, settings.cores)
                worker.run(20 if settings.quick else TRAINING[0][3])
                worker.ask(f"save {model}")
                worker.close()
            title, job = ANNEALING
            results = {}
            for threads in settings.threads:
                arguments = [data, *job.split(), str(threads)]
                workers = [
                    Worker("harmonium", [ours, *arguments, "cpu", model], threads, settings.cores),
                    Worker("numpy", [*python("ais_peer.py"), *arguments, "-", model], threads, settings.cores),
                ]
                measure(workers, settings.rounds, 3 * settings.seconds)
                estimates = {}
                for worker in workers:
                    worker.run(100 if settings.quick else COMPARED_TEMPERATURES)
                    estimates[worker.name] = float(worker.found[0])
                apart = max(estimates.values()) - min(estimates.values())
                failed |= not settings.quick and apart > ANNEALING_TOLERANCE
                for worker in workers:
                    results.setdefault(worker.name, {})[threads] = statistics.median(worker.times)
                    worker.close()
            table(title, results, "ms")
            seconds = lambda times: " and ".join(f"{x * PUBLISHED_TEMPERATURES / 1000:.1f} s" for x in times.values())
            print("\nlog Z: " + ", ".join(f"{n} {z:.1f}" for n, z in estimates.items()) + f"; at most {ANNEALING_TOLERANCE:g} apart are allowed.", end=" ")
            print(f"{PUBLISHED_TEMPERATURES} temperatures would take: " + "; ".join(f"{n} {seconds(t)}" for n, t in results.items()) + ".")
    if failed:
        sys.exit("the programs' results differ: see the pseudo-likelihoods, or the estimates of log Z")


if __name__ == "__main__":
    main()
