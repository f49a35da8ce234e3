"""How figures cut and lay out an image, and which intensities they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.plots.style import SIZE, label_colour, outlined
from msgan.types import Array, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Plane -> canonical axes that run right, up, and through it."""

SIDES = {"axial": "LRPA", "coronal": "LRIS", "sagittal": "PAIS"}
"""Plane -> directions of the body at the left, right, bottom and top of its picture."""

Window = tuple[float, float]
"""Darkest and brightest intensity shown."""


@dataclass(frozen=True)
class Frame:
    """How an image is cut and laid out: where, voxel size, and anatomical axes if known."""

    shape: tuple[int, ...]
    at: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: Any  # nibabel's (3, 2) axis and flip of each array axis, or None

    @classmethod
    def of(
        cls,
        image: Array,
        at: Sequence[int] | None,
        spacing: Sequence[float] | None,
        affine: Array | None,
    ) -> Frame:
        """The frame of an image; see :func:`msgan.plots.images.slices` for the arguments."""
        shape = image.shape
        if affine is not None and len(shape) == 3:
            from nibabel.affines import voxel_sizes
            from nibabel.orientations import io_orientation

            spacing = spacing or voxel_sizes(affine).tolist()
            orientation = io_orientation(affine)
        else:
            orientation = None
        where = middle(image) if at is None else tuple(int(v) for v in at)
        if len(where) != len(shape) or not all(
            0 <= v < n for v, n in zip(where, shape, strict=True)
        ):
            raise InputError(f"at {where}: outside an image of shape {shape}")
        return cls(shape, where, tuple(spacing or (1.0,) * len(shape)), orientation)

    @property
    def names(self) -> list[str]:
        """Of the planes; a 2D image has one without a name."""
        return list(PLANES) if len(self.shape) == 3 else [""]

    @property
    def upside_down(self) -> bool:
        """Whether row 0 belongs at the top."""
        return len(self.shape) == 2  # row 0 of a 2D image is its top

    def axes(self, name: str) -> tuple[int, int, int]:
        """Array axes that run right, up, and through the plane."""
        if not name:
            return 1, 0, -1
        if self.orientation is None:
            return PLANES[name]
        order = [int(np.flatnonzero(self.orientation[:, 0] == a)[0]) for a in range(3)]
        x, y, fixed = (order[a] for a in PLANES[name])
        return x, y, fixed

    def extent(self, name: str) -> tuple[float, float]:
        """Width and height of a plane, mm."""
        x, y, _ = self.axes(name)
        return self.shape[x] * self.spacing[x], self.shape[y] * self.spacing[y]

    def title(self, name: str) -> str:
        """Plane and the index it lies at."""
        return f"{name} ({'ijk'[self.axes(name)[2]]} = {self.at[self.axes(name)[2]]})"

    def note(self, caption: str) -> str:
        """The caption, and how to read the planes."""
        if len(self.shape) == 2:
            how = "Row 0 of the image is at the top."
        elif self.orientation is None:
            how = "Planes follow the index axes i, j, k of the array; left and right are not known."
        else:
            how = "Letters: directions of the body; its left is on the left of the picture."
        return f"{caption} {how}".strip()

    def cut(self, image: Array, name: str) -> Array:
        """The plane as (up, right)."""
        if not name:
            return image
        x, y, fixed = self.axes(name)
        plane = image.take(self.at[fixed], axis=fixed)
        plane = plane.T if x < y else plane
        if self.orientation is not None:
            plane = plane[:: int(self.orientation[y, 1]), :: int(self.orientation[x, 1])]
        return plane

    def show(
        self,
        ax: Axes,
        image: Array,
        name: str,
        room: tuple[float, float] | None,
        letters: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Draw a plane in the middle of ``room`` (width and height in mm; default its own)."""
        width, height = self.extent(name)
        box = (0, width, height, 0) if self.upside_down else (0, width, 0, height)
        origin: Any = "upper" if self.upside_down else "lower"
        shown = self.cut(image, name)
        mappable = ax.imshow(shown, origin=origin, extent=box, interpolation="nearest", **kwargs)
        if room is not None:  # equal limits in a row: equal millimetres on paper
            across, up = (room[0] - width) / 2, (room[1] - height) / 2
            ax.set_xlim(-across, width + across)
            ax.set_ylim(*((height + up, -up) if self.upside_down else (-up, height + up)))
        diverging = kwargs.get("cmap", "gray") != "gray"
        ground = mappable.cmap(0.5) if diverging else "black"
        ax.set(xticks=[], yticks=[], facecolor=ground)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if name and letters:
            self._directions(ax, name, {"color": "black"} if diverging else outlined())
        return mappable

    def _directions(self, ax: Axes, name: str, look: dict[str, Any]) -> None:
        x, y, _ = self.axes(name)
        common: dict[str, Any] = {"transform": ax.transAxes, "fontsize": SIZE - 1, "va": "center"}
        if self.orientation is None:
            ax.set_xlabel(f"{'ijk'[x]} →", labelpad=1, fontsize=SIZE - 1)
            ax.text(-0.01, 0.5, f"{'ijk'[y]} →", rotation=90, ha="right", **common)
            return
        places = [(0.04, 0.5), (0.96, 0.5), (0.5, 0.045), (0.5, 0.955)]
        for (px, py), letter in zip(places, SIDES[name], strict=True):
            ax.text(px, py, letter, ha="center", **common, **look)

    def outline(self, ax: Axes, labels: Array, name: str) -> set[int]:
        """Draw the border of each label in a plane; the labels that occur there."""
        if labels.shape != self.shape:
            raise InputError(f"overlay of shape {labels.shape}: expected {self.shape}, the image's")
        plane = self.cut(labels, name)
        width, height = self.extent(name)
        x = (np.arange(plane.shape[1]) + 0.5) * width / plane.shape[1]
        y = (np.arange(plane.shape[0]) + 0.5) * height / plane.shape[0]
        found = {int(v) for v in np.unique(plane) if v}
        for value in found:
            ax.contour(
                x, y, plane == value, levels=[0.5], colors=[label_colour(value)], linewidths=0.9
            )
        return found

    def scale_bar(self, ax: Axes, name: str) -> None:
        """Draw a bar of a round number of millimetres, where voxel sizes are known."""
        if self.spacing == (1.0,) * len(self.shape) and self.orientation is None:
            return  # unit spacing is what is assumed when nobody said
        width, height = self.extent(name)
        length = max((v for v in (1, 2, 5, 10, 20, 50, 100, 200) if v <= width / 3), default=1)
        low = 0.93 * height if self.upside_down else 0.07 * height
        ax.plot(
            [0.05 * width, 0.05 * width + length],
            [low, low],
            color="white",
            lw=2.5,
            solid_capstyle="butt",
            path_effects=outlined()["path_effects"],
        )
        ax.annotate(
            f"{length} mm",
            (0.05 * width + length / 2, low),
            (0, 4),
            ha="center",
            textcoords="offset points",
            fontsize=SIZE - 1.5,
            **outlined(),
        )


def common_shape(images: Mapping[str, Array]) -> tuple[int, ...]:
    """The shape of all images; InputError where it differs or has not 2 or 3 axes."""
    if not images:
        raise InputError("images: no image: expected at least one")
    for (a, x), (b, y) in pairwise(images.items()):
        if x.shape != y.shape:
            raise InputError(f"{a} of shape {x.shape}, {b} of shape {y.shape}: expected the same")
    shape = next(iter(images.values())).shape
    if len(shape) not in (2, 3):
        raise InputError(f"image of shape {shape}: expected 2 or 3 axes")
    return shape


def usual_window(images: Sequence[Array]) -> Window:
    """0.5 and 99.5 % of the images' intensities."""
    low = min(quantile(v, 0.005) for v in images)
    high = max(quantile(v, 0.995) for v in images)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def quantile(image: Array, q: float) -> float:
    """The ``q`` quantile of an image, NaN left out."""
    step = max(1, image.size // 1_000_000)  # a million voxels say enough
    return float(np.nanquantile(image.ravel()[::step], q))


def middle(image: Array) -> tuple[int, ...]:
    """Middle of the bounding box of what is brighter than the background."""
    bright = image > (float(np.nanmin(image)) + float(np.nanmean(image))) / 2
    out = []
    for axis, n in enumerate(image.shape):
        line = np.flatnonzero(bright.any(axis=tuple(a for a in range(image.ndim) if a != axis)))
        out.append(int(line[0] + line[-1]) // 2 if line.size else n // 2)
    return tuple(out)
