"""The speedup of several ranks: measured on this machine, and simulated for up to 64 machines.

    python benches/ranks.py run PROGRAM [--rounds 5] [--chains 1000] > lines
    python benches/ranks.py scale lines [--cores 64]

PROGRAM is the executable that `cargo bench --features mpi --bench ranks --no-run` builds. `run` alternates one process with two
threads and two ranks with one thread each. Every line is one job as PROGRAM reports it; the end of standard error compares the medians.

`scale` fits one process's times to

    T(M, k) = M·k·s + M·g + c,

for M chains and k Gibbs steps: s is the time of a chain's step, g that of a chain in the gradient, c the rest. A machine with P cores
is assumed to be P/2 times as fast as the two measured cores. On R such machines an update takes

    max over ranks(⌈M/R⌉·k·s·x) + ⌈t/R⌉/t·(M·g + c) + u·(R-1)/R + bytes/bandwidth + collectives·latency·⌈log2 R⌉

with t tiles of 64 hidden units, bytes as src/cpu/ranks/mod.rs derives them, and u the time to pack, unpack and transpose
received data, as measured with two ranks (all time that neither the compute model nor MPI accounts for). x replays the measured runs'
deviations from their median: each rank draws one, and all wait for the slowest.

Assumed, not measured: that cores, memory and caches scale within a machine; that a network carries nine tenths of its rate in both
directions at once, for any number of ranks; a latency of 20 µs a hop at 10 Gbit/s and of 2 µs at 100 Gbit/s; that nothing overlaps.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys

N_VISIBLE, N_HIDDEN, BATCH, COLLECTIVES = 784, 500, 20, 4
NETWORKS = {"10 Gbit/s": (0.9 * 1.25e9, 20e-6), "100 Gbit/s": (0.9 * 12.5e9, 2e-6)}
MACHINES = (1, 2, 4, 8, 16, 32, 64)


def run(program, rounds, chains):
    """Alternates both programs; one line per job."""
    more = ["--bench"] + (["--chains", str(chains)] if chains else [])
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
    programs = {
        "1 rank × 2 threads": [program, *more, "--threads", "2"],
        "2 ranks × 1 thread": [*mpirun, "2", program, *more, "--threads", "1"],
    }
    times = {}
    for _ in range(rounds):
        for name, command in programs.items():
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            for line in out.splitlines():
                found = json.loads(line)
                print(line, flush=True)
                times.setdefault(found["job"], {}).setdefault(name, []).append(found)
    for job, found in times.items():
        alone, ranks = (found[name] for name in programs)
        median = lambda lines, what: statistics.median(line[what] for line in lines)
        ratios = [b["ms"] / a["ms"] for a, b in zip(alone, ranks)]
        print(
            f"{job}: {median(alone, 'ms'):.2f} ms alone, {median(ranks, 'ms'):.2f} ms on two ranks, "
            f"{median(ranks, 'collectives_ms'):.2f} ms of it in {ranks[0]['collectives']:.0f} collectives that bring "
            f"{ranks[0]['bytes'] / 1e6:.2f} MB; ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            file=sys.stderr,
        )


def bytes_of(chains, ranks):
    """The data that a rank receives in an update: visible bits, hidden means of its columns, weights."""
    others = (ranks - 1) / ranks
    words = 8 * math.ceil(N_VISIBLE / 64)
    return others * (chains * words + (chains + BATCH) * N_HIDDEN * 4 / ranks + (N_VISIBLE + 1) * N_HIDDEN * 4)


def scale(path, cores):
    lines = [json.loads(line) for line in open(path) if line.startswith("{")]
    if not lines:
        sys.exit(f"{path}: expected lines of `run`, found none")

    def median(ranks, chains, k, what="ms"):
        found = [line[what] for line in lines if (line["ranks"], line["chains"], line["k"]) == (ranks, chains, k)]
        if not found:
            sys.exit(f"{path}: expected a line for {ranks} ranks, {chains} chains and k = {k}, found none")
        return statistics.median(found) / 1e3

    long, short, few = median(1, 1000, 15), median(1, 1000, 1), median(1, 250, 15)
    s = (long - short) / 14e3
    g = max((long - few) / 750 - 15 * s, 0.0)
    c = max(long - 1000 * (15 * s + g), 0.0)
    tiles = math.ceil(N_HIDDEN / 64)
    two = median(2, 1000, 15) - median(2, 1000, 15, "collectives_ms")
    u = max(2 * (two - 500 * 15 * 2 * s - (1000 * g + c)), 0.0)
    spread = [
        line["ms"] / 1e3 / median(1, line["chains"], line["k"]) for line in lines if line["ranks"] == 1 and line["k"] == 15
    ]
    print(f"two cores: s = {s * 1e6:.3f} µs, g = {g * 1e6:.3f} µs, c = {c * 1e3:.3f} ms, u = {u * 1e3:.3f} ms")
    faster = cores / 2
    draw = random.Random(1)

    def update(chains, k, ranks, bandwidth, latency):
        own = math.ceil(chains / ranks) * k * s / faster
        slowest = statistics.mean(max(draw.choice(spread) for _ in range(ranks)) for _ in range(200))
        learn = math.ceil(tiles / ranks) / tiles * (chains * g + c) / faster
        if ranks == 1:
            return own + learn
        wire = bytes_of(chains, ranks) / bandwidth + COLLECTIVES * latency * math.ceil(math.log2(ranks))
        return own * slowest + learn + u * (ranks - 1) / ranks / faster + wire

    for name, (bandwidth, latency) in NETWORKS.items():
        print(f"\n{name}, machines of {cores} cores: ms per update, and the speedup over one machine\n")
        print("| chains, k | " + " | ".join(map(str, MACHINES)) + " |")
        print("|---" * (len(MACHINES) + 1) + "|")
        for chains, k in ((20, 15), (1000, 15), (10_000, 15), (10_000, 100), (100_000, 100)):
            times = [update(chains, k, ranks, bandwidth, latency) for ranks in MACHINES]
            cells = [f"{1e3 * time:.2f} · {times[0] / time:.1f}" for time in times]
            print(f"| {chains}, {k} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measured = commands.add_parser("run")
    measured.add_argument("program")
    measured.add_argument("--rounds", type=int, default=5)
    measured.add_argument("--chains", type=int)
    simulated = commands.add_parser("scale")
    simulated.add_argument("lines")
    simulated.add_argument("--cores", type=int, default=2)
    said = parser.parse_args()
    if said.command == "run":
        run(said.program, said.rounds, said.chains)
    else:
        scale(said.lines, said.cores)


if __name__ == "__main__":
    main()
