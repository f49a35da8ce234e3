"""Which format a file or folder is read as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgan.data.formats import dicom, itk, mgh, nifti, omezarr, picture
from msgan.data.store import Source, suffix_of
from msgan.types import InputError

READERS: dict[str, Callable[[Path, str], Source]] = {
    suffix: module.read
    for module in (nifti, mgh, itk, omezarr, picture)
    for suffix in module.SUFFIXES
}
"""How a file is opened, by its suffix."""


def source_of(path: Path) -> Source:
    """What the header of ``path`` tells.

    Raises:
        InputError: It is missing, no ordinary file, empty, of an unknown kind, or damaged.
        Exception: Whatever a decoder of a damaged file raises.
    """
    if not path.exists():
        raise InputError("no such file or folder")
    suffix = suffix_of(path)
    if path.is_dir():
        return READERS[suffix](path, suffix) if suffix == ".zarr" else dicom.read_series(path)
    if not path.is_file():
        raise InputError("no ordinary file")
    if path.stat().st_size == 0:
        raise InputError("the file has no bytes")
    if suffix in READERS and suffix != ".zarr":
        return READERS[suffix](path, suffix)
    if suffix in (".dcm", ".ima") or dicom.is_dicom(path):
        return dicom.read_file(path)
    if pair := nifti.pair_of(path):
        if pair == "analyze":
            raise InputError(nifti.ANALYZE)
        return nifti.read(path, suffix)
    known = ", ".join([*READERS, ".dcm"])
    raise InputError(f"unsupported file type {suffix or 'without suffix'}: expected one of {known}")
