"""A trained cascade whose generators are shown less than they were trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from msgan.runs.run import Run
from msgan.types import InputError

INPUTS = ("sketch", "context")
"""What the generators of s1..sn see."""


def ablated(run: Run, what: Literal["sketch", "context"]) -> Run:
    """The run with one input of s1..sn blacked out in translation (2020, section 3.2.2, fig. 11).

    The networks stay as they were trained, on both inputs; what is blacked out is constant, as for
    a run that is ``drop_inputs`` to it (:class:`msgan.config.CascadeConfig`), which was trained so
    too: the sketch with its labels is 0, the context is background. s0 sees its sketch all the
    same. Without context the scales below the last have no say and are not made.

    Args:
        run: Trained with both inputs.
        what: ``sketch`` or ``context``.

    Returns:
        A view: nothing is written, and to go on training it is refused.

    Raises:
        InputError: There is no such input, or one is missing already.
    """
    if what not in INPUTS:
        raise InputError(f"black out {what!r}: is none of {', '.join(INPUTS)}")
    if run.config.drop_inputs:
        trained = f"{run.folder}: was trained without the {run.config.drop_inputs[0]}"
        raise InputError(f"{trained}: expected a run that sees both")
    return replace(run, config=run.config.updated(drop_inputs=(what,)))
