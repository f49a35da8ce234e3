"""Scales trained on what the scales below them make of the training sketches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cohort_in, equal, tiny

from msgan.config import CascadeConfig
from msgan.data.cohort import Cohort, prepare
from msgan.data.volume import open_volume
from msgan.methods import cascade
from msgan.methods.cascade import fit
from msgan.runs.run import Run
from msgan.training import cache
from msgan.training.batches import Patches
from msgan.training.cache import CachedSubject, cached
from msgan.translate import contexts, translate
from msgan.types import Box, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def taught(dims: int = 2, share: float = 1.0, family: str = "seamless", **training):
    """A configuration whose HR scales see made contexts; each subject has three sketches."""
    config = tiny(dims, {"family": family}, **training)
    conditioning = config.conditioning.model_copy(update={"generated_share": share})
    contrast = config.contrast.model_copy(update={"share": 0.5, "variants": 2})
    return config.model_copy(update={"conditioning": conditioning, "contrast": contrast})


def subjects_of(run: Run, cohort: Cohort, folder: Path) -> dict[str, CachedSubject]:
    found = {}
    for subject in cohort:
        with prepare(subject, "t2", run.config.preparation) as opened:
            found[subject.name] = cached(opened, run.config, run.data[subject.name], folder)
    return found


def kept(path: Path, run: Run) -> np.ndarray:
    with open_volume(path, check=False) as volume:
        return run.intensity.to_unit(volume.whole())


def trained(folder: Path, config: CascadeConfig, cohort: Cohort, scales=(0, 1)) -> Run:
    run = fit(cohort, "t2", config, folder / "run", device="cpu", scales=scales)
    assert [run.finished(i) for i in range(3)] == [i in scales for i in range(3)]
    return run


@pytest.mark.parametrize("family", ["seamless", "megan"])
@pytest.mark.slow
def test_contexts_are_what_a_translation_makes(dims, family, tmp_path, monkeypatch):
    """Of the image's own sketch, at every scale, whatever the tiles."""
    monkeypatch.setattr(cache, "SKETCH_DTYPE", "float32")  # else halves are compared
    patch = {"patch": 32} if family == "megan" else {}
    config, cohort = taught(dims, family=family, **patch), cohort_in(tmp_path, dims)
    run = trained(tmp_path, config, cohort, (0, 1, 2))
    assert not (run.folder / contexts.FOLDER).exists()  # of no more use
    subjects, there = subjects_of(run, cohort, tmp_path / "cache"), tmp_path / "kept"
    translate(run, cohort["s1"], tmp_path / "out.nii", device="cpu", keep=there)
    monkeypatch.setattr(contexts, "MEMORY", 0)  # the smallest tiles
    for scale in (1, 2):
        found = contexts.generate_contexts(run, subjects, scale, torch.device("cpu"))
        assert list(found) == list(subjects)
        made = found["s1"].generated
        assert [m.shape for m in made] == [subjects["s1"].images[scale - 1].shape] * 3
        expected = kept(there / f"y{scale - 1}.nii", run)
        np.testing.assert_allclose(made[0][0].numpy(), expected, rtol=0, atol=2e-4)
        assert float((made[1][0] - made[0][0]).abs().max()) > 1e-3  # of another sketch


def test_patches_see_the_context_of_their_own_sketch(dims, tmp_path):
    config, cohort = taught(dims), cohort_in(tmp_path, dims)
    run = trained(tmp_path, config, cohort)
    subjects = subjects_of(run, cohort, tmp_path / "cache")
    own = contexts.generate_contexts(run, subjects, 2, torch.device("cpu"))
    patches = Patches([own["s0"]], run.config, 2, run.generator(1).geometry, augmented=True)
    seen = set()
    for step in range(12):
        sample = patches.decide("train", step, 0)
        (around,) = patches.draw("train", step, [0]).reads[1]
        made = own["s0"].generated[sample.variant]
        outside = Box.whole(made.shape[1:])
        box = sample.reads[1]
        inside = box.clipped(outside.size)
        expected = torch.full(box.size, -1.0)
        expected[inside.inside(box).slices] = made[0][inside.slices]
        flipped = expected.flip(sample.mirrored) if sample.mirrored else expected
        assert sample.generated
        torch.testing.assert_close(around[0], flipped, rtol=0, atol=0)
        seen.add(sample.variant)
    assert len(seen) > 1


def test_a_share_of_contexts_is_real_and_degraded(tmp_path):
    cohort = cohort_in(tmp_path)
    run = trained(tmp_path, taught(share=0.4), cohort)
    own = contexts.generate_contexts(
        run, subjects_of(run, cohort, tmp_path / "cache"), 1, torch.device("cpu")
    )
    patches = Patches([own["s0"]], run.config, 1, run.generator(1).geometry, augmented=True)
    chosen = [patches.decide("train", step, 0).generated for step in range(400)]
    assert sum(chosen) == pytest.approx(160, abs=30)
    step = chosen.index(False)
    other = Patches([own["s0"]], run.config, 1, run.generator(1).geometry, augmented=False)
    noisy, plain = (p.draw("train", step, [0]).reads[1] for p in (patches, other))
    assert float((noisy - plain).std()) > 0.03
    # Beside real ones in a batch those that were made stay as they are.
    mixed = next(
        k for k in range(400) if len({patches.decide("train", k, n).generated for n in (0, 1)}) > 1
    )
    noisy, plain = (p.draw("train", mixed, [0, 1]).reads[1] for p in (patches, other))
    for number, (one, raw) in enumerate(zip(noisy, plain, strict=True)):
        assert torch.equal(one, raw) == patches.decide("train", mixed, number).generated
    # What else is drawn does not depend on it.
    without = Patches([own["s0"]], taught(share=0.0), 1, run.generator(1).geometry)
    for k in range(20):
        a, b = (p.decide("train", k, 0) for p in (patches, without))
        assert (a.targets, a.variant, a.mirrored, a.seed) == (
            b.targets,
            b.variant,
            b.mirrored,
            b.seed,
        )


def test_a_scale_waits_for_those_below(tmp_path):
    cohort = cohort_in(tmp_path)
    for scales, late in (([0, 2], 2), ([1, 0], 1), ([2], 2)):
        message = (
            rf"scale {late}: .* made by scale {late - 1} \(generated_share 1\): train that first"
        )
        with pytest.raises(InputError, match=message):
            fit(cohort, "t2", taught(), tmp_path / "run", device="cpu", scales=scales)
    assert not (tmp_path / "run").exists()  # said before anything is done
    trained(tmp_path, taught(), cohort, (0,))
    fit(cohort, "t2", taught(), tmp_path / "run", device="cpu")
    fit(cohort, "t2", taught(), tmp_path / "whole", device="cpu")
    assert all(equal(tmp_path / "run", tmp_path / "whole", i) for i in range(3))
    fit(cohort, "t2", taught(share=0.0), tmp_path / "real", device="cpu")
    assert equal(tmp_path / "real", tmp_path / "whole", 0)
    assert not any(equal(tmp_path / "real", tmp_path / "whole", i) for i in (1, 2))


def test_contexts_that_are_there_are_used(tmp_path, monkeypatch):
    """A killed training makes none twice, and none is left half-written."""
    cohort, calls = cohort_in(tmp_path), []
    run = trained(tmp_path, taught(), cohort, (0,))
    write = contexts._write

    def killed(path, *rest):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(path.name)
        write(path, *rest)

    monkeypatch.setattr(contexts, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(cohort, "t2", taught(), run.folder, device="cpu")
    monkeypatch.setattr(contexts, "_write", lambda p, *s: (calls.append(p.name), write(p, *s)))
    fit(cohort, "t2", taught(), run.folder, device="cpu", scales=[1])
    assert sorted(calls) == [f"s{k}-{v}.npy" for k in range(3) for v in range(3)]


def test_who_is_blind_to_the_context_needs_none(tmp_path, monkeypatch):
    monkeypatch.setattr(cascade, "generate_contexts", None)
    config = taught().model_copy(update={"drop_inputs": ("context",)})
    run = fit(cohort_in(tmp_path), "t2", config, tmp_path / "run", device="cpu")
    assert run.finished(2)


def test_contexts_of_a_cascade_without_sketches_come_from_the_context_alone(tmp_path):
    cohort = cohort_in(tmp_path)
    config = taught().model_copy(update={"drop_inputs": ("sketch",)})
    run = trained(tmp_path, config, cohort)
    subjects = subjects_of(run, cohort, tmp_path / "cache")
    below = contexts.generate_contexts(run, subjects, 1, torch.device("cpu"))["s0"].generated
    own = contexts.generate_contexts(run, subjects, 2, torch.device("cpu"))["s0"].generated
    blank = [torch.zeros_like(s) for s in subjects["s0"].sketches[1]]
    generator = run.generator(1)
    halo, wide = (view.halo for view in generator.geometry.reads)
    pad = (wide,) * 4
    for context, sketch, made in zip(below, blank, own, strict=True):
        around = torch.nn.functional.pad(context, pad, value=-1.0)[None]
        wide = torch.nn.functional.pad(sketch.float(), (halo,) * 4)[None]
        with torch.inference_mode():
            expected = generator(wide, around)[0][0].clamp(-1, 1)
        close = (made - expected).abs() < 0.011  # what is nearly background is background
        assert close.all()


def test_what_lies_beyond_an_image_is_kept_as_it_goes_on(dims, tmp_path):
    """Half of a face of the real image goes on beyond, so half of what was made does."""
    rim, shape = 2, (12, 10, 9)[:dims]
    real = np.full(tuple(n + 2 * rim for n in shape), -1, np.float32)
    real[(slice(None), slice(0, 7))] = 0.5
    subject = CachedSubject("a", (torch.from_numpy(real)[None],), ((),), rims=(rim, rim))
    made = np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)
    whole, path = Box.whole(shape), tmp_path / "a.npy"
    halves = whole.tiles((7, *shape[1:]))
    contexts._write(path, ((box, made[box.slices]) for box in halves), subject, 0)
    found = np.load(path)[0]
    np.testing.assert_array_equal(found[tuple(slice(rim, -rim) for _ in shape)], made)
    side = found[(0, slice(rim, -rim), *[slice(rim, -rim)] * (dims - 2))]
    np.testing.assert_array_equal(side[:5], made[0, :5])
    np.testing.assert_array_equal(side[5:], -1)
