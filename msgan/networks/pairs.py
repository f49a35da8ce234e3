"""What the discriminators of families of pairs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

Layers = Sequence[Sequence[Tensor]]
"""What D computes at each resolution that it judges: its features, layer by layer, and at the end
the logits."""


def transformer(
    width: int, depth: int, heads: int, ratio: int, dropout: float = 0.0
) -> nn.TransformerEncoder:
    """Layers of a vision transformer on tokens (B, count, width); each normalises what it reads.

    Args:
        width: Features of a token.
        depth: Layers.
        heads: Of the attention.
        ratio: Features between the two linear layers, over ``width``.
        dropout: In training.
    """
    layer = nn.TransformerEncoderLayer(
        width, heads, ratio * width, dropout, "gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


@final
class RealAndFake(nn.Module):
    """A discriminator that is shown real and generated images one after the other.

    Batch normalisation must not mix them: their means would then say which is which. One call
    for both, because training in several processes allows one forward pass before the backward
    pass.
    """

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, source: Tensor, real: Tensor, fake: Tensor) -> tuple[Layers, Layers]:
        """Images (B, 1, n, ...) in [-1, 1]."""
        return self.judge(source, real), self.judge(source, fake)
