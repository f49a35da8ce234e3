"""``msgan phantom``: cohorts of people who do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console

app = typer.Typer(help="Make cohorts of synthetic subjects.", rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Make cohorts of synthetic subjects."""


@app.command()
def brain(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; made if absent.")],
    subjects: Annotated[int, typer.Option(metavar="N", min=1, help="Number of subjects.")] = 4,
    size: Annotated[
        int,
        typer.Option(
            metavar="N", min=16, max=256, help="Voxels along the longest axis; 192 is 1 mm."
        ),
    ] = 64,
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Names the cohort: the same seed, the same bytes."),
    ] = 0,
    healthy: Annotated[
        bool, typer.Option("--healthy", help="Volunteers without tumours, from another scanner.")
    ] = False,
) -> None:
    """Write brains with T1, T2 and FLAIR, tumour labels, a brain mask and manifest.csv.

    A quarter of the subjects are of split test, the others of split train.

    \b
    Example:
        msgan phantom brain phantoms --subjects 4 --size 64 --seed 0
    """
    from msgan.phantoms.brain import write_cohort

    console.check_writable(out / "manifest.csv")
    manifest = write_cohort(out, subjects=subjects, size=size, seed=seed, healthy=healthy)
    console.say(f"{manifest}: {subjects} {'healthy subjects' if healthy else 'patients'}")
