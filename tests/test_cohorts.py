"""Which cohort a notebook gets."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from msgan import presets
from msgan.data.cohort import prepare
from msgan.data.volume import open_volume
from msgan.phantoms import cohorts, xray
from msgan.phantoms.cohorts import brain_cohort, thorax_cohort, thorax_manifest, xray_cohort
from msgan.types import Box, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cohorts")


def resize(monkeypatch: pytest.MonkeyPatch, anatomy: str, **sizes: int) -> None:
    row = presets.TABLE["smoke", anatomy] | sizes
    monkeypatch.setitem(presets.TABLE, ("smoke", anatomy), row)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    resize(monkeypatch, "thorax", subjects=2, size=24)
    resize(monkeypatch, "brain", subjects=1, size=24)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_phantoms_are_written_once_and_found_again(folder: Path) -> None:
    first = thorax_manifest("smoke", folder, seed=3)
    when = first.stat().st_mtime_ns
    assert thorax_manifest("smoke", folder, seed=3) == first
    assert first.stat().st_mtime_ns == when
    assert "seed3" in first.parent.name
    cohort = thorax_cohort("smoke", folder, seed=3)
    assert sorted(s.fold for s in cohort) == [0, 1]
    assert {"b20f", "b50f", "b80f", "low"} == set(cohort.subjects[0].images)
    assert len(brain_cohort("smoke", folder)) == 1
    larger = thorax_cohort("smoke", folder, seed=3, size=32).subjects[0]
    for subject, size in ((cohort.subjects[0], 24), (larger, 32)):
        with open_volume(subject.images["b20f"]) as image:
            assert max(image.grid.shape) == size


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_other_code_draws_another_cohort(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cohorts.brain_manifest("smoke", folder, seed=3)
    (tmp_path / "brain.py").write_text("GREY = 1\n")
    monkeypatch.setattr(cohorts, "__file__", str(tmp_path / "cohorts.py"))
    second = cohorts.brain_manifest("smoke", folder, seed=3)
    (tmp_path / "brain.py").write_text("GREY = 2\n")
    third = cohorts.brain_manifest("smoke", folder, seed=3)
    assert len({first.parent, second.parent, third.parent}) == 3
    assert all(path.is_file() for path in (first, second, third))


def test_who_asks_meanwhile_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def write(out: Path, **_: object) -> Path:
        begun.append(out)
        time.sleep(0.1)
        out.mkdir()
        (out / "manifest.csv").touch()
        return out / "manifest.csv"

    monkeypatch.setattr(cohorts, "write_cohort", write)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(cohorts.brain_manifest, "smoke", tmp_path) for _ in range(3)]
    assert {future.result().parent for future in asked} == set(begun)
    assert len(begun) == 1
    assert list(tmp_path.iterdir()) == begun


@pytest.mark.usefixtures("tiny")
def test_the_whole_body_is_translated_in_hu(folder: Path) -> None:
    """A lung mask must not remove the body around the lungs."""
    subject = thorax_cohort("smoke", folder, seed=3).subjects[0]
    assert subject.mask is None
    assert subject.labels is None
    assert set(subject.regions) == {"lung", "emphysema"}
    preparation = presets.preset("smoke", "thorax").preparation
    with (
        open_volume(subject.images["b20f"]) as image,
        prepare(subject, "b20f", preparation) as ready,
    ):
        whole = Box.whole(image.grid.shape)
        kept = ready.to_source(ready.read)(whole)
        inside = image.read(whole).clip(preparation.low, preparation.high)
        shown = kept > preparation.low
        assert np.abs(kept - inside)[shown].max() < 0.1
        assert shown[tuple(n // 2 for n in whole.size)]
        assert (inside[~shown] < -900).all()


def test_the_readers_data_come_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.csv: no such file"):
        thorax_cohort("smoke", tmp_path, data_root=tmp_path)
    (tmp_path / "manifest.csv").write_text(
        "subject,role,modality,path,licence,citation,fold\n"
        + "".join(f"a,image,{k},a_{k}.nii,L,C,0\n" for k in ("b20f", "b50f", "b80f"))
    )
    (subject,) = thorax_cohort("small", tmp_path / "x", data_root=tmp_path)
    assert subject.images["b80f"] == tmp_path / "a_b80f.nii"
    assert subject.regions == {}


def test_xrays_have_enough_to_test_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {preset: presets.sizes(preset, "xray") for preset in presets.PRESETS}
    assert all(round(sizes.subjects * sizes.test_share) >= 4 for sizes in found.values())
    assert {k: sizes.size for k, sizes in found.items()} == {
        "smoke": 128,
        "small": 512,
        "published": 2048,
    }
    assert found["published"].test_share == 0.1  # 2019, section 3.2
    resize(monkeypatch, "xray", subjects=3, size=16)
    monkeypatch.setattr(xray, "FINEST", 16)
    cohort = xray_cohort("smoke", tmp_path)
    assert (len(cohort.split("train")), len(cohort.split("test"))) == (2, 1)


@pytest.mark.parametrize(("count", "tested"), [(2, 0), (3, 1), (14, 4), (50, 5)])
def test_a_tenth_of_public_xrays_is_held_out(tmp_path: Path, count: int, tested: int) -> None:
    """At least four, and at most a third; what a manifest says is kept."""
    header = "subject,role,modality,path,licence,citation,split\n"
    rows = [f"p{k},image,xray,{{subject}}.png,L,C,\n" for k in range(count)]
    (tmp_path / "manifest.csv").write_text(header + "".join(rows))
    cohort = xray_cohort("published", tmp_path / "x", data_root=tmp_path)
    assert len(cohort.split("test")) == tested
    assert len(cohort.split("train")) == count - tested
    (tmp_path / "manifest.csv").write_text(header + "".join(reversed(rows)))
    again = xray_cohort("published", tmp_path / "x", data_root=tmp_path)
    assert set(again.split("test").names) == set(cohort.split("test").names)
    (tmp_path / "manifest.csv").write_text(header + rows[0][:-1] + "test\n" + "".join(rows[1:]))
    stated = xray_cohort("published", tmp_path / "x", data_root=tmp_path)
    assert stated.split("test").names == ("p0",)


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^preset 'huge' is none of smoke, small, published$"):
        thorax_cohort("huge", tmp_path)
    with pytest.raises(InputError, match=r"^preset 'huge' is none of smoke, small, published$"):
        xray_cohort("huge", tmp_path)
