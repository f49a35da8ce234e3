"""Pages made from notebooks: complete, described, quiet, and alone on a machine without network."""

import base64
import io
import warnings
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from msgan.plots.shown import Described
from msgan.plots.style import new_figure
from msgan.report.check import page_faults
from msgan.report.html import to_html
from msgan.report.runner import run_notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"


def png(*colours: int) -> str:
    """Encoded as in a notebook: lines of 76 characters."""
    file = io.BytesIO()
    picture = np.repeat(np.array([colours], np.uint8), 3, axis=0)
    Image.fromarray(picture).save(file, "PNG")
    return base64.encodebytes(file.getvalue()).decode()


def figure(*colours: int, alt: str = "A caption.") -> Any:
    data = {"image/png": png(*colours), "text/plain": "<Figure size 3x3 with 1 Axes>"}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt}} if alt else {})


def shown(data: dict[str, Any]) -> Any:
    return new_output("display_data", data)


def page_of(*outputs: Any, text: str = "# Title") -> tuple[Any, str]:
    cell = new_code_cell("1", execution_count=3, outputs=list(outputs))
    notebook = new_notebook(cells=[new_markdown_cell(text), cell])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbconvert's own, about what the tests leave out
        return notebook, to_html(notebook, Path(), "a page")


def test_a_page_with_figures_tables_and_stills_has_no_fault() -> None:
    still = f'<figure><img alt="T1" src="data:image/png;base64,{png(1, 2)}"></figure>'
    outputs = (
        figure(0, 9, alt='Bright & "dark".'),
        shown({"image/png": png(1, 2), "text/html": still, "text/plain": "T1"}),
        shown({WIDGET: {"model_id": "a"}, "text/plain": "Slider"}),
        shown({"text/html": "<table><tr><td>1</td></tr></table>", "text/plain": "1"}),
        new_output("stream", name="stdout", text="12 subjects"),
    )
    text = "Costs $5 to $6; `$x$` is code; see [here](https://example.org/)."
    notebook, page = page_of(*outputs, text=text)
    assert page_faults(notebook, page) == []
    assert 'alt="Bright &amp; &#34;dark&#34;."' in page or "alt='Bright &amp; \"dark\".'" in page
    assert page.count("<img") == 2
    assert "https://example.org/" in page  # a link is followed by hand only


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (figure(7, 7), "cell 3 has an empty picture"),
        (figure(0, 9, alt=""), "picture 1 of the page has no description"),
        (
            shown({"text/plain": "<Figure size 640x480 with 0 Axes>"}),
            "cell 3 has a figure of which the page shows only the name",
        ),
        (
            shown({WIDGET: {"model_id": "a"}, "text/plain": "Slider"}),
            "cell 3 shows controls that leave no picture",
        ),
        (
            new_output("stream", name="stderr", text="\nUserWarning: 2 < 3\n  more"),
            "cell 3 writes to stderr: UserWarning: 2 < 3",
        ),
        (
            new_output("error", ename="ValueError", evalue="no", traceback=[]),
            "cell 3 raises ValueError",
        ),
        (
            shown({"text/html": '<script src="//cdn.org/a.js"></script>', "text/plain": ""}),
            "the page loads //cdn.org/a.js",
        ),
        (
            shown({"text/html": '<img alt="A" src="https://x.org/a.png">', "text/plain": ""}),
            "the page loads https://x.org/a.png",
        ),
        (
            shown({"text/html": "<style>@import 'https://x.org/a.css';</style>"}),
            "the page loads https://x.org/a.css",
        ),
        (
            shown({"text/html": '<p style="background: url(http://x.org/b.png)">'}),
            "the page loads http://x.org/b.png",
        ),
        (
            shown({"text/html": "<script>import('https://x.org/m.mjs')</script>"}),
            "the page loads https://x.org/m.mjs",
        ),
    ],
)
def test_each_defect_is_named_once(output: Any, fault: str) -> None:
    assert page_faults(*page_of(output)) == [fault]


def test_a_picture_that_is_not_in_the_page_is_missed() -> None:
    notebook, page = page_of(figure(0, 9), figure(9, 0))
    lost = "".join(png(9, 0).split())
    without = page.replace(lost, "").replace(png(9, 0), "").replace(png(9, 0).strip(), "")
    assert page_faults(notebook, without) == ["cell 3 has a picture that the page lacks"]


@pytest.mark.parametrize("text", ["Loss $x^2$ falls", "$$\nx\n$$", r"\(x\)"])
def test_formulas_are_named(text: str) -> None:
    faults = page_faults(*page_of(text=text))
    assert len(faults) == 1
    assert "has a formula" in faults[0]


def test_widget_state_and_diagrams_bring_no_library() -> None:
    cell = new_markdown_cell("```mermaid\ngraph TD; A-->B\n```")
    notebook = new_notebook(cells=[cell], metadata={"widgets": {}})
    page = to_html(notebook, Path(), "a page")
    assert "<script" not in page
    assert page_faults(notebook, page) == []


# --- what is shown of a figure -----------------------------------------------------------------


def test_a_caption_goes_with_the_picture() -> None:
    made = new_figure(2, 1, "What to\n see.")
    assert Described(lambda figure: "png")(made) == ("png", {"alt": "What to see."})
    sized = Described(lambda figure: ("png", {"width": 9}))
    assert sized(made) == ("png", {"width": 9, "alt": "What to see."})
    assert Described(lambda figure: None)(made) is None
    assert Described(lambda figure: "png")(new_figure(2, 1, "")) == "png"


# --- with a real kernel ------------------------------------------------------------------------


def test_a_notebook_fails_by_its_page(tmp_path: Path) -> None:
    code = (
        "from msgan.plots.style import new_figure",
        "import sys; print('careful', file=sys.stderr)",
        "a = new_figure(2, 1, 'A line.'); a.subplots().plot([0, 1]); a",
        "import matplotlib.pyplot as plt; plt.plot([0, 1]); plt.show()",
    )
    cells = [new_markdown_cell("# Careful"), *map(new_code_cell, code)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_careful.ipynb")
    (run,) = run_notebooks(tmp_path, tmp_path / "out", "smoke", say=str)
    assert run.status == "failed"
    assert run.error == (
        "cell 2 writes to stderr: careful; picture 2 of the page has no description"
    )
    page = (tmp_path / "out" / "01_careful.html").read_text(encoding="utf-8")
    assert 'alt="A line."' in page
    assert "writes to stderr: careful" in (tmp_path / "out" / "index.html").read_text()
