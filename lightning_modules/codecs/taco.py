"""TACO: ELIC whose encoder is steered by a caption. The decoder, and so the file, knows nothing of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor

from lightning_modules.codecs.elic import ElicCodec
from lightning_modules.codecs.text_adapter import TextAdapter


class TextFeatures(NamedTuple):
    """A caption as the codec and the loss see it; one pass of the text encoder gives both."""

    tokens: Tensor
    """(B, L, text_dim) token states."""
    pooled: Tensor
    """(B, text_dim) state of the end-of-text token, before CLIP's projection."""


class TacoCodec(ElicCodec):
    """ELIC and the text adapter (1,646,848 parameters at N=192, text_dim=512).

    Without text the adapter is skipped and the codec is exactly the ELIC with the same weights. A codec that was
    trained with captions should be given one at compression; the empty caption "" is the neutral one.

    Args:
        N: Channels inside the transforms; a multiple of `heads`.
        M: Channels of the latent y.
        slices: Channels per slice of y in coding order.
        context_hidden: Widths of the channel context networks.
        text_dim: Width of the token states.
        heads: Attention heads of the adapter.
    """

    name: ClassVar[str] = "taco"

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        slices: Sequence[int] | None = None,
        context_hidden: Sequence[int] = (224, 128),
        text_dim: int = 512,
        heads: int = 8,
    ) -> None:
        super().__init__(N, M, slices, context_hidden)
        self.text_dim, self.heads = text_dim, heads
        self.adapter = TextAdapter(N, text_dim, heads)

    def config(self) -> dict[str, object]:
        """Constructor arguments as plain values."""
        return {**super().config(), "text_dim": self.text_dim, "heads": self.heads}

    def analyse(self, x: Tensor, y: TextFeatures | None = None) -> Tensor:
        """g_a of a padded image, steered by a caption where there is one."""
        if y is None:
            return super().analyse(x)
        latent: Tensor = self.g_a(x, self.adapter, y.tokens)
        return latent
