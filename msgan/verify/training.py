"""A trained run: checked against its card and its logs, compared with another, trained again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.data.cohort import Cohort
from msgan.documents import json_of
from msgan.match.profile import FILE as MATCH
from msgan.methods.cascade import data_hashes, fit
from msgan.methods.code import code_hash
from msgan.paths import sha256
from msgan.runs.run import CARD, CONFIG, DONE, Run, git_commit, versions
from msgan.sketch.strength import FILE as STRENGTH
from msgan.sketch.strength import Strengths
from msgan.training import checkpoint
from msgan.training.log import LOG, row_of, rows
from msgan.training.loop import WEIGHTS, learning_rate
from msgan.training.step import build_generator
from msgan.training.threads import computing_with
from msgan.types import InputError
from msgan.verify.verdict import Finding, State, Verdict, differences, stated, tried
from msgan.verify.weights import compare_logs, compare_weights, relative

if TYPE_CHECKING:
    from torch import nn

CIRCUMSTANCES = ("device", "threads", "threads_available", "processes", "code")
"""Of the note that a finished scale leaves."""

RESULT = ("best", "best_step")
"""Of that note: what the training came to."""

ROUNDING = 1e-12
"""A rate that is computed again may differ by this share: the C library's cosine."""


def check_training(run: Run, cohort: Cohort | None = None) -> Verdict:
    """Whether the files of a run are those that its card and its notes state.

    Args:
        run: Trained, in training, or a model.
        cohort: What it was trained on; None: the images are not looked at.
    """
    card = json_of(run.folder / CARD)
    found = [_key(run, card), _data(run, card, cohort)]
    if run.config.guidance.on:
        found.append(tried(MATCH, lambda: _opened(run.profile)))
    if (run.folder / STRENGTH).is_file():
        found.append(tried(STRENGTH, lambda: _opened(Strengths.load(run.folder))))
    for scale in run.used:
        found += _scale(run, card, scale)
    told = differences({"git": card.get("git"), **_stated_versions(card)}, _today())
    codes = set()
    for scale in run.used:
        with suppress(InputError):  # a damaged note is among the findings
            codes.add(_note(run, scale).get("code"))
    if codes - {None, code_hash()}:
        told = (*told, "the statements that decide weights have changed since it was trained")
    return Verdict(str(run.folder), tuple(found), told)


def compare_trainings(run: Run, other: Run, tolerance: float | None = None) -> Verdict:
    """Whether two runs have come to the same weights, losses and validation.

    Args:
        run: One.
        other: The other, of the same configuration and images for a verdict that says anything.
        tolerance: Largest relative difference that is accepted; None: none is.
    """
    card, again = (json_of(r.folder / CARD) for r in (run, other))
    unlike = differences(
        {**run.config.model_dump(mode="json"), "data": dict(run.data)},
        {**other.config.model_dump(mode="json"), "data": dict(other.data)},
    )
    what = "configuration and data"
    found = [Finding(what, State.DIFFERENT if unlike else State.IDENTICAL, "; ".join(unlike[:1]))]
    told: dict[str, None] = {}
    for scale in run.used:
        if not (run.finished(scale) and other.finished(scale)):
            sides = [str(r.folder) for r in (run, other) if not r.finished(scale)]
            why = f"its training is not finished in {' and '.join(sides)}"
            found.append(Finding(f"s{scale}", State.UNCHECKED, why))
            continue
        folders = run.folder_of(scale), other.folder_of(scale)
        logs = [rows(folder / LOG) for folder in folders]
        found.append(compare_logs(f"s{scale}: losses", logs[0], logs[1], tolerance))
        notes = _note(run, scale), _note(other, scale)
        found.append(_came_to(f"s{scale}: validation", notes[0], notes[1], tolerance))
        files = [folder / WEIGHTS for folder in folders]
        found.append(compare_weights(f"s{scale}: weights", files[0], files[1], tolerance))
        sides2 = ({k: note.get(k) for k in CIRCUMSTANCES} for note in notes)
        told |= dict.fromkeys(f"s{scale}: {line}" for line in differences(*sides2))
    sides3 = ({k: c.get(k) for k in ("versions", "git", "machine")} for c in (card, again))
    return Verdict(str(run.folder), tuple(found), (*differences(*sides3), *told))


def training_again(
    run: Run,
    cohort: Cohort,
    folder: Path,
    *,
    tolerance: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    features: nn.Module | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Verdict:
    """Train the finished scales of a run again in a fresh folder, and compare.

    Args:
        run: Trained.
        cohort: What it was trained on.
        folder: Where it is trained again; must not hold a run.
        tolerance: See :func:`compare_trainings`.
        device: ``auto``, ``cpu`` or ``cuda``; None: as the run was trained.
        threads: Of PyTorch; None: as many as the run was trained with, where it says so.
        features: See :func:`msgan.methods.cascade.fit`.
        report: Called with every logged row.

    Raises:
        InputError: It is a model, needs the results of another run, no scale is finished, or the
            images are not those that it was trained on.
    """
    if "model" in json_of(run.folder / CARD):
        raise InputError(f"{run.folder}: is a model, whose logs were left out: verify its run")
    if run.config.auto_context is not None:
        raise InputError(
            f"{run.folder}: sees results of the weights {run.config.auto_context}: it cannot be "
            "trained again alone"
        )
    scales = [i for i in run.used if run.finished(i)]
    if not scales:
        raise InputError(f"{run.folder}: the training of no scale is finished")
    if odd := _unlike(run.data, data_hashes(cohort, run.target, run.config)):
        raise InputError(f"{run.folder}: was trained on other images: {odd}")
    note = _note(run, scales[0])
    if device is None:
        device = "cpu" if note.get("device", "cpu") == "cpu" else "cuda"
    for scale in scales:  # each may have had another number of threads
        own = _note(run, scale)
        with computing_with(threads or own.get("threads_available") or own.get("threads")):
            made = fit(
                cohort,
                run.target,
                run.config,
                folder,
                scales=[scale],
                device=device,
                report=report,
                features=features,
                threads=threads or own.get("threads"),
            )
    return compare_trainings(run, made, tolerance)


def _opened(_: object) -> None:
    """Nothing is wrong with what could be read."""


def _today() -> dict[str, Any]:
    return {"git": git_commit(), **versions()}


def _stated_versions(card: Mapping[str, Any]) -> dict[str, Any]:
    known = card.get("versions")
    return dict(known) if isinstance(known, Mapping) else {}


def _key(run: Run, card: Mapping[str, Any]) -> Finding:
    """Whether target, configuration and data are those that the key was made of."""
    what = f"{CARD} and {CONFIG}: key"
    if "model" in card and any(name.startswith("subject ") for name in run.data):
        return Finding(what, State.UNCHECKED, "names of subjects were left out of the model")
    content = [run.config.model_dump(mode="json"), run.target, dict(run.data)]
    text = json.dumps([*content, _stated_versions(card).get("msgan")], sort_keys=True)
    return stated(what, hashlib.sha256(text.encode()).hexdigest()[:16], card.get("key"))


def _data(run: Run, card: Mapping[str, Any], cohort: Cohort | None) -> Finding:
    what = "images"
    if cohort is None:
        return Finding(what, State.UNCHECKED, "no manifest was given")

    def wrong() -> str | None:
        found = data_hashes(cohort, run.target, run.config)
        if "model" in card:  # perhaps without names
            same = sorted(found.values()) == sorted(run.data.values())
            return None if same else "are not those of the card"
        return _unlike(run.data, found)

    return tried(what, wrong)


def _unlike(known: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first subject that is not the one of the card."""
    for name in sorted({*known, *found}):
        if name not in found:
            return f"{name}: not among the images"
        if name not in known:
            return f"{name}: not in the card"
        if known[name] != found[name]:
            return f"{name}: SHA-256 {found[name][:12]}, the card states {known[name][:12]}"
    return None


def _note(run: Run, scale: int) -> dict[str, Any]:
    """What a finished scale has left; nothing where it is not finished.

    Raises:
        InputError: It is damaged.
    """
    path = run.folder_of(scale) / DONE
    if not path.is_file():
        return {}
    note = json_of(path)
    if not isinstance(note, dict):
        raise InputError(f"{path}: damaged: not a JSON object")
    return note


def _scale(run: Run, card: Mapping[str, Any], scale: int) -> list[Finding]:
    name, folder = f"s{scale}", run.folder_of(scale)
    path, log = folder / WEIGHTS, folder / LOG
    if not path.is_file():
        return [Finding(f"{name}: weights", State.UNCHECKED, "not trained yet")]

    def readable() -> None:
        checkpoint.load_weights(build_generator(run.config, scale), path)

    found = [tried(f"{name}: weights can be read", readable)]
    if "model" in card:  # its files were compared with their hashes when it was opened
        return found
    try:
        note = _note(run, scale)
    except InputError as error:
        return [*found, Finding(f"{name}: {DONE}", State.DIFFERENT, str(error))]
    if not note:
        return [*found, Finding(f"{name}: {DONE}", State.UNCHECKED, "its training is not finished")]
    found.append(stated(f"{name}: SHA-256 of the weights", sha256(path), note.get("sha256")))
    found.append(tried(f"{name}: header of the weights", partial(_header, path, note)))
    found.append(tried(f"{name}: {LOG}", partial(_log, run, scale, log, note)))
    return found


def _header(path: Path, note: Mapping[str, Any]) -> str | None:
    """Whether weights say that they are of the step that the end of the training names."""
    _, about = checkpoint.read(path)
    for own, name in (("step", "best_step"), ("best", "best")):
        if about.get(own) != note.get(name):
            return f"{own} {about.get(own)}, {DONE} states {name} {note.get(name)}"
    return None


def _log(run: Run, scale: int, path: Path, note: Mapping[str, Any]) -> str | None:
    """What contradicts itself in a log; None: nothing."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    if not lines:
        return "is missing or empty"
    settings = run.config.training
    total = settings.steps if scale else settings.lr_steps
    before = 0
    for number, line in enumerate(lines, 1):
        row = row_of(line)
        if row is None:
            return f"line {number} cannot be read"
        step = row["step"]
        if not before < step <= total:
            return f"line {number}: step {step} after {before}, of {total}"
        before = step
        for name, value in row.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                return f"step {step}: {name} is {value}"
        rate = learning_rate(settings, step - 1, total)
        if not relative(row.get("learning_rate"), rate) <= ROUNDING:
            return f"step {step}: learning_rate {row.get('learning_rate')}, expected {rate}"
        if wrong := _validation(row, note, settings.validate_every, total):
            return f"step {step}: {wrong}"
    if before != note.get("step"):
        return f"ends at step {before}, {DONE} states {note.get('step')}"
    return None


def _validation(
    row: Mapping[str, Any], note: Mapping[str, Any], every: int, total: int
) -> str | None:
    """Whether the score of a row contradicts the best of the training."""
    score, best, at = row.get("validation_l1"), note.get("best"), note.get("best_step")
    if score is None or best is None or at is None:
        return None
    fresh = at <= row["step"] < min((at // every + 1) * every, max(total, at + 1))
    if fresh and score != best:  # there was no other score since
        return f"validation_l1 {score}, {DONE} states {best} since step {at}"
    return None


def _came_to(
    what: str, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float | None
) -> Finding:
    sides = [[{"step": 0, **{k: note.get(k) for k in RESULT}}] for note in (one, other)]
    found = compare_logs(what, sides[0], sides[1], tolerance)
    detail = found.detail.removeprefix("from step 0 on: ")
    return Finding(what, found.state, detail, found.apart)
