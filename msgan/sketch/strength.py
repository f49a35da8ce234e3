"""How strong the sketches are that a run has learnt from, and whether another image's is alike."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msgan.config import SketchConfig
from msgan.documents import json_of
from msgan.paths import write_text
from msgan.sketch.region import BACKGROUND, CHANNELS
from msgan.types import Array, Box, InputError, Reader, Shape

FILE = "sketches.json"

SAMPLES = 64
"""Boxes of an image that are looked at, at most; evenly spread."""

SIDE = {2: 128, 3: 32}
"""Of such a box, voxels, by dimensions."""

TOLERANCE = 1.25
"""How many times weaker than the weakest, or stronger than the strongest, a sketch may be.

Of MS patient 26 at 1 mm, edges of T2 and six recolourings of it are .081 to .167, of T1 .155, of
FLAIR .174. Noise alone, .219, is told; a blur of 3 mm, .078, is not."""


def strengths(
    sketch: Reader, image: Reader, shape: Shape, config: SketchConfig
) -> dict[str, float]:
    """Mean of each kind of channel over the foreground.

    Args:
        sketch: (C, *box), any box inside ``shape``.
        image: What it is drawn of, in [-1, 1].
        shape: Of both.
        config: Names the channels.

    Returns:
        By channel; empty where nothing is foreground, or where a channel is an image itself.
    """
    if any(not CHANNELS[name].drawn for name in config.channels):
        return {}
    dims = len(shape)
    boxes = list(Box.whole(shape).tiles((SIDE[dims],) * dims))
    chosen = sorted({round(k) for k in np.linspace(0, len(boxes) - 1, SAMPLES)})
    total: Array | None = None
    voxels = 0
    for box in (boxes[k] for k in chosen):
        inside = image(box) > BACKGROUND
        if inside.any():
            found = np.asarray(sketch(box), dtype=np.float64)[:, inside].sum(axis=1)
            total = found if total is None else total + found
            voxels += int(inside.sum())
    if total is None:
        return {}
    counts = [CHANNELS[name].count(dims) for name in config.channels]
    parts = np.split(total / voxels, np.cumsum(counts)[:-1])
    return {name: float(part.mean()) for name, part in zip(config.channels, parts, strict=True)}


@dataclass(frozen=True)
class Strengths:
    """What :func:`strengths` are in a training.

    Attributes:
        scale: i of the s_i whose sketches they are of.
        ranges: Least and most of all sketches, by channel.
    """

    scale: int
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, scale: int, each: Iterable[Mapping[str, float]]) -> Strengths:
        """Of the sketches of a training."""
        found: dict[str, list[float]] = {}
        for one in each:
            for name, value in one.items():
                found.setdefault(name, []).append(value)
        return cls(scale, {name: (min(v), max(v)) for name, v in found.items()})

    def doubt(self, own: Mapping[str, float]) -> str:
        """What is to be said of a sketch of these strengths; nothing if it is like the others."""
        parts = [
            f"{name} {own[name]:.3f}, in training {low:.3f} to {high:.3f}"
            for name, (low, high) in self.ranges.items()
            if name in own and not low / TOLERANCE <= own[name] <= high * TOLERANCE
        ]
        if not parts:
            return ""
        return (
            f"sketch: unlike those that were learnt from (mean in the body: {'; '.join(parts)}): "
            "noise, blur, another voxel size or another body part? The result may be wrong"
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it below a folder."""
        ranges = {name: list(pair) for name, pair in self.ranges.items()}
        content = {"scale": self.scale, "ranges": ranges}
        write_text(Path(folder) / FILE, json.dumps(content) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Strengths | None:
        """Read what :meth:`save` wrote; None: there is nothing, as of older runs.

        Raises:
            InputError: It is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            content = json_of(path)
            ranges = {
                str(name): (float(low), float(high))
                for name, (low, high) in content["ranges"].items()
            }
            if not all(0 <= low <= high < math.inf for low, high in ranges.values()):
                raise ValueError("a range is none")
            return cls(int(content["scale"]), ranges)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            why = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path}: not the strengths of sketches: {why}") from None
