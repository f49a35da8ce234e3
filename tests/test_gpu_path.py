"""The path of a GPU without one: where tensors lie, of what type they are, who waits for them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import gpu_path
import pytest

from msgan.networks.families import FAMILIES

PROGRAM = Path(gpu_path.__file__)

STEPS = 2
"""That each case trains."""

NAMES = list(gpu_path.cases())


@pytest.fixture(scope="module")
def told() -> dict[str, dict]:
    """What became of each case, in a process whose PyTorch knows one device more."""
    command = [sys.executable, str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["case"]: row for row in rows}


def test_every_family_of_networks_is_run() -> None:
    assert {config(3).network.family for config in gpu_path.CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_on_the_host_and_no_type_is_mixed(name: str, told) -> None:
    assert told[name]["error"] == ""


def waits(case: str) -> int:
    """Values that a case may read on the host: a D that may rest is asked in each step."""
    config = gpu_path.CONFIGS[configuration(case)](3)
    asked = config.training.gan_weight and config.training.discriminator_accuracy < 1
    return STEPS if case.startswith("train") and asked and not config.cycle else 0


def configuration(case: str) -> str:
    """The name of the configuration of a case."""
    own = case.split(" ", 1)[1]
    return max((name for name in gpu_path.CONFIGS if own.startswith(f"{name}, ")), key=len)


@pytest.mark.parametrize("name", NAMES)
def test_the_host_waits_only_to_ask_whether_d_rests(name: str, told) -> None:
    expected = {"value read": waits(name)} if waits(name) else {}
    assert told[name]["waits"] == expected


LISTED = {
    *("convolution_backward", "avg_pool3d_backward", "max_pool3d_with_indices_backward"),
    *(f"{kind}_pad{n}d_backward" for kind in ("replication", "reflection") for n in (1, 2, 3)),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "cumsum", "cumsum_"),
    *("adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "nll_loss_forward"),
    *("fractional_max_pool3d_backward", "max_unpool2d", "max_unpool3d", "put_", "histc"),
    *("bincount", "median", "index_add", "index_add_", "index_put", "index_put_", "index_copy"),
    *("scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "gather"),
    *("index_select_backward", "embedding_bag", "_ctc_loss_backward"),
}
"""What ``torch.use_deterministic_algorithms`` says is not deterministic by itself on CUDA."""


def test_the_operations_that_are_not_deterministic_are_those_documented(told) -> None:
    found: dict[str, set[str]] = {}
    for case, row in told.items():
        if case.startswith("train"):
            for operation in LISTED & set(row["operations"]):
                family = configuration(case).split(",")[0]
                found.setdefault(operation, set()).add(family)
    text = (PROGRAM.parents[1] / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    stated: dict[str, set[str]] = {}
    for operations, families in re.findall(r"^\| (`\w+_backward`.*?) \| (.+?) \|", text, re.M):
        for operation in re.findall(r"`(\w+)`", operations):
            stated[operation] = set(families.split(", "))
    assert found == stated


FOUND = {
    "a tensor of the host in the loss": "error",
    "a network that stays on the host": "error",
    "a double under autocast": "error",
    "a value read in the loss": "value read",
    "a decision in the loss": "value read",
    "an image copied to the host": "copy to the host",
}
"""By fault, how it shows: as an error, or as a wait."""


@pytest.mark.parametrize("fault", gpu_path.FAULTS)
def test_faults_are_found(fault: str, told) -> None:
    row, how = told[f"fault: {fault}"], FOUND[fault]
    assert bool(row["error"]) == (how == "error")
    assert set(row["waits"]) == (set() if how == "error" else {how}) or row["error"]
    assert "device" in row["error"].lower() or "type" in row["error"] or not row["error"]
