"""Guided runs end to end: what a match changes, labels, interruptions, files, the command line."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import changed, cohort_in, config_of, head, run_of, stored, tiny, whole
from program import fails, msgan_cli
from scipy.ndimage import gaussian_filter, maximum_filter

from msgan import pyramid, sketch
from msgan.appearance.appearance import Appearance
from msgan.data.cohort import Cohort, Subject, prepare
from msgan.match import fusion, slope
from msgan.match.profile import FILE, TargetProfile
from msgan.match.student import Student
from msgan.methods import cascade
from msgan.methods.cascade import fit
from msgan.methods.med_synth import MedSynth
from msgan.methods.paired import PairedRegression
from msgan.methods.patch_gan import PatchGan
from msgan.runs.model import export
from msgan.runs.run import Run
from msgan.training.cache import cached
from msgan.translate import contexts, generation, translate
from msgan.translate.image import kept_files
from msgan.translate.provenance import Provenance, beside
from msgan.translate.scratch import Scratch
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPES = {2: (72, 60), 3: (28, 24, 20)}
WINDOW = {"intensity": "window", "low": 0.0, "high": 100.0, "foreground": 1.0, "margin": 0}
GUIDANCE = {"match": "histogram", "student": True, "detail": True}


class Stop(Exception):
    """What ends a translation before its time."""


def guided(folder, dims, labels=(), preparation=None) -> Run:
    """A run with random weights, of which a head is the target."""
    config = config_of(
        dims, scales=1, preparation={"scales": 1} | (preparation or {}), labels=labels
    )
    config = changed(config, guidance=GUIDANCE)
    run = run_of(folder, config)
    path = stored(folder / "target.nii", head(SHAPES[dims], 7))
    with prepare(path, None, config.preparation) as image:
        TargetProfile.of(config.guidance.match, [image]).save(run.folder)
    path.unlink()
    for i in run.used:
        run.finish(i, {})
    return Run.open(folder)


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def ready(request, tmp_path_factory):
    """A guided run and an image."""
    folder = tmp_path_factory.mktemp("guided")
    run = guided(folder / "run", request.param)
    return run, stored(folder / "t1.nii", head(SHAPES[request.param], 1))


def unguided(run, folder) -> Run:
    """With the weights of its s0."""
    config = run.config.updated(guidance={"match": "none", "student": False, "detail": False})
    other = run_of(folder, config)
    shutil.copytree(run.folder_of(0), other.folder_of(0), dirs_exist_ok=True)
    return other


# --- what is made ------------------------------------------------------------------------------


def test_a_match_changes_the_result_and_is_told(ready, here):
    run, image = ready
    told = []
    translate(
        run,
        image,
        here / "a.nii",
        device="cpu",
        keep=here / "a",
        polarity="same",
        remark=told.append,
    )
    translate(unguided(run, here / "other"), image, here / "b.nii", device="cpu", keep=here / "b")
    one, other = (whole(here / name / "y0.nii") for name in "ab")
    assert np.abs(one - other).max() > 1
    (note,) = told
    assert note.startswith("match: histogram, polarity same (by user; agreement")
    assert Provenance.load(beside(here / "a.nii")).notes == (note,)
    assert Provenance.load(beside(here / "b.nii")).notes == ()
    kept = {path.name for path in (here / "a").iterdir()}
    assert kept == {"y0.nii", "y1.nii"}
    np.testing.assert_allclose(whole(here / "a" / "y1.nii").max(), whole(here / "a.nii").max())


def test_each_polarity_is_another_result_and_an_unclear_one_is_told(ready, here, monkeypatch):
    run, image = ready
    images, notes = {}, {}
    monkeypatch.setattr(fusion, "CONFIDENT", 3.0)  # nothing is clear
    monkeypatch.setattr(fusion, "AGREED", (-2.0, -1.0))  # what is clear has its weight
    for polarity in ("same", "inverted", "auto"):
        told = []
        done = translate(
            run, image, here / "o.nii", polarity=polarity, device="cpu", remark=told.append
        )
        images[polarity], notes[polarity] = whole(here / "o.nii"), told
        assert done.notes == tuple(told)
    assert np.abs(images["same"] - images["inverted"]).max() > 1
    assert np.abs(images["same"] - images["auto"]).max() > 0.1
    assert "not used" in notes["auto"][0]
    assert "polarity inverted (by user" in notes["inverted"][0]


def test_a_modality_that_is_known_decides(ready, here):
    """Also where a subject has one image and no modality is asked for."""
    run, image = ready
    told = []
    subject = Subject("a", {"t1": image})
    for modality in ("t1", None):
        translate(run, subject, here / "o.nii", modality=modality, device="cpu", remark=told.append)
    assert told[0] == told[1]
    assert "polarity inverted (by modalities" in told[0]
    translate(run, image, here / "f.nii", modality="t1", device="cpu")
    assert (here / "f.nii").read_bytes() == (here / "o.nii").read_bytes()
    flair = Subject("a", {"flair": image})
    translate(run, flair, here / "p.nii", device="cpu", remark=told.append)
    assert "by modalities" not in told[2]  # flair and t2 are no known pair


def test_baselines_of_a_guided_cascade_see_no_source():
    config = changed(tiny(), guidance=GUIDANCE)
    for method in (PatchGan, PairedRegression, MedSynth):
        assert not method.configured(config, "t1").guidance.on


# --- labels ------------------------------------------------------------------------------------


def labelled(folder, image, radius):
    """An image and a label of a radius in its middle."""
    labels = np.zeros(image.shape, np.uint8)
    labels[tuple(slice(n // 2 - radius, n // 2 + radius) for n in image.shape)] = 2
    return labels, stored(folder / "labels.nii", labels.astype(np.float32), dtype=np.uint8)


def grown(labels, margin):
    return maximum_filter(labels, 2 * margin + 1) > 0


def without_sources(plain):
    """Sketches of labels and nothing else."""

    def drawn(read, *rest):
        return plain(lambda box: np.where(read(box) > -1, np.float32(0), np.float32(-1)), *rest)

    return drawn


def disturbed(image, where, seed=3):
    """Other values of the foreground in some voxels."""
    other = np.random.default_rng(seed).uniform(5, 95, image.shape).astype(np.float32)
    return np.where(where, other, image)


def test_what_a_source_shows_in_a_label_is_nowhere_in_the_result(dims, here, monkeypatch):
    """Nor within the margin, apart from the sketch, which sees up to a label."""
    run = guided(here / "run", dims, (2,), WINDOW)
    shape = tuple(n + 20 for n in SHAPES[dims])
    image = head(shape, 1).clip(0, 95)
    labels, path = labelled(here, image, 4)
    monkeypatch.setattr(sketch, "sketch_reader", without_sources(sketch.sketch_reader))
    results = []
    for where in (labels > 9, grown(labels, slope.MARGIN), grown(labels, slope.MARGIN + 3)):
        source = stored(here / "source.nii", disturbed(image, where))
        translate(run, source, here / "o.nii", labels=path, device="cpu", polarity="same", tile=16)
        results.append(whole(here / "o.nii"))
    np.testing.assert_array_equal(results[1], results[0])
    assert np.abs(results[2] - results[0]).max() > 1


def test_a_sketch_hides_what_a_label_covers(here):
    """Deeper in a label than edges reach, nothing of the source is seen at all."""
    run = guided(here / "run", 2, (2,), WINDOW)
    image = head((200, 180), 1).clip(0, 95)
    _, path = labelled(here, image, 40)
    reach = 2 * (sketch.halo(run.config.sketch) + 2)
    deep = np.zeros(image.shape, bool)
    deep[tuple(slice(n // 2 - 40 + reach, n // 2 + 40 - reach) for n in image.shape)] = True
    assert deep.sum() > 100
    results = []
    for where in (deep & False, deep):
        source = stored(here / "source.nii", disturbed(image, where))
        translate(run, source, here / "o.nii", labels=path, device="cpu", polarity="same")
        results.append(whole(here / "o.nii"))
    np.testing.assert_array_equal(results[1], results[0])


def scan(seed, noise, shape=(64, 64, 24)):
    """A body in HU with the noise of a kernel."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    body = sum(a**2 for a in axes[:2]) < 0.8
    rng = np.random.default_rng(seed)
    grain = gaussian_filter(rng.normal(size=shape), (noise, noise, 0))
    image = 20 + 200 * gaussian_filter(rng.normal(size=shape), 3) + 60 * grain / grain.std()
    return np.where(body, image.clip(-900, 900), -1024).astype(np.float32)


HU = {"intensity": "window", "low": -1024.0, "high": 1024.0, "foreground": -900.0, "margin": 0}


def test_a_filter_carries_nothing_out_of_a_label(here, monkeypatch):
    config = changed(
        config_of(3, scales=1, preparation=HU | {"scales": 1}, labels=(2,)),
        guidance={"match": "spectrum", "detail": True},
    )
    run = run_of(here / "run", config)
    path = stored(here / "target.nii", scan(0, 1.5), unit="HU")
    with prepare(path, None, config.preparation) as target:
        TargetProfile.of("spectrum", [target]).save(run.folder)
    image = scan(1, 0.3)
    labels, marks = labelled(here, image, 5)
    with monkeypatch.context() as patch:
        patch.setattr(sketch, "sketch_reader", without_sources(sketch.sketch_reader))
        results = []
        for values in (image, np.where(labels > 0, 700, image).astype(np.float32)):
            source = stored(here / "source.nii", values, unit="HU")
            translate(run, source, here / "o.nii", labels=marks, device="cpu")
            results.append(whole(here / "o.nii"))
    np.testing.assert_array_equal(results[1], results[0])


# --- spectra -----------------------------------------------------------------------------------


def chests(folder, unit="HU", dims=3):
    subjects = []
    for k, split in enumerate(("train", "train", "val")):
        image = scan(k, 1.5, (40, 40, 16))
        image = image[..., 8] if dims == 2 else image
        path = stored(folder / f"{k}.nii", image, unit=unit)
        subjects.append(Subject(f"s{k}", {"soft": path}, split=split))
    return Cohort(tuple(subjects))


@pytest.mark.parametrize(
    ("dims", "unit", "kind"),
    [(3, "HU", "spectrum"), (3, "a.u.", "histogram"), (2, "a.u.", "histogram")],
)
def test_a_guided_training_decides_how_sources_are_matched(dims, unit, kind, here):
    config = changed(
        tiny(dims, preparation=HU | {"scales": 1}, steps=2, lr_steps=2),
        guidance={"match": "auto", "detail": True},
    )
    cohort = chests(here, unit, dims)
    run = fit(cohort, "soft", config, here / "run", device="cpu")
    assert run.config.guidance.match == kind
    assert run.profile.kind == kind
    assert len(run.profile.spectra) == (3 if kind == "spectrum" else 0)
    before = (run.folder / FILE).read_bytes()
    again = fit(cohort, "soft", config, here / "run", device="cpu")  # nothing is left to do
    assert again.config == run.config
    assert (run.folder / FILE).read_bytes() == before
    sharp = scan(9, 0.3, (40, 40, 16))
    image = stored(here / "sharp.nii", sharp if dims == 3 else sharp[..., 8], unit=unit)
    told = []
    translate(run, image, here / "o.nii", device="cpu", remark=told.append)
    result = whole(here / "o.nii")
    assert result.shape == whole(image).shape
    assert np.isfinite(result).all()
    assert result.std() > 1
    assert told[-1].startswith(f"match: {kind}")
    if kind == "spectrum":
        with pytest.raises(InputError, match="matches no histograms"):
            translate(run, image, here / "p.nii", device="cpu", polarity="same")
        with prepare(image, None, run.config.preparation) as opened:  # noise is gone
            everything = Box.whole(opened.grid.shape)
            smooth, plain = run.profile.filtered(opened)(everything), opened.read(everything)
        rough = [np.abs(np.diff(x, axis=0)).mean() for x in (smooth, plain)]
        assert rough[0] < 0.7 * rough[1]


def test_a_source_in_no_hu_is_matched_by_ranks_to_a_ct(here):
    config = changed(
        tiny(3, preparation=HU | {"scales": 1, "ranges": {"t1": {}}}, steps=2, lr_steps=2),
        guidance={"match": "auto", "student": True, "detail": True},
    )
    run = fit(chests(here, "HU", 3), "soft", config, here / "run", device="cpu")
    assert (run.config.guidance.match, run.profile.kind) == ("histogram", "histogram")
    assert run.config.guidance.student
    assert run.config.contrast == config.contrast  # sharper kernels stand for no MR


def trained_on_kernels(here, **options):
    """A run that matches spectra, and a sharp image."""
    config = changed(
        tiny(3, preparation=HU | {"scales": 1}, steps=2, lr_steps=2),
        guidance={"match": "auto", "detail": True},
        contrast={"share": 0.5, "variants": 1},
        conditioning={"generated_share": 1.0},
        **options,
    )
    run = fit(chests(here), "soft", config, here / "run", device="cpu")
    return run, stored(here / "sharp.nii", scan(9, 0.3, (40, 40, 16)), unit="HU")


def test_a_matched_spectrum_is_the_estimate_at_s0(here, monkeypatch):
    """No s0 is trained, and the HR generators learn from what a translation gives them."""
    made = []

    def spied(run, subjects, scale, device):
        found = generate(run, subjects, scale, device)
        made.extend((found[name].generated, subject) for name, subject in subjects.items())
        return found

    generate = cascade.generate_contexts
    monkeypatch.setattr(cascade, "generate_contexts", spied)
    run, image = trained_on_kernels(here)
    assert list(run.used) == [1]
    assert not run.folder_of(0).exists()
    for generated, subject in made:
        assert len(generated) == 2  # the image and a sharper kernel of it, both matched
        for context, source in zip(generated, subject.sources[-1], strict=True):
            shapes = [subject.shape(0), subject.shape(1)]
            below, above = (
                contexts.reader_of(part[0], shape)(Box.whole(shape))
                for part, shape in zip((context, source), shapes, strict=True)
            )
            np.testing.assert_array_equal(below, pyramid.halve(above, 3))
    done = translate(run, image, here / "o.nii", device="cpu", keep=here / "kept")
    assert done.notes[-1] == "match: spectrum"
    kept = sorted(path.name for path in (here / "kept").glob("*.nii"))
    assert kept == [path.name for path in kept_files(run, here / "kept")] == ["y0.nii", "y1.nii"]
    with prepare(image, None, run.config.preparation) as opened:
        smooth = run.profile.filtered(opened)(Box.whole(opened.grid.shape))
    result = whole(here / "kept" / "y1.nii")
    assert np.abs(result - 1024 * smooth)[smooth > -0.9].mean() < 40  # it learnt for two steps


def test_of_what_is_not_drawn_no_uncertainty_is_told(here):
    run, image = trained_on_kernels(here)
    with pytest.raises(InputError, match="draws nothing beside, so no uncertainty"):
        translate(run, image, here / "o.nii", device="cpu", uncertainty=here / "u.nii")
    with pytest.raises(InputError, match="scale 0 does not exist: there are 1 to 1"):
        fit(chests(here), "soft", run.config, here / "other", scales=[0], device="cpu")
    assert not (here / "o.nii").exists()
    assert not (here / "other").exists()


@pytest.mark.parametrize(
    ("labels", "match", "drawn"),
    [
        ((), "spectrum", False),
        ((2,), "spectrum", True),
        ((), "histogram", True),
        ((), "none", True),
    ],
)
def test_s0_draws_unless_a_spectrum_says_all(labels, match, drawn):
    config = config_of(3, labels=labels, guidance={"match": match})
    assert config.drawn == drawn


def test_single_slices_in_hu_are_not_matched(here):
    """A histogram would change HU, and a spectrum cannot be measured in every slice."""
    config = changed(
        tiny(2, preparation=HU | {"scales": 1}, steps=1, lr_steps=1),
        guidance={"match": "auto", "detail": True},
    )
    run = fit(chests(here, "HU", 2), "soft", config, here / "run", device="cpu")
    assert not run.config.guidance.on
    assert not (run.folder / FILE).exists()


def test_other_kernels_stand_for_sources_in_hu(here, monkeypatch):
    drawn, told = Appearance.draw, []
    monkeypatch.setattr(
        Appearance, "draw", lambda *words, cut: told.append(cut) or drawn(*words, cut=cut)
    )
    config = changed(
        tiny(3, preparation=HU | {"scales": 1}, steps=1, lr_steps=1),
        contrast={"share": 0.5, "variants": 1, "fresh": 0.5},
        guidance={"match": "auto", "student": True, "detail": True},
    )
    run = fit(chests(here, "HU", 3), "soft", config, here / "run", device="cpu")
    contrast = run.config.contrast
    assert (contrast.kind, contrast.fresh, contrast.share) == ("kernel", 0, 0.5)
    assert told
    assert not any(told)  # values above the range are filtered by the match before they are cut
    assert contrast.sharper == 1  # of what a softer one has lost, a match gives nothing back
    assert (run.config.guidance.match, run.config.guidance.student) == ("spectrum", False)


# --- interruptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before the match", "in the student", "after the estimate"])
def test_a_translation_that_ends_at_the_estimate_goes_on(ready, here, monkeypatch, where):
    run, image = ready
    options = {"device": "cpu", "tile": 8, "uncertainty": here / "u.nii"}
    translate(run, image, here / "whole.nii", **options)
    expected = [(here / name).read_bytes() for name in ("whole.nii", "u.nii")]
    (here / "u.nii").unlink()

    def stop(*_, **__):
        raise Stop

    with monkeypatch.context() as patch:
        if where == "before the match":
            patch.setattr(generation, "estimate", stop)
        elif where == "in the student":
            patch.setattr(Student, "of", stop)
        else:
            patch.setattr(Scratch, "drop", lambda _, name: stop() if name == "drawn0" else None)
        with pytest.raises(Stop):
            translate(run, image, here / "o.nii", **options)
    assert not (here / "o.nii").exists()
    assert not (here / "u.nii").exists()
    told = []
    translate(run, image, here / "o.nii", progress=lambda *event: told.append(event), **options)
    assert [(here / name).read_bytes() for name in ("o.nii", "u.nii")] == expected
    assert "s0" not in {stage for stage, done, count in told if done < count}


class Elsewhere:
    """An engine whose tasks go to another place and come back."""

    def run(self, job, numbers, stage):
        for k in numbers:
            stage.note(pickle.loads(pickle.dumps(job)).compute(k))
            yield k


def test_tiles_may_be_made_elsewhere(ready, here):
    run, image = ready
    for name, engine in (("a.nii", None), ("b.nii", Elsewhere())):
        translate(run, image, here / name, device="cpu", tile=8, engine=engine)
    assert (here / "a.nii").read_bytes() == (here / "b.nii").read_bytes()


def test_contexts_that_were_begun_are_made_again_the_same(dims, here, monkeypatch):
    """A training killed while the second of three variants is estimated."""
    run = guided(here / "run", dims)
    config = changed(run.config, contrast={"share": 0.5, "variants": 2, "noise": 0.1})
    run = replace(run, config=config)
    cohort = cohort_in(here, dims)
    with prepare(cohort["s0"], "t2", config.preparation) as opened:
        subjects = {"s0": cached(opened, config, "data", here / "cache")}
    expected = contexts.generate_contexts(run, subjects, 1, CPU)["s0"].generated
    expected = [image.numpy().copy() for image in expected]
    folder = run.folder / contexts.FOLDER
    assert sorted(p.name for p in folder.rglob("*.npy")) == [f"s0-{k}.npy" for k in range(3)]
    shutil.rmtree(folder)
    plain, calls = Student.of, []

    def dying(*words):
        calls.append(words)
        if len(calls) == 2:
            raise Stop
        return plain(*words)

    with monkeypatch.context() as patch:
        patch.setattr(Student, "of", dying)
        with pytest.raises(Stop):
            contexts.generate_contexts(run, subjects, 1, CPU)
    assert len(list(folder.rglob("*.npy"))) > 1
    found = contexts.generate_contexts(run, subjects, 1, CPU)["s0"].generated
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(folder.rglob("*.npy"))) == 3


# --- files -------------------------------------------------------------------------------------


def test_an_exported_model_is_guided_the_same_way(ready, here):
    run, image = ready
    model = export(run, here / "model")
    stated = json.loads((model / "run.json").read_text())["model"]["files"]
    assert FILE in stated
    card = (model / "README.md").read_text()
    assert "Match: histogram." in card
    assert "the edges of its source and the match of its intensities" in card
    for name, folder in (("a.nii", run.folder), ("b.nii", model)):
        translate(Run.open(folder), image, here / name, device="cpu")
    assert (here / "a.nii").read_bytes() == (here / "b.nii").read_bytes()
    text = (model / FILE).read_text()
    (model / FILE).write_text(text.replace("0.1", "0.2", 1))
    with pytest.raises(InputError, match=r"match\.json"):
        Run.open(model)
    (model / FILE).unlink()
    with pytest.raises(InputError, match=r"match\.json"):
        Run.open(model)


@pytest.mark.parametrize("damage", ["gone", "{", '{"kind": "histogram"}'])
def test_without_what_sources_are_matched_to_nothing_begins(damage, here):
    run = guided(here / "run", 2)
    image, told = stored(here / "t1.nii", head(SHAPES[2])), []
    if damage == "gone":
        (run.folder / FILE).unlink()
    else:
        (run.folder / FILE).write_text(damage)
    with pytest.raises(InputError, match=r"match\.json") as caught:
        translate(
            run, image, here / "o.nii", device="cpu", progress=lambda *event: told.append(event)
        )
    assert len(str(caught.value).splitlines()) == 1
    assert told == []
    assert not (here / "o.nii").exists()


# --- uncertainty -------------------------------------------------------------------------------


def test_an_uncertainty_lies_on_the_grid_of_the_source(dims, here):
    run = guided(here / "run", dims, (2,), WINDOW)
    image = head(tuple(n + 20 for n in SHAPES[dims]), 1).clip(0, 95)
    labels, path = labelled(here, image, 4)
    source = stored(here / "t1.nii", image, spacing=2.0)
    path = stored(here / "labels.nii", labels.astype(np.float32), dtype=np.uint8, spacing=2.0)
    options = {"device": "cpu", "labels": path, "polarity": "same"}
    translate(run, source, here / "o.nii", uncertainty=here / "u.nii", **options)
    translate(run, source, here / "p.nii", **options)
    assert (whole(here / "o.nii") == whole(here / "p.nii")).all()
    spread = whole(here / "u.nii")
    assert spread.shape == image.shape
    assert spread.min() >= -1e-4
    assert 0.1 < spread.max() <= run.intensity.high / 2 + 1e-3
    assert np.abs(spread[labels > 0]).max() < 1e-4


def test_an_uncertainty_that_cannot_be_told_is_refused(here, runs, ready):
    run, image = ready
    plain = runs[run.config.dims]
    with pytest.raises(InputError, match="has no guidance"):
        translate(plain, image, here / "o.nii", uncertainty=here / "u.nii")
    with pytest.raises(InputError, match="is the result itself"):
        translate(run, image, here / "o.nii", uncertainty=here / "o.nii")
    with pytest.raises(InputError, match="which is read"):
        translate(run, image, here / "o.nii", uncertainty=image)
    with pytest.raises(InputError, match="unknown suffix"):
        translate(run, image, here / "o.nii", uncertainty=here / "u.xyz")
    with pytest.raises(InputError, match="polarity 'up' is none of"):
        translate(run, image, here / "o.nii", polarity="up")
    assert not list(here.glob("*.nii"))


# --- the command line --------------------------------------------------------------------------


def test_the_command_line_states_a_polarity_and_writes_an_uncertainty(here):
    run = guided(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    words = ("translate", run.folder, image)
    done = msgan_cli(*words, "o.nii", "--polarity", "inverted", "--uncertainty", "u.nii")
    assert "match: histogram, polarity inverted (by user" in done.stderr
    translate(run, image, here / "p.nii", polarity="inverted", uncertainty=here / "v.nii")
    assert (here / "o.nii").read_bytes() == (here / "p.nii").read_bytes()
    assert (here / "u.nii").read_bytes() == (here / "v.nii").read_bytes()
    done = msgan_cli(*words, "t.nii", "--modality", "t1")
    assert "match: histogram, polarity inverted (by modalities" in done.stderr
    assert "u.nii: is there already" in fails(*words, "q.nii", "--uncertainty", "u.nii")
    assert "match        histogram" in msgan_cli("plan", run.folder, image).stdout
    (here / "images").mkdir()
    for k in range(2):
        shutil.copyfile(image, here / "images" / f"{k}.nii")
    msgan_cli("translate", run.folder, "images", "out", "--uncertainty", "spreads")
    names = [sorted(p.name for p in (here / n).glob("*.nii")) for n in ("images", "out", "spreads")]
    assert names[0] == names[1] == names[2]
    assert "choose another" in fails(
        "translate", run.folder, "images", "out2", "--uncertainty", "images"
    )


def test_a_run_without_guidance_takes_neither(here, runs):
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    words = ("translate", runs[2].folder, image, "o.nii")
    assert "matches no histograms: leave it out" in fails(*words, "--polarity", "same")
    assert "has no guidance" in fails(*words, "--uncertainty", "u.nii")
    assert msgan_cli(*words, "--polarity", "auto").stderr.count("match") == 0
