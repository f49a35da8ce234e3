"""``msgan verify``: whether a run, a translation or a notebook's results are what they are said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msgan.cli import console, inputs, outputs
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.data.cohort import Cohort
    from msgan.translate.provenance import Provenance
    from msgan.verify import Verdict

DIFFERENT = 1
"""Exit status where something differs."""


def verify(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A trained run or model, a translated image or its sidecar, or the folder of one "
            "notebook's results.",
        ),
    ],
    again: Annotated[
        bool,
        typer.Option("--again", help="Train, translate or execute again, and compare the results."),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER",
            help="Compare with this one, as from another machine.",
            show_default="what the card states",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST",
            help="Images that the run was trained on; --again of a training needs them.",
            show_default="the images are not checked",
        ),
    ] = None,
    root: inputs.Root = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            help="Largest relative difference to accept, such as 1e-5.",
            show_default="none: identical to the bit",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="auto|cpu|cuda", help="For --again.", show_default="as before"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Threads of PyTorch for --again; of a notebook OMP_NUM_THREADS.",
            show_default="as before",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to create for what --again makes.",
            show_default="a temporary one",
        ),
    ] = None,
) -> None:
    """Check a result against its card, or make it again and compare.

    Without an option nothing is computed: hashes of weights, images and settings must be those
    stated, logs must agree with the weights, and every file must be readable. --again trains,
    translates or executes again as the card says and compares bit by bit: weights, losses and
    validation of a training, voxels of a translation, every digit of a notebook's tables but times
    and memory. The first difference is named, and what differs between the machines.

    The exit status is 0 if all that was checked is identical, or within --tolerance; 1 if not.

    \b
    Examples:
        msgan verify runs/t2
        msgan verify runs/t2 --again --manifest phantoms/manifest.csv
        msgan verify t2.nii.gz --again
    """
    if again and against is not None:
        raise InputError("--again, --against: expected one of them")
    for name, value in (("device", device), ("threads", threads), ("out", out)):
        if value is not None and not again:
            raise InputError(f"--{name}: is for --again")
    if tolerance is not None and not (again or against):
        raise InputError("--tolerance: is for --again and --against: a hash has none")
    _require_there(what)  # before the libraries are loaded, which takes seconds
    if out is not None:
        if out.exists() or out.is_symlink():
            raise InputError(f"{out}: exists already: choose another folder")
        outputs.folder(out)
    cohort = _cohort(manifest, root)
    verdict = _verdict(what, Asked(again, against, cohort, tolerance, device, threads, out))
    for finding in verdict.findings:
        console.say(str(finding))
    for line in verdict.circumstances:
        console.note(f"note: differs: {line}")
    console.say(str(verdict))
    if not verdict.passed:
        raise typer.Exit(DIFFERENT)


@dataclass(frozen=True)
class Asked:
    """The options; see :func:`verify`."""

    again: bool
    against: Path | None
    cohort: Cohort | None
    tolerance: float | None
    device: str | None
    threads: int | None
    out: Path | None

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """The folder for what is made again: kept where it was asked for, else removed."""
        from msgan.paths import scratch_folder

        if self.out is None:
            with scratch_folder() as folder:
                yield folder
            return
        self.out.mkdir(parents=True)
        yield self.out


def _require_there(what: Path) -> None:
    """Refuse a path that leads nowhere and is no name of a model."""
    from msgan.runs.bundled import bundled

    if not what.exists() and str(what) not in bundled():
        raise InputError(f"{what}: no such file or folder")


def _verdict(what: Path, asked: Asked) -> Verdict:
    """That of the kind of result that is there."""
    from msgan.runs.bundled import CARD, bundled
    from msgan.verify.notebook import holds_results
    from msgan.verify.translation import trace_at

    if (what / CARD).is_file() or (not what.exists() and str(what) in bundled()):
        work: Callable[[Path, Asked], Verdict] = _training
    elif asked.cohort is not None:
        raise InputError(f"--manifest: is for trained runs: {what} is none")
    elif what.is_dir() and holds_results(what):
        work = _notebook
    elif (trace := trace_at(what)) is not None:
        work = partial(_translation, trace)
    else:
        raise InputError(
            f"{what}: is no trained run, no translation with its sidecar, and no folder of a "
            "notebook's results"
        )
    return work(what, asked)


def _training(what: Path, asked: Asked) -> Verdict:
    from msgan.cli.train import features, progress
    from msgan.verify import check_training, compare_trainings, training_again

    run = inputs.open_run(what)
    if asked.against is not None:
        return compare_trainings(run, inputs.open_run(asked.against), asked.tolerance)
    if not asked.again:
        return check_training(run, asked.cohort)
    if run.parent is not None:
        raise InputError(
            f"{what}: goes on from {run.parent.name}, so --again cannot train it from its own "
            "configuration: train it by --parent and --more-steps and compare with --against"
        )
    if asked.cohort is None:
        raise InputError(
            "--manifest is missing: the card has hashes of the images, not their place"
        )
    with asked.fresh() as folder, console.Bars("preparing images") as bars:
        return training_again(
            run,
            asked.cohort,
            folder / "run",
            tolerance=asked.tolerance,
            device=asked.device,
            threads=asked.threads,
            features=features(run.config),
            report=lambda row: progress(bars, run.total(row["scale"]), row),
        )


def _translation(trace: Provenance, what: Path, asked: Asked) -> Verdict:
    from msgan.cli.translate import show
    from msgan.verify import check_translation, compare_translations, translation_again
    from msgan.verify.translation import trace_at

    if asked.against is not None:
        other = trace_at(asked.against)
        if other is None:
            raise InputError(f"{asked.against}: has no sidecar of a translation")
        return compare_translations(trace, other, asked.tolerance)
    if not asked.again:
        return check_translation(trace)
    name = trace.image.name
    with asked.fresh() as folder, console.Bars(f"preparing {name}") as bars:
        return translation_again(
            trace,
            folder,
            tolerance=asked.tolerance,
            device=asked.device,
            threads=asked.threads,
            progress=partial(show, bars, name),
        )


def _notebook(what: Path, asked: Asked) -> Verdict:
    from msgan.verify import check_notebook, compare_notebooks, notebook_again

    if asked.against is not None:
        return compare_notebooks(what, asked.against, asked.tolerance)
    if not asked.again:
        return check_notebook(what)
    if asked.device is not None:
        raise InputError("--device: the parameters of a notebook state it")
    with asked.fresh() as folder:
        return notebook_again(
            what.resolve(), folder.resolve(), tolerance=asked.tolerance, threads=asked.threads
        )


def _cohort(manifest: Path | None, root: Path | None) -> Cohort | None:
    from msgan.data.cohort import Cohort

    if manifest is None:
        if root is not None:
            raise InputError("--root: expected --manifest as well")
        return None
    inputs.require_manifest(manifest)
    return Cohort.from_manifest(manifest, root or manifest.parent)
