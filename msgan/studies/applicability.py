"""Synthetic-to-real applicability: of what use are translated images (Ha et al. 2025, 3.4, 4.4)?

A network learns to segment a structure in synthetic images with the labels of the people they are
of, and is tested on real images of other people. Beside it stand one trained on real images of the
target, the paper's upper bound, and one trained on images of the source, which is what there is
without a translation.

The people are those of the paper's 75/25 split: synthetic images are made of the training people,
whose pairs the translator has learnt from as well, and nobody has seen the test people.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.volume import open_labels, open_volume
from msgan.metrics import dice_of
from msgan.studies.segmenter import (
    SegmenterConfig,
    Structure,
    TrainedSegmenter,
    belongs,
    train_segmenter,
)
from msgan.studies.table import Method, range_of, result_path
from msgan.types import Array, Box, InputError

if TYPE_CHECKING:
    import pandas as pd

REAL, SOURCE = "real images", "source images"
"""Rows of the bounds: trained on real images of the target, and on images of the source."""

WHOLE_TUMOUR = "whole tumour"
"""All labels but 0, as Ha et al. segment BraTS 2021."""

Images = Mapping[str, Path]
"""Synthetic images of the target by the name of the person."""


def applicability(
    methods: Mapping[str, Method],
    cohort: Cohort,
    source: str,
    target: str,
    preparation: Preparation,
    config: SegmenterConfig,
    folder: str | os.PathLike[str],
    **options: Any,
) -> pd.DataFrame:
    """Translate the training people by every method, and ask of what use the results are.

    Args:
        methods: By the name of their row, trained on the training people of ``cohort``.
        cohort: Split ``train`` and ``val``, to train on, and ``test``; with labels.
        source: Modality that is translated.
        target: Modality that is segmented.
        preparation: How files become images in [-1, 1].
        config: Of the segmentation networks.
        folder: Synthetic images go to ``FOLDER/METHOD/SUBJECT.nii``.
        options: See :func:`applicability_table`, as for the result.

    Raises:
        InputError: See :func:`applicability_table`.
    """
    people = training_people(cohort, source, target)
    synthetic = {
        name: synthetic_images(method, name, people, source, folder)
        for name, method in methods.items()
    }
    return applicability_table(synthetic, cohort, source, target, preparation, config, **options)


def synthetic_images(
    method: Method,
    name: str,
    people: Iterable[Subject],
    source: str,
    folder: str | os.PathLike[str],
) -> Images:
    """Translate the source images of people.

    Args:
        method: Translates.
        name: Of its row.
        people: With a ``source`` image.
        source: Modality that is translated.
        folder: See :func:`msgan.studies.table.result_path`.

    Raises:
        InputError: A file is at fault.
    """
    images = {}
    for person in people:
        images[person.name] = result_path(folder, name, person.name)
        method.translate(person, images[person.name], modality=source)
    return images


def training_people(cohort: Cohort, source: str, target: str) -> list[Subject]:
    """Those of split ``train`` or ``val`` with both images and labels.

    Raises:
        InputError: There is nobody.
    """
    return _with_labels(cohort, source, target, ("train", "val"))


def applicability_table(
    synthetic: Mapping[str, Images],
    cohort: Cohort,
    source: str,
    target: str,
    preparation: Preparation,
    config: SegmenterConfig,
    *,
    labels: Structure = None,
    region: str = WHOLE_TUMOUR,
    device: str = "auto",
    report: Callable[[str], Any] | None = None,
) -> pd.DataFrame:
    """Train a network for every row on the same people, and test it on real images of others.

    All networks have one configuration, seed and patches; only the images differ.

    Args:
        synthetic: Of every row the synthetic images, on the grid of the people's labels.
        cohort: Split ``train`` and ``val``, to train on, and ``test``; with labels.
        source: Modality of the images of the lower bound.
        target: Modality that is segmented.
        preparation: How files become images in [-1, 1]. A synthetic image is treated like a real
            one: by its own range, inside the person's mask where there is one.
        config: Of the networks.
        labels: What belongs to the structure; None: all but 0.
        region: Name of the structure.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: Called with a line now and then.

    Returns:
        A line each row and test person: ``task`` (as ``t2→flair``), ``method``, ``subject``,
        ``dice``, ``trained`` (people), and how it was measured: ``region``, ``dims``, ``range``.
        :func:`msgan.studies.crossval.summary` and :func:`msgan.studies.crossval.significance` take
        it (``columns`` and ``metrics`` are ``("dice",)``).

    Raises:
        InputError: There is nobody to train or test on, a person has no synthetic image, a row has
            the name of a bound, MONAI is not installed, or a file is at fault.
    """
    import pandas as pd

    for name in synthetic:
        if name in (REAL, SOURCE):
            raise InputError(f"method {name!r}: that is the name of a bound")
    people = training_people(cohort, source, target)
    tested = _with_labels(cohort, source, target, ("test",))
    images = {
        REAL: {person.name: person.images[target] for person in people},
        **synthetic,
        SOURCE: {person.name: person.images[source] for person in people},
    }
    for name, own in images.items():
        if missing := [person.name for person in people if person.name not in own]:
            raise InputError(f"{name}: no synthetic image of {missing[0]}")
    lines = []
    for name, own in images.items():
        if report:
            report(f"segmenter trained on {name}: {len(people)} people")
        segmenter = train_segmenter(
            [replace(person, images={target: own[person.name]}) for person in people],
            target,
            preparation,
            config,
            labels=labels,
            name=region,
            device=device,
            report=report,
        )
        for person in tested:
            lines.append(
                {
                    "task": f"{source}→{target}",
                    "method": name,
                    "subject": person.name,
                    "dice": structure_dice(segmenter, person, target, labels),
                    "trained": len(people),
                    "region": region,
                    "dims": f"{segmenter.dims}D",
                    "range": range_of(preparation, person.units.get(target, "")),
                }
            )
    return pd.DataFrame(lines)


def structure_dice(
    segmenter: TrainedSegmenter, person: Subject, modality: str, labels: Structure = None
) -> float:
    """Dice of a person's labels and what a network finds in an image, on the grid of the file.

    Args:
        segmenter: Of :func:`msgan.studies.segmenter.train_segmenter`.
        person: With that image and labels.
        modality: Of the image.
        labels: What belongs to the structure.

    Raises:
        InputError: There are no labels, or a file is at fault.
    """
    if person.labels is None:
        raise InputError(f"{person.name}: no labels to compare with")
    with ExitStack() as stack:
        image = stack.enter_context(open_volume(person.image(modality)[1], check=False))
        drawn = stack.enter_context(open_labels(person.labels, like=image.grid))
        found = segmenter.segment(person, stack, modality)

        def real(box: Box) -> Array:
            return belongs(drawn.read(box), labels)

        return dice_of(found, real, image.grid.shape, segmenter.structures)[segmenter.name]


def _with_labels(
    cohort: Cohort, source: str, target: str, splits: tuple[str, ...]
) -> list[Subject]:
    people = [
        person
        for person in cohort.with_modality(source, target)
        if person.split in splits and person.labels is not None
    ]
    if not people:
        raise InputError(
            f"nobody of split {' or '.join(splits)} has a {source} and a {target} image and labels"
        )
    return people
