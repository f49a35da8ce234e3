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

from msgan.data.formats.contained import Contained
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


@pytest.mark.parametrize("name", ["../secret", "link", "sub/secret"])
def test_no_way_of_reading_a_zarr_folder_leads_out_of_it(tmp_path, name):
    import asyncio

    from zarr.core.buffer import default_buffer_prototype

    folder, prototype = tmp_path / "a.zarr", default_buffer_prototype()
    folder.mkdir()
    (folder / "own").write_text("own")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "sub").symlink_to(tmp_path)
    stored = Contained(folder, read_only=True)
    (part,) = asyncio.run(stored.get_partial_values(prototype, [("own", None)]))
    assert part.to_bytes() == b"own"
    assert stored.get_sync("own", prototype=prototype).to_bytes() == b"own"
    for read in (
        lambda: stored.get_sync(name, prototype=prototype),
        lambda: asyncio.run(stored.get(name, prototype)),
        lambda: asyncio.run(stored.get_partial_values(prototype, [("own", None), (name, None)])),
    ):
        with pytest.raises(InputError, match=f"{name!r} leads out of this folder"):
            read()


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


def pages_of(widget) -> list[str]:
    """The HTML of a widget and of all within it, with the text that its labels take as HTML."""
    found = [str(widget.value)] if type(widget).__name__ == "HTML" else []
    if getattr(widget, "description_allow_html", False):
        found.append(str(widget.description))
    return found + [page for child in getattr(widget, "children", ()) for page in pages_of(child)]


def test_the_explorer_shows_names_as_they_are(tmp_path):
    from tree import image, tree

    from msgan.translate.provenance import beside
    from msgan.widgets.explorer import explore

    evil = "a\x1b[2J\n<img src=x onerror=alert(1)>"
    root = tree(tmp_path)
    image(root / evil / "t1.nii", 3)
    (root / evil / "bad.nii").write_bytes(b"\x5c\x01\x00\x00<script>alert(1)</script>")
    sidecar = next(
        p for p in root.rglob("*.json") if p.name.startswith("p0") and "cascade" in str(p)
    )
    stated = json.loads(sidecar.read_text())
    for name in ("subject", "method", "made"):
        stated[name] = evil if name in stated else ""
    stated["scores"] = [{"method": evil, "region": evil, "ssim": 0.5}]
    copy = image(root / evil / "out.nii", 2)
    beside(copy).write_text(json.dumps(stated))
    shown = explore(root)
    seen = []
    for entry in shown.run.options:
        shown.run.value = entry
        for view in shown.view.options:
            shown.view.value = view[1] if isinstance(view, tuple) else view
            seen += pages_of(shown.box)
            data = getattr(shown, "_repr_mimebundle_", lambda **_: {})(include=None, exclude=None)
            data = data[0] if isinstance(data, tuple) else data
            seen.append((data or {}).get("text/html", ""))
    shown.close()
    assert any("img src=x" in option for option in map(str, shown.run.options))
    assert len(seen) > 10
    for page in seen:
        assert "<img src=x" not in page
        assert "<script" not in page


# --- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".zarr"])
def test_a_result_replaces_a_link_and_not_what_it_leads_to(tmp_path, suffix):
    from msgan.data.volume import Grid, write_volume

    target, link = tmp_path / "outside" / "kept", tmp_path / "in" / f"a{suffix}"
    link.parent.mkdir()
    if suffix == ".zarr":
        target.mkdir(parents=True)
        (target / "kept").write_text("kept")
    else:
        target.parent.mkdir()
        target.write_text("kept")
    link.symlink_to(target)
    values = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    grid = Grid.from_spacing(values.shape, (1.0, 1.0, 1.0))
    refusal = ""
    try:
        write_volume(link, grid, lambda box: values[box.slices])
    except InputError as error:  # a folder that is no image is not replaced
        refusal = str(error)
    kept = target / "kept" if target.is_dir() else target
    assert kept.read_text() == "kept"
    assert sorted(p.name for p in target.parent.iterdir()) == ["kept"]
    if refusal:
        assert suffix == ".zarr"
        assert refusal.startswith(f"{link}: ")
    else:
        assert not link.is_symlink()
        with open_volume(link) as volume:
            assert (volume.whole() == values).all()


def test_archives_are_not_opened(tmp_path):
    """Nothing that could unpack names of a stranger is called, and a zipped store is refused."""
    import zipfile

    import msgan

    for path in Path(msgan.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(zipfile|tarfile|unpack_archive|extractall|ZipStore)\b", text), (
            path
        )
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(InputError, match=r"a\.zarr\.zip: "):
        open_volume(tmp_path / "a.zarr.zip")
    shutil.copy(tmp_path / "a.zarr.zip", tmp_path / "b.zarr")
    with pytest.raises(InputError, match=r"b\.zarr: "):
        open_volume(tmp_path / "b.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr.zip", "b.zarr"]


def test_a_series_of_links_may_be_a_cohort_but_no_way_out_of_an_image(tmp_path):
    """Slices that are links are read, as of an archive; a part of one file may not lead away."""
    from dicoms import write_series

    planes = np.arange(4 * 6 * 5).reshape(6, 5, 4)
    write_series(tmp_path / "archive", planes)
    (tmp_path / "in").mkdir()
    for file in (tmp_path / "archive").iterdir():
        (tmp_path / "in" / file.name).symlink_to(file)
    with open_volume(tmp_path / "in") as linked, open_volume(tmp_path / "archive") as own:
        assert (linked.whole() == own.whole()).all()
