"""One experiment as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgan.printing import duration
from msgan.report.experiment import Experiment
from msgan.report.results import value_text
from msgan.report.table import Table


@dataclass(frozen=True)
class Part:
    """One experiment of the page.

    Attributes:
        experiment: What was read.
        tables: Of its scores.
        tests: Against the reference.
        others: Whatever else it wrote.
        found: What the scores say, a sentence a task.
        link: Address of its page, else of its folder.
    """

    experiment: Experiment
    tables: Sequence[Table]
    tests: Sequence[Table]
    others: Sequence[Table]
    found: Sequence[str]
    link: str

    @property
    def figures(self) -> list[tuple[str, str]]:
        """Key figures as they are read."""
        return [(name, value_text(value)) for name, value in self.experiment.figures.items()]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What, when, from which code and with what."""
        card = self.experiment.card
        versions = card.get("versions")
        known = {
            "notebook": self.experiment.stem if card or self.experiment.page else None,
            "preset": card.get("preset"),
            "data": card.get("data"),
            "finished": card.get("finished"),
            "status": card.get("status"),
            "error": card.get("error"),
            "time": duration(card["seconds"]) if _is_number(card.get("seconds")) else None,
            "peak memory": f"{card['peak MiB']} MiB" if _is_number(card.get("peak MiB")) else None,
            "machine": card.get("machine"),
            "commit": card.get("git"),
            "versions": _listed(versions) if isinstance(versions, Mapping) else None,
        }
        return [(name, str(value)) for name, value in known.items() if value]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
