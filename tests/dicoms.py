"""Slices and series as scanners export them."""

from pathlib import Path
from typing import Any

import numpy as np

from msgan.types import Array

SHAPE = (7, 6, 5)  # columns, rows, slices
SHARPNESS = {"B20f": 1, "B50f": 2, "B80f": 4}


def ct(seed: int, kernel: str = "B20f") -> Array:
    """HU by (column, row, slice): kernels of one subject differ in their noise only."""
    rng = np.random.default_rng(seed)
    body = rng.integers(-900, 900, SHAPE)
    return body + SHARPNESS[kernel] * rng.integers(-10, 10, SHAPE)


def write_slice(path: Path, hu: Array, position_mm: float, **tags: Any) -> Path:
    """One axial slice as a scanner's export has it; ``hu`` by (column, row)."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.PatientID, data.StudyInstanceUID = "10061S", "1.2"
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Rows, data.Columns, data.SamplesPerPixel = hu.shape[1], hu.shape[0], 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelSpacing = [0.7, 0.7]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-100.0, -90.0, position_mm]
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    for tag, value in tags.items():
        setattr(data, tag, value)
    stored = (hu - float(data.RescaleIntercept)) / float(data.RescaleSlope)
    kind = np.int16 if data.PixelRepresentation else np.uint16
    data.PixelData = np.rint(stored).T.astype(kind).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, image: Array, name: str = "IM-0001-{:04d}.dcm", **tags: Any
) -> list[Path]:
    """A helical scan, stored from the head down; neither name nor number tells the order."""
    files = []
    for k in range(image.shape[2]):
        mixed = (3 * k + 1) % image.shape[2]
        tags["InstanceNumber"] = mixed
        files.append(
            write_slice(folder / name.format(mixed), image[:, :, k], 200 - 1.25 * k, **tags)
        )
    return files
