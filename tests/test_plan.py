"""What a translation is said to take, against what it takes."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import config_of, head, run_of, stored

from msgan import translate
from msgan.config import CascadeConfig, Preparation, TrainConfig, network_of
from msgan.data.cohort import prepare
from msgan.memory import process
from msgan.memory.tiles import Need
from msgan.memory.translation import untrained_run, write_ball
from msgan.paths import scratch_root
from msgan.pyramid import Store
from msgan.runs.run import Run
from msgan.translate import Generation, Limits, scratch
from msgan.translate import plan as planned
from msgan.translate.frame import demands
from msgan.translate.plan import MEMORY, RESERVE, STREAM, check, resident, scale_plan
from msgan.types import InputError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run") / "r", config_of(3))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return stored(tmp_path_factory.mktemp("x") / "t1.nii", head((70, 61, 50)))


def plan_of(run, source, limits=None, **options):
    with prepare(source, None, run.config.preparation, **demands(Generation.of(run))) as subject:
        return planned(Generation.of(run), subject, CPU, limits or Limits(), **options)


def test_a_plan_keeps_to_the_memory(run, source, monkeypatch):
    monkeypatch.setattr(sys.modules[check.__module__], "resident", lambda: 400 << 20)
    roomy = plan_of(run, source)
    assert roomy.host_bytes <= MEMORY["cpu"]
    assert [s.name for s in roomy.scales] == ["s0", "s1", "s2"]
    assert all(s.tiles == 1 for s in roomy.scales)
    assert roomy.device_bytes == 0
    assert roomy.host_bytes * RESERVE <= MEMORY["cpu"]
    limit = int((roomy.host_bytes - (6 << 20)) * RESERVE)
    tight = plan_of(run, source, Limits(limit))
    assert tight.host_bytes * RESERVE <= limit
    assert tight.scales[2].tiles > 1
    assert max(tight.tiles[1]) < max(roomy.tiles[1])


def test_networks_of_equal_configurations_are_counted_as_one(run, tmp_path):
    other = run_of(tmp_path / "r", config_of(3, labels=(1,)))
    runs = (run, Run.open(run.folder), other)
    one, same, labelled = ([s.shadow() for s in Generation.of(r).scales] for r in runs)
    assert list(map(id, one)) == list(map(id, same))
    assert len({*map(id, one), *map(id, labelled)}) == 6


def test_too_little_memory_names_what_is_needed(run, source):
    with pytest.raises(InputError) as error:
        plan_of(run, source, Limits(resident() + STREAM + (20 << 20)))
    text = str(error.value)
    assert "the smallest tile of s0" in text
    assert "of the program itself" in text
    assert "\n" not in text


def test_gpu_memory_bounds_the_tile_there(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 << 30, 16 << 30))
    cuda = torch.device("cuda")
    tiles = []
    for gpu in (None, 400 << 20):
        limits = Limits(gpu_memory=gpu)
        scale = scale_plan(Generation.of(run), 2, (1024,) * 3, limits, cuda)
        assert 0 < scale.device_bytes <= (gpu or 0.8 * (8 << 30))
        assert scale.host_bytes < scale.device_bytes
        tiles.append(scale.tile)
    assert tiles[0] > tiles[1]
    with pytest.raises(InputError, match=r"GPU memory 1\.0 MiB: the smallest tile of s0"):
        check(Generation.of(run), cuda, Limits(gpu_memory=1 << 20))


@pytest.mark.parametrize("tile", [None, 24])
def test_scratch_is_what_is_written(tmp_path, run, source, monkeypatch, tile):
    """Most bytes there ever are, watched at every piece that is written."""
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    most = []
    write = Store.write

    def watched(self, box, values):
        write(self, box, values)
        files = [p for p in scratch_root().rglob("*") if p.is_file() and "/c/" in str(p)]
        most.append(sum(p.stat().st_size for p in files))

    monkeypatch.setattr(Store, "write", watched)
    keep = tmp_path / "kept" if tile else None
    done = translate.translate(run, source, tmp_path / "o.nii", device="cpu", tile=tile, keep=keep)
    assert 0.9 * done.plan.scratch_bytes <= max(most) <= done.plan.scratch_bytes
    assert done.plan.output_bytes == np.prod((70, 61, 50)) * 4


def test_labels_take_a_quarter_of_what_the_image_takes(run, source):
    found = plan_of(run, source)
    generation, shapes = Generation.of(run), [scale.shape for scale in found.scales]
    scratch_of = sys.modules[check.__module__]._scratch
    plain, labelled = (
        scratch_of(generation, found.scales, shapes, False, labels, 0) for labels in (False, True)
    )
    assert plain < labelled <= 1.25 * plain


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_a_tile_takes_lies_where_it_is_computed(device):
    module = sys.modules[check.__module__]
    beside = 7 + module.DRAWING[device]
    host, gpu = module._Room(device, 1 << 30, 1 << 30).split(Need(5, 0.0, 7))
    assert (host, gpu) == ((5 + beside, 0) if device == "cpu" else (beside, 5 + beside))


def test_chunks_divide_tiles_of_any_side():
    for side in (2, 20, 48, 92, 96, 128, 134, 200, 384):
        (chunk, *_) = scratch.chunk((side,) * 3)
        assert side % chunk == 0
        assert chunk >= 16 or chunk == side


MEASURE = """
import json, sys
from msgan.memory.process import peak_resident_bytes
from msgan.runs.run import Run
from msgan.translate import translate
done = translate(Run.open(sys.argv[1]), sys.argv[2], sys.argv[3], device="cpu",
                 memory=int(sys.argv[4]))
print(json.dumps([done.plan.host_bytes, peak_resident_bytes(), done.plan.tiles[-1]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not process.STATUS.is_file(), reason="peaks of memory are read from /proc")
@pytest.mark.usefixtures("without_coverage")
def test_the_measured_peak_is_what_was_said(tmp_path):
    """In a process of its own, within a fifth, for a tile of the whole image and for small ones."""
    config = CascadeConfig(
        preparation=Preparation(scales=1),
        network=network_of(lr_width=8, lr_levels=2, hr_width=16, hr_blocks=2),
        training=TrainConfig(steps=1, lr_steps=1),
    )
    run = untrained_run(tmp_path / "run", config)
    source = write_ball(tmp_path / "ball.nii", 112)
    tiles = []
    for memory in (2 << 30, 600 << 20):
        out = tmp_path / "o.nii"
        words = [run.folder, source, out, memory]
        said, measured, tile = process.fresh(MEASURE, *map(str, words))
        assert said <= memory
        assert abs(measured / said - 1) < 0.2, f"said {said >> 20}, measured {measured >> 20} MiB"
        tiles.append(tile)
    assert tiles[0] != tiles[1]


def test_the_time_is_told_when_asked_for(run, source):
    assert plan_of(run, source).seconds is None
    seconds = plan_of(run, source, probe=True).seconds
    assert seconds is not None
    assert 0 < seconds < 60


def test_a_plan_writes_nothing(tmp_path, run, source, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    plan_of(run, source, probe=True)
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_other_axes_is_refused(tmp_path, run):
    flat = stored(tmp_path / "x.tif", head((40, 30)))
    with pytest.raises(InputError, match=r"x\.tif: image of 2 axes, the run was trained on 3"):
        plan_of(run, flat)
