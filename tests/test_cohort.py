import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from msgan.config import Preparation
from msgan.data.cohort import Cohort, Prepared, Subject, fold_of, prepare, resolve_scales
from msgan.data.entry import Entry
from msgan.data.manifest import Manifest, read_manifest
from msgan.data.volume import Volume, open_volume, write_volume
from msgan.types import Box, InputError

REPOSITORY = Path(__file__).resolve().parents[1]
LAS = np.diag([-1.0, 1.0, 1.0, 1.0])


def cohort(names: str, **values) -> Cohort:
    return Cohort(tuple(Subject(n, {"t2": Path(n)}, **values) for n in names.split()))


def rows(*values: dict) -> Manifest:
    base = {"role": "image", "modality": "t1", "licence": "CC BY", "citation": "Somebody"}
    return Manifest(name="m.csv", rows=tuple(Entry.model_validate(base | v) for v in values))


def save(path: Path, image: np.ndarray, affine=LAS) -> Path:
    """A NIfTI file in 3D, a PNG in 2D."""
    if image.ndim == 2:
        from PIL import Image

        path = path.with_name(path.name.split(".")[0] + ".png")
        Image.fromarray(image.astype(np.uint8)).save(path)
    else:
        nib.save(nib.Nifti1Image(image, affine), path)
    return path


def brain(dims: int, side: int = 20) -> np.ndarray:
    """A bright ball on zero, with a gradient so that orientation matters."""
    at = np.stack(np.meshgrid(*[np.arange(side)] * dims, indexing="ij"), -1)
    ball = ((at - side / 2 + 0.5) ** 2).sum(-1) < (side / 3) ** 2
    return np.where(ball, 50 + at @ np.array([5, 2, 1])[:dims], 0).astype(np.float32)


def test_manifest_becomes_subjects(tmp_path):
    for name in ("p1_t1.nii", "p1_t2.nii", "p1_seg.nii", "p2_t1.nii", "p2_mask.nii", "p2_lung.nii"):
        (tmp_path / name).touch()
    made = Cohort.from_manifest(
        rows(
            {"subject": "p*", "path": "{subject}_t1.nii"},
            {"subject": "p*", "path": "{subject}_t2.nii", "modality": "t2"},
            {"subject": "p*", "path": "{subject}_seg.nii", "role": "labels", "modality": ""},
            {"subject": "p*", "path": "{subject}_mask.nii", "role": "mask", "modality": ""},
            {"subject": "p*", "path": "{subject}_lung.nii", "role": "region", "modality": "lung"},
        ),
        tmp_path,
    )
    assert made.names == ("p1", "p2")
    assert dict(made["p1"].images) == {
        "t1": tmp_path / "p1_t1.nii",
        "t2": tmp_path / "p1_t2.nii",
    }
    assert (made["p1"].labels, made["p1"].mask) == (tmp_path / "p1_seg.nii", None)
    assert (made["p2"].labels, made["p2"].mask) == (None, tmp_path / "p2_mask.nii")
    assert dict(made["p2"].regions) == {"lung": tmp_path / "p2_lung.nii"}
    assert dict(made["p1"].regions) == {}
    assert made.with_modality("t2").names == ("p1",)
    assert made.with_modality("t1").names == ("p1", "p2")
    with pytest.raises(InputError, match="no subject 'p3'; there are p1, p2"):
        made["p3"]


def test_splits_are_those_of_the_manifest(tmp_path):
    made = Cohort.from_manifest(
        rows(
            {"subject": "a", "path": "a.nii", "split": "train", "fold": 1},
            {"subject": "b", "path": "b.nii", "split": "test"},
        ),
        tmp_path,
    )
    assert made.split("train").names == ("a",)
    assert made.split("test").names == ("b",)
    assert made.split("val").names == ()
    assert (made["a"].fold, made["b"].fold) == (1, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            (
                {"subject": "a", "path": "a"},
                {"subject": "a", "path": "b", "modality": "t2", "fold": 1},
            ),
            "rows of a differ in split or fold",
        ),
        (
            tuple({"subject": "a", "path": m, "modality": m, "role": "labels"} for m in ("x", "y")),
            "a has several files of labels",
        ),
        (({"subject": "*", "path": "{subject}.mha"},), "no image found below .*; see Somebody"),
    ],
)
def test_contradictory_manifests_are_refused(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        Cohort.from_manifest(rows(*values), tmp_path)


def test_a_subject_is_in_a_cohort_once():
    with pytest.raises(InputError, match="'a' is in the cohort twice"):
        cohort("a b a")


def test_fold_depends_on_the_name_alone():
    assert [fold_of(n, 4) for n in ("a", "patient19", "Łucja")] == [
        int(hashlib.sha256(n.encode()).hexdigest()[:16], 16) % 4
        for n in ("a", "patient19", "Łucja")
    ]
    names = [f"s{i}" for i in range(40)]
    first = cohort(" ".join(names)).folds(4)
    second = cohort(" ".join(reversed(names[:30]))).folds(4)
    for (_, test), (train, few) in zip(first, second, strict=True):
        assert set(few.names) <= set(test.names)
        assert not set(train.names) & set(test.names)


def test_folds_cover_everyone_once():
    names = [f"s{i}" for i in range(23)]
    for made in (cohort(" ".join(names)), cohort(" ".join(names)).with_folds(5)):
        folds = made.folds(5)
        assert sorted(n for _, test in folds for n in test.names) == sorted(names)
        for train, test in folds:
            assert sorted(train.names + test.names) == sorted(names)


def test_dealt_folds_are_even_and_do_not_depend_on_order():
    made = cohort("a b c d e f g").with_folds(3)
    assert sorted(len(test) for _, test in made.folds(3)) == [2, 2, 3]
    other = cohort("g f e d c b a").with_folds(3)
    assert {s.name: s.fold for s in made} == {s.name: s.fold for s in other}


def test_stated_folds_win_and_impossible_ones_are_refused():
    two = Cohort((*cohort("a", fold=0), *cohort("b", fold=1)))
    assert [(train.names, test.names) for train, test in two.folds(2)] == [
        (("b",), ("a",)),
        (("a",), ("b",)),
    ]
    with pytest.raises(InputError, match="b: fold 1 is not below 1"):
        two.folds(1)
    with pytest.raises(InputError, match=r"fold 2 of 3 has 2 to train and 0 to test"):
        two.folds(3)


def test_choice_of_image_is_explicit():
    subject = Subject("a", {"t1": Path("1"), "t2": Path("2")})
    assert subject.image("t2") == ("t2", Path("2"))
    with pytest.raises(InputError, match="a: which of the images t1, t2 is wanted"):
        subject.image()
    with pytest.raises(InputError, match="a: no flair image; there are t1, t2"):
        subject.image("flair")
    assert Subject("a", {"t1": Path("1")}).image() == ("t1", Path("1"))


def test_prepared_image_is_in_range_and_returns_to_its_file(tmp_path, dims):
    image = brain(dims)
    path = save(tmp_path / "a.nii.gz", image)
    if dims == 2:
        image = image.astype(np.uint8).astype(np.float32)
    with prepare(path, None, Preparation(high=100)) as ready:
        whole = ready.read(Box.whole(ready.grid.shape))
        assert ready.grid.shape == (20,) * dims
        assert whole.dtype == np.float32
        assert (whole.min(), whole.max()) == (-1, 1)
        assert (ready.read(Box((-9,) * dims, (3,) * dims)) == -1).all()
        assert ready.read_labels(Box.whole(ready.grid.shape)) is None
        assert not ready.has_labels
        back = ready.to_source(ready.read)(Box.whole(image.shape))
        np.testing.assert_allclose(back, image, atol=1e-4)
        if dims == 3:  # canonical: the file's first axis points left, the grid's right
            np.testing.assert_allclose(whole, ready.intensity.to_unit(image[::-1]), atol=1e-6)


def test_prepared_labels_follow_the_image(tmp_path):
    image = brain(3)
    labels = np.zeros(image.shape, np.uint8)
    labels[10:14, 7:9, 11:12] = 4  # well inside the ball
    subject = Subject(
        "a",
        {"t1": save(tmp_path / "a.nii", image)},
        labels=save(tmp_path / "seg.nii", labels),
    )
    prep = Preparation(spacing_mm=(0.5, 0.5, 0.5), high=100, scales=2)
    with prepare(subject, "t1", prep) as ready:
        box = Box((-2, -2, -2), tuple(n + 4 for n in ready.grid.shape))
        found, values = ready.read_labels(box), ready.intensity.from_unit(ready.read(box))
        assert found.dtype == np.uint8
        assert set(np.unique(found)) == {0, 4}
        assert ready.grid.shape == (40, 40, 40)
        # One voxel became eight, in the same place as in the image.
        assert (found > 0).sum() == 8 * (labels > 0).sum()
        np.testing.assert_allclose(values[found > 0].mean(), image[labels > 0].mean(), rtol=1e-5)
        np.testing.assert_allclose(values[found > 0].min(), image[labels > 0].min(), atol=3)
        tiles = [ready.read_labels(b) for b in Box.whole(ready.grid.shape).tiles((40, 40, 8))]
        np.testing.assert_array_equal(
            np.concatenate(tiles, 2), ready.read_labels(Box.whole(ready.grid.shape))
        )


def test_labels_beyond_eight_bits_are_refused(tmp_path):
    image = brain(3)
    path = save(tmp_path / "a.nii", image)
    seg = save(tmp_path / "seg.nii", (image > 100).astype(np.int16) * 300)
    with (
        prepare(path, "t1", Preparation(), labels=seg) as ready,
        pytest.raises(InputError, match="labels from 0 to 300: expected 0 to 255"),
    ):
        ready.read_labels(Box.whole(ready.grid.shape))


def test_unit_is_that_of_the_manifest_where_the_file_has_none(tmp_path):
    save(tmp_path / "ct.nii", brain(3))
    save(tmp_path / "mr.nii", brain(3))
    made = Cohort.from_manifest(
        rows(
            {"subject": "a", "path": "ct.nii", "modality": "ct", "unit": "HU"},
            {"subject": "a", "path": "mr.nii", "modality": "mr"},
        ),
        tmp_path,
    )
    for modality, unit in (("ct", "HU"), ("mr", "a.u.")):
        with prepare(made["a"], modality, Preparation()) as ready:
            assert ready.intensity.unit == unit


def test_results_are_saved_on_either_grid_and_open_in_place(tmp_path):
    image = brain(3)
    path = save(tmp_path / "a.nii", image, np.diag([-1.0, 2.0, -3.0, 1.0]))
    with prepare(path, None, Preparation(spacing_mm=(1.0, 1.0, 1.5), high=100)) as ready:
        write_volume(tmp_path / "out.nii.gz", ready.grid.source, ready.to_source(ready.read))
        write_volume(tmp_path / "working.nii.gz", ready.grid.grid, ready.read)
        grid = ready.grid
    with open_volume(tmp_path / "out.nii.gz") as out:
        assert out.grid == grid.source
        core = (slice(8, 12),) * 3  # far from the ball's sharp edge: a linear ramp
        np.testing.assert_allclose(out.whole()[core], image[core], atol=0.1)
    with open_volume(tmp_path / "working.nii.gz") as working:
        assert working.grid == grid.grid
        weight = working.whole() + 1
        at = np.stack(np.meshgrid(*map(np.arange, weight.shape), indexing="ij"), -1)
        centre = (at * weight[..., None]).sum((0, 1, 2)) / weight.sum()
        index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)
        wanted = (index * image[..., None]).sum((0, 1, 2)) / image.sum()
        np.testing.assert_allclose(
            working.grid.affine @ (*centre, 1), grid.source.affine @ (*wanted, 1), atol=0.02
        )


def test_mask_makes_the_rest_background(tmp_path):
    image = brain(3)
    skull = image.copy()
    skull[image == 0] = 400
    subject = Subject(
        "a",
        {"t1": save(tmp_path / "a.nii", skull)},
        mask=save(tmp_path / "mask.nii", (image > 0).astype(np.uint8)),
    )
    prep = Preparation(high=100)
    with prepare(subject, "t1", prep) as masked:
        assert masked.intensity.high == pytest.approx(image.max())
        whole = masked.read(Box.whole(masked.grid.shape))
        assert masked.grid.box.size == (20, 20, 20)  # the ball and three voxels around
        np.testing.assert_array_equal(whole == -1, image[::-1] == 0)


def test_a_cohort_settles_on_the_scales_its_largest_image_needs(tmp_path, dims):
    members = []
    for name, side in (("small", 14), ("large", 30), ("middle", 16)):
        members.append(Subject(name, {"t1": save(tmp_path / f"{name}.nii", brain(dims, side))}))
    prep = resolve_scales(members, "t1", Preparation(longest=8))
    assert prep == Preparation(longest=8, scales=2)
    assert resolve_scales(members, "t1", Preparation(scales=5)).scales == 5
    for member, base in zip(members, (4, 7, 4), strict=True):
        with prepare(member, "t1", prep) as ready:
            assert ready.grid.shape_at(0) == (base,) * dims
    with pytest.raises(InputError, match="no subject"):
        resolve_scales([], "t1", Preparation())


def test_another_image_can_share_the_grid(tmp_path):
    small = brain(3)
    small[:, :, 12:] = 0
    one, two = save(tmp_path / "1.nii", small), save(tmp_path / "2.nii", brain(3))
    prep = Preparation(margin=0)
    with prepare(one, "t1", prep) as t1, prepare(two, "t2", prep, grid=t1.grid) as t2:
        assert t2.grid == t1.grid
    other = save(tmp_path / "3.nii", brain(3), np.eye(4))
    with pytest.raises(InputError, match=r"3\.nii: its grid .* is not that planned for"):
        prepare(other, "t1", prep, grid=t1.grid)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_is_read_twice_and_once_with_a_window(suffix, masked, tmp_path, monkeypatch):
    image = brain(3)
    path = save(tmp_path / f"a{suffix}", image)
    mask = None
    if masked:
        mask = save(tmp_path / "mask.nii", (image > 0).astype(np.float32))
    subject = Subject("a", {"T1": path}, mask=mask)
    scans = []
    scan = Volume.visit

    def noted(self, *looks):
        scans.append(self.path.name)
        return scan(self, *looks)

    monkeypatch.setattr(Volume, "visit", noted)
    with prepare(subject, None, Preparation()) as ready:
        by_percentile = ready.read(Box.whole(ready.grid.shape))
    assert scans == ["mask.nii"] * masked + [path.name] * 2
    scans.clear()
    window = Preparation(
        intensity="window", low=0, high=ready.intensity.high, scales=ready.grid.scales
    )
    with prepare(subject, None, window) as ready:
        np.testing.assert_array_equal(ready.read(Box.whole(ready.grid.shape)), by_percentile)
    assert scans == ["mask.nii"] * masked + [path.name]


def test_window_and_its_faults(tmp_path):
    image = brain(3) * 10 - 1000
    path = save(tmp_path / "ct.nii", image)
    window = {"intensity": "window", "high": 200, "foreground": -900}
    with prepare(path, "ct", Preparation(low=-800, **window)) as ready:
        assert (ready.intensity.low, ready.intensity.high) == (-800, 200)
        assert (ready.read(Box((-5, 0, 0), (3, 9, 9))) == -1).all()
    with pytest.raises(InputError, match=r"ct\.nii: an intensity window needs its low end"):
        prepare(path, "ct", Preparation(low=None, **window))
    with pytest.raises(InputError, match=r"ct\.nii: intensity range 300 to 200"):
        prepare(path, "ct", Preparation(low=300, **window))
    with pytest.raises(InputError, match=r"ct\.nii: no voxel of an image"):
        prepare(path, "ct", Preparation(low=0, **(window | {"foreground": 9000})))
    with pytest.raises(InputError, match=r"none\.nii"):
        prepare(tmp_path / "none.nii", None, Preparation())


def test_failure_leaves_no_scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    path = save(tmp_path / "a.nii.gz", brain(3))
    with pytest.raises(InputError, match="no voxel") as caught:
        prepare(path, None, Preparation(foreground=1e6))
    # The traceback keeps the volume alive, so only closing it can have removed its file.
    assert caught.tb is not None
    assert not [p for p in (tmp_path / "scratch").rglob("*") if p.is_file()]
    with prepare(path, None, Preparation()) as ready:
        assert isinstance(ready, Prepared)
        ready.read(Box.whole(ready.grid.shape))
    assert not [p for p in (tmp_path / "scratch").rglob("*") if p.is_file()]


def test_real_brain_goes_there_and_back(shared_data):
    manifest = read_manifest(REPOSITORY / "data_manifests" / "brain_ms.csv")
    made = Cohort.from_manifest(manifest, shared_data)
    assert made.names == ("patient19", "patient26")
    assert [test.names for _, test in made.folds(2)] == [("patient19",), ("patient26",)]
    image = np.asanyarray(nib.load(made["patient19"].images["t2"]).dataobj)
    with prepare(made["patient19"], "t2", Preparation()) as ready:
        assert ready.grid.scales == 2
        assert ready.grid.shape_at(0) <= (64, 64, 64)
        assert ready.grid.grid.orientation == ("R", "A", "S")
        whole = ready.read(Box.whole(ready.grid.shape))
        assert whole.min() == -1
        assert 0.3 < (whole == -1).mean() < 0.8
        back = ready.to_source(lambda box: whole[box.slices])(Box.whole(image.shape))
        np.testing.assert_allclose(back, image.clip(0, ready.intensity.high), atol=0.01)
        # Lesions of multiple sclerosis are bright in T2.
        lesions = ready.read_labels(Box.whole(ready.grid.shape)) > 0
        assert whole[lesions].mean() > whole[whole > -1].mean() + 0.1


def test_who_is_held_out_does_not_depend_on_order():
    made = cohort("a b c d e f g").held_out(2)
    assert [s.split for s in made].count("test") == 2
    assert len(made.split("train")) == 5
    other = cohort("g f e d c b a").held_out(2)
    assert {s.name: s.split for s in made} == {s.name: s.split for s in other}
    with pytest.raises(InputError, match="3 of 2 subjects held out: expected 0 to 2"):
        cohort("a b").held_out(3)
