import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msgan.paths import SHARED_DATA

ROOT = Path(__file__).resolve().parents[1]

MEASURE_SLOW = "MSGAN_MEASURE_SLOW"
"""Environment variable: slow tests count for the coverage too, and take twice as long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MEASURE_SLOW not in os.environ:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker("no_cover")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with openly licensed real images; tests that use it say why they are skipped."""
    folder = Path(os.environ.get(SHARED_DATA, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: set {SHARED_DATA} to a folder that holds them")
    return folder


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dims(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch with one thread: sums are added in one order, and many small tests are not slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are started do not measure coverage, which takes time and memory.

    For those whose memory is measured, and those that are killed before they write it.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def programs_like_their_test(request: pytest.FixtureRequest) -> None:
    """What a test starts that does not count for the coverage does not count either."""
    if request.node.get_closest_marker("no_cover"):
        request.getfixturevalue("without_coverage")


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Biases that layers draw for themselves: a bound that holds, holds in every run."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to work in, with its own scratch."""
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / ".scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder of its own, which is not there yet."""
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Runs of two scales with random weights, by number of axes.

    With ``(dims, "labelled")`` one that draws the labels 1, 2 and 4, with ``(dims, "spaced")``
    one that works at 1.5 mm.
    """
    from helpers import config_of, run_of

    folder, found = tmp_path_factory.mktemp("runs"), {}
    for dims in (2, 3):
        for name, labels, spacing in (
            ("plain", (), None),
            ("labelled", (1, 2, 4), None),
            ("spaced", (), (1.5,) * dims),
        ):
            own = {"scales": 1, "spacing_mm": spacing}
            config = config_of(dims, scales=1, preparation=own, labels=labels)
            run = run_of(folder / f"{name}{dims}", config)
            for i in run.used:  # as if its training had come to its end
                run.finish(i, {})
            found[dims if name == "plain" else (dims, name)] = run
    return found
