"""Renders pages from the files in ``templates``; all text is escaped."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

CAUTION = (
    "Translated images are generated: they must not be read as if they were acquired. Results of "
    "the preset smoke show that everything runs and make no claim of quality."
)
"""Stands on every page."""

FOLDER = Path(__file__).parent / "templates"


def render(template: str, /, **content: Any) -> str:
    """The page of a template.

    Args:
        template: File in ``templates``.
        content: By name; what a template asks for and is missing here is an error.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(**content)


def hash_of(script: str) -> str:
    """What a page's Content-Security-Policy calls a script that it lets run, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
