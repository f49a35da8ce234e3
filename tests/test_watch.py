"""What a notebook shows while it trains, and that it changes nothing."""

import base64
import io
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from helpers import cohort_in, equal, run_of, tiny
from PIL import Image

from msgan.methods import cascade, watch, workers
from msgan.methods.watch import Watch, counting, middle
from msgan.printing import PROGRESS
from msgan.report.execute import execute


@pytest.fixture
def shown(monkeypatch) -> list[tuple[str, str]]:
    """What a cell would show, as HTML and as text, one after the other."""
    own: list[tuple[str, str]] = []
    monkeypatch.setattr(watch, "cell", lambda: lambda html, text: own.append((html, text)))
    monkeypatch.setattr(watch, "EVERY", 0.0)
    return own


@pytest.fixture(scope="module", autouse=True)
def calm(one_thread):
    """One thread."""


def test_a_training_is_shown_and_has_the_same_weights(dims, shown, tmp_path):
    cohort, config = cohort_in(tmp_path, dims), tiny(dims, steps=20, lr_steps=40)
    watched = cascade.fit(cohort, "t2", config, tmp_path / "a", scales=[0, 1], device="cpu")
    pages = [html for html, _ in shown]
    assert pages[0].endswith("<div>preparing images</div>")
    assert any(
        re.search(r'<progress value="20" max="40".* s0: step 20 of 40, L1 0\.\d{4}.* left<', page)
        for page in pages
    )
    assert any(
        'alt="s0, a validation sample: generated (left) and real (right)"' in p for p in pages
    )
    last = r"t2: s0: step 40 of 40, L1 [\d.]+, validation L1 [\d.]+; s1: step 20 of 20, L1 [^;]+"
    assert re.fullmatch(last, shown[-1][1])
    assert "<progress" not in pages[-1]
    assert "<img" not in pages[-1]

    count = len(shown)
    cascade.fit(cohort, "t2", config, tmp_path / "a", scales=[0, 1], device="cpu")
    assert len(shown) == count  # nothing was left to train
    rows: list[dict] = []
    plain = cascade.fit(
        cohort, "t2", config, tmp_path / "b", scales=[0, 1], device="cpu", report=rows.append
    )
    assert len(shown) == count  # who gets the rows shows them
    assert all(equal(watched.folder, plain.folder, scale) for scale in (0, 1))


def test_pictures_are_seldom(shown, tmp_path):
    looked = []

    def look():
        looked.append(1)
        raise AssertionError("too soon")

    run = cascade.fit(cohort_in(tmp_path), "t2", tiny(), tmp_path / "r", scales=[], device="cpu")
    own = Watch(run, [0], lambda html, text: None)
    own._pictured = watch.perf_counter()
    own.glimpse(0, look)
    assert not looked


def test_the_middle_is_shown_upright():
    image = np.arange(24.0).reshape(1, 1, 2, 3, 4)
    assert np.array_equal(middle(image), np.rot90(image[0, 0, :, :, 2]))
    assert np.array_equal(middle(image[..., 0]), image[0, 0, :, :, 0])


def test_jobs_are_counted(shown, monkeypatch):
    with counting("trainings", 3) as done:
        done(1)
        done(3)
    texts = [text for _, text in shown]
    assert texts[0] == "0 of 3 trainings done"
    assert re.fullmatch(r"1 of 3 trainings done, about .* left", texts[1])
    assert texts[2] == "3 of 3 trainings done"


def test_outside_a_notebook_nothing_is_shown():
    assert watch.cell() is None
    code = "import sys; from msgan.methods.watch import cell; assert cell() is None"
    code += "; assert 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cell_shows_one_output_and_replaces_it(monkeypatch):
    shown, replaced = [], []
    handle = SimpleNamespace(update=lambda bundle, raw: replaced.append((bundle, raw)))
    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: kernel)
    monkeypatch.setattr(
        "IPython.display.display",
        lambda bundle, raw, display_id: shown.append((bundle, raw, display_id)) or handle,
    )
    monkeypatch.setenv(PROGRESS, "0")
    assert watch.cell() is None
    monkeypatch.delenv(PROGRESS)
    show = watch.cell()
    show("<b>1</b>", "1")
    show("<b>2</b>", "2")
    show("<b>3</b>", "3")
    assert shown == [({"text/html": "<b>1</b>", "text/plain": "1"}, True, True)]
    assert replaced == [
        ({"text/html": f"<b>{k}</b>", "text/plain": f"{k}"}, True) for k in ("2", "3")
    ]


def test_rows_in_quick_succession_are_shown_at_once_only_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "EVERY", 1e9)
    texts: list[str] = []
    own = Watch(run_of(tmp_path, tiny()), [1], lambda html, text: texts.append(text))
    row = {"scale": 1, "l1": 0.25, "seconds": 2.0}
    for step in (1, 2, 3):
        own.report({**row, "step": step})
    assert texts == ["s1: 4 steps"]
    own.report({**row, "step": 4})
    assert texts[1:] == ["s1: step 4 of 4, L1 0.2500"]  # nothing is left, nor was it validated
    own.close()
    assert texts[-1] == "t2: s1: step 4 of 4, L1 0.2500"


def test_a_training_of_which_nothing_was_logged_says_so(tmp_path):
    texts: list[str] = []
    Watch(run_of(tmp_path, tiny()), [0, 1], lambda html, text: texts.append(text)).close()
    assert texts == ["s0: 4 steps\ns1: 4 steps", "t2: no step was logged"]


CELL = """
import os
{more}
from msgan.methods.watch import counting
with counting("trainings", 2) as done:
    done(1)
    done(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", f"del os.environ['{PROGRESS}']"], ids=["run", "by hand"])
def test_a_notebook_is_quiet_where_it_is_run_for_its_page(more, tmp_path):
    code = nbformat.v4.new_code_cell(CELL.format(more=more))
    notebook = nbformat.v4.new_notebook(cells=[code])
    executed, error, _ = execute(notebook, tmp_path, tmp_path, {})
    assert not error
    outputs = executed.cells[-1].outputs
    if more:
        (only,) = outputs  # one output that was replaced, not one after the other
        assert only.data["text/plain"] == "2 of 2 trainings done"
        assert only.data["text/html"].startswith('<div><progress value="2" max="2"')
    else:
        assert outputs == []


def test_parallel_jobs_are_counted_in_order(shown, monkeypatch):
    monkeypatch.setattr(workers.torch, "get_num_threads", lambda: 2)
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(workers, "counting", counting)
    done = workers.run_parallel({k: partial(str, k) for k in (1, 2, 3)}, "cpu")
    assert done == {1: "1", 2: "2", 3: "3"}
    assert shown[-1][1] == "3 of 3 trainings done"


def test_the_two_images_of_a_picture_are_apart_and_not_blended():
    black, grey = np.full((20, 24), -1.0), np.zeros((20, 24))
    with Image.open(io.BytesIO(base64.b64decode(watch._png([black, grey])))) as picture:
        seen = np.asarray(picture)
    assert seen.shape == (watch.SIDE, 2 * 192 + watch.GAP)
    assert set(np.unique(seen[:, :192])) == {0}
    assert set(np.unique(seen[:, 192 : 192 + watch.GAP])) == {255}
    assert set(np.unique(seen[:, 192 + watch.GAP :])) == {128}
