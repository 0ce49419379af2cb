"""Layers of OFA's encoder and decoder: pre-norm Transformer layers with NormFormer's additions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeysValues = tuple[Tensor, Tensor]
"""Keys and values, each (B, heads, length, head width)."""


class Attention(nn.Module):
    """Multi-head attention with a position bias, and a learned factor for each head's output.

    Args:
        width: features of tokens.
        heads: number of heads; they divide `width`.
        scale_factor: scores are divided by sqrt(scale_factor x head width).
    """

    def __init__(self, width: int, heads: int, scale_factor: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = float(width // heads * scale_factor) ** -0.5
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.c_attn = nn.Parameter(torch.ones(heads))

    def keys_values(self, x: Tensor) -> KeysValues:
        """Keys and values of tokens (B, L, width)."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def forward(self, x: Tensor, keys_values: KeysValues, bias: Tensor) -> Tensor:
        """Attend.

        Args:
            x: (B, L, width), the tokens that ask.
            keys_values: of `keys_values`, of M tokens.
            bias: added to the scores, -inf where a key must not be seen; broadcasts to (B, heads, L, M).

        Returns:
            (B, L, width).
        """
        keys, values = keys_values
        seen = F.scaled_dot_product_attention(self._split(self.q_proj(x)), keys, values, bias, scale=self.scale)
        seen = seen * self.c_attn[:, None, None]
        return self.out_proj(seen.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Module):
    """The second half of every layer."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.ffn_layer_norm = nn.LayerNorm(inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Residual feed-forward, normalised before and between."""
        return x + self.fc2(self.ffn_layer_norm(F.gelu(self.fc1(self.final_layer_norm(x)))))


class EncoderLayer(_FeedForward):
    """Self-attention and feed-forward.

    Args:
        width: features of tokens.
        heads: number of heads.
        inner: features between the two layers of the feed-forward.
        scale_factor: see `Attention`.
    """

    def __init__(self, width: int, heads: int, inner: int, scale_factor: float) -> None:
        super().__init__(width, inner)
        self.self_attn = Attention(width, heads, scale_factor)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn_mid_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Transform tokens (B, L, width); `bias` broadcasts to (B, heads, L, L)."""
        normed = self.self_attn_layer_norm(x)
        seen = self.self_attn(normed, self.self_attn.keys_values(normed), bias)
        return self.feed_forward(x + self.self_attn_mid_layer_norm(seen))


class DecoderLayer(EncoderLayer):
    """Self-attention over what is said, cross-attention to image and prompt, and feed-forward; arguments as above."""

    def __init__(self, width: int, heads: int, inner: int, scale_factor: float) -> None:
        super().__init__(width, heads, inner, scale_factor)
        self.cross_attn = Attention(width, heads, scale_factor)
        self.cross_attn_layer_norm = nn.LayerNorm(width)
        self.cross_attn_mid_layer_norm = nn.LayerNorm(width)

    def forward(  # type: ignore[override]  # has more to see than an encoder layer
        self, x: Tensor, past: KeysValues | None, self_bias: Tensor, source: KeysValues, cross_bias: Tensor
    ) -> tuple[Tensor, KeysValues]:
        """Transform the latest tokens of several sentences per image.

        Args:
            x: (B, K, L, width): K sentences for each of B images, the latest L tokens.
            past: keys and values (B * K, heads, P, head width) of earlier tokens.
            self_bias: (heads, L, P + L).
            source: keys and values (B, heads, S, head width) of image and prompt, one for all sentences.
            cross_bias: broadcasts to (B, heads, K * L, S).

        Returns:
            (B, K, L, width), and `past` with the latest tokens.
        """
        normed = self.self_attn_layer_norm(x).flatten(0, 1)
        keys, values = self.self_attn.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        seen = self.self_attn(normed, (keys, values), self_bias)
        x = x + self.self_attn_mid_layer_norm(seen).view_as(x)
        asking = self.cross_attn_layer_norm(x).flatten(1, 2)
        seen = self.cross_attn(asking, source, cross_bias)
        x = x + self.cross_attn_mid_layer_norm(seen).view_as(x)
        return self.feed_forward(x), (keys, values)
