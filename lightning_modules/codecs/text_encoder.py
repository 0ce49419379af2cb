"""The frozen CLIP text encoder that turns captions into TACO's side information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lightning_modules.codecs.taco import TextFeatures


class ClipTextEncoder(nn.Module):
    """Captions to token states and the pooled state, in one pass; 63,165,952 parameters for ViT-B/32.

    It stays in eval mode and in float32 whatever surrounds it.

    Args:
        model: CLIP's text tower.
        tokenizer: A `tokenizers.Tokenizer` or the Hugging Face tokeniser around one.
        max_tokens: Captions are truncated and padded to this many tokens, special tokens included.
    """

    def __init__(self, model: CLIPTextModel, tokenizer: CLIPTokenizer | Tokenizer, max_tokens: int = 38) -> None:
        super().__init__()
        limit = model.config.max_position_embeddings
        if not 3 <= max_tokens <= limit:
            raise ValueError(f"max_tokens={max_tokens} is outside 3 to {limit}, the positions that this CLIP has")
        self.model = model.eval().requires_grad_(False)
        self.max_tokens = max_tokens
        backend = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
        self.tokenizer = Tokenizer.from_str(backend.to_str())
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding(
            length=max_tokens,
            pad_id=self.tokenizer.token_to_id("<|endoftext|>"),
            pad_token="<|endoftext|>",
        )

    @property
    def width(self) -> int:
        """Channels of a token state."""
        return int(self.model.config.hidden_size)

    def train(self, mode: bool = True) -> ClipTextEncoder:
        """Stay in eval mode: the encoder is frozen."""
        super().train(False)
        return self

    def tokenize(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, int64 (B, max_tokens); padding is the end-of-text token, as CLIP's is."""
        encoded = self.tokenizer.encode_batch(list(captions))
        ids = torch.tensor([e.ids for e in encoded], dtype=torch.int64)
        mask = torch.tensor([e.attention_mask for e in encoded], dtype=torch.int64)
        return ids, mask

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> TextFeatures:
        """B captions to token states (B, max_tokens, width) and pooled states (B, width)."""
        device = self.model.final_layer_norm.weight.device
        ids, mask = (t.to(device) for t in self.tokenize(captions))
        with torch.autocast(device.type, enabled=False):
            out = self.model(input_ids=ids, attention_mask=mask)
        return TextFeatures(out.last_hidden_state, out.pooler_output)

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as plain values: `from_config` rebuilds the encoder without any other file."""
        return {
            "text_config": self.model.config.to_diff_dict(),
            "tokenizer": self.tokenizer.to_str(),
            "max_tokens": self.max_tokens,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClipTextEncoder:
        """An encoder with random weights, to be loaded into."""
        model = CLIPTextModel(CLIPTextConfig(**config["text_config"]))
        return cls(model, Tokenizer.from_str(config["tokenizer"]), config["max_tokens"])
