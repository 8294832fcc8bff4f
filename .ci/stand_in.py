"""What `harmonium`, `cargo` and `curl` are while book.py runs a page: the first with short runs, the others without a build or network.

    python3 stand_in.py harmonium|cargo HARMONIUM WORDS…
    python3 stand_in.py curl WORDS…
"""

import os
import pathlib
import shlex
import sys

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"

# For each command the options that make it long: the most that they may be, and whether they are added where a page leaves them out.
SHORT = {
    "train": {"--limit": 200, "--epochs": 2, "--updates": 20, "--minutes": 0.01, "--health-every": 10, "--stop-after": 10},
    "sample": {"--steps": 5, "--temper": 4},
    "impute": {"--draws": 10, "--burn-in": 5},
    "evaluate": {"--limit": 200, "--runs": 4, "--temperatures": 50, "--burn-in": 20},
    "score": {"--runs": 4, "--temperatures": 50, "--burn-in": 20},
    "diagnose": {"--steps": 20},
}
LENGTHS = ["--epochs", "--updates", "--minutes"]
ALWAYS = {
    "train": ["--limit"],
    "sample": ["--steps"],
    "impute": ["--draws", "--burn-in"],
    "evaluate": ["--limit", "--runs", "--temperatures", "--burn-in"],
    "diagnose": ["--steps"],
}
# Files that pages fetch: their addresses, their columns, and how many rows CI makes of them.
DEBD = "https://raw.githubusercontent.com/arranger1044/DEBD/d5e0c95fef9e418a39feccddae5d7a7526c1e8de/datasets/{0}/{0}.{1}.data"
RNA = "https://raw.githubusercontent.com/spqb/adabmDCApy/52c8b3d5ca00c0ad0bb4b78d291912cf90ff0cdc/example_data/RF00379.fasta"
PARTS = {"train": 300, "valid": 100, "test": 100}
FILES = {DEBD.format(name, part): (columns, rows) for name, columns in {"mushrooms": 112, "dna": 180}.items() for part, rows in PARTS.items()}
FILES[RNA] = (136, 300)
# Commands that this program does not run, and what does.
ELSEWHERE = {
    "cargo add harmonium": "a line of Cargo.toml",
    "cargo add harmonium --features gzip": "a line of Cargo.toml",
    "cargo install --path . --features cli": "`cargo package` builds the same",
    "cargo build --release --features cli": ".ci/run builds it",
    "cargo build --release --features cli,cuda": ".ci/cuda builds it",
    "cargo build --release --features cli,parquet": ".ci/run builds it, step \"tests of Parquet, and with the system's BLAS\"",
    "sudo apt-get install libopenmpi-dev openmpi-bin libclang-dev": ".ci/mpi",
    "cargo build --release --features cli,mpi": ".ci/mpi builds it",
    "mpirun -n 4 target/release/harmonium train --chains 10000": "tests/ranks.rs",
    "mpirun -n 2 --bind-to none harmonium train": "tests/ranks.rs, on few chains",
    "mpirun --map-by ppr:1:node --bind-to none harmonium train": "needs several machines",
    "mpirun --map-by ppr:1:socket --bind-to socket harmonium train": "needs several sockets",
    "cargo build --release --features cli,cuda,mpi": ".ci/cuda builds it",
    "mpirun --map-by ppr:4:node --bind-to none harmonium train --device cuda --chains 100000": "needs several GPUs",
    "cargo test --features cli": ".ci/run",
    "cargo test": ".ci/run, with more features",
    "cargo fmt --all": ".ci/run checks it",
    "cargo clippy --workspace --all-targets --features cli -- -D warnings": ".ci/run",
    ".ci/run": "CI is this program",
    ".ci/cuda": ".ci/run",
    "HARMONIUM_CUDA=required cargo test --features cli,cuda": "needs a GPU; .ci/cuda runs it on the emulator",
    "benches/gpu/bundle /tmp/bundle": ".ci/cuda",
    "/tmp/bundle/run --out /tmp/results": ".ci/cuda, on the emulator",
    "cargo run --release -p harmonium-dbn -- --data data/mnist": "a small run is a test of downstream/dbn",
    "cargo bench --features openblas": ".ci/run builds the benches",
    "mdbook build docs": ".ci/run",
    "python3 .ci/census.py target/release/harmonium --data DIR --out census.txt": ".ci/run, with --small",
}


def short(words: list[str]) -> list[str]:
    """The words of a command whose run takes a second or two."""
    name = words[0] if words else ""
    most, given, out = SHORT.get(name, {}), set(), []
    data = pathlib.Path(words[words.index("--data") + 1]) if "--data" in words else None
    is_small = data is not None and data.is_file() and data.stat().st_size < 1_000_000
    words = iter(words)
    for word in words:
        out.append(word)
        given.add(word)
        if word == "--device":
            # The emulator's turn is in .ci/cuda.
            assert next(words).startswith("cuda")
            out.append("cpu")
        elif word in most:
            out.append(str(min(most[word], float(next(words)), key=float)).removesuffix(".0"))
    if "--help" in given or "--resume" in given:
        return out
    for option in ALWAYS.get(name, []):
        if option not in given and not (option == "--limit" and is_small):
            out += [option, str(most[option])]
    if name == "train" and not given & set(LENGTHS):
        out += ["--updates", "20"]
    # Each line of the log has its annealing runs.
    for option, value in [("--samples", "1"), ("--log-every", "100")]:
        if name == "train" and option not in given:
            out += [option, value]
    return out


def cargo(command: str, words: list[str]) -> None:
    """`cargo digits …` and `cargo run … -- …`, by the program that is built."""
    if shlex.join(["cargo", *words]) in ELSEWHERE:
        return
    if "--example" in words:
        # Runs later, as all examples that pages show.
        assert (EXAMPLES / f"{words[words.index('--example') + 1]}.rs").exists()
        return
    words = ["train", *words[1:]] if words[0] == "digits" else words[words.index("--") + 1 :]
    os.execv(command, [command, *short(words)])


def fetch(words: list[str]) -> None:
    """Random bits, as a table of text or as aligned sequences, under the last part of an address."""
    import numpy as np

    for address in [word for word in words if not word.startswith("-")]:
        name = address.rsplit("/", 1)[1]
        columns, rows = FILES[address]
        random = np.random.default_rng(columns)
        if name.endswith(".fasta"):
            sequences = ["".join(random.choice(list("ACGU-"), columns)) for _ in range(rows)]
            pathlib.Path(name).write_text("".join(f">{n}\n{sequence}\n" for n, sequence in enumerate(sequences)))
            continue
        bits = random.random((rows, columns)) < random.random(columns)
        np.savetxt(name, bits, fmt="%d", delimiter=",")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["harmonium", command, *words]:
            os.execv(command, [command, *short(words)])
        case ["cargo", command, *words]:
            cargo(command, words)
        case ["curl", *words]:
            fetch(words)
