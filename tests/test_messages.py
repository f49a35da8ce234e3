"""A message names the cause, and the value or the name that helps."""

import errno
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from helpers import head, stored
from program import TINY, fails, msgan_cli
from pydantic import ValidationError
from test_outputs import SHAPE, image

from msgan import paths, translate
from msgan.cli.faults import explanation
from msgan.cli.init import init
from msgan.config import TrainConfig
from msgan.data.cohort import Subject, prepare
from msgan.data.distinct import Distinct
from msgan.translate import Generation
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


# --- axes --------------------------------------------------------------------------------------


def test_an_image_of_other_axes_is_called_that(here, runs, dims):
    other = 5 - dims
    source = image(here / "x.nii", other)
    labels = stored(here / "seg.nii", np.ones(SHAPE[other], np.uint8), dtype=np.uint8)
    said = f"{source}: image of {other} axes, the run was trained on {dims}"
    for run in (runs[dims], runs[dims, "spaced"]):
        assert fails("translate", run.folder, source, here / "o.nii") == said
        assert fails("plan", run.folder, source) == said
    real = image(here / "real.nii", dims)
    assert fails("evaluate", source, real) == f"{source}: image of {other} axes, {real} has {dims}"
    for words in (("sketch", real, here / "o.nii", "--labels"), ("evaluate", real, real, "--mask")):
        line = fails(*words, labels)
        assert line.startswith(f"{labels}: labels do not lie on their image")
        assert f"image of {other} axes instead of {dims}" in line
    with prepare(Subject("a", {"t1": real}), None, runs[dims].config.preparation) as ready:
        assert ready.grid.source.dims == dims  # nothing is asked where nothing is told


def test_a_manifest_of_pictures_and_volumes_names_the_file(here):
    import yaml

    rows = ["subject,role,modality,path,licence,citation"]
    for name, axes in (("a", 3), ("b", 2)):
        image(here / f"{name}.nii", axes)
        rows.append(f"{name},image,t2,{name}.nii,none,nobody")
    (here / "m.csv").write_text("\n".join(rows))
    (here / "flat.yaml").write_text(yaml.safe_dump({**TINY, "dims": 2}))
    words = ("train", here / "m.csv", "--target", "t2", "--out", here / "r", "--device", "cpu")
    assert fails(*words) == f"{here / 'b.nii'}: image of 2 axes, the configuration has dims 3"
    line = fails(*words, "--config", here / "flat.yaml")
    assert line == f"{here / 'a.nii'}: image of 3 axes, the configuration has dims 2"
    assert not (here / "r").exists()


# --- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "holds"),
    [(255, "labels 0, 255"), (3, "labels 0, 3"), (-4, "labels from -4 to 0"), (300, "from 0 to 3")],
)
def test_labels_that_are_not_drawn_are_listed(here, runs, dims, value, holds):
    source = image(here / "x.nii", dims)
    drawn = np.where(head(SHAPE[dims]) > 60, value, 0).astype(np.int16)
    labels = stored(here / "seg.nii", drawn, dtype=np.int16)
    run = runs[dims, "labelled"]
    for words in (("translate", run.folder, source, here / "o.nii"), ("plan", run.folder, source)):
        line = fails(*words, "--labels", labels)
        assert line.startswith(f"{labels}: holds ")
        assert holds in line
        assert line.endswith("expected 0, 1, 2, 4")
    subject = Subject("a", {"t1": source}, labels=labels)
    with pytest.raises(InputError, match=re.escape(f"{labels}: holds ")):
        translate.translate(run, subject, here / "o.nii", device="cpu")
    # Where labels are not drawn, their values matter to nobody.
    with prepare(subject, None, run.config.preparation) as ready:
        assert ready.has_labels


def test_labels_of_a_training_are_looked_at_before_it(here):
    import yaml

    image(here / "a.nii")
    drawn = np.where(head(SHAPE[3]) > 60, 3, 0).astype(np.uint8)
    stored(here / "seg.nii", drawn, dtype=np.uint8)
    (here / "m.csv").write_text(
        "subject,role,modality,path,licence,citation\n"
        "a,image,t2,a.nii,none,nobody\na,labels,,seg.nii,none,nobody\n"
    )
    (here / "c.yaml").write_text(yaml.safe_dump({**TINY, "labels": [1, 2, 4]}))
    words = ("train", here / "m.csv", "--config", here / "c.yaml", "--target", "t2", "--out")
    line = fails(*words, here / "r", "--device", "cpu")
    assert line == f"{here / 'seg.nii'}: holds labels 0, 3: expected 0, 1, 2, 4"


def test_a_label_map_in_place_of_an_image_is_noted(here, runs, dims):
    labels = np.where(head(SHAPE[dims]) > 60, 3, head(SHAPE[dims]) > 30).astype(np.uint8)
    labels = stored(here / "seg.nii", labels, dtype=np.uint8)
    for words in (("translate", labels, here / "o.nii"), ("plan", labels)):
        done = msgan_cli(words[0], runs[dims].folder, *words[1:])
        assert f"note: {labels}: holds the whole numbers 0, 1, 3 and no others" in done.stderr
    done = msgan_cli("plan", runs[dims].folder, image(here / "x.nii", dims))
    assert "whole numbers" not in done.stderr


def test_values_are_gathered_while_they_are_few_and_whole():
    box = Box((0,), (1000,))
    for values, noted in (
        (np.arange(1000) % 5, True),
        (np.arange(1000) % 5 + 0.5, False),
        (np.arange(1000) % 200, False),
        (np.where(np.arange(1000) == 7, 0.5, 1), False),  # one voxel that a sample would miss
    ):
        seen = Distinct()
        seen.add(box, np.zeros(1000, np.float32))
        seen.add(box, values.astype(np.float32))
        assert bool(seen.note) == noted


# --- memory ------------------------------------------------------------------------------------


def test_what_a_message_says_to_give_is_enough(here, runs):
    source = image(here / "x.nii")
    words = ("plan", runs[3].folder, source, "--device", "cpu", "--memory")
    line = fails(*words, "100MB")
    assert "and an eighth in reserve: give at least " in line
    least = line.rpartition("at least ")[2]
    assert re.fullmatch(r"\d+(\.\d)?GB", least)
    msgan_cli(*words, least)
    half = f"{float(least[:-2]) / 2:g}GB"
    assert "at least" in fails(*words, half)


def test_the_number_is_that_of_the_scale_that_needs_most(runs, monkeypatch):
    plan = import_module("msgan.translate.plan")
    needs = {0: 10**9, 1: 3 * 10**9}

    def refuse(generation, i, shape, limits, device):
        raise plan.NoRoom(f"this is scale {i}", needs[i])

    monkeypatch.setattr(plan, "scale_plan", refuse)
    with pytest.raises(InputError, match="this is scale 1"):
        plan._scale_plans(Generation.of(runs[3]), [(8,) * 3] * 2, plan.Limits(), None)
    assert [plan._given(n) for n in (1, 600_000_001, 10**9, 12_300_000_000)] == [
        *("0.1GB", "0.7GB", "1GB", "13GB")
    ]


@pytest.mark.parametrize("option", ["--memory", "--gpu-memory"])
def test_a_size_that_is_none_names_its_option(here, runs, option):
    source = image(here / "x.nii")
    for text in ("", "2GX", "lots", "0"):
        for words in (("plan",), ("translate",)):
            more = [here / "o.nii"] if words[0] == "translate" else []
            line = fails(*words, runs[3].folder, source, *more, option, text)
            assert line.startswith(f"{option} {text!r}: expected ")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (MemoryError("Unable to allocate 8.00 GiB for an array"), "this machine"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), "this machine"),
        (RuntimeError("std::bad_alloc"), "this machine"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine"),
        (RuntimeError("CUDA error: out of memory\nCompile with"), "the device"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "the device"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "the device"),
    ],
)
def test_out_of_memory_says_what_takes_less(here, runs, monkeypatch, error, where):
    source = image(here / "in" / "x.nii")

    def broken(*args, **options):
        raise error

    monkeypatch.setattr("msgan.translate.translate", broken)
    line = fails("translate", runs[3].folder, source, here / "o.nii")
    assert line == f"{where} is out of memory: give less --memory or --gpu-memory or a smaller " + (
        "--tile, or take --device cpu"
    )
    many = msgan_cli("translate", runs[3].folder, here / "in", here / "out", status=2)
    assert f"error: {source}: {where} is out of memory" in many.stderr
    assert "training.batch" in str(explanation(error, "train"))
    assert str(explanation(error, "evaluate")).startswith(f"{where} is out of memory: end other")
    assert explanation(RuntimeError("mat1 and mat2 shapes"), "train") is None


def test_what_the_system_says_names_a_file_or_where_to_look(tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    full = errno.ENOSPC, "No space left on device"
    assert explanation(OSError(*full, "a.nii")) == "a.nii: No space left on device"
    assert str(tmp_path / "scratch") in str(explanation(OSError(*full)))
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises((FileExistsError, NotADirectoryError)) as error:
            path.mkdir()
        said = f"{tmp_path / 'file'}: is a file, expected a folder"
        assert explanation(error.value) == said
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "b.nii")
    assert explanation(missing) == "b.nii: No such file or directory"


def test_a_setting_that_breaks_a_rule_is_named_with_it():
    with pytest.raises(ValidationError) as error:
        TrainConfig(steps=0, lr_steps=1)
    assert explanation(error.value) == "steps: expected at least 1, not 0"


def test_of_a_reader_that_has_left_nothing_is_said():
    assert explanation(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


# --- names that are no UTF-8 -------------------------------------------------------------------


def test_a_name_that_is_no_utf8_is_named_and_left_out(here):
    import os

    image(here / "in" / "s1_t1.nii")
    try:
        os.rename(image(here / "in" / "a.nii"), os.fsencode(here / "in") + b"/s2_t1\xff.nii")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    done = msgan_cli("init", here / "study", "--from", here / "in")
    assert r"s2_t1\xff.nii: its name has bytes that are not UTF-8: rename it" in done.stdout
    assert r"`s2_t1\xff.nii`" in (here / "study" / "notes.md").read_text(encoding="utf-8")
    for words in (
        ("study2", "--from", os.fsdecode(b"in\xff")),
        (os.fsdecode(b"study\xff"), "--from", "in"),
    ):
        if words[2] != "in":
            os.rename("in", words[2])
        with pytest.raises(InputError, match="its name has bytes that are not UTF-8") as error:
            init(Path(words[0]), Path(words[2]))
        assert not Path(words[0]).exists()
        assert "\udcff" in str(error.value)
        if words[2] != "in":
            os.rename(words[2], "in")


def test_text_that_names_such_a_file_is_not_written(tmp_path):
    path = tmp_path / "notes.md"
    path.write_text("old")
    with pytest.raises(InputError) as error:
        paths.write_text(path, "first\nof a\udcff.nii here\nlast")
    assert str(error.value) == (
        f"{path}: cannot be written: bytes that are not UTF-8 in the line "
        r"'of a\udcff.nii here': rename the file or folder they name"
    )
    assert path.read_text() == "old"


def test_a_fault_at_one_image_stops_no_others(here, runs, monkeypatch):
    for name in "ab":
        image(here / "in" / f"{name}.nii")
    apply = translate.translate

    def broken(run, source, *args, **options):
        if source.name == "a.nii":
            raise KeyError("x\ny")
        return apply(run, source, *args, **options)

    monkeypatch.setattr("msgan.translate.translate", broken)
    words = ("translate", runs[3].folder, here / "in", here / "out")
    done = msgan_cli(*words, status=2)
    assert f"error: {here / 'in/a.nii'}: KeyError: 'x\\ny'" in done.stderr
    assert "error: 1 of 2 images could not be translated" in done.stderr
    assert [p.name for p in (here / "out").glob("*.nii")] == ["b.nii"]


def test_a_fault_of_the_program_is_shown_whole_if_asked(here, runs, monkeypatch):
    image(here / "in" / "a.nii", 2)

    def broken(*args, **options):
        raise KeyError("x")

    monkeypatch.setattr("msgan.translate.translate", broken)
    words = ("translate", runs[2].folder, here / "in", here / "out")
    assert (
        "(a fault of this program: MSGAN_DEBUG=1 shows where)" in msgan_cli(*words, status=2).stderr
    )
    monkeypatch.setenv("MSGAN_DEBUG", "1")
    assert isinstance(msgan_cli(*words, status=1).exception, KeyError)


class Workers:
    """A cluster that makes what it is asked for here, the last image first."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.left = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.left = True

    def images(self, run, pairs, options):
        for k in reversed(range(len(pairs))):
            try:
                yield k, translate.translate(run, *pairs[k], **options[k])
            except InputError as error:
                yield k, error


def test_a_cluster_gets_the_images_of_a_folder_and_tells_what_became_of_each(
    here, runs, monkeypatch
):
    begun = []
    monkeypatch.setattr(
        "msgan.translate.cluster.Cluster",
        lambda address: begun.append(Workers(address)) or begun[-1],
    )
    for k, name in enumerate("ab"):
        image(here / "in" / f"{name}.nii", 2, seed=k)
    whole_numbers = np.where(head(SHAPE[2]) > 60, 3, 0)
    stored(here / "in" / "c.nii", whole_numbers.astype(np.uint8), dtype=np.uint8)
    (here / "in" / "b.nii").write_bytes(b"broken")
    words = ("translate", runs[2].folder, here / "in", here / "out", "--device", "cpu")
    done = msgan_cli(*words, "--cluster", "tcp://there:1", status=2)
    assert [(own.address, own.left) for own in begun] == [("tcp://there:1", True)]
    told = [Path(line.split(" (")[0]).name for line in done.stdout.splitlines()]
    assert told == ["c.nii", "a.nii"]
    assert f"note: {here / 'in/c.nii'}: holds the whole numbers 0, 3 and no others" in done.stderr
    assert f"error: {here / 'in/b.nii'}: " in done.stderr
    assert "error: 1 of 3 images could not be translated" in done.stderr
    alone = here / "alone.nii"
    translate.translate(runs[2], here / "in" / "a.nii", alone, device="cpu")
    assert (here / "out" / "a.nii").read_bytes() == alone.read_bytes()


# --- scratch -----------------------------------------------------------------------------------


def test_a_scratch_that_is_none_is_named(tmp_path, runs, monkeypatch):
    import tempfile

    source = image(tmp_path / "x.nii.gz")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    words = (("translate", runs[3].folder, source, tmp_path / "o.nii"), ("sketch", source))
    words = (words[0], (*words[1], tmp_path / "o.nii"), ("evaluate", source, source))
    for place, why in (
        (tmp_path / "file", "is a file, expected a folder for temporary files"),
        (tmp_path / "file" / "sub", f"{tmp_path / 'file'}: is a file, expected a folder"),
        (tmp_path / "lost", "is a link that leads nowhere, expected a folder"),
        (Path("/proc/none"), "no folder for temporary files"),
    ):
        monkeypatch.setenv("MSGAN_SCRATCH", str(place))
        for command in words:
            line = fails(*command)
            assert f"MSGAN_SCRATCH: {place}: {why}" in line
            assert "File exists" not in line
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "new" / "scratch"))
    msgan_cli(*words[0])  # one that is not there is made
    monkeypatch.setenv("MSGAN_SCRATCH", "")
    assert paths.scratch_root() == Path(tempfile.gettempdir())
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "file"))
    assert "evaluate" in msgan_cli("--help").stdout


# --- what is given -----------------------------------------------------------------------------


def test_a_run_is_no_image_and_an_image_no_run(here, runs):
    source, run = image(here / "x.nii"), runs[3].folder
    out = here / "o.nii"
    for words in (("translate", source, run, out), ("plan", source, run)):
        assert fails(*words).startswith(f"{source}: is a file, expected the folder of a run")
    for words in (
        *(("translate", run, run, out), ("translate", run, run, here / "out")),
        *(("plan", run, run), ("sketch", run, out), ("evaluate", run, source)),
    ):
        assert fails(*words) == f"{run}: is the folder of a run, expected an image"
    line = fails("translate", run, "brain-phantom-t2", out)
    assert "it is the name of a model: RUN comes first" in line
    folder = image(here / "in" / "x.nii").parent
    for words in (("translate", run, folder, out), ("plan", run, folder), ("sketch", folder, out)):
        assert fails(*words).startswith(f"{folder}: is a folder of images, as x.nii")
    for given, kind in ((here, "a folder"), (source, "an image")):
        line = fails("train", given, "--target", "t2", "--out", here / "r")
        assert line.startswith(f"{given}: is {kind}, expected a manifest")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("fly", "No such command 'fly' (see msgan --help)"),
        ("--fast", "No such option: --fast (see msgan --help)"),
        ("train m.csv", "Missing option '--out' (see msgan train --help)"),
        ("translate a b c d", "(see msgan translate --help)"),
        ("translate a b c --tile 1", "--tile: "),
        ("translate a b c --precision half", "'half' is not one of"),
        ("train m.csv --out r --seed 1.5", "--seed"),
        ("explore --port 70000", "--port"),
        ("evaluate a b --data-range wide", "--data-range"),
        ("data", "Missing command (see msgan data --help)"),
    ],
)
def test_wrong_use_is_one_line(words, line):
    said = fails(*words.split())
    assert line in said
    assert "Input should be" not in said
    assert "Value error" not in said


HOSTILE = "a\x1b[2J\udcff\u202e\u2066b.nii: no\nnote: all is well\t[red]"
SEEN = r"a\x1b[2J\udcff\u202e\u2066b.nii: no\nnote: all is well\t[red]"


def test_names_are_printed_with_escapes_in_one_line(capsys):
    from msgan.cli import console

    console.note(f"error: {HOSTILE}")
    console.notes([HOSTILE])
    console.say(f"ä → {HOSTILE}")
    with console.Bars(HOSTILE) as bars:
        bars.update(HOSTILE, 1, 2, "parts", HOSTILE)
        bars.note(HOSTILE)
    out, err = capsys.readouterr()
    assert out == f"ä → {SEEN}\n"
    first, second, third, last = err.splitlines()
    assert (first, second, third) == (f"error: {SEEN}", f"note: {SEEN}", f"note: {SEEN}")
    assert last.startswith(f"{SEEN}: 1/2 parts, {SEEN}, ")
    assert explanation(InputError(HOSTILE)) == HOSTILE  # it is escaped once, where it is printed


def test_bars_on_a_terminal_show_names_with_escapes(monkeypatch):
    import io
    import sys

    from msgan.cli import console
    from msgan.printing import Escaped

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", Escaped(terminal))
    with console.Bars(HOSTILE) as bars:
        bars.update(f"{HOSTILE} s0", 1, 2, "tiles", HOSTILE)
        bars.note(HOSTILE)
        bars.update(HOSTILE, 1, 2, "tiles")
    drawn = terminal.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)  # what bars themselves send
    assert "\x1b" in drawn
    assert plain.replace("\n", "").replace("\r", "").isprintable()
    assert f"note: {SEEN}" in plain
    assert f"{SEEN} s0" in plain
    assert "\x1b[2J" not in drawn


def test_warnings_logs_and_tracebacks_are_printed_with_escapes(monkeypatch):
    import io
    import logging
    import signal
    import sys
    import traceback

    from msgan.cli import program

    def app(**_):
        print(HOSTILE)
        logging.StreamHandler(sys.stderr).emit(logging.makeLogRecord({"msg": HOSTILE}))
        try:
            raise KeyError(HOSTILE)
        except KeyError:
            traceback.print_exc()
        raise SystemExit(0)

    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(program, "app", app)
    with pytest.raises(SystemExit):
        program.run()
    for text, count in ((out.getvalue(), 1), (err.getvalue(), 2)):
        assert text.replace("\n", "").isprintable()
        assert text.count(r"a\x1b[2J") == count
