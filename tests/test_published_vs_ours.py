"""Every number the papers printed, and ours beside it."""

import math

import pandas as pd
import pytest

from msgan.report import published
from msgan.report.experiment import Experiment
from msgan.report.published import FIGURES, HA, HA_1, HA_2, MEASURES, PRINTED, UZUNOVA
from msgan.report.published_vs_ours import (
    NOT_RUN,
    comparison_table,
    printed_beside,
    published_vs_ours,
)
from msgan.statistics import bootstrap_mean

SSIM = (0.70, 0.74, 0.78, 0.72)


def scored(task: str = "t1→t2", methods=("cascade", "REPLICA"), **columns) -> Experiment:
    lines = [
        {"task": task, "method": m, "subject": f"s{k}", "ssim": v, "seconds": (k + 1) * (j + 1)}
        | {name: values[k] for name, values in columns.items()}
        for j, m in enumerate(methods)
        for k, v in enumerate(SSIM)
    ]
    card = {"data": "phantoms", "convention": {"region": "body"}}
    return Experiment("09_made_up", "Made up", card, scores=pd.DataFrame(lines))


def entry(entries, task, row, quantity):
    (found,) = [e for e in entries if (e.task, e.row, e.quantity) == (task, row, quantity)]
    return found


def test_every_printed_number_is_there_whether_it_was_run_or_not():
    entries = published_vs_ours([])
    numbers = sum(getattr(row, m) is not None for row in PRINTED for m in MEASURES) + len(FIGURES)
    assert len(entries) == numbers
    assert all(e.ours is None and math.isnan(e.difference) for e in entries)
    table = comparison_table(entries)
    assert (table.frame["ours"] == NOT_RUN).all()
    assert len(table.rows) == numbers
    ours = [e.source for e in entries if e.source.startswith(UZUNOVA)]
    assert {source[15:19] for source in ours} == {"2019", "2020"}
    assert {e.source for e in entries} - set(ours) == {HA_1, HA_2}


def test_the_standard_deviations_of_2019_stand_beside_their_means():
    first = entry(published_vs_ours([]), "b80f→b20f", "cascade", "SSIM")
    assert (first.printed, first.sd) == (0.773, 0.025)
    assert published.MICCAI_1 in first.source
    assert published.EXTENDED_1 in first.source
    assert entry(published_vs_ours([]), "b80f→b20f", "cascade", "PSNR").sd is None
    assert entry(published_vs_ours([]), "x-ray", "patch GAN", "MAE").sd == 0.024
    assert entry(published_vs_ours([]), "x-ray", "patch GAN", "MAE").source == published.MICCAI_1


def test_ours_is_the_mean_over_subjects_with_its_interval():
    found = entry(published_vs_ours([scored()]), "t1→t2", "cascade", "SSIM")
    assert found.ours == bootstrap_mean(SSIM)
    assert found.difference == pytest.approx(sum(SSIM) / 4 - 0.911)
    assert (found.n, found.where) == (4, "09_made_up")
    assert found.about == "phantoms; mask: body"
    assert entry(published_vs_ours([scored()]), "t1→t2", "MedSynth", "SSIM").ours is None
    assert entry(published_vs_ours([scored()]), "t1→t2", "cascade", "MAE").ours is None


def test_the_whole_image_is_what_the_papers_count():
    found = entry(published_vs_ours([scored(image_ssim=(0.9,) * 4)]), "t1→t2", "cascade", "SSIM")
    assert found.ours.mean == 0.9
    assert found.about == "phantoms; mask: image"


def test_the_papers_cascade_sees_edges_alone():
    """Where a table has such a row, that is the one that repeats theirs."""
    study = scored(methods=("cascade", "cascade, edges alone", "REPLICA"))
    lines = study.scores["method"] == "cascade, edges alone"
    study.scores.loc[lines, "ssim"] = 0.25
    assert entry(published_vs_ours([study]), "t1→t2", "cascade", "SSIM").ours.mean == 0.25


def test_one_row_of_a_table_does_not_repeat_it():
    """Another experiment on the same task also calls its method cascade."""
    entries = published_vs_ours([scored(methods=("cascade", "no sketch"))])
    assert entry(entries, "t1→t2", "cascade", "SSIM").ours is None
    rivals = published_vs_ours([scored(methods=("cascade", "3D-mDAUNet", "ResViT"))])
    assert entry(rivals, "t1→t2", "cascade", "SSIM").ours is None
    assert entry(rivals, "t1→t2", "ResViT", "SSIM").ours is not None
    twice = [
        e
        for e in published_vs_ours([scored(), scored()])
        if (e.row, e.quantity) == ("REPLICA", "SSIM")
    ]
    assert [e.task for e in twice] == ["t1→t2", "t1→t2", "flair→t2"]


def test_the_printed_ea_gan_stands_beside_the_one_that_judges_edges():
    study = scored(methods=("3D-mDAUNet", "gEa-GAN", "dEa-GAN"), nmse=(0.1, 0.2, 0.3, 0.4))
    study.scores.loc[study.scores["method"] == "dEa-GAN", "nmse"] = 0.154
    found = entry(published_vs_ours([study]), "t1→t2", "Ea-GAN", "NMSE")
    assert found.difference == pytest.approx(0, abs=1e-9)
    assert found.about.endswith("; ours: dEa-GAN")
    alone = scored(methods=("3D-mDAUNet", "gEa-GAN"))
    assert entry(published_vs_ours([alone]), "t1→t2", "Ea-GAN", "SSIM").about.endswith("gEa-GAN")


def test_a_notebook_shows_what_one_paper_printed_of_its_tasks_beside_ours():
    study = scored("cbct→ct", ("cascade", "3D-mDAUNet", "ResViT"), image_ssim=(0.9,) * 4)
    table = printed_beside(study.scores, "phantoms", HA)
    assert set(table["task"]) == {"cbct→ct"}
    assert set(table["method"]) == {"ResViT", "PTNet3D", "Ea-GAN", "3D-mDAUNet"}
    rows = table.set_index(["method", "measure"])
    mine = rows.loc[("3D-mDAUNet", "SSIM")]
    assert (mine["printed"], mine["sd"], mine["n"]) == (0.918, 0.04, 4)
    assert mine["difference"] == pytest.approx(0.9 - 0.918)
    assert mine[["low", "high"]].tolist() == pytest.approx([0.9, 0.9])
    assert rows.loc[("PTNet3D", "SSIM"), ["ours", "low", "difference"]].isna().all()
    assert rows.loc[("3D-mDAUNet", "Dice"), "printed"] == 0.836
    assert printed_beside(scored("t1→t2").scores, "phantoms", HA)["ours"].isna().all()


def test_values_that_are_not_finite_are_left_out():
    infinite = scored()
    infinite.scores["psnr"] = [math.inf, 30.0, math.nan, 32.0] * 2
    found = entry(published_vs_ours([infinite]), "t1→t2", "cascade", "PSNR")
    assert (found.ours.mean, found.n) == (31.0, 2)


def test_time_is_compared_subject_by_subject():
    study = scored("b80f→b20f", ("cascade", "non-local means"))
    found = entry(published_vs_ours([study]), "b80f→b20f", "non-local means", published.SLOWER)
    assert (found.ours.mean, found.ours.low, found.n) == (2.0, 2.0, 4)
    assert found.relation == "≈"


def test_distances_of_other_features_are_not_subtracted():
    table = pd.DataFrame(
        {
            "extractor": ["random, not comparable with published values", "Inception"],
            "domains": ["low / high"] * 2,
            "distance": [0.5, 140.0],
            "low": [0.4, 130.0],
            "high": [0.6, 150.0],
            "subjects": ["12 / 11"] * 2,
        }
    )
    entries = published_vs_ours(
        [Experiment("07", "07", {"data": "x"}, others={"distances.csv": table})]
    )
    own, inception = (e for e in entries if e.row == "low / high")
    assert math.isnan(own.difference)
    assert inception.difference == -10.0
    assert (own.ours.low, own.n) == (0.4, 12)


def test_memory_is_added_up_as_in_the_papers():
    steps = pd.DataFrame(
        {
            "network": ["PGGAN"] * 3 + ["DCGAN"],
            "side": [64, 128, 256, 64],
            "summed_bytes": [2e9, 11e9, 120e9, 13e9],
        }
    )
    entries = published_vs_ours([Experiment("05", "05", others={"steps.csv": steps})])
    step = entry(entries, "memory", "PGGAN", published.TRAINING)
    assert (step.ours.mean, step.printed, step.relation, step.unit) == (120.0, 100, ">", "GB")
    assert entry(entries, "memory", "PGGAN", published.LARGEST).ours.mean == 128
    assert entry(entries, "memory", "DCGAN", published.LARGEST).ours is None


def test_a_table_reads_as_the_papers_print_it():
    table = comparison_table(published_vs_ours([scored()]))
    lines = {tuple(c.text for c in row[:3]): row for row in table.rows}
    row = lines["t1→t2", "cascade", "SSIM"]
    assert (row[3].text, row[4].text, row[6].text) == ("0.911", "0.735", "-0.176")
    assert row[4].interval.startswith("[0.7")
    assert lines["t1→t2", "cascade", "MSE"][3].text == "0.003"
    assert lines["x-ray", "cascade", "SSIM"][3].text == "0.711 ± 0.067"
    assert lines["x-ray", "cascade", "SSIM"][4].text == NOT_RUN
    assert lines["t2→t1", "3D-mDAUNet", "NMSE"][3].text == "0.141 ± 0.10"
    assert lines["t2→t1", "3D-mDAUNet", "NMSE"][8].text == HA_1
    assert lines["x-ray", "cascade", "SSIM"][8].text == "2019, table 1"
    assert "data differ" in table.note
    assert table.frame["printed"].notna().all()


def test_how_much_slower_a_row_is_needs_times_of_both():
    figure = next(f for f in FIGURES if f.quantity == published.SLOWER)

    def measured(study: Experiment) -> object:
        return entry(published_vs_ours([study]), figure.task, figure.row, figure.quantity).ours

    both = scored(figure.task, ("cascade", figure.row))
    assert measured(both) == bootstrap_mean((2.0,) * 4)
    assert measured(scored(figure.task, ("cascade", "source"))) is None
    both.scores.loc[both.scores["method"] == "cascade", "seconds"] = float("nan")
    assert measured(both) is None
