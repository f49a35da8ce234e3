"""Units of length in files: names, plurals and symbols."""

from __future__ import annotations

from collections.abc import Iterable

from msgan.types import InputError

PREFIXES = {
    **{"yocto": 1e-24, "zepto": 1e-21, "atto": 1e-18, "femto": 1e-15, "pico": 1e-12},
    **{"nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "centi": 1e-2, "deci": 0.1, "": 1.0},
    **{"deca": 10.0, "hecto": 100.0, "kilo": 1e3, "mega": 1e6, "giga": 1e9, "tera": 1e12},
    **{"peta": 1e15, "exa": 1e18, "zetta": 1e21, "yotta": 1e24},
}
SYMBOLS = {
    **{"fm": 1e-12, "pm": 1e-9, "nm": 1e-6, "um": 1e-3, "mm": 1.0, "cm": 10.0, "dm": 100.0},
    **{"m": 1e3, "km": 1e6, "å": 1e-7, "angstrom": 1e-7, "ångström": 1e-7, "micron": 1e-3},
    **{"in": 25.4, '"': 25.4, "inch": 25.4, "inche": 25.4, "ft": 304.8, "foot": 304.8},
    **{"feet": 304.8, "yd": 914.4, "yard": 914.4, "mi": 1609344.0, "mile": 1609344.0},
    **{"pc": 3.0856775814913673e19, "parsec": 3.0856775814913673e19},
}
"""mm of everything that is not a metre with a prefix, in lower case and without a plural's s."""

UNSTATED = {"", "unknown", "none", "null", "pixel", "px", "voxel", "vx", "dimensionless"}
"""What stands for no unit of length at all."""

METRES = {"meter": 1e3, "metre": 1e3}
KNOWN = "mm, um, nm, cm, m, inch and their names, as millimeter or micrometre"


def millimetres(unit: object) -> float | None:
    """How many mm ``unit`` is; None where no unit of length is stated.

    Case, plurals and both spellings of metre and of the micro sign are alike. ``Mm`` is read as
    mm: no image is measured in megametres.

    Raises:
        InputError: Nothing known.
    """
    if unit is None:
        return None
    # The micro sign and the Greek letter look alike; so do the angstrom sign and the letter.
    name = str(unit).strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    name = name.replace("a\u030a", "å").replace("o\u0308", "ö")
    if name in UNSTATED:
        return None
    single = name.removesuffix("s") if len(name) > 2 else name
    for spelling, mm in METRES.items():
        if single.endswith(spelling) and (prefix := single.removesuffix(spelling)) in PREFIXES:
            return PREFIXES[prefix] * mm
    if single in SYMBOLS:
        return SYMBOLS[single]
    if single in UNSTATED:
        return None
    raise InputError(f"unit of length {str(unit)[:40]!r} is unknown: expected {KNOWN}")


def require_mm(units: Iterable[str], field: str) -> None:
    """Refuse lengths that are not in mm where other programs would take them to be.

    ITK ignores the units of MetaImage and NRRD, so that a result in mm would lie elsewhere for it
    than its source.

    Args:
        units: Of the axes, as stated.
        field: Of the header, for the message.

    Raises:
        InputError: One is another unit of length, or unknown.
    """
    for unit in units:
        if millimetres(unit) not in (None, 1.0):
            raise InputError(
                f"{field} {unit!r}: ITK (ITK-SNAP, Slicer, ANTs) would take the lengths as mm: "
                "write the file anew with lengths in mm"
            )
