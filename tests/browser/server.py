"""JupyterLab as somebody would start it, with nothing of the machine's own settings."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START = 120.0
"""Seconds JupyterLab may take to answer; ten on two quiet cores."""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Where it answers, with a slash at the end.
        folder: What its file browser shows.
        results: Where its kernels write results.
        log: What the server says.
    """

    url: str
    folder: Path
    results: Path
    log: Path


@contextlib.contextmanager
def jupyterlab(folder: Path, home: Path, **variables: str) -> Iterator[Lab]:
    """JupyterLab of this interpreter on ``folder``, stopped with its kernels at the end.

    Args:
        folder: The notebooks; those that are run are written there.
        home: An empty folder for settings, runtime files, results and the log.
        variables: More of the environment.
    """
    places = {
        "HOME": home / "home",
        "IPYTHONDIR": home / "ipython",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "MSGAN_RESULTS": home / "results",
        "MSGAN_SCRATCH": home / "scratch",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    _quiet(home / "config")
    environment = {**os.environ, **{k: str(v) for k, v in places.items()}, **variables}
    environment.pop("MPLBACKEND", None)  # one chosen for scripts would leave no figures
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--notebook-dir={folder}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--allow-root"]
    command += ["--IdentityProvider.token=", "--ServerApp.password="]
    log = home / "server.log"
    with log.open("w") as stream:
        # A group of its own: kernels that outlive the server are found.
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = _address(process, home / "runtime", log)
        yield Lab(url, folder, home / "results", log)
    finally:
        _stop(process)


def _quiet(config: Path) -> None:
    """No question whether to look for news: that would be a request that leaves the machine."""
    asks = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    folder = config / "labconfig"
    folder.mkdir()
    (folder / "page_config.json").write_text(json.dumps(asks))


def _address(process: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Where the server answers, once it does."""
    file = runtime / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # not there, half-written, not answering
            url = json.loads(file.read_text())["url"].replace("localhost", "127.0.0.1")
            with urllib.request.urlopen(url + "api/status", timeout=10):
                return url
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()}")


def _stop(process: subprocess.Popen) -> None:
    """End the server, and what is left of its group: a kernel ends when its server does."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
