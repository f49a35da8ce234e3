"""Lengths that no header states rightly: other units than mm, spacing off by a thousand."""

import numpy as np
import pytest

from msgan.config import Preparation
from msgan.data.cohort import prepare
from msgan.data.extent import implausible
from msgan.data.manifest import check_manifest
from msgan.data.scan import propose
from msgan.data.volume import Grid, open_volume, write_volume
from msgan.types import InputError

ARRAY = np.random.default_rng(0).uniform(1, 250, (3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd", "nhdr"])
def test_lengths_of_metaimage_and_nrrd_are_in_mm_or_refused(suffix, dims, tmp_path):
    import SimpleITK as sitk

    path = tmp_path / f"a.{suffix}"
    for unit, rule in (("mm", ""), ("um", "'um': ITK"), ("microns", "ITK"), ("ell", "unknown")):
        sitk.WriteImage(sitk.GetImageFromArray(ARRAY if dims == 3 else ARRAY[0]), path)
        data = path.read_bytes()
        if suffix[0] == "m":
            line = f"DistanceUnits = {unit}\n".encode()
            at = data.index(b"ElementType")
        else:
            line = ("space units:" + f' "{unit}"' * dims + "\n").encode()
            at = data.index(b"kinds:")
        path.write_bytes(data[:at] + line + data[at:])
        if not rule:
            with open_volume(path) as volume:
                assert volume.grid.spacing == (1,) * dims
            continue
        with pytest.raises(InputError, match=rf"a\.{suffix}: .*{rule}"):
            open_volume(path)


@pytest.mark.parametrize(
    ("spacing", "said"),
    [
        (2.0, ""),
        (0.05, ""),  # small animals, and specimens
        (0.002, "too small for a body: its header seems to be in metres"),
        (2000.0, "too large for a body: its header seems to be in micrometres"),
        (1.0, ""),
    ],
)
def test_images_no_body_can_be_as_large_as(spacing, said, dims):
    assert said in implausible(Grid.from_spacing((100,) * dims, (spacing,) * dims))
    assert bool(implausible(Grid.from_spacing((100,) * dims, (spacing,) * dims))) == bool(said)


def test_radiographs_and_stacks_without_spacing_may_be_of_any_size(dims):
    assert implausible(Grid.from_spacing((30000,) * dims, (1,) * dims)) == ""


@pytest.mark.parametrize("suffix", ["nii", "mha", "zarr"])
def test_one_spacing_off_by_a_thousand_is_told(suffix, dims, tmp_path):
    path, shape = tmp_path / f"a.{suffix}", (3, 4, 5)[:dims]
    for last, told in ((3.0, False), (0.02, False), (0.003, True), (3000.0, True)):
        grid = Grid.from_spacing(shape, [*(1.0,) * (dims - 1), last])
        write_volume(path, grid, lambda box: np.arange(box.voxels).reshape(box.size))
        with open_volume(path) as volume:
            assert any("off by a thousand" in note for note in volume.notes) == told


def test_images_off_by_a_thousand_are_refused_where_they_are_used(tmp_path):
    array = np.zeros((12, 13, 14), np.float32)
    array[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).uniform(1, 9, (8, 9, 10))
    path = tmp_path / "p1_t1.nii"
    for factor, guess in ((1e-3, "voxels of 0.002 x 0.002 x 0.002 mm"), (1e3, "28 m long")):
        grid = Grid.from_spacing(array.shape, (2 * factor,) * 3)
        write_volume(path, grid, lambda box: array[box.slices])
        with pytest.raises(InputError, match=rf"p1_t1\.nii: .*{guess}.*correct the header"):
            prepare(path, None, Preparation())
        with pytest.raises(InputError, match=guess):
            propose(tmp_path)
        (tmp_path / "m.csv").write_text(
            "subject,role,modality,path,licence,citation\np1,image,t1,p1_t1.nii,x,y\n"
        )
        (finding,) = check_manifest(tmp_path / "m.csv", tmp_path).findings
        assert finding.level == "error"
        assert guess in finding.problem
        (tmp_path / "m.csv").unlink()
