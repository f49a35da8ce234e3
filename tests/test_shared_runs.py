"""Runs and phantoms that notebooks share, and one scale by itself."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CASCADES

import msgan
from msgan import presets
from msgan.config import CascadeConfig, Preparation, TrainConfig, network_of
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.methods import code, shared
from msgan.methods.refine import refine
from msgan.networks.hr_generators import GuidedGenerator
from msgan.paths import sha256
from msgan.phantoms import cohorts
from msgan.translate import translate
from msgan.types import Box, InputError


def config(**training) -> CascadeConfig:
    sizes = {"lr_width": 4, "lr_levels": 2, "hr_width": 8, "hr_blocks": 1}
    return CascadeConfig(
        dims=2,
        preparation=Preparation(scales=1, margin=1),
        network=network_of(**sizes, discriminator_width=4),
        training=TrainConfig(steps=2, lr_steps=2, patch=8, gan_weight=0.0, **training),
    )


def study(folder: Path, brightness: float = 1.0) -> Cohort:
    subjects = []
    for name, split in (("a", "train"), ("b", "test")):
        x = np.zeros((24, 24), np.float32)
        x[4:20, 5:19] = 1 + np.random.default_rng(ord(name)).random((16, 14))
        x *= brightness if split == "train" else 1
        path = folder / f"{name}.nii"
        write_volume(path, Grid(x.shape, np.eye(3)), lambda box, x=x: x[box.slices])
        subjects.append(Subject(name, {"t2": path}, split=split))
    return Cohort(tuple(subjects))


def test_who_asks_for_the_same_gets_the_same_run(tmp_path: Path) -> None:
    cohort, root = study(tmp_path / "data"), tmp_path / "root"
    rows: list[dict] = []
    run = shared.fit_cached(cohort, "t2", config(), root, device="cpu", report=rows.append)
    assert rows
    before = sha256(run.folder)
    rows.clear()
    again = shared.fit_cached(cohort, "t2", config(), root, device="cpu", report=rows.append)
    assert (again.folder, rows, sha256(run.folder)) == (run.folder, [], before)
    other = shared.fit_cached(cohort, "t2", config(batch=2), root, device="cpu", scales=[1])
    assert other.folder != run.folder
    assert [other.finished(i) for i in (0, 1)] == [False, True]
    assert len(list((root / "cache").iterdir())) == 1


def test_a_lent_scale_is_the_one_that_training_gives(tmp_path: Path) -> None:
    """What s1..sn are blind to is nothing to s0."""
    cohort, root = study(tmp_path / "data"), tmp_path / "root"
    cpu = {"device": "cpu"}
    full = shared.fit_cached(cohort, "t2", config(), root, **cpu)
    no_sketch = config().model_copy(update={"drop_inputs": ("sketch",)})
    own = shared.fit_cached(cohort, "t2", no_sketch, tmp_path / "own", **cpu)
    run = shared.fit_cached(cohort, "t2", no_sketch, root, scales=[1], **cpu)
    assert not run.finished(0)
    shared.reuse_scale(full, run, 0)
    for giver, scale in ((own, 0), (own, 1), (full, 0)):
        mine, theirs = (r.generator(scale).state_dict() for r in (run, giver))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    before = run.folder_of(0).stat().st_mtime_ns
    shared.reuse_scale(full, run, 0)
    rows: list[dict] = []
    shared.fit_cached(cohort, "t2", no_sketch, root, report=rows.append, **cpu)
    assert (rows, run.folder_of(0).stat().st_mtime_ns) == ([], before)


def test_the_last_scale_serves_whatever_lies_below(tmp_path: Path) -> None:
    """By its resolution, not by its number; s0 of another resolution is another network."""
    cohort, root = study(tmp_path / "data"), tmp_path / "root"
    full = shared.fit_cached(cohort, "t2", config(), root, device="cpu")
    more = config(lr_patch=4).model_copy(update={"preparation": Preparation(scales=2, margin=1)})
    run = shared.fit_cached(cohort, "t2", more, root, device="cpu", scales=[0, 1])
    shared.reuse_scale(full, run, 1, to=2)
    assert [run.finished(i) for i in range(3)] == [True] * 3
    mine, theirs = run.generator(2).state_dict(), full.generator(1).state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    translate(run, cohort["b"], tmp_path / "out.nii", device="cpu")
    assert (tmp_path / "out.nii").is_file()
    other = more.model_copy(update={"seed": 1})
    late = shared.fit_cached(cohort, "t2", other, root, device="cpu", scales=[])
    for scale, to, why in ((1, 1, "resolution"), (0, 0, "resolution"), (1, 2, "seed")):
        with pytest.raises(InputError, match=f"its {why} differs"):
            shared.reuse_scale(full, late, scale, to)


def test_what_hangs_on_the_scales_below_is_not_lent_above_others(tmp_path: Path) -> None:
    """A generator trained on made contexts knows the errors of its own s0; s0 knows of neither."""
    cohort, root = study(tmp_path / "data"), tmp_path / "root"

    def taught(share: float, scales: int = 1) -> CascadeConfig:
        own = config()
        changed = own.conditioning.model_copy(update={"generated_share": share})
        prep = Preparation(scales=scales, margin=1)
        return own.model_copy(update={"conditioning": changed, "preparation": prep})

    full = shared.fit_cached(cohort, "t2", taught(1.0), root, device="cpu")
    more = shared.fit_cached(cohort, "t2", taught(1.0, 2), root, device="cpu", scales=[])
    with pytest.raises(InputError, match="its preparation differs"):
        shared.reuse_scale(full, more, 1, to=2)
    real = shared.fit_cached(cohort, "t2", taught(0.0), root, device="cpu", scales=[])
    with pytest.raises(InputError, match="its conditioning differs"):
        shared.reuse_scale(full, real, 1)
    shared.reuse_scale(full, real, 0)
    assert real.finished(0)


def test_a_scale_of_another_network_is_not_lent(tmp_path: Path) -> None:
    cohort, root = study(tmp_path / "data"), tmp_path / "root"
    full = shared.fit_cached(cohort, "t2", config(), root, device="cpu")
    other = config().model_copy(update={"drop_inputs": ("sketch",)})
    run = shared.fit_cached(cohort, "t2", other, root, device="cpu", scales=[])
    with pytest.raises(
        InputError, match=r"scale 1 would be another than .*: its drop_inputs differs"
    ):
        shared.reuse_scale(full, run, 1)
    with pytest.raises(InputError, match=r"scale 0 would be another .*: its generator differs"):
        shared.reuse_scale(full, run, 1, to=0)
    with pytest.raises(InputError, match="scale 0 of 1 is not trained yet"):
        shared.reuse_scale(run, shared.fit_cached(cohort, "t2", config(), root / "b", scales=[]), 0)
    bright = shared.fit_cached(study(tmp_path / "b", 2.0), "t2", other, root, scales=[])
    with pytest.raises(InputError, match="its data differs"):
        shared.reuse_scale(full, bright, 0)
    assert not bright.folder_of(0).exists()


def test_the_key_knows_what_decides_and_nothing_else(tmp_path: Path) -> None:
    here, there = study(tmp_path / "here"), study(tmp_path / "there")
    assert shared.run_key(here, "t2", config()) == shared.run_key(there, "t2", config())
    keys = {
        shared.run_key(here, "t2", config()),
        shared.run_key(here, "t2", config(beta1=0.9)),
        shared.run_key(study(tmp_path / "bright", 2.0), "t2", config()),
        shared.run_key(here, "t2", config().model_copy(update={"seed": 1})),
    }
    assert len(keys) == 4
    untested = Cohort(here.subjects[:1])
    assert shared.run_key(untested, "t2", config()) == shared.run_key(here, "t2", config())


def test_a_process_hashes_its_code_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = code.code_hash()
    monkeypatch.setattr(code, "DECIDING", "msgan.paths")
    assert code.code_hash() == first != code.code_hash.__wrapped__()


def test_who_asks_meanwhile_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, inside, most = study(tmp_path / "data"), Counter[Path](), Counter[Path]()

    def fit(cohort, target, config, folder, **_) -> None:
        inside[folder] += 1
        most[folder] = max(most[folder], inside[folder])
        time.sleep(0.05)
        inside[folder] -= 1

    monkeypatch.setattr(shared, "fit", fit)
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(shared.fit_cached, cohort, "t2", config(beta1=b), tmp_path / "root")
            for b in (0.1, 0.1, 0.1, 0.2)
        ]
    assert [future.result() for future in asked] == [None] * 4
    assert list(most.values()) == [1, 1]
    assert list((tmp_path / "root").iterdir()) == []


def test_processes_of_one_training_do_not_wait_for_each_other(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with shared._in_turn(tmp_path / "run"), shared._in_turn(tmp_path / "run"):
        assert list(tmp_path.iterdir()) == []


def test_statements_count_and_words_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = code.code_hash.__wrapped__
    package = tmp_path / "msgan"
    (package / "training").mkdir(parents=True)
    monkeypatch.setattr(msgan, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(code, "DECIDING", "msgan.training.fit")
    fit, losses, plot = package / "training" / "fit.py", package / "losses.py", package / "plot.py"
    text = (
        '"""Says."""\n\n\ndef f(x):\n    """Tells."""\n    from msgan.losses import A\n    return x'
    )
    fit.write_text(text)
    losses.write_text("A = 1\n")
    plot.write_text("B = 1\n")
    first = hashed()
    fit.write_text(
        '"""Speaks."""\ndef f(x):\n    # why\n    from msgan.losses import A\n    return x\n'
    )
    plot.write_text("B = 2\n")  # nothing that trains imports it
    assert hashed() == first
    fit.write_text(text.replace("return x", "return x + 1"))
    assert hashed() != first
    fit.write_text(text)
    losses.write_text("A = 2\n")
    assert hashed() != first


def test_what_training_imports_decides_the_weights() -> None:
    root = Path(msgan.__file__).parents[1]
    files = {f.relative_to(root).as_posix() for f in code._imported(root, code.DECIDING)}
    for name in (
        "types",
        "training/step",
        "networks/hr_generators",
        "data/formats/nifti",
        "methods/cascade",
    ):
        assert f"msgan/{name}.py" in files
    assert "msgan/training/__init__.py" in files
    assert "msgan/__init__.py" not in files  # it names widgets and figures
    assert not any(name.startswith(("msgan/report", "msgan/plots", "msgan/cli")) for name in files)


@pytest.mark.slow
def test_phantoms_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.TABLE, ("smoke", "brain"), {"subjects": 1, "size": 16, "folds": 1})
    cohort = cohorts.brain_cohort("smoke", tmp_path, seed=3)
    assert len(cohort) == 1
    path = cohort.subjects[0].images["t2"]
    stamp = path.stat().st_mtime_ns
    assert cohorts.brain_cohort("smoke", tmp_path, seed=3).subjects[0].images["t2"] == path
    assert path.stat().st_mtime_ns == stamp
    other = cohorts.brain_manifest("smoke", tmp_path, seed=4)
    healthy = cohorts.brain_manifest("smoke", tmp_path, seed=3, healthy=True)
    assert len({other, healthy, path.parents[1] / "manifest.csv"}) == 3
    own = cohorts.brain_cohort("smoke", tmp_path / "none", data_root=path.parents[1])
    assert own.names == cohort.names
    assert not (tmp_path / "none").exists()


def test_unknown_presets_and_data_roots_without_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="preset 'huge' is none of smoke, small, published"):
        cohorts.brain_cohort("huge", tmp_path)
    with pytest.raises(InputError, match=r"manifest\.csv: no such file"):
        cohorts.brain_cohort("smoke", tmp_path, data_root=tmp_path)


@pytest.mark.parametrize("family", ["megan", "seamless", "guided"])
def test_a_shift_of_the_tiles_shows_in_the_megan_family_only(
    tmp_path: Path, dims: int, family: str
) -> None:
    shape = (36, 28, 24)[:dims]
    torch.manual_seed(0)
    kind = GuidedGenerator if family == "guided" else CASCADES[family].hr
    generator = kind(dims, 1, 8, 1).requires_grad_(False).eval()
    for parameter in generator.parameters():  # the seamless family begins as interpolation
        torch.nn.init.normal_(parameter, std=0.2)
    rng = np.random.default_rng(0)
    sketch = rng.random((1, *shape), np.float32)
    context = rng.uniform(-1, 1, [n // 2 for n in shape]).astype(np.float32)
    image = rng.uniform(-1, 1, shape).astype(np.float32)
    whole = Box.whole(shape)

    def result(tile: int, shift: int, seen: np.ndarray = image) -> np.ndarray:
        read = refine(
            generator,
            lambda box: sketch[(slice(None), *box.slices)],
            lambda box: context[box.slices],
            shape,
            tmp_path,
            tile=tile,
            shift=shift,
            source=None if seen is None else lambda box: seen[box.slices],
        )
        return read(whole)

    plain = result(20, 0)
    assert plain.std() > 0.05
    assert (np.abs(plain).max(axis=tuple(range(1, dims))) > 0).all()  # nothing is left out
    change = np.abs(plain - result(20, 6)).max()
    assert (np.abs(plain - result(20, 0, -image)).max() > 0.01) == (family == "guided")
    if family != "megan":
        assert change < 1e-5
        assert np.abs(plain - result(64, 0)).max() < 1e-5
    else:
        assert change > 0.01
    with pytest.raises(InputError, match="shift 3: expected an even number"):
        result(20, 3)
    if family == "guided":
        with pytest.raises(InputError, match="reads source, which is not there"):
            result(20, 0, None)
