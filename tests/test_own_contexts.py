"""Contexts that the scales below have made: they are theirs, and training sees them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from msgan.config import (
    CascadeConfig,
    ContrastAugmentation,
    Degradation,
    NetworkConfig,
    Preparation,
    TrainConfig,
)
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.data.grid import Grid
from msgan.data.volume import open_volume, write_volume
from msgan.methods.cascade import fit
from msgan.methods.own_contexts import MADE, with_contexts
from msgan.paths import sha256
from msgan.training.batches import Patches
from msgan.training.cache import CachedSubject, cached
from msgan.training.run import Run
from msgan.translate import translate
from msgan.types import InputError

CPU = torch.device("cpu")


def config(dims: int, share: float = 1.0, **changes) -> CascadeConfig:
    sizes = {"low_width": 4, "low_levels": 2, "high_width": 8, "high_blocks": 1}
    return CascadeConfig(
        dims=dims,
        preparation=Preparation(scales=2, margin=0),
        contrast=ContrastAugmentation(share=0.5, variants=2),
        degradation=Degradation(own_share=share, noise=0, blur_share=0, half_share=0),
        network=NetworkConfig(**sizes, discriminator_width=4),
        training=TrainConfig(steps=3, low_steps=30, patch=8, gan_weight=0.0, learning_rate=1e-2),
        **changes,
    )


@pytest.fixture
def study(tmp_path: Path, dims: int) -> Cohort:
    rng = np.random.default_rng(3)
    image = np.zeros((32, 28, 24)[:dims], np.float32)
    image[(slice(4, 28), slice(4, 24))] = 1 + rng.random((24, 20, *image.shape[2:]))
    path = tmp_path / "a.nii"
    write_volume(path, Grid(image.shape, np.eye(dims + 1)), lambda box: image[box.slices])
    return Cohort((Subject("a", {"t2": path}, split="train"),))


def opened(run: Run, study: Cohort) -> CachedSubject:
    (subject,) = study
    with prepare(subject, "t2", run.config.preparation) as ready:
        return cached(ready, run.config, run.data["a"], run.folder / "cache")


def test_they_are_what_a_translation_draws(study: Cohort, tmp_path: Path, dims: int) -> None:
    """The first sketch is that of the image itself, so translating it makes the same."""
    run = fit(study, "t2", config(dims), tmp_path / "run", device="cpu")
    translate(run, study.subjects[0], tmp_path / "o.nii", keep=tmp_path / "kept", device="cpu")
    for scale in (1, 2):
        seen = with_contexts(run, opened(run, study), scale, CPU)
        assert len(seen.made) == 3
        with open_volume(tmp_path / "kept" / f"y{scale - 1}.nii") as kept:
            drawn = run.intensity.to_unit(kept.whole())
        # The cache keeps sketches in half precision.
        np.testing.assert_allclose(seen.made[0][0].numpy(), drawn, atol=2e-2)
        assert (seen.made[0] - seen.images[scale - 1]).abs().max() > 0.1
        assert not torch.equal(seen.made[0], seen.made[1])


def test_training_sees_them(study: Cohort, tmp_path: Path, dims: int) -> None:
    run = fit(study, "t2", config(dims), tmp_path / "run", device="cpu")
    seen = with_contexts(run, opened(run, study), 2, CPU)
    for share in (0.0, 1.0):
        drawn = Patches([seen], config(dims, share), 2, run.generator(2), degraded=False)
        sample = drawn.decide("train", 0, 0)
        assert sample.own == bool(share)
        context = drawn.draw("train", 0, [0]).context
        source = seen.made[sample.variant] if share else seen.images[1]
        inside = sample.context.clipped(source.shape[1:])
        wanted = source[(slice(None), *inside.slices)]
        found = context[0][(slice(None), *inside.inside(sample.context).slices)]
        assert torch.equal(found, wanted)


def test_scales_are_trained_from_below(study: Cohort, tmp_path: Path, dims: int) -> None:
    with pytest.raises(InputError, match="scale 2 is trained on what scale 0 makes"):
        fit(study, "t2", config(dims), tmp_path / "run", device="cpu", scales=[2])
    run = fit(study, "t2", config(dims), tmp_path / "run", device="cpu")
    assert all(run.finished(i) for i in range(3))
    before = sha256(run.folder / MADE)
    fit(study, "t2", config(dims), tmp_path / "run", device="cpu")
    assert sha256(run.folder / MADE) == before


@pytest.mark.parametrize("changes", [{"share": 0.0}, {"blind": ("context",)}])
def test_nothing_is_made_that_nobody_sees(
    study: Cohort, tmp_path: Path, dims: int, changes: dict
) -> None:
    run = fit(study, "t2", config(dims, **changes), tmp_path / "run", device="cpu")
    assert not (run.folder / MADE).exists()


def test_without_a_share_everything_else_is_drawn_as_before(study: Cohort, tmp_path, dims) -> None:
    run = fit(study, "t2", config(dims, 0.0), tmp_path / "run", device="cpu", scales=[0])
    subject = opened(run, study)
    samples = [
        Patches([subject], config(dims, share), 1, geometry(dims), degraded=False).decide("t", 0, k)
        for k in range(4)
        for share in (0.0, 0.5)
    ]
    for plain, mixed in zip(samples[::2], samples[1::2], strict=True):
        assert (plain.detail, plain.variant, plain.seed) == (
            mixed.detail,
            mixed.variant,
            mixed.seed,
        )


def geometry(dims: int):
    from msgan.networks.high import SeamlessGenerator

    return SeamlessGenerator(dims, 1, 8, 1)
