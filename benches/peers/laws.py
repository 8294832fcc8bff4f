"""Updates of PCD-k by law of the visible units: the command against numpy on the same job.

    cargo build --release --features cli
    OPENBLAS_NUM_THREADS=1 python3 benches/peers/laws.py target/release/harmonium

One thread, 100 rows and 100 chains per update, random data. Both are timed five times, alternately; medians, in ms per update.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROWS, BATCH, CHAINS = 5000, 100, 100
# Name, laws, sites, states, hidden units.
JOBS = [
    ("binary", "binary:680", 680, 1, 100),
    ("Potts, 5 states", "potts:136x5", 136, 5, 100),
    ("Potts, 21 states", "potts:100x21", 100, 21, 100),
    ("Gaussian", "gaussian:196", 196, 1, 196),
]
RATE = np.float32(0.01)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Peer:
    """Float32 throughout; states of sites by inversion of cumulative sums."""

    def __init__(self, law, sites, states, hidden, rows):
        random = self.random = np.random.default_rng(0)
        self.law, self.sites, self.states, self.rows = law, sites, states, rows
        self.w = random.normal(0, 0.01, (sites * states, hidden)).astype(np.float32)
        self.b, self.c = np.zeros(sites * states, np.float32), np.zeros(hidden, np.float32)
        self.h = np.zeros((CHAINS, hidden), np.float32)
        self.n = 0

    def visible(self):
        a = self.h @ self.w.T + self.b
        if self.law == "gaussian":
            return a + self.random.standard_normal(a.shape, dtype=np.float32)
        if self.law == "binary":
            return (self.random.random(a.shape, dtype=np.float32) < sigmoid(a)).astype(np.float32)
        a = a.reshape(CHAINS, self.sites, self.states)
        sums = np.cumsum(np.exp(a - a.max(2, keepdims=True)), 2)
        u = self.random.random((CHAINS, self.sites, 1), dtype=np.float32) * sums[:, :, -1:]
        state = np.minimum((sums <= u).sum(2), self.states - 1)
        v = np.zeros((CHAINS, self.sites * self.states), np.float32)
        v[np.arange(CHAINS)[:, None], np.arange(self.sites) * self.states + state] = 1
        return v

    def update(self, k):
        x = self.rows[self.n % (ROWS // BATCH) * BATCH :][:BATCH]
        p = sigmoid(x @ self.w + self.c)
        for _ in range(k):
            v = self.visible()
            q = sigmoid(v @ self.w + self.c)
            self.h = (self.random.random(q.shape, dtype=np.float32) < q).astype(np.float32)
        self.w += RATE * (x.T @ p / BATCH - v.T @ q / CHAINS)
        self.b += RATE * (x.mean(0) - v.mean(0))
        self.c += RATE * (p.mean(0) - q.mean(0))
        self.n += 1


def command(harmonium, folder, laws, hidden, k, epochs):
    """Milliseconds per update, from the log."""
    options = (
        f"train --quiet --data {folder}/data.npy --visible {laws} --hidden {hidden} --batch-size {BATCH} --chains {CHAINS} "
        f"--k {k} --lr {RATE} --init data --shuffle off --monitor none --likelihood off --samples 0 --threads 1 "
        f"--epochs {epochs} --log-every {epochs} --checkpoint-every {epochs}epochs --out {folder}/out"
    )
    subprocess.run([harmonium, *options.split()], check=True)
    with open(f"{folder}/out/log.csv", newline="") as log:
        last = list(csv.DictReader(log))[-1]
    return 1e3 * float(last["seconds"]) / (epochs * ROWS / BATCH)


def main(harmonium):
    print("| visible units | hidden | k | harmonium, ms | numpy, ms | ratio |\n|---|---|---|---|---|---|")
    for name, laws, sites, states, hidden in JOBS:
        random = np.random.default_rng(1)
        law = laws.split(":")[0]
        with tempfile.TemporaryDirectory() as folder:
            if law == "gaussian":
                data = rows = random.normal(size=(ROWS, sites)).astype(np.float32)
            elif law == "binary":
                data = (random.random((ROWS, sites)) < 0.2).astype(np.uint8)
                rows = data.astype(np.float32)
            else:
                data = random.integers(0, states, (ROWS, sites)).astype(np.uint8)
                rows = np.eye(states, dtype=np.float32)[data].reshape(ROWS, sites * states)
            np.save(os.path.join(folder, "data.npy"), data)
            for k in (1, 5):
                peer = Peer(law, sites, states, hidden, rows)
                ours, theirs = [], []
                for _ in range(5):
                    ours.append(command(harmonium, folder, laws, hidden, k, 10))
                    begin, n = time.perf_counter(), 0
                    while time.perf_counter() - begin < 2:
                        peer.update(k)
                        n += 1
                    theirs.append(1e3 * (time.perf_counter() - begin) / n)
                mine, other = statistics.median(ours), statistics.median(theirs)
                print(f"| {name} | {hidden} | {k} | {mine:.2f} | {other:.2f} | {other / mine:.1f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
