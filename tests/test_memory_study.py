"""Bytes of a training step and of a translation: counted by hand, and measured."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from test_plots import assert_nothing_is_cut, said
from torch import nn

from msgan import plots
from msgan.config import CascadeConfig, Guidance, Preparation, SketchConfig, TrainConfig, network_of
from msgan.data.volume import open_volume
from msgan.memory import gan_pairs, process, study, translation
from msgan.memory.gan_pairs import NETWORKS, Players
from msgan.networks import layers
from msgan.runs.run import Run
from msgan.types import Box, InputError

SIDES = (32, 64, 128, 256)
linux = pytest.mark.skipif(not process.STATUS.is_file(), reason="no /proc: the peak is coarse")


def made_of(dims: int, side: int, generator: nn.Module, discriminator: nn.Module) -> Players:
    x, real = (torch.zeros(1, 1, *[side] * dims) for _ in range(2))
    return Players(generator, discriminator, (x,), None, real)


# --- counted -----------------------------------------------------------------------------------


def test_what_passes_hold_is_counted_as_by_hand(dims, monkeypatch):
    """x -conv-> -relu-> b -conv-> made: the backward pass of relu has b and two gradients."""
    wide, side = 64, 8
    voxels = side**dims

    def build(dims: int, side: int) -> Players:
        body = [layers.conv(dims, 1, wide, 1), nn.ReLU(), layers.conv(dims, wide, 1, 1)]
        return made_of(dims, side, nn.Sequential(*body), layers.conv(dims, 1, 1, 1))

    monkeypatch.setitem(NETWORKS, "net", build)
    weights = 2 * (2 * wide + wide + 1 + 2)  # and their gradients
    floats = study.counted("net", side, dims) / 4
    assert 3 * wide * voxels + 3 * voxels <= floats <= 3 * wide * voxels + 8 * voxels + 2 * weights
    # The paper's way: outputs of the four layers and weights twice, two images once.
    assert study.summed("net", side, dims) == 4 * (
        2 * (2 * wide * voxels + 2 * voxels) + weights + 2 * voxels
    )


def test_weights_and_their_gradients_are_counted(dims, monkeypatch):
    wide, side = 200, 2

    def large() -> nn.Module:
        chain = [layers.conv(dims, a, b, 1) for a, b in ((1, wide), (wide, wide), (wide, 1))]
        return nn.Sequential(*chain)

    def small() -> nn.Module:
        return layers.conv(dims, 1, 1, 1)

    monkeypatch.setitem(NETWORKS, "g", lambda d, n: made_of(d, n, large(), small()))
    monkeypatch.setitem(NETWORKS, "d", lambda d, n: made_of(d, n, small(), large()))
    weights = 4 * (wide**2 + 4 * wide)
    assert 2 * weights <= study.counted("g", side, dims) <= 2.2 * weights
    # D passes backward twice: a gradient is there while its second part is computed.
    assert 3 * weights <= 1.05 * study.counted("d", side, dims) <= 3.3 * weights


def test_a_step_leaves_gradients_of_both_networks(dims):
    torch.manual_seed(0)
    pair = [layers.conv(dims, 1, 1, 3, padding=1) for _ in range(2)]
    game = made_of(dims, 4, *pair)
    gan_pairs.step(game)
    assert all(p.grad is not None and p.requires_grad for n in pair for p in n.parameters())
    # D's gradients are its own: the pass that trains G adds nothing to them.
    own = [p.grad.clone() for p in pair[1].parameters()]
    pair[1].zero_grad()
    with torch.no_grad():
        fake = pair[0](*game.inputs)
    for image, wanted in ((game.real, 1), (fake, 0)):
        (pair[1](image) - wanted).square().mean().backward()
    assert all(torch.allclose(a, p.grad) for a, p in zip(own, pair[1].parameters(), strict=True))


@pytest.mark.parametrize("name", ["DCGAN", "Pix2Pix", "PGGAN"])
def test_networks_of_whole_images_need_more_for_larger_ones(name):
    cube = [study.counted(name, side) for side in SIDES]
    assert cube == sorted(set(cube))
    assert study.counted(name, SIDES[0], 2) < cube[0]
    for side, count in zip(SIDES, cube, strict=True):
        assert study.summed(name, side) > count > 4 * side**3


def test_what_the_paper_says_of_figure_4():
    """PGGAN takes more than 100 GB at 256^3; the cascade's networks fit a card of 12 GB."""
    assert study.summed("PGGAN", 256) > 100e9
    for name, side in study.OWN_SIDE.items():
        assert study.summed(name, side) < 12e9


@pytest.mark.parametrize(("name", "shapes"), [("LR 64", [128]), ("HR 32", [32, 32])])
def test_the_networks_of_the_cascade_are_the_published_ones(dims, name, shapes):
    with torch.device("meta"):
        side = study.OWN_SIDE[name]
        game = NETWORKS[name](dims, side)
        assert [x.shape for x in game.inputs] == [(1, 1, *[n] * dims) for n in shapes]
        made = game.generator(*game.inputs)
        assert made.shape == game.real.shape == (1, 1, *[side] * dims)
        assert game.seen.shape == (1, len(shapes), *[side] * dims)
        game.discriminator(game.seen, made)
    widest = max(p.shape[0] for p in game.generator.parameters())
    assert widest == {"LR 64": 512, "HR 32": 256}[name]


def test_the_cubic_curve_is_found_again():
    curve = study.cubic((32, 64, 128), [7 + 3 * n**3 for n in (32, 64, 128)])
    assert curve(512) == pytest.approx(7 + 3 * 512**3, rel=1e-6)


def test_rows_of_the_figure():
    rows = pd.DataFrame(study.step_memory((256, 64, 32, 128)))
    assert list(rows.columns) == [
        *("network", "side", "summed_bytes", "counted_bytes", "cubic_bytes", "measured_bytes"),
        "device",
    ]
    assert rows.groupby("network", sort=False)["side"].apply(list).to_dict() == {
        **{name: list(SIDES) for name in ("DCGAN", "Pix2Pix", "PGGAN")},
        **{name: [side] for name, side in study.OWN_SIDE.items()},
    }
    assert set(rows["side"][rows["cubic_bytes"].notna()]) == {256}
    assert rows["measured_bytes"].isna().all()  # nothing was asked for


@pytest.mark.parametrize("call", [study.counted, study.summed, study.measured])
def test_an_unknown_network_or_side_is_named(call):
    with pytest.raises(InputError, match="network 'gan' is none of DCGAN, Pix2Pix, PGGAN, LR 64"):
        call("gan", 64)
    with pytest.raises(InputError, match="side 65: expected a power of two"):
        call("DCGAN", 65)
    with pytest.raises(InputError, match="network 'gan' is none of"):
        study.step_memory((32,), {"gan": (32,)})


# --- measured ----------------------------------------------------------------------------------


@pytest.mark.slow
@linux
@pytest.mark.parametrize(("name", "side", "axes"), [("Pix2Pix", 256, 2), ("HR 32", 32, 3)])
def test_a_real_step_takes_what_is_counted_and_little_more(name, side, axes):
    count = study.counted(name, side, axes)
    peak = study.measured(name, side, axes)
    assert 0.97 * count <= peak <= 1.5 * count


def test_only_what_fits_is_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(study, "measured", lambda *a: asked.append(a[:2]) or 5)
    monkeypatch.setattr(process, "available_bytes", lambda: 4 << 30)
    # DCGAN at 256 would fit, but not with the scratch memory of its kernels.
    wanted = {"DCGAN": (256,), "Pix2Pix": (32, 128), "PGGAN": (128,), "LR 64": (64,)}
    assert study.counted("DCGAN", 256) < 4 << 30
    rows = study.step_memory((32, 128, 256), wanted)
    assert asked == [("Pix2Pix", 32), ("Pix2Pix", 128), ("LR 64", 64)]
    found = {(r.network, r.side): r.measured_bytes for r in rows if r.measured_bytes is not None}
    assert found == dict.fromkeys(asked, 5)


def test_a_process_that_is_killed_gives_none_and_one_that_fails_says_why():
    assert process.fresh("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") is None
    with pytest.raises(InputError, match="status 1: ValueError: too bad"):
        process.fresh("raise ValueError('too bad')")
    code = "import json, os, sys; print('talk'); print(json.dumps([sys.argv[1:], os.getenv('A')]))"
    assert process.fresh(code, "a", "b c", environment={"A": "1"}) == [["a", "b c"], "1"]


def test_what_a_process_says_on_stderr_is_kept_where_it_is_asked_for(tmp_path):
    log = tmp_path / "log.txt"
    code = "import sys; print('a word', file=sys.stderr); print(3)"
    assert process.fresh(code, log=log) == 3
    assert log.read_text() == "a word\n"
    with pytest.raises(InputError, match="status 4: no message"):
        process.fresh("import os; os._exit(4)", log=log)
    assert log.read_text() == ""


def test_without_proc_the_peak_is_what_the_system_says_in_its_own_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "STATUS", tmp_path / "absent")
    peak = process.peak_resident_bytes()
    assert 0.9 * process.resident_bytes() < peak < 1 << 40
    monkeypatch.setattr(process.sys, "platform", "darwin")  # which counts bytes and no KiB
    assert process.peak_resident_bytes() == pytest.approx(peak / 1024, rel=0.01)


def test_a_system_that_cannot_forget_a_peak_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "FORGET", tmp_path / "clear_refs")
    process.forget_peak()
    assert (tmp_path / "clear_refs").read_text() == "5"  # what Linux expects there
    monkeypatch.setattr(process, "FORGET", tmp_path / "absent" / "clear_refs")
    process.forget_peak()
    assert [path.name for path in tmp_path.iterdir()] == ["clear_refs"]


@pytest.fixture
def no_process(monkeypatch, capsys) -> None:
    """What would run in a new process runs in this one."""

    def fresh(code, *arguments, environment=None):
        assert environment == process.ALLOCATOR  # else freed memory stays and is counted
        monkeypatch.setattr(sys, "argv", ["-c", *arguments])
        exec(code, {})
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(process, "fresh", fresh)


@linux
@pytest.mark.usefixtures("no_process")
def test_the_peak_of_a_step_is_what_it_holds_beyond_what_was_there(dims, monkeypatch):
    held = 48 << 20

    def build(dims: int, side: int) -> Players:
        count = held // 4 if torch.zeros(()).device.type == "cpu" else 0
        monkeypatch.setattr(sys, "msgan_held", torch.ones(count), raising=False)
        return made_of(dims, side, *(layers.conv(dims, 1, 1, 1) for _ in range(2)))

    monkeypatch.setitem(NETWORKS, "net", build)
    peak = study.measured("net", 8, dims)
    assert isinstance(peak, int)
    assert peak > 0.95 * held


@pytest.mark.usefixtures("no_process")
def test_a_step_for_which_a_device_has_no_memory_has_no_peak(monkeypatch):
    def build(dims: int, side: int) -> Players:
        if torch.zeros(()).device.type == "cpu":  # it is on no device where sides are checked
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return made_of(dims, side, *(layers.conv(dims, 1, 1, 1) for _ in range(2)))

    monkeypatch.setitem(NETWORKS, "net", build)
    assert study.measured("net", 8, 2) is None


PEAK = """
import json
from msgan.memory.process import forget_peak, peak_resident_bytes, resident_bytes
def hold(size):
    return bytes(size) + b"1" and peak_resident_bytes()
start = resident_bytes()
high = hold(200 << 20)
forget_peak()
low = peak_resident_bytes()
try:
    can = open("/proc/self/clear_refs", "w").write("5") == 1
except OSError:  # some containers do not let a process forget
    can = False
print(json.dumps([start, high, low, can]))
"""


@linux
def test_the_peak_is_that_of_the_process_itself_and_can_be_forgotten():
    ballast = np.ones(400 << 17)  # of the process that starts the other: must not count
    start, high, low, can = process.fresh(PEAK, environment=process.ALLOCATOR)
    assert ballast.nbytes == 400 << 20
    assert start + (190 << 20) <= high <= start + (420 << 20)
    assert low < start + (50 << 20) if can else low == high


def test_what_is_free_is_within_the_group_the_machine_gives(tmp_path, monkeypatch):
    free = process.available_bytes()
    assert 0 < free < 1 << 50
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(process, "GROUP", tmp_path)
    assert process.available_bytes() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert process.available_bytes() > 2_000_000


# --- translation -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [32, 33, 52, 53, 64, 100, 512])
def test_patches_of_the_published_code_cover_the_volume(side):
    starts, start = [], 0
    while True:
        starts.append(min(start, side - 32))
        if start + 32 >= side:
            break
        start += 20
    assert translation.original_patches(side) == len(starts) ** 3


def test_the_published_code_needs_what_is_said_of_it():
    """13.6 GiB at 512^3, 113 GiB at 1024^3, and each voxel is in 3.8 patches."""
    assert round(translation.original_bytes(512) / 2**30, 1) == 13.6
    assert round(translation.original_bytes(1024) / 2**30) == 113
    assert round(translation.original_patches(512) * 32**3 / 512**3, 1) == 3.8


def config(**changes) -> CascadeConfig:
    return CascadeConfig(
        preparation=Preparation(scales=1) if "preparation" not in changes else Preparation(),
        guidance=Guidance(**changes.get("guidance", {})),
        sketch=SketchConfig(steps=2),
        network=network_of(lr_width=2, lr_levels=2, hr_width=4, hr_blocks=1),
        training=TrainConfig(steps=1, lr_steps=1),
    )


def test_an_untrained_run_is_complete_and_random(tmp_path):
    state = torch.get_rng_state()
    translation.untrained_run(tmp_path / "a", config())
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    runs = [Run.open(tmp_path / "a"), translation.untrained_run(tmp_path / "b", config())]
    other = translation.untrained_run(tmp_path / "c", config(), seed=7)
    for i in range(2):
        assert runs[0].finished(i)
        a, b, c = (list(run.generator(i).parameters()) for run in (*runs, other))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert not torch.equal(a[0], c[0])
        assert all(p.any() for p in a)
    with pytest.raises(InputError, match="scales is open"):
        translation.untrained_run(tmp_path / "d", config(preparation=None))


def test_an_untrained_run_with_guidance_matches_to_an_even_histogram(tmp_path):
    made = translation.untrained_run(tmp_path / "a", config(guidance={"match": "auto"}))
    run = Run.open(made.folder)
    assert run.config.guidance.match == "histogram"  # of arbitrary units no spectrum is known
    levels = run.profile.quantiles
    assert (levels[0], levels[-1]) == (-1, 1)
    np.testing.assert_allclose(levels, np.linspace(-1, 1, len(levels)), atol=1e-6)


class Command:
    """What ``msgan translate`` leaves, and what is measured of it."""

    def __init__(self, answer: object) -> None:
        self.answer, self.words, self.log = answer, (), None

    def __call__(self, code, *words, log=None):
        self.words, self.log = words, log
        _, _, source, out, *_ = words
        with open_volume(source) as volume:
            assert volume.grid.shape == (9, 9, 9)
        for path in (out, out.removesuffix(".nii") + ".json"):
            with open(path, "w") as file:
                file.write("made")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_measured_translation_keeps_to_the_memory_it_is_told(tmp_path, monkeypatch):
    run = translation.untrained_run(tmp_path / "run", config())
    command = Command([7 << 20, 5 << 20, 1.5])
    monkeypatch.setattr(process, "fresh", command)
    options = {"device": "cuda", "gpu_memory": 96 << 20, "log": tmp_path / "log.txt"}
    row = translation.measured_translation(run, 9, tmp_path, 64 << 20, **options)
    assert row == translation.TranslationMemory(9, "cuda", 7 << 20, 5 << 20, 1.5)
    assert command.words[:2] == ("translate", str(run.folder))
    limits = ("--device", "cuda", "--memory", "64MiB", "--gpu-memory", "96MiB")
    assert command.words[4:] == limits
    assert command.log == tmp_path / "log.txt"
    translation.measured_translation(run, 9, tmp_path, 64 << 20)
    assert command.words[4:] == ("--device", "cpu", "--memory", "64MiB")  # its own default
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(None, r"translation of 9\^3 was killed: not enough memory"), (InputError("bad"), "^bad$")],
)
def test_a_translation_that_fails_leaves_nothing(tmp_path, monkeypatch, answer, message):
    run = translation.untrained_run(tmp_path / "run", config())
    monkeypatch.setattr(process, "fresh", Command(answer))
    with pytest.raises(InputError, match=message):
        translation.measured_translation(run, 9, tmp_path, 64 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_ball_touches_all_faces_and_is_no_constant(tmp_path):
    volume = open_volume(translation.write_ball(tmp_path / "ball.nii", 17))
    image = volume.whole()
    assert image.shape == (17, 17, 17)
    for axis in range(3):
        assert np.take(image, [0, 16], axis=axis).reshape(2, -1).max() > 0
    assert (image == 0).mean() > 0.3
    assert image[image > 0].std() > 0.3
    part = Box((3, 0, 5), (4, 2, 9))
    assert np.array_equal(volume.read(part), image[part.slices])


@pytest.mark.slow
def test_a_translation_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch):
    run = translation.untrained_run(tmp_path / "run", config())
    row = translation.measured_translation(run, 32, tmp_path, 1 << 30)
    assert (row.side, row.device, row.device_peak_bytes) == (32, "cpu", None)
    assert 100 << 20 < row.host_peak_bytes < 2 << 30
    assert 0 < row.seconds < 120
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    (tmp_path / "run" / "s1" / "generator.safetensors").unlink()
    with pytest.raises(InputError, match="scale 1 of 1 is not trained yet"):
        translation.measured_translation(run, 32, tmp_path, 1 << 30)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    monkeypatch.setattr(process, "fresh", lambda *a, **k: None)
    with pytest.raises(InputError, match="32\\^3 was killed"):
        translation.measured_translation(run, 32, tmp_path, 1 << 30)


# --- figures -----------------------------------------------------------------------------------


def lines(figure, **look):
    """Drawn lines that look so, as lists of points."""
    found = []
    for line in figure.axes[0].lines:
        if all(getattr(line, f"get_{k}")() == v for k, v in look.items()):
            found.append([tuple(map(float, p)) for p in line.get_xydata()])
    return found


STEPS = pd.DataFrame(
    [
        ("A", 32, 1, None, 2),
        ("A", 64, 8, None, None),
        ("A", 128, 30, 64, None),
        ("B", 64, 4, None, 5),
    ],
    columns=["network", "side", "counted_bytes", "cubic_bytes", "measured_bytes"],
)


def test_the_figure_of_a_step_shows_what_was_counted_drawn_on_and_measured():
    rows = STEPS.copy()
    rows.iloc[:, 2:] *= 2**30
    figure = plots.step_memory(rows, card_gib=12, caption="One step.")
    assert_nothing_is_cut(figure)
    assert [(32, 1), (64, 8), (128, 30)] in lines(figure, linestyle="-")
    assert lines(figure, linestyle="--") == [[(64, 8), (128, 64)]]
    assert [(64, 4), (128, 4)] in lines(figure, linestyle="-")  # level to the end
    assert lines(figure, linestyle=":") == [[(32, 4), (64, 4)]]
    assert lines(figure, linestyle="None") == [[(32, 2)], [(64, 5)]]
    assert (0, 12) in lines(figure, linestyle="-")[-1]
    assert "12 GiB" in said(figure)
    assert "(GiB)" in said(figure)
    assert "(voxels)" in said(figure)
    assert plots.caption_of(figure).startswith("One step. What lies above the line of 12 GiB")
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_the_figure_of_a_translation_separates_places_devices_and_memories():
    rows = pd.DataFrame(
        [(64, "cpu", 2, None, "here"), (128, "cpu", 2, None, "here"), (64, "cuda", 3, 1, "there")],
        columns=["side", "device", "host_peak_bytes", "device_peak_bytes", "where"],
    )
    rows[["host_peak_bytes", "device_peak_bytes"]] *= 2**30
    figure = plots.translation_memory(rows, {64: 2**29, 1024: 2**37}, caption="Whole.")
    assert_nothing_is_cut(figure)
    assert lines(figure, linestyle="-") == [[(64, 2), (128, 2)], [(64, 3)]]
    assert lines(figure, linestyle="--") == [[(64, 1)]]
    assert lines(figure, linestyle=":") == [[(64, 0.5), (1024, 128)]]
    for name in ("host (cpu, here)", "host (cuda, there)", "device (cuda, there)"):
        assert name in said(figure)
    assert len({line.get_color() for line in figure.axes[0].lines}) == 4
    plain = plots.translation_memory(rows.iloc[:2, :3], {64: 1.0}, limit_gib=1.5)
    assert_nothing_is_cut(plain)
    assert (0, 1.5) in lines(plain, linestyle="-")[-1]
    assert "limit: 1.5 GiB" in said(plain)
    assert "host (cpu)" in said(plain)


@pytest.mark.parametrize("draw", [plots.step_memory, lambda r: plots.translation_memory(r, {})])
def test_missing_columns_and_rows_are_named(draw):
    with pytest.raises(InputError, match=r"rows: no column '(network|device)'"):
        draw(pd.DataFrame({"side": [1]}))
    empty = ["network", "counted_bytes", "cubic_bytes", "measured_bytes", "device"]
    with pytest.raises(InputError, match="nothing to draw"):
        draw(pd.DataFrame(columns=["side", "host_peak_bytes", *empty]))
