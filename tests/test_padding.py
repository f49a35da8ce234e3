"""Voxels that stand for nothing: NaN or a constant, and what of a run's hash they change."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from helpers import config_of, run_of, stored
from numpy.testing import assert_array_equal
from program import msgan_cli

from msgan import translate
from msgan.config import CascadeConfig, Preparation
from msgan.data.manifest import check_manifest
from msgan.data.padding import padding_of
from msgan.data.prepared import prepare
from msgan.data.volume import open_volume
from msgan.training import cache
from msgan.types import Box, InputError


def image(dims: int) -> np.ndarray:
    """Noise in a box, 0 around it, some of which will be padding."""
    full = np.zeros((21,) * dims, np.float32)
    inner = np.random.default_rng(0).uniform(5, 100, (13,) * dims)
    full[(slice(4, 17),) * dims] = inner
    return full


def padded(folder: Path, dims: int, value: float) -> Path:
    """The image with ``value`` for its rim and for one corner of the box."""
    full = image(dims)
    rim = np.ones(full.shape, bool)
    rim[(slice(3, 18),) * dims] = False
    full[rim] = value
    full[(slice(4, 6),) * dims] = value
    path = folder / f"{value:g}.nii"
    nib.save(nib.Nifti1Image(full, np.eye(4)), path)
    return path


def plain(folder: Path, dims: int) -> Path:
    """The same with background in place of padding."""
    full = image(dims)
    full[(slice(4, 6),) * dims] = 0
    nib.save(nib.Nifti1Image(full, np.eye(4)), folder / "plain.nii")
    return folder / "plain.nii"


KINDS = [(np.nan, "nan"), (-2000.0, -2000.0), (3071.0, 3071)]


@pytest.mark.parametrize(("value", "padding"), KINDS)
@pytest.mark.parametrize("spacing", [None, 1.7])
def test_padding_is_prepared_as_background(value, padding, spacing, dims, tmp_path) -> None:
    own = {"scales": 1, "spacing_mm": spacing and (spacing,) * dims}
    without, given = Preparation(**own), Preparation(**own, padding=padding)
    with (
        prepare(plain(tmp_path, dims), None, without) as wanted,
        prepare(padded(tmp_path, dims, value), None, given) as ready,
    ):
        assert ready.intensity == wanted.intensity
        assert ready.grid.box == wanted.grid.box
        box = Box.whole(wanted.grid.shape)
        assert_array_equal(ready.read(box), wanted.read(box))


def test_nan_is_refused_with_the_way_out(tmp_path) -> None:
    path = padded(tmp_path, 3, np.nan)
    with pytest.raises(InputError, match="voxels are NaN or infinite: --padding nan takes NaN"):
        open_volume(path)


def test_infinity_is_never_padding(tmp_path) -> None:
    full = image(3)
    full[0, 0, 0], full[1, 1, 1] = np.nan, np.inf
    nib.save(nib.Nifti1Image(full, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"1 of 9261 voxels are NaN or infinite$"):
        open_volume(tmp_path / "a.nii", padding="nan")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_padding_is_read_as_nan_and_is_no_extreme(suffix, tmp_path) -> None:
    full = image(3)
    full[full == 0] = -2000
    path = stored(tmp_path / f"a{suffix}", full)
    with open_volume(path, padding=-2000) as volume:
        assert volume.extremes == (full[full > 0].min(), full.max())
        assert_array_equal(volume.whole(), np.where(full == -2000, np.nan, full))


def test_an_image_of_padding_alone_is_refused(tmp_path) -> None:
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), np.nan), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="every voxel is padding"):
        open_volume(tmp_path / "a.nii", padding="nan")


@pytest.mark.parametrize("text", ["none", "", "inf", "1,5", "nan nan"])
def test_padding_is_nan_or_a_number(text) -> None:
    with pytest.raises(InputError, match="expected nan or a number"):
        padding_of(text)
    assert (padding_of("NaN"), padding_of("-2000")) == ("nan", -2000)


def test_a_configuration_without_padding_keeps_its_hash(tmp_path) -> None:
    config = config_of(3)
    assert "padding" not in config.model_dump(mode="json")["preparation"]
    given = config_of(3, preparation={"padding": "nan"})
    assert cache.key(given, "x") != cache.key(config, "x")
    for one in (config, given):
        one.save(tmp_path / "c.yaml")
        assert CascadeConfig.load(tmp_path / "c.yaml") == one
    written = yaml.safe_load((tmp_path / "c.yaml").read_text())
    written["preparation"]["padding"] = float("nan")  # YAML's .nan
    assert CascadeConfig.model_validate(written) == given
    for bad in ("none", True, float("inf"), [1]):
        written["preparation"]["padding"] = bad
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(written))
        with pytest.raises(InputError, match=r"expected (nan or a number|another value)"):
            CascadeConfig.load(tmp_path / "c.yaml")


@pytest.mark.parametrize("outlier", [1e9, -1e9, 1e12])
def test_an_outlier_changes_its_surroundings_only(outlier, dims, tmp_path) -> None:
    full = image(dims)
    full[(10,) * dims] = outlier
    nib.save(nib.Nifti1Image(full, np.eye(4)), tmp_path / "a.nii")
    full[(10,) * dims] = 50
    nib.save(nib.Nifti1Image(full, np.eye(4)), tmp_path / "b.nii")
    own = Preparation(scales=1, high=95)
    with (
        prepare(tmp_path / "a.nii", None, own) as ready,
        prepare(tmp_path / "b.nii", None, own) as wanted,
    ):
        assert ready.grid.box == wanted.grid.box
        box = Box.whole(wanted.grid.shape)
        difference = np.abs(ready.read(box) - wanted.read(box))
        assert np.count_nonzero(difference > 0.05) <= 1


def test_a_translation_takes_padding_for_background(tmp_path, one_thread) -> None:
    run = run_of(tmp_path / "run", config_of(3, scales=1))
    results = []
    for path, padding in ((plain(tmp_path, 3), None), (padded(tmp_path, 3, np.nan), "nan")):
        out = tmp_path / f"{path.stem}_out.nii"
        translate.translate(run, path, out, device="cpu", padding=padding)
        results.append(np.asarray(nib.load(out).dataobj))
    assert_array_equal(*results)
    with pytest.raises(InputError, match="--padding nan"):
        translate.translate(run, path, tmp_path / "b.nii", device="cpu")


def test_training_takes_padding(tmp_path, monkeypatch) -> None:
    padded(tmp_path, 3, np.nan)
    manifest = tmp_path / "m.csv"
    manifest.write_text("subject,role,modality,path,licence,citation\na,image,t1,nan.nii,x,x\n")
    given = []

    def fit(cohort, target, config, *_, **__):
        given.append(config.preparation.padding)
        raise InputError("seen enough")

    monkeypatch.setattr("msgan.methods.cascade.fit", fit)
    words = ("train", manifest, "--target", "t1", "--out", tmp_path / "run")
    msgan_cli(*words, status=2)
    msgan_cli(*words, "--padding", "nan", status=2)
    msgan_cli(*words, "--padding", "-2000", status=2)
    assert given == [None, "nan", -2000]


def test_commands_take_padding(tmp_path, one_thread) -> None:
    path, wanted = padded(tmp_path, 3, np.nan), plain(tmp_path, 3)
    for words in (("sketch", path, tmp_path / "a.nii"), ("evaluate", path, path)):
        assert "--padding nan" in msgan_cli(*words, status=2).output
    msgan_cli("sketch", path, tmp_path / "s.nii", "--padding", "nan")
    msgan_cli("sketch", wanted, tmp_path / "t.nii")
    sketches = [np.asarray(nib.load(tmp_path / f"{n}.nii").dataobj) for n in "st"]
    assert_array_equal(*sketches)
    scores = [
        msgan_cli("evaluate", wanted, real, *more).stdout
        for real, more in ((wanted, ()), (path, ("--padding", "nan")))
    ]
    assert scores[0] == scores[1]
    run = run_of(tmp_path / "run", config_of(3, scales=1))
    assert "--padding nan" in msgan_cli("plan", run.folder, path, status=2).output
    plans = [
        msgan_cli("plan", run.folder, *more).stdout.split("host memory")[0]
        for more in ((wanted,), (path, "--padding", "nan"))
    ]
    assert plans[0] == plans[1]
    words = ("translate", run.folder, path, tmp_path / "o.nii", "--padding", "nan")
    msgan_cli(*words)
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        f"subject,role,modality,path,licence,citation\na,image,t1,{path.name},x,x\n"
    )
    assert not check_manifest(manifest, tmp_path).ok
    assert "ok" in msgan_cli("data", "check", manifest, "--padding", "nan").stdout
