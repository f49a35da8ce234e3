"""The option that says which voxels stand for nothing."""

from __future__ import annotations

from typing import Annotated

import typer

Padding = Annotated[
    str | None,
    typer.Option(
        metavar="nan|VALUE",
        help="Voxels that count as background: NaN, or those of one value, as -2000.",
        show_default="none; NaN is refused",
    ),
]
