"""The kernel model does what filtered back-projection with the same kernel does."""

import numpy as np
import pytest

from msgan.phantoms.back_projection import BackProjection, back_projection
from msgan.phantoms.ct_kernels import KERNELS, Kernel
from msgan.types import InputError


@pytest.fixture(scope="module")
def checks() -> dict[str, BackProjection]:
    kernels = [*KERNELS.values(), Kernel("plain", ((1.0, 0.0),))]
    return {k.name: back_projection(k, size=96, scans=3) for k in kernels}


@pytest.mark.parametrize("name", [*KERNELS, "plain"])
def test_edges_and_noise_agree(checks: dict[str, BackProjection], name: str) -> None:
    check = checks[name]
    assert check.edge_difference < 0.13
    assert check.nps_difference < 0.2


def test_another_kernel_does_not_agree(checks: dict[str, BackProjection]) -> None:
    """What is agreed upon is the kernel, not any blur."""
    soft, sharp = checks["b20f"], checks["b80f"]
    step = np.ptp(soft.edge)
    assert np.abs(soft.edge - sharp.edge_projected).max() > 0.12 * step
    power = [c * soft.frequency for c in (soft.nps, sharp.nps_projected)]
    shares = [p / p.sum() for p in power]
    assert np.abs(shares[0] - shares[1]).sum() / 2 > 0.35


def test_profiles_have_units(checks: dict[str, BackProjection]) -> None:
    check = checks["b50f"]
    far = np.abs(check.distance) > 4
    inside = check.distance < 0
    for profile in (check.edge, check.edge_projected):
        assert np.abs(profile[far & inside] - 40).max() < 12
        assert np.abs(profile[far & ~inside] + 850).max() < 12
    assert check.frequency.max() <= 0.5 / check.spacing
    # Parseval: noise of 12 HU has a spectrum whose integral over the plane is its variance.
    ring = 2 * np.pi * check.frequency * check.nps
    assert np.trapezoid(ring, check.frequency) == pytest.approx(144, rel=0.4)


@pytest.mark.parametrize("options", [{"size": 32}, {"spacing": 0.0}, {"sigma_hu": 0}])
def test_bad_values_are_refused_in_one_line(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+expected at least 64[^\n]+$"):
        back_projection(KERNELS["b20f"], **options)
