"""The estimate at s0: polarity, fusion, the student, the profile of a target."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import head, reader
from scipy.ndimage import gaussian_filter, maximum_filter

from msgan import pyramid
from msgan.match import fusion, histogram, spectrum
from msgan.match.fusion import Moments, Polarity, fused, polarity
from msgan.match.profile import FILE, TargetProfile
from msgan.match.slope import HIDDEN, hiding
from msgan.match.spectrum import Spectrum
from msgan.match.student import REACH, Student, features
from msgan.translate.estimate import Guided, estimate, matching
from msgan.types import Box, InputError, read_padded

SHAPES = {2: (60, 50), 3: (26, 22, 24)}


@pytest.fixture
def small_blocks(monkeypatch, dims):
    """Many blocks of an odd size."""
    monkeypatch.setitem(fusion.BLOCK, dims, 17)


def image_of(dims: int, seed: int = 0):
    """A head in [-1, 1], float32."""
    return (head(SHAPES[dims], seed) / 50 - 1).astype(np.float32)


def hole_of(shape) -> np.ndarray:
    """Labels in the middle."""
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 2 - 2, n // 2 + 3) for n in shape)] = 2
    return labels


# --- moments and polarity ----------------------------------------------------------------------


def test_moments_give_the_correlation_where_both_are_seen(dims, small_blocks):
    rng, shape = np.random.default_rng(0), SHAPES[dims]
    x = rng.uniform(-1.5, 1, shape).clip(-1).astype(np.float32)
    y = (0.5 * x + rng.uniform(-1, 0.5, shape)).clip(-1, 1).astype(np.float32)
    labels = hole_of(shape)
    found = Moments.of(reader(x), reader(y), shape, reader(labels))
    used = (x > -1) & (y > -1) & (labels == 0)
    assert found.sums[0] == used.sum()
    assert found.correlation == pytest.approx(np.corrcoef(x[used], y[used])[0, 1], abs=1e-9)
    every = Moments.of(reader(x), reader(y), shape)
    inside = (x > -1) & (y > -1)
    assert every.correlation == pytest.approx(np.corrcoef(x[inside], y[inside])[0, 1], abs=1e-9)


def test_moments_of_several_images_add_up():
    rng = np.random.default_rng(1)
    images = [rng.uniform(-0.9, 1, (2, 20, 30)) for _ in range(3)]
    total = sum((Moments.of(reader(x), reader(y), x.shape) for x, y in images), Moments())
    x, y = (np.concatenate([pair[k].ravel() for pair in images]) for k in (0, 1))
    assert total.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


def test_what_is_constant_or_empty_agrees_with_nothing():
    flat, other = np.full((8, 8), 0.3), np.random.default_rng(0).uniform(-0.5, 1, (8, 8))
    assert Moments().correlation == 0
    assert Moments.of(reader(flat), reader(other), (8, 8)).correlation == 0


def moments(correlation: float) -> list[Moments]:
    """Of an image of unit variance with this correlation."""
    return [Moments((1.0, 0.0, 0.0, 1.0, 1.0, correlation))]


@pytest.mark.parametrize(
    ("straight", "inverted", "given", "way", "by"),
    [
        (0.5, -0.4, {}, False, "images"),
        (-0.4, 0.5, {}, True, "images"),
        (0.30, 0.16, {}, None, "images"),  # too close
        (0.5, -0.4, {"modalities": ("T1", "t2")}, True, "modalities"),
        (-0.5, 0.4, {"modalities": ("flair", "T1")}, False, "modalities"),
        (0.5, -0.4, {"modalities": ("T1", "ct")}, True, "modalities"),
        (0.5, -0.4, {"modalities": ("pd", "t2")}, False, "images"),
        (0.5, -0.4, {"modalities": (None, "t2")}, False, "images"),
        (0.5, -0.4, {"stated": True, "modalities": ("t1", "flair")}, True, "user"),
        (-0.5, 0.4, {"stated": False}, False, "user"),
    ],
)
def test_polarity_is_stated_or_known_or_clear(straight, inverted, given, way, by):
    found = polarity(moments(straight), moments(inverted), **given)
    assert (found.inverted, found.stated) == (way, by)
    expected = inverted if way else straight
    if way is None:
        assert found.weight == 0
        assert "--polarity same or --polarity inverted" in str(found)
        assert len(str(found).splitlines()) == 1
    else:
        assert found.agreement == pytest.approx(expected)
        assert found.margin == pytest.approx(expected - (straight if way else inverted))
        assert f"polarity {'inverted' if way else 'same'} (by {by};" in str(found)
        assert ("not used" in str(found)) == (found.weight == 0)


@pytest.mark.parametrize(
    ("agreement", "weight"),
    [(-0.3, 0), (0.15, 0), (0.2, 0.05), (0.275, 0.125), (0.4, 0.25), (0.9, 0.25)],
)
def test_the_weight_of_a_match_rises_with_its_agreement(agreement, weight):
    assert Polarity(True, agreement, 0.3, "images").weight == pytest.approx(weight)
    assert Polarity(True, agreement, 0.3, "user").weight == pytest.approx(2 * weight)
    assert Polarity(True, agreement, 0.3, "modalities").weight == 0.5  # whatever is drawn
    assert Polarity(None, agreement, 0.3, "images").weight == 0


@pytest.mark.parametrize(
    ("error", "agreement", "by", "weight"),
    [
        (None, 0.8, "modalities", 0.5),
        (0.1, 0.8, "modalities", 0.5),  # of a gap of 0.4
        (0.3, 0.8, "modalities", 0.75),
        (0.5, 0.8, "modalities", 0.9),  # what is drawn always has a say
        (0.3, 0.8, "images", 0.75),
        (0.3, 0.1, "images", 0),  # it does not agree: perhaps it is no match at all
    ],
)
def test_a_match_deserves_the_share_of_the_drawing_s_error(error, agreement, by, weight):
    """Errors that are independent add up to the gap between both images."""
    given = {"modalities": ("t1", "t2")} if by == "modalities" else {}
    turned = [replace(m, sums=(*m.sums[:3], 1.0, 1.0, agreement)) for m in moments(0)]
    assert turned[0].gap == pytest.approx(2 - 2 * agreement)
    found = polarity(moments(-0.5), turned, error=error and error * turned[0].gap / 0.4, **given)
    assert found.stated == by
    assert found.weight == pytest.approx(weight)
    assert Moments().gap == 0


# --- fusion ------------------------------------------------------------------------------------


def test_where_the_match_is_hidden_only_what_is_drawn_is_seen(dims):
    shape, rng = SHAPES[dims], np.random.default_rng(0)
    drawn = rng.uniform(-1, 1, shape).astype(np.float32)
    matched = rng.uniform(-1.5, 1, shape).clip(-1).astype(np.float32)
    matched[hole_of(shape) > 0] = HIDDEN
    read = fused(reader(drawn), reader(matched), 0.4)
    out = read(Box.whole(shape))
    alone = matched <= -1
    assert (out[alone] == drawn[alone]).all()
    mean = 0.6 * drawn + 0.4 * matched
    np.testing.assert_allclose(out[~alone], mean[~alone], rtol=0, atol=1e-6)
    for box in Box.whole(shape).tiles((9, 7, 11)[:dims]):
        np.testing.assert_array_equal(read(box), out[box.slices])


# --- histograms --------------------------------------------------------------------------------


def test_a_distribution_is_that_of_the_foreground_without_labels(dims, small_blocks, monkeypatch):
    image, labels = image_of(dims), hole_of(SHAPES[dims])
    image[labels > 0] = 0.99
    shares = histogram.cumulative(reader(image), image.shape, reader(labels))
    used = np.sort(image[(image > -1) & (labels == 0)])
    expected = np.searchsorted(used, histogram.EDGES, side="left") / used.size
    np.testing.assert_allclose(shares, expected, rtol=0, atol=2 / used.size)
    every = histogram.cumulative(reader(image), image.shape)
    assert every[-25] < 1 - 1e-3 < shares[-25]


def test_what_is_hidden_stays_hidden_in_a_match(dims):
    image, labels = image_of(dims), hole_of(SHAPES[dims])
    hidden = hiding(read_any(image), read_any(labels, 0), image.shape, 1)
    shares = histogram.cumulative(hidden, image.shape)
    target = np.linspace(-1, 1, len(histogram.RANKS))
    read = histogram.matched(hidden, shares, target, inverted=True)
    out, near = read(Box.whole(image.shape)), maximum_filter(labels, 3) > 0
    assert (out[near] == HIDDEN).all()
    assert (out[(image == -1) & ~near] == -1).all()
    assert out.dtype == np.float32


def read_any(image, outside=-1):
    return lambda box: read_padded(reader(image), image.shape, box, outside)


# --- the student -------------------------------------------------------------------------------


def test_features_of_a_block_are_those_of_the_whole(dims):
    image = image_of(dims)
    image[hole_of(image.shape) > 0] = HIDDEN
    everything = features(reader(image), image.shape, Box.whole(image.shape))
    assert everything.dtype == np.float32
    assert everything.shape == (*image.shape, 10)
    assert np.isfinite(everything).all()
    for box in Box.whole(image.shape).tiles((13, 11, 9)[:dims]):
        np.testing.assert_array_equal(
            features(reader(image), image.shape, box), everything[box.slices]
        )
    # What is hidden is no border, and no part of a mean.
    middle = tuple(n // 2 - 3 for n in image.shape)
    assert everything[middle][1] > 4
    assert everything[(..., 2)][image > -1].min() > -1


def test_without_a_border_everything_is_deep():
    inner = features(
        lambda box: np.full(box.size, 0.2, np.float32), (90, 90), Box((40, 40), (4, 4))
    )
    assert (inner[..., 1] == REACH).all()


def relation(image):
    """A target that is a function of a source, and an estimate of it full of blunders."""
    rng = np.random.default_rng(5)
    truth = np.where(image > -1, 0.4 - 0.5 * image, -1).astype(np.float32)
    noise = gaussian_filter(rng.normal(size=image.shape), 1.5)
    noisy = (truth + 0.3 * noise / noise.std()).clip(-1, 1).astype(np.float32)
    return truth, np.where(image > -1, noisy, -1).astype(np.float32)


def test_a_student_keeps_what_the_source_supports(dims):
    image = image_of(dims)
    truth, noisy = relation(image)
    read = Student.of(reader(image), reader(noisy), image.shape).estimate(
        reader(image), image.shape
    )
    said, inside = read(Box.whole(image.shape)), image > -1
    before, after = (np.abs(x - truth)[inside].mean() for x in (noisy, said))
    assert after < 0.8 * before
    assert (said[~inside] == -1).all()
    assert said.dtype == np.float32
    for box in Box.whole(image.shape).tiles((19, 23, 25)[:dims]):
        np.testing.assert_array_equal(read(box), said[box.slices])


def test_a_student_is_the_same_whatever_the_blocks(dims, monkeypatch):
    """Also where it is fitted to a part of the voxels."""
    monkeypatch.setattr("msgan.match.student.SAMPLES", 900)
    image = image_of(dims)
    _, noisy = relation(image)

    def said():
        student = Student.of(reader(image), reader(noisy), image.shape)
        return student.estimate(reader(image), image.shape)(Box.whole(image.shape))

    once = said()
    np.testing.assert_array_equal(said(), once)
    monkeypatch.setitem(fusion.BLOCK, dims, 10)
    np.testing.assert_array_equal(said(), once)


def test_hidden_voxels_take_no_part_in_a_student(dims):
    image = image_of(dims)
    _, noisy = relation(image)
    labels, other = hole_of(image.shape), noisy.copy()
    other[labels > 0] = 1
    image[labels > 0] = HIDDEN
    students = [Student.of(reader(image), reader(of), image.shape) for of in (noisy, other)]
    seen, outside = (
        s.estimate(reader(image), image.shape)(Box.whole(image.shape)) for s in students
    )
    np.testing.assert_array_equal(seen, outside)


def test_of_nothing_there_is_no_student():
    empty = reader(np.full((9, 9), -1, np.float32))
    full, hidden = (reader(np.full((9, 9), v, np.float32)) for v in (0, HIDDEN))
    assert Student.of(empty, full, (9, 9)) is None
    assert Student.of(hidden, full, (9, 9)) is None


# --- the profile -------------------------------------------------------------------------------


def profile_of(kind):
    if kind == "spectrum":
        spectra = tuple(Spectrum(np.linspace(k, 0.1, 32), 0.5 / k) for k in (1.0, 2.0))
        return TargetProfile(kind, np.empty(0), spectra)
    return TargetProfile(kind, np.sort(np.random.default_rng(0).uniform(-1, 1, 1025)), error=0.02)


@pytest.mark.parametrize("kind", ["histogram", "spectrum"])
def test_a_profile_is_read_as_it_was_written(kind, tmp_path):
    profile = profile_of(kind)
    profile.save(tmp_path)
    found = TargetProfile.load(tmp_path)
    assert found.kind == kind
    np.testing.assert_allclose(found.quantiles, profile.quantiles, rtol=0, atol=1e-6)
    assert found.error == profile.error
    assert len(found.spectra) == len(profile.spectra)
    for one, other in zip(found.spectra, profile.spectra, strict=True):
        np.testing.assert_array_equal(one.power, other.power)
        assert one.nyquist == other.nyquist
    written = (tmp_path / FILE).read_bytes()
    found.save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == written  # as an export writes it


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind": "histogram"', '"kind": "other"'),
        ('"kind": "histogram"', '"kind": "spectrum"'),
        ('"kind": "histogram"', '"kind": ["histogram"]'),
        ('"quantiles": [', '"quantiles": [0.5, '),
        ('"quantiles": [', '"quantiles": ["a", '),
        ('"quantiles": [', '"quantils": ['),
        ('"spectra": []', '"spectra": 3'),
        ('"error": 0.02', '"error": -0.02'),
        ('"error": 0.02', '"error": NaN'),
        ('"error": 0.02', '"error": [1]'),
        ('"spectra": []', '"spectra": [{"power": [1]}]'),
        ("{", "["),
        ("}", ""),
    ],
)
def test_a_damaged_profile_is_one_clear_error(old, new, tmp_path):
    profile_of("histogram").save(tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=r"match\.json") as caught:
        TargetProfile.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count(FILE) == 1


def test_numbers_that_are_none_are_no_profile(tmp_path):
    profile_of("histogram").save(tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace('"quantiles": [-', '"quantiles": [NaN, -', 1))
    with pytest.raises(InputError, match=r"match\.json"):
        TargetProfile.load(tmp_path)


def test_a_profile_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"match\.json: no such file: the run needs it to match"):
        TargetProfile.load(tmp_path)


# --- spectra and labels ------------------------------------------------------------------------


def test_labels_have_no_say_in_a_spectrum():
    rng = np.random.default_rng(0)
    image = (0.2 * rng.normal(size=(64, 64))).clip(-0.9, 1)
    labels = np.zeros((64, 64), np.uint8)
    labels[10:20, 30:40] = 1
    other = np.where(labels > 0, 0.9, image)
    found, same = (
        Spectrum.of(reader(x), x.shape, (1.0, 1.0), reader(labels)).power for x in (image, other)
    )
    np.testing.assert_array_equal(found, same)
    plain = Spectrum.of(reader(image), image.shape, (1.0, 1.0)).power
    assert np.abs(np.log(found[2:] / plain[2:])).mean() < 0.3
    with pytest.raises(InputError, match="no patch"):
        Spectrum.of(reader(image), image.shape, (1.0, 1.0), reader(np.ones_like(labels)))


# --- all of it ---------------------------------------------------------------------------------


def kept():
    """A ``keep`` that holds images as they are, and what was kept."""
    names = {}

    def keep(name, read):
        names[name] = read
        return read

    return keep, names


def estimated(source, drawn, profile, target, keep, student=False, **options):
    """The estimate at s0 of one drawing."""
    match = matching(source, drawn, profile, target, keep, **options)
    return estimate(match, drawn, source.coarsest, student=student)


def test_the_estimate_is_the_mean_of_what_was_drawn_and_matched(dims):
    """Of an image on s1 that is the target turned round, and drawings that are half right."""
    shape = tuple(2 * n for n in SHAPES[dims])
    texture = head(shape, 3) / 50 - 1
    image = np.where(texture > -1, texture, -1).astype(np.float32)
    target = np.where(image > -1, -image * 0.8, -1).astype(np.float32)
    shares = histogram.cumulative(reader(target), shape)
    profile = TargetProfile("histogram", histogram.quantiles(shares))
    truth = pyramid.halve(target, dims)
    rng = np.random.default_rng(0)
    drawn = (truth + 0.3 * rng.normal(size=truth.shape)).clip(-1, 1).astype(np.float32)
    source = Guided(reader(image), shape, 1)
    keep, names = kept()
    found = estimated(source, reader(drawn), profile, "t2", keep)
    assert found.polarity.inverted is True
    assert found.polarity.stated == "images"
    weight = found.polarity.weight
    assert 0 < weight <= 0.25
    everything = Box.whole(truth.shape)
    out, matched = found.read(everything), names["matched1"](everything)
    both = np.stack([drawn, matched])
    inside = matched > -1
    mean = (1 - weight) * drawn + weight * matched
    np.testing.assert_allclose(out[inside], mean[inside], rtol=0, atol=1e-6)
    spread = found.spread(everything)
    np.testing.assert_allclose(spread[inside], both.std(0)[inside], rtol=0, atol=1e-6)
    assert (spread[~inside] == 0).all()
    assert np.abs(out - truth)[inside].mean() < 0.8 * np.abs(drawn - truth)[inside].mean()
    stated = estimated(source, reader(drawn), profile, "t2", keep, inverted=False)
    assert stated.polarity.stated == "user"
    assert stated.polarity.inverted is False
    assert stated.polarity.weight < weight  # it does not agree


def test_nothing_hidden_has_a_say_in_an_estimate(dims):
    """Not even in a block of s0 that is hidden in part."""
    shape = tuple(2 * n for n in SHAPES[dims])
    image = (head(shape, 3) / 50 - 1).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 2 - 3, n // 2 + 2) for n in shape)] = 1
    hidden = hiding(read_any(image), read_any(labels, 0), shape)
    coarse = pyramid.halve_labels(labels)
    drawn = pyramid.halve(image, dims)
    profile = TargetProfile("histogram", np.linspace(-1, 1, 1025))
    keep, names = kept()
    source = Guided(hidden, shape, 1)
    found = estimated(source, reader(drawn), profile, "t2", keep, student=True)
    everything = Box.whole(drawn.shape)
    own = names["source0"](everything)
    whole = pyramid.halve(image, dims)
    part = own > HIDDEN
    np.testing.assert_array_equal(own[part], whole[part])
    assert (~part).sum() > coarse.sum()
    assert set(np.unique(own[~part])) == {HIDDEN}
    out = found.read(everything)
    np.testing.assert_array_equal(out[~part], drawn[~part])
    assert (found.spread(everything)[~part] == 0).all()
    assert np.abs(out - drawn)[part].max() > 0.01


def test_spectra_need_no_polarity(dims):
    image = image_of(dims)
    doubled = image.repeat(2, 0).repeat(2, 1)
    doubled = doubled.repeat(2, 2) if dims == 3 else doubled
    profile = TargetProfile("spectrum", np.empty(0), (Spectrum(np.ones(spectrum.BANDS), 0.5),))
    keep, _ = kept()
    drawn = np.full(image.shape, 0.1, np.float32)
    found = estimated(Guided(reader(doubled), doubled.shape, 1), reader(drawn), profile, "ct", keep)
    out = found.read(Box.whole(image.shape))
    np.testing.assert_allclose(out, np.where(image > -1, image, drawn), rtol=0, atol=1e-6)
    assert str(found.polarity).startswith("match: spectrum (agreement")


def test_no_more_of_a_fine_image_is_read_at_once_than_bounds_memory(dims, monkeypatch):
    monkeypatch.setitem(fusion.BLOCK, dims, 16)
    shape = tuple(8 * n for n in (7, 5, 6)[:dims])
    image = np.random.default_rng(0).uniform(-0.9, 1, shape).astype(np.float32)
    asked = []

    def read(box):
        asked.append(box)
        return image[box.slices]

    expected = image
    for _ in range(3):
        expected = pyramid.halve(expected, dims)
    found = Guided(read, shape, 3).at_s0(read)(Box((1,) * dims, (4,) * dims))
    np.testing.assert_array_equal(found, expected[(slice(1, 5),) * dims])
    assert max(max(box.size) for box in asked) == 16


@pytest.mark.parametrize("inverted", [False, True])
def test_a_matched_voxel_lies_on_the_curve_between_two_bins(inverted):
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (20, 20, 20)).astype(np.float32)
    image[0], image[1, 0], image[1, 1] = -1, 1, -2  # background, the last bin, hidden
    gaps = np.where(image > -0.9, image, -1)  # where no voxel is, the curve is flat or steep
    shares = histogram.cumulative(lambda box: gaps[box.slices], gaps.shape)
    target = np.sort(rng.uniform(-1, 1, len(histogram.RANKS))) ** 3
    ranks = 1 - shares if inverted else shares
    curve = np.interp(ranks, histogram.RANKS, target)
    expected = np.where(image > -1, np.interp(image, histogram.EDGES, curve), image)
    read = histogram.matched(lambda box: image[box.slices], shares, target, inverted=inverted)
    np.testing.assert_allclose(read(Box.whole(image.shape)), expected, atol=1e-7)
