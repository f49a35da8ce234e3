"""Scratch of one translation: stores of its scales and what of them is done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgan.documents import json_of
from msgan.paths import NO_SPACE, require_scratch, scratch_root, write_text
from msgan.pyramid import CHUNK, RIM, Store, chunk_of
from msgan.translate.provenance import trace_of
from msgan.types import Array, Box, InputError, Shape

PREFIX = "msgan-work-"
RESULT = "result.json"
"""In a scratch folder: where the result will be, and its id."""

KEPT = 7 * 24 * 3600
"""Seconds that the scratch of an interrupted translation is kept."""


@dataclass
class StoredScale:
    """One image of a translation: its store and the pieces that are written.

    Attributes:
        store: Where the image is.
        done: Numbers of the pieces that are written.
    """

    store: Store
    done: set[int]
    _ledger: Path
    _mark: Path

    def write(self, number: int, box: Box, values: Array) -> None:
        """Write a piece, then note that it is there."""
        self.store.write(box, values)
        self.note(number)

    def note(self, number: int) -> None:
        """A piece is written."""
        self.done.add(number)
        with self._ledger.open("a", encoding="ascii") as stream:
            stream.write(f"{number}\n")

    def finish(self) -> None:
        """All pieces are written."""
        write_text(self._mark, self.store.path.name)


class Scratch:
    """A folder of scratch that the same translation, begun again, finds and goes on with.

    Its name is a hash of all that decides the result. A piece counts as done when its number is in
    the journal of its stage, which is written after the piece itself; so a kill at any moment loses
    the pieces under way and no more.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def open(cls, root: Path, key: Any) -> Iterator[Scratch]:
        """The folder for ``key`` below ``root``; others wait no longer than to be refused.

        It is removed when the block ends, and also for bad input; it stays after an interruption,
        a crash or a full disk, for a week.

        Args:
            root: Folder for temporary files.
            key: Anything JSON can hold, that decides every byte.

        Raises:
            InputError: Another process is at the same translation.
        """
        from filelock import FileLock, Timeout

        if root == scratch_root():
            require_scratch()
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        folder = root / f"{PREFIX}{name}"
        lock = FileLock(root / f".{PREFIX}{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{folder}: another process is making the same translation") from None
        try:
            folder.mkdir(exist_ok=True)
            os.utime(folder)
            _check(folder)
            try:
                yield cls(folder)
            except InputError as error:
                if not is_full(error):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            else:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            with suppress(OSError):  # not empty: there is something to go on with
                folder.rmdir()
            # Removed while it is held, so that nobody can lock a file that is about to go.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def promise(self, result: Path, number: str) -> None:
        """The result is about to get its name: once it has it, what is here is of no more use.

        Args:
            result: Its path.
            number: The id that its sidecar states.
        """
        told = {"result": str(result.absolute()), "id": number}
        write_text(self.folder / RESULT, json.dumps(told) + "\n")

    @property
    def bytes(self) -> int:
        """What is there."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def finished(self, name: str) -> Store | None:
        """The store of a stage that is complete."""
        mark = self.folder / f"{name}.complete"
        if not mark.is_file():
            return None
        path = self.folder / mark.read_text(encoding="utf-8")
        # A worker taken for dead may still write a chunk of a store that was dropped.
        return Store.open(path) if (path / "zarr.json").is_file() else None

    def stage(
        self,
        name: str,
        shape: Sequence[int],
        tile: Sequence[int],
        dtype: str = "float32",
        rim: int = 0,
    ) -> StoredScale:
        """A stage to begin or to go on with; begun with other tiles, it begins anew.

        Args:
            name: Of the image.
            shape: Of the image.
            tile: Sides of a piece; pieces cover whole chunks, so that several may be written at
                once.
            dtype: Of the voxels.
            rim: Voxels beyond the image that are kept; a piece is then a chunk.
        """
        plain = f"{name}-{'x'.join(map(str, tile))}"
        path, journal = self.folder / f"{plain}.zarr", self.folder / f"{plain}.done"
        mark = self.folder / f"{name}.complete"
        _remove(p for p in self.folder.glob(f"{name}-*") if p not in (path, journal))
        if journal.is_file():
            store, done = Store.open(path), _numbers(journal)
            # A number behind a line cut short would be read as another, of a piece not written.
            write_text(journal, "".join(f"{number}\n" for number in sorted(done)))
        else:
            mark.unlink(missing_ok=True)  # of a store that was dropped, which this one is not
            sides = tuple(tile) if rim else chunk(tile)
            store, done = Store.create(path, shape, dtype, sides, rim), set()
            write_text(journal, "")
        return StoredScale(store, done, journal, mark)

    def fill(
        self,
        name: str,
        shape: Sequence[int],
        read: Callable[[Box], Array],
        dtype: str = "float32",
        progress: Callable[[int, int], None] | None = None,
        rim: int = RIM,
    ) -> Store:
        """A stage whose pieces are read from elsewhere; at once where it is complete.

        What is read lies beyond the image as well, by ``rim``: as much as coarse scales need.
        """
        if (ready := self.finished(name)) is not None:
            return ready
        tile = chunk_of(shape, rim)
        stage = self.stage(name, shape, tile, dtype, rim)
        boxes = list(stage.store.known.tiles(tile))
        for k, box in enumerate(boxes):
            if k not in stage.done:
                stage.write(k, box, read(box))
                if progress:
                    progress(len(stage.done), len(boxes))
        stage.finish()
        return stage.store

    def drop(self, name: str) -> None:
        """Remove what is not needed any more; the stage stays complete."""
        _remove(self.folder.glob(f"{name}-*"))


def _remove(paths: Iterable[Path]) -> None:
    """Remove stores and journals, so that after a kill none is taken for a whole one.

    Journals go first, and of a store what makes it one: pieces that are gone are nowhere said to
    be there.
    """
    for path in sorted(paths, key=Path.is_dir):
        if path.is_dir():
            (path / "zarr.json").unlink(missing_ok=True)
            shutil.rmtree(path)
        else:
            path.unlink()


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        cause = cause.__cause__
    return False


def chunk(tile: Sequence[int]) -> Shape:
    """Chunks that divide a tile evenly: about 64 voxels a side in 3D, 512 in 2D."""
    side = CHUNK[len(tile)]
    parts = [next(k for k in range(-(-n // side), n + 1) if n % k == 0) for n in tile]
    # A tile of an awkward side is a chunk by itself rather than thousands of slivers.
    return tuple(n // k if n // k >= side // 4 else n for n, k in zip(tile, parts, strict=True))


def _check(folder: Path) -> None:
    """Find out what of an interrupted translation is still there whole; the rest is done again.

    A disk may lose what was written last, and people remove files of a scratch folder.
    """
    for journal in folder.glob("*.done"):
        store, tile = _opened(journal.with_suffix(".zarr")), journal.stem.rpartition("-")[2]
        if store is None:
            _remove([journal, *folder.glob(f"{journal.stem}.zarr")])
            continue
        boxes = dict(enumerate(store.known.tiles([int(n) for n in tile.split("x")])))
        done = _numbers(journal)
        whole = {k for k in done if k in boxes and store.holds(boxes[k])}
        if whole != done:
            journal.with_name(f"{journal.stem.rpartition('-')[0]}.complete").unlink(missing_ok=True)
            write_text(journal, "".join(f"{k}\n" for k in sorted(whole)))


def _opened(path: Path) -> Store | None:
    """A store; None where it is not there or damaged."""
    try:
        return Store.open(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _numbers(journal: Path) -> set[int]:
    """Pieces in a journal; a line cut short by a kill, or zeros, do not count."""
    lines = journal.read_bytes().split(b"\n")[:-1]
    return {int(line) for line in lines if line.isdigit()}


def sweep(root: Path) -> None:
    """Remove the scratch of translations that nobody has gone on with for a week.

    That of one whose result is there goes at once: it was killed when it had nothing left to do.
    """
    from filelock import FileLock, Timeout

    locks = [path.name[1:-5] for path in root.glob(f".{PREFIX}*.lock")]
    for name in sorted({path.name for path in root.glob(f"{PREFIX}*")} | set(locks)):
        folder, lock = root / name, root / f".{name}.lock"
        # Another process may be first, or own it, or be at it for longer than a week.
        with suppress(OSError, Timeout):
            age = time.time() - (folder if folder.exists() else lock).stat().st_mtime
            if age > KEPT or _fulfilled(folder):
                with FileLock(lock).acquire(timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
                    lock.unlink(missing_ok=True)


def _fulfilled(folder: Path) -> bool:
    """Whether the result that a scratch folder was for is there."""
    try:
        told = json_of(folder / RESULT)
        found = trace_of(told["result"])
    except (OSError, ValueError, KeyError, TypeError):  # it has not come so far
        return False
    return found is not None and found.id == told["id"]
