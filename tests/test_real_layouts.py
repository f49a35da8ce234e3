"""Data as scanners, archives and the manifests lay them out, in small files."""

import os
from pathlib import Path

import numpy as np
import pytest
from dicoms import SHAPE, SHARPNESS, ct, write_series, write_slice
from PIL import Image

from msgan.config import Preparation
from msgan.data.cohort import Cohort, prepare
from msgan.data.entry import Entry
from msgan.data.manifest import Manifest, check_manifest
from msgan.data.series import sort_series
from msgan.data.volume import open_volume
from msgan.types import Array, Box, InputError

MANIFESTS = Path(__file__).resolve().parents[1] / "data_manifests"
CT = Preparation(intensity="window", low=-1024, high=1024, foreground=-2000, scales=1, margin=0)


def copd(root: Path, subject: str, seed: int) -> None:
    """One subject of the layout in docs/data.md: a folder for each kernel."""
    for number, kernel in enumerate(SHARPNESS):
        write_series(
            root / subject / kernel,
            ct(seed, kernel),
            PatientID=subject,
            SeriesInstanceUID=f"1.2.{seed}.{number}",
            SeriesDescription=f"THORAX INSP {kernel}",
            ConvolutionKernel=kernel,
            # Different scalings, as they are found within one study.
            RescaleSlope=("1", "0.5", "1")[number],
            RescaleIntercept=("-1024", "-1024", "-8192")[number],
            BitsStored=16,
            HighBit=15,
        )


def stack(image: Array) -> Array:
    """What a volume of :func:`write_series` holds: slices from the feet up."""
    return image[:, :, ::-1]


def test_a_cohort_with_a_folder_for_each_kernel(tmp_path: Path) -> None:
    for seed, subject in enumerate(("10005Q", "10061S")):
        copd(tmp_path, subject, seed)
    manifest = MANIFESTS / "copd_kernels.csv"
    assert check_manifest(manifest, tmp_path).lines() == [
        f"copd_kernels.csv: 2 subjects, 6 files below {tmp_path}: ok"
    ]
    cohort = Cohort.from_manifest(manifest, tmp_path)
    assert cohort.names == ("10005Q", "10061S")
    assert set(cohort["10061S"].images) == {"b20f", "b50f", "b80f"}
    for kernel in SHARPNESS:
        with open_volume(cohort["10061S"].images[kernel.lower()]) as volume:
            assert volume.unit == "HU"
            np.testing.assert_allclose(volume.whole(), stack(ct(1, kernel)), atol=0.26)
            np.testing.assert_allclose(volume.grid.spacing, (0.7, 0.7, 1.25))
            assert volume.grid.orientation == ("L", "P", "S")
    with (
        prepare(cohort["10061S"], "b80f", CT) as source,
        prepare(cohort["10061S"], "b20f", CT, grid=source.grid) as target,
    ):
        box = Box.whole(source.grid.shape)
        difference = source.read(box) - target.read(box)
        assert 0 < np.abs(difference).max() * 1024 <= 50  # one body, voxel on voxel


def test_a_low_dose_cohort(tmp_path: Path) -> None:
    dose = {"low_dose": 200, "full_dose": 20}
    for subject in ("C002", "C004"):
        for name, noise in dose.items():
            rng = np.random.default_rng(noise)
            write_series(
                tmp_path / subject / name,
                ct(3) + rng.integers(-noise, noise, SHAPE),
                name="1-{:03d}.dcm",  # as TCIA's downloader calls them
                PatientID=subject,
                SeriesInstanceUID=f"1.2.{noise}",
                SeriesDescription=f"{name.split('_')[0].title()} Dose Images",
                ConvolutionKernel="B50f",
            )
    report = check_manifest(MANIFESTS / "low_dose_ct.csv", tmp_path)
    assert report.ok
    assert (report.subjects, report.files) == (2, 4)
    cohort = Cohort.from_manifest(MANIFESTS / "low_dose_ct.csv", tmp_path)
    with open_volume(cohort["C004"].images["low_dose"]) as volume:
        error = volume.whole() - stack(ct(3))
        assert 60 < np.abs(error).mean() < 140


def test_signed_pixels_and_padding_beyond_the_field_of_view(tmp_path: Path) -> None:
    """GE: signed, and -2000 stored where nothing was reconstructed."""
    image = ct(5)
    image[0] = -3024
    tags = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15, "PixelPaddingValue": -2000}
    write_series(tmp_path / "s", image, SeriesInstanceUID="1", ConvolutionKernel="STANDARD", **tags)
    with prepare(tmp_path / "s", "ct", CT) as ready:
        back = ready.to_source(ready.read)(Box.whole(SHAPE))
    np.testing.assert_allclose(back, stack(image).clip(-1024, 1024), atol=0.01)


def mixed(root: Path, patient: str = "10061S", *, one_uid: bool = False) -> None:
    """All kernels of a patient in one folder, by running numbers without a suffix."""
    for number, kernel in enumerate(SHARPNESS):
        write_series(
            root,
            ct(1, kernel),
            name=f"{patient}-{number}{{:03d}}",
            PatientID=patient,
            SeriesInstanceUID="1.2.1" if one_uid else f"1.2.1.{number}",
            SeriesDescription="THORAX INSP",
            ConvolutionKernel=kernel,
        )


@pytest.mark.parametrize("one_uid", [False, True], ids=["own UIDs", "one UID"])
def test_kernels_in_one_folder_are_named(tmp_path: Path, one_uid: bool) -> None:
    mixed(tmp_path / "all", one_uid=one_uid)
    rule = (
        r"^\S+all: 3 DICOM series in one folder \(5 slices B20f, 5 slices B50f, 5 slices B80f\): "
        r"expected one; `msgan data sort` [^\n]+$"
    )
    with pytest.raises(InputError, match=rule):
        open_volume(tmp_path / "all")


def test_series_of_one_kernel_are_told_by_number(tmp_path: Path) -> None:
    for number in range(8):
        write_slice(
            tmp_path / f"{number}.dcm",
            ct(1)[:, :, 0],
            float(number),
            SeriesInstanceUID=f"1.{number}",
            SeriesDescription=f"Mueller^Anna {number}",
            **({"SeriesNumber": 10 + number} if number else {}),
            ConvolutionKernel=["Br40d", "3"],
        )
    rule = r"8 DICOM series .*\(1 slices, 1 slices of series 11, .* series 15, \.\.\.\)"
    with pytest.raises(InputError, match=rule):
        open_volume(tmp_path)


def test_a_mixed_download_is_sorted_into_the_layout_of_the_manifest(tmp_path: Path) -> None:
    down = tmp_path / "download"
    mixed(down / "10061S" / "DICOM" / "ST0", one_uid=True)
    copd(down, "10005Q", 0)
    write_slice(
        down / "scout",
        ct(0)[:, :, 0],
        0,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        SeriesInstanceUID="1.9",
        ConvolutionKernel="T80f",
    )
    write_slice(down / "report", ct(0)[:, :, 0], 0, Modality="SR", SeriesInstanceUID="1.10")
    (down / "readme.txt").write_text("from the archive")
    before = {p: p.read_bytes() for p in down.rglob("*") if p.is_file()}
    seen: list[tuple[int, int, str]] = []
    made = sort_series(down, tmp_path / "copd", progress=lambda *now: seen.append(now))
    assert [p.relative_to(tmp_path / "copd").as_posix() for p in made] == [
        f"{subject}/{kernel}" for subject in ("10005Q", "10061S") for kernel in SHARPNESS
    ]
    assert [now[:2] for now in seen] == [(k, 6) for k in range(7)]
    assert check_manifest(MANIFESTS / "copd_kernels.csv", tmp_path / "copd").ok
    with open_volume(tmp_path / "copd" / "10061S" / "B80f") as volume:
        np.testing.assert_array_equal(volume.whole(), stack(ct(1, "B80f")))
    assert {p: p.read_bytes() for p in down.rglob("*") if p.is_file()} == before
    assert all(f.stat().st_nlink == 2 for f in made[0].iterdir())
    with pytest.raises(InputError, match=r"^\S+copd/10005Q/B20f: is there already$"):
        sort_series(down, tmp_path / "copd")


def test_files_are_copied_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    mixed(tmp_path / "in")
    made = sort_series(tmp_path / "in", tmp_path / "out")
    assert [len(list(folder.iterdir())) for folder in made] == [5, 5, 5]
    with open_volume(made[0]) as volume:
        np.testing.assert_array_equal(volume.whole(), stack(ct(1, "B20f")))


def test_series_that_differ_in_dose_are_sorted_by_description(tmp_path: Path) -> None:
    for number, dose in enumerate(("Low", "Full")):
        about = {"SeriesInstanceUID": f"1.{number}", "SeriesDescription": f"{dose} Dose Images"}
        write_series(tmp_path / "in" / dose, ct(number), ConvolutionKernel="B50f", **about)
    rule = r"Full/\S+: series without a number of 5 files and \S+Low/\S+: .* and kernel B50f: sort"
    with pytest.raises(InputError, match=rule) as error:
        sort_series(tmp_path / "in", tmp_path / "out")
    assert "Dose" not in str(error.value)
    assert not (tmp_path / "out").exists()
    made = sort_series(tmp_path / "in", tmp_path / "out", by="description")
    assert [folder.name for folder in made] == ["Full_Dose_Images", "Low_Dose_Images"]


def test_what_cannot_be_sorted_is_one_line(tmp_path: Path) -> None:
    def refused(rule: str, source: Path = tmp_path / "in", out: str = "out", by: str = "kernel"):
        with pytest.raises(InputError, match=rf"^[^\n]*{rule}[^\n]*$"):
            sort_series(source, tmp_path / out, by)
        assert not (tmp_path / "out").exists()

    refused("no such folder")
    (tmp_path / "in").mkdir()
    refused("no DICOM images below")
    refused("sort by 'date': expected kernel or description", by="date")
    refused("lies in .*in, which is to be sorted", out="in/sorted")
    file = write_slice(tmp_path / "in" / "a" / "1.dcm", ct(0)[:, :, 0], 0, SeriesInstanceUID="1")
    refused(r"in/a: a series of 1 files has no kernel")
    write_slice(file, ct(0)[:, :, 0], 0, SeriesInstanceUID="1", PatientID=" / ")
    refused(r"has no description", by="description")
    write_slice(
        file, ct(0)[:, :, 0], 0, SeriesInstanceUID="1", PatientID=" / ", ConvolutionKernel="B20f"
    )
    refused(r"has no PatientID")


# Radiographs


def png(path: Path, gray: Array, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray).convert(mode).save(path)
    return path


def test_radiographs_of_open_i(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 255, (21, 17), np.uint8)
    names = ("CXR1_1_IM-0001-3001", "CXR1000_IM-0003-1001", "CXR3998_IM-2041-1001-0001")
    for name, mode in zip(names, ("L", "RGB", "RGBA"), strict=True):
        png(tmp_path / "frontal" / f"{name}.png", gray, mode)
    png(tmp_path / "frontal" / "index.png", gray)  # no radiograph: not named like one
    png(tmp_path / "CXR1_1_IM-0001-4001.png", gray)  # a lateral one, left where it was
    manifest = MANIFESTS / "openi_xray.csv"
    assert check_manifest(manifest, tmp_path).ok
    cohort = Cohort.from_manifest(manifest, tmp_path)
    assert sorted(cohort.names) == sorted(names)
    prep = Preparation(scales=1, low=0.0, high=255, intensity="window", margin=0, foreground=-1)
    for subject in cohort:
        with prepare(subject, "xray", prep) as ready:
            back = ready.to_source(ready.read)(Box.whole(gray.shape))
            np.testing.assert_allclose(back, gray, atol=1e-3)


def test_radiographs_of_the_nih_in_the_folders_they_come_in(tmp_path: Path) -> None:
    gray = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
    png(tmp_path / "images_001" / "images" / "00000001_000.png", gray)
    png(tmp_path / "images_012" / "images" / "00030805_000.png", gray, "RGBA")  # a few are
    row = {"subject": "*", "role": "image", "modality": "xray", "licence": "-", "citation": "-"}
    entry = Entry.model_validate({**row, "path": "images_*/images/{subject}.png"})
    manifest = Manifest(name="nih.csv", rows=(entry,))
    assert check_manifest(manifest, tmp_path).ok
    cohort = Cohort.from_manifest(manifest, tmp_path)
    assert cohort.names == ("00000001_000", "00030805_000")
    with open_volume(cohort["00030805_000"].images["xray"]) as volume:
        np.testing.assert_array_equal(volume.whole(), gray)
