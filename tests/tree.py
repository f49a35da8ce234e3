"""A folder as notebooks leave one, made in a moment: a run, two people, two methods, scores."""

import json
from pathlib import Path

import numpy as np

from msgan.config import CascadeConfig, Preparation, TrainConfig
from msgan.data.cohort import Subject
from msgan.data.grid import Grid
from msgan.data.intensity import IntensityMap
from msgan.data.volume import write_volume
from msgan.runs.run import Run
from msgan.studies.table import result_path
from msgan.translate.provenance import beside, provenance

SIDE, TILE = 16, 8
METHODS = ("cascade", "source")
PEOPLE = ("p0", "p1")
STUDY = "smoke/09_study"


def image(
    path: Path, level: float, shape: tuple[int, ...] = (SIDE,) * 3, spacing: float = 1.0
) -> Path:
    """A ramp that begins at ``level``, so that no two images look the same."""
    origin = ((spacing - 1) / 2,) * len(shape)
    grid = Grid.from_spacing(shape, (spacing,) * len(shape), origin)
    ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 97
    half = 1 + int(level) % 9  # of a box in the middle, whose size tells the level
    ramp[tuple(slice(max(0, n // 2 - half), n // 2 + half) for n in shape)] = 99
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.uint8 if path.suffix == ".png" else np.float32
    write_volume(path, grid, lambda box: ramp[box.slices], dtype=dtype)
    return path


def untrained(preparation: Preparation, seed: int = 0) -> CascadeConfig:
    """A configuration for methods that need no more of it than the preparation and the seed."""
    training = TrainConfig(steps=1, lr_steps=1)
    dims = len(preparation.spacing_mm or (1,) * 3)
    return CascadeConfig(dims=dims, preparation=preparation, seed=seed, training=training)


def run(folder: Path, rows: int = 5) -> Run:
    """A run of two scales with curves and no weights."""
    training = TrainConfig(steps=100, lr_steps=100)
    preparation = Preparation(scales=1, spacing_mm=(1.0, 1.0, 1.0))
    config = CascadeConfig(training=training, preparation=preparation)
    made = Run(folder, config, "t2", IntensityMap(0.0, 99.0), {"p9": "0" * 64})
    made.create()
    for scale in (0, 1):
        made.folder_of(scale).mkdir(exist_ok=True)
        lines = [row(scale, 20 * (k + 1)) for k in range(rows)]
        (made.folder_of(scale) / "metrics.jsonl").write_text("".join(lines))
    return made


def row(scale: int, step: int) -> str:
    """A line of the curves."""
    loss = {"loss": 10 / step + scale, "discriminator": 0.5, "validation_l1": 1 / step}
    rest = {"learning_rate": 2e-4, "seconds": step / 10, "waited": 0.0}
    return json.dumps({"scale": scale, "step": step, **loss, **rest}) + "\n"


def tree(root: Path, side: int = SIDE) -> Path:
    """All of it, below ``root``; returns ``root``."""
    study, shape = root / STUDY, (side,) * 3
    trained = run(root / "smoke" / "shared" / "t2-seamless-0123")
    fine = Grid.from_spacing((side,) * 3, (1.0,) * 3)
    lines = ["task,fold,method,subject,ssim,mae,psnr,voxels"]
    for k, name in enumerate(PEOPLE):
        files = {
            m: image(
                root / "smoke" / "shared" / "people" / name / f"{name}_{m}.nii", 3 * k + j, shape
            )
            for j, m in enumerate(("t1", "t2"))
        }
        person = Subject(name, files)
        for j, method in enumerate(METHODS):
            result = result_path(study / "translated" / "t1-t2" / "fold0", method, name)
            image(result, 5 + 3 * k + j, shape)
            tiles = {"run": trained.folder, "grid": fine, "tiles": ((TILE // 2,) * 3, (TILE,) * 3)}
            about = {
                "method": method,
                "regions": ("body",),
                **(tiles if method == "cascade" else {}),
            }
            provenance(person, "t1", "t2", result, trained.intensity, **about).save(beside(result))
            lines.append(f"t1→t2,0,{method},{name},0.{k}{j},0.1,2{k}.{j},4096")
        if k == 0:
            kept = study / "scales"
            image(kept / "y0.nii", 1, (side // 2,) * 3, 2.0)
            image(kept / "y1.nii", 1, shape)
            image(kept / "t1.nii", 1, shape)
            about = {**tiles, "scales": kept}
            made = provenance(person, "t1", "t2", kept / "t1.nii", trained.intensity, **about)
            made.save(beside(made.result))
    (study / "scores.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (study / "results.json").write_text('{"SSIM": 0.5}')
    for suffix in ("html", "ipynb"):
        (root / f"{STUDY}.{suffix}").write_text("{}")
    return root
