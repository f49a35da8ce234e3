"""What the papers printed."""

import pytest

from msgan.metrics import psnr_from_mse
from msgan.report.published import HA, HA_2, PRINTED, PRINTED_HA, UZUNOVA, Printed, published
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
    assert len({(r.task, r.method) for r in PRINTED}) == len(PRINTED)
    assert len(PRINTED) == len(published()) + len(published(by=HA))
    assert all("table" in r.source and 0 < r.ssim < 1 for r in PRINTED)
    assert all(r.mse <= r.mae for r in PRINTED if r.source.startswith(UZUNOVA))


def test_what_ha_et_al_print_stands_with_its_deviations() -> None:
    table = published("t1→t2", "t2→flair", by=HA).set_index(["task", "method"])
    assert len(table) == 12
    row = table.loc[("t2→flair", "3D-mDAUNet")]
    assert (row["psnr"], row["psnr_sd"], row["dice"], row["dice_sd"]) == (29.836, 3.18, 0.88, 0.11)
    assert (row["lpips"], row["nmse"]) == (0.049, 0.108)
    assert not {"mae", "mse", "possible", "psnr_from_mse"} & set(table)
    assert len(published("t1→t2", by=HA_2)) == 4
    assert len(published("t1→t2")) == 3
    assert "psnr_sd" not in published()


def test_the_own_method_wins_as_often_as_ha_et_al_count() -> None:
    """14 first places in 20 columns of table 1 (section 4.3): nothing was mistyped near the top."""
    rows = [row for row in PRINTED_HA if row.source != HA_2]
    wins = 0
    for task in {row.task for row in rows}:
        mine = [row for row in rows if row.task == task]
        for measure, best in (("ssim", max), ("psnr", max), ("nmse", min), ("lpips", min)):
            value = best(getattr(row, measure) for row in mine)
            wins += any(getattr(r, measure) == value for r in mine if r.method == "3D-mDAUNet")
    dice = [max(r.dice for r in rows if r.task == t) for t in ("t2→flair", "t1→ct", "cbct→ct")]
    assert dice == [0.880, 0.812, 0.836]
    assert wins == 14


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(InputError, match=r"^task 'mr→ct' is none of b80f→b20f, [^\n]+$"):
        published("mr→ct")
