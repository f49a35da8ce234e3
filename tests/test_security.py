"""What files of strangers cannot do: lead out of their folder, or become code of a page."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.text import Text
from test_interruptions import a_run
from test_omezarr import axis, store

from msgan.data.volume import open_volume
from msgan.runs.run import Run
from msgan.types import InputError

VOXELS = np.arange(1, 61, dtype=np.uint8)


@pytest.fixture
def outside(tmp_path) -> Path:
    """A file that nobody may read, beside the folder of the headers."""
    secret = tmp_path / "outside" / "secret.raw"
    secret.parent.mkdir()
    secret.write_bytes(VOXELS.tobytes())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.raw").symlink_to(secret)
    (tmp_path / "in" / "sub").symlink_to(secret.parent)
    (tmp_path / "in" / "round.raw").symlink_to("round.raw")
    return secret


def refused(path: Path, value: str, rule: str = "folder") -> None:
    """Reading is one line that names the header, what stands there and the rule."""
    with pytest.raises(InputError) as error, open_volume(path) as volume:
        volume.whole()
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert value in said
    assert rule in said
    assert "\n" not in said


NAMES = (
    *("{secret}", "../outside/secret.raw", "a/../../outside/secret.raw", "link.raw"),
    *("sub/secret.raw", "round.raw", "..\\outside\\secret.raw", "C:\\secret.raw", "\\\\host\\a"),
)
"""Of voxels; all lead out of the folder."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "LIST\n{}\n{}\n{}"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_headers_name_voxels_of_their_own_folder_only(tmp_path, outside, suffix, form, name):
    name = name.format(secret=outside)
    path = tmp_path / "in" / f"a{suffix}"
    data = form.replace("{}", name)
    if suffix == ".mhd":
        text = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\n"
        text += f"ElementDataFile = {data}\n"
    else:
        text = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
        text += "spacings: 1 1 1\n" + f"data file: {data}\n" + "\n" * (form == "{}")
    path.write_text(text)
    refused(path, ascii(name)[1:-1][:30])


def test_headers_name_voxels_below_their_folder(tmp_path, outside):
    inner = tmp_path / "in" / "voxels" / "a.raw"
    inner.parent.mkdir()
    shutil.copy(outside, inner)
    path = tmp_path / "in" / "a.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 1 1\n"
        "ElementType = MET_UCHAR\nElementDataFile = voxels/a.raw\n"
    )
    with open_volume(path) as volume:
        assert volume.whole().ravel(order="F").tolist() == VOXELS.tolist()


def test_numbered_voxels_lie_in_the_folder(tmp_path, outside):
    path = tmp_path / "in" / "a.mhd"
    path.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\n"
        "ElementDataFile = ../outside/s%d 1 3 1\n"
    )
    refused(path, "../outside/s1")


def test_both_halves_of_a_pair_lie_in_one_folder(tmp_path, outside):
    nib.save(nib.Nifti1Pair(VOXELS.reshape(5, 4, 3), np.eye(4)), tmp_path / "in" / "a.hdr")
    with open_volume(tmp_path / "in" / "a.hdr") as volume:
        assert volume.whole().max() == 60
    half = tmp_path / "in" / "a.img"
    half.rename(tmp_path / "outside" / "a.img")
    half.symlink_to(tmp_path / "outside" / "a.img")
    refused(tmp_path / "in" / "a.hdr", "'a.img'", "a link out of its folder")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata_and_chunks_of_zarr_lie_in_its_folder(tmp_path, version):
    axes = [axis(n) for n in "zyx"]
    path = store(tmp_path / "in" / "a.zarr", axes, scale=(1, 1, 1), version=version)
    other = store(tmp_path / "b.zarr", axes, scale=(1, 1, 1), version=version)
    (tmp_path / "link.zarr").symlink_to(path)
    with open_volume(tmp_path / "link.zarr") as volume:  # the image itself may be linked to
        known = volume.whole()
    chunk = next(p for p in (path / "0").rglob("*") if p.is_file() and p.suffix != ".json")
    chunk = chunk if chunk.name[0] != "." else next((path / "0").glob("0*"))
    hidden = tmp_path / "chunk"
    chunk.rename(hidden)
    chunk.symlink_to(hidden)
    refused(path, chunk.relative_to(path).as_posix(), "leads out of this folder")
    chunk.unlink()
    hidden.rename(chunk)
    (path / "0").rename(tmp_path / "array")
    (path / "0").symlink_to(tmp_path / "array")
    refused(path, "'0", "leads out of this folder")
    (path / "0").unlink()
    (path / "0").symlink_to(other / "0")
    refused(path, "'0", "leads out of this folder")
    (path / "0").unlink()
    (tmp_path / "array").rename(path / "0")
    with open_volume(path) as volume:
        assert (volume.whole() == known).all()


@pytest.mark.parametrize("name", ["../../b.zarr/0", "{b}/0", "0/../../../b.zarr/0"])
def test_metadata_of_zarr_name_arrays_of_their_folder_only(tmp_path, name):
    axes = [axis(n) for n in "zyx"]
    other = store(tmp_path / "b.zarr", axes, scale=(1, 1, 1))
    path = store(tmp_path / "in" / "a.zarr", axes, scale=(1, 1, 1))
    name = name.format(b=other)
    stated = (path / ".zattrs").read_text()
    (path / ".zattrs").write_text(stated.replace('"path": "0"', f'"path": "{name}"'))
    refused(path, f"'{name}'", "leads out of this folder")


@pytest.mark.parametrize("name", ["README.md", "s0/done.json", "s0/metrics.jsonl"])
def test_what_is_said_of_a_run_lies_in_its_folder(tmp_path, name):
    run = a_run(tmp_path / "run")
    run.create()
    (tmp_path / "secret").write_text("{}")
    (run.folder / name).parent.mkdir(exist_ok=True)
    (run.folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=f"'{name}' leads out of this folder"):
        Run.open(run.folder)
    (run.folder / name).unlink()
    (run.folder / "own").write_text(json.dumps({}))
    (run.folder / name).symlink_to(os.path.relpath(run.folder / "own", (run.folder / name).parent))
    assert Run.open(run.folder) == run


# --- names on pages ----------------------------------------------------------------------------

EVIL = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) | ![y](//z.org) `tick` $a_b$\n# b"


def rendered(text: str) -> str:
    """Markdown as a page of a notebook shows it, before anything is filtered."""
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    return str(markdown2html_mistune(text))


def assert_harmless(page: str) -> None:
    """Nothing is loaded, run or linked to, but for anchors of headings."""
    assert "<img" not in page
    assert "<script" not in page
    assert re.findall(r'href="(?!#)[^"]*"', page) == []


def test_markdown_shows_names_as_they_are():
    from msgan.printing import code, markdown

    for text, cells in (
        (f"- about {markdown(EVIL)}", 0),
        (f"- about {code(EVIL)} and `more`", 0),
        (f"| a | b |\n| --- | --- |\n| {markdown(EVIL)} | c |", 2),
    ):
        page = rendered(text)
        assert_harmless(page)
        assert "onerror=alert(1)&gt;" in page  # the name itself is there
        assert page.count("<td") == cells
    assert code("a") == "`a`"
    assert markdown("patient_01 is fine.") == "patient_01 is fine."


def test_cards_and_notes_show_names_as_they_are(tmp_path):
    from test_scan import volume

    from msgan.data.scan import propose
    from msgan.data.scan.notes import notes
    from msgan.runs import model_card
    from msgan.runs.model import About, describe

    run = a_run(tmp_path / "run")
    run.create()
    card = describe_without_weights(run, describe, About())
    card |= {"target": EVIL, "machine": EVIL, "git": EVIL, "data": {EVIL: EVIL}}
    card["versions"] = {"msgan": EVIL}
    card["intensity"] = {**card["intensity"], "unit": EVIL}
    text = model_card.text(EVIL, card, run.config, [["a", EVIL], ["1", "2"]])
    page = rendered(text.partition("---\n\n")[2])
    assert_harmless(page)
    command = next(line for line in text.splitlines() if line.startswith("msgan translate"))
    assert shlex.split(command)[-1].endswith((".png", ".nii.gz"))
    assert len(shlex.split(command)) == 5
    assert text.count("\n# b") == 0

    volume(tmp_path / "in" / "s1 <img src=x onerror=alert(1)> [x](y) `t1.nii")
    volume(tmp_path / "in" / "p2" / "t1.nii")
    (tmp_path / "in" / "<img src=x> `a` | b.txt").write_text("no image")
    page = rendered(notes(propose(tmp_path / "in"), "<img src=x> `", ["msgan ```"]))
    assert_harmless(page)
    assert page.count("<code>") >= 4


def describe_without_weights(run: Run, describe, about) -> dict:
    """A card as of an exported run, which needs no weights to be looked at."""
    from unittest.mock import patch

    with (
        patch("msgan.runs.model._parameters", return_value=1),
        patch("msgan.runs.model._training", return_value={"step": 1}),
    ):
        return describe(run, about)


def test_figures_show_names_as_they_are():
    from msgan import plots

    name = r"$\frac{a}$ b_c"
    image = np.random.default_rng(0).random((16, 16))
    figure = plots.zooms({name: lambda box: image[box.slices]}, (16, 16), caption=f"of {name}")
    figure.draw_without_rendering()
    said = [text.get_text() for text in figure.findobj(Text)]
    assert name in said
    assert any("of $" in text for text in said)
