"""The time that is left of a run of notebooks."""

import pytest

from msgan.report import forecast
from msgan.report.forecast import Forecast


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(forecast, "monotonic", lambda: Clock.now)
    return Clock


def test_nothing_is_said_where_nothing_is_known(clock):
    assert Forecast("abc", {}).left() is None
    assert Forecast("", {"a": 3.0}).left() is None


def test_earlier_runs_tell(clock):
    own = Forecast("ab", {"a": 10.0, "b": 30.0})
    assert own.left() == 40
    own.begin("a")
    clock.now += 4
    assert own.left() == 36
    own.done("a", 10.0)
    assert (own.left(), own.count) == (30, "1 of 2 done")


def test_a_slower_machine_makes_all_of_it_longer(clock):
    own = Forecast("ab", {"a": 10.0, "b": 30.0})
    own.begin("a")
    own.done("a", 20.0)
    assert own.left() == 60


def test_what_never_ran_takes_the_mean_of_the_others(clock):
    own = Forecast("abc", {})
    own.done("a", 10.0)
    assert own.left() == 20
    own.done("b", 30.0)
    assert own.left() == 20


def test_what_has_not_to_be_run_takes_no_time(clock):
    own = Forecast("ab", {"a": 10.0, "b": 30.0})
    own.done("b")
    assert own.left() == 10


def test_several_at_a_time_share_and_the_longest_decides(clock):
    assert Forecast("abcd", dict.fromkeys("abcd", 10.0), jobs=2).left() == 20
    assert Forecast("ab", {"a": 10.0, "b": 50.0}, jobs=2).left() == 50


def test_one_that_takes_longer_than_before_leaves_no_negative_time(clock):
    own = Forecast("a", {"a": 10.0})
    own.begin("a")
    clock.now += 60
    assert own.left() == 0
