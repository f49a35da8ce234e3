"""Divides people into training, validation and test; all images of a person are in one part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from msgan.data.cohort import Cohort
from msgan.data.manifest import Manifest
from msgan.data.people import one_person
from msgan.data.subject import Subject
from msgan.types import InputError

Split = Literal["train", "val", "test", ""]

FEW = 5
"""Fewer people than this have none to spare for validation."""


def deal(
    kinds: Mapping[str, Collection[str]],
    test: float,
    val: float,
    seed: int = 0,
    kept: Iterable[str] = (),
) -> dict[str, Split]:
    """The split of each person, by the hashes of their names.

    Those with the same kinds of images are divided among themselves, so that each kind is trained
    and tested on even where no one has two.

    Args:
        kinds: By person, the kinds of images there are.
        test: Share of the people to test on; of two or more at least one where it is not 0.
        val: Share of the people to choose the best weights on, none of few.
        seed: Of another choice; 0 is by the names alone.
        kept: Whom their data set keeps for testing; nobody else is needed for it then.

    Raises:
        InputError: The shares leave nobody to train on.
    """
    if not (0 <= test < 1 and 0 <= val < 1 and test + val < 1):
        raise InputError(
            f"shares {test:g} to test and {val:g} to validate: expected at least 0, and less than "
            "1 together"
        )
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for person, own in kinds.items():
        alike[frozenset(own)].append(person)
    splits: dict[str, Split] = dict.fromkeys(kept, "test")
    stated = bool(splits)
    for members in alike.values():
        people = [person for person in members if person not in splits]
        cohort = Cohort(tuple(Subject(person, {}) for person in people))
        count = len(people)
        tested = max(1, round(test * count)) if test and count > 1 and not stated else 0
        dealt = cohort.held_out(tested, seed)
        splits.update(dict.fromkeys(dealt.split("test").names, "test"))
        spared = max(1, round(val * count)) if val and count >= FEW else 0
        rest = dealt.split("train").held_out(spared, seed)
        splits.update({s.name: "val" if s.split == "test" else "train" for s in rest})
    return splits


def split_manifest(
    manifest: Manifest, test: float, val: float = 0.0, seed: int = 0
) -> tuple[Manifest, dict[str, str]]:
    """A manifest with the column split dealt anew, and the person of each subject.

    Ha et al. (2025, section 4) divide at random into 75 % and 25 %. Sessions, sides and visits of
    a person, as far as names tell, are in one split, in doubt as well.

    Args:
        manifest: Without patterns (:meth:`msgan.data.manifest.Manifest.expand`).
        test: See :func:`deal`, as for ``val`` and ``seed``.
        val: See above.
        seed: See above.

    Raises:
        InputError: There is no image, a row is a pattern, or the shares leave nobody to train on.
    """
    if pattern := next((row.subject for row in manifest.rows if row.is_pattern), ""):
        raise InputError(f"{manifest.name}: subject '{pattern}' is a pattern: expected names")
    person = one_person(manifest.subjects)
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        if row.role == "image":
            kinds[person[row.subject]].add(row.modality)
    if not kinds:
        raise InputError(f"{manifest.name}: no image to divide")
    splits = deal(kinds, test, val, seed)
    # A person without an image has nothing that could be in two splits.
    rows = (
        row.model_copy(update={"split": splits.get(person[row.subject], "")})
        for row in manifest.rows
    )
    return Manifest(name=manifest.name, rows=tuple(rows)), person
