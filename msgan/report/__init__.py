"""Reports: runs the notebooks headless, and writes a page about the results."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgan.report.results import results_folder, write_results
    from msgan.report.run_cache import Run
    from msgan.report.runner import run_notebooks

__all__ = ["Run", "results_folder", "run_notebooks", "write_results"]

_NAMES = {
    "Run": "run_cache",
    "results_folder": "results",
    "run_notebooks": "runner",
    "write_results": "results",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    """What is asked for, loaded now: programs of this package first say how they may end."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    return found
