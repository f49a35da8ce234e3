"""A translated image: checked against its sidecar, compared with another, translated again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from msgan.data.cohort import Subject
from msgan.data.store import pieces, suffix_of
from msgan.data.volume import open_volume
from msgan.documents import json_of
from msgan.runs.run import CARD, Run, git_commit, versions
from msgan.training.threads import computing_with
from msgan.translate.frame import expected_id, translated
from msgan.translate.generation import Generation, Polarity
from msgan.translate.provenance import Provenance, content_hash, sidecar, trace_of
from msgan.types import InputError
from msgan.verify.verdict import Finding, State, Verdict, differences, judged, short, stated, tried


def trace_at(path: Path) -> Provenance | None:
    """The sidecar that a path names, or that of the image it names; None: it is neither.

    Raises:
        InputError: The sidecar is damaged, or of an image that is not there or another one now.
    """
    if path.suffix != ".json":
        return trace_of(path)
    found = sidecar(path) if path.is_file() else None
    if found is not None and trace_of(found.result) is None:
        raise InputError(f"{path}: its image {found.result} is not there, or another one now")
    return found


def check_translation(trace: Provenance) -> Verdict:
    """Whether files, weights and settings are still those that a sidecar states."""
    found = [tried("the image can be read", lambda: _read(trace.result))]
    known = {"image": trace.image, "labels": trace.labels, "mask": trace.mask}
    for name, digest in trace.hashes.items():
        path = known.get(name)
        found.append(tried(f"{name}: SHA-256", lambda p=path, d=digest: _hash(p, d)))  # type: ignore[misc]
    if not trace.hashes:
        found.append(Finding("image: SHA-256", State.UNCHECKED, "the sidecar does not state it"))
    if trace.run is not None:
        found += _run(trace, trace.run)
        found.append(_settings(trace, found))
    return Verdict(str(trace.result), tuple(found), _circumstances(trace))


def compare_translations(
    trace: Provenance, other: Provenance, tolerance: float | None = None
) -> Verdict:
    """Whether two images have the same voxels.

    Args:
        trace: One.
        other: The other.
        tolerance: Largest difference that is accepted, as a share of the range of intensities
            that the sidecar states; None: none is.
    """
    found = []
    if trace.match is not None or other.match is not None:
        found.append(_matched(trace, other))
    span = trace.high - trace.low
    found.append(compare_images("voxels", trace.result, other.result, span, tolerance))
    told = differences(_made_by(trace), _made_by(other))
    return Verdict(str(trace.result), tuple(found), told)


def translation_again(
    trace: Provenance,
    folder: Path,
    *,
    tolerance: float | None = None,
    device: str | None = None,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Translate the image again as its sidecar says, and compare.

    Args:
        trace: Of the translation.
        folder: Where it is written again.
        tolerance: See :func:`compare_translations`.
        device: ``auto``, ``cpu`` or ``cuda``; None: as it was.
        threads: Of PyTorch; None: as many as there were, where the sidecar says so.
        progress: See :class:`msgan.translate.maker.Options`.

    Raises:
        InputError: It was made without a run, the run or a file is another one now, or see
            :func:`msgan.translate.translate`.
    """
    if trace.run is None:
        raise InputError(f"{trace.result}: was made by {trace.method}, without a run: no weights")
    for fault in check_translation(trace).findings:
        if fault.state is State.DIFFERENT:
            raise InputError(f"{trace.result}: cannot be made again: {fault.what}: {fault.detail}")
    run, options, computed = Run.open(trace.run), _options(trace), trace.computed
    if device is None:
        device = "cpu" if computed.get("device", "cpu") == "cpu" else "cuda"
    own: dict[str, Any] = {k: computed.get(k) for k in ("memory", "gpu_memory", "tile")}
    stem = f"again{suffix_of(trace.result)}"
    if trace.uncertainty is not None:
        own["uncertainty"] = folder / f"spread{suffix_of(trace.uncertainty)}"
    polarity = _polarity(trace, run) or "auto"
    method = _method(trace, run, polarity)
    with computing_with(threads or computed.get("threads")):
        done = translated(
            method,
            _source(trace),
            folder / stem,
            device=device,
            progress=progress,
            **options,
            **own,
        )
    return compare_translations(trace, done.trace, tolerance)


def compare_images(
    what: str, one: Path, other: Path, span: float, tolerance: float | None
) -> Finding:
    """Whether two images have the same grid and voxels; both are read piece by piece.

    Args:
        what: Name of the finding.
        one: An image.
        other: The other one.
        span: Range of intensities that a difference is a share of.
        tolerance: Largest share that is accepted; None: none is.
    """
    with open_volume(one, check=False) as a, open_volume(other, check=False) as b:
        if a.grid.shape != b.grid.shape:
            return Finding(what, State.DIFFERENT, f"shapes {a.grid.shape} and {b.grid.shape}")
        if not np.array_equal(a.grid.affine, b.grid.affine):
            return Finding(what, State.DIFFERENT, "the affines differ")
        count, most, at = 0, 0.0, (0,) * len(a.grid.shape)
        for box in pieces(a.grid.shape):
            first, second = a.read(box), b.read(box)
            unequal = first != second
            if not unequal.any():
                continue
            count += int(unequal.sum())
            apart = np.abs(first.astype(np.float64) - second)
            if apart.max() > most:
                most = float(apart.max())
                place = np.unravel_index(int(apart.argmax()), apart.shape)
                at = tuple(int(n + s) for n, s in zip(place, box.start, strict=True))
    if not count:
        return Finding(what, State.IDENTICAL)
    voxels = math.prod(a.grid.shape)
    where = f"{count} of {voxels} voxels, most ({most:.3g}) at {at}"
    return judged(what, most / span if span > 0 else math.inf, tolerance, where)


def _read(path: Path) -> None:
    with open_volume(path):
        pass


def _hash(path: Path | None, digest: str) -> str | None:
    if path is None or not path.exists():
        return f"{path}: is not there"
    found = content_hash(path)
    return None if found == digest else f"{path}: is {short(found)}, stated is {short(digest)}"


def _run(trace: Provenance, folder: Path) -> list[Finding]:
    """Findings of the run."""
    try:
        run = Run.open(folder)
    except (InputError, OSError) as error:
        return [Finding("run", State.DIFFERENT, str(error))]
    found = [stated("run: key", json_of(run.folder / CARD).get("key"), trace.run_id or None)]
    try:
        weights = Generation.of(run, trace.method).weights
    except (InputError, OSError) as error:
        return [*found, Finding("weights", State.DIFFERENT, str(error))]
    for name, digest in trace.weights.items():
        found.append(stated(f"weights of {name}: SHA-256", weights.get(name), digest))
    return found


def _settings(trace: Provenance, found: Sequence[Finding]) -> Finding:
    """Whether configuration, preparation and precision are those that the id was made of."""
    what = "settings: id"
    if any(finding.state is State.DIFFERENT for finding in found):
        return Finding(what, State.UNCHECKED, "what it is made of differs")
    if not trace.id or trace.versions.get("msgan") != versions()["msgan"]:
        why = "made by another version" if trace.id else "the sidecar does not state it"
        return Finding(what, State.UNCHECKED, why)
    assert trace.run is not None
    if _polarity(trace, Run.open(trace.run)) is None:
        return Finding(what, State.DIFFERENT, "configuration, preparation, precision give another")
    return Finding(what, State.IDENTICAL)


def _source(trace: Provenance) -> Subject | Path:
    """What was translated: a subject where its foreground is known, else a file."""
    return trace.image if trace.mask is None else trace.person


def _options(trace: Provenance) -> dict[str, Any]:
    """What was asked of the translation, apart from limits."""
    return {
        "modality": trace.source or None,
        "labels": trace.labels,
        "precision": trace.computed.get("precision", "float32"),
        "padding": trace.preparation.get("padding"),
    }


def _method(trace: Provenance, run: Run, polarity: Polarity) -> Generation:
    """What made the translation, if that was the polarity."""
    return Generation.of(
        run,
        trace.method,
        polarity=polarity,
        uncertainty=trace.uncertainty is not None,
        recolourings=trace.recolourings,
    )


def _id(trace: Provenance, run: Run, polarity: Polarity) -> str | None:
    """The id that the translation would have; None: the run has no such polarity."""
    try:
        return expected_id(_method(trace, run, polarity), _source(trace), **_options(trace))
    except (InputError, OSError):
        return None


def _polarity(trace: Provenance, run: Run) -> Polarity | None:
    """What the user had stated of the source: the id tells. None: it is of none of them."""
    known: tuple[Polarity, ...] = get_args(Polarity)
    return next((p for p in known if _id(trace, run, p) == trace.id), None)


def _matched(trace: Provenance, other: Provenance) -> Finding:
    """Whether the source was matched the same way; what follows from last bits is in the voxels."""
    ways = [{k: (one.match or {}).get(k) for k in ("inverted", "stated")} for one in (trace, other)]
    unlike = differences(*ways)
    state = State.DIFFERENT if unlike else State.IDENTICAL
    return Finding("match", state, "; ".join(unlike))


def _made_by(trace: Provenance) -> dict[str, Any]:
    own = {"tiles": str(trace.tiles), "run": trace.run_id, "id": trace.id}
    return {**trace.versions, "git": trace.commit, **trace.computed, **own}


def _circumstances(trace: Provenance) -> tuple[str, ...]:
    then = {"git": trace.commit, **trace.versions}
    return differences(then, {"git": git_commit(), **versions()})
