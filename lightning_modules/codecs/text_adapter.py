"""TACO's text adapter: three cross-attentions between caption tokens and image features (paper section 3.2)."""

import torch
from einops import rearrange
from torch import Tensor, nn


class Injector(nn.Module):
    """Text to image: v = LN(v) + γ ⊙ Attention(LN(v), LN(Lin(e))) (eq. 5).

    The residual is on the *normalised* image feature, as eq. 5 prints it (Fig. 4 draws it on the raw one). γ starts
    at 0, so that a fresh adapter lets no text through. Every token row is a key and a value, padding rows included:
    CLIP's padding rows differ from caption to caption, and the published weights were trained with them.

    Args:
        channels: Channels of the image feature.
        text_dim: Width of the token states.
        heads: Attention heads; must divide `channels`.
    """

    def __init__(self, channels: int, text_dim: int, heads: int) -> None:
        super().__init__()
        self.proj = nn.Linear(text_dim, channels)
        self.norm_image = nn.LayerNorm(channels)
        self.norm_text = nn.LayerNorm(channels)
        self.attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.gamma = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.proj.weight)

    def forward(self, v: Tensor, tokens: Tensor) -> Tensor:
        """Image feature (B, C, H, W) and tokens (B, L, text_dim) to (B, C, H, W)."""
        height = v.shape[2]
        image = self.norm_image(rearrange(v, "b c h w -> b (h w) c"))
        text = self.norm_text(self.proj(tokens))
        message, _ = self.attn(image, text, text, need_weights=False)
        return rearrange(image + self.gamma * message, "b (h w) c -> b c h w", h=height)


class Extractor(nn.Module):
    """Image to text: t = LN(t) + Attention(LN(t), LN(Lin(v))) (CA2 in the paper; no γ)."""

    def __init__(self, channels: int, text_dim: int, heads: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, text_dim)
        self.norm_image = nn.LayerNorm(text_dim)
        self.norm_text = nn.LayerNorm(text_dim)
        self.attn = nn.MultiheadAttention(text_dim, heads, batch_first=True)
        nn.init.kaiming_normal_(self.proj.weight)

    def forward(self, tokens: Tensor, v: Tensor) -> Tensor:
        """Tokens (B, L, text_dim) and image feature (B, C, H, W) to (B, L, text_dim)."""
        image = self.norm_image(self.proj(rearrange(v, "b c h w -> b (h w) c")))
        text = self.norm_text(tokens)
        message, _ = self.attn(text, image, image, need_weights=False)
        return text + message


class TextAdapter(nn.Module):
    """The three attentions of TACO: inject at H/4, extract at H/8, inject again at H/8.

    Args:
        channels: Channels N of the analysis transform.
        text_dim: Width of the token states (512 for CLIP ViT-B/32).
        heads: Attention heads; must divide `channels` and `text_dim`.
    """

    def __init__(self, channels: int, text_dim: int, heads: int = 8) -> None:
        super().__init__()
        if channels % heads or text_dim % heads:
            raise ValueError(f"heads={heads} must divide N={channels} and text_dim={text_dim}")
        self.inject_fine = Injector(channels, text_dim, heads)
        self.extract = Extractor(channels, text_dim, heads)
        self.inject_coarse = Injector(channels, text_dim, heads)
