"""``msgan init``: propose a manifest for a folder of images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgan.cli import console, outputs
from msgan.types import InputError

if TYPE_CHECKING:
    from msgan.data.scan import Proposal

MANIFEST, NOTES, CONFIG = "manifest.csv", "notes.md", "config.yaml"

MR = ("mr", "t1", "t1c", "t2", "flair", "pd")


def init(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder for manifest.csv and notes.md; created if missing."
        ),
    ],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="FOLDER", help="Folder with images; it is only read."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files of an earlier call in DIR.")
    ] = False,
) -> None:
    """Scan a folder of images and propose a manifest for it.

    Guesses subjects, modalities, labels and masks from names and from headers of NIfTI, DICOM,
    MetaImage, NRRD, MGH, OME-Zarr, PNG and TIFF, finds which images of a subject share a grid,
    and divides the subjects into train, val and test. Correct wrong guesses in
    DIR/manifest.csv; DIR/notes.md gives the reason for each guess and lists every file that was
    left out. For CT and radiographs, DIR/config.yaml has the settings that differ from MR.

    \b
    Example:
        msgan init study --from phantoms
    """
    from msgan.data import pseudonym
    from msgan.data.manifest import write_manifest
    from msgan.data.scan import propose
    from msgan.data.scan.notes import notes, summary
    from msgan.paths import write_text

    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file, expected a folder")
    for folder in (source, out):
        if not _is_utf8(str(folder)):
            raise InputError(
                f"{folder}: its name has bytes that are not UTF-8, which a manifest cannot hold: "
                "rename it"
            )
    inner, outer = source.resolve(), out.resolve()
    if outer.is_relative_to(inner):
        raise InputError(f"{out}: lies in {source}, which is left as it is: choose another folder")
    for name in (MANIFEST, NOTES, CONFIG):
        if (out / name).exists() and not force:
            raise InputError(f"{out / name}: is there already: pass --force to replace it")
    outputs.writable(out)
    below = inner.is_relative_to(outer)
    prefix = inner.relative_to(outer).as_posix() if below else ""
    salt = pseudonym.salt_of(out)
    with console.Bars(f"looking through {source}") as bars:

        def progress(done: int, total: int, path: str) -> None:
            bars.update("init", done, total, "images")

        found = propose(source, prefix, progress, salt)
    root = out if below else source
    commands, settings = _next(found, out, root)
    renamed = _has_short_names(out / MANIFEST)
    if any(one.study for one in found.found):  # DICOM: names may be hashes
        out.mkdir(parents=True, exist_ok=True)
        pseudonym.keep(out, salt)
    write_text(out / NOTES, notes(found, str(source), commands))
    if settings:
        write_text(out / CONFIG, settings)
    elif force:
        (out / CONFIG).unlink(missing_ok=True)
    write_manifest(out / MANIFEST, found.manifest)
    if renamed:
        console.note(
            f"note: {out / MANIFEST}: its subjects that are hashes have new, longer names; runs "
            "trained with the old names translate as before and cannot go on training"
        )
    for line in summary(found):
        console.say(line)
    console.say("")
    console.say(f"{out / MANIFEST}: {len(found.found)} files; correct what is wrong")
    console.say(f"{out / NOTES}: guesses, skipped files and next steps:")
    for command in commands:
        console.say(f"  {command}")


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _has_short_names(manifest: Path) -> bool:
    """Whether a manifest names subjects by hashes of 8 digits, as versions without a salt did."""
    if not manifest.is_file():
        return False
    text = manifest.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(r"^(subject|study)-[0-9a-f]{8}(?![0-9a-f])", text, re.MULTILINE))


def _next(found: Proposal, out: Path, root: Path) -> tuple[list[str], str]:
    """The commands that follow, and settings for a target that is no MR (else empty)."""
    from msgan.data.scan.guess import UNKNOWN
    from msgan.presets import is_ct

    target, source = _task(found)
    images = {(f.subject, f.modality): row.path for f, row in _images(found)}
    split = found.split_of
    pair = {frozenset(p): who for p, who in found.pairs.items()}
    paired = pair.get(frozenset((source, target)), ()) if source != target else split
    having = [subject for subject, modality in images if modality == source]
    # Of split test, and with a real image to compare with, where there is one.
    who = min(having, key=lambda s: (split[s] != "test", s not in paired, s))
    settings = _settings(source, target)
    ranged = ["--modality", source] if is_ct(target) and not is_ct(source) else []
    below = ["--root", root] if root != out else []
    manifest, run = out / MANIFEST, out / "runs" / target
    flat = all(found.grids[f.path].dims == 2 for f, _ in _images(found) if f.modality == target)
    result = out / f"{who}_as_{target}{'.png' if flat else '.nii.gz'}"
    lines: list[list[Any]] = [
        ["data", "check", manifest, *below, *(["--unpaired"] if found.apart else [])],
        ["train", manifest, *below, "--target", target, "--preset", "smoke", "--out", run],
        ["translate", run, root / images[who, source], result, *ranged],
    ]
    if settings:
        lines[1][-2:-2] = ["--config", out / CONFIG]
    if who in paired:
        hu = ["--black", "-1024", "--data-range", "2048"] if target.startswith("ct") else []
        inside = [
            row.path
            for f, row in zip(found.found, found.manifest.rows, strict=True)
            if (f.subject, f.role) == (who, "mask")
            and found.grids[f.path] == _grid(found, who, target)
        ]
        mask = ["--mask", root / inside[0]] if inside else []
        lines.append(["evaluate", result, root / images[who, target], *mask, *hu])
    lines += [["report", out / "runs"], ["explore", out]]
    if target == UNKNOWN:  # the manifest must be corrected first
        lines = lines[:1]
    return [shlex.join(["msgan", *map(str, words)]) for words in lines], settings


def _grid(found: Proposal, subject: str, modality: str) -> Any:
    """Where an image of a subject lies."""
    kind = (subject, "image", modality)
    return next(found.grids[f.path] for f in found.found if (f.subject, f.role, f.modality) == kind)


def _images(found: Proposal) -> list[tuple[Any, Any]]:
    rows = zip(found.found, found.manifest.rows, strict=True)
    return [(f, row) for f, row in rows if f.role == "image"]


def _task(found: Proposal) -> tuple[str, str]:
    """Target and source: of the two that most subjects have on one grid, T1 to T2 if it can be.

    Of an MR and a CT the CT is the target, as for radiotherapy.
    """
    most = max(map(len, found.pairs.values()), default=0)
    pairs = [pair for pair, who in found.pairs.items() if len(who) == most]
    if pairs:
        first, second = ("t1", "t2") if ("t1", "t2") in pairs else pairs[0]
        # Softer kernels and the full dose come first in the alphabet.
        soft = first.startswith("ct") and second.startswith("ct")
        planned = first == "ct" and second.split("_")[0] in MR
        return (first, second) if soft or planned or first == "t2" else (second, first)
    from msgan.data.scan.guess import UNKNOWN

    names = found.modalities
    target = "t2" if "t2" in names else names[0]
    others = [name for name in names if name not in (target, UNKNOWN)] or [target]
    return target, "t1" if "t1" in others else others[0]


def _settings(source: str, target: str) -> str:
    """What a configuration for CT or radiographs states, as YAML; empty for all others."""
    import yaml

    from msgan.config import IntensityRange
    from msgan.presets import CT_PREPARATION, KERNEL_SKETCH, XRAY_SKETCH, is_ct

    own: dict[str, Any]
    if is_ct(target) and not source.startswith("ct"):
        window = CT_PREPARATION.model_dump(include=set(IntensityRange.model_fields))
        why = "HU instead of percentiles."
        if not is_ct(source):
            window |= {"ranges": {source: IntensityRange().model_dump()}, "body": True}
            why = f"HU instead of percentiles; {source} keeps them."
        own = {"preparation": window}
        return f"# {why} For --config of msgan train.\n{yaml.safe_dump(own, sort_keys=False)}"
    if source.startswith("ct") and target.startswith("ct"):
        window = CT_PREPARATION.model_dump(include=set(IntensityRange.model_fields))
        own = {
            "preparation": window,
            "sketch": {"low": KERNEL_SKETCH.low, "high": KERNEL_SKETCH.high},
        }
        why = "HU instead of percentiles, and edges as faint as those of a lung."
    elif source.startswith("xray") and target.startswith("xray"):
        sketch = XRAY_SKETCH.model_dump(include={"low", "high", "steps"})
        own = {"sketch": sketch, "conditioning": {"sketch_noise": 0.003}}
        why = "Edges in radiographs are fainter than in slices."
    else:
        return ""
    own["contrast"] = {"share": 0.0}
    return f"# {why} For --config of msgan train.\n{yaml.safe_dump(own, sort_keys=False)}"
