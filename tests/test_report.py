"""The notebook runner: what is run, what is repeated, what is left on disk."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest

import msgan
from msgan import leftovers
from msgan.report import (
    execute,
    page,
    results,
    results_folder,
    run_cache,
    run_notebooks,
    runner,
    worker,
    write_results,
)
from msgan.report.command import main
from msgan.types import InputError

EXAMPLES = Path(__file__).parent / "notebooks"


def statuses(runs: list[run_cache.Run]) -> dict[str, str]:
    return {run.stem: run.status for run in runs}


# --- with real kernels -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three notebooks, two at a time: one works, one raises, the kernel of one dies."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")  # would leave the notebook without figures
        options = ["--folder", str(EXAMPLES), "--out", str(folder), "--seed", "7"]
        code = main(["run", "--preset", "small", "--only", "0[123]*", "--jobs", "2", *options])
    assert code == 1
    return folder


def read(out: Path, stem: str) -> run_cache.Run:
    return run_cache.Run(**json.loads((out / f"{stem}.stamp.json").read_text()))


def test_each_notebook_is_run_whatever_became_of_the_one_before(out: Path) -> None:
    runs = [read(out, stem) for stem in ("01_fine", "02_fails", "03_dies")]
    assert [run.status for run in runs] == ["passed", "failed", "failed"]
    assert runs[0].error == ""
    assert runs[1].error == "ValueError: patch size <30> is not a multiple of 4 (cell 3)"
    assert runs[2].error == "DeadKernelError: Kernel died"


def test_kernel_is_this_interpreter_with_the_parameters_the_notebook_declares(out: Path) -> None:
    figures = results.read_results(out / "01_fine")
    assert figures["python"] == sys.executable
    assert figures["seed"] == 7
    assert figures["preset"] == "small"
    assert figures["here"] == str(EXAMPLES)
    injected = [
        cell.source
        for cell in nbformat.read(out / "02_fails.ipynb", as_version=4).cells
        if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    assert len(injected) == 1
    assert "preset" in injected[0]
    assert "seed" not in injected[0]


def test_memory_of_the_kernel_is_measured(out: Path) -> None:
    assert 200e6 < read(out, "01_fine").peak_bytes < 2e9
    assert read(out, "02_fails").peak_bytes < 200e6


def test_pages_hold_figures_and_failures(out: Path) -> None:
    fine = (out / "01_fine.html").read_text()
    assert "A notebook that works" in fine
    assert "data:image/png;base64," in fine
    assert 'alt="A line that rises with the &lt;seed&gt;."' in fine
    failing = (out / "02_fails.html").read_text()
    assert "patch size &lt;30&gt;" in failing
    assert (out / "03_dies.html").is_file()


def test_index_tells_all_at_a_glance(out: Path) -> None:
    index = (out / "index.html").read_text()
    assert "1 passed, 2 failed, 1 not run" in index
    assert '<a href="01_fine.html">A notebook that works</a>' in index
    assert "patch size &lt;30&gt; is not a multiple of 4 (cell 3)" in index
    assert "<dt>SSIM</dt><dd>0.7735</dd>" in index
    assert index.count("data:image/png;base64,") == 1
    assert "A notebook that can be killed" in index
    assert not [part for part in ("http://", "https://", "<script") if part in index]


@contextmanager
def waiting(out: Path, scratch: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A runner of several at a time, and the kernel of its only notebook, which waits."""
    command = [sys.executable, "-m", "msgan.report", "run", "--only", "04*", "--jobs", "2"]
    command += ["--folder", str(EXAMPLES), "--out", str(out)]
    told = {"env": {**os.environ, "TMPDIR": str(scratch)}, "text": True}
    told |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **told) as process:
        try:
            marker = out / "04_waits" / "pid"
            assert soon(lambda: marker.exists() and marker.read_text() != "", 180)
            yield process, int(marker.read_text())
        finally:
            process.kill()


def soon(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it holds before long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
def test_a_kill_leaves_whole_pages_and_the_next_run_repeats_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    left = leftovers.owned(leftovers.PARTIAL).replace(str(os.getpid()), str(gone.pid))
    (tmp_path / f"{left}abcdefgh.html").write_text("half")
    with waiting(tmp_path, scratch) as (_, kernel):
        pass  # killed
    assert soon(lambda: not psutil.pid_exists(kernel))
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "index.html", "04_waits"}
    assert '<span class="status">running</span>' in (tmp_path / "index.html").read_text()
    # What executed the notebook has lived on to clear its own.
    assert soon(lambda: not list(scratch.glob("msgan-notebook-*")))

    again = run_notebooks(EXAMPLES, tmp_path, "smoke", only="04*", say=str)
    assert statuses(again) == {"04_waits": "passed"}
    assert not list(tmp_path.glob(".partial-*"))
    assert "</html>" in (tmp_path / "04_waits.html").read_text()[-20:]


@pytest.mark.slow
def test_an_interruption_ends_all_kernels(tmp_path: Path, tmp_path_factory) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    with waiting(tmp_path, scratch) as (process, kernel):
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "interrupted; run again to continue\n")
    assert soon(lambda: not psutil.pid_exists(kernel))
    assert not list(scratch.glob("msgan-notebook-*"))
    assert not (tmp_path / "04_waits.html").exists()


# --- what is repeated: the kernel replaced by a list of calls ----------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A folder with two notebooks that may be edited."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for stem in ("01_fine", "02_fails"):
        shutil.copy(EXAMPLES / f"{stem}.ipynb", folder)
    return folder


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """(first heading, parameters) of each execution; notebooks that raise fail."""
    calls = []

    def execute(notebook, folder, out, parameters):
        calls.append((notebook.cells[0].source.splitlines()[0], parameters))
        error = "ValueError: no" if "raise" in notebook.cells[2].source else ""
        return notebook, error, 1 << 20

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr(runner, "to_html", lambda notebook, folder, title: "<html></html>")
    return calls


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_only_the_failed_one_is_repeated(book: Path, executed: list) -> None:
    out = book.parent / "out"
    lines: list[str] = []
    first = run_notebooks(book, out, "smoke", say=lines.append)
    assert statuses(first) == {"01_fine": "passed", "02_fails": "failed"}
    second = run_notebooks(book, out, "smoke", say=lines.append)
    assert statuses(second) == {"01_fine": "unchanged", "02_fails": "failed"}
    assert [heading for heading, _ in executed] == [
        "# A notebook that works",
        "# A notebook that fails",
        "# A notebook that fails",
    ]
    assert second[0].seconds == first[0].seconds
    told = [line.split()[0] for line in lines]
    assert told == ["running", "passed", "running", "failed", "unchanged", "running", "failed"]
    assert lines[0].endswith("  01_fine  (0 of 2 done)")  # nothing is known of how long it takes
    assert re.search(r"  02_fails  \(1 of 2 done, about [0-9.]+ s left\)$", lines[2])
    assert re.search(r"  02_fails  \(1 of 2 done, about [0-9.]+ s left\)$", lines[5])
    assert lines[-1].endswith("02_fails  ValueError: no")

    edit(book / "02_fails.ipynb", "raise ValueError", "print")
    assert statuses(run_notebooks(book, out, "smoke", say=str)) == {
        "01_fine": "unchanged",
        "02_fails": "passed",
    }


def test_what_a_run_depends_on_repeats_it(
    book: Path, executed: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, data = book.parent / "out", book.parent / "data"
    data.mkdir()

    def again(preset: str = "smoke", **options) -> bool:
        before = len(executed)
        run_notebooks(book, out, preset, only="01*", data_root=data, say=str, **options)
        return len(executed) > before

    assert again()
    assert not again()
    assert again(seed=1)
    assert not again(seed=1)
    assert executed[-1][1] == {"preset": "smoke", "seed": 1}
    assert again("small", seed=1)
    assert again()
    (data / "a.nii").write_bytes(b"1")
    assert again()
    assert not again()
    (data / "a.nii").write_bytes(b"12")
    assert again()
    monkeypatch.setattr(run_cache, "source_hash", lambda: "another package")
    assert again()
    monkeypatch.setattr(run_cache, "environment_hash", lambda: "another torch")
    assert again()
    edit(book / "01_fine.ipynb", "new_figure(2, 1", "new_figure(3, 1")
    assert again()
    assert not again()
    (out / "01_fine.html").unlink()
    assert again()
    (out / "01_fine").mkdir(exist_ok=True)
    (out / "01_fine" / "sums.csv").write_text("a\n1\n")
    assert again(seed=2)
    assert not again(seed=2)
    (out / "01_fine" / "sums.csv").unlink()
    assert again(seed=2)
    (out / "01_fine.stamp.json").write_text('{"half')
    assert again()
    assert not again()


def test_an_interrupted_run_counts_as_none(
    book: Path,
    executed: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments) -> None:
        raise KeyboardInterrupt

    options = ["run", "--folder", str(book), "--out", str(book.parent / "out"), "--only", "01*"]
    options += ["--jobs", "1"]
    assert main(options) == 0
    with monkeypatch.context() as patch:
        patch.setattr(runner, "execute", interrupted)
        assert main([*options, "--seed", "1"]) == 130
    assert capsys.readouterr().err == "interrupted; run again to continue\n"
    # The interrupted run may have changed results that the earlier stamp vouches for.
    assert main(options) == 0
    assert len(executed) == 2


def test_outputs_left_in_the_notebook_do_not_repeat_it(book: Path, executed: list) -> None:
    out = book.parent / "out"
    run_notebooks(book, out, "smoke", only="01*", say=str)
    path = book / "01_fine.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].outputs = [nbformat.v4.new_output("stream", text="old")]
    notebook.cells[2].execution_count = 3
    notebook.metadata["kernelspec"]["name"] = "another"
    nbformat.write(notebook, path)
    assert statuses(run_notebooks(book, out, "smoke", only="01*", say=str)) == {
        "01_fine": "unchanged"
    }


def test_key_figures_of_an_earlier_run_do_not_outlive_it(book: Path, executed: list) -> None:
    out = book.parent / "out"
    stage = out / "01_fine" / "checkpoint"
    stage.mkdir(parents=True)
    write_results(out / "01_fine", {"SSIM": 1.0})
    run_notebooks(book, out, "smoke", only="01*", say=str)
    assert results.read_results(out / "01_fine") == {}
    assert stage.is_dir()  # stages that the notebook can resume stay


def test_index_knows_notebooks_that_were_not_asked_for(book: Path, executed: list) -> None:
    out = book.parent / "out"
    run_notebooks(book, out, "smoke", only="02*", say=str)
    assert "1 not run, 1 failed" in (out / "index.html").read_text()
    edit(book / "02_fails.ipynb", "<30>", "<31>")
    run_notebooks(book, out, "smoke", only="01*", say=str)
    assert "1 passed, 1 outdated" in (out / "index.html").read_text()


def test_two_runs_do_not_write_to_one_folder(book: Path, executed: list) -> None:
    out = book.parent / "out"
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="out: another run is writing here"):
            run_notebooks(book, out, "smoke", say=str)
    assert executed == []


def test_bad_input_is_one_line(
    book: Path, executed: list, capsys: pytest.CaptureFixture[str]
) -> None:
    out = book.parent / "out"
    with pytest.raises(InputError, match=r"no notebook is named .* matches '9\*'"):
        run_notebooks(book, out, "smoke", only="9*")
    with pytest.raises(InputError, match="the data root must be an existing folder"):
        run_notebooks(book, out, "smoke", data_root=book / "absent")
    (book / "03_broken.ipynb").write_text("{")
    with pytest.raises(InputError, match=r"03_broken.ipynb: not a readable notebook"):
        run_notebooks(book, out, "smoke", say=str)
    assert main(["run", "--folder", str(book), "--out", str(out), "--only", "9*"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_last_lines_name_failures(
    book: Path, executed: list, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--folder", str(book), "--out", str(book.parent / "out"), "--jobs", "1"]
    assert main(["run", *options]) == 1
    assert capsys.readouterr().err == "failed: 02_fails: ValueError: no\n"
    assert main(["run", *options, "--only", "01*"]) == 0
    assert capsys.readouterr().err == ""


# --- results and page --------------------------------------------------------------------------


def test_results_folder_is_where_the_runner_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(results.RESULTS, str(tmp_path / "run"))
    assert results_folder("01_fine", "smoke") == tmp_path / "run" / "01_fine"
    assert (tmp_path / "run" / "01_fine").is_dir()
    monkeypatch.delenv(results.RESULTS)
    monkeypatch.setattr(results, "__file__", str(tmp_path / "site" / "msgan" / "report" / "x.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(results.NOTEBOOK, raising=False)
    expected = tmp_path / "reports" / "runs" / "mine" / "published" / "01_fine"
    assert results_folder("01_fine", "published") == expected


def test_an_experiment_replaces_no_results_of_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "__file__", str(tmp_path / "site" / "msgan" / "report" / "x.py"))
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "reports" / "runs" / "smoke"
    with monkeypatch.context() as runner:
        runner.setenv(results.RESULTS, str(record))
        results.write_results(results_folder("03_train", "smoke"), {"of record": 1})
        assert results_folder("shared", "smoke") == record / "shared"
    folders = []
    for name in ("notebooks/03_train.ipynb", "notebooks/03_train-Copy1.ipynb"):
        monkeypatch.setenv(results.NOTEBOOK, name)
        folders.append(results_folder("03_train", "smoke"))
        results.write_results(folders[-1], {"an experiment": 2})
        assert results_folder("shared", "smoke") == record / "shared"  # trainings are found again
    assert [folder.name for folder in folders] == ["03_train", "03_train-Copy1"]
    assert results.read_results(record / "03_train") == {"of record": 1}


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": [1]}', "{"])
def test_unreadable_results_are_said_on_the_page(tmp_path: Path, text: str) -> None:
    (tmp_path / "01_x").mkdir()
    (tmp_path / "01_x" / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json: "):
        results.read_results(tmp_path / "01_x")
    page.write_index(tmp_path, tmp_path, "smoke", [run_cache.Run("01_x", "passed")])
    assert "<pre>results.json: " in (tmp_path / "index.html").read_text()


def test_source_hash_sees_a_changed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "msgan"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1")
    monkeypatch.setattr(msgan, "__file__", str(package / "__init__.py"))
    before = run_cache.source_hash()
    (package / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert run_cache.source_hash() == before
    (package / "__init__.py").write_text("a = 2")
    assert run_cache.source_hash() != before


def test_data_hash_sees_files_come_go_and_change(tmp_path: Path) -> None:
    hashes = [run_cache.data_hash(tmp_path)]
    file = tmp_path / "sub" / "a.nii"
    file.parent.mkdir()
    file.write_bytes(b"1")
    hashes.append(run_cache.data_hash(tmp_path))
    os.utime(file, ns=(0, 0))
    hashes.append(run_cache.data_hash(tmp_path))
    file.rename(tmp_path / "a.nii")
    hashes.append(run_cache.data_hash(tmp_path))
    assert len(set(hashes)) == 4
    assert run_cache.data_hash(tmp_path) == hashes[-1]


# --- results of record -------------------------------------------------------------------------

SCORED = """task,fold,method,subject,ssim,seconds,dims
a→b,0,cascade,x,0.5,1,3D
a→b,0,cascade,y,0.7,3,3D
a→b,0,source,x,0.2,,3D
a→b,0,source,y,0.4,,3D
"""

SEGMENTED = "task,method,subject,dice,trained\na→b,mine,x,0.5,2\na→b,mine,y,0.7,2\n"
COST = "method,steps,seam\nmine,90,0.81\nother,23,\n"

TESTED = """task,method,reference,metric,n,difference,low,high,t_p_holm,wilcoxon_p_holm,note
a→b,source,cascade,ssim,2,-0.3,-0.3,-0.3,,0.5,
"""


def test_tables_of_a_run_are_kept_with_what_made_them(out: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(out, tmp_path / "run")
    (run / "01_fine" / "scores.csv").write_text(SCORED, encoding="utf-8")
    (run / "01_fine" / "tests.csv").write_text(TESTED, encoding="utf-8")
    (run / "01_fine" / "dice.csv").write_text(SEGMENTED, encoding="utf-8")
    (run / "01_fine" / "costs.csv").write_text(COST, encoding="utf-8")
    options = ["--out", str(run), "--reports", str(tmp_path / "kept")]
    assert main(["record", "01_fine", *options]) == 0
    folder = tmp_path / "kept" / "small" / "01_fine"
    assert capsys.readouterr().out.strip() == str(folder / "card.json")
    assert (folder / "scores.csv").read_text(encoding="utf-8") == SCORED
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert card["title"] == "A notebook that works"
    assert card["data"] == "phantoms"
    assert card["convention"] == {"dims": "3D"}
    assert card["a→b"]["cascade"] == {"ssim": 0.6, "seconds": 2.0}
    assert card["a→b"]["source"] == {"ssim": 0.3}  # a time that was not measured is not there
    assert card["a→b, standard deviation"]["cascade"]["ssim"] == pytest.approx(0.02**0.5, rel=1e-5)
    assert card["a→b, subjects"] == 2
    tested = card["a→b, ssim, minus cascade"]["source"]
    assert tested == {"n": 2, "difference": -0.3, "low": -0.3, "high": -0.3, "wilcoxon_p_holm": 0.5}
    assert card["segmenters, a→b"] == {"mine": {"dice": 0.6, "trained": 2.0}}
    assert card["segmenters, a→b, subjects"] == 2
    assert card["costs"] == {"mine": {"steps": 90.0, "seam": 0.81}, "other": {"steps": 23.0}}
    stamped = read(run, "01_fine")
    assert (card["seconds"], card["git"]) == (round(stamped.seconds, 1), stamped.git)
    assert card["figures"]["seed"] == 7


@pytest.mark.parametrize("stem", ["02_fails", "09_absent"])
def test_what_has_not_passed_is_not_kept(out: Path, tmp_path: Path, stem: str, capsys) -> None:
    assert main(["record", stem, "--out", str(out), "--reports", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {out}: {stem} has not passed there: run it first\n"
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_s_process_is_interrupted_when_its_runner_has_gone() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    there, here = os.pipe()
    try:
        os.write(here, b"no more is read than is written")
        watch = threading.Thread(target=worker._watch, args=(there,))
        watch.start()
        watch.join(0.02)
        assert watch.is_alive()  # as long as the runner is there
        with pytest.raises(KeyboardInterrupt):
            left(here, watch)
    finally:
        watch.join()
        os.close(there)
        signal.signal(signal.SIGINT, before)


def left(pipe: int, watch: threading.Thread) -> None:
    """The runner goes; the process would go on for long."""
    os.close(pipe)
    watch.join(10)
    time.sleep(10)


def test_a_process_that_has_ended_holds_no_memory() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as held:
        process = psutil.Process(held.pid)
        assert 0 < execute._memory(process) < 1 << 30
        assert 0 < execute._resident(process) < 1 << 30
    assert execute._memory(process) == execute._resident(process) == 0
