"""The option ``--padding``: which value marks voxels outside of the measured image."""

from __future__ import annotations

from typing import Annotated

import typer

Padding = Annotated[
    str | None,
    typer.Option(
        metavar="nan|VALUE",
        help="Voxels to treat as background: nan, or one value, such as -2000.",
        show_default="none; NaN is refused",
    ),
]
