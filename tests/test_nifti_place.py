"""Results lie where their source lies, whatever its header says and whoever reads it."""

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from msgan.cli import app
from msgan.config import CascadeConfig, Preparation, SketchConfig, TrainConfig, network_of
from msgan.data.geometry import WorkingGrid
from msgan.data.intensity import IntensityMap
from msgan.data.manifest import check_manifest
from msgan.data.scan import propose
from msgan.data.scan.notes import notes, summary
from msgan.data.volume import Grid, open_volume, write_volume
from msgan.types import Box

SHAPE = (5, 6, 7)
MARKER = (3, 4, 5)
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
SCANNER, ALIGNED = 1, 2


def turned(order, signs, angle=0.0, spacing=(2.0, 2.5, 3.0), origin=(-11.0, 20.0, -7.0)):
    """Axes exchanged and reversed, then turned about z and x by ``angle``."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, c, -s], [0, s, c]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) * spacing
    affine[:3, 3] = origin
    return affine


def nifti(
    path, sform, qform, *, codes, unit=2, nifti2=False, shape=SHAPE, array=None, order="<", **fields
):
    """A file whose header says exactly this."""
    header = (nib.Nifti2Header if nifti2 else nib.Nifti1Header)(endianness=order)
    array = np.arange(1, np.prod(shape) + 1, dtype=np.float32) if array is None else array
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header.set_sform(sform, codes[0])
    header.set_qform(qform, codes[1])
    raw = header._structarr
    raw["xyzt_units"], raw["vox_offset"] = unit, 544 if nifti2 else 352
    for name, value in fields.items():
        raw[name] = value
    data = header.binaryblock + bytes(4) + array.reshape(shape).astype(f"{order}f4").tobytes("F")
    with nib.openers.Opener(str(path), "wb") as stream:
        stream.write(data)
    return path


def in_nibabel(path, at=MARKER):
    """Where nibabel places a voxel; None where it cannot."""
    try:
        return nib.load(path).affine @ [*at, 1]
    except ValueError:
        return None


def in_itk(path, at=MARKER):
    """Where ITK places a voxel; None where it cannot."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return np.array(sitk.ReadImage(str(path)).TransformIndexToPhysicalPoint(at))
    except RuntimeError:
        return None


def assert_on_each_other(source, result, at=MARKER):
    for place in (in_nibabel, in_itk):
        if (there := place(source, at)) is not None:
            assert_allclose(place(result, at), there, rtol=0, atol=0.01, err_msg=place.__name__)


frames = st.builds(
    turned,
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from((1, -1))] * 3),
    st.sampled_from((0.0, 0.1, np.pi / 2, 3.1, 1e-4)),
    st.tuples(*[st.sampled_from((1.0, 0.7, 4.0))] * 3),
    st.tuples(*[st.floats(-900, 900, width=32)] * 3),
)
shears = st.sampled_from((0.0, 0.0, 1e-5, 1e-3, 0.2))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    sform=frames,
    qform=st.none() | frames,
    shear=shears,
    codes=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    unit=st.integers(0, 3),
    nifti2=st.booleans(),
    order=st.sampled_from("<>"),
    suffix=st.sampled_from((".nii", ".nii.gz")),
)
def test_results_lie_on_their_source(
    tmp_path, sform, qform, shear, codes, unit, nifti2, order, suffix
):
    qform = sform if qform is None else qform
    sform = sform @ np.array([[1, shear, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    form = {"codes": codes, "unit": unit, "nifti2": nifti2, "order": order}
    source = nifti(tmp_path / "a.nii", sform, qform, **form)
    result = tmp_path / f"b{suffix}"
    with open_volume(source) as volume:
        write_volume(result, volume.grid, volume.read)
        expected = in_nibabel(source)[:3] * MM[unit]
        assert_allclose((volume.grid.affine @ [*MARKER, 1])[:3], expected, rtol=1e-5, atol=1e-4)
        image = volume.whole()
    assert_on_each_other(source, result)
    first, second = nib.load(source).header, nib.load(result).header
    for field in ("sform_code", "qform_code", "pixdim", "srow_x", "quatern_b", "qoffset_z"):
        assert_array_equal(first[field], second[field])
    assert first.get_xyzt_units() == second.get_xyzt_units()
    with open_volume(result) as again:
        assert_array_equal(again.whole(), image)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".zarr"])
def test_other_formats_get_the_transform_that_counts(suffix, tmp_path):
    sform, qform = turned((1, 0, 2), (1, -1, 1)), turned((0, 1, 2), (-1, -1, 1))
    nifti(tmp_path / "a.nii", sform, qform, codes=(ALIGNED, SCANNER))
    with open_volume(tmp_path / "a.nii") as volume:
        write_volume(tmp_path / f"b{suffix}", volume.grid, volume.read)
    with open_volume(tmp_path / f"b{suffix}") as volume:
        assert_allclose(volume.grid.affine, sform, atol=1e-5)
        assert volume.grid.frame is None


@pytest.mark.parametrize("decimals", [3, 4, 6])
def test_rounded_cosines_of_other_formats_are_read_by_itk_from_a_nifti(decimals, tmp_path):
    affine = turned((0, 2, 1), (1, -1, 1), 0.4, origin=(-120, 100, 300))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.arange(210, dtype=np.float32).reshape(SHAPE[::-1]))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((120.0, -100.0, 300.0))
    image.SetDirection(np.round(affine[:3, :3] / spacing, decimals).ravel().tolist())
    sitk.WriteImage(image, tmp_path / "a.mha")
    with open_volume(tmp_path / "a.mha") as volume:
        write_volume(tmp_path / "b.nii.gz", volume.grid, volume.read)
    there = in_itk(tmp_path / "a.mha")
    assert_allclose(in_itk(tmp_path / "b.nii.gz"), there, atol=0.01 if decimals > 3 else 0.05)


def test_quaternions_off_by_rounding_are_normalised(tmp_path):
    affine = turned((0, 1, 2), (1, -1, -1))
    path = tmp_path / "a.nii"
    for nifti2, excess in itertools.product((False, True), (1e-7, 1e-5, 1e-3)):
        b = np.sqrt(0.64 * (1 + excess))
        fields = {"quatern_b": b, "quatern_c": 0.6, "quatern_d": 0.0}
        nifti(path, affine, affine, codes=(0, 1), nifti2=nifti2, **fields)
        with open_volume(path) as volume:
            write_volume(tmp_path / "b.nii", volume.grid, volume.read)
            ours = (volume.grid.affine @ [*MARKER, 1])[:3] * (-1, -1, 1)
        if not nifti2:  # which ITK does not open
            assert_allclose(ours, in_itk(path), atol=0.01)
        assert_on_each_other(path, tmp_path / "b.nii")


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 1), (5, 6, 7, 1)])
def test_images_of_other_axes_keep_their_frame(shape, tmp_path):
    frame = np.diag([-2.0, 2.5, 1, 1])
    frame[:2, 3] = (30, -20)
    at = (3, 4, 0)[: min(len(shape), 3)]
    for codes in itertools.product((0, 1, 2), repeat=2):
        nifti(tmp_path / "a.nii", frame, frame, codes=codes, shape=shape)
        with open_volume(tmp_path / "a.nii") as volume:
            assert volume.grid.dims == min(len(shape), 3)
            write_volume(tmp_path / "b.nii", volume.grid, volume.read)
        here, there = in_itk(tmp_path / "a.nii", at), in_itk(tmp_path / "b.nii", at)
        assert_allclose(here, there, atol=0.01)


def test_computed_grids_state_their_affine(tmp_path):
    nifti(tmp_path / "a.nii", turned((0, 1, 2), (1, 1, 1)), np.eye(4), codes=(2, 1))
    with open_volume(tmp_path / "a.nii") as volume:
        grid = WorkingGrid.plan(volume.grid, Box.whole(SHAPE), scales=1)
    assert grid.source.frame is not None
    assert grid.grid.frame is None
    again = WorkingGrid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again.source.frame == grid.source.frame
    write_volume(tmp_path / "b.nii", grid.grid, lambda box: np.ones(box.size))
    header = nib.load(tmp_path / "b.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert_allclose(header.get_best_affine(), grid.grid.affine, atol=1e-5)


APART = turned((0, 1, 2), (1, 1, 1), origin=(0, 0, 0))
PLACED = turned((0, 1, 2), (1, 1, 1))
FLIPPED = turned((0, 1, 2), (-1, 1, 1))
SHEARED = PLACED @ np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SMALL = {"pixdim": [1, -2, 2.5, 3, 1, 1, 1, 1]}
REMARKS = [
    # sform, qform, codes, fields, what is said
    (PLACED, PLACED, (1, 1), {}, ""),
    (PLACED, PLACED, (4, 3), {}, ""),
    (PLACED, PLACED, (0, 5), {}, ""),
    (PLACED, APART, (0, 1), {}, ""),
    (PLACED, APART, (2, 0), {}, ""),
    (PLACED, APART, (2, 1), {}, "23.9 mm apart: the sform counts, as for nibabel; ITK (ITK-SNAP"),
    (PLACED, APART, (1, 1), {}, "ITK (ITK-SNAP, Slicer, ANTs) as well"),
    (PLACED, FLIPPED, (2, 1), {}, "one with axes RAS, one with LAS"),
    (SHEARED, PLACED, (1, 1), {}, "takes the qform"),
    (SHEARED, PLACED, (2, 0), {}, "sform is sheared and there is no qform"),
    (PLACED, PLACED, (0, 0), {}, "states no orientation (qform_code and sform_code are 0)"),
    (PLACED, PLACED, (9, 1), {}, "sform_code 9 is not one of 0 to 5: taken as 0"),
    (PLACED, PLACED, (1, -1), {}, "qform_code -1 is not one of 0 to 5: taken as 0"),
    (PLACED, PLACED, (1, 1), {"xyzt_units": 5}, "unit of length 5 is none of NIfTI's"),
    (PLACED, PLACED, (1, 1), SMALL, "voxel sizes -2, 2.5, 3: taken as positive"),
    (PLACED, PLACED, (1, 1), {"quatern_b": 2}, "of the qform is none: the sform counts"),
    (PLACED, PLACED, (1, 1), {"pixdim": [7, 2, 2.5, 3, 0, 0, 0, 0]}, "qfac (pixdim[0]) 7 is not"),
    (PLACED, PLACED, (1, 0), {"pixdim": [1, 0, 2.5, 3, 0, 0, 0, 0]}, "1 x 2.5 x 3 by pixdim"),
    (PLACED, 1.5 * PLACED, (1, 0), {"pixdim": [1, 3, 3, 3, 0, 0, 0, 0]}, "3 x 3 x 3 by pixdim"),
]


@pytest.mark.parametrize(("sform", "qform", "codes", "fields", "said"), REMARKS)
def test_contradictions_are_told(sform, qform, codes, fields, said, tmp_path):
    odd = {"sform_code": codes[0], "qform_code": codes[1]} | fields
    valid = tuple(code if code in range(6) else 0 for code in codes)
    nifti(tmp_path / "a.nii", sform, qform, codes=valid, **odd)
    with open_volume(tmp_path / "a.nii") as volume:
        text = "; ".join(volume.notes)
        write_volume(tmp_path / "b.nii", volume.grid, volume.read)
    assert said in text
    assert bool(said) == bool(text)
    assert_on_each_other(tmp_path / "a.nii", tmp_path / "b.nii")
    with open_volume(tmp_path / "b.nii") as volume:
        assert "; ".join(volume.notes) == text


def head() -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in (18, 20, 16)], indexing="ij")
    noise = np.random.default_rng(0).uniform(10, 100, (18, 20, 16))
    return np.where(sum(a**2 for a in axes) < 0.8, noise, 0).astype(np.float32)


def trained(folder: Path) -> Path:
    """A run with the weights it begins with, as if it were trained."""
    from msgan.runs.run import Run
    from msgan.training import checkpoint
    from msgan.training.loop import WEIGHTS
    from msgan.training.step import build_generator

    config = CascadeConfig(
        dims=3,
        preparation=Preparation(scales=1, margin=2),
        sketch=SketchConfig(low=0.05, high=0.1, sigma=0.8, steps=2),
        network=network_of(lr_width=2, lr_levels=2, hr_width=4, hr_blocks=1),
        training=TrainConfig(steps=1, lr_steps=1),
    )
    run = Run(folder, config, "t2", IntensityMap(0.0, 80.0, "a.u."), {"a": "00"})
    run.create()
    for i in range(2):
        checkpoint.save_weights(build_generator(config, i), run.folder_of(i) / WEIGHTS, {"step": 1})
    return folder


def test_commands_keep_the_place_and_tell_contradictions(tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    folder = tmp_path / "images"
    folder.mkdir()
    source = folder / "p1_t1.nii.gz"
    image = head()
    nifti(source, PLACED, APART, codes=(2, 1), shape=image.shape, array=image)
    run = trained(tmp_path / "run")
    words = {
        "sketch": ("sketch", source, tmp_path / "sketch.nii.gz"),
        "translate": ("translate", run, source, tmp_path / "translate.nii.gz", "--device", "cpu"),
        "folder": ("translate", run, folder, tmp_path / "results", "--device", "cpu"),
        "plan": ("plan", run, source, "--device", "cpu"),
        "evaluate": ("evaluate", source, source),
    }
    for name, line in words.items():
        done = CliRunner().invoke(app, [str(word) for word in line], prog_name="msgan")
        assert done.exit_code == 0, done.output
        told = f"note: {source}: sform (code 2) and qform (code 1)"
        lines = [k for k, text in enumerate(done.stderr.splitlines()) if text.startswith(told)]
        assert len(lines) == 1, name
        if line[0] == "translate":  # told before the work, not after hours of it
            work = [k for k, text in enumerate(done.stderr.splitlines()) if "tiles" in text]
            assert lines[0] < work[0]
    for name in ("sketch", "translate"):
        assert_on_each_other(source, tmp_path / f"{name}.nii.gz")
    (tmp_path / "m.csv").write_text(
        "subject,role,modality,path,licence,citation\np1,image,t1,p1_t1.nii.gz,x,y\n"
    )
    report = check_manifest(tmp_path / "m.csv", folder)
    assert report.ok
    assert "note: p1: p1_t1.nii.gz: sform (code 2)" in report.lines()[0]
    found = propose(folder)
    assert "p1_t1.nii.gz: sform (code 2) and qform (code 1)" in notes(found, "x", [])
    assert any("sform (code 2)" in line for line in summary(found))


def test_a_grid_is_the_same_with_and_without_its_frame(tmp_path):
    nifti(tmp_path / "a.nii", PLACED, APART, codes=(2, 1))
    with open_volume(tmp_path / "a.nii") as volume:
        plain = Grid(volume.grid.shape, volume.grid.affine)
        assert volume.grid == plain
        assert hash(volume.grid) == hash(plain)
