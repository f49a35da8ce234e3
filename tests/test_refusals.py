"""Mistakes of callers, each in one line that names the value and the rule; and rare ways."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import config_of, reader, run_of, tiny
from safetensors.torch import save_file
from torch import nn

from msgan.cli import jobs
from msgan.cli import translate as translate_command
from msgan.data.cohort import Cohort, Subject
from msgan.data.formats import dicom_packed, picture
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.memory import process, study, translation
from msgan.methods import watch
from msgan.methods.med_synth import MedSynth
from msgan.metrics.frechet import Moments
from msgan.phantoms.brain_signal import Protocol, PulseSequence
from msgan.printing import PROGRESS
from msgan.report import cards
from msgan.report.scores import COLUMNS, as_html, scores_of
from msgan.runs import model
from msgan.runs.run import CARD
from msgan.studies.distances import distance_table, gain
from msgan.studies.label_transforms import LabelMap, brain_box, placed
from msgan.training import checkpoint, step
from msgan.training.log import LOG, rows
from msgan.types import InputError
from msgan.widgets.curves import Log as CurveLog
from msgan.widgets.scales import Scales

ECHO = PulseSequence("se", 500, 10)
FAR = Grid.from_spacing((4, 4, 4), (1.0,) * 3)
FIELD = np.zeros((4, 4, 4), np.float32)
FLAT = Grid.from_spacing((4, 4), (1.0,) * 2)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"guidance": {"student": True}}, "student and detail need a match"),
        ({"network": {"family": "megan", "lr_border": 3}}, "lr_border 3: .* expected 0"),
        ({"auto_context": "abc"}, "auto_context abc: results of a source image need paired"),
        (
            {"paired": "t1", "auto_context": "abc", "contrast": {"share": 0.0}},
            "the channel auto_context and the weights that make it need each other",
        ),
        (
            {"guidance": {"match": "histogram"}, "drop_inputs": ("context",)},
            "neither paired nor drops inputs",
        ),
        (
            {"guidance": {"match": "spectrum"}, "contrast": {"share": 0.5, "fresh": 0.25}},
            r"contrast\.fresh 0\.25: .* expected 0",
        ),
        (
            {
                "guidance": {"match": "histogram", "detail": True},
                "network": {"family": "megan"},
                "training": {"patch": 32},
            },
            r"guidance\.detail: needs the seamless family, not megan",
        ),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{rule}[^\n]*$"):
        tiny(2).updated(changes)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: PulseSequence("epi", 500, 10), "pulse sequence 'epi': expected se, ir or spgr"),
        (lambda: PulseSequence("se", 0, 10), "TR 0 ms, TE 10 ms: expected TR > 0"),
        (lambda: PulseSequence("ir", 500, 10, 600), "TI 600 ms is not between 0 and TR 500 ms"),
        (lambda: Protocol("a", ECHO, ECHO, ECHO, snr=0), "SNR 0 is not positive"),
        (lambda: Protocol("a", ECHO, ECHO, ECHO, bias=1.0), r"bias 1\.0, .*expected \[0, 1\)"),
        (lambda: LabelMap(np.zeros((4, 5), np.uint8), FLAT), r"labels of shape \(4, 5\)"),
        (lambda: brain_box(np.ones((4, 4, 3), bool), FAR), r"brain of shape \(4, 4, 3\)"),
        (lambda: brain_box(np.zeros((4, 4, 4), bool), FAR), "brain mask has no voxel"),
        (
            lambda: placed(LabelMap(np.ones((4, 4), np.uint8), FLAT), FAR),
            "labels of 2 axes for an image of 3",
        ),
        (
            lambda: placed(LabelMap(np.ones((4, 4), np.uint8), FLAT), FLAT, own=np.ones((4, 4))),
            "one brain mask of two: expected both or none",
        ),
        (lambda: MedSynth([]), "expected at least one model"),
        (lambda: MedSynth.configured(tiny(2)), "source None: MedSynth is trained on pairs"),
        (lambda: picture._gray(np.zeros((2, 2), complex)), "pixels of type complex128"),
        (lambda: picture._gray(np.zeros((2, 2, 5))), r"picture of shape \(2, 2, 5\)"),
        (
            lambda: Scales([(reader(FIELD), FAR), (reader(FIELD[0]), FLAT)]),
            "scales with different numbers of axes",
        ),
    ],
)
def test_values_that_are_none(call: Callable[[], object], rule: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{rule}[^\n]*$"):
        call()


def test_one_channel_is_a_gray_picture() -> None:
    image = np.arange(6.0).reshape(2, 3, 1)
    np.testing.assert_array_equal(picture._gray(image), image[..., 0])


def test_labels_that_8_bits_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii"
    write_volume(path, FAR, lambda box: np.full(box.size, 300, np.int16), dtype=np.int16)
    with pytest.raises(InputError, match=r"labels\.nii: labels 300 to 300: expected 0-255"):
        LabelMap.open(path)


def test_models_that_have_learnt_from_others_are_used_in_order(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(2))
    with pytest.raises(InputError, match="run: was not trained on pairs"):
        MedSynth([run])


# --- models --------------------------------------------------------------------------------------


def test_what_cannot_be_given_away(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(2))
    with pytest.raises(InputError, match=r"expected a CSV table with a first row of names"):
        model.read_scores(written(tmp_path / "one.csv", "a,b\n"))
    with pytest.raises(InputError, match=r"bad\.csv: not a CSV table: [^\n]*$"):
        model.read_scores(written(tmp_path / "bad.csv", "a,b\n1,\udcff\n"))
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        model.read_scores(tmp_path / "none.csv")
    card = json.loads((run.folder / CARD).read_text())
    (run.folder / CARD).write_text(json.dumps(card | {"versions": "new"}))
    with pytest.raises(InputError, match="versions: expected names with values"):
        model.describe(run, model.About())


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def test_a_run_that_sees_what_another_has_made_is_no_model(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(2))
    other = dataclasses.replace(run, config=run.config.model_copy(update={"auto_context": "abc"}))
    with pytest.raises(InputError, match="sees results of the weights abc and does not translate"):
        model._check(other, tmp_path / "out")


# --- files of weights ----------------------------------------------------------------------------


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(1, 2), "bias": torch.ones(1, dtype=torch.int64)}, path)
    with pytest.raises(InputError, match=r"bias holds torch\.int64, expected torch\.float32"):
        checkpoint.load_weights(network, path)


def test_a_state_that_no_optimiser_has_is_found() -> None:
    parameters = [torch.ones(2, 3), torch.ones(3)]
    whole = {
        k: {"step": torch.tensor(4.0), "exp_avg": torch.zeros_like(own)}
        for k, own in enumerate(parameters)
    }
    assert checkpoint._fits(whole, parameters)
    assert checkpoint._fits({1: whole[1]}, parameters)  # the other had no gradient
    assert not checkpoint._fits(whole | {2: whole[1]}, parameters)
    assert not checkpoint._fits(whole | {1: {"step": whole[1]["step"]}}, parameters)
    assert not checkpoint._fits(whole | {1: whole[0]}, parameters)


@pytest.mark.parametrize("told", ["[1]", "{", "[" * 100_000])
def test_a_header_that_tells_no_object_is_refused(tmp_path: Path, told: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(1, 2)}, path, {"about": told})
    with pytest.raises(InputError, match="'about' in its header is not a JSON object"):
        checkpoint.read(path)


# --- compressed DICOM ----------------------------------------------------------------------------

HEADER = {"Rows": 2, "Columns": 3, "BitsAllocated": 16}
LAYOUT = dicom_packed.Layout(2, 3, 16, 16, 15, False)
JPEG, JPEG2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"Rows": 0}, "Rows 0, Columns 3: expected at least 1"),
        ({"BitsAllocated": 12}, "BitsAllocated 12: expected 8, 16 or 32"),
        ({"BitsStored": 17}, "BitsStored 17, HighBit 16 do not fit BitsAllocated 16"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2: expected 0 or 1"),
    ],
)
def test_headers_that_no_image_has(changes: dict[str, int], rule: str) -> None:
    from pydicom.dataset import Dataset

    header = Dataset()
    for name, value in (HEADER | changes).items():
        setattr(header, name, value)
    with pytest.raises(InputError, match=rule):
        dicom_packed.Layout.of(header)


@pytest.mark.parametrize(
    ("frame", "syntax", "rule"),
    [
        (b"\x02", dicom_packed.RUN_LENGTHS, "run lengths"),
        (bytes(64), dicom_packed.RUN_LENGTHS, "0 planes of run lengths, expected 2"),
        (b"\xff\xd8\xff\xff\xff\xe0\x00\x02", JPEG, "JPEG"),  # fill bytes, and no size
        (b"\xff\x4f\xff\x51" + bytes(8), JPEG2000, "JPEG 2000"),
        (
            b"\xff\xd8\xff\xc3\x00\x0b\x10\x00\x02\x00\x03\x03" + bytes(9),
            JPEG,
            "compressed image of 3 colours",
        ),
        (b"\xff\xd8\xff\xc3\x00\x0b\x10\x00\x02\x00\x03\x01" + bytes(9), JPEG, "JPEG"),
    ],
)
def test_compressed_images_that_are_none(frame: bytes, syntax: str, rule: str) -> None:
    with pytest.raises(InputError, match=rf"^[^\n]*{rule}[^\n]*$"):
        dicom_packed.unpacked(frame, LAYOUT, syntax)


# --- scores, distances, memory -------------------------------------------------------------------


def test_scores_of_a_sidecar_stand_for_a_table() -> None:
    line = {"method": "cascade", "ssim": 0.5, "voxels": 12, "region": "brain", "other": 3}
    shown = SimpleNamespace(
        study=Path("a"), subject="s1", task="t1", provenance=SimpleNamespace(scores=[line])
    )
    found = scores_of(SimpleNamespace(scores=lambda study: None), shown)
    assert found.to_dict("records") == [
        {"method": "cascade", "of": "s1", COLUMNS["ssim"]: 0.5, "voxels": 12, "region": "brain"}
    ]


def test_a_mean_over_one_subject_is_not_shown_beside_it() -> None:
    head = COLUMNS["ssim"]
    rows = [{"method": m, "of": of, "n": 1, head: v} for m, of, v in LINES]
    page = as_html(pd.DataFrame(rows))
    assert "mean" not in page
    assert "<p>of s1, n 1</p>" in page
    cells = re.findall(r"<td>(<b>)?([\d.]*)(?:</b>)?</td>", page)
    assert cells == [("<b>", "0.5000"), ("", "0.3000"), ("", "")]


LINES = [("a", "s1", 0.5), ("a", "mean", 0.4), ("b", "s1", 0.3), ("c", "s1", float("nan"))]


def test_distances_between_and_within_domains() -> None:
    random = np.random.default_rng(0)

    def group(shift: float, count: int = 4) -> dict[str, Moments]:
        return {f"s{k}": Moments.of(random.normal(shift, 1, (50, 2))) for k in range(count)}

    near, far, target = group(0.1), group(2.0), group(0.0)
    domains = {"near": near, "far": far, "target": target, "one": group(0, 1)}
    pairs = [("near", "target"), ("far", "target"), ("target", "target"), ("one", "one")]
    found = distance_table(domains, pairs, printed={("far", "target"): 3.0})
    assert list(found.index)[2] == "target / target, halves"
    assert found["distance"]["near / target"] < found["distance"]["far / target"]
    assert found["subjects"]["target / target, halves"] == "2 / 2"
    assert np.isnan(found["distance"]["one / one, halves"])
    assert found["printed"]["far / target"] == 3.0
    gained = gain(far, near, target)
    assert gained.value > 0
    assert gained.low > 0
    with pytest.raises(InputError, match="domain 'away' is none of near, far, target, one"):
        distance_table(domains, [("near", "away")])


def test_a_guided_run_of_random_weights_matches_an_even_histogram(tmp_path: Path) -> None:
    config = tiny(3).updated(guidance={"match": "auto", "student": True, "detail": True})
    run = translation.untrained_run(tmp_path / "run", config)
    assert run.config.guidance.match == run.profile.kind == "histogram"
    np.testing.assert_allclose(np.diff(run.profile.quantiles), 2 / 1024, atol=1e-5)


def test_a_measured_translation_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    asked: list[str] = []

    def fresh(code: str, *words: str, log: Path | None = None) -> list[float] | None:
        asked[:] = words
        Path(words[3]).touch()
        return None if "1MiB" in words else [5, None, 0.5]

    monkeypatch.setattr(process, "fresh", fresh)
    run = run_of(tmp_path / "run", config_of(3))
    found = translation.measured_translation(run, 8, tmp_path, 3 << 20, gpu_memory=2 << 20)
    assert (found.side, found.host_peak_bytes, found.device_peak_bytes) == (8, 5, None)
    assert asked[-4:] == ["--memory", "3MiB", "--gpu-memory", "2MiB"]
    with pytest.raises(InputError, match=r"translation of 8\^3 was killed: not enough memory"):
        translation.measured_translation(run, 8, tmp_path, 1 << 20)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_the_peak_of_a_step_is_printed(capsys) -> None:
    study._report("LR 64", "16", "2", "cpu")
    assert 0 <= int(capsys.readouterr().out) < 2**30


def test_a_process_that_may_not_forget_its_peak_keeps_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process, "FORGET", tmp_path / "none" / "clear_refs")
    process.forget_peak()
    assert process.fresh("print(1)", log=tmp_path / "log.txt") == 1
    assert (tmp_path / "log.txt").read_text() == ""
    monkeypatch.setattr(process, "STATUS", tmp_path / "none")
    peak = process.peak_resident_bytes()
    assert 2**20 < peak < 2**40


def test_logits_of_all_processes_lead_gradients_to_their_own() -> None:
    """The mean over processes of the gradients of a sum is the sum's gradient."""
    others = torch.tensor([[5.0], [6.0]])
    fabric = SimpleNamespace(
        world_size=2, global_rank=1, all_reduce=lambda x, reduce_op: x + torch.stack([others, x[0]])
    )
    own = torch.tensor([[1.0], [2.0]], requires_grad=True)
    (all_of_them,) = step.of_all_processes(fabric, SimpleNamespace(relative=True), [own])
    assert all_of_them.flatten().tolist() == [5.0, 6.0, 1.0, 2.0]
    all_of_them.sum().backward()
    assert own.grad.flatten().tolist() == [2.0, 2.0]  # DDP takes a mean of two
    for alone in (SimpleNamespace(world_size=1), fabric):
        relative = SimpleNamespace(relative=alone is not fabric)
        assert step.of_all_processes(alone, relative, [own])[0] is own


def test_a_cell_shows_one_thing_in_place_of_another(monkeypatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            shown.append(f"again {bundle['text/plain']}")

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(bundle["text/html"])
        return Handle()

    monkeypatch.delenv(PROGRESS, raising=False)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace(kernel=1))
    show = watch.cell()
    show("<b>1</b>", "1")
    show("<b>2</b>", "2")
    assert shown == ["<b>1</b>", "again 2"]
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    assert watch.cell() is None
    monkeypatch.setenv(PROGRESS, "0")
    assert watch.cell() is None


# --- which images are translated -----------------------------------------------------------------


def test_places_that_are_none_for_images_and_results(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "file").touch()
    for call in (jobs.is_folder, jobs.is_images):
        with pytest.raises(InputError, match="none: no such file or folder"):
            call(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match=r"a DICOM series is a folder: leave out \.nii"):
        jobs.is_images(tmp_path / "in", tmp_path / "out.nii")
    with pytest.raises(InputError, match="file: expected a folder: IN is a folder of images"):
        jobs.of_folder(tmp_path / "in", tmp_path / "out", "*", tmp_path / "file")
    with pytest.raises(InputError, match="file: is a file, expected a folder: IN is a manifest"):
        jobs.of_manifest(Cohort(()), METHOD, tmp_path / "file", None, None)


METHOD = SimpleNamespace(source=None, target="t2")


def test_who_lacks_the_image_that_is_translated_is_told(tmp_path: Path, capsys) -> None:
    people = Cohort(
        tuple(Subject(f"s{k}", {m: tmp_path / m}) for k, m in enumerate(("t1", "flair")))
    )
    with pytest.raises(InputError, match=r"--modality is missing: .* there are t1, flair"):
        jobs.of_manifest(people, METHOD, tmp_path / "out", None, None)
    (job,) = jobs.of_manifest(people, METHOD, tmp_path / "out", None, "t1")
    assert job.name == "s0"
    assert "1 of 2 subjects have no t1" in capsys.readouterr().err


def test_a_damaged_sidecar_makes_no_result_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "a.json").write_text("{")
    assert not jobs._result(tmp_path / "a.nii")


def test_a_cluster_translates_what_can_be_translated(tmp_path: Path) -> None:
    asked: list[Any] = []

    def images(run: Any, pairs: list[Any], options: list[Any]) -> Any:
        asked.extend(pairs)
        yield 0, "done"

    bad = jobs.Job(tmp_path / "a.nii", tmp_path / "x.nii", labels=tmp_path / "none.nii")
    good = jobs.Job(tmp_path / "b.nii", tmp_path / "y.nii")
    options = {"modality": None}
    engine = SimpleNamespace(images=images)
    (one, error), (other, done) = translate_command._results(None, [bad, good], options, engine)
    assert (one, other, done) == (bad, good, "done")
    assert str(error) == f"{tmp_path / 'a.nii'}: no label map {tmp_path / 'none.nii'}"
    assert asked == [(good.source, good.result)]


@pytest.mark.parametrize(
    "line", [b'{"step": Infinity}', b'{"step": 1e999}', b'{"step": NaN}', b"[" * 100_000, b"0"]
)
def test_what_is_no_row_of_a_log_is_left_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / LOG
    path.write_bytes(b'{"step": 1, "l1": 0.5}\n' + line + b'\n{"step": 2, "l1": 0.4}\n')
    assert [row["step"] for row in rows(path)] == [1, 2]
    log = CurveLog(path)
    assert log.read()
    assert ([row["step"] for row in log.rows], log.damaged) == ([1, 2], 1)


def test_times_that_are_no_numbers_are_not_shown(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", config_of(2))
    (run.folder_of(0) / "done.json").unlink(missing_ok=True)
    (run.folder_of(0) / LOG).write_text('{"step": 3, "seconds": Infinity}\n')
    assert cards._trained(run, 0) == {"state": "not finished", "step": 3}
