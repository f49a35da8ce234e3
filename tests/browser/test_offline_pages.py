"""Pages to send, in a browser: a viewer that moves, no script of others, nothing wider than it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_report_document import EVIL, study, trained
from test_report_page import translated

from msgan.report.document import write_report

WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of translations in 2D and 3D, a study and a run, some with hostile names."""
    folder = tmp_path_factory.mktemp("runs") / "<img src=x onerror=alert(1)>"
    translated(folder, "a", 3)
    translated(folder, "<b>'x", 2)
    translated(folder, "z" * 80, 3, real=False, scored=False)
    study(folder, title=EVIL * 5 + "<script>alert(1)</script>")
    trained(folder / "t2")
    return write_report(folder, folder / "report").page


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    page = browser.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: (page.faults.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: page.faults.append(r.url) if r.url.startswith("http") else None)
    page.goto(report.as_uri())
    yield page
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_its_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    wide = "[document.documentElement.scrollWidth, innerWidth]"
    assert page.evaluate(f"({wide})[0] <= ({wide})[1]")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(f"({wide})[0] <= ({wide})[1]")
    assert page.faults == []


def test_slices_move_by_keys_sliders_and_clicks(page: Any) -> None:
    fold = page.locator("details.slices", has=page.locator(".plane:nth-child(3)")).first
    fold.locator("> summary").click()
    viewer = fold.locator(".viewer[data-ready=yes]")
    viewer.wait_for(timeout=20_000)
    viewer.scroll_into_view_if_needed()
    slider, output = (viewer.locator(f".plane {name}").first for name in ("input", "output"))
    drawn = "c => c.toDataURL()"
    canvas = viewer.locator("canvas").first
    before, place = canvas.evaluate(drawn), output.text_content()
    assert place == "7 of 12"
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert output.text_content() == "8 of 12"
    after = canvas.evaluate(drawn)
    assert after != before
    viewer.get_by_label("real", exact=True).check()
    assert canvas.evaluate(drawn) != after
    viewer.get_by_label("difference").check()
    red = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    assert len({tuple(p) for p in zip(*[iter(canvas.evaluate(red))] * 4, strict=True)}) > 10
    box = viewer.locator("canvas").nth(1).bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + 2)  # coronal, at its top: the last axial slice
    assert output.text_content() == "12 of 12"
    assert "At the cross, about: source" in viewer.locator(".value").text_content()
    assert page.faults == []


def test_a_link_of_the_contents_opens_its_part(page: Any) -> None:
    part = page.locator("#cascades > details")
    assert part.get_attribute("open") is None
    page.locator("nav a[href='#cascades']").click()
    page.wait_for_function("document.querySelector('#cascades > details').open")
