"""What the user has is never replaced unasked, by any command."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import head, stored
from program import fails, msgan_cli

from msgan import translate
from msgan.cli import outputs
from msgan.cli.jobs import Job, check_outputs, is_folder, is_images, missing, of_folder, of_manifest
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.places import files_of, require_apart, require_kind
from msgan.data.volume import open_volume, write_volume
from msgan.translate import Generation
from msgan.translate.provenance import beside
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {2: (24, 28), 3: (20, 24, 22)}
SUFFIX = {2: ".tif", 3: ".nii.gz"}


def image(path: Path, dims: int = 3, seed: int = 0) -> Path:
    return stored(path, head(SHAPE[dims], seed))


def contents(folder: Path) -> dict:
    """Bytes of every file below a folder, links as what they lead to."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and ".scratch" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def untouched(folder: Path, *words: object) -> str:
    """The message of a command that is refused with nothing on the disk changed."""
    before = contents(folder)
    line = fails(*words)
    assert contents(folder) == before
    assert "Traceback" not in line
    return line


# --- a result is not what is read --------------------------------------------------------------


def aliases(path: Path) -> list[Path]:
    """Other names of a file: links of both kinds, and ways that lead there."""
    folder = path.parent
    (folder / "sub").mkdir(exist_ok=True)
    symbolic, hard = folder / f"symbolic{path.name}", folder / f"hard{path.name}"
    symbolic.symlink_to(path.name)
    os.link(path, hard)
    (folder.parent / "other").symlink_to(folder, target_is_directory=True)
    return [
        path,
        symbolic,
        hard,
        folder / "sub" / ".." / path.name,
        Path(os.path.relpath(path)),
        folder.parent / "other" / path.name,
    ]


def test_no_command_writes_onto_what_it_reads(here, dims, runs):
    (here / "data").mkdir()
    source = image(here / "data" / f"scan{SUFFIX[dims]}", dims)
    ways = aliases(source)
    for out, force in ((source, ()), *((way, ("--force",)) for way in ways)):
        for words in (("sketch",), ("translate", runs[dims].folder)):
            line = untouched(here, *words, source, out, *force)
            what = "an input" if out == source else source
            assert line.startswith(f"{out}: is {what}, which is read and never replaced")
        line = untouched(here, "evaluate", source, source, "--json", out, *force)
        assert "never replaced" in line
    labels = stored(here / f"seg{SUFFIX[dims]}", np.ones(SHAPE[dims], np.uint8), dtype=np.uint8)
    line = untouched(here, "sketch", source, labels, "--labels", labels, "--force")
    assert line.startswith(f"{labels}: is an input, which is read")


def test_the_channels_of_a_sketch_are_results_as_well(here):
    source = image(here / "a_ridges.nii")
    words = ("sketch", source, here / "a.nii", "--channels", "edges,ridges", "--force")
    assert f"{source}: is an input" in untouched(here, *words)
    words = ("sketch", source, here / "b.nii", "--channels", "edges,ridges")
    msgan_cli(*words)
    assert "2 of 2 results are there already" in untouched(here, *words)
    (here / "b_edges.nii").unlink()
    assert untouched(here, *words).startswith(f"{here / 'b_ridges.nii'}: is there already")


def test_an_image_of_several_files_is_all_of_them(tmp_path):
    for name in ("a.hdr", "a.img", "m.raw", "s1.raw", "s2.raw", "l1.raw", "l2.raw", "n.raw"):
        (tmp_path / name).write_bytes(b"x")
    head = "ObjectType = Image\nNDims = 3\nElementDataFile = "
    (tmp_path / "m.mhd").write_text(head + "m.raw\n")
    (tmp_path / "s.mhd").write_text(head + "s%d.raw 1 2 1\n")
    (tmp_path / "l.mhd").write_text(head + "LIST\nl1.raw\nl2.raw\n")
    (tmp_path / "local.mha").write_text(head + "LOCAL\n" + "m.raw\n")
    (tmp_path / "n.nhdr").write_text("NRRD0004\nsizes: 1 1 1\ndata file: n.raw\n\n")
    parts = {
        "a.hdr": ["a.img"],
        "a.img": ["a.hdr"],
        "m.mhd": ["m.raw"],
        "s.mhd": ["s1.raw", "s2.raw"],
        "l.mhd": ["l1.raw", "l2.raw"],
        "n.nhdr": ["n.raw"],
        "local.mha": [],
    }
    for name, others in parts.items():
        source = tmp_path / name
        assert sorted({f.name for f in files_of(source) if f.exists()}) == others
        for other in others:
            with pytest.raises(InputError, match=rf"{other}: is a part of .*{name}"):
                require_apart([tmp_path / other], [source])
    require_apart([tmp_path / "m.raw"], [tmp_path / "local.mha"])
    require_apart([tmp_path / "b.img"], [tmp_path / "a.hdr"])  # is not there: nothing to lose


def test_a_folder_that_is_an_image_is_left_as_it_is(here, runs):
    source = image(here / "scan.zarr")
    for out in (source / "t2.nii", source / "0" / "t2.nii", source):
        for words in (("sketch",), ("translate", runs[3].folder)):
            line = untouched(here, *words, source, out, "--force")
            assert str(source) in line
            assert "which is read" in line
    inner = source / "inside.nii"
    image(inner)
    line = untouched(here, "sketch", inner, source, "--force")
    assert line.startswith(f"{source}: holds {inner}, which is read")
    (here / "link.zarr").symlink_to(source)
    assert "lies in" in untouched(here, "sketch", source, here / "link.zarr" / "a.nii")
    line = untouched(
        here, "translate", runs[3].folder, source, here / "o.nii", "--keep", source / "k"
    )
    assert "lies in" in line


def test_other_names_are_free(here, runs, dims):
    """What may be written is written: beside the source, and in a folder that holds it."""
    source = image(here / f"scan{SUFFIX[dims]}", dims)
    done = msgan_cli(
        *("translate", runs[dims].folder, source, here / f"t2{SUFFIX[dims]}"), "--keep", here
    )
    assert done.stdout.startswith(str(here / f"t2{SUFFIX[dims]}"))
    assert {"y0.nii", "y1.nii", "t2.json"} <= {p.name for p in here.iterdir()}


# --- a result that is there --------------------------------------------------------------------


def test_results_are_replaced_only_if_asked(here, runs, dims):
    source = image(here / f"scan{SUFFIX[dims]}", dims)
    out = here / f"out{SUFFIX[dims]}"
    for words in (("sketch",), ("translate", runs[dims].folder)):
        out.write_bytes(b"mine")
        line = untouched(here, *words, source, out)
        assert line == f"{out}: is there already: pass --force to replace it"
        msgan_cli(*words, source, out, "--force")
        with open_volume(out) as made:
            assert made.grid.shape == SHAPE[dims]
    scores = here / "scores.json"
    msgan_cli("evaluate", source, source, "--json", scores)
    assert "pass --force" in untouched(here, "evaluate", source, source, "--json", scores)
    msgan_cli("evaluate", source, source, "--json", scores, "--force")


def test_the_check_comes_before_the_work(here, runs, monkeypatch):
    source = image(here / "scan.nii")
    (here / "out.nii").write_bytes(b"mine")
    (here / "link.nii").symlink_to(here / "gone.nii")  # even a link that leads nowhere
    for name in ("msgan.translate.translate", "msgan.metrics.scores_of"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("too late"))
    monkeypatch.setattr("msgan.data.volume.Volume.visit", lambda *a: pytest.fail("too late"))
    for out in (here / "out.nii", here / "link.nii"):
        assert "--force" in untouched(here, "translate", runs[3].folder, source, out)
        assert "--force" in untouched(here, "sketch", source, out)


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_folder_is_no_file_and_a_file_no_folder(here, runs, force):
    source = image(here / "scan.nii")
    (here / "out.nii.gz").mkdir()
    (here / "out.nii.gz" / "mine.txt").write_text("mine")
    (here / "mine.zarr").mkdir()
    (here / "mine.zarr" / "mine.txt").write_text("mine")
    (here / "file.zarr").write_text("mine")
    for words in (("sketch",), ("translate", runs[3].folder)):
        for name, rule in (
            ("out.nii.gz", "is a folder, expected the name of a file"),
            ("mine.zarr", "exists and is not a Zarr folder"),
            ("file.zarr", "is a file, expected a folder"),
            ("scan.nii/a.nii", "is a file, expected a folder"),
        ):
            line = untouched(here, *words, source, here / name, *force)
            assert rule in line
            assert ".partial" not in line
    line = untouched(here, "translate", runs[3].folder, source, here / "out.nii.gz" / "..", *force)
    assert "is a folder: name the image to write" in line
    many = ("translate", runs[3].folder, here)
    assert "cannot write .mgz" in untouched(here, *many, here / "results.mgz", *force)
    keep = ("--keep", here / "file.zarr")
    assert "is a file, expected a folder" in untouched(
        here, "translate", runs[3].folder, source, here / "o.nii", *keep, *force
    )
    long = here / f"{'n' * 300}.nii"
    assert untouched(here, "sketch", source, long, *force) == f"{long}: File name too long"


def test_the_library_refuses_what_would_lose_data_and_replaces_results(here, runs, dims):
    """Cells of a notebook are run again; a result of before may be replaced, a source not."""
    source = image(here / f"scan{SUFFIX[dims]}", dims)
    other = image(here / f"real{SUFFIX[dims]}", dims, seed=1)
    subject = Subject("a", {"t1": source, "t2": other})
    before = contents(here)
    for read, out in ((source, source), (subject, source), (subject, other)):
        with pytest.raises(InputError, match="which is read and never replaced"):
            translate.translate(runs[dims], read, out, modality="t1", device="cpu")
    (here / "folder.nii").mkdir()
    with pytest.raises(InputError, match="is a folder, expected the name of a file"):
        translate.translate(runs[dims], source, here / "folder.nii", device="cpu")
    assert contents(here) == before
    out = here / f"out{SUFFIX[dims]}"
    for _ in range(2):
        translate.translate(runs[dims], source, out, device="cpu")
    with open_volume(out) as shown:  # as a figure does that is still there
        translate.translate(runs[dims], source, out, device="cpu")
        assert shown.grid.shape == SHAPE[dims]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".zarr"])
def test_an_image_is_not_written_from_itself(tmp_path, suffix):
    path, link = image(tmp_path / f"a{suffix}"), tmp_path / f"link{suffix}"
    link.symlink_to(path)
    before = contents(tmp_path)
    for out in (path, link):
        with open_volume(path) as read, pytest.raises(InputError, match="never replaced"):
            write_volume(out, read.grid, read.read)
    assert contents(tmp_path) == before
    with open_volume(path) as read:
        write_volume(tmp_path / f"copy{suffix}", read.grid, read.read)
        write_volume(tmp_path / f"copy{suffix}", read.grid, read.read)
        assert np.array_equal(open_volume(tmp_path / f"copy{suffix}").whole(), read.whole())
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(InputError, match="is a folder, expected the name of a file"):
        write_volume(tmp_path / "folder.nii", Grid((2, 2, 2), np.eye(4)), lambda box: 1 / 0)


# --- folders of images -------------------------------------------------------------------------


def test_all_results_of_a_folder_are_looked_at_before_the_first(here, runs, monkeypatch):
    for k, name in enumerate("abc"):
        image(here / "in" / f"{name}.nii", seed=k)
    words = ("translate", runs[3].folder, here / "in", here / "out")
    (here / "out").mkdir()
    (here / "out" / "c.nii").write_bytes(b"mine")
    line = untouched(here, *words)
    assert line.startswith(f"{here / 'out/c.nii'}: is there already: pass --force to replace it")
    assert "--skip-existing" in line
    done = msgan_cli(*words, "--skip-existing")
    assert "note: 1 of 3 results are there already" in done.stderr
    assert (here / "out" / "c.nii").read_bytes() == b"mine"
    assert [Path(row.split(" (")[0]).name for row in done.stdout.splitlines()] == ["a.nii", "b.nii"]
    assert "every image has a result" in msgan_cli(*words, "--skip-existing").stdout
    again = msgan_cli(*words, status=2).stderr.splitlines()
    assert again[0].startswith("note: 2 of 3 results are there already, of the same images")
    assert again[1].startswith(f"error: {here / 'out/c.nii'}: is there already: pass --force")
    monkeypatch.setattr(
        "msgan.translate.translate", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    stopped = msgan_cli(*words, "--force", status=130)
    assert "run the same command again, without --force" in stopped.stderr
    assert "--skip-existing: expected a folder" in untouched(
        here, *words, "--skip-existing", "--force"
    )


def test_two_images_share_neither_result_nor_folder_of_scales(here, runs):
    image(here / "in" / "a.nii.gz")
    image(here / "in" / "a.mha")
    words = ("translate", runs[3].folder, here / "in", here / "out")
    line = untouched(here, *words, "--keep", here / "k")
    assert "a.mha and" in line
    assert f"what both results were made of would be written to {here / 'out/a.json'}" in line
    image(here / "in" / "deep" / "a" / "b.nii.gz")
    image(here / "in" / "deep" / "a" / "b.mha")
    assert len(msgan_cli(*words, "--match", "*.mha").stdout.splitlines()) == 2
    with pytest.raises(InputError, match="two results would have this name"):
        outputs.check([here / "b.nii", here / "in" / ".." / "b.nii"], force=True)
    source = image(here / "scan.nii")
    keep = ("--keep", here / "k")
    line = untouched(here, "translate", runs[3].folder, source, here / "k" / "y1.nii", *keep)
    assert "two results would have this name" in line


def test_scales_that_were_kept_are_results(here, runs):
    source = image(here / "scan.nii")
    words = ("translate", runs[3].folder, source)
    msgan_cli(*words, here / "a.nii", "--keep", here / "k")
    assert "2 of 3 results are there already" in untouched(
        here, *words, here / "b.nii", "--keep", here / "k"
    )
    msgan_cli(*words, here / "b.nii", "--keep", here / "k", "--force")
    kept = here / "k" / "y1.nii"
    line = untouched(
        here, "translate", runs[3].folder, kept, here / "c.nii", "--keep", here / "k", "--force"
    )
    assert line.startswith(f"{kept}: is an input, which is read")


def test_an_interrupted_translation_goes_on_with_the_same_command(here, runs, monkeypatch):
    """Stopped while the result is written: neither it nor the scales are in the way."""
    from msgan.translate import frame as translation

    source = image(here / "scan.nii")
    words = ("translate", runs[3].folder, source, here / "o.nii", "--keep", here / "k")
    write = translation.write_volume

    def stopping(path, *args, **options):
        if Path(path).name == "o.nii":
            raise KeyboardInterrupt
        write(path, *args, **options)

    monkeypatch.setattr(translation, "write_volume", stopping)
    msgan_cli(*words, status=130)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MSGAN_SCRATCH", str(here / ".scratch"))
    assert sorted(p.name for p in (here / "k").iterdir()) == []
    done = msgan_cli(*words)
    assert "tiles" not in done.stderr  # all of them were kept
    names = ["y0.nii", "y1.nii"]
    assert sorted(p.name for p in (here / "k").iterdir()) == names


def test_many_images_are_compared_quickly(tmp_path):
    """One look at each file, not one for each pair."""
    for k in range(400):
        (tmp_path / f"{k}.nii").touch()
    jobs = [Job(tmp_path / f"{k}.nii", tmp_path / "out" / f"{k}.nii") for k in range(400)]
    counted = []
    original = os.stat

    def counting(*args, **options):
        counted.append(args)
        return original(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", counting)
        check_outputs(None, jobs, force=False)
    assert len(counted) < 40 * len(jobs)


def test_a_folder_in_a_folder_may_hold_the_results(here, runs):
    image(here / "a.nii")
    msgan_cli("translate", runs[3].folder, ".", "results")
    assert sorted(p.name for p in (here / "results").iterdir()) == ["a.json", "a.nii"]
    assert "is the folder the images are in" in untouched(
        here, "translate", runs[3].folder, here, "results/..", "--force"
    )
    assert [job.source.name for job in of_folder(here, here / "more", "*")] == ["a.nii"]


@pytest.mark.parametrize("ask", [is_folder, is_images])
def test_where_nothing_is_there_is_neither_image_nor_folder(tmp_path, ask):
    lost = tmp_path / "lost"
    with pytest.raises(InputError, match=re.escape(f"{lost}: no such file or folder")):
        ask(lost, tmp_path / "out")


def test_of_results_that_are_all_missing_nothing_is_told(tmp_path, capsys):
    jobs = [Job(tmp_path / f"{k}.nii", tmp_path / f"out{k}.nii") for k in range(2)]
    assert missing(jobs) == jobs
    assert capsys.readouterr().err == ""
    (tmp_path / "out1.nii").symlink_to("nowhere")  # a link that leads nowhere has the name, too
    assert missing(jobs) == jobs[:1]
    assert "1 of 2 results are there already" in capsys.readouterr().err


def test_what_is_given_for_a_folder_of_images_is_a_folder(tmp_path):
    images = image(tmp_path / "in" / "a.nii").parent
    (tmp_path / "file").touch()
    for words in ((tmp_path / "out", "*", tmp_path / "file"), (tmp_path / "file", "*")):
        with pytest.raises(InputError) as error:
            of_folder(images, *words)
        assert str(error.value).startswith(f"{tmp_path / 'file'}: ")
        assert str(error.value).endswith("expected a folder: IN is a folder of images")


def test_an_image_beside_another_programs_note_is_an_image(tmp_path):
    image(tmp_path / "in" / "a.nii")
    (tmp_path / "in" / "a.json").write_text("{")
    found = of_folder(tmp_path / "in", tmp_path / "out", "*")
    assert [job.source.name for job in found] == ["a.nii"]


@pytest.fixture
def people(tmp_path) -> Cohort:
    """One has two images beside the target, one has one, and one has the target alone."""
    has = {"a": ("t1", "flair", "t2"), "b": ("t1", "t2"), "c": ("t2",)}
    return Cohort(
        tuple(
            Subject(name, {m: tmp_path / f"{name}_{m}.nii" for m in own}, split="test")
            for name, own in has.items()
        )
    )


def test_subjects_of_a_manifest_without_the_image_are_counted(people, runs, tmp_path, capsys):
    found = of_manifest(people, Generation.of(runs[3]), tmp_path / "out", None, "t1")
    assert [(job.name, job.source.name) for job in found] == [("a", "a_t1.nii"), ("b", "b_t1.nii")]
    assert capsys.readouterr().err == "note: 1 of 3 subjects have no t1\n"


def test_which_image_of_a_subject_is_meant_must_be_clear(people, runs, tmp_path):
    method, out = Generation.of(runs[3]), tmp_path / "out"
    only = Cohort(people.subjects[1:])
    assert [job.modality for job in of_manifest(only, method, out, "test", None)] == ["t1"]
    for cohort, there in ((people, "t1, flair"), (Cohort(people.subjects[2:]), "none beside t2")):
        with pytest.raises(InputError, match=rf"--modality is missing: .*there are {there}$"):
            of_manifest(cohort, method, out, None, None)


def test_the_results_of_a_manifest_are_no_file(people, runs, tmp_path):
    (tmp_path / "out.nii").touch()
    with pytest.raises(InputError, match=r"out\.nii: is a file, expected a folder: IN is a man"):
        of_manifest(people, Generation.of(runs[3]), tmp_path / "out.nii", None, "t1")


def test_a_label_map_that_is_gone_is_told_and_its_result_stays(here, runs):
    image(here / "in" / "a.nii", 2)
    drawn = np.where(head(SHAPE[2]) > 60, 1, 0).astype(np.uint8)
    labels = stored(here / "labels" / "a.nii", drawn, dtype=np.uint8)
    words = ("translate", runs[2, "labelled"].folder, here / "in", here / "out")
    words += ("--labels", here / "labels")
    msgan_cli(*words)
    labels.unlink()
    before = contents(here / "out")
    line = untouched(here, *words)  # it may be of another label map
    assert line.startswith(f"{here / 'out/a.nii'}: is there already: pass --force")
    forced = msgan_cli(*words, "--force", status=2)
    assert f"error: {here / 'in/a.nii'}: no label map {labels}\n" in forced.stderr
    assert "error: 1 of 1 images could not be translated" in forced.stderr
    assert contents(here / "out") == before


def test_a_result_whose_scales_were_not_kept_is_not_what_is_asked_for(here, runs):
    image(here / "in" / "a.nii", 2)
    words = ("translate", runs[2].folder, here / "in", here / "out")
    msgan_cli(*words)
    assert "every image has a result" in msgan_cli(*words).stdout
    keep = ("--keep", here / "k")
    assert f"{here / 'out/a.nii'}: is there already" in untouched(here, *words, *keep)
    msgan_cli(*words, *keep, "--force")
    assert sorted(p.name for p in (here / "k" / "a").iterdir()) == ["y0.nii", "y1.nii"]
    assert "every image has a result" in msgan_cli(*words, *keep).stdout


def test_a_result_with_a_damaged_sidecar_is_not_taken_for_ours(here, runs):
    image(here / "in" / "a.nii", 2)
    words = ("translate", runs[2].folder, here / "in", here / "out")
    msgan_cli(*words)
    path = beside(here / "out" / "a.nii")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tiles": 3}))
    for more in ((), ("--force",)):
        assert untouched(here, *words, *more).startswith(f"{path}: is of something else")


# --- other commands ----------------------------------------------------------------------------


def test_phantoms_do_not_replace_what_is_there(here, monkeypatch):
    def write(out, **options):
        for name in ("chest000.png", "chest001.png", "manifest.csv"):
            (out / name).write_bytes(b"phantom")
        return out / "manifest.csv"

    monkeypatch.setattr("msgan.phantoms.xray.write_xray_cohort", write)
    words = ("phantom", "xray", here / "x", "--subjects", 2, "--size", 32)
    (here / "x").mkdir()
    (here / "x" / "chest001.png").write_bytes(b"mine")
    (here / "x" / "notes.txt").write_text("mine")
    assert untouched(here, *words).startswith(f"{here / 'x/chest001.png'}: is there already")
    msgan_cli(*words, "--force")
    assert (here / "x" / "notes.txt").read_text() == "mine"
    assert "3 of 3 results are there already" in untouched(here, *words)
    (here / "y" / "patient000").mkdir(parents=True)
    words = ("phantom", "brain", here / "y", "--subjects", 1, "--size", 16)
    assert "patient000: is there already" in untouched(here, *words)


def test_a_report_replaces_reports_only(here, runs):
    shutil.copytree(runs[3].folder, here / "runs" / "t2")
    words = ("report", here / "runs", "--out", here / "r")
    (here / "r").mkdir()
    (here / "r" / "report.html").write_text("<html>my page</html>")
    assert "report.html: was written by no report" in untouched(here, *words)
    (here / "r" / "report.html").unlink()
    msgan_cli(*words)
    msgan_cli(*words)
    (here / "r" / "tables" / "notes.txt").write_text("mine")
    assert "notes.txt: was written by no report" in untouched(here, *words)
    msgan_cli(*words, "--force")


def test_a_training_begins_in_no_folder_of_something_else(here):
    from program import TINY

    (here / "ph").mkdir()
    image(here / "ph" / "a.zarr")
    (here / "m.csv").write_text(
        "subject,role,modality,path,licence,citation\na,image,t2,ph/a.zarr,none,nobody\n"
    )
    words = ("train", here / "m.csv", "--target", "t2", "--device", "cpu", "--out")
    assert "lies in" in untouched(here, *words, here / "ph" / "a.zarr" / "run")
    assert "is not empty and holds no run" in untouched(here, *words, here / "ph")
    (here / "own").mkdir()
    (here / "own" / "config.yaml").write_text(json.dumps(TINY))
    line = untouched(here, *words, here / "own")
    assert line.startswith(f"{here / 'own/config.yaml'}: is there already")
    config = ("--config", here / "own" / "config.yaml", "--resume")
    assert "which is read" in untouched(here, *words, here / "own", *config)
    assert "is a file, expected a folder" in untouched(here, *words, here / "own" / "config.yaml")


def test_a_check_leaves_nothing_behind(tmp_path):
    outputs.writable(tmp_path / "a" / "b" / "c")
    outputs.folder(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'file'}: is a file")):
        outputs.writable(tmp_path / "file" / "a" / "b")


def test_names_that_something_else_has_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(InputError, match=r"pipe\.nii: is neither a file nor a folder"):
        require_kind(tmp_path / "pipe.nii")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(InputError, match=r"a\.zarr: exists and is not a Zarr folder"):
        require_kind(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").write_text("")
    with pytest.raises(InputError, match=r"b\.zarr: is a file, expected a folder or a name"):
        require_kind(tmp_path / "b.zarr")
    with pytest.raises(InputError, match=r"n\.nii: File name too long$"):
        require_kind(tmp_path / ("n" * 300 + "n.nii"))
    require_kind(tmp_path / "b.zarr" / "c.nii")  # making the folder says which part is a file


def test_a_folder_of_a_damaged_slice_is_not_replaced_by_a_series(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    require_kind(folder, series=True)  # nothing is in it
    (folder / "a.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL\3\0abc" + bytes(300))
    with pytest.raises(InputError, match=r"holds a\.dcm, which is no slice of a synthetic series"):
        require_kind(folder, series=True)
