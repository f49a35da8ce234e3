"""Minimal images of every format that is read, and damage done to them by chance."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

SHAPE = (6, 5, 4)
ALL_BITS = ((1 << 15) - 1, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
INTEGERS = (0, 1, 2, 7, 255, 10**6, *ALL_BITS, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
FLOATS = (0.0, -1.0, 1e-30, 1e30, 3e38, float("nan"), float("inf"), -float("inf"))
WORDS = (
    *(b"", b"0", b"-1", b"2", b"99999999999", b"9" * 5000, b"1e999", b"-1e-999", b"nan", b"inf"),
    *(b"%s", b"%s%s%n%n", b"%d", b"%99999999d", b"True", b"False", b"LOCAL", b"LIST", b"none"),
    *(b"../../../../etc/passwd", b"/dev/zero", b"/etc/passwd", b".", b"a/../..", b"\xff\xfe\x00"),
    *(b"()", b"(1,0,0", b"((((", b"\n", b"\n\n", b"\x00", b"null", b"[]", b"{}", b'"', b"true"),
    *(
        "é\u202e".encode(),
        b"1,5",
        b"0x10",
        b"1_0",
        b"[" * 5000,
        b"zlib",
        b"gzip",
        b"bzip2",
        b"hex",
        b"ascii",
    ),
)
HEADER_BYTES = 600
"""Most damage is done to the beginning of a file, where the headers are."""


def values(dims: int = 3, dtype: str = "i2") -> np.ndarray:
    """A small image in which no two rows are equal."""
    return (7 * np.arange(np.prod(SHAPE[:dims]))).reshape(SHAPE[:dims]).astype(dtype)


def write_corpus(folder: Path) -> dict[str, str]:
    """Write one input of each kind below ``folder``, each in a folder of its own.

    Returns:
        What to open, below ``folder``, by the name of the kind.
    """
    found = {}
    for name, writer in WRITERS.items():
        home = folder / name
        home.mkdir(parents=True)
        found[name] = (Path(name) / writer(home)).as_posix()
    return found


def _nifti(home: Path, name: str, kind: str = "Nifti1Image") -> str:
    import nibabel as nib

    image = getattr(nib, kind)(values(), np.diag([2.0, 2.0, 3.0, 1.0]))
    if kind != "MGHImage":
        image.header.set_xyzt_units("mm")
        image.header.set_slope_inter(2, -1)
        extension = nib.nifti1.Nifti1Extension("comment", b"a comment")
        image.header.extensions.append(extension)
    nib.save(image, home / name)
    return name if not name.endswith(".img") else name.replace(".img", ".hdr")


def _itk(home: Path, name: str, compress: bool, dims: int = 3) -> str:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values(dims).T)
    image.SetSpacing((2.0, 2.0, 3.0)[:dims])
    image.SetOrigin((10.0, 20.0, 30.0)[:dims])
    sitk.WriteImage(image, str(home / name), compress)
    return name


def _own(home: Path, name: str) -> str:
    from msgan.data.volume import Grid, write_volume

    dims = 2 if name.endswith((".png", ".tif")) else 3
    array = values(dims, "u2")
    grid = Grid.from_spacing(array.shape, (2.0, 2.0, 3.0)[:dims])
    write_volume(home / name, grid, lambda box: array[box.slices], dtype=array.dtype)
    return name


def _text(home: Path, name: str) -> str:
    """A header with every field that counts, before voxels as text."""
    if name.endswith(".nrrd"):
        lines = [
            *("NRRD0005", "# a comment", "type: short", "dimension: 3", "sizes: 6 5 4"),
            *("space: left-posterior-superior", "space directions: (2,0,0) (0,2,0) (0,0,3)"),
            *("space origin: (1,2,3)", 'space units: "mm" "mm" "mm"', "endian: little"),
            *("encoding: ascii", "kinds: domain domain domain", "line skip: 0", "byte skip: 0"),
            *("old min: 0", "old max: 1", "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "a:=b", ""),
        ]
    else:
        lines = [
            *("ObjectType = Image", "NDims = 3", "BinaryData = False", "CompressedData = False"),
            *("BinaryDataByteOrderMSB = False", "TransformMatrix = 1 0 0 0 1 0 0 0 1"),
            *("Offset = 1 2 3", "CenterOfRotation = 0 0 0", "AnatomicalOrientation = RAI"),
            *("ElementSpacing = 2 2 3", "DistanceUnits = mm", "DimSize = 6 5 4"),
            *("ElementToIntensityFunctionSlope = 2", "ElementToIntensityFunctionOffset = -1024"),
            *("HeaderSize = 0", "ElementNumberOfChannels = 1", "ElementType = MET_SHORT"),
            "ElementDataFile = LOCAL",
        ]
    numbers = " ".join(map(str, values().ravel(order="F")))
    (home / name).write_text("\n".join([*lines, numbers, ""]))
    return name


def _slices(home: Path, name: str, count: int) -> str:
    """The text of a list of files, or a numbered name, before one file for each plane."""
    for k in range(SHAPE[2]):
        plane = values()[:, :, k]
        (home / f"p{k}.raw").write_bytes(plane.tobytes(order="F"))
    files = "LIST\n" + "\n".join(f"p{k}.raw" for k in range(SHAPE[2]))
    if name.endswith(".mhd"):
        text = "NDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementDataFile = "
    else:
        text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nencoding: raw\nendian: little\n"
        text += "data file: "
    (home / name).write_text(text + (files if count else "p%d.raw 0 3 1") + "\n")
    return name


def _dicom(home: Path, count: int, syntax: str = "") -> str:
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    for k in range(count):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header = pydicom.Dataset()
        header.file_meta = meta
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"1.2.3.{k + 1}"
        header.SeriesInstanceUID, header.StudyInstanceUID = "1.2.3", "1.2"
        header.PatientID, header.Modality, header.InstanceNumber = "a", "CT", k + 1
        header.Rows, header.Columns = SHAPE[1], SHAPE[0]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelRepresentation = 0
        header.PixelSpacing = [2.0, 2.0]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [0.0, 0.0, 3.0 * k]
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        header.PixelData = values()[:, :, k].T.astype("<u2").tobytes()
        if syntax == "rle":
            header.compress(pydicom.uid.RLELossless)
        elif syntax == "deflated":
            meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        header.save_as(home / f"{k}.dcm", enforce_file_format=True)
    return "" if count > 1 else "0.dcm"


def _zarr(home: Path, version: int, **options: object) -> str:
    import zarr

    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [3.0, 2.0, 2.0]}]
    sets = [{"path": "0", "coordinateTransformations": scale}]
    multiscale = {"axes": axes, "datasets": sets, "version": "0.4"}
    state = {"multiscales": [multiscale]}
    group = zarr.create_group(
        store=str(home / "a.zarr"),
        zarr_format=version,
        attributes=state if version == 2 else {"ome": {"version": "0.5", **state}},
    )
    array = group.create_array("0", shape=SHAPE[::-1], chunks=(2, 3, 3), dtype="int16", **options)
    array[...] = values().T
    return "a.zarr"


def _tiff(home: Path, **options: object) -> str:
    import tifffile

    tifffile.imwrite(home / "a.tif", values(2, "u2"), metadata=None, **options)
    return "a.tif"


def _png(home: Path, mode: str) -> str:
    from PIL import Image

    Image.fromarray((values(2) % 256).astype("u1")).convert(mode).save(home / "a.png")
    return "a.png"


WRITERS: dict[str, Callable[[Path], str]] = {
    "nii": lambda home: _nifti(home, "a.nii"),
    "nii.gz": lambda home: _nifti(home, "a.nii.gz"),
    "nifti2": lambda home: _nifti(home, "a.nii", "Nifti2Image"),
    "pair": lambda home: _nifti(home, "a.img", "Nifti1Pair"),
    "mgh": lambda home: _nifti(home, "a.mgh", "MGHImage"),
    "mgz": lambda home: _nifti(home, "a.mgz", "MGHImage"),
    "mha": lambda home: _itk(home, "a.mha", False),
    "mha zlib": lambda home: _itk(home, "a.mha", True),
    "mha text": lambda home: _text(home, "a.mha"),
    "mhd": lambda home: _itk(home, "a.mhd", False),
    "mhd zlib": lambda home: _itk(home, "a.mhd", True),
    "mhd list": lambda home: _slices(home, "a.mhd", 1),
    "mha 2d": lambda home: _itk(home, "a.mha", True, 2),
    "nrrd": lambda home: _itk(home, "a.nrrd", False),
    "nrrd gzip": lambda home: _itk(home, "a.nrrd", True),
    "nrrd text": lambda home: _text(home, "a.nrrd"),
    "nhdr": lambda home: _itk(home, "a.nhdr", False),
    "nhdr numbered": lambda home: _slices(home, "a.nhdr", 0),
    "dicom": lambda home: _dicom(home, 1),
    "dicom series": lambda home: _dicom(home, 4),
    "dicom rle": lambda home: _dicom(home, 1, "rle"),
    "dicom deflated": lambda home: _dicom(home, 1, "deflated"),
    "zarr shards": lambda home: _zarr(home, 3, shards=(4, 6, 6)),
    "zarr 2": lambda home: _zarr(home, 2),
    "zarr 3": lambda home: _zarr(home, 3),
    "own zarr": lambda home: _own(home, "a.zarr"),
    "png": lambda home: _own(home, "a.png"),
    "png palette": lambda home: _png(home, "P"),
    "png bits": lambda home: _png(home, "1"),
    "tiff": lambda home: _own(home, "a.tif"),
    "tiff deflate": lambda home: _tiff(home, compression="zlib"),
    "tiff tiles": lambda home: _tiff(home, tile=(16, 16), compression="zlib"),
    "bigtiff": lambda home: _tiff(home, bigtiff=True),
}


def damaged(data: bytes, random: Random) -> bytes:
    """``data`` with one to three kinds of damage; of gzip files often what they hold."""
    if data[:2] == b"\x1f\x8b" and random.random() < 0.7:
        return gzip.compress(damaged(gzip.decompress(data), random), mtime=0)
    text = _text_length(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        kinds = TEXT_DAMAGE if text and random.random() < 0.75 else DAMAGE
        data = random.choice(kinds)(data, random)
    return _resealed(data, random)


def _text_length(data: bytes) -> int:
    """Bytes of the text that ``data`` begins with."""
    match = re.match(rb"[\t\n\r\x20-\x7e]*", data)
    return match.end() if match and match.end() > 20 else 0


def _place(data: bytes, random: Random) -> int:
    end = min(len(data), HEADER_BYTES) if random.random() < 0.8 else len(data)
    return random.randrange(end) if end else 0


def _flip(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.choice((1, 2, 4, 16)) if out else 0):
        out[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(out)


def _overwrite(data: bytes, random: Random) -> bytes:
    at, n = _place(data, random), random.choice((1, 2, 4, 8, 40))
    new = random.choice((bytes(n), b"\xff" * n, random.randbytes(n)))
    return data[:at] + new + data[at + n :]


def _integer(data: bytes, random: Random) -> bytes:
    size = random.choice((2, 4, 8))
    at = _place(data, random) // 2 * 2
    if random.random() < 0.8:
        number = random.choice(INTEGERS) & ((1 << 8 * size) - 1)
        new = number.to_bytes(size, random.choice(("little", "big")))
    else:
        with np.errstate(over="ignore"):
            kind = {2: "f2", 4: "f4", 8: "f8"}[size]
            new = np.array(random.choice(FLOATS)).astype(random.choice("<>") + kind).tobytes()
    return data[:at] + new + data[at + size :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: _place(data, random)]


def _insert(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    new = random.choice(
        (random.randbytes(random.choice((1, 4, 64))), bytes(64), data[at : at + 64])
    )
    return data[:at] + new + data[at:]


def _remove(data: bytes, random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + data[at + random.choice((1, 2, 4, 30)) :]


def _exchange(data: bytes, random: Random) -> bytes:
    """Two numbers of equal size change places."""
    size = random.choice((1, 2, 4))
    a, b = sorted(_place(data, random) // size * size for _ in range(2))
    if b - a < size:
        return data
    return (
        data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]
    )


def _word(data: bytes, random: Random) -> bytes:
    """A word or number of the text becomes another."""
    words = list(re.finditer(rb"[-+.\w]+", data[: _text_length(data)]))
    if not words:
        return data
    word = random.choice(words)
    return data[: word.start()] + random.choice(WORDS) + data[word.end() :]


def _number(data: bytes, random: Random) -> bytes:
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", data[: _text_length(data)]))
    if not numbers:
        return data
    number = random.choice(numbers)
    new = random.choice((*WORDS[:14], str(random.choice(INTEGERS)).encode()))
    return data[: number.start()] + new + data[number.end() :]


def _lines(data: bytes, random: Random) -> bytes:
    """A line is doubled, removed, moved, or its value replaced."""
    end = _text_length(data)
    lines, rest = data[:end].splitlines(keepends=True), data[end:]
    if not lines:
        return data
    at, kind = random.randrange(len(lines)), random.randrange(4)
    if kind == 0:
        lines.insert(random.randrange(len(lines)), lines[at])
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(random.randrange(len(lines)), lines.pop(at))
    else:
        key, mark, _ = re.split(rb"([=:]|$)", lines[at], maxsplit=1)
        lines[at] = key + mark + b" " + random.choice(WORDS) + b"\n"
    return b"".join(lines) + rest


DAMAGE = (_flip, _overwrite, _integer, _integer, _cut, _insert, _remove, _exchange)
TEXT_DAMAGE = (_word, _number, _number, _lines)


def _resealed(data: bytes, random: Random) -> bytes:
    """PNG with the checksums its chunks now need, else a decoder looks no further."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or random.random() < 0.2:
        return data
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        (length,) = struct.unpack(">I", out[at : at + 4])
        if at + 12 + length > len(out):
            break
        check = zlib.crc32(out[at + 4 : at + 8 + length])
        out[at + 8 + length : at + 12 + length] = struct.pack(">I", check)
        at += 12 + length
    return bytes(out)


def known(folder: Path) -> list[str]:
    """Write headers below ``folder`` that once crashed, hung or deceived a reader; all are bad."""
    meta = {
        **{"NDims": "3", "DimSize": "6 5 4", "ElementType": "MET_SHORT", "BinaryData": "True"},
        "ElementDataFile": "LOCAL",
    }
    nrrd = {
        **{"type": "short", "dimension": "3", "sizes": "6 5 4", "endian": "little"},
        "encoding": "raw",
    }
    voxels = values().tobytes(order="F")
    changes: list[tuple[str, dict[str, str]]] = [
        *(("mha", {"NDims": n}) for n in ("-1", "0", "99999999999", "%s", "", "9" * 5000, "nan")),
        *(
            ("mha", {"DimSize": n})
            for n in ("6 5", "6 5 -4", "99999999999 5 4", "%s %s %s", "6 5 0")
        ),
        *(("mha", {"DimSize": "1000000 1000000 1000000"}), ("mha", {"ElementType": "MET_%s"})),
        *(
            ("mha", {"ElementDataFile": n})
            for n in ("%s%s%s%n", "../a", "/dev/zero", "LIST", "a%d.raw 0 3")
        ),
        *(("mha", {"CompressedData": "True"}), ("mha", {"ElementSpacing": "9" * 5000 + " 1 1"})),
        *(("mha", {"HeaderSize": n}) for n in ("-2", "99999999999", "1e99")),
        *(("mha", {"ElementNumberOfChannels": n}) for n in ("0", "-1", "99999999999")),
        *(("nrrd", {"dimension": n}) for n in ("-1", "0", "99", "%s", "9" * 5000)),
        *(("nrrd", {"sizes": n}) for n in ("6 5", "6 5 -4", "1000000 1000000 1000000", "%s 5 4")),
        *(("nrrd", {"encoding": n}) for n in ("gzip", "bzip2", "hex", "%n", "zrl")),
        *(("nrrd", {"byte skip": n}) for n in ("-2", "99999999999", "%s")),
        *(
            ("nrrd", {"data file": n})
            for n in ("../a", "/etc/passwd", "%s%n 1 4 1", "LIST 99", "a\x00")
        ),
        *(("nrrd", {"space": n}) for n in ("%s", "nowhere")),
    ]
    names = []
    for k, (suffix, change) in enumerate(changes):
        if suffix == "mha":
            lines = [f"{key} = {value}" for key, value in {**change, **meta, **change}.items()]
            lines.sort(key=lambda line: line.startswith("ElementDataFile"))
            text = "\n".join(lines) + "\n"
        else:
            lines = [f"{key}: {value}" for key, value in {**nrrd, **change}.items()]
            text = "\n".join(["NRRD0004", *lines]) + "\n\n"
        names.append(f"known{k}.{suffix}")
        (folder / names[-1]).write_bytes(text.encode() + voxels)
    return names
