"""One contract over every method: what a translation promises, whatever makes it.

A method that is added gets a row in ``CASES`` and no test of its own for any of this.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import changed, contents, head, stored, tiny

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_volume, write_volume
from msgan.methods.baselines import HistogramMatched, SlopeTransfer, Source
from msgan.methods.cyclegan import CycleGan
from msgan.methods.ea_gan import DEaGan, GEaGan
from msgan.methods.mdaunet import MDAUNet
from msgan.methods.mean_image import MeanImage
from msgan.methods.med_synth import MedSynth
from msgan.methods.non_local_means import NonLocalMeans
from msgan.methods.paired import PairedRegression
from msgan.methods.patch_gan import PatchGan
from msgan.methods.ptnet import PTNet3D
from msgan.methods.replica import Replica
from msgan.methods.resvit import ResViT
from msgan.methods.small_gan import SmallGan
from msgan.methods.trained import Cascade
from msgan.runs.run import Run
from msgan.translate import Translation
from msgan.translate.plan import resident
from msgan.translate.provenance import Provenance, beside
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Path(__file__).resolve().parent
SHAPE = {2: (58, 45), 3: (27, 22, 19)}
"""No side is a multiple of anything that tiles are made of."""

OURS = tiny(steps=6, lr_steps=4, learning_rate=1e-2)
GUIDED = changed(OURS, guidance={"match": "histogram", "student": True, "detail": True})
SOLID = tiny(3, preparation={"scales": 1}, steps=6, lr_steps=4, learning_rate=1e-2)
PUBLISHED = changed(
    OURS,
    network=OURS.network.model_dump() | {"family": "megan"},
    training=OURS.training.model_dump() | {"patch": 32, "steps": 2},
)
CYCLE = {"device": "cpu", "rate": 1e-2, "identity": 0.5}
"""In six steps at its own rate it would draw nothing."""

SLICES = ResViT.configured(SOLID, "t1", size="smoke").updated(training={"patch": 16})


@dataclass(frozen=True)
class Case:
    """A method and what is special about it.

    Attributes:
        method: The class.
        tile: A side with which the image is several tiles; None: nothing is kept before the
            result is written, so there is nothing to go on with.
        config: That it is fitted with.
        options: More that its ``fit`` takes.
        network: Whether it has networks, and so plans its memory.
        any_axes: It learns nothing that depends on the number of axes.
    """

    method: Any
    tile: int | None = None
    config: CascadeConfig = OURS
    options: dict[str, Any] = field(default_factory=lambda: {"device": "cpu"})
    network: bool = True
    any_axes: bool = False


def baseline(method: Any, tile: int | None = None, **options: Any) -> Case:
    any_axes = method in (NonLocalMeans, Source, HistogramMatched, SlopeTransfer)
    return Case(method, tile, options=options, network=False, any_axes=any_axes)


CASES = {
    "cascade": Case(Cascade, 16),
    "cascade 3D": Case(Cascade, 14, SOLID),
    "cascade guided": Case(Cascade, 16, GUIDED),
    "cascade published": Case(Cascade, 20, PUBLISHED),
    "patch GAN": Case(PatchGan, 16),
    "patch GAN published": Case(PatchGan, 27, PUBLISHED),
    "small GAN": Case(SmallGan, 4),
    "paired regression": Case(PairedRegression, 16),
    "MedSynth": Case(MedSynth, 16),
    "MedSynth published": Case(MedSynth, 27, PUBLISHED),
    "CycleGAN": Case(CycleGan, 16, options=CYCLE),
    "CycleGAN 3D": Case(CycleGan, 14, SOLID, CYCLE),
    "3D-mDAUNet": Case(MDAUNet, 18, options={"device": "cpu", "size": "smoke"}),
    "3D-mDAUNet 3D": Case(MDAUNet, 6, SOLID, {"device": "cpu", "size": "smoke"}),
    "gEa-GAN": Case(GEaGan, 18, options={"device": "cpu", "size": "smoke"}),
    "dEa-GAN 3D": Case(DEaGan, 6, SOLID, {"device": "cpu", "size": "smoke"}),
    "ResViT": Case(ResViT, 12, options={"device": "cpu", "size": "smoke"}),
    "ResViT 3D": Case(ResViT, 6, SLICES),
    "PTNet3D": Case(PTNet3D, 18, options={"device": "cpu", "size": "smoke"}),
    "PTNet3D 3D": Case(PTNet3D, 6, SOLID, {"device": "cpu", "size": "smoke"}),
    "REPLICA": baseline(Replica, 16, trees=3, samples=300, jobs=1),
    "non-local means": baseline(NonLocalMeans, 16),
    "source": baseline(Source),
    "histogram-matched": baseline(HistogramMatched),
    "inverted matched": baseline(HistogramMatched, inverted=True),
    "slope transfer": baseline(SlopeTransfer),
    "mean image": baseline(MeanImage),
}
OVERLAPPING = "patch GAN published"

ALONE = ("patch GAN published", "small GAN", "MedSynth", "MedSynth published")
CURVES = ("source", "histogram-matched", "inverted matched")
PLAIN = ("REPLICA", "non-local means", *CURVES, "mean image")
REFUSAL = "test_what_cannot_be_made_is_refused_before_any_work"
LACKING = {
    "test_the_result_lies_on_the_source_s_grid_in_the_target_s_unit": ("patch GAN", *ALONE, *PLAIN),
    "test_tiles_are_chosen_or_given": (*CURVES, "mean image"),
    "test_progress_is_told_of_every_tile": ("patch GAN", "paired regression", *ALONE, *PLAIN),
    "test_what_is_kept_is_what_was_made": ("patch GAN", "paired regression", *ALONE, *PLAIN),
    "test_the_memory_that_is_allowed_is_kept_to": ("patch GAN", *ALONE),
    f"{REFUSAL}[onto itself]": (*ALONE, "REPLICA", "non-local means", "mean image"),
    f"{REFUSAL}[onto the subject's other image]": (*ALONE, *PLAIN),
    f"{REFUSAL}[other axes]": ALONE,
    "test_an_interrupted_translation_goes_on": ("patch GAN", "paired regression", *ALONE, *PLAIN),
    "test_a_killed_translation_goes_on": (OVERLAPPING,),
}
"""What methods do not fulfil yet, by test."""


def brains(folder: Path, dims: int) -> Cohort:
    """Pairs of which T2 is dark where T1 is bright and has a unit; the last is for testing."""
    subjects = []
    for k, split in enumerate(("train", "train", "val", "test")):
        t1 = head(SHAPE[dims], k)
        t2 = np.where(t1 > 0, 120 - t1, 0).astype(np.float32)
        grid = Grid(t1.shape, np.diag([1.0, -1.0, *(1.0,) * (dims - 1)]))
        for name, image, unit in (("t1", t1, "a.u."), ("t2", t2, "HU")):
            path = folder / f"{k}_{name}.nii"
            write_volume(path, grid, lambda box, image=image: image[box.slices], unit=unit)
        images = {name: folder / f"{k}_{name}.nii" for name in ("t1", "t2")}
        subjects.append(Subject(f"s{k}", images, split=split))
    return Cohort(tuple(subjects))


@dataclass
class Fitted:
    """A fitted method, the subject it is tried on, and what an undisturbed translation gives."""

    case: Case
    method: Any
    subject: Subject
    folder: Path
    bytes: bytes = b""
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def translate(self, out: Path, **options: Any) -> Any:
        return self.of(self.subject, out, **{"modality": "t1"} | options)

    def of(self, source: Any, out: Any, **options: Any) -> Translation:
        given = {"tile": self.case.tile} | options
        return self.method.translate(source, out, **given)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Cohort]:
    return {dims: brains(tmp_path_factory.mktemp(f"brains{dims}"), dims) for dims in SHAPE}


@pytest.fixture(scope="module", params=CASES)
def fit(request: pytest.FixtureRequest, cohorts: Any, tmp_path_factory: Any) -> Fitted:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("fitted")
    cohort = cohorts[case.config.dims]
    method = case.method.fit(cohort, "t1", "t2", case.config, folder / "run", **case.options)
    made = Fitted(case, method, cohort["s3"], folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSGAN_SCRATCH", str(folder / "scratch"))
        made.translate(folder / "whole.nii")
    made.bytes = (folder / "whole.nii").read_bytes()
    return made


def left_in_scratch(here: Path) -> list[str]:
    folder = here / ".scratch"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


class Stop(Exception):
    """What ends a translation before its time."""


def stopping(number: int, told: list[Any]) -> Callable[[str, int, int], None]:
    """A ``progress`` that raises when it is told of something for the ``number``-th time."""

    def progress(*event: Any) -> None:
        told.append(event)
        if len(told) > number:
            raise Stop

    return progress


# --- the result --------------------------------------------------------------------------------


def test_the_result_lies_on_the_source_s_grid_in_the_target_s_unit(fit, here):
    done = fit.translate(here / "new" / "t2.nii")
    with open_volume(fit.subject.images["t1"]) as source, open_volume(done.path) as result:
        assert result.grid == source.grid
        assert result.unit == "HU"
        assert result.generated
        values = result.whole()
    assert values.min() >= -1e-3  # by rounding
    assert values.max() <= 130  # of a range that the T2 images have
    assert values.std() > 1
    assert done.path == here / "new" / "t2.nii"
    assert done.seconds > 0
    assert sorted(p.name for p in (here / "new").iterdir()) == ["t2.json", "t2.nii"]
    assert left_in_scratch(here) == []


def test_two_calls_give_the_same_bytes_also_in_a_thread(fit, here):
    fit.translate(here / "again.nii")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit.translate, here / "thread.nii").result()
    assert (here / "again.nii").read_bytes() == fit.bytes
    assert (here / "thread.nii").read_bytes() == fit.bytes


def test_a_file_is_as_good_as_a_subject(fit, here):
    fit.of(fit.subject.images["t1"], here / "a.nii", modality="t1")
    fit.of(str(fit.subject.images["t1"]), str(here / "b.nii"), modality="t1")
    assert (here / "a.nii").read_bytes() == (here / "b.nii").read_bytes() == fit.bytes


def test_the_input_is_left_alone(fit, here):
    folder = fit.subject.images["t1"].parent
    before = contents(folder)
    fit.translate(here / "out.nii")
    assert contents(folder) == before


def test_tiles_are_chosen_or_given(fit, here):
    fit.translate(here / "chosen.nii", tile=None)
    with open_volume(here / "chosen.nii") as chosen, open_volume(fit.folder / "whole.nii") as given:
        assert np.abs(chosen.whole() - given.whole()).max() < (30 if fit.case.network else 1e-2)
    with pytest.raises(InputError, match="tile -2"):
        fit.translate(here / "out.nii", tile=-2)
    assert [p.name for p in here.glob("*.nii")] == ["chosen.nii"]


def test_progress_is_told_of_every_tile(fit, here):
    told: list[tuple[str, int, int]] = []
    fit.translate(here / "out.nii", progress=lambda *event: told.append(event))
    assert (here / "out.nii").read_bytes() == fit.bytes
    assert bool(told) == bool(fit.case.tile)
    for stage in {name for name, _, _ in told}:
        done = [number for name, number, _ in told if name == stage]
        (count,) = {count for name, _, count in told if name == stage}
        assert done[-1] == count
        assert set(np.diff(done)) <= {0, 1}
    if fit.case.tile:
        assert max(count for _, _, count in told) > 2


def test_what_is_kept_is_what_was_made(fit, here):
    fit.translate(here / "out.nii", keep=here / "kept")
    assert (here / "out.nii").read_bytes() == fit.bytes
    kept = {p.name for p in (here / "kept").iterdir()}
    trace = Provenance.load(here / "out.json")
    assert trace.result == here / "out.nii"
    assert trace.image == fit.subject.images["t1"]
    assert trace.unit == "HU"
    images = sorted(kept)
    assert all(name.endswith(".nii") for name in images)
    assert bool(images) == fit.case.network
    for name in images:
        with open_volume(here / "kept" / name) as image:
            assert image.unit == "HU"
            assert image.generated
    assert left_in_scratch(here) == []


def test_the_memory_that_is_allowed_is_kept_to(fit, here):
    with pytest.raises(InputError, match=r"memory 1\.0 MiB: the smallest tile of .* needs"):
        fit.translate(here / "out.nii", memory=1 << 20, tile=None)
    assert not (here / "out.nii").exists()
    assert left_in_scratch(here) == []
    limit = int(1.3 * resident()) + (256 << 20)
    done = fit.translate(here / "out.nii", memory=limit, tile=None)
    assert done.plan.host_bytes <= limit


# --- what ends badly ---------------------------------------------------------------------------


REFUSED = {
    "unknown suffix": ("t1", "out.xyz", "unknown suffix|cannot write"),
    "a folder": ("t1", "folder.nii", "is a folder"),
    "nothing there": ("none.nii", "mine.nii", "none.nii"),
    "no image": ("mine.nii", "out.nii", "mine.nii"),
    "onto itself": ("copy.nii", "copy.nii", "which is read"),
    "onto the subject's other image": ("subject", "t2", "which is read"),
    "other axes": ("other.nii", "mine.nii", "axes"),
}
"""Source, result, and what is said of them."""


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_made_is_refused_before_any_work(fit, here, what):
    if what == "other axes" and fit.case.any_axes:
        pytest.skip("takes images of 2 and of 3 axes")
    images = {m: here / f"{m}.nii" for m in fit.subject.images}
    for m, path in images.items():
        shutil.copyfile(fit.subject.images[m], path)
    places: dict[str, Any] = {**images, "subject": replace(fit.subject, images=images)}
    (here / "mine.nii").write_bytes(b"mine")
    (here / "folder.nii").mkdir()
    dims = fit.case.config.dims
    stored(here / "other.nii", head(SHAPE[5 - dims]))
    stored(here / "copy.nii", head(SHAPE[dims]))
    before = contents(here)
    source, out, message = REFUSED[what]
    told: list[Any] = []
    with pytest.raises(InputError, match=message) as caught:
        fit.of(
            places.get(source, here / source),
            places.get(out, here / out),
            modality="t1" if source == "subject" else None,
            progress=lambda *event: told.append(event),
        )
    assert len(str(caught.value).splitlines()) == 1
    assert contents(here) == before
    assert told == []
    assert left_in_scratch(here) == []


def test_a_result_that_is_there_survives_a_failure(fit, here, monkeypatch):
    out, whole = here / "out" / "t2.nii", os.replace
    out.parent.mkdir()
    out.write_bytes(b"mine")

    def failing(old: Any, new: Any, **options: Any) -> None:
        if Path(new) == out:
            raise OSError(5, "Input/output error", str(new))
        whole(old, new, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="Input/output error"):
            fit.translate(out)
    assert out.read_bytes() == b"mine"
    assert list(out.parent.iterdir()) == [out]
    fit.translate(out)
    assert out.read_bytes() == fit.bytes
    assert sorted(p.name for p in out.parent.iterdir()) == ["t2.json", "t2.nii"]
    assert left_in_scratch(here) == []


def steps(told: list[tuple[str, int, int]]) -> int:
    """Pieces that were made between the events, stages that were there at the first left out."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for stage, done, _ in told:
        first.setdefault(stage, done)
        last[stage] = done
    return sum(last[stage] - first[stage] for stage in last)


def test_an_interrupted_translation_goes_on(fit, here):
    """Same bytes, and nothing is made twice; wherever it is stopped."""
    if not fit.case.tile:
        pytest.skip("makes nothing before the result is written")
    whole: list[Any] = []
    fit.translate(here / "whole.nii", progress=lambda *event: whole.append(event))
    out = here / "out" / "t2.nii"
    for number in sorted({len(whole) // 4, len(whole) // 2, len(whole) - 2} - {-1}):
        before: list[Any] = []
        with pytest.raises(Stop):
            fit.translate(out, progress=stopping(number, before))
        assert list(here.glob("out/*")) == []
        after: list[Any] = []
        fit.translate(out, progress=lambda *event, told=after: told.append(event))
        assert out.read_bytes() == fit.bytes
        # What was announced as done is not done again.
        done = {stage: count for stage, count, _ in before}
        for stage in dict.fromkeys(name for name, _, _ in after):
            first = next(count for name, count, _ in after if name == stage)
            assert first >= done.get(stage, 0)
        assert steps(after) <= steps(whole) - steps(before)
        assert left_in_scratch(here) == []
        out.unlink()
        beside(out).unlink()


KILLING = """
import os, signal, sys
from msgan.methods.patch_gan import PatchGan
from msgan.runs.run import Run
import torch
torch.set_num_threads(1)
told = []
def progress(*event):
    told.append(event)
    if len(told) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
run, source, out = sys.argv[1:]
PatchGan(Run.open(run), "cpu").translate(source, out, tile=27, progress=progress)
"""


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("fit", [OVERLAPPING], indirect=True)
def test_a_killed_translation_goes_on(fit, here):
    """Where patches overlap, a sum that was half added up would be seen."""
    source, out = fit.subject.images["t1"], here / "t2.nii"
    words = [sys.executable, "-c", KILLING, str(fit.method.run.folder), str(source), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    assert left_in_scratch(here)
    told: list[Any] = []
    method = PatchGan(Run.open(fit.method.run.folder), "cpu")
    method.translate(source, out, tile=27, progress=lambda *event: told.append(event))
    method.translate(source, here / "whole.nii", tile=27)
    assert out.read_bytes() == (here / "whole.nii").read_bytes()
    assert max(count for _, count, _ in told[:1]) > 0
    assert left_in_scratch(here) == []
