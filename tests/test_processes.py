"""Training in several processes, started by torchrun or srun."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from helpers import head, stored
from training import rows, tiny, weights, with_

from msgan import seeds
from msgan.config import (
    CascadeConfig,
)
from msgan.training.step import build_generator

pytestmark = pytest.mark.usefixtures("one_thread")


LAUNCHERS = ("torchrun", "srun")


def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launched(launcher: str, words: list[str]) -> list[subprocess.CompletedProcess]:
    """``python -m msgan.cli words`` in two processes, as torchrun or srun would start them."""
    told = ("SLURM", "COVERAGE", "RANK", "WORLD", "LOCAL_", "MASTER", "MSGAN")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(told)}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "msgan.cli", *words]
    if launcher == "torchrun":
        elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        starts = [([sys.executable, *elastic, *command[1:]], environment)]
    else:
        job = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
        job |= {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "train", "SLURM_NODEID": "0"}
        job |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port())}
        starts = [
            (command, environment | job | {"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)})
            for k in range(2)
        ]
    running = [
        subprocess.Popen(c, env=e, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for c, e in starts
    ]
    try:
        said = [process.communicate(timeout=120) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *text)
        for process, text in zip(running, said, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "gan"),
    [*((name, "least_squares") for name in LAUNCHERS), (LAUNCHERS[0], "relativistic")],
)
def test_the_program_trains_in_two_processes(tmp_path, launcher, gan):
    rows_of = ["subject,role,modality,path,licence,citation,split"]
    for k, split in enumerate(("train", "train", "val")):
        stored(tmp_path / f"{k}.nii", head((48, 40), k))
        rows_of.append(f"p{k},image,t2,{k}.nii,none,none,{split}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows_of))
    steps = {"steps": 5, "lr_steps": 5, "batch": 2, "lr_batch": 2, "validate_every": 5}
    # Whether D rests is decided by few logits, of which one may lie on either side.
    steps |= {"gan": gan, "discriminator_accuracy": 1.0 if gan == "relativistic" else 0.8}
    # Dropout is drawn for each process.
    with_(tiny(2, **steps), "network", dropout=0.0).save(tmp_path / "tiny.yaml")
    words = ["train", str(tmp_path / "manifest.csv"), "--target", "t2", "--device", "cpu"]
    words += ["--config", str(tmp_path / "tiny.yaml")]
    one = subprocess.run(
        [sys.executable, "-m", "msgan.cli", *words, "--out", str(tmp_path / "one")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    done = launched(launcher, [*words, "--out", str(tmp_path / "two")])
    for process in (one, *done):
        assert process.returncode == 0, process.stderr
    said = "".join(d.stdout for d in done)
    assert said.count("ready") == 1, said  # one process speaks for all
    for scale in range(3):
        one, two = (rows(tmp_path / name / f"s{scale}") for name in ("one", "two"))
        assert [row["step"] for row in two] == [5]  # one process writes
        assert two[-1]["l1"] == pytest.approx(one[-1]["l1"], rel=1e-2)
        start, *trained = (
            torch.cat([w.flatten() for _, w in sorted(found.items())])
            for found in (
                begun(tiny(2), scale),
                weights(tmp_path / "one" / f"s{scale}"),
                weights(tmp_path / "two" / f"s{scale}"),
            )
        )
        assert (trained[1] - trained[0]).norm() < 0.1 * (trained[0] - start).norm()


@pytest.mark.slow
def test_a_training_leaves_its_group_before_the_interpreter_ends(tmp_path):
    """Else a thread of Gloo may be cut off in the middle, and the process dies by SIGABRT."""
    stored(tmp_path / "a.nii", head((48, 40), 0))
    row = "a,image,t2,a.nii,none,none,train"
    (tmp_path / "manifest.csv").write_text(
        f"subject,role,modality,path,licence,citation,split\n{row}"
    )
    tiny(2, steps=1, lr_steps=1, batch=2, lr_batch=2).save(tmp_path / "tiny.yaml")
    script = tmp_path / "last.py"
    script.write_text(  # what is registered first is called last
        "import atexit\n"
        "import torch.distributed as group\n"
        "atexit.register(lambda: print('group there:', group.is_initialized(), flush=True))\n"
        "from msgan.cli import main\n"
        "main()\n"
    )
    told = ("SLURM", "COVERAGE", "RANK", "WORLD", "LOCAL_", "MASTER")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(told)}
    elastic = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["train", str(tmp_path / "manifest.csv"), "--target", "t2", "--device", "cpu"]
    words += ["--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, *elastic, str(script), *words],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Both write at once: a line may stand within the other.
    assert done.stdout.count("group there:") == 2, done.stdout
    assert done.stdout.count("False") == 2, done.stdout


def begun(config: CascadeConfig, scale: int) -> dict[str, torch.Tensor]:
    """The weights a scale starts from."""
    torch.manual_seed(seeds.derive(config.seed, "weights", scale))
    return build_generator(config, scale).state_dict()
