"""A census of brackets: trains models whose log Z can be counted, asks `harmonium evaluate --log-z bracket` as a user would, and
compares.

    census.py HARMONIUM [--small] [--data DIR] [--jobs N] [--out TABLE.md] [--work DIR]

--small takes a few models of bars and stripes, of valleys and of one digit: what CI has time for. --data names a folder with
dna.train.csv.gz and mushrooms.train.csv.gz (the binary data sets of Larochelle and Murray, 2011) and silhouettes28.npz
(Caltech-101 silhouettes, train_data), anywhere below it; without it these three families are left out. --work keeps models and
answers, so that a census that was cut short goes on. Needs numpy.

Fails where more than 1 % of the models are missed in silence (verdict `bracketed`, log Z outside), one of them by more than 0.2
nats, where a lower end lies above log Z in more than 1 %, or where more than 20 % of the models whose chains mix (R̂ at most
1.01) have no upper end.
"""

import argparse
import concurrent.futures
import gzip
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent.parent
CD_AND_PCD = [("cd", 1), ("cd", 5), ("pcd", 1), ("pcd", 5)]
RATES = [0.01, 0.03, 0.1, 0.3]
# Distance from the interval, and from its lower end, that the six digits of an answer cannot show.
DIGITS = 1e-3


def idx(name, header):
    return np.frombuffer(gzip.open(HERE / "data/mnist" / name).read(), np.uint8)[header:]


def bars_and_stripes(side):
    """Every row of the ensemble as often as any other, in random order."""
    lines = (np.arange(2**side)[:, None] >> np.arange(side)) & 1
    rows = np.concatenate([np.repeat(lines, side, axis=1), np.tile(lines, side)])
    return np.random.default_rng(1).permutation(np.tile(rows, (60, 1)))


def valleys(units, shares, flip, seed):
    """Rows about some random patterns, each bit of which is another one with a probability of `flip`."""
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 2, (len(shares), units))
    rows = patterns[generator.choice(len(shares), 1000, p=shares)]
    return rows ^ (generator.random(rows.shape) < flip)


VALLEYS = [
    (30, [0.5, 0.5], 0.02), (30, [0.9, 0.1], 0.05), (60, [0.98, 0.02], 0.05), (100, [0.8, 0.2], 0.02),
    (30, [0.4, 0.3, 0.2, 0.1], 0.03), (60, [0.85, 0.05, 0.05, 0.05], 0.05), (100, [0.25] * 4, 0.02), (60, [0.7, 0.1, 0.1, 0.1], 0.1),
]  # fmt: skip


def data_sets(folder):
    """Rows by name."""
    images, labels = idx("train-images-idx3-ubyte.gz", 16).reshape(-1, 784), idx("train-labels-idx1-ubyte.gz", 8)
    images, labels = images[:50_000], labels[:50_000]
    sets = {"mnist": images[:10_000], "bars and stripes": 255 * bars_and_stripes(4)}
    sets |= {f"digit {digit}": images[labels == digit][:1000] for digit in range(10)}
    sets |= {f"valleys {n}": 255 * valleys(*valley, seed=n) for n, valley in enumerate(VALLEYS)}
    found = {path.name: path for path in folder.rglob("*")} if folder else {}
    for name in ["dna", "mushrooms"]:
        if (path := found.get(f"{name}.train.csv.gz")) is not None:
            sets[name] = 255 * np.loadtxt(gzip.open(path), delimiter=",", dtype=np.uint8)
    if (path := found.get("silhouettes28.npz")) is not None:
        rows = np.load(path)["train_data"].reshape(-1, 784)
        sets["silhouettes"] = 255 * (rows > 0)
    return {name: np.ascontiguousarray(rows, np.uint8) for name, rows in sets.items()}


def models(small):
    """Family, data set, algorithm, k, rate, epochs, hidden units."""
    if small:
        for (algorithm, k), rate in itertools.product([("cd", 1), ("pcd", 5)], [0.03, 0.3]):
            yield "bars and stripes", "bars and stripes", algorithm, k, rate, 20, 10
        for n, (algorithm, k, rate) in itertools.product([1, 2, 5, 7], [("cd", 1, 0.3), ("pcd", 1, 0.1)]):
            yield "valleys", f"valleys {n}", algorithm, k, rate, 30, 8
        yield "single digits", "digit 3", "cd", 1, 0.3, 40, 12
        return
    for (algorithm, k), rate, hidden in itertools.product(CD_AND_PCD, RATES, [10, 20]):
        yield "mnist", "mnist", algorithm, k, rate, 5, hidden
    for digit, (algorithm, k, rate) in itertools.product(
        range(10), [("cd", 1, 0.3), ("cd", 1, 0.03), ("pcd", 1, 0.05), ("pcd", 5, 0.1)]
    ):
        yield "single digits", f"digit {digit}", algorithm, k, rate, 40, 20
    for name, (algorithm, k), rate, hidden in itertools.product(["dna", "mushrooms"], CD_AND_PCD, RATES, [8, 20]):
        yield name, name, algorithm, k, rate, 40, hidden
    for (algorithm, k), rate in itertools.product(CD_AND_PCD, RATES):
        yield "silhouettes", "silhouettes", algorithm, k, rate, 10, 20
    for (algorithm, k), rate, hidden in itertools.product([("cd", 1), ("pcd", 1), ("cd", 10)], RATES[1:], [6, 14]):
        yield "bars and stripes", "bars and stripes", algorithm, k, rate, 50, hidden
    for n, (algorithm, k, rate, hidden) in itertools.product(
        range(len(VALLEYS)),
        [("cd", 1, 0.1, 6), ("cd", 5, 0.03, 15), ("pcd", 1, 0.05, 10), ("pcd", 1, 0.2, 4), ("cd", 1, 0.3, 15)],
    ):
        yield "valleys", f"valleys {n}", algorithm, k, rate, 40, hidden


def ask(harmonium, work, model):
    """What the command says of a model, and the truth."""
    family, data, algorithm, k, rate, epochs, hidden = model
    name = f"{data} {algorithm}{k} {rate} {hidden}".replace(" ", "-")
    answer = work / f"{name}.json"
    if answer.exists():
        return json.loads(answer.read_text())
    rows = work / f"{data.replace(' ', '-')}.npy"
    out = work / name
    run = lambda *words: subprocess.run([harmonium, *map(str, words)], capture_output=True, text=True, check=True).stdout
    run(
        "train", "--data", rows, "--out", out, "--samples", 0, "--quiet", "--shuffle", "off", "--likelihood", "off", "--threads", 1, "--batch-size", 20, "--algorithm", algorithm,
        "--k", k, "--lr", rate, "--epochs", epochs, "--hidden", hidden, "--checkpoint-every", f"{epochs}epochs",
    )  # fmt: skip
    evaluate = ["evaluate", out / "model.safetensors", "--data", rows, "--train", rows, "--limit", 200, "--threads", 1, "--json"]
    exact, bracket = (json.loads(run(*evaluate, "--log-z", how)) for how in ["exact", "bracket"])
    found = {"family": family, "name": name, "exact": exact["log_z"]["estimate"], **bracket["log_z"]}
    answer.write_text(json.dumps(found))
    for path in out.iterdir():
        path.unlink()
    return found


def summary(answers):
    """What the answers of a family come to."""
    bracketed = [a for a in answers if a["verdict"] == "bracketed"]
    beyond = [max(a["lower"] - a["exact"], a["exact"] - a["upper"]) - DIGITS for a in bracketed]
    mixing = [a for a in answers if a["r_hat"] is not None and a["r_hat"] <= 1.01]
    return {
        "models": len(answers),
        "bracketed": len(bracketed),
        "missed": sum(miss > 0 for miss in beyond),
        "worst": max([0.0, *(miss + DIGITS for miss in beyond if miss > 0)]),
        "width": float(np.median([a["upper"] - a["lower"] for a in bracketed])) if bracketed else float("nan"),
        "too high": sum(a["lower"] > a["exact"] + DIGITS for a in answers),
        "mixing": len(mixing),
        "withdrawn": sum(a["verdict"] != "bracketed" for a in mixing),
    }


def table(answers):
    head = [
        "family", "models", "bracketed", "missed in silence", "by at most, nats", "median width, nats", "lower end too high",
        "chains mix", "of these without upper end",
    ]  # fmt: skip
    families = list(dict.fromkeys(a["family"] for a in answers))
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for family in [*families, "all"]:
        s = summary([a for a in answers if family in (a["family"], "all")])
        cells = [s["models"], s["bracketed"], s["missed"], f"{s['worst']:.3f}", f"{s['width']:.2f}", s["too high"], s["mixing"]]
        lines.append("| " + " | ".join(map(str, [family, *cells, s["withdrawn"]])) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("harmonium", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or pathlib.Path(scratch)
        work.mkdir(exist_ok=True, parents=True)
        sets = data_sets(options.data)
        for name, rows in sets.items():
            np.save(work / f"{name.replace(' ', '-')}.npy", rows)
        wanted = [model for model in models(options.small) if model[1] in sets]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            answers = list(pool.map(lambda model: ask(options.harmonium, work, model), wanted))
    for a in answers:
        if a["verdict"] == "bracketed" and not a["lower"] - DIGITS <= a["exact"] <= a["upper"] + DIGITS:
            print(f"missed in silence: {a['name']}: log Z {a['exact']:.4f}, found {a['lower']:.4f} to {a['upper']:.4f}")
    print(text := table(answers))
    if options.out:
        options.out.write_text(text + "\n")
    s = summary(answers)
    faults = {
        "too many are missed in silence": s["missed"] > 0.01 * s["models"],
        "one is missed by more than 0.2 nats": s["worst"] > 0.2,
        "too many lower ends are too high": s["too high"] > 0.01 * s["models"],
        "too many of the chains that mix have no upper end": s["withdrawn"] > 0.2 * s["mixing"],
    }
    sys.exit("; ".join(fault for fault, holds in faults.items() if holds) or None)


main()
