"""``msgan sketch``: write the sketch of an image as an image."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from msgan.cli import console, inputs, outputs
from msgan.cli.padding import Padding
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.data.volume import Volume


def sketch(
    image: Annotated[
        Path, typer.Argument(metavar="IN", help="Image file, or folder with a DICOM series.")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Image to write; its suffix decides the format (PNG: 0 to 255)."
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="SEG",
            help="Label map on the grid of IN, drawn over the sketch, each label in its own grey.",
            show_default="none",
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Channels separated by commas: edges, self_similarity, ridges, image. Several "
            "channels go to several files, with the channel's name and number before the suffix.",
        ),
    ] = "edges",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="Intensity range for edge detection, in the unit of IN; for CT in HU, such as "
            "-1024 3071.",
            show_default="0 to the 99.5th percentile of the voxels above 0",
        ),
    ] = None,
    padding: Padding = None,
    force: outputs.Force = False,
) -> None:
    """Draw the sketch of an image.

    The sketch is the input of the generators: weighted Canny edges of the source in [0, 1]. It has
    the grid of the image.

    \b
    Example:
        msgan sketch phantoms/patient000/patient000_t1.nii.gz t1_sketch.nii.gz
    """
    inputs.require_image(image)  # before the libraries are loaded, which takes seconds
    import numpy as np

    from msgan.config import Preparation, SketchConfig
    from msgan.data.formats.picture import SUFFIXES
    from msgan.data.intensity import IntensityMap
    from msgan.data.padding import padding_of
    from msgan.data.store import suffix_of
    from msgan.data.volume import open_labels, open_volume, write_volume
    from msgan.data.writing import WRITERS
    from msgan.sketch import CHANNELS, sketch_reader

    names = tuple(name.strip() for name in channels.split(","))
    if unknown := [name for name in names if name not in CHANNELS]:
        raise InputError(f"sketch channel {unknown[0]!r} is none of {', '.join(CHANNELS)}")
    suffix = suffix_of(out)
    if suffix not in WRITERS:
        raise InputError(
            f"{out}: cannot write {suffix or 'an image without suffix'}: expected one of "
            f"{', '.join(WRITERS)}"
        )
    nothing = padding_of(padding) if padding is not None else None
    with open_volume(image, check=False, padding=nothing) as volume, ExitStack() as stack:
        shape = volume.grid.shape
        titles = _titles(names, {n: CHANNELS[n].count(len(shape)) for n in names})
        results = [out]
        if len(titles) > 1:
            stem = out.name[: len(out.name) - len(suffix)]
            results = [out.with_name(f"{stem}_{title}{suffix}") for title in titles]
        outputs.check(results, [image, labels], force=force)
        if len(shape) == 3 and suffix in SUFFIXES:
            raise InputError(f"{out}: a picture has 2 axes, {image} has 3")
        volume.check_size()
        console.notes(f"{image}: {note}" for note in volume.notes)
        drawn = None
        if labels is not None:
            drawn = stack.enter_context(open_labels(labels, volume.grid))
        volume.visit()
        if window is not None:
            intensity = IntensityMap.window(*window)
        else:
            usual = Preparation()
            try:
                intensity = IntensityMap.percentile(volume.read, shape, usual.high, usual.low)
            except InputError as error:
                raise InputError(f"{image}: {error}: pass --window LOW HIGH") from None
        config = SketchConfig(channels=names)
        read = sketch_reader(
            lambda box: np.ascontiguousarray(intensity.to_unit(volume.read(box))),
            shape,
            config,
            None if drawn is None else drawn.read,
            values=() if drawn is None else _values(drawn),
        )
        picture = suffix == ".png"
        for k, path in enumerate(results):
            write_volume(
                path,
                volume.grid,
                lambda box, k=k: read(box)[k] * np.float32(255 if picture else 1),  # type: ignore[misc]
                dtype=np.uint8 if picture else np.float32,
                generated=True,
            )
            console.say(str(path))


def _titles(names: tuple[str, ...], counts: dict[str, int]) -> list[str]:
    """A name for each channel of the sketch."""
    return [f"{n}{k}" if counts[n] > 1 else n for n in names for k in range(counts[n])]


def _values(labels: Volume) -> list[int]:
    """The labels that occur, in order, without 0."""
    import numpy as np

    from msgan.data.geometry import blocks

    found: set[int] = set()
    for box in blocks(labels.grid.shape):
        found.update(np.unique(labels.read(box)).tolist())
    return sorted(found - {0})
