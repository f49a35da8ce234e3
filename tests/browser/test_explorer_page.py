"""The explorer in a real browser: pictures that fill it, zoom, move, are saved and painted on."""

import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from helpers import config_of, head, run_of, stored
from nbformat.v4 import new_code_cell, new_notebook
from notebook_page import NotebookPage, changed, pixels, until
from PIL import Image
from server import Lab

from msgan.translate import translate

pytestmark = pytest.mark.slow

SIZES = {1920: 1080, 1280: 900, 1024: 768}
"""Windows, width and height in CSS pixels."""

ANSWER = 20
"""Seconds a picture may take; a tenth of one on two quiet cores."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation by a small run that knows labels, and images of one's own."""
    folder = tmp_path_factory.mktemp("study")
    run = run_of(folder / "run", config_of(3, labels=(1,)))
    image = head((24, 28, 20))
    source = stored(folder / "mine" / "t1.nii", image)
    translate(run, source, folder / "mine" / "t2.nii", modality="t1", device="cpu")
    middle = np.zeros(image.shape, np.float32)
    middle[8:14, 10:16, 6:12] = 1
    for name, own in (("t1", image), ("flair", 2 * image), ("labels", middle), ("mask", image > 0)):
        stored(folder / "own" / f"sub-01_{name}.nii", np.asarray(own, np.float32))
    return folder


@pytest.fixture(scope="module")
def opened(browser: Any, lab: Lab, shots: Path, study: Path) -> Iterator[NotebookPage]:
    """The explorer on the study, in a page that all tests use."""
    source = f"from msgan.widgets.explorer import explore\nexplore({str(study)!r})"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = new_notebook(cells=[new_code_cell(source)], metadata={"kernelspec": kernel})
    nbformat.write(content, lab.folder / "look.ipynb")
    notebook = NotebookPage(browser.new_page(), lab, shots)
    notebook.open("look.ipynb")
    notebook.run_all(240)
    yield notebook
    notebook.page.close()


class Look:
    """What a person does with the explorer, and what is seen then."""

    def __init__(self, notebook: NotebookPage, width: int) -> None:
        self.notebook, self.page, self.width = notebook, notebook.page, width
        self.page.set_viewport_size({"width": width, "height": SIZES[width]})
        self.root = self.page.locator(".msgan-explorer")
        self.panes = self.page.locator(".msgan-canvas .pane").filter(visible=True)
        self.taken: list[float] = []

    def choose(self, *words: str) -> None:
        """Type words into the menu, and take the first entry that has them."""
        field = self.root.locator(".msgan-choice input")
        field.click()
        field.fill(" ".join(words))
        self.page.keyboard.press("Enter")
        self.notebook.idle()

    def button(self, name: str) -> Any:
        found = self.page.get_by_role("button", name=name, exact=True)
        return found.filter(visible=True).first

    def centre(self, pane: Any, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        pane.scroll_into_view_if_needed()
        box = pane.bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def differs(self, pane: Any, act: Callable[[], Any], what: str) -> None:
        """Fails unless the picture becomes another after ``act``; says how long it took."""
        before = pixels(pane)
        start = time.perf_counter()
        act()
        seen = lambda: changed(before, pixels(pane)) > 0.005  # noqa: E731
        until(seen, ANSWER, f"another picture after {what}", self.page)
        self.taken.append(time.perf_counter() - start)

    def width_of(self, selector: str) -> tuple[int, int]:
        """Width of what an element holds, and its own."""
        script = "e => [e.scrollWidth, e.clientWidth]"
        inside, own = self.page.locator(selector).first.evaluate(script)
        return inside, own


@pytest.fixture(params=SIZES)
def look(opened: NotebookPage, request: pytest.FixtureRequest) -> Look:
    return Look(opened, request.param)


def test_pictures_fill_the_window_and_answer(look: Look, shots: Path) -> None:
    look.choose("my", "translations")
    page, pane, image = look.page, look.panes.first, look.panes.locator("img").first
    until(lambda: look.panes.count() == 2, ANSWER, "two pictures", page)
    room = look.width_of(".msgan-explorer")[1]
    wide, high = (look.panes.last.bounding_box()[k] for k in ("x", "height"))
    filled = wide + look.panes.last.bounding_box()["width"] - pane.bounding_box()["x"]
    assert filled > 0.9 * room or high > 0.55 * SIZES[look.width]
    for selector in (".jp-WindowedPanel-outer", ".jp-OutputArea-output:has(.msgan-explorer)"):
        inside, own = look.width_of(selector)
        assert inside <= own, selector
    look.notebook.shoot(f"explorer_{look.width}")

    # The wheel moves the slice although nothing was clicked, and the page stays.
    page.mouse.move(*look.centre(pane))
    top = pane.bounding_box()["y"]
    title = look.page.locator(".msgan-canvas figcaption").first.text_content()
    look.differs(pane, lambda: page.mouse.wheel(0, -120), "the wheel")
    assert look.page.locator(".msgan-canvas figcaption").first.text_content() != title
    assert pane.bounding_box()["y"] == top

    # Ctrl and the wheel zoom all pictures, a drag moves them, a double click brings all back.
    whole = image.bounding_box()
    page.keyboard.down("Control")
    look.differs(pane, lambda: page.mouse.wheel(0, -400), "the wheel with Ctrl")
    page.keyboard.up("Control")
    zoomed = [i.bounding_box()["width"] for i in look.panes.locator("img:visible").all()]
    assert min(zoomed) > 2 * whole["width"]
    look.notebook.shoot(f"explorer_{look.width}_zoomed")
    place = image.bounding_box()["x"]
    page.mouse.move(*look.centre(pane, 0.5, 0.3))
    page.mouse.down(button="right")
    x, y = look.centre(pane, 0.4, 0.3)
    page.mouse.move(x, y, steps=3)
    page.mouse.up(button="right")
    assert image.bounding_box()["x"] < place - 5
    assert page.locator(".lm-Menu:visible").count() == 0  # not that of JupyterLab's cells
    page.mouse.dblclick(*look.centre(pane, 0.3, 0.3))
    until(lambda: image.bounding_box() == whole, ANSWER, "the whole picture", page)

    # What lies under the cursor is told without a click.
    told = page.locator(".msgan-canvas .told:visible").first
    page.mouse.move(*look.centre(pane, 0.6, 0.6))
    words = told.text_content()
    page.mouse.move(*look.centre(pane, 0.4, 0.6))
    until(lambda: told.text_content() != words, ANSWER, "another voxel to be told", page)
    assert "translated" in told.text_content()

    # Radiological: letters and picture change sides.
    sides = pane.locator(".side").first
    assert sides.text_content() == "L"
    look.differs(
        pane, look.button("show the left of the body on the right").click, "the other side"
    )
    assert sides.text_content() == "R"
    look.button("show the left of the body on the right").click()
    until(lambda: sides.text_content() == "L", ANSWER, "the first side", page)

    colours = page.locator(".widget-dropdown:visible", has_text="colours").locator("select")
    look.differs(look.panes.last, lambda: colours.select_option("inferno"), "the colour map")
    look.differs(look.panes.last, lambda: colours.select_option("grey"), "the first colours")

    look.button("three planes").click()
    until(lambda: look.panes.count() == 6, ANSWER, "three planes of two images", page)
    look.notebook.idle()
    look.notebook.shoot(f"explorer_{look.width}_planes")
    look.button("axial").click()
    until(lambda: look.panes.count() == 2, ANSWER, "one plane", page)
    assert look.notebook.faults == []
    times = shots / "explorer_answers.json"
    known = json.loads(times.read_text()) if times.exists() else {}
    median = statistics.median(look.taken)
    times.write_text(json.dumps({**known, str(look.width): round(median, 3)}))


def test_what_is_seen_is_saved_and_fills_the_screen(look: Look) -> None:
    look.choose("my", "translations")
    page = look.page
    with page.expect_download() as download:
        look.button("save what is seen as a picture").click()
    saved = Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("L")
    box = page.locator(".msgan-canvas .grid:visible").first.bounding_box()
    assert saved.width >= box["width"]
    picture = np.asarray(saved)
    assert (picture == 255).any()
    assert np.unique(picture).size > 50
    before = look.panes.first.bounding_box()["height"]
    look.button("pictures alone on the whole screen; Esc ends it").click()
    until(lambda: page.evaluate("!!document.fullscreenElement"), ANSWER, "full screen", page)
    page.wait_for_timeout(300)
    bottom = page.locator(".msgan-canvas .told:visible").first.bounding_box()
    assert bottom["y"] + bottom["height"] <= SIZES[look.width]
    assert look.panes.first.bounding_box()["height"] > before
    look.notebook.shoot(f"explorer_{look.width}_full")
    page.evaluate("document.exitFullscreen()")
    until(lambda: not page.evaluate("!!document.fullscreenElement"), ANSWER, "the page", page)
    assert look.notebook.faults == []


def test_the_menu_is_searched_by_typing(look: Look) -> None:
    field = look.root.locator(".msgan-choice input")
    field.click()
    rows = look.root.locator(".msgan-choice .entry:visible")
    assert rows.count() == 4  # translations, images twice, and the run without curves
    look.notebook.shoot(f"explorer_{look.width}_menu")
    field.fill("nothing is called so")
    assert rows.count() == 0
    field.fill("IMAG own")
    assert rows.count() == 1
    page = look.page
    page.keyboard.press("Enter")
    until(lambda: look.panes.count() == 3, ANSWER, "three planes", page)
    assert field.input_value() == "own"
    look.notebook.idle()
    # Labels and mask of one's own lie over the images, with a legend.
    legend = page.locator(".msgan-canvas .entry:visible").all_text_contents()
    assert legend == ["label 1", "mask"]
    assert look.button("flair").count() == 1
    look.differs(look.panes.first, look.button("mask").click, "the mask taken away")
    look.button("mask").click()
    look.notebook.idle()
    look.notebook.shoot(f"explorer_{look.width}_own")
    assert look.notebook.faults == []


def test_a_lesion_is_drawn_and_translated(look: Look) -> None:
    look.choose("my", "translations")
    page = look.page
    look.button("lesion").click()
    until(lambda: look.panes.count() >= 3, ANSWER, "three planes", page)
    look.notebook.idle()
    clear = page.locator(".msgan-lesion-clear")
    clear.click()
    page.get_by_role("button", name="paint", exact=True).click()
    pane = look.panes.first
    look.differs(pane, lambda: page.mouse.click(*look.centre(pane, 0.45, 0.4)), "a ball")
    page.locator(".msgan-lesion-translate").click()
    until(lambda: look.panes.count() >= 6, 60, "the translation", page)
    look.notebook.idle()
    look.notebook.shoot(f"explorer_{look.width}_lesion")
    assert look.notebook.faults == []
    page.get_by_role("button", name="look", exact=True).click()
    look.button("compare").click()
    until(lambda: look.panes.count() == 2, ANSWER, "the comparison", page)


def test_volumes_in_3d_are_turned_and_cut_together(opened: NotebookPage) -> None:
    look = Look(opened, 1280)
    look.choose("my", "translations")
    page = look.page
    canvases = page.locator(".msgan-solid canvas:visible")

    def solid(share: float) -> Any:
        """In 3D, the crosshair this far from left, back and bottom."""
        look.button("three planes").click()
        until(lambda: look.panes.count() == 6, ANSWER, "three planes of two images", page)
        for picture in look.panes.all()[:2]:  # axial, coronal
            page.mouse.click(*look.centre(picture, share, 1 - share))
            look.notebook.idle()
        look.button("3D").click()
        until(lambda: canvases.count() == 2, ANSWER, "source and translation", page)
        look.notebook.idle()
        return canvases.first

    def bright() -> float:
        return float((pixels(canvases.first) > 40).mean())

    source = solid(0.3)
    if not source.evaluate("c => !!c.getContext('webgl2')"):
        pytest.skip("this browser has no WebGL 2")
    until(lambda: bright() > 0.05, ANSWER, "a volume", page)

    def turned() -> None:
        page.mouse.move(*look.centre(source))
        page.mouse.down()
        page.mouse.move(*look.centre(source, 0.6, 0.6), steps=4)
        page.mouse.up()

    look.differs(canvases.last, turned, "the other one turned")
    left: dict[str, list[float]] = {}
    for share in (0.3, 0.7):
        if share > 0.5:
            solid(share)
        until(lambda: bright() > 0.05, ANSWER, "a volume", page)
        for plane in ("sagittal", "coronal", "axial"):
            look.differs(canvases.last, look.button(plane).click, f"the {plane} cut")
            look.notebook.idle()
            left.setdefault(plane, []).append(bright())
            look.notebook.shoot(f"explorer_3d_{plane}_{share:g}")
        look.button("compare").click()
        look.notebook.idle()
    for plane, (low, high) in left.items():  # what lies right, in front or above is cut away
        assert low < 0.8 * high, (plane, low, high)
    assert look.notebook.faults == []
    look.button("axial").click()
    until(lambda: look.panes.count() == 2, ANSWER, "one plane", page)
