"""Pre-trained segmenters: the brain by deepbet, organs by TotalSegmentator.

Both are packages of others (extras ``brain`` and ``organs``), imported when they are first
used. Both hold a whole image in memory.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msgan import paths
from msgan.data.volume import open_volume
from msgan.studies.segmenter import Structure
from msgan.translate.frame import pick_device
from msgan.types import Array, InputError, Reader

BRAIN = "brain"

WEIGHTS: Mapping[tuple[str, bool], tuple[str, ...]] = {
    ("total", True): ("Dataset297_TotalSegmentator_total_3mm_1559subj",),
    ("total", False): (
        "Dataset291_TotalSegmentator_part1_organs_1559subj",
        "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
        "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
        "Dataset294_TotalSegmentator_part4_muscles_1559subj",
        "Dataset295_TotalSegmentator_part5_ribs_1559subj",
    ),
    ("total_mr", True): ("Dataset852_TotalSegMRI_total_3mm_1088subj",),
    ("total_mr", False): (
        "Dataset850_TotalSegMRI_part1_organs_1088subj",
        "Dataset851_TotalSegMRI_part2_muscles_1088subj",
    ),
}
"""Folders of TotalSegmentator's weights by task and whether it is the fast one."""

QUIET = {
    "totalseg_id": "",
    "send_usage_stats": False,
    "prediction_counter": 0,
    "statistics_disclaimer_shown": True,
}
"""Its settings: without them it reports every use to its authors' server."""


@dataclass(frozen=True)
class BrainMask:
    """The brain in a T1 image of a whole head, by deepbet (Fisch et al., 2024).

    Its weights are in its package. It was trained on T1 of healthy adults, and finds the brain in
    other contrasts too: that two masks agree is the least that can be asked of a synthetic T1.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    device: str = "auto"

    @property
    def structures(self) -> Mapping[str, Structure]:
        """The brain."""
        return {BRAIN: None}

    @cached_property
    def _network(self) -> Any:
        no_gpu = pick_device(self.device).type == "cpu"
        try:
            from deepbet import BrainExtraction
        except ImportError:
            raise InputError(
                "the mask of the brain needs deepbet: pip install 'msgan[brain]'"
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its networks are TorchScript
            return BrainExtraction(no_gpu=no_gpu)

    def segment(self, image: str | os.PathLike[str], stack: ExitStack) -> Reader:
        """See :meth:`msgan.studies.agreement.Segmenter.segment`; nothing where no brain is found.

        Raises:
            InputError: deepbet is not installed, or the image has not three axes or is at fault.
        """
        network, picture = self._network, _nifti(image)
        try:
            _, mask, _ = network.run(picture)
        except (AssertionError, ValueError):  # how it says that nothing looks like a brain
            return _reader(np.zeros(picture.shape, np.uint8))
        return _reader((np.asarray(mask.dataobj) != 0).astype(np.uint8))


@dataclass(frozen=True)
class TotalSegmentator:
    """Organs, bones and muscles, by TotalSegmentator (Wasserthal et al., 2023), as in section 4.4.

    Nothing is downloaded and nothing is sent: weights come from a local folder, and its usage
    statistics are off.

    Attributes:
        weights: Holds the folders of :data:`WEIGHTS` that the task needs.
        task: ``total`` for CT, ``total_mr`` for MR.
        fast: Its network of 3 mm, instead of several of 1.5 mm.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: The task is unknown, or a folder of weights is not there.
    """

    weights: str | os.PathLike[str]
    task: Literal["total", "total_mr"] = "total"
    fast: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.task, self.fast) not in WEIGHTS:
            tasks = ", ".join(dict.fromkeys(task for task, _ in WEIGHTS))
            raise InputError(f"task {self.task!r} is none of {tasks}")
        for name in WEIGHTS[self.task, self.fast]:
            if not (Path(self.weights) / name).is_dir():
                raise InputError(
                    f"{self.weights}: no folder {name}, the weights of TotalSegmentator; nothing "
                    "is downloaded"
                )

    @cached_property
    def structures(self) -> Mapping[str, Structure]:
        """What the task finds, by its names.

        Raises:
            InputError: TotalSegmentator is not installed.
        """
        with self._settings():
            _, names = _totalsegmentator()
        return {name: (int(number),) for number, name in names[self.task].items()}

    def segment(self, image: str | os.PathLike[str], stack: ExitStack) -> Reader:
        """See :meth:`msgan.studies.agreement.Segmenter.segment`.

        Raises:
            InputError: TotalSegmentator is not installed, or the image has not three axes or is at
                fault.
        """
        device = "gpu" if pick_device(self.device).type == "cuda" else "cpu"
        picture = _nifti(image)
        with self._settings():
            run, _ = _totalsegmentator()
            found = run(
                picture, None, ml=True, task=self.task, fast=self.fast, device=device, quiet=True
            )
        return _reader(np.asarray(found.dataobj).astype(np.int32))

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Where it finds weights and settings; its environment is as before at the end."""
        with paths.scratch_folder() as home:
            (home / "config.json").write_text(json.dumps(QUIET))
            own = {"TOTALSEG_WEIGHTS_PATH": str(self.weights), "TOTALSEG_HOME_DIR": str(home)}
            before = dict(os.environ)
            os.environ.update(own)
            try:
                yield
            finally:
                for name in set(os.environ) - set(before):
                    del os.environ[name]
                os.environ.update(before)


def _totalsegmentator() -> tuple[Any, Mapping[str, Mapping[int, str]]]:
    """Its function, and the names of its labels by task."""
    try:
        from totalsegmentator.map_to_binary import class_map
        from totalsegmentator.python_api import totalsegmentator
    except ImportError:
        raise InputError("organs need TotalSegmentator: pip install 'msgan[organs]'") from None
    return totalsegmentator, class_map


def _nifti(path: str | os.PathLike[str]) -> Any:
    """An image of any format, as nibabel holds one in memory."""
    import nibabel as nib

    with open_volume(path, check=False) as volume:
        if volume.grid.dims != 3:
            raise InputError(f"{path}: image of {volume.grid.dims} axes: expected 3")
        return nib.Nifti1Image(volume.whole(), volume.grid.affine)


def _reader(labels: Array) -> Reader:
    return lambda box: labels[box.slices]
