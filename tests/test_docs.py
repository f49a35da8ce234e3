"""What the documents say of the code is true of the code."""

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from test_repository import unknown_names

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next of the same rank."""
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], flags=re.M)[0]


# --- departures --------------------------------------------------------------------------------


def described(source: str, module: str) -> list[tuple[str, str]]:
    """Dotted name and docstring of modules, classes, functions and constants."""

    def walk(node: ast.AST, name: str):
        yield name, ast.get_docstring(node) or ""
        for child, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield from walk(child, f"{name}.{child.name}")
            elif isinstance(child, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                first = child.targets[0] if isinstance(child, ast.Assign) else child.target
                if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                    yield f"{name}.{ast.unparse(first)}", after.value.value

    return list(walk(ast.parse(source), module))


def departures(source: str, module: str) -> set[str]:
    """Dotted names of what has a docstring with ``Differs:`` in it."""
    return {name for name, text in described(source, module) if "Differs:" in text}


def modules() -> dict[str, str]:
    """Name of each module of the package and its source."""
    found = {}
    for path in sorted((ROOT / "msgan").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def listed(text: str) -> list[str]:
    """The names that lead the rows of the table of departures."""
    return re.findall(r"^\| `([\w.]+)`", section(text, "Departures"), re.M)


def test_every_departure_is_listed_and_none_is_gone() -> None:
    stated = set().union(*(departures(source, name) for name, source in modules().items()))
    rows = listed(read("docs/deviations.md"))
    assert len(stated) > 5
    assert sorted(rows) == sorted(stated)


def test_every_differs_stands_in_a_docstring() -> None:
    """One in a comment would not be found by the test above."""
    for name, source in modules().items():
        texts = [text for _, text in described(source, name)]
        assert source.count("Differs:") == sum(text.count("Differs:") for text in texts), name


def test_departures_are_found() -> None:
    source = (
        '"""A."""\nclass B:\n    """Differs: x."""\n    def c(self):\n        """y. Differs: z."""'
    )
    source += '\n\nD = 1\n"""Differs: w."""\nE = 2\n# Differs: v.\n'
    assert departures(source, "m") == {"m.B", "m.B.c", "m.D"}
    assert listed("# D\n\n## Departures\n\n| `m.B` † | a |\n\n## Other\n\n| `m.C` | a |") == ["m.B"]


# --- names, links, layers ----------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_names_can_be_imported_and_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert unknown_names(text) == []
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text) + re.findall(r'src="([^":]+)"', text)
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_layers_are_those_of_the_contract() -> None:
    contract = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"][0]
    wanted = [layer.replace("(", "").replace(")", "") for layer in contract["layers"]]
    block = section(read("docs/architecture.md"), "Layers").split("```")[1]
    shown = [re.split(r"\s{2,}", line.strip())[0] for line in block.strip().splitlines()[1:]]
    assert shown == wanted


def test_the_map_of_the_tree_is_complete() -> None:
    tree = section(read("docs/architecture.md"), "The tree").split("```")[1]
    shown = set(re.findall(r"^  (\w+)(?:/|\.py)", tree, re.M))
    names = {p.stem for p in (ROOT / "msgan").iterdir() if not p.name.startswith("_")}
    assert shown == names


# --- measured figures --------------------------------------------------------------------------


SMALL = "<0.0001"
"""How a table shows what is above 0 and would be 0.0000."""


def wrong_cells(text: str, folder: Path) -> tuple[int, list[str]]:
    """Number of cells of measured tables, and those that differ from their JSON file."""
    count, wrong = 0, []
    pattern = r'From \[[^]]+\]\(([^)]+)\), "([^"\n]+)":\n\n((?:\|.*\n)+)'
    for link, key, table in re.findall(pattern, text):
        measured = json.loads((folder / link).read_text(encoding="utf-8"))[key]
        header, _, *rows = [[c.strip() for c in r.split("|")[1:-1]] for r in table.splitlines()]
        names = [name.strip("`") for name in header[1:]]
        for row, *cells in rows:
            for name, cell in zip(names, cells, strict=True):
                count += 1
                digits = len(cell.partition(".")[2])
                shown = f"{round(measured[row][name], digits) + 0.0:.{digits}f}"  # no minus zero
                if shown == "0.0000" and measured[row][name] > 0:
                    shown = SMALL
                if shown != cell:
                    wrong.append(f"{row}, {name}: {cell}, measured {measured[row][name]}")
    return count, wrong


def test_results_are_those_measured() -> None:
    text = read("docs/results.md")
    count, wrong = wrong_cells(text, ROOT / "docs")
    assert wrong == []
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    numbers = sum(len(re.findall(r"(?<=\| )[-<]?\d+(?:\.\d+)?(?= \|)", row)) for row in rows)
    assert count == numbers > 0  # no table without a source


def test_wrong_results_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"k": {"x": {"s": 1.26, "t": 2}}}')
    text = 'From [a](a.json), "k":\n\n| n | `s` | `t` |\n| --- | --- | --- |\n| x | 1.3 | 2.1 |\n'
    assert wrong_cells(text, tmp_path) == (2, ["x, t: 2.1, measured 2"])


def numeric_cells(text: str) -> list[re.Match[str]]:
    """Cells of tables that are one number, the names of rows left out."""
    return list(re.finditer(r"(?<= \| )[-<]?\d+(?:\.\d+)?(?= \|)", text))


def test_a_changed_digit_is_found_in_any_table() -> None:
    """Every one at once: as many cells must be wrong as there are."""
    text = read("docs/results.md")
    changed = text
    for cell in reversed(numeric_cells(text)):
        digit = str((int(cell[0][-1]) + 5) % 10)
        changed = changed[: cell.end() - 1] + digit + changed[cell.end() :]
    count, wrong = wrong_cells(changed, ROOT / "docs")
    assert len(wrong) == count == len(numeric_cells(text)) > 300


def measured_numbers(part: str) -> set[float]:
    """Numbers of the files that a section links: those of each subject would match anything."""
    import pandas as pd

    found: list[float] = []

    def walk(value: object) -> None:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                walk(inner)
        else:
            found.extend(map(float, re.findall(r"-?\d*\.?\d+", str(value))))

    for link in set(re.findall(r"\]\((\.\./[^)#]+)\)", part)):
        path = ROOT / "docs" / link
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            if file.suffix == ".json":
                walk(json.loads(file.read_text(encoding="utf-8")))
            elif file.name == "distances.csv":
                walk(pd.read_csv(file).to_dict("list"))
            elif file.name == "scores.csv":
                for _, lines in pd.read_csv(file).groupby(["task", "method"]):
                    for name in [c for c in lines if f"{c}_real" in lines]:
                        found.append(lines[name].corr(lines[f"{name}_real"]))
                        found.append((lines[name] - lines[f"{name}_real"]).abs().mean())
    return set(found)


def unmeasured(part: str) -> tuple[int, list[str]]:
    """How many decimals the words of a section hold, and those no file of it and no table has.

    Lengths in mm are of the data, and numbers with one decimal are too common to be traced.
    """
    words = re.sub(r"\]\([^)]*\)|^\|.*$", "", part, flags=re.M)
    decimals = re.findall(r"(?<![\w.-])-?\d*\.\d{2,}(?![\d.e]| mm| x )", words)
    numbers = measured_numbers(part)
    numbers |= {float(cell[0].lstrip("<")) for cell in numeric_cells(read("docs/results.md"))}
    missing = []
    for text in decimals:
        digits = len(text.partition(".")[2])
        if not any(abs(round(n, digits) - float(text)) < 1e-9 for n in numbers):
            missing.append(text)
    return len(decimals), missing


def test_numbers_in_the_words_of_the_results_are_measured() -> None:
    parts = re.split(r"^## ", read("docs/results.md"), flags=re.M)[1:]
    found = {part.splitlines()[0]: unmeasured(part) for part in parts}
    assert {title: missing for title, (_, missing) in found.items() if missing} == {}
    assert sum(count for count, _ in found.values()) > 10
    (low_dose,) = [part for part in parts if part.startswith("Low dose")]
    assert unmeasured(low_dose.replace(".0156", ".0157"))[1] == [".0157"]


def test_no_cell_of_the_results_escapes_the_comparison() -> None:
    """A unit, a bold number or a spread in a cell would not be read as a number."""
    text = read("docs/results.md")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    sourced = re.findall(r'^From \[[^]]+\]\([^)]+\), "[^"\n]+":\n\n\|', text, re.M)
    assert len(tables) == len(sourced) > 20
    for table in tables:
        for line in table.splitlines()[2:]:
            cells = [cell.strip() for cell in line.split("|")[2:-1]]
            assert all(re.fullmatch(r"[-<]?\d+(\.\d+)?", cell) for cell in cells), line


def test_pictures_of_the_documents_can_be_seen() -> None:
    from PIL import Image

    shown = {
        path.parent / link: words
        for path in DOCUMENTS
        for words, link in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    assert shown
    for path, words in shown.items():
        assert words.strip(), f"{path}: no words for those who cannot see it"
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 100


def test_cards_say_what_their_tables_say() -> None:
    """From a subject's scores to the card, and from there (above) to the document."""
    from msgan.report import archive

    cards = sorted((ROOT / "reports").glob("small/*/card.json"))
    assert len(cards) >= 5
    about = {"notebook", "title", "data", "preset", "finished", "seconds", "peak MiB", "machine"}
    about |= {"versions", "git", "figures", "convention"}
    for path in cards:
        card = json.loads(path.read_text(encoding="utf-8"))
        made = archive.tables_of(path.parent)
        assert {key: card.get(key) for key in made} == made
        tables = [k for k in made if k != "convention"]
        assert [k for k in card if k not in about] == tables


# --- README ------------------------------------------------------------------------------------


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands() -> list[list[str]]:
    """The calls of the command line in README, as arguments."""
    lines = [line for block in blocks(read("README.md")) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("msgan ")]


def test_commands_of_the_readme_exist_with_their_options() -> None:
    import typer

    from msgan.cli import app

    program = typer.main.get_command(app)
    shown = commands()
    assert len(shown) >= 6
    for arguments in shown:
        context, command, rest = None, program, arguments
        while True:
            context = command.make_context(command.name, list(rest), parent=context)
            if not hasattr(command, "resolve_command"):
                break
            _, command, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
        assert context.params


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    """As printed, with fewer and smaller steps."""
    from msgan import presets
    from msgan.phantoms import brain

    few = {"steps": 2, "lr_steps": 2}
    monkeypatch.setitem(presets.TABLE, ("smoke", "any"), presets.SMOKE | few)
    monkeypatch.setattr(brain, "WORKING", 16)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(read("README.md"), "python")
    assert "size=64" in example
    exec(compile(example.replace("size=64", "size=32"), "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("translated/patient000.nii.gz ")
    assert (tmp_path / "translated" / "patient000.nii.gz").is_file()


# --- troubleshooting ---------------------------------------------------------------------------


def messages(source: str) -> set[str]:
    """Texts of a module, with ``...`` for what is filled in."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "..." for v in node.values]
            found.add("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def quoted(text: str) -> list[str]:
    """Errors quoted in the first column of a table, without what is said before them."""
    cells = re.findall(r"^\| [^|`]*`([^`|]+)` \|", text, re.M)
    return [cell for cell in cells if " " in cell and not cell.startswith("msgan ")]


def test_quoted_errors_are_those_of_the_program() -> None:
    asked = quoted(read("docs/troubleshooting.md"))
    known = set().union(*(messages(source) for source in modules().values()))
    known.add("Error displaying widget")  # of JupyterLab
    assert len(asked) > 8
    assert [text for text in asked if not any(text in one for one in known)] == []


def test_an_error_that_no_one_raises_is_found() -> None:
    assert quoted("| `no such ...: thing` | x |\n| dark: `a b` | y |\n| `one` | z |") == [
        "no such ...: thing",
        "a b",
    ]
    assert "no such ...: thing" in messages('raise E(f"no such {name}: " "thing")')
