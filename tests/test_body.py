"""The body is what the skin encloses, lungs included."""

from pathlib import Path

import numpy as np
import pytest

from msgan.config import IntensityRange, Preparation
from msgan.data.body import body_mask
from msgan.data.grid import Grid
from msgan.data.prepared import prepare
from msgan.data.volume import write_volume
from msgan.types import Array, Box


def chest(dims: int) -> tuple[Array, Array]:
    """A ring of tissue around a lung, a table below it; and where the body is."""
    shape = (40, 36, 5)[:dims]
    x, y = np.meshgrid(np.arange(40) - 20, np.arange(36) - 16, indexing="ij")
    radius = np.hypot(x, y)
    image = np.full((40, 36), -1000.0)
    image[radius < 13] = 40
    image[radius < 9] = -870
    image[18:24, 33:35] = 0  # a table
    body = radius < 13
    if dims == 3:
        image, body = (np.repeat(v[..., None], shape[2], axis=2) for v in (image, body))
    return image.astype(np.float32), body


def unit(image: Array) -> Grid:
    return Grid.from_spacing(image.shape, (1.0,) * image.ndim)


def test_lungs_belong_to_the_body_and_the_table_does_not(dims: int) -> None:
    image, body = chest(dims)
    inside = body_mask(lambda box: image[box.slices], unit(image), -300.0)
    np.testing.assert_array_equal(inside(Box.whole(image.shape)), body)


def test_any_box_gives_the_same(dims: int) -> None:
    image, body = chest(dims)
    inside = body_mask(lambda box: image[box.slices], unit(image), -300.0)
    for box in Box.whole(image.shape).tiles((17, 11, 2)[:dims]):
        np.testing.assert_array_equal(inside(box), body[box.slices])


@pytest.mark.parametrize("axes", [(2, 0, 1), (0, 2, 1)])
def test_slices_are_axial_whatever_the_order_of_axes(axes: tuple[int, int, int]) -> None:
    """The lung opens to the air at the ends of the scan, so only axial slices enclose it."""
    image, body = chest(3)
    affine = np.eye(4)[:, [*axes, 3]]
    turned = image.transpose(axes)
    inside = body_mask(lambda box: turned[box.slices], Grid(turned.shape, affine), -300.0)
    np.testing.assert_array_equal(inside(Box.whole(turned.shape)), body.transpose(axes))


def test_nobody_is_there() -> None:
    air = np.full((8, 8, 3), -1000.0)
    inside = body_mask(lambda box: air[box.slices], unit(air), -300.0)
    assert not inside(Box.whole(air.shape)).any()


def limb(dims: int) -> tuple[Array, Array, Array]:
    """An arm as MR and as CT, with noise in the air around and a table below; and where it is."""
    ct, body = chest(dims)
    ct = np.where(ct == -870, 900, ct)  # a bone instead of a lung
    noise = np.random.default_rng(0).uniform(0, 20, ct.shape)
    air = ~body & (ct < -500)
    mr = np.where(body, np.where(ct > 500, 0.0, 400.0), noise)
    return mr.astype(np.float32), np.where(air, ct + noise, ct).astype(np.float32), body


def test_background_is_what_lies_outside_the_body(dims: int, tmp_path: Path) -> None:
    mr, ct, body = limb(dims)
    plain = Preparation(
        scales=1,
        intensity="window",
        low=-1024,
        high=1024,
        foreground=-300,
        ranges={"mr": IntensityRange(high=100)},
    )
    for name, image in (("mr", mr), ("ct", ct)):
        grid = unit(image)
        path = tmp_path / f"{name}.nii"
        write_volume(path, grid, lambda box, image=image: image[box.slices])
        seen = {}
        for prep in (plain, plain.updated(body=True)):
            with prepare(path, name, prep) as ready:
                whole = Box.whole(ready.grid.source.shape)
                back = ready.to_source(ready.read)(whole)
                seen[prep.body] = ready.intensity.to_unit(back)
        crop = seen[True][body.nonzero()]
        assert (seen[False][~body] > -1).any()  # noise, and the table
        np.testing.assert_array_equal(seen[True][~body], -1)
        assert crop.min() > -1 + 1e-3  # bone that is as dark as air is none
        rest = body & (seen[False] > -0.99)
        np.testing.assert_array_equal(seen[True][rest], seen[False][rest])


def test_the_body_is_asked_for_and_changes_no_other_run() -> None:
    assert "body" not in Preparation().model_dump()
    asked = Preparation(body=True)
    assert Preparation.model_validate(asked.model_dump()) == asked
    assert asked.of("t1").body
