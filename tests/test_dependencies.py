"""The list of dependencies and their licences is that of the packages."""

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def script():
    path = ROOT / "docs" / "site" / "dependencies.py"
    spec = importlib.util.spec_from_file_location("dependencies", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stated(text: str) -> dict[str, str]:
    """Licence of each package of both tables; a package that is there twice is an error."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (.*) \|$", text, re.M):
        cells = row.split(" | ")
        names = cells[:1] if len(cells) == 3 else cells[1].split(", ")
        if cells[0] in ("package", "licence", "---"):
            continue
        for name in names:
            assert name not in found, name
            found[name] = cells[-1] if len(cells) == 3 else cells[0]
    return found


def test_every_package_is_listed_with_its_licence():
    tool = script()
    found = stated(tool.DOCUMENT.read_text(encoding="utf-8"))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    own = tool.direct((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found.keys() == {*tool.pinned(pins), *own}
    looked_at = 0
    for name, licence in found.items():
        pin = re.search(rf"^{name.replace('-', '[-_.]+')}==(.+)$", pins, re.M | re.I)
        try:
            same = pin is not None and version(name) == pin[1].strip()
        except PackageNotFoundError:
            continue
        if same and licence != tool.ABSENT:
            looked_at += 1
            assert tool.licence(name) == licence, name
    assert looked_at > 100


def test_no_licence_binds_who_uses_the_package():
    found = stated((ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8"))
    alone = [n for n, text in found.items() if re.fullmatch(r"[^;,]*\bA?GPL[^;,]*", text)]
    assert alone == []
    assert "not stated" not in found.values()


def test_the_licence_of_the_package_is_the_one_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0"
    assert "Apache License 2.0" in text
