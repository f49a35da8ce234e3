"""One input of a trained cascade blacked out in translation only (2020, section 3.2.2, fig. 11)."""

import numpy as np
import pytest
import torch
from helpers import blind, cohort_in, source_in, tiny, untrained, whole

from msgan.data.cohort import prepare
from msgan.methods.cascade import fit
from msgan.methods.trained import Cascade
from msgan.runs.run import Run
from msgan.translate import Generation, Limits, ablated, plan, translate
from msgan.translate.scratch import Scratch, StoredScale
from msgan.types import InputError

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("what", ["sketch", "context"])
@pytest.mark.slow
def test_the_same_weights_see_less(dims, tmp_path, what):
    """The result is that of a blind run of these weights, and the run itself is as before."""
    run = untrained(tmp_path / "run", tiny(dims))
    other = untrained(tmp_path / "blind", blind(tiny(dims), what), range(3))  # the same weights
    source, results = source_in(tmp_path, dims), {}
    rows = {"full": run, "view": ablated(run, what), "blind": other, "again": run}
    for name, row in rows.items():
        for tile in (None, 8):
            out = tmp_path / f"{name}{tile}.nii"
            Cascade(row, "cpu").translate(source, out, tile=tile)
            results[name, tile] = whole(out)
        np.testing.assert_allclose(results[name, 8], results[name, None], rtol=0, atol=80e-4)
    np.testing.assert_array_equal(results["view", 8], results["blind", 8])
    np.testing.assert_array_equal(results["again", 8], results["full", 8])
    assert np.abs(results["view", 8] - results["full", 8]).max() > 1
    assert results["view", 8].std() > 1
    assert Run.open(run.folder).config.drop_inputs == run.config.drop_inputs == ()


def test_s0_is_as_before_and_no_scale_without_a_say_is_made(dims, tmp_path, monkeypatch):
    run, source, kept = untrained(tmp_path / "run", tiny(dims)), source_in(tmp_path, dims), {}
    made, stage = [], Scratch.stage
    monkeypatch.setattr(Scratch, "stage", lambda self, *a: made.append(a[0]) or stage(self, *a))
    rows = {
        "full": run,
        "sketch": ablated(run, "sketch"),
        "context": ablated(run, "context"),
    }
    for name, row in rows.items():
        made.clear()
        done = translate(row, source, tmp_path / "o.nii", device="cpu", keep=tmp_path / name)
        kept[name] = {file.name: whole(file) for file in (tmp_path / name).glob("*.nii")}
        planned = [scale.name for scale in done.plan.scales]
        assert planned == (["s2"] if name == "context" else ["s0", "s1", "s2"])
    assert made == ["s2", "y2"]
    assert list(kept["context"]) == ["y2.nii"]
    np.testing.assert_array_equal(kept["sketch"]["y0.nii"], kept["full"]["y0.nii"])
    for file in ("y1.nii", "y2.nii"):
        assert np.abs(kept["sketch"][file] - kept["full"][file]).max() > 1


@pytest.mark.slow
def test_nothing_is_gone_on_with_that_was_made_of_other_inputs(tmp_path, monkeypatch):
    """Scratch of an interrupted translation belongs to what was shown."""
    scratch = tmp_path / "scratch"
    monkeypatch.setenv("MSGAN_SCRATCH", str(scratch))
    run, source = untrained(tmp_path / "run", tiny()), source_in(tmp_path, 2)
    views = {"full": run} | {what: ablated(run, what) for what in ("sketch", "context")}
    alone = {}
    for name, view in views.items():
        translate(view, source, tmp_path / f"{name}.nii", device="cpu", tile=8)
        alone[name] = (tmp_path / f"{name}.nii").read_bytes()
    assert len(set(alone.values())) == 3
    write = StoredScale.write

    def interrupted(self, number, box, values):
        write(self, number, box, values)
        if self.store.path.name.startswith("y2") and number == 3:
            raise KeyboardInterrupt

    for count, view in enumerate(views.values(), 1):
        monkeypatch.setattr(StoredScale, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            translate(view, source, tmp_path / "o.nii", device="cpu", tile=8)
        assert len(list(scratch.glob("msgan-work-*"))) == count
    monkeypatch.setattr(StoredScale, "write", write)
    for name, view in views.items():
        translate(view, source, tmp_path / "o.nii", device="cpu", tile=8)
        assert (tmp_path / "o.nii").read_bytes() == alone[name]


def test_the_plan_holds_one_scale_without_context(dims, tmp_path):
    run = untrained(tmp_path / "run", tiny(dims))
    source, plans = source_in(tmp_path, dims), {}
    for name, view in (("full", run), ("context", ablated(run, "context"))):
        with prepare(source, None, run.config.preparation) as ready:
            plans[name] = plan(Generation.of(view), ready, CPU, Limits(tile=8), probe=True)
    assert [s.name for s in plans["context"].scales] == ["s2"]
    assert plans["context"].scratch_bytes < plans["full"].scratch_bytes
    assert plans["context"].seconds > 0


def test_what_makes_no_sense_is_refused(tmp_path):
    run = untrained(tmp_path / "run", tiny())
    with pytest.raises(InputError, match="black out 'labels': is none of sketch, context"):
        ablated(run, "labels")
    other = untrained(tmp_path / "blind", blind(tiny(), "context"))
    with pytest.raises(InputError, match="blind: was trained without the context: expected a run"):
        ablated(other, "sketch")
    with pytest.raises(InputError, match="was trained without the context"):
        ablated(ablated(run, "context"), "context")
    with pytest.raises(InputError, match=r"drop_inputs is .*there and .*here"):
        ablated(run, "sketch").create()
    half = fit(cohort_in(tmp_path), "t2", tiny(), tmp_path / "half", device="cpu", scales=[2])
    source = source_in(tmp_path, 2)
    translate(ablated(half, "context"), source, tmp_path / "o.nii", device="cpu")
    with pytest.raises(InputError, match="scale 0 of 2 is not trained yet"):
        translate(ablated(half, "sketch"), source, tmp_path / "p.nii", device="cpu")
