"""A tiny OFA with random weights in the published layout, and the architecture once more, written plainly."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from torch.nn import functional as F

from callbacks.captioners.ofa import OfaConfig, OfaModel

SENTENCES = [
    "what does the image describe?",
    "a brick building with red doors and windows",
    "a woman wearing a red hat and a red dress",
    "a group of people on dirt bikes in a race",
    "a boat floating in the water in the ocean",
]
SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 48,
    "resnet_type": "resnet18",
    "token_bucket_size": 4,
    "image_bucket_size": 8,
    "max_position_embeddings": 64,
}


def random_model(vocab_size: int = 40, seed: int = 0, **sizes: Any) -> OfaModel:
    """Weights are wide and nothing is zero or one, so that everything counts and captions depend on the image."""
    torch.manual_seed(seed)
    model = OfaModel(OfaConfig(**{**SIZES, **sizes}, vocab_size=vocab_size))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.startswith("encoder.embed_images") and value.dim() == 4:
                value.normal_(0, 1.5 / value[0].numel() ** 0.5)
            elif "rel_pos_table" in name:
                value.normal_(0, 1)
            elif value.dim() == 2:
                value.normal_(0, 1.5 / value.shape[1] ** 0.5)
            elif value.dim() == 1:
                value.add_(0.3 * torch.randn_like(value))
    return model.eval()


def published(model: OfaModel) -> dict[str, Tensor]:
    """The content of pytorch_model.bin: weights, the output projection, and tables that are computed here."""
    tables = {
        f"{half}.{name}": torch.zeros(3, dtype=torch.long)
        for half in ("encoder", "decoder")
        for name in ("token_rp_bucket", "image_rp_bucket")
    }
    tables["decoder.image_position_idx"] = torch.zeros(3, dtype=torch.long)
    projection = {"decoder.output_projection.weight": model.encoder.embed_tokens.weight.detach()}
    return {**model.state_dict(), **projection, **tables}


def save(folder: Path, **sizes: Any) -> str:
    """A folder as on the hub; `sizes` replace some of SIZES."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(SENTENCES, vocab_size=320, min_frequency=1, special_tokens=special, show_progress=False)
    bpe.save_model(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<mask>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    size = len(vocabulary) + 8192 + 1000
    content = {"model_type": "ofa", "architectures": ["OFAModel"], "dropout": 0.1, "normformer": True}
    (folder / "config.json").write_text(json.dumps({**content, **SIZES, **sizes, "vocab_size": size}))
    model = random_model(size, **sizes)
    with torch.no_grad():  # codes and coordinates would be most of what a random model says
        model.encoder.embed_tokens.weight[len(vocabulary) :].mul_(0.01)
    torch.save(published(model), folder / "pytorch_model.bin")
    return str(folder)


class PlainOfa:
    """The network in formulas, sentence by sentence and head by head, from the published names alone."""

    def __init__(self, model: OfaModel) -> None:
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        self.c = model.config

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attend(self, name: str, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        """x (L, width) attends to y (M, width) with bias (heads, L, M)."""
        heads, size = len(bias), x.shape[1] // len(bias)
        q, k, v = self.linear(f"{name}.q_proj", x), self.linear(f"{name}.k_proj", y), self.linear(f"{name}.v_proj", y)
        outputs = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            weights = (q[:, part] @ k[:, part].T / math.sqrt(2 * size) + bias[h]).softmax(-1)
            outputs.append(self.w[f"{name}.c_attn"][h] * (weights @ v[:, part]))
        return self.linear(f"{name}.out_proj", torch.cat(outputs, dim=1))

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        inner = F.gelu(self.linear(f"{name}.fc1", self.norm(f"{name}.final_layer_norm", x)))
        return x + self.linear(f"{name}.fc2", self.norm(f"{name}.ffn_layer_norm", inner))

    def products(self, q: Tensor, k: Tensor, heads: int) -> Tensor:
        size = q.shape[1] // heads
        parts = [slice(h * size, (h + 1) * size) for h in range(heads)]
        return torch.stack([q[:, part] @ k[:, part].T / math.sqrt(2 * size) for part in parts])

    def text_bias(self, half: str, layer: int, length: int) -> Tensor:
        table = self.w[f"{half}.token_rel_pos_table_list.{layer}.weight"]
        index = [[text_bucket(i - j, self.c.token_bucket_size) for j in range(length)] for i in range(length)]
        return table[torch.tensor(index)].permute(2, 0, 1)

    def image_bias(self, layer: int, height: int, width: int) -> Tensor:
        table, size = self.w[f"encoder.image_rel_pos_table_list.{layer}.weight"], self.c.image_bucket_size
        patches = [(y, x) for y in range(height) for x in range(width)]
        index = [[(a - c + size - 1) * (2 * size - 1) + (b - d + size - 1) for c, d in patches] for a, b in patches]
        return table[torch.tensor(index)].permute(2, 0, 1)

    def encode(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Features of one image (1024, h, w) and a prompt (T,) -> states and positions (h * w + T, width)."""
        _, height, width = features.shape
        patches, e = height * width, "encoder"
        image = self.linear(f"{e}.image_proj", features.flatten(1).T) + self.w[f"{e}.type_embedding.weight"][1]
        text = self.w[f"{e}.embed_tokens.weight"][tokens] + self.w[f"{e}.type_embedding.weight"][0]
        x = torch.cat(
            [self.norm(f"{e}.patch_layernorm_embedding", image), self.norm(f"{e}.layernorm_embedding", text)]
        )
        places = [y * self.c.image_bucket_size + x + 1 for y in range(height) for x in range(width)]
        positions = torch.cat(
            [
                self.norm(f"{e}.image_pos_ln", self.w[f"{e}.embed_image_positions.weight"][places]),
                self.norm(f"{e}.pos_ln", self.w[f"{e}.embed_positions.weight"][: len(tokens)]),
            ]
        )
        q, k = self.linear(f"{e}.pos_q_linear", positions), self.linear(f"{e}.pos_k_linear", positions)
        for layer in range(self.c.encoder_layers):
            bias = self.products(q, k, self.c.encoder_attention_heads)
            bias[:, :patches, :patches] += self.image_bias(layer, height, width)
            bias[:, patches:, patches:] += self.text_bias(e, layer, len(tokens))
            name = f"{e}.layers.{layer}"
            normed = self.norm(f"{name}.self_attn_layer_norm", x)
            seen = self.attend(f"{name}.self_attn", normed, normed, bias)
            x = self.feed_forward(name, x + self.norm(f"{name}.self_attn_mid_layer_norm", seen))
        return self.norm(f"{e}.layer_norm", x), positions

    def decode(self, states: Tensor, source_positions: Tensor, tokens: Tensor) -> Tensor:
        """Logits (T, vocabulary) after each of a sentence's tokens (T,)."""
        d, length, heads = "decoder", len(tokens), self.c.decoder_attention_heads
        x = self.norm(f"{d}.layernorm_embedding", self.w["encoder.embed_tokens.weight"][tokens])
        positions = self.norm(f"{d}.pos_ln", self.w[f"{d}.embed_positions.weight"][:length])
        q, k = self.linear(f"{d}.self_pos_q_linear", positions), self.linear(f"{d}.self_pos_k_linear", positions)
        own = self.products(q, k, heads)
        q = self.linear(f"{d}.cross_pos_q_linear", positions)
        cross = self.products(q, self.linear(f"{d}.cross_pos_k_linear", source_positions), heads)
        later = torch.tensor([[j > i for j in range(length)] for i in range(length)])
        for layer in range(self.c.decoder_layers):
            name = f"{d}.layers.{layer}"
            bias = (own + self.text_bias(d, layer, length)).masked_fill(later, -torch.inf)
            normed = self.norm(f"{name}.self_attn_layer_norm", x)
            seen = self.attend(f"{name}.self_attn", normed, normed, bias)
            x = x + self.norm(f"{name}.self_attn_mid_layer_norm", seen)
            seen = self.attend(f"{name}.cross_attn", self.norm(f"{name}.cross_attn_layer_norm", x), states, cross)
            x = self.feed_forward(name, x + self.norm(f"{name}.cross_attn_mid_layer_norm", seen))
        return self.norm(f"{d}.layer_norm", x) @ self.w["encoder.embed_tokens.weight"].T


def text_bucket(distance: int, size: int) -> int:
    """Index of the bias of a query `distance` tokens after the key."""
    half = size // 2
    if abs(distance) <= half:
        return distance + size - 1
    steps = math.ceil(math.log(abs(distance) / half) / math.log(1023 / half) * (half - 1))
    return int(math.copysign(half + steps, distance)) + size - 1


def plain_beam_search(model: OfaModel, source: Any, image: int, beams: int, longest: int, ngram: int) -> list[int]:
    """The same search with lists, each sentence decoded from its beginning at every step."""
    from callbacks.captioners.ofa.encoder import Source

    one = Source(source.states[image : image + 1], source.positions, source.mask[image : image + 1])
    active: list[tuple[float, list[int]]] = [(0.0, [0])]
    done: list[tuple[float, list[int]]] = []
    for length in range(longest + 1):
        candidates = []
        for score, sentence in active:
            tokens = torch.tensor(sentence)[None, None]
            logits = model.decoder(tokens, model.decoder.begin(one, len(sentence)))[0, 0, -1]
            for token, chance in enumerate(logits.log_softmax(-1).tolist()):
                grams = [tuple(sentence[i : i + ngram]) for i in range(len(sentence) - ngram + 1)] if ngram else []
                repeated = ngram > 0 and tuple([*sentence, token][-ngram:]) in grams
                if token != 1 and not repeated and (length < longest or token == 2):
                    candidates.append((score + chance, [*sentence, token]))
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beams]
        for score, sentence in candidates[:beams]:
            if sentence[-1] == 2 and len(done) < beams:
                done.append((score / (length + 1), sentence[1:-1]))
        active = [candidate for candidate in candidates if candidate[1][-1] != 2][:beams]
        if len(done) == beams or not active:
            break
    return max(done, key=lambda c: c[0])[1]
