"""Lists the library's public interface, as declared in the source, for comparison with the committed docs/api.txt.

    python .ci/api.py            exits with 1 and the differences if the list is not up to date
    python .ci/api.py --write    writes the list

It reads rustdoc's JSON, an unstable format, which rustdoc writes under RUSTC_BOOTSTRAP=1; what is compiled stays the same.
"""

import difflib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "docs/api.txt"
# The version of the format that this script was written for.
FORMAT = 57
FEATURES = "cli,cuda"


def described():
    command = ["cargo", "rustdoc", "-q", "--locked", "--lib", "--features", FEATURES, "--", "-Zunstable-options", "--output-format", "json"]
    # These are the flags of HTML.
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1", "RUSTDOCFLAGS": ""}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return json.loads((ROOT / target / "doc/harmonium.json").read_text())


class Listing:
    def __init__(self, crate):
        self.items, self.lines, self.seen = crate["index"], [], set()
        self.module(self.items[str(crate["root"])], "harmonium")

    def declared(self, item):
        """The source of an item up to its body, in one line."""
        span = item["span"]
        lines = (ROOT / span["filename"]).read_text().splitlines()[span["begin"][0] - 1 : span["end"][0]]
        lines[0] = lines[0][span["begin"][1] - 1 :]
        text = re.sub(r"(?m)^\s*(//|#\[).*$", "", "\n".join(lines))
        # A body begins with a brace at the end of a line, or with one that a space follows; a variant's fields belong to it.
        if "variant" not in item["inner"]:
            text = re.split(r"\s*\{\s*\n|;\s*(?:\n|$)|\s\{ |\s\{\}", text)[0]
        return re.sub(r",? ([)>])", r"\1", " ".join(text.split()).replace("( ", "(")).rstrip(",;")

    def add(self, path, text):
        self.lines.append(f"{path}: {text}")

    def item(self, number, path, name=None):
        item = self.items.get(str(number))
        if item is None or "hidden" in str(item["attrs"]):
            return
        (kind, inner), = item["inner"].items()
        name = name or item["name"]
        here = f"{path}::{name}"
        if kind == "use":
            self.item(inner["id"], path, inner["name"])
        elif (here, kind) in self.seen:
            return
        elif kind == "module":
            self.seen.add((here, kind))
            self.module(item, here)
        elif kind in ("struct", "enum", "trait"):
            self.seen.add((here, kind))
            self.add(here, self.declared(item))
            fields = inner["kind"].get("plain", {}).get("fields", []) if kind == "struct" and isinstance(inner["kind"], dict) else []
            for part in [*fields, *inner.get("variants", []), *inner.get("items", [])]:
                self.part(part, here)
            for block in inner.get("impls", []):
                self.implementation(block, here)
        else:
            self.seen.add((here, kind))
            self.add(here, self.declared(item))

    def part(self, number, path):
        item = self.items.get(str(number))
        if item and "hidden" not in str(item["attrs"]):
            self.add(f"{path}::{item['name']}", self.declared(item))

    def implementation(self, number, path):
        block = self.items.get(str(number))
        inner = block["inner"]["impl"] if block else {"is_synthetic": True}
        if inner["is_synthetic"] or inner["blanket_impl"]:
            return
        if inner["trait"]:
            if not inner["trait"]["path"].startswith("Structural"):
                self.add(path, f"implements {inner['trait']['path']}")
            return
        for part in inner["items"]:
            if self.items[str(part)]["visibility"] == "public":
                self.part(part, path)

    def module(self, item, path):
        for number in item["inner"]["module"]["items"]:
            child = self.items.get(str(number))
            if child and child["visibility"] == "public":
                self.item(number, path)


def main():
    crate = described()
    if crate["format_version"] != FORMAT:
        sys.exit(f"rustdoc's JSON: expected format {FORMAT}, found {crate['format_version']}")
    listed = sorted(set(Listing(crate).lines))
    if sys.argv[1:] == ["--write"]:
        LIST.write_text("\n".join(listed) + "\n")
        return
    committed = LIST.read_text().splitlines()
    if listed != committed:
        print("\n".join(difflib.unified_diff(committed, listed, "docs/api.txt", "the source", lineterm="", n=0)))
        sys.exit("the public interface has changed: see CONTRIBUTING.md, then python .ci/api.py --write")
    print(f"{len(listed)} lines of docs/api.txt are those of the source")


if __name__ == "__main__":
    main()
