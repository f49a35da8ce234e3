"""Scales and sketches of a training subject, computed once and kept as memory maps."""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from itertools import chain, product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from msgan import maps, pyramid, seeds, sketch
from msgan.appearance import Appearance, levels
from msgan.config import CascadeConfig
from msgan.data.cohort import Prepared
from msgan.match import slope, spectrum
from msgan.match.profile import TargetProfile
from msgan.paths import partial_folder, require_space, room
from msgan.types import Array, Box, InputError, Reader, Shape, read_padded, trailing

AutoContext = Callable[[Prepared, Path], Reader]
"""Makes the channel ``auto_context`` of an open source image: what it is on s_n in [-1, 1], kept
below the folder."""

VERSION = 5
"""Part of the key: raise it when what is cached changes."""

SKETCH_DTYPE = "float16"
"""Half precision is finer than the noise laid on every sketch, at half the bytes."""

LABELLED = 4096
"""Labelled voxels kept of a scale: more centres than patches are drawn about them."""


@dataclass(frozen=True)
class CachedSubject:
    """Memory maps of one subject: images (1, *s_i) of s0..sn, sketches (C, *s_i) of s1..sn.

    ``sketches[i]`` lists variants of scale i: first the image's own sketch (in a paired cascade
    that of the source's image), then those of the image recoloured at random. ``sketches[0]`` is
    empty: s0 is made from the sketch at s1. ``host`` keeps the memory maps of images that were
    moved to a device. ``labelled[i]`` lists voxels of s_i that carry a label, (N, dims), on the
    host: all of them, or :data:`LABELLED` drawn at random; empty where labels are not used.
    ``generated`` lists, for each variant, the image (1, *s_(i-1)) that the scales below s_i have
    made of its sketches; only while s_i is trained on them. With guidance, ``sources[i]`` lists the
    image (1, *s_i) that each sketch of s1..sn is of, hidden in labels and near them
    (:func:`msgan.match.slope.hiding`); that of the image itself may be ``images[i]``.

    ``rims`` are the voxels beyond s_i that images (of all kinds) and sketches hold on every side;
    farther out the outermost are repeated (:func:`msgan.types.read_extended`). None: nothing is
    held, the image ends in background.

    ``label_maps`` are the labels (1, *s_i) of s0..sn as images lie, on the host; only where
    sketches of a labelled subject are drawn in training (``contrast.fresh``).
    """

    name: str
    images: tuple[Tensor, ...]
    sketches: tuple[tuple[Tensor, ...], ...]
    labelled: tuple[Tensor, ...] = ()
    host: tuple[Tensor, ...] = ()
    generated: tuple[Tensor, ...] = ()
    rims: tuple[int, int] | None = None
    sources: tuple[tuple[Tensor, ...], ...] = ()
    label_maps: tuple[Tensor, ...] = ()

    def shape(self, scale: int) -> Shape:
        """Of s_i."""
        rim = self.rims[0] if self.rims else 0
        return tuple(n - 2 * rim for n in self.images[scale].shape[1:])

    def on_host(self, scale: int) -> Tensor:
        """The image of s_i where the CPU can look at a voxel without waiting for a GPU."""
        return (self.host or self.images)[scale]

    @cached_property
    def levels(self) -> Tensor:
        """Quantiles of the intensities (see :func:`msgan.appearance.levels`)."""
        return levels(self.on_host(0))

    @property
    def bytes(self) -> int:
        """Size of everything."""
        variants = chain.from_iterable((*self.sketches, *self.sources))
        tensors = {id(t): t for t in (*self.images, *variants, *self.generated, *self.label_maps)}
        return sum(t.numel() * t.element_size() for t in tensors.values())

    def to(self, device: torch.device) -> CachedSubject:
        """The same on another device; the images stay on the host as well, as they are."""
        images = tuple(_moved(t, device) for t in self.images)
        moved = dict(zip(map(id, self.images), images, strict=True))  # a source may be one of them
        return CachedSubject(
            self.name,
            images,
            tuple(tuple(_moved(t, device) for t in variants) for variants in self.sketches),
            self.labelled,
            self.host or self.images,
            tuple(_moved(t, device) for t in self.generated),
            self.rims,
            tuple(
                tuple(moved[id(t)] if id(t) in moved else _moved(t, device) for t in variants)
                for variants in self.sources
            ),
            self.label_maps,
        )


def key(config: CascadeConfig, data: str) -> str:
    """What the cached bytes depend on: the data's hash and the configuration's parts used."""
    parts = {
        "dims",
        "seed",
        "preparation",
        "sketch",
        "contrast",
        "labels",
        "paired",
        "auto_context",
    }
    used = config.model_dump(include=parts)
    if config.guidance.on:
        used["guidance"] = config.guidance.match
    text = json.dumps([VERSION, data, used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(
    subject: Prepared,
    config: CascadeConfig,
    data: str,
    folder: str | os.PathLike[str],
    source: Prepared | None = None,
    auto_context: AutoContext | None = None,
) -> CachedSubject:
    """Open the cache of a subject below ``folder``; compute what is not there yet.

    The folder of a subject appears under its name only when it is complete, so that a killed
    run leaves nothing half-written.

    Args:
        subject: Open image on its working grid.
        config: Decides scales, sketches and variants.
        data: Hash of the subject's files.
        folder: Where caches are kept; subjects of other configurations may lie beside.
        source: Image on the same grid that sketches are taken from; None: the subject itself.
        auto_context: Makes the sketch's channel ``auto_context`` of ``source``; called only if
            nothing is there yet.

    Raises:
        InputError: The disk is full, or a file is at fault.
    """
    target = _place(subject, config, data, folder)
    if not target.is_dir():
        whole, beside = bytes_of(subject, config)
        what = f"the prepared subject {subject.name}"
        # Another process, perhaps on another machine, may be making the same.
        with room(target.parent, whole + beside, what), partial_folder(target) as partial:
            _compute(subject, config, partial, source, auto_context)
            try:
                partial.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    n = subject.grid.scales
    variants = 1 + _variants(config)
    images = tuple(load(target / f"image_s{i}.npy")[None] for i in range(n + 1))
    rims = _rims(config) if tuple(images[0].shape[1:]) != subject.grid.shape_at(0) else None
    return CachedSubject(
        subject.name,
        images,
        (
            (),
            *[
                tuple(load(target / f"sketch_s{i}_{v}.npy") for v in range(variants))
                for i in range(1, n + 1)
            ],
        ),
        tuple(torch.from_numpy(_array(target / f"labelled_s{i}.npy")) for i in range(n + 1)),
        rims=rims,
        sources=_sources(target, images, variants) if config.guidance.on else (),
        label_maps=tuple(
            load(target / f"labels_s{i}.npy")[None]
            for i in range(n + 1)
            if _keeps_labels(subject, config)
        ),
    )


def _sources(
    folder: Path, images: Sequence[Tensor], variants: int
) -> tuple[tuple[Tensor, ...], ...]:
    """What is kept of sources; where that is nothing, it is the image itself."""

    def source(i: int, variant: int) -> Tensor:
        path = folder / f"source_s{i}_{variant}.npy"
        return load(path)[None] if path.is_file() else images[i]

    finer = range(1, len(images))
    return ((), *[tuple(source(i, variant) for variant in range(variants)) for i in finer])


def require_room(
    subjects: Mapping[str, Prepared],
    config: CascadeConfig,
    data: Mapping[str, str],
    folder: str | os.PathLike[str],
) -> None:
    """Refuse to cache subjects that do not fit on the disk together, before any is computed.

    Args:
        subjects: By name; what is there already takes no more.
        config: See :func:`cached`.
        data: Hash of each subject's files.
        folder: See :func:`cached`.

    Raises:
        InputError: Fewer bytes are free than they need.
    """
    absent = [s for n, s in subjects.items() if not _place(s, config, data[n], folder).is_dir()]
    if absent:
        sizes = [bytes_of(subject, config) for subject in absent]
        need = sum(whole for whole, _ in sizes) + max(beside for _, beside in sizes)
        require_space(folder, need, f"the cache of {len(absent)} prepared subjects")


def bytes_of(subject: Prepared, config: CascadeConfig) -> tuple[int, int]:
    """What the cache of a subject takes, and what is beside it while it is computed, at least."""
    shapes = pyramid.shapes(subject.grid.shape, subject.grid.scales)
    image, seen = _rims(config) if _goes_on(subject.read, shapes[-1]) else (0, 0)
    voxels, images, sketches = (
        [Box.whole(shape).grown(rim).voxels for shape in shapes] for rim in (0, image, seen)
    )
    drawn = sketch.channels(config.sketch, config.dims) * (1 + _variants(config))
    whole = 4 * sum(images) + drawn * np.dtype(SKETCH_DTYPE).itemsize * sum(sketches[1:])
    labelled = bool(config.labels and subject.has_labels)
    beside = (4 + (4 if config.paired else 0) + (1 if labelled else 0)) * sum(voxels[:-1])
    if _keeps_labels(subject, config):
        whole += 4 * sum(images)
    if config.guidance.on:
        kept = _variants(config) + labelled
        whole += 4 * kept * sum(images[1:])
        beside += 4 * sum(voxels) if _variants(config) else 0  # one appearance at a time
    return whole, beside


def _place(
    subject: Prepared, config: CascadeConfig, data: str, folder: str | os.PathLike[str]
) -> Path:
    return Path(folder) / f"{subject.name}-{key(config, data)}"


def _rims(config: CascadeConfig) -> tuple[int, int]:
    """Voxels beyond images and sketches beyond which both stay the same."""
    return pyramid.RIM, sketch.halo(config.sketch) + pyramid.RIM + 1


def _goes_on(read: Reader, shape: Shape) -> bool:
    """Whether an image is anything but background beyond its faces."""
    whole, side = Box.whole(shape), pyramid.CHUNK[len(shape)]
    for axis in range(len(shape)):
        for place in (-1, shape[axis]):
            start = tuple(place if a == axis else 0 for a in range(len(shape)))
            size = tuple(1 if a == axis else n for a, n in enumerate(whole.size))
            for box in Box(start, size).tiles((side,) * len(shape)):
                if (read(box) > pyramid.BACKGROUND).any():
                    return True
    return False


def _keeps_labels(subject: Prepared, config: CascadeConfig) -> bool:
    """Whether labels are laid over sketches that are drawn in training, or hide sources."""
    drawn = config.contrast.share and config.contrast.fresh
    return bool((drawn or config.guidance.on) and config.labels and subject.has_labels)


def _variants(config: CascadeConfig) -> int:
    return config.contrast.variants if config.contrast.share else 0


def load(path: Path) -> Tensor:
    """A memory map of a ``.npy`` file, as cheap to keep as its patches in use.

    Raises:
        InputError: It was cut short, or holds something else.
    """
    # Copy-on-write: torch wants a writable array, the file stays as it is.
    tensor = torch.from_numpy(_array(path, "c"))
    if advise := _madvise():
        # Patches lie anywhere: what the system would read around them is mostly for nothing.
        _tell(advise, tensor.data_ptr(), tensor.numel() * tensor.element_size(), mmap.MADV_RANDOM)
    return tensor


def _array(path: Path, mode: Literal["c"] | None = None) -> Array:
    try:
        return np.asarray(np.load(path, mmap_mode=mode))
    except (EOFError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise InputError(
            f"{path}: damaged: {why}: remove {path.parent}, which is made again"
        ) from None


def _moved(image: Tensor, device: torch.device) -> Tensor:
    announce(image, Box.whole(image.shape[1:]))
    return image.to(device)


def announce(image: Tensor, box: Box) -> None:
    """Have the system begin to read a box of a memory map (C, *shape), and return at once.

    Without it, reading stops at every slice for the disk to answer: a patch of 64^3 with its
    sketch has hundreds. Where voxels are in memory already nothing is read.
    """
    advise = _madvise()
    inside = box.clipped(image.shape[1:])
    if advise is None or image.device.type != "cpu" or not inside.voxels:
        return
    *outer, row, _ = (n * image.element_size() for n in image.stride())
    slices = (range(a, b) for a, b in zip(inside.start[:-2], inside.stop[:-2], strict=True))
    first = image.data_ptr() + inside.start[-2] * row
    for place in product(range(image.shape[0]), *slices):
        start = first + sum(i * n for i, n in zip(place, outer, strict=True))
        _tell(advise, start, inside.size[-2] * row, mmap.MADV_WILLNEED)


@cache
def _madvise() -> Callable[..., int] | None:
    """The system's call; :mod:`mmap` has it for maps it made, and these are NumPy's."""
    if sys.platform != "linux":
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


def _tell(advise: Callable[..., int], start: int, size: int, what: int) -> None:
    page = start // mmap.PAGESIZE * mmap.PAGESIZE
    advise(page, start + size - page, what)  # advice only: where it fails reading is slower


def _compute(
    subject: Prepared,
    config: CascadeConfig,
    folder: Path,
    source: Prepared | None,
    auto_context: AutoContext | None,
) -> None:
    scales = subject.grid.scales
    shapes = pyramid.shapes(subject.grid.shape, scales)
    rim = pyramid.RIM
    images = shown = pyramid.build(subject.read, shapes[-1], scales, folder, rim=rim)
    goes_on = _goes_on(subject.read, shapes[-1])
    if source is not None:
        shown = pyramid.build(source.read, shapes[-1], scales, folder / "source", rim=rim)
        goes_on |= _goes_on(source.read, shapes[-1])
    if source is not None and auto_context is not None:
        channel = auto_context(source, folder / "auto_context")
        below = pyramid.build(channel, shapes[-1], scales, folder / "auto_context", rim=rim)
        shown = [sketch.stacked(*pair) for pair in zip(shown, below, strict=True)]
    labels: Sequence[Reader | None] = [None] * (scales + 1)
    if config.labels and subject.has_labels:
        read = subject.read_labels
        labels = pyramid.build(
            lambda box: np.asarray(read(box)),
            shapes[-1],
            scales,
            folder / "labels",
            labels=True,
            rim=rim,
        )
    rims = _rims(config) if goes_on else (0, 0)
    for i, (shape, image) in enumerate(zip(shapes, images, strict=True)):
        _write(folder / f"image_s{i}.npy", Box.whole(shape).grown(rims[0]), "float32", image)
        rng, marks = seeds.numpy_rng(config.seed, subject.name, "labelled", i), labels[i]
        places = (
            np.empty((0, len(shape)), np.int32) if marks is None else labelled(marks, shape, rng)
        )
        stream = BytesIO()  # NumPy's own writing to a full disk has an error without its number
        np.save(stream, places)
        (folder / f"labelled_s{i}.npy").write_bytes(stream.getvalue())
        if marks is not None and _keeps_labels(subject, config):
            _write(folder / f"labels_s{i}.npy", Box.whole(shape).grown(rims[0]), "int32", marks)
    for variant in range(1 + _variants(config)):
        seen = shown
        if variant:
            seen = _recoloured(images, shapes, config, subject.name, variant, folder)
        if variant and config.guidance.on:  # one appearance, halved, so that the scales agree
            seen = _stored(seen[-1], shapes, folder / "appearance")
            if config.guidance.match == "spectrum":  # it stands for a source, and is matched as one
                smooth = _filtered(subject, seen[-1])
                seen = _stored(smooth, shapes, folder / "matched")
        for i in range(1, scales + 1):
            # What ends in background is known, and need not be read: noise is drawn for what is.
            shown_here = seen[i] if goes_on else ending(seen[i], shapes[i])
            drawn = sketch.sketch_reader(
                shown_here,
                shapes[i],
                config.sketch,
                labels[i],
                values=config.labels or (1,),
                rim=rim,
            )
            count, whole = sketch.channels(config.sketch, config.dims), Box.whole(shapes[i])
            path = folder / f"sketch_s{i}_{variant}.npy"
            _write(path, whole.grown(rims[1]), SKETCH_DTYPE, drawn, count)
            marks = labels[i]
            if config.guidance.on and (variant or marks is not None):
                own = shown_here if marks is None else slope.hiding(shown_here, marks, shapes[i])
                path = folder / f"source_s{i}_{variant}.npy"
                _write(path, whole.grown(rims[0]), "float32", own)
    used = (folder / name for name in ("labels", "source", "auto_context", "appearance", "matched"))
    for path in (*folder.glob("*.zarr"), *used):
        shutil.rmtree(path, ignore_errors=True)


def _filtered(subject: Prepared, seen: Reader) -> Reader:
    """An image of another kernel, brought to the spectrum of the subject's own."""
    shape, spacing = subject.grid.shape, subject.grid.spacing
    profile = TargetProfile.of("spectrum", [subject])
    smooth = spectrum.filtered(seen, profile.filter_for(seen, shape, spacing))
    return lambda box: smooth(box).clip(-1, 1)


def _stored(read: Reader, shapes: Sequence[Shape], folder: Path) -> list[Reader]:
    """An image on s_n, written down as it is read once, and its scales."""
    store = pyramid.Store.create(folder / "whole.zarr", shapes[-1], rim=pyramid.RIM)
    for box in store.known.tiles(store.tile):
        store.write(box, read(box))
    return pyramid.build(store.read, shapes[-1], len(shapes) - 1, folder, rim=pyramid.RIM)


def ending(read: Reader, shape: Shape) -> Reader:
    """An image that ends in background, of any box."""
    return lambda box: read_padded(read, shape, box, pyramid.BACKGROUND)


def _recoloured(
    images: Sequence[Reader],
    shapes: Sequence[Shape],
    config: CascadeConfig,
    name: str,
    variant: int,
    folder: Path,
) -> list[Reader]:
    """s0..sn in the appearance of a variant, the same at every scale and in every box."""
    seed, known = seeds.derive(config.seed, name, variant), levels(load(folder / "image_s0.npy"))
    cut = config.guidance.match != "spectrum"  # else it is filtered first
    appearance = Appearance.draw(config.contrast, config.dims, seed, known, cut=cut)

    def recoloured(scale: int) -> Reader:
        def noise(box: Box) -> torch.Generator:  # it differs between boxes
            names = (name, variant, scale, *box.start)
            return torch.Generator().manual_seed(seeds.derive(config.seed, *names))

        factor = 2 ** (len(images) - 1 - scale)
        return appearance.reader(images[scale], shapes[scale], noise, factor)

    return [recoloured(scale) for scale in range(len(images))]


def labelled(read: Reader, shape: Shape, rng: np.random.Generator) -> Array:
    """Voxels of a label map (*shape) that are not 0, at most :data:`LABELLED` of them, (N, dims).

    Which ones is drawn while the map is read part by part: each has a random number, and those
    with the smallest are kept.
    """
    kept, drawn = np.empty((0, len(shape)), np.int32), np.empty(0)
    for box in Box.whole(shape).tiles((pyramid.CHUNK[len(shape)],) * len(shape)):
        here = np.argwhere(read(box)) + box.start
        kept = np.concatenate((kept, here.astype(np.int32)))
        drawn = np.concatenate((drawn, rng.random(len(here))))
        first = np.argsort(drawn)[:LABELLED]
        kept, drawn = kept[first], drawn[first]
    return kept


def _write(path: Path, region: Box, dtype: str, read: Reader, *lead: int) -> None:
    out = maps.create(path, (*lead, *region.size), dtype)
    for box in region.tiles((pyramid.CHUNK[region.dims],) * region.dims):
        out[trailing(box.inside(region).slices)] = read(box)
    out.flush()
