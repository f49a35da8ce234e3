"""A run folder: everything needed to translate with a trained cascade and to identify it.

``config.yaml`` (resolved), ``run.json`` (target, intensity range, data hashes, versions, seed),
``s0`` .. ``sn`` (weights, checkpoint, curves of each scale).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

import msgan
from msgan.config import CascadeConfig
from msgan.data.intensity import IntensityMap
from msgan.documents import json_of, shown
from msgan.lock import alone
from msgan.match.profile import FILE, TargetProfile
from msgan.networks.generator import Generator
from msgan.paths import atomic_folder, inside, sha256, write_text
from msgan.runs import checksums
from msgan.runs.bundled import CARD, located
from msgan.runs.parent import DONE, Parent
from msgan.sketch import strength
from msgan.training import checkpoint
from msgan.training.log import LOG
from msgan.training.loop import CHECKPOINT, INHERITED, WEIGHTS
from msgan.training.step import build_generator
from msgan.types import InputError

CONFIG = "config.yaml"

README = "README.md"
"""Card of a model for people."""

PATIENCE = 60.0
"""Seconds to wait for another process that makes the same folder: it writes two small files."""

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Run:
    """A trained cascade, or one in training.

    Attributes:
        folder: Where it is kept.
        config: Resolved: spacing and number of scales are stated.
        target: Modality whose appearance was learnt.
        intensity: Range of the target in source units, [-1, 1] inside.
        data: SHA-256 of the files of each training and validation subject.
        parent: The finished run that this one goes on from, if it does.
    """

    folder: Path
    config: CascadeConfig
    target: str
    intensity: IntensityMap
    data: Mapping[str, str]
    parent: Parent | None = None

    @property
    def scales(self) -> int:
        """n of s0..sn."""
        assert self.config.preparation.scales is not None
        return self.config.preparation.scales

    @property
    def used(self) -> range:
        """The scales a translation goes through.

        Without context none is needed below the last; s0 only if it is
        :attr:`~msgan.config.CascadeConfig.drawn`.
        """
        lowest = 0 if self.config.drawn else 1
        if "context" in self.config.drop_inputs:
            lowest = self.scales
        return range(lowest, self.scales + 1)

    @property
    def first(self) -> int:
        """The lowest scale a translation goes through."""
        return self.used[0]

    @property
    def key(self) -> str:
        """Hash of configuration, data and code version: two runs of one key are the same."""
        content = [self.config.model_dump(mode="json"), self.target, dict(self.data)]
        content += [self.parent.to_dict()] if self.parent else []
        text = json.dumps([*content, msgan.__version__], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def total(self, scale: int) -> int:
        """Steps that s_i is trained, those of its parent among them."""
        span = self.parent.span(scale) if self.parent else None
        settings = self.config.training
        return span.end if span else settings.steps if scale else settings.lr_steps

    def longer(self, scales: Iterable[int], more: int) -> Parent:
        """This run as the parent of one that trains scales for more steps.

        Raises:
            InputError: It is not finished, or has not kept the state of its training.
        """
        return Parent.of(self.folder, self.key, self.used, scales, more)

    def require_same_training(self, new: Run) -> None:
        """Refuse a run that would go on from this one with another configuration or other data.

        Raises:
            InputError: Names the first difference.
        """
        if difference := _first_difference(self, new):
            raise InputError(
                f"{new.folder}: cannot go on from {self.folder}: {difference}: a longer training "
                "has the data and the configuration of its parent"
            )

    def create(self, parent: Run | None = None) -> None:
        """Write configuration and card, or accept those of the same run.

        Args:
            parent: The run that :attr:`parent` describes, whose state is copied.

        Raises:
            InputError: The folder holds a run of another configuration, data or version.
        """
        path = self.folder / CARD
        if path.is_file():
            self._same(_card(path))
            return
        # Killed before the card was written, a run leaves its configuration or a part of it.
        others = self.folder.glob("[!.]*") if self.folder.is_dir() else ()
        if any(other.name != CONFIG for other in others):
            raise InputError(f"{self.folder}: is not empty and holds no run: choose another folder")
        beginning = f"{self.folder}: a training is being begun"
        with alone(self.folder / ".lock", beginning, wait=PATIENCE):
            if path.is_file():  # by another process, meanwhile
                self._same(_card(path))
                return
            if self.parent is None:
                self._write(self.folder)
                return
            assert parent is not None
            with atomic_folder(self.folder) as folder:
                self.parent.hand_on(parent.folder, folder)
                self._write(folder)

    def _same(self, old: Mapping[str, Any]) -> None:
        if old.get("key") != self.key:
            raise InputError(
                f"{self.folder}: holds another run ({self._difference(old)}): choose another folder"
            )

    def _write(self, folder: Path) -> None:
        self.config.save(folder / CONFIG)
        card = {
            "key": self.key,
            "target": self.target,
            "intensity": self.intensity.to_dict(),
            "data": dict(self.data),
            "seed": self.config.seed,
            "versions": versions(),
            "git": git_commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        }
        if self.config.network.perceptual:
            card["perceptual_loss"] = perceptual_loss(self.config)
        if self.parent is not None:
            card["parent"] = self.parent.to_dict()
        write_text(folder / CARD, json.dumps(card, indent=1) + "\n")

    @contextmanager
    def alone(self, scales: Iterable[int]) -> Iterator[None]:
        """Hold scales for a training by this process, which others are refused meanwhile.

        To read a run, nothing need be held: its files are replaced as a whole.

        Raises:
            InputError: Another process is training one of them.
        """
        with ExitStack() as stack:
            for i in scales:
                what = f"{self.folder}: scale {i} is being trained"
                stack.enter_context(alone(self.folder / f".s{i}.lock", what))
            yield

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a run folder, a model's folder, or a shipped model by its name.

        Raises:
            InputError: It is not one, or its files are damaged.
        """
        folder = located(folder)
        if not (folder / CARD).is_file():
            raise InputError(f"{folder}: not a run folder: it has no {CARD}")
        for name in (CARD, CONFIG):
            inside(folder, name)
        path = folder / CARD
        card = _card(path)
        config = CascadeConfig.load(folder / CONFIG)
        intensity = _intensity(path, card)
        target = _stated(path, card, "target", str)
        data = _stated(path, card, "data", dict)
        if not all(isinstance(own, str) for own in data.values()):
            raise InputError(f"{path}: data: expected a hash of each subject")
        if config.preparation.scales is None:
            raise InputError(f"{folder / CONFIG}: preparation.scales: is not stated, as a run must")
        parent = Parent.from_dict(path, card["parent"]) if "parent" in card else None
        run = cls(folder, config, target, intensity, data, parent)
        for scale in range(run.scales + 1):
            for name in (WEIGHTS, CHECKPOINT, INHERITED, DONE, LOG):
                inside(folder, f"s{scale}/{name}")
        for name in (FILE, strength.FILE, README):
            inside(folder, name)
        if "model" in card:  # it was exported
            matched = [FILE] if config.guidance.on else []
            weights = [f"s{i}/{WEIGHTS}" for i in run.used]
            known = [strength.FILE] if (folder / strength.FILE).is_file() else []
            checksums.check(folder, card["model"], [*weights, *matched, *known])
        return run

    def _difference(self, card: Mapping[str, Any]) -> str:
        """The first thing in which the run that is there differs from this one."""
        there = _stated_by(
            card.get("target"), card.get("data", {}), CascadeConfig.load(self.folder / CONFIG)
        )
        here = _stated_by(self.target, self.data, self.config)
        own = self.parent.to_dict() if self.parent else {}
        there |= flat({"parent": card.get("parent") or {}})
        if difference := _unlike(there, here | flat({"parent": own})):
            return difference
        versions = card.get("versions")
        old = versions.get("msgan") if isinstance(versions, dict) else "unknown"
        if old == msgan.__version__:
            return "its settings have the names of an older version"
        return f"made by version {old}, this is {msgan.__version__}"

    @property
    def profile(self) -> TargetProfile:
        """What sources are matched to.

        Raises:
            InputError: It is not there, or damaged.
        """
        return TargetProfile.load(self.folder)

    def folder_of(self, scale: int) -> Path:
        """Where scale s_i keeps weights, checkpoint and curves."""
        return self.folder / f"s{scale}"

    def finished(self, scale: int) -> bool:
        """Whether the training of s_i came to its end."""
        path = self.folder_of(scale) / DONE
        return path.is_file() and (self.folder_of(scale) / WEIGHTS).is_file()

    def finish(self, scale: int, about: Mapping[str, Any]) -> None:
        """Note that the training of s_i came to its end; its state stays for a longer one.

        The note states the SHA-256 of the weights (``sha256``).
        """
        path = self.folder_of(scale) / WEIGHTS
        stated = {"sha256": sha256(path)} if path.is_file() else {}
        note = json.dumps({**about, **stated}, indent=1)
        write_text(self.folder_of(scale) / DONE, note + "\n")
        (self.folder_of(scale) / INHERITED).unlink(missing_ok=True)

    def weights(self, scale: int) -> Path:
        """The file with the best averaged weights of s_i.

        Raises:
            InputError: The scale has no weights yet.
        """
        path = self.folder_of(scale) / WEIGHTS
        if not path.is_file():
            raise InputError(f"{self.folder}: scale {scale} of {self.scales} is not trained yet")
        return path

    def generator(self, scale: int) -> Generator:
        """The generator of s_i, with the best averaged weights, ready to translate.

        Raises:
            InputError: The scale has no weights yet.
        """
        path = self.weights(scale)
        network = build_generator(self.config, scale)
        checkpoint.load_weights(network, path)
        return network.requires_grad_(False).eval()


def perceptual_loss(config: CascadeConfig) -> str:
    """Whether a family that may have a perceptual loss was trained with it, for a card."""
    if config.perceptual is None:
        return "off: no network for it was given; the objective is eq. 2 without this term"
    return f"on: weight {config.perceptual.weight:g}, network {config.perceptual.backbone}"


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = ("torch", "numpy", "scipy", "nibabel", "zarr", "lightning-fabric")
    found = {"msgan": msgan.__version__, "python": platform.python_version()}
    return found | {name: version(name) for name in names}


def device_name(device: torch.device) -> str:
    """What computes: ``cpu``, or the name of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def git_commit() -> str | None:
    """The commit of the code, marked where files were changed; None outside a checkout."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("-changed" if git("status", "--porcelain", "--", str(folder)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _card(path: Path) -> dict[str, Any]:
    card = json_of(path)
    if not isinstance(card, dict):
        raise InputError(f"{path}: not a JSON object")
    return card


def _stated(path: Path, card: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind:
    """A value of a card that must be there, and of that kind."""
    if name not in card:
        raise InputError(f"{path}: has no '{name}'")
    value = card[name]
    if not isinstance(value, kind):
        what = "text" if kind is str else "names with values"
        raise InputError(f"{path}: {name}: is {shown(value)}: expected {what}")
    return value


def _intensity(path: Path, card: Mapping[str, Any]) -> IntensityMap:
    own = _stated(path, card, "intensity", dict)
    try:
        low, high = float(own["low"]), float(own["high"])
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError
        return IntensityMap.from_dict(own)
    except KeyError as error:
        raise InputError(f"{path}: intensity: has no {error}") from None
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path}: intensity: low {shown(own.get('low'))} and high {shown(own.get('high'))}: "
            "expected two finite numbers in this order"
        ) from None


def _stated_by(target: Any, data: Any, config: CascadeConfig) -> dict[str, Any]:
    return flat({"target": target, "data": data, **config.model_dump(mode="json")})


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first value in which two runs differ, in words; empty where none does."""
    for name in {**new, **old}:
        if old.get(name) != new.get(name):
            return f"{name} is {old.get(name)} there and {new.get(name)} here"
    return ""


def _first_difference(old: Run, new: Run) -> str:
    return _unlike(*(_stated_by(r.target, r.data, r.config) for r in (old, new)))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
