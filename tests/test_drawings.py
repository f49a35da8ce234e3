"""What s0 draws beside: from recoloured copies of an image, and from the matched image."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import changed, config_of, head, run_of, stored, whole
from program import fails, msgan_cli
from test_guided_runs import (
    SHAPES,
    WINDOW,
    Elsewhere,
    Stop,
    disturbed,
    guided,
    labelled,
    unguided,
    without_sources,
)

from msgan import pyramid, sketch
from msgan.appearance import Appearance
from msgan.data.cohort import prepare
from msgan.match import fusion, histogram
from msgan.match.profile import FILE
from msgan.networks import inference
from msgan.paths import scratch_root
from msgan.pyramid import Store
from msgan.runs.run import Run
from msgan.translate import Generation, generation, translate
from msgan.translate.estimate import Match, estimate
from msgan.translate.provenance import Provenance, beside
from msgan.translate.scale import TiledScale, make, sources
from msgan.translate.scratch import Scratch
from msgan.types import Box, InputError
from msgan.verify import State, translation_again

pytestmark = pytest.mark.usefixtures("one_thread")

CONTRAST = {"share": 0.5, "variants": 1}


def taught(folder, dims, labels=(), preparation=None) -> Run:
    """A guided run as one that has learnt from recoloured images."""
    run = guided(folder, dims, labels, preparation)
    config = changed(run.config, contrast=CONTRAST)
    other = run_of(folder.with_name("taught"), config)
    shutil.copytree(run.folder_of(0), other.folder_of(0), dirs_exist_ok=True)
    shutil.copytree(run.folder_of(1), other.folder_of(1), dirs_exist_ok=True)
    shutil.copyfile(run.folder / FILE, other.folder / FILE)
    return Run.open(other.folder)


def redrawing(folder, dims, labels=(), preparation=None) -> Run:
    """A guided run that draws from the matched source too, and the same without."""
    run = guided(folder, dims, labels, preparation)
    other = run_of(folder.with_name("redrawing"), run.config.updated(guidance={"redraw": True}))
    shutil.copytree(run.folder_of(0), other.folder_of(0), dirs_exist_ok=True)
    shutil.copytree(run.folder_of(1), other.folder_of(1), dirs_exist_ok=True)
    shutil.copyfile(run.folder / FILE, other.folder / FILE)
    return Run.open(other.folder)


def recoloured(image, number):
    """A copy in [0, 95] as :data:`WINDOW` shows it, with the curve of that number."""
    look = Appearance.recoloured(image.ndim, 5, number)
    unit = torch.from_numpy(image / 50 - 1).float()
    seen = look.apply(unit, Box.whole(image.shape), image.shape, torch.Generator())
    return (seen.numpy() + 1) * 50


def drawn(run, image, folder, **options):
    """What a run has at s0."""
    translate(run, image, folder / "o.nii", device="cpu", keep=folder / "kept", **options)
    return whole(folder / "kept" / "y0.nii")


@pytest.fixture
def trusting(monkeypatch):
    """A match that disagrees with what is drawn by random weights has its weight too."""
    monkeypatch.setattr(fusion, "AGREED", (-2.0, -1.0))


def stop(*_, **__):
    """What ends a translation where it is called."""
    raise Stop


def gone_on(run, image, here, **asked):
    """Stages that a translation which was stopped begins when it is asked for again.

    What it makes is what one that was not stopped had made.
    """
    assert not (here / "o.nii").exists()
    told = []
    translate(run, image, here / "o.nii", progress=lambda *event: told.append(event), **asked)
    assert (here / "o.nii").read_bytes() == (here / "whole.nii").read_bytes()
    return {stage for stage, done, count in told if done < count}


def test_what_can_be_told_apart_stays_so_in_a_copy():
    """Order is kept or turned round, background is background, and no two copies are alike."""
    image = torch.linspace(-1, 1, 201)[None].repeat(3, 1)
    box = Box.whole(image.shape)
    made = [
        Appearance.recoloured(2, 5, k).apply(image, box, tuple(image.shape), torch.Generator())
        for k in range(1, 9)
    ]
    for copy in made:
        assert (copy[:, 0] == -1).all()
        steps = copy[0, 2:].diff()
        assert bool((steps >= 0).all()) or bool((steps <= 0).all())
        assert float(copy[0, 1:].max() - copy[0, 1:].min()) > 0.1
    ways = {bool(copy[0, 100] < copy[0, 200]) for copy in made}
    assert ways == {True, False}
    assert len({copy[0, 150].item() for copy in made}) == len(made)


def test_s0_is_the_mean_of_what_is_drawn_of_the_image_and_of_its_copies(dims, here):
    plain = unguided(taught(here / "run", dims, (), WINDOW), here / "plain")
    image = head(tuple(n + 20 for n in SHAPES[dims]), 1).clip(0, 95)
    source = stored(here / "t1.nii", image)
    parts = [drawn(plain, source, here)]
    for k in (1, 2):
        parts.append(drawn(plain, stored(here / "copy.nii", recoloured(image, k)), here))
    assert np.abs(parts[1] - parts[0]).max() > 1
    found = drawn(plain, source, here, recolourings=2)
    apart = np.abs(found - np.mean(parts, axis=0))
    assert np.quantile(apart, 0.99) < 0.02 < np.quantile(np.abs(found - parts[0]), 0.9)


def test_tiles_of_any_size_and_made_elsewhere_give_the_same(dims, here):
    run = taught(here / "run", dims)
    image = stored(here / "t1.nii", head(SHAPES[dims], 1))
    asked = {"device": "cpu", "polarity": "same", "recolourings": 2}
    for name, more in (("a", {}), ("b", {"tile": 8}), ("c", {"tile": 8, "engine": Elsewhere()})):
        translate(run, image, here / f"{name}.nii", **asked, **more)
    expected = (here / "a.nii").read_bytes()
    assert (here / "b.nii").read_bytes() == (here / "c.nii").read_bytes()
    np.testing.assert_allclose(whole(here / "b.nii"), whole(here / "a.nii"), atol=1e-3)
    translate(run, image, here / "d.nii", device="cpu", polarity="same")
    assert (here / "d.nii").read_bytes() != expected


@pytest.mark.parametrize("where", ["between copies", "before the mean", "after the estimate"])
@pytest.mark.parametrize("guides", [True, False], ids=["guided", "unguided"])
def test_a_translation_that_ends_between_drawings_goes_on(guides, where, here, monkeypatch):
    run = taught(here / "run", 2)
    run = run if guides else unguided(run, here / "plain")
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    asked = {"device": "cpu", "tile": 8, "recolourings": 2}
    translate(run, image, here / "whole.nii", **asked)

    def counting(stage, done, count):
        if stage == "s0, recoloured 2":
            raise Stop

    with monkeypatch.context() as patch:
        if where == "before the mean":
            patch.setattr(generation.fusion, "mean", stop)
        elif where == "after the estimate":
            patch.setattr(Scratch, "drop", lambda _, name: stop() if name == "drawn0" else None)
        tell = counting if where == "between copies" else None
        with pytest.raises(Stop):
            translate(run, image, here / "o.nii", progress=tell, **asked)
    begun = gone_on(run, image, here, **asked)
    assert "s0, recoloured 1" not in begun
    assert ("s0, recoloured 2" in begun) == ("s0" in begun) == (where == "between copies")


def test_only_what_is_asked_for_is_left_of_a_translation(here):
    run = taught(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    done = translate(
        run, image, here / "o.nii", device="cpu", keep=here / "kept", recolourings=3, tile=8
    )
    assert sorted(p.name for p in (here / "kept").iterdir()) == ["y0.nii", "y1.nii"]
    assert done.trace.recolourings == 3
    assert Provenance.load(beside(here / "o.nii")).recolourings == 3
    assert len(done.tiles) == 2
    assert list(done.trace.weights) == ["s0", "s1"]
    assert [scale.name for scale in done.plan.scales][:2] == [
        "s0, recoloured 1",
        "s0, recoloured 2",
    ]
    scratch = here / ".scratch"
    assert not [p for p in scratch.rglob("*") if p.is_file() and "drawn" in p.name]


def test_drawings_count_in_the_spread_also_in_labels(dims, here):
    run = taught(here / "run", dims, (2,), WINDOW)
    image = head(tuple(n + 20 for n in SHAPES[dims]), 1).clip(0, 95)
    labels, path = labelled(here, image, 4)
    source = stored(here / "t1.nii", image)
    spreads = []
    for count in (0, 3):
        translate(
            run,
            source,
            here / "o.nii",
            device="cpu",
            labels=path,
            polarity="same",
            uncertainty=here / "u.nii",
            recolourings=count,
        )
        spreads.append(whole(here / "u.nii"))
    inside = labels > 0
    assert np.abs(spreads[0][inside]).max() < 1e-4
    assert spreads[1].min() >= -1e-4
    assert np.abs(spreads[1] - spreads[0]).max() > 0.1


def test_an_estimate_is_of_the_mean_of_drawings_and_its_spread_of_all():
    shape, where = (4, 4), Box((0, 0), (4, 4))
    drawings = [(lambda box, v=v: np.full(box.size, v, np.float32)) for v in (-0.5, 0.1, 0.4)]
    mean = fusion.mean(drawings)
    np.testing.assert_allclose(mean(where), 0.0, atol=1e-6)
    assert fusion.mean(drawings[:1]) is drawings[0]
    polarity = fusion.Polarity(True, 0.9, 0.9, "user")
    matched = lambda box: np.full(box.size, 0.6, np.float32)  # noqa: E731
    found = estimate(Match(matched, matched, polarity, np.zeros(3)), mean, shape, drawings=drawings)
    np.testing.assert_allclose(found.read(where), 0.3, atol=1e-6)
    expected = np.std([-0.5, 0.1, 0.4, 0.6])
    np.testing.assert_allclose(found.spread(where), expected, atol=1e-6)


@pytest.mark.usefixtures("trusting")
def test_copies_have_no_say_in_how_the_source_is_matched(here):
    """What is drawn of them follows them, where they are wrong."""
    run = taught(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    told = [
        translate(run, image, here / "o.nii", device="cpu", recolourings=n).trace.match
        for n in (0, 3)
    ]
    assert told[0] == told[1]


def test_a_translation_with_recolourings_is_made_again_the_same(here):
    run = taught(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    asked = {"device": "cpu", "polarity": "inverted", "recolourings": 2, "tile": 8}
    ids = set()
    for count in (2, 0):
        done = translate(run, image, here / "o.nii", **asked | {"recolourings": count})
        (here / f"again{count}").mkdir()
        assert translation_again(done.trace, here / f"again{count}").state is State.IDENTICAL
        ids.add(done.trace.id)
    assert len(ids) == 2


# --- from the matched image --------------------------------------------------------------------


@pytest.mark.usefixtures("trusting")
def test_s0_is_drawn_from_the_matched_image_too(dims, here, monkeypatch):
    run = redrawing(here / "run", dims, (), WINDOW)
    image = head(tuple(n + 20 for n in SHAPES[dims]), 1).clip(0, 95)
    source, seen = stored(here / "t1.nii", image), []

    def spied(*arguments, drawings, **options):
        seen.extend(read(Box.whole(arguments[2])) for read in drawings)
        return plain(*arguments, drawings=drawings, **options)

    plain = generation.estimate
    monkeypatch.setattr(generation, "estimate", spied)
    translate(run, source, here / "o.nii", device="cpu", polarity="inverted")
    with prepare(source, None, run.config.preparation) as opened:
        shape = opened.grid.shape
        shares = histogram.cumulative(opened.read, shape)
        curve = histogram.matched(opened.read, shares, run.profile.quantiles, inverted=True)
        expected = []
        for read in (opened.read, curve):
            drawn = sketch.sketch_reader(read, shape, run.config.sketch, rim=pyramid.RIM)
            generator = inference.optimised(run.generator(0), torch.device("cpu"))
            reads = sources(generator.geometry, drawn)
            coarse = tuple(n // 2 for n in shape)
            whole_image = TiledScale(generator, reads, coarse, coarse, torch.device("cpu"))
            ((_, _, made),) = make(whole_image, [0])
            expected.append(made)
    assert len(seen) == 2
    for one, other in zip(seen, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(seen[0] - seen[1]).max() > 0.01


@pytest.mark.usefixtures("trusting")
def test_of_a_source_that_is_not_matched_nothing_is_drawn_again(here, monkeypatch):
    run = redrawing(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    monkeypatch.setattr(fusion, "CONFIDENT", 3.0)  # nothing is clear
    stages = []
    translate(
        run, image, here / "o.nii", device="cpu", progress=lambda stage, *_: stages.append(stage)
    )
    translate(Run.open(here / "run"), image, here / "p.nii", device="cpu")
    assert "s0, matched" not in stages
    assert (whole(here / "o.nii") == whole(here / "p.nii")).all()
    translate(
        run,
        image,
        here / "q.nii",
        device="cpu",
        polarity="same",
        progress=lambda stage, *_: stages.append(stage),
    )
    assert "s0, matched" in stages


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("where", ["before it", "before the estimate", "after the estimate"])
def test_a_translation_that_ends_at_what_is_drawn_again_goes_on(where, here, monkeypatch):
    run = redrawing(here / "run", 3)
    image = stored(here / "t1.nii", head(SHAPES[3], 1))
    asked = {"device": "cpu", "tile": 8, "polarity": "same", "uncertainty": here / "u.nii"}
    translate(run, image, here / "whole.nii", **asked)

    def until(stage, *_):
        if stage == "s0, matched":
            raise Stop

    with monkeypatch.context() as patch:
        if where == "before the estimate":
            patch.setattr(generation, "estimate", stop)
        elif where == "after the estimate":
            patch.setattr(Scratch, "drop", lambda _, name: stop() if name == "redrawn0" else None)
        tell = until if where == "before it" else None
        with pytest.raises(Stop):
            translate(run, image, here / "o.nii", progress=tell, **asked)
    begun = gone_on(run, image, here, **asked)
    assert "s0" not in begun
    assert ("s0, matched" in begun) == (where == "before it")
    translate(run, image, here / "p.nii", engine=Elsewhere(), **asked)
    assert (here / "p.nii").read_bytes() == (here / "whole.nii").read_bytes()


@pytest.mark.usefixtures("trusting")
def test_what_a_source_shows_in_a_label_is_not_drawn_again(dims, here, monkeypatch):
    run = redrawing(here / "run", dims, (2,), WINDOW)
    image = head(tuple(n + 20 for n in SHAPES[dims]), 1).clip(0, 95)
    labels, path = labelled(here, image, 4)
    monkeypatch.setattr(sketch, "sketch_reader", without_sources(sketch.sketch_reader))
    results = []
    for where in (labels > 9, labels > 0):
        source = stored(here / "source.nii", disturbed(image, where))
        translate(run, source, here / "o.nii", labels=path, device="cpu", polarity="same", tile=16)
        results.append(whole(here / "o.nii"))
    np.testing.assert_array_equal(results[1], results[0])


def test_runs_that_match_spectra_draw_nothing_again(here):
    for match in ("none", "spectrum"):
        with pytest.raises(ValueError, match="redraw needs a match: auto, histogram"):
            changed(config_of(3), guidance={"match": match, "redraw": True})
    config = config_of(3, scales=1, guidance={"match": "histogram", "redraw": True})
    made = Generation.of(run_of(here / "run", config))
    assert [scale.label for scale in made.scales] == ["s0", "s0, matched", "s1"]
    assert list(made.weights) == ["s0", "s1"]
    plain = changed(config, guidance={"match": "histogram"})
    assert "redraw" not in plain.model_dump()["guidance"]
    assert config.model_dump()["guidance"]["redraw"]


# --- refusals, the command line ----------------------------------------------------------------


def test_what_cannot_be_recoloured_is_refused(here, runs):
    plain = runs[2]
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    with pytest.raises(InputError, match="recolourings -1: expected 0 or more"):
        translate(plain, image, here / "o.nii", recolourings=-1)
    with pytest.raises(InputError, match="has not learnt from recoloured images: leave it out"):
        translate(plain, image, here / "o.nii", recolourings=2)
    kernels = changed(config_of(2), contrast=CONTRAST | {"kind": "kernel"})
    with pytest.raises(InputError, match="has not learnt from recoloured images"):
        Generation.of(run_of(here / "kernels", kernels), recolourings=1)
    config = changed(config_of(2, scales=1, guidance={"match": "spectrum"}), contrast=CONTRAST)
    with pytest.raises(InputError, match="draws no s0 from a sketch"):
        Generation.of(run_of(here / "spectra", config), recolourings=1)
    assert not (here / "o.nii").exists()


def test_the_command_line_takes_recolourings(here):
    run = taught(here / "run", 2)
    image = stored(here / "t1.nii", head(SHAPES[2], 1))
    words = ("translate", run.folder, image)
    msgan_cli(*words, "o.nii", "--polarity", "same", "--recolourings", "2")
    translate(run, image, here / "p.nii", polarity="same", recolourings=2)
    assert (here / "o.nii").read_bytes() == (here / "p.nii").read_bytes()
    assert "expected at least 0" in fails(*words, "q.nii", "--recolourings", "-1")
    shown = msgan_cli("plan", run.folder, image, "--recolourings", "2").stdout
    assert "s0, recoloured 1  " in shown
    assert "s0, recoloured 2  " in shown
    assert "recoloured" not in msgan_cli("plan", run.folder, image).stdout
    (here / "images").mkdir()
    stored(here / "images" / "a.nii", head(SHAPES[2], 2))
    many = ("translate", run.folder, "images", "out", "--recolourings", "1")
    msgan_cli(*many)
    assert "left as they are" in msgan_cli(*many).stderr
    assert "is there already" in fails(*many[:-1], "2")


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("copies", [0, 4])
@pytest.mark.parametrize("redraws", [True, False])
@pytest.mark.usefixtures("trusting")
def test_scratch_is_what_is_written(here, monkeypatch, redraws, copies, spread):
    """Most bytes there ever are, watched at every piece that is written."""
    run = taught(here / "run", 3)
    config = run.config.updated(guidance={"redraw": redraws})
    run, most, write = replace(run, config=config), [], Store.write

    def watched(self, box, values):
        write(self, box, values)
        files = [p for p in scratch_root().rglob("*") if p.is_file() and "/c/" in str(p)]
        most.append(sum(p.stat().st_size for p in files))

    monkeypatch.setattr(Store, "write", watched)
    image = stored(here / "t1.nii", head((70, 61, 50), 1))
    asked = {"recolourings": copies, "polarity": "same", "device": "cpu"}
    done = translate(
        run, image, here / "o.nii", **asked, uncertainty=here / "u.nii" if spread else None
    )
    assert 0.75 * done.plan.scratch_bytes <= max(most) <= done.plan.scratch_bytes
