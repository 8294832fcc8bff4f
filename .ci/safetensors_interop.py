#!/usr/bin/env python3
"""Files between harmonium and Python: a model trained on an .npy file of NumPy's opens with safetensors.numpy, and a model
written by safetensors.numpy opens with harmonium, which finds the log Z and the likelihood that NumPy enumerates.

    pip install numpy safetensors
    python3 .ci/safetensors_interop.py target/release/harmonium
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def main(command: pathlib.Path, folder: pathlib.Path) -> None:
    def harmonium(*arguments: str) -> str:
        done = subprocess.run([command, *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout

    random = np.random.default_rng(1)
    n_visible, n_hidden = 16, 6

    # There: every type of .npy file that can be read.
    numbers = random.random((40, n_visible))
    for rows in [
        (numbers * 255).astype(np.uint8),
        numbers < 0.5,
        numbers.astype(np.float32),
        numbers,
    ]:
        np.save(folder / "rows.npy", rows)
        out = f"out-{rows.dtype}"
        harmonium(
            *f"train --data rows.npy --hidden {n_hidden} --epochs 1 --batch-size 10 --k 1 --quiet --out {out}".split()
        )
        path = folder / out / "model.safetensors"
        tensors = load_file(path)
        shapes = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in tensors.items()}
        assert shapes == {
            "weights": ((n_visible, n_hidden), "float32"),
            "visible_bias": ((n_visible,), "float32"),
            "hidden_bias": ((n_hidden,), "float32"),
        }, shapes
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        assert list(metadata) == ["harmonium"] and metadata["harmonium"].startswith("rbm "), metadata
        check_info(json.loads(harmonium("info", "--json", str(path))), tensors)

    # And back: bytes as NumPy has them, without metadata.
    tensors = {
        "hidden_bias": random.normal(size=n_hidden).astype(np.float32),
        "visible_bias": random.normal(size=n_visible).astype(np.float32),
        "weights": random.normal(size=(n_visible, n_hidden)).astype(np.float32),
    }
    save_file(tensors, folder / "python.safetensors")
    check_info(json.loads(harmonium("info", "--json", "python.safetensors")), tensors)
    harmonium("filters", "python.safetensors")
    harmonium("sample", "python.safetensors", "--data", "rows.npy", "--steps", "2")

    published_model(harmonium, folder, random)

    # What is not f32 is refused, in one line and with status 1.
    save_file({name: tensor.astype(np.float64) for name, tensor in tensors.items()}, folder / "wide.safetensors")
    done = subprocess.run([command, "info", "wide.safetensors"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and "F32" in done.stderr and "F64" in done.stderr, done
    assert done.stderr.count("\n") == 1, done.stderr


def published_model(harmonium, folder: pathlib.Path, random: np.random.Generator) -> None:
    """A model of somebody else's, 784 x 15 as it comes from a .mat file, is evaluated exactly."""
    mat = {
        "vishid": random.normal(0, 0.7, (784, 15)),
        "visbiases": random.normal(-2, 1.5, (1, 784)),
        "hidbiases": random.normal(0, 2, (1, 15)),
    }
    names = {"weights": "vishid", "visible_bias": "visbiases", "hidden_bias": "hidbiases"}
    flat = {name: mat[theirs].astype(np.float32) for name, theirs in names.items()}
    save_file(
        {name: tensor if name == "weights" else tensor.ravel() for name, tensor in flat.items()},
        folder / "published.safetensors",
    )
    rows = random.random((100, 784)) < 0.2
    np.save(folder / "digits.npy", rows)
    found = json.loads(harmonium("evaluate", "published.safetensors", "--data", "digits.npy", "--json"))
    weights, b, c = (flat[name].astype(np.float64) for name in names)
    states = (np.arange(2**15)[:, None] >> np.arange(15) & 1).astype(np.float64)
    logs = np.concatenate(
        [(h @ c.T)[:, 0] + np.logaddexp(0, h @ weights.T + b).sum(1) for h in np.split(states, 64)]
    )
    log_z = logs.max() + np.log(np.exp(logs - logs.max()).sum())
    v = rows.astype(np.float64)
    likelihood = (v @ b.T)[:, 0] + np.logaddexp(0, v @ weights + c).sum(1) - log_z
    for estimate, expected, tolerance in [
        (found["log_z"]["estimate"], log_z, 1e-12),
        (found["log_likelihood"]["mean"], likelihood.mean(), 1e-6),
        (found["log_likelihood"]["standard_error"], likelihood.std(ddof=1) / 10, 1e-6),
    ]:
        assert abs(estimate - expected) <= tolerance * abs(expected), (estimate, expected)
    assert found["log_z"]["method"] == "exact", found


def check_info(info: dict, tensors: dict) -> None:
    """What harmonium says of the tensors must be what NumPy finds."""
    assert info["n_visible"] == tensors["visible_bias"].size and info["n_hidden"] == tensors["hidden_bias"].size
    for name, tensor in tensors.items():
        wide = tensor.astype(np.float64)
        expected = {"min": wide.min(), "max": wide.max(), "mean": wide.mean(), "standard_deviation": wide.std()}
        for key, value in expected.items():
            assert abs(info[name][key] - value) <= 1e-12, (name, key, info[name][key], value)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PATH-OF-HARMONIUM")
    with tempfile.TemporaryDirectory() as temporary:
        main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(temporary))
    print("safetensors and npy files agree with Python's")
