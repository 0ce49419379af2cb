"""The sizes of an OFA model, as its config.json tells them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

BOS, PAD, EOS = 0, 1, 2
"""Token ids of <s>, <pad> and </s>; the decoder starts with <s>."""

STEMS: dict[str, tuple[int, int, int]] = {
    "resnet18": (2, 2, 2),
    "resnet34": (3, 4, 6),
    "resnet50": (3, 4, 6),
    "resnet101": (3, 4, 23),
    "resnet152": (3, 8, 36),
}
"""`resnet_type` -> bottleneck blocks in the three stages of the image stem; all five are of bottlenecks."""

_FIXED: dict[str, Any] = {
    "model_type": "ofa",
    "activation_function": "gelu",
    "normformer": True,
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "layernorm_embedding": True,
    "patch_layernorm_embedding": True,
    "code_layernorm_embedding": True,
    "add_type_embedding": True,
    "share_decoder_input_output_embed": True,
    "entangle_position_embedding": False,
    "scale_embedding": False,
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "decoder_start_token_id": BOS,
}
"""What the five published models have in common; an absent key means the same."""


@dataclass(frozen=True)
class OfaConfig:
    """Sizes of the network, under the names of the published config.json.

    Source: Wang et al., OFA, ICML 2022, Table 1 and section 3; the additions to the Transformer are those of
    NormFormer (Shleifer et al., 2021) and untied positions (Ke et al., 2021).
    """

    d_model: int = 512
    encoder_layers: int = 4
    decoder_layers: int = 4
    encoder_attention_heads: int = 8
    decoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_ffn_dim: int = 2048
    resnet_type: str = "resnet101"
    vocab_size: int = 59457
    max_position_embeddings: int = 1024
    token_bucket_size: int = 256
    """Half the number of relative text positions that are told apart."""
    image_bucket_size: int = 42
    """Patches of 16 pixels along a side of the largest image."""
    attn_scale_factor: float = 2.0
    """Attention scores are divided by sqrt(factor x head width): content and position each give a share."""

    def __post_init__(self) -> None:
        if self.resnet_type not in STEMS:
            raise ValueError(f"resnet_type is {self.resnet_type!r}, none of {', '.join(STEMS)}")
        for heads in (self.encoder_attention_heads, self.decoder_attention_heads):
            if self.d_model % heads:
                raise ValueError(f"d_model {self.d_model} is no multiple of {heads} attention heads")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "OfaConfig":
        """The config of a parsed config.json.

        Raises:
            ValueError: it is of another kind of model, or of a variant that the published weights are not.
        """
        for key, value in _FIXED.items():
            if content.get(key, value) != value:
                raise ValueError(
                    f"config.json has {key} {content[key]!r}, where OFA's published models have {value!r}"
                )
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})
