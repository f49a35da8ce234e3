"""Streaming translation: any size in, any size out, bounded memory on both sides."""

from msgan.translate.blackout import blacked_out
from msgan.translate.image import Translation, pick_device, translate
from msgan.translate.plan import Limits, Plan, plan

__all__ = ["Limits", "Plan", "Translation", "blacked_out", "pick_device", "plan", "translate"]
