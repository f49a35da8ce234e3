"""The published values of the papers as constants, and values that follow from them."""

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
MICCAI_32 = "Uzunova et al. 2019, section 3.2"
EXTENDED_31 = "Uzunova et al. 2020, section 3.1"
EXTENDED_321 = "Uzunova et al. 2020, section 3.2.1"

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
        sd: Standard deviations over subjects of SSIM, MAE and MSE; only 2019, table 1, has them.
    """

    task: str
    method: str
    ssim: float
    mae: float
    mse: float
    psnr: float | None
    source: str
    sd: tuple[float, float, float] | None = None

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


# The means of b80f→b20f stand in both papers, their standard deviations in that of 2019.
PRINTED = (
    Printed("b80f→b20f", "cascade", 0.773, 0.033, 0.004, 24.1, EXTENDED_1, (0.025, 0.004, 0.001)),
    Printed("b80f→b20f", "patch GAN", 0.706, 0.049, 0.008, 21.2, EXTENDED_1, (0.047, 0.007, 0.002)),
    Printed("b80f→b20f", "small GAN", 0.633, 0.058, 0.011, 19.5, EXTENDED_1, (0.024, 0.004, 0.002)),
    Printed(
        "b80f→b20f", "non-local means", 0.773, 0.031, 0.004, 19.5, EXTENDED_1, (0.048, 0.005, 0.001)
    ),
    Printed("b80f→b20f", "source", 0.480, 0.065, 0.012, 19.2, EXTENDED_1, (0.045, 0.008, 0.003)),
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
    Printed("x-ray", "cascade", 0.711, 0.104, 0.022, None, MICCAI_1, (0.067, 0.028, 0.014)),
    Printed("x-ray", "small GAN", 0.673, 0.108, 0.024, None, MICCAI_1, (0.064, 0.027, 0.014)),
    Printed("x-ray", "patch GAN", 0.520, 0.200, 0.069, None, MICCAI_1, (0.072, 0.024, 0.019)),
)


@dataclass(frozen=True)
class Figure:
    """One published number that stands in no table.

    Attributes:
        task: What it is of.
        row: Of what method, network or pair of domains.
        quantity: What was measured.
        value: As printed.
        unit: Of the value.
        relation: ``≈`` or ``>`` where the paper says about or more than.
        source: Paper and section.
    """

    task: str
    row: str
    quantity: str
    value: float
    unit: str
    relation: str
    source: str


FRECHET = "Fréchet distance"
SLOWER = "time, in times that of the cascade"
TRAINING = "memory of a training step at 256^3"
LARGEST = "largest side trained on a 12 GB GPU"

FIGURES = (
    Figure("low→b20f", "low / high", FRECHET, 150, "", "", MICCAI_32),
    Figure("low→b20f", "translated / high", FRECHET, 131, "", "", MICCAI_32),
    Figure("low→b20f", "translated / low", FRECHET, 157, "", "", MICCAI_32),
    Figure("b80f→b20f", "non-local means", SLOWER, 100, "", "≈", MICCAI_32),
    Figure("b50f→b20f", "non-local means", SLOWER, 100, "", "≈", EXTENDED_321),
    Figure("memory", "PGGAN", TRAINING, 100, "GB", ">", EXTENDED_31),
    Figure("memory", "DCGAN", LARGEST, 128, "voxels", "", EXTENDED_31),
    Figure("memory", "Pix2Pix", LARGEST, 128, "voxels", "", EXTENDED_31),
    Figure("memory", "PGGAN", LARGEST, 128, "voxels", "", EXTENDED_31),
)
"""What the papers say in their text. The curves of memory (2019, figure 2; 2020, figure 4) have no
numbers printed beside them, and reading them off would be an estimate."""


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
