"""MedSynth (Nie et al. 2018): a GAN on pairs, and models that refine what the last one made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import torch

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Prepared, Subject, prepare
from msgan.data.writing import write_volume
from msgan.memory import process
from msgan.methods import overlap
from msgan.methods.overlap import OverlapScale
from msgan.methods.refine import refine
from msgan.methods.shared import fit_shared
from msgan.networks import inference
from msgan.paths import room, scratch_folder
from msgan.pyramid import RIM, read_continued
from msgan.sketch import sketch_reader, stacked
from msgan.training.run import Run
from msgan.translate.image import check_output, pick_device
from msgan.translate.plan import Limits, largest, require_axes, resident, scale_plan
from msgan.translate.scale import BACKGROUND, constant
from msgan.types import InputError, Reader, Shape

ADVERSARIAL = 0.5
"""Weight of the adversarial loss beside squares that are added up over a patch (Nie et al.)."""

ADDED = 16
"""Side of those patches; losses are means here, so the weight is shared among their voxels."""


class MedSynth:
    """The paired GAN with auto-context of the extended paper's section 3.2.2, table 2.

    The first model makes the target from the source image, the next from the source image and
    the whole result of the first, and so on (auto-context). G minimises the squared difference,
    the difference of gradients (:func:`msgan.losses.gradient_difference`) and -log D; D judges
    images without the source.

    Each model is a run of the cascade's scale n on pairs, as paired regression is, so it is
    resumed, kept and tiled like one. Differs: the paper has an FCN with batch normalisation and a
    shortcut from the source, whose patches are averaged where they overlap. Here the generator is
    the cascade's own, so that the rows of a table differ in what they learn from and not in
    size; unpadded tiles of ``seamless`` are equal where they overlap, patches of ``paper`` are
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
            if run.config.previous != needed:
                raise InputError(
                    f"{run.folder}: sees results of {run.config.previous}, not of {needed}"
                )
        self.runs = tuple(runs)
        self.device = device

    @classmethod
    def configured(
        cls, config: CascadeConfig, source: str, previous: str | None = None, models: int = 1
    ) -> CascadeConfig:
        """A cascade's configuration as one model of this row.

        Args:
            config: Of the cascade it is compared with.
            source: Modality that is translated.
            previous: :func:`weights_hash` of the model whose results it sees; None: the first.
            models: How many share the steps of ``config``, so that the row costs what others do.
        """
        plain = config.model_dump()
        # Labels hide the source beneath them; this method sees the source itself, without noise.
        plain |= {"paired": source, "blind": ("context",), "labels": (), "previous": previous}
        plain["sketch"] |= {"channels": ("image", "previous") if previous else ("image",)}
        plain["degradation"] |= {"sketch_noise": 0.0}
        plain["contrast"] |= {"share": 0.0}
        plain["network"] |= {"conditional": False}
        plain["training"] |= {
            "gan": "log",
            "gan_weight": ADVERSARIAL / ADDED**config.dims,
            "l1_weight": 0.0,
            "l2_weight": 1.0,
            "gradient_weight": 1.0,
            "discriminator_accuracy": 1.0,
            "steps": ceil(config.training.steps / models),
        }
        return CascadeConfig.model_validate(plain)

    @classmethod
    def fit(
        cls,
        cohort: Cohort,
        target: str,
        config: CascadeConfig,
        root: str | os.PathLike[str],
        *,
        source: str,
        refinements: int = 1,
        device: str = "auto",
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> MedSynth:
        """Train all models below ``root``; those that are there already are used or continued.

        They share the steps of ``config``. What a model makes of the training subjects is computed
        once, tile by tile, and kept in ``root``'s cache, from which the next is trained.

        Args:
            cohort: Subjects; those with both images, on one grid, are used.
            target: Modality that is learnt.
            config: Of the cascade; see :meth:`configured`.
            root: See :func:`msgan.methods.shared.fit_shared`.
            source: Modality that is translated.
            refinements: Models after the first.
            device: ``auto``, ``cpu`` or ``cuda``.
            report: Called with every logged row.

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
            runs.append(
                fit_shared(cohort, target, own, root, device=device, report=report, previous=before)
            )
        return cls(runs, device)

    def translate(
        self,
        subject: Subject | str | os.PathLike[str],
        out: str | os.PathLike[str],
        *,
        modality: str | None = None,
        tile: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Translate one image onto its own grid, in the target's unit; written whole or not.

        Args:
            subject: Image file or subject of a cohort.
            out: File to write; its suffix decides the format.
            modality: Which image of a subject; None: the modality it was trained to translate.
            tile: Side of a tile, even; of the ``paper`` family a multiple of the stride 27. None
                takes the largest that fits.
            memory: Bytes of host memory for the process; None: as for a cascade.

        Raises:
            InputError: The image cannot be used, ``out`` cannot hold the result, the tile does
                not suit, or memory or disk do not suffice.
        """
        last, device = self.runs[-1], pick_device(self.device)
        dtype = check_output(Path(out), last)
        process.share_arena()
        with (
            prepare(subject, modality or last.config.paired, last.config.preparation) as ready,
            scratch_folder() as folder,
        ):
            require_axes(ready, last)
            read = results(
                self.runs, ready.read, ready.grid.shape, folder, device, tile=tile, memory=memory
            )
            process.give_back()
            shown = ready.to_source(read, last.intensity)
            write_volume(
                out, ready.grid.source, shown, unit=last.intensity.unit, dtype=dtype, generated=True
            )


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


def results(
    runs: Sequence[Run],
    source: Reader,
    shape: Shape,
    folder: Path,
    device: torch.device,
    *,
    tile: int | None = None,
    memory: int | None = None,
) -> Reader:
    """What the last of the models makes of an image, after all those before it.

    Args:
        runs: The models in order.
        source: The image on s_n, in [-1, 1], of which any box may be asked for.
        shape: Of s_n.
        folder: Each model's result is kept in a store below it, float32.
        device: Where to compute.
        tile: See :meth:`MedSynth.translate`.
        memory: Likewise.

    Returns:
        A reader in [-1, 1].

    Raises:
        InputError: The tile does not suit, or memory or disk do not suffice.
    """
    made: Reader | None = None
    for k, run in enumerate(runs):
        seen = source if made is None else stacked(source, made)
        drawn = sketch_reader(seen, shape, run.config.sketch, device=device, rim=RIM)
        own, n = folder / f"model{k}", run.scales
        generator, limits = run.generator(n), Limits(memory, tile=tile)
        own.mkdir(parents=True)
        what = "the scratch of this translation (in MSGAN_SCRATCH)"
        if run.config.network.family == "paper":
            whole = inference.prepare(generator, device, whole=True)
            need = partial(overlap.need, whole, run.config)
            tried = overlap.tiles_tried(run.config.dims, tile)
            sides = largest(f"s{n}", shape, tried, need, limits, device).tile
            with room(own, overlap.stored(shape, sides), what):
                made = overlap.averaged(
                    OverlapScale(whole, drawn, shape, sides, device), own / "sums.zarr"
                )
            made = partial(read_continued, made, source, shape)
            continue
        if tile is not None and (tile < 2 or tile % 2):
            raise InputError(f"tile {tile}: expected an even number of voxels, at least 2")
        sides = scale_plan(run, n, shape, limits, device).tile
        with room(own, overlap.stored(shape, sides), what):
            made = refine(generator.to(device), drawn, constant(BACKGROUND), shape, own, tile=sides)
        made = partial(read_continued, made, source, shape)
    assert made is not None
    return made


def _of_training(
    runs: Sequence[Run], device: torch.device, ready: Prepared, folder: Path
) -> Reader:
    """:func:`results` of a training subject; beside the program, a GiB is there for a tile."""
    memory = resident() + (1 << 30)
    return results(runs, ready.read, ready.grid.shape, folder, device, memory=memory)
