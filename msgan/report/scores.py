"""Scores of one subject, with the settings they were computed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgan.data.volume import open_volume
from msgan.metrics import CATALOGUE, SIMILARITY
from msgan.report.catalog import Catalog, Translated
from msgan.report.csv_tables import read_scores
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {name: CATALOGUE[name].header for name in SIMILARITY}
"""Column of a table of scores -> how it is headed; intensities are in [0, 1]."""

NAMED = 5
"""Significant digits."""


def scores_of(found: Catalog, shown: Translated) -> pd.DataFrame:
    """Scores of the subject of a translation, by every method of its task and in every region.

    Args:
        found: Where the translation was found.
        shown: The translation.

    Returns:
        A line for each method and region: ``method``, ``of`` (the subject, and the mean over all
        subjects of the task), the scores, and what they were measured on: ``n`` (subjects),
        ``voxels`` (of the subject's region), ``region``, ``range`` (shown as [0, 1]), ``axes`` and
        ``data``. Without such a table, what the sidecar of the translation has of it. Empty where
        there are no scores of the subject.

    Raises:
        InputError: The table of scores is damaged.
    """
    import pandas as pd

    path = found.scores(shown.study)
    if path is None:
        return _of_sidecar(shown)
    try:
        table = read_scores(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a table of scores: {error}") from error
    table = table[table["task"].isin((shown.task, ""))]
    if not (table["subject"].astype(str) == shown.subject).any():
        return pd.DataFrame()
    provenance = shown.provenance
    about = {
        "range": f"{provenance.low:.{NAMED}g} to {provenance.high:.{NAMED}g} "
        f"{provenance.unit or 'a.u.'}",
        "axes": f"{_axes(shown)}D",
        "data": _data(shown),
    }
    regions = provenance.regions or ("foreground",)
    lines = []
    for method, rows in table.groupby("method", sort=False):
        own = rows[rows["subject"].astype(str) == shown.subject]
        for k, region in enumerate(regions):
            names = {c: f"{region}_{c}" if k else c for c in (*COLUMNS, "voxels")}
            there = {c: n for c, n in names.items() if n in table.columns}
            if not set(COLUMNS) & set(there):
                continue
            for of, part in ((shown.subject, own), ("mean", rows)):
                line: dict[str, Any] = {"method": method, "of": of}
                line |= {COLUMNS[c]: part[n].mean() for c, n in there.items() if c in COLUMNS}
                line["n"] = int(part["subject"].nunique())
                line["voxels"] = round(part[there["voxels"]].mean()) if "voxels" in there else None
                lines.append({**line, "region": region, **about})
    return pd.DataFrame(lines)


def _of_sidecar(shown: Translated) -> pd.DataFrame:
    """The scores that ``msgan evaluate`` has left in the sidecar."""
    import pandas as pd

    lines = []
    for line in shown.provenance.scores:
        own = {COLUMNS[c]: line[c] for c in COLUMNS if c in line}
        about = {"method": line.get("method"), "of": shown.subject, **own}
        lines.append({**about, "voxels": line.get("voxels"), "region": line.get("region")})
    return pd.DataFrame(lines)


def as_html(table: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """The table for a page, numbers to four digits after the point."""
    shown = table if columns is None else table[list(columns)]
    digits = "{:.4f}".format
    return shown.to_html(index=False, float_format=digits, border=0, na_rep="", justify="left")


def _axes(shown: Translated) -> int:
    with open_volume(shown.provenance.result, check=False) as volume:
        return volume.grid.dims


def _data(shown: Translated) -> str:
    """The folder of the manifest that names the image, else that of the image."""
    image = shown.provenance.image
    there = next((p for p in image.parents if (p / "manifest.csv").is_file()), image.parent)
    return there.name
