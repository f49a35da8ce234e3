"""An executed notebook as one page that loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
{%- for name in ('alt', 'width', 'height') %}
{%- set value = output | get_metadata(name, 'image/png') %}
{%- if value is not none %} {{ name }}="{{ value | string | escape_html }}"{% endif %}
{%- endfor %}>
</div>
{% endblock %}
"""
"""JupyterLab's look without the libraries that its pages load: for formulas, diagrams, widgets.

Widgets leave a still picture; formulas and diagrams are none of a notebook here. The text that
describes a figure is kept, which the original drops.
"""


def to_html(notebook: Any, folder: Path, title: str) -> str:
    """The notebook as one page, figures and the pictures its text shows included.

    Args:
        notebook: As executed.
        folder: Where the notebook lies, for the pictures of its text.
        title: Of the page.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True, raw_template=_TEMPLATE)
    resources = {"metadata": {"name": title, "path": str(folder)}}
    return str(exporter.from_notebook_node(notebook, resources=resources)[0])
