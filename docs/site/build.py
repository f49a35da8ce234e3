"""Builds the documentation site: ``python docs/site/build.py [FOLDER]``; nothing is downloaded.

A tree like that of the repository is made of its documents, its notebooks and pages of the code, so
that links lead where they lead in the repository. Sphinx turns it into pages, and a warning is an
error; then links, names and fields are checked.
"""

from __future__ import annotations

import re
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import site_check  # noqa: E402
import site_pages  # noqa: E402

DOCUMENTS = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
)
PRESETS = {
    "published": "",
    "small": "",
    "smoke": ", which only shows that everything runs: its numbers mean nothing",
}
"""Whose executed notebooks are shown, the first that are there, and what is said of them."""

GENERATED = {
    "Command line": "../reference/commands.md",
    "Configuration": "../reference/configuration.md",
    "API": "../reference/api/index.rst",
}
"""Entries of the first page that lead to pages made from the code."""

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")
FILES = "files"
"""Folder of what is offered as it is; Sphinx makes no pages of it."""

THUMBNAIL = 320
"""Width of a small picture of the gallery, pixels."""


def main(folder: Path) -> int:
    """Build the site into ``folder``; the number of faults."""
    started = time.perf_counter()
    source, out, kept = folder / "source", folder / "html", folder / "doctrees"
    stage(source)
    if _older(kept / "environment.pickle", HERE):
        shutil.rmtree(kept, ignore_errors=True)
    from sphinx.cmd.build import build_main

    arguments = ["-b", "html", "-W", "--keep-going", "-q", "-c", str(HERE)]
    arguments += ["-d", str(kept), str(source), str(out)]
    if build_main(arguments):
        return 1
    trees = site_pages.modules(ROOT / "msgan")
    names = [
        name for module, tree in trees.items() for name in site_pages.public_names(module, tree)
    ]
    faults = site_check.broken_links(out)
    faults += [f"{name}: not in the reference" for name in site_check.missing_names(out, names)]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    pages = sum(1 for _ in out.rglob("*.html"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - started
    print(
        f"{out / 'index.html'}: {pages} pages, {len(names)} names, {seconds:.0f} s, {peak:.0f} MiB"
    )
    return len(faults)


def _older(file: Path, folder: Path) -> bool:
    """Whether a file is older than one of those in a folder; one that is missing is not."""
    newest = max(path.stat().st_mtime for path in folder.rglob("*.*") if path.suffix != ".pyc")
    return file.is_file() and file.stat().st_mtime < newest


# --- sources -----------------------------------------------------------------------------------


def stage(folder: Path) -> None:
    """Write what Sphinx reads; files that are as they were keep their time, for the next build."""
    made = {f"{name}.rst": text for name, text in _reference().items()}
    made["reference/configuration.md"] = site_pages.configuration_page()
    made["reference/commands.md"] = site_pages.commands_page(_program())
    for name in DOCUMENTS:
        made[name] = (ROOT / name).read_text(encoding="utf-8")
    made["docs/gallery.md"] = with_thumbnails(made["docs/gallery.md"], folder / "docs")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made["README.md"] = f"---\norphan: true\n---\n\n{readme}".replace("docs/index.md", "index.md")
    made["index.md"] = index(made.pop("docs/index.md"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.name}"] = notebook(path)
        _copy(path, folder / FILES / path.name)
    for name in list(made):
        if name.endswith(".md"):
            made[name] = with_files(name, made[name], made, folder)
    for name, text in made.items():
        _write(folder / name, text)
    for old in [path for suffix in ("md", "rst", "ipynb") for path in folder.rglob(f"*.{suffix}")]:
        name = old.relative_to(folder).as_posix()
        if name not in made and not name.startswith(f"{FILES}/"):
            old.unlink()


def _reference() -> dict[str, str]:
    trees = site_pages.modules(ROOT / "msgan")
    return {f"reference/api/{k}": text for k, text in site_pages.module_pages(trees).items()}


def _program() -> Any:
    import typer

    from msgan.cli import app

    return typer.main.get_command(app)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        shutil.copy2(path, target)


def with_files(name: str, text: str, made: dict[str, str], folder: Path) -> str:
    """A document whose links to other files of the repository are downloads.

    A linked folder becomes a page that lists its files.
    """

    def linked(link: re.Match[str]) -> str:
        target = (ROOT / name).parent.joinpath(link[1]).resolve()
        if not target.is_relative_to(ROOT) or (key := target.relative_to(ROOT).as_posix()) in made:
            return link[0]
        if target.is_file():
            _copy(target, folder / key)
        elif target.is_dir():
            files = sorted(path for path in target.iterdir() if path.is_file())
            page = f"---\norphan: true\n---\n\n# {key}\n\n"
            page += "".join(f"- [{path.name}]({path.name})\n" for path in files)
            _write(folder / key / "index.md", page)
            made.setdefault(f"{key}/index.md", page)
            for path in files:
                _copy(path, folder / key / path.name)
            return f"]({link[1].rstrip('/')}/index.md{link[2] or ''})"
        return link[0]

    return LINK.sub(linked, text)


def index(text: str) -> str:
    """The first page, with a menu of what each of its sections links."""
    for title, link in GENERATED.items():
        text = text.replace(f"\n- {title}: ", f"\n- [{title}]({link}): ")
    sections = re.split(r"^## ", text, flags=re.M)
    menus = ""
    for section in sections[1:]:
        title = section.splitlines()[0]
        entries = re.findall(r"^- .*?\]\(([^)#]+)\)", section, re.M)
        listed = "\n".join(_from_top(link).rpartition(".")[0] for link in entries)
        menus += f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n\n"
    text = LINK.sub(lambda link: f"]({_from_top(link[1])}{link[2] or ''})", text)
    return f"{text}\n{menus}"


def _from_top(link: str) -> str:
    """A link of a document of ``docs`` as one of the folder above."""
    return link.removeprefix("../") if link.startswith("../") else f"docs/{link}"


def with_thumbnails(text: str, folder: Path) -> str:
    """The gallery, with a small picture of each figure at its top that leads to it."""
    from PIL import Image

    small = ""
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title = section.splitlines()[0]
        found = re.search(r"!\[([^]]*)\]\(([^)]+)\)", section)
        if found is None:
            continue
        path = Path("thumbnails") / Path(found[2]).name
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(ROOT / "docs" / found[2]) as image:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            image.save(folder / path)
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        small += f"- [![{found[1]}]({path}) {title}](#{anchor})\n"
    head, mark, rest = text.partition("\n## ")
    return f"{head}\n{{.thumbnails}}\n{small}\n{mark.lstrip()}{rest}"


def notebook(path: Path) -> str:
    """A notebook, executed where that has been done, with a line that offers it."""
    import nbformat

    plain = nbformat.read(path, as_version=4)
    shown, words = plain, "Shown without its results: `./run_all.sh smoke` makes them on phantoms."
    for preset, note in PRESETS.items():
        done = ROOT / "reports" / "runs" / preset / path.name
        if done.is_file() and is_run_of(executed := nbformat.read(done, as_version=4), plain):
            shown, words = executed, f"Its results are those of the preset `{preset}`{note}."
            break
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    shown.metadata.pop("widgets", None)
    offer = f"{{download}}`Download this notebook </{FILES}/{path.name}>`. {words}"
    shown.cells.insert(1, nbformat.v4.new_markdown_cell(offer, id="offer"))
    return nbformat.writes(shown) + "\n"


def is_run_of(executed: Any, plain: Any) -> bool:
    """Whether an executed notebook is that of today, and came to its end."""

    def code(notebook: Any) -> list[str]:
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        return [c.source for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]

    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    return code(executed) == code(plain) and all(o.output_type != "error" for o in outputs)


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "reports" / "site"
    sys.exit(min(main(given.resolve()), 1))
