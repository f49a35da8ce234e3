"""What a training step takes is counted without taking one."""

import json
from pathlib import Path

import pytest
import torch
from helpers import cohort_in, pairs, tiny
from training import fabric

from msgan.config import CascadeConfig, Perceptual
from msgan.data.cohort import prepare
from msgan.memory.count import peak_bytes
from msgan.memory.training import step_cost, training_cost
from msgan.methods.cascade import fit
from msgan.methods.ea_gan import DEaGan
from msgan.methods.mdaunet import MDAUNet
from msgan.methods.paired import PairedRegression
from msgan.methods.resvit import ResViT
from msgan.training.batches import Batch
from msgan.training.loop import learner_of
from msgan.training.step import build_generator
from msgan.types import InputError

PAIRED = (PairedRegression, MDAUNet, DEaGan, ResViT)


def sized(method: type, dims: int) -> CascadeConfig:
    size = {} if method is PairedRegression else {"size": "smoke"}
    return method.configured(tiny(dims), "t1", **size)


@pytest.mark.parametrize(("method", "dims"), [*((m, 2) for m in PAIRED), (DEaGan, 3)])
def test_the_count_is_that_of_a_real_step(method: type, dims: int) -> None:
    """The same tensors, with data in them."""
    config = sized(method, dims)
    cost = step_cost(config, 2)

    def step() -> object:
        learner = learner_of(config, 2, fabric(), None)
        own, count = learner.geometry, config.training.batch
        side = own.patch or config.training.patch
        patch = torch.rand(count, 1, *own.sides(side, dims))
        reads = [patch]
        if method is PairedRegression:
            halo = own.reads[0].halo
            reads = [torch.rand(count, 1, *[n + 2 * halo for n in patch.shape[2:]])]
        learner.update(Batch(tuple(reads), (2 * patch - 1,)), 0, 1e-3)
        return learner

    if method is PairedRegression:  # its context, which it does not read, has data all the same
        assert cost.judging == 0
        assert cost.bytes > 16 * cost.parameters
    else:
        # What Fabric wraps around networks has a few numbers of its own.
        assert cost.bytes == pytest.approx(peak_bytes(step), rel=0.02)
        assert cost.judging > 0
    with torch.device("meta"):
        built = build_generator(config, 2)
    assert cost.parameters == sum(p.numel() for p in built.parameters())


def test_larger_batches_patches_and_images_take_more() -> None:
    config, dims = sized(DEaGan, 2), 2
    base = step_cost(config, 2).bytes
    # Weights are most of it where patches are small and few.
    assert step_cost(config.updated(training={"batch": 256}), 2).bytes > 1.3 * base
    assert step_cost(config.updated(training={"patch": 128}), 2).bytes > 1.3 * base
    cascade = tiny(dims)
    small, large = (step_cost(cascade, 0, (n,) * dims).bytes for n in (8, 32))
    assert large > 1.3 * small
    crop = step_cost(cascade.updated(training={"lr_patch": 8}), 0)
    assert crop.bytes <= small
    assert step_cost(cascade, 1).judging > 0


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(InputError, match="scale 0 is trained on whole images: expected the shape"):
        step_cost(tiny(2), 0)
    seen = sized(MDAUNet, 2).updated(perceptual=Perceptual(backbone="0" * 64))
    with pytest.raises(InputError, match="a perceptual loss or a cycle is not counted"):
        step_cost(seen, 2)


def test_the_cost_of_a_run_is_that_of_all_its_scales(tmp_path: Path) -> None:
    cohort = cohort_in(tmp_path)
    run = fit(cohort, "t2", tiny(2), tmp_path / "run", scales=(0,), device="cpu")
    with pytest.raises(InputError, match="scale 1 of 2 is not trained yet"):
        training_cost(run, cohort.subjects[0])
    run = fit(cohort, "t2", tiny(2), tmp_path / "run", device="cpu")
    cost = training_cost(run, cohort.subjects[0])
    with prepare(cohort.subjects[0], "t2", run.config.preparation) as ready:
        first = tuple(n // 4 for n in ready.grid.shape)
    alone = [step_cost(run.config, scale, first) for scale in (0, 1, 2)]
    assert cost["parameters"] == sum(one.parameters for one in alone)
    assert cost["judging"] == sum(one.judging for one in alone)
    assert cost["step_bytes"] == max(one.bytes for one in alone)
    assert cost["steps"] == 3 * 4
    files = [run.folder_of(scale) / "done.json" for scale in (0, 1, 2)]
    assert cost["seconds"] == sum(json.loads(file.read_text())["seconds"] for file in files)


def test_methods_of_one_scale_count_that_alone(tmp_path: Path) -> None:
    cohort = pairs(tmp_path, 2)
    run = fit(cohort, "t2", sized(DEaGan, 2), tmp_path / "run", device="cpu")
    cost = training_cost(run, cohort.subjects[0])
    assert cost["parameters"] == step_cost(run.config, 2).parameters
    assert cost["steps"] == 4
