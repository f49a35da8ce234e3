"""One row of a manifest: a file of one subject, or a pattern for those of many."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

WILDCARDS = "*?"


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


class Entry(BaseModel):
    """One file, or with ``*`` or ``?`` in ``subject`` a pattern for the files of many subjects.

    Attributes:
        subject: Name, or a pattern of names.
        role: ``image``, ``labels`` (pathology drawn on the sketch; integers, 0 is background),
            ``mask`` (foreground; what is outside is background) or ``region`` (where something is
            measured, as the lungs; no method sees it).
        modality: ``t1``, ``b20f``, ...; always given for an image, and as its name for a region.
        path: Below the root, with forward slashes; ``{subject}`` stands for the name and ``*``
            and ``?`` for what varies without meaning. A DICOM series is a folder.
        sha256: Of the file (of a folder: see :func:`msgan.paths.sha256`), or None.
        licence: Under which the data may be used.
        citation: What to cite.
        split: ``train``, ``val``, ``test`` or empty.
        fold: The cross-validation fold that tests on the subject, or None.
        unit: Of the values, as ``HU``; empty where they have none.
        source_url: Where to get the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    subject: str = Field(pattern=r"^[^/\\{}]+$")
    role: Literal["image", "labels", "mask", "region"]
    modality: str = Field("", pattern=r"^[a-z0-9_-]*$")
    path: str = Field(min_length=1)
    sha256: Annotated[
        Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None, BeforeValidator(_empty_is_none)
    ] = None
    licence: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    split: Literal["train", "val", "test", ""] = ""
    fold: Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_empty_is_none)] = None
    unit: str = ""
    source_url: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parts = PurePosixPath(self.path)
        if parts.is_absolute() or ".." in parts.parts or "\\" in self.path or ":" in self.path:
            raise ValueError(f"path '{self.path}' must stay below the root, with forward slashes")
        if re.search(r"[{}]", self.path.replace("{subject}", "")):
            raise ValueError(f"path '{self.path}' may contain {{subject}} and no other braces")
        if self.role in ("image", "region") and not self.modality:
            raise ValueError(f"{self.role} without a name: expected one in the column modality")
        if self.is_pattern and "{subject}" not in self.path:
            raise ValueError(f"subject pattern '{self.subject}' needs {{subject}} in the path")
        if self.is_pattern and self.sha256:
            raise ValueError("a pattern of subjects has no single sha256")
        return self

    @property
    def is_pattern(self) -> bool:
        """Whether the row stands for many subjects."""
        return any(c in self.subject for c in WILDCARDS)

    @property
    def key(self) -> tuple[str, str, str]:
        """What must be unique in a manifest."""
        return self.subject, self.role, self.modality

    def matches(self, root: str | os.PathLike[str]) -> list[tuple[str, str]]:
        """Subject and path (below the root) of each existing file the row stands for."""
        pattern = self.path.replace("{subject}", self.subject)
        wanted = re.compile(_expression(self.path, self.subject))
        found = []
        # Brackets are ordinary characters in file names, so they must not be globbed.
        for path in sorted(Path(root).glob(pattern.replace("[", "[[]"))):
            relative = path.relative_to(root).as_posix()
            match = wanted.fullmatch(relative)
            if match:
                found.append((match.groupdict().get("subject", self.subject), relative))
        return found

    @property
    def whence(self) -> str:
        """Where to get the file, in words."""
        return f"get it from {self.source_url}" if self.source_url else f"see {self.citation}"


COLUMNS = tuple(Entry.model_fields)
REQUIRED = tuple(name for name, field in Entry.model_fields.items() if field.is_required())


def _expression(path: str, subject: str) -> str:
    """The regular expression of a path; the first ``{subject}`` is captured, others repeat it."""
    first = True
    parts = []
    for piece in re.split(r"(\{subject\}|[*?])", path):
        if piece == "{subject}":
            parts.append(f"(?P<subject>{_wild(subject)})" if first else "(?P=subject)")
            first = False
        else:
            parts.append(_wild(piece))
    return "".join(parts)


def _wild(text: str) -> str:
    """Wildcards stand for characters of one name, never for a slash."""
    return re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
