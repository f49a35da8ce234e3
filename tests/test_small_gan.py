"""The small GAN: s0 of a cascade and one linear interpolation."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import cohort_in, head, stored, tiny, whole

from msgan import pyramid
from msgan.data.cohort import Cohort, prepare
from msgan.data.intensity import IntensityMap
from msgan.data.prepared import Prepared
from msgan.data.resample import PIECE_VOXELS
from msgan.data.volume import open_volume
from msgan.methods.small_gan import SmallGan
from msgan.methods.trained import Cascade
from msgan.runs.run import Run
from msgan.training.checkpoint import save_weights
from msgan.training.loop import WEIGHTS
from msgan.training.step import build_generator
from msgan.translate import frame
from msgan.translate.generation import enlarged
from msgan.translate.scratch import Scratch
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_the_cascade_s_own_s0_enlarged(dims, tmp_path):
    cohort = cohort_in(tmp_path, dims)
    cascade = Cascade.fit(cohort, None, "t2", tiny(dims), tmp_path / "run", device="cpu")
    run = cascade.run
    cascade.translate(cohort["s2"], tmp_path / "c.nii", keep=tmp_path / "kept")
    SmallGan(run, "cpu").translate(cohort["s2"], tmp_path / "small.nii")
    with open_volume(tmp_path / "small.nii") as result, open_volume(tmp_path / "2.nii") as source:
        assert result.grid == source.grid
    low = run.intensity.to_unit(whole(tmp_path / "kept" / "y0.nii"))
    with prepare(cohort["s2"], "t2", run.config.preparation) as ready:
        fine = enlarged(lambda box: low[box.slices], low.shape, ready.grid.shape)
        shown = ready.to_source(fine, run.intensity)
        expected = shown(Box.whole(ready.grid.source.shape))
    found = whole(tmp_path / "small.nii")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * run.intensity.high)
    assert found.std() > 0
    assert np.abs(found - whole(tmp_path / "c.nii")).max() > 1e-2


def test_only_scale_0_is_trained_and_needed(dims, tmp_path):
    cohort = cohort_in(tmp_path, dims)
    method = SmallGan.fit(cohort, None, "t2", tiny(dims), tmp_path / "run", device="cpu")
    assert [method.run.finished(i) for i in range(3)] == [True, False, False]
    results = []
    for tile in (None, 4, 6):
        method.translate(cohort["s2"], tmp_path / f"{tile}.nii", modality="t2", tile=tile)
        results.append(whole(tmp_path / f"{tile}.nii"))
    assert results[0].std() > 0
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=1e-4 * results[0].max())


def test_one_scale_and_labels(tmp_path):
    """s1 is s_n, and the labels change what is drawn of it."""
    (subject,) = cohort_in(tmp_path, splits=("train",)).subjects
    marks = np.zeros((48, 40), np.float32)
    marks[20:28, 16:24] = 1
    subject = replace(subject, labels=stored(tmp_path / "labels.nii", marks))
    config = tiny(preparation={"scales": 1}).model_copy(update={"labels": (1,)})
    method = SmallGan.fit(Cohort((subject,)), None, "t2", config, tmp_path / "run", device="cpu")
    method.translate(subject, tmp_path / "with.nii")
    method.translate(replace(subject, labels=None), tmp_path / "without.nii")
    difference = np.abs(whole(tmp_path / "with.nii") - whole(tmp_path / "without.nii"))
    assert difference.max() > 1e-3


def test_interpolation_is_linear_at_once(dims):
    """A ramp stays a ramp, boxes agree, and one doubling is that of the cascade."""
    shape = (6, 5, 4)[:dims]
    ramp = sum(k * a for k, a in enumerate(np.indices(shape), 1)).astype(np.float32)
    full = tuple(8 * n for n in shape)
    read = enlarged(lambda box: ramp[box.slices], shape, full)
    fine = read(Box.whole(full))
    inner = (slice(4, -4),) * dims
    positions = [(a + 0.5) / 8 - 0.5 for a in np.indices(full)]
    expected = sum(k * a for k, a in enumerate(positions, 1))
    np.testing.assert_allclose(fine[inner], expected[inner], atol=1e-5)
    assert fine.min() == ramp.min()
    for box in Box.whole(full).tiles((7, 5, 9)[:dims]):
        np.testing.assert_array_equal(read(box), fine[box.slices])

    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    twice = tuple(2 * n for n in shape)
    one = enlarged(lambda box: noise[box.slices], shape, twice)(Box.whole(twice))
    other = pyramid.enlarge(lambda box: noise[box.slices], shape)(Box.whole(twice))
    inner = (slice(2, -2),) * dims
    np.testing.assert_allclose(one[inner], other[inner], atol=1e-6)


def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    """No reader is asked for more than a chunk and its surroundings, whatever the size."""
    method = SmallGan.fit(cohort_in(tmp_path), None, "t2", tiny(), tmp_path / "run", device="cpu")
    monkeypatch.setitem(pyramid.CHUNK, 2, 8)
    asked, stored_reads, written = [], [], []
    read, read_store = Prepared.read, pyramid.Store.read

    def seen(self, box):
        asked.append(box.voxels)
        return read(self, box)

    def seen_store(self, box):
        stored_reads.append(box.voxels)
        return read_store(self, box)

    def write(path, grid, source, **options):
        stored_reads.clear()
        for box in Box.whole(grid.shape).tiles((8, 8)):
            written.append(source(box).shape)

    monkeypatch.setattr(Prepared, "read", seen)
    monkeypatch.setattr(pyramid.Store, "read", seen_store)
    monkeypatch.setattr(frame, "write_volume", write)
    big = stored(tmp_path / "big.nii", head((96, 128), 3))
    method.translate(big, tmp_path / "out.nii", tile=8)
    assert len(asked) == 96 * 128 / 16**2
    assert max(asked) == 16**2
    assert len(written) == 96 * 128 / 8**2
    assert max(stored_reads) <= 4**2  # 2 voxels of s0 below 8 of s_n, and one around
    assert PIECE_VOXELS > 16**2


def test_the_largest_tile_that_fits_is_taken(monkeypatch, tmp_path):
    """However large s0 is: a cascade of few scales may be asked for a large image."""
    run = Run(tmp_path, tiny(3), "t2", IntensityMap(0.0, 1.0), {})
    save_weights(build_generator(run.config, 0), run.folder_of(0) / WEIGHTS, {})
    plan = sys.modules["msgan.translate.plan"]  # the package has a function of that name
    monkeypatch.setattr(plan, "resident", lambda: 100 << 20)
    shape, cpu = (256, 256, 256), torch.device("cpu")

    def tile(mib):
        return plan.scale_plan(SmallGan(run).generation, 0, shape, plan.Limits(mib << 20), cpu).tile

    found = [int(np.prod(tile(mib))) for mib in (4000, 1000, 500)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
    with pytest.raises(InputError, match=r"memory 200\.0 MiB: the smallest tile of s0, 8 x 8 x 8"):
        tile(200)


def test_scratch_is_removed(tmp_path, monkeypatch):
    method = SmallGan.fit(cohort_in(tmp_path), None, "t2", tiny(), tmp_path / "run", device="cpu")
    scratch = tmp_path / "scratch"
    monkeypatch.setenv("MSGAN_SCRATCH", str(scratch))
    made = []
    stage = Scratch.stage
    monkeypatch.setattr(Scratch, "stage", lambda self, *a: made.append(a[0]) or stage(self, *a))
    method.translate(tmp_path / "2.nii", tmp_path / "out.nii")
    assert set(made) == {"s1", "y0"}
    assert list(scratch.iterdir()) == []


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    cohort = cohort_in(tmp_path)
    run = Cascade.fit(cohort, None, "t2", tiny(), tmp_path / "r", device="cpu", scales=[1]).run
    out = tmp_path / "out.nii"
    with pytest.raises(InputError, match="scale 0 of 2 is not trained yet"):
        SmallGan(run, "cpu").translate(cohort["s2"], out)
    with pytest.raises(InputError, match="the small GAN trains scale 0 only"):
        SmallGan.fit(cohort, None, "t2", tiny(), tmp_path / "r", device="cpu", scales=[1])
    method = SmallGan.fit(cohort, None, "t2", tiny(), tmp_path / "r", device="cpu")
    cases = [
        ("tile 3: expected an even number", {"tile": 3}),
        (r"memory 1\.0 MiB: the smallest tile of s0, 16 x 16 voxels, needs", {"memory": 1 << 20}),
        ("no t1 image", {"modality": "t1"}),
    ]
    for message, options in cases:
        with pytest.raises(InputError, match=message) as caught:
            method.translate(cohort["s2"], out, **options)
        assert "\n" not in str(caught.value)
    free = tiny().preparation.model_copy(update={"spacing_mm": None})
    config = run.config.model_copy(update={"preparation": free})
    with pytest.raises(InputError, match="image of 3 axes, the run was trained on 2"):
        SmallGan(replace(run, config=config), "cpu").translate(
            stored(tmp_path / "v.nii", head((24, 16, 20))), out
        )
    with pytest.raises(InputError, match="unknown suffix"):
        method.translate(cohort["s2"], tmp_path / "out.xyz")
    assert not out.exists()
