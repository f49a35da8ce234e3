"""Training of a cascade (Uzunova et al.) and of all that is trained like one."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msgan.config import CascadeConfig, Preparation
from msgan.data.cohort import Cohort, Prepared, Subject, prepare, resolve_scales
from msgan.data.intensity import IntensityMap
from msgan.data.resample import nearly
from msgan.match import profile
from msgan.match.profile import TargetProfile
from msgan.memory.process import peak_resident_bytes
from msgan.methods.code import code_hash
from msgan.methods.watch import Watch, watching
from msgan.methods.workers import processes
from msgan.paths import sha256
from msgan.runs.run import CARD, Run, device_name
from msgan.sketch.strength import Strengths, strengths
from msgan.training.cache import AutoContext, CachedSubject, cached, require_room
from msgan.training.checkpoint import fingerprint
from msgan.training.loop import train_scale
from msgan.translate import pick_device
from msgan.translate.contexts import FOLDER, check_order, generate_contexts, reader_of
from msgan.types import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

Report = Callable[[dict[str, Any]], None]

CACHE = "cache"


def fit(
    cohort: Cohort,
    target: str,
    config: CascadeConfig,
    out: str | os.PathLike[str],
    *,
    scales: Sequence[int] | None = None,
    device: str = "auto",
    cache: str | os.PathLike[str] | None = None,
    report: Report | None = None,
    auto_context: AutoContext | None = None,
    features: nn.Module | None = None,
    remark: Callable[[str], None] | None = None,
    parent: Run | None = None,
    more_steps: int | None = None,
    threads: int | None = None,
) -> Run:
    """Train a cascade on the ``target`` images of a cohort, or go on where it stopped.

    Subjects of split ``test`` are left alone, those of ``val`` choose the best weights; without
    any, the training subjects do. Scales are independent of each other (extended paper, section
    2.1) and may be trained in any order, by one process or several (torchrun, SLURM), unless
    ``config.conditioning.generated_share`` gives each scale what those below it make.

    Args:
        cohort: Subjects; those without a ``target`` image are left out, and those without the
            image that ``config.paired`` names. With ``config.cycle`` all that have an image of
            its source are used too.
        target: Modality whose appearance is learnt.
        config: The cascade; open choices (spacing, number of scales) are made from the cohort.
        out: Run folder; one that holds the same run is continued.
        scales: Which to train; None for all that a translation needs (:attr:`Run.used`).
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: Folder of prepared subjects, shared between runs; None keeps it in ``out``.
        report: Called with every logged row; None: in a notebook the cell shows bars, time left,
            losses and now and then a picture (:mod:`msgan.methods.watch`).
        auto_context: Makes the sketch's channel ``auto_context``, of the weights
            ``config.auto_context``.
        features: The network whose features the perceptual loss compares, of the weights
            ``config.perceptual.backbone``.
        remark: Called with what is to be told of an image, as doubts about its unit.
        parent: A finished run of the same configuration and data to go on from (see
            :mod:`msgan.runs.parent`): ``scales`` are trained longer, all others copied. ``out``
            becomes a run of its own, which goes on without ``parent`` where it stopped.
        more_steps: For how many steps each of these scales is trained beyond ``parent``.
        threads: Of PyTorch, for the steps on a CPU; None: as many as there are, or one for a scale
            whose steps are too small to share (:mod:`msgan.training.threads`). ``done.json`` of
            a scale states the number.

    Raises:
        InputError: No subject has the images, a file is at fault, the images of a pair lie on
            different grids, a scale does not exist or needs one that is not trained,
            ``config.auto_context`` is stated and not made, or ``config.perceptual`` and there are
            no ``features`` of it, ``out`` holds another run, another process is training one of the
            scales there, the disk is full, or ``parent`` is not finished, of other data or another
            configuration.
    """
    if (parent is None) != (more_steps is None):
        raise InputError(f"{more_steps} more steps: expected with a parent, and only with one")
    if config.paired == target:
        raise InputError(f"paired {config.paired}: is the target itself")
    if config.cycle and config.cycle.source == target:
        raise InputError(f"source {target}: is the target itself")
    if (config.auto_context is None) != (auto_context is None):
        raise InputError(
            f"auto_context {config.auto_context}: needs the run of these weights to make it"
        )
    stated = config.perceptual.backbone if config.perceptual else None
    if stated != (None if features is None else fingerprint(features)):
        raise InputError(f"perceptual {stated}: needs the network of these weights, and no other")
    usable = cohort.with_modality(*modalities(target, config))
    both = f"both a {config.paired} and a {target}" if config.paired else f"a {target}"
    parts = _parts(usable, both)
    subjects = _names(parts)
    others: list[list[Subject]] = []
    if config.cycle:
        source = config.cycle.source
        others = _parts(cohort.with_modality(source), f"a {source}")
    fabric = _fabric(device, config.training.precision)
    with ExitStack() as locks:
        with ExitStack() as stack:
            opened, config = _open(stack, [usable[name] for name in subjects], target, config)
            config = _matched(opened, config)
            sources = _sources(stack, usable, opened, config)
            domain = _domain(stack, cohort, _names(others), config)
            if remark is not None:
                for image in (*opened.values(), *sources.values(), *domain.values()):
                    for note in image.notes:
                        remark(note)
            data = _hashes(cohort, target, config, subjects, _names(others))
            run = Run(Path(out), config, target, _range(opened.values()), _by_subject(data))
            chosen = run.used if scales is None else scales
            for scale in chosen:
                first = run.first if config.single_scale or not config.drawn else 0
                if not first <= scale <= run.scales:
                    known = f"there are {first} to {run.scales}"
                    raise InputError(f"scale {scale} does not exist: {known}")
            watch = None
            if report is None:
                watch = locks.enter_context(
                    watching(run, [i for i in chosen if not run.finished(i)])
                )
            begun = (run.folder / CARD).is_file()
            if parent is not None:
                heritage = parent.longer(chosen, more_steps or 0)
                parent.require_same_training(run)
                run = replace(run, parent=heritage)
            elif begun:
                run = replace(run, parent=Run.open(run.folder).parent)
            if config.conditioning.generated_share and (begun or parent is None):
                check_order(run, chosen)
            folder = Path(cache) if cache is not None else run.folder / CACHE
            images = opened | domain
            with _agreed(fabric):
                if fabric.is_global_zero:  # it holds the scales for all processes of this training
                    run.create(parent)
                    if config.guidance.on and not (run.folder / profile.FILE).is_file():
                        _profile(opened, config).save(run.folder)
                    locks.enter_context(run.alone([i for i in chosen if not run.finished(i)]))
                    require_room(images, config, data, folder)
            with _agreed(fabric), fabric.rank_zero_first():
                ready = {
                    n: cached(p, config, data[n], folder, sources.get(n), auto_context)
                    for n, p in images.items()
                }
        if fabric.is_global_zero and Strengths.load(run.folder) is None:
            _strengths(run, ready.values()).save(run.folder)
        names = [[s.name for s in part] for part in parts]
        names += [[_of_source(s.name) for s in part] for part in others]
        _train(run, chosen, ready, names, fabric, report, features, threads, watch)
    return run


def _matched(opened: Mapping[str, Prepared], config: CascadeConfig) -> CascadeConfig:
    """The configuration with the match that suits the target: spectra in HU, else histograms.

    Where the preparation has ranges of other modalities, as of MR, sources are not in HU.

    Of single slices a spectrum may not be measured, and HU must stay HU: there is no match.

    What is recoloured stands for other modalities; in HU, sharper kernels stand for them: a match
    of spectra removes noise, and what is missing of a softer one it cannot give back.
    """
    if config.guidance.match != "auto":
        return config
    units = {image.intensity.unit for image in opened.values()}
    if units != {"HU"} or config.preparation.ranges:
        return config.updated(guidance={"match": "histogram"})
    if config.dims == 2:
        return config.unguided()
    return config.updated(
        guidance={"match": "spectrum", "student": False},
        contrast={"kind": "kernel", "fresh": 0.0, "sharper": 1.0},
    )


def _profile(opened: Mapping[str, Prepared], config: CascadeConfig) -> TargetProfile:
    """What sources are matched to, of the training and validation subjects."""
    kind = config.guidance.match
    assert kind in ("histogram", "spectrum")
    return TargetProfile.of(kind, opened.values())


def _strengths(run: Run, subjects: Iterable[CachedSubject]) -> Strengths:
    """What the sketches are like that the lowest scale learns from, recoloured ones too."""
    scale = max(run.first, 1)
    return Strengths.of(
        scale,
        [
            strengths(
                reader_of(drawn, subject.shape(scale)),
                reader_of(subject.images[scale][0], subject.shape(scale)),
                subject.shape(scale),
                run.config.sketch,
            )
            for subject in subjects
            for drawn in subject.sketches[scale]
        ],
    )


def _parts(usable: Cohort, what: str) -> list[list[Subject]]:
    """Subjects for training, and for validation: those of ``val``, or the same where none is."""
    train = [s for s in usable if s.split in ("train", "")]
    if not train:
        raise InputError(f"no training subject has {what} image")
    return [train, [s for s in usable if s.split == "val"] or train]


def _names(parts: Sequence[Sequence[Subject]]) -> list[str]:
    """Each subject once."""
    return list(dict.fromkeys(s.name for part in parts for s in part))


def _of_source(name: str) -> str:
    """What a subject's image of the source domain is called beside that of the target."""
    return f"{name}/source"


def _by_subject(data: Mapping[str, str]) -> dict[str, str]:
    """One hash of each subject, of both its images where both are used."""
    found: dict[str, list[str]] = {}
    for name, digest in data.items():
        found.setdefault(name.removesuffix(_of_source("")), []).append(digest)
    return {
        name: own[0] if len(own) == 1 else hashlib.sha256("".join(own).encode()).hexdigest()
        for name, own in found.items()
    }


@contextmanager
def _agreed(fabric: Fabric) -> Iterator[None]:
    """A block in which what the first process finds wrong is wrong for all of them."""
    fault: Exception | None = None
    try:
        yield
    except (InputError, OSError) as error:
        fault = error
    first: Exception | None = fabric.broadcast(fault)
    if fault is not None:
        raise fault
    if first is not None:
        raise first


def _train(
    run: Run,
    chosen: Sequence[int],
    ready: dict[str, CachedSubject],
    parts: Sequence[Sequence[str]],
    fabric: Fabric,
    report: Report | None,
    features: nn.Module | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> None:
    """Train those scales that are not finished.

    Args:
        run: What is trained.
        chosen: Scales.
        ready: Subjects by name; see :func:`_of_source`.
        parts: Names for training and for validation, of the target and then of the source.
        fabric: Launched.
        report: Called with every logged row.
        features: See :func:`fit`.
        threads: See :func:`fit`.
        watch: Shows the training in a notebook.
    """
    if watch:
        report = watch.report
    made = bool(run.config.conditioning.generated_share)
    placed = _placed(ready, fabric)
    for scale in chosen:
        if run.finished(scale):
            continue
        if made and (scale > run.first or not run.config.drawn):
            with fabric.rank_zero_first():
                placed = _placed(generate_contexts(run, ready, scale, fabric.device), fabric)
        train, held, *others = ([placed[name] for name in part] for part in parts)
        folder = run.folder_of(scale)
        longer = run.parent.span(scale) if run.parent else None
        about = train_scale(
            run.config,
            scale,
            train,
            held,
            folder,
            fabric,
            report,
            others,
            features,
            longer,
            threads,
            watch.glimpse if watch else None,
        )
        if fabric.is_global_zero:
            run.finish(scale, about | _peaks(fabric) | _circumstances(fabric))
        fabric.barrier()
    if fabric.is_global_zero and all(map(run.finished, run.used)):
        shutil.rmtree(run.folder / FOLDER, ignore_errors=True)


def _peaks(fabric: Fabric) -> dict[str, int]:
    """Most memory this process has held so far, MiB: of the host, and of a GPU if it trains on one.

    Several scales trained by one process share the host's peak.
    """
    peaks = {"peak_MiB": round(peak_resident_bytes() / 2**20)}
    if fabric.device.type == "cuda":
        import torch

        peaks["gpu_peak_MiB"] = round(torch.cuda.max_memory_allocated(fabric.device) / 2**20)
    return peaks


def _circumstances(fabric: Fabric) -> dict[str, Any]:
    """What the last bits of the weights depend on beside configuration, data and versions."""
    import torch

    return {
        "device": device_name(fabric.device),
        "threads_available": torch.get_num_threads(),  # contexts are made with these
        "processes": fabric.world_size,
        "code": code_hash(),
    }


def _fabric(device: str, precision: Any) -> Fabric:
    """Device and processes; torchrun and SLURM tell theirs by environment variables."""
    from lightning_fabric import Fabric

    told = os.environ
    world = processes()
    local = int(told.get("LOCAL_WORLD_SIZE", told.get("SLURM_NTASKS_PER_NODE", world)))
    fabric = Fabric(
        accelerator=pick_device(device).type,
        devices=local if world > 1 else 1,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    if world > 1:
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """End the threads of the process group before the interpreter goes.

    Lightning does so for NCCL alone. A thread of Gloo that still lets go of a tensor then asks
    for the interpreter's lock, and the process dies by SIGABRT after its work is done.
    """
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _open(
    stack: ExitStack, subjects: Sequence[Subject], target: str, config: CascadeConfig
) -> tuple[dict[str, Prepared], CascadeConfig]:
    """Open all subjects; spacing and number of scales become those of the cohort."""
    demands: dict[str, Any] = {
        "axes": (config.dims, "the configuration has dims"),
        "values": config.labels,
    }

    def opened(prep: Preparation) -> dict[str, Prepared]:
        return {s.name: stack.enter_context(prepare(s, target, prep, **demands)) for s in subjects}

    first = opened(config.preparation)
    own = np.array([p.grid.spacing for p in first.values()])
    spacing = tuple(_rounded(float(s)) for s in np.median(own, axis=0))
    resolved = config.preparation.updated(spacing_mm=spacing)
    if all(nearly(a, b) for row in own for a, b in zip(row, spacing, strict=True)):
        scales = max(p.grid.scales for p in first.values())
        resolved = resolved.updated(scales=scales)
    else:  # the number of scales follows from the shape, and the shape from the spacing
        resolved = resolve_scales(subjects, target, resolved)
    if resolved == config.preparation:
        return first, config
    config = config.updated(preparation=resolved)
    return opened(resolved), config


def _rounded(spacing: float) -> float:
    """To a tenth of a micrometre; smaller voxels than a tenth of a mm to four digits."""
    return round(spacing, 4) if spacing >= 0.1 else float(f"{spacing:.4g}")


def modalities(target: str, config: CascadeConfig) -> tuple[str, ...]:
    """The images a training subject needs."""
    return (target,) if config.paired is None else (target, config.paired)


def _sources(
    stack: ExitStack, cohort: Cohort, targets: Mapping[str, Prepared], config: CascadeConfig
) -> dict[str, Prepared]:
    """The images that sketches are taken from, on the grids of the targets; none if unpaired."""
    if config.paired is None:
        return {}
    prep = config.preparation
    return {
        name: stack.enter_context(prepare(cohort[name], config.paired, prep, grid=target.grid))
        for name, target in targets.items()
    }


def _domain(
    stack: ExitStack, cohort: Cohort, names: Sequence[str], config: CascadeConfig
) -> dict[str, Prepared]:
    """The images of the source domain, each on its own grid, as a translation prepares it."""
    if config.cycle is None:
        return {}
    axes = (config.dims, "the configuration has dims")
    opened = (
        stack.enter_context(
            prepare(cohort[name], config.cycle.source, config.preparation, axes=axes)
        )
        for name in names
    )
    return {_of_source(name): image for name, image in zip(names, opened, strict=True)}


def _hash(subject: Subject, needed: Sequence[str], config: CascadeConfig) -> str:
    """SHA-256 over the files that are used of a subject."""
    images = [subject.images[name] for name in needed]
    files = [*images, subject.mask, subject.labels if config.labels else None]
    text = "".join(sha256(path) for path in files if path is not None)
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes(
    cohort: Cohort,
    target: str,
    config: CascadeConfig,
    subjects: Sequence[str],
    others: Sequence[str],
) -> dict[str, str]:
    """Of the subjects that show the target, and of those that show a source domain alone."""
    needed = modalities(target, config)
    data = {name: _hash(cohort[name], needed, config) for name in subjects}
    if config.cycle:
        source = (config.cycle.source,)
        data |= {_of_source(name): _hash(cohort[name], source, config) for name in others}
    return data


def data_hashes(cohort: Cohort, target: str, config: CascadeConfig) -> dict[str, str]:
    """What :class:`~msgan.runs.run.Run` would state as ``data`` of a training on a cohort.

    Raises:
        InputError: No training subject has the images.
    """
    usable = cohort.with_modality(*modalities(target, config))
    parts = _parts(usable, f"a {target}")
    others = _parts(cohort.with_modality(config.cycle.source), "such an") if config.cycle else []
    return _by_subject(_hashes(cohort, target, config, _names(parts), _names(others)))


def _range(subjects: Any) -> IntensityMap:
    """The target's range in source units: the median over subjects."""
    return IntensityMap.median([s.intensity for s in subjects])


def _placed(subjects: dict[str, CachedSubject], fabric: Fabric) -> dict[str, CachedSubject]:
    """On the device where all of them fit into half of what is free, else as memory maps."""
    if fabric.device.type != "cuda":
        return subjects
    import torch

    free, _ = torch.cuda.mem_get_info(fabric.device)
    if sum(s.bytes for s in subjects.values()) > free / 2:
        return subjects
    return {name: s.to(fabric.device) for name, s in subjects.items()}
