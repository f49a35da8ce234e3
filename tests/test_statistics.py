"""Paired tests equal scipy's and known values; degenerate input has a defined answer."""

from math import isnan, nan

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from msgan import statistics
from msgan.types import InputError


def values(n=12, seed=0):
    rng = np.random.default_rng(seed)
    b = rng.random(n)
    return b + 0.1 + 0.1 * rng.standard_normal(n), b


def test_paired_equals_scipy():
    a, b = values()
    test = statistics.paired(a, b)
    assert test.t_p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert test.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b).pvalue)
    assert test.mean_difference == pytest.approx((a - b).mean())
    assert test.low < test.mean_difference < test.high
    assert (test.n, test.note) == (12, "")


def test_paired_known_value():
    """Student's sleep data (Biometrika 1908): t = -4.0621 with 9 degrees, p = .002833."""
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    test = statistics.paired(one, two)
    assert test.t_p == pytest.approx(0.002833, abs=5e-7)
    assert test.mean_difference == pytest.approx(-1.58)


def test_bootstrap_is_seeded_and_covers():
    a, _ = values(20)
    assert statistics.bootstrap_mean(a, seed=1) == statistics.bootstrap_mean(a, seed=1)
    assert statistics.bootstrap_mean(a, seed=1) != statistics.bootstrap_mean(a, seed=2)
    narrow = statistics.bootstrap_mean(a, confidence=0.5)
    wide = statistics.bootstrap_mean(a)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    half = stats.t.ppf(0.975, 19) * stats.sem(a)  # normal data: close to Student's interval
    assert wide.high - wide.low == pytest.approx(2 * half, rel=0.15)


def test_one_pair_has_no_test():
    test = statistics.paired([2.0], [1.5])
    assert test.mean_difference == 0.5
    assert all(map(isnan, (test.low, test.high, test.t_p, test.wilcoxon_p)))
    assert test.note == "one pair: no test"
    assert statistics.bootstrap_mean([3.0]).mean == 3.0


def test_equal_differences():
    b = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    none = statistics.paired(b, b)
    assert (none.t_p, none.wilcoxon_p, none.low, none.high) == (1.0, 1.0, 0.0, 0.0)
    shifted = statistics.paired(b + 0.1, b)  # equal up to the rounding of the sum
    assert isnan(shifted.t_p)
    assert shifted.wilcoxon_p == pytest.approx(2 / 2**5)
    assert "all differences are equal" in shifted.note
    assert shifted.low == pytest.approx(0.1)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_pairs_raise_no_warning(n):
    test = statistics.paired(*values(n))
    assert np.isfinite([test.low, test.high, test.t_p, test.wilcoxon_p]).all()
    assert test.low <= test.mean_difference <= test.high


def test_holm_by_hand():
    assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert_allclose(statistics.holm([0.5, 0.6]), [1.0, 1.0])
    assert_allclose(statistics.holm([0.02, nan, 0.03]), [0.04, nan, 0.04])
    assert_allclose(statistics.holm([0.2]), [0.2])
    assert statistics.holm([]).size == 0
    assert np.isnan(statistics.holm([nan, nan])).all()


def test_bad_input_says_what_is_wrong():
    with pytest.raises(InputError, match="3 and 2 values: expected pairs"):
        statistics.paired([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="a: no values"):
        statistics.paired([], [])
    with pytest.raises(InputError, match="b: 1 of 2 values are NaN or infinite"):
        statistics.paired([1, 2], [1, nan])
    with pytest.raises(InputError, match="confidence 95"):
        statistics.bootstrap_mean([1, 2], confidence=95)
    with pytest.raises(InputError, match=r"p-values 0.1 ... 1.5"):
        statistics.holm([0.1, 1.5])


def table():
    rng = np.random.default_rng(0)
    rows = []
    for s in range(8):
        level = rng.random()
        for method, gain in (("megan", 0.0), ("seamless", 0.2), ("patch", 0.0)):
            noise = 0.02 * rng.standard_normal(2)
            rows.append((f"s{s}", method, level + gain + noise[0], level - gain + noise[1]))
    return pd.DataFrame(rows, columns=["subject", "method", "ssim", "mae"])


def test_compare_is_a_row_for_each_method_and_metric():
    data = table()
    found = statistics.compare(data.sample(frac=1, random_state=0), "megan").set_index(
        ["method", "metric"]
    )
    assert set(found.index) == {(m, k) for m in ("seamless", "patch") for k in ("ssim", "mae")}
    wide = data.pivot(index="subject", columns="method", values="ssim")
    row = found.loc[("seamless", "ssim")]
    assert row["t_p"] == pytest.approx(stats.ttest_rel(wide["seamless"], wide["megan"]).pvalue)
    assert row["difference"] == pytest.approx((wide["seamless"] - wide["megan"]).mean())
    assert row["mean"] - row["reference_mean"] == pytest.approx(row["difference"])
    assert_allclose(found["t_p_holm"], statistics.holm(found["t_p"]))
    assert row["t_p_holm"] < 0.001
    assert found.loc[("patch", "ssim"), "t_p_holm"] > 0.05
    assert (found["n"] == 8).all()
    only = statistics.compare(data, "megan", metrics=["mae"])
    assert list(only["metric"]) == ["mae", "mae"]


def test_compare_says_what_was_left_out():
    data = table()
    data = data.drop(data[(data.subject == "s0") & (data.method == "patch")].index)
    data.loc[(data.subject == "s1") & (data.method == "patch"), "ssim"] = np.inf
    found = statistics.compare(data, "megan").set_index(["method", "metric"])
    row = found.loc[("patch", "ssim")]
    assert row["n"] == 6
    assert row["note"] == "1 subjects without a partner; 1 pairs not finite"
    assert found.loc[("patch", "mae"), "n"] == 7
    data.loc[data.method == "patch", "ssim"] = nan
    row = statistics.compare(data, "megan").set_index(["method", "metric"]).loc[("patch", "ssim")]
    assert row["n"] == 0
    assert row["note"].startswith("no pair")
    assert isnan(row["t_p_holm"])


def test_compare_refuses_bad_tables():
    data = table()
    with pytest.raises(InputError, match="no column 'psnr'"):
        statistics.compare(data, "megan", metrics=["psnr"])
    with pytest.raises(InputError, match="no rows of the reference method 'real'"):
        statistics.compare(data, "real")
    with pytest.raises(InputError, match="two rows for subject 's0', 'megan'"):
        statistics.compare(pd.concat([data, data[:1]]), "megan")
