"""The command line, ``msgan COMMAND``: one module for each command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgan import start

if TYPE_CHECKING:
    from msgan.cli.program import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the program with the arguments of the shell."""
    with start.loading():
        from msgan.cli.program import run
    run()


def __getattr__(name: str) -> Any:
    """The program itself, loaded when it is asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from msgan.cli.program import app

    return app
