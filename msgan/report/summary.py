"""The summary of a report: what was translated and how well, in a few lines and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgan.report.cards import RunCard, nearest_preset
from msgan.report.found import NO_CLAIM
from msgan.report.links import link
from msgan.report.part import Part
from msgan.report.pictures import Picture
from msgan.report.table import Table
from msgan.report.translations import Translations
from msgan.runs.run import Run
from msgan.types import InputError

TABLES = 3
"""Of a summary; the others are below."""

CURVES = 3
"""Trainings of which a summary has the curves."""

NAMED = 5
"""Names that are listed before the rest is counted."""


@dataclass(frozen=True)
class Summary:
    """What stands at the top of a page.

    Attributes:
        counts: What there is, in a sentence.
        claim: That numbers of ``smoke`` make no claim; empty where nothing is of that preset.
        found: Title and anchor of a part of the page, and a sentence of what it says.
        tables: Of scores.
        more: How many more tables of scores stand below.
        curves: Of trained runs.
        runs: Name and address of each trained run that made a translation.
    """

    counts: str
    claim: str
    found: tuple[tuple[str, str, str], ...]
    tables: tuple[Table, ...]
    more: int
    curves: tuple[Picture, ...]
    runs: tuple[tuple[str, str], ...]

    @property
    def names(self) -> set[str]:
        """Of its tables, which are not repeated below."""
        return {table.name for table in self.tables}


def summarised(
    parts: Sequence[Part], made: Translations | None, cards: Sequence[RunCard], page: Path
) -> Summary:
    """The summary of what a page shows.

    Args:
        parts: Experiments.
        made: Translations.
        cards: Trained runs below the folder.
        page: Folder of the page, from which links lead to runs.
    """
    tables = [*_last_of_tasks(made.means if made else ())]
    tables += [table for part in parts for table in _first_of_tasks(part.tables)]
    every = sum(len(part.tables) for part in parts) + (len(made.means) if made else 0)
    shown = tuple(tables[:TABLES])
    return Summary(
        counts=_counts(parts, made, cards),
        claim=_claim(parts, made, cards),
        found=tuple(_found(parts, made)),
        tables=shown,
        more=every - len(shown),
        curves=_curves(made, cards),
        runs=tuple((run.name, link(run, page)) for run in (made.runs if made else ())),
    )


def _curves(made: Translations | None, cards: Sequence[RunCard]) -> tuple[Picture, ...]:
    """Of the runs that made the translations, where they are among the cards, else of the first."""
    used = {run.resolve() for run in (made.runs if made else ())}
    own = [card for card in cards if card.folder.resolve() in used]
    return tuple(card.curves for card in own or cards if card.curves)[:CURVES]


def _task_of(table: Table) -> object:
    return table.frame["task"].iloc[0]


def _first_of_tasks(tables: Sequence[Table]) -> list[Table]:
    return list({_task_of(table): table for table in reversed(tables)}.values())[::-1]


def _last_of_tasks(tables: Sequence[Table]) -> list[Table]:
    return list({_task_of(table): table for table in tables}.values())


def _counts(parts: Sequence[Part], made: Translations | None, cards: Sequence[RunCard]) -> str:
    counts = [
        f"{count(images, 'image')} of {count(people, 'subject')} translated, {task}"
        for task, images, people in (made.tasks if made else ())
    ]
    counts += [_studies(len(parts))] if parts else []
    counts += [count(len(cards), "trained cascade")] if cards else []
    return f"{'; '.join(counts) or 'Nothing that can be read'}."


def _studies(number: int) -> str:
    return "1 study" if number == 1 else f"{number} studies"


def _found(parts: Sequence[Part], made: Translations | None) -> Iterator[tuple[str, str, str]]:
    for sentence in made.found if made else ():
        yield "Translations", "translations", sentence
    for number, part in enumerate(parts, 1):
        for sentence in part.found:
            yield part.experiment.title, f"e{number}", sentence


def _claim(parts: Sequence[Part], made: Translations | None, cards: Sequence[RunCard]) -> str:
    """What is to be said where some numbers are of the preset ``smoke``."""
    known = {part.experiment.title: str(part.experiment.card.get("preset", "")) for part in parts}
    known |= {card.name: card.preset for card in cards}
    folders = {card.folder.resolve() for card in cards}
    for run in made.runs if made else ():
        if run.resolve() not in folders:
            known[run.name] = _preset_of(run)
    smoke = [name for name, preset in known.items() if preset.startswith("smoke")]
    if not smoke:
        return ""
    if len(smoke) == len(known):
        return NO_CLAIM
    named = ", ".join(smoke[:NAMED])
    named += f" and {len(smoke) - NAMED} more" if len(smoke) > NAMED else ""
    return NO_CLAIM.replace("these numbers", f"the numbers of {named}")


def _preset_of(run: Path) -> str:
    """The preset that a run is nearest to; empty where the run is not there any more."""
    try:
        return nearest_preset(Run.open(run).config)[0]
    except (InputError, OSError, ValueError):
        return ""


def count(number: int, noun: str) -> str:
    """As ``1 image`` or ``2 images``.

    Example:
        >>> count(1, "image"), count(2, "image")
        ('1 image', '2 images')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
