"""Trained runs that several notebooks share, in folders named by all that decides them."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgan
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.methods.cascade import fit, modalities
from msgan.paths import sha256
from msgan.training.run import Run

DECIDING = (
    "config.py",
    "data",
    "degrade.py",
    "losses.py",
    "methods/own_contexts.py",
    "networks",
    "patches.py",
    "pyramid.py",
    "seeds.py",
    "sketch",
    "training",
)
"""What of the package's source decides the weights."""


def fit_shared(
    cohort: Cohort,
    target: str,
    config: CascadeConfig,
    root: str | os.PathLike[str],
    *,
    scales: Sequence[int] | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """:func:`msgan.methods.cascade.fit` into the folder of ``root`` that holds this very run.

    Whoever asks for the same configuration, target, data and code gets the same run: trained by
    the first, continued where the first was interrupted, opened at once where it is finished.
    Prepared subjects are shared by all runs of ``root``.

    Args:
        root: Holds one folder a run, and ``cache``.

    See :func:`msgan.methods.cascade.fit` for the other arguments and the errors.
    """
    key = run_key(cohort, target, config)
    folder = Path(root) / f"{target}-{config.network.family}-{key}"
    cache = Path(root) / "cache"
    return fit(
        cohort, target, config, folder, scales=scales, device=device, cache=cache, report=report
    )


def run_key(cohort: Cohort, target: str, config: CascadeConfig) -> str:
    """16 hexadecimal digits of configuration, target, contents of the training files and code."""
    files = []
    needed = modalities(target, config)
    for subject in cohort.with_modality(*needed):
        if subject.split != "test":
            used = (*(subject.images[name] for name in needed), subject.mask, subject.labels)
            files.append([subject.name, subject.split, *(sha256(p) if p else "" for p in used)])
    content = [config.model_dump(mode="json"), target, sorted(files), code_hash()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def code_hash() -> str:
    """Hash of the statements that decide the weights; comments, docstrings and layout do not."""
    root = Path(msgan.__file__).parent
    files = [
        f
        for name in DECIDING
        for f in ([root / name], (root / name).rglob("*.py"))[(root / name).is_dir()]
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # docstrings and the strings that describe constants
                node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
        digest.update(f"{file.relative_to(root).as_posix()}\0{ast.dump(tree)}".encode())
    return digest.hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
