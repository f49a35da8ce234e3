"""What a translation was made of is found beside it, and its tiles where they were cut."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import msgan
from msgan.config import CascadeConfig, Preparation, TrainConfig, network_of
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume, write_volume
from msgan.methods.baselines import baselines
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.paths import sha256
from msgan.report.catalog import catalog
from msgan.runs.run import Run
from msgan.studies.table import result_path, score_table
from msgan.translate import Generation, expected_id, translate
from msgan.translate.provenance import Provenance, beside, provenance, trace_of
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 24


def write(path: Path, values: np.ndarray) -> Path:
    grid = Grid.from_spacing(values.shape, (1.0,) * values.ndim)
    write_volume(path, grid, lambda box: values[box.slices])
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Run]:
    """Two people of 2D images and a cascade trained for two steps."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    people = []
    for k in range(2):
        images = {
            name: write(root / f"p{k}_{name}.nii", rng.uniform(50, 100, (SIDE, SIDE, 1))[..., 0])
            for name in ("t1", "t2")
        }
        people.append(Subject(f"p{k}", images, split=("train", "test")[k]))
    cohort = Cohort(tuple(people))
    config = CascadeConfig(
        dims=2,
        network=network_of(lr_width=4, hr_width=4, hr_blocks=1, lr_levels=2),
        preparation=Preparation(scales=1, margin=0),
        training=TrainConfig(steps=1, lr_steps=1, patch=8, batch=1, lr_batch=1),
    )
    return cohort, fit(cohort, "t2", config, root / "run", device="cpu")


def test_a_trace_is_read_as_it_was_written_and_moves_with_its_files(tmp_path: Path) -> None:
    images = {"t1": tmp_path / "data" / "a_t1.nii", "t2": tmp_path / "data" / "a_t2.nii"}
    person = Subject("a", images)
    grid = Grid.from_spacing((8, 6), (2.0, 1.0))
    kept = provenance(
        person,
        "t1",
        "t2",
        tmp_path / "out" / "a.nii.gz",
        IntensityMap(0, 9, "HU"),
        grid=grid,
        tiles=((4, 3),),
        regions=("body",),
    )
    path = beside(kept.result)
    assert path.name == "a.json"
    kept.save(path)
    assert Provenance.load(path) == kept
    assert str(tmp_path) not in path.read_text()
    shutil.move(path.parent, tmp_path / "deep" / "out")
    moved = Provenance.load(tmp_path / "deep" / "out" / "a.json")
    assert moved.image == tmp_path / "deep" / "data" / "a_t1.nii"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"subject": 1}'])
def test_what_is_no_trace_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json: not the sidecar"):
        Provenance.load(path)


def test_a_sidecar_says_what_was_made_of_what(tiny: tuple[Cohort, Run], tmp_path: Path) -> None:
    cohort, run = tiny
    done = translate(
        run,
        cohort["p1"],
        tmp_path / "y.nii",
        modality="t1",
        tile=8,
        keep=tmp_path / "kept",
        device="cpu",
    )
    found = Provenance.load(tmp_path / "y.json")
    assert (found.subject, found.source, found.target) == ("p1", "t1", "t2")
    assert found.real == cohort["p1"].images["t2"]
    assert found.run == run.folder
    assert found.tiles == done.tiles
    assert found.tiles[-1] == (8, 8)
    assert found.scales == tmp_path / "kept"
    with open_volume(tmp_path / "kept" / "y1.nii", check=False) as last:
        assert found.grid == last.grid == done.grid


def test_every_row_of_a_table_leaves_a_trace(tiny: tuple[Cohort, Run], tmp_path: Path) -> None:
    cohort, run = tiny
    preparation = run.config.preparation
    methods = {"cascade": Cascade(run, "cpu"), **baselines(cohort, "t2", preparation)}
    test = cohort.split("test")
    score_table(methods, test, "t1", "t2", run.intensity, preparation, tmp_path)
    for name in methods:
        result = result_path(tmp_path, name, "p1")
        found = Provenance.load(beside(result))
        assert found.method == name
        assert found.result == result
        assert found.image == cohort["p1"].images["t1"]
        assert (found.low, found.high) == (run.intensity.low, run.intensity.high)
        assert found.regions == ("foreground",)
        assert bool(found.tiles) == (name == "cascade")
    assert json.loads(beside(result).read_text())["grid"] is None


def test_a_file_and_its_sidecar_tell_of_each_other(
    tiny: tuple[Cohort, Run], tmp_path: Path
) -> None:
    cohort, run = tiny
    source, out = cohort["p1"].images["t1"], tmp_path / "out" / "p1.nii.gz"
    translate(run, source, out, device="cpu")
    content = json.loads((tmp_path / "out" / "p1.json").read_text())
    assert content["synthetic"] is True
    assert content["run_id"] == json.loads((run.folder / "run.json").read_text())["key"]
    assert content["hashes"] == {"image": sha256(source)}
    assert content["weights"] == {f"s{i}": sha256(run.weights(i)) for i in run.used}
    assert content["versions"]["msgan"] == msgan.__version__
    assert content["made"].endswith("+00:00")
    with open_volume(out, check=False) as image:
        mark = f"run {content['run_id']}, image {content['id']}"
        assert image.about == f"synthetic: msgan {msgan.__version__}, {mark}"
        assert len(image.about) <= 79
    assert trace_of(out) == Provenance.load(beside(out))
    (found,) = catalog(tmp_path).translated
    assert (found.provenance.result, found.provenance.image) == (out, source)
    assert content["id"] == expected_id(Generation.of(run), source)
    changed = write(tmp_path / "changed.nii", np.arange(SIDE**2.0).reshape(SIDE, SIDE))
    assert content["id"] != expected_id(Generation.of(run), changed)


def test_a_kill_leaves_no_image_without_its_sidecar(
    tiny: tuple[Cohort, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, run = tiny
    out, replace = tmp_path / "a.nii", os.replace

    def killed(source: Path, path: Path) -> None:
        if Path(path) == out:
            raise KeyboardInterrupt
        replace(source, path)

    def stop(person: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                translate(run, cohort[person].images["t1"], out, device="cpu")

    stop("p0")
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["a.json"]
    assert trace_of(out) is None
    assert catalog(tmp_path).translated == ()
    translate(run, cohort["p0"].images["t1"], out, device="cpu")  # nothing stands in its way
    assert trace_of(out) is not None
    stop("p1")  # the sidecar is the new one's, the image the old one
    assert trace_of(out) is None
    found = catalog(tmp_path)
    assert found.translated == ()
    assert "a.json: is of another translation than a.nii" in str(found.faults[0])


def test_what_is_no_sidecar_is_not_replaced(tiny: tuple[Cohort, Run], tmp_path: Path) -> None:
    cohort, run = tiny
    source = cohort["p1"].images["t1"]
    (tmp_path / "a.json").write_text('{"EchoTime": 0.003}')
    with pytest.raises(InputError, match=r"a\.json: is of something else"):
        translate(run, source, tmp_path / "a.nii", device="cpu")
    translate(run, source, tmp_path / "b.nii", device="cpu")
    with pytest.raises(InputError, match="differ only in their suffix"):
        translate(run, source, tmp_path / "b.mha", device="cpu")
    assert (tmp_path / "a.json").read_text() == '{"EchoTime": 0.003}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "b.nii"]


def test_the_same_subject_translated_twice_is_found_twice(
    tiny: tuple[Cohort, Run], tmp_path: Path
) -> None:
    cohort, run = tiny
    source = cohort["p1"].images["t1"]
    translate(run, source, tmp_path / "a.nii", device="cpu", keep=tmp_path / "kept")
    translate(run, source, tmp_path / "b.nii", device="cpu")
    found = catalog(tmp_path)
    assert [(t.name, len(t.scales)) for t in found.translated] == [
        ("p1_t1 (a.nii)", 2),
        ("p1_t1 (b.nii)", 0),
    ]
    assert (found.kept, found.images) == ((), ())
