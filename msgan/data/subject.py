"""The files of one person, or of one session of a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from msgan.types import InputError


def person_of(name: str) -> str:
    """Whose subject that is: of ``sub-01_ses-2`` the person ``sub-01``, else the subject itself.

    Only BIDS says so for certain; other names of visits are for :mod:`msgan.data.people`.

    Example:
        >>> person_of("sub-CC00051XX02_ses-8800"), person_of("BraTS2021_00012")
        ('sub-CC00051XX02', 'BraTS2021_00012')
    """
    match = re.match(r"(sub-[A-Za-z0-9+]+)_ses-", name)
    return match[1] if match else name


@dataclass(frozen=True)
class Subject:
    """The files of one person, or of one session of a person.

    Attributes:
        name: Unique in a cohort.
        images: Path by modality.
        labels: Pathology labels on the grid of the images, 0 is background; or None.
        mask: What of the images is foreground (as a brain mask), on their grid; or None.
        split: ``train``, ``val``, ``test`` or empty.
        fold: The cross-validation fold that tests on the subject; None: by the person's name.
        units: Unit of an image's values by modality, where the file does not tell (NIfTI).
        regions: Masks by name, on the images' grid, that results are measured in; neither
            foreground nor drawn on a sketch, so no method sees them.
    """

    name: str
    images: Mapping[str, Path]
    labels: Path | None = None
    mask: Path | None = None
    split: str = ""
    fold: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))
        object.__setattr__(self, "units", MappingProxyType(dict(self.units)))
        object.__setattr__(self, "regions", MappingProxyType(dict(self.regions)))

    def image(self, modality: str | None = None) -> tuple[str, Path]:
        """Modality and path of an image; None takes the only one there is.

        Raises:
            InputError: There is no such image, or the choice is open.
        """
        has = ", ".join(self.images) or "none"
        if modality is None and len(self.images) == 1:
            modality = next(iter(self.images))
        if modality is None:
            raise InputError(f"{self.name}: which of the images {has} is wanted?")
        if modality not in self.images:
            raise InputError(f"{self.name}: no {modality} image; there are {has}")
        return modality, self.images[modality]
