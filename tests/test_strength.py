"""How strong sketches are: of a training, of an image to translate, in a run and a model."""

import json

import numpy as np
import pytest
from helpers import changed, cohort_in, stored, tiny

from msgan.config import SketchConfig
from msgan.data.cohort import prepare
from msgan.methods.cascade import fit
from msgan.runs.model import export
from msgan.runs.run import Run
from msgan.sketch import strength
from msgan.sketch.strength import FILE, Strengths, strengths
from msgan.training.cache import cached
from msgan.translate import translate
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def reader(image):
    return lambda box: image[(..., *box.slices)]


def test_strengths_are_means_over_the_foreground(dims):
    rng, shape = np.random.default_rng(0), (40, 36, 20)[:dims]
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    image[:20] = -1
    config = SketchConfig(channels=("edges", "self_similarity"))
    drawn = rng.random((1 + 2 * dims, *shape)).astype(np.float32)
    found = strengths(reader(drawn), reader(image), shape, config)
    inside = image > -1
    assert found["edges"] == pytest.approx(drawn[0][inside].mean(), rel=1e-6)
    assert found["self_similarity"] == pytest.approx(drawn[1:, inside].mean(), rel=1e-6)


def test_only_some_boxes_of_a_large_image_are_looked_at(dims, monkeypatch):
    monkeypatch.setitem(strength.SIDE, dims, 2)
    shape, seen = (64, 20, 10)[:dims], []

    def drawn(box):
        seen.append(box)
        return np.ones((1, *box.size), np.float32)

    image = np.zeros(shape, np.float32)
    assert strengths(drawn, reader(image), shape, SketchConfig()) == {"edges": 1}
    assert len(seen) == len(set(seen)) == strength.SAMPLES
    assert seen[0].start == (0,) * dims
    assert seen[-1].stop == shape


def test_an_empty_image_and_an_image_for_a_sketch_have_none():
    image = np.full((8, 8), -1, np.float32)
    drawn = reader(image[None])
    assert strengths(drawn, reader(image), image.shape, SketchConfig()) == {}
    itself = SketchConfig(channels=("image",))
    assert strengths(drawn, reader(image + 1), image.shape, itself) == {}


def test_what_lies_beyond_the_range_is_told():
    known = Strengths.of(1, [{"edges": 0.1, "ridges": 0.2}, {"edges": 0.2, "ridges": 0.2}, {}])
    assert known.ranges == {"edges": (0.1, 0.2), "ridges": (0.2, 0.2)}
    assert known.doubt({}) == known.doubt({"edges": 0.081, "ridges": 0.249}) == ""
    told = known.doubt({"edges": 0.3, "ridges": 0.2})
    assert "edges 0.300, in training 0.100 to 0.200" in told
    assert "ridges" not in told
    assert known.doubt({"edges": 0.07})


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"scale": 1}',
        '{"scale": "one", "ranges": {}}',
        '{"scale": 1, "ranges": {"edges": [2, 1]}}',
        '{"scale": 1, "ranges": {"edges": [0, 1e999]}}',
        '{"scale": 1, "ranges": {"edges": [0]}}',
        '{"scale": 1, "ranges": [1]}',
    ],
)
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=FILE):
        Strengths.load(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in two dimensions, and its cohort."""
    folder = tmp_path_factory.mktemp("trained")
    cohort = cohort_in(folder, 2)
    config = changed(tiny(), contrast={"share": 0.5, "variants": 2})
    return fit(cohort, "t2", config, folder / "run", device="cpu"), cohort


def test_a_training_notes_what_its_sketches_are_like(trained, tmp_path):
    run, cohort = trained
    known, each = Strengths.load(run.folder), []
    assert known.scale == 1
    learnt = [s for s in cohort if s.split != "test"]
    for subject in learnt:
        with prepare(subject, "t2", run.config.preparation) as image:
            ready = cached(image, run.config, "data", tmp_path)
        shape, rim = ready.shape(1), ready.rims[1] if ready.rims else 0
        where = tuple(slice(rim, rim + n) for n in shape)
        inside = ready.images[1][0].numpy() > -1
        around = (inside.shape[0] - shape[0]) // 2
        inside = inside[tuple(slice(around, around + n) for n in shape)]
        each += [float(v[0][where].float().numpy()[inside].mean()) for v in ready.sketches[1]]
    assert len(each) == 3 * len(learnt)
    assert known.ranges["edges"] == pytest.approx((min(each), max(each)), rel=1e-3)


def test_an_image_unlike_those_of_training_is_told(trained, tmp_path):
    run, cohort = trained
    path = cohort.subjects[0].images["t2"]
    told = translate(run, path, tmp_path / "same.nii", device="cpu").notes
    assert not [note for note in told if note.startswith("sketch:")]
    disc = np.hypot(*np.ogrid[-100:100, -90:90]) < 80
    source = stored(tmp_path / "flat.nii", np.where(disc, np.float32(50), np.float32(0)))
    told = []
    translate(run, source, tmp_path / "o.nii", device="cpu", remark=told.append)
    assert len([note for note in told if note.startswith("sketch: unlike")]) == 1


def test_an_older_run_says_nothing_of_it(trained, tmp_path, monkeypatch):
    run, cohort = trained
    monkeypatch.setattr(Strengths, "load", lambda folder: None)
    done = translate(run, cohort.subjects[0].images["t2"], tmp_path / "o.nii", device="cpu")
    assert not [note for note in done.notes if note.startswith("sketch:")]


def test_a_model_carries_it_and_it_is_checked(trained, tmp_path):
    run, _ = trained
    model = export(run, tmp_path / "model")
    assert Strengths.load(Run.open(model).folder) == Strengths.load(run.folder)
    content = json.loads((model / FILE).read_text())
    (model / FILE).write_text(json.dumps(content | {"scale": 2}))
    with pytest.raises(InputError, match=FILE):
        Run.open(model)
