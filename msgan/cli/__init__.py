"""The command line: ``msgan phantom | data | sketch | train | translate | evaluate``."""

from msgan.cli.program import app, main

__all__ = ["app", "main"]
