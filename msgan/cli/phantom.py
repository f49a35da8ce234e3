"""``msgan phantom``: make cohorts of synthetic subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console, outputs

app = typer.Typer(help="Make cohorts of synthetic subjects.", rich_markup_mode=None)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to; created if missing.")]
Subjects = Annotated[int, typer.Option(metavar="N", min=1, help="Number of subjects.")]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, help="Random seed: the same seed gives the same bytes.")
]
TestShare = Annotated[
    float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of subjects in split test.")
]


@app.callback()
def _group() -> None:
    """Make cohorts of synthetic subjects."""


@app.command()
def brain(
    out: Out,
    subjects: Subjects = 4,
    size: Annotated[
        int,
        typer.Option(
            metavar="N", min=16, max=256, help="Voxels along the longest axis; 192 is 1 mm."
        ),
    ] = 64,
    seed: Seed = 0,
    healthy: Annotated[
        bool,
        typer.Option("--healthy", help="Healthy volunteers from another scanner, without tumours."),
    ] = False,
    force: outputs.Force = False,
) -> None:
    """Write brains with T1, T2, FLAIR and tumour labels.

    Each has a brain mask too; manifest.csv lists all files.

    A quarter of the subjects are in split test, the others in split train.

    \b
    Example:
        msgan phantom brain phantoms --subjects 4 --size 64 --seed 0
    """
    from msgan.phantoms.brain import write_cohort

    kind = "healthy" if healthy else "patient"
    _check(out, [f"{kind}{k:03d}" for k in range(subjects)], force)
    manifest = write_cohort(out, subjects=subjects, size=size, seed=seed, healthy=healthy)
    console.say(f"{manifest}: {subjects} {'healthy subjects' if healthy else 'patients'}")


@app.command()
def thorax(
    out: Out,
    subjects: Subjects = 4,
    size: Annotated[
        int,
        typer.Option(
            metavar="N", min=16, max=512, help="Voxels along the longest axis; 512 is 0.69 mm."
        ),
    ] = 64,
    seed: Seed = 0,
    test_share: TestShare = 0.25,
    force: outputs.Force = False,
) -> None:
    """Write chest CTs of three kernels and of low dose.

    Values are in HU. Each has a lung mask too; manifest.csv lists all files.

    \b
    Example:
        msgan phantom thorax chests --subjects 4 --size 64 --seed 0
    """
    from msgan.phantoms.thorax import write_thorax_cohort

    _check(out, [f"copd{k:03d}" for k in range(subjects)], force)
    manifest = write_thorax_cohort(
        out, subjects=subjects, size=size, seed=seed, test_share=test_share
    )
    console.say(f"{manifest}: {subjects} subjects")


@app.command()
def xray(
    out: Out,
    subjects: Subjects = 8,
    size: Annotated[
        int, typer.Option(metavar="N", min=16, max=2048, help="Pixels along each axis.")
    ] = 256,
    seed: Seed = 0,
    test_share: TestShare = 0.25,
    force: outputs.Force = False,
) -> None:
    """Write chest X-rays as PNG of 16 bit, with manifest.csv.

    \b
    Example:
        msgan phantom xray xrays --subjects 8 --size 256 --seed 0
    """
    from msgan.phantoms.xray import write_xray_cohort

    _check(out, [f"chest{k:03d}.png" for k in range(subjects)], force)
    manifest = write_xray_cohort(
        out, subjects=subjects, size=size, seed=seed, test_share=test_share
    )
    console.say(f"{manifest}: {subjects} subjects")


def _check(out: Path, names: list[str], force: bool) -> None:
    """Refuse subjects or a manifest that are there; what else is in the folder stays."""
    from msgan.data.places import require_kind

    outputs.folder(out)
    manifest = out / "manifest.csv"
    require_kind(manifest)
    if not force:
        outputs.require_free([manifest, *(out / name for name in names)])
