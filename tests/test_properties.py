"""Any shape, affine, type, label, manifest or YAML: read back the same, or refused in a line."""

import csv
import io
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from training import tiny

from msgan.config import CascadeConfig
from msgan.data.entry import COLUMNS, Entry
from msgan.data.manifest import Manifest, read_manifest, write_manifest
from msgan.data.volume import Grid, open_labels, open_volume, write_volume
from msgan.documents import yaml_of
from msgan.types import Box, InputError

often = settings(deadline=None, derandomize=True, database=None, max_examples=60)
seldom = settings(often, max_examples=40)  # of what writes images

SUFFIXES = {2: (".nii", ".mha", ".nrrd", ".zarr", ".tif"), 3: (".nii.gz", ".mha", ".nrrd", ".zarr")}


@contextmanager
def folder() -> Iterator[Path]:
    """One for each example, with scratch of its own."""
    with tempfile.TemporaryDirectory(prefix="msgan-properties-") as name:
        yield Path(name)


def line_of(error: BaseException, path: Path | str = "") -> None:
    """The error is one line that can be printed, and begins with the file."""
    text = str(error)
    assert text.isprintable()
    assert text.startswith(f"{path}")
    assert len(text) < 1000


# --- images ------------------------------------------------------------------------------------


@st.composite
def grids(draw, dims: int) -> Grid:
    """Of any orientation: axes exchanged and reversed, turned in 3D, voxels of 1e-2 to 1e2 mm."""
    shape = draw(st.tuples(*[st.integers(1, 7)] * dims))
    if dims == 2:  # pictures have a spacing and no place
        return Grid.from_spacing(shape, draw(st.tuples(*[st.floats(0.01, 100)] * 2)))
    order = draw(st.sampled_from(list(itertools.permutations(range(3)))))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.01, 100)] * 3))
    angle = draw(st.floats(-np.pi, np.pi))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-1e3, 1e3)] * 3))
    return Grid(shape, affine)


@st.composite
def images(draw, dims: int):
    """A grid, a type that files can hold, and values of all its range."""
    grid = draw(grids(dims))
    dtype = np.dtype(draw(st.sampled_from(["u1", "u2", "i2", "f4"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "f":
        exponent = draw(st.integers(-30, 30))
        values = (rng.normal(size=grid.shape) * 10.0**exponent).astype(dtype)
    else:
        about = np.iinfo(dtype)
        values = rng.integers(about.min, about.max, grid.shape, dtype, endpoint=True)
    assume(values.min() < values.max())  # a constant image is refused
    return grid, values


@pytest.mark.parametrize("dims", [2, 3])
@seldom
@given(data=st.data())
def test_an_image_is_read_as_it_was_written(dims, data):
    grid, values = data.draw(images(dims))
    suffix = data.draw(st.sampled_from(SUFFIXES[dims]))
    assume(suffix != ".tif" or values.dtype != np.int16)
    with folder() as here:
        path = here / f"a{suffix}"
        write_volume(path, grid, lambda box: values[box.slices], dtype=values.dtype)
        with open_volume(path, scratch=here) as volume:
            np.testing.assert_array_equal(volume.whole(), values.astype(np.float32))
            assert volume.grid.shape == grid.shape
            scale = np.abs(grid.affine).max()  # headers hold numbers of 32 bits
            np.testing.assert_allclose(volume.grid.affine, grid.affine, atol=2e-6 * scale)
            box = data.draw(boxes(grid.shape))
            np.testing.assert_array_equal(volume.read(box), values[box.slices].astype(np.float32))


@st.composite
def boxes(draw, shape):
    """A part of an image."""
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Box(start, tuple(draw(st.integers(1, n - a)) for a, n in zip(start, shape, strict=True)))


@pytest.mark.parametrize("dims", [2, 3])
@seldom
@given(data=st.data())
def test_labels_are_whole_numbers_or_refused(dims, data):
    grid = data.draw(grids(dims))
    off = data.draw(st.sampled_from([0.0, 2e-4, 0.01, 0.5]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    labels = rng.integers(-3, 300, grid.shape).astype(np.float32)
    stored = labels.copy()
    stored.flat[-1] += off
    with folder() as here:
        path = here / f"a{data.draw(st.sampled_from(['.nii', '.mha', '.zarr']))}"
        write_volume(path, grid, lambda box: stored[box.slices])
        if off > 0.001:
            with pytest.raises(InputError, match="is not an integer") as refused:
                open_labels(path, scratch=here)
            line_of(refused.value, path)
        else:
            with open_labels(path, scratch=here) as volume:
                assert volume.whole().dtype == np.int32
                np.testing.assert_array_equal(volume.whole(), labels)


@often
@given(
    st.lists(st.integers(-1, 5), max_size=4) | st.tuples(*[st.integers(1, 5)] * 3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats()), max_size=3),
    st.integers(2, 4),
)
def test_a_grid_is_a_lattice_or_refused(shape, changes, size):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    for row, column, value in changes:
        affine[row, column] = value
    try:
        grid = Grid(tuple(shape), affine[4 - size :, 4 - size :])
    except InputError as error:
        line_of(error)
        return
    assert len(grid.shape) in (2, 3)
    assert min(grid.shape) >= 1
    assert np.isfinite(np.linalg.inv(grid.affine)).all()


# --- manifests ---------------------------------------------------------------------------------

TEXT = st.text(max_size=12) | st.sampled_from(["", "*", "{subject}", "../x", "/etc", "a/b.nii"])
SEEN = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6)
NAMED = SEEN | st.sampled_from(["a, b", '"x"', "=1+1", "é;x", "s 1"])
ROWS = st.fixed_dictionaries(
    {
        "subject": NAMED | TEXT,
        "role": st.sampled_from(["image", "labels", "mask", "region"]),
        "modality": st.sampled_from(["t1", "flair", "b20f-x"]),
        "path": st.builds("{}/{}.nii".format, NAMED, NAMED) | TEXT,
        "licence": NAMED,
        "citation": NAMED | st.text(min_size=1, max_size=6),
        "split": st.sampled_from(["train", "val", "test", ""]),
        "fold": st.sampled_from([None, 0, 7]),
        "unit": st.sampled_from(["", "HU"]),
    }
)


@often
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_a_manifest_is_read_as_it_was_written(cells):
    rows = []
    for one in cells:
        try:
            rows.append(Entry.model_validate(one))
        except ValidationError:
            continue  # what may not stand in a manifest
    unique = list({row.key: row for row in rows}.values())
    assume(unique)
    for row in unique:
        assert row.subject.isprintable()
        assert ".." not in Path(row.path).parts
        assert not Path(row.path).is_absolute()
    with folder() as here:
        manifest = Manifest(name="m.csv", rows=tuple(unique))
        write_manifest(here / "m.csv", manifest)
        assert read_manifest(here / "m.csv") == manifest


@often
@given(
    st.lists(st.lists(TEXT, max_size=10), max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    st.permutations(COLUMNS),
    st.binary(max_size=3),
)
def test_any_table_is_a_manifest_or_one_line(rows, mark, encoding, columns, more):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=mark).writerows([columns[: len(columns) - len(more)], *rows])
    with folder() as here:
        path = here / "m.csv"
        path.write_bytes(out.getvalue().encode(encoding, "replace") + more)
        try:
            manifest = read_manifest(path)
        except InputError as error:
            line_of(error, path)
        else:
            assert manifest.rows


# --- YAML --------------------------------------------------------------------------------------

LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\x85\u2028\u2029")
"""YAML reads line breaks of Unicode as its own, also between quotation marks."""

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(LETTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(LETTERS, max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
PIECES = ["!!python/object/apply:os.system [ls]", "&a [*a, *a]", "<<: *a", "? [a]", "- ", ": ", "{"]
PIECES += [
    "}",
    "'",
    '"',
    "\n",
    "  ",
    "\t",
    "#",
    "|",
    ">",
    "1e999",
    "2001-99-99",
    "0x",
    "!!set",
    "%",
]


@often
@given(PLAIN)
def test_plain_values_are_read_as_they_were_written(value):
    with folder() as here:
        path = here / "a.yaml"
        path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8", newline="")
        assert yaml_of(path) == value


def plain(value: object) -> bool:
    """Whether nothing but values of YAML's own types is there."""
    if isinstance(value, dict):
        return all(plain(v) for pair in value.items() for v in pair)
    if isinstance(value, list | set | tuple):
        return all(map(plain, value))
    known = ("str", "int", "float", "bool", "NoneType", "bytes", "date", "datetime")
    return type(value).__name__ in known


@often
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=14), st.binary(max_size=2))
def test_any_text_is_plain_values_or_one_line(pieces, more):
    with folder() as here:
        path = here / "a.yaml"
        path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass") + more)
        try:
            assert plain(yaml_of(path))
        except InputError as error:
            line_of(error, path)


def leaves(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Keys that lead to the settings of a configuration."""
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*at, key))]
    return [at]


DEFAULT = tiny(3).model_dump(mode="json")


@often
@given(st.sampled_from(leaves(DEFAULT)), PLAIN | st.sampled_from([0, -1, 1e9, "auto", [], 2**70]))
def test_a_configuration_is_valid_or_one_line_names_the_setting(leaf, value):
    stated = yaml.safe_load(yaml.safe_dump(DEFAULT))
    inner = stated
    for key in leaf[:-1]:
        inner = inner[key]
    inner[leaf[-1]] = value
    with folder() as here:
        path = here / "a.yaml"
        path.write_text(yaml.safe_dump(stated), encoding="utf-8")
        try:
            config = CascadeConfig.load(path)
        except InputError as error:
            line_of(error, path)
            return
        config.save(here / "b.yaml")
        assert CascadeConfig.load(here / "b.yaml") == config
