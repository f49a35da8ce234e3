"""Subjects, samplers and runs for the tests of training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import head, stored
from lightning_fabric import Fabric
from safetensors import safe_open

from msgan.config import (
    CascadeConfig,
    ConditioningAugmentation,
    Preparation,
    SketchConfig,
    TrainConfig,
    network_of,
)
from msgan.data.cohort import prepare
from msgan.data.intensity import IntensityMap
from msgan.pyramid import halve
from msgan.runs.run import Run
from msgan.training import loop
from msgan.training.batches import Batch, Patches
from msgan.training.cache import CachedSubject, cached
from msgan.training.log import LOG
from msgan.training.step import build_generator

gpu = pytest.mark.gpu
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


ALL = ("edges", "self_similarity", "ridges")
QUIET = ConditioningAugmentation(noise=0, sketch_noise=0, blur_share=0, half_share=0)


def tiny(dims: int, **training) -> CascadeConfig:
    options = {"steps": 40, "lr_steps": 40, "batch": 2, "patch": 8, "learning_rate": 2e-3}
    return CascadeConfig(
        dims=dims,
        preparation=Preparation(scales=2, margin=0),
        sketch=SketchConfig(low=0.05, high=0.1, sigma=0.8, steps=2),
        network=network_of(lr_width=2, lr_levels=2, hr_width=4, hr_blocks=1, discriminator_width=2),
        training=TrainConfig(**options | training),
    )


def with_(config: CascadeConfig, part: str, **changes) -> CascadeConfig:
    changed = getattr(config, part).model_copy(update=changes)
    return config.model_copy(update={part: changed})


def shape_of(dims: int) -> tuple[int, ...]:
    return (48, 40) if dims == 2 else (24, 16, 20)


def made(folder: Path, config: CascadeConfig, seed=0, labels=None) -> CachedSubject:
    path = stored(folder / f"{seed}.nii", head(shape_of(config.dims), seed))
    with prepare(path, None, config.preparation, labels) as subject:
        return cached(subject, config, "data", folder / "cache")


def twins(dims: int, channels: int = 1, seed: int = 0, shape=None) -> CachedSubject:
    """Random images whose sketch is the image itself, so that misplaced patches show."""
    finest = shape or shape_of(dims)
    image = torch.from_numpy(np.random.default_rng(seed).uniform(-0.9, 0.9, size=(1, *finest)))
    images = [image.float()]
    for _ in range(2):
        images.insert(0, halve(images[0], dims))
    drawn = [(), *[(x.expand(channels, *x.shape[1:]).clone(),) for x in images[1:]]]
    return CachedSubject(f"twin{seed}", tuple(images), tuple(drawn))


def fabric(precision="32-true") -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision=precision)


def same(a: Batch, b: Batch) -> bool:
    pairs = zip((*a.reads, *a.targets), (*b.reads, *b.targets), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def moved(batch: Batch, change) -> Batch:
    return Batch(tuple(map(change, batch.reads)), tuple(map(change, batch.targets)))


def patches(subjects, config, scale, **options) -> Patches:
    geometry = build_generator(config, scale).geometry
    return Patches(subjects, config, scale, geometry, **options)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(folder / loop.WEIGHTS), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def a_run(folder: Path, dims=2, **changes) -> Run:
    run = Run(folder, tiny(dims), "t2", IntensityMap(0.0, 80.0, "a.u."), {"a": "00", "b": "11"})
    return replace(run, **changes)
