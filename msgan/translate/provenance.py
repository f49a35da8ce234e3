"""What a translation was made of: kept beside it, so that it can be looked at later."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.store import suffix_of
from msgan.data.subject import Subject
from msgan.documents import json_of
from msgan.paths import write_text
from msgan.types import InputError, Shape

PROVENANCE = "translation.json"
"""Name of the provenance in a folder of kept scales; beside a result it is that of the result."""


@dataclass(frozen=True)
class Provenance:
    """One translation on disk: where it came from and where its tiles lie.

    Attributes:
        subject: Whose image it is.
        method: Name of the row of a table.
        source: Modality that was translated; empty for a file without one.
        target: Modality it was translated to.
        result: The translated image.
        image: The image that was translated.
        real: The real image of the target, if there is one.
        labels: Pathology labels on the image's grid, if there are any.
        run: Folder of the trained run, if there is one.
        low: Value of the result that counts as 0 in scores and is drawn black.
        high: Value that counts as 1.
        unit: Of the result's values; empty where they mean nothing by themselves.
        regions: Where voxels count in the scores; the first names no column.
        grid: s_n, the grid that tiles lie on; None for a method without.
        tiles: Voxels between the faces of tiles along each axis, of each scale that was made,
            the finest last; tiles begin at voxel 0 of ``grid``. Empty for a method without.
        notes: What is to be told of how it was made, as how the source was matched.
    """

    subject: str
    method: str
    source: str
    target: str
    result: Path
    image: Path
    real: Path | None = None
    labels: Path | None = None
    run: Path | None = None
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    regions: tuple[str, ...] = ()
    grid: Grid | None = None
    tiles: tuple[Shape, ...] = ()
    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON; files are named relative to it, so that the whole can be moved."""
        base = Path(path).absolute().parent
        content: dict[str, Any] = {**vars(self)}
        for name in PATHS:
            if content[name] is not None:
                # Links stay: one in the middle may lead to another disk tomorrow.
                content[name] = Path(os.path.relpath(content[name], base)).as_posix()
        if self.grid is not None:
            content["grid"] = {"shape": self.grid.shape, "affine": self.grid.affine.tolist()}
        write_text(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Provenance:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: It is not such a file.
        """
        path = Path(path)
        base = path.absolute().parent
        try:
            content = json_of(path)
            for name in PATHS:
                if content[name] is not None:
                    content[name] = Path(os.path.normpath(base / content[name]))
            if content["grid"] is not None:
                content["grid"] = Grid(tuple(content["grid"]["shape"]), content["grid"]["affine"])
            content["tiles"] = tuple(tuple(int(n) for n in tile) for tile in content["tiles"])
            content["regions"] = tuple(content["regions"])
            content["notes"] = tuple(map(str, content.get("notes", ())))
            return cls(**content)
        except (KeyError, TypeError, ValueError) as error:
            why = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path}: not the trace of a translation: {why}") from None


def provenance(
    source: Subject | str | os.PathLike[str],
    modality: str | None,
    target: str,
    result: str | os.PathLike[str],
    intensity: IntensityMap,
    *,
    method: str = "cascade",
    labels: str | os.PathLike[str] | None = None,
    **more: Any,
) -> Provenance:
    """The provenance of a translation.

    Args:
        source: Image file or subject of a cohort.
        modality: Which image of a subject.
        target: Modality it was translated to.
        result: The translated image.
        intensity: Range it was written in.
        method: Name of the row of a table.
        labels: Drawn over the sketch; None: the subject's own.
        more: Other attributes of :class:`Provenance`.
    """
    drawn = None if labels is None else Path(labels)
    if isinstance(source, Subject):
        modality, image = source.image(modality)
        more |= {"real": source.images.get(target), "labels": drawn or source.labels}
        name = source.name
    else:
        image, name = Path(source), _stem(Path(source))
        more["labels"] = drawn
    window: dict[str, Any] = {"low": intensity.low, "high": intensity.high, "unit": intensity.unit}
    return Provenance(name, method, modality or "", target, Path(result), image, **window, **more)


PATHS = ("result", "image", "real", "labels", "run")


def beside(result: str | os.PathLike[str]) -> Path:
    """Where the provenance of a result lies: ``patient000.json`` beside ``patient000.nii``."""
    result = Path(result)
    return result.with_name(f"{_stem(result)}.json")


def _stem(path: Path) -> str:
    """Name without the suffix that says the format."""
    return path.name[: len(path.name) - len(suffix_of(path))] or path.name
