"""Enhanced CT and MR: all slices of an image as frames of one file (PS3.3, A.36 and A.38).

What a classic slice states in its header stands here in functional groups, shared by all frames or
of one frame each. Frames become slices with headers of the classic kind, so that one rule decides
for both what an image is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from msgan.data.formats.dicom_header import TAGS as STATED
from msgan.data.formats.dicom_header import Header, dataset_of, header_in, is_dicom, whole
from msgan.data.formats.dicom_packed import (
    BAD,
    BIG_ENDIAN,
    PLAIN,
    Layout,
    named,
    require_syntax,
)
from msgan.data.formats.dicom_pixels import (
    TAGS,
    UNDEFINED,
    Stored,
    stored_values,
    unpacked_values,
)
from msgan.data.formats.dicom_stack import Slice, stacked
from msgan.data.grid import Grid
from msgan.types import InputError

CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("2.1", "2.2", "4.1", "4.4"))
"""Enhanced CT, enhanced MR, and both as converted from classic slices."""

DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
FRAME = "FrameNumber"
"""Name under which the header of a slice has the number of its frame, from 1."""

SHARED = "SharedFunctionalGroupsSequence"
EACH = "PerFrameFunctionalGroupsSequence"
PART = "InConcatenationTotalNumber"

GROUPS: Mapping[str, Mapping[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing"},
    "PixelValueTransformationSequence": {
        tag: tag for tag in ("RescaleSlope", "RescaleIntercept", "RescaleType")
    },
    "FrameContentSequence": {
        "StackID": "StackID",
        "TemporalPositionIndex": "TemporalPositionIdentifier",
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "MRTimingAndRelatedParametersSequence": {
        "RepetitionTime": "RepetitionTime",
        "FlipAngle": "FlipAngle",
    },
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "MRImageFrameTypeSequence": {
        "FrameType": "ImageType",
        "ComplexImageComponent": "ComplexImageComponent",
    },
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
}
"""Functional groups, what is read of each, and what a classic slice calls it."""

WAY_OUT = "convert it to NIfTI (dcm2niix), which gives each a file"


def is_enhanced(header: Header) -> bool:
    """Whether a file has the frames of an image that is read here."""
    return header.get("SOPClassUID") in CLASSES and header.get("NumberOfFrames") is not None


def frames_of(file: Path) -> list[Slice]:
    """Header of each frame of an enhanced file, in the order in which they are stored.

    Raises:
        InputError: The header cannot be read, has another number of frames than groups, or is one
            part of several.
    """
    data = dataset_of(file, (*STATED, *TAGS[:-1], SHARED, EACH, PART), pixels=False)
    base = header_in(data)
    if whole(base, PART, 1) > 1:
        raise InputError(
            f"one of {base.get(PART)} files of an image (a concatenation): convert all of them "
            "to NIfTI (dcm2niix) first"
        )
    count = whole(base, "NumberOfFrames")
    try:
        shared, each = data.get(SHARED) or [], data.get(EACH) or []
        known = dict(base.tags) | (_grouped(shared[0]) if len(shared) else {})
        if len(each) != count:
            raise InputError(
                f"{count} frames, but {len(each)} items of {EACH}: they must be as many"
            )
        tags = [known | _grouped(item) | {FRAME: k} for k, item in enumerate(each, 1)]
    except InputError:
        raise
    except Exception as error:  # a damaged length or nesting fails anywhere in pydicom
        raise InputError(f"unreadable functional groups: {type(error).__name__}") from error
    return [(file / f"frame {own[FRAME]}", Header(own, base.syntax)) for own in tags]


def stack_of(file: Path) -> tuple[Grid, list[Slice]]:
    """The grid of an enhanced file, and its frames along the third axis of it.

    Raises:
        InputError: See :func:`frames_of`; there are several stacks or volumes, or frames do not
            make one image (:func:`msgan.data.formats.dicom_stack.stacked`).
    """
    frames = frames_of(file)
    stacks = list(dict.fromkeys(str(header.get("StackID", "")) for _, header in frames))
    if len(stacks) > 1:
        raise InputError(f"{len(stacks)} stacks of frames, which differ in StackID: {WAY_OUT}")
    return stacked(frames, "file", WAY_OUT)


@contextmanager
def frame_reader(file: Path, header: Header) -> Iterator[Callable[[Header], Stored]]:
    """Reads frames by their headers, one at a time, while the block runs.

    Args:
        file: The enhanced file.
        header: Of any frame of it.

    Raises:
        InputError: There are fewer pixels than frames, or they cannot be decoded.
    """
    layout, syntax = Layout.of(header), header.syntax
    require_syntax(syntax)
    if syntax == DEFLATED:
        raise InputError(
            f"{named(syntax)} with several frames: inflate it first (gdcmconv --raw, dcmconv)"
        )
    with file.open("rb") as stream:
        start, length = _pixels(stream, file, syntax)
        count = whole(header, "NumberOfFrames")
        packed = length == UNDEFINED
        if packed == (syntax in (*PLAIN, BIG_ENDIAN)):
            raise InputError(f"{BAD}: the pixels are not stored as {named(syntax)} has them")
        have = min(length, file.stat().st_size - start)
        if not packed and have < count * layout.bytes:
            raise InputError(
                f"{BAD}: {have} bytes of pixels, {count} frames of {layout.bytes} are "
                f"{count * layout.bytes}"
            )

        def read(frame: Header) -> Stored:
            index = int(frame.get(FRAME)) - 1
            if not packed:
                stream.seek(start + index * layout.bytes)
                raw = stream.read(layout.bytes)
                return stored_values(frame, layout, raw, little=syntax != BIG_ENDIAN)
            stream.seek(start)
            return unpacked_values(frame, layout, _packed(stream, index, count, syntax))

        yield read


def _grouped(item: Any) -> dict[str, Any]:
    """What an item of functional groups states, by classic names."""
    found: dict[str, Any] = {}
    for group, names in GROUPS.items():
        inner = item.get(group)
        if not inner:
            continue
        own = header_in(inner[0])
        found |= {to: own.tags[name] for name, to in names.items() if name in own.tags}
    return found


def _pixels(stream: BinaryIO, file: Path, syntax: str) -> tuple[int, int]:
    """Where the value of the pixels begins in a file, and its length."""
    import pydicom

    try:
        pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[], force=is_dicom(file))
        order = "big" if syntax == BIG_ENDIAN else "little"
        head = stream.read(8 if syntax in ("", IMPLICIT) else 12)
    except Exception as error:  # a damaged length or nesting fails anywhere in pydicom
        raise InputError(f"unreadable DICOM header: {type(error).__name__}") from error
    tag = [int.from_bytes(head[k : k + 2], order) for k in (0, 2)]  # type: ignore[arg-type]
    if tag != [0x7FE0, 0x0010]:
        raise InputError("DICOM file without pixels")
    return stream.tell(), int.from_bytes(head[-4:], order)  # type: ignore[arg-type]


def _packed(stream: BinaryIO, index: int, count: int, syntax: str) -> bytes:
    """One compressed frame."""
    from pydicom.encaps import get_frame

    with suppress(Exception):  # lengths that lie fail anywhere in pydicom
        return bytes(get_frame(stream, index, number_of_frames=count))
    raise InputError(f"{BAD} ({named(syntax)})")
