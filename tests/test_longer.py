"""A finished run that is trained longer, as a new run."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers import cohort_in, contents, equal, tiny
from program import fails, msgan_cli
from safetensors.torch import load_file

from msgan.config import MOST_STEPS
from msgan.methods.cascade import fit
from msgan.runs import model
from msgan.runs.run import Run
from msgan.training import loop
from msgan.training.loop import CHECKPOINT, INHERITED, WEIGHTS
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = {"steps": 20, "lr_steps": 20, "validate_every": 10, "checkpoint_every": 7, "batch": 1}


def short(**training):
    return tiny(preparation={"scales": 1}, **STEPS | training)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cohort and a finished run of two scales."""
    folder = tmp_path_factory.mktemp("trained")
    cohort = cohort_in(folder)
    run = fit(cohort, "t2", short(), folder / "run", device="cpu", cache=folder / "cache")
    return cohort, run, folder / "cache"


def longer(trained, out: Path, **options) -> Run:
    cohort, run, cache = trained
    options = {"parent": run, "more_steps": 20} | options
    return fit(cohort, "t2", run.config, out, device="cpu", cache=cache, **options)


def state(run: Run, scale: int) -> dict[str, torch.Tensor]:
    return load_file(run.folder_of(scale) / CHECKPOINT)


def done(run: Run, scale: int) -> dict:
    return json.loads((run.folder_of(scale) / "done.json").read_text())


@pytest.mark.slow
def test_at_a_constant_rate_it_is_the_unbroken_training(trained, tmp_path):
    cohort, parent, cache = trained
    before = contents(parent.folder)
    run = longer(trained, tmp_path / "longer")
    assert contents(parent.folder) == before
    options = {"device": "cpu", "cache": cache}
    whole = fit(cohort, "t2", short(steps=40, lr_steps=40), tmp_path / "whole", **options)
    for scale in (0, 1):
        ours, theirs = state(run, scale), state(whole, scale)
        assert ours.keys() == theirs.keys()
        assert any(name.startswith("optimiser/discriminator/") for name in ours)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert equal(run.folder, whole.folder, scale)
        assert done(run, scale)["step"] == 40
        assert done(run, scale)["best_step"] == done(whole, scale)["best_step"]
        assert not (run.folder_of(scale) / INHERITED).exists()


def test_the_card_names_the_parent(trained, tmp_path):
    parent = trained[1]
    run = longer(trained, tmp_path / "longer", scales=[1])
    card = json.loads((run.folder / "run.json").read_text())["parent"]
    assert (card["name"], card["key"], card["more"]) == ("run", parent.key, 20)
    assert card["steps"] == {"s1": 20}
    assert card["weights"].keys() == {"s0", "s1"}
    assert run.key != parent.key
    assert Run.open(run.folder) == run
    assert (run.total(0), run.total(1)) == (20, 40)
    # s0 is the parent's.
    assert equal(run.folder, parent.folder, 0)
    assert not equal(run.folder, parent.folder, 1)
    shared = model.export(run, tmp_path / "model")
    assert f"Trained longer than: run run ({parent.key}), 20 steps more: s1 from step 20" in (
        " ".join((shared / "README.md").read_text().split()).replace("\\", "")
    )
    assert Run.open(shared).parent == run.parent


@pytest.mark.slow
def test_a_killed_one_goes_on_bit_by_bit_without_its_parent(trained, tmp_path):
    cohort, parent, cache = trained
    copy = Run.open(shutil.copytree(parent.folder, tmp_path / "parent"))
    whole = longer((cohort, copy, cache), tmp_path / "whole")

    def stop(row):
        raise KeyboardInterrupt

    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        longer((cohort, copy, cache), out, report=stop)
    # Kept weights may be of a later step than the checkpoint.
    assert (out / "s0" / INHERITED).is_file()
    shutil.rmtree(copy.folder)
    again = fit(cohort, "t2", copy.config, out, device="cpu", cache=cache)
    assert again == Run.open(out)
    assert again.parent == whole.parent
    for scale in (0, 1):
        assert equal(out, whole.folder, scale)
        ours, theirs = state(again, scale), state(whole, scale)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_kill_before_the_first_checkpoint_does_not_change_what_is_inherited(
    trained, tmp_path, monkeypatch
):
    run = longer(trained, tmp_path / "whole", scales=[1])
    update, count = loop.Step.update, []

    def killed(self, *args):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return update(self, *args)

    monkeypatch.setattr(loop.Step, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        longer(trained, tmp_path / "broken", scales=[1])
    shutil.copy(tmp_path / "whole/s1" / WEIGHTS, tmp_path / "broken/s1" / WEIGHTS)
    monkeypatch.undo()
    longer(trained, tmp_path / "broken", scales=[1])
    assert equal(run.folder, tmp_path / "broken", 1)
    assert done(run, 1)["best"] == done(Run.open(tmp_path / "broken"), 1)["best"]


def test_weights_are_replaced_only_by_better_ones(trained, tmp_path, monkeypatch):
    parent, score, seen = trained[1], loop._score, []

    def worse_and_worse(*words):
        seen.append(score(*words) + len(seen))
        return seen[-1]

    monkeypatch.setattr(loop, "_score", worse_and_worse)
    run = longer(trained, tmp_path / "longer", scales=[1])
    assert len(seen) == 3  # as inherited, and every 10 steps
    assert equal(run.folder, parent.folder, 1)
    assert done(run, 1)["best_step"] == done(parent, 1)["best_step"]
    assert done(run, 1)["best"] == done(parent, 1)["best"] == seen[0]


def test_the_schedule_begins_again_over_the_further_steps(tmp_path, monkeypatch):
    cohort = cohort_in(tmp_path)
    run = fit(cohort, "t2", short(decay="cosine", steps=2), tmp_path / "run", device="cpu")
    rates, rate = [], loop.learning_rate

    def noted(*words):
        rates.append(rate(*words))
        return rates[-1]

    monkeypatch.setattr(loop, "learning_rate", noted)
    options = {"device": "cpu", "scales": [0], "parent": run, "more_steps": 30}
    fit(cohort, "t2", run.config, tmp_path / "longer", **options)
    assert rates == [rate(run.config.training, step, 30) for step in range(30)]


def test_a_training_that_had_stopped_early_has_its_patience_again(tmp_path):
    cohort, config = cohort_in(tmp_path), short(patience=1, validate_every=1, learning_rate=0.3)
    run = fit(cohort, "t2", config, tmp_path / "run", device="cpu")
    begun = done(run, 1)["step"]
    assert begun < 20
    options = {"device": "cpu", "scales": [1], "parent": run, "more_steps": 9}
    again = fit(cohort, "t2", config, tmp_path / "longer", **options)
    assert done(again, 1)["step"] > begun
    assert again.total(1) == begun + 9


def test_what_cannot_be_trained_longer_is_refused(trained, tmp_path):
    cohort, parent, _ = trained
    out = tmp_path / "out"
    unfinished = fit(cohort, "t2", short(), tmp_path / "half", device="cpu", scales=[0])
    with pytest.raises(InputError, match="half: the training of scale 1 is not finished"):
        longer((cohort, unfinished, None), out)
    lost = Run.open(shutil.copytree(parent.folder, tmp_path / "old"))
    (lost.folder_of(1) / CHECKPOINT).unlink()
    with pytest.raises(InputError, match=f"old: scale 1 has no {re.escape(CHECKPOINT)}"):
        longer((cohort, lost, None), out)
    longer((cohort, lost, None), tmp_path / "s0", scales=[0])  # whose state is there
    shared = Run.open(model.export(parent, tmp_path / "model"))
    with pytest.raises(InputError, match="exported models"):
        longer((cohort, shared, None), out)
    other = cohort_in(tmp_path / "other", splits=("train", "val"))
    with pytest.raises(InputError, match=r"data\.s2 is .* there and None here"):
        longer((other, parent, None), out)
    config = parent.config.updated(training={"learning_rate": 1.0})
    with pytest.raises(InputError, match=r"training\.learning_rate is 0\.002 there and 1\.0 here"):
        fit(cohort, "t2", config, out, device="cpu", parent=parent, more_steps=20)
    with pytest.raises(InputError, match="0 more steps: expected at least 1"):
        longer(trained, out, more_steps=0)
    said = f"20 and {MOST_STEPS} more steps: at most {MOST_STEPS}"
    with pytest.raises(InputError, match=said):
        longer(trained, out, more_steps=MOST_STEPS)
    with pytest.raises(InputError, match="scale 2 does not exist"):
        longer(trained, out, scales=[2])
    with pytest.raises(InputError, match="expected with a parent"):
        longer(trained, out, parent=None)
    assert not out.exists()
    with pytest.raises(InputError, match="holds another run"):
        longer(trained, parent.folder)


@pytest.mark.parametrize("note", ["3", "{}", '{"step": "20"}'])
def test_a_parent_that_does_not_tell_its_steps_is_refused(trained, tmp_path, note):
    parent = Run.open(shutil.copytree(trained[1].folder, tmp_path / "old"))
    path = parent.folder_of(1) / "done.json"
    path.write_text(note)
    with pytest.raises(InputError, match=re.escape(f"{path}: damaged: step is ")):
        parent.longer([1], 20)
    assert parent.longer([0], 20).steps == {"s0": 20}


def test_a_parent_that_changes_while_it_is_copied_is_refused(trained, tmp_path):
    parent = Run.open(shutil.copytree(trained[1].folder, tmp_path / "old"))
    heritage = parent.longer([1], 20)
    path = parent.folder_of(0) / WEIGHTS
    path.write_bytes(path.read_bytes() + b"\0")
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match=re.escape(f"{path}: has changed since it was read")):
        heritage.hand_on(parent.folder, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("wrong", [3, {"name": 1}, {"more": True}, {"weights": [1]}, {"x": 1}])
def test_a_damaged_parent_is_told(trained, tmp_path, wrong):
    shutil.copytree(trained[1].folder, tmp_path / "run")
    card = json.loads((tmp_path / "run/run.json").read_text())
    whole = {"name": "a", "key": "b", "weights": {}, "steps": {"s0": 1}, "more": 1}
    card["parent"] = whole | wrong if isinstance(wrong, dict) else wrong
    (tmp_path / "run/run.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"run\.json: parent: is"):
        Run.open(tmp_path / "run")


def test_the_command_trains_longer(trained, tmp_path):
    cohort, parent, cache = trained
    manifest = tmp_path / "manifest.csv"
    lines = ["subject,role,modality,path,licence,citation,split"]
    lines += [f"{s.name},image,t2,{str(s.images['t2'])[1:]},own,none,{s.split}" for s in cohort]
    manifest.write_text("\n".join(lines) + "\n")
    words = ("train", manifest, "--root", "/", "--out", tmp_path / "longer", "--cache", cache)
    more = ("--parent", parent.folder, "--more-steps", 20, "--device", "cpu")
    first = msgan_cli(*words, *more, "--scale", "1")
    assert f"{tmp_path / 'longer'}: cascade of scales 0 to 1 for t2: ready" in first.stdout
    assert "everything" in msgan_cli(*words, "--resume", "--device", "cpu").stdout
    assert "pass --resume" in fails(*words, *more)
    assert "expected both" in fails(*words, "--more-steps", 20)
    assert "expected both" in fails(*words, "--parent", parent.folder)
    other = (*words[:-3], tmp_path / "other", *words[-2:])
    assert "seed is 0 there and 5 here" in fails(*other, *more, "--seed", 5)
    assert not list((tmp_path / "other").glob("*"))
    msgan_cli("report", tmp_path / "longer", "--out", tmp_path / "page")
    page = (tmp_path / "page" / "report.html").read_text()
    assert f"run run ({parent.key}), 20 steps more: s1 from step 20" in page
