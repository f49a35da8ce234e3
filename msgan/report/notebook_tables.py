"""Tables of an executed notebook as its page shows them: best values marked, long tests folded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgan.metrics import CATALOGUE
from msgan.report.best import SIGNED, best_of
from msgan.report.table import p_value
from msgan.report.tables import header_of

HEADERS = {
    "t_p": "p (t)",
    "wilcoxon_p": "p (Wilcoxon)",
    "t_p_holm": "p (t, Holm)",
    "wilcoxon_p_holm": "p (Wilcoxon, Holm)",
    "psnr_from_mse": "PSNR from MSE (dB)",
}
"""Names of columns that are no metric, and how they are read."""

ROWS_OF_TESTS, ROWS = 8, 30
"""Rows beyond which a table of tests, and any other, is folded."""

MISSING = ("nan", "NaN", "None", "<NA>", "NaT")

GROUPS = ("task", "region", "data", "quantity")
"""Columns whose values keep rows from being compared with each other."""

MARKED = "Bold: the best of a column."

_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def readable(notebook: Any) -> Any:
    """A copy of a notebook whose tables read well on a page."""
    import copy

    shown = copy.deepcopy(notebook)
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "<table" in data.get("text/html", ""):
                data["text/html"] = readable_tables(data["text/html"])
    return shown


def readable_tables(html: str) -> str:
    """HTML of an output with its tables changed; what is no table of pandas is left as it is."""
    from bs4 import BeautifulSoup

    soup: Any = BeautifulSoup(html, "html.parser")
    for table in soup.find_all("table"):
        names = _columns(table)
        if not names:
            continue
        rows = [row.find_all("td") for row in table.tbody.find_all("tr")]
        tests = any(name in HEADERS and name.startswith(("t_p", "wilcoxon_p")) for name in names)
        marked = _mark(soup, table, names)
        _rename(table, names, rows)
        if table.caption:
            _narrow(soup, table.caption)
        if marked:
            note = soup.new_tag("p", attrs={"class": "msgan-note"})
            note.string = MARKED
            table.insert_after(note)
        if len(rows) > (ROWS_OF_TESTS if tests else ROWS):
            _fold(soup, table, f"{'Tests' if tests else 'Table'}, {len(rows)} rows")
    return str(soup)


def _columns(table: Any) -> list[str]:
    """Names of the columns of values, without those of the index; none of another table."""
    if table.thead is None or table.tbody is None:
        return []
    first = table.tbody.find("tr")
    count = len(first.find_all("td")) if first else 0
    heads = [row.find_all("th") for row in table.thead.find_all("tr")]
    if not count or any(int(th.get("colspan", 1)) > 1 for row in heads for th in row):
        return []
    if any(len(row.find_all("td")) != count for row in table.tbody.find_all("tr")):
        return []
    for row in heads:
        texts = [th.get_text(strip=True) for th in row]
        if len(texts) >= count and all(texts[-count:]):
            return texts[-count:]
    return []


def _score_of(name: str) -> str:
    """The column that :func:`best_of` knows, of a header as it was written or is read."""
    if "from" in name:
        return ""
    words = re.split(r"[\s_]+", re.sub(r"\(([^)]*)\)", r"", name).strip().lower())
    unit = re.search(r"\((HU)\)", name)
    last = "hu" if unit else words[-1]
    return last if last in CATALOGUE or last in SIGNED else ""


def _mark(soup: Any, table: Any, names: list[str]) -> bool:
    """Make the best of each column bold among the rows of one group; whether any was."""
    groups: dict[tuple[str, ...], list[list[Any]]] = {}
    for outer, cells in _grouped(table):
        own = [cells[k].get_text(strip=True) for k, n in enumerate(names) if n in GROUPS]
        groups.setdefault((outer, *own), []).append(cells)
    marked = False
    for rows in groups.values():
        for column, name in enumerate(names):
            score = _score_of(name)
            values = [_value(row[column].get_text(strip=True)) for row in rows]
            for k in sorted(best_of(score, values)) if score else ():
                cell = rows[k][column]
                strong = soup.new_tag("strong")
                for child in list(cell.contents):
                    strong.append(child.extract())
                cell.append(strong)
                marked = True
    return marked


def _grouped(table: Any) -> Iterator[tuple[str, list[Any]]]:
    """Cells of each row, with the outer name of an index of several levels."""
    rows = table.tbody.find_all("tr")
    deep = max(len(row.find_all("th")) for row in rows) > 1
    outer, left = "", 0
    for row in rows:
        heads = row.find_all("th")
        if deep and not left and heads:
            outer, left = heads[0].get_text(strip=True), int(heads[0].get("rowspan", 1))
        left = max(0, left - 1)
        yield outer, row.find_all("td")


def _value(text: str) -> float:
    found = _NUMBER.match(text)
    return float(found[0].replace("−", "-")) if found else float("nan")


def _rename(table: Any, names: list[str], rows: list[list[Any]]) -> None:
    for th in table.thead.find_all("th"):
        if text := th.get_text(strip=True):
            th.string = readable_name(text)
    for cells in rows:
        for name, cell in zip(names, cells, strict=True):
            text = cell.get_text(strip=True)
            if text in MISSING:
                cell.string = "–"
            elif name in ("metric", "measure"):
                cell.string = readable_name(text)
            elif name in HEADERS and HEADERS[name].startswith("p (") and _value(text) < 1e-4:
                cell.string = p_value(0.0)


def readable_name(name: str) -> str:
    """A column's name as it is read.

    Example:
        >>> readable_name("lung_ssim"), readable_name("t_p_holm"), readable_name("mean_error")
        ('lung SSIM', 'p (t, Holm)', 'mean error')
    """
    return HEADERS.get(name) or header_of(name).replace("_", " ")


def _narrow(soup: Any, caption: Any) -> None:
    """Let a caption be narrower than its table, which may be wider than the screen."""
    span = soup.new_tag("span", attrs={"class": "msgan-caption"})
    for child in list(caption.contents):
        span.append(child.extract())
    caption.append(span)


def _fold(soup: Any, table: Any, what: str) -> None:
    caption = table.caption.extract().get_text(" ", strip=True) if table.caption else ""
    details = table.wrap(soup.new_tag("details", attrs={"class": "msgan-fold"}))
    summary = soup.new_tag("summary")
    summary.string = ": ".join(filter(None, (what, caption)))
    details.insert(0, summary)
