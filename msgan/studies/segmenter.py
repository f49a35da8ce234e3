"""A network that learns to segment a structure from images and labels (Ha et al. 2025, 3.4).

The paper trains "a segmentation model" and names none: here it is MONAI's U-Net with residual units
(Kerfoot et al., 2019), which is imported when it is first used (extra ``segmentation``).

Images of any size are trained on and segmented in bounded memory: training patches are read from
files in the scratch folder, and a segmentation is written there block by block.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msgan import maps, paths, seeds
from msgan.config import Preparation
from msgan.data.cohort import Subject, prepare
from msgan.data.foreground import blocks
from msgan.translate.frame import pick_device
from msgan.types import Array, Box, InputError, Reader, Shape, read_padded

BACKGROUND = -1.0
"""What lies around an image, in [-1, 1]."""

PLACES = 4096
"""Voxels of the structure that are kept for a person, to centre patches on."""

LOG_EVERY = 20

Structure = Sequence[int] | None
"""The labels that belong to what is segmented; None: all but 0, as of a whole tumour."""


@dataclass(frozen=True)
class SegmenterConfig:
    """All settings of a segmentation network and its training; the paper states none.

    Attributes:
        widths: Features at each resolution, the finest first.
        residual: Convolutions of a residual unit.
        patch: Side of training patches and of windows, voxels.
        batch: Patches a step.
        steps: Of Adam.
        learning_rate: At the first step; falls to 0 along a half cosine.
        labelled: Share of the patches that are centred on a voxel of the structure.
        overlap: Share of a window's side that neighbours have in common.
        block: Side of what is segmented at once, voxels; bounds the memory.
        seed: Of weights and patches.

    Raises:
        InputError: A value is out of range, or the patch is not halved evenly.
    """

    widths: tuple[int, ...] = (8, 16, 32)
    residual: int = 1
    patch: int = 32
    batch: int = 2
    steps: int = 200
    learning_rate: float = 2e-2
    labelled: float = 1 / 3
    overlap: float = 0.5
    block: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("residual", "patch", "batch", "steps", "block"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise InputError(f"widths {self.widths}: expected two or more, each at least 1")
        step = 2 ** len(self.widths)  # an image of one voxel has no statistics to normalise by
        if self.patch % step:
            raise InputError(f"patch {self.patch}: expected a multiple of {step}")
        if not self.learning_rate > 0:
            raise InputError(f"learning rate {self.learning_rate:g}: expected a positive number")
        if not 0 <= self.labelled <= 1:
            raise InputError(f"labelled {self.labelled:g}: expected a share, 0 to 1")
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap {self.overlap:g}: expected a share from 0 to below 1")


SIZES: Mapping[str, SegmenterConfig] = {
    "smoke": SegmenterConfig((8, 16), patch=16, batch=4, steps=100),
    "small": SegmenterConfig(),
    "published": SegmenterConfig((32, 64, 128, 256, 512), 2, 96, 2, 20_000, 1e-3),
}
"""By the name of a preset: seconds and about a minute on two cores of a CPU; hours on a GPU."""


def segmenter_config(name: str, *, seed: int = 0) -> SegmenterConfig:
    """The settings of that name.

    Raises:
        InputError: There are none.
    """
    if name not in SIZES:
        raise InputError(f"segmenter {name!r} is none of {', '.join(SIZES)}")
    return replace(SIZES[name], seed=seed)


@dataclass(frozen=True)
class TrainedSegmenter:
    """A trained network; see :class:`msgan.studies.agreement.Segmenter`.

    Attributes:
        network: Image in [-1, 1] to logits, both (B, 1, ...).
        dims: Number of axes.
        config: How it was trained.
        preparation: How a file becomes its input.
        name: Of what it segments.
    """

    network: nn.Module = field(repr=False)
    dims: int
    config: SegmenterConfig
    preparation: Preparation
    name: str = "whole tumour"

    @property
    def structures(self) -> Mapping[str, Structure]:
        """What the labels of a segmentation mean."""
        return {self.name: None}

    def segment(
        self,
        image: Subject | str | os.PathLike[str],
        stack: ExitStack,
        modality: str | None = None,
    ) -> Reader:
        """Segment an image, block by block, into the scratch folder.

        Args:
            image: A file, or a subject, whose mask bounds the foreground then.
            stack: Removes what lies in the scratch folder.
            modality: Of the subject's image; None takes the only one.

        Returns:
            Reads 0 and 1, uint8, on the grid of the file.

        Raises:
            InputError: The file is at fault, or has another number of axes; or the disk is full.
        """
        if isinstance(image, Subject):
            image = replace(image, labels=None)
        known = (self.dims, "the segmenter was trained on images of")
        folder = stack.enter_context(paths.scratch_folder())
        with prepare(image, modality, self.preparation, axes=known) as ready:
            shape = ready.grid.shape
            with paths.room(folder, prod(shape), f"the {self.name} of {ready.name}"):
                labels = maps.create(folder / "labels.npy", shape, np.uint8)
            for core in Box.whole(shape).tiles((self.config.block,) * self.dims):
                seen = _seen(core, self.config.patch, shape)
                found = self._logits(ready.read(seen)) > 0
                labels[core.slices] = found[core.inside(seen).slices]
        return ready.grid.read_source(lambda box: labels[box.slices], 0, order=0)

    @torch.inference_mode()
    def _logits(self, image: Array) -> Array:
        """Windows over an image in memory, joined by Gaussian weights as translations are."""
        device = next(self.network.parameters()).device
        _, _, inferer = _monai()
        windows = inferer(
            torch.from_numpy(image)[None, None].to(device),
            (self.config.patch,) * self.dims,
            self.config.batch,
            self.network,
            overlap=self.config.overlap,
            mode="gaussian",
            cval=BACKGROUND,
        )
        logits: Array = windows[0, 0].cpu().numpy()
        return logits


def train_segmenter(
    subjects: Sequence[Subject],
    modality: str,
    preparation: Preparation,
    config: SegmenterConfig,
    *,
    labels: Structure = None,
    name: str = "whole tumour",
    device: str = "auto",
    report: Callable[[str], Any] | None = None,
) -> TrainedSegmenter:
    """Train a network on images of one modality and their labels.

    The loss is the sum of Dice loss and cross-entropy; patches are mirrored at random along every
    axis. The same arguments give the same weights, on a CPU to the bit.

    Args:
        subjects: People with that image and labels on its grid. To train on synthetic images, let
            ``images`` name their files.
        modality: Of the images.
        preparation: How a file becomes an image in [-1, 1]: each by its own range, whether
            synthetic or real.
        config: Settings.
        labels: What belongs to the structure.
        name: Of the structure.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: Called with a line now and then.

    Raises:
        InputError: MONAI is not installed; there is nobody to train on, or nobody who has the
            structure; a file is at fault; or the loss is not finite.
    """
    where = pick_device(device)
    build, loss, _ = _monai()
    loss_of = loss(sigmoid=True, batch=True)
    if not subjects:
        raise InputError(f"nobody to train a segmenter of {modality} on")
    with paths.scratch_folder() as folder:
        examples = [
            _Example.stored(s, modality, preparation, labels, config.seed, folder / str(k))
            for k, s in enumerate(subjects)
        ]
        if not any(len(e.places) for e in examples):
            raise InputError(f"none of {len(examples)} people to train on has a {name}")
        dims = examples[0].image.ndim
        network = _network(build, dims, config).to(where)
        optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
        for step, (image, wanted) in enumerate(_batches(examples, config), 1):
            value = loss_of(network(image.to(where)), wanted.to(where))
            if not torch.isfinite(value):
                raise InputError(
                    f"loss {float(value.detach())} at step {step}: lower learning_rate"
                )
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            decay.step()
            if report and (step % LOG_EVERY == 0 or step == config.steps):
                report(f"step {step} of {config.steps}: loss {float(value.detach()):.3f}")
    return TrainedSegmenter(network.eval(), dims, config, preparation, name)


def _seen(core: Box, patch: int, shape: Shape) -> Box:
    """A block with half a window around it, and wherever the image has as much a whole window."""
    grown = core.grown(patch // 2).clipped(shape)
    start = (max(min(a, b - patch), 0) for a, b in zip(grown.start, grown.stop, strict=True))
    reach = Box(tuple(start), (patch,) * core.dims).clipped(shape)
    low = tuple(map(min, grown.start, reach.start))
    high = map(max, grown.stop, reach.stop)
    return Box(low, tuple(b - a for a, b in zip(low, high, strict=True)))


def belongs(values: Array, labels: Structure) -> Array:
    """Where voxels of a label image belong to a structure; bool."""
    return values != 0 if labels is None else np.isin(values, labels)


@dataclass(frozen=True)
class _Example:
    """One person to train on, in files.

    Attributes:
        image: In [-1, 1], on the working grid.
        inside: Bool: the structure.
        places: (k, d) voxels of the structure, at most :data:`PLACES` at random.
    """

    image: np.memmap
    inside: np.memmap
    places: Array

    @classmethod
    def stored(
        cls,
        subject: Subject,
        modality: str,
        preparation: Preparation,
        labels: Structure,
        seed: int,
        folder: Path,
    ) -> _Example:
        """Write it, block by block."""
        if subject.labels is None:
            raise InputError(f"{subject.name}: no labels to train a segmenter on")
        folder.mkdir()
        random = seeds.numpy_rng(seed, "places", subject.name)
        with prepare(subject, modality, preparation) as ready:
            shape = ready.grid.shape
            with paths.room(folder, 5 * prod(shape), subject.name):
                image = maps.create(folder / "image.npy", shape, np.float32)
                inside = maps.create(folder / "inside.npy", shape, np.bool_)
            places = np.zeros((0, len(shape)), np.int64)
            keys = np.zeros(0)
            for box in blocks(shape):
                image[box.slices] = ready.read(box)
                there = ready.read_labels(box)
                assert there is not None
                there = belongs(there, labels)
                inside[box.slices] = there
                places = np.concatenate([places, np.argwhere(there) + box.start])
                keys = np.concatenate([keys, random.random(len(places) - len(keys))])
                if len(keys) > PLACES:
                    chosen = np.argpartition(keys, PLACES)[:PLACES]
                    places, keys = places[chosen], keys[chosen]
        return cls(image, inside, places)

    def patch(self, centre: Sequence[int], side: int) -> tuple[Array, Array]:
        """Image and structure about a voxel, moved into the image as far as that is possible."""
        start = [
            min(max(c - side // 2, 0), max(n - side, 0))
            for c, n in zip(centre, self.image.shape, strict=True)
        ]
        box = Box(tuple(start), (side,) * len(start))
        image = read_padded(lambda b: self.image[b.slices], self.image.shape, box, BACKGROUND)
        return image, read_padded(lambda b: self.inside[b.slices], self.image.shape, box)


def _batches(
    examples: Sequence[_Example], config: SegmenterConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of every step the patches and where the structure is, both (B, 1, ...) float32."""
    for step in range(config.steps):
        random = seeds.numpy_rng(config.seed, "patches", step)
        drawn = []
        for _ in range(config.batch):
            example = examples[int(random.integers(len(examples)))]
            if len(example.places) and random.random() < config.labelled:
                centre = example.places[random.integers(len(example.places))]
            else:
                centre = random.integers(example.image.shape)
            mirrored = tuple(k for k in range(example.image.ndim) if random.random() < 0.5)
            parts = example.patch([int(c) for c in centre], config.patch)
            drawn.append([np.flip(part, mirrored).astype(np.float32)[None] for part in parts])
        image, wanted = (np.stack(parts) for parts in zip(*drawn, strict=True))
        yield torch.from_numpy(image), torch.from_numpy(wanted)


def _network(build: Any, dims: int, config: SegmenterConfig) -> nn.Module:
    """With weights that depend on the seed alone; random numbers elsewhere stay what they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(config.seed, "segmenter"))
        network: nn.Module = build(
            spatial_dims=dims,
            in_channels=1,
            out_channels=1,
            channels=config.widths,
            strides=(2,) * (len(config.widths) - 1),
            num_res_units=config.residual,
            norm="batch",  # those of a small patch would hide how bright it is
        )
    return network


def _monai() -> tuple[Any, Any, Any]:
    """Network, loss and inferer; MONAI takes seconds to import and warns of what it misses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from monai.inferers import sliding_window_inference
            from monai.losses import DiceCELoss
            from monai.networks.nets import UNet
    except ImportError:
        raise InputError(
            "a segmentation network needs MONAI: pip install 'msgan[segmentation]'"
        ) from None
    return UNet, DiceCELoss, sliding_window_inference
