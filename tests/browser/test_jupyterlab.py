"""Notebooks in a real browser: they run, their pictures answer, and nothing leaves the machine."""

from typing import Any

import pytest
from notebook_page import NotebookPage, changed, pixels, slide, until

pytestmark = pytest.mark.slow

RUN = 240
"""Seconds a notebook may take; thirty on two quiet cores."""


def outputs(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [o for c in content["cells"] if c["cell_type"] == "code" for o in c["outputs"]]


def assert_new_picture(notebook: NotebookPage, picture: Any, before: Any) -> None:
    """The picture becomes another one, in more than a pixel here and there."""
    until(lambda: changed(before, pixels(picture)) > 0.02, 15, "another picture", notebook.page)


def test_start_here_runs_and_its_slider_moves_the_picture(notebook: NotebookPage) -> None:
    name = "00_start_here.ipynb"
    assert 'preset = "smoke"' in (notebook.lab.folder / name).read_text().replace('\\"', '"')
    notebook.open(name)
    notebook.shoot("00_start_here_opened")
    notebook.run_all(RUN)
    assert notebook.errors() == []

    picture = notebook.page.locator(".jp-OutputArea-output .widget-image").last
    slider = notebook.page.locator(".widget-slider").filter(visible=True).last
    before = pixels(picture)
    notebook.shoot("00_start_here_before")
    slide(notebook.page, slider, 0.75)
    assert_new_picture(notebook, picture, before)
    notebook.shoot("00_start_here_after")

    kinds = [output["output_type"] for output in outputs(notebook.saved(name))]
    assert "error" not in kinds
    assert "display_data" in kinds
    assert notebook.faults == []
