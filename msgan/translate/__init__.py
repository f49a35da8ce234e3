"""Streaming translation: any size in, any size out, bounded memory on both sides."""

from msgan.translate.ablation import ablated
from msgan.translate.frame import expected_id, pick_device, translated
from msgan.translate.generation import GeneratedScale, Generation
from msgan.translate.image import translate
from msgan.translate.maker import Translation
from msgan.translate.plan import Limits, Plan, plan

__all__ = [
    "GeneratedScale",
    "Generation",
    "Limits",
    "Plan",
    "Translation",
    "ablated",
    "expected_id",
    "pick_device",
    "plan",
    "translate",
    "translated",
]
