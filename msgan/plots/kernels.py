"""CT kernels: edges and noise of the kernel model against filtered back-projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from msgan.plots.style import WIDTH, colours, new_figure, settled, style
from msgan.types import Array, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class BothWays(Protocol):
    """What :func:`msgan.phantoms.back_projection.back_projection` gives."""

    kernel: str
    distance: Array
    edge: Array
    edge_projected: Array
    frequency: Array
    nps: Array
    nps_projected: Array
    edge_difference: float
    nps_difference: float


def kernel_check(checks: Sequence[BothWays], *, caption: str = "") -> Figure:
    """Profile of an edge, and noise power spectrum, a colour for each kernel.

    Args:
        checks: Results of :func:`msgan.phantoms.back_projection.back_projection`.
        caption: What to see; how to read the lines is added.

    Raises:
        InputError: nothing to draw.
    """
    if not checks:
        raise InputError("checks: no kernel: expected at least one")
    edge = max(c.edge_difference for c in checks)
    noise = max(c.nps_difference for c in checks)
    note = f"{caption} Lines: kernel model; dots: filtered back-projection with the same kernel "
    note += (
        f"(scikit-image). Edges differ by at most {100 * edge:.0f} % of the step, spectra by at "
    )
    note += (
        f"most {100 * noise:.0f} % of the variance; projecting interpolates, the model does not. "
    )
    note += "Spectra are scaled to the same variance."
    with style():
        figure = new_figure(WIDTH, 2.9, note)
        left, right = figure.subplots(1, 2)
        for check, colour in zip(checks, colours(), strict=False):
            dots = {"color": colour, "marker": "o", "ms": 3, "ls": "none"}
            left.plot(check.distance, check.edge, color=colour, label=check.kernel)
            left.plot(check.distance, check.edge_projected, **dots)
            right.plot(check.frequency, check.nps, color=colour)
            right.plot(check.frequency, check.nps_projected, **dots)
        left.set(xlabel="distance from the edge (mm)", ylabel="CT number (HU)")
        right.set(xlabel="spatial frequency (1/mm)", ylabel="noise power (HU² mm²)")
        left.set_xlim(-4, 4)
        right.set_ylim(bottom=0)
        left.set_title("profile of an edge")
        right.set_title("radial noise power spectrum")
        figure.legend(loc="outside upper right", ncols=len(checks))
    return settled(figure)
