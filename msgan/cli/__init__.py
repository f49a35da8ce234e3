"""The command line, ``msgan COMMAND``: one module for each command."""

from msgan.cli.program import app, main

__all__ = ["app", "main"]
