"""Curves of one scale: a row of JSON every few steps, and the same for TensorBoard."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgan.paths import naming, write_text

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

LOG = "metrics.jsonl"


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a log, in order; none where there is no such file.

    What is no row is left out, and takes no other with it: a line cut short by a kill or a full
    disk, zeros that a loss of power has left.
    """
    path = Path(path)
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    return [row for line in lines if (row := row_of(line)) is not None]


def row_of(line: bytes) -> dict[str, Any] | None:
    """A line as a row with a number of its step, or None where it is none."""
    try:
        row = json.loads(line)
        row["step"] = int(row["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return dict(row)


class Log:
    """``metrics.jsonl`` and TensorBoard; rows after the checkpoint resumed from are dropped.

    Args:
        folder: Of the scale.
        step: Of the checkpoint.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG
        whole = [json.dumps(row) + "\n" for row in rows(self._path) if row["step"] <= step]
        write_text(self._path, "".join(whole))
        self._stream = FileIO(self._path, "ab")
        with _closing_on_failure(self._stream):
            self._board = Board(folder, step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
            OSError: The disk is full.
        """
        with naming(self._path):
            _append(self._stream, (json.dumps(row) + "\n").encode())
        scalars = {k: v for k, v in row.items() if k not in ("scale", "step")}
        self._board.write(row["step"], scalars)

    def close(self) -> None:
        """Write no more."""
        self._stream.close()
        self._board.close()


class Board:
    """An event file of TensorBoard.

    TensorBoard's own writer writes in a thread, where a full disk is a traceback.

    Args:
        folder: Where it is made.
        purge: Step from which on older event files in the folder do not count.
    """

    def __init__(self, folder: Path, purge: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{socket.gethostname()}"
        self._path = folder / f"{name}.{os.getpid()}.{time.time_ns() % 10**9}"
        with naming(self._path):
            self._stream = FileIO(self._path, "wb")
        start = SessionLog(status=SessionLog.START)
        with _closing_on_failure(self._stream):
            self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))
            self._put(Event(wall_time=time.time(), step=purge, session_log=start))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append scalars of one step.

        Raises:
            OSError: The disk is full.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=k, simple_value=float(v)) for k, v in scalars.items()]
        self._put(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _put(self, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        with naming(self._path):
            _append(self._stream, record.getvalue())

    def close(self) -> None:
        """Write no more."""
        self._stream.close()


@contextmanager
def _closing_on_failure(stream: FileIO) -> Iterator[None]:
    """A block that needs an open file; where the disk is full, nobody else would close it."""
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _append(stream: FileIO, content: bytes) -> None:
    """Write at once, so that a later error is of a later row."""
    left = memoryview(content)
    while left:  # a disk that becomes full takes a part first
        left = left[stream.write(left) or 0 :]
