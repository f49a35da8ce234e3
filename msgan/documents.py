"""Reads and writes YAML, JSON and text tables; an error in a file is one line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from msgan.printing import printable
from msgan.types import InputError

if TYPE_CHECKING:
    from pydantic import ValidationError

MOST_BYTES = 1 << 26
"""Of a text file: a manifest of a hundred thousand rows has a quarter of it."""
MOST_NODES = 100_000
"""Values in a YAML file, those behind an alias (``*name``) counted each time."""
MOST_CHARACTERS = 1 << 18
"""Of a YAML file; reading takes seconds for each million."""
DEEPEST = 32
"""Levels of nesting in a YAML file; a configuration has three."""
LONGEST = 80
"""Characters of a value that a message shows."""


def shown(value: Any, longest: int = LONGEST) -> str:
    """A value for a message: one line without control characters, cut where it is long."""
    text = value if isinstance(value, str) else repr_of(value)
    text = printable(text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def repr_of(value: Any) -> str:
    """``repr``, also of numbers with more digits than Python writes."""
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to be shown"


def text_of(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, or in UTF-16 with the mark that Excel writes in front.

    Raises:
        InputError: It is no file, too large, in another encoding, or no text.
        FileNotFoundError: There is none.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no ordinary file")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise InputError(f"{path}: {size} bytes: expected at most {MOST_BYTES} of a text file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        name, encoding = "UTF-16", "utf-16"
    else:
        name, encoding = "UTF-8", "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}: cannot be read as {name} text: byte 0x{content[error.start]:02x} in line "
            f"{line} is of another encoding: save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}: has a byte of value 0 in line {line}: it is no text file")
    return text


def json_of(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: It is not JSON; see also :func:`text_of`.
        FileNotFoundError: There is none.
    """
    try:
        return json.loads(text_of(path))
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{path}: not JSON: nested too deeply") from None
    except ValueError:  # Python reads no integers of thousands of digits
        raise InputError(f"{path}: not JSON: a number of too many digits") from None


def yaml_of(path: str | os.PathLike[str]) -> Any:
    """What a YAML file holds, of plain values only.

    Raises:
        InputError: It is not YAML, names a key twice, has other than plain values, or holds more
            than is read; see also :func:`text_of`.
        FileNotFoundError: There is none.
    """
    text = text_of(path)
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"{path}: {len(text)} characters: expected at most {MOST_CHARACTERS} of a YAML file"
        )
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _bounded(path, node)
        return loader.construct_document(node)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        hint = ": indent with spaces, not tabs" if r"'\t'" in str(error.problem) else ""
        raise InputError(f"{path}: not YAML: {where}{shown(error.problem or '')}{hint}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {shown(str(error).splitlines()[0])}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply: expected {DEEPEST} levels at most") from None
    except (ValueError, OverflowError, TypeError) as error:  # dates, numbers, keys that are lists
        raise InputError(f"{path}: a value cannot be read: {shown(str(error))}") from None
    finally:
        loader.dispose()


def _bounded(path: str | os.PathLike[str], root: yaml.Node) -> None:
    """Refuse what would grow without bounds, and keys that are there twice."""
    waiting, count = [(root, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        line = node.start_mark.line + 1
        if count > MOST_NODES:
            raise InputError(f"{path}: line {line}: holds more than {MOST_NODES} values")
        if depth > DEEPEST:
            raise InputError(
                f"{path}: line {line}: nested too deeply: expected {DEEPEST} levels at most"
            )
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in names and key.value != "<<":
                        where = f"{path}: line {key.start_mark.line + 1}"
                        raise InputError(f"{where}: key '{shown(key.value)}' is there twice")
                    names.add(key.value)
                waiting += [(key, depth + 1), (value, depth + 1)]


RULES = {
    "extra_forbidden": "no such setting",
    "missing": "is missing",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "literal_error": "expected {expected}",
    "string_too_short": "expected at least {min_length} character(s)",
    "too_long": "expected at most {max_length} values",
    "too_short": "expected at least {min_length} values",
    "string_pattern_mismatch": "expected what fits {pattern}",
    "finite_number": "expected a finite number",
    "int_parsing_size": "expected a number of fewer digits",
    "invalid_key": "expected a name, not a number",
    "int": "expected a whole number",
    "float": "expected a number",
    "bool": "expected true or false",
    "string": "expected text",
    "tuple": "expected a list",
    "list": "expected a list",
    "dict": "expected keys and values",
    "model": "expected keys and values",
}
"""Rules by pydantic's names of them, or by the first word of these."""


def rule(error: ValidationError) -> str:
    """The first fault that a model of pydantic has found, in one line: key, rule and value."""
    first = error.errors(include_url=False)[0]
    key = ".".join(shown(str(p)) for p in first["loc"]) or "configuration"
    return f"{key}: {requirement(first)}"


def requirement(first: Mapping[str, Any], value: bool = True) -> str:
    """What a value had to be, in our words.

    Args:
        first: Of ``ValidationError.errors()``.
        value: Say the value too.
    """
    kind, given = first["type"], first["input"]
    form = RULES.get(kind) or RULES.get(kind.partition("_")[0])
    if kind in ("value_error", "assertion_error") or form is None:
        return " ".join(str(first["msg"]).removeprefix("Value error, ").split())
    bounds = first.get("ctx", {}).items()
    text = form.format(**{k: f"{v:.10g}" if isinstance(v, float) else v for k, v in bounds})
    told = kind in ("missing", "extra_forbidden", "invalid_key") or not value
    return text if told else f"{text}, not {'nothing' if given is None else shown(repr_of(given))}"
