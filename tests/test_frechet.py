import tracemalloc

import numpy as np
import pytest

from msgan.metrics.frechet import Moments, Stream, frechet_distance, jackknife, together
from msgan.types import Array, InputError


def gaussian(n: int, d: int, seed: int, scale: float = 1.0, shift: float | Array = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mix * scale + shift


def by_root(a: Array, b: Array) -> float:
    """The definition, with SciPy's root of a matrix."""
    from scipy.linalg import sqrtm

    ca, cb = (np.cov(x, rowvar=False) for x in (a, b))
    root = np.trace(sqrtm(ca @ cb).real)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb) - 2 * root)


def by_eigenvalues(a: Array, b: Array) -> float:
    """The definition for singular covariances: root of a symmetric matrix, twice."""
    ca, cb = (np.cov(x, rowvar=False) for x in (a, b))
    w, v = np.linalg.eigh(ca)
    half = (v * np.sqrt(w.clip(0))) @ v.T
    root = np.sqrt(np.linalg.eigvalsh(half @ cb @ half).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb) - 2 * root)


def test_it_is_the_definition() -> None:
    a, b = gaussian(300, 12, 0), gaussian(200, 12, 1, 1.5, 0.3)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(by_root(a, b), rel=1e-9)


def test_fewer_samples_than_features_need_no_regularisation() -> None:
    a, b = gaussian(9, 40, 0), gaussian(14, 40, 1, 1.5, 0.3)
    got = frechet_distance(Moments.of(a), Moments.of(b))
    assert got == pytest.approx(by_eigenvalues(a, b), rel=1e-6)
    assert frechet_distance(Moments.of(a), Moments.of(a)) == pytest.approx(0, abs=1e-9 * got)


def test_known_gaussians() -> None:
    """Of diagonal covariances: squared differences of means and of standard deviations."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    a, b = x * [1, 2, 3], x * [2, 2, 1] + [0, 1, 0]
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(1 + 0 + 4 + 1, rel=1e-9)


def test_it_is_a_distance() -> None:
    a, b = Moments.of(gaussian(50, 6, 0)), Moments.of(gaussian(70, 6, 1, 2.0))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    spun = [Moments.of(gaussian(*c) @ turned + 3) for c in ((50, 6, 0), (70, 6, 1, 2.0))]
    assert frechet_distance(*spun) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    farther = Moments.of(gaussian(70, 6, 1, 3.0))
    assert 0 < frechet_distance(a, b) < frechet_distance(a, farther)


@pytest.mark.parametrize("n", [5, 60])
def test_batches_give_what_all_at_once_gives(n: int) -> None:
    x = gaussian(n, 8, 3, shift=1e4)  # far from zero: sums of squares would lose digits
    stream = Stream()
    for part in np.split(x, [1, 2, 4]):
        stream.add(part)
    got, want = stream.moments(), Moments.of(x)
    assert got is not None
    assert got.count == n
    np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.covariance, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-7)
    assert frechet_distance(got, want) < 1e-6
    assert len(got.root) <= 8


@pytest.mark.parametrize("first", [1, 3, 20, 59])
def test_parts_add_up_to_the_whole(first: int) -> None:
    x = gaussian(60, 8, 3, shift=np.linspace(0, 9, 60)[:, None])
    got = Moments.of(x[:first]) + Moments.of(x[first:])
    assert got.count == 60
    np.testing.assert_allclose(got.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.covariance, np.cov(x, rowvar=False), rtol=1e-10, atol=1e-10)


def test_a_stream_does_not_grow_and_keeps_no_reference() -> None:
    stream = Stream()
    assert stream.moments() is None
    buffer = np.zeros((16, 32))
    rng = np.random.default_rng(0)
    total = np.zeros(32)

    def feed(times: int) -> None:
        for _ in range(times):
            buffer[:] = rng.normal(size=buffer.shape)
            total[:] += buffer.sum(0)
            stream.add(buffer)

    feed(20)
    tracemalloc.start()
    feed(400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 32 * 32 * 8  # 400 batches are 50 times the covariance
    moments = stream.moments()
    assert moments is not None
    assert moments.count == 420 * 16
    np.testing.assert_allclose(moments.mean, total / moments.count, rtol=1e-9)
    assert np.diag(moments.covariance) == pytest.approx(np.ones(32), abs=0.1)


def subjects(count: int, seed: int, shift: float = 0.0, d: int = 3) -> dict[str, Moments]:
    """Subjects that differ from each other more than their patches do."""
    rng = np.random.default_rng(seed)
    return {
        f"{seed}-{k}": Moments.of(rng.normal(size=d) + shift + 0.3 * rng.normal(size=(20, d)))
        for k in range(count)
    }


def test_the_stated_error_is_that_of_other_subjects() -> None:
    values, errors = [], []
    for seed in range(50):
        a, b = subjects(10, seed), subjects(10, 1000 + seed, 2.0)
        found = jackknife(frechet_distance, a, b)
        assert found.value == pytest.approx(
            frechet_distance(together(a.values()), together(b.values()))
        )
        assert found.low < found.value < found.high
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_the_stated_bias_is_that_of_few_subjects() -> None:
    many = frechet_distance(*(together(subjects(1000, s).values()) for s in (5, 6)))
    few = [jackknife(frechet_distance, subjects(8, s), subjects(8, 500 + s)) for s in range(40)]
    assert many < 0.05
    over = np.mean([f.value for f in few]) - many
    left = np.mean([f.value - f.bias for f in few]) - many
    assert over > 0.5
    assert abs(left) < 0.4 * over


def test_subjects_of_both_groups_are_left_out_of_both() -> None:
    a = subjects(8, 1)
    rng = np.random.default_rng(7)
    b = {n: Moments(m.count, m.mean + 2 + 0.01 * rng.normal(size=3), m.root) for n, m in a.items()}
    paired = jackknife(frechet_distance, a, b)
    apart = jackknife(frechet_distance, a, {f"other {n}": m for n, m in b.items()})
    assert paired.value == apart.value
    assert paired.error < 0.2 * apart.error  # who is there hardly matters to a pair's distance


def test_a_single_subject_has_no_interval() -> None:
    found = jackknife(frechet_distance, subjects(1, 0), subjects(4, 1))
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high, found.error, found.bias]).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: Moments.of(np.zeros(3)),
        lambda: Moments.of(np.full((2, 2), np.nan)),
        lambda: Moments.of(np.zeros((0, 3))),
        lambda: Moments.of(np.zeros((1, 3))).covariance,
        lambda: Moments.of(np.zeros((2, 3))) + Moments.of(np.zeros((2, 4))),
        lambda: frechet_distance(Moments.of(np.zeros((2, 3))), Moments.of(np.zeros((2, 4)))),
        lambda: together([]),
        lambda: jackknife(frechet_distance, {}, subjects(2, 0)),
        lambda: jackknife(frechet_distance, subjects(2, 0), subjects(2, 1), confidence=1.0),
    ],
)
def test_bad_input_is_refused_in_one_line(call) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        call()
