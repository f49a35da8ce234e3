"""Stores and run folders: killed between any two steps, opened again, never half of anything."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kills import Life
from safetensors.numpy import load_file, save_file
from training import a_run, tiny

from msgan import paths
from msgan.leftovers import PARTIAL, owned, sweep
from msgan.pyramid import Store
from msgan.runs import run as runs
from msgan.runs.run import Run
from msgan.training.loop import WEIGHTS
from msgan.translate.scratch import Scratch, _check
from msgan.types import Box, InputError

often = settings(
    deadline=None, derandomize=True, database=None, max_examples=40, stateful_step_count=15
)
steps = st.none() | st.integers(0, 12)
"""Changes of the disk after which the process is killed; None: it is not."""


class Machine(RuleBasedStateMachine):
    """A folder, and a process that changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="msgan-states-"))
        self.life = Life()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


# --- files and folders -------------------------------------------------------------------------

NAMES = st.sampled_from(["a.txt", "b.nii.gz"])
FOLDERS = st.sampled_from(["c", "d.zarr"])
VALUES = st.integers(1, 9)


class Files(Machine):
    """Files and folders that are written as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.may_be: dict[str, set[int | None]] = {}
        self.swept = True

    @initialize(swaps=st.booleans())
    def system(self, swaps: bool) -> None:
        self.life.swaps = swaps

    def content(self, path: Path) -> int | None:
        """The value under a name, which must be whole."""
        if not path.exists():
            return None
        parts = [path] if path.is_file() else [path / "0", path / "1"]
        found = {part.read_text() for part in parts}
        (text,) = found
        assert len(text) == 1000
        return int(text[0])

    def change(self, name: str, value: int, work, after: int | None) -> None:
        done = self.life.run(work, after)
        before = self.may_be.get(name, {None})
        self.may_be[name] = {value} if done else before | {value}
        self.swept = done

    @rule(name=NAMES, value=VALUES, after=steps)
    def write(self, name: str, value: int, after: int | None) -> None:
        def work() -> None:
            with paths.atomic(self.folder / name) as temporary:
                self.life.write(temporary, str(value).encode() * 1000)

        self.change(name, value, work, after)

    @rule(name=FOLDERS, value=VALUES, after=steps)
    def fill(self, name: str, value: int, after: int | None) -> None:
        def work() -> None:
            with paths.atomic_folder(self.folder / name) as temporary:
                for part in ("0", "1"):
                    self.life.write(temporary / part, str(value).encode() * 1000)

        self.change(name, value, work, after)

    @rule(name=NAMES, value=VALUES)
    def fail(self, name: str, value: int) -> None:
        """An error in the middle is no kill: it is cleared at once."""

        def work() -> None:
            with paths.atomic(self.folder / name) as temporary:
                self.life.write(temporary, b"half")
                raise OSError("odd")

        with pytest.raises(OSError, match="odd"):
            self.life.run(work, None)
        self.swept = True

    @rule(after=steps)
    def clear(self, after: int | None) -> None:
        self.swept = self.life.run(lambda: sweep(self.folder, PARTIAL), after)

    @invariant()
    def what_is_there_is_whole(self) -> None:
        for name, values in self.may_be.items():
            found = self.content(self.folder / name)
            # Without an exchange in one step a folder is absent until the next process sweeps.
            assert found in values or (found is None and not self.life.swaps and not self.swept)

    @invariant()
    def leftovers_stay_until_the_next_writes(self) -> None:
        hidden = [p.name for p in self.folder.iterdir() if p.name.startswith(".")]
        assert not (self.swept and hidden)


TestFiles = Files.TestCase
TestFiles.settings = often


def test_what_a_living_process_writes_is_not_swept(tmp_path):
    life = Life()
    (tmp_path / f"{owned(PARTIAL)}abcdefgh").write_text("of the process of the tests")
    life.run(lambda: (tmp_path / f"{owned(PARTIAL)}12345678").write_text("mine"), None)
    life.run(lambda: sweep(tmp_path, PARTIAL), None)
    (kept,) = tmp_path.iterdir()
    assert kept.name.endswith("-12345678")
    life.number += 1
    life.run(lambda: sweep(tmp_path, PARTIAL), None)
    assert list(tmp_path.iterdir()) == []


# --- the scratch of a translation --------------------------------------------------------------

SHAPE = (7, 6)
TILES = st.sampled_from([(4, 4), (7, 3)])
IMAGE = np.arange(1, 43, dtype=np.float32).reshape(SHAPE)


class Pieces(Machine):
    """A translation that is begun with some tiles, killed, and begun again with others."""

    def opened(self) -> Scratch:
        """The folder as a new process finds it."""
        _check(self.folder)
        return Scratch(self.folder)

    def begin(self, tile):
        return self.opened().stage("y1", SHAPE, tile)

    @rule(tile=TILES, pieces=st.lists(st.integers(0, 3), max_size=4), after=steps)
    def write(self, tile, pieces, after) -> None:
        boxes = list(Box.whole(SHAPE).tiles(tile))

        def work() -> None:
            stage = self.begin(tile)
            for k in pieces:
                if k < len(boxes):
                    stage.store.write(boxes[k], IMAGE[boxes[k].slices])
                    self.life.step()
                    stage.note(k)

        self.life.run(work, after)

    @rule(tile=TILES, after=steps)
    def complete(self, tile, after) -> None:
        def work() -> None:
            if self.opened().finished("y1") is not None:
                return
            stage = self.begin(tile)
            for k, box in enumerate(Box.whole(SHAPE).tiles(tile)):
                if k not in stage.done:
                    stage.write(k, box, IMAGE[box.slices])
            stage.finish()

        self.life.run(work, after)

    @rule(after=steps)
    def drop(self, after) -> None:
        self.life.run(lambda: Scratch(self.folder).drop("y1"), after)

    @rule(tile=TILES)
    def open_again(self, tile) -> None:
        """What counts as done is there."""
        if self.opened().finished("y1") is None:
            stage = self.begin(tile)
            boxes = list(Box.whole(SHAPE).tiles(tile))
            for k in stage.done:
                np.testing.assert_array_equal(stage.store.read(boxes[k]), IMAGE[boxes[k].slices])

    @rule(data=st.data(), cut=st.booleans())
    def lose(self, data, cut) -> None:
        """A disk loses a file, or a part of one."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file())
        if files:
            file = data.draw(st.sampled_from(files))
            if cut:
                os.truncate(file, file.stat().st_size // 2)
            else:
                file.unlink()

    @invariant()
    def what_is_finished_is_whole(self) -> None:
        store = self.opened().finished("y1")
        if store is not None:
            np.testing.assert_array_equal(store.read(Box.whole(SHAPE)), IMAGE)


TestPieces = Pieces.TestCase
TestPieces.settings = often


# --- run folders -------------------------------------------------------------------------------

LENGTHS = st.sampled_from([4, 5])


class Folders(Machine):
    """A run folder that trainings of two configurations want."""

    def __init__(self) -> None:
        super().__init__()
        self.commit, runs.git_commit = runs.git_commit, lambda: None  # a process each time
        self.path = self.folder / "run"
        self.owner: int | None = None
        self.finished: set[int] = set()

    def teardown(self) -> None:
        runs.git_commit = self.commit
        super().teardown()

    def of(self, length: int) -> Run:
        return a_run(self.path, config=tiny(2, steps=length))

    @rule(length=LENGTHS, after=steps)
    def create(self, length: int, after: int | None) -> None:
        refused = []

        def work() -> None:
            try:
                self.of(length).create()
            except InputError as error:
                refused.append(str(error))

        done = self.life.run(work, after)
        if self.owner not in (None, length) and done:
            assert [line.partition(" (")[0] for line in refused] == [
                f"{self.path}: holds another run"
            ]
            return
        assert refused == []
        if done or (self.path / "run.json").is_file():
            self.owner = length

    @precondition(lambda self: self.owner is not None)
    @rule(scale=st.integers(0, 2), value=VALUES, after=steps)
    def train(self, scale: int, value: int, after: int | None) -> None:
        run = self.of(self.owner)

        def work() -> None:
            if run.finished(scale):
                return
            with run.alone([scale]), paths.atomic(run.folder_of(scale) / WEIGHTS) as temporary:
                save_file({"w": np.full(100, value, np.float32)}, temporary)
                self.life.step()
            run.finish(scale, {"seconds": 1.0})

        if self.life.run(work, after):
            self.finished.add(scale)

    @invariant()
    def a_run_is_one_or_none(self) -> None:
        if self.owner is None:
            with pytest.raises(InputError, match="not a run folder"):
                Run.open(self.path)
            return
        run = Run.open(self.path)
        assert run == self.of(self.owner)
        for scale in range(3):
            if run.finished(scale):
                note = paths.sha256(run.weights(scale))
                assert note in (run.folder_of(scale) / "done.json").read_text()
                assert len(set(load_file(run.weights(scale))["w"])) == 1
            else:
                assert scale not in self.finished


TestFolders = Folders.TestCase
TestFolders.settings = often


def test_a_piece_that_is_cut_short_or_gone_is_not_held(tmp_path):
    store = Store.create(tmp_path / "a.zarr", (8, 8, 8), chunk=(4, 4, 4))
    boxes = list(Box.whole((8, 8, 8)).tiles((4, 4, 4)))
    for box in boxes:
        store.write(box, np.zeros(box.size, np.float32))
    assert all(store.holds(box) for box in boxes)
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    (tmp_path / "a.zarr" / "c" / "1" / "1" / "1").unlink()
    assert [k for k, box in enumerate(boxes) if not store.holds(box)] == [1, 7]
