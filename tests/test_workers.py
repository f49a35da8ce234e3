"""Jobs side by side."""

import os
import warnings
from functools import partial
from time import sleep

import pytest
import torch

from msgan.methods.workers import run_parallel
from msgan.types import InputError


def where(value: object) -> tuple[object, int, int]:
    return value, os.getpid(), torch.get_num_threads()


def refused(value: object) -> None:
    raise InputError(f"value {value}: expected another")


KEPT: list[bytearray] = []


def grown(seconds: float) -> int:
    """Keep 400 MB, which joblib takes for a leak, and say which process has them."""
    KEPT.append(bytearray(400_000_000))
    KEPT[-1][::4096] = b"x" * len(KEPT[-1][::4096])
    sleep(seconds)
    return os.getpid()


@pytest.fixture
def cores(monkeypatch):
    for name in ("WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_each_job_has_its_share_of_the_cores(cores):
    done = run_parallel({k: partial(where, k) for k in "abc"}, "cpu")
    assert [value for value, _, _ in done.values()] == list(done) == ["a", "b", "c"]
    assert os.getpid() not in {process for _, process, _ in done.values()}
    assert {threads for _, _, threads in done.values()} == {1}


@pytest.mark.slow
def test_a_process_that_has_grown_is_replaced_without_a_word(cores):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        done = run_parallel({k: partial(grown, 1.2) for k in range(8)}, "cpu")
    assert len(set(done.values())) > 2
    assert [str(one.message) for one in told] == []


def test_what_one_refuses_is_said(cores):
    with pytest.raises(InputError, match="value 3: expected another"):
        run_parallel({"a": partial(where, 1), "b": partial(refused, 3)}, "cpu")


@pytest.mark.parametrize("told", ["WORLD_SIZE", "SLURM_NTASKS", None])
def test_processes_that_train_together_and_single_jobs_stay_here(cores, monkeypatch, told):
    if told:
        monkeypatch.setenv(told, "2")
    jobs = {k: partial(where, k) for k in ("ab" if told else "a")}
    assert {process for _, process, _ in run_parallel(jobs, "cpu").values()} == {os.getpid()}


def test_one_task_of_a_cluster_is_no_reason_to_stay(cores, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    done = run_parallel({k: partial(where, k) for k in "ab"}, "cpu")
    assert os.getpid() not in {process for _, process, _ in done.values()}
