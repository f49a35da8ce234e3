"""Scales and sketches of a training subject, computed once and kept as memory maps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from msgan import pyramid, seeds, sketch
from msgan.config import CascadeConfig
from msgan.data.cohort import Prepared
from msgan.degrade import recolour
from msgan.types import Array, Box, Reader, Shape, trailing

VERSION = 1
"""Part of the key: raise it when what is cached changes."""

SKETCH_DTYPE = "float16"
"""Half precision is finer than the noise laid on every sketch, at half the bytes."""


@dataclass(frozen=True)
class CachedSubject:
    """Memory maps of one subject: images (1, *s_i) of s0..sn, sketches (C, *s_i) of s1..sn.

    ``sketches[i]`` lists variants of scale i: first the image's own sketch, then those of the
    image recoloured at random. ``sketches[0]`` is empty: s0 is made from the sketch at s1.
    """

    name: str
    images: tuple[Tensor, ...]
    sketches: tuple[tuple[Tensor, ...], ...]

    @property
    def bytes(self) -> int:
        """Size of everything."""
        tensors = [*self.images, *(t for variants in self.sketches for t in variants)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(self, device: torch.device) -> CachedSubject:
        """The same on another device."""
        return CachedSubject(
            self.name,
            tuple(t.to(device) for t in self.images),
            tuple(tuple(t.to(device) for t in variants) for variants in self.sketches),
        )


def key(config: CascadeConfig, data: str) -> str:
    """What the cached bytes depend on: the data's hash and the configuration's parts used."""
    parts = {"dims", "seed", "preparation", "sketch", "contrast", "labels"}
    used = config.model_dump(include=parts)
    text = json.dumps([VERSION, data, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(
    subject: Prepared, config: CascadeConfig, data: str, folder: str | os.PathLike[str]
) -> CachedSubject:
    """Open the cache of a subject below ``folder``; compute what is not there yet.

    The folder of a subject appears under its name only when it is complete, so that a killed
    run leaves nothing half-written.

    Args:
        subject: Open image on its working grid.
        config: Decides scales, sketches and variants.
        data: Hash of the subject's files.
        folder: Where caches are kept; subjects of other configurations may lie beside.
    """
    own = key(config, data)
    target = Path(folder) / f"{subject.name}-{own}"
    if not target.is_dir():
        # Another process, perhaps on another machine, may be making the same.
        partial = target.with_name(f".partial-{target.name}-{uuid4().hex[:8]}")
        partial.mkdir(parents=True)
        try:
            _compute(subject, config, partial)
            try:
                partial.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    n = subject.grid.scales
    variants = 1 + _variants(config)
    return CachedSubject(
        subject.name,
        tuple(_load(target / f"image_s{i}.npy")[None] for i in range(n + 1)),
        (
            (),
            *[
                tuple(_load(target / f"sketch_s{i}_{v}.npy") for v in range(variants))
                for i in range(1, n + 1)
            ],
        ),
    )


def _variants(config: CascadeConfig) -> int:
    return config.contrast.variants if config.contrast.share else 0


def _load(path: Path) -> Tensor:
    # Copy-on-write: torch wants a writable array, the file stays as it is.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _compute(subject: Prepared, config: CascadeConfig, folder: Path) -> None:
    scales = subject.grid.scales
    shapes = pyramid.shapes(subject.grid.shape, scales)
    images = pyramid.build(subject.read, shapes[-1], scales, folder)
    labels: Sequence[Reader | None] = [None] * (scales + 1)
    if config.labels and subject.has_labels:
        read = subject.read_labels
        labels = pyramid.build(
            lambda box: np.asarray(read(box)), shapes[-1], scales, folder / "labels", labels=True
        )
    for i, (shape, image) in enumerate(zip(shapes, images, strict=True)):
        _write(folder / f"image_s{i}.npy", shape, shape, "float32", image)
        if i == 0:
            continue
        for variant in range(1 + _variants(config)):
            seen = image if variant == 0 else _recoloured(image, config, subject.name, i, variant)
            drawn = sketch.sketch_reader(
                seen, shape, config.sketch, labels[i], values=config.labels or (1,)
            )
            count = sketch.channels(config.sketch, config.dims)
            path = folder / f"sketch_s{i}_{variant}.npy"
            _write(path, (count, *shape), shape, SKETCH_DTYPE, drawn)
    for path in (*folder.glob("*.zarr"), folder / "labels"):
        shutil.rmtree(path, ignore_errors=True)


def _recoloured(
    image: Reader, config: CascadeConfig, name: str, scale: int, variant: int
) -> Reader:
    def read(box: Box) -> Array:
        # The curve is that of the variant in every box; the noise differs between boxes.
        curve = torch.Generator().manual_seed(seeds.derive(config.seed, name, variant))
        noise = torch.Generator().manual_seed(
            seeds.derive(config.seed, name, variant, scale, *box.start)
        )
        part = torch.from_numpy(np.ascontiguousarray(image(box)))
        return recolour(part, config.contrast, curve, noise).numpy()

    return read


def _write(path: Path, full: Shape, shape: Shape, dtype: str, read: Reader) -> None:
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=full)
    side = pyramid.CHUNK[len(shape)]
    for box in Box.whole(shape).tiles((side,) * len(shape)):
        out[trailing(box.slices)] = read(box)
    out.flush()
