"""Names that hide of whom they are: hashes with a random salt that only the study's folder has."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path

from msgan.leftovers import PARTIAL, owned
from msgan.paths import naming
from msgan.types import InputError

FILE = ".salt"
"""In a study's folder. Whoever has it can try whether a name is that of a known identifier."""

DIGITS = 16


def pseudonym(kind: str, text: str, salt: bytes) -> str:
    """``kind`` and 16 hexadecimal digits of the keyed hash (HMAC-SHA-256) of ``text``.

    Without the salt nobody can try identifiers, few as there may be of them; with it the same
    text has the same name.
    """
    digest = hmac.digest(salt, text.encode(errors="surrogatepass"), "sha256")
    return f"{kind}-{digest.hex()[:DIGITS]}"


def new_salt() -> bytes:
    """32 random bytes."""
    return secrets.token_bytes(32)


def salt_of(folder: Path) -> bytes:
    """The salt of a study; a new one where its folder has none, to be kept by :func:`keep`.

    Raises:
        InputError: Its file is damaged.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return new_salt()
    text = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise InputError(
            f"{path}: damaged: expected 64 hexadecimal digits, of which the names of subjects were "
            "made: bring it back, or remove it for new names"
        )
    return bytes.fromhex(text)


def keep(folder: Path, salt: bytes) -> None:
    """Write the salt of a study, readable by its owner only; one that is there stays.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / FILE
    if os.path.lexists(path):
        return
    with naming(path):
        handle, name = tempfile.mkstemp(prefix=owned(PARTIAL), dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(f"{salt.hex()}\n")
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
