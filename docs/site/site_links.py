"""Extension of Sphinx: names of the code in the documents lead to its reference."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import site_pages
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry

import msgan

NAME = re.compile(r"(msgan(?:\.\w+)+)(?:\(.*\))?")
NOTEBOOK = re.compile(r"notebooks/(\d\d_\w+)\.ipynb")
LITERAL = re.compile(r"(``.*?``)")
# Of emphasis and substitutions: (batch, channels, *spatial) and |x - y| are neither.
MARK = re.compile(r"\*(?=[\w(])(?![\w ]+\*(?!\w))|\|")
HISTORY = "CHANGELOG"
"""It speaks of names that are gone."""


@cache
def trees() -> dict[str, ast.Module]:
    """The modules of the package."""
    return site_pages.modules(Path(msgan.__file__).parent)


@cache
def public() -> set[str]:
    """Public names of the package, and those by which packages offer them."""
    names = {
        name for module, tree in trees().items() for name in site_pages.public_names(module, tree)
    }
    return names | set(site_pages.aliases(trees()))


@cache
def taken(module: str) -> dict[str, str]:
    """What a module takes from others of the package."""
    return site_pages.imported(trees()[module])


def link_names(app: Sphinx, tree: nodes.document) -> None:
    """Make references of ``msgan.x.y`` and ``notebooks/x.ipynb`` in backticks."""
    document = app.env.docname
    if document == HISTORY or document.startswith("reference/api/"):
        return
    for literal in list(tree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.reference | addnodes.pending_xref):
            continue
        text = literal.astext()
        if name := NAME.fullmatch(text):
            about = {"refdomain": "py", "reftype": "obj", "reftarget": name[1]}
        elif name := NOTEBOOK.fullmatch(text):
            about = {"refdomain": "std", "reftype": "doc", "reftarget": f"/notebooks/{name[1]}"}
        else:
            continue
        reference = addnodes.pending_xref("", refdoc=document, refexplicit=True, refwarn=True)
        reference.attributes |= about
        literal.replace_self(reference)
        reference += literal


def link_types(_app: Sphinx, tree: nodes.document) -> None:
    """Let types of signatures lead to what their module means by the name.

    Sphinx would search the whole package for a class that ends so. What is of another package, or
    is not public, stays text.
    """
    for reference in list(tree.findall(addnodes.pending_xref)):
        if reference.get("refdomain") != "py" or reference.get("reftype") not in ("class", "exc"):
            continue
        if reference.children and isinstance(reference.children[0], nodes.literal):
            continue  # written as a role, which must lead somewhere
        module, target = reference.get("py:module"), reference["reftarget"].removeprefix("~")
        if "." not in target and module in trees():
            target = taken(module).get(target, f"{module}.{target}")
        if target in public():
            reference["reftarget"] = target
        else:
            reference.replace_self(reference.children)


def note_aliases(_app: Sphinx, env: Any) -> None:
    """Let ``msgan.metrics.ssim`` lead to where it is defined, here and in the inventory."""
    domain = env.domains["py"]
    for name, origin in site_pages.aliases(trees()).items():
        if origin in domain.objects:
            there = domain.objects[origin]
            alias = ObjectEntry(there.docname, there.node_id, there.objtype, True)
            domain.objects.setdefault(name, alias)


def plain_words(_app: Sphinx, _kind: str, name: str, _of: Any, _o: Any, lines: list[str]) -> None:
    """Keep stars and bars of formulas in docstrings, and the lines of a command's examples."""
    parts = [LITERAL.split(line) for line in lines]
    lines[:] = [
        "".join(text if k % 2 else MARK.sub(r"\\\g<0>", text) for k, text in enumerate(part))
        for part in parts
    ]
    if name.startswith("msgan.cli.") and "\b" in lines:
        start = lines.index("\b")
        lines[start : start + 2] = [f"{lines[start + 1]}:", ""]


def short_signature(
    _app: Sphinx, kind: str, name: str, found: Any, _o: Any, _signature: Any, _returns: Any
) -> tuple[str, str | None] | None:
    """No signature where it repeats a page of its own: configurations and commands."""
    if kind == "class" and hasattr(found, "model_fields"):
        return "", None
    if kind == "function" and name.startswith("msgan.cli."):
        return "(...)", None
    return None


def skip_settings(
    _app: Sphinx, _kind: str, name: str, _of: Any, skip: bool, _o: Any
) -> bool | None:
    """Leave out how pydantic checks a configuration."""
    return True if name == "model_config" else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", link_types)
    app.connect("env-updated", note_aliases)
    app.connect("autodoc-process-docstring", plain_words, priority=100)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-skip-member", skip_settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
