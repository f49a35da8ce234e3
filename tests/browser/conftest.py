import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from notebook_page import NotebookPage
from server import Lab, jupyterlab

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "reports" / "runs" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "MSGAN_REQUIRE_BROWSER"
"""Environment variable: a missing browser is a failure; continuous integration sets it."""

FLAGS = (
    "--headless",
    "--no-sandbox",  # which root, as in most containers, cannot have
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers give it 64 MB
)


def missing(what: str) -> None:
    if os.environ.get(REQUIRED, "") not in ("", "0"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def chromium() -> str:
    """Path of a Chromium of this machine."""
    for package in ("playwright", "jupyterlab"):
        if find_spec(package) is None:
            missing(f"no {package}: python -m pip install -c constraints.txt -e '.[all]'")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing(f"no browser: none of {', '.join(NAMES)} is on the path (apt-get install chromium)")
    return str(found)


@pytest.fixture(scope="session")
def shots() -> Path:
    """Folder of screenshots; empty, as what an earlier run left would pass for this one's."""
    shutil.rmtree(SHOTS, ignore_errors=True)
    return SHOTS


@pytest.fixture(scope="module")
def lab(chromium: str, shots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a copy of the notebooks; started once."""
    root = tmp_path_factory.mktemp("lab")
    startup = root / "home" / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("short_training.py"), startup)
    folder = root / "notebooks"
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", folder, ignore=ignored)
    with jupyterlab(folder, root / "home") as lab:
        yield lab


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium with a profile of its own."""
    from playwright.sync_api import sync_playwright

    # Closed with the module: while Playwright runs, this thread has an event loop, and nothing
    # else that wants one (notebooks executed by papermill) could run.
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=chromium,
            args=list(FLAGS),
            viewport={"width": 1280, "height": 1000},
        )
        yield context
        context.close()


@pytest.fixture
def notebook(browser: Any, lab: Lab, request: pytest.FixtureRequest) -> Iterator[NotebookPage]:
    """A page for a notebook; a test that fails leaves what it looked like and what was said."""
    page = NotebookPage(browser.new_page(), lab, SHOTS)
    yield page
    report = request.node.stash.get(OUTCOME, None)
    if report is None or report.failed:
        page.shoot(f"{request.node.name}_failed")
        server = lab.log.read_text(encoding="utf-8", errors="replace")
        said = "\n".join([*page.heard, "", server])
        (SHOTS / f"{request.node.name}.log").write_text(said, encoding="utf-8")
    page.page.close()


OUTCOME: pytest.StashKey[pytest.TestReport] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[OUTCOME] = report
    return report
