"""Training curves of a run, which grow while it trains."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.runs.run import Run
from msgan.training.log import LOG, row_of
from msgan.widgets.static_fallback import leave, sentence

if TYPE_CHECKING:
    import pandas as pd

EVERY = 3.0
"""Seconds between two looks at the files."""

IDLE = 600.0
"""Seconds without a new row after which nobody is taken to be training any more."""

SHOWN = ("loss", "l1", "validation_l1", "adversarial", "discriminator", "accuracy")
"""What is drawn, where it is logged."""


class Log:
    """The rows that a training has appended to ``metrics.jsonl`` so far.

    A row that is not complete yet is read the next time. A resumed training writes the file anew,
    which is noticed because it is another file, or a shorter one.

    Attributes:
        path: The file; it need not exist yet.
        rows: Read so far.
        damaged: Lines that are no rows.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self.damaged = 0
        self._end, self._file = 0, 0

    def read(self) -> bool:
        """Read what is new; whether anything has changed."""
        try:
            state = self.path.stat()
        except OSError:
            return False
        changed = False
        if state.st_ino != self._file or state.st_size < self._end:
            changed = bool(self.rows)
            self.rows, self.damaged, self._end, self._file = [], 0, 0, state.st_ino
        with self.path.open("rb") as stream:
            stream.seek(self._end)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._end += len(whole)
        for line in whole.splitlines():
            if (row := row_of(line)) is None:
                self.damaged += 1
                continue
            self.rows.append(row)
            changed = True
        return changed


class Curves:
    """Losses and validation of each scale of a run, against steps.

    While the run trains, new rows are looked for every few seconds, in a task of the notebook's
    event loop: figures are not drawn in several threads. It ends with the training, when the
    widget is closed, and when no row has come for ten minutes. Without an event loop, as in a
    script, call :meth:`read`.

    Args:
        run: An opened run, or its folder.
        every: Seconds between two looks.

    Attributes:
        logs: Of each scale that the run uses.
        box: Picture and readout, for a page.

    Raises:
        InputError: The folder is no run.
    """

    def __init__(self, run: Run | str | os.PathLike[str], *, every: float = EVERY) -> None:
        import ipywidgets as widgets

        self.run = run if isinstance(run, Run) else Run.open(run)
        paths = {i: self.run.folder_of(i) / LOG for i in self.run.used}
        self.logs: Mapping[int, Log] = {i: Log(path) for i, path in paths.items()}
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.picture.add_class("msgan-curves")
        self._readout = widgets.HTML()
        rows = [self.picture, self._readout]
        self.box = widgets.VBox(rows, layout={"align_items": "flex-start"})  # nothing stretched
        self.read()
        self.follow()

    @property
    def table(self) -> pd.DataFrame:
        """All rows so far: ``scale``, ``step`` and what is logged."""
        import pandas as pd

        return pd.DataFrame([row for log in self.logs.values() for row in log.rows])

    @property
    def ended(self) -> bool:
        """Whether all scales are trained."""
        return all(self.run.finished(i) for i in self.run.used)

    @property
    def following(self) -> bool:
        """Whether new rows are still looked for."""
        return self._task is not None and not self._task.done()

    @property
    def static_fallback(self) -> bytes:
        """The curves as PNG; empty where there are no rows yet."""
        return bytes(self.picture.value)

    @property
    def reading(self) -> str:
        """How far the training is, in words."""
        settings = self.run.config.training
        parts = []
        for i, log in self.logs.items():
            total = settings.steps if i else settings.lr_steps
            step = log.rows[-1]["step"] if log.rows else 0
            state = ", finished" if self.run.finished(i) else ""
            parts.append(f"s{i}: step {step} of at most {total}{state}")
        if damaged := sum(log.damaged for log in self.logs.values()):
            parts.append(f"{damaged} damaged rows left out")
        return "; ".join(parts)

    def read(self) -> bool:
        """Read new rows and draw them; whether there were any."""
        changed = [log.read() for log in self.logs.values()]
        if any(changed):
            self.picture.value = (
                self._drawn() if any(log.rows for log in self.logs.values()) else b""
            )
        self._readout.value = escape(self.reading)
        return any(changed)

    def follow(self) -> None:
        """Look for new rows from now on, where there is an event loop and a training to come."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if not self.ended and not self.following:
            self._task = loop.create_task(self._follow())

    def close(self) -> None:
        """Stop following and take the widget off the page."""
        if self._task is not None:
            self._task.cancel()
        self.box.close()

    async def _follow(self) -> None:
        idle = 0.0
        while idle < IDLE:
            await asyncio.sleep(self._every)
            if self.box.comm is None:  # closed
                return
            over = self.ended  # asked before reading: the last rows come before the end
            idle = 0.0 if self.read() else idle + self._every
            if over:
                return

    def _drawn(self) -> bytes:
        from msgan.plots import curves

        table = self.table
        figure = curves(
            table,
            columns=[c for c in SHOWN if c in table and table[c].notna().any()] or None,
            smooth=5,
            caption=f"Training of {self.run.target} by steps, run {self.run.folder.name}.",
        )
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        return file.getvalue()

    def _ipython_display_(self) -> None:
        text = sentence(f"Training curves of {self.run.folder.name}", self.reading)
        leave(self.box, self.static_fallback, text)
