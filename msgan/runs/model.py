"""A model: a trained run exported as one folder to share.

Weights, configuration and run card as in a run folder (:mod:`msgan.runs.run`), so that it is
opened like one, and ``README.md``, a card for people. What only training needs stays behind:
checkpoints, curves, caches. Names of subjects stay behind too; the hashes of their files are kept.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from msgan.documents import json_of, shown, text_of
from msgan.match.profile import FILE
from msgan.paths import atomic_folder, room, write_text
from msgan.runs import model_card
from msgan.runs.checksums import checksums
from msgan.runs.parent import DONE
from msgan.runs.run import CARD, CONFIG, README, Run
from msgan.sketch import strength
from msgan.sketch.strength import Strengths
from msgan.training import checkpoint
from msgan.training.loop import WEIGHTS
from msgan.types import InputError

SCORES = "scores.csv"
FORMAT = 1
NOT_STATED = "not stated"

KEPT = ("key", "target", "intensity", "seed", "versions", "git", "machine")
"""Of the run's card; the subjects' hashes are kept without their names."""


@dataclass(frozen=True)
class About:
    """What only people know about a model.

    Attributes:
        summary: What it does, one sentence; empty: what the run tells.
        data: Name and origin of the training data.
        data_licence: Terms under which they may be used.
        licence: Of the weights.
        notice: Text that must go with them, such as a copyright notice.
        evaluation: How the scores were measured.
    """

    summary: str = ""
    data: str = NOT_STATED
    data_licence: str = NOT_STATED
    licence: str = NOT_STATED
    notice: str = ""
    evaluation: str = ""


def export(
    run: Run,
    out: str | os.PathLike[str],
    about: About | None = None,
    *,
    half: bool = False,
    names: bool = False,
    scores: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a trained run as a model; the folder appears complete or not at all.

    Args:
        run: Finished.
        out: Folder to make; its name is the model's.
        about: What only people know.
        half: Store weights as float16, at half the size; they are computed with as float32.
        names: Keep the names of the training subjects, which may be personal data.
        scores: CSV whose first row names the columns; shown in the card as it is.

    Returns:
        The folder.

    Raises:
        InputError: ``out`` exists, the training of a scale is not finished, the run is a model
            already or needs another run, its files are damaged, a weight is too large for float16,
            or the scores are no table.
    """
    out = Path(out)
    about = about or About()
    table = None if scores is None else read_scores(Path(scores))
    _check(run, out)
    parts = [f"s{i}/{WEIGHTS}" for i in run.used]
    need = sum((run.folder / name).stat().st_size for name in parts)
    with room(out, need // (2 if half else 1), "the model"), atomic_folder(out) as folder:
        for i, name in zip(run.used, parts, strict=True):
            (folder / name).parent.mkdir()
            if half:
                _write_half(run, i, folder / name)
            else:
                shutil.copyfile(run.folder / name, folder / name)
            done = json.dumps(_training(run, i), indent=1)
            write_text(folder / name.replace(WEIGHTS, DONE), done + "\n")
        run.config.save(folder / CONFIG)
        if run.config.guidance.on:
            run.profile.save(folder)
            parts.append(FILE)
        if (known := Strengths.load(run.folder)) is not None:
            known.save(folder)
            parts.append(strength.FILE)
        card = describe(run, about, names=names)
        card["model"]["precision"] = "float16" if half else "float32"
        card["model"]["files"] = checksums(folder, [*parts, CONFIG])
        write_text(folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        if scores is not None:
            shutil.copyfile(scores, folder / SCORES)
        write_text(folder / README, model_card.text(out.name, card, run.config, table))
    return out


def describe(run: Run, about: About, *, names: bool = False) -> dict[str, Any]:
    """The run's card as it is given away, with ``model``: what was stated, and the training."""
    card = _card(run)
    told = {k: card.get(k) for k in KEPT}
    if not isinstance(told["versions"], dict):
        raise InputError(f"{run.folder / CARD}: versions: expected names with values")
    # Sorted by hash: the order of the names must not show either.
    data = run.data if names else {f"subject {k}": h for k, h in enumerate(_hashes(run), 1)}
    stated = asdict(about)
    stated["summary"] = about.summary or f"Translates {run.config.dims}D images to {run.target}."
    weights = {f"s{i}": _parameters(run, i) for i in run.used}
    training = {f"s{i}": _training(run, i) for i in run.used}
    if run.parent is not None:
        told["parent"] = run.parent.to_dict()
    extra = {"format": FORMAT, **stated, "parameters": weights, "training": training}
    return {**told, "data": dict(data), "model": extra}


def card_of(run: Run) -> str:
    """The card of a model, or the card that a run would be exported with.

    Raises:
        InputError: The training of a scale is not finished.
    """
    path = run.folder / README
    if is_model(run) and path.is_file():  # perhaps edited since
        return text_of(path)
    _finished(run)
    return model_card.text(run.folder.resolve().name, describe(run, About()), run.config)


def is_model(run: Run) -> bool:
    """Whether its folder was exported."""
    return "model" in _card(run)


def read_scores(path: Path) -> list[list[str]]:
    """Rows of a CSV, the first with the columns' names.

    Raises:
        InputError: There is no such file, or it is no table.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text_of(path), newline="")) if row]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (InputError, csv.Error) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: not a CSV table: {why}") from None
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        raise InputError(
            f"{path}: expected a CSV table with a first row of names and rows of the same length"
        )
    return rows


def _card(run: Run) -> dict[str, Any]:
    return dict(json_of(run.folder / CARD))


def _check(run: Run, out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists already: choose another folder")
    if is_model(run):
        raise InputError(f"{run.folder}: is a model already: copy the folder")
    if run.config.auto_context is not None:
        raise InputError(
            f"{run.folder}: sees results of the weights {run.config.auto_context} and does not "
            "translate alone"
        )
    _finished(run)


def _finished(run: Run) -> None:
    for i in run.used:
        if not run.finished(i):
            raise InputError(
                f"{run.folder}: the training of scale {i} of {run.scales} is not finished"
            )


def _hashes(run: Run) -> list[str]:
    return sorted(run.data.values())


def _training(run: Run, scale: int) -> dict[str, Any]:
    """Steps and seconds of one scale, and the step its best weights are of."""
    path = run.folder_of(scale) / DONE
    done = json_of(path)
    if not isinstance(done, dict):
        raise InputError(f"{path}: damaged: not a JSON object")
    told = {k: done[k] for k in ("step", "best", "best_step", "seconds") if k in done}
    for name, value in told.items():
        if not isinstance(value, int | float):
            raise InputError(f"{path}: damaged: {name} is {shown(value)}: expected a number")
    return told


def _parameters(run: Run, scale: int) -> int:
    return sum(t.numel() for t in run.generator(scale).state_dict().values())


def _write_half(run: Run, scale: int, path: Path) -> None:
    """Weights as float16; what is no floating-point number stays."""
    network = run.generator(scale)
    largest = torch.finfo(torch.float16).max
    for name, values in network.state_dict().items():
        if values.is_floating_point() and values.abs().max() > largest:
            raise InputError(
                f"{run.folder_of(scale) / WEIGHTS}: {name} has a value of "
                f"{float(values.abs().max()):g}, float16 ends at {largest:g}: export without half"
            )
    about = _training(run, scale) | {"precision": "float16"}
    checkpoint.save_weights(network.half(), path, about)
