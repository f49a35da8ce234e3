"""Pages of executed notebooks: links between them, contents, tables that read well."""

import re
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_pages import figure

from msgan import plots
from msgan.report import write_results
from msgan.report.around import connect
from msgan.report.found import MAY_BE_SMOKE, NO_CLAIM
from msgan.report.html import to_html
from msgan.report.notebook_tables import readable_name, readable_tables
from msgan.report.page import about_of
from msgan.report.results import read_results
from msgan.studies.crossval import significance, summary

EVIL = '<script>alert("&")</script>'


def bold(html: str) -> list[str]:
    return [tag.get_text() for tag in BeautifulSoup(html, "html.parser").find_all("strong")]


def table(n: int = 3, tasks: tuple[str, ...] = ("a→b", "c→b"), methods=("cascade", "source", EVIL)):
    """In the second task the order is turned round."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {"task": task, "method": method, "subject": f"s{k}"}
        | {"ssim": 0.1 * (m + 1) * (-1) ** t + draw.normal(0, 0.01), "mae": 0.1 * (m + 1)}
        | {"psnr": 20.0 - m, "lung_ssim": 0.5, "soft_hu": (-30.0, 2.0, 9.0)[m % 3]}
        for t, task in enumerate(tasks)
        for m, method in enumerate(methods)
        for k in range(n)
    )


def page_of(*cells, title: str = "a page") -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbconvert's own, about what the tests leave out
        return to_html(new_notebook(cells=list(cells)), Path(), title)


# --- tables -------------------------------------------------------------------------------------


def test_the_best_of_a_metric_is_bold_within_each_task():
    means = summary(table(), ["ssim", "mae", "psnr"])
    html = readable_tables(means.to_html())
    assert bold(html) == [
        *(means["MAE"].iloc[0], means["PSNR (dB)"].iloc[0], means["SSIM"].iloc[2]),
        *(means["SSIM"].iloc[3], means["MAE"].iloc[3], means["PSNR (dB)"].iloc[3]),
    ]
    assert html.count("Bold: the best of a column.") == 1
    styled = readable_tables(means.style.set_caption("Brain.").to_html())
    assert bold(styled) == bold(html)
    assert "<script" not in html


def test_raw_columns_are_read_as_metrics_and_signed_errors_by_their_size():
    means = table(1, ("a→b",)).drop(columns=["subject", "psnr", "lung_ssim", "ssim", "mae"])
    html = readable_tables(means.to_html())
    assert bold(html) == ["2.0"]
    assert "soft (HU)" in html
    # Rows are compared within a task also where it is a column.
    both = pd.concat([means, means.assign(task="x")], ignore_index=True)
    assert bold(readable_tables(both.to_html())) == ["2.0", "2.0"]
    plain = pd.DataFrame({"subjects": [1, 2], "psnr_from_mse": [1.0, 2.0], "mean error of": [1, 2]})
    assert bold(readable_tables(plain.to_html())) == []


def test_long_tables_of_tests_are_folded_and_others_are_not():
    methods = tuple(f"m{k}" for k in range(9))
    scores = table(4, methods=("cascade", *methods))
    tests = significance(scores, "cascade", ("ssim",))
    styled = tests.drop(columns=["note"]).style.set_caption("Other minus cascade.")
    soup = BeautifulSoup(readable_tables(styled.to_html()), "html.parser")
    assert soup.details.summary.get_text() == f"Tests, {len(tests)} rows: Other minus cascade."
    assert soup.caption is None  # said once
    assert soup.details.table is not None
    assert not soup.details.has_attr("open")
    means = summary(scores, ["ssim"])
    assert "<details" not in readable_tables(means.to_html())
    short = readable_tables(tests.head(3).to_html())
    assert "<details" not in short


def test_names_and_numbers_of_tests_read_well():
    tests = pd.DataFrame(
        {"metric": ["lung_ssim", "mae"], "t_p_holm": ["0.0000", "0.0123"], "low": ["nan", "1"]}
    )
    soup = BeautifulSoup(readable_tables(tests.to_html()), "html.parser")
    heads = [th.get_text() for th in soup.thead.find_all("th")]
    assert heads[1:] == ["metric", "p (t, Holm)", "low"]
    cells = [td.get_text() for td in soup.find_all("td")]
    assert cells == ["lung SSIM", "< 0.0001", "–", "MAE", "0.0123", "1"]
    assert readable_name("emphysema_true") == "emphysema true"


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><td>1</td></tr></table>",
        "<table><thead></thead><tbody></tbody></table>",
        '<table><thead><tr><th colspan="2">ssim</th></tr></thead>'
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
        "<table><thead><tr><th>ssim</th></tr></thead>"  # rows of different lengths
        "<tbody><tr><td>1</td></tr><tr><td>1</td><td>2</td></tr></tbody></table>",
        "<table><thead><tr><th></th><th>ssim</th></tr></thead>"  # a column without a name
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
        "<table><thead><tr><th>ssim</th></tr></thead>"  # fewer names than columns
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
        "<p>no table</p>",
    ],
)
def test_what_is_no_table_of_pandas_is_left_as_it_is(html):
    assert readable_tables(html) == html


def test_names_of_columns_may_stand_below_a_row_without_them():
    head = "<tr><th>metric</th><th></th></tr><tr><th>row</th><th>ssim</th></tr>"
    body = "".join(f"<tr><th>{k}</th><td>0.{k}</td></tr>" for k in (5, 7))
    html = readable_tables(f"<table><thead>{head}</thead><tbody>{body}</tbody></table>")
    assert bold(html) == ["0.7"]
    assert "<th>SSIM</th>" in html


def test_a_notebook_is_not_changed_by_its_page():
    output = new_output("display_data", {"text/html": summary(table(), ["ssim"]).to_html()})
    cell = new_code_cell("1", outputs=[output])
    before = str(cell)
    assert "<strong>" in page_of(cell)
    assert str(cell) == before


# --- around a page ------------------------------------------------------------------------------


def test_pages_lead_to_each_other_to_the_index_and_to_their_notebook(tmp_path):
    titles = {"00_a": "A", "01_b": EVIL, "02_c&": "C", "03_missing": "D"}
    for stem in list(titles)[:3]:
        (tmp_path / f"{stem}.html").write_text(page_of(new_markdown_cell("# T"), title=stem))
    connect(tmp_path, titles)
    text = (tmp_path / "01_b.html").read_text()
    assert text.count('rel="prev" href="./00_a.html">← A</a>') == 2  # top and bottom
    assert text.count('rel="next" href="./02_c%26.html">C →</a>') == 2
    assert 'href="./index.html"' in text
    assert '<a download href="./01_b.ipynb">' in text
    first, last = ((tmp_path / name).read_text() for name in ("00_a.html", "02_c&.html"))
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in last
    assert "<script" not in first + text + last
    # A new page takes its place; nothing is written where nothing has changed.
    times = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    connect(tmp_path, titles)
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    (tmp_path / "03_missing.html").write_text(page_of(new_markdown_cell("# T")))
    connect(tmp_path, titles, ["03_missing"])
    assert 'rel="next"' in (tmp_path / "02_c&.html").read_text()
    assert 'rel="prev"' not in (tmp_path / "03_missing.html").read_text()
    assert times[tmp_path / "00_a.html"] == (tmp_path / "00_a.html").stat().st_mtime_ns


def test_contents_lead_to_the_headings():
    page = page_of(
        new_markdown_cell("# Title\n\n## Train & test\n\nx"), new_markdown_cell("## Two")
    )
    soup = BeautifulSoup(page, "html.parser")
    links = soup.find(class_="msgan-contents").find_all("a")
    assert [a.get_text() for a in links] == ["Train & test", "Two"]
    ids = {tag["id"] for tag in soup.find_all("h2")}
    assert {a["href"].removeprefix("#") for a in links} == ids
    assert "msgan-contents" not in page_of(new_markdown_cell("# Title")).split("</style>")[-1]


def test_no_script_of_an_output_runs():
    """A table with a style does not escape names, and a manifest may hold any."""
    page = page_of(new_markdown_cell("# T"))
    (policy,) = BeautifulSoup(page, "html.parser").find_all("meta", {"http-equiv": True})
    assert policy["content"].startswith("default-src 'none'; ")
    assert "script-src" not in policy["content"]


def test_a_caption_is_text_of_its_own_on_a_narrow_screen():
    page = page_of(new_code_cell("1", outputs=[figure(0, 9, alt=EVIL)]))
    soup = BeautifulSoup(page, "html.parser")
    assert soup.find("figcaption").get_text() == EVIL
    assert soup.find("figcaption")["aria-hidden"] == "true"  # the picture says it already
    assert re.search(r"max-width: 40rem\) \{ \.msgan-figure figcaption \{ display: block", page)


# --- what was found -----------------------------------------------------------------------------


def test_the_last_cell_says_what_was_found(tmp_path):
    folder = tmp_path / "smoke" / "09_study"
    folder.mkdir(parents=True)
    assert write_results(folder, {"time (s)": 1.23456}).sentences == ("time (s): 1.235", NO_CLAIM)
    table(methods=("cascade", "source")).to_csv(folder / "scores.csv", index=False)
    found = write_results(folder, {"SSIM": 0.5})
    assert read_results(folder) == {"SSIM": 0.5}
    assert [s.split(" (")[0] for s in found.sentences[:2]] == ["a→b", "c→b"]
    assert found.sentences[2] == NO_CLAIM
    other = tmp_path / "mine" / "09_study"
    other.mkdir(parents=True)
    assert write_results(other, {"a": 1}).sentences == ("a: 1", MAY_BE_SMOKE)


def test_notebooks_end_with_what_was_found():
    for path in sorted(Path(__file__).parents[1].glob("notebooks/[01]*.ipynb")):
        last = nbformat.read(path, as_version=4).cells[-1].source
        assert path.stem == "13_explore" or re.search(r"^write_results\(", last, re.M), path


# --- the index and figures ----------------------------------------------------------------------


def test_the_index_says_in_a_sentence_what_a_notebook_shows():
    cells = [{"cell_type": "markdown", "source": ["# T\n", "\n", "One `cas` of\n", "[x](y). Two."]}]
    assert about_of({"cells": cells}) == "One cas of x."
    assert about_of({}) == ""


def test_no_panel_is_shown_twice():
    images = {name: (lambda box: np.ones((8, 8), np.float32)[box.slices]) for name in "ab"}
    for zoom, count in ((0.5, 3), (0.96, 2)):
        made = plots.zooms(images, (8, 8), centre=(0.5, 0.5), zoom=zoom)
        assert sum(bool(ax.images) for ax in made.axes) == count
        assert ("whole slice" in made.get_label()) == (zoom == 0.5)
