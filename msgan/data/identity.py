"""Whether two images are of one person and session, as names in BIDS and headers of DICOM tell."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from msgan.data.formats.dicom import is_dicom

ENTITY = r"(?:^|[_/\\]){}-([A-Za-z0-9+]+)"


def difference(one: Path, other: Path) -> str:
    """What says that two images are not of one person, or not of one session; empty: nothing does.

    Names of people in headers are compared and never told.

    Example:
        >>> difference(Path("sub-01/sub-01_T1w.nii"), Path("sub-02_T2w.nii"))
        'sub-01 and sub-02 by their names: different people'
        >>> difference(Path("sub-1_ses-a_T1w.nii"), Path("sub-1_ses-b_T2w.nii"))
        'ses-a and ses-b of sub-1 by their names: different sessions'
        >>> difference(Path("sub-1_T1w.nii"), Path("patient7_t2.nii"))
        ''
    """
    (person, session), (person2, session2) = map(_named, (one, other))
    if person and person2 and person != person2:
        return f"sub-{person} and sub-{person2} by their names: different people"
    if session and session2 and session != session2:
        whose = f" of sub-{person}" if person else ""
        return f"ses-{session} and ses-{session2}{whose} by their names: different sessions"
    (person, session), (person2, session2) = map(_stated, (one, other))
    if person and person2 and person != person2:
        return "different people by their DICOM headers"
    if session and session2 and session != session2:
        return "different studies by their DICOM headers"
    return ""


def _named(path: Path) -> tuple[str, str]:
    """Person and session by BIDS entities; what the file's own name says goes before its folders'.

    A name ends the search even where it has the person alone: a folder may be another's.
    """
    for name in reversed(path.parts):
        if person := re.search(ENTITY.format("sub"), name):
            session = re.search(ENTITY.format("ses"), path.as_posix())
            return person[1], session[1] if session else ""
    return "", ""


def _stated(path: Path) -> tuple[str, str]:
    """Person and study as the first slice of a DICOM series states them."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        first = next((file for file in files if file.is_file() and is_dicom(file)), None)
    except OSError:
        return "", ""
    if first is None:
        return "", ""
    import pydicom

    tags = ["PatientID", "StudyInstanceUID"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's own words of a damaged file
            # As it is opened: a file without preamble is one, too.
            header = pydicom.dcmread(first, force=True, stop_before_pixels=True, specific_tags=tags)
            return str(header.get("PatientID", "")), str(header.get("StudyInstanceUID", ""))
    except Exception:  # of pydicom, for elements that are none
        return "", ""  # said where it is opened
