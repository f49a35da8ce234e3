"""What must hold for a built site: every link leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgan.report.check import LOADED


class Page(HTMLParser):
    """Anchors of a page, the addresses it links, and those a browser loads with it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element names."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif tag == "a" and name == "href":
                self.links.append(value)
            elif name in LOADED.get(tag, ()):
                self.loaded.append(value)


def read(page: Path) -> Page:
    """The addresses of one page."""
    found = Page()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def broken_links(site: Path) -> list[str]:
    """Links of the site that lead nowhere, and what its pages load from elsewhere."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in dict.fromkeys([*page.links, *page.loaded]):
            address = urlsplit(link)
            if address.scheme == "data":
                continue
            if address.scheme or address.netloc:
                if link in page.loaded:
                    faults.append(f"{where}: loads {link}")
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not target.is_file():
                faults.append(f"{where}: {link}: no such file")
            elif address.fragment and target in pages:
                anchor = unquote(address.fragment)
                if anchor not in pages[target].anchors:
                    faults.append(f"{where}: {link}: no such place")
    styles = site.rglob("*.css")
    pattern = re.compile(r"(?:url\(|@import)\s*[\"']?\s*(?:https?:)?//")
    faults += [
        f"{path.relative_to(site)}: loads from elsewhere"
        for path in styles
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    return faults


def missing_names(site: Path, names: Iterable[str]) -> list[str]:
    """Names that the inventory of the site does not hold."""
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as stream:
        inventory = InventoryFile.load(stream, "", lambda _, path: path)
    known = {name for kind, found in inventory.items() if kind.startswith("py:") for name in found}
    return [name for name in names if name not in known]
