"""Turns errors, warnings and logs of decoders into one line for each file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from msgan import paths
from msgan.types import InputError

Value = TypeVar("Value")

LOGGERS = ("nibabel", "nibabel.global", "pydicom", "tifffile", "PIL", "zarr", "numcodecs")
LONGEST_TEXT = 300
"""Characters of a library's message that are passed on."""


def line_of(error: BaseException) -> str:
    """What ``error`` says, as one printable line with its kind in front."""
    lines = [line.strip() for line in str(error)[: 10 * LONGEST_TEXT].splitlines()]
    text = next((line for line in lines if line), "")
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}..."
    kind = type(error).__name__
    if kind == "error":  # of zlib, struct
        kind = f"{type(error).__module__} error"
    return f"{kind}: {text}" if text else kind


@contextmanager
def guarded() -> Iterator[None]:
    """Work of a decoder: whatever it raises becomes an :class:`InputError` without the file.

    Decoders of damaged files raise what they like. Interrupts pass, and so do a full disk and
    our own :class:`InputError`; the first error stays the cause.

    Raises:
        InputError: The work failed.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("takes more memory than there is; is its header right?") from error
    except OSError as error:
        if error.errno in paths.NO_SPACE:
            raise
        text = error.strerror if error.errno and error.strerror else line_of(error)
        raise InputError(f"cannot be read: {text}") from error
    except Exception as error:
        raise InputError(f"cannot be read, damaged or of an unknown kind: {line_of(error)}") from (
            error
        )


def call(work: Callable[[], Value]) -> Value:
    """The result of ``work`` within :func:`guarded`."""
    with guarded():
        return work()


class _Silence:
    """Counts who asked for silence, so that threads may ask for it at the same time."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.depth = 0
        self.filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.depth:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
                for name in LOGGERS:
                    logging.getLogger(name).addFilter(_nothing)
            self.depth += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.depth -= 1
            if not self.depth:
                for name in LOGGERS:
                    logging.getLogger(name).removeFilter(_nothing)
                self.filters.__exit__(None, None, None)


def _nothing(_: logging.LogRecord) -> bool:
    return False


silence = _Silence()
"""Context in which the libraries that decode images neither warn nor log."""
