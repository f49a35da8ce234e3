"""Mistakes of callers, each in one line that names the value and the rule."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import config_of, reader, run_of, tiny
from safetensors.torch import save_file
from torch import nn

from msgan.data.formats import dicom_packed, picture
from msgan.data.grid import Grid
from msgan.data.volume import write_volume
from msgan.methods.med_synth import MedSynth
from msgan.phantoms.brain_signal import Protocol, PulseSequence
from msgan.report import cards
from msgan.runs import model
from msgan.runs.run import CARD
from msgan.studies.label_transforms import LabelMap, brain_box, placed
from msgan.training import checkpoint
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


# --- logs of trainings --------------------------------------------------------------------------


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
