"""Tables 1 and 2 of Ha et al.: who is compared, for how long, and where the numbers go."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import pairs, tiny

from msgan.config import MdaunetNetwork
from msgan.methods import rivals
from msgan.methods.cascade import fit
from msgan.methods.mdaunet import ABLATIONS, MDAUNet
from msgan.methods.paired import PairedRegression
from msgan.methods.rivals import (
    METHODS,
    RIVALS,
    SECONDS,
    WITHOUT,
    ablations,
    cascade_config,
    compared,
    configurations,
    trainings,
)
from msgan.presets import PRESETS, preset
from msgan.report.published import HA, published
from msgan.studies.costs import cost_table
from msgan.studies.crossval import folds_of
from msgan.studies.seams import faces
from msgan.studies.tasks import runs_of, score_tasks


def test_all_that_learn_from_pairs_are_trained_for_equal_time() -> None:
    for name in ("smoke", "small"):
        configs = configurations(name, "t1", "t2")
        for rival in RIVALS:
            own = configs[rival.method.name]
            taken = own.training.steps * rival.pace
            assert taken == pytest.approx(SECONDS[name], abs=rival.pace / 2)
            assert own.training.validate_every <= max(10, own.training.steps // 4)
            assert (own.paired, own.seed) == ("t1", 0)
            assert own.preparation == configs["cascade"].preparation
    authors = configurations("published", "t1", "t2")
    assert authors["3D-mDAUNet"].training.steps == 33_000
    assert authors["ResViT"].training.steps == 500_000
    assert authors["3D-mDAUNet"].training.patch == 96


@pytest.mark.parametrize("name", PRESETS)
def test_the_cascade_is_that_of_the_preset_and_ct_keeps_its_hu(name: str) -> None:
    mr, ct = cascade_config(name, seed=3), cascade_config(name, ct=True, seed=3)
    assert mr.updated(training=preset(name, "brain").training) == preset(name, "brain", seed=3)
    assert (ct.preparation.intensity, ct.preparation.low, ct.labels) == ("window", -1024.0, ())
    assert ct.preparation.scales == mr.preparation.scales
    assert ct.network == mr.network
    if mr.guidance.on:
        assert ct.guidance.match == "histogram"
        assert ct.training.label_share == 0


def test_ablations_leave_out_one_part_each_and_keep_the_steps() -> None:
    whole = configurations("small", "t1", "t2")["3D-mDAUNet"]
    without = ablations(whole)
    assert list(without) == list(WITHOUT) == [f"no {part}" for part in ABLATIONS]
    assert set(without) == set(published("t1→t2", by=HA)["method"][4:])
    for config in without.values():
        assert isinstance(config.network, MdaunetNetwork)
        assert config != whole
        assert config.training.steps == whole.training.steps


def test_table_2_is_of_the_first_task_alone(tmp_path: Path) -> None:
    cohort = pairs(tmp_path, 2)
    cohorts = {("t1", "t2", 0): cohort, ("t1", "t2", 1): cohort, ("t2", "t1", 0): cohort}
    jobs = trainings(cohorts, "smoke", tmp_path)
    assert len(jobs) == 3 * len(METHODS) + 2 * len(WITHOUT)
    assert not any(row in WITHOUT for source, _, _, row in jobs if source == "t2")
    assert jobs["t2", "t1", 0, "ResViT"].args[1] == "t1"
    assert trainings({}, "smoke", tmp_path) == {}


def test_rows_are_trained_scored_and_counted(tmp_path: Path, one_thread: None) -> None:
    """From pairs to the tables of the notebook, in 2D and in a moment."""
    folds = {("t1", "t2"): folds_of(pairs(tmp_path, 2, ("train",) * 3), 2, (1,))}
    (fold,) = folds["t1", "t2"]
    small = tiny(2)
    own = MDAUNet.configured(small, "t1", size="smoke").updated(
        network={"features": (4, 6), "growth": (2, 2), "discriminator_width": 2},
        training={"patch": 8, "steps": 2},
    )
    configs = {
        "cascade": small,
        "paired regression": PairedRegression.configured(small, "t1"),
        "3D-mDAUNet": own,
        "no relativistic loss": ablations(own)["no relativistic loss"],
    }
    runs = {
        ("t1", "t2", 1, name): fit(fold.train, "t2", c, tmp_path / name, device="cpu")
        for name, c in configs.items()
    }
    mine = runs_of(runs, ("t1", "t2"), fold)
    assert list(mine) == list(configs)
    assert runs_of(runs, ("t2", "t1"), fold) == {}
    methods = compared(mine, fold.train, device="cpu")
    simple = ["source", "histogram-matched", "inverted, matched"]
    assert list(methods) == [*simple, *configs]
    assert isinstance(methods["no relativistic loss"], MDAUNet)
    apart = faces(mine, 10)
    assert (apart["cascade"], apart["paired regression"]) == (10, 10)
    assert apart["3D-mDAUNet"] == 6  # patches begin every 3 voxels, and 3 are too few to score
    table = score_tasks(runs, folds, partial(compared, device="cpu"), tmp_path / "made", tile=10)
    assert set(table["method"]) == set(methods)
    assert set(table["subject"]) == set(fold.test.names)
    assert set(table["region"]) == {"foreground"}
    assert table["image_nmse"].notna().all()
    trained = table["method"].isin(configs)
    assert table.loc[trained, "seam"].notna().all()
    assert table.loc[~trained, "seam"].isna().all()
    costs = cost_table(mine, fold.test.subjects[0], table)
    assert list(costs.index) == list(configs)
    assert costs.loc["3D-mDAUNet", "steps"] == 2
    np.testing.assert_allclose(
        costs.loc["cascade", "translation (s)"],
        table.loc[table["method"] == "cascade", "seconds"].mean(),
    )
    assert (costs[["parameters", "step (MiB)", "training (s)"]] > 0).all(axis=None)
    assert costs.loc["paired regression", "parameters of D"] == 0


def test_adding_a_rival_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    further = rivals.Rival(PairedRegression, 0.5, sized=False)
    monkeypatch.setattr(rivals, "RIVALS", (further,))
    configs = configurations("small", "t1", "t2")
    assert list(configs) == ["cascade", "paired regression"]
    assert configs["paired regression"].training.steps == round(SECONDS["small"] / 0.5)
