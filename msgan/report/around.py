"""What leads from the page of a notebook to others: previous, index, next, contents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from msgan.paths import write_text
from msgan.report.links import link

BEGIN, END = "<!--msgan around-->", "<!--msgan end-->"
"""Between these stand the links of a page, at its top and its bottom."""

CONTENTS = "<!--msgan contents-->"
"""Where the contents of a page go."""

_BETWEEN = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
_HEADING = re.compile(r'<h2 id="([^"]*)">(.*?)(?:<a class="anchor-link".*?)?</h2>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def with_contents(page: str) -> str:
    """A page with links to its headings, where it has the place for them."""
    items = "".join(
        f'<li><a href="#{anchor}">{_TAG.sub("", text).strip()}</a></li>'
        for anchor, text in _HEADING.findall(page)
    )
    listed = f'<nav class="msgan-contents" aria-label="Contents"><ul>{items}</ul></nav>'
    return page.replace(CONTENTS, listed if items else "", 1)


def connect(out: Path, titles: Mapping[str, str], leave: Sequence[str] = ()) -> None:
    """Write into each page of ``out`` where the one before and the one after it are.

    Args:
        out: Folder of the pages, with ``index.html``.
        titles: Of the notebooks by the names of their files without suffix, in order. Those
            without a page are passed over.
        leave: Names of pages that are being written by another process.
    """
    there = [stem for stem in titles if (out / f"{stem}.html").is_file()]
    for place, stem in enumerate(there):
        if stem in leave:
            continue
        path = out / f"{stem}.html"
        before = there[place - 1] if place else ""
        after = there[place + 1] if place + 1 < len(there) else ""
        page = path.read_text(encoding="utf-8")
        links = BEGIN + _links(stem, before, after, titles) + END
        changed = links.join(_BETWEEN.split(page))
        if changed != page:
            write_text(path, changed)


def _links(stem: str, before: str, after: str, titles: Mapping[str, str]) -> str:
    here = Path()

    def leads(other: str, relation: str, text: str) -> str:
        address = escape(link(Path(f"{other}.html"), here))
        return f'<a rel="{relation}" href="{address}">{escape(text)}</a>'

    notebook = escape(link(Path(f"{stem}.ipynb"), here))
    parts = [
        leads(before, "prev", f"← {titles[before]}") if before else "<span></span>",
        '<span><a href="./index.html">All notebooks</a> · '
        f'<a download href="{notebook}">Download (.ipynb)</a></span>',
        leads(after, "next", f"{titles[after]} →") if after else "<span></span>",
    ]
    return f'<nav class="msgan-around" aria-label="Notebooks">{"".join(parts)}</nav>'
