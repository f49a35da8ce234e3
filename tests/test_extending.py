"""The examples of docs/extending.md run, in order, in an empty folder."""

import re
from pathlib import Path

import pytest

import msgan as ms
from msgan import config
from msgan.networks import families

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    names: dict = {"__name__": "example"}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 6
    for module in (config, families):  # the last example adds to both: taken out afterwards
        monkeypatch.setitem(module.FAMILIES, "plain", None)
    for k, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, example {k}", "exec"), names)
    made, real, source = (
        ms.open_volume(tmp_path / name).whole()
        for name in ("bob_as_t2.nii.gz", "bob_t2.nii.gz", "bob_t1.nii.gz")
    )
    assert abs(made - real).mean() < abs(source - real).mean() / 2
    (line,) = names["table"].to_dict("records")
    assert (line["method"], line["subject"]) == ("inverted", "bob")
    assert line["worst"] == pytest.approx(abs(made - real).max())
    drawn = ms.open_volume(tmp_path / "bob_plain.nii.gz").whole()
    assert drawn.shape == real.shape
    assert drawn.std() > 0
