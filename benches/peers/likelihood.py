"""Compares models after the same minutes of training. Trains RBMs of 784 x 500 on MNIST with harmonium and its peers, evaluates
all of them by `harmonium evaluate`, and prints a Markdown table for each protocol.

    python benches/peers/likelihood.py                                  a minute each
    python benches/peers/likelihood.py --only numpy jax --minutes 0.2   these two, 12 seconds each
    python benches/peers/likelihood.py --only "scikit-learn lr=0.01" "scikit-learn lr=0.1" --validation   which setting?

A peer is a program of likelihood_peer.py with its settings. `sampled` rows are bits whose probabilities are the grey
levels, drawn anew throughout training; `thresholded` bits are 1 for grey levels from 128 on.
"""

import argparse
import csv
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

import common

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ["harmonium", "jax", "numpy", "scikit-learn lr=0.1", "rbms", "rbms lr=0.4 k=1 rows=100 chains=100"]
BINARISE = {"sampled": "sample", "thresholded": "threshold:16-240"}
# The seed of the evaluated bits.
SEED = 20081


def build():
    command = ["cargo", "build", "--release", "--features", "cli", "--bin", "harmonium", "--message-format", "json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return next(m["executable"] for m in messages if m.get("target", {}).get("name") == "harmonium" and m.get("executable"))


def evaluated_rows(protocol, validation):
    x = common.images("train")[common.ROWS :] if validation else common.images("t10k")
    return np.random.default_rng(SEED).random(x.shape) < x / 255 if protocol == "sampled" else x >= 128


class Comparison:
    def __init__(self, settings):
        self.settings = settings
        self.ours = settings.harmonium or build()
        cores = sorted(os.sched_getaffinity(0))[: settings.threads]
        self.pinned = ["taskset", "-c", ",".join(map(str, cores))]
        self.environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        # Warnings of PyTorch, on which rbms is built.
        self.environment["PYTHONWARNINGS"] = "ignore::FutureWarning"
        for variable in ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]:
            self.environment[variable] = str(len(cores))

    def answer(self, command):
        command = [*self.pinned, *map(str, command)]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def train(self, peer, protocol, folder):
        """The file of the model, the number of updates, and their minutes."""
        settings, model = self.settings, folder / "model.safetensors"
        if peer != "harmonium":
            command = [sys.executable, HERE / "likelihood_peer.py", protocol, settings.minutes, settings.seed, model, *peer.split()]
            # Some programs print more lines before.
            return model, json.loads(self.answer(command).splitlines()[-1])
        # As many chains as the ports have: in one minute, more chains cost more than they gain.
        command = [self.ours, "train", "--recipe", "density", "--minutes", settings.minutes, "--binarise", BINARISE[protocol], "--chains", 100]
        command += ["--data", common.MNIST, "--seed", settings.seed, "--threads", settings.threads, "--out", folder, "--samples", 0, "--quiet"]
        start = time.perf_counter()
        self.answer(command)
        minutes = (time.perf_counter() - start) / 60
        *_, last = csv.DictReader(open(folder / "log.csv"))
        return model, {"updates": int(last["updates"]), "minutes": minutes}

    def evaluate(self, model, rows):
        command = [self.ours, "evaluate", model, "--data", rows, "--train", common.MNIST, "--threads", self.settings.threads, "--json"]
        return json.loads(self.answer([*command, *self.settings.evaluate.split()]))

    def run(self):
        settings, results = self.settings, []
        settings.out.mkdir(parents=True, exist_ok=True)
        for protocol in settings.protocols:
            rows = settings.out / f"{protocol}.npy"
            np.save(rows, evaluated_rows(protocol, settings.validation))
            for peer in settings.only:
                folder = settings.out / protocol / peer.replace(" ", "-")
                folder.mkdir(parents=True, exist_ok=True)
                model, made = self.train(peer, protocol, folder)
                found = self.evaluate(model, rows)
                results.append({"protocol": protocol, "peer": peer, "threads": settings.threads, **made, "evaluation": found})
                (settings.out / "likelihood.json").write_text(json.dumps(results, indent=1) + "\n")
            table(protocol, [x for x in results if x["protocol"] == protocol], settings)


def table(protocol, results, settings):
    which = "10 000 validation rows" if settings.validation else "the 10 000 test rows"
    print(f"\n### {protocol}: mean log-likelihood of {which} in nats\n")
    print("| | updates | minutes | lower | estimate | upper |\n|---|---|---|---|---|---|")
    # An unknown value is null.
    number = lambda x: "?" if x is None else f"{x:.2f}"
    for x in results:
        found = x["evaluation"]["log_likelihood"]
        cells = [number(found[name]) for name in ("lower", "mean", "upper")]
        print(f"| {x['peer']} | {x['updates']} | {x['minutes']:.2f} | " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="training time of each program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--protocols", nargs="+", default=list(BINARISE), choices=list(BINARISE))
    parser.add_argument("--only", nargs="+", default=PEERS, metavar="PEER", help=f"of: {', '.join(PEERS)}; or with other settings")
    parser.add_argument("--validation", action="store_true", help="evaluate on MNIST's last 10 000 training rows")
    parser.add_argument("--evaluate", default="", metavar="OPTIONS", help="options of harmonium evaluate, as in '--evaluate=--temperatures 2000'")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--harmonium", metavar="FILE", help="an existing build of the command")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/likelihood", help="the folder for models and likelihood.json")
    settings = parser.parse_args()
    if not importlib.util.find_spec("rbms"):
        settings.only = [peer for peer in settings.only if peer.split()[0] != "rbms"]
        print("rbms is not installed: skipped.")
    Comparison(settings).run()


if __name__ == "__main__":
    main()
