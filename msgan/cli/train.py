"""``msgan train``: train a cascade on the images of a manifest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.padding import Padding
from msgan.types import InputError

if TYPE_CHECKING:
    from torch import nn

    from msgan.config import CascadeConfig
    from msgan.data.cohort import Cohort
    from msgan.runs.run import Run


def train(
    manifest: inputs.ManifestFile,
    out: Annotated[
        Path, typer.Option(metavar="RUN", help="Folder of the run; created if missing.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="MODALITY",
            help="Modality to generate, such as t2.",
            show_default="required; with --resume or --parent that run's",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="smoke (minutes; only shows that everything runs), small or published.",
            show_default="smoke; with --resume or --parent that run's configuration",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Settings that replace those of the preset.",
            show_default="the preset alone",
        ),
    ] = None,
    root: inputs.Root = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="all|0|1|..",
            help="Scales to train, separated by commas. With the preset published, scales can be "
            "trained at the same time; else each needs the scale below it.",
        ),
    ] = "all",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in RUN where it stopped; start it if there is none."
        ),
    ] = False,
    parent: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Finished run to go on from, with --more-steps; it is left as it is.",
            show_default="a training from the beginning",
        ),
    ] = None,
    more_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Steps to train each scale of --scale beyond those of --parent; the other scales "
            "are copied.",
            show_default="none",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda", help="auto: cuda if available.")
    ] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Random seed.",
            show_default="the configuration's, else 0",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for prepared subjects; runs can share it.",
            show_default="RUN/cache",
        ),
    ] = None,
    padding: Padding = None,
) -> None:
    """Train a cascade on images of one modality.

    Subjects in split test are not used; those in split val choose the best weights. Labels of
    the subjects are drawn over the sketches if the configuration lists them (labels: [1, 2, 4]).
    The images decide between 2D and 3D. Several GPUs: torchrun --nproc-per-node N -m msgan.cli ...

    With --parent and --more-steps a finished run is trained longer, as a new run of the same data
    and configuration. Networks, their moving averages and optimisers go on, and steps are counted
    on; the schedule of the learning rate begins again and spans the N steps (a constant rate
    stays), and so does the patience. The parent's best weights are replaced only by better ones.

    \b
    Examples:
        msgan train phantoms/manifest.csv --target t2 --preset smoke --out runs/t2
        msgan train phantoms/manifest.csv --out runs/t2 --resume
        msgan train phantoms/manifest.csv --parent runs/t2 --more-steps 40 --out runs/t2_longer
    """
    # Before the libraries are loaded, which takes seconds.
    scales = _scales(scale)
    inputs.require_manifest(manifest)
    if (parent is None) != (more_steps is None):
        raise InputError("--parent and --more-steps: expected both, or none of them")
    if parent is not None:
        inputs.require_run(parent)
    from msgan.data.cohort import Cohort
    from msgan.data.padding import padding_of
    from msgan.methods.cascade import fit
    from msgan.runs.run import CARD, Run

    # Otherwise every process, not just the first, says that it is there.
    logging.getLogger("lightning_fabric.utilities.distributed").setLevel(logging.WARNING)
    elder = None if parent is None else Run.open(parent)
    old: Run | None = None
    if (out / CARD).is_file():
        if resume:
            old = Run.open(out)
        else:  # every process finds the same: none makes a run before all have begun
            raise InputError(
                f"{out}: holds a run already: pass --resume to go on with it, or choose "
                "another folder"
            )
    cohort = Cohort.from_manifest(manifest, root or manifest.parent)
    _check_outputs(out, cache, [manifest, config, parent], cohort, resume)
    known = old or elder
    target = target or (known.target if known else None)
    if target is None:
        raise InputError("--target is missing: a new run needs the modality to learn")
    if known is not None and preset is None and config is None:
        chosen = known.config
    else:
        chosen = configuration(preset or "smoke", config, lambda: _dims(cohort, str(target)))
    if padding is not None:
        chosen = chosen.updated(preparation={"padding": padding_of(padding)})
    if seed is not None:
        chosen = chosen.updated(seed=seed)
    held = cohort.with_modality(target).split("val").subjects
    remarks = (
        []
        if held
        else ["no validation subjects: the best weights are chosen on the training subjects"]
    )
    before = _finished(old) if old else []
    totals: dict[int, int] = {}

    with console.Bars("preparing images") as bars:

        def report(row: dict[str, Any]) -> None:
            if remarks:
                console.note(f"note: {remarks.pop()}")
            if row["scale"] not in totals:
                totals[row["scale"]] = Run.open(out).total(row["scale"])
            progress(bars, totals[row["scale"]], row)

        run = fit(
            cohort,
            target,
            chosen,
            out,
            scales=scales,
            device=device,
            cache=cache,
            report=report,
            features=features(chosen),
            remark=lambda text: console.note(f"note: {text}"),
            parent=elder,
            more_steps=more_steps,
        )
    if run.config.guidance.on:
        console.note(f"note: {out}: match: {run.config.guidance.match}")
    after = _finished(run)
    wanted = run.used if scales is None else scales
    if set(wanted) <= set(before):
        console.say(f"{out}: everything asked for was finished before")
    missing = [i for i in run.used if i not in after]
    text = f"scales {', '.join(map(str, missing))} are still to be trained" if missing else "ready"
    which = f"scales {run.first} to {run.scales}" if len(run.used) > 1 else f"scale {run.first}"
    console.say(f"{out}: cascade of {which} for {target}: {text}")


def progress(bars: console.Bars, total: int, row: dict[str, Any]) -> None:
    """Show a logged row of a training as a bar, of the steps that its scale has in all."""
    text = f"l1 {row['l1']:.4f}"
    if "validation_l1" in row:
        text += f", validation l1 {row['validation_l1']:.4f}"
    bars.update(f"scale {row['scale']}", row["step"], total, "steps", text, row["seconds"])


def _check_outputs(
    out: Path, cache: Path | None, files: Sequence[Path | None], cohort: Cohort, resume: bool
) -> None:
    """Refuse a folder that holds something else, or lies in an image that is read."""
    from msgan.data.places import require_apart
    from msgan.runs.run import CARD, CONFIG

    read = [path for path in files if path is not None]
    images = [
        path
        for subject in cohort
        for path in (*subject.images.values(), subject.labels, subject.mask)
        if path is not None
    ]
    require_apart([out, *filter(None, [cache])], [*read, *images], holding=True)
    for folder in filter(None, [out, cache]):
        outputs.folder(folder)
    if (out / CARD).is_file() or not out.is_dir():
        return
    require_apart([out / CONFIG], read)
    if any(other.name != CONFIG for other in out.glob("[!.]*")):
        raise InputError(f"{out}: is not empty and holds no run: choose another folder")
    # A run that was killed at its very beginning leaves one, and so may a user.
    if (out / CONFIG).exists() and not resume:
        raise InputError(
            f"{out / CONFIG}: is there already: pass --resume to replace it, or choose another "
            "folder"
        )


def configuration(preset: str, file: Path | None, dims: Any) -> CascadeConfig:
    """A preset, with what a file states in place of what the preset does.

    Args:
        preset: Its name.
        file: YAML with any of the keys of a configuration.
        dims: Called for the number of axes, where the file does not state it.

    Raises:
        InputError: No such preset or file, or the file is at fault.
    """
    from msgan.documents import shown, yaml_of
    from msgan.presets import PRESETS
    from msgan.presets import preset as named

    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is none of {', '.join(PRESETS)}")
    if file is None:
        return named(preset, dims=dims())
    own = yaml_of(file)
    if not isinstance(own, dict):
        raise InputError(f"{file}: expected keys and values, as 'training: {{steps: 100}}'")
    axes = own.get("dims") or dims()
    if axes not in (2, 3):
        raise InputError(f"{file}: dims {shown(axes)}: expected 2 or 3")
    try:
        base = named(preset, dims=axes)
        return (base.unguided() if _unguided(own) else base).updated(own)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _unguided(own: dict[str, Any]) -> bool:
    """Whether a file that says nothing of guidance is of a cascade that has none.

    One that has no context or no sketch, is paired or published cannot be guided; and one that
    states all else is whole: what it leaves out is off, as in the files of runs.
    """
    if "guidance" in own:
        return False
    from msgan.config import FAMILIES

    network = own.get("network")
    family = FAMILIES.get(str(network.get("family"))) if isinstance(network, dict) else None
    parts = {"preparation", "sketch", "conditioning", "contrast", "network", "training"}
    return (
        (family is not None and not family.detail)
        or parts <= set(own)
        or any(own.get(k) for k in ("drop_inputs", "paired", "cycle"))
    )


def features(config: CascadeConfig) -> nn.Module | None:
    """The network of the perceptual loss that is stated, from the file that is named for it."""
    from msgan.networks.vgg import FILES, Vgg19Features, weights_file

    if config.perceptual is None:
        return None
    path = weights_file(19)
    if path is None:
        raise InputError(f"perceptual: {FILES[19]} names no file with the weights of VGG-19")
    return Vgg19Features(path)


def _scales(text: str) -> list[int] | None:
    if text == "all":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--scale {text}: expected all, or numbers separated by commas, as 0,2")
    return sorted(set(map(int, parts)))


def _dims(cohort: Cohort, target: str) -> int:
    """Axes of the images of the target."""
    from msgan.data.volume import open_volume

    having = cohort.with_modality(target).subjects
    if not having:
        known = sorted({modality for subject in cohort for modality in subject.images})
        raise InputError(f"target {target!r}: no subject has such an image; there are {known}")
    with open_volume(having[0].images[target], check=False) as volume:
        return volume.grid.dims


def _finished(run: Run) -> list[int]:
    return [i for i in range(run.scales + 1) if run.finished(i)]
