"""Errors with a cause outside the program, such as a full disk, as one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgan.start import LIFT, short_of_memory

LESS = {
    "train": "lower training.batch, training.patch or lr_batch, or state lr_patch (--config)",
    "translate": "give less --memory or --gpu-memory or a smaller --tile, or take --device cpu",
    "plan": "give less --memory or --gpu-memory or a smaller --tile",
    "phantom": "make smaller images (--size)",
}
"""What takes less memory, by command."""

DEVICE = ("CUDA out of memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What CUDA's libraries say where they have no memory."""

OTHERWISE = f"end other programs, or {LIFT}"


def explanation(error: Exception, command: str | None = None) -> str | None:
    """One line for an error whose cause is outside the program; None for any other.

    Args:
        error: As it was raised.
        command: That was running.
    """
    from pydantic import ValidationError

    from msgan.types import InputError

    if isinstance(error, ValidationError):
        from msgan.documents import rule

        text = rule(error)
    elif isinstance(error, BrokenPipeError):
        return None  # the reader of our output has left; the program ends quietly
    elif isinstance(error, OSError) and not short_of_memory(error):
        text = _of_a_file(error)
    elif isinstance(error, InputError):
        text = str(error)
    elif (where := _memory(error)) is not None:
        text = f"{where} is out of memory: {LESS.get(command or '', OTHERWISE)}"
    else:
        return None
    return text.strip()


def _of_a_file(error: OSError) -> str:
    """What the system says of a file; where it names none, where to look."""
    from msgan.paths import NO_SPACE, no_folder, scratch_root

    reason = error.strerror or type(error).__name__
    if error.filename is None:
        if error.errno in NO_SPACE:
            return (
                f"no space left on the disk of the results or of temporary files: {scratch_root()}"
            )
        return str(error)
    if isinstance(error, FileExistsError | NotADirectoryError) and (
        wrong := no_folder(error.filename)
    ):
        return f"{wrong}, expected a folder"
    return f"{error.filename}: {reason}"


def _memory(error: Exception) -> str | None:
    """What has no memory left, if that is what an error says."""
    text = str(error)
    if short_of_memory(error):
        return "this machine"
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which may not be loaded
        return "the device"
    if isinstance(error, RuntimeError) and any(mark in text for mark in DEVICE):
        return "the device"
    return None


def usage(error: Exception) -> str | None:
    """One line for a word or an option that the program does not take; None for other errors."""
    from pydantic import ValidationError

    message, ctx = getattr(error, "format_message", None), getattr(error, "ctx", None)
    if message is None or type(error).__name__ == "NoArgsIsHelpError":
        return None
    text = " ".join(str(message()).split()).rstrip(".")
    if isinstance(error.__cause__, ValidationError):  # in which words differs with typer's version
        option = text.partition("'")[2].partition("'")[0]
        text = f"{option}: {_requirement(error.__cause__.errors()[0])}"
    return f"{text} (see {'msgan' if ctx is None else ctx.command_path} --help)"


def _requirement(first: Mapping[str, Any]) -> str:
    """What the value of an option had to be, in words."""
    kind, bounds = str(first["type"]), first.get("ctx", {})
    if kind == "greater_than_equal":
        text = f"expected at least {bounds['ge']:g}"
    elif kind == "less_than_equal":
        text = f"expected at most {bounds['le']:g}"
    elif kind.startswith("int"):
        text = "expected a whole number"
    elif kind.startswith("float"):
        text = "expected a number"
    else:
        return str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{text}, not {first['input']!r}"
