"""The program ``msgan``: its commands, and one line instead of a traceback for bad input."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from time import sleep
from typing import Annotated, Any, TextIO, cast

import typer
from typer.core import TyperGroup

import msgan
from msgan import start
from msgan.cli import (
    console,
    data,
    evaluate,
    explore,
    init,
    model,
    phantom,
    plan,
    report,
    sketch,
    train,
    translate,
    verify,
)
from msgan.cli.faults import explanation, usage
from msgan.printing import Escaped

GO_ON = {
    "train": "run the same command with --resume to go on",
    "translate": "what is computed is kept for a week; run the same command again to go on",
}
"""What to do after an interruption, by command."""

HELP = "Train and run multi-scale patch GANs on 2D and 3D medical images of any size."

EPILOG = """\b
Examples: msgan COMMAND --help
Exit status: 0 done, 2 bad input (one line on stderr says what), 130 interrupted;
1 where verify finds a difference.

\b
MSGAN_DEBUG=1    show the traceback of an error
MSGAN_SCRATCH    folder for temporary files; default: the system's
"""

GRACE = 5.0
"""Seconds that other processes leave the first to say what is wrong."""

ORDER = (
    "phantom",
    "init",
    "data",
    "sketch",
    "train",
    "plan",
    "translate",
    "evaluate",
    "explore",
    "report",
    "verify",
    "model",
)
"""Commands as they are used one after the other."""


class Guarded(TyperGroup):
    """Bad input is one line on stderr and status 2; an interruption says how to go on."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def make_context(self, *words: Any, **options: Any) -> Any:
        """Read the words in front of a command."""
        try:
            return super().make_context(*words, **options)
        except Exception as error:
            if (text := usage(error)) is None:
                raise
            console.note(f"error: {text}")
            raise typer.Exit(2) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            with start.working():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise self._interrupted(ctx, str(stop)) from None
        except Exception as error:
            if start.interrupted(error):
                raise self._interrupted(ctx) from None
            text = explanation(error, ctx.invoked_subcommand) or usage(error)
            if text is None or os.environ.get("MSGAN_DEBUG") == "1":
                raise
            console.note(f"error: {text}")
            if not console.is_main():
                # torchrun kills the first process, which speaks, when another ends before it.
                with suppress(KeyboardInterrupt):
                    sleep(GRACE)
            raise typer.Exit(2) from None

    def _interrupted(self, ctx: Any, how: str = "") -> typer.Exit:
        """Say how to go on; the end of the program."""
        usual = GO_ON.get(ctx.invoked_subcommand, start.AGAIN)
        console.note(f"interrupted: {how or usual}")
        return typer.Exit(start.INTERRUPTED)


app = typer.Typer(
    name="msgan",
    cls=Guarded,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    # Plain help: examples can be copied without a frame, and rich need not be imported.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
"""The program, to which every command is added."""


def _version(wanted: bool) -> None:
    if wanted:
        console.say(f"msgan {msgan.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Train and run multi-scale patch GANs on 2D and 3D medical images of any size."""


app.add_typer(phantom.app, name="phantom")
app.add_typer(data.app, name="data")
app.add_typer(model.app, name="model")
for module in (init, sketch, train, plan, translate, evaluate, explore, report, verify):
    app.command()(getattr(module, module.__name__.rpartition(".")[2]))


def run() -> None:
    """Run the program with the arguments of the shell."""
    # Warnings, logs and tracebacks quote names as well.
    sys.stdout, sys.stderr = (cast(TextIO, Escaped(s)) for s in (sys.stdout, sys.stderr))
    app(prog_name="msgan")
    sys.exit(0)
