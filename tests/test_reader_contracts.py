"""One contract over every reader: what an opened image promises, whatever its format.

A format that is added gets an image in ``benchmarks/reader_corpus.py`` and no test of its own for
any of this.
"""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from helpers import contents
from test_repository import ROOT

from msgan.data.sources import READERS
from msgan.data.volume import open_labels, open_volume
from msgan.types import Box, InputError

sys.path.insert(0, str(ROOT / "benchmarks"))
from reader_corpus import WRITERS, values, write_corpus

SCALED = {
    **dict.fromkeys(("nii", "nii.gz", "nifti2", "pair"), (2, -1)),
    "mha text": (2, -1024),
    **{kind: (1, -1024) for kind in WRITERS if kind.startswith("dicom")},
}
"""Slope and intercept that a header states."""

NO_SPACING = ("mhd list", "nhdr numbered", "png palette", "png bits", "bigtiff", "tiff ")
"""How kinds begin whose header states no size of a voxel."""

TURNED = ("mha 2d", "dicom", "dicom rle", "dicom deflated")
"""Kinds of 2 axes whose header names columns first; an image of 2 axes has rows first."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, write_corpus(folder)


@pytest.fixture(params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def home(corpus, kind, here) -> Path:
    """A folder with the files of an image of this kind and nothing else."""
    shutil.copytree(corpus[0] / kind, here / "image")
    return here / "image"


@pytest.fixture
def path(corpus, kind, home) -> Path:
    return home / Path(corpus[1][kind]).relative_to(kind)


def held() -> list[str]:
    """Files that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:  # the listing itself
            continue
    return sorted(name for name in found if name.startswith("/"))


def boxes(shape: tuple[int, ...]) -> list[Box]:
    """Single voxels, rows, and pieces whose sides divide nothing."""
    whole = Box.whole(shape)
    sides = [(1,) * len(shape), (4, 3, 3)[: len(shape)], (shape[0], *(1,) * (len(shape) - 1))]
    return [box for side in sides for box in whole.tiles(side)]


def test_no_format_is_left_out():
    assert [suffix for suffix in READERS if suffix[1:] not in " ".join(WRITERS)] == []


def test_geometry_and_voxels_are_what_the_file_says(kind, path):
    slope, intercept = SCALED.get(kind, (1, 0))
    with open_volume(path) as volume:
        image = volume.whole()
        stored = values(image.ndim)
        if kind in TURNED:
            stored = (values(2) if kind == "mha 2d" else values()[:, :, 0]).T
        assert volume.grid.shape == image.shape == stored.shape
        assert image.dtype == np.float32
        assert volume.extremes == (image.min(), image.max())
        if not kind.startswith(NO_SPACING):
            assert volume.grid.spacing == pytest.approx((2, 2, 3)[: image.ndim])
    if kind in ("png palette", "png bits"):  # other grey values than were given
        assert len(np.unique(image)) > 1
    else:
        np.testing.assert_array_equal(image, slope * stored.astype(np.float32) + intercept)


def test_a_box_is_a_part_of_the_whole(path):
    with open_volume(path) as volume:
        image = volume.whole()
    with open_volume(path, check=False) as volume:  # nothing was looked at before
        for box in boxes(volume.grid.shape):
            found = volume.read(box)
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, image[box.slices])
        for box in (Box.whole(image.shape).grown(1), Box((99,) * image.ndim, (1,) * image.ndim)):
            with pytest.raises(ValueError, match="leaves"):
                volume.read(box)


def test_threads_read_at_once(path):
    with open_volume(path) as volume:
        image = volume.whole()
    ready = Barrier(4)
    with open_volume(path, check=False) as volume, ThreadPoolExecutor(4) as pool:

        def read(k: int) -> bool:
            ready.wait()
            found = boxes(image.shape)[k::2]
            return all(np.array_equal(volume.read(box), image[box.slices]) for box in found)

        assert list(pool.map(read, (0, 1, 0, 1))) == [True] * 4


def test_the_file_is_left_alone_and_nothing_beside_it(home, here, path):
    before = contents(home)
    for opened in (open_volume, open_labels):
        with opened(path) as volume:
            volume.whole()
    assert contents(home) == before
    assert list((here / ".scratch").glob("*")) == []


def test_it_is_closed_after_use(here, path):
    open_volume(path).close()  # libraries open files of their own for good
    before = held()
    with open_volume(path) as volume:
        volume.whole()
    assert held() == before
    with pytest.raises(ValueError, match="is closed"):
        volume.whole()
    assert list((here / ".scratch").glob("*")) == []


def test_a_file_cut_short_is_one_line(home, here, path):
    """Its header as well as its voxels; nothing is read that is not there."""
    files = sorted((p for p in home.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    files = [p for p in files if p.name not in ("zarr.json", ".zattrs", ".zgroup")]
    whole = files[-1].read_bytes()
    before = held()
    for share in (0.02, 0.5, 0.7):
        files[-1].write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError) as caught:
            open_volume(path)
        assert len(str(caught.value).splitlines()) == 1
        assert str(here) in str(caught.value)
        assert held() == before
    assert list((here / ".scratch").glob("*")) == []
