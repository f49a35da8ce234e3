"""Reports of record: what stands on the page, in the tables beside it, and what is refused."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from msgan import presets
from msgan.cli import app
from msgan.data.intensity import IntensityMap
from msgan.report import csv_tables, document, experiment, latex, run_cache, write_results
from msgan.report.cards import nearest_preset, run_card
from msgan.report.document import write_report
from msgan.report.table import file_name, number
from msgan.report.tables import score_tables
from msgan.runs.run import Run
from msgan.statistics import bootstrap_mean
from msgan.studies.crossval import significance
from msgan.types import InputError

EVIL = r"<b>R&D_50%</b> {x} $y^2$ #1 ~z \cmd"
ROOT = Path(__file__).resolve().parents[1]


def scores(methods=("cascade", EVIL), n: int = 5) -> pd.DataFrame:
    """The second method is better by .1 in SSIM and worse in MAE; one value is missing."""
    draw = np.random.default_rng(0)
    lines = [
        {
            "task": "t1→t2",
            "fold": 0,
            "method": method,
            "subject": f"s_{k}&",
            "ssim": 0.5 + 0.1 * m + draw.normal(0, 0.01),
            "mae": 0.1 + 0.02 * m + draw.normal(0, 0.001),
            "mse": 0.01,
            "psnr": 20.0 + m + draw.normal(0, 0.1),
            "voxels": 100,
            "lesion_ssim": 0.4 if k else np.nan,
            "seconds": 1.0 + k,
            "region": "foreground",
            "dims": "2D",
            "range": "0 to 100 HU",
        }
        for m, method in enumerate(methods)
        for k in range(n)
    ]
    return pd.DataFrame(lines)


def a_png() -> str:
    stream = io.BytesIO()
    Image.new("L", (8, 6), 99).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def study(runs: Path, stem: str = "06_made_up", title: str = EVIL) -> Path:
    """A notebook that passed, as the runner and the notebook leave it."""
    folder = runs / stem
    folder.mkdir(parents=True)
    table = scores()
    table.to_csv(folder / "scores.csv", index=False)
    significance(table, "cascade").to_csv(folder / "tests.csv", index=False)
    pd.DataFrame({"network": ["U_Net"], "bytes": [1.5]}).to_csv(folder / "steps.csv", index=False)
    write_results(folder, {"SSIM <of> all": 0.55})
    cells = nbformat.v4
    notebook = cells.new_notebook(
        cells=[
            cells.new_markdown_cell(f"# {title}\n\nWords."),
            cells.new_markdown_cell('## Figure "5"\n\nWhat `methods` make of it.'),
            cells.new_code_cell(
                "plot()", outputs=[cells.new_output("display_data", {"image/png": a_png()})]
            ),
        ],
        metadata={"papermill": {"parameters": {"preset": "smoke"}}},
    )
    nbformat.write(notebook, runs / f"{stem}.ipynb")
    (runs / f"{stem}.html").write_text("page")
    run_cache.remember(
        runs,
        run_cache.Run(stem, "passed", "k", 75.0, 2**30, "", "2026-01-02T03:04:05+00:00", "abc123"),
    )
    return folder


def trained(folder: Path, dims: int = 2) -> Path:
    """A cascade of which s0 has been trained, and s1 has begun."""
    base = presets.preset("smoke", dims=dims, seed=3)
    preparation = base.preparation.model_copy(
        update={"scales": 1, "spacing_mm": (1.0,) * dims, "high": 98.0}
    )
    config = base.model_copy(update={"preparation": preparation})
    data = {"p_1": "a" * 64, "<p2>": "b" * 64}
    run = Run(folder, config, "t2", IntensityMap(0.0, 50.0, "HU"), data)
    run.create()
    run.folder_of(0).mkdir()
    run.finish(0, {"step": 7, "seconds": 61.5, "best": 0.125, "peak_MiB": 432})
    run.folder_of(1).mkdir()
    (run.folder_of(1) / "metrics.jsonl").write_text('{"step": 3, "seconds": 2.0}\n')
    return folder


class Page(HTMLParser):
    """Tags that are open at the end, addresses, words, and pictures without words."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.alts: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            self.addresses += [value] if name in ("src", "href") else []
            self.ids += [value] if name == "id" else []
            self.alts += [value] if name == "alt" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs with a study and a cascade, their report, and the parsed page."""
    runs = tmp_path_factory.mktemp("runs") / "r&d <1>"
    study(runs)
    trained(runs / "shared" / "t2")
    written = write_report(runs, runs / "report")
    return runs, written, Page(written.page.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(made):
    _, written, page = made
    assert page.open == []
    assert page.tags.isdisjoint({"link", "iframe", "b"})
    assert all(a.startswith(("#", "../", "data:image/png;base64,")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a.startswith("#")} == set(page.ids)
    text = written.page.read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_every_name_is_shown_as_it_is(made):
    _, _, page = made
    assert page.words.count(EVIL) >= 4  # title, contents, rows of scores and tests
    assert "SSIM <of> all" in page.words
    assert "r&d <1>" in page.words
    assert "<p2>" in page.words


def test_figures_have_words(made):
    _, _, page = made
    assert page.alts == ['Figure "5": What methods make of it.']


def test_what_when_where_and_with_what_is_said(made):
    _, written, page = made
    for fact in (
        "abc123",
        "2026-01-02T03:04:05+00:00",
        "1:15 min",
        "1024 MiB",
        "phantoms",
        "smoke",
    ):
        assert fact in page.words
    assert written.problems == ()
    about = "Data: phantoms; n = 5 subjects; mask: foreground; 2D; 0 to 100 HU shown as [0, 1]."
    assert page.words.count(about) == 1
    assert page.words.count(about.replace("mask: foreground", "mask: lesion")) == 1


def test_scores_are_means_with_spread_and_interval():
    table = scores()
    main, lesion, rest = score_tables(experiment.Experiment("e", "E", scores=table))
    assert main.columns == ("row", "n", "SSIM", "MAE", "MSE", "PSNR (dB)")
    assert [row[0].text for row in main.rows] == ["cascade", EVIL]
    values = table[table["method"] == "cascade"]["ssim"]
    mean, low, high = bootstrap_mean(values.to_numpy())
    cell = main.rows[0][2]
    assert cell.text == f"{mean:.3f} ± {values.std():.3f}"
    assert cell.interval == f"[{low:.3f}, {high:.3f}]"
    line = main.frame.iloc[0]
    assert (line["mean"], line["low"], line["high"]) == (mean, low, high)
    assert line["sd"] == pytest.approx(values.std())
    # Higher SSIM is better, lower MAE; where all are level, all are best.
    best = [[cell.best for cell in row] for row in main.rows]
    level = [False, False, False, True, True, False]
    assert best == [level, [False, False, True, False, True, True]]
    assert main.rows[1][2].plain.endswith(f"* {main.rows[1][2].interval}")
    assert lesion.rows[0][1].text == "4"  # a missing value is not counted
    assert rest.columns == ("row", "n", "time (s)")
    assert not any(cell.best for row in rest.rows for cell in row)


def test_one_subject_has_no_interval():
    (main, *_) = score_tables(experiment.Experiment("e", "E", scores=scores(n=1)))
    assert main.rows[0][2].interval == ""
    assert "±" not in main.rows[0][2].text
    assert "One subject" in main.note
    assert "n = 1 subject;" in main.note


def test_what_a_record_does_not_state_is_said_to_be_missing():
    old = scores().drop(columns=["region", "dims", "range"])
    (main, *_) = score_tables(experiment.Experiment("e", "E", scores=old))
    for what in ("data", "region", "dims", "range"):
        assert f"{what} not stated in this record" in main.note
    card = {"data": "people", "convention": {"region": "body", "dims": "3D", "range": "0 to 1 HU"}}
    (main, *_) = score_tables(experiment.Experiment("e", "E", card=card, scores=old))
    assert main.note.startswith(
        "Data: people; n = 5 subjects; mask: body; 3D; 0 to 1 HU shown as [0, 1]."
    )


def test_tests_are_those_kept(made):
    runs, written, page = made
    kept = pd.read_csv(runs / "06_made_up" / "tests.csv")
    shown = pd.read_csv(written.page.parent / "tables" / "06_made_up-t1-to-t2-tests.csv")
    pd.testing.assert_frame_equal(kept, shown)
    line = kept[kept["metric"] == "ssim"].iloc[0]
    assert f"[{number(line['low'], 'ssim')}, {number(line['high'], 'ssim')}]" in page.words
    assert f"over all {len(kept)} comparisons" in page.words


def test_numbers_read_well():
    assert number(-0.0001, "ssim") == "0.000"
    assert number(24.04, "psnr") == "24.0"
    assert number(12345.6) == "1.235e+04"
    assert number(float("nan")) == "–"


# --- files for a paper -------------------------------------------------------------------------


def balanced(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"\\.|[{}]", text, re.S):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        assert depth >= 0
    return depth == 0


def test_tables_lie_beside_the_page_as_csv_and_latex(made):
    _, written, page = made
    files = sorted(p.name for p in (written.page.parent / "tables").iterdir())
    assert len(files) == 2 * written.tables
    assert {Path(f).suffix for f in files} == {".csv", ".tex"}
    for name in {Path(f).stem for f in files}:
        assert f"{name}.csv" in page.words
    for path in (written.page.parent / "tables").glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        assert balanced(text)
        assert text.count(r"\begin{") == text.count(r"\end{") >= 1
        columns = re.search(r"\\begin\{(?:tabular|longtable)\}\{([lc]+)\}", text)[1]
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        for row in rows:
            cells = len(re.findall(r"(?<!\\)&", row)) + 1
            assert cells == len(columns) or row.startswith((r"\caption", r"\multicolumn"))
        body = "\n".join(text.splitlines()[1:])
        assert not re.search(r"(?<!\\)[%#]", body)
        assert "<" not in body
        assert "→" not in body


def test_latex_shows_what_was_written():
    plain = latex.escape(EVIL)
    for mark, shown in (("&", r"\&"), ("_", r"\_"), ("%", r"\%"), ("#", r"\#"), ("$", r"\$")):
        assert re.search(rf"(?<!\\){re.escape(mark)}", plain) is None
        assert plain.count(shown) == EVIL.count(mark)
    assert balanced(plain)
    assert latex.escape("a\\b") == r"a\textbackslash{}b"
    assert latex.escape("a\nb\x00") == "a b "
    assert latex.escape("a--b") == "a-{}-b"
    text = latex.table(
        ["a", "b"], [["x", "[1, 2]"]], caption="c%", label="l_1", bold=[[False, True]]
    )
    assert r"x & \textbf{{[}1, 2{]}} \\" in text
    assert "\\caption{c\\%}\n\\label{tab:l-1}" in text
    many = latex.table(["a"], [["x"]] * 99, caption="", label="", bold=[[False]] * 99)
    assert r"\begin{longtable}{l}" in many


# --- cards of trained cascades -----------------------------------------------------------------


def test_a_card_says_data_configuration_time_and_memory(tmp_path, made):
    card = run_card(trained(tmp_path / "run"), "run")
    assert dict(card.facts)["seed"] == "3"
    assert dict(card.facts)["range"] == "0 to 50 HU shown as [-1, 1]"
    assert dict(card.data)["p_1"] == "a" * 64
    assert [[cell.text for cell in row] for row in card.scales.rows] == [
        ["s0", "finished", "7", "1:02 min", "0.1250", "432 MiB", "–"],
        ["s1", "not finished", "3", "2.0 s", "–", "–", "–"],
    ]
    assert "high: 98.0" in card.config
    assert "b" * 64 in made[2].words
    assert "high: 98.0" in made[2].words


def test_a_scale_that_was_not_begun_has_no_numbers(tmp_path):
    folder = trained(tmp_path / "run")
    shutil.rmtree(folder / "s1")
    rows = run_card(folder, "run").scales.rows
    assert [cell.text for cell in rows[1]] == ["s1", "not begun", "–", "–", "–", "–", "–"]
    assert rows[0][1].text == "finished"


def test_an_end_of_a_training_that_says_nothing_is_named(tmp_path):
    folder = trained(tmp_path / "run")
    (folder / "s0" / "done.json").write_text("[1]")
    with pytest.raises(InputError, match=r"s0: what is known of its training is no JSON object$"):
        run_card(folder, "run")


def test_the_hash_of_the_data_is_of_all_of_it(tmp_path):
    one = dict(run_card(trained(tmp_path / "a"), "a").facts)["data"]
    assert one == dict(run_card(trained(tmp_path / "b"), "b").facts)["data"]
    path = tmp_path / "b" / "run.json"
    path.write_text(path.read_text().replace("b" * 64, "c" * 64))
    assert one != dict(run_card(tmp_path / "b", "b").facts)["data"]


def test_a_configuration_is_compared_with_the_nearest_preset(dims):
    config = presets.preset("small", dims=dims, seed=5)
    assert nearest_preset(config) == ("small", ())
    training = config.training.model_copy(update={"steps": 7})
    name, changed = nearest_preset(config.model_copy(update={"training": training}))
    assert name == "small"
    assert changed == (("training.steps", str(config.training.steps), "7"),)


# --- folders that can be reported --------------------------------------------------------------


def test_one_notebook_and_one_cascade_can_be_reported(tmp_path):
    runs = tmp_path / "runs"
    folder = study(runs)
    one = Page(write_report(folder, tmp_path / "one").page.read_text(encoding="utf-8"))
    assert one.alts  # the figures of the notebook beside the folder
    run = trained(tmp_path / "t2")
    page = Page(write_report(run, tmp_path / "two").page.read_text(encoding="utf-8"))
    assert "1 trained cascade." in page.words


def test_the_records_of_this_repository_are_complete(tmp_path):
    written = write_report(ROOT / "reports" / "small", tmp_path)
    page = Page(written.page.read_text(encoding="utf-8"))
    assert written.problems == ()
    for card in (ROOT / "reports" / "small").glob("*/card.json"):
        known = json.loads(card.read_text(encoding="utf-8"))
        assert known["git"] in page.words
        assert known["title"] in page.words
        if (card.parent / "scores.csv").read_text(encoding="utf-8").find("ssim") > 0:
            assert set(known["convention"]) == {"region", "dims", "range"}


def test_a_later_report_replaces_an_earlier_one(tmp_path):
    runs = tmp_path / "runs"
    study(runs)
    study(runs, "07_second")
    write_report(runs, tmp_path / "out")
    shutil.rmtree(runs / "07_second")
    (runs / "07_second.stamp.json").unlink()
    written = write_report(runs, tmp_path / "out")
    assert not list((tmp_path / "out" / "tables").glob("07*"))
    assert "07_second" not in written.page.read_text(encoding="utf-8")


# --- bad input ---------------------------------------------------------------------------------


def called(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["report", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


DAMAGE = {
    "a line shorter": (
        lambda t: t[: t.rindex(",")] + "\n",
        r"line 11 has 13 fields, the header 14",
    ),
    "empty": (lambda t: "", r"scores.csv: empty"),
    "no method": (lambda t: t.replace("method", "m", 1), r"no column 'method'"),
    "words": (lambda t: t.replace("0.01,", "good,", 1), r"column mse holds more than numbers"),
    "no text": (lambda t: "\udcff\udcfe", r"not a CSV file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_table_is_named_and_the_rest_is_written(case, tmp_path):
    change, message = DAMAGE[case]
    runs = tmp_path / "runs"
    path = study(runs) / "scores.csv"
    study(runs, "07_whole")
    text = change(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    code, out, err = called(runs, "--out", tmp_path / "out")
    assert code == 2
    assert out.startswith(str(tmp_path / "out" / "report.html"))
    (line,) = err.strip().splitlines()
    assert line.startswith("error: could not be read: 06_made_up: ")
    assert re.search(message, line)
    words = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).words
    assert re.search(message, words)
    assert (tmp_path / "out" / "tables" / "07_whole-t1-to-t2-scores.csv").is_file()
    assert (tmp_path / "out" / "tables" / "06_made_up-t1-to-t2-tests.csv").is_file()


TORN = {
    "in a field": lambda b: b[: b.rindex(b",")],
    "after a field": lambda b: b[: b.rindex(b"\n", 0, -1) + 2],
    "in a quote": lambda b: b + b'"a task that nobody has writ',
    "in a sign": lambda b: b + "µ".encode()[:1],
    "zeros": lambda b: b + bytes(700),
    "zeros in a line": lambda b: b[:-9] + bytes(700),
}


@pytest.mark.parametrize("case", TORN)
def test_a_last_line_that_is_cut_short_takes_no_other_with_it(case, tmp_path):
    path = study(tmp_path / "runs") / "scores.csv"
    whole = path.read_bytes()
    path.write_bytes(TORN[case](whole))
    code, _, err = called(tmp_path / "runs", "--out", tmp_path / "out")
    line = "06_made_up: scores.csv: its last line is cut short and left out"
    assert (code, err) == (2, f"error: could not be read: {line}\n")
    count = whole.count(b"\n") - (case in ("in a field", "after a field", "zeros in a line"))
    assert len(csv_tables.read_table(path)) == count - 1
    path.write_bytes(whole.rstrip(b"\n"))  # as some programs write tables
    assert called(tmp_path / "runs", "--out", tmp_path / "out")[0] == 0
    assert len(csv_tables.read_table(path)) == whole.count(b"\n") - 1


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "s0/done.json"])
def test_a_damaged_cascade_is_named_and_the_rest_is_written(name, tmp_path):
    study(tmp_path / "runs")
    (trained(tmp_path / "runs" / "t2") / name).write_text("{")
    code, _, err = called(tmp_path / "runs", "--out", tmp_path / "out")
    assert code == 2
    assert "could not be read: t2: " in err
    assert (tmp_path / "out" / "tables" / "06_made_up-t1-to-t2-scores.csv").is_file()


def test_a_damaged_picture_is_named(tmp_path):
    study(tmp_path / "runs")
    path = tmp_path / "runs" / "06_made_up.ipynb"
    path.write_text(path.read_text().replace(a_png(), "AAAA"))
    code, _, err = called(tmp_path / "runs", "--out", tmp_path / "out")
    assert code == 2
    assert err.startswith("error: could not be read: 06_made_up: 06_made_up.ipynb: ")


@pytest.mark.parametrize("text", ["[1]", '"card"', '{"figures": [1]}'])
def test_what_is_no_card_is_named_and_the_tables_are_read(text, tmp_path):
    folder = study(tmp_path / "runs")
    (folder / "card.json").write_text(text)
    ((one,), _) = experiment.find(tmp_path / "runs")
    assert one.problems == ("card.json: no card of a run",)
    assert one.card["git"] == "abc123"  # what the runner has left stands in
    assert one.scores is not None


def test_a_run_that_failed_says_why(tmp_path):
    study(tmp_path / "runs")
    known = run_cache.last(tmp_path / "runs", "06_made_up")
    assert "error" not in experiment.find(tmp_path / "runs")[0][0].card
    failed = replace(known, status="failed", error="ValueError: no such image")
    run_cache.remember(tmp_path / "runs", failed)
    ((one,), _) = experiment.find(tmp_path / "runs")
    assert (one.card["status"], one.card["error"]) == ("failed", "ValueError: no such image")
    with pytest.raises(InputError, match=r"stamp\.json: the folder of the results must exist$"):
        experiment.find(tmp_path / "runs" / "06_made_up.stamp.json")


def test_scores_without_a_task_are_of_one_without_a_name(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("method,subject,ssim\ncascade,a,0.5\n")
    table = csv_tables.read_scores(path)
    assert table.to_dict("records") == [
        {"task": "", "method": "cascade", "subject": "a", "ssim": 0.5}
    ]


def test_names_of_files_are_kept_apart():
    assert file_name("06", "b80f→b20f", "lung") == "06-b80f-to-b20f-lung"
    assert file_name("runs/a b") == "runs-a_b"
    names = {file_name(text, "x") for text in ("µ→x", "ä→x", "<→x", "../x", "_-to-x")}
    assert len(names) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)


def test_nothing_to_report_is_one_line_and_no_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = called(tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2
    assert err == (
        f"error: {tmp_path / 'empty'}: nothing to report: looked for card.json, scores.csv, "
        "results.json, *.stamp.json, run.json or translations\n"
    )
    code, _, err = called(tmp_path / "absent")
    assert code == 2
    assert err == f"error: {tmp_path / 'absent'}: the folder of the results must exist\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    study(tmp_path / "runs")
    monkeypatch.setattr(document, "score_tables", lambda e: pytest.fail("work was done"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file: is a file, expected a folder"):
        write_report(tmp_path / "runs", tmp_path / "file")
    (tmp_path / "mine" / "tables").mkdir(parents=True)
    with pytest.raises(InputError, match=r"mine: holds tables that are of no report"):
        write_report(tmp_path / "runs", tmp_path / "mine")
    monkeypatch.setattr(document.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"other: this folder may not be written to"):
        write_report(tmp_path / "runs", tmp_path / "other")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_csv_files_can_be_read_back(made):
    _, written, _ = made
    for path in (written.page.parent / "tables").glob("*.csv"):
        assert len(csv_tables.read_table(path)) > 0
