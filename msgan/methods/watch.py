"""Trainings in a notebook: a bar with the time left, the last losses, now and then a picture."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from time import perf_counter
from typing import Any

import numpy as np

from msgan.printing import PROGRESS, duration
from msgan.runs.run import Run
from msgan.training.loop import Look
from msgan.types import Array

EVERY = 0.5
"""Seconds between two updates of the page, at least."""

PICTURE_EVERY = 10.0
"""Seconds between two pictures, at least; one takes at most a twentieth of the time."""

SIDE, GAP = 160, 4
"""Of a picture's shorter side, and between two pictures, in pixels."""

Show = Callable[[str, str], None]


def cell() -> Show | None:
    """Shows HTML (and the same as text) in the running notebook cell, in place of what it showed.

    None outside a notebook, and where ``MSGAN_PROGRESS`` is 0.
    """
    if "IPython" not in sys.modules or os.environ.get(PROGRESS) == "0":
        return None
    from IPython.core.getipython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        return None
    handle: Any = None

    def show(html: str, text: str) -> None:
        nonlocal handle
        bundle = {"text/html": html, "text/plain": text}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show


class Watch:
    """What a cell shows of the training of a run.

    Args:
        run: In training.
        scales: Those that are to be trained, in order.
        show: See :func:`cell`.
    """

    def __init__(self, run: Run, scales: Sequence[int], show: Show) -> None:
        self._run = run
        self._show = show
        self._rows: dict[int, dict[str, Any] | None] = dict.fromkeys(scales)
        self._drawn = self._pictured = -1e9
        self._pause = PICTURE_EVERY
        self._picture = ""
        self._update("preparing images")

    def report(self, row: dict[str, Any]) -> None:
        """A logged row of :func:`msgan.training.loop.train_scale`."""
        self._rows[row["scale"]] = row
        last = row["step"] == self._run.total(row["scale"])
        if last or perf_counter() - self._drawn > EVERY:
            self._update()

    def glimpse(self, scale: int, look: Look) -> None:
        """Show what the network makes of a validation sample, if the last picture is old enough."""
        start = perf_counter()
        if start - self._pictured < self._pause:
            return
        pair = [middle(image.float().cpu().numpy()) for image in look()]
        what = f"s{scale}, a validation sample: generated (left) and real (right)"
        self._picture = (
            f'<img alt="{what}" src="data:image/png;base64,{_png(pair)}"><div>{what}</div>'
        )
        self._pictured = perf_counter()
        self._pause = max(PICTURE_EVERY, 20 * (self._pictured - start))

    def close(self) -> None:
        """Leave one line of what came out."""
        words = [text for i, row in self._rows.items() if row and (text := self._words(i, row))]
        text = f"{self._run.target}: " + ("; ".join(words) or "no step was logged")
        self._show(f"<div>{escape(text)}</div>", text)

    def _words(self, scale: int, row: dict[str, Any]) -> str:
        text = f"s{scale}: step {row['step']} of {self._run.total(scale)}, L1 {row['l1']:.4f}"
        if "validation_l1" in row:
            text += f", validation L1 {row['validation_l1']:.4f}"
        return text

    def _update(self, note: str = "") -> None:
        lines, texts = [], []
        for scale, row in self._rows.items():
            total = self._run.total(scale)
            step = row["step"] if row else 0
            text = self._words(scale, row) if row else f"s{scale}: {total} steps"
            if row and step < total:
                text += f", {duration(row['seconds'] * (total - step) / step)} left"
            bar = f'<progress value="{step}" max="{total}" style="width: 16em"></progress>'
            lines.append(f"<div>{bar} {escape(text)}</div>")
            texts.append(text)
        if note:
            lines.append(f"<div>{escape(note)}</div>")
        self._show("".join(lines) + self._picture, "\n".join(texts))
        self._drawn = perf_counter()


@contextmanager
def watching(run: Run, scales: Sequence[int]) -> Iterator[Watch | None]:
    """A block whose training is shown in the notebook's cell, where there is one.

    Args:
        run: To train.
        scales: Of it; nothing is shown where none is left to train.
    """
    show = cell() if scales else None
    watch = Watch(run, scales, show) if show else None
    try:
        yield watch
    finally:
        if watch:
            watch.close()


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A block that shows how many of several jobs are done, where a notebook can.

    Args:
        what: They are, as ``trainings``.
        total: There are.
    """
    show, start = cell(), perf_counter()

    def done(count: int) -> None:
        text = f"{count} of {total} {what} done"
        if 0 < count < total:
            text += f", about {duration((perf_counter() - start) / count * (total - count))} left"
        if show:
            bar = f'<progress value="{count}" max="{total}" style="width: 16em"></progress>'
            show(f"<div>{bar} {escape(text)}</div>", text)

    done(0)
    yield done


def middle(image: Array) -> Array:
    """The first image of a batch (B, 1, *spatial), 2D, or the middle of it, as it is looked at."""
    first = image[0, 0]
    return first if first.ndim == 2 else np.rot90(first[..., first.shape[-1] // 2])


def _png(images: Sequence[Array]) -> str:
    """Images in [-1, 1] side by side, as base64."""
    from PIL import Image

    factor = SIDE / min(images[0].shape)
    parts: list[Array] = []
    for image in images:
        bits = np.round(127.5 * (image.clip(-1, 1) + 1)).astype(np.uint8)
        size = [round(n * factor) for n in reversed(image.shape)]
        enlarged = np.asarray(Image.fromarray(bits).resize(size))
        parts += [np.full((len(enlarged), GAP), 255, np.uint8), enlarged]
    picture = Image.fromarray(np.hstack(parts[1:]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
