"""Results say in themselves that they were generated."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr

import msgan
from msgan.data.grid import Grid
from msgan.data.scan import propose
from msgan.data.volume import open_volume, write_volume

FORMATS = {3: (".nii", ".nii.gz", ".mha", ".nrrd", ".zarr"), 2: (".nii", ".png", ".tif", ".mha")}


def image(dims: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(1, 200, (9, 8, 7)[:dims])
    return values.astype(np.uint8)


def write(path: Path, dims: int, generated: bool, seed: int = 0) -> Path:
    values = image(dims, seed)
    grid = Grid.from_spacing(values.shape, (2.0, 2.0, 3.0)[:dims])
    write_volume(
        path, grid, lambda box: values[box.slices], dtype=np.uint8, generated=generated, unit="HU"
    )
    return path


@pytest.mark.parametrize(("dims", "suffix"), [(d, s) for d in FORMATS for s in FORMATS[d]])
def test_a_file_says_whether_it_was_generated(dims: int, suffix: str, tmp_path: Path) -> None:
    for generated in (False, True):
        path = write(tmp_path / f"{generated}{suffix}", dims, generated)
        with open_volume(path) as volume:
            assert volume.generated is generated
            assert volume.unit == "HU"
            assert np.array_equal(volume.whole(), image(dims))


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    import SimpleITK as sitk

    description = f"synthetic: msgan {msgan.__version__}"
    nifti = nib.load(write(tmp_path / "a.nii.gz", 3, True))
    assert bytes(nifti.header["descrip"].tobytes()).rstrip(b"\0").decode() == description
    assert nifti.header["intent_name"].item() == b"synthetic"
    assert nifti.header["intent_code"].item() == 0
    meta, nrrd = (
        sitk.ReadImage(str(write(tmp_path / f"a{s}", 3, True))) for s in (".mha", ".nrrd")
    )
    assert meta.GetMetaData("synthetic") == nrrd.GetMetaData("synthetic") == "true"
    assert nrrd.GetMetaData("NRRD_content") == description
    own = zarr.open_group(str(write(tmp_path / "a.zarr", 3, True)), mode="r").attrs["msgan"]
    assert own["synthetic"] is True
    assert own["about"] == description
    assert np.array_equal(sitk.GetArrayFromImage(meta).T, image(3))
    assert np.array_equal(sitk.GetArrayFromImage(nrrd).T, image(3))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".zarr", ".png", ".tif"])
def test_a_result_of_any_name_is_never_proposed(suffix: str, tmp_path: Path) -> None:
    dims = 2 if suffix in (".png", ".tif") else 3
    for k in range(2):
        for name in ("t1", "t2"):
            write(tmp_path / f"p{k}_{name}{suffix}", dims, False, seed=k)
    write(tmp_path / f"p2_t2{suffix}", dims, True)
    found = propose(tmp_path)
    assert sorted(row.path for row in found.manifest.rows) == [
        f"p{k}_{name}{suffix}" for k in range(2) for name in ("t1", "t2")
    ]
    assert [(o.path, "generated" in o.reason) for o in found.omitted] == [(f"p2_t2{suffix}", True)]
