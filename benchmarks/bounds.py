"""How well the T2 of a patient at 2 mm follows from his own T1 or FLAIR: what bounds a cascade.

At s0 a guided cascade knows the source, and a student turns what the source shows around a voxel
into intensities of T2. Here the same kind of regression is fitted to the real T2 of the very
patient that is tested, from more and more of the source: no method without pairs can be expected to
do better from the same features. None of these rows is a method.

    python benchmarks/bounds.py

Patient 26 of real_brain.py, prepared as there, reduced to 2 mm; gradient boosting as that of
msgan.match.student, fitted to 60,000 voxels. Scores as those of the scales in real_brain.py: 3D,
inside the brain. Beside them, what needs no truth: the source matched to the T2 of patient 19. And
the mean of T2 by its depth in the brain, in both patients: what is known of an image that is not
yet seen.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from real_brain import SOURCES, STUDIES, TARGET, cohort_of, config, cut, scored
from records import about, options, parsed, record
from scipy.ndimage import distance_transform_edt
from sklearn.ensemble import HistGradientBoostingRegressor

from msgan import pyramid
from msgan.data.cohort import prepare
from msgan.match import histogram
from msgan.match.student import ROUNDS, SAMPLES, features
from msgan.methods.baselines import Profile
from msgan.types import Array, Box

NAME = "bounds"
INVERTED = {"t1": True, "flair": False}
"""Which way round the source is matched."""

DEPTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Voxels of 2 mm from the background."""


def halved(image: Array) -> Array:
    """Means of blocks of 2^3 voxels."""
    return pyramid.halved(partial(cut, image), 3)(Box.whole(tuple(n // 2 for n in image.shape)))


def place(inside: Array) -> Array:
    """(*shape, 3) where a voxel lies in the box of the foreground; left and right are the same."""
    ends = [(v.min(), v.max()) for v in inside.nonzero()]
    axes = np.indices(inside.shape).astype(np.float32)
    shares = [(axis - low) / (high - low) for axis, (low, high) in zip(axes, ends, strict=True)]
    return np.stack([abs(shares[0] - 0.5), *shares[1:]], axis=-1)


def fitted(seen: Array, wanted: Array, inside: Array) -> Array:
    """What a regression says that was fitted to the truth itself.

    Args:
        seen: (*shape, features).
        wanted: (*shape) the truth, in [-1, 1].
        inside: (*shape) where there is something to say.
    """
    x, y = seen[inside], wanted[inside]
    chosen = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
    model = HistGradientBoostingRegressor(
        max_iter=ROUNDS, min_samples_leaf=200, early_stopping=False, random_state=0
    )
    out = np.full(inside.shape, pyramid.BACKGROUND, np.float32)
    out[inside] = np.clip(model.fit(x[chosen], y[chosen]).predict(x), -1, 1)
    return out


def by_depth(image: Array) -> dict[str, float]:
    """Mean of an image in [-1, 1] by depth, as a share of its range."""
    depth = distance_transform_edt(image > pyramid.BACKGROUND)
    ends = (*DEPTHS[1:], np.inf)
    where = [(depth >= low) & (depth < high) for low, high in zip(DEPTHS, ends, strict=True)]
    return {
        f"from {low:g}": float(image[mask].mean() + 1) / 2
        for low, mask in zip(DEPTHS, where, strict=True)
    }


def main() -> None:
    """Fit, score, record; see the module's docstring."""
    given = parsed(options(NAME, __doc__, ()), NAME)
    study = STUDIES["ms"]
    (trained,), (tested,) = study.train, study.test
    cohort, prep = cohort_of(study, given.data), config(study).preparation
    quantiles = Profile.of(cohort, TARGET, prep).quantiles
    tables, depths = {}, {}
    with prepare(cohort[trained], TARGET, prep) as own:
        depths[trained] = by_depth(halved(own.read(Box.whole(own.grid.shape))))
    for source in SOURCES:
        with (
            prepare(cohort[tested], source, prep) as own,
            prepare(cohort[tested].images[TARGET], TARGET, prep, grid=own.grid) as real,
        ):
            whole = Box.whole(own.grid.shape)
            shares = histogram.cumulative(own.read, own.grid.shape)
            matched = histogram.matched(own.read, shares, quantiles, inverted=INVERTED[source])
            x, y, plain = halved(own.read(whole)), halved(real.read(whole)), halved(matched(whole))
        inside = x > pyramid.BACKGROUND
        seen = features(partial(cut, x), x.shape, Box.whole(x.shape))
        rows = {
            "matched, no truth": plain,
            "the value": fitted(seen[..., :1], y, inside),
            "value and depth": fitted(seen[..., :2], y, inside),
            "what the student sees": fitted(seen, y, inside),
            "and the place": fitted(np.concatenate([seen, place(inside)], axis=-1), y, inside),
        }
        truth, brain = (y + 1) / 2, y > pyramid.BACKGROUND
        tables[f"{source} at 2 mm, inside the brain"] = {
            name: scored((np.clip(row, -1, 1) + 1) / 2, truth, {"brain": brain})["brain"]
            for name, row in rows.items()
        }
        depths[tested] = by_depth(y)
    record(
        given.json,
        {
            "task": f"T2 of {tested} at 2 mm from his T1 or FLAIR, 3D, n = 1; fitted to the truth",
            "data": "open MS data (Lesjak et al. 2017, CC BY)",
            "range": "P99.5 of the T2 of each patient shown as [0, 1]",
            "mask": "inside the brain: where the real T2 is above 0",
            **tables,
            "mean of t2 by depth in voxels of 2 mm": depths,
            **about(),
        },
    )


if __name__ == "__main__":
    main()
