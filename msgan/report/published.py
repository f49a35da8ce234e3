"""The published values of the papers as constants, and values that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
HA_1 = "Ha et al. 2025, table 1"
HA_2 = "Ha et al. 2025, table 2"

UZUNOVA, HA = "Uzunova et al.", "Ha et al."
"""How the sources of the papers' rows begin."""

MEASURES = ("ssim", "mae", "mse", "psnr", "nmse", "lpips", "dice")
"""What the papers print, as :data:`msgan.metrics.CATALOGUE` calls it."""

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
        mae: Lower is better; None where the table has none, as below.
        mse: Lower is better.
        psnr: dB.
        source: Paper and table.
        sd: Standard deviations over subjects by measure, where they are printed.
        nmse: Lower is better.
        lpips: Lower is better.
        dice: Of a segmentation that uses the images; higher is better.
    """

    task: str
    method: str
    ssim: float
    mae: float | None
    mse: float | None
    psnr: float | None
    source: str
    sd: Mapping[str, float] = field(default_factory=dict)
    nmse: float | None = None
    lpips: float | None = None
    dice: float | None = None

    @property
    def psnr_of_mse(self) -> tuple[float, float] | None:
        """Least and largest PSNR (dB) of an MSE that rounds to the printed one, if there is one."""
        if self.mse is None:
            return None
        return psnr_from_mse(self.mse + HALF), psnr_from_mse(max(self.mse - HALF, 0.0))

    @property
    def possible(self) -> bool:
        """Whether the printed PSNR can be a mean over subjects with the printed mean MSE.

        A mean of PSNRs is at least the PSNR of the mean MSE (Jensen). That it is far above is
        possible, but only where subjects differ by orders of magnitude.
        """
        bounds = self.psnr_of_mse
        return self.psnr is None or bounds is None or self.psnr + HALF_DB >= bounds[0]


def _sd(*values: float) -> dict[str, float]:
    return dict(zip(MEASURES, values, strict=False))


def _ha(task: str, method: str, *cells: float) -> Printed:
    """A row of Ha et al.: mean and standard deviation of SSIM, PSNR, NMSE, LPIPS and Dice.

    Table 2 is on t1→t2 as well, and its rows leave something out; its row (e) is the method
    itself, in table 1.
    """
    source = HA_2 if method.startswith("no ") else HA_1
    names = ("ssim", "psnr", "nmse", "lpips", "dice")
    means, sd = (dict(zip(names, cells[k::2], strict=False)) for k in (0, 1))
    return Printed(task, method, mae=None, mse=None, source=source, sd=sd, **means)


# The means of b80f→b20f stand in both papers, their standard deviations in that of 2019.
PRINTED_UZUNOVA = (
    Printed(
        "b80f→b20f", "cascade", 0.773, 0.033, 0.004, 24.1, EXTENDED_1, _sd(0.025, 0.004, 0.001)
    ),
    Printed(
        "b80f→b20f", "patch GAN", 0.706, 0.049, 0.008, 21.2, EXTENDED_1, _sd(0.047, 0.007, 0.002)
    ),
    Printed(
        "b80f→b20f", "small GAN", 0.633, 0.058, 0.011, 19.5, EXTENDED_1, _sd(0.024, 0.004, 0.002)
    ),
    Printed(
        "b80f→b20f",
        "non-local means",
        0.773,
        0.031,
        0.004,
        19.5,
        EXTENDED_1,
        _sd(0.048, 0.005, 0.001),
    ),
    Printed("b80f→b20f", "source", 0.480, 0.065, 0.012, 19.2, EXTENDED_1, _sd(0.045, 0.008, 0.003)),
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
    Printed("x-ray", "cascade", 0.711, 0.104, 0.022, None, MICCAI_1, _sd(0.067, 0.028, 0.014)),
    Printed("x-ray", "small GAN", 0.673, 0.108, 0.024, None, MICCAI_1, _sd(0.064, 0.027, 0.014)),
    Printed("x-ray", "patch GAN", 0.520, 0.200, 0.069, None, MICCAI_1, _sd(0.072, 0.024, 0.019)),
)

# Ha et al. do not say which of the two Ea-GANs theirs is.
PRINTED_HA = (
    _ha("t1→t2", "ResViT", 0.830, 0.03, 28.016, 0.87, 0.143, 0.05, 0.224, 0.03),
    _ha("t1→t2", "PTNet3D", 0.859, 0.03, 29.157, 1.97, 0.125, 0.09, 0.206, 0.02),
    _ha("t1→t2", "Ea-GAN", 0.882, 0.03, 28.151, 1.73, 0.154, 0.10, 0.216, 0.03),
    _ha("t1→t2", "3D-mDAUNet", 0.872, 0.02, 30.004, 1.35, 0.092, 0.03, 0.148, 0.02),
    _ha("t2→t1", "ResViT", 0.803, 0.06, 25.433, 1.47, 0.220, 0.10, 0.260, 0.04),
    _ha("t2→t1", "PTNet3D", 0.803, 0.08, 26.863, 2.33, 0.178, 0.14, 0.211, 0.06),
    _ha("t2→t1", "Ea-GAN", 0.874, 0.07, 28.082, 2.65, 0.141, 0.12, 0.192, 0.06),
    _ha("t2→t1", "3D-mDAUNet", 0.871, 0.07, 27.871, 2.51, 0.141, 0.10, 0.166, 0.06),
    _ha("t2→flair", "ResViT", 0.892, 0.05, 27.962, 2.37, 0.155, 0.18, 0.107, 0.02, 0.858, 0.13),
    _ha("t2→flair", "PTNet3D", 0.926, 0.05, 28.986, 2.94, 0.124, 0.14, 0.058, 0.01, 0.825, 0.14),
    _ha("t2→flair", "Ea-GAN", 0.944, 0.05, 30.076, 3.40, 0.103, 0.12, 0.062, 0.01, 0.869, 0.12),
    _ha("t2→flair", "3D-mDAUNet", 0.940, 0.05, 29.836, 3.18, 0.108, 0.14, 0.049, 0.02, 0.880, 0.11),
    _ha("t1→ct", "ResViT", 0.847, 0.04, 28.161, 1.83, 0.109, 0.05, 0.313, 0.04, 0.780, 0.07),
    _ha("t1→ct", "PTNet3D", 0.826, 0.04, 28.426, 1.40, 0.098, 0.03, 0.301, 0.03, 0.745, 0.06),
    _ha("t1→ct", "Ea-GAN", 0.856, 0.06, 27.645, 2.47, 0.129, 0.07, 0.322, 0.07, 0.725, 0.08),
    _ha("t1→ct", "3D-mDAUNet", 0.895, 0.03, 30.013, 1.73, 0.070, 0.03, 0.223, 0.05, 0.812, 0.06),
    _ha("cbct→ct", "ResViT", 0.895, 0.07, 30.678, 3.26, 0.067, 0.05, 0.319, 0.05, 0.807, 0.11),
    _ha("cbct→ct", "PTNet3D", 0.895, 0.05, 31.258, 3.00, 0.056, 0.04, 0.304, 0.05, 0.803, 0.11),
    _ha("cbct→ct", "Ea-GAN", 0.841, 0.04, 25.529, 2.73, 0.200, 0.11, 0.419, 0.07, 0.769, 0.10),
    _ha("cbct→ct", "3D-mDAUNet", 0.918, 0.04, 32.072, 3.23, 0.048, 0.03, 0.250, 0.06, 0.836, 0.11),
    _ha("t1→t2", "no multi-resolution input", 0.865, 0.03, 28.938, 1.40, 0.122, 0.07, 0.159, 0.02),
    _ha("t1→t2", "no multi-resolution output", 0.855, 0.03, 27.471, 2.00, 0.185, 0.13, 0.166, 0.03),
    _ha(
        "t1→t2", "no voxel-wise discriminator", 0.843, 0.02, 27.188, 1.48, 0.182, 0.12, 0.186, 0.02
    ),
    _ha("t1→t2", "no relativistic loss", 0.857, 0.03, 27.692, 1.89, 0.174, 0.12, 0.163, 0.02),
)

PRINTED = (*PRINTED_UZUNOVA, *PRINTED_HA)


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


def published(*tasks: str, by: str = UZUNOVA) -> pd.DataFrame:
    """The printed rows of tasks, and the PSNR that their printed MSE allows.

    Args:
        tasks: As ``b80f→b20f``, ``t1→t2``, ``x-ray``; none: all.
        by: How the source begins: :data:`UZUNOVA`, :data:`HA`, or one of their tables.

    Returns:
        ``task``, ``method``, those of :data:`MEASURES` that are printed (PSNR in dB) and, where the
        MSE is, ``psnr_from_mse`` (recomputed from it), ``difference`` (printed - recomputed, dB),
        ``possible`` (:attr:`Printed.possible`); standard deviations as ``ssim_sd`` and so on,
        where all of these rows have them; ``source``.

    Raises:
        InputError: Nothing was printed for a task.
    """
    import pandas as pd

    printed = [row for row in PRINTED if row.source.startswith(by)]
    known = tuple(dict.fromkeys(row.task for row in printed))
    for task in tasks:
        if task not in known:
            raise InputError(f"task {task!r} is none of {', '.join(known)}")
    rows = [row for row in printed if row.task in (tasks or known)]
    shown = [m for m in MEASURES if any(getattr(row, m) is not None for row in rows)]
    spread = [m for m in shown if all(m in row.sd or getattr(row, m) is None for row in rows)]
    lines = []
    for row in rows:
        line: dict[str, Any] = {"task": row.task, "method": row.method}
        for measure in shown:
            line[measure] = getattr(row, measure)
            if measure in spread:
                line[f"{measure}_sd"] = row.sd.get(measure)
        if row.mse is not None:
            line["psnr_from_mse"] = recomputed = psnr_from_mse(row.mse)
            line["difference"] = None if row.psnr is None else row.psnr - recomputed
            line["possible"] = row.possible
        lines.append({**line, "source": row.source})
    return pd.DataFrame(lines)
