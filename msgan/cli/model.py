"""``msgan model``: export trained models, and list the bundled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console, inputs, outputs

app = typer.Typer(help="Export trained models, and list the bundled ones.", rich_markup_mode=None)

STATED = {
    "data": ("--data", "training data"),
    "data_licence": ("--data-licence", "licence of the training data"),
    "licence": ("--licence", "licence of the weights"),
}
"""What a card must say: option and words for it."""


@app.callback()
def _group() -> None:
    """Export trained models, and list the bundled ones."""


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="Folder to create; its name becomes the model's name."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Name and origin of the training data.",
            show_default="the card says: not stated",
        ),
    ] = None,
    data_licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Terms under which the training data may be used.",
            show_default="the card says: not stated",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Licence of the weights, such as Apache-2.0.",
            show_default="the card says: not stated",
        ),
    ] = None,
    summary: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="What the model does, in one sentence.",
            show_default="from the run",
        ),
    ] = "",
    notice: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Text that must go with the weights, such as a copyright notice.",
            show_default="none",
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Table of scores to show in the card; its first row names the columns.",
            show_default="the card says: not stated",
        ),
    ] = None,
    evaluation: Annotated[
        str,
        typer.Option(metavar="TEXT", help="How the scores were measured.", show_default="not said"),
    ] = "",
    half: Annotated[
        bool,
        typer.Option("--half", help="Store weights as float16: half the size, nearly the same."),
    ] = False,
    names: Annotated[
        bool,
        typer.Option(
            "--names", help="Keep the names of the training subjects; they may be personal data."
        ),
    ] = False,
) -> None:
    """Export a trained run as one folder for use on other machines.

    It contains weights (safetensors), configuration (YAML), checksums, and a card, README.md.
    Caches, checkpoints, training curves and names of subjects are left out. translate and plan
    accept the folder as RUN.

    \b
    Example:
        msgan model export runs/t2 t2-model --half --licence CC-BY-4.0 \\
            --data "my phantoms" --data-licence Apache-2.0
    """
    inputs.require_run(run)  # before the libraries are loaded, which takes seconds
    from msgan.paths import size
    from msgan.runs.model import About
    from msgan.runs.model import export as write
    from msgan.types import InputError

    trained = inputs.open_run(run)
    if not out.exists():  # the library says so otherwise
        outputs.writable(out.absolute().parent)
    given = {"data": data, "data_licence": data_licence, "licence": licence}
    stated = {name: text.strip() for name, text in given.items() if text and text.strip()}
    text = ""
    if notice is not None:
        try:
            text = notice.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise InputError(f"{notice}: not a text in UTF-8") from None
    about = About(summary=summary.strip(), notice=text, evaluation=evaluation.strip(), **stated)
    write(trained, out, about, half=half, names=names, scores=scores)
    for name, (option, words) in STATED.items():
        if name not in stated:
            console.note(f"note: the card says that the {words} is not stated: {option}")
    taken = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console.say(f"{out} ({size(taken)})")


@app.command()
def card(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of a run or model, or name of a bundled model."),
    ],
) -> None:
    """Show the card of a model, or the card that a run would get.

    \b
    Example:
        msgan model card runs/t2
    """
    inputs.require_run(run)  # before the libraries are loaded, which takes seconds
    from msgan.runs.model import card_of

    for line in card_of(inputs.open_run(run)).rstrip("\n").split("\n"):
        console.say(line)


@app.command("list")
def list_() -> None:
    """List the bundled models.

    translate and plan accept their names as RUN.

    \b
    Example:
        msgan model list
    """
    from msgan.runs.bundled import bundled, summary

    for name, folder in bundled().items():
        console.say(f"{name}: {summary(folder)}")
    if not bundled():
        console.note("note: no model is shipped with this installation")
