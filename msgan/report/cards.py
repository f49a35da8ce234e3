"""Cards of trained cascades: data, settings, training time, and hashes to identify them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from msgan import presets
from msgan.config import CascadeConfig
from msgan.documents import json_of
from msgan.printing import duration
from msgan.report.pictures import Picture, drawn
from msgan.report.table import Cell, Table, file_name
from msgan.runs.parent import DONE
from msgan.runs.run import CARD, CONFIG, Run, flat
from msgan.training.log import LOG, rows
from msgan.types import InputError

DRAWN = ("l1", "validation_l1")
"""Columns of the logs that are drawn."""

SMOOTH = 5
"""Logged values of a running mean."""

DIGITS = 12
"""Of a hash that stand in the open; all of them are in the fold-out."""


@dataclass(frozen=True)
class RunCard:
    """What is known of one run folder.

    Attributes:
        name: Path of the folder below the report's.
        facts: Name and value, in the order of display.
        data: Subject and SHA-256 of their files.
        scales: Steps, time, best L1 and memory of every scale.
        config: YAML.
        preset: The one its configuration is nearest to.
        differences: Key, value in that preset, value here.
        folder: Where it lies.
        curves: Of its training; None where nothing was logged.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    scales: Table
    config: str
    preset: str
    differences: tuple[tuple[str, str, str], ...]
    folder: Path
    curves: Picture | None = None


def run_card(folder: Path, name: str) -> RunCard:
    """The card of a run folder.

    Raises:
        InputError: Its files are damaged.
    """
    run = Run.open(folder)
    raw = json_of(folder / CARD)
    span, config = run.intensity, run.config
    made = raw.get("versions")
    versions = made.items() if isinstance(made, dict) else ()
    facts = {
        "learnt": run.target,
        "range": f"{span.low:g} to {span.high:g} {span.unit}".strip() + " shown as [-1, 1]",
        "dimension": f"{config.dims}D",
        "scales": f"s0 to s{run.scales}",
        "seed": str(config.seed),
        "data": f"{len(run.data)} subjects, all together SHA-256 {_together(run.data)}",
        "commit": str(raw.get("git") or "not recorded"),
        "machine": str(raw.get("machine", "not recorded")),
        "versions": ", ".join(f"{k} {v}" for k, v in versions) or "not recorded",
    }
    if run.parent is not None:
        facts["trained longer than"] = str(run.parent)
    preset, differences = nearest_preset(config)
    return RunCard(
        name=name,
        facts=tuple(facts.items()),
        data=tuple(run.data.items()),
        scales=_scales(run, name),
        config=(folder / CONFIG).read_text(encoding="utf-8"),
        preset=preset,
        differences=differences,
        folder=folder,
        curves=_curves(run, name),
    )


def _curves(run: Run, name: str) -> Picture | None:
    """L1 of training and validation against steps, a line a scale; None where none is logged."""
    import pandas as pd

    from msgan import plots

    lines = [{**row, "scale": f"s{i}"} for i in run.used for row in rows(run.folder_of(i) / LOG)]
    table = pd.DataFrame(lines)
    for column in DRAWN:
        if column in table:
            table[column] = pd.to_numeric(table[column], "coerce")
    there = [c for c in DRAWN if c in table and table[c].notna().any()]
    if not there:
        return None
    figure = plots.curves(table, columns=there, smooth=SMOOTH, across=1, width=4.2)
    text = (
        "Mean absolute error on training patches and, of the averaged weights, on validation "
        f"patches, against steps; intensities in [-1, 1]. Bold: mean of {SMOOTH} logged values."
    )
    return drawn(figure, name, text)


def _together(data: Any) -> str:
    """First digits of one hash over all subjects, to compare two runs at a glance."""
    import hashlib

    text = "\0".join(f"{k}\0{v}" for k, v in sorted(data.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _scales(run: Run, name: str) -> Table:
    import pandas as pd

    records = [{"scale": f"s{i}"} | _trained(run, i) for i in run.used]
    names = ["scale", "state", "step", "seconds", "best", "peak_MiB", "gpu_peak_MiB"]
    frame = pd.DataFrame(records, columns=names)

    def shown(record: Mapping[Any, Any]) -> Iterator[Cell]:
        yield Cell(record["scale"])
        yield Cell(record["state"])
        for key, form in (
            ("step", "{:.0f}".format),
            ("seconds", duration),
            ("best", "{:.4f}".format),
            ("peak_MiB", "{:.0f} MiB".format),
            ("gpu_peak_MiB", "{:.0f} MiB".format),
        ):
            yield Cell("–" if pd.isna(record[key]) else form(record[key]))

    return Table(
        name=file_name("run", name, "training"),
        title=f"Training of {name}",
        note=(
            f"Data: {len(run.data)} subjects, {run.target}, {run.config.dims}D, intensities in "
            "[-1, 1]. Validation L1 is that of the weights kept. Memory: most that the training "
            "process has held by the end of a scale; – where it was not recorded."
        ),
        columns=("scale", "state", "steps", "time", "validation L1", "peak, host", "peak, GPU"),
        rows=tuple(tuple(shown(record)) for record in frame.to_dict("records")),
        frame=frame,
        words=2,
    )


def _trained(run: Run, scale: int) -> dict[str, Any]:
    """What is known of the training of one scale: its end, or the last line of its log."""
    folder = run.folder_of(scale)
    ended, log = folder / DONE, folder / LOG
    if ended.is_file():
        known, state = json_of(ended), "finished"
    elif log.is_file():
        known, state = (rows(log) or [{}])[-1], "not finished"
    else:
        return {"state": "not begun"}
    if not isinstance(known, dict):
        raise InputError(f"{folder}: what is known of its training is no JSON object")
    names = ("step", "seconds", "best", "peak_MiB", "gpu_peak_MiB")
    return {"state": state} | {k: known[k] for k in names if _is_number(known.get(k))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def nearest_preset(config: CascadeConfig) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """The preset with the fewest values that differ, and those values: key, there, here."""
    here = flat(config.model_dump(mode="json"))
    best: tuple[str, tuple[tuple[str, str, str], ...]] | None = None
    for name, other in _presets(config):
        there = flat(other.model_dump(mode="json"))
        changed = tuple(
            (key, str(there.get(key)), str(here.get(key)))
            for key in {**there, **here}
            if there.get(key) != here.get(key)
        )
        if best is None or len(changed) < len(best[1]):
            best = (name, changed)
    assert best is not None
    return best


def _presets(config: CascadeConfig) -> Iterator[tuple[str, CascadeConfig]]:
    usual = {"brain": "brains", "thorax": "the thorax"} if config.dims == 3 else {"xray": "X-rays"}
    for name in presets.PRESETS:
        for anatomy, what in {"any": "", **usual}.items():
            other = presets.preset(name, anatomy, dims=config.dims, seed=config.seed)
            yield f"{name} for {what}" if what else name, other
