"""Memory of a process that opens, scans, reads and writes images of very different size.

Counted is what the kernel saw (VmHWM): arrays of libraries, mapped pages and caches included.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from msgan.data.volume import Grid, write_volume

STATUS = Path("/proc/self/status")
pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="peaks of memory are read from /proc")

SIDES = (128, 256)
GROWTH_MIB = 56
"""By which the image grows in memory from one side to the other, as float32."""

WORK = """
import sys
from pathlib import Path

import numpy as np

from msgan.config import Preparation
from msgan.data.prepared import prepare
from msgan.data.volume import write_volume
from msgan.types import Box

source, target = sys.argv[1:]
with prepare(source, None, Preparation(scales=1)) as ready:  # two scans: check, range, histogram
    for box in Box.whole(ready.grid.shape).tiles((96,) * 3):
        assert ready.read(box).shape == box.size
    write_volume(target, ready.grid.source, ready.to_source(ready.read))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 1024)
"""


def write(path, side):
    """A float32 image that says where each voxel is."""
    ramp = np.arange(side, dtype=np.float32)

    def read(box):
        x, y, z = (ramp[s] for s in box.slices)
        return x[:, None, None] + 500 * (y[:, None] + z)

    write_volume(path, Grid.from_spacing((side,) * 3, (1, 1, 1)), read)


def peak(source, target):
    """MiB of a new process that works on ``source``; one arena, so that threads share memory.

    The least of three: how many chunks the store's threads hold at a time is chance on a busy
    machine, what grows with the image is in each.
    """
    command = [sys.executable, "-c", WORK, str(source), str(target)]
    settings = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    peaks = []
    for _ in range(3):
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=settings)
        peaks.append(float(done.stdout))
    return min(peaks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "target", "limit"),
    [(".nii", ".nii", 8), (".zarr", ".zarr", 18), (".mha", ".nrrd", 8), (".nii.gz", ".mha", 16)],
)
@pytest.mark.usefixtures("without_coverage")
def test_peak_memory_does_not_grow_with_the_image(suffix, target, limit, tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    peaks = []
    for side in SIDES:
        source = tmp_path / f"{side}{suffix}"
        write(source, side)
        peaks.append(peak(source, tmp_path / f"out{side}{target}"))
    small, large = peaks
    assert limit < GROWTH_MIB / 3  # a single copy of the image would be seen
    assert large - small < limit, f"{suffix}: {small:.0f} MiB at {SIDES[0]}, {large:.0f} MiB"
