"""Writes a generated image as a DICOM series that says so, slice by slice.

Classic CT or MR Image Storage (PS3.3, A.3 and A.4), so that every viewer shows it as a volume:
secondary captures have no place in the patient. The instances are built from nothing: what is not
named here cannot get in from the source.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from io import FileIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

import msgan
from msgan import paths
from msgan.data.formats.dicom import MARK_END, slices_of
from msgan.data.formats.dicom_enhanced import FRAME
from msgan.data.formats.dicom_header import Header, dataset_of, is_dicom, series_number
from msgan.data.formats.dicom_stack import ANGLE_TOLERANCE, TILT_TOLERANCE
from msgan.data.formats.itk import LPS_TO_RAS
from msgan.data.grid import Grid
from msgan.data.raw import raw_reader, write_raw
from msgan.types import Array, Box, InputError, Reader

if TYPE_CHECKING:
    from pydicom import Dataset

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
ROOT = "2.25."
"""What UIDs begin with that are made of a UUID (PS3.5, annex B.2)."""

MOST = 2**16 - 1
"""Largest stored value."""

AIR = -1024
"""Intercept of a CT in HU, whose stored values are whole HU above it."""

DIGITS = 6
"""Of slope and intercept; a DS has 16 characters."""

OTHER_KINDS = re.compile(r"pet|pt|spect|nm|us|ultrasound|xray|x_ray|cr|dx|mg|mammo", re.IGNORECASE)
"""How modalities begin for which neither CT nor MR Image Storage is right."""

PERSON = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "PatientBirthDate"),
    *("PatientBirthTime", "PatientSex", "PatientAge", "PatientSize", "PatientWeight"),
    *("EthnicGroup", "PatientComments", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID"),
    *("StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
)
"""Of patient and study; copied on request only."""

PLACE = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined"),
    *("BurnedInAnnotation", "LossyImageCompression"),
)
"""What tells nobody's identity by itself and belongs to the image."""

MACHINE = ("Manufacturer", "ManufacturerModelName", "Modality", "SeriesNumber")

EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
    *("PatientPosition", "AcquisitionNumber"),
)
"""Elements that must be there and may be empty (type 2)."""

LETTERS = {"CS": 16, "SH": 16, "LO": 64, "ST": 1024}


@dataclass(frozen=True)
class Derivation:
    """What a derived series says of itself and of what it was made of.

    Attributes:
        id: Of the translation; the same gives the same UIDs.
        mark: That it is synthetic (:func:`msgan.data.store.description`).
        target: Modality it shows.
        unit: Of its values; ``HU`` makes it a CT, anything else an MR.
        low: Value that is shown black.
        high: Value that is shown white.
        source: Image it was made of; of DICOM, frame of reference and source references are kept.
        identity: Whether patient and study are the source's; else nothing of them is there.
    """

    id: str
    mark: str
    target: str
    unit: str
    low: float
    high: float
    source: Path | None = None
    identity: bool = False

    @property
    def modality(self) -> str:
        """``CT`` or ``MR``."""
        return "CT" if self.unit == "HU" else "MR"

    def uid(self, what: str) -> str:
        """A UID of its own for a study, a series, an instance or a frame of reference."""
        text = f"{self.id} {self.identity} {what}"
        digest = hashlib.sha256(text.encode()).digest()
        return f"{ROOT}{UUID(bytes=digest[:16], version=4).int}"


@dataclass(frozen=True)
class Rescale:
    """How values are stored: value = stored x slope + intercept, stored from 0 to 65535.

    Attributes:
        slope: Above 0, as it is written.
        intercept: As it is written.
    """

    slope: str
    intercept: str

    @classmethod
    def of(cls, low: float, high: float, unit: str) -> Rescale:
        """For values from ``low`` to ``high``: of a CT whole HU, else as fine as 16 bits are.

        Example:
            >>> Rescale.of(-1000.4, 3000.0, "HU")
            Rescale(slope='1', intercept='-1024')
            >>> Rescale.of(0.0, 800.0, "a.u.")
            Rescale(slope='0.0122073', intercept='0')
        """
        if unit == "HU":
            start = min(AIR, int(np.floor(low)))
            if np.rint(high) - start <= MOST:
                return cls("1", str(start))
        intercept = f"{Context(DIGITS, ROUND_FLOOR).create_decimal(low)}" if low < 0 else "0"
        steps = (high - float(intercept)) / MOST
        slope = Context(DIGITS, ROUND_CEILING).create_decimal(steps) if steps else 1
        return cls(f"{slope}", intercept)

    def stored(self, values: Array) -> Array:
        """Values as they are stored, uint16; each within half a slope."""
        steps = (values.astype(np.float64) - float(self.intercept)) / float(self.slope)
        return np.clip(np.rint(steps), 0, MOST).astype(np.uint16)


@dataclass
class Extremes:
    """Smallest and largest value that were read."""

    low: float = field(default=np.inf, init=False)
    high: float = field(default=-np.inf, init=False)

    def watched(self, read: Reader) -> Reader:
        """The same reader, looked at."""

        def seen(box: Box) -> Array:
            values = read(box)
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))
            return values

        return seen


def require_series(grid: Grid, derived: Derivation) -> None:
    """Refuse what no series of slices can hold, before any work.

    Raises:
        InputError: The image has two axes, one slice, sheared axes or too long ones; its modality
            is neither CT nor MR; or an identity is to be kept that the source does not state.
    """
    if len(grid.shape) != 3 or grid.shape[2] < 2:
        raise InputError(
            f"image of shape {grid.shape}: a DICOM series is of 3 axes and at least 2 slices: "
            "choose another format"
        )
    if max(grid.shape) > MOST:
        raise InputError(f"image of shape {grid.shape}: DICOM counts rows and columns to {MOST}")
    if derived.modality == "MR" and OTHER_KINDS.match(derived.target):
        raise InputError(
            f"target {derived.target}: written are CT (results in HU) and MR, and it is neither: "
            "choose another format"
        )
    axes = _axes(grid)
    cosines, spacing = axes / np.linalg.norm(axes, axis=0), np.linalg.norm(axes, axis=0)
    normal = np.cross(cosines[:, 0], cosines[:, 1])
    shift = np.linalg.norm(axes[:, 2] - normal * (axes[:, 2] @ normal))
    if abs(cosines[:, 0] @ cosines[:, 1]) > ANGLE_TOLERANCE or shift > TILT_TOLERANCE * spacing[2]:
        raise InputError(
            f"affine {np.round(grid.affine, 4).tolist()}: its axes are not at right angles, which "
            "those of a DICOM series are: choose another format"
        )
    if derived.identity and not (derived.source and of_dicom(derived.source)):
        raise InputError(
            f"{derived.source}: is no DICOM and states no patient: there is no identity to keep"
        )


def of_dicom(source: Path) -> bool:
    """Whether an image is a DICOM series or file."""
    if source.is_dir():
        return any(file.is_file() and is_dicom(file) for file in source.iterdir())
    return source.is_file() and is_dicom(source)


def write(folder: Path, grid: Grid, read: Reader, derived: Derivation) -> Rescale:
    """Write a series to an empty folder, a file for each slice along the third axis.

    Slope and intercept are one for the series and follow from all values. So the image goes to a
    file in the scratch folder first, by boxes, and slices are written from there: a slice is all
    that is in memory.

    Args:
        folder: There already.
        grid: See :func:`require_series`.
        read: Values in the unit of ``derived``.
        derived: What it is.

    Raises:
        InputError: No series can hold it, the source cannot be read, or a disk is full.
    """
    require_series(grid, derived)
    values, kind = Extremes(), np.dtype(np.float32)
    root, need = paths.scratch_root(), prod(grid.shape) * kind.itemsize
    with paths.scratch_folder() as scratch:
        file = scratch / "image.raw"
        with (
            paths.room(root, need, "the image before its slices (in MSGAN_SCRATCH)"),
            FileIO(file, "wb") as stream,
        ):
            write_raw(stream, grid.shape, kind, values.watched(read))
        rescale = Rescale.of(values.low, values.high, derived.unit)
        plane = raw_reader(file, kind, grid.shape)
        base, references = _series(grid, derived, rescale, values)
        columns, rows = grid.shape[:2]
        for k in range(grid.shape[2]):
            box = Box((0, 0, k), (columns, rows, 1))
            pixels = rescale.stored(plane(box)[:, :, 0].T)
            data = _slice(base, grid, derived, k)
            if references:
                data.SourceImageSequence = [references[k]]
            data.PixelData = pixels.tobytes()
            data["PixelData"].VR = "OW"
            data.save_as(folder / f"{k:05d}.dcm", enforce_file_format=True)
    return rescale


def _axes(grid: Grid) -> Array:
    """Steps of the three axes in mm of the patient, LPS, one in each column."""
    return (LPS_TO_RAS @ grid.affine)[:3, :3]


def _series(
    grid: Grid, derived: Derivation, rescale: Rescale, values: Extremes
) -> tuple[Dataset, list[Dataset]]:
    """What all slices state, and the reference of each to the slice it was made of."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    data, source = Dataset(), derived.source
    known, references = Dataset(), []
    if source is not None and of_dicom(source):
        slices = slices_of(source)
        first = slices[0][0] if slices[0][0].is_file() else slices[0][0].parent  # of a frame
        known = dataset_of(first, (*PERSON, *PLACE, *MACHINE), pixels=False)
        references = [_reference(header) for _, header in slices]
    data.SpecificCharacterSet = "ISO_IR 192"
    for tag in EMPTY:
        setattr(data, tag, "")
    data.Modality = derived.modality
    data.SOPClassUID = CT if derived.modality == "CT" else MR
    data.StudyInstanceUID = derived.uid("study")
    data.SeriesInstanceUID = derived.uid("series")
    data.FrameOfReferenceUID = derived.uid("frame")
    data.PatientID = f"synthetic-{derived.id}"
    _copy(data, known, PLACE)
    _identify(data, known, derived)
    # Elements that are copied but must state something.
    for tag, usual in (("BurnedInAnnotation", "NO"), ("LossyImageCompression", "00")):
        if not data.get(tag):
            setattr(data, tag, usual)
    data.SeriesNumber = 9000 + series_number(known) % 1000
    data.SeriesDescription = _text(f"synthetic {derived.target} (msgan)", "LO")
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if derived.modality == "CT" else "OTHER"]
    data.SyntheticData = "YES"
    data.ContentQualification = "RESEARCH"
    data.ImageComments = derived.mark
    unit = "" if derived.unit == "a.u." else f" {derived.unit}"
    data.DerivationDescription = _text(
        f"{derived.mark}{MARK_END}generated by a neural network, not acquired: for research, not "
        f"for diagnosis. Value = stored value x {rescale.slope} + {rescale.intercept}; values from "
        f"{values.low:.6g} to {values.high:.6g}{unit}",
        "ST",
    )
    _equip(data, known, bool(references))
    _describe_pixels(data, grid, derived, rescale, values)
    (_ct if derived.modality == "CT" else _mr)(data, rescale)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.ImplementationVersionName = _text(f"MSGAN {msgan.__version__}", "SH")
    return data, references


def _identify(data: Dataset, known: Dataset, derived: Derivation) -> None:
    """Patient and study: the source's, or none."""
    if derived.identity:
        _copy(data, known, PERSON)
        return
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "msgan: nothing of patient and study was copied"


def _copy(data: Dataset, known: Dataset, tags: Iterable[str]) -> None:
    """Elements of the source; what breaks the rules of its type is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in tags:
            with suppress(Exception):  # pydicom raises what it meets while it converts
                if tag in known and known[tag].value not in (None, ""):
                    data[tag] = deepcopy(known[tag])


def _equip(data: Dataset, known: Dataset, derived: bool) -> None:
    """What made the series, and what had acquired its source."""
    data.Manufacturer, data.ManufacturerModelName = "msgan", "msgan"
    data.SoftwareVersions = msgan.__version__
    own = _item(Manufacturer="msgan", ManufacturerModelName="msgan")
    own.SoftwareVersions = msgan.__version__
    own.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    own.ContributionDescription = "Image translation by a generative adversarial network"
    equipment = [own]
    if derived:
        scanner = _item(Manufacturer="", ManufacturerModelName="")
        _copy(scanner, known, ("Manufacturer", "ManufacturerModelName"))
        scanner.PurposeOfReferenceCodeSequence = [_code("109101", "DCM", "Acquisition Equipment")]
        equipment.append(scanner)
    data.ContributingEquipmentSequence = equipment


def _describe_pixels(
    data: Dataset, grid: Grid, derived: Derivation, rescale: Rescale, values: Extremes
) -> None:
    axes = _axes(grid)
    column_mm, row_mm, slice_mm = map(float, np.linalg.norm(axes, axis=0))
    data.Columns, data.Rows = grid.shape[:2]
    data.PixelSpacing = [_number(row_mm), _number(column_mm)]
    data.SliceThickness = data.SpacingBetweenSlices = _number(slice_mm)
    along_row, along_column = axes[:, 0] / column_mm, axes[:, 1] / row_mm
    data.ImageOrientationPatient = [_number(v) for v in (*along_row, *along_column)]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 0
    data.RescaleSlope, data.RescaleIntercept = rescale.slope, rescale.intercept
    data.WindowCenter = _number((derived.low + derived.high) / 2)
    data.WindowWidth = _number(derived.high - derived.low)
    least, most = map(int, rescale.stored(np.array([values.low, values.high])))
    data.SmallestPixelValueInSeries, data.LargestPixelValueInSeries = least, most


def _ct(data: Dataset, rescale: Rescale) -> None:
    data.RescaleType = "HU"
    data.KVP = ""


def _mr(data: Dataset, rescale: Rescale) -> None:
    """An MR of no sequence; GDCM, and so SimpleITK, rescales it by the mapping of real values."""
    data.RescaleType = "US"
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions = "RM", "NONE", ""
    data.MRAcquisitionType = "3D"
    data.RepetitionTime = data.EchoTime = data.EchoTrainLength = ""
    mapping = _item(LUTExplanation="values of msgan", LUTLabel="msgan")
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, MOST
    mapping.RealWorldValueSlope = float(rescale.slope)
    mapping.RealWorldValueIntercept = float(rescale.intercept)
    mapping.MeasurementUnitsCodeSequence = [_code("1", "UCUM", "no units")]
    data.RealWorldValueMappingSequence = [mapping]


def _slice(base: Dataset, grid: Grid, derived: Derivation, k: int) -> Dataset:
    """One slice, without pixels, of index ``k``; its number lets the image be read as it was."""
    data = deepcopy(base)
    data.SOPInstanceUID = derived.uid(f"instance {k}")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.InstanceNumber = k + 1
    position = (LPS_TO_RAS @ grid.affine)[:3] @ (0, 0, k, 1)
    data.ImagePositionPatient = [_number(float(v)) for v in position]
    axes = _axes(grid)
    normal = np.cross(axes[:, 0], axes[:, 1])
    data.SliceLocation = _number(float(position @ normal / np.linalg.norm(normal)))
    return data


def _reference(header: Header) -> Dataset:
    """The source's slice (PS3.3, table 10-3)."""
    item = _item(ReferencedSOPClassUID=header.get("SOPClassUID"))
    item.ReferencedSOPInstanceUID = header.get("SOPInstanceUID")
    if header.get(FRAME) is not None:
        item.ReferencedFrameNumber = header.get(FRAME)
    purpose = _code("121322", "DCM", "Source image for image processing operation")
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _item(**tags: Any) -> Dataset:
    from pydicom.dataset import Dataset

    data = Dataset()
    for tag, value in tags.items():
        setattr(data, tag, value)
    return data


def _number(value: float) -> str:
    """A decimal string of at most 16 characters, as exact as these allow."""
    from pydicom.valuerep import format_number_as_ds

    return str(format_number_as_ds(value + 0.0))  # no -0.0


def _text(text: str, kind: str) -> str:
    """Text that fits a type and holds nothing that ends a value."""
    plain = "".join(c if c.isprintable() and c != "\\" else "_" for c in text)
    return plain[: LETTERS[kind]]
