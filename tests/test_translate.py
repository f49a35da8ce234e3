import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers import config_of, head, networks, run_of, stored

from msgan import pyramid, sketch, translate
from msgan.data.cohort import Subject
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume
from msgan.networks import inference
from msgan.patches import crop_padded
from msgan.runs.run import Run
from msgan.sketch import DrawnSketch
from msgan.training import checkpoint
from msgan.training.loop import WEIGHTS
from msgan.training.step import build_generator
from msgan.translate import frame as translation
from msgan.translate import generation, pick_device
from msgan.translate.provenance import Provenance
from msgan.translate.scale import SNAP, ImageSource, TiledScale, make
from msgan.translate.scratch import Scratch, sweep
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


SHAPE = {2: (101, 77), 3: (35, 27, 41)}


def oblique() -> np.ndarray:
    """Anisotropic, rotated about two axes, one axis flipped, two exchanged."""
    a, b = np.deg2rad([12, -7])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([-0.7, 1.0, 2.2])[:, [1, 0, 2]]
    affine[:3, 3] = (11, -32, 70)
    return affine


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    return stored(folder / "t1.nii.gz", head(SHAPE[3]), oblique())


@pytest.fixture(scope="module")
def volume_run(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("run3") / "r", config_of(3))


@pytest.fixture(scope="module")
def picture_run(tmp_path_factory) -> Run:
    return run_of(
        tmp_path_factory.mktemp("run2") / "r", config_of(2), IntensityMap(0.0, 250.0, "a.u.")
    )


def test_the_result_lies_on_the_source(tmp_path, volume, volume_run):
    done = translate.translate(volume_run, volume, tmp_path / "new" / "t2.nii.gz", device="cpu")
    assert done.path == tmp_path / "new" / "t2.nii.gz"
    assert done.seconds > 0
    source, result = nib.load(volume), nib.load(done.path)
    assert result.shape == source.shape == SHAPE[3]
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-5)
    assert nib.aff2axcodes(result.affine) == nib.aff2axcodes(source.affine)
    assert result.get_data_dtype() == np.float32
    values = result.get_fdata()
    # The target's unit: [-1, 1] is 0 to 80 there, and something was made in between.
    assert values.min() >= 0
    assert values.max() <= 80
    assert values.std() > 5
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    sidecar = done.path.with_name(f"{done.path.name.partition('.')[0]}.json")
    assert sorted((tmp_path / "new").iterdir()) == [sidecar, done.path]


def test_the_result_does_not_depend_on_orientation_of_the_file(tmp_path, volume, volume_run):
    """The same head stored with its axes exchanged and turned gives the same head."""
    turned = tmp_path / "turned.nii"
    image = nib.load(volume)
    orientation = nib.orientations.axcodes2ornt("PSR")
    change = nib.orientations.ornt_transform(nib.io_orientation(image.affine), orientation)
    nib.save(image.as_reoriented(change), turned)
    assert nib.load(turned).shape != image.shape
    one = translate.translate(volume_run, volume, tmp_path / "1.nii", device="cpu", tile=16)
    two = translate.translate(volume_run, turned, tmp_path / "2.nii", device="cpu", tile=16)
    other = nib.load(two.path).as_reoriented(
        nib.orientations.ornt_transform(orientation, nib.io_orientation(image.affine))
    )
    np.testing.assert_allclose(other.affine, image.affine, atol=1e-4)
    values = [np.asarray(x.dataobj) for x in (nib.load(one.path), other)]
    np.testing.assert_allclose(values[0], values[1], atol=80 * 1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".tif"])
def test_any_tile_gives_the_same_result(tmp_path, volume, volume_run, picture_run, suffix):
    if suffix == ".nii":
        run, source = volume_run, volume
    else:
        run, source = picture_run, stored(tmp_path / "x.tif", head(SHAPE[2]))
    results = []
    for tile in (16, 24, 40, 128, None):
        out = tmp_path / f"{tile}{suffix}"
        done = translate.translate(run, source, out, device="cpu", tile=tile)
        sides = [max(tile) for tile in done.plan.tiles]
        assert tile is None or all(side <= tile for side in sides)
        with open_volume(out) as opened:
            results.append(opened.whole())
    span = run.intensity.high - run.intensity.low
    assert results[0].std() > 0.05 * span
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=1e-5 * span)


@pytest.mark.parametrize(("high", "dtype"), [(250.0, np.uint8), (4000.0, np.uint16)])
def test_pictures_in_and_out(tmp_path, high, dtype):
    run = run_of(tmp_path / "run", config_of(2), IntensityMap(0.0, high, "a.u."))
    source = stored(tmp_path / "x.png", head(SHAPE[2]), np.diag([0.2, 0.2, 1]), np.uint8)
    translate.translate(run, source, tmp_path / "y.png", device="cpu", tile=32)
    translate.translate(run, source, tmp_path / "z.tif", device="cpu", tile=16)
    with open_volume(tmp_path / "y.png") as png, open_volume(tmp_path / "z.tif") as tif:
        assert png.grid == tif.grid
        np.testing.assert_allclose(png.grid.affine, np.diag([0.2, 0.2, 1]))
        assert png.grid.shape == SHAPE[2]
        np.testing.assert_allclose(png.whole(), tif.whole(), atol=0.51)
        assert png.whole().max() > 0.3 * high
    from PIL import Image

    with Image.open(tmp_path / "y.png") as image:
        assert np.asarray(image).dtype == dtype


def test_hounsfield_units_in_and_out(tmp_path):
    prep = {"intensity": "window", "low": -1000.0, "high": 400.0, "foreground": -900.0}
    intensity = IntensityMap(-1000.0, 400.0, "HU")
    run = run_of(tmp_path / "run", config_of(3, preparation=prep), intensity)
    image = np.where(head(SHAPE[3]) > 0, head(SHAPE[3], low=-800, high=300), -1024)
    source = stored(tmp_path / "ct.nii", image.astype(np.int16), dtype=np.int16, unit="HU")
    translate.translate(run, source, tmp_path / "soft.nii", device="cpu", tile=16)
    with open_volume(tmp_path / "soft.nii") as opened:
        assert opened.unit == "HU"
        values = opened.whole()
    assert values.min() >= -1000
    assert values.max() <= 400
    assert values[0, 0, 0] == -1000  # outside the crop is the window's low end
    assert values.min() < -200
    assert np.ptp(values) > 400


def test_generators_that_interpolate_give_interpolation(tmp_path, volume):
    """With fresh HR generators the chain is y0, linearly enlarged: every step is in its place."""
    config = config_of(3, preparation={"margin": 40})
    run = run_of(tmp_path / "run", config, trained=1)
    for i in (1, 2):
        fresh = build_generator(config, i)
        checkpoint.save_weights(fresh, run.folder_of(i) / WEIGHTS, {"step": 1})
    keep = tmp_path / "keep"
    translate.translate(run, volume, tmp_path / "o.nii", device="cpu", tile=16, keep=keep)
    images = [nib.load(keep / f"y{i}.nii") for i in range(3)]
    values = [np.asarray(x.dataobj) / 40 - 1 for x in images]
    for i in (1, 2):
        coarse = values[i - 1].astype(np.float32)
        read = pyramid.enlarge(lambda box, c=coarse: c[box.slices], coarse.shape)
        whole = read(Box.whole(values[i].shape))
        whole = np.where(whole < -1 + SNAP, -1, whole)
        np.testing.assert_allclose(values[i], whole, atol=1e-5)
        # Their grids are halves of each other: the outer faces coincide.
        first = images[i].affine @ [-0.5, -0.5, -0.5, 1]
        np.testing.assert_allclose(images[i - 1].affine @ [-0.5, -0.5, -0.5, 1], first, atol=1e-4)
        np.testing.assert_allclose(
            images[i - 1].affine[:3, :3], 2 * images[i].affine[:3, :3], atol=1e-5
        )
    # What is saved is y_n where the source's voxels are.
    out = nib.load(tmp_path / "o.nii")
    index = np.argwhere(head(SHAPE[3]) > 0)[::97]
    world = nib.affines.apply_affine(out.affine, index)
    there = nib.affines.apply_affine(np.linalg.inv(images[2].affine), world)
    np.testing.assert_allclose(there, np.rint(there), atol=1e-3)
    place = tuple(np.rint(there).astype(int).T)
    np.testing.assert_allclose(
        np.asarray(out.dataobj)[tuple(index.T)], np.asarray(images[2].dataobj)[place], atol=1e-3
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_all_scales_are_kept_where_wanted(tmp_path, dims, picture_run, volume_run, volume):
    run = picture_run if dims == 2 else volume_run
    source = volume if dims == 3 else stored(tmp_path / "x.tif", head(SHAPE[2]))
    out = tmp_path / ("o.nii" if dims == 3 else "o.tif")
    seen = []
    translate.translate(
        run,
        source,
        out,
        device="cpu",
        tile=32,
        keep=tmp_path / "k",
        progress=lambda *x: seen.append(x),
    )
    names = ["y0.nii", "y1.nii", "y2.nii"]
    assert sorted(p.name for p in (tmp_path / "k").iterdir()) == names
    shapes = [nib.load(tmp_path / "k" / f"y{i}.nii").shape[:dims] for i in range(3)]
    assert shapes[2] == tuple(4 * n for n in shapes[0])
    assert shapes[1] == tuple(2 * n for n in shapes[0])
    for name in ("s1", "s2"):
        counts = [(k, n) for scale, k, n in seen if scale == name]
        assert counts == [(k, counts[-1][1]) for k in range(len(counts))]
        assert counts[-1][0] == counts[-1][1]


def test_the_published_family_translates_at_its_own_tile(tmp_path):
    run = run_of(tmp_path / "run", config_of(2, "megan"))
    source = stored(tmp_path / "x.tif", head((70, 51)))
    done = translate.translate(run, source, tmp_path / "z.tif", device="cpu", tile=40)
    assert done.plan.tiles == ((40, 40), (40, 40))
    with pytest.raises(InputError, match="tile 32: expected a multiple of the kept side 20"):
        translate.translate(run, source, tmp_path / "z.tif", device="cpu", tile=32)
    with open_volume(done.path) as opened:
        assert opened.grid.shape == (70, 51)
        assert opened.whole().std() > 1


def labels_for(folder: Path, value: int) -> Path:
    labels = np.zeros(SHAPE[3], np.uint8)
    labels[14:22, 10:16, 16:24] = value
    return stored(folder / f"labels{value}.nii", labels, oblique(), np.uint8)


def test_labels_change_the_result_where_they_are(tmp_path, volume):
    run = run_of(tmp_path / "run", config_of(3, labels=(1, 2)))

    def result(name, **options):
        out = tmp_path / f"{name}.nii"
        translate.translate(run, options.pop("source", volume), out, device="cpu", **options)
        return np.asarray(nib.load(out).dataobj)

    plain = result("plain")
    one = result("one", labels=labels_for(tmp_path, 1))
    two = result("two", labels=labels_for(tmp_path, 2))
    centre = (slice(14, 22), slice(10, 16), slice(16, 24))
    assert np.abs(one - plain)[centre].max() > 1
    assert np.abs(two - one)[centre].max() > 1
    # A subject of a cohort brings its own.
    subject = Subject("a", {"t1": volume, "flair": volume}, labels=labels_for(tmp_path, 1))
    np.testing.assert_array_equal(result("own", source=subject, modality="t1"), one)
    with pytest.raises(InputError, match="which of the images t1, flair is wanted"):
        result("open", source=subject)
    with pytest.raises(InputError, match=r"labels3\.nii: holds labels 0, 3: expected 0, 1, 2"):
        result("three", labels=labels_for(tmp_path, 3))
    assert not (tmp_path / "three.nii").exists()


def test_labels_are_refused_by_a_run_without(tmp_path, volume, volume_run):
    with pytest.raises(InputError, match=r"labels1\.nii: this run was trained without labels"):
        translate.translate(
            volume_run, volume, tmp_path / "o.nii", labels=labels_for(tmp_path, 1), device="cpu"
        )


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("o.jpg", {}, r"o\.jpg: unknown suffix"),
        ("o.png", {}, r"o\.png: a picture has 2 axes"),
        ("o.nii", {"tile": 15}, "tile 15: expected an even number"),
        ("o.nii", {"tile": 0}, "tile 0: expected an even number"),
        ("o.nii", {"tile": -8}, "tile -8: expected an even number"),
        ("o.nii", {"memory": 1000}, r"memory 1\.0 KiB: the smallest tile of s0"),
        ("o.nii", {"device": "abacus"}, "device 'abacus' is none of auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    tmp_path, volume, volume_run, monkeypatch, out, options, message
):
    monkeypatch.setattr(translation, "prepare", None)  # no image is opened
    with pytest.raises(InputError, match=message):
        translate.translate(volume_run, volume, tmp_path / out, **{"device": "cpu"} | options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".dcm", ".mha"])
def test_a_series_has_the_name_of_a_folder(tmp_path, volume, volume_run, suffix):
    out = tmp_path / f"o{suffix}"
    with pytest.raises(InputError) as error:
        translate.translate(volume_run, volume, out, device="cpu", dicom=True)
    assert str(error.value) == f"{out}: a DICOM series is a folder: leave out {suffix}"
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_no_series(tmp_path, picture_run):
    source = stored(tmp_path / "x.tif", head((20, 16)))
    with pytest.raises(InputError, match="o: a DICOM series is of 3 axes, the run was trained on"):
        translate.translate(picture_run, source, tmp_path / "o", device="cpu", dicom=True)
    with pytest.raises(InputError, match="an identity can be kept in a DICOM series only"):
        translate.translate(picture_run, source, tmp_path / "o.tif", keep_identity=True)


def test_scales_are_kept_in_a_folder(tmp_path, volume, volume_run):
    (tmp_path / "k").write_text("mine")
    with pytest.raises(InputError, match="k: is a file, expected a folder"):
        translate.translate(
            volume_run, volume, tmp_path / "o.nii", device="cpu", keep=tmp_path / "k"
        )
    assert (tmp_path / "k").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_result_that_could_not_be_replaced_keeps_its_sidecar(tmp_path, picture_run, monkeypatch):
    """The disk fails when the new sidecar is there and the new image is not yet."""
    source, out = stored(tmp_path / "x.tif", head((20, 16))), tmp_path / "o.tif"
    translate.translate(picture_run, source, out, device="cpu")
    stored(source, head((20, 16), 1))
    before = [path.read_bytes() for path in (out, tmp_path / "o.json")]

    def failing(path, grid, read, *, ready, **options):
        ready()
        assert Provenance.load(tmp_path / "o.json").id not in before[1].decode()
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(translation, "write_volume", failing)
    with pytest.raises(OSError, match="Input/output error"):
        translate.translate(picture_run, source, out, device="cpu")
    assert [path.read_bytes() for path in (out, tmp_path / "o.json")] == before
    out.unlink()
    (tmp_path / "o.json").unlink()
    with pytest.raises(OSError, match="Input/output error"):
        translate.translate(picture_run, source, out, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tif"]


def test_png_holds_no_negative_values(tmp_path):
    run = run_of(tmp_path / "run", config_of(2), IntensityMap(-1000.0, 400.0, "HU"))
    with pytest.raises(InputError, match=r"y\.png: PNG cannot hold values from -1000 to 400"):
        translate.translate(run, tmp_path / "x.png", tmp_path / "y.png", device="cpu")


def test_images_of_other_dimensions_are_refused(tmp_path, volume, picture_run):
    with pytest.raises(InputError, match=r"t1\.nii\.gz: image of 3 axes, the run was trained on 2"):
        translate.translate(picture_run, volume, tmp_path / "o.nii", device="cpu")


def test_untrained_scales_are_named(tmp_path, volume):
    run = run_of(tmp_path / "run", config_of(3), trained=2)
    with pytest.raises(InputError, match="scale 2 of 2 is not trained yet"):
        translate.translate(run, volume, tmp_path / "o.nii", device="cpu")
    assert not (tmp_path / "o.nii").exists()


def test_only_weights_are_needed(tmp_path, volume, volume_run):
    """No training data, checkpoint or log: a run folder copied elsewhere translates."""
    copy = tmp_path / "copy"
    for name in ("run.json", "config.yaml", *(f"s{i}/{WEIGHTS}" for i in range(3))):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((volume_run.folder / name).read_bytes())
    translate.translate(Run.open(copy), volume, tmp_path / "o.nii", device="cpu", tile=40)
    assert (tmp_path / "o.nii").exists()


class Stop(Exception):
    """Stands for a kill: nothing may be done on the way out but what is on disk already."""


def stopping_at(stage, number):
    """A progress that stops there, and the stages seen."""
    seen = []

    def progress(name, done, count):
        seen.append((name, done))
        if name == stage and done == (number or count):
            raise Stop

    return progress, seen


@pytest.mark.parametrize(
    "when", [("reading", 1), ("s0", 1), ("s1", 3), ("s2", 5), ("s2", None), ("writing", 0)]
)
def test_stopped_in_the_middle_it_goes_on(tmp_path, volume, volume_run, monkeypatch, scratch, when):
    """The output is untouched, and the same call again computes only what is missing."""
    whole = tmp_path / "whole.nii"
    translate.translate(volume_run, volume, whole, device="cpu", tile=16)
    out = stored(tmp_path / "o.nii", np.arange(27, dtype=np.float32).reshape(3, 3, 3))
    before = out.read_bytes()
    stage, number = when
    progress, seen = stopping_at(stage, number)
    with monkeypatch.context() as patch:
        if stage == "writing":
            patch.setattr(IntensityMap, "from_unit", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            translate.translate(volume_run, volume, out, device="cpu", tile=16, progress=progress)
    assert out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("o.nii", "scratch", "whole.json", "whole.nii")
    ]
    assert [p.name[:11] for p in scratch.iterdir()] == ["msgan-work-"]
    _, again = stopping_at(None, 0)
    translate.translate(
        volume_run, volume, out, device="cpu", tile=16, progress=lambda *x: again.append(x[:2])
    )
    # A stage first tells how much of it is there: just what was done, and no stage is repeated.
    began, stopped = dict(reversed(again)), dict(seen)
    assert all(began[name] == stopped[name] for name in {*began} & {*stopped} - {"reading"})
    assert not {x for x in again if x[0] == "reading"} & set(seen)
    assert out.read_bytes() == whole.read_bytes()
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_killed_program_goes_on(tmp_path, scratch, volume_run):
    """SIGKILL between two tiles of s2; the same command then finishes with the same bytes."""
    source = stored(tmp_path / "t1.nii", head((64, 56, 48)))
    words = ["translate", volume_run.folder, source, tmp_path / "o.nii"]
    words = list(map(str, [sys.executable, "-m", "msgan.cli", *words, "--tile", 4]))
    words += ["--device", "cpu"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        done = []
        while len(done) < 30 and time.monotonic() < deadline and process.poll() is None:
            ledgers = list(scratch.glob("msgan-work-*/y2-*.done"))
            done = ledgers[0].read_text().splitlines() if ledgers else []
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 30 <= len(done) < 16 * 14 * 12
    assert not (tmp_path / "o.nii").exists()
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert [line[:2] for line in again.stderr.splitlines() if "note" not in line] == ["s2"]
    whole = tmp_path / "whole.nii"
    translate.translate(volume_run, source, whole, device="cpu", tile=4)
    assert (tmp_path / "o.nii").read_bytes() == whole.read_bytes()
    assert list(scratch.iterdir()) == []


def test_a_ledger_cut_short_counts_whole_lines(tmp_path, scratch):
    with Scratch.open(scratch, "a") as work:
        stage = work.stage("y1", (8, 8), (4, 4))
        for k in (0, 3, 12):
            stage.note(k)
        file = next(work.folder.glob("*.done"))
        whole = file.read_bytes()
        for torn in (b"1", b"1\xff", bytes(300), b"1" + bytes(30)):  # of 12, or of 1: nobody knows
            file.write_bytes(whole + torn)
            again = work.stage("y1", (8, 8), (4, 4))
            assert again.done == {0, 3, 12}
            again.note(5)  # not 15
            assert work.stage("y1", (8, 8), (4, 4)).done == {0, 3, 5, 12}
        # With other tiles the pieces mean something else.
        assert work.stage("y1", (8, 8), (8, 8)).done == set()


def test_bad_input_leaves_no_scratch(tmp_path, volume, volume_run, scratch, monkeypatch):
    def damaged(*args):
        assert list(scratch.glob("msgan-work-*"))
        raise InputError("a chunk is damaged")

    monkeypatch.setattr(generation, "_sources", damaged)
    with pytest.raises(InputError, match="a chunk is damaged"):
        translate.translate(volume_run, volume, tmp_path / "o.nii", device="cpu")
    assert list(scratch.iterdir()) == []


def test_two_processes_do_not_share_scratch(scratch):
    with (
        Scratch.open(scratch, "a"),
        pytest.raises(InputError, match="another process is making the same translation"),
        Scratch.open(scratch, "a"),
    ):
        pass
    with Scratch.open(scratch, "a"), Scratch.open(scratch, "b"):
        assert len([p for p in scratch.iterdir() if p.is_dir()]) == 2
    assert list(scratch.iterdir()) == []


def test_a_disk_too_small_to_go_on_loses_nothing(
    tmp_path, volume, volume_run, monkeypatch, scratch
):
    progress, _ = stopping_at("s2", 5)
    with pytest.raises(Stop):
        translate.translate(
            volume_run, volume, tmp_path / "o.nii", device="cpu", tile=16, progress=progress
        )
    kept = sorted(scratch.rglob("*"))
    with monkeypatch.context() as patch:
        # Enough to unpack the image, not for the rest.
        patch.setattr(translation.Scratch, "bytes", property(lambda self: -(1 << 60)))
        with pytest.raises(InputError, match=r"scratch of this translation .* needs 1073741824"):
            translate.translate(volume_run, volume, tmp_path / "o.nii", device="cpu", tile=16)
    assert sorted(scratch.rglob("*")) == kept


def test_old_scratch_is_swept(scratch):
    week = 8 * 24 * 3600
    for name, age in (("old", week), ("new", 3600), ("busy", week), ("alone", week)):
        folder = scratch / f"msgan-work-{name}"
        folder.mkdir(parents=True)
        lock = scratch / f".{folder.name}.lock"  # what a killed process leaves
        lock.touch()
        for path in (folder, lock):
            os.utime(path, (time.time() - age,) * 2)
    folder.rmdir()
    with FileLock(scratch / ".msgan-work-busy.lock"), Scratch.open(scratch, "a"):
        pass
    left = {p.name for p in scratch.iterdir()} - {".msgan-work-busy.lock"}  # of newer versions
    assert left == {".msgan-work-new.lock", "msgan-work-new", "msgan-work-busy"}


def test_scratch_goes_as_soon_as_its_result_is_there(
    tmp_path, volume, volume_run, monkeypatch, scratch
):
    promise = Scratch.promise

    def copied(self, result, number):
        promise(self, result, number)
        shutil.copytree(self.folder, tmp_path / self.folder.name)

    monkeypatch.setattr(Scratch, "promise", copied)
    out, away = tmp_path / "o.nii", tmp_path / "away.nii"
    translate.translate(volume_run, volume, out, device="cpu", tile=16)
    (copy,) = tmp_path.glob("msgan-work-*")
    left = Path(shutil.move(copy, scratch))  # as if killed just before it was removed
    out.rename(away)
    sweep(scratch)
    assert left.is_dir()  # without its result it is still of use
    away.rename(out)
    sweep(scratch)
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_named_and_nothing_is_lost(
    tmp_path, volume, volume_run, monkeypatch, scratch
):
    written = []
    store = pyramid.Store.write

    def write(self, box, values):
        if written.count(self.path.name) == 3 and self.path.name.startswith("y2"):
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(self.path.name)
        store(self, box, values)

    with monkeypatch.context() as patch:
        patch.setattr(pyramid.Store, "write", write)
        with pytest.raises(
            InputError, match=r"scratch: no space left on this disk: the scratch of this"
        ):
            translate.translate(volume_run, volume, tmp_path / "o.nii", device="cpu", tile=16)
    assert written[-1].startswith("y2")
    assert not (tmp_path / "o.nii").exists()
    _, again = stopping_at(None, 0)
    translate.translate(
        volume_run,
        volume,
        tmp_path / "o.nii",
        device="cpu",
        tile=16,
        progress=lambda *x: again.append(x[0]),
    )
    assert set(again) == {"s2"}
    assert (tmp_path / "o.nii").exists()


def test_a_disk_that_is_too_small_is_found_before_the_work(
    tmp_path, volume_run, monkeypatch, scratch
):
    source = stored(tmp_path / "t1.nii", head(SHAPE[3]))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    seen = []
    with pytest.raises(InputError, match=r"scratch of this translation .* needs"):
        translate.translate(
            volume_run, source, tmp_path / "o.nii", device="cpu", progress=lambda *x: seen.append(x)
        )
    assert seen == []
    assert list(scratch.iterdir()) == []


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="finds no CUDA device"):
            pick_device("cuda")


BASE = {2: (8, 3), 3: (8, 4, 4)}
CPU = torch.device("cpu")


def cascade(config, made, sketches, shapes, folder, tile):
    """Stores of y0..yn from readers of the sketches of s1..sn."""
    stores = []
    for i, shape in enumerate(shapes):
        ready = inference.optimised(made[i], CPU)
        drawn = DrawnSketch(sketches[max(i, 1) - 1], shapes[max(i, 1)])
        sides = (tile,) * config.dims
        reads = (drawn, *(ImageSource(below.read, below.shape, CPU) for below in stores[-1:]))
        scale = TiledScale(ready, reads, shape, sides, CPU)
        stores.append(pyramid.Store.create(folder / f"y{i}.zarr", shape))
        for _, box, values in make(scale, range(len(scale))):
            stores[-1].write(box, values)
    return stores


def recorded(dims: int, scales: int, folder: Path, tile: int) -> tuple[list[Box], int]:
    """Boxes of sketch asked for at s2 and above, and Python's peak bytes, for one cascade."""
    config = config_of(dims, scales=scales)
    shapes = pyramid.shapes([n << scales for n in BASE[dims]], scales)
    asked: list[Box] = []

    def reader(i):
        def read(box):
            if i > 1:
                asked.append(box)
            return np.ones((1, *box.size), np.float32)

        return read

    assert sketch.channels(config.sketch, dims) == 1
    made = networks(config)
    tracemalloc.start()
    try:
        cascade(config, made, [reader(i) for i in range(1, scales + 1)], shapes, folder, tile)
        return asked, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(tmp_path, dims, monkeypatch):
    """Twice the side at the same s0: only more tiles of the same size."""
    monkeypatch.setitem(pyramid.CHUNK, dims, 16)
    tile, most = (32, 6) if dims == 2 else (16, 4)
    recorded(dims, 2, tmp_path / "warm", tile)
    small, before = recorded(dims, most - 1, tmp_path / "small", tile)
    large, after = recorded(dims, most, tmp_path / "large", tile)
    # What the store's threads have not yet freed comes and goes; memory that grows stays.
    for k in range(4):
        after = min(after, recorded(dims, most, tmp_path / f"large{k}", tile)[1])
    halo = networks(config_of(dims))[1].geometry.reads[0].halo
    for asked in (small, large):
        assert max(n for box in asked for n in box.size) == tile + 2 * halo
    assert len(large) > 3 * len(small)
    image = 4 * np.prod([n << most for n in BASE[dims]])
    assert after < before + image / 4


@pytest.mark.parametrize("border", [0, 4])
def test_cascade_tiles_of_any_size_agree(tmp_path, dims, border):
    """The same at the level of readers, on shapes that no tile divides."""
    config = config_of(dims)
    network = config.network.model_copy(update={"lr_border": border})
    made = networks(config.model_copy(update={"network": network}))
    shapes = pyramid.shapes((68, 44, 20)[:dims], 2)
    drawn = [
        np.random.default_rng(i).uniform(size=(1, *s)).astype(np.float32)
        for i, s in enumerate(shapes[1:])
    ]
    sketches = [lambda box, d=d: d[(slice(None), *box.slices)] for d in drawn]
    results = []
    for tile in (16, 24, 40, 128):
        stores = cascade(config, made, sketches, shapes, tmp_path / str(tile), tile)
        results.append([s.read(Box.whole(s.shape)) for s in stores])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert other.std() > 0.05
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    # Each scale is what its generator, as it is trained, makes of the whole scale below and the
    # whole sketch: within the 1e-4 that `inference.optimised` states, for it sums in another order.
    sketched = [torch.from_numpy(d)[None] for d in drawn]
    for i, shape in enumerate(shapes):
        if i == 0:
            grown = Box.whole(shape).grown(border)
            (y,) = made[0](crop_padded(sketched[0], grown.scaled(2), 0.0))
            y = crop_padded(y, Box.whole(shape).inside(grown), 0.0)
        else:
            box, around = made[i].geometry.cut(Box.whole(shape), shape).reads
            seen = crop_padded(sketched[i - 1], box, 0.0)
            below = torch.from_numpy(results[0][i - 1])[None, None]
            (y,) = made[i](seen, crop_padded(below, around, -1.0))
        y = y[0, 0].clamp(-1, 1)
        expected = torch.where(y < -1 + SNAP, -1.0, y).numpy()
        certain = (y + 1 - SNAP).abs().numpy() > 1e-4  # elsewhere rounding decides what snaps
        assert certain.mean() > 0.99
        np.testing.assert_allclose(results[0][i][certain], expected[certain], rtol=0, atol=1e-4)
    assert any((np.abs(r) == 1).any() for r in results[0])


@pytest.mark.parametrize("family", ["seamless", "megan"])
def test_background_is_not_computed_again_and_again(tmp_path, dims, family):
    """A scene in a corner of an empty image: fewer voxels computed, the same result."""
    config = config_of(dims, family)
    generator = networks(config)[1]
    shape = (100, 80, 60)[:dims]
    sketched = np.zeros((1, *shape), np.float32)
    context = np.full([n // 2 for n in shape], -1, np.float32)
    rng = np.random.default_rng(0)
    inside = (slice(8, 20),) * dims
    sketched[0][inside] = rng.random((12,) * dims)
    context[(slice(5, 11),) * dims] = rng.uniform(-1, 1, (6,) * dims)
    ready = inference.optimised(generator, CPU)
    computed = []
    core = ready.core
    ready.core = lambda s, c: computed.append(c.shape[0] * c[0].numel()) or core(s, c)

    def result(tile, empty):
        # A context that is not quite background has to be computed everywhere.
        below = np.where(context == -1, np.float32(empty), context)
        drawn = DrawnSketch(lambda box: sketched[(slice(None), *box.slices)], shape)
        around = ImageSource(lambda box: below[box.slices], below.shape, CPU)
        scale = TiledScale(ready, (drawn, around), shape, (tile,) * dims, CPU)
        out = np.full(shape, np.nan, np.float32)
        computed.clear()
        for _, box, values in make(scale, range(len(scale))):
            out[box.slices] = values
        return out, sum(computed)

    whole, all_of_it = result(120, np.nextafter(np.float32(-1), np.float32(0)))
    assert np.isfinite(whole).all()
    for tile in (20, 40, 120):
        spared, some = result(tile, -1)
        # Instance normalisation of what is nearly constant enlarges rounding.
        atol = 1e-5 if family == "seamless" else 1e-4
        np.testing.assert_allclose(spared, whole, rtol=0, atol=atol)
        assert some < 0.6 * all_of_it


def test_run_cards_are_readable(volume_run):
    card = json.loads((volume_run.folder / "run.json").read_text())
    assert card["intensity"] == {"low": 0.0, "high": 80.0, "unit": "a.u."}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_close(dims, precision):
    """The form used on a GPU, under the same autocast on this CPU; the error is of half's size."""
    generator = networks(config_of(dims))[1]
    shape = (24, 20, 16)[:dims]
    rng = np.random.default_rng(0)
    drawn = rng.random((1, *shape), np.float32)
    context = rng.uniform(-1, 1, [n // 2 for n in shape]).astype(np.float32)

    def result(name):
        reads = (
            DrawnSketch(lambda box: drawn[(slice(None), *box.slices)], shape),
            ImageSource(lambda box: context[box.slices], context.shape, CPU),
        )
        ready = inference.PlainInference(generator)
        scale = TiledScale(ready, reads, shape, shape, CPU, name)
        ((_, _, values),) = make(scale, [0])
        assert values.dtype == np.float32
        return values

    error = np.abs(result(precision) - result("float32")).mean()
    assert 1e-6 < error < (0.02 if precision == "bfloat16" else 0.003)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_in_memory_that_does_not_grow(tmp_path):
    run = run_of(tmp_path / "run", config_of(3))
    peaks = []
    for n in (48, 96):
        source = stored(tmp_path / f"x{n}.nii", head((n, n, n)))
        torch.cuda.reset_peak_memory_stats()
        gpu = translate.translate(run, source, tmp_path / "g.nii", device="cuda", tile=24)
        peaks.append(torch.cuda.max_memory_allocated())
        assert peaks[-1] <= gpu.plan.device_bytes
        translate.translate(run, source, tmp_path / "c.nii", device="cpu", tile=24)
        results = [np.asarray(nib.load(tmp_path / f"{k}.nii").dataobj) for k in "gc"]
        # TF32 in convolutions, and edges that a last bit decides.
        assert np.abs(results[0] - results[1]).mean() < 80 * 1e-3
    assert abs(peaks[1] / peaks[0] - 1) < 0.02
