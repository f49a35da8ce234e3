"""CycleGAN: its losses and history, that it needs no pairs, that it learns and goes on."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cohort_in, equal, head, stored, tiny, whole
from test_processes import launched
from training import fabric, rows, twins

from msgan import presets, seeds
from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, Subject
from msgan.methods.cascade import fit
from msgan.methods.cyclegan import CycleGan
from msgan.methods.shared import run_key
from msgan.networks import layers
from msgan.runs.run import Run
from msgan.training import checkpoint
from msgan.training.batches import Patches
from msgan.training.cycle import CycleStep, History, Unpaired
from msgan.training.loop import learning_rate
from msgan.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def configured(dims=2, **training) -> CascadeConfig:
    """Of the tiny cascade."""
    return CycleGan.configured(tiny(dims, **training), "t1")


def batches(dims: int, config: CascadeConfig, step: CycleStep) -> Unpaired:
    """Of one subject a domain."""
    return Unpaired(*(Patches([twins(dims, seed=k)], config, 2, step.geometry) for k in range(2)))


def two_domains(folder: Path, splits=("train", "train", "val"), *, apart=False) -> Cohort:
    """T2 is darker than T1, which is smaller than a pair could be; ``apart``: nobody has both."""
    folder.mkdir(exist_ok=True)
    subjects = []
    for k, split in enumerate(splits):
        bright, other = head((48, 40), k, low=20.0), head((52, 44), 10 + k, low=20.0)
        images = {
            "t1": stored(folder / f"{k}_t1.nii", bright),
            "t2": stored(folder / f"{k}_t2.nii", 100 * (other / 100) ** 3),
        }
        subjects.append(Subject(f"s{k}", images, split=split))
    if apart:
        halves = [Subject(f"p{s.name}", {"t1": s.images["t1"]}, split=s.split) for s in subjects]
        halves += [Subject(s.name, {"t2": s.images["t2"]}, split=s.split) for s in subjects]
        return Cohort(tuple(halves))
    return Cohort(tuple(subjects))


# --- one step ----------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_paper(dims):
    """Recomputed with nothing of the step but its networks."""
    config = CycleGan.configured(tiny(dims), "t1", weight=7.0, identity=0.3, pool=0)
    torch.manual_seed(1)
    step = CycleStep(config, 2, fabric())
    for network in (step.generators, step.discriminators):
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    there, back, d_y, d_x = deepcopy(
        [
            step.generators.there,
            step.generators.back,
            step.discriminators.target,
            step.discriminators.source,
        ]
    )
    batch = batches(dims, config, step).draw("train", 0, range(2))
    x, y = batch.reads

    def made(generator, image):
        below = torch.full((2, 1, *(n // 2 for n in image.shape[2:])), -1.0)
        return generator(image, below)[0]

    def judged(d, image):
        return d.body(layers.pad_to(layers.middle(image, 32), 25))

    halo = there.geometry.reads[0].halo
    near_x, near_y = layers.crop(x, halo), layers.crop(y, halo)
    fake_y, fake_x = made(there, x), made(back, y)
    adversarial = ((judged(d_y, fake_y) - 1) ** 2).mean() + ((judged(d_x, fake_x) - 1) ** 2).mean()
    target_x, target_y = (2 * layers.crop(image, halo) - 1 for image in (near_x, near_y))
    cycle_x = (made(back, (fake_y + 1) / 2) - target_x).abs().mean()
    cycle_y = (made(there, (fake_x + 1) / 2) - target_y).abs().mean()
    same = (made(back, near_x) - target_x).abs().mean()
    same = same + (made(there, near_y) - target_y).abs().mean()
    loss = adversarial + 7 * (cycle_x + cycle_y) + 7 * 0.3 * same
    shown = [(d_y, y, fake_y), (d_x, x, fake_x)]
    of_d = sum(
        (
            ((judged(d, layers.crop(2 * real - 1, halo)) - 1) ** 2).mean()
            + (judged(d, fake.detach()) ** 2).mean()
        )
        / 2
        for d, real, fake in shown
    )
    networks = [there, back]
    own = torch.optim.Adam([p for n in networks for p in n.parameters()], 1e-3, (0.5, 0.999))
    others = torch.optim.Adam([*d_y.parameters(), *d_x.parameters()], 1e-3, (0.5, 0.999))
    for value, optimiser in ((loss, own), (of_d, others)):
        optimiser.zero_grad()
        value.backward(retain_graph=True)
    own.step()
    others.step()

    values = step.update(batch, 0, 1e-3)
    expected = {
        "loss": loss,
        "l1": (cycle_x + cycle_y) / 2,
        "identity": same / 2,
        "adversarial": adversarial,
        "discriminator": of_d,
    }
    for name, value in expected.items():
        assert values[name].item() == pytest.approx(value.item(), rel=1e-4), name
    pairs = [(step.generators.there, there), (step.generators.back, back)]
    pairs += [(step.discriminators.target, d_y), (step.discriminators.source, d_x)]
    for found, wanted in pairs:
        for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_patches_of_the_domains_are_drawn_independently(dims):
    config = configured(dims)
    step = CycleStep(config, 2, fabric())
    subjects = [twins(dims, seed=k) for k in range(3)]
    both = Unpaired(*(Patches(subjects, config, 2, step.geometry) for _ in range(2)))
    batch = both.draw("train", 0, range(4))
    again = both.draw("train", 0, range(4))
    assert all(torch.equal(a, b) for a, b in zip(batch.reads, again.reads, strict=True))
    assert batch.targets == ()
    side = config.training.patch + 4 * step.generators.halo
    assert [image.shape for image in batch.reads] == [(4, 1, *(side,) * dims)] * 2
    places = [
        [drawn.decide(f"train {name}", 0, k).reads for k in range(4)]
        for name, drawn in (("source", both.source), ("target", both.target))
    ]
    assert places[0] != places[1]


def test_a_history_shows_what_it_kept():
    """Against the same in plain Python."""
    generator, kept = torch.Generator().manual_seed(0), []
    history, shown = History(3, (1, 2, 2)), []
    for step in range(12):
        new = torch.rand((2, 1, 2, 2), generator=generator)
        found = history.exchange(new, 2 * step, seeds.numpy_rng(5, step))
        rng, expected = seeds.numpy_rng(5, step), []
        for image in new:
            if len(kept) < 3:
                kept.append(image)
                expected.append(image)
            elif rng.random() < 0.5:
                expected.append(image)
            else:
                place = int(rng.integers(3))
                expected.append(kept[place])
                kept[place] = image
        assert torch.equal(found, torch.stack(expected))
        assert torch.equal(history.images[: len(kept)], torch.stack(kept))
        shown += [bool((a != b).any()) for a, b in zip(found, new, strict=True)]
    assert not any(shown[:3])
    assert 4 < sum(shown) < 18
    new = torch.rand(2, 1, 2, 2)
    assert torch.equal(History(0, (1, 2, 2)).exchange(new, 9, seeds.numpy_rng(0)), new)


def test_a_checkpoint_holds_everything(tmp_path):
    config = CycleGan.configured(tiny(), "t1", pool=3)
    steps = [CycleStep(config, 2, fabric()) for _ in range(2)]
    drawn = batches(2, config, steps[0])
    for k in range(4):
        steps[0].update(drawn.draw("train", k, range(2)), k, 1e-2)
    checkpoint.save(steps[0], tmp_path / "c.safetensors", {"step": 4})
    assert checkpoint.load(steps[1], tmp_path / "c.safetensors") == {"step": 4}
    batch = drawn.draw("train", 4, range(2))
    one, other = (step.update(batch, 4, 1e-2) for step in steps)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_rate_and_identity_are_those_of_the_paper():
    config = CycleGan.configured(tiny(learning_rate=0.1), "t1")
    assert config.training.learning_rate == 2e-4
    assert config.cycle.identity == 0


def test_the_rate_falls_to_0_over_the_second_half():
    settings = CycleGan.configured(tiny(), "t1", rate=0.1).training
    rates = [learning_rate(settings, k, 100) for k in range(101)]
    assert set(rates[:51]) == {0.1}
    assert rates[75] == pytest.approx(0.05)
    assert rates[100] == 0


# --- training ----------------------------------------------------------------------------------


def test_pairs_are_of_no_use(tmp_path):
    """The same images as pairs, on two grids at that, and of subjects that have one of them."""
    config = tiny(steps=6, validate_every=3)
    for name, apart in (("pairs", False), ("apart", True)):
        cohort = two_domains(tmp_path / "data", apart=apart)
        CycleGan.fit(cohort, "t1", "t2", config, tmp_path / name, device="cpu")
    assert equal(tmp_path / "pairs", tmp_path / "apart", 2)
    runs = [Run.open(tmp_path / name) for name in ("pairs", "apart")]
    assert runs[0].intensity == runs[1].intensity
    assert [len(run.data) for run in runs] == [3, 6]


@pytest.mark.slow
def test_it_learns_a_contrast_without_pairs(tmp_path):
    cohort = two_domains(tmp_path / "data", ("train",) * 6 + ("val",))
    network = {"hr_width": 8, "discriminator_width": 8}
    config = tiny(network=network, steps=400, patch=16, ema=0.95, validate_every=100)
    method = CycleGan.fit(
        cohort,
        "t1",
        "t2",
        config,
        tmp_path / "run",
        device="cpu",
        weight=2.0,
        pool=10,
        rate=2e-3,
        identity=0.5,
    )
    t1 = head((50, 42), 20, low=20.0)
    real = 100 * (t1 / 100) ** 3
    method.translate(stored(tmp_path / "t1.nii", t1), tmp_path / "t2.nii")
    difference = np.abs(whole(tmp_path / "t2.nii") - real)[t1 > 0].mean()
    assert difference < 0.5 * np.abs(t1 - real)[t1 > 0].mean()
    log = rows(tmp_path / "run" / "s2")
    assert log[-1]["step"] == 400
    assert "validation_l1" in log[-1]


def test_the_last_weights_are_kept(tmp_path):
    """Without pairs no score tells which are best."""
    config, options = tiny(steps=6, validate_every=2), {"rate": 0.05, "device": "cpu"}
    CycleGan.fit(two_domains(tmp_path), "t1", "t2", config, tmp_path / "run", **options)
    with (tmp_path / "run" / "s2" / "done.json").open() as file:
        assert '"best_step": 6' in file.read()


@pytest.mark.slow
def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path):
    cohort = two_domains(tmp_path / "data")
    config = tiny(steps=40, checkpoint_every=15)

    def train(name, report=None):
        options = {"device": "cpu", "report": report, "pool": 8}
        CycleGan.fit(cohort, "t1", "t2", config, tmp_path / name, **options)

    def interrupt(row):
        raise KeyboardInterrupt

    train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("broken", interrupt)
    train("broken")
    assert equal(tmp_path / "whole", tmp_path / "broken", 2)
    clocks = ("seconds", "waited")
    one, other = (
        [{k: v for k, v in row.items() if k not in clocks} for row in rows(tmp_path / n / "s2")]
        for n in ("whole", "broken")
    )
    assert one == other


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    lines = ["subject,role,modality,path,licence,citation,split"]
    for subject in two_domains(tmp_path):
        for modality, path in subject.images.items():
            about = f"{path.name},none,none,{subject.split}"
            lines.append(f"{subject.name},image,{modality},{about}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    config = CycleGan.configured(tiny(steps=8, validate_every=4), "t1", pool=3)
    config.save(tmp_path / "cycle.yaml")
    words = ["train", str(tmp_path / "manifest.csv"), "--target", "t2", "--device", "cpu"]
    words += ["--config", str(tmp_path / "cycle.yaml"), "--out"]
    command = [sys.executable, "-m", "msgan.cli", *words, str(tmp_path / "one")]
    one = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for process in (one, *launched("torchrun", [*words, str(tmp_path / "two")])):
        assert process.returncode == 0, process.stderr
    left, right = (rows(tmp_path / name / "s2")[-1] for name in ("one", "two"))
    for name in ("loss", "l1", "identity", "adversarial", "discriminator"):
        assert left[name] == pytest.approx(right[name], rel=1e-3), name


# --- translation and refusals ------------------------------------------------------------------


def test_tiles_join_exactly(dims, tmp_path):
    cohort = cohort_in(tmp_path, dims)
    both = Cohort(
        tuple(Subject(s.name, {**s.images, "t1": s.images["t2"]}, split=s.split) for s in cohort)
    )
    config, options = tiny(dims, steps=3), {"rate": 1e-2, "device": "cpu"}
    method = CycleGan.fit(both, "t1", "t2", config, tmp_path / "run", **options)
    results = []
    for tile in (None, 8, 10):
        method.translate(tmp_path / "2.nii", tmp_path / f"{tile}.nii", tile=tile)
        results.append(whole(tmp_path / f"{tile}.nii"))
    assert results[0].std() > 0
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0, atol=1e-4 * results[0].max())


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("anatomy", presets.ANATOMIES)
def test_every_preset_has_one(name, anatomy):
    config = presets.preset(name, anatomy)
    own = CycleGan.configured(config, "t1")
    assert own.cycle.source == "t1"
    assert own.training.patch == config.training.patch // 2
    assert own.network.hr_width == config.network.hr_width
    assert own.training.steps == config.training.steps
    assert CascadeConfig.model_validate(own.model_dump()) == own
    assert "cycle" not in config.model_dump()


def test_other_sources_are_another_run(tmp_path):
    cohort = two_domains(tmp_path, apart=True)
    config = configured()
    key = run_key(cohort, "t2", config)
    stored(tmp_path / "0_t1.nii", head((48, 40), 7))
    assert run_key(cohort, "t2", config) != key
    assert run_key(cohort, "t2", CycleGan.configured(tiny(), "t1", pool=9)) != key


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    cohort = two_domains(tmp_path)
    plain = fit(cohort, "t2", tiny(), tmp_path / "plain", device="cpu", scales=[])
    unseen = Cohort(tuple(Subject(s.name, {"t2": s.images["t2"]}) for s in cohort))

    def trained(source="t1", of=cohort, config=None, **options):
        config = tiny() if config is None else config
        CycleGan.fit(of, source, "t2", config, tmp_path / "r", device="cpu", **options)

    cases = [
        (lambda: trained(None), "source None: CycleGAN learns from both domains"),
        (lambda: trained("t2"), "source t2: is the target itself"),
        (lambda: trained(of=unseen), "no training subject has a t1 image"),
        (lambda: trained("flair"), "no training subject has a flair image"),
        (lambda: trained(pool=-1), "cycle.pool: expected at least 0"),
        (lambda: trained(weight=-1), "cycle.weight: expected at least 0"),
        (lambda: trained(scales=[0]), "scale 0 does not exist: there are 2 to 2"),
        (lambda: CycleGan(plain), "plain: was not trained as a CycleGAN"),
        (lambda: configured().updated(labels=(1,)), r"cycle: labels is \(1,\): expected \(\)"),
        (lambda: tiny().updated(cycle={"source": "t1"}), "cycle: sketch.channels is"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()
