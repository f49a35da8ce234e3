"""Scores of all translations of a cohort for ``msgan evaluate``, with baselines beside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.cli import console
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

    from msgan.config import Preparation
    from msgan.data.cohort import Cohort, Subject
    from msgan.methods.untrained import Untrained
    from msgan.translate.provenance import Provenance

TABLE = "scores.csv"
"""Name of the table in the folder of the translations, where report and explore look for it."""


@dataclass
class CohortScores:
    """What was measured.

    Attributes:
        lines: A line each task, method and subject.
        failed: What could not be scored, a line each.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def frame(self) -> pd.DataFrame:
        """The lines as a table."""
        import pandas as pd

        return pd.DataFrame(self.lines)

    @property
    def means(self) -> pd.DataFrame:
        """Means over subjects, by task and method, and ``n``."""
        groups = self.frame.groupby(["task", "method"], sort=False)
        found = groups.mean(numeric_only=True)
        found.insert(0, "n", groups["subject"].nunique())
        return found.reset_index()

    def text(self) -> list[str]:
        """Means as they are read, the best of a column marked."""
        from msgan.metrics import CATALOGUE, SIMILARITY

        lines, means = [], self.means
        wide = max(map(len, means["method"])) + 1
        for task, part in means.groupby("task", sort=False):
            lines.append(f"{task}, mean over subjects (* best)")
            lines.append(f"{'':<{wide}}{'n':>4}" + "".join(f"{m:>11}" for m in SIMILARITY))
            best = {
                m: part[m].max() if CATALOGUE[m].better == "higher" else part[m].min()
                for m in SIMILARITY
            }
            for _, row in part.iterrows():
                cells = (f"{row[m]:.4g}{'*' if row[m] == best[m] else ' '}" for m in SIMILARITY)
                text = "".join(f"{cell:>11}" for cell in cells)
                lines.append(f"{row['method']:<{wide}}{row['n']:>4}{text}".rstrip())
        first = self.lines[0]
        lines.append(f"scored: {first['dims']}, {first['region']}; 0 to 1 is {first['range']}")
        return lines

    def as_json(self) -> str:
        """For a file: each subject, means, and what could not be scored."""
        subjects, means = (
            json.loads(table.to_json(orient="records", double_precision=15))
            for table in (self.frame, self.means)
        )
        content = {"subjects": subjects, "mean": means, "failed": self.failed}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def score_cohort(
    cohort: Cohort,
    traces: list[Provenance],
    progress: Callable[[int, int], None],
    *,
    baselines: bool,
) -> CohortScores:
    """Score each translation against the real image of its subject, and baselines as well.

    Where voxels count: in the foreground, inside the subject's mask where there is one, and in
    lesions and regions of the manifest. The sidecars keep the scores.

    Args:
        cohort: Has the real images; what baselines know of the target is learnt from its
            training subjects.
        traces: Sidecars of the translations.
        progress: Called with how many are done, and how many there are.
        baselines: Score these as well.
    """
    found = CohortScores()
    names = _names(traces)
    rows = _Baselines(cohort)
    for number, trace in enumerate(traces):
        progress(number, len(traces))
        try:
            subject = _subject(cohort, trace)
            task = f"{trace.source or 'image'}→{trace.target}"
            own = {"task": task, "method": names[trace.result], "subject": subject.name}
            done = [own | _line(trace, subject)]
            known = {(line["task"], line["method"], line["subject"]) for line in found.lines}
            for name, method in rows.of(trace, subject).items() if baselines else ():
                if (task, name, subject.name) not in known:
                    done.append({**own, "method": name} | _baseline(method, trace, subject))
        except (InputError, OSError) as error:
            found.failed.append(str(error))
            console.note(f"error: {error}")
            continue
        found.lines += done
        _keep(trace, subject, done)
    progress(len(traces), len(traces))
    return found


def _names(traces: list[Provenance]) -> dict[Path, str]:
    """The name of each translation's row: the method, and the run where there are several."""
    runs = {(trace.method, trace.run) for trace in traces}
    several = {m for m, _ in runs if sum(method == m for method, _ in runs) > 1}
    return {
        trace.result: f"{trace.method} ({trace.run.name})"
        if trace.method in several and trace.run
        else trace.method
        for trace in traces
    }


def _subject(cohort: Cohort, trace: Provenance) -> Subject:
    """Whose translation it is, by the image that was translated, else by name.

    Raises:
        InputError: Nobody's of the manifest, there is no real image, or it is another person's.
    """
    from msgan.data.identity import difference

    image = os.path.realpath(trace.image)
    by_image = [s for s in cohort for p in s.images.values() if os.path.realpath(p) == image]
    by_name = [s for s in cohort if s.name == trace.subject]
    subject = next(iter((*by_image, *by_name)), None)
    if subject is None:
        raise InputError(f"{trace.result}: of {trace.image}, which the manifest does not name")
    real = subject.images.get(trace.target)
    if real is None:
        raise InputError(
            f"{trace.result}: the manifest has no {trace.target} image of {subject.name}"
        )
    if text := difference(trace.image, real):
        raise InputError(f"{trace.result}: {trace.image} and {real}: {text}")
    return subject


def _preparation(trace: Provenance) -> Preparation:
    from msgan.config import Preparation

    if not trace.preparation:
        raise InputError(f"{trace.result}: its sidecar does not say how it was prepared")
    return Preparation(**trace.preparation)


def _line(trace: Provenance, subject: Subject) -> dict[str, Any]:
    from msgan.studies.table import masked_regions, score_line

    return score_line(
        trace.result,
        subject,
        trace.target,
        trace.intensity,
        _preparation(trace),
        masked_regions(subject),
    )


def _baseline(method: Untrained, trace: Provenance, subject: Subject) -> dict[str, Any]:
    from msgan.paths import scratch_folder

    with scratch_folder() as folder:
        modality = next(
            (m for m, p in subject.images.items() if p.name == trace.image.name), trace.source
        )
        made = method.translate(subject, folder / "row.nii", modality=modality).trace
        return _line(replace(made, target=trace.target), subject)


class _Baselines:
    """Baselines by what decides them: learnt once."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self._known: dict[str, Mapping[str, Untrained]] = {}

    def of(self, trace: Provenance, subject: Subject) -> Mapping[str, Untrained]:
        """Those of a translation; where no training subject has the target, of what the run keeps.

        Raises:
            InputError: A file is at fault.
        """
        from msgan.data.cohort import Cohort, Subject
        from msgan.methods.baselines import baselines, yardsticks
        from msgan.runs.run import Run

        preparation = _preparation(trace)
        learn = [s for s in self.cohort.with_modality(trace.target) if s.split in ("train", "val")]
        if trace.unit != "HU" and learn:
            key = json.dumps([trace.target, dict(trace.preparation)], sort_keys=True)
            if key not in self._known:
                self._known[key] = baselines(Cohort(tuple(learn)), trace.target, preparation)
            return self._known[key]
        if trace.run is None:
            return {}
        own = Subject(subject.name, {trace.target: subject.images[trace.target]}, mask=subject.mask)
        return yardsticks(Run.open(trace.run), preparation, Cohort((own,)))


def _keep(trace: Provenance, subject: Subject, lines: list[dict[str, Any]]) -> None:
    """Keep the real image and the scores in the sidecar, for what shows results later."""
    from msgan.translate.provenance import beside

    own = [{**line, "method": trace.method} if k == 0 else line for k, line in enumerate(lines)]
    kept = replace(trace, real=subject.images[trace.target], scores=tuple(own))
    try:
        kept.save(beside(trace.result))
    except OSError as error:
        console.note(f"note: {beside(trace.result)}: not kept: {error.strerror or error}")


@contextmanager
def shown_progress(count: int) -> Iterator[Callable[[int, int], None]]:
    """A bar over the images."""
    with console.Bars(f"scoring {count} images") as bars:
        yield lambda done, total: bars.update("scoring", done, total, "images")
