"""The number of threads of a training: by the size of its steps, never by a clock."""

import json
from pathlib import Path

import pytest
import torch
from helpers import cohort_in, equal, tiny

from msgan.methods.cascade import fit
from msgan.runs.run import Run
from msgan.training import threads
from msgan.training.threads import GIVEN, SMALL, chosen, computing_with, multiply_adds
from msgan.verify.training import training_again


@pytest.fixture
def two(monkeypatch):
    """A machine where PyTorch may use two threads and nobody has said how many."""
    monkeypatch.delenv(GIVEN, raising=False)
    with computing_with(2):
        yield


def note(run: Run, scale: int) -> dict:
    return json.loads((run.folder_of(scale) / "done.json").read_text())


def test_a_small_step_takes_one_thread_and_a_large_one_all(two):
    assert chosen(SMALL - 1) == 1
    assert chosen(SMALL) == 2


@pytest.mark.parametrize("work", [1, SMALL])
def test_a_number_that_is_given_wins(two, monkeypatch, work):
    monkeypatch.setenv(GIVEN, "2")
    assert chosen(work) == 2


def test_work_follows_from_shapes(dims):
    def of(side: int) -> int:
        layer = (torch.nn.Conv2d, torch.nn.Conv3d)[dims - 2](3, 5, 3, padding=1)
        return multiply_adds(lambda: layer(torch.rand(2, 3, *(side,) * dims)))

    assert of(4) == 2 * 3 * 5 * (3 * 4) ** dims
    assert of(8) == 2**dims * of(4)


def test_threads_are_as_before_after_a_block_however_it_ends(two):
    def failing() -> None:
        with computing_with(1) as there:
            assert there == torch.get_num_threads() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert torch.get_num_threads() == 2
    with computing_with(None) as there:
        assert there == torch.get_num_threads() == 2


def test_a_small_training_has_the_same_weights_whatever_the_machine(two, tmp_path):
    cohort = cohort_in(tmp_path)
    seen = []
    run = fit(
        cohort,
        "t2",
        tiny(),
        tmp_path / "two",
        scales=[0],
        device="cpu",
        report=lambda row: seen.append(torch.get_num_threads()),
    )
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    assert (note(run, 0)["threads"], note(run, 0)["threads_available"]) == (1, 2)
    with computing_with(1):
        other = fit(cohort, "t2", tiny(), tmp_path / "one", scales=[0], device="cpu")
    assert equal(run.folder, other.folder, 0)


def test_a_large_training_or_one_that_is_told_so_takes_more(two, tmp_path, monkeypatch):
    cohort = cohort_in(tmp_path)
    short = tiny(lr_steps=2)  # threads of a busy machine wait for each other
    told = fit(cohort, "t2", short, tmp_path / "a", scales=[0], device="cpu", threads=2)
    assert note(told, 0)["threads"] == 2
    monkeypatch.setattr(threads, "SMALL", 0)
    large = fit(cohort, "t2", short, tmp_path / "b", scales=[0], device="cpu")
    assert note(large, 0)["threads"] == 2
    monkeypatch.setattr(threads, "SMALL", SMALL)
    # It is made again with the number of its note, not with the one of today's rule.
    verdict = training_again(large, cohort, tmp_path / "again")
    assert verdict.passed, verdict.findings
    assert note(Run.open(tmp_path / "again"), 0)["threads"] == 2


def test_the_measurement_states_what_the_rule_rests_on():
    path = Path(__file__).parents[1] / "benchmarks" / "threads.json"
    steps = json.loads(path.read_text())["steps"]
    small = [s for s in steps.values() if s["million_multiply_adds_forward"] * 1e6 < SMALL]
    assert small
    assert all(s["1 threads: median ms"] < s["2 threads: median ms"] for s in small)
