"""Train and run multi-scale patch GANs on large 2D and 3D medical images.

``import msgan as ms`` offers what most scripts begin with. Nothing is loaded before it is asked
for::

    import msgan as ms

    cohort = ms.Cohort.from_manifest("data/manifest.csv", "data")
    cascade = ms.Cascade.fit(cohort, "t1", "t2", ms.presets.preset("small", "brain"), "runs/t2")
    cascade.translate("t1.nii", "t2.nii")

``ms.translate`` is the package of that name, whether it has been imported before or not; its
function is ``ms.translate_image``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msgan import metrics, phantoms, plots, presets, sketch, translate, widgets
    from msgan.config import CascadeConfig
    from msgan.data.cohort import Cohort, Subject
    from msgan.data.volume import open_labels, open_volume, write_volume
    from msgan.methods.trained import Cascade
    from msgan.phantoms.brain import brain as brain_phantom
    from msgan.phantoms.thorax import thorax as thorax_phantom
    from msgan.phantoms.xray import xray as xray_phantom
    from msgan.runs.run import Run
    from msgan.translate import translate as translate_image
    from msgan.types import Box, InputError

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Cascade",
    "CascadeConfig",
    "Cohort",
    "InputError",
    "Run",
    "Subject",
    "brain_phantom",
    "metrics",
    "open_labels",
    "open_volume",
    "phantoms",
    "plots",
    "presets",
    "sketch",
    "thorax_phantom",
    "translate",
    "translate_image",
    "widgets",
    "write_volume",
    "xray_phantom",
]

_NAMES = {
    "Box": "msgan.types",
    "Cascade": "msgan.methods.trained",
    "CascadeConfig": "msgan.config",
    "Cohort": "msgan.data.cohort",
    "InputError": "msgan.types",
    "Run": "msgan.runs.run",
    "Subject": "msgan.data.cohort",
    "brain_phantom": "msgan.phantoms.brain:brain",
    "open_labels": "msgan.data.volume",
    "open_volume": "msgan.data.volume",
    "thorax_phantom": "msgan.phantoms.thorax:thorax",
    "translate_image": "msgan.translate:translate",
    "write_volume": "msgan.data.volume",
    "xray_phantom": "msgan.phantoms.xray:xray",
}
"""Where a name is defined, and under which name there; names that are not here are packages."""


def __getattr__(name: str) -> Any:
    """What is asked for, loaded now (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _NAMES:
        return import_module(f"{__name__}.{name}")
    module, _, there = _NAMES[name].partition(":")
    found = globals()[name] = getattr(import_module(module), there or name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
