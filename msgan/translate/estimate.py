"""The estimate at s0 of a guided cascade: what is drawn from the sketch, and what is matched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from msgan import pyramid
from msgan.match import fusion, histogram
from msgan.match.fusion import Moments, Polarity
from msgan.match.profile import TargetProfile
from msgan.match.slope import HIDDEN
from msgan.match.student import Student
from msgan.types import Array, Box, Reader, Shape

Keep = Callable[[str, Reader], Reader]
"""Stores an image on s0 under a name and gives a reader of a box inside it."""


KEPT = ("source0", "matched0", "matched1")
"""Names of the images that :func:`matching` stores."""


@dataclass(frozen=True)
class Guided:
    """A source beside its sketch, as an estimate at s0 needs it.

    Attributes:
        finest: The image on s_n in [-1, 1], a box inside the image; what labels hide is below -1
            (:func:`msgan.match.slope.hiding`).
        shape: Of s_n.
        scales: n.
        modality: Name of it, if it is known.
    """

    finest: Reader
    shape: Shape
    scales: int
    modality: str | None = None

    @property
    def coarsest(self) -> Shape:
        """Of s0."""
        return pyramid.shapes(self.shape, self.scales)[0]

    def at_s0(self, read: Reader) -> Reader:
        """Means of an image on s_n, on s0; a block of which a part is hidden is hidden."""
        for _ in range(self.scales):
            read = _halved(read)
        return fusion.in_parts(read, len(self.shape), 2**self.scales)


@dataclass(frozen=True)
class Estimate:
    """What s0 is taken to be.

    Attributes:
        read: In [-1, 1], a box inside s0.
        polarity: How the source was matched.
        spread: Standard deviation over the estimates that it is a mean of, of intensities in
            [-1, 1]; 0 where there is one alone: in labels and where the source is background.
    """

    read: Reader
    polarity: Polarity
    spread: Reader


@dataclass(frozen=True)
class Match:
    """The source with the target's intensities, on s0.

    Attributes:
        source: As it is, in [-1, 1], a box inside s0; below -1 where labels hide it.
        read: Matched, likewise.
        polarity: Which way round, and what it weighs.
        shares: (4097,) of the source (:func:`msgan.match.histogram.cumulative`); None: its
            spectrum was matched before.
    """

    source: Reader
    read: Reader
    polarity: Polarity
    shares: Array | None = None


def matching(
    source: Guided,
    drawn: Reader,
    profile: TargetProfile,
    target: str,
    keep: Keep,
    *,
    inverted: bool | None = None,
    by: str = "user",
) -> Match:
    """The matched source, and whether its ranks are turned round.

    Args:
        source: The image.
        drawn: What s0 makes of its sketch, a box inside s0.
        profile: Of the target.
        target: Modality.
        keep: See :data:`Keep`; used for images that are read more than once.
        inverted: Polarity that is known; None: it is found out.
        by: Who states it; see :class:`msgan.match.fusion.Polarity`.
    """
    shape = source.coarsest
    own = keep("source0", source.at_s0(source.finest))
    if profile.kind == "spectrum":  # the image is matched already, and HU are HU
        agreement = Moments.of(own, drawn, shape).correlation
        return Match(own, own, Polarity(False, agreement, 0.0, "unit"))
    shares = histogram.cumulative(source.finest, source.shape)
    both = {
        way: keep(
            f"matched{int(way)}",
            source.at_s0(histogram.matched(source.finest, shares, profile.quantiles, inverted=way)),
        )
        for way in (False, True)
    }
    agreed = {way: [Moments.of(read, drawn, shape)] for way, read in both.items()}
    names = (source.modality, target)
    polarity = fusion.polarity(
        agreed[False],
        agreed[True],
        stated=inverted,
        by=by,
        modalities=names,
        error=profile.error,
    )
    return Match(own, both[bool(polarity.inverted)], polarity, shares)


def estimate(
    match: Match,
    drawn: Reader,
    shape: Shape,
    *,
    student: bool = False,
    drawings: Sequence[Reader] = (),
) -> Estimate:
    """What s0 is, from all that is known of it without a pair.

    The mean of what s0 draws from the sketch and of the matched source, whose errors are
    independent, weighted by how well they agree; with a student, the mean of that and of what the
    source supports of it (:class:`msgan.match.student.Student`). In labels it is what is drawn.

    Args:
        match: Of the source.
        drawn: What s0 makes of its sketch, a box inside ``shape``.
        shape: Of s0.
        student: See above.
        drawings: What ``drawn`` is the mean of; none: it is one drawing.

    Returns:
        The estimate, and how the source was matched.
    """
    own, matched, polarity = match.source, match.read, match.polarity
    weight = 1.0 if match.shares is None else polarity.weight
    fused = fusion.fused(drawn, matched, weight)
    learns = student and match.shares is not None  # what is matched by a filter is the source
    taught = Student.of(own, fused, shape) if learns else None
    said = None if taught is None else taught.estimate(own, shape)

    def read(box: Box) -> Array:
        out = fused(box)
        if said is None:
            return out
        by_student = said(box)
        half = 0.5 * (out + by_student)
        return np.where(by_student > pyramid.BACKGROUND, half, out).astype(np.float32)

    def spread(box: Box) -> Array:
        own = [one(box) for one in drawings or (drawn,)]
        others = [other(box) for other in (matched if weight else None, said) if other]
        counted = [np.ones(box.size, bool)] * len(own)
        counted += [image > pyramid.BACKGROUND for image in others]
        images = np.stack([*own, *others], dtype=np.float64)
        return np.asarray(images.std(0, where=np.stack(counted)), dtype=np.float32)

    return Estimate(read, polarity, spread)


def _halved(read: Reader) -> Reader:
    def coarse(box: Box) -> Array:
        fine = read(box.scaled(2))
        hidden = pyramid.halve((fine <= HIDDEN).astype(np.float32), box.dims) > 0
        return np.where(hidden, np.float32(HIDDEN), pyramid.halve(fine, box.dims))

    return coarse
