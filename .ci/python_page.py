#!/usr/bin/env python3
"""Runs docs/python.md: its blocks of sh and python in their order, in one folder, with harmonium on PATH. The blocks of python
share their names. Any error of either ends it with status 1.

    pip install numpy pandas scikit-learn safetensors h5py
    python3 .ci/python_page.py target/release/harmonium

The page opens a file that the package rbms wrote. Where rbms is installed (it needs torch) it writes that file and opens the one that
the page writes for it; elsewhere h5py writes a file of the same layout, that of `save_model` of rbms 0.5.0.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np

try:
    import rbms.io
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
except ImportError:
    rbms = None

PAGE = pathlib.Path(__file__).parent.parent / "docs/python.md"


def main(command: pathlib.Path, folder: pathlib.Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/harmonium").symlink_to(command)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.chdir(folder)
    write_rbms()
    names = {"__name__": "page"}
    text = PAGE.read_text()
    blocks = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert 2 * len(blocks) == len(re.findall("^ *```", text, re.MULTILINE)) > 0, "a block that is not closed or not found"
    for block in blocks:
        language, code = block.groups()
        line = text[: block.start(2)].count("\n")
        print(f"-- docs/python.md, line {line + 1}: {language}", flush=True)
        if language == "sh":
            subprocess.run(["bash", "-euxo", "pipefail", "-c", code], check=True)
        elif language == "python":
            # Errors name lines of the page.
            exec(compile("\n" * line + code, PAGE, "exec"), names)
        else:
            sys.exit(f"expected a block of sh or python, found {language or 'none'}")
    read_rbms(names)
    print(f"{len(blocks)} blocks of docs/python.md run; rbms: {'the package' if rbms else 'its layout alone'}")


def write_rbms() -> None:
    """A model with two saved updates, of which the last one has the higher number and not the later name."""
    random = np.random.default_rng(1)
    for update in [9, 10]:
        params = {
            "weight_matrix": random.normal(size=(16, 5)).astype(np.float32),
            "vbias": random.normal(size=16).astype(np.float32),
            "hbias": random.normal(size=5).astype(np.float32),
        }
        chains = (random.random((4, 16)) < 0.5).astype(np.float32)
        if rbms:
            model = BBRBM.set_named_parameters({name: torch.from_numpy(array) for name, array in params.items()})
            rbms.io.save_model("rbms.h5", model, {"visible": torch.from_numpy(chains)}, update, 1.0, ["ptt"])
            continue
        with h5py.File("rbms.h5", "a") as file:
            group = file.create_group(f"update_{update}")
            inner = group.create_group("params")
            for name, array in params.items():
                inner[name] = array
                group[name] = inner[name]
            group["time"] = 1.0
            group.create_group("flags")["ptt"] = True
            group["save_ptt"] = True
            if "parallel_chains" not in file:
                file["parallel_chains"] = chains
                file["model_type"] = "BBRBM"


def read_rbms(names: dict) -> None:
    """What rbms finds in the file that the page wrote for it must be the model."""
    ours = names["model"]
    expected = {
        "weight_matrix": ours["weights"],
        "vbias": ours["visible_bias"],
        "hbias": ours["hidden_bias"],
    }
    if rbms:
        model = rbms.io.load_params("for-rbms.h5", 1, torch.device("cpu"), torch.float32)
        found = {name: array.numpy() for name, array in model.named_parameters().items()}
        v = torch.from_numpy(names["v"].astype(np.float32))
        chains = model.sample_hiddens({"visible": v})
        assert np.abs(chains["hidden_mag"].numpy() - names["h"]).max() < 1e-5
    else:
        with h5py.File("for-rbms.h5") as file:
            assert file["model_type"][()].decode() == "BBRBM"
            found = {name: array[()] for name, array in file["update_1/params"].items()}
    assert sorted(found) == sorted(expected), sorted(found)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} PATH-OF-HARMONIUM")
    with tempfile.TemporaryDirectory() as temporary:
        main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(temporary).resolve())
