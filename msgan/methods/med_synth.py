"""MedSynth (Nie et al. 2018): a GAN on pairs, and models that refine what the last one made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import torch

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Prepared
from msgan.methods.shared import fit_cached
from msgan.methods.trained import TrainedMethod
from msgan.paths import room
from msgan.pyramid import read_continued
from msgan.runs.run import Run
from msgan.translate import GeneratedScale, Generation, Limits, pick_device
from msgan.translate.maker import Making
from msgan.translate.plan import resident
from msgan.translate.scratch import Scratch
from msgan.types import InputError, Reader

ADVERSARIAL = 0.5
"""Weight of the adversarial loss beside squares that are added up over a patch (Nie et al.)."""

ADDED = 16
"""Side of those patches; losses are means here, so the weight is shared among their voxels."""


class MedSynth(TrainedMethod):
    """The paired GAN with auto-context of the extended paper's section 3.2.2, table 2.

    The first model makes the target from the source image, the next from the source image and
    the whole result of the first, and so on (auto-context). G minimises the squared difference,
    the difference of gradients (:func:`msgan.losses.gradient_difference`) and -log D; D judges
    images without the source.

    Each model is a run of the cascade's scale n on pairs, as paired regression is, so it is
    resumed, kept and tiled like one. Differs: the paper has an FCN with batch normalisation and a
    shortcut from the source, whose patches are averaged where they overlap. Here the generator is
    the cascade's own, so that the rows of a table differ in what they learn from and not in
    size; unpadded tiles of ``seamless`` are equal where they overlap, patches of ``megan`` are
    averaged. D is the cascade's too, and L1 on validation decides which weights are kept.
    """

    name = "MedSynth"

    def __init__(self, runs: Sequence[Run], device: str = "auto") -> None:
        """Use these models one after the other.

        Raises:
            InputError: There is none, or one was not trained on the results of those before it.
        """
        if not runs:
            raise InputError("runs: expected at least one model")
        for k, run in enumerate(runs):
            if run.config.paired is None:
                raise InputError(f"{run.folder}: was not trained on pairs")
            needed = weights_hash(runs[k - 1]) if k else None
            if run.config.auto_context != needed:
                raise InputError(
                    f"{run.folder}: sees results of {run.config.auto_context}, not of {needed}"
                )
        super().__init__(runs[-1], device)
        self.runs = tuple(runs)

    @classmethod
    def configured(
        cls,
        config: CascadeConfig,
        source: str | None = None,
        auto_context: str | None = None,
        models: int = 1,
    ) -> CascadeConfig:
        """A cascade's configuration as one model of this row.

        Args:
            config: Of the cascade it is compared with.
            source: Modality that is translated.
            auto_context: :func:`weights_hash` of the model whose results it sees; None: the first.
            models: How many share the steps of ``config``, so that the row costs what others do.

        Raises:
            InputError: No source is stated.
        """
        if source is None:
            raise InputError(f"source None: {cls.name} is trained on pairs: name the source")
        # Labels hide the source beneath them; this method sees the source itself, without noise.
        return config.unguided().updated(
            paired=source,
            drop_inputs=("context",),
            labels=(),
            auto_context=auto_context,
            sketch={"channels": ("image", "auto_context") if auto_context else ("image",)},
            conditioning={"sketch_noise": 0.0},
            contrast={"share": 0.0},
            network={"conditional": False},
            training={
                "gan": "log",
                "gan_weight": ADVERSARIAL / ADDED**config.dims,
                "l1_weight": 0.0,
                "l2_weight": 1.0,
                "gradient_weight": 1.0,
                "discriminator_accuracy": 1.0,
                "steps": ceil(config.training.steps / models),
            },
        )

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        source: str | None,
        target: str,
        config: CascadeConfig,
        out: str | os.PathLike[str],
        *,
        refinements: int = 1,
        device: str = "auto",
        **options: Any,
    ) -> MedSynth:
        """Train all models below ``out``; those that are there already are used or continued.

        They share the steps of ``config``. What a model makes of the training subjects is computed
        once, tile by tile, and kept in the cache of ``out``, from which the next is trained.

        Args:
            cohort: Subjects; those with both images, on one grid, are used.
            source: Modality that is translated.
            target: Modality that is learnt.
            config: Of the cascade; see :meth:`configured`.
            out: Holds a run folder for each model; see :func:`msgan.methods.shared.fit_cached`.
            refinements: Models after the first.
            device: ``auto``, ``cpu`` or ``cuda``.
            options: See :func:`msgan.methods.shared.fit_cached`.

        Raises:
            InputError: ``refinements`` is negative; or see :func:`msgan.methods.cascade.fit`.
        """
        if refinements < 0:
            raise InputError(f"refinements {refinements}: expected 0 or more")
        where, runs = pick_device(device), list[Run]()
        for _ in range(1 + refinements):
            last = weights_hash(runs[-1]) if runs else None
            own = cls.configured(config, source, last, 1 + refinements)
            before = partial(_of_training, tuple(runs), where) if runs else None
            more = {**options, "device": device, "auto_context": before}
            runs.append(fit_cached(cohort, target, own, out, **more))
        return cls(runs, device)

    @property
    def generation(self) -> Generation:
        """One model after the other."""
        return generation_of(self.runs)


def generation_of(runs: Sequence[Run]) -> Generation:
    """What models make one after the other, each of the source and of what the last has made."""
    names = [None, *(f"model{k}" for k in range(1, len(runs) + 1))]
    scales = [
        GeneratedScale.whole(run, own or "", after)
        for run, after, own in zip(runs, names, names[1:], strict=False)
    ]
    return Generation(MedSynth.name, tuple(scales))


def weights_hash(run: Run) -> str:
    """What the weights of scale n are known by to the models after it.

    Raises:
        InputError: It is not trained yet.
    """
    digest = hashlib.sha256()  # of the tensors: the file's header tells how long they took
    for name, tensor in sorted(run.generator(run.scales).state_dict().items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _of_training(
    runs: Sequence[Run], device: torch.device, ready: Prepared, folder: Path
) -> Reader:
    """What the models make of a training subject; beside the program, a GiB is there for a tile.

    Args:
        runs: The models so far.
        device: Where to compute.
        ready: The source image.
        folder: The results are kept below it.

    Returns:
        A reader in [-1, 1] of any box.
    """
    generation, limits = generation_of(runs), Limits(resident() + (1 << 30))
    folder.mkdir(parents=True, exist_ok=True)
    planned = generation.plan(ready, device, limits)
    with room(folder, planned.scratch_bytes, "what the models before have made"):
        made = generation.make(Making(ready, Scratch(folder), device, limits, planned))
    return partial(read_continued, made.result, ready.read, ready.grid.shape)
