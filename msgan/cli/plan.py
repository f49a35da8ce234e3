"""``msgan plan``: estimate memory, disk and time of a translation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgan.cli import console, inputs
from msgan.cli.padding import Padding
from msgan.printing import duration
from msgan.types import InputError

Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Limit of host memory, such as 2GB or 512MiB.",
        show_default="2GiB; with a GPU 8GiB",
    ),
]
GpuMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Limit for tensors in GPU memory, such as 8GB.",
        show_default="80 % of what is free",
    ),
]
Trained = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Folder of a trained run or model, or name of a bundled model (msgan model list).",
    ),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="auto: cuda if available.")]


def plan(
    run: Trained,
    image: Annotated[Path, typer.Argument(metavar="IN", help="Image or DICOM series.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="SEG", help="Label map on the grid of IN.", show_default="none"),
    ] = None,
    memory: Memory = None,
    gpu_memory: GpuMemory = None,
    device: Device = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Side of a tile.", show_default="the largest that fits"
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Plan for a translation that saves the images of all scales."),
    ] = False,
    padding: Padding = None,
    recolourings: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Recoloured copies of IN that the coarsest scale is drawn from too.",
        ),
    ] = 0,
) -> None:
    """Estimate tiles, memory, disk and time of a translation.

    Nothing is written. The image is read, because the grid depends on its content, and one or two
    tiles are computed to estimate the time. translate makes the same plan and keeps to it.

    \b
    Examples:
        msgan plan runs/t2 phantoms/patient000/patient000_t1.nii.gz
        msgan plan runs/t2 phantoms/patient000/patient000_t1.nii.gz --memory 3GB
    """
    # Before the libraries are loaded, which takes seconds.
    inputs.require_run(run)
    inputs.require_image(image)
    from msgan.data.cohort import prepare
    from msgan.data.padding import padding_of
    from msgan.paths import scratch_root, size
    from msgan.translate import Generation, Limits, pick_device
    from msgan.translate.frame import demands

    limits = Limits(
        inputs.memory(memory, "--memory"),
        inputs.memory(gpu_memory, "--gpu-memory"),
        tile,
    )
    trained, where = inputs.open_run(run), pick_device(device)
    if labels is not None and not trained.config.labels:
        raise InputError(f"{labels}: this run was trained without labels; leave them out")
    method = Generation.of(trained, recolourings=recolourings)
    method.check(where, limits)
    prep = trained.config.preparation.padded(padding_of(padding) if padding is not None else None)
    prep = prep.of(method.source)
    with prepare(image, None, prep, labels, **demands(method)) as subject:
        console.notes(subject.notes)
        made = method.plan(subject, where, limits, keep=keep, probe=True)
    rows = [("scale", "voxels", "tile", "tiles", "GFLOP")]
    for scale in made.scales:
        shape, side = (" x ".join(map(str, n)) for n in (scale.shape, scale.tile))
        rows.append((scale.name, shape, side, str(scale.tiles), f"{scale.flops / 1e9:.3g}"))
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        left = "  ".join(text.ljust(n) for text, n in zip(row[:3], widths, strict=False))
        right = "  ".join(text.rjust(n) for text, n in zip(row[3:], widths[3:], strict=True))
        console.say(f"{left}  {right}")
    console.say("")
    if trained.config.guidance.on:
        console.say(f"match        {trained.config.guidance.match}")
    console.say(f"host memory  {size(made.host_bytes)}, {size(made.base_bytes)} of it the program")
    if where.type == "cuda":
        console.say(f"GPU memory   {size(made.device_bytes)}")
    console.say(f"scratch      {size(made.scratch_bytes)} in {scratch_root()}")
    console.say(f"result       {size(made.output_bytes)} before compression")
    console.say(f"time         about {duration(made.seconds or 0)} for the tiles")
