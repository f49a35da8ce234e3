"""``msgan evaluate``: compare a translated image with the real one."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.padding import Padding
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.metrics import Scores

SAME_MM = 1e-3
"""Grids may differ by this much in an entry of the affine: headers are rounded."""

PERCENTILE = 99.5
"""Of the voxels above black: the value taken as white."""


def evaluate(
    fake: Annotated[Path, typer.Argument(metavar="FAKE", help="Translated image.")],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Real image on the same grid.")],
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
    padding: Padding = None,
    force: outputs.Force = False,
) -> None:
    """Compare a translated image with the real one.

    Prints SSIM, MAE, MSE, PSNR and NMSE of the whole image and inside a mask, on request LPIPS.

    Before scoring, intensities are scaled so that black is 0 and white is 1, as in the papers,
    without clipping (but for LPIPS): mae is in shares of the data range, psnr in dB.

    \b
    Example:
        msgan evaluate t2.nii.gz phantoms/patient000/patient000_t2.nii.gz \\
            --mask phantoms/patient000/patient000_mask.nii.gz --json scores.json
    """
    from msgan.data.hounsfield import apart
    from msgan.data.intensity import IntensityMap, darkest
    from msgan.data.padding import filled, padding_of
    from msgan.data.volume import open_labels, open_volume
    from msgan.metrics import lpips_of, scores_of
    from msgan.paths import write_text

    if json_out is not None:
        outputs.check([json_out], [fake, real, mask, lpips], force=force)
    for path in (fake, real):
        inputs.require_image(path)
    network = None
    if lpips is not None:
        from msgan.networks.lpips import Lpips

        network = Lpips(lpips)
    nothing = padding_of(padding) if padding is not None else None
    with (
        open_volume(fake, padding=nothing) as made,
        open_volume(real, padding=nothing) as true,
    ):
        shape = true.grid.shape
        told = [f"{volume.path}: {n}" for volume in (made, true) for n in volume.notes]
        console.notes(dict.fromkeys(told))
        if made.grid.dims != true.grid.dims:
            raise InputError(f"{fake}: image of {made.grid.dims} axes, {real} has {true.grid.dims}")
        if not made.grid.same_as(true.grid, SAME_MM):
            raise InputError(f"{fake}: its grid {made.grid} is not that of {real}, {true.grid}")
        assert made.extremes is not None
        assert true.extremes is not None
        if text := apart(made.extremes, true.extremes, (made.unit, true.unit)):
            console.note(f"note: {fake}, {real}: {text}")
        if black is None:
            black = min(0.0, darkest(true.read, shape, true.extremes[0]))
        if data_range is None:
            try:
                values = IntensityMap.percentile(true.read, shape, PERCENTILE, black, black)
            except InputError as error:
                raise InputError(f"{real}: {error}: pass --data-range and --black") from None
            data_range = values.high - black
        if not (isfinite(data_range) and data_range > 0):
            raise InputError(f"--data-range {data_range:g}: expected a positive number")
        result, wanted = (filled(volume.read, black) for volume in (made, true))
        rows = {"whole image": scores_of(result, wanted, shape, data_range=data_range, black=black)}
        if mask is not None:
            with open_labels(mask, true.grid) as inside:
                rows["inside mask"] = scores_of(
                    result,
                    wanted,
                    shape,
                    data_range=data_range,
                    black=black,
                    read_mask=inside.read,
                    mask_name=str(mask),
                )
        perceptual: dict[str, Any] = {}
        if network is not None:
            found = lpips_of(result, wanted, shape, network, data_range=data_range, black=black)
            perceptual = {"value": found, "network": network.label}
        unit = true.unit
    for line in _table(rows, unit):
        console.say(line)
    if perceptual:
        views = "slices of three views" if len(shape) == 3 else "one slice"
        console.say(
            f"lpips {perceptual['value']:.4g}, whole image, {views}; {perceptual['network']}"
        )
    if json_out is not None and console.is_main():
        files = {"fake": str(fake), "real": str(real), "mask": str(mask) if mask else None}
        range_of = {"black": black, "data_range": data_range, "unit": unit}
        table = {name.replace(" ", "_"): _plain(scores.unit()) for name, scores in rows.items()}
        content = {**files, "source_intensity": range_of, "scores": table}
        if perceptual:
            content["lpips"] = perceptual
        write_text(json_out, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _table(rows: dict[str, Scores], unit: str) -> list[str]:
    """Lines of a table, and with what the scores were measured."""
    from msgan.metrics import SIMILARITY

    lines = [f"{'':<12}" + "".join(f"{name:>10}" for name in (*SIMILARITY, "n", "n ssim"))]
    for name, scores in rows.items():
        values = scores.unit().as_row()
        numbers = "".join(f"{values[column]:>10.4g}" for column in SIMILARITY)
        lines.append(f"{name:<12}{numbers}{scores.voxels:>10}{scores.ssim_voxels:>10}")
    first = next(iter(rows.values()))
    white = first.black + first.data_range
    lines.append(
        f"data range {first.data_range:.6g} {unit} ({first.black:.6g} shown as 0, {white:.6g} as 1)"
    )
    lines.append(
        f"{first.dims}D SSIM, Gaussian window of {first.window} voxels, sigma {first.sigma:g}; "
        "psnr in dB; n: voxels"
    )
    return lines


def _plain(scores: Scores) -> dict[str, Any]:
    """For JSON, which knows no infinity: null stands for it."""
    row = scores.as_row()
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
