"""The two-pass checkerboard of the latent grid, kept in packed half grids.

Anchor cells are those with odd row + column, as in TACO (its parity is the opposite of CompressAI's). Each half of a
(h, w) grid is stored as (h, w/2), so that networks run only where their output is used.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def pack(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split (B, C, h, w), h and w even, into (anchors, non-anchors), each (B, C, h, w/2)."""
    cells = rearrange(x, "b c (h p) (w q) -> p q b c h w", p=2, q=2)
    anchors = torch.stack((cells[0, 1], cells[1, 0]), dim=3)
    nonanchors = torch.stack((cells[0, 0], cells[1, 1]), dim=3)
    return anchors.flatten(2, 3), nonanchors.flatten(2, 3)


def unpack(anchors: Tensor, nonanchors: Tensor) -> Tensor:
    """Inverse of `pack`: two (B, C, h, w/2) halves to (B, C, h, w)."""
    a = rearrange(anchors, "b c (h p) w -> p b c h w", p=2)
    n = rearrange(nonanchors, "b c (h p) w -> p b c h w", p=2)
    even_rows = torch.stack((n[0], a[0]), dim=-1).flatten(-2)
    odd_rows = torch.stack((a[1], n[1]), dim=-1).flatten(-2)
    return torch.stack((even_rows, odd_rows), dim=3).flatten(2, 3)


def _polyphase_taps() -> Tensor:
    """Which tap of the 5x5 kernel sits where in the 3x3 kernel over row pairs.

    Entry [p, q, r, s] belongs to an output in row 2R + p, an input row of phase q, a row-pair offset r - 1 and a
    packed column offset s - 1. It is the flat 5x5 index, or 25 (a zero tap) where the 5x5 window does not reach.
    """
    taps = torch.full((2, 2, 3, 3), 25)
    for p in range(2):
        for q in range(2):
            for r in range(3):
                for s in range(3):
                    dy = 2 * (r - 1) + q - p
                    # In the same row, anchors lie half a packed column beside the non-anchors, on a side that
                    # depends on the row's parity; in rows of the other parity, packed columns coincide.
                    dx = 2 * (s - 1) + (1 - 2 * p if p == q else 0)
                    if abs(dy) <= 2 and abs(dx) <= 2:
                        taps[p, q, r, s] = 5 * (dy + 2) + (dx + 2)
    return taps


class CheckerboardContext(nn.Module):
    """5x5 convolution from anchors to the non-anchor cells, evaluated on packed halves.

    It equals a full-grid 5x5 convolution whose input has zeros at the non-anchors, read at the non-anchors, at about
    a third of the multiplications. The weight is stored as the plain 5x5 one; taps that only ever meet zeros get no
    gradient.

    Args:
        in_channels: Channels of the anchors.
        out_channels: Channels of the context.
    """

    taps: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        reference = nn.Conv2d(in_channels, out_channels, 5, padding=2)
        self.weight = reference.weight
        self.bias = reference.bias
        self.register_buffer("taps", _polyphase_taps(), persistent=False)

    def forward(self, anchors: Tensor) -> Tensor:
        """(B, in, h, w/2) anchors to (B, out, h, w/2) context for the non-anchors."""
        flat = F.pad(self.weight.flatten(2), (0, 1))
        kernel = rearrange(flat[:, :, self.taps], "o i p q r s -> (p o) (q i) r s")
        bias = None if self.bias is None else self.bias.repeat(2)
        rows = rearrange(anchors, "b c (h q) w -> b (q c) h w", q=2)
        return rearrange(F.conv2d(rows, kernel, bias, padding=1), "b (p c) h w -> b c (h p) w", p=2)
