"""Links from a page to files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def link(path: Path, page: Path) -> str:
    """The address of a file or folder for a page in the folder ``page``, relative to it.

    Names are quoted, and no name is taken for the scheme of an address (``javascript:``). Empty
    where nothing relative leads there, as to another drive.

    Example:
        >>> link(Path("runs/a b#1.nii"), Path("runs/report"))
        '../a%20b%231.nii'
        >>> link(Path("javascript:x"), Path())
        './javascript%3Ax'
    """
    try:
        relative = Path(os.path.relpath(path, page)).as_posix()
    except ValueError:
        return ""
    address = quote(relative, errors="surrogateescape")
    return address if address.startswith("../") else f"./{address}"
