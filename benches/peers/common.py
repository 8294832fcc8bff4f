"""Shared by the peers: the job, the data, the initial parameters and the commands of run.py."""

import dataclasses
import gzip
import pathlib
import sys
import time

import numpy as np

VISIBLE = 784
# The first training rows of MNIST.
ROWS = 50_000
MNIST = pathlib.Path(__file__).resolve().parents[2] / "data/mnist"


@dataclasses.dataclass
class Job:
    data: np.ndarray  # rows x VISIBLE, float32 within [0, 1]
    n_hidden: int
    persistent: bool
    k: int
    rows: int
    n_chains: int
    lr: float
    option: str

    @property
    def batches(self):
        return len(self.data) // self.rows


def job():
    """The job from the command line: DATA N_HIDDEN cd|pcd K ROWS CHAINS LR THREADS OPTION. The caller sets the number of threads."""
    path, n_hidden, algorithm, k, rows, n_chains, lr, _, option = sys.argv[1:10]
    data = np.fromfile(path, np.uint8).reshape(-1, VISIBLE).astype(np.float32) / np.float32(255)
    return Job(data, int(n_hidden), algorithm == "pcd", int(k), int(rows), int(n_chains), float(lr), option)


def images(split):
    """MNIST's `train` or `t10k`, eight bits."""
    return np.frombuffer(gzip.open(MNIST / f"{split}-images-idx3-ubyte.gz").read(), np.uint8, offset=16).reshape(-1, VISIBLE)


def first_parameters(n_hidden, seed=123):
    limit = 4 * np.sqrt(6 / (VISIBLE + n_hidden))
    weights = np.random.default_rng(seed).uniform(-limit, limit, (VISIBLE, n_hidden)).astype(np.float32)
    return weights, np.zeros(VISIBLE, np.float32), np.zeros(n_hidden, np.float32)


def read_parameters(path, n_hidden):
    numbers = np.fromfile(path, np.float32)
    weights, b, c = np.split(numbers, [VISIBLE * n_hidden, VISIBLE * n_hidden + VISIBLE])
    return weights.reshape(VISIBLE, n_hidden), b, c


def serve(run, parameters):
    """`run N`: prints the result of `run(N)`, the number of updates or a list of that and further results, with the seconds
    in second place. `save PATH`: writes W, b and c."""
    print("ready", flush=True)
    for line in sys.stdin:
        command, argument = line.split()
        if command == "run":
            start = time.perf_counter()
            done = run(int(argument))
            seconds = time.perf_counter() - start
            done, *found = done if isinstance(done, list) else [done]
            print(done, seconds, *found, flush=True)
        else:
            flat = [np.asarray(x, np.float32).ravel() for x in parameters()]
            np.concatenate(flat).tofile(argument)
            print("saved", flush=True)
