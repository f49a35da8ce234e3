"""What the papers printed."""

import pytest

from msgan.metrics import psnr_from_mse
from msgan.report.published import PRINTED, Printed, published
from msgan.types import InputError


def test_printed_and_recomputed_psnr_stand_side_by_side() -> None:
    table = published("b80f→b20f", "b50f→b20f")
    assert len(table) == 10
    rows = table.set_index(["task", "method"])
    # .004 is 24 dB, not 19.5; .213 is 6.7 dB, not 19.3
    means = rows.loc[("b80f→b20f", "non-local means")]
    assert means["psnr"] == 19.5
    assert means["psnr_from_mse"] == pytest.approx(23.98, abs=0.01)
    assert not means["possible"]
    assert rows.loc[("b50f→b20f", "non-local means"), "difference"] == pytest.approx(12.6, abs=0.1)
    assert rows.loc[("b80f→b20f", "cascade"), "possible"]
    # The untouched B50f image beats the method.
    b50f = rows.loc["b50f→b20f"]
    assert b50f.loc["source", "mae"] < b50f.loc["cascade", "mae"]
    assert b50f.loc["source", "psnr"] > b50f.loc["cascade", "psnr"]


def test_rounding_counts_in_favour_of_the_papers() -> None:
    row = Printed("a→b", "m", 0.5, 0.1, 0.004, 23.45, "somewhere")
    assert row.psnr_of_mse == pytest.approx((psnr_from_mse(0.0045), psnr_from_mse(0.0035)))
    assert row.possible
    assert not Printed("a→b", "m", 0.5, 0.1, 0.004, 23.3, "somewhere").possible
    assert Printed("a→b", "m", 0.5, 0.1, 0.004, None, "somewhere").possible


def test_every_row_is_there_once_with_its_source() -> None:
    assert len({(r.task, r.method) for r in PRINTED}) == len(PRINTED) == len(published())
    assert all("table" in r.source and 0 < r.ssim < 1 and r.mse <= r.mae for r in PRINTED)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(InputError, match=r"^task 'mr→ct' is none of b80f→b20f, [^\n]+$"):
        published("mr→ct")
