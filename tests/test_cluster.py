"""Tiles on a cluster of two local workers, one of which is killed."""

import os
import signal
from concurrent.futures import CancelledError
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers import config_of, head, run_of, stored

from msgan import translate
from msgan.types import InputError

distributed = pytest.importorskip("distributed")

from msgan.translate.cluster import Cluster  # noqa: E402

# The library closes its sockets and loops in its own time.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),  # as workers have: sums of more differ in a last bit
]


@pytest.fixture(scope="module")
def workers():
    """Two processes of one thread each, and no dashboard."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=50,
        local_directory=None,
    ) as cluster:
        yield cluster


def processes(cluster) -> list[int]:
    return [worker.process.pid for worker in cluster.workers.values()]


@pytest.fixture
def case(tmp_path):
    run = run_of(tmp_path / "run", config_of(3))
    source = stored(tmp_path / "t1.nii", head((44, 40, 36)))
    alone = tmp_path / "alone.nii"
    translate.translate(run, source, alone, device="cpu", tile=8)
    return run, source, alone


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path, scratch, case, workers):
    run, source, alone = case
    killed: list[int] = []

    def progress(stage, done, count):
        if stage == "s2" and done == 10 and not killed:
            killed.append(processes(workers)[0])
            os.kill(killed[0], signal.SIGKILL)

    with Cluster(workers.scheduler_address) as cluster:
        out = tmp_path / "o.nii"
        translate.translate(
            run, source, out, device="cpu", tile=8, engine=cluster, progress=progress
        )
    assert killed
    assert out.read_bytes() == alone.read_bytes()
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_images_of_a_cohort_go_to_workers_as_a_whole(tmp_path, scratch, case, workers, monkeypatch):
    run, source, alone = case
    monkeypatch.chdir(tmp_path)  # workers stand elsewhere
    pairs = [(Path(source.name), Path("a.nii")), (Path("none.nii"), Path("b.nii"))]
    options = {"device": "cpu", "tile": 8}
    with Cluster(workers.scheduler_address) as cluster:
        done = dict(cluster.images(run, pairs, [options, options]))
    assert (tmp_path / "a.nii").read_bytes() == alone.read_bytes()
    assert done[0].path == tmp_path / "a.nii"
    assert isinstance(done[1], InputError)
    assert "none.nii" in str(done[1])
    np.testing.assert_array_equal(
        nib.load(tmp_path / "a.nii").get_fdata(), nib.load(alone).get_fdata()
    )


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False], ids=["trained so", "blacked out"])
@pytest.mark.parametrize("what", ["context", "sketch"])
def test_what_a_run_is_blind_to_no_worker_sees(tmp_path, scratch, workers, what, trained):
    run = run_of(tmp_path / "run", config_of(2, drop_inputs=(what,) if trained else ()))
    run = run if trained else translate.ablated(run, what)
    source = stored(tmp_path / "x.nii", head((60, 44)))
    results = []
    with Cluster(workers.scheduler_address) as cluster:
        for engine in (None, cluster):
            out = tmp_path / "o.nii"
            translate.translate(run, source, out, device="cpu", tile=8, engine=engine)
            results.append(out.read_bytes())
    assert results[0] == results[1]
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_workers_that_keep_dying_end_in_one_line_and_keep_what_is_done(
    tmp_path, scratch, case, monkeypatch
):
    """A tile that takes its worker down each time; afterwards the same call goes on."""
    run, source, alone = case
    dying = lambda self, job, number: self.client.submit(os._exit, 1, pure=False, retries=2)  # noqa: E731
    monkeypatch.setattr(Cluster, "_submit", dying)
    out = tmp_path / "o.nii"
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as local,
        Cluster(local.scheduler_address) as cluster,
        pytest.raises(ChildProcessError, match="cluster: workers died one after the other"),
    ):
        translate.translate(run, source, out, device="cpu", tile=8, engine=cluster)
    assert not out.exists()
    assert [p.name[:11] for p in scratch.iterdir()] == ["msgan-work-"]
    monkeypatch.undo()
    monkeypatch.setenv("MSGAN_SCRATCH", str(scratch))
    seen = []
    translate.translate(
        run, source, out, device="cpu", tile=8, progress=lambda *x: seen.append(x[0])
    )
    assert "reading" not in seen
    assert out.read_bytes() == alone.read_bytes()


def test_an_address_without_scheduler_is_named(monkeypatch):
    monkeypatch.setattr("msgan.translate.cluster.CONNECT", 1)
    with pytest.raises(InputError, match=r"cluster tcp://127\.0\.0\.1:9: no scheduler"):
        Cluster("tcp://127.0.0.1:9")


@pytest.fixture(scope="module")
def threads():
    """A worker of four threads in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
    ) as local:
        yield local.scheduler_address


@pytest.fixture
def flat(tmp_path):
    run = run_of(tmp_path / "run", config_of(2))
    source = stored(tmp_path / "x.nii", head((60, 44)))
    alone = tmp_path / "alone.nii"
    translate.translate(run, source, alone, device="cpu", tile=8)
    return run, source, alone


def test_threads_of_a_worker_take_turns(tmp_path, scratch, flat, threads):
    """Two tiles at a time through one generator, which has room for the features of one."""
    run, source, alone = flat
    with Cluster(threads) as cluster:
        out = tmp_path / "o.nii"
        translate.translate(run, source, out, device="cpu", tile=8, engine=cluster)
    assert out.read_bytes() == alone.read_bytes()


def test_whole_images_come_back_beside_what_went_wrong(tmp_path, scratch, flat, threads):
    run, source, alone = flat
    pairs = [(source, tmp_path / "a.nii"), (tmp_path / "none.nii", tmp_path / "b.nii")]
    with Cluster(threads) as cluster:
        done = dict(cluster.images(run, pairs, [{"device": "cpu", "tile": 8}] * 2))
    assert done[0].path == tmp_path / "a.nii"
    assert (tmp_path / "a.nii").read_bytes() == alone.read_bytes()
    assert isinstance(done[1], InputError)
    assert not (tmp_path / "b.nii").exists()


def test_an_error_of_a_tile_is_that_of_the_translation(
    tmp_path, scratch, flat, threads, monkeypatch
):
    def broken(self, job, number):
        return self.client.submit(int, "no tile", pure=False)

    run, source, _ = flat
    monkeypatch.setattr(Cluster, "_submit", broken)
    with Cluster(threads) as cluster, pytest.raises(ValueError, match="no tile"):
        translate.translate(run, source, tmp_path / "o.nii", device="cpu", tile=8, engine=cluster)
    assert not (tmp_path / "o.nii").exists()


def test_a_scheduler_that_is_gone_is_one_line():
    from msgan.translate.cluster import _plain

    told = _plain(CancelledError("translated-1"))
    assert isinstance(told, ConnectionError)
    assert str(told) == "cluster: the scheduler is gone: run the same again to go on"
