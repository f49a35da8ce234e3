"""Distances between domains: between sets of images, which need not be paired.

What the 2019 paper measures its low-dose experiment with (section 3.2): features of each image
are taken patch by patch, and the Fréchet distance is that of all patches of one domain to all of
another. Only statistics of the features are kept, so images may be of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from msgan.config import Preparation
from msgan.data.cohort import Subject, prepare
from msgan.metrics.frechet import Estimate, Group, Moments, Stream, frechet_distance, jackknife
from msgan.networks.features import Extractor
from msgan.types import Array, Box, InputError, Shape

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sampling:
    """Where features are taken.

    Attributes:
        stride: Voxels from one patch to the next along each axis, and from slice to slice; None:
            half the side of a patch, and every slice.
        share: Least share of a patch's voxels that lies in the region, above 0.
        region: Name of the region, as ``lung``; None, or a subject without it: the foreground by
            the preparation's threshold.

    Raises:
        InputError: A number out of its range.
    """

    stride: int | None = None
    share: float = 0.25
    region: str | None = None

    def __post_init__(self) -> None:
        if (self.stride is not None and self.stride < 1) or not 0 < self.share <= 1:
            raise InputError(
                f"stride {self.stride}, share {self.share}: expected at least 1, and above 0 to 1"
            )

    def patches(self, shape: Shape, dims: int, side: int | None) -> Iterator[Box]:
        """Boxes of one size, wholly inside an image.

        A 2D extractor sees a volume in slices across its last axis, of one voxel each.

        Args:
            shape: Of the image, 2 or 3 axes.
            dims: Of the extractor.
            side: Of a patch; None takes whole slices.

        Raises:
            InputError: The extractor has more axes than the image, or a patch is larger.
        """
        if dims > len(shape):
            raise InputError(f"image of shape {shape}: a {dims}D extractor needs {dims} axes")
        size = tuple(side or n for n in shape[:dims]) + (1,) * (len(shape) - dims)
        if any(n > m for n, m in zip(size, shape, strict=True)):
            raise InputError(f"image of shape {shape}: smaller than a patch of side {side}")
        step = tuple(self.stride or max(1, n // 2) for n in size)
        starts = Box.whole(tuple(m - n + 1 for n, m in zip(size, shape, strict=True)))
        return (Box(box.start, size) for box in starts.tiles(step))


def image_moments(
    subject: Subject,
    modality: str,
    preparation: Preparation,
    extract: Extractor,
    *,
    sampling: Sampling | None = None,
    batch: int = 32,
    device: str | torch.device = "cpu",
) -> Moments:
    """Statistics of the features of one image, as the cascade sees it.

    On the working grid, that is with canonical axes and the spacing of the preparation, so that a
    patch covers as many millimetres of every image.

    Args:
        subject: Has the image.
        modality: Which of its images.
        preparation: Of a run; intensities are comparable where it states a window.
        extract: On ``device``.
        sampling: Where features are taken.
        batch: Patches at once.
        device: Of the extractor.

    Raises:
        InputError: A file is at fault, does not fit the extractor, or has fewer than two patches
            in the region.
    """
    chosen = sampling or Sampling()
    stream = Stream()
    path = subject.image(modality)[1]
    inside = subject.regions.get(chosen.region) if chosen.region is not None else None
    # Labels are what is brought to the working grid beside an image, and a region is such a map.
    with prepare(replace(subject, labels=inside), modality, preparation) as ready:
        tissue = float(ready.intensity.to_unit(np.array(preparation.foreground)))

        def counts(box: Box, part: Array) -> float:
            region = ready.read_labels(box)
            return float((part > tissue if region is None else region != 0).mean())

        try:
            boxes = chosen.patches(ready.grid.shape, extract.dims, extract.side)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        kept = ((box, part) for box in boxes for part in [ready.read(box)])
        used = (part for box, part in kept if counts(box, part) >= chosen.share)
        while few := list(islice(used, batch)):
            patches = np.stack(few)
            # Axes of one voxel are those a 2D extractor does not see.
            seen = patches.reshape(len(patches), 1, *patches.shape[1 : 1 + extract.dims])
            with torch.inference_mode():
                found = extract(torch.from_numpy(seen).to(device))
            stream.add(found.double().cpu().numpy())
    moments = stream.moments()
    if moments is None or moments.count < 2:
        count = moments.count if moments else 0
        raise InputError(f"{path}: {count} patches in the region: expected at least 2")
    return moments


def domain_moments(
    subjects: Iterable[Subject],
    modality: str,
    preparation: Preparation,
    extract: Extractor,
    *,
    sampling: Sampling | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Moments]:
    """:func:`image_moments` of every subject that has the modality, by name.

    Raises:
        InputError: Nobody has it, or see there.
    """
    found = {
        s.name: image_moments(s, modality, preparation, extract, sampling=sampling, device=device)
        for s in subjects
        if modality in s.images
    }
    if not found:
        raise InputError(f"no subject has a {modality} image")
    return found


def distance_table(
    domains: Mapping[str, Group],
    pairs: Sequence[tuple[str, str]],
    *,
    printed: Mapping[tuple[str, str], float] = MappingProxyType({}),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Fréchet distances of domains, with intervals over subjects.

    A domain beside itself is cut into two halves of its subjects: how far apart two samples of one
    domain are, NaN for a single subject. It is no zero for the other rows, because half as many
    subjects look farther apart.

    Args:
        domains: Name to subjects' moments, all of one extractor.
        pairs: Rows.
        printed: Numbers of a paper to show beside them, by pair.
        confidence: Of the intervals.

    Returns:
        A row for each pair (index ``domains``): ``distance`` with ``low`` and ``high``, standard
        ``error``, estimated ``bias`` (both by :func:`msgan.metrics.frechet.jackknife`),
        ``subjects`` and ``patches`` of either side as text, and ``printed``, or NaN.

    Raises:
        InputError: An unknown domain.
    """
    import pandas as pd

    rows = []
    for a, b in pairs:
        for name in (a, b):
            if name not in domains:
                raise InputError(f"domain {name!r} is none of {', '.join(domains)}")
        sides = (domains[a], domains[b]) if a != b else _halves(domains[a])
        found = Estimate(*(float("nan"),) * 5)
        if all(sides):
            found = jackknife(frechet_distance, *sides, confidence=confidence)
        counts = [sum(m.count for m in side.values()) for side in sides]
        rows.append(
            {
                "domains": f"{a} / {b}" if a != b else f"{a} / {a}, halves",
                "distance": found.value,
                "low": found.low,
                "high": found.high,
                "error": found.error,
                "bias": found.bias,
                "subjects": " / ".join(str(len(side)) for side in sides),
                "patches": " / ".join(map(str, counts)),
                "printed": printed.get((a, b), float("nan")),
            }
        )
    return pd.DataFrame(rows).set_index("domains")


def gain(a: Group, b: Group, target: Group, *, confidence: float = 0.95) -> Estimate:
    """How much nearer ``b`` is to ``target`` than ``a`` is; above 0 if it is nearer.

    Distances share subjects and patches, so that intervals of two of them may overlap where that
    of their difference is clear of zero.
    """

    def nearer(x: Moments, y: Moments, z: Moments) -> float:
        return frechet_distance(x, z) - frechet_distance(y, z)

    return jackknife(nearer, a, b, target, confidence=confidence)


def _halves(group: Group) -> tuple[Group, Group]:
    names = sorted(group)
    halves = [{n: group[n] for n in names[k::2]} for k in (0, 1)]
    return halves[0], halves[1]
