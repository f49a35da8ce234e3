"""Pages of the reference that are made from the code: modules, configuration, commands."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# --- modules -----------------------------------------------------------------------------------


def modules(package: Path) -> dict[str, ast.Module]:
    """Name of each public module of a package and its syntax tree; nothing is imported."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> dict[str, str]:
    """What a module takes from this package: the name there and where it comes from."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("msgan")
        for alias in node.names
    }


def exports(name: str, tree: ast.Module) -> dict[str, str]:
    """What a package offers from its modules: the name there and where it is defined."""
    offered: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            offered = ast.literal_eval(node.value)
    origins = imported(tree) if offered else {}
    known = {f"{name}.{one}": origins[one] for one in offered if one in origins}
    return {full: origin for full, origin in known.items() if full != origin}  # no subpackages


def aliases(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """Every name that a package offers from elsewhere, and its name where it is defined."""
    found: dict[str, str] = {}
    for name, tree in trees.items():
        found |= exports(name, tree)
    for name in found:
        while found[name] in found:
            found[name] = found[found[name]]
    return {name: origin for name, origin in found.items() if origin not in trees}


def public_names(name: str, tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a module defines for others: without an underscore, with a docstring."""
    yield name
    yield from _members(name, tree)


def _members(name: str, node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_") or not ast.get_docstring(child):
                continue
            yield f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from _members(f"{name}.{child.name}", child)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            described = isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
            if described and isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield f"{name}.{target.id}"


def summary(tree: ast.Module) -> str:
    """First sentence of a module's docstring, on one line."""
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())


def module_pages(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    """reStructuredText of a page for each module, by name; ``index`` lists the packages."""
    parents = {name.rpartition(".")[0] for name in trees}
    packages = [name for name in trees if name in parents]
    public = {one for name, tree in trees.items() for one in public_names(name, tree)}
    found = {name: origin for name, origin in aliases(trees).items() if origin in public}
    pages = {}
    for name, tree in trees.items():
        offered = {full: found[full] for full in exports(name, tree) if full in found}
        below = [one for one in trees if one.rpartition(".")[0] == name]
        pages[name] = _module_page(name, offered, {one: summary(trees[one]) for one in below})
    listed = "".join(f"   {name}\n" for name in packages)
    rows = "".join(f"- :doc:`{name}` -- {summary(trees[name])}\n" for name in packages)
    pages["index"] = f"{_title('API')}{INTRODUCTION}\n{rows}\n.. toctree::\n   :hidden:\n\n{listed}"
    return pages


INTRODUCTION = """Most scripts need only what ``import msgan as ms`` offers: see :doc:`msgan`.
The other packages hold the parts it is made of, each with a page for every module.
"""


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def _module_page(name: str, offered: Mapping[str, str], below: Mapping[str, str]) -> str:
    parent = name.rpartition(".")[0]
    # A module is found on the page of its package; as an entry of the menu it would be one of 300.
    text = "" if below or not parent else ":orphan:\n\n"
    text += _title(name)
    text += f"Part of :doc:`{parent}`.\n\n" if parent else ""
    text += f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n\n"
    if offered:
        names = ", ".join(f":py:obj:`{full.rpartition('.')[2]} <{full}>`" for full in offered)
        text += f".. rubric:: Offered by this package\n\n{names}\n\n"
    if below:
        rows = "".join(f"- :doc:`{one}` -- {words}\n" for one, words in below.items())
        text += f".. rubric:: Modules\n\n{rows}"
    return text


# --- configuration -----------------------------------------------------------------------------


def attribute_texts(docstring: str) -> dict[str, str]:
    """What the section ``Attributes:`` of a docstring says of each name, on one line."""
    section = re.search(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", docstring, re.M)
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else ():
        if start := re.match(r" {4}(\w+(?:, \w+)*): (.*)", line):
            names = start[1].split(", ")
            texts |= dict.fromkeys(names, start[2])
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def meaning(model: type[Any], name: str) -> str:
    """What a field of a configuration means: of the docstrings, else its description; or ''."""
    for owner in model.__mro__:
        text = attribute_texts(inspect.cleandoc(owner.__dict__.get("__doc__") or ""))
        if name in text:
            return text[name]
    words = model.model_fields[name].description or ""
    return f"{words[:1].upper()}{words[1:]}{'' if words.endswith('.') else '.'}" if words else ""


def parts(model: type[Any], prefix: str = "") -> Iterator[tuple[str, type[Any]]]:
    """The models that a configuration consists of, with the dotted names they have in it.

    Of the part ``network`` every family is one.
    """
    from pydantic import BaseModel

    from msgan.config import FAMILIES

    yield prefix, model
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        if path == "network":
            for family in FAMILIES.values():
                yield path, family
            continue
        for kind in _models(field.annotation):
            if issubclass(kind, BaseModel):
                owner = f"{path}.NAME" if "dict" in str(field.annotation) else path
                yield from parts(kind, owner)


def _models(annotation: Any) -> list[type[Any]]:
    from typing import get_args

    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "none",
}


def kind(schema: Mapping[str, Any]) -> str:
    """What values a part of a JSON schema allows, in words."""
    if "$ref" in schema or "allOf" in schema or schema.get("type") == "object":
        return "see below"
    if "anyOf" in schema:
        return " or ".join(map(kind, schema["anyOf"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        *most, last = [f"`{value}`" for value in schema["enum"]]
        return f"{', '.join(most)} or {last}" if most else last
    if schema.get("type") == "array":
        return f"list; each: {kind(schema.get('items', {}))}"
    return KINDS[schema["type"]] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {_short(low)} to {_short(high)}"
    words = {
        "exclusiveMinimum": "above",
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [f"{word} {_short(schema[key])}" for key, word in words.items() if key in schema]
    return f", {' and '.join(found)}" if found else ""


def _short(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 2**31:  # of a seed
        return f"{'-' if value < 0 else ''}2^{abs(value).bit_length() - 1}"
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0e}".replace("e+0", "e")


def _shown(value: Any) -> str:
    """A value as YAML in one line."""
    from pydantic import BaseModel

    if isinstance(value, BaseModel) or value == {}:
        return "see below" if value else "{}"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value)}`" if value is not None else "none"


def markdown(text: str) -> str:
    """A docstring's words as MyST: literals and roles."""
    text = re.sub(r":(\w+):`([^`]+)`", r"{py:\1}`\2`", text)
    return text.replace("``", "`").replace("|", "\\|")


def configuration_page() -> str:
    """MyST of a page with every field of :class:`msgan.config.CascadeConfig`."""
    from msgan.config import CascadeConfig
    from msgan.presets import preset

    presets = {name: preset(name) for name in ("smoke", "small", "published")}
    text = CONFIGURATION
    for path, model in parts(CascadeConfig):
        family = path == "network"
        title = f"{path}: family {model.model_fields['family'].default}" if family else path
        words = inspect.cleandoc(model.__doc__ or "").split("\n\nAttributes:")[0]
        text += f"\n## {title or 'The whole'}\n\n{markdown(words)}\n\n"
        text += f"Class: {{py:class}}`{model.__module__}.{model.__name__}`\n\n"
        text += "| field | values | default | meaning |\n| --- | --- | --- | --- |\n"
        for row in _rows(path, model, presets):
            text += f"| {' | '.join(row)} |\n"
    return text


CONFIGURATION = """# Configuration

Every setting of a cascade, with its default and its meaning. A file for `msgan train --config FILE`
is YAML and states only what differs from the preset:

```yaml
labels: [1, 2, 4]
training:
  steps: 3000
  batch: 2
```

In Python, `updated` gives another configuration with some values changed, and validates the whole:

```python
preset = ms.presets.preset("small")
config = preset.updated(labels=(1, 2, 4), training={"steps": 3000, "batch": 2})
```

An unknown key, or values that do not fit together, are an error that names key, value and rule. A
run states the whole configuration in its `config.yaml`. *s0* to *sn* are the scales, *n* the last;
other words are explained in the [glossary](../docs/glossary.md). After a default stand the values
of presets that differ from it; those for `brain`, `thorax` and `xray` differ further: see
`msgan.presets.TABLE`.

```{py:currentmodule} msgan.config
```
"""


def _rows(path: str, model: type[Any], presets: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    schema = model.model_json_schema(mode="validation")["properties"]
    for name, field in model.model_fields.items():
        full = f"{path}.{name}" if path else name
        default = "**required**" if field.is_required() else ""
        if not default:
            default = _shown(field.get_default(call_default_factory=True))
        nested = bool(_models(field.annotation)) or full == "network"
        if not nested:
            default += _in_presets(full, model, field, presets)
        values = kind(schema.get(name, {"type": "object"}))
        yield f"`{name}`", values.replace("|", "\\|"), default, markdown(meaning(model, name))


def _in_presets(path: str, model: type[Any], field: Any, presets: Mapping[str, Any]) -> str:
    """The values of presets that are not the default, each with the presets that have it."""
    found: dict[str, list[str]] = {}
    for preset, config in presets.items():
        *owners, name = path.split(".")
        part = config
        for owner in owners:
            part = getattr(part, owner, None)
        if isinstance(part, model):
            value = getattr(part, name)
            if field.is_required() or value != field.get_default(call_default_factory=True):
                found.setdefault(_shown(value), []).append(preset)
    return "".join(f"; {value}: {', '.join(names)}" for value, names in found.items())


# --- commands ----------------------------------------------------------------------------------


def commands_page(program: Any, name: str = "msgan") -> str:
    """MyST of a page with every command of a typer program, its arguments and options."""
    text = "# Command line\n\n" + _words(program) + "\n"
    for path, command in _commands(program, name):
        context = command.context_class(command, info_name=path)
        usage = command.get_usage(context).removeprefix("Usage: ")
        text += f"\n## {path}\n\n```text\n{usage}\n```\n\n"
        text += _words(command) + _parameters(command, context)
    return text


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, in the order of the help."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    context = command.context_class(command)
    for name in command.list_commands(context):
        yield from _commands(command.commands[name], f"{path} {name}")


def _words(command: Any) -> str:
    """What a command says of itself; blocks that keep their lines are literal."""
    blocks = "\n\n".join(filter(None, [command.help, command.epilog])).split("\n\n")
    text = ""
    for block in blocks:
        if not block.lstrip("\n").startswith("\b"):
            text += re.sub(r"(<[^>]+>)", r"`\1`", block.strip()) + "\n\n"
            continue
        first, *lines = block.replace("\b", "").strip("\n").splitlines()
        if lines and not first.startswith("    ") and lines[0].startswith("    "):
            text += f"{first}\n\n"
        else:
            lines = [first, *lines]
        text += (
            "```text\n" + "\n".join(inspect.cleandoc("\n".join(lines)).splitlines()) + "\n```\n\n"
        )
    return text


def _parameters(command: Any, context: Any) -> str:
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for parameter in command.params:
        if (record := parameter.get_help_record(context)) and parameter.name != "help":
            rows[parameter.param_type_name].append(record)
    text = ""
    for title, records in rows.items():
        if records:
            text += f"| {title} | meaning |\n| --- | --- |\n"
            for record in records:
                names, words = (" ".join(cell.split()).replace("|", "\\|") for cell in record)
                text += f"| `{names}` | {_default(words)} |\n"
            text += "\n"
    return text


def _default(words: str) -> str:
    """A help text whose note of the default, in brackets, is set apart."""
    found = re.fullmatch(r"(.*?)\s*\[(default: |required)(.*?)(;? ?required)?\]", words)
    if found is None:
        return words.replace("*", "\\*")
    rest = re.sub(r"^\((.*)\)", r"\1", found[3])  # a default in words is in brackets of its own
    note = f"{found[2]}{rest}".replace("*", "\\*")
    return f"{found[1]} *({note})*".replace("<", "\\<")
