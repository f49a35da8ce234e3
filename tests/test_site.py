"""The site shows every setting, command, notebook and picture, and faults in it are found."""

import re
import sys
import zlib
from pathlib import Path

import nbformat
import pytest
from pydantic import BaseModel, Field

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))

import build  # noqa: E402
import site_check  # noqa: E402
import site_pages  # noqa: E402


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# --- configuration -----------------------------------------------------------------------------


def fields() -> list[tuple[str, type, str]]:
    """Part, model and name of every setting."""
    from msgan.config import CascadeConfig

    found = site_pages.parts(CascadeConfig)
    return [(part, model, name) for part, model in found for name in model.model_fields]


def test_every_setting_has_a_sentence() -> None:
    assert len(fields()) > 100
    texts = {f"{m.__name__}.{name}": site_pages.meaning(m, name) for _, m, name in fields()}
    pattern = re.compile(r"[A-Z`].*\.", re.DOTALL)
    faults = [k for k, text in texts.items() if not pattern.fullmatch(text) or len(text) < 15]
    assert faults == []


def test_every_model_of_the_configuration_is_a_part() -> None:
    from msgan import config

    models = {model for _, model, _ in fields()}
    abstract = {config.Model, config.NetworkFamily, config.CascadeNetwork, config.PairNetwork}
    found = {m for m in vars(config).values() if isinstance(m, type) and issubclass(m, BaseModel)}
    assert found - {BaseModel} - abstract == models


def test_the_page_of_the_configuration_has_every_setting() -> None:
    page = site_pages.configuration_page()
    rows = re.findall(r"^\| `(\w+)` \|(.*)$", page, re.M)
    assert [name for name, _ in rows] == [name for _, _, name in fields()]
    cells = [re.split(r"(?<!\\)\|", rest.strip().removesuffix("|")) for _, rest in rows]
    assert all(len(cell) == 3 and all(map(str.strip, cell)) for cell in cells)
    (steps,) = [rest for name, rest in rows if name == "lr_steps"]
    assert steps.startswith(" whole number, 1 to 1e9 | **required**; `600`: smoke; `1500`: small;")


def test_meanings_are_of_the_docstring_or_the_description() -> None:
    class Base(BaseModel):
        """A.

        Attributes:
            a, b: Two
                lines.

        No attribute: this.
        """

        a: int = 1
        b: int = 2

    class Toy(Base):
        c: float = Field(1.0, gt=0, le=2, description="said here")
        d: str = ""

    meanings = {name: site_pages.meaning(Toy, name) for name in Toy.model_fields}
    assert meanings == {"a": "Two lines.", "b": "Two lines.", "c": "Said here.", "d": ""}
    assert site_pages.kind(Toy.model_json_schema()["properties"]["c"]) == (
        "number, above 0 and at most 2"
    )


# --- commands, modules -------------------------------------------------------------------------


def test_the_page_of_the_commands_has_every_option() -> None:
    import typer
    from test_cli import COMMANDS, leaves

    from msgan.cli import app

    program = typer.main.get_command(app)
    page = site_pages.commands_page(program)
    assert re.findall(r"^## msgan (.*)$", page, re.M) == list(COMMANDS)
    sections = dict(re.findall(r"^## (msgan .*)\n((?:(?!## ).*\n)*)", page, re.M))
    for name, command in leaves(program):
        for parameter in command.params:
            words = " ".join(parameter.help.split())[:30].replace("*", r"\*").replace("|", r"\|")
            assert words in sections[name], (name, parameter.name)


def test_public_names_are_those_with_a_docstring() -> None:
    import ast

    source = '"""M."""\nA = 1\n"""a."""\nB = 2\n_C = 3\n"""c."""\nclass D:\n    """d."""\n'
    source += (
        '    def e(self):\n        """e."""\n    def _f(self):\n        """f."""\ndef g(): ...\n'
    )
    names = list(site_pages.public_names("m", ast.parse(source)))
    assert names == ["m", "m.A", "m.D", "m.D.e"]


def test_modules_and_what_packages_offer_have_a_page() -> None:
    trees = site_pages.modules(ROOT / "msgan")
    pages = site_pages.module_pages(trees)
    assert set(pages) == {"index", *trees}
    found = site_pages.aliases(trees)
    assert found["msgan.translate_image"] == "msgan.translate.image.translate"
    assert "<msgan.metrics.ssim>" in pages["msgan.metrics"]
    listed = "".join(page for name, page in pages.items() if name != "msgan.metrics.seams")
    assert ":doc:`msgan.metrics.seams`" in listed


# --- documents, notebooks, pictures ------------------------------------------------------------


def test_every_document_and_notebook_is_on_the_first_page_and_in_its_menu() -> None:
    text = read("docs/index.md")
    linked = set(re.findall(r"^- \[[^]]+\]\(([^)#]+)\)", text, re.M))
    documents = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    notebooks = {f"../notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert linked >= documents | notebooks
    page = build.index(text)
    menus = re.findall(r"^:caption: (.*)\n\n((?:.+\n)+)```", page, re.M)
    assert [title for title, _ in menus] == ["Tutorials", "How to", "Explanation", "Reference"]
    entries = " ".join(listed for _, listed in menus).split()
    assert len(entries) == len(linked) + len(build.GENERATED)
    assert {"docs/results", "notebooks/00_start_here", "reference/api/index"} <= set(entries)


def test_every_picture_of_the_documents_is_in_the_gallery(tmp_path: Path) -> None:
    text = read("docs/gallery.md")
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert set(re.findall(r"\]\(images/([^)]+)\)", text)) == pictures
    small = build.with_thumbnails(text, tmp_path)
    assert {path.name for path in (tmp_path / "thumbnails").iterdir()} == pictures
    assert "images/explore.png) The explorer](#the-explorer)" not in small
    assert "thumbnails/explore.png) The explorer](#the-explorer)" in small


def test_results_of_another_notebook_are_not_shown() -> None:
    cell = nbformat.v4.new_code_cell
    plain = nbformat.v4.new_notebook(cells=[cell("a = 1")])
    given = cell("a = 2", metadata={"tags": ["injected-parameters"]})
    stream = nbformat.v4.new_output("stream", text="done")
    error = nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
    done = nbformat.v4.new_notebook(cells=[cell("a = 1", outputs=[stream]), given])
    failed = nbformat.v4.new_notebook(cells=[cell("a = 1", outputs=[error])])
    other = nbformat.v4.new_notebook(cells=[cell("a = 3")])
    assert [build.is_run_of(one, plain) for one in (done, failed, other)] == [True, False, False]


# --- checks of the built site ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "faults"),
    [
        ('<a href="b.html#there">x</a><img src="p%20q.png"><a href="https://a.org">y</a>', 0),
        ('<p id="a"><a href="#a">x</a></p><img src="data:image/png;base64,AA">', 0),
        ('<a href="b.html#gone">x</a>', 1),
        ('<a href="c.html">x</a><img src="q.png"><a href="#gone">y</a>', 3),
        ('<script src="https://a.org/b.js"></script><link href="//a.org/b.css">', 2),
        ("<style></style>", 0),
    ],
)
def test_links_that_lead_nowhere_are_found(tmp_path: Path, page: str, faults: int) -> None:
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "p q.png").write_bytes(b"")
    assert len(site_check.broken_links(tmp_path)) == faults


def test_fonts_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("a { background: url(p.png) }")
    assert site_check.broken_links(tmp_path) == []
    (tmp_path / "a.css").write_text("@import 'https://fonts.example.org/a.css';")
    assert site_check.broken_links(tmp_path) == ["a.css: loads from elsewhere"]


def test_names_that_are_not_in_the_inventory_are_found(tmp_path: Path) -> None:
    head = "# Sphinx inventory version 2\n# Project: a\n# Version: 1\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = "msgan.a py:module 0 a.html#$ -\nmsgan.b std:doc -1 b.html -\n"
    (tmp_path / "objects.inv").write_bytes(head.encode() + zlib.compress(lines.encode()))
    assert site_check.missing_names(tmp_path, ["msgan.a", "msgan.b"]) == ["msgan.b"]
