"""Examples in docstrings are true."""

import doctest
from importlib import import_module

import pytest
from test_repository import ROOT

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "msgan").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_the_public_face_has_examples():
    assert len(MODULES) >= 10


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_are_true(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
