import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msgan.paths import SHARED_DATA

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    """Biases that layers draw for themselves: a bound that holds, holds in every run."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
