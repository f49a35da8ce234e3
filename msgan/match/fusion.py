"""Two estimates of one image that fail differently: which way round one is, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from msgan.pyramid import BACKGROUND
from msgan.types import Array, Box, Reader, Shape

CONFIDENT = 0.15
"""Two ways round whose agreements differ by less cannot be told apart: the match is not used."""

AGREED = (0.15, 0.40)
"""Agreements between which the weight of the match rises from 0 to the most."""

MOST = {"modalities": 0.5, "user": 0.5, "images": 0.25, "unit": 1.0}
"""The most that a match weighs, by who states its polarity: modalities of which that is not known
seldom have a curve that leads from one to the other."""

TRUSTED = 0.9
"""The most that a match weighs where both errors are known."""

BLOCK = {2: 1024, 3: 64}
"""Side of what is read at once, by dimensions; bounds memory, changes nothing else."""

KNOWN = {
    frozenset(("t1", "t2")): True,
    frozenset(("t1", "flair")): False,
    frozenset(("t1", "ct")): True,
}
"""Pairs of modalities whose intensities are known to run against each other, or with each other.

Of T1 and CT: fat is the brightest tissue of the one and the darkest of the other, dense bone the
reverse.
"""


@dataclass(frozen=True)
class Moments:
    """Sums over voxels, of which a correlation is made; sums of several images can be added.

    Attributes:
        sums: Of 1, x, y, x^2, y^2 and xy.
    """

    sums: tuple[float, ...] = (0.0,) * 6

    @classmethod
    def of(cls, x: Reader, y: Reader, shape: Shape, labels: Reader | None = None) -> Moments:
        """Of two images in [-1, 1] where both are foreground and nothing is labelled."""
        total = np.zeros(6)
        for box in blocks(shape):
            a, b = (np.asarray(read(box), dtype=np.float64) for read in (x, y))
            inside = (a > BACKGROUND) & (b > BACKGROUND)
            if labels is not None:
                inside &= labels(box) == 0
            a, b = a[inside], b[inside]
            total += [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]
        return cls(tuple(map(float, total)))

    def __add__(self, other: Moments) -> Moments:
        return Moments(tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)))

    @property
    def correlation(self) -> float:
        """Of Pearson; 0 where an image is constant."""
        n, x, y, xx, yy, xy = self.sums
        if not n:
            return 0.0
        spread = (xx / n - (x / n) ** 2) * (yy / n - (y / n) ** 2)
        return (xy / n - x * y / n**2) / spread**0.5 if spread > 1e-12 else 0.0

    @property
    def gap(self) -> float:
        """Mean squared difference of both images; 0 of none."""
        n, _, _, xx, yy, xy = self.sums
        return max(xx + yy - 2 * xy, 0.0) / n if n else 0.0


@dataclass(frozen=True)
class Polarity:
    """Whether what is dark in a source modality is bright in the target.

    Attributes:
        inverted: It is. None: not known, and the source is not matched.
        agreement: Correlation of the matched source with what s0 draws of the sketch, that way
            round; None where it draws nothing.
        margin: By how much it is above that of the other way round: the confidence.
        stated: By whom: ``images``, by agreement; ``modalities``, a known pair; ``user``;
            ``unit``, as both are in HU.
        trusted: Weight that follows from the errors of both estimates, as far as they are known.
    """

    inverted: bool | None
    agreement: float | None
    margin: float
    stated: str
    trusted: float = 0.0

    @property
    def weight(self) -> float:
        """Of the matched source beside what s0 draws, at most what :data:`MOST` says or is trusted.

        Of a known pair of modalities it does not depend on the agreement, which is low where the
        drawing is weak, and there the match is needed most.
        """
        if self.inverted is None:
            return 0.0
        if self.agreement is None:
            return MOST[self.stated]
        low, high = AGREED
        share = min(max((self.agreement - low) / (high - low), 0.0), 1.0)
        if self.stated in ("modalities", "unit"):
            share = 1.0
        return max(MOST[self.stated] * share, self.trusted) if share else 0.0

    def __str__(self) -> str:
        if self.agreement is None:
            return "match: spectrum"
        agreement = f"agreement {self.agreement:.2f}"
        if self.stated == "unit":
            return f"match: spectrum ({agreement})"
        measured = f"{agreement}, margin {self.margin:.2f}"
        if self.inverted is None:
            return (
                f"match: histogram, not used: it is not clear whether what is dark in the source "
                f"is bright in the target ({measured}): say what the source shows (--modality), or "
                "--polarity same or --polarity inverted"
            )
        way = "inverted" if self.inverted else "same"
        used = f"match: histogram, polarity {way} (by {self.stated}; {measured}, weight "
        used += f"{self.weight:.2f})"
        return used if self.weight else f"{used}: not used, it disagrees with what s0 draws"


def polarity(
    straight: Iterable[Moments],
    inverted: Iterable[Moments],
    *,
    stated: bool | None = None,
    by: str = "user",
    modalities: tuple[str | None, str] | None = None,
    error: float | None = None,
) -> Polarity:
    """Decide which way round a source is matched, from one image of its modality or several.

    What the user says is taken, then what is known of a pair of modalities. Else the agreement of
    the matched images with what s0 draws of their sketches decides, pooled over images, if it is
    clear: a weak drawing is pulled by tumours, and a small margin is no evidence.

    Args:
        straight: Of each image, matched as it is, with what s0 draws.
        inverted: Of each image matched with ranks turned round, likewise.
        stated: What is known of it; it is taken.
        by: Who states that; see :class:`Polarity`.
        modalities: Names of source, if known, and target.
        error: Mean squared error of what s0 draws of training people; None: not known. Two
            estimates whose errors are independent differ by the sum of both, so that theirs is the
            share of the drawing's error in it that makes the mean best. Of people it has not seen
            the drawing's error is larger, so the share is one that a match at least deserves.
    """
    sums = {False: sum(straight, Moments()), True: sum(inverted, Moments())}
    found = {way: each.correlation for way, each in sums.items()}
    as_is, turned = found[False], found[True]

    def chosen(way: bool, by: str) -> Polarity:
        gap = sums[way].gap
        trusted = min(error / gap, TRUSTED) if error and gap else 0.0
        return Polarity(way, found[way], found[way] - found[not way], by, trusted)

    if stated is not None:
        return chosen(stated, by)
    source, target = modalities or (None, "")
    known = KNOWN.get(frozenset(((source or "").lower(), target.lower())))
    if known is not None:
        return chosen(known, "modalities")
    way = turned > as_is
    if abs(as_is - turned) >= CONFIDENT:
        return chosen(way, "images")
    return Polarity(None, found[way], abs(as_is - turned), "images")


def mean(drawings: Sequence[Reader]) -> Reader:
    """The mean of images in [-1, 1]; the image itself if there is one."""
    if len(drawings) == 1:
        return drawings[0]

    def read(box: Box) -> Array:
        total = sum(np.asarray(drawn(box), dtype=np.float64) for drawn in drawings)
        return np.asarray(total / len(drawings), dtype=np.float32)

    return read


def fused(drawn: Reader, matched: Reader, weight: float) -> Reader:
    """The weighted mean of two estimates; what is drawn alone where the other is not.

    Where labels hide the source it is not matched: inside a label nothing of it may pass, or it
    could neither be inserted nor replaced.

    Args:
        drawn: From the sketch, in [-1, 1], any box.
        matched: From the source's values, likewise; below -1 where it is hidden.
        weight: Of ``matched``.
    """

    def read(box: Box) -> Array:
        first, second = drawn(box), matched(box)
        share = np.where(second > BACKGROUND, np.float32(weight), np.float32(0))
        return np.asarray(first + share * (second - first), dtype=np.float32)

    return read


def in_parts(read: Reader, dims: int, factor: int) -> Reader:
    """A reader of which no more is asked at once than bounds memory.

    Args:
        read: A box of a coarse grid.
        dims: Of it.
        factor: Voxels of the fine grid, which it reads, along each axis of one of its own.
    """
    side = max(1, BLOCK[dims] // factor)

    def whole(box: Box) -> Array:
        parts = list(box.tiles((side,) * dims))
        if len(parts) == 1:
            return read(box)
        out: Array | None = None
        for part in parts:
            values = read(part)
            if out is None:
                out = np.empty(box.size, values.dtype)
            out[part.inside(box).slices] = values
        assert out is not None
        return out

    return whole


def blocks(shape: Shape) -> Iterator[Box]:
    """Boxes that cover an image, of a size that is read at once."""
    return Box.whole(shape).tiles((BLOCK[len(shape)],) * len(shape))
