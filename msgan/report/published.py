"""What the papers printed, as constants, beside what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgan.metrics import psnr_from_mse
from msgan.types import InputError

if TYPE_CHECKING:
    import pandas as pd

EXTENDED_1 = "Uzunova et al. 2020, table 1"
EXTENDED_2 = "Uzunova et al. 2020, table 2"
MICCAI_1 = "Uzunova et al. 2019, table 1"

HALF = 0.0005
"""Errors are printed with three digits after the point."""

HALF_DB = 0.05
"""PSNR is printed with one."""


@dataclass(frozen=True)
class Printed:
    """One row of a published table; intensities in [0, 1], means over subjects.

    Attributes:
        task: What is translated to what.
        method: As our tables call it, where we have it.
        ssim: Higher is better.
        mae: Lower is better.
        mse: Lower is better.
        psnr: dB; None where the table has none.
        source: Paper and table.
    """

    task: str
    method: str
    ssim: float
    mae: float
    mse: float
    psnr: float | None
    source: str

    @property
    def psnr_of_mse(self) -> tuple[float, float]:
        """Least and largest PSNR (dB) of an MSE that rounds to the printed one."""
        return psnr_from_mse(self.mse + HALF), psnr_from_mse(max(self.mse - HALF, 0.0))

    @property
    def possible(self) -> bool:
        """Whether the printed PSNR can be a mean over subjects with the printed mean MSE.

        A mean of PSNRs is at least the PSNR of the mean MSE (Jensen). That it is far above is
        possible, but only where subjects differ by orders of magnitude.
        """
        return self.psnr is None or self.psnr + HALF_DB >= self.psnr_of_mse[0]


PRINTED = (
    Printed("b80f→b20f", "cascade", 0.773, 0.033, 0.004, 24.1, EXTENDED_1),
    Printed("b80f→b20f", "patch GAN", 0.706, 0.049, 0.008, 21.2, EXTENDED_1),
    Printed("b80f→b20f", "small GAN", 0.633, 0.058, 0.011, 19.5, EXTENDED_1),
    Printed("b80f→b20f", "non-local means", 0.773, 0.031, 0.004, 19.5, EXTENDED_1),
    Printed("b80f→b20f", "source", 0.480, 0.065, 0.012, 19.2, EXTENDED_1),
    Printed("b50f→b20f", "cascade", 0.794, 0.033, 0.003, 24.8, EXTENDED_1),
    Printed("b50f→b20f", "patch GAN", 0.698, 0.050, 0.008, 21.1, EXTENDED_1),
    Printed("b50f→b20f", "small GAN", 0.636, 0.055, 0.012, 19.3, EXTENDED_1),
    Printed("b50f→b20f", "non-local means", 0.478, 0.283, 0.213, 19.3, EXTENDED_1),
    Printed("b50f→b20f", "source", 0.722, 0.028, 0.002, 26.3, EXTENDED_1),
    Printed("t1→t2", "cascade", 0.911, 0.017, 0.003, 26.0, EXTENDED_2),
    Printed("t1→t2", "REPLICA", 0.854, 0.017, 0.003, 26.9, EXTENDED_2),
    Printed("t1→t2", "MedSynth", 0.613, 0.025, 0.003, 27.0, EXTENDED_2),
    Printed("flair→t2", "cascade", 0.905, 0.021, 0.004, 24.6, EXTENDED_2),
    Printed("flair→t2", "REPLICA", 0.833, 0.019, 0.002, 25.9, EXTENDED_2),
    Printed("flair→t2", "MedSynth", 0.734, 0.020, 0.002, 27.5, EXTENDED_2),
    Printed("x-ray", "cascade", 0.711, 0.104, 0.022, None, MICCAI_1),
    Printed("x-ray", "small GAN", 0.673, 0.108, 0.024, None, MICCAI_1),
    Printed("x-ray", "patch GAN", 0.520, 0.200, 0.069, None, MICCAI_1),
)


def published(*tasks: str) -> pd.DataFrame:
    """The printed rows of tasks, and the PSNR that their printed MSE allows.

    Args:
        tasks: As ``b80f→b20f``, ``b50f→b20f``, ``t1→t2``, ``flair→t2``, ``x-ray``; none: all.

    Returns:
        ``task``, ``method``, ``ssim``, ``mae``, ``mse``, ``psnr`` (as printed, dB),
        ``psnr_from_mse`` (recomputed from the printed MSE), ``difference`` (printed - recomputed,
        dB), ``possible`` (:attr:`Printed.possible`), ``source``.

    Raises:
        InputError: Nothing was printed for a task.
    """
    import pandas as pd

    known = tuple(dict.fromkeys(row.task for row in PRINTED))
    for task in tasks:
        if task not in known:
            raise InputError(f"task {task!r} is none of {', '.join(known)}")
    return pd.DataFrame(
        {
            "task": row.task,
            "method": row.method,
            "ssim": row.ssim,
            "mae": row.mae,
            "mse": row.mse,
            "psnr": row.psnr,
            "psnr_from_mse": psnr_from_mse(row.mse),
            "difference": None if row.psnr is None else row.psnr - psnr_from_mse(row.mse),
            "possible": row.possible,
            "source": row.source,
        }
        for row in PRINTED
        if row.task in (tasks or known)
    )
