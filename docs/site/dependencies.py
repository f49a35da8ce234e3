"""Writes the tables of ``docs/dependencies.md``: licences, as installed packages state them.

python docs/site/dependencies.py
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- made by docs/site/dependencies.py -->", "<!-- end -->"

ABSENT = "not installed with `.[all]`"
"""In place of a licence: what only extras of which no result is made ask for."""

SAME = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD (clauses not stated)",
    "BSD License": "BSD (clauses not stated)",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""One name for each licence, whatever packages call it."""


def normal(name: str) -> str:
    """The name of a package as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> list[str]:
    """Packages of ``constraints.txt``."""
    return sorted({normal(m) for m in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)})


def direct(text: str) -> dict[str, str]:
    """What ``pyproject.toml`` asks for, and which extra does; empty: msgan itself."""
    project = tomllib.loads(text)["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, str] = {}
    for extra, packages in asked.items():
        for package in packages:
            name = normal(re.split(r"[<>=\[ ]", package)[0])
            if name != "msgan":
                found.setdefault(name, extra)
    return found


def licence(name: str) -> str:
    """What an installed package states: expression, classifiers, or the first line of its field."""
    try:
        about = distribution(name).metadata
    except PackageNotFoundError:
        return ABSENT
    classified = [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = about.get("License-Expression") or "; ".join(c.split(" :: ")[-1] for c in classified)
    text = stated or (about.get("License") or "not stated").strip().splitlines()[0]
    return SAME.get(text, text)


def tables() -> str:
    """Direct dependencies with their licences, then all others by licence."""
    own = direct((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    every = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    lines = ["| package | for | licence |", "| --- | --- | --- |"]
    for name, extra in sorted(own.items(), key=lambda item: (item[1], item[0])):
        use = f"`.[{extra}]`" if extra else "msgan"
        lines.append(f"| {name} | {use} | {licence(name)} |")
    others = defaultdict(list)
    for name in every:
        if name not in own:
            others[licence(name)].append(name)
    lines += ["", "What these need in turn:", "", "| licence | packages |", "| --- | --- |"]
    rows = sorted(others.items(), key=lambda item: (-len(item[1]), item[0]))
    lines += [f"| {kind} | {', '.join(names)} |" for kind, names in rows]
    return "\n".join(lines)


def written(text: str, made: str) -> str:
    """A document with its tables replaced."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    known = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(known, tables()), encoding="utf-8")
