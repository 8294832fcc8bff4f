#!/usr/bin/env python3
"""Runs README.md, CONTRIBUTING.md and the book in docs/, on small sizes.

    pip install numpy pandas scikit-learn safetensors h5py pillow
    python3 .ci/book.py target/debug/harmonium target/debug/examples [PAGE…]

Each page has a folder of its own, in which its blocks run from the top to the bottom:

- `sh` runs in bash. `harmonium`, `cargo` and `curl` there are those of stand_in.py: shorter runs, and random data in place of the
  network's.
- `python` is executed; the blocks of a page share their names.
- `rust` must stand word for word in a file of examples/, which is run once, or in README.md, which is a documentation test.
- `console` is not run. Each of its commands must be listed in `ELSEWHERE` of stand_in.py, with what runs it instead.
- `text`, `toml` and `csv` show output, formulas and files.

Then the layout: every page of docs/ is in SUMMARY.md, every relative link has a target, and pages of the book link to pages and
pictures of the book only. Any error ends the program with status 1.

docs/python.md opens a file that the package rbms wrote. Where rbms is installed (it needs torch) it writes that file and opens the
one that the page writes for it; elsewhere h5py writes a file of the same layout, that of `save_model` of rbms 0.5.0.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
from stand_in import ELSEWHERE

try:
    import rbms.io
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
except ImportError:
    rbms = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def main(command: pathlib.Path, examples: pathlib.Path, wanted: list[str]) -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
    chosen = [page for page in pages if not wanted or page.name in wanted]
    assert chosen, f"no page is called {wanted}"
    sources = {path.stem: path.read_text() for path in sorted((ROOT / "examples").glob("*.rs"))}
    shown = set()
    for page in chosen:
        with tempfile.TemporaryDirectory() as folder:
            shown |= run_page(page, pathlib.Path(folder).resolve(), command, sources)
    for name in sorted(shown):
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([examples / name], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        print(f"-- examples/{name}.rs: {time.monotonic() - begin:.1f} s", flush=True)
    check_layout(pages)
    print(f"{len(chosen)} pages, {len(shown)} examples; rbms: {'the package' if rbms else 'its layout alone'}")


def run_page(page: pathlib.Path, folder: pathlib.Path, command: pathlib.Path, sources: dict[str, str]) -> set[str]:
    """Runs the blocks of a page, and gives the examples that it shows."""
    text = page.read_text()
    blocks = list(re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    fences = len(re.findall(r"^ *```", text, re.MULTILINE))
    assert 2 * len(blocks) == fences, f"{page}: a block that is not closed, is indented or has more than a word behind its fence"
    furnish(folder, command)
    is_python_page = page.name == "python.md"
    if is_python_page:
        write_rbms()
    names, shown, begin = {"__name__": "page"}, set(), time.monotonic()
    for block in blocks:
        language, code = block.groups()
        line = text[: block.start(2)].count("\n")
        place = f"{page.relative_to(ROOT)}, line {line + 1}"
        if language in ("sh", "python"):
            print(f"-- {place}: {language}", flush=True)
        if language == "sh":
            done = subprocess.run(["bash", "-euxo", "pipefail", "-c", code], check=False)
            assert done.returncode == 0, f"{place}: status {done.returncode}"
        elif language == "python":
            # Errors name lines of the page.
            exec(compile("\n" * line + code, page, "exec"), names)
        elif language == "rust":
            found = [name for name, source in sources.items() if holds(source, code.strip())]
            assert found or page.name == "README.md", f"{place}: this program is in no file of examples/"
            shown |= set(found)
        elif language == "console":
            for said in re.findall(r"^\$ ([^#\n]*)", code, re.MULTILINE):
                assert said.strip() in ELSEWHERE, f"{place}: nothing is known to run {said.strip()!r}"
        else:
            assert language in ("text", "toml", "csv"), f"{place}: expected sh, python, rust, console, text, toml or csv, found {language!r}"
    if is_python_page:
        read_rbms(names)
    os.chdir(ROOT)
    if time.monotonic() - begin > 1:
        print(f"-- {page.relative_to(ROOT)}: {time.monotonic() - begin:.1f} s", flush=True)
    return shown


def holds(source: str, code: str) -> bool:
    """Whether a source has these lines, at whatever depth."""
    depths = {len(line) - len(line.lstrip()) for line in source.splitlines()}
    return any(code in "\n".join(line.removeprefix(" " * depth) for line in source.splitlines()) for depth in depths)


def furnish(folder: pathlib.Path, command: pathlib.Path) -> None:
    """What a reader has: the programs, the data and the scripts of the repository."""
    for name in ["data", "docs"]:
        (folder / name).symlink_to(ROOT / name)
    programs = folder / "bin"
    programs.mkdir()
    stand_in = [sys.executable, str(ROOT / ".ci/stand_in.py")]
    for name, words in {
        "harmonium": [*stand_in, "harmonium", str(command)],
        "cargo": [*stand_in, "cargo", str(command)],
        "curl": [*stand_in, "curl"],
        "python3": [sys.executable],
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not part.endswith("/bin-of-a-page")]
    os.environ["PATH"] = os.pathsep.join([str(programs), *path])
    os.chdir(folder)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def check_layout(pages: list[pathlib.Path]) -> None:
    summary = set(re.findall(r"\]\(([^)]+)\)", (DOCS / "SUMMARY.md").read_text()))
    found = {page.name for page in DOCS.glob("*.md")} - {"SUMMARY.md"}
    assert summary == found, f"docs/SUMMARY.md differs from docs/*.md by {sorted(summary ^ found)}"
    anchors = {
        page: {anchor(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)} for page in DOCS.glob("*.md")
    }
    for page in [*pages, ROOT / "CHANGELOG.md"]:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, part = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.relative_to(ROOT)}: {link} is not there"
            if page.parent == DOCS:
                assert target.is_relative_to(DOCS), f"{page.relative_to(ROOT)}: {link} is not in the book"
            if part and target in anchors:
                assert part in anchors[target], f"{page.relative_to(ROOT)}: {target.name} has no heading {part}"


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
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} HARMONIUM EXAMPLES [PAGE…]")
    main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:])
