"""What a translation was made of is found beside it, and its tiles where they were cut."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from msgan.config import CascadeConfig, Preparation, TrainConfig, network_of
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import open_volume, write_volume
from msgan.methods.baselines import baselines
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.runs.run import Run
from msgan.studies.table import result_path, score_table
from msgan.translate import translate
from msgan.translate.provenance import PROVENANCE, Provenance, beside, provenance
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
    with pytest.raises(InputError, match=r"x\.json: not the trace"):
        Provenance.load(path)


def test_kept_scales_say_where_they_come_from(tiny: tuple[Cohort, Run], tmp_path: Path) -> None:
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
    found = Provenance.load(tmp_path / "kept" / PROVENANCE)
    assert (found.subject, found.source, found.target) == ("p1", "t1", "t2")
    assert found.real == cohort["p1"].images["t2"]
    assert found.run == run.folder
    assert found.tiles == done.tiles
    assert found.tiles[-1] == (8, 8)
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
