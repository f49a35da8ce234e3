"""What a generator is: a network that states which images one call reads and makes, and where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from msgan.types import Box, Shape


@dataclass(frozen=True)
class View:
    """One image that a call reads or makes.

    Attributes:
        image: ``sketch`` (C channels in [0, 1]); ``source``, the image that is translated;
            ``below``, what the scale below has made; ``target``, what is made here.
        scale: Of its grid, relative to the stage: +1 is twice as fine, 0 the stage's own, -1 twice
            as coarse.
        halo: Voxels of its own grid that are read around what is made.
    """

    image: Literal["sketch", "source", "below", "target"]
    scale: int
    halo: int = 0

    @property
    def empty(self) -> float:
        """Its value where there is nothing: no edge in a sketch, background in an image."""
        return 0.0 if self.image == "sketch" else -1.0

    def box(self, detail: Box) -> Box:
        """What belongs to ``detail``, a box of the stage's grid, on this image's own grid."""
        fine = self.scale > 0
        region = detail.scaled(2**self.scale) if fine else detail.coarse(2**-self.scale)
        return region.grown(self.halo)


@dataclass(frozen=True)
class Cut:
    """The boxes of one call.

    Attributes:
        core: What is kept, on the stage's grid.
        detail: What comes out: the core and what is thrown away around it.
        reads: What is read of each image, on that image's own grid.
    """

    core: Box
    detail: Box
    reads: tuple[Box, ...]


@dataclass(frozen=True)
class Geometry:
    """Where one call of a generator reads and writes, in voxels.

    There are two kinds of networks. One without ``border`` is given all it needs, its halo
    included, and sees around an image how that goes on. One with ``border`` pads what it is given,
    so what it reads and makes are the same region: a tile is cut where the image and its border
    end, and begins and ends at multiples of ``align`` inside, so that strides fall on the same
    voxels, and zeros and repeated borders lie where they lie for the whole image.

    Attributes:
        reads: The images it reads, in the order of its arguments.
        makes: The images it makes, finest first; the first is the stage's image.
        rim: What is thrown away on every side of what it makes: of a network without border always,
            of one with border inside the image, where padding has touched it.
        align: Where what it makes may start and end: at multiples of this.
        border: Voxels it is shown around an image, a multiple of ``align``; None: see above.
        patch: The only side of what it makes; None: free.
        exact: Whether any tiling gives the result of the whole image.
        sliced: What it makes is one slice across the last axis of a volume, ``patch`` wide.

    Raises:
        ValueError: ``align`` is too small for the coarsest grid, or the border does not suit it.
    """

    reads: tuple[View, ...]
    makes: tuple[View, ...] = (View("target", 0),)
    rim: int = 0
    align: int = 2
    border: int | None = None
    patch: int | None = None
    exact: bool = False
    sliced: bool = False

    def __post_init__(self) -> None:
        if self.align % self.step:
            rule = f"is not a multiple of {self.step}, where all grids meet"
            raise ValueError(f"align {self.align} {rule}")
        if self.border is not None and self.border % self.align:
            raise ValueError(f"border {self.border} is not a multiple of align {self.align}")

    @property
    def step(self) -> int:
        """Voxels from one place where all grids meet to the next."""
        return 2 ** max(0, *(-view.scale for view in (*self.reads, *self.makes)))

    @property
    def whole(self) -> bool:
        """Whether it makes an image as a whole only: it has neither a side nor exact tiles."""
        return self.patch is None and not self.exact

    def sides(self, side: int, dims: int) -> Shape:
        """Of a training patch ``side`` wide."""
        return (side, side, 1) if self.sliced and dims == 3 else (side,) * dims

    @property
    def core_side(self) -> int | None:
        """Side of what is kept of a patch, or None where it is free."""
        return None if self.patch is None else self.patch - 2 * self.rim

    def cut(self, core: Box, shape: Shape) -> Cut:
        """The boxes of the call that makes ``core``.

        Args:
            core: On the stage's grid; of a network with border it may start anywhere.
            shape: Of the stage's image.

        Raises:
            ValueError: What comes out would not start and end at multiples of ``align``, or is not
                a patch of the only side.
        """
        if self.border is None:
            detail = Box.whole(shape) if self.whole else core
            detail = detail.grown(self.rim)
            return Cut(core, detail, self.read_boxes(detail))
        core = core.clipped(shape)
        detail = full = Box.whole(shape).grown(self.border)
        if self.exact:
            wide = core.grown(self.rim).coarse(self.align).scaled(self.align)
            detail = wide.inside(full).clipped(full.size).shifted(full.start)
        return Cut(core, detail, self.read_boxes(detail))

    def read_boxes(self, detail: Box) -> tuple[Box, ...]:
        """What is read of each image where ``detail`` comes out.

        Raises:
            ValueError: See :meth:`cut`.
        """
        if self.border is None and any(n % self.align for n in (*detail.start, *detail.size)):
            where = "even voxels" if self.align == 2 else f"multiples of {self.align} voxels"
            raise ValueError(f"{detail} does not start and end at {where}")
        if self.patch is not None and detail.size != self.sides(self.patch, detail.dims):
            raise ValueError(f"{detail} is not a patch of side {self.patch}")
        return tuple(view.box(detail) for view in self.reads)

    def make_boxes(self, detail: Box) -> tuple[Box, ...]:
        """What comes out of each image where ``detail`` is that of the stage's own."""
        return tuple(view.box(detail) for view in self.makes)


class Generator(nn.Module, ABC):
    """A network that can be a stage of a cascade; implementations are final.

    Whatever states its geometry and calls by it trains and translates: no more is asked of it.

    Attributes:
        geometry: Where a call reads and writes.
    """

    geometry: Geometry

    @abstractmethod
    def forward(self, *reads: Any, **_: Any) -> tuple[Tensor, ...]:  # named by implementations
        """The images of ``geometry.reads``, (B, C, ...) each -> those of ``geometry.makes``."""
