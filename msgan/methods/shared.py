"""Trained runs that several notebooks share, in folders named by all that decides them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort
from msgan.lock import alone
from msgan.methods.cascade import fit, modalities
from msgan.methods.code import code_hash
from msgan.methods.workers import processes
from msgan.paths import atomic_folder, sha256
from msgan.runs.run import Run
from msgan.training.cache import AutoContext
from msgan.types import InputError

if TYPE_CHECKING:
    from torch import nn


def fit_cached(
    cohort: Cohort,
    target: str,
    config: CascadeConfig,
    root: str | os.PathLike[str],
    *,
    scales: Sequence[int] | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] | None = None,
    auto_context: AutoContext | None = None,
    features: nn.Module | None = None,
) -> Run:
    """:func:`msgan.methods.cascade.fit` into the folder of ``root`` that holds this very run.

    Whoever asks for the same configuration, target, data and code gets the same run: trained by
    the first, for whom other processes wait, continued where the first was interrupted, opened at
    once where it is finished. Prepared subjects are shared by all runs of ``root``.

    Args:
        root: Holds one folder a run, and ``cache``.

    See :func:`msgan.methods.cascade.fit` for the other arguments and the errors.
    """
    key = run_key(cohort, target, config)
    folder = Path(root) / f"{target}-{config.network.family}-{key}"
    cache = Path(root) / "cache"
    with _in_turn(folder):
        return fit(
            cohort,
            target,
            config,
            folder,
            scales=scales,
            device=device,
            cache=cache,
            report=report,
            auto_context=auto_context,
            features=features,
        )


def _in_turn(folder: Path) -> AbstractContextManager[None]:
    """A block that one process at a time enters for a run; those of one training enter together."""
    if processes() > 1:
        return nullcontext()
    return alone(folder.parent / f".{folder.name}.lock", f"{folder}: is held", wait=inf)


def reuse_scale(source: Run, destination: Run, scale: int, to: int | None = None) -> None:
    """Give a trained scale of one run to another that would train the same network.

    s0 is the same whatever s1..sn are ``drop_inputs`` to ("the LR GAN stays unchanged", 2020,
    section 3.2.2), for how many ``steps`` they are trained, and whatever of the source guides a
    translation. Scales that are trained on real contexts are independent of each other, and a
    generator that reaches a resolution is of use whatever number of scales lies below; one that
    is trained on what the scales below it make (``generated_share``) is of use above these alone.
    Under the same number i the weights are those that training would give (on a CPU to the bit),
    under another those of other random numbers. Where the scale is there already nothing is done.

    Args:
        source: Has trained the scale, by the code of today.
        destination: Gets a copy of its weights and curves.
        scale: i of the source's s_i.
        to: i of the destination's s_i; None: the same.

    Raises:
        InputError: The scale is not trained, or the other run would train another network: of
            another resolution, configuration or data; or another process is training it by
            :func:`msgan.methods.cascade.fit` (for one in :func:`fit_cached` it waits).
    """
    to = scale if to is None else to
    if destination.finished(to):
        return
    if not source.finished(scale):
        raise InputError(f"{source.folder}: scale {scale} of {source.scales} is not trained yet")
    alone = not any(run.config.conditioning.generated_share for run in (source, destination))
    sides = [_deciding(source, scale, alone), _deciding(destination, to, alone)]
    if other := [name for name in sides[0] if sides[0][name] != sides[1].get(name)]:
        raise InputError(
            f"{destination.folder}: scale {to} would be another than scale {scale} of "
            f"{source.folder}: "
            f"its {other[0]} differs"
        )
    with _in_turn(destination.folder):
        if not destination.finished(to):
            with destination.alone([to]), atomic_folder(destination.folder_of(to)) as copy:
                shutil.copytree(source.folder_of(scale), copy, dirs_exist_ok=True)


def _deciding(run: Run, scale: int, alone: bool) -> dict[str, Any]:
    """What decides s_i of a run, apart from the code; ``alone``: nothing below has a say in it."""
    config = run.config.model_dump()
    if scale == 0:
        del config["drop_inputs"], config["conditioning"]["generated_share"]
        del config["training"]["steps"]
        config.pop("guidance", None)
    elif alone:
        # n decides how much is padded, and what begins with low is of s0.
        del config["preparation"]["scales"]
        for part in ("network", "training"):
            config[part] = {k: v for k, v in config[part].items() if not k.startswith("lr_")}
    resolution = {"generator": "HR" if scale else "LR", "resolution": run.scales - scale}
    return {**resolution, **config, "target": run.target, "data": dict(run.data)}


def run_key(cohort: Cohort, target: str, config: CascadeConfig) -> str:
    """16 hexadecimal digits of configuration, target, contents of the training files and code."""
    files = []
    domains = [modalities(target, config)]
    if config.cycle:
        domains.append((config.cycle.source,))
    for needed in domains:
        for subject in cohort.with_modality(*needed):
            if subject.split != "test":
                used = (*(subject.images[name] for name in needed), subject.mask, subject.labels)
                files.append([subject.name, subject.split, *(sha256(p) if p else "" for p in used)])
    content = [config.model_dump(mode="json"), target, sorted(files), code_hash()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
