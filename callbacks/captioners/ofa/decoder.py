"""OFA's decoder: the next token of several sentences about each image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from callbacks.captioners.ofa.config import OfaConfig
from callbacks.captioners.ofa.encoder import Source, position_scores, relative_image_tables, relative_text_tables
from callbacks.captioners.ofa.layers import DecoderLayer, KeysValues
from callbacks.captioners.ofa.positions import text_buckets


@dataclass
class Progress:
    """How far the sentences are: what their tokens so far are to later ones."""

    past: list[KeysValues | None]
    """Per layer, keys and values (B * K, heads, length, head width) of the tokens so far."""
    length: int
    """Tokens so far."""
    self_bias: list[Tensor]
    """Per layer (heads, M, M) for the longest sentence of M tokens; -inf for tokens to come."""
    source: list[KeysValues]
    """Per layer, keys and values (B, heads, S, head width) of image and prompt."""
    cross_bias: Tensor
    """(heads, M, S)."""
    source_mask: Tensor
    """(B, 1, 1, S): 0, or -inf for padding."""

    def select(self, sentences: Tensor) -> None:
        """Go on with these sentences: int64 (B, K'), each the index of one of an image's K."""
        batch = len(sentences)
        for layer, past in enumerate(self.past):
            if past is not None:
                count = len(past[0]) // batch
                rows = (sentences + count * torch.arange(batch, device=sentences.device)[:, None]).flatten()
                self.past[layer] = (past[0][rows], past[1][rows])


class Decoder(nn.Module):
    """Layers over tokens, with positions in the attention scores as in the encoder.

    Args:
        config: sizes.
        embed_tokens: the encoder's embedding, which also is the output projection.
    """

    def __init__(self, config: OfaConfig, embed_tokens: nn.Embedding) -> None:
        super().__init__()
        width, heads = config.d_model, config.decoder_attention_heads
        self.heads = heads
        self.token_bucket_size = config.token_bucket_size
        self.pos_scale = float(width // heads * config.attn_scale_factor) ** -0.5
        self.embed_tokens = embed_tokens
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(config.max_position_embeddings + 2, width)
        self.pos_ln = nn.LayerNorm(width)
        self.self_pos_q_linear = nn.Linear(width, width)
        self.self_pos_k_linear = nn.Linear(width, width)
        self.cross_pos_q_linear = nn.Linear(width, width)
        self.cross_pos_k_linear = nn.Linear(width, width)
        size = (width, heads, config.decoder_ffn_dim, config.attn_scale_factor)
        self.layers = nn.ModuleList([DecoderLayer(*size) for _ in range(config.decoder_layers)])
        self.layer_norm = nn.LayerNorm(width)
        self.token_rel_pos_table_list = relative_text_tables(config, config.decoder_layers, heads)
        # For sentences of image codes, which captions are not: here so that the published names and shapes are all
        # accounted for.
        self.embed_image_positions = nn.Embedding(config.image_bucket_size**2 + 1, width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.code_layernorm_embedding = nn.LayerNorm(width)
        self.image_rel_pos_table_list = relative_image_tables(config, config.decoder_layers, heads)

    def begin(self, source: Source, longest: int) -> Progress:
        """Prepare for sentences of up to `longest` tokens, <s> included."""
        positions = self.pos_ln(self.embed_positions.weight[:longest])
        own = position_scores(self.self_pos_q_linear(positions), self.self_pos_k_linear(positions), self.heads)
        later = torch.ones(longest, longest, dtype=torch.bool, device=positions.device).triu(1)
        own = (own * self.pos_scale).masked_fill(later, -torch.inf)
        buckets = text_buckets(longest, self.token_bucket_size).to(positions.device)
        queries, keys = self.cross_pos_q_linear(positions), self.cross_pos_k_linear(source.positions)
        return Progress(
            past=[None] * len(self.layers),
            length=0,
            self_bias=[own + table(buckets).permute(2, 0, 1) for table in self.token_rel_pos_table_list],
            source=[layer.cross_attn.keys_values(source.states) for layer in self.layers],  # type: ignore[union-attr, operator]
            cross_bias=position_scores(queries, keys, self.heads) * self.pos_scale,
            source_mask=source.mask,
        )

    def forward(self, tokens: Tensor, progress: Progress) -> Tensor:
        """Logits of what follows each of the latest tokens; `progress` is taken further.

        Args:
            tokens: int64 (B, K, L): of K sentences about each of B images, the L tokens after those so far.
            progress: of `begin`.

        Returns:
            float (B, K, L, vocabulary).
        """
        start, end = progress.length, progress.length + tokens.shape[2]
        x = self.layernorm_embedding(self.embed_tokens(tokens))
        cross_bias = progress.cross_bias[:, start:end].repeat(1, tokens.shape[1], 1) + progress.source_mask
        for index, layer in enumerate(self.layers):
            own = progress.self_bias[index][:, start:end, :end]
            x, progress.past[index] = layer(x, progress.past[index], own, progress.source[index], cross_bias)
        progress.length = end
        return F.linear(self.layer_norm(x), self.embed_tokens.weight)
