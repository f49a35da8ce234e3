"""Trainings that do not need each other, side by side."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from msgan.methods.watch import counting
from msgan.translate import pick_device

Key = TypeVar("Key")
Result = TypeVar("Result")

WORN = "A worker stopped while some jobs were given to the executor"
"""What joblib warns of when it replaces a process that has grown: of trainings all do, for PyTorch
keeps memory, and nothing is lost."""

MOST = 4
"""Processes at a time: each holds the libraries and its batches."""


def processes() -> int:
    """How many processes train together, as torchrun or SLURM tell it; 1 where neither does."""
    return int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))


def run_parallel(
    jobs: Mapping[Key, Callable[[], Result]], device: str = "auto"
) -> dict[Key, Result]:
    """The results of jobs, under their names.

    On a CPU several processes work on them, which share its cores: networks as small as those of
    ``small`` leave a second core mostly idle. On a GPU, or where this process is one of several
    that train together (torchrun, SLURM), they are done one by one.

    Args:
        jobs: Callables without arguments that can be pickled, as :func:`functools.partial` of
            :func:`msgan.methods.shared.fit_cached`; so can their results.
        device: ``auto``, ``cpu`` or ``cuda``, as the jobs are told.

    Raises:
        Exception: What a job raised; the others are ended.
    """
    cores = torch.get_num_threads()
    workers = min(len(jobs), cores, MOST)
    if workers < 2 or processes() > 1 or pick_device(device).type == "cuda":
        return {name: job() for name, job in jobs.items()}
    from joblib import Parallel, delayed, parallel_config

    done: dict[Key, Result] = {}
    with (
        warnings.catch_warnings(),
        parallel_config(backend="loky", inner_max_num_threads=cores // workers),
        counting("trainings", len(jobs)) as tell,
    ):
        warnings.filterwarnings("ignore", WORN)
        parallel = Parallel(n_jobs=workers, return_as="generator")
        for name, result in zip(
            jobs, parallel(delayed(job)() for job in jobs.values()), strict=True
        ):
            done[name] = result
            tell(len(done))
    return done
