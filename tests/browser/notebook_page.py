"""A notebook in JupyterLab as somebody at the screen works with it."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import numpy as np
from server import Lab

OPEN = 60_000
"""Milliseconds JupyterLab may take to show a notebook; five seconds on two quiet cores."""


class NotebookPage:
    """One notebook, opened in a page of the browser.

    Attributes:
        page: Of Playwright.
        heard: What the console said, a line each.
        faults: Lines of it that are errors, and requests that failed or left this machine.
    """

    def __init__(self, page: Any, lab: Lab, shots: Path) -> None:
        self.page = page
        self.lab = lab
        self.heard: list[str] = []
        self.faults: list[str] = []
        self._shots = shots
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._fault(f"uncaught: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.on("response", self._answered)

    def open(self, name: str) -> None:
        """Open a notebook and wait until its kernel is there.

        Args:
            name: Of the file, in the folder of the server.
        """
        self.page.goto(f"{self.lab.url}lab/tree/{name}?reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=OPEN)
        self.idle()

    def idle(self) -> None:
        """Wait until the kernel has answered all it was asked."""
        self.page.wait_for_timeout(500)  # what was just done is on its way
        self.page.get_by_text(re.compile(r"\| Idle$")).wait_for(timeout=OPEN)
        self.page.wait_for_timeout(500)  # and so is the answer

    def broken(self) -> list[str]:
        """Pictures that stand in the page as broken ones."""
        images = self.page.locator("img:visible")
        script = "all => all.filter(i => i.complete && !i.naturalWidth).map(i => i.className)"
        return list(images.evaluate_all(script))

    def run_all(self, seconds: float) -> None:
        """Run > Run All Cells, and wait until the last cell has run or one has failed."""
        self.menu("Run", "Run All Cells")
        cells = self.page.locator(".jp-CodeCell .jp-InputArea-prompt")

        def done() -> bool:
            prompts = [text.strip() for text in cells.all_text_contents()]
            ran = all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in prompts)
            return bool(self.errors()) or (bool(prompts) and ran)

        until(done, seconds, "the notebook to run", self.page)

    def menu(self, *names: str) -> None:
        """Click through the menus."""
        for name in names:
            # A label, because the name of an item also has its keys: Save Notebook Ctrl+S.
            labels = self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel")
            labels.get_by_text(name, exact=True).click()

    def errors(self) -> list[str]:
        """Tracebacks, and what was written to stderr, as the page shows them."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        shown = ", ".join(f'.jp-OutputArea-output[data-mime-type="{kind}"]' for kind in kinds)
        return [str(text) for text in self.page.locator(shown).all_text_contents()]

    def saved(self, name: str) -> Any:
        """The notebook as it is in its file after File > Save."""
        path = self.lab.folder / name
        before = path.stat().st_mtime_ns
        self.menu("File", "Save Notebook")
        until(lambda: path.stat().st_mtime_ns != before, 20, f"{name} to be saved", self.page)
        self.page.wait_for_timeout(300)  # written in one go, but not atomically
        return nbformat.read(path, as_version=4)

    def shoot(self, name: str, *, whole: bool = False) -> None:
        """Keep a screenshot of what can be seen, or of the whole page."""
        self._shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._shots / f"{name}.png", full_page=whole)

    def _said(self, message: Any) -> None:
        line = f"{message.type}: {message.text}"
        self.heard.append(line)
        if message.type == "error":
            self.faults.append(line)

    def _answered(self, response: Any) -> None:
        if response.status >= 400:
            self._fault(f"{response.status}: {response.url}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self._fault(f"left this machine: {url}")

    def _fault(self, line: str) -> None:
        self.heard.append(line)
        self.faults.append(line)


def pixels(element: Any) -> np.ndarray:
    """What an element looks like, (rows, columns, 3) in 0 to 255."""
    from PIL import Image

    element.scroll_into_view_if_needed()
    with Image.open(io.BytesIO(element.screenshot())) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.int16)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels that look different; 1 where the sizes differ."""
    if before.shape != after.shape:
        return 1.0
    return float((np.abs(before - after).max(axis=-1) > 8).mean())


def until(condition: Callable[[], bool], seconds: float, what: str, page: Any) -> None:
    """Wait, and let the page's events come in meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        page.wait_for_timeout(150)


def slide(page: Any, slider: Any, share: float) -> None:
    """Drag the handle of a slider of ipywidgets to a share of its length.

    Args:
        page: Of Playwright.
        slider: The element that holds the track and the handle.
        share: 0 (left) to 1 (right).
    """
    slider.scroll_into_view_if_needed()
    handle = slider.locator(".noUi-handle").first.bounding_box()
    track = slider.locator(".noUi-target").first.bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], y, steps=8)
    page.mouse.up()
