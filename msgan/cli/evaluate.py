"""``msgan evaluate``: compare a translated image with the real one."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.padding import Padding
from msgan.cli.pair import PairScores, Scored, baseline_scores, require_one_grid
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.translate.provenance import Provenance


def evaluate(
    fake: Annotated[
        Path,
        typer.Argument(metavar="FAKE", help="Translated image; with --of a manifest (CSV)."),
    ],
    real: Annotated[
        Path | None,
        typer.Argument(
            metavar="[REAL]",
            help="Real image on the same grid.",
            show_default="the one that the sidecar of FAKE names",
        ),
    ] = None,
    of: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Score all translations in this folder and below it, against the real images that "
            "the manifest names.",
            show_default="one pair",
        ),
    ] = None,
    root: inputs.Root = None,
    csv_out: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="OUT",
            help="With --of: table to write, a line for each method and subject.",
            show_default="DIR/scores.csv",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="M",
            help="Label map on the same grid; adds scores of the voxels where it is not 0.",
            show_default="none",
        ),
    ] = None,
    data_range: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="White minus black, in the unit of REAL.",
            show_default="from black to the 99.5th percentile of the voxels of REAL above it",
        ),
    ] = None,
    black: Annotated[
        float | None,
        typer.Option(
            metavar="B",
            help="Intensity that counts as 0, in the unit of REAL.",
            show_default="0, or the smallest of REAL, outliers apart, if that is negative",
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        typer.Option(
            metavar="VGG16",
            help="Add LPIPS of the whole image (slow). VGG16: weights of torchvision's vgg16 in a "
            "local file; needs the extra 'perceptual'.",
            show_default="not computed",
        ),
    ] = None,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="OUT", help="JSON file to write as well.", show_default="not written"
        ),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines",
            help="Score what needs no network beside, where the sidecar of FAKE names its source.",
        ),
    ] = True,
    padding: Padding = None,
    force: outputs.Force = False,
) -> None:
    """Compare translated images with the real ones.

    Prints SSIM, MAE, MSE, PSNR and NMSE of the whole image and inside a mask, on request LPIPS.
    Beside a translation by msgan stand baselines: its source as it is, and matched to the target's
    intensities. Its sidecar keeps REAL and the scores, for explore and report.

    With --of, all translations in a folder are scored, inside the masks of the manifest and with
    baselines that are learnt from its training subjects. Means are printed; the table has each
    subject. What cannot be scored is told, the others go on; the exit status is then 2.

    Before scoring, intensities are scaled so that black is 0 and white is 1, as in the papers,
    without clipping (but for LPIPS): mae is in shares of the data range, psnr in dB.

    \b
    Examples:
        msgan evaluate t2.nii.gz phantoms/patient000/patient000_t2.nii.gz \\
            --mask phantoms/patient000/patient000_mask.nii.gz --json scores.json
        msgan evaluate phantoms/manifest.csv --of cohort
    """
    alone: dict[str, Any] = {
        "REAL": real,
        "--mask": mask,
        "--data-range": data_range,
        "--black": black,
    }
    alone |= {"--lpips": lpips, "--padding": padding}
    for name, given in (alone if of is not None else {"--root": root, "--csv": csv_out}).items():
        if given is not None:
            raise InputError(f"{name}: is {'of one pair, not of' if of else 'for'} --of DIR")
    if of is not None:
        _of_folder(fake, of, root, csv_out, json_out, baselines=baselines, force=force)
        return
    # Before the libraries are loaded, which takes seconds.
    for path in (fake, real):
        if path is not None:
            inputs.require_image(path)
    from msgan.data.hounsfield import apart
    from msgan.data.identity import difference
    from msgan.data.padding import filled, padding_of
    from msgan.data.volume import open_volume
    from msgan.metrics import lpips_of
    from msgan.paths import write_text
    from msgan.translate.provenance import trace_of

    if json_out is not None:
        outputs.check([json_out], [fake, real, mask, lpips], force=force)
    trace = trace_of(fake)
    if real is None:
        if trace is None or trace.real is None:
            raise InputError(f"{fake}: no sidecar names its real image: expected FAKE and REAL")
        real = trace.real
        inputs.require_image(real)
    network = None
    if lpips is not None:
        from msgan.networks.lpips import Lpips

        network = Lpips(lpips)
    nothing = padding_of(padding) if padding is not None else None
    with ExitStack() as stack:
        made, true = (
            stack.enter_context(open_volume(path, padding=nothing)) for path in (fake, real)
        )
        told = [f"{volume.path}: {n}" for volume in (made, true) for n in volume.notes]
        console.notes(dict.fromkeys(told))
        require_one_grid(made, true)
        assert made.extremes is not None
        assert true.extremes is not None
        if text := apart(made.extremes, true.extremes, (made.unit, true.unit)):
            console.note(f"note: {fake}, {real}: {text}")
        if text := difference(fake if trace is None else trace.image, real):
            console.note(f"note: {fake}, {real}: {text}")
        scored = Scored.of(true, black, data_range, mask, stack)
        found = PairScores(scored.scores(made), scored.black, scored.data_range, true.unit)
        if trace is not None and baselines:
            found = replace(found, baselines=baseline_scores(trace, scored))
        perceptual: dict[str, Any] = {}
        if network is not None:
            span: dict[str, Any] = {"data_range": scored.data_range, "black": scored.black}
            result, wanted = (filled(volume.read, scored.black) for volume in (made, true))
            value = lpips_of(result, wanted, scored.shape, network, **span)
            perceptual = {"value": value, "network": network.label}
    for line in found.lines():
        console.say(line)
    if perceptual:
        views = "slices of three views" if len(scored.shape) == 3 else "one slice"
        console.say(
            f"lpips {perceptual['value']:.4g}, whole image, {views}; {perceptual['network']}"
        )
    if not console.is_main():
        return
    if json_out is not None:
        files = {"fake": str(fake), "real": str(real), "mask": str(mask) if mask else None}
        content = {**files, **found.as_json()}
        if perceptual:
            content["lpips"] = perceptual
        write_text(json_out, json.dumps(content, indent=1, allow_nan=False) + "\n")
    if trace is not None:
        _note(trace, fake, real, found)


def _of_folder(
    manifest: Path,
    folder: Path,
    root: Path | None,
    csv_out: Path | None,
    json_out: Path | None,
    *,
    baselines: bool,
    force: bool,
) -> None:
    """Score the translations in a folder."""
    inputs.require_manifest(manifest)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    from msgan.cli import cohort as scoring
    from msgan.data.cohort import Cohort
    from msgan.paths import write_text
    from msgan.translate.provenance import traces_below

    table = csv_out or folder / scoring.TABLE
    outputs.check([table, *([json_out] if json_out else [])], [manifest], force=force)
    people = Cohort.from_manifest(manifest, root or manifest.parent)
    traces = list(traces_below(folder))
    if not traces:
        raise InputError(f"{folder}: no translation with a sidecar in this folder or below it")
    with scoring.shown_progress(len(traces)) as progress:
        found = scoring.score_cohort(people, traces, progress, baselines=baselines)
    if found.lines:
        for line in found.text():
            console.say(line)
        write_text(table, found.frame.to_csv(index=False))
        if json_out is not None:
            write_text(json_out, found.as_json())
        console.say(f"each subject: {table}")
    if found.failed:
        console.note(f"error: {len(found.failed)} of {len(traces)} images could not be scored")
        raise typer.Exit(2)


def _note(trace: Provenance, fake: Path, real: Path, found: PairScores) -> None:
    """Keep the real image and the scores in the sidecar, for what shows results later."""
    from msgan.translate.provenance import beside

    scores = tuple(found.table(trace.method))
    try:
        replace(trace, real=real, scores=scores).save(beside(fake))
    except OSError as error:
        console.note(f"note: {beside(fake)}: the scores were not kept: {error.strerror or error}")
