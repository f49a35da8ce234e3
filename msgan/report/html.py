"""An executed notebook as one HTML page that loads nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgan.report.around import BEGIN, CONTENTS, END, with_contents
from msgan.report.notebook_tables import readable
from msgan.report.template import CAUTION, FOLDER


def to_html(notebook: Any, folder: Path, title: str) -> str:
    """The notebook as one page, figures and the pictures its text shows included.

    JupyterLab's look without the libraries that its pages load: for formulas, diagrams, widgets.
    Widgets leave a still picture; formulas and diagrams are none of a notebook here. The text
    that describes a figure is kept, which the original drops, and is its caption on a narrow
    screen. The best values of tables are marked, long tables of tests are folded. Links to other
    pages have their place; :func:`msgan.report.around.connect` fills it.

    Args:
        notebook: As executed.
        folder: Where the notebook lies, for the pictures of its text.
        title: Of the page.
    """
    from nbconvert import HTMLExporter

    template = (FOLDER / "notebook.html").read_text(encoding="utf-8")
    exporter = HTMLExporter(embed_images=True, raw_template=template)
    resources = {
        "metadata": {"name": title, "path": str(folder)},
        "caution": CAUTION,
        "contents": CONTENTS,
        "around": BEGIN + END,
        "style": (FOLDER / "notebook.css").read_text(encoding="utf-8"),
    }
    return with_contents(str(exporter.from_notebook_node(readable(notebook), resources)[0]))
