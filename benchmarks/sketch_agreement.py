"""How the sketch compares: with two Canny filters, in time and memory, and between T1 and T2.

Writes ``sketch_agreement.json`` beside this file. The real images (MSGAN_SHARED_DATA) are needed:
Lesjak et al., Neuroinformatics 2017 (brains, CC BY) and NIH ChestX-ray14 (X-rays).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import SimpleITK
import skimage
import torch
from scipy import ndimage
from skimage.feature import canny

from msgan.config import SketchConfig
from msgan.paths import SHARED_DATA, write_text
from msgan.sketch import halo, sketch, sketch_reader
from msgan.sketch.edges import full_step
from msgan.types import Box

HERE = Path(__file__).resolve().parent
RIM = 12  # voxels at the border of an image that are left out: each filter pads in its own way


def draw(image: np.ndarray, config: SketchConfig) -> np.ndarray:
    read = sketch_reader(lambda box: image[box.slices], image.shape, config)
    return read(Box.whole(image.shape))


def near(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the edge voxels of ``a`` with one of ``b`` at most one voxel away (diagonal too)."""
    around = ndimage.binary_dilation(b, ndimage.generate_binary_structure(b.ndim, b.ndim))
    inner = (slice(RIM, -RIM),) * a.ndim
    return float(around[inner][a[inner]].mean())


def agreement(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    return {
        "ours_near_theirs": near(ours, theirs),
        "theirs_near_ours": near(theirs, ours),
        "share_ours": float(ours.mean()),
        "share_theirs": float(theirs.mean()),
    }


def skimage_canny(image: np.ndarray, config: SketchConfig) -> np.ndarray:
    # Its Sobel filter weighs a difference over two voxels by 4 in all: 8 times the derivative.
    unit = 8 * full_step(config.sigma)
    return canny(image, config.sigma, config.low * unit, config.high * unit, mode="nearest")


def itk_canny(image: np.ndarray, config: SketchConfig) -> np.ndarray:
    unit = full_step(config.sigma)
    edges = SimpleITK.CannyEdgeDetection(
        SimpleITK.GetImageFromArray(image),
        lowerThreshold=config.low * unit,
        upperThreshold=config.high * unit,
        variance=[config.sigma**2] * image.ndim,
        maximumError=[0.01] * image.ndim,
    )
    return SimpleITK.GetArrayFromImage(edges) > 0


def brain(folder: Path, contrast: str) -> np.ndarray:
    """Patient 26, 0 ... 99.5th percentile of the brain shown as -1 ... 1."""
    path = folder / "brain_ms" / f"mni_patient26__{contrast}_brain_N4_regtoMNI.nii.gz"
    values = np.maximum(np.asarray(nib.load(path).dataobj, dtype=np.float32), 0)
    top = np.percentile(values[values > 0], 99.5)
    return np.clip(values / top, 0, 1).astype(np.float32) * 2 - 1


def xray(folder: Path) -> np.ndarray:
    path = sorted((folder / "xray").glob("*.png"))[0]
    image = skimage.io.imread(path)
    return (image if image.ndim == 2 else image[..., 0]).astype(np.float32) / 127.5 - 1


def synthetic() -> np.ndarray:
    """Discs of random size and grey value, (400, 400)."""
    rng, image = np.random.default_rng(0), np.full((400, 400), -0.5, np.float32)
    rows, columns = np.mgrid[:400, :400]
    for _ in range(40):
        row, column, radius = *rng.uniform(0, 400, 2), rng.uniform(8, 60)
        image[np.hypot(rows - row, columns - column) < radius] = rng.uniform(-1, 1)
    return image


def halved(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 x 2 voxels."""
    even = image[tuple(slice(0, n // 2 * 2) for n in image.shape)]
    shape = [k for n in even.shape for k in (n // 2, 2)]
    return even.reshape(shape).mean(axis=(1, 3, 5)).astype(np.float32)


def contrasts(t1: np.ndarray, t2: np.ndarray) -> dict[str, dict[str, float]]:
    """Per channel, T1's sketch against T2's: over the brain, and 4 voxels or more inside it.

    ``shifted`` is the same with one of them moved by 6 voxels (what chance gives), ``blurred``
    with both smoothed by one voxel (edges one voxel apart count), ``mean_*`` the mean values.
    """
    brain_mask = ndimage.binary_closing((t1 > -1) & (t2 > -1), iterations=2)
    brain_mask = ndimage.binary_fill_holes(brain_mask)
    inner_mask = ndimage.binary_erosion(brain_mask, iterations=4)
    sets = {
        "edges gradient": SketchConfig(),
        "edges local": SketchConfig(weight="local"),
        "self_similarity": SketchConfig(channels=("self_similarity",)),
        "ridges": SketchConfig(channels=("ridges",)),
    }
    table = {}
    for resolution in ("full", "half"):
        if resolution == "half":
            t1, t2 = halved(t1), halved(t2)
            brain_mask = halved(brain_mask.astype(np.float32)) > 0.5
            inner_mask = halved(inner_mask.astype(np.float32)) > 0.99

        for name, config in sets.items():
            a, b = draw(t1, config), draw(t2, config)

            def correlation(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
                pairs = zip(x, y, strict=True)
                return float(np.mean([np.corrcoef(p[mask], q[mask])[0, 1] for p, q in pairs]))

            blurred = [ndimage.gaussian_filter(x, (0, 1, 1, 1)) for x in (a, b)]
            table[f"{resolution} {name}"] = {
                "brain": correlation(a, b, brain_mask),
                "inner": correlation(a, b, inner_mask),
                "inner_shifted": correlation(a, np.roll(b, (6, 6, 6), (1, 2, 3)), inner_mask),
                "inner_blurred": correlation(*blurred, inner_mask),
                "mean_t1": float(a[:, inner_mask].mean()),
                "mean_t2": float(b[:, inner_mask].mean()),
            }
    return table


def speed(t1: np.ndarray, side: int, threads: int, repeats: int) -> dict[str, float]:
    """Best wall-clock seconds at side^3, ours and SimpleITK's, each on ``threads`` threads."""
    torch.set_num_threads(threads)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    volume = torch.from_numpy(t1)[None, None, :, 18:200]
    image = torch.nn.functional.interpolate(volume, size=(side,) * 3, mode="trilinear")
    plain, config = image[0, 0].numpy(), SketchConfig()
    with_halo = torch.nn.functional.pad(image, [halo(config)] * 6, value=-1.0)

    def best(run: Callable[[], object]) -> float:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    result = {
        "whole_s": best(lambda: sketch(with_halo, config)),
        "slabs_s": best(lambda: slabs(plain, np.zeros_like(plain))),
        "simpleitk_s": best(lambda: itk_canny(plain, config)),
    }
    result["times_faster_whole"] = result["simpleitk_s"] / result["whole_s"]
    result["times_faster_slabs"] = result["simpleitk_s"] / result["slabs_s"]
    result["load_average"] = os.getloadavg()[0]
    return result


def slabs(image: np.ndarray, out: np.ndarray) -> None:
    """Sketch an image in four slabs, as a stream would."""
    read = sketch_reader(lambda box: image[box.slices], image.shape, SketchConfig())
    for box in Box.whole(image.shape).tiles((-(-len(image) // 4), *image.shape[1:])):
        out[box.slices] = read(box)[0]


def extra_memory(what: str, path: str) -> float:
    """Most resident MiB above the (mapped) input and the output; call in a process of its own."""
    torch.set_num_threads(1)
    image, out = np.load(path), None
    if what == "slabs":
        out = np.ones_like(image)
    else:
        plain, margin = torch.from_numpy(image)[None, None], halo(SketchConfig())
        image = torch.nn.functional.pad(plain, [margin] * 6, value=-1.0)
        del plain
    slabs(np.zeros((20,) * 3, np.float32), np.zeros((20,) * 3, np.float32))  # load the libraries
    process, stop = psutil.Process(), threading.Event()
    start = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    if what == "slabs":
        slabs(image, out)
    else:
        out = sketch(image, SketchConfig())
    stop.set()
    thread.join()
    return (peak - start - (0 if what == "slabs" else out.nbytes)) / 2**20


def memory(t1: np.ndarray, side: int) -> dict[str, float]:
    """MiB beyond input and output at side^3, the whole at once and in four slabs."""
    volume = torch.from_numpy(t1)[None, None, :, 18:200]
    image = torch.nn.functional.interpolate(volume, size=(side,) * 3, mode="trilinear")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "image.npy")
        np.save(path, image[0, 0].numpy())
        # Spawned, so that nothing this process has freed hides what the sketch takes.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as first:
            whole = first.submit(extra_memory, "whole", path).result()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as second:
            streamed = second.submit(extra_memory, "slabs", path).result()
    return {"whole_mib": whole, "slabs_mib": streamed}


def processor() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get(SHARED_DATA, HERE.parents[1] / "shared/data")
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = Path(options.data)
    t1, t2, chest = brain(folder, "T1"), brain(folder, "T2"), xray(folder)
    result = {
        "machine": processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "SimpleITK": SimpleITK.Version_VersionString(),
            "scikit-image": skimage.__version__,
        },
        "within one voxel of scikit-image's canny": {
            f"{name}, {c.low} {c.high}, {c.steps} steps": agreement(
                draw(image, c)[0] > 0, skimage_canny(image, c)
            )
            for name, image, low, high in (
                ("synthetic discs", synthetic(), 0.1, 0.2),
                ("X-ray", chest, 0.03, 0.06),
            )
            for c in (SketchConfig(low=low, high=high, steps=steps) for steps in (8, 60))
        },
        "within one voxel of SimpleITK's CannyEdgeDetection": {
            "T1, 0.1 0.2": agreement(
                draw(t1, SketchConfig())[0] > 0, itk_canny(t1, SketchConfig())
            ),
        },
        "T1's sketch and T2's": contrasts(t1, t2),
        "seconds": {
            f"{side}^3, {threads} threads": speed(t1, side, threads, options.repeats)
            for side in (128, 256)
            for threads in (1, 2)
        },
        "memory beyond input and output": {f"{side}^3": memory(t1, side) for side in (128, 256)},
    }
    rounded = json.loads(json.dumps(result), parse_float=lambda text: round(float(text), 4))
    write_text(HERE / "sketch_agreement.json", json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main()
