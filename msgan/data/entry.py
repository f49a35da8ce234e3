"""One row of a manifest: a file of one subject, or a pattern for those of many."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from msgan.documents import shown

WILDCARDS = "*?"

MOST_STARS = 16
"""In a pattern; those of published data sets have up to four."""
LONGEST = 1000
"""Characters of a name or a path; file systems take 255 and 4096 bytes."""


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

    subject: str = Field(min_length=1)
    role: Literal["image", "labels", "mask", "region"]
    modality: str = ""
    path: str = Field(min_length=1)
    sha256: Annotated[str | None, BeforeValidator(_empty_is_none)] = None
    licence: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    split: Literal["train", "val", "test", ""] = ""
    fold: Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_empty_is_none)] = None
    unit: str = ""
    source_url: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("subject", "path", "modality", "unit"):
            value = getattr(self, name)
            if len(value) > LONGEST or not value.isprintable():
                raise ValueError(
                    f"column '{name}', value '{shown(value)}': expected at most {LONGEST} "
                    "printable characters"
                )
        self._plain_names()
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

    def _plain_names(self) -> None:
        """Refuse names that lead to another folder, and patterns that cannot be matched soon."""
        if re.search(r"[/\\{}]", self.subject) or self.subject.strip(".") == "":
            raise ValueError(
                f"column 'subject', value '{self.subject}': expected a name without / \\ {{ }}, "
                "other than dots"
            )
        if not re.fullmatch(r"[a-z0-9_-]*", self.modality):
            raise ValueError(
                f"column 'modality', value '{self.modality}': expected only small letters, "
                "digits, _ and -"
            )
        if self.sha256 and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"column 'sha256', value '{shown(self.sha256)}': expected 64 of 0-9 and a-f"
            )
        for name in ("subject", "path"):
            text = getattr(self, name)
            if "**" in text:
                raise ValueError(
                    f"column '{name}', value '{text}': has **, expected * for characters "
                    "of one name"
                )
            if text.count("*") > MOST_STARS:
                raise ValueError(
                    f"column '{name}', value '{shown(text)}': expected at most {MOST_STARS} *"
                )

    @property
    def is_pattern(self) -> bool:
        """Whether the row stands for many subjects."""
        return any(c in self.subject for c in WILDCARDS)

    @property
    def key(self) -> tuple[str, str, str]:
        """What must be unique in a manifest."""
        return self.subject, self.role, self.modality

    def matches(self, root: str | os.PathLike[str]) -> list[tuple[str, str]]:
        """Subject and path (below the root) of each existing file the row stands for.

        Names that no manifest can hold are none (:meth:`unreadable`).
        """
        found = []
        for relative, subject in self._fitting(root):
            if _is_text(relative):
                found.append((subject, relative))
        return found

    def unreadable(self, root: str | os.PathLike[str]) -> list[str]:
        """Names that fit and are not UTF-8, or have line breaks; those as ``\\xff``, ``\\n``."""
        odd = (relative for relative, _ in self._fitting(root) if not _is_text(relative))
        return [shown(os.fsencode(relative).decode(errors="backslashreplace")) for relative in odd]

    def _fitting(self, root: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
        """Path and subject of each existing file that fits."""
        pattern = re.sub(r"\*+", "*", self.path.replace("{subject}", self.subject))
        wanted = re.compile(_expression(self.path, self.subject))
        # Brackets are ordinary characters in file names, so they must not be globbed.
        for path in sorted(Path(root).glob(pattern.replace("[", "[[]"))):
            relative = path.relative_to(root).as_posix()
            if match := wanted.fullmatch(relative):
                yield relative, match.groupdict().get("subject", self.subject)

    @property
    def whence(self) -> str:
        """Where to get the file, in words."""
        return f"get it from {self.source_url}" if self.source_url else f"see {self.citation}"


COLUMNS = tuple(Entry.model_fields)
REQUIRED = tuple(name for name, field in Entry.model_fields.items() if field.is_required())


def _is_text(name: str) -> bool:
    """Whether a file's name is of characters that can be shown, its bytes UTF-8."""
    return name.isprintable()


def _expression(path: str, subject: str) -> str:
    """The regular expression of a path; the first ``{subject}`` is captured, others repeat it.

    Only the ends of the first ``{subject}`` are searched for; all other parts of a name can be
    found from left to right, so that time does not grow with the number of ``*``.
    """
    before, braces, after = path.partition("{subject}")
    if not braces:
        return _wild(path)
    text = f"{_wild(before)}(?P<subject>{_wild(subject)})"
    return text + "(?P=subject)".join(map(_wild, after.split("{subject}")))


def _wild(text: str) -> str:
    """Wildcards stand for characters of one name, never for a slash."""
    return "/".join(map(_wild_name, text.split("/")))


def _wild_name(name: str) -> str:
    """Each ``*`` but the last takes the first place where what follows it fits, for good."""
    first, *others = name.split("*")
    if not others:
        return _ordinary(first)
    parts = "".join(f"(?>[^/]*?{_ordinary(piece)})" for piece in others[:-1])
    return f"{_ordinary(first)}{parts}[^/]*{_ordinary(others[-1])}"


def _ordinary(text: str) -> str:
    return re.escape(text).replace(r"\?", "[^/]")
