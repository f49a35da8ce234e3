"""``msgan explore`` opens a notebook that shows the folder asked for, and keeps what is yours."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import URLError

import pytest
from tree import image
from typer.testing import CliRunner

from msgan.cli import app
from msgan.cli import explore as command
from msgan.cli.explore import notebook, write_notebook


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have become servers, in a working folder of their own."""
    found: list[list[str]] = []
    monkeypatch.setattr(command, "run", lambda words: found.append([*words]))
    monkeypatch.chdir(tmp_path)
    return found


def sources(path: Path) -> str:
    return "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"])


def test_the_notebook_shows_the_folder_asked_for(started, tmp_path: Path) -> None:
    (tmp_path / "my 'images'").mkdir()
    result = CliRunner().invoke(app, ["explore", "my 'images'", "--no-browser", "--port", "9123"])
    assert result.exit_code == 0, result.output
    scope: dict[str, object] = {}
    for cell in json.loads(Path("explore.ipynb").read_text())["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            exec("".join(cell["source"]), scope)
    assert scope["folder"] == "my 'images'"
    (words,) = started
    assert {"--LabApp.default_url=/lab/tree/explore.ipynb", "--no-browser", "--port=9123"} <= set(
        words
    )


def test_without_a_clone_a_notebook_is_made(started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "__file__", str(Path("site") / "msgan" / "cli" / "explore.py"))
    assert len(notebook("x")["cells"]) == 3
    path = write_notebook(Path(), Path("some") / "where")
    assert "folder = 'some/where'" in sources(path)
    assert "explore(" in sources(path)


def test_an_edited_notebook_is_kept_and_ours_is_renewed(started) -> None:
    first = write_notebook(Path(), Path("a"))
    assert write_notebook(Path(), Path("b")) == first
    assert "'b'" in sources(first)
    content = json.loads(first.read_text())
    content["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    first.write_text(json.dumps(content))
    assert write_notebook(Path(), Path("b")) == first
    assert json.loads(first.read_text()) == content  # run, not edited: its outputs stay
    content["cells"][0]["source"] = "# Mine"
    first.write_text(json.dumps(content))
    assert write_notebook(Path(), Path("b")).name == "explore_2.ipynb"
    assert json.loads(first.read_text()) == content


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": [], "metadata": {}}'])
def test_another_file_of_that_name_is_kept(started, text: str) -> None:
    Path("explore.ipynb").write_text(text)
    assert write_notebook(Path(), None).name == "explore_2.ipynb"
    assert Path("explore.ipynb").read_text() == text


def test_bad_input_is_one_line(started, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["explore", "absent"])
    assert result.exit_code == 2
    assert "absent: no such folder" in result.output
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "jupyterlab" else name)
    result = CliRunner().invoke(app, ["explore"])
    assert result.exit_code == 2
    assert "jupyterlab is not installed: install it with pip install 'msgan[notebooks]'" in (
        result.output
    )
    assert not started
    assert not Path("explore.ipynb").exists()


def _patiently(opener: urllib.request.OpenerDirector, address: str, seconds: float = 60) -> Any:
    """The answer of a server that says where it is before it listens."""
    end = monotonic() + seconds
    while True:
        try:
            return opener.open(address, timeout=30)
        except URLError:
            if monotonic() > end:
                raise
            sleep(0.2)


@pytest.mark.slow
def test_the_server_answers_and_tells_where(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.nii", 1)
    places = {
        name: str(tmp_path / "home" / name)
        for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "msgan.cli", "explore", "images", "--no-browser"],
        cwd=tmp_path,
        env={**os.environ, **places},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        address = None
        for line in process.stdout:
            if address := re.search(r"http://127\.0\.0\.1:\d+/\S*\?token=\w+", line):
                break
        assert address, "the address with its token is not told"
        assert "explore.ipynb" in address[0]
        base, token = address[0].split("/lab")[0], address[0].split("token=")[1]
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        where = f"{base}/api/contents/explore.ipynb?token={token}"
        with _patiently(direct, where) as reply:
            assert "'images'" in json.dumps(json.load(reply))
        with direct.open(f"{base}/lab?token={token}", timeout=30) as reply:
            page = re.search(
                r'id="jupyter-config-data"[^>]*>(.*?)</script>', reply.read().decode(), re.S
            )
        assert page
        disabled = json.loads(page[1])["disabledExtensions"]
        assert "@jupyterlab/apputils-extension:announcements" in disabled
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
