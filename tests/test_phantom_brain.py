import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from msgan.paths import sha256
from msgan.phantoms import brain as module
from msgan.phantoms.brain import BrainPhantom, brain, write_cohort
from msgan.phantoms.brain_anatomy import (
    EXTENT_MM,
    ORIGIN_MM,
    VENTRICLES_MM,
    Warp,
    _distance,
    pull,
)
from msgan.phantoms.brain_signal import (
    PATIENTS,
    TISSUES,
    VOLUNTEERS,
    PulseSequence,
    _sliced,
    rician,
)
from msgan.phantoms.fields import block_mean, centres, field
from msgan.phantoms.tumour import Tumour
from msgan.seeds import numpy_rng
from msgan.types import InputError

CLEAN = replace(PATIENTS, snr=1e6, bias=0.0)


@pytest.fixture(scope="module")
def patient() -> BrainPhantom:
    return brain(0, 1, size=64)


@pytest.fixture(scope="module")
def clean() -> BrainPhantom:
    return brain(0, 1, size=64, protocol=CLEAN)


@pytest.fixture(scope="module")
def before() -> BrainPhantom:
    return brain(0, 1, size=64, pathological=False, protocol=CLEAN)


def same(a: BrainPhantom, b: BrainPhantom) -> bool:
    arrays = [*zip(a.images.values(), b.images.values(), strict=True), (a.labels, b.labels)]
    return all(x.tobytes() == y.tobytes() for x, y in arrays)


def mean(phantom: BrainPhantom, modality: str, tissue: str) -> float:
    pure = (phantom.tissue[tissue] > 0.9) & (phantom.mask > 0)
    return float(phantom.images[modality][pure].mean())


def test_same_seed_same_bytes(patient: BrainPhantom) -> None:
    assert same(patient, brain(0, 1, size=64))


@pytest.mark.slow
def test_seed_subject_and_population_make_other_people(patient: BrainPhantom) -> None:
    people = [brain(1, 1), brain(0, 2), brain(0, 1, protocol=VOLUNTEERS)]
    for other in people:
        grey, others = (p.tissue["grey"] * p.mask for p in (patient, other))
        dice = 2 * np.minimum(grey, others).sum() / (grey + others).sum()
        # Folds differ as between registered people, and yet it is the same organ.
        assert 0.4 < dice < 0.8


def test_the_healthy_twin_has_the_same_anatomy_away_from_the_tumour(
    clean: BrainPhantom, before: BrainPhantom
) -> None:
    assert not before.labels.any()
    far = abs(np.indices(clean.mask.shape)[0] * 3 - np.argwhere(clean.labels)[:, 0].mean() * 3) > 75
    assert far.sum() > 10000
    np.testing.assert_allclose(clean.tissue["white"][far], before.tissue["white"][far], atol=0.02)


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        ("t1", ["csf", "grey", "white"]),
        ("t2", ["white", "grey", "csf"]),
        ("flair", ["csf", "white", "grey"]),
    ],
)
def test_contrast_of_healthy_tissue(before: BrainPhantom, modality: str, order: list[str]) -> None:
    means = [mean(before, modality, t) for t in order]
    assert means == sorted(means)
    assert means[1] > 1.5 * means[0] or modality == "t2"
    assert means[2] > 1.05 * means[1]


def test_contrast_of_the_tumour(clean: BrainPhantom) -> None:
    value = {
        (m, t): mean(clean, m, t)
        for m in clean.images
        for t in ("grey", "white", "csf", "oedema", "necrosis", "enhancing")
    }
    assert value["t1", "necrosis"] < value["t1", "oedema"] < value["t1", "grey"]
    assert 0.9 < value["t1", "enhancing"] / value["t1", "grey"] < 1.2
    assert value["t2", "necrosis"] > value["t2", "oedema"] > 1.3 * value["t2", "grey"]
    assert value["flair", "oedema"] > 1.2 * value["flair", "grey"]
    assert value["flair", "csf"] < value["flair", "necrosis"] < value["flair", "oedema"]


@pytest.mark.parametrize("subject", [4, 14, 23])  # the smallest cores of 48
def test_tumour_labels(subject: int) -> None:
    phantom = brain(7, subject, size=48)
    assert set(np.unique(phantom.labels)) == {0, 1, 2, 4}
    assert (phantom.labels == 1).sum() >= 3
    assert not phantom.labels[phantom.mask == 0].any()
    share = (phantom.labels > 0).sum() / phantom.mask.sum()
    assert 0.01 < share < 0.2


def test_background_is_exactly_zero_and_the_brain_touches_no_side(patient: BrainPhantom) -> None:
    for image in patient.images.values():
        assert image.dtype == np.float32
        assert not image[patient.mask == 0].any()
        assert (image[patient.mask > 0] > 0).mean() > 0.999
    for axis in range(3):
        faces = np.moveaxis(patient.mask, axis, 0)
        assert not faces[0].any()
        assert not faces[-1].any()


def test_tissue_sums_to_one_with_partial_volume(patient: BrainPhantom) -> None:
    inside = patient.mask > 0
    total = sum(patient.tissue.values())
    np.testing.assert_allclose(total[inside], 1, atol=1e-4)
    mixed = np.max(np.stack(list(patient.tissue.values())), axis=0)[inside] < 0.9
    assert 0.2 < mixed.mean() < 0.9


@pytest.mark.parametrize("size", [16, 33, 64, 96, 189, 192])
def test_shape_follows_the_box(size: int) -> None:
    sides = module.shape(size)
    assert max(sides) == size == sides[1]
    np.testing.assert_allclose(np.array(sides) / size, np.array(EXTENT_MM) / 192, atol=0.51 / size)


@pytest.mark.slow
def test_sizes_sample_the_same_person_in_the_same_box(clean: BrainPhantom) -> None:
    for size in (32, 50):
        small = brain(0, 1, size=size, protocol=CLEAN)
        np.testing.assert_allclose(np.array(small.spacing) * small.mask.shape, EXTENT_MM)
        np.testing.assert_allclose(
            small.affine @ [*(np.array(small.mask.shape) / 2 - 0.5), 1],
            [*(np.array(ORIGIN_MM) + np.array(EXTENT_MM) / 2), 1],
        )
    half = brain(0, 1, size=32, protocol=CLEAN)
    both = ndimage.binary_erosion(half.mask)
    for name, part in half.tissue.items():
        np.testing.assert_allclose(
            part[both], block_mean(clean.tissue[name], 2)[both], atol=0.05, err_msg=name
        )


def test_size_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="size 8: expected 16 to 256"):
        brain(0, 0, size=8)


def test_deformations_fold_nowhere() -> None:
    axes = centres(ORIGIN_MM, EXTENT_MM, (52, 64, 56))
    for seed in range(6):
        rng = numpy_rng(seed, "test")
        warp, tumour = Warp.random(rng), Tumour.random(rng)
        points = warp(rng, axes)
        straight = np.stack(np.meshgrid(*axes, indexing="ij"))
        moved = np.linalg.norm(np.stack(points) - straight, axis=0)
        pull(points, tumour.centre_mm, [2.2 * r for r in tumour.radii_mm], tumour.push)
        pull(points, *VENTRICLES_MM, warp.ventricles)
        spacing = [e / n for e, n in zip(EXTENT_MM, (52, 64, 56), strict=True)]
        jacobian = np.stack([np.stack(np.gradient(p, *spacing)) for p in points])
        determinant = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
        assert determinant.min() > 0.05
        assert moved.mean() > 2  # and it is no identity either


def test_warp_keeps_the_injectivity_bound_of_choi_and_lee() -> None:
    assert sum(reach / lattice for lattice, reach in Warp.LATTICES) < 1 / 2.48


def test_field_has_unit_variance_and_knows_no_voxels() -> None:
    extent, origin = (200.0, 200.0, 200.0), (0.0, 0.0, 0.0)
    fine = field(numpy_rng(0, "f"), centres(origin, extent, (60,) * 3), origin, extent, 9.0)
    assert abs(fine.std() - 1) < 0.05
    coarse = field(numpy_rng(0, "f"), centres(origin, extent, (20,) * 3), origin, extent, 9.0)
    # The centre of a coarse voxel is the centre of the middle one of 3 fine voxels.
    np.testing.assert_allclose(coarse, fine[1::3, 1::3, 1::3], atol=1e-4)
    inside = field(
        numpy_rng(1, "f"), centres(origin, extent, (30,) * 3), origin, extent, 9.0, uniform=True
    )
    assert abs(inside).max() <= 1


def test_noise_is_rician() -> None:
    shape, sigma = (40, 40, 40), 3.0
    background = rician(np.zeros(shape, np.float32), sigma, numpy_rng(0, "n"))
    assert background.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.01)
    bright = rician(np.full(shape, 100 * sigma, np.float32), sigma, numpy_rng(0, "n"))
    assert bright.std() == pytest.approx(sigma, rel=0.02)


def test_noise_follows_the_snr(clean: BrainPhantom) -> None:
    noisy = brain(0, 1, size=64, protocol=replace(CLEAN, snr=20.0))
    white = (clean.tissue["white"] > 0.95) & (clean.mask > 0)
    for modality, sequence in CLEAN.sequences.items():
        seen, real = noisy.images[modality][white], clean.images[modality][white]
        wanted = 20 / sequence.noise
        assert real.mean() / (seen - real).std() == pytest.approx(wanted, rel=0.1), modality


def test_slices_of_a_modality_are_as_thick_as_stated() -> None:
    profile = np.zeros((3, 3, 96), np.float32)
    profile[:, :, 48] = 1
    seen = _sliced(profile, np.arange(96) * 0.5, 4.0)[1, 1]
    assert seen.sum() == pytest.approx(1, abs=1e-3)
    above = np.flatnonzero(seen >= seen.max() / 2)
    assert (above[-1] - above[0]) * 0.5 == pytest.approx(4.0, abs=0.5)


def test_no_curve_makes_one_modality_of_another(patient: BrainPhantom) -> None:
    """What the best curve of T1 leaves of T2 is, as in real patients, a third or more of it."""
    inside = patient.mask > 0
    t1, t2 = (patient.images[m][inside] for m in ("t1", "t2"))
    place = np.digitize(t1, np.quantile(t1, np.linspace(0, 1, 51)[1:-1]))
    curve = np.bincount(place, t2) / np.bincount(place)
    assert (t2 - curve[place]).std() > 0.3 * t2.std()


def test_bias_stays_within_its_bound(clean: BrainPhantom) -> None:
    biased = brain(0, 1, size=64, protocol=replace(CLEAN, bias=0.2))
    inside = clean.images["t2"] > 100
    ratio = biased.images["t2"][inside] / clean.images["t2"][inside]
    assert 0.79 < ratio.min() < 0.97
    assert 1.03 < ratio.max() < 1.21


def test_signal_equations() -> None:
    csf, white = TISSUES["csf"], TISSUES["white"]
    long = PulseSequence("se", tr_ms=1e6, te_ms=0, gain=1.0)
    assert long.signal(white) == pytest.approx(white.density)
    echo = replace(long, te_ms=white.t2_ms)
    assert echo.signal(white) == pytest.approx(white.density / np.e)
    null = PulseSequence("ir", tr_ms=1e6, te_ms=0, ti_ms=csf.t1_ms * np.log(2), gain=1.0)
    assert null.signal(csf) == pytest.approx(0, abs=1e-12)
    right_angle = PulseSequence("spgr", tr_ms=500, te_ms=0, flip_deg=90, gain=1.0)
    assert right_angle.signal(csf) == pytest.approx(replace(right_angle, kind="se").signal(csf))
    with pytest.raises(InputError, match="TI 3000 ms is not between 0 and TR 2000"):
        PulseSequence("ir", tr_ms=2000, te_ms=10, ti_ms=3000)


@pytest.mark.slow
def test_cohort(tmp_path) -> None:
    manifest = write_cohort(tmp_path / "a", subjects=4, size=16, seed=5, folds=2)
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    header = manifest.read_text().splitlines()[0]
    assert header == (
        "subject,role,modality,path,sha256,licence,citation,split,fold,unit,source_url"
    )
    assert len(rows) == 4 * 5
    for row in rows:
        assert row["sha256"] == sha256(manifest.parent / row["path"])
        assert "Louis Collins" in row["licence"]
    assert {r["split"] for r in rows} == {"train", "test"}
    assert len({r["subject"] for r in rows if r["split"] == "test"}) == 1
    assert [sum(r["fold"] == f for r in rows) for f in "01"] == [10, 10]
    roles = [(r["role"], r["modality"]) for r in rows[:5]]
    assert roles == [("image", m) for m in ("t1", "t2", "flair")] + [("labels", ""), ("mask", "")]

    alone = brain(5, 2, size=16)
    stored = nib.load(manifest.parent / "patient002" / "patient002_flair.nii.gz")
    assert stored.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(stored.dataobj), alone.images["flair"])
    np.testing.assert_allclose(stored.affine, alone.affine)

    again = write_cohort(tmp_path / "b", subjects=4, size=16, seed=5, folds=2)
    assert again.read_bytes() == manifest.read_bytes()


def test_healthy_cohort_has_no_tumours_and_another_t1(tmp_path) -> None:
    manifest = write_cohort(tmp_path, subjects=1, size=16, seed=5, healthy=True, test_share=0)
    labels = nib.load(manifest.parent / "healthy000" / "healthy000_labels.nii.gz")
    assert not np.asarray(labels.dataobj).any()
    assert VOLUNTEERS.t1.kind != PATIENTS.t1.kind
    with pytest.raises(InputError, match="0 subjects"):
        write_cohort(tmp_path, subjects=0, size=16, seed=5)


@pytest.mark.parametrize("modality", ["t1", "t2", "flair"])
def test_intensities_are_spread_as_in_patients(
    shared_data: Path, clean: BrainPhantom, modality: str
) -> None:
    def spread(image: np.ndarray) -> np.ndarray:
        return np.percentile(image, [25, 50, 75]) / np.percentile(image, 99.5)

    real = []
    for patient in (19, 26):
        name = f"mni_patient{patient}__{modality.upper()}_brain_N4_regtoMNI.nii.gz"
        path = shared_data / "brain_ms" / name
        if not path.exists():
            pytest.skip(f"{path.name} is absent")
        values = np.asarray(nib.load(path).dataobj, np.float32)[::3, ::3, ::3]
        real.append(spread(values[values > 0]))
    phantom = spread(clean.images[modality][clean.mask > 0])
    # Two patients are few and differ by 0.18 themselves (T1, lower quartile): near their range.
    assert (phantom > np.min(real, axis=0) - 0.1).all(), (phantom, real)
    assert (phantom < np.max(real, axis=0) + 0.1).all(), (phantom, real)


def test_distances_are_those_of_scipy() -> None:
    mask = np.random.default_rng(0).random((9, 12, 7)) > 0.1
    np.testing.assert_array_equal(_distance(mask), ndimage.distance_transform_edt(mask))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"kind": "epi"}, "pulse sequence 'epi': expected se, ir or spgr"),
        ({"tr_ms": 0}, "TR 0 ms, TE 4 ms: expected TR > 0 and TE >= 0"),
        ({"te_ms": -1}, "TR 2000 ms, TE -1 ms: expected TR > 0 and TE >= 0"),
    ],
)
def test_a_sequence_that_no_scanner_has_is_refused(change, rule):
    with pytest.raises(InputError, match=f"^{rule}$"):
        replace(PATIENTS.t1, **change)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"snr": 0}, "SNR 0 is not positive"),
        ({"bias": 1.0}, r"bias 1\.0, variation 0\.04: expected \[0, 1\) and \[0, 0\.2\)"),
        ({"variation": 0.2}, r"bias 0\.12, variation 0\.2: expected \[0, 1\) and \[0, 0\.2\)"),
    ],
)
def test_a_protocol_that_no_scanner_has_is_refused(change, rule):
    with pytest.raises(InputError, match=f"^{rule}$"):
        replace(PATIENTS, **change)
