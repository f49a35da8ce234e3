from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from msgan.data.geometry import WorkingGrid
from msgan.data.grid import Grid
from msgan.data.manifest import check_manifest, read_manifest
from msgan.data.volume import open_volume
from msgan.paths import sha256
from msgan.phantoms import xray as module
from msgan.phantoms import xray_rays as rays
from msgan.phantoms.thorax import thorax
from msgan.phantoms.thorax_tree import Tree
from msgan.phantoms.xray import SIDE_MM, XrayPhantom, write_xray_cohort, xray
from msgan.phantoms.xray_detector import LEVELS, Detector, decay, logarithm, per_mm
from msgan.phantoms.xray_pipes import Beam, Pipes
from msgan.phantoms.xray_rays import Body, Layer, attenuation
from msgan.presets import preset
from msgan.types import Array, Box, InputError

BEAMS = [Beam(None), Beam(800.0)]
WATER = per_mm(0.0)


@pytest.fixture(scope="module")
def phantom() -> XrayPhantom:
    return xray(0, 1, size=128, severity=0.1)


@pytest.fixture(scope="module")
def image(phantom: XrayPhantom) -> Array:
    return phantom.image(Box.whole(phantom.shape))


@pytest.fixture
def few_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures with one ray a pixel: faster, and no other code."""
    monkeypatch.setattr(module, "FINEST", 16)


def ball(centre: Sequence[float], radius: float, hu: float = 0.0) -> Body:
    """A ball of water in air."""

    def distance(axes: Sequence[Array]) -> dict[str, Array]:
        grid = np.meshgrid(*axes, indexing="ij")
        square = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        return {"ball": (np.sqrt(square) - radius).astype(np.float32)}

    return Body.sampled((200, 120, 200), distance, [Layer("ball", 0, hu)])


def chord(beam: Beam, rows: Array, columns: Array, centre: Sequence[float], radius: float) -> Array:
    """Length of each ray in a ball, from its distance to the centre."""
    z, x = np.meshgrid(rows, columns, indexing="ij")
    slope = float(beam.slope)
    to = np.stack([x, np.zeros_like(x), z], -1) - centre
    ray = np.stack([x * slope, np.ones_like(x), z * slope], -1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    away = (to**2).sum(-1) - (to * ray).sum(-1) ** 2
    return 2 * np.sqrt(np.maximum(radius**2 - away, 0))


ROWS, COLUMNS = np.linspace(60, -60, 97), np.linspace(55, -65, 91)


@pytest.mark.parametrize("beam", BEAMS, ids=["parallel", "cone"])
def test_a_ball_has_the_path_lengths_of_a_ball(beam: Beam) -> None:
    centre, radius = (8.0, -11.0, 5.0), 31.0
    made = attenuation(ball(centre, radius), beam, ROWS, COLUMNS, per_mm) / WATER
    want = chord(beam, ROWS, COLUMNS, centre, radius)
    assert want.max() > 61
    assert (made[want == 0] < 1.5).all()  # the rim, where a ray is tangent, is a sample's bend off
    assert np.abs(made - want)[want > 12].max() < 0.5
    assert np.abs(made - want).mean() < 0.05
    assert made.sum() == pytest.approx(want.sum(), rel=5e-3)


def test_oblique_rays_are_longer_in_a_plate() -> None:
    def distance(axes: Sequence[Array]) -> dict[str, Array]:
        away = (np.abs(axes[1] - 3) - 21).astype(np.float32)
        return {"plate": np.broadcast_to(away[:, None], [len(a) for a in axes])}

    body = Body.sampled((200, 120, 200), distance, [Layer("plate", 0, 0.0)])
    made = attenuation(body, Beam(800.0), ROWS, COLUMNS, per_mm) / WATER
    square = (ROWS[:, None] ** 2 + COLUMNS**2) / 800**2
    np.testing.assert_allclose(made, 42 * np.sqrt(1 + square), rtol=1e-5)
    even = attenuation(body, Beam(None), ROWS, COLUMNS, per_mm) / WATER
    np.testing.assert_allclose(even, 42, rtol=1e-5)


@pytest.mark.parametrize("beam", BEAMS, ids=["parallel", "cone"])
def test_cylinders_have_the_path_lengths_of_cylinders(beam: Beam) -> None:
    """Against counting points along each ray that are near enough to the axis."""
    rng = np.random.default_rng(0)
    ends = rng.uniform(-25, 25, (6, 2, 3)).astype(np.float32)
    ends[0, 1] = ends[0, 0] + (0, 20, 0)  # along the rays
    ends[1, 1] = ends[1, 0]  # a ball
    radii = np.array([4, 5, 1.5, 6, 3, 8], np.float32)
    rows, columns = np.linspace(30, -30, 31), np.linspace(-30, 30, 29)
    z, x = np.meshgrid(rows, columns, indexing="ij")
    depth = np.linspace(-59.95, 59.95, 1200)
    wide = 1 + depth * float(beam.slope)
    at = np.stack(
        [x[..., None] * wide, np.broadcast_to(depth, (31, 29, 1200)), z[..., None] * wide]
    )
    stretch = np.sqrt(1 + (x**2 + z**2) * float(beam.slope) ** 2)
    empty = Body.sampled((200, 120, 200), lambda axes: {}, [])
    for (a, b), r in zip(ends, radii, strict=True):
        along, to = (b - a)[:, None, None, None], at - a[:, None, None, None]
        t = np.clip((to * along).sum(0) / max((along**2).sum(), 1e-9), 0, 1)
        near = np.sqrt(((to - t * along) ** 2).sum(0)) < r
        tree = Tree(a[None], b[None], np.array([r], np.float32))
        body = Body(empty.axes, {}, (Pipes(tree, 0, 0.0, None),))
        made = attenuation(body, beam, rows, columns, per_mm) / WATER
        want = near.sum(-1) * 0.1 * stretch
        assert want.max() > r
        np.testing.assert_allclose(made, want, atol=0.35)
        assert np.abs(made - want).mean() < 0.01


def test_cylinders_end_where_they_are_limited_to_and_do_not_add_up() -> None:
    """Two that are one cylinder, through a ball of air that limits them."""
    ends = np.array([[[-60, 0, 0], [60, 0, 0]]], np.float32).repeat(2, 0)
    tree = Tree(ends[:, 0], ends[:, 1], np.array([6, 6], np.float32))
    air = ball((0, 0, 0), 30, -1000.0)
    parts = (*air.parts, Pipes(tree, 0, 0.0, "ball"))
    made = attenuation(Body(air.axes, air.fields, parts), Beam(None), ROWS, COLUMNS, per_mm)
    middle = made[np.abs(ROWS).argmin()] / WATER
    inside = np.abs(COLUMNS) < 28
    np.testing.assert_allclose(middle[inside], 12, atol=0.1)
    assert (middle[np.abs(COLUMNS) > 31] == 0).all()


def test_bodies_apart_add_up_and_denser_or_thicker_ones_take_more() -> None:
    beam = Beam()

    def taken(*parts: tuple[tuple[float, float, float], float, float]) -> Array:
        fields, layers = {}, []
        for k, (centre, radius, hu) in enumerate(parts):
            one = ball(centre, radius)
            fields[f"ball{k}"] = one.fields["ball"]
            layers.append(Layer(f"ball{k}", 0, hu))
        return attenuation(Body(one.axes, fields, tuple(layers)), beam, ROWS, COLUMNS, per_mm)

    back, front = ((0.0, -30.0, 10.0), 20.0, 300.0), ((5.0, 25.0, 0.0), 25.0, -500.0)
    both = taken(back, front)
    np.testing.assert_allclose(both, taken(back) + taken(front), atol=2e-6)
    thicker = taken(back, ((5.0, 25.0, 0.0), 28.0, -500.0))
    assert (thicker >= both - 1e-6).all()
    assert (thicker > both + 0.01).mean() > 0.1
    denser = taken(back, (*front[:2], -400.0))
    assert (denser >= both).all()
    np.testing.assert_allclose(taken((*front[:2], 0.0)), 2 * taken(front), rtol=1e-5)


def test_what_is_inside_covers_what_is_around_it() -> None:
    """A hollow ball takes what the ball takes less what the hollow would."""
    outer, inner = ball((0, 0, 0), 40), ball((0, 0, 0), 20)
    fields = {"outer": outer.fields["ball"], "inner": inner.fields["ball"]}
    layers = (Layer("outer", 0, 0.0), Layer("inner", 0, -1000.0))
    made = attenuation(Body(outer.axes, fields, layers), Beam(), ROWS, COLUMNS, per_mm)
    parts = [attenuation(b, Beam(), ROWS, COLUMNS, per_mm) for b in (outer, inner)]
    np.testing.assert_allclose(made, parts[0] - parts[1], atol=2e-5)


def test_the_xray_is_the_projection_of_the_ct_phantom() -> None:
    """Rays against the sum of fine voxels along y of the person that the CT shows."""
    phantom = xray(3, 0, size=64, severity=0.0, beam=Beam(None))
    person = thorax(3, 0, severity=0.0).person
    rows, columns = np.arange(60, -80, -14.0), np.arange(-90, 100, 9.0)
    made = attenuation(phantom.body, phantom.beam, rows, columns, per_mm)
    y = np.arange(-131.75, 132, 0.5, dtype=np.float32)
    where = [columns.astype(np.float32), y, rows[::-1].astype(np.float32)]
    hu = person.region(where, 0.5).hu.astype(np.float64)
    want = (per_mm(0) * (1 + hu / 1000) * 0.5).sum(1).T[::-1]
    assert 1.2 < want.min() < 2 < 4 < want.max()
    assert np.abs(made - want).max() < 0.2
    assert np.abs(made - want).mean() < 0.012


@pytest.mark.parametrize("what", ["attenuation", "transmitted", "image"])
def test_any_tiling_gives_the_same_bytes(
    phantom: XrayPhantom, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rays, "BLOCK", 24)  # rays are followed in blocks, which tiles cut elsewhere
    read = getattr(phantom, what)
    box = Box((0, 72), (31, 25))
    want = read(box)
    for size in ((31, 11), (17, 25)):
        for tile in box.tiles(size):
            assert read(tile).tobytes() == want[tile.inside(box).slices].tobytes()


def test_same_seed_same_bytes_and_other_people_differ(phantom: XrayPhantom, image: Array) -> None:
    box = Box((40, 40), (20, 22))
    want = image[box.slices]
    assert xray(0, 1, size=128, severity=0.1).image(box).tobytes() == want.tobytes()
    for other in (xray(0, 2, size=128), xray(1, 1, size=128)):
        assert np.abs(other.image(box) - want).mean() > 0.01 * LEVELS


@pytest.mark.usefixtures("few_rays")
def test_sizes_show_one_person(image: Array) -> None:
    small = xray(0, 1, size=64, severity=0.1)
    coarse = small.image(Box.whole(small.shape))
    means = image.reshape(64, 2, 64, 2).mean((1, 3))
    assert np.abs(coarse - means).mean() < 0.01 * LEVELS
    assert small.spacing[0] == 2 * SIDE_MM / 128


def test_it_looks_like_a_chest(image: Array) -> None:
    """Rows from head to feet, the patient's right on the left of the picture."""
    assert image.min() == 0
    assert 0.8 * LEVELS < image.max() <= LEVELS
    assert (image[20:100, :2] < 0.35 * LEVELS).mean() > 0.9  # beside the body
    right, left = image[45:60, 25:40].mean(), image[45:60, 85:100].mean()
    spine = image[45:60, 61:67].mean()
    assert max(right, left) < 0.45 * LEVELS < 0.7 * LEVELS < spine
    heart, mirrored = image[62:74, 72:78].mean(), image[62:74, 50:56].mean()
    assert heart > mirrored + 0.1 * LEVELS  # on the patient's left
    bright = image[:, 25:103] > 0.55 * LEVELS
    lowest = [np.flatnonzero(~bright[40:, c]).max() for c in (10, 68)]
    assert lowest[0] < lowest[1]  # the liver lifts the right half of the diaphragm
    assert bright[-15:].mean() > 0.95 > 0.5 > bright[30:70].mean()  # belly below, lungs above


def test_bone_and_vessels_show(phantom: XrayPhantom) -> None:
    rows = np.arange(-70, -20, 1.0)
    edge, lung = np.arange(-135, -110, 5.0), np.arange(-90, -50, 1.0)
    body = phantom.body
    side = attenuation(body, phantom.beam, rows, edge, per_mm)
    bare = [p for p in body.parts if not (isinstance(p, Layer) and p.surface == "ribs")]
    without = attenuation(Body(body.axes, body.fields, tuple(bare)), Beam(), rows, edge, per_mm)
    assert 0.1 < (side - without).max() < 1
    solid = tuple(p for p in body.parts if isinstance(p, Layer))
    full = attenuation(body, phantom.beam, rows, lung, per_mm)
    empty = attenuation(Body(body.axes, body.fields, solid), Beam(), rows, lung, per_mm)
    vessels = full - empty
    assert vessels.max() > 0.05
    assert 0.02 < vessels.mean() < 0.3


def test_noise_is_that_of_counted_quanta() -> None:
    shape, spacing = (60, 70), (0.5, 0.4)
    box = Box.whole(shape)

    def made(share: float, **options: float) -> Array:
        detector = Detector(**{"blur_mm": 0.0, "quanta_mm2": 1e5, **options})
        level = np.full(shape, share, np.float32)
        return detector.image(lambda b: level[b.slices], shape, spacing, 7, box)

    for share in (0.2, 0.02):
        quiet, noisy = made(share, quanta_mm2=np.inf), made(share)
        assert np.ptp(quiet) < 1e-3
        step = made(share * 0.99, quanta_mm2=np.inf) - quiet  # of one per cent less
        want = step.mean() * 100 / np.sqrt(1e5 * 0.2 * share)
        assert noisy.std() == pytest.approx(want, rel=0.06)
        assert noisy.mean() == pytest.approx(quiet.mean(), rel=0.01)
        assert made(share, blur_mm=0.5).std() < 0.5 * noisy.std()  # light spreads with its noise


def test_light_spreads_evenly_and_keeps_what_it_is() -> None:
    shape = (31, 31)
    light = np.full(shape, 0.1, np.float32)
    light[15, 15] = 0.2
    detector = Detector(quanta_mm2=np.inf, blur_mm=0.3, black=0)
    made = detector.image(lambda b: light[b.slices], shape, (0.2, 0.2), 0, Box.whole(shape))
    flat = made[0, 0]
    assert made[15, 15] == made.min() < flat - 1
    np.testing.assert_allclose(made, made.T, atol=1e-3)
    np.testing.assert_allclose(made, made[::-1, ::-1], atol=1e-3)
    np.testing.assert_allclose(made[:8], flat, atol=1e-3)


def test_more_attenuation_is_brighter_and_air_is_black() -> None:
    detector = Detector()
    shown = detector.shown(np.linspace(0, 12, 500, dtype=np.float32))
    assert shown[0] == 0 == detector.shown(np.float32([0.19])).item()
    assert (np.diff(shown)[10:] > 0).all()
    assert 0.99 * LEVELS < shown[-1] <= LEVELS


def test_exponential_and_logarithm_are_those_of_mathematics() -> None:
    x = np.linspace(-20, 60, 4001, dtype=np.float32)
    np.testing.assert_allclose(decay(x), np.exp(-x.astype(np.float64)), rtol=1e-6)
    share = np.logspace(-12, 2, 4001).astype(np.float32)
    np.testing.assert_allclose(logarithm(share), np.log(share.astype(float)), rtol=2e-6, atol=2e-7)


@pytest.mark.usefixtures("few_rays")
@pytest.mark.slow
def test_a_cohort_is_whole_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    made = [
        write_xray_cohort(tmp_path / n, subjects=2, size=32, seed=4, folds=2, test_share=0.5)
        for n in ("a", "b")
    ]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert check_manifest(made[0], tmp_path / "a").findings == ()
    rows = read_manifest(made[0]).rows
    assert [(r.subject, r.modality) for r in rows] == [(f"chest00{k}", "xray") for k in range(2)]
    assert {(r.split, r.fold) for r in rows} == {("test", 0), ("train", 1)}
    phantom = xray(4, 1, size=32)
    with open_volume(tmp_path / "a" / rows[1].path) as volume:
        assert volume.grid.same_as(Grid(phantom.shape, phantom.affine))
        want = np.rint(phantom.image(Box.whole(phantom.shape)))
        np.testing.assert_array_equal(volume.whole(), want)
    assert rows[1].sha256 == sha256(tmp_path / "a" / rows[1].path)


@pytest.mark.parametrize(("size", "scales"), [(128, 1), (512, 3), (2048, 5)])
def test_presets_begin_at_64_pixels_whatever_the_size(size: int, scales: int) -> None:
    grid, prep = Grid((size, size), np.eye(3)), preset("published", "xray").preparation
    inner = Box((2, 0), (size - 5, size))
    made = WorkingGrid.plan(grid, inner, prep.spacing_mm, prep.scales, prep.margin, prep.longest)
    assert made.scales == scales
    assert max(made.shape) == 64 * 2**scales


@pytest.mark.parametrize(
    "call",
    [
        lambda: xray(0, 0, size=15),
        lambda: xray(0, 0, size=2049),
        lambda: xray(0, 0, severity=1.0),
        lambda: Beam(100.0),
        lambda: Detector(quanta_mm2=0),
        lambda: Detector(black=4),
        lambda: write_xray_cohort("nowhere", subjects=0, size=32, seed=0),
        lambda: write_xray_cohort("nowhere", subjects=2, size=32, seed=0, test_share=2),
        lambda: attenuation(ball((0, 0, 0), 9), Beam(), np.array([99.0]), COLUMNS, per_mm),
    ],
)
def test_bad_values_are_refused_in_one_line(call) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+(expected|known to)[^\n]+$"):
        call()
    assert not Path("nowhere").exists()
