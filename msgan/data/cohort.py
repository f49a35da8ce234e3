"""The subjects of a study, and which of them are used for training and for testing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from msgan.data.manifest import Manifest, read_manifest
from msgan.data.prepared import Prepared, prepare, resolve_scales
from msgan.data.subject import Subject, person_of
from msgan.types import InputError

__all__ = ["Cohort", "Prepared", "Subject", "fold_of", "person_of", "prepare", "resolve_scales"]


def fold_of(name: str, folds: int) -> int:
    """The fold a subject belongs to by its name alone.

    It is the same in every cohort, order and machine, so that no subject is trained on in one
    place and tested on in another.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % folds


def by_hash(names: Iterable[str], seed: int = 0) -> list[str]:
    """Each name once, in an order that depends on nothing but the names and the seed."""
    start = f"{seed}:" if seed else ""
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{start}{name}".encode()).digest())


@dataclass(frozen=True)
class Cohort:
    """The subjects of a study, each once.

    Example:
        >>> from pathlib import Path
        >>> people = [Subject(f"p{k}", {"t2": Path(f"p{k}.nii")}) for k in range(3)]
        >>> cohort = Cohort(tuple(people)).held_out(1)
        >>> len(cohort.split("train")), len(cohort.split("test"))
        (2, 1)
        >>> cohort["p1"].image("t2")
        ('t2', PosixPath('p1.nii'))
        >>> len(cohort.with_modality("t1", "t2"))
        0
    """

    subjects: tuple[Subject, ...]

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise InputError(f"subject '{twice}' is in the cohort twice")

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the subjects, in order."""
        return tuple(subject.name for subject in self.subjects)

    def __getitem__(self, name: str) -> Subject:
        """The subject of that name."""
        for subject in self.subjects:
            if subject.name == name:
                return subject
        raise InputError(f"no subject '{name}'; there are {', '.join(self.names) or 'none'}")

    @classmethod
    def from_manifest(
        cls, manifest: Manifest | str | os.PathLike[str], root: str | os.PathLike[str]
    ) -> Cohort:
        """The subjects a manifest names or its patterns find below ``root``.

        Raises:
            InputError: The manifest is at fault, no subject is found, a subject has several
                label files or masks, or its rows disagree on split or fold.
        """
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(manifest)
        found: dict[str, Subject] = {}
        for row in manifest.expand(root).rows:
            new = Subject(row.subject, {}, split=row.split, fold=row.fold)
            old = found.get(row.subject, new)
            path = Path(root) / row.path
            if (row.split, row.fold) != (old.split, old.fold):
                raise InputError(f"{manifest.name}: rows of {row.subject} differ in split or fold")
            if row.role == "image":
                units = {**old.units, row.modality: row.unit} if row.unit else old.units
                new = replace(old, images={**old.images, row.modality: path}, units=units)
            elif row.role == "region":
                new = replace(old, regions={**old.regions, row.modality: path})
            elif getattr(old, row.role) is not None:
                raise InputError(f"{manifest.name}: {row.subject} has several files of {row.role}")
            elif row.role == "labels":
                new = replace(old, labels=path)
            else:
                new = replace(old, mask=path)
            found[row.subject] = new
        subjects = tuple(subject for subject in found.values() if subject.images)
        if not subjects:
            whence = manifest.rows[0].whence
            raise InputError(f"{manifest.name}: no image found below {root}; {whence}")
        return cls(subjects)

    def split(self, name: Literal["train", "val", "test", ""]) -> Cohort:
        """The subjects of one split."""
        return Cohort(tuple(s for s in self.subjects if s.split == name))

    def with_modality(self, *modalities: str) -> Cohort:
        """The subjects that have all of ``modalities``."""
        return Cohort(tuple(s for s in self.subjects if all(m in s.images for m in modalities)))

    def with_folds(self, folds: int) -> Cohort:
        """The same subjects with folds of equal size (+-1 person) written down in each.

        By name alone the folds of a small cohort differ much in size or are empty. The order of
        dealing is that of the names' hashes, so it does not depend on the order of subjects.
        Sessions of one person are in one fold.
        """
        people = by_hash(person_of(name) for name in self.names)
        fold = {person: i % folds for i, person in enumerate(people)}
        return Cohort(tuple(replace(s, fold=fold[person_of(s.name)]) for s in self.subjects))

    def held_out(self, test: int, seed: int = 0) -> Cohort:
        """The same subjects, ``test`` of them to test and the others to train on.

        Who is tested is decided by the names' hashes, so it does not depend on the order.
        Sessions of one person stay together: then a few more may be tested.

        Args:
            test: How many are tested.
            seed: Of another choice.

        Raises:
            InputError: There are not so many.
        """
        if not 0 <= test <= len(self):
            raise InputError(f"{test} of {len(self)} subjects held out: expected 0 to {len(self)}")
        own: dict[str, list[str]] = {}
        for name in self.names:
            own.setdefault(person_of(name), []).append(name)
        chosen: set[str] = set()
        for person in by_hash(own, seed):
            if len(chosen) >= test:
                break
            chosen.update(own[person])
        return Cohort(
            tuple(replace(s, split="test" if s.name in chosen else "train") for s in self.subjects)
        )

    def folds(self, folds: int) -> list[tuple[Cohort, Cohort]]:
        """(train, test) of each fold of a cross-validation.

        A subject is tested in its own ``fold`` where it states one, else in that of its person's
        name.

        Raises:
            InputError: A stated fold is not below ``folds``, or a fold has nobody to test or
                train on.
        """
        own = [
            fold_of(person_of(s.name), folds) if s.fold is None else s.fold for s in self.subjects
        ]
        for subject, fold in zip(self.subjects, own, strict=True):
            if fold >= folds:
                raise InputError(f"{subject.name}: fold {fold} is not below {folds}")
        result = []
        for k in range(folds):
            test = tuple(s for s, f in zip(self.subjects, own, strict=True) if f == k)
            train = tuple(s for s, f in zip(self.subjects, own, strict=True) if f != k)
            if not test or not train:
                raise InputError(
                    f"fold {k} of {folds} has {len(train)} to train and {len(test)} to test on: "
                    f"state folds in the manifest or deal them evenly"
                )
            result.append((Cohort(train), Cohort(test)))
        return result
