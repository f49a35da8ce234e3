"""The findings of a check of the data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Finding(BaseModel):
    """One thing that is wrong (``error``) or worth knowing (``note``)."""

    model_config = ConfigDict(frozen=True)

    level: Literal["error", "note"]
    subject: str
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.path}: {self.problem}"


class Report(BaseModel):
    """What :func:`check_manifest` found."""

    model_config = ConfigDict(frozen=True)

    name: str
    root: str
    subjects: int
    files: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error; notes do not count."""
        return all(finding.level != "error" for finding in self.findings)

    def lines(self) -> list[str]:
        """One line for each finding, and a summary as the last."""
        errors = sum(finding.level == "error" for finding in self.findings)
        summary = f"{self.name}: {self.subjects} subjects, {self.files} files below {self.root}: "
        return [*map(str, self.findings), summary + (f"{errors} errors" if errors else "ok")]
