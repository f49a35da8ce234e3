"""OME-Zarr as other programs write it: axes, units, orientation, versions."""

import itertools
import re

import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal

from msgan.data.formats.omezarr import atomic_folder
from msgan.data.units import millimetres
from msgan.data.volume import Grid, open_volume, write_volume
from msgan.types import InputError

ARRAY = np.random.default_rng(0).uniform(1, 250, (3, 4, 5)).astype(np.float32)
"""As on disk: z, y, x."""

PLAIN = {"x": "left-to-right", "y": "posterior-to-anterior", "z": "inferior-to-superior"}
OTHER = {"x": "right-to-left", "y": "anterior-to-posterior", "z": "superior-to-inferior"}


def axis(name, orientation=None, unit="millimeter", kind="space"):
    stated = {"name": name, "type": kind}
    if unit is not None:
        stated["unit"] = unit
    if orientation is not None:
        stated["orientation"] = {"type": "anatomical", "value": orientation}
    return stated


def store(path, axes, array=ARRAY, *, scale=None, translation=None, version="0.4", **level):
    """An image with one level, as version 0.4 keeps it (0.5: one word further in)."""
    steps = [] if scale is None else [{"type": "scale", "scale": list(scale)}]
    steps += [] if translation is None else [{"type": "translation", "translation": translation}]
    multiscale = {"version": version, "datasets": [{"path": "0", **level}]}
    if steps:
        multiscale["datasets"][0]["coordinateTransformations"] = steps
    if axes is not None:
        multiscale["axes"] = axes
    new = version >= "0.5"
    group = zarr.open_group(path, mode="w", zarr_format=3 if new else 2)
    group.create_array("0", data=array)
    images = {"multiscales": [multiscale]}
    group.attrs.update({"ome": {"version": version, **images}} if new else images)
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stated_orientation_gives_the_affine(version, tmp_path):
    for signs in itertools.product((False, True), repeat=3):
        words = {n: (OTHER if s else PLAIN)[n] for n, s in zip("xyz", signs, strict=True)}
        axes = [axis(n, words[n]) for n in "zyx"]
        path = store(
            tmp_path / "a.zarr", axes, scale=(3, 2, 1), translation=[30, 20, 10], version=version
        )
        with open_volume(path) as volume:
            assert volume.notes == ()
            assert_array_equal(volume.whole(), ARRAY.T)
            place = (volume.grid.affine @ [4, 3, 2, 1])[:3]
        assert_allclose(place, np.where(signs, -1, 1) * (14, 26, 36))


@pytest.mark.parametrize("plain", [False, True])
def test_orientation_counts_and_not_the_name_of_an_axis(plain, tmp_path):
    # A sagittal image: its x goes to the front, y down, z to the left.
    words = {"x": "posterior-to-anterior", "y": "superior-to-inferior", "z": "right-to-left"}
    axes = [axis(n, words[n]) for n in "zyx"]
    if plain:
        axes = [a | {"orientation": a["orientation"]["value"].upper()} for a in axes]
    with open_volume(store(tmp_path / "a.zarr", axes, scale=(3, 2, 1))) as volume:
        assert volume.grid.orientation == ("A", "I", "L")
        assert_allclose((volume.grid.affine @ [1, 1, 1, 1])[:3], (-3, 1, -2))


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("left-to-right", None, None), "no orientation, where others have one"),
        (("left-to-right", "right-to-left", "inferior-to-superior"), "two on one line"),
        (("left-to-right", "dorsal-to-ventral", "inferior-to-superior"), "'dorsal-to-ventral'"),
    ],
)
def test_orientations_without_a_place_are_refused(words, rule, tmp_path):
    axes = [axis(n, w) for n, w in zip("zyx", words[::-1], strict=True)]
    with pytest.raises(InputError, match=rule):
        open_volume(store(tmp_path / "a.zarr", axes, scale=(1, 1, 1)))


def test_what_is_not_stated_is_told(tmp_path):
    path = store(tmp_path / "a.zarr", [axis(n, unit=None) for n in "zyx"], scale=(3, 2, 1))
    with open_volume(path) as volume:
        assert volume.grid.spacing == (1, 2, 3)
        assert any("no unit of length: mm" in note for note in volume.notes)
        assert any("no orientation" in note for note in volume.notes)
    path = store(tmp_path / "b.zarr", [axis(n, PLAIN[n], unit=" ") for n in "zyx"])
    with open_volume(path) as volume:
        assert volume.grid.spacing == (1, 1, 1)
        assert volume.notes == ("states no voxel size: 1 is taken",)


@pytest.mark.parametrize("suffix", ["nii.gz", "zarr"])
def test_our_own_results_need_no_remark(suffix, dims, tmp_path):
    grid = Grid.from_spacing((3, 4, 5)[:dims], (1, 2, 3)[:dims])
    path = tmp_path / f"a.{suffix}"
    write_volume(path, grid, lambda box: np.arange(box.voxels).reshape(box.size))
    with open_volume(path) as volume:
        assert volume.notes == ()


def test_results_state_the_orientation_of_their_axes(tmp_path):
    for order, signs in itertools.product(
        itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    ):
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3)[:, order] * signs) * (1.5, 2, 3)
        affine[:3, 3] = (11, -7, 20)
        path = tmp_path / "a.zarr"
        write_volume(path, Grid((5, 4, 3), affine), lambda box: ARRAY.T[box.slices])
        group = zarr.open_group(path)
        group.attrs.update({"msgan": {}})  # for a reader that knows the standard alone
        with open_volume(path) as volume:
            assert_allclose(volume.grid.affine, affine)
            assert_array_equal(volume.whole(), ARRAY.T)


UNITS = [
    *[("mm", 1), ("millimeter", 1), ("Millimetres", 1), ("um", 1e-3), ("µm", 1e-3)],
    *[("\u03bcm", 1e-3), ("micron", 1e-3), ("microns", 1e-3), ("micrometer", 1e-3)],
    *[("nanometre", 1e-6), ("nm", 1e-6), ("angstrom", 1e-7), ("Å", 1e-7), ("\u212b", 1e-7)],
    *[("decimeter", 100), ("cm", 10), ("meter", 1e3), ("m", 1e3), ("inch", 25.4)],
    *[("inches", 25.4), ("foot", 304.8), ("yard", 914.4), ("hectometer", 1e5)],
    *[("", None), (" ", None), (None, None), ("pixel", None), ("Pixels", None)],
]


@pytest.mark.parametrize(("unit", "mm"), UNITS)
def test_units_of_length(unit, mm, tmp_path):
    assert millimetres(unit) == (None if mm is None else pytest.approx(mm))
    step = 2 / (mm or 1)
    for names in ("zyx", "yx"):
        array = ARRAY if len(names) == 3 else ARRAY[0]
        axes = [axis(n, unit=unit) for n in names]
        path = store(tmp_path / "a.zarr", axes, array, scale=[step] * len(names))
        with open_volume(path) as volume:
            assert_allclose(volume.grid.spacing, 2)
            assert any("unit of length" in note for note in volume.notes) == (mm is None)


@pytest.mark.parametrize("unit", ["furlong", "s", "kg", "metermeter", "mmm", 7])
def test_unknown_units_are_named(unit, tmp_path):
    with pytest.raises(InputError, match=rf"a\.zarr: unit of length '{unit}' is unknown: expected"):
        open_volume(store(tmp_path / "a.zarr", [axis(n, unit=unit) for n in "zyx"], scale=[1] * 3))


def test_axes_in_other_orders(tmp_path):
    for names in itertools.permutations("xyz"):
        axes = [axis(n, PLAIN[n]) for n in names]
        array = ARRAY.transpose(["zyx".index(n) for n in names])
        scale = [{"x": 1, "y": 2, "z": 3}[n] for n in names]
        with open_volume(store(tmp_path / "a.zarr", axes, array, scale=scale)) as volume:
            assert_array_equal(volume.whole(), ARRAY.T)
            assert volume.grid.spacing == (1, 2, 3)
    flat = store(tmp_path / "b.zarr", [axis(n) for n in "xy"], ARRAY[0].T, scale=(1, 2))
    with open_volume(flat) as volume:
        assert_array_equal(volume.whole(), ARRAY[0])
        assert volume.grid.spacing == (2, 1)
    named = [axis(n) for n in ("slice", "row", "column")]
    with open_volume(store(tmp_path / "c.zarr", named, scale=(3, 2, 1))) as volume:
        assert_array_equal(volume.whole(), ARRAY.T)
        assert "not named z, y, x" in volume.notes[0]


@pytest.mark.parametrize("typed", [True, False])
def test_time_and_channels_of_length_one_are_dropped(typed, tmp_path):
    axes = [axis("t", kind="time", unit="second"), axis("c", kind="channel", unit=None)]
    axes += [axis(n, PLAIN[n]) for n in "zyx"]
    if not typed:
        axes = [{k: v for k, v in a.items() if k != "type"} for a in axes]
    array = ARRAY[None, None]
    with open_volume(store(tmp_path / "a.zarr", axes, array, scale=(9, 9, 3, 2, 1))) as volume:
        assert_array_equal(volume.whole(), ARRAY.T)
        assert volume.grid.spacing == (1, 2, 3)
        assert volume.notes == ()
    array = np.repeat(array, 2, axis=0)
    with pytest.raises(InputError, match=r"5D image .* axes \['t', 'c', 'z', 'y', 'x'\]"):
        open_volume(store(tmp_path / "b.zarr", axes, array, scale=(9, 9, 3, 2, 1)))


@pytest.mark.parametrize(
    ("version", "axes", "rule"),
    [
        ("0.1", None, "OME-Zarr 0.1 states no voxel size: convert it to OME-Zarr 0.4 or 0.5"),
        ("0.2", None, "OME-Zarr 0.2 states no voxel size"),
        ("0.3", ["z", "y", "x"], "OME-Zarr 0.3 states no voxel size"),
        ("", None, "OME-Zarr without a version states no voxel size"),
    ],
)
def test_old_versions_are_named(version, axes, rule, tmp_path):
    with pytest.raises(InputError, match=rule):
        open_volume(store(tmp_path / "a.zarr", axes, version=version))


def test_an_old_version_with_voxel_sizes_is_read(tmp_path):
    path = store(tmp_path / "a.zarr", ["z", "y", "x"], scale=(3, 2, 1), version="0.3")
    with open_volume(path) as volume:
        assert volume.grid.spacing == (1, 2, 3)


def test_later_versions_rotations_and_many_images_are_named(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.attrs["ome"] = {
        "version": "0.6",
        "multiscales": [{"coordinateSystems": [], "datasets": [{"path": "0"}]}],
    }
    group.create_array("0", data=ARRAY)
    with pytest.raises(InputError, match=r"OME-Zarr 0\.6 places images in another way: convert"):
        open_volume(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    for name in "01":
        store(tmp_path / "b.zarr" / name, [axis(n) for n in "zyx"], scale=(3, 2, 1))
    with pytest.raises(InputError, match="holds 2 images"):
        open_volume(tmp_path / "b.zarr")
    del group["1"]
    with open_volume(tmp_path / "b.zarr") as volume:
        assert volume.grid.spacing == (1, 2, 3)
    turned = [{"type": "rotation", "rotation": np.eye(3).tolist()}]
    path = store(tmp_path / "c.zarr", [axis(n) for n in "zyx"], coordinateTransformations=turned)
    with pytest.raises(InputError, match="coordinate transformation 'rotation'"):
        open_volume(path)
    path = store(tmp_path / "d.zarr", [axis(n) for n in "zyx"], scale=(1,))
    with pytest.raises(InputError, match="a scale of 1 numbers for 3 axes"):
        open_volume(path)


@pytest.mark.parametrize(
    ("attributes", "rule"),
    [
        ({"plate": {"wells": []}}, "a plate of many images: copy one of them out, to NAME.zarr"),
        ({"ome": {"version": "0.5", "well": {}}}, "a plate of many images"),
        ({"title": "numbers"}, "not an OME-Zarr image: its attributes name no multiscales"),
    ],
)
def test_folders_of_zarr_that_are_no_image_are_named(attributes, rule, tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.attrs.update(attributes)
    group.create_array("0", data=ARRAY)
    with pytest.raises(InputError, match=f"{re.escape(rule)}"):
        open_volume(tmp_path / "a.zarr")


def test_voxels_that_are_no_real_numbers_are_refused(tmp_path):
    path = store(tmp_path / "a.zarr", [axis(n) for n in "zyx"], ARRAY > 9, scale=(3, 2, 1))
    with pytest.raises(InputError, match="voxels of type bool: expected real numbers"):
        open_volume(path)


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "mine.txt").write_text("mine")
    rule = r"a\.zarr: exists and is not a Zarr folder$"
    with pytest.raises(InputError, match=rule), atomic_folder(tmp_path / "a.zarr") as temporary:
        (temporary / "zarr.json").write_text("{}")
    assert [p.read_text() for p in (tmp_path / "a.zarr").iterdir()] == ["mine"]


def test_microscopy_that_states_its_unit_is_read_and_told(tmp_path):
    from msgan.config import Preparation
    from msgan.data.cohort import prepare

    axes = [axis(n, PLAIN[n], unit="micrometer") for n in "zyx"]
    array = np.random.default_rng(0).uniform(1, 9, (16, 16, 16)).astype(np.float32)
    path = store(tmp_path / "a.zarr", axes, array, scale=(2, 2, 2))
    with prepare(path, None, Preparation(scales=1)) as ready:
        (note,) = ready.notes
    assert note.startswith(f"{path}: voxels of 0.002")
    assert "its unit of length may be wrong" in note
