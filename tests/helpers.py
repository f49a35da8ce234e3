"""Images, cohorts, configurations and runs that many tests are made of; all small."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from msgan.config import CascadeConfig, Preparation, SketchConfig, TrainConfig, network_of
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume, write_volume
from msgan.networks.families import FAMILIES, CascadeFamily
from msgan.runs.run import Run
from msgan.training import checkpoint
from msgan.training.loop import WEIGHTS
from msgan.training.step import build_generator
from msgan.types import Array, Reader

# --- images ------------------------------------------------------------------------------------


def head(shape, seed=0, low=5.0, high=100.0) -> Array:
    """A textured ellipsoid, ``low`` to ``high``, on a background of 0."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(a**2 for a in axes) < 0.8
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    texture = (noise - noise.min()) / np.ptp(noise)
    return np.where(inside, low + (high - low) * texture, 0).astype(np.float32)


def stored(
    path: Path, image: Array, affine=None, dtype=np.float32, unit="a.u.", *, spacing=1.0
) -> Path:
    """The file ``path`` with this image."""
    affine = np.diag([*(spacing,) * image.ndim, 1.0]) if affine is None else affine
    write_volume(
        path, Grid(image.shape, affine), lambda box: image[box.slices], dtype=dtype, unit=unit
    )
    return path


def whole(path) -> Array:
    """All voxels of a file."""
    with open_volume(path) as volume:
        return volume.whole()


def reader(image: Array) -> Reader:
    """An array as a reader."""
    return lambda box: image[box.slices]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files below a folder, with their times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def source_in(folder: Path, dims: int, shape=None) -> Path:
    """An image to translate, of other sides than those trained on."""
    return stored(folder / "source.nii", head(shape or ((70, 52) if dims == 2 else (30, 26, 24))))


# --- cohorts -----------------------------------------------------------------------------------


def cohort_in(folder: Path, dims=2, splits=("train", "train", "val")) -> Cohort:
    """Heads of one shape; written if they are not there yet."""
    shape = (48, 40) if dims == 2 else (24, 16, 20)
    subjects = []
    for k, split in enumerate(splits):
        path = folder / f"{k}.nii"
        if not path.exists():
            stored(path, (1 + k) * head(shape, k))
        subjects.append(Subject(f"s{k}", {"t2": path}, split=split))
    return Cohort(tuple(subjects))


def pairs(folder: Path, dims: int, splits=("train", "train", "val", "test")) -> Cohort:
    """T2 is dark where T1 is bright; all grey values are as frequent."""
    shape = (48, 40) if dims == 2 else (24, 20, 20)
    subjects = []
    for k, split in enumerate(splits):
        texture = head(shape, k)
        inside = texture > 0
        t1 = np.zeros(shape, np.float32)
        t1[inside] = 20 + 80 * np.argsort(np.argsort(texture[inside])) / inside.sum()
        t2 = np.where(inside, 120 - t1, 0).astype(np.float32)
        images = {m: stored(folder / f"{k}_{m}.nii", i) for m, i in (("t1", t1), ("t2", t2))}
        subjects.append(Subject(f"s{k}", images, split=split))
    return Cohort(tuple(subjects))


# --- configurations ----------------------------------------------------------------------------


def tiny(dims=2, network=None, preparation=None, **training) -> CascadeConfig:
    """Of three scales that are trained in a moment."""
    sizes = {"lr_width": 2, "lr_levels": 2, "hr_width": 4, "hr_blocks": 1}
    options = {
        "steps": 4,
        "lr_steps": 4,
        "batch": 2,
        "lr_batch": 2,
        "patch": 8,
        "learning_rate": 2e-3,
        "validate_every": 10,
        "checkpoint_every": 15,
    }
    return CascadeConfig(
        dims=dims,
        preparation=Preparation(**{"scales": 2, "margin": 0} | (preparation or {})),
        sketch=SketchConfig(low=0.05, high=0.1, sigma=0.8, steps=2),
        network=network_of(**sizes | {"discriminator_width": 2} | (network or {})),
        training=TrainConfig(**options | training),
    )


def config_of(dims: int, family="seamless", scales=2, **changes) -> CascadeConfig:
    """For runs with random weights."""
    return CascadeConfig(
        dims=dims,
        preparation=Preparation(**{"scales": scales, "margin": 2} | changes.pop("preparation", {})),
        sketch=SketchConfig(low=0.05, high=0.1, sigma=0.8, steps=2),
        network=network_of(family=family, lr_width=2, lr_levels=2, hr_width=4, hr_blocks=1),
        training=TrainConfig(steps=1, lr_steps=1),
        **changes,
    )


def changed(config: CascadeConfig, **values) -> CascadeConfig:
    return CascadeConfig.model_validate(config.model_dump() | values)


def blind(config: CascadeConfig, *what: str) -> CascadeConfig:
    return changed(config, drop_inputs=what)


CASCADES = {n: family for n, family in FAMILIES.items() if isinstance(family, CascadeFamily)}
"""The networks of every family of cascades."""


# --- runs --------------------------------------------------------------------------------------


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights with which every layer counts (the last one starts at zero)."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = 1.2 * noise / parameter[0].numel() ** 0.5
        else:
            parameter.data += 0.1 * noise
    return network.eval().requires_grad_(False)


def networks(config: CascadeConfig) -> list[torch.nn.Module]:
    count = config.preparation.scales + 1
    return [randomised(build_generator(config, i), i) for i in range(count)]


def run_of(folder: Path, config: CascadeConfig, intensity=None, trained: int | None = None) -> Run:
    """A run with random weights, as if it were trained."""
    intensity = intensity or IntensityMap(0.0, 80.0, "a.u.")
    run = Run(folder, config, "t2", intensity, {"a": "00"})
    run.create()
    for i, network in enumerate(networks(config)[:trained]):
        checkpoint.save_weights(network, run.folder_of(i) / WEIGHTS, {"step": 1})
    return Run.open(folder)


def untrained(folder: Path, config: CascadeConfig, scales=None) -> Run:
    """A run with random weights of some of its scales."""
    run = Run(folder, config, "t2", IntensityMap(0.0, 80.0, "a.u."), {"a": "00"})
    run.create()
    for i in run.used if scales is None else scales:
        torch.manual_seed(i)
        network = randomised(build_generator(config, i), i)
        checkpoint.save_weights(network, run.folder_of(i) / WEIGHTS, {"step": 1})
    return run


def weights(folder: Path, scale: int) -> dict[str, torch.Tensor]:
    return dict(sorted(load_file(folder / f"s{scale}" / WEIGHTS).items()))


def equal(one: Path, other: Path, scale: int) -> bool:
    a, b = weights(one, scale), weights(other, scale)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
