"""Entries of the explorer have the names that a person would give them, each its own."""

import shutil
from pathlib import Path

import pytest
from tree import image, run, tree

from msgan.data.intensity import IntensityMap
from msgan.methods.cyclegan import CycleGan
from msgan.methods.paired import PairedRegression
from msgan.presets import preset
from msgan.report.catalog import catalog
from msgan.runs.run import Run
from msgan.widgets.entries import EMPTY, MINE, STUDIES, TRAININGS, entries


def names(folder: str | Path, group: str) -> list[str]:
    return [one.name for one in entries(catalog(folder)) if one.group == group]


def test_a_relative_folder_has_the_entries_of_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "reports" / "runs")
    image(root / "own.nii", 1)
    monkeypatch.chdir(tmp_path)
    shown = entries(catalog("reports/runs"))
    assert shown == entries(catalog(root))
    assert len({one.key for one in shown}) == len(shown)
    assert str(root) in [one.name for one in shown]  # of the root itself


def test_a_training_is_named_by_what_was_learnt_from_what(tmp_path: Path) -> None:
    old = run(tmp_path / "small" / "shared" / "t2-seamless-8f351835b854eea6")
    named = run(tmp_path / "mine")
    found = entries(catalog(tmp_path))
    by_place = {one.place: one for one in found}
    shown = by_place["small/shared/t2-seamless-8f351835b854eea6"]
    assert shown.name.startswith("T2 from edges, small, 20")
    assert "8f351835b854eea6" not in shown.name + shown.detail
    assert "not finished" in shown.detail
    assert by_place["mine"].name.startswith("T2 from edges, mine, 20")
    assert {old.target, named.target} == {"t2"}


def test_trainings_alike_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    first = run(tmp_path / "t2-seamless-0123456789abcdef")
    changed = first.config.updated(training={"batch": 7})
    second = tmp_path / "t2-seamless-1123456789abcdef"
    Run(second, changed, "t2", first.intensity, first.data).create()
    for name in ("s0", "s1"):
        shutil.copytree(first.folder / name, second / name)
    same = tmp_path / "t2-seamless-2123456789abcdef"
    shutil.copytree(second, same)
    shown = names(tmp_path, TRAININGS)
    assert len(set(shown)) == 3
    own = [name.partition(" (")[2] for name in shown]
    assert f"batch {first.config.training.batch})" in own
    assert "batch 7)" in own
    assert "batch 7), no. 2" in own


def test_empty_trainings_stand_apart(tmp_path: Path) -> None:
    run(tmp_path / "good")
    begun = run(tmp_path / "begun", rows=0)
    for scale in (0, 1):
        shutil.rmtree(begun.folder_of(scale))
    assert [name.split(", ")[1] for name in names(tmp_path, TRAININGS)] == ["good"]
    assert [name.split(", ")[1] for name in names(tmp_path, EMPTY)] == ["begun"]


def test_translations_without_a_table_are_one_s_own(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for table in ("scores.csv", "results.json"):
        (root / "smoke" / "09_study" / table).unlink()
    shown = [one for one in entries(catalog(root)) if one.group == MINE]
    assert [one.name for one in shown] == ["smoke/09_study"]
    assert shown[0].detail.startswith("T1→T2 · 2 subjects · 20")
    assert shown[0].key == "my translations: smoke/09_study"


def test_what_lies_in_a_notebook_s_results_is_named_after_it(tmp_path: Path) -> None:
    root = tree(tmp_path)
    shutil.copytree(root / "smoke" / "09_study", root / "smoke" / "09_study" / "first")
    assert set(names(root, STUDIES)) == {"09 study, smoke", "09 study, first, smoke"}


def test_what_learns_from_images_is_named_by_them(tmp_path: Path) -> None:
    drawn = preset("smoke")
    for name, method, source in (
        ("by cycles", CycleGan, "t1"),
        ("in pairs", PairedRegression, "flair"),
    ):
        config = method.configured(drawn, source)
        Run(tmp_path / name, config, "t2", IntensityMap(0.0, 99.0), {}).create()
    shown = {one.place: one.name.split(", ")[0] for one in entries(catalog(tmp_path))}
    assert shown == {"by cycles": "T2 from T1 without pairs", "in pairs": "T2 from FLAIR in pairs"}


def test_trainings_of_one_setting_are_told_apart_by_how_many_they_learnt_from(
    tmp_path: Path,
) -> None:
    first = run(tmp_path / "t2-seamless-0123456789abcdef")
    second = tmp_path / "t2-seamless-1123456789abcdef"
    more = {"p9": "0" * 64, "p10": "1" * 64}
    Run(second, first.config, "t2", first.intensity, more).create()
    for name in ("s0", "s1"):
        shutil.copytree(first.folder / name, second / name)
    own = sorted(name.partition(" (")[2] for name in names(tmp_path, TRAININGS))
    assert own == ["1 subject)", "2 subjects)"]
