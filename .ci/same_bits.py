"""A whole epoch of MNIST through the command: the same bytes on any number of threads and any instruction set.

    python .ci/same_bits.py HARMONIUM

The portable instructions are slow where the target has no fused multiply-add, so they go through its first 400 rows only; all
numbers of threads through 10 000, and two runs through all rows.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from safetensors.numpy import load_file

SETS = ("scalar", "avx2", "avx512")
THREADS = (1, 2, 3, 8)


def train(harmonium, folder, isa, threads, options):
    """What a run leaves behind; `None` where this machine lacks the instruction set."""
    command = [harmonium, "train", "--quiet", "--epochs", "1", "--samples", "0", "--out", folder, "--threads", str(threads)]
    done = subprocess.run([*command, *options], env={**os.environ, "HARMONIUM_ISA": isa}, stderr=subprocess.PIPE, text=True)
    if done.returncode and done.stderr.startswith("error: HARMONIUM_ISA: "):
        return None
    if done.returncode:
        sys.exit(f"{isa}, {threads} threads: {done.stderr}")
    folder = pathlib.Path(folder)
    # The fourth column is the time that an epoch took.
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    log = [line[:3] + line[4:] for line in lines]
    tensors = load_file(folder / "checkpoint.safetensors")
    chains = {name: tensor.tobytes() for name, tensor in tensors.items()}
    return (folder / "model.safetensors").read_bytes(), chains, log


def compare(harmonium, runs, options):
    first, seen = None, []
    for isa, threads in runs:
        with tempfile.TemporaryDirectory() as folder:
            found = train(harmonium, folder, isa, threads, options)
        if found is None:
            continue
        first = first or found
        for what, a, b in zip(("the model", "the checkpoint's tensors", "the log"), first, found):
            if a != b:
                sys.exit(f"{what} of {isa} with {threads} threads differs from that of {' with '.join(seen[0])} threads")
        seen.append((isa, str(threads)))
    if len(seen) < 2:
        sys.exit("there was nothing to compare")
    print(f"{' '.join(options) or 'all rows'}: the same bytes from " + ", ".join(f"{isa}/{threads}" for isa, threads in seen))


def main():
    harmonium = sys.argv[1]
    compare(harmonium, [(isa, threads) for isa in SETS for threads in THREADS[:3:2]], ["--limit", "400", "--likelihood", "off"])
    compare(harmonium, [(isa, threads) for isa in SETS[1:] for threads in THREADS], ["--limit", "10000"])
    widest = "avx512" if "avx512f" in pathlib.Path("/proc/cpuinfo").read_text() else "avx2"
    compare(harmonium, [("avx2", 1), (widest, 2)], [])
    compare(harmonium, [(isa, threads) for isa in SETS[1:] for threads in THREADS[:3:2]], ["--recipe", "density", "--limit", "4000"])


if __name__ == "__main__":
    main()
