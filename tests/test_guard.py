"""Whatever a decoder does, the user sees one line for one file."""

import errno
import logging
import struct
import threading
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from msgan.data import volume as volumes
from msgan.data.guard import LONGEST_TEXT, guarded, line_of, silence
from msgan.data.store import Source
from msgan.data.volume import Grid, open_volume
from msgan.types import Box, InputError

SHAPES = {2: (4, 5), 3: (4, 5, 6)}


def stored(shape):
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape, order="F")


def source_of(shape, **changes):
    array = stored(shape)
    whole = Source(
        Grid.from_spacing(shape, (1.0,) * len(shape)), region=lambda box: array[box.slices]
    )
    return replace(whole, **changes)


@pytest.fixture
def reader(monkeypatch, tmp_path, dims):
    """Makes a reader of ``.odd`` files; gives the path of one and the shape of the image."""
    monkeypatch.setenv("MSGAN_SCRATCH", str(tmp_path / "scratch"))
    path = tmp_path / "a.odd"
    path.write_text("anything")

    def use(read):
        monkeypatch.setitem(volumes.READERS, ".odd", lambda path, suffix: read())
        return path

    return use, SHAPES[dims]


def fail(error):
    raise error


ERRORS = [
    *(struct.error("unpack requires 4 bytes"), zlib.error("Error -3"), KeyError("sizes")),
    *(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), RecursionError("too deep")),
    *(OverflowError("too large"), MemoryError(), AssertionError(), EOFError(), TypeError("None")),
    *(ValueError("two\nlines \x1b[31m" + "x" * 5000), OSError(errno.EIO, "Input/output error")),
    *(RuntimeError(""), IndexError("5"), AttributeError("no pixels"), ZeroDivisionError()),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["open", "region", "blocks", "later block"])
def test_an_error_of_a_decoder_is_one_line(error, stage, reader):
    use, shape = reader

    def blocks():
        if stage == "later block":
            yield stored(shape)[..., :1]
        raise error

    def read():
        if stage == "open":
            raise error
        if stage == "region":
            return source_of(shape, region=lambda box: fail(error))
        return source_of(shape, region=None, blocks=blocks)

    path = use(read)
    with pytest.raises(InputError) as seen:
        open_volume(path)
    text = str(seen.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) < 1000
    cause = seen.value
    while cause.__cause__:
        cause = cause.__cause__
    assert cause is error
    if stage == "region":
        with open_volume(path, check=False) as volume, pytest.raises(InputError, match=r"a\.odd: "):
            volume.read(Box.whole(shape))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_interrupts_pass(error, reader):
    with pytest.raises(type(error)):
        open_volume(reader[0](lambda: fail(error)))


def test_a_full_disk_passes():
    with pytest.raises(OSError, match="No space") as seen, guarded():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not isinstance(seen.value, InputError)


def test_errors_of_those_who_look_are_not_hidden(reader):
    use, shape = reader
    for changes in ({}, {"region": None, "blocks": lambda: iter([stored(shape)])}):
        path = use(lambda changes=changes: source_of(shape, **changes))
        with open_volume(path, check=False) as volume, pytest.raises(ZeroDivisionError):
            volume.visit(lambda box, values: fail(ZeroDivisionError()))


@pytest.mark.parametrize("wrong", ["few", "many", "wide", "type", "none"])
def test_blocks_that_are_not_the_image_are_refused(wrong, reader):
    """Else a file would be completed by what lies behind its end."""
    use, shape = reader
    array = stored(shape)
    blocks = {
        "few": [array[..., :1]],
        "many": [array, array],
        "wide": [np.concatenate([array, array])],
        "type": [array[..., :1], array[..., 1:].astype(np.float32)],
        "none": [],
    }[wrong]
    path = use(lambda: source_of(shape, region=None, blocks=lambda: iter(blocks)))
    with pytest.raises(InputError, match=r"a\.odd: "):
        open_volume(path)
    region = use(lambda: source_of(shape, region=lambda box: array))
    with open_volume(region, check=False) as volume, pytest.raises(InputError, match="decoded to"):
        volume.read(Box((0,) * len(shape), (1,) * len(shape)))


def test_blocks_may_be_parts_of_planes(reader):
    use, shape = reader
    array = stored(shape)
    rows = [array[(slice(None), slice(k, k + 1), *i)] for *i, k in np.ndindex(*shape[2:], shape[1])]
    rows = [row.reshape(row.shape + (1,) * (len(shape) - row.ndim)) for row in rows]
    with open_volume(use(lambda: source_of(shape, region=None, blocks=lambda: iter(rows)))) as one:
        assert_array_equal(one.whole(), array)
    turned = source_of(shape[::-1], region=None, blocks=lambda: iter([array]), last_fastest=True)
    seen = []
    with open_volume(use(lambda: turned), check=False) as two:
        two.visit(lambda box, part: seen.append((box, part)))
        assert_array_equal(two.whole(), array.T)
    assert_array_equal(seen[0][1], array.T[seen[0][0].slices])


@pytest.mark.parametrize(("slope", "inter"), [(np.nan, 0), (np.inf, 0), (1, np.nan), (0, 5)])
def test_scales_that_leave_no_values_are_refused(slope, inter, reader):
    use, shape = reader
    with pytest.raises(InputError, match=r"a\.odd: voxels are stored value x"):
        open_volume(use(lambda: source_of(shape, slope=slope, inter=inter)))
    with pytest.raises(InputError, match="do not fit float32"):
        open_volume(use(lambda: source_of(shape, slope=1e300)))


def test_libraries_neither_warn_nor_log(reader, capfd):
    use, shape = reader

    def loud():
        warnings.warn("odd header", UserWarning, stacklevel=1)
        for name in ("nibabel.global", "pydicom", "tifffile"):
            logging.getLogger(name).error("odd header")
        return source_of(shape)

    path = use(loud)
    with open_volume(path) as volume:
        assert volume.grid.shape == shape
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="odd"):  # afterwards they may again
        warnings.warn("odd", UserWarning, stacklevel=1)


def test_threads_are_silent_together():
    before = list(warnings.filters)
    inside = threading.Barrier(4, timeout=10)

    def work():
        for _ in range(20):
            inside.wait()
            with silence:
                warnings.warn("odd", UserWarning, stacklevel=1)  # an error in these tests

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert silence.depth == 0
    assert warnings.filters == before


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.nii")  # opening it would wait for ever
    with pytest.raises(InputError, match="no ordinary file"):
        open_volume(tmp_path / "a.nii")


def test_a_long_message_is_cut():
    for length in (LONGEST_TEXT, LONGEST_TEXT + 1):
        cut = "..." if length > LONGEST_TEXT else ""
        assert line_of(ValueError("x" * length)) == f"ValueError: {'x' * LONGEST_TEXT}{cut}"


def test_silence_lasts_until_the_last_who_asked_for_it_ends(caplog):
    log, before = logging.getLogger("nibabel"), list(warnings.filters)
    with silence:
        with silence:
            log.warning("within both")
        log.warning("within one")
        warnings.warn("within one", UserWarning, stacklevel=1)  # an error in these tests
    assert warnings.filters == before
    log.warning("after both")
    assert [record.message for record in caplog.records] == ["after both"]


@pytest.mark.parametrize("value", [2.0**31, -(2.0**31) - 1])
def test_labels_beyond_32_bits_are_refused_and_not_wrapped(value):
    source = source_of((4, 5))
    stored = np.array([[0.0, value]])
    with pytest.raises(InputError, match=r"^labels .* do not fit 32-bit integers$"):
        source.values(stored, labels=True)
    ends = np.array([-(2.0**31), 2.0**31 - 1])
    assert_array_equal(source.values(ends, labels=True), ends.astype(np.int64))
