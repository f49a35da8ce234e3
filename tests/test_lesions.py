"""The finder counts no lesion in healthy T2 and finds tumours, and tables say so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Subject
from msgan.data.grid import Grid
from msgan.data.volume import open_labels, open_volume, write_volume
from msgan.metrics import dice
from msgan.phantoms import brain as phantom
from msgan.studies.label_transforms import LabelMap
from msgan.studies.lesion_maps import Place, Search, distance
from msgan.studies.lesion_study import lesion_summary, lesion_table, measured, reference_table
from msgan.studies.lesion_variants import NONE, healthy_and_patients, variant_path, variants
from msgan.studies.lesions import (
    Healthy,
    brain_of,
    count,
    find_lesions,
    healthy_level,
    lesions_in,
)
from msgan.types import InputError

PREPARATION = Preparation(intensity="percentile", low=0.0, high=99.5)


# --- drawn images ------------------------------------------------------------------------------

SIDE_MM = 96.0
SEARCH = Search(least_ml=0.1, radius_mm=4.0, cells=24)


def scene(dims: int, spacing: float) -> tuple[Grid, np.ndarray]:
    n = round(SIDE_MM / spacing)
    grid = Grid.from_spacing((n,) * dims, (spacing,) * dims, ((spacing - SIDE_MM) / 2,) * dims)
    mm = [(np.arange(n) + 0.5) * spacing - SIDE_MM / 2] * dims
    return grid, np.stack(np.meshgrid(*mm, indexing="ij"))


def head(dims: int, spacing: float, lesion=None, seed=0) -> tuple[Grid, np.ndarray, np.ndarray]:
    """Grid, T2 and brain: white 1, a ventricle 2.5 in the middle, a sulcus of 4 mm, noise."""
    grid, mm = scene(dims, spacing)
    far = np.sqrt((mm**2).sum(0))
    image = np.where(np.sqrt(((mm - 2) ** 2).sum(0)) < 10, 2.5, 1.0)
    image[(np.abs(mm[0]) < 2) & (mm[1] > 15)] = 2.5
    if lesion is not None:
        image[inside(mm, lesion)] = 2.0
    image *= 1 + 0.15 * np.sin(mm[1] / 60)
    image += 0.05 * np.random.default_rng(seed).normal(size=image.shape)
    return grid, np.where(far < 45, 100 * image, 0).astype(np.float32), far < 45


def inside(mm: np.ndarray, lesion) -> np.ndarray:
    centre, radius = lesion
    return ((mm - np.reshape(centre, (-1,) + (1,) * (mm.ndim - 1))) ** 2).sum(0) < radius**2


def lesion_at(dims: int, radius=10.0):
    return (26.0, -14.0, 6.0)[:dims], radius


def write(path: Path, grid: Grid, values: np.ndarray, dtype=np.float32) -> Path:
    write_volume(path, grid, lambda box: values[box.slices], dtype=dtype)
    return path


def member(folder: Path, dims: int, name: str, place, seed: int) -> Subject:
    grid, image, brain = head(dims, 2.0, place, seed)
    labels = inside(scene(dims, 2.0)[1], place).astype(np.uint8) if place else None
    return Subject(
        name,
        {"t2": write(folder / f"{name}.nii", grid, image), "t1": folder / f"{name}.nii"},
        mask=write(folder / f"{name}_mask.nii", grid, brain, np.uint8),
        labels=None if labels is None else write(folder / f"{name}_l.nii", grid, labels, np.uint8),
    )


@pytest.fixture
def cohort(dims, tmp_path) -> Cohort:
    seats = [(-25.0, -10.0, 0.0), (-20.0, -22.0, 5.0), (24.0, 12.0, -5.0)]
    return Cohort(
        tuple(
            member(tmp_path, dims, f"p{k}", (seat[:dims], 10.0), k) for k, seat in enumerate(seats)
        )
    )


@pytest.fixture
def healthy(cohort) -> Healthy:
    return healthy_level(cohort, "t2", PREPARATION, SEARCH)


@pytest.mark.parametrize("spacing", [1.5, 3.0])
def test_lesions_are_found_and_fluid_is_not(dims, healthy, spacing):
    assert 1.2 < healthy.level < 1.7
    grid, image, brain = head(dims, spacing, seed=9)
    assert count(find_lesions(image, brain, grid, healthy)) == 0
    place = lesion_at(dims)
    grid, image, brain = head(dims, spacing, place, seed=9)
    found = find_lesions(image, brain, grid, healthy)
    assert count(found) == 1
    assert dice(inside(scene(dims, spacing)[1], place), found) > 0.8


def test_without_the_map_of_healthy_places_the_ventricle_is_a_lesion(dims, healthy):
    blind = replace(healthy, bright=np.zeros_like(healthy.bright))
    grid, image, brain = head(dims, 2.0, seed=9)
    assert count(find_lesions(image, brain, grid, blind)) == 1


def test_neither_scale_nor_orientation_matters(dims, healthy):
    grid, image, brain = head(dims, 2.0, lesion_at(dims), seed=9)
    found = find_lesions(image, brain, grid, healthy)
    np.testing.assert_array_equal(find_lesions(0.01 * image, brain, grid, healthy), found)
    if dims == 3:  # a picture has no orientation
        affine = grid.affine.copy()
        affine[:, 0], affine[0, 3] = -affine[:, 0], -affine[0, 3]
        turned = Grid(grid.shape, affine[:, [1, 0, 2, 3]])
        again = find_lesions(*(a[::-1].swapaxes(0, 1) for a in (image, brain)), turned, healthy)
        np.testing.assert_array_equal(again.swapaxes(0, 1)[::-1], found)


def test_lesions_are_numbered_by_size_and_small_ones_are_left_out(dims, healthy):
    grid, image, brain = head(dims, 1.5, lesion_at(dims, 9.0), seed=9)
    second = inside(scene(dims, 1.5)[1], ((-10.0, -30.0, 0.0)[:dims], 8.0))
    image[second] = 200
    found = find_lesions(image, brain, grid, healthy)
    assert count(found) == 2
    assert (found == 1).sum() > (found == 2).sum() > 0
    assert (found[second] == 2).sum() > 0.6 * second.sum()
    strict = replace(healthy, search=replace(SEARCH, least_ml=50.0))
    assert count(find_lesions(image, brain, grid, strict)) == 0


def test_bad_input_is_named(dims, cohort, healthy):
    grid, image, brain = head(dims, 3.0)
    with pytest.raises(InputError, match="expected one shape"):
        find_lesions(image[1:], brain, grid, healthy)
    with pytest.raises(InputError, match="brain mask has no voxel"):
        find_lesions(image, np.zeros_like(brain), grid, healthy)
    with pytest.raises(InputError, match="median intensity in the brain is 0"):
        find_lesions(0 * image, brain, grid, healthy)
    none = Cohort(tuple(replace(s, labels=None) for s in cohort))
    with pytest.raises(InputError, match="no training subject has a t2 image and a lesion"):
        healthy_level(none, "t2", PREPARATION)
    with pytest.raises(InputError, match="positive lengths"):
        Search(radius_mm=0)


def test_lesions_outside_the_brain_teach_nothing(dims, tmp_path, cohort, healthy):
    far = member(tmp_path, dims, "far", ((-46.0, -46.0, 0.0)[:dims], 2.5), 9)
    with open_labels(far.labels) as labels:
        assert labels.whole().any()
    both = Cohort((*cohort, far))
    assert healthy_level(both, "t2", PREPARATION, SEARCH).level == healthy.level
    with pytest.raises(InputError, match="no training subject has a t2 image and a lesion"):
        healthy_level(Cohort((far,)), "t2", PREPARATION, SEARCH)


def test_without_a_mask_the_brain_is_the_foreground(dims, cohort):
    preparation = PREPARATION.model_copy(update={"foreground": 60.0})
    subject = cohort["p0"]
    with open_volume(subject.images["t2"]) as image, open_labels(subject.mask) as mask:
        values, brain = image.whole(), mask.whole() > 0
    np.testing.assert_array_equal(brain_of(subject, "t2", preparation), brain)
    found = brain_of(replace(subject, mask=None), "t2", preparation)
    np.testing.assert_array_equal(found, values > 60)
    assert found.sum() > 0.9 * brain.sum()


def test_places_and_distances_of_what_is_not_there(dims):
    grid = scene(dims, 3.0)[0]
    nowhere = np.zeros(grid.shape, bool)
    with pytest.raises(InputError, match=r"^brain mask has no voxel$"):
        Place.of(nowhere, grid, 8)
    assert np.isposinf(distance(~nowhere, grid)).all()  # no lesion is near any voxel
    nowhere[(0,) * dims] = True
    far = distance(~nowhere, grid)
    assert far[(0,) * dims] == 0
    assert far[(4, *(0,) * (dims - 1))] == 12  # mm


# --- what was asked for and what was drawn -----------------------------------------------------


class Painter:
    """Draws the labels it is given on the source, and one lesion that nobody asked for."""

    def __init__(self, invents: bool) -> None:
        self.invents = invents

    def translate(self, subject, out, *, modality=None) -> None:
        with open_volume(subject.images[modality]) as source:
            image, grid = source.whole(), source.grid
        if subject.labels is not None:
            image[open_labels(subject.labels, like=grid).whole() > 0] = 200
        if self.invents:
            mm = scene(grid.dims, 2.0)[1]
            image[inside(mm, ((-10.0, -30.0, 0.0)[: grid.dims], 8.0))] = 200
        write(out, grid, image)


@pytest.mark.parametrize("invents", [False, True])
def test_tables_count_what_was_invented(dims, tmp_path, cohort, healthy, invents):
    well = member(tmp_path, dims, "well", None, 7)
    made = variants(well, [cohort["p2"], cohort["p0"]], tmp_path / "masks", preparation=PREPARATION)
    assert [v.name for v in made][:4] == [NONE, "tumour 1", "tumour 2", "mirrored"]
    assert len(made) == 7
    assert made[0].subject.labels is None
    assert [v.donor for v in made] == ["", "p2", "p0", *["p2"] * 4]
    sizes = {v.name: LabelMap.open(v.subject.labels).volume_ml for v in made[1:]}
    assert sizes["shrunk 15 %"] < sizes["tumour 1"] < sizes["enlarged 15 %"]
    assert sizes["grown"] > 1.05 * sizes["tumour 1"]
    table = lesion_table(
        Painter(invents), made, healthy, tmp_path / "out", preparation=PREPARATION
    ).set_index("variant")
    assert (table["invented"] == int(invents)).all()
    assert table.loc[NONE, "lesions"] == int(invents)
    assert np.isnan(table.loc[NONE, "dice"])
    drawn = table.drop(NONE)
    assert (drawn["lesions"] == 1 + int(invents)).all()
    assert drawn["dice"].min() > (0.5 if invents else 0.75)
    assert variant_path(tmp_path / "out", "shrunk 15 %", "well").is_file()
    short = lesion_summary(table.reset_index())
    assert short.loc[NONE, "subjects without invented lesions"] == int(not invents)
    assert list(short["n"]) == [1] * 7
    with pytest.raises(InputError, match="1 donors"):
        variants(well, cohort.subjects[:1], tmp_path, preparation=PREPARATION)
    bare = replace(cohort["p1"], labels=None)
    with pytest.raises(InputError, match=r"^p1: no labels to take a tumour from$"):
        variants(well, [cohort["p0"], bare], tmp_path / "none", preparation=PREPARATION)
    assert not (tmp_path / "none").exists()


def test_real_images_are_reference_rows_where_there_are_any(dims, tmp_path, cohort, healthy):
    well = member(tmp_path, dims, "well", None, 7)
    table = reference_table({"healthy": [well], "ill": cohort}, "t2", healthy, PREPARATION)
    assert list(table["variant"]) == ["healthy", "ill", "ill", "ill"]
    assert list(table["lesions"]) == [0, 1, 1, 1]
    assert table["dice"][1:].min() > 0.75
    bare = replace(well, images={"t1": well.images["t1"]})
    assert reference_table({"healthy": [bare]}, "t2", healthy, PREPARATION).empty
    assert measured(well.images["t2"], well, "t2", PREPARATION, healthy)["found_ml"] == 0


def test_healthy_people_come_from_one_manifest_or_two(tmp_path):
    head_row = "subject,role,modality,path,licence,citation\n"
    rows = "a,image,t1,a.nii,x,y\nb,image,t2,b.nii,x,y\nb,labels,,bl.nii,x,y\n"
    grid, image, _ = head(2, 6.0)
    for name in ("a", "b", "bl", "c"):
        write(tmp_path / f"{name}.nii", grid, image)
    (tmp_path / "manifest.csv").write_text(head_row + rows)
    well, ill = healthy_and_patients("smoke", tmp_path, data_root=tmp_path)
    assert (well.names, ill.names) == (("a",), ("b",))
    (tmp_path / "healthy.csv").write_text(head_row + "c,image,t1,c.nii,x,y\n")
    well, ill = healthy_and_patients("smoke", tmp_path, data_root=tmp_path)
    assert (well.names, ill.names) == (("c",), ("b",))
    (tmp_path / "manifest.csv").write_text(head_row + rows.splitlines()[0] + "\n")
    with pytest.raises(InputError, match="no patient with t2 and labels"):
        healthy_and_patients("smoke", tmp_path, data_root=tmp_path)


# --- phantoms ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_t2_of_phantoms(tmp_path, monkeypatch):
    """No lesion in any volunteer, the tumour in every patient; learnt from other patients."""
    monkeypatch.setattr(phantom, "WORKING", 48)
    made = {
        h: Cohort.from_manifest(
            phantom.write_cohort(
                tmp_path / str(h), subjects=n, size=48, seed=3, healthy=h, test_share=share
            ),
            tmp_path / str(h),
        )
        for h, n, share in ((False, 5, 0.4), (True, 3, 0.0))
    }
    healthy = healthy_level(made[False], "t2", PREPARATION)
    for subject in made[True]:
        found = lesions_in(subject.images["t2"], subject, "t2", PREPARATION, healthy)
        assert count(found) == 0
    for subject in made[False].split("test"):
        found = lesions_in(subject.images["t2"], subject, "t2", PREPARATION, healthy)
        with open_labels(subject.labels) as labels:
            assert dice(labels.whole(), found) >= 0.6
        assert brain_of(subject, "t2", PREPARATION).sum() > found.astype(bool).sum()
