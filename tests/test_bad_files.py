"""One bad file of each format among good ones: it is named, the others go on, the status tells."""

import csv
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from program import msgan_cli
from test_repository import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from reader_corpus import write_corpus

GOOD = ("good1", "good2")
COLUMNS = ("subject", "role", "modality", "path", "sha256", "licence", "citation", "split", "fold")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with two good images and a bad one of each format; the bad ones by kind."""
    folder = tmp_path_factory.mktemp("mixed") / "in"
    paths = write_corpus(folder)
    for kind, path in paths.items():
        if (folder / path).is_file():
            cut(folder / path)
        else:
            files = [p for p in (folder / path).rglob("*") if p.is_file()]
            for file in files if path.endswith(".zarr") else files[:1]:
                cut(file)
        if kind == "dicom series":  # a slice less is told; all of them are an error
            shutil.copy(folder / "dicom" / "0.dcm", folder / path / "1.dcm")
    for name in GOOD:
        array = np.random.default_rng(len(name)).normal(100, 9, (8, 9, 10)).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.diag([2, 2, 2, 1])), folder / f"{name}_t1.nii.gz")
    return folder, {k: p for k, p in paths.items() if k != "dicom series"}


def test_check_names_every_bad_file(mixed, tmp_path):
    folder, bad = mixed
    rows = [(kind.replace(" ", "-"), path) for kind, path in bad.items()]
    rows += [(name, f"{name}_t1.nii.gz") for name in GOOD]
    with (tmp_path / "m.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for name, path in rows:
            writer.writerow((name, "image", "t1", path, "", "none", "none", "train", ""))
    done = msgan_cli("data", "check", tmp_path / "m.csv", "--root", folder, status=2)
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    for kind, path in bad.items():
        (line,) = [e for e in errors if e.startswith(f"error: {kind.replace(' ', '-')}: ")]
        assert path in line
    assert not any(name in error for error in errors for name in GOOD)
    assert "Traceback" not in done.output


def test_init_takes_the_good_ones(mixed, tmp_path):
    folder, bad = mixed
    done = msgan_cli("init", tmp_path / "study", "--from", folder)
    with (tmp_path / "study" / "manifest.csv").open() as stream:
        taken = {row["path"] for row in csv.DictReader(stream)}
    assert {f"{name}_t1.nii.gz" for name in GOOD} <= taken
    notes = (tmp_path / "study" / "notes.md").read_text()
    for path in bad.values():
        # Headers are read here: what is wrong with voxels is for `data check` to find.
        assert path in taken or path in notes
    assert not any(path.endswith((".mha", ".nrrd", ".nii", ".mgh", ".zarr")) for path in taken)
    assert "Traceback" not in done.output
