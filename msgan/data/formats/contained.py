"""A Zarr folder whose metadata and chunks all lie in it, links followed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zarr.storage import LocalStore

from msgan.paths import inside


class Contained(LocalStore):
    """Reads a folder; a key that leads out of it, by its name or by a link, is refused.

    Raises:
        InputError: On reading such a key; see :func:`msgan.paths.inside`.
    """

    async def get(self, key: str, *words: Any, **options: Any) -> Any:
        """The bytes of a key; see the base class."""
        inside(self.root, key)
        return await super().get(key, *words, **options)

    def get_sync(self, key: str, **options: Any) -> Any:
        """The bytes of a key; see the base class."""
        inside(self.root, key)
        return super().get_sync(key, **options)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[Any]) -> Any:
        """Parts of the bytes of keys; see the base class."""
        ranges = list(key_ranges)
        for key, _ in ranges:
            inside(self.root, key)
        return await super().get_partial_values(prototype, ranges)
