"""Notebooks in a real browser: they run, their pictures answer, and nothing leaves the machine."""

import re
from typing import Any

import nbformat
import numpy as np
import pytest
from notebook_page import NotebookPage, changed, pixels, slide, until

from msgan.report.check import page_faults
from msgan.report.html import to_html

pytestmark = pytest.mark.slow

RUN = 240
"""Seconds a notebook may take; thirty on two quiet cores."""

ANSWER = 20
"""Seconds a picture may take; a tenth of one on two quiet cores."""


def opened(notebook: NotebookPage, stem: str) -> None:
    """Run all of a notebook, which fails if one of its cells does."""
    name = f"{stem}.ipynb"
    source = (notebook.lab.folder / name).read_text(encoding="utf-8")
    assert r"preset = \"smoke\"" in source
    notebook.open(name)
    notebook.shoot(f"{stem}_opened")
    notebook.run_all(RUN)
    assert notebook.errors() == []


def closed(notebook: NotebookPage, stem: str) -> None:
    """What the console has said, what is in the file afterwards, and the page made from it."""
    notebook.shoot(stem)
    content = notebook.saved(f"{stem}.ipynb")
    assert notebook.errors() == []
    assert notebook.broken() == []
    assert notebook.faults == []

    html = to_html(content, notebook.lab.folder, stem)
    assert page_faults(content, html) == []
    file = notebook.lab.folder.parent / f"{stem}.html"
    file.write_text(html, encoding="utf-8")
    notebook.page.goto(file.as_uri())
    pictures = [
        output
        for cell in content.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
    assert notebook.page.locator("img:visible").count() == len(pictures)
    assert notebook.broken() == []
    assert notebook.faults == []
    notebook.shoot(f"{stem}_page", whole=True)


class Panes:
    """The pictures of a viewer, and whether what is done to them shows."""

    def __init__(self, notebook: NotebookPage) -> None:
        self.notebook = notebook
        self.all = notebook.page.locator(".msgan-canvas .pane").filter(visible=True)

    def seen(self) -> list[np.ndarray]:
        return [pixels(pane) for pane in self.all.all()]

    def differ(self, before: list[np.ndarray], share: float = 0.01) -> bool:
        now = self.seen()
        pairs = zip(before, now, strict=False)
        return len(now) != len(before) or any(changed(a, b) > share for a, b in pairs)

    def wait(self, before: list[np.ndarray], what: str) -> None:
        """Fails unless the pictures become others, in more than a pixel here and there."""
        until(
            lambda: self.differ(before), ANSWER, f"other pictures after {what}", self.notebook.page
        )

    def wait_one(self, pane: Any, before: np.ndarray, what: str) -> np.ndarray:
        """The new look of one picture."""
        page = self.notebook.page
        until(lambda: changed(before, pixels(pane)) > 0.01, ANSWER, f"a new one after {what}", page)
        page.wait_for_timeout(300)  # what was sent before is drawn
        return pixels(pane)

    def loaded(self) -> None:
        """Wait until there is something in the pictures."""
        bright = lambda: [float(p.max()) > 100 for p in self.seen()]  # noqa: E731
        until(
            lambda: len(found := bright()) > 0 and all(found),
            ANSWER,
            "pictures",
            self.notebook.page,
        )


def sliders(notebook: NotebookPage) -> Any:
    return notebook.page.locator(".widget-slider").filter(visible=True)


def range_of(notebook: NotebookPage) -> tuple[str, str]:
    """Ends of the window, as they are written beside its slider."""
    ends = [notebook.page.locator(f".msgan-{name} input").first for name in ("low", "high")]
    low, high = (str(end.input_value()) for end in ends)
    return low, high


def test_start_here_runs_and_its_pictures_answer(notebook: NotebookPage) -> None:
    opened(notebook, "00_start_here")
    panes = Panes(notebook)
    panes.loaded()
    assert panes.all.count() == 3  # axial, coronal, sagittal

    before = panes.seen()
    notebook.shoot("00_start_here_before")
    axial = sliders(notebook).filter(has_text=re.compile("axial"))
    slide(notebook.page, axial, 0.7)
    panes.wait(before, "the slider")

    before = panes.seen()
    notebook.page.get_by_role("button", name="real T2", exact=True).click()
    panes.wait(before, "the other image")
    window = notebook.page.locator(".widget-dropdown", has_text="window").locator("select")
    assert window.evaluate("menu => menu.selectedIndex") == 0  # not one that nobody has chosen
    low, high = range_of(notebook)
    assert low == "0"
    assert re.fullmatch(r"\d{3,4}", high)  # no digit behind the point
    closed(notebook, "00_start_here")


TRAINING = """
from pathlib import Path
from msgan import presets
from msgan.methods import watch
from msgan.methods.cascade import fit
from msgan.phantoms.cohorts import brain_cohort

watch.PICTURE_EVERY = 0.0  # of so short a training no picture would be seen
config = presets.preset("smoke").updated(training={"lr_steps": 150, "validate_every": 15})
run = fit(brain_cohort("smoke", Path("shared")), "t2", config, Path("watched"), scales=[0])
"""


def test_a_training_is_watched(notebook: NotebookPage) -> None:
    own = nbformat.read(notebook.lab.folder / "00_start_here.ipynb", as_version=4)
    own.cells = [nbformat.v4.new_code_cell(TRAINING.strip())]
    nbformat.write(own, notebook.lab.folder / "watched.ipynb")
    notebook.open("watched.ipynb")
    notebook.menu("Run", "Run All Cells")
    output = notebook.page.locator(".jp-OutputArea-output")
    bar = output.locator("progress")
    until(lambda: bar.count() == 1, RUN, "a bar", notebook.page)
    place = lambda: float(bar.get_attribute("value", timeout=1000) or 0)  # noqa: E731
    until(lambda: 0 < place() < 150, RUN, "steps", notebook.page)
    picture = output.locator("img[alt*='generated (left) and real (right)']")
    picture.wait_for(timeout=1000 * RUN)
    text = output.inner_text()
    assert re.search(r"s0: step \d+ of 150, L1 0\.\d{4}.*, [\d.:]+ (s|min) left", text), text
    assert notebook.broken() == []
    notebook.shoot("watched")
    before = place()
    until(lambda: place() > before, RUN, "more steps", notebook.page)
    until(lambda: bar.count() == 0, RUN, "the end", notebook.page)
    notebook.idle()
    assert re.fullmatch(r"t2: s0: step 150 of 150, L1 [\d.]+, .*", output.inner_text().strip())
    assert notebook.errors() == []
    assert notebook.faults == []


def test_explore_changes_subject_and_answers_keys(notebook: NotebookPage) -> None:
    if not (notebook.lab.results / "00_start_here" / "results.json").is_file():
        opened(notebook, "00_start_here")  # run alone: two subjects must have been translated
    opened(notebook, "13_explore")
    explorer = notebook.page.locator(".msgan-explorer").last
    panes = Panes(notebook)
    panes.loaded()
    # The menu stands at what the bundled model has made, of one person; this is another study.
    field = explorer.locator(".msgan-choice input")
    assert "00 start here, first" in field.input_value()
    field.click()
    field.fill("00 start here 2 subjects")
    notebook.page.keyboard.press("Enter")
    notebook.idle()
    panes.loaded()
    subject = explorer.locator(".msgan-subject select")
    subjects = subject.locator("option").all_text_contents()
    assert len(subjects) == 2

    before = panes.seen()
    notebook.shoot("13_explore_first_subject")
    subject.select_option(index=1)
    panes.wait(before, "another subject")
    notebook.shoot("13_explore_second_subject")

    before = panes.seen()
    slide(notebook.page, sliders(notebook).filter(has_text=re.compile("axial")), 0.65)
    panes.wait(before, "the slider")

    low, high = range_of(notebook)
    assert low == "0"
    assert re.fullmatch(r"\d{3,4}", high)  # no digit behind the point

    pane = panes.all.first
    pane.click()
    notebook.page.wait_for_timeout(500)
    look = pixels(pane)
    for key in ("ArrowUp", "ArrowUp", "PageDown", "ArrowLeft"):
        notebook.page.keyboard.press(key)
        look = panes.wait_one(pane, look, key)

    views = explorer.locator(".msgan-view button").all_text_contents()
    assert {"compare", "curves", "scores"} <= {view.strip() for view in views}
    for view in [*views[1:], "compare"]:
        chosen = explorer.locator(".msgan-view button", has_text=view)
        chosen.click()
        active = explorer.locator(".msgan-view .mod-active", has_text=view)
        active.wait_for(timeout=1000 * ANSWER)
        notebook.idle()
        notebook.shoot(f"13_explore_{view}")
        assert notebook.broken() == []
    closed(notebook, "13_explore")
