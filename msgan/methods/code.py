"""Identity of the code that trains: a hash of the statements that decide the weights."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import msgan

DECIDING = "msgan.methods.cascade"
"""The module that trains: what it imports, and what that imports, decides the weights."""


@cache
def code_hash() -> str:
    """Hash of the statements that decide the weights; comments, docstrings and layout do not.

    As they are when it is first asked for: a process runs the code that it has imported.
    """
    root = Path(msgan.__file__).parent
    digest = hashlib.sha256(msgan.__version__.encode())
    for file, tree in sorted(_imported(root.parent, DECIDING).items()):
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):  # docstrings and the strings that describe constants
                node.body = [s for s in body if not _is_text(s)]  # type: ignore[attr-defined]
        digest.update(f"{file.relative_to(root).as_posix()}\0{ast.dump(tree)}".encode())
    return digest.hexdigest()


def _imported(root: Path, module: str) -> dict[Path, ast.Module]:
    """Files below ``root`` that a module consists of and imports, at any depth, and their trees."""
    trees: dict[Path, ast.Module] = {}
    names = [module]
    while names:
        parts = names.pop().split(".")
        # A package is executed before its modules; msgan itself only names what it offers.
        for k in range(2, len(parts) + 1):
            path = root.joinpath(*parts[:k])
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if file in trees or not file.is_file():  # the last part may be a name in a module
                continue
            trees[file] = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(trees[file]):
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names += [f"{node.module}.{alias.name}" for alias in node.names]
    return trees


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
