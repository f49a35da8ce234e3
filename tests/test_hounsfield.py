"""Images given to a run of another unit are noticed by the air in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import config_of, head, run_of, stored
from program import msgan_cli

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.intensity import IntensityMap, darkest
from msgan.data.prepared import prepare
from msgan.methods.cascade import fit

WINDOW = {"intensity": "window", "low": -1024, "high": 1024, "foreground": -300}


def ct(dims: int) -> np.ndarray:
    """HU: air around soft tissue and bone."""
    body = head((20,) * dims, low=-100, high=900)
    return np.where(body == 0, -1000, body).astype(np.float32)


def notes(folder: Path, image: np.ndarray, unit: str = "a.u.", wanted: str = "", **prep) -> str:
    path = stored(folder / "a.nii", image, unit=unit)
    with prepare(path, None, Preparation(scales=1, **prep), wanted=wanted) as ready:
        return " ".join(ready.notes)


def test_what_fits_is_no_remark(dims, tmp_path) -> None:
    assert notes(tmp_path, ct(dims), **WINDOW) == ""
    assert notes(tmp_path, ct(dims), "HU", "HU", **WINDOW) == ""
    assert notes(tmp_path, head((20,) * dims)) == ""
    around = head((20,) * dims) - 3  # as interpolation leaves it
    assert notes(tmp_path, around) == ""
    own = {"foreground": -2000, "low": None}
    assert notes(tmp_path, ct(dims), "HU", **own) == ""


@pytest.mark.parametrize("kind", ["stored", "stored, padded", "mr", "normalised"])
def test_what_is_not_in_hu_is_told_where_hu_is_expected(kind, dims, tmp_path) -> None:
    image = {
        "stored": ct(dims) + 1024,
        "stored, padded": np.where(ct(dims) == -1000, -2000, ct(dims) + 1024),
        "mr": head((20,) * dims),
        "normalised": head((20,) * dims) / 100,
    }[kind].astype(np.float32)
    own = {**WINDOW, "foreground": -1000 if kind == "stored" else 0.001}
    assert "is it no CT?" in notes(tmp_path, image, **own)
    assert "said to be in HU" in notes(tmp_path, image, "HU", foreground=0)
    narrow = {"intensity": "window", "low": 0, "high": 80}
    assert "is it no CT?" in notes(tmp_path, image, wanted="HU", **narrow)
    assert notes(tmp_path, image, **narrow) == ""


@pytest.mark.parametrize("unit", ["HU", "a.u."])
def test_a_ct_in_hu_is_told_where_mr_is_expected(unit, dims, tmp_path) -> None:
    assert "as MR: what is at or below 0" in notes(tmp_path, ct(dims), unit)
    narrow = {"intensity": "window", "low": 10, "high": 80}
    assert "at or below 10" in notes(tmp_path, ct(dims), unit, **narrow)


def test_commands_tell_it(tmp_path, one_thread) -> None:
    path = stored(tmp_path / "a.nii", ct(3) + 1024)
    hu = run_of(
        tmp_path / "hu", config_of(3, scales=1, preparation=WINDOW), IntensityMap(-1024, 1024, "HU")
    )
    mr = run_of(tmp_path / "mr", config_of(3, scales=1))
    for words in (("plan", hu.folder, path), ("translate", hu.folder, path, tmp_path / "b.nii")):
        assert "is it no CT?" in msgan_cli(*words).stderr
    fit = stored(tmp_path / "c.nii", ct(3))
    assert "as MR" in msgan_cli("plan", mr.folder, fit).stderr
    assert "note" not in msgan_cli("plan", hu.folder, fit).stderr
    assert "one of them in HU" in msgan_cli("evaluate", path, fit).stderr
    assert msgan_cli("evaluate", fit, fit).stderr == ""
    manifest = tmp_path / "m.csv"
    head_line = "subject,role,modality,path,licence,citation,unit\n"
    manifest.write_text(f"{head_line}a,image,ct,a.nii,x,x,HU\nb,image,ct,c.nii,x,x,HU\n")
    lines = msgan_cli("data", "check", manifest).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("note: a: a.nii: it is said to be in HU")


def test_training_tells_it(tmp_path, one_thread) -> None:
    subjects = [
        Subject(name, {"ct": stored(tmp_path / f"{name}.nii", image)})
        for name, image in (("a", ct(3)), ("b", ct(3) + 1024))
    ]
    told: list[str] = []
    config = config_of(3, scales=1, preparation=WINDOW)
    options = {"scales": [], "device": "cpu", "remark": told.append}
    cohort = Cohort(tuple(replace(s, split="train") for s in subjects))
    fit(cohort, "ct", config, tmp_path / "run", **options)
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path / 'b.nii'}: it is prepared as a CT in HU")


@pytest.mark.parametrize("outlier", [-1e9, -1e12, -5e3])
def test_an_outlier_is_not_taken_for_black(outlier, dims) -> None:
    image = ct(dims)
    least = float(image.min())
    assert darkest(lambda box: image[box.slices], image.shape, least) == least
    image.flat[7] = outlier
    found = darkest(lambda box: image[box.slices], image.shape, outlier)
    assert found == pytest.approx(least, rel=1e-3)
