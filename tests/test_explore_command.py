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
from msgan.types import InputError


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


def test_results_of_the_notebooks_are_shown_where_no_folder_is_named(started) -> None:
    result = CliRunner().invoke(app, ["explore"])
    assert result.stderr.startswith("explore.ipynb: shows what there is, or an example;")
    (Path("reports") / "runs").mkdir(parents=True)
    CliRunner().invoke(app, ["explore"])
    assert "folder = None" in sources(Path("explore.ipynb"))  # there are none yet
    (Path("reports") / "runs" / "smoke").mkdir()
    result = CliRunner().invoke(app, ["explore"])
    assert result.stderr.startswith("explore.ipynb: shows reports/runs; Run > Run All Cells")
    assert "folder = 'reports/runs'" in sources(Path("explore.ipynb"))


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_alone_is_told_to_be_allowed(started, monkeypatch, user: int, allowed: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert CliRunner().invoke(app, ["explore"]).exit_code == 0
    (words,) = started
    assert ("--allow-root" in words) is allowed
    assert not [word for word in words if word.startswith("--port")]  # 8888, or the next


@pytest.mark.parametrize("known", [None, "mine"])
def test_the_server_reads_our_settings_before_those_of_the_user(monkeypatch, known) -> None:
    begun: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *words: begun.append(words))
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)
    if known:
        monkeypatch.setenv("JUPYTER_CONFIG_PATH", known)
    command.run(["python", "-m", "jupyterlab"])
    ((program, words, environment),) = begun
    assert (program, words) == ("python", ["python", "-m", "jupyterlab"])
    read = environment.pop("JUPYTER_CONFIG_PATH").split(os.pathsep)
    assert read == [str(command.QUIET), *([known] if known else [])]
    assert environment == {k: v for k, v in os.environ.items() if k != "JUPYTER_CONFIG_PATH"}


def test_a_thousand_notebooks_of_the_user_are_kept(started) -> None:
    for number in range(1, 1000):
        Path("explore.ipynb" if number == 1 else f"explore_{number}.ipynb").write_text("[]")
    with pytest.raises(InputError, match=r"explore\.ipynb and 998 others are there: remove some"):
        write_notebook(Path(), None)
    assert {path.read_text() for path in Path().glob("explore*.ipynb")} == {"[]"}
    Path("explore_7.ipynb").unlink()
    assert write_notebook(Path(), None).name == "explore_7.ipynb"


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
