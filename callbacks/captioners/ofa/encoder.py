"""OFA's encoder: image patches and the prompt's tokens, read together."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from callbacks.captioners.ofa.config import PAD, STEMS, OfaConfig
from callbacks.captioners.ofa.layers import EncoderLayer
from callbacks.captioners.ofa.positions import image_buckets, image_places, text_buckets
from callbacks.captioners.ofa.stem import CHANNELS, ImageStem


@dataclass(frozen=True)
class Source:
    """What the decoder attends to: patches, row by row, then the prompt."""

    states: Tensor
    """float (B, S, width)."""
    positions: Tensor
    """float (S, width): normalised position embeddings, the same for every image."""
    mask: Tensor
    """float (B, 1, 1, S): 0, or -inf where the prompt is padded."""


class Encoder(nn.Module):
    """Image stem, embeddings, untied absolute and relative positions, and layers.

    Positions are not added to the embeddings but to the attention scores: a product of projected position embeddings,
    shared by the layers, and each layer's own bias by relative position within the text and within the image.
    """

    def __init__(self, config: OfaConfig) -> None:
        super().__init__()
        width, heads = config.d_model, config.encoder_attention_heads
        self.heads = heads
        self.token_bucket_size, self.image_bucket_size = config.token_bucket_size, config.image_bucket_size
        self.pos_scale = float(width // heads * config.attn_scale_factor) ** -0.5
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.type_embedding = nn.Embedding(2, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_images = ImageStem(STEMS[config.resnet_type])
        self.image_proj = nn.Linear(CHANNELS, width)
        self.patch_layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_position_embeddings + 2, width)
        self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
        self.pos_ln = nn.LayerNorm(width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.pos_q_linear = nn.Linear(width, width)
        self.pos_k_linear = nn.Linear(width, width)
        size = (width, heads, config.encoder_ffn_dim, config.attn_scale_factor)
        self.layers = nn.ModuleList([EncoderLayer(*size) for _ in range(config.encoder_layers)])
        self.layer_norm = nn.LayerNorm(width)
        self.token_rel_pos_table_list = relative_text_tables(config, config.encoder_layers, heads)
        self.image_rel_pos_table_list = relative_image_tables(config, config.encoder_layers, heads)

    def forward(self, images: Tensor, tokens: Tensor) -> Source:
        """Encode images and what is asked about them.

        Args:
            images: float (B, 3, H, W), normalised to [-1, 1]; sides of at most 16 times `image_bucket_size` pixels.
            tokens: int64 (B, T), padded with PAD at the end.
        """
        features = self.embed_images(images)
        height, width = features.shape[-2:]
        patches, length = height * width, tokens.shape[1]
        device = tokens.device
        image = self.image_proj(features.flatten(2).transpose(1, 2)) + self.type_embedding.weight[1]
        text = self.embed_tokens(tokens) + self.type_embedding.weight[0]
        x = torch.cat([self.patch_layernorm_embedding(image), self.layernorm_embedding(text)], dim=1)

        places = image_places(height, width, self.image_bucket_size).to(device)
        positions = torch.cat(
            [self.image_pos_ln(self.embed_image_positions(places)), self.pos_ln(self.embed_positions.weight[:length])]
        )
        absolute = position_scores(self.pos_q_linear(positions), self.pos_k_linear(positions), self.heads)
        absolute = absolute * self.pos_scale
        padding = torch.cat([tokens.new_zeros(len(tokens), patches, dtype=torch.bool), tokens == PAD], dim=1)
        mask = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, -torch.inf)[:, None, None, :]
        of_patches = image_buckets(height, width, self.image_bucket_size).to(device)
        of_tokens = text_buckets(length, self.token_bucket_size).to(device)
        for layer, image_table, text_table in zip(
            self.layers, self.image_rel_pos_table_list, self.token_rel_pos_table_list, strict=True
        ):
            bias = absolute.clone()
            bias[:, :patches, :patches] += image_table(of_patches).permute(2, 0, 1)
            bias[:, patches:, patches:] += text_table(of_tokens).permute(2, 0, 1)
            # Padding is rare: without it all images share one bias, a batch-th of the memory.
            x = layer(x, bias[None] + mask if bool(padding.any()) else bias[None])
        return Source(self.layer_norm(x), positions, mask)


def position_scores(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Products (heads, L, M) of projected position embeddings (L, width) and (M, width)."""
    return torch.einsum("lhc,mhc->hlm", queries.unflatten(-1, (heads, -1)), keys.unflatten(-1, (heads, -1)))


def relative_text_tables(config: OfaConfig, layers: int, heads: int) -> nn.ModuleList:
    """A bias per layer, relative position in the text, and head."""
    return nn.ModuleList([nn.Embedding(2 * config.token_bucket_size - 1, heads) for _ in range(layers)])


def relative_image_tables(config: OfaConfig, layers: int, heads: int) -> nn.ModuleList:
    """A bias per layer, relative position in the image, and head; the last three are of a token that is not used."""
    return nn.ModuleList([nn.Embedding((2 * config.image_bucket_size - 1) ** 2 + 3, heads) for _ in range(layers)])
