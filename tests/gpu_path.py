"""What runs on a GPU, run on a device that has no memory and no kernels, only rules.

Tensors of it are fake (:class:`torch._subclasses.FakeTensorMode`): each has a device, a type and a
shape, and every operation checks them, as CUDA would: a tensor of the host beside one of the device
is an error, and so is a type that an operation does not take. PyTorch's own name for devices that
it does not know, ``privateuseone``, stands for CUDA: builds for CPUs cannot hold even a fake tensor
of ``cuda``. Autocast has the same lists of operations for it. Whatever waits for the device (a
value read on the host, a copy to the host, a shape that depends on values) is counted.

It changes PyTorch for the whole process, so the tests run it as a program:

    python tests/gpu_path.py NAME ...
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from helpers import tiny
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.plugins import MixedPrecision, Precision
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from msgan import presets, sketch
from msgan.config import CascadeConfig
from msgan.methods.cyclegan import CycleGan
from msgan.methods.ea_gan import DEaGan, GEaGan
from msgan.methods.mdaunet import MDAUNet
from msgan.methods.ptnet import PTNet3D
from msgan.methods.resvit import ResViT
from msgan.networks import inference
from msgan.networks.families import FAMILIES
from msgan.networks.generator import Geometry, View
from msgan.training.batches import Batch
from msgan.training.loop import learner_of
from msgan.training.step import Learner, build_generator
from msgan.translate.scale import autocast
from msgan.types import Box

NAME = "gpu"
"""Of the device."""

READS = ("_local_scalar_dense", "item")
"""Operations that read a value on the host."""

SHAPED = ("nonzero", "masked_select", "_unique2", "unique_dim")
"""Operations whose shape depends on values."""


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Waits(TorchDispatchMode):
    """Counts what the host waits for; a value that is read is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.operations.add(name)
        given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, FakeTensor)]
        for tensor in given:
            tensor.constant = None  # with a value it would be computed with, on the device too
        ours = bool(given) and given[-1 if name == "copy_" else 0].device.type == NAME
        if name in READS:
            self.found["value read"] += ours
            return False if args[0].dtype is torch.bool else 1
        to = args[0].device if name == "copy_" else kwargs.get("device")
        if ours and to is not None and torch.device(to).type != NAME:
            self.found["copy to the host"] += 1
        if ours and name in SHAPED:
            self.found["shape read"] += 1
        return func(*args, **kwargs)


HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
"""Lists what autocast computes in the lower precision, in float32, in the widest type given."""


def listed(name: str) -> list[Any]:
    """The operations of a list in PyTorch's own header."""
    macro = HEADER.read_text(encoding="utf-8").split(f"#define {name}(_)", 1)[1].split("\n\n", 1)[0]
    found = []
    for packet, overload in re.findall(r"_\((\w+)(?:, (\w+))?\)", macro):
        op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        found += [op] if op is not None else []
    assert len(found) > 8, name
    return found


def autocast_of_the_device() -> list[torch.library.Library]:
    """Autocast as CUDA has it: the lists are the same; doubles are left as they are."""
    key = "AutocastPrivateUse1"
    library, others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, key)
    off = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def kernel(op: Any, wanted: Callable[[list[torch.Tensor]], torch.dtype]) -> None:
        def cast(*args: Any, **kwargs: Any) -> Any:
            flat, tree = pytree.tree_flatten((args, kwargs))
            tensors = [x for x in flat if isinstance(x, torch.Tensor) and x.is_floating_point()]
            able = [x for x in tensors if x.dtype != torch.double and x.device.type == NAME]
            with torch._C._ExcludeDispatchKeyGuard(off):
                if able:
                    dtype = wanted(able)
                    flat = [x.to(dtype) if any(x is y for y in able) else x for x in flat]
                args, kwargs = pytree.tree_unflatten(flat, tree)
                return op(*args, **kwargs)

        library.impl(op, cast, key)

    lists: dict[str, Callable[[list[torch.Tensor]], torch.dtype]] = {
        "AT_FORALL_LOWER_PRECISION_FP": lambda _: torch.get_autocast_dtype(NAME),
        "AT_FORALL_FP32": lambda _: torch.float32,
        "AT_FORALL_FP32_SET_OPT_DTYPE": lambda _: torch.float32,
        "AT_FORALL_PROMOTE": lambda able: functools.reduce(
            torch.promote_types, [x.dtype for x in able]
        ),
    }
    for name, wanted in lists.items():
        for op in listed(name):
            kernel(op, wanted)
    return [library, others]


@contextlib.contextmanager
def device() -> Iterator[FakeTensorMode]:
    """A process in which the device exists and all tensors are fake."""
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    libraries = autocast_of_the_device()  # which last as long as they are referred to
    swap = torch.utils.swap_tensors
    # What is made of a list is made on the host first, which is all that has memory.
    torch._C._set_only_lift_cpu_tensors(True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def swapped(one: Any, other: Any) -> None:
            """Moves weights; a memo of the mode refers to them and would forbid it."""
            memo = mode.fake_tensor_converter.meta_converter
            memo.tensor_memo.clear()
            memo.storage_memo.clear()
            swap(one, other)

        torch.utils.swap_tensors = swapped
        FakeTensor.__deepcopy__ = _copied
        yield mode
    del libraries


def _copied(tensor: Any, memo: dict[int, Any]) -> Any:
    """A copy of a fake tensor; PyTorch's own asks for its memory."""
    copy = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        copy = nn.Parameter(copy, tensor.requires_grad)
    memo[id(tensor)] = copy
    return copy


class Anything(CPUAccelerator):
    """An accelerator of Lightning that takes any device."""

    def setup_device(self, device: torch.device) -> None:
        pass


def fabric(precision: str) -> Fabric:
    plugin = Precision() if precision == "32-true" else MixedPrecision("bf16-mixed", NAME)
    where = SingleDeviceStrategy(torch.device(NAME, 0), Anything(), precision=plugin)
    return Fabric(strategy=where)


# --- what is run -------------------------------------------------------------------------------


def pairs(method: Any, dims: int, **network: Any) -> CascadeConfig:
    config = method.configured(tiny(dims), "t1", size="smoke")
    return config.updated(network={"discriminator_width": 3} | network)


CONFIGS: dict[str, Callable[[int], CascadeConfig]] = {
    "megan": lambda dims: tiny(dims, network={"family": "megan"}, patch=32),
    "seamless": lambda dims: tiny(dims),
    "seamless, guided": lambda dims: tiny(dims).updated(guidance=presets.GUIDED.model_dump()),
    "seamless, relativistic": lambda dims: tiny(dims, gan="relativistic", gradient_weight=1.0),
    "cyclegan": lambda dims: CycleGan.configured(tiny(dims), "t1"),
    "mdaunet": lambda dims: pairs(MDAUNet, dims, features=(3, 4, 5), growth=(2, 3, 3)),
    "mdaunet, perceptual": lambda dims: CONFIGS["mdaunet"](dims).updated(
        perceptual={"backbone": "0" * 16, "weight": 1.0}
    ),
    "ea_gan": lambda dims: pairs(DEaGan, dims, width=2),
    "ea_gan, g": lambda dims: pairs(GEaGan, dims, width=2),
    "resvit": lambda dims: pairs(ResViT, dims, width=2, tokens=8, depth=1, heads=2),
    "ptnet": lambda dims: pairs(PTNet3D, dims),
}
"""By family of networks, and what is left out or added to it."""


def scales_of(config: CascadeConfig) -> tuple[int, ...]:
    return (2,) if config.network.pairs or config.cycle else (0, 1)


def images(geometry: Geometry, views: tuple[View, ...], config: CascadeConfig, count: int) -> Any:
    """Fake images on the device, of the boxes that a training patch reads or makes."""
    dims = config.dims
    side = geometry.patch or config.training.patch
    detail = Box((0,) * dims, geometry.sides(side, dims))
    if geometry.border is not None:
        detail = Box.whole((16,) * dims).grown(geometry.border)
    found = []
    for view in views:
        channels = sketch.channels(config.sketch, dims) if view.image == "sketch" else 1
        size = view.box(detail).size
        found.append(torch.rand(count, channels, *size, device=NAME))
    return tuple(found)


def a_batch(learner: Learner, config: CascadeConfig) -> Batch:
    geometry = learner.geometry
    reads = images(geometry, geometry.reads, config, config.training.batch)
    if config.cycle:
        reads *= 2
    return Batch(reads, images(geometry, geometry.makes, config, config.training.batch))


def train(name: str, dims: int, precision: str, scale: int, waits: Waits) -> None:
    """Two steps and a validation: forward, losses, backward, both optimisers, average."""
    config = CONFIGS[name](dims)
    features = nn.Conv2d(3, 2, 3).requires_grad_(False) if config.perceptual else None
    learner = learner_of(config, scale, fabric(precision), features)
    batch = a_batch(learner, config)
    waits.found.clear()
    for step in range(2):
        values = learner.update(batch, step, 1e-3)
    score = learner.score(batch)
    for module in learner.modules().values():
        for tensor in (*module.parameters(), *module.buffers()):
            assert tensor.device.type == NAME, "a weight stayed on the host"
            assert tensor.dtype in (torch.float32, torch.int64), tensor.dtype
    for value in (*values.values(), score):
        assert value.device.type == NAME, "a loss is on the host"
        assert value.ndim == 0


def translate(name: str, dims: int, precision: str, scale: int, waits: Waits) -> None:
    """A tile of the form that is used for translation."""
    config = CONFIGS[name](dims)
    network = inference.optimised(build_generator(config, scale), torch.device(NAME, 0))
    geometry = network.geometry
    reads = images(geometry, geometry.reads, config, 1)
    waits.found.clear()
    with torch.inference_mode(), autocast(torch.device(NAME, 0), precision):  # type: ignore[arg-type]
        made = network.core(*reads)
    assert made.device.type == NAME
    assert made.shape[:2] == (1, 1)


def cases() -> dict[str, Callable[[Waits], None]]:
    """What is run, by name: steps in 3D in both precisions, of each family in 2D as well."""
    found: dict[str, Callable[[Waits], None]] = {}
    for name, config in CONFIGS.items():
        alone = name in FAMILIES or name == "cyclegan"
        for dims, precisions in ((3, ("32-true", "bf16-mixed")), (2, ("32-true",))):
            for scale in scales_of(config(dims)) if dims == 3 or alone else ():
                for precision in precisions:
                    key = f"train {name}, {dims}D, s{scale}, {precision}"
                    found[key] = partial(train, name, dims, precision, scale)
        if not alone and name != "seamless, guided":  # their generators are those of the family
            continue
        for scale in scales_of(config(3)):
            key = f"translate {name}, 3D, s{scale}, float16"
            found[key] = partial(translate, name, 3, "float16", scale)
    return found


def spoilt(target: str, fault: Callable[[Any], Any], case: str, waits: Waits) -> None:
    """A case with a fault in what it runs."""
    packet, _, name = target.rpartition(".")
    original = getattr(importlib.import_module(packet), name)
    with mock.patch(target, fault(original)):
        cases()[case](waits)


def doubled(real: Any) -> Any:
    return lambda x, *words, **options: real(x.double(), *words, **options)


FAULTS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a tensor of the host in the loss": (
        "msgan.losses.l1",
        lambda real: lambda x, y: real(x, y) * torch.ones(1),
        "train seamless, 3D, s1, 32-true",
    ),
    "a network that stays on the host": (
        "msgan.networks.inference.deepcopy",
        lambda real: lambda network: Kept(network),
        "translate megan, 3D, s1, float16",
    ),
    "a double under autocast": (
        "torch.nn.functional.leaky_relu",
        doubled,
        "translate seamless, 3D, s1, float16",
    ),
    "a value read in the loss": (
        "msgan.losses.l1",
        lambda real: lambda x, y: real(x, y) * (1 if real(x, y).item() else 2),
        "train cyclegan, 2D, s2, 32-true",
    ),
    "a decision in the loss": (
        "msgan.losses.l1",
        lambda real: lambda x, y: real(x, y) if bool(real(x, y) > 0) else real(y, x),
        "train cyclegan, 2D, s2, 32-true",
    ),
    "an image copied to the host": (
        "msgan.losses.l1",
        lambda real: lambda x, y: (x.detach().cpu(), real(x, y))[1],
        "train cyclegan, 2D, s2, 32-true",
    ),
}
"""What breaks a case: a function, what takes its place, and the case."""


class Kept(nn.Module):
    """A network that no device takes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.geometry, self.forward = network.geometry, network.forward


def main(names: list[str]) -> None:
    """Run the cases whose names begin so; what became of each, a line of JSON."""
    warnings.simplefilter("error")
    with device():
        broken = {f"fault: {name}": partial(spoilt, *fault) for name, fault in FAULTS.items()}
        for name, case in {**cases(), **broken}.items():
            if names and not any(name.startswith(own) for own in names):
                continue
            waits, error = Waits(), ""
            try:
                with waits:
                    case(waits)
            except Exception as fault:
                text = str(fault).strip().splitlines() or [""]
                error = f"{type(fault).__name__}: {text[0]}"
            found = {"case": name, "error": error, "waits": dict(+waits.found)}
            print(json.dumps({**found, "operations": sorted(waits.operations)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
