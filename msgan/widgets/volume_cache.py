"""The cache of open images: only images that are shown are open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgan.data.volume import Volume, open_labels, open_volume


class VolumeCache:
    """Opens images and closes those that are not asked for any more.

    A compressed image is unpacked into the scratch folder while it is open, so what is put away
    frees disk too.
    """

    def __init__(self) -> None:
        self._volumes: dict[tuple[Path, bool], Volume] = {}

    @property
    def paths(self) -> set[Path]:
        """What is open."""
        return {path for path, _ in self._volumes}

    def volume(self, path: Path) -> Volume:
        """An image, opened once.

        Raises:
            InputError: It cannot be read.
        """
        return self._opened(path, False)

    def labels(self, path: Path) -> Volume:
        """A label map, opened once.

        Raises:
            InputError: It cannot be read.
        """
        return self._opened(path, True)

    def keep(self, paths: Sequence[Path]) -> None:
        """Put everything else away."""
        for key in [key for key in self._volumes if key[0] not in paths]:
            self._volumes.pop(key).close()

    def _opened(self, path: Path, labels: bool) -> Volume:
        key = (path, labels)
        if key not in self._volumes:
            # Unchecked: nobody waits until every voxel of a large image was looked at.
            opened = open_labels(path) if labels else open_volume(path, check=False)
            self._volumes[key] = opened
        return self._volumes[key]
