"""Non-local means: less noise, the same edges, any tiling."""

import errno
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import whole
from hypothesis import given, settings
from hypothesis import strategies as st
from tree import untrained

from msgan.config import Preparation
from msgan.data import foreground
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.prepared import Prepared
from msgan.data.volume import open_volume, write_volume
from msgan.methods import non_local_means
from msgan.methods.non_local_means import NonLocalMeans, noise
from msgan.pyramid import Store
from msgan.types import Box, InputError

PREPARATION = Preparation(
    scales=1, margin=0, intensity="window", low=-1000.0, high=1000.0, foreground=-1500.0
)
SIZES = {"patch_size": 3, "patch_distance": 2}


def step(shape, sigma=0.05, seed=0) -> np.ndarray:
    """Two flat halves, -0.3 and 0.3, with noise."""
    image = np.random.default_rng(seed).normal(0, sigma, shape)
    half = shape[0] // 2
    image[:half] -= 0.3
    image[half:] += 0.3
    return image.astype(np.float32)


def save(path, image, affine=None):
    grid = Grid(image.shape, np.diag([2.0] * image.ndim + [1.0]) if affine is None else affine)
    write_volume(path, grid, lambda box: image[box.slices].astype(np.float32))
    return path


def tiled(method, image, sides, sigma):
    out = np.full(image.shape, np.nan, np.float32)
    for box in Box.whole(image.shape).tiles(sides):
        out[box.slices] = method.smooth(lambda b: image[b.slices], image.shape, box, sigma)
    return out


@settings(max_examples=25, deadline=None)
@given(data=st.data(), sides=st.lists(st.integers(1, 24), min_size=2, max_size=3))
def test_any_tiles_give_what_the_library_gives_for_the_whole(data, sides):
    from skimage.restoration import denoise_nl_means

    dims = len(sides)
    shape = tuple(data.draw(st.lists(st.integers(9, 20), min_size=dims, max_size=dims)))
    sides = [max(n, 5) for n in sides]  # smaller ones only take long
    patch, distance = data.draw(st.sampled_from([(3, 2), (1, 3), (5, 1), (3, 4)]))
    image = step(shape, seed=data.draw(st.integers(0, 99)))
    method = NonLocalMeans(PREPARATION, patch_size=patch, patch_distance=distance)
    expected = denoise_nl_means(
        image.astype(np.float64), patch, distance, 0.6 * 0.05, sigma=0.05, fast_mode=True
    )
    found = tiled(method, image, sides, 0.05)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - image).max() > 1e-3


def test_noise_goes_and_the_edge_stays(dims, tmp_path):
    shape = ((64, 48), (32, 24, 20))[dims - 2]
    save(tmp_path / "in.nii", 1000 * step(shape))
    NonLocalMeans(PREPARATION, **SIZES).translate(tmp_path / "in.nii", tmp_path / "out.nii")
    before, after = whole(tmp_path / "in.nii"), whole(tmp_path / "out.nii")
    half = shape[0] // 2
    # 25 or 125 voxels are compared: of white noise a fifth or an eleventh would be left.
    limit = 0.35 if dims == 2 else 0.2
    assert after[: half - 4].std() < limit * before[: half - 4].std()
    rise = (after[half] - after[half - 1]).mean()
    assert rise == pytest.approx(600, rel=0.03)


def test_geometry_and_unit_are_kept(dims, tmp_path):
    """Flipped and turned axes, odd sides, and the range of the target."""
    shape = (21, 17, 15)[:dims]
    affine = np.eye(dims + 1)
    affine[:dims, :dims] = np.diag([-0.7, 1.5, 2.0][:dims])[:, ::-1]
    affine[:dims, -1] = [5, -6, 7][:dims]
    if dims == 2:
        affine = np.diag([0.7, 1.5, 1.0])
    save(tmp_path / "in.nii", 1000 * step(shape), affine)
    subject = Subject("s", {"b80f": tmp_path / "in.nii"})
    other = IntensityMap(0.0, 100.0, "HU")
    for name, intensity in (("own", None), ("target", other)):
        method = NonLocalMeans(PREPARATION, intensity, **SIZES)
        method.translate(subject, tmp_path / f"{name}.nii", modality="b80f", tile=8)
    with (
        open_volume(tmp_path / "in.nii") as source,
        open_volume(tmp_path / "target.nii") as result,
    ):
        assert result.grid == source.grid
        assert result.unit == "HU"
    own, target = whole(tmp_path / "own.nii"), whole(tmp_path / "target.nii")
    np.testing.assert_allclose(target, (own + 1000) / 20, atol=1e-3)
    assert np.corrcoef(own.ravel(), whole(tmp_path / "in.nii").ravel())[0, 1] > 0.9


def test_any_tile_writes_the_same(dims, tmp_path):
    shape = ((40, 33), (18, 20, 15))[dims - 2]
    save(tmp_path / "in.nii", 1000 * step(shape))
    method = NonLocalMeans(PREPARATION, **SIZES)
    found = []
    for tile in (None, 7, 12):
        method.translate(tmp_path / "in.nii", tmp_path / f"{tile}.nii", tile=tile)
        found.append(whole(tmp_path / f"{tile}.nii"))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0, atol=1e-5 * 1000)


def test_memory_does_not_grow_with_the_image(dims, tmp_path, monkeypatch):
    shape = ((96, 80), (40, 36, 32))[dims - 2]
    save(tmp_path / "in.nii", 1000 * step(shape))
    monkeypatch.setattr(foreground, "BLOCK_VOXELS", 8**dims)
    asked, read = [], Prepared.read

    def seen(self, box):
        asked.append(box.voxels)
        return read(self, box)

    monkeypatch.setattr(Prepared, "read", seen)
    method = NonLocalMeans(PREPARATION, **SIZES)
    method.translate(tmp_path / "in.nii", tmp_path / "out.nii", tile=8)
    tiles = int(np.prod([n // 8 for n in shape], dtype=float))
    assert len(asked) >= tiles
    assert method.halo == 3
    assert max(asked) == 14**dims


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1])
def test_noise_is_told(dims, sigma):
    shape = ((250, 231), (50, 41, 37))[dims - 2]
    image = step(shape, sigma).clip(-1, 1)
    image[-shape[0] // 4 :] = -1  # background does not count
    assert noise(lambda box: image[box.slices], shape) == pytest.approx(sigma, rel=0.03)


def test_what_has_no_noise_stays(dims, tmp_path):
    shape = (16, 14, 12)[:dims]
    flat = np.full(shape, -1.0, np.float32)
    assert noise(lambda box: flat[box.slices], shape) == 0
    image = step(shape, 0)
    assert noise(lambda box: image[box.slices], shape) == 0
    save(tmp_path / "in.nii", 1000 * image)
    NonLocalMeans(PREPARATION).translate(tmp_path / "in.nii", tmp_path / "out.nii")
    np.testing.assert_allclose(
        whole(tmp_path / "out.nii"), whole(tmp_path / "in.nii"), rtol=0, atol=1e-3
    )


def test_background_stays_background():
    image = np.full((40, 40), -1.0, np.float32)
    image[:8, :8] = step((8, 8))
    method = NonLocalMeans(PREPARATION, **SIZES)
    found = tiled(method, image, (10, 10), 0.05)
    assert (found[12:] == -1).all()
    assert (found[:, 12:] == -1).all()
    assert not np.array_equal(found[:8, :8], image[:8, :8])


def test_the_target_s_range_is_that_of_training(tmp_path):
    def subject(name, split, factor):
        image = factor * (step((24, 20), seed=factor) + 1)
        return Subject(name, {"t2": save(tmp_path / f"{name}.nii", image)}, split=split)

    cohort = Cohort((subject("a", "train", 100), subject("b", "test", 900)))
    preparation = Preparation(scales=1, margin=0, high=100.0)
    method = NonLocalMeans.fit(cohort, None, "t2", untrained(preparation), **SIZES)
    assert method.intensity.high == pytest.approx(whole(tmp_path / "a.nii").max(), rel=1e-3)
    method.translate(cohort["b"], tmp_path / "out.nii")
    assert whole(tmp_path / "out.nii").max() <= method.intensity.high * (1 + 1e-6)


def test_errors_are_one_line(tmp_path, monkeypatch):
    for options, message in (
        ({"strength": 0}, "strength 0: expected more than 0"),
        ({"patch_size": 4}, "patch_size 4: expected an odd number of voxels"),
        ({"patch_distance": 0}, "patch_distance 0: expected at least 1 voxel"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            NonLocalMeans(PREPARATION, **options)
        assert "\n" not in str(caught.value)
    path = save(tmp_path / "in.nii", 1000 * step((16, 16)))
    out = tmp_path / "out.nii"
    with pytest.raises(InputError, match="tile 0: expected at least 1 voxel"):
        NonLocalMeans(PREPARATION).translate(path, out, tile=0)
    monkeypatch.setattr(non_local_means, "noise", None)  # refused before there is work
    with pytest.raises(InputError, match=r"out\.xyz: unknown suffix; expected one of \.nii"):
        NonLocalMeans(PREPARATION).translate(path, tmp_path / "out.xyz")
    with pytest.raises(InputError, match=r"none\.nii"):
        NonLocalMeans(PREPARATION).translate(tmp_path / "none.nii", out)
    assert not out.exists()


@pytest.mark.parametrize("full", ["before", "midway"])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, full):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    path = save(tmp_path / "in.nii", 1000 * step((40, 40)))

    def write(self, box, values):
        raise OSError(errno.ENOSPC, "No space left on device")

    if full == "midway":
        monkeypatch.setattr(Store, "write", write)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(InputError, match="the scratch of this translation") as caught:
        NonLocalMeans(PREPARATION).translate(path, tmp_path / "out.nii", tile=8)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.nii").exists()
    left = list((tmp_path / "scratch").iterdir())
    assert bool(left) == (full == "midway")  # there is something to go on with
