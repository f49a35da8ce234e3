"""Tiles on an existing dask.distributed cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from msgan.data.cohort import Subject
from msgan.runs.run import Run
from msgan.translate.image import translate
from msgan.translate.maker import Translation
from msgan.translate.scale_task import ScaleTask
from msgan.translate.scratch import StoredScale
from msgan.types import InputError

Source = Subject | str | os.PathLike[str]

AHEAD = 4
"""Tiles a worker has waiting, so that it never waits for the next; all of them are numbers only."""

CONNECT = 10
"""Seconds to wait for the scheduler, and for a first worker."""


class Cluster:
    """Sends tiles to the workers of a dask scheduler; use it in a ``with``.

    Workers read and write the scratch folder, the run and nothing else, so both must lie where
    every worker sees them under the same path. A tile is written as whole chunks by one worker; if
    that worker dies, dask gives the tile to another, which writes the same bytes.

    Args:
        address: Of the scheduler, as ``tcp://host:8786``.

    Raises:
        InputError: No scheduler answers there, or it has no workers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "a cluster needs dask.distributed: pip install 'msgan[cluster]'"
            ) from None
        try:
            self.client = Client(address, timeout=CONNECT)
            self.client.wait_for_workers(1, timeout=CONNECT)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"cluster {address}: no scheduler with workers: {reason}") from error
        self.address = address

    def run(self, job: ScaleTask, numbers: Iterable[int], stage: StoredScale) -> Iterator[int]:
        """See :class:`msgan.translate.engine.Engine`."""
        from distributed import as_completed

        left = iter(numbers)
        most = AHEAD * max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        running = as_completed(
            [self._submit(job, k) for k in islice(left, most)], raise_errors=False
        )
        try:
            for future in running:
                error = _plain(future.exception())
                if error is not None:
                    raise error
                stage.note(future.result())
                for k in islice(left, 1):
                    running.add(self._submit(job, k))
                yield future.result()
        finally:
            self.client.cancel(list(running.futures))

    def images(
        self, run: Run, pairs: Sequence[tuple[Source, Path]], options: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[int, Translation | Exception]]:
        """Whole translations, one a worker at a time: for a cohort of images that are not huge.

        Args:
            run: A trained cascade.
            pairs: Image and result of each.
            options: Of :func:`msgan.translate.translate`, for each.

        Yields:
            The number of a pair, as they end, and what became of it.
        """
        from distributed import as_completed

        there = replace(run, folder=run.folder.resolve())
        futures = {}
        for k, ((source, out), wanted) in enumerate(zip(pairs, options, strict=True)):
            words = [_full(source), _full(out), {name: _full(v) for name, v in wanted.items()}]
            sent = self.client.submit(_translated, there, *words, pure=False, retries=2)
            futures[sent] = k
        for future in as_completed(list(futures), raise_errors=False):
            error = _plain(future.exception())
            yield futures[future], future.result() if error is None else error

    def _submit(self, job: ScaleTask, number: int) -> Any:
        # Not pure: a tile of the same name may have been computed before its store was removed.
        return self.client.submit(job.compute, number, pure=False, retries=2)

    def close(self) -> None:
        """Leave the cluster; it goes on."""
        self.client.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _plain(error: Exception | None) -> Exception | None:
    """An error of the cluster itself as one line; what it computed before is kept."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return ChildProcessError(
            "cluster: workers died one after the other at the same tile or image: give them more "
            "memory, or take a smaller tile"
        )
    if isinstance(error, CancelledError):
        return ConnectionError("cluster: the scheduler is gone: run the same again to go on")
    return error


def _full(value: Any) -> Any:
    """A path in full: a worker stands in another folder."""
    return value.resolve() if isinstance(value, Path) else value


def _translated(run: Run, source: Source, out: Path, options: dict[str, Any]) -> Translation:
    return translate(run, source, out, **options)
