"""Scores of one subject, with the settings they were computed with."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from msgan.data.volume import open_volume
from msgan.metrics import CATALOGUE, SIMILARITY
from msgan.report.best import best_of
from msgan.report.catalog import Catalog, Translated
from msgan.report.csv_tables import read_scores
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {name: CATALOGUE[name].header for name in SIMILARITY}
"""Column of a table of scores -> how it is headed; intensities are in [0, 1]."""

HIGHER = {name for name in SIMILARITY if CATALOGUE[name].better == "higher"}

ABOUT = ("of", "n", "voxels", "region", "range", "axes", "data")
"""Columns that say what the scores were measured on."""

BLOCKS = ("of", "region")
"""Columns whose values divide the lines into those that are compared."""

TEXT = ("method", "of", "region", "range", "axes", "data")
"""Columns that hold words."""

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


def as_html(table: pd.DataFrame) -> str:
    """The table of :func:`scores_of` for a page: the best first, the best of a column bold.

    What is the same in all lines is said once, above; of one subject the mean is left out.
    """
    if "n" in table and (table["n"] == 1).all():
        table = table[table["of"] != "mean"]
    same = [c for c in ABOUT if c in table and table[c].nunique(dropna=False) == 1]
    told = [f"{c} {table[c].iloc[0]}" for c in same if table[c].notna().all()]
    blocks, shown = [c for c in BLOCKS if c in table], table.drop(columns=same)
    names = {COLUMNS[name]: name for name in COLUMNS if COLUMNS[name] in table}
    lines = []
    for _, part in table.groupby(blocks, sort=False, dropna=False):
        first = next(iter(names), "method")
        part = part.sort_values(first, ascending=names.get(first) not in HIGHER, kind="stable")
        best = {c: best_of(name, list(part[c].astype(float))) for c, name in names.items()}
        columns = [str(c) for c in shown]
        for k, row in enumerate(part[columns].to_numpy(dtype=object)):
            cells = (
                _cell(c, v, k in best.get(c, set())) for c, v in zip(columns, row, strict=True)
            )
            lines.append(f"<tr{' class=first' * (k == 0)}>{''.join(cells)}</tr>")
    head = "".join(f"<th{' class=text' * (c in TEXT)}>{escape(str(c))}</th>" for c in shown)
    return (
        f"<p>{escape(', '.join(told))}</p><table class='msgan-scores'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _cell(column: str, value: Any, best: bool) -> str:
    if value is None or value != value:
        text = ""
    elif column in COLUMNS.values():
        text = f"{value:.4f}"
    else:
        text = escape(str(value) if isinstance(value, str) else f"{value:,.0f}")
    return f"<td{' class=text' * (column in TEXT)}>{f'<b>{text}</b>' if best else text}</td>"


def _axes(shown: Translated) -> int:
    with open_volume(shown.provenance.result, check=False) as volume:
        return volume.grid.dims


def _data(shown: Translated) -> str:
    """The folder of the manifest that names the image, else that of the image."""
    image = shown.provenance.image
    there = next((p for p in image.parents if (p / "manifest.csv").is_file()), image.parent)
    return there.name
