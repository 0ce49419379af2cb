"""CLIP by name, by path, or random: the network and the tokeniser that TACO's encoder and loss share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from lightning_modules.errors import PretrainedError

HUB_ID = "openai/clip-vit-base-patch32"
"""The CLIP of the paper (appendix A)."""

_RANDOM_SEED = 0


@dataclass
class ClipPart:
    """Which CLIP steers the encoder and judges pictures. It is never trained.

    Args:
        pretrained: true for openai/clip-vit-base-patch32 from the hub (or its cache); a folder in Hugging Face
            layout, or another hub id; false for random weights with a byte-level vocabulary, which need no file.
        architecture: Shape of the random network when `pretrained` is false.
        max_tokens: Rows of the token sequence, padding included; 38 is the longest COCO caption (paper section 3.2).
    """

    pretrained: bool | str = True
    architecture: Literal["vit-b-32", "tiny"] = "vit-b-32"
    max_tokens: int = 38


def load_clip(part: ClipPart, setting: str = "model.init_args.clip.pretrained") -> tuple[CLIPModel, CLIPTokenizer]:
    """The frozen network in eval mode, and its tokeniser.

    Args:
        part: What to load.
        setting: Name of the configuration key, for error messages.

    Raises:
        PretrainedError: A folder is missing or incomplete, or the hub cannot be reached.
    """
    if part.pretrained is False:
        model, tokenizer = _random_clip(part.architecture)
    elif part.pretrained is True:
        model, tokenizer = _from_hub(HUB_ID, setting)
    elif Path(part.pretrained).expanduser().is_dir():
        model, tokenizer = _from_folder(Path(part.pretrained).expanduser(), setting)
    elif part.pretrained.count("/") == 1 and not part.pretrained.startswith((".", "/", "~")):
        model, tokenizer = _from_hub(part.pretrained, setting)
    else:
        raise PretrainedError(
            f"CLIP: folder {part.pretrained} (given by {setting}) does not exist. It should hold config.json, "
            "model.safetensors, vocab.json and merges.txt, as published on the hub."
        )
    return model.eval().requires_grad_(False), tokenizer


def _from_hub(name: str, setting: str) -> tuple[CLIPModel, CLIPTokenizer]:
    try:
        return _load(name, local_files_only=True)
    except (OSError, ValueError):
        pass  # not in the cache: ask the hub
    try:
        return _load(name, local_files_only=False)
    except (OSError, ValueError) as error:
        raise PretrainedError(
            f"CLIP: {name} is not in the hub cache and could not be downloaded. Put config.json, model.safetensors, "
            f"vocab.json and merges.txt of {name} into a folder and set {setting} to it, or set it to false for "
            "random weights (tests only)."
        ) from error


def _from_folder(folder: Path, setting: str) -> tuple[CLIPModel, CLIPTokenizer]:
    missing = [n for n in ("config.json",) if not (folder / n).is_file()]
    if not any((folder / n).is_file() for n in ("model.safetensors", "pytorch_model.bin")):
        missing.append("model.safetensors")
    if not any((folder / n).is_file() for n in ("vocab.json", "tokenizer.json")):
        missing.append("vocab.json")
    if missing:
        raise PretrainedError(
            f"CLIP: folder {folder} (given by {setting}) lacks {', '.join(missing)}. It should hold config.json, "
            "model.safetensors, vocab.json and merges.txt, as published on the hub."
        )
    try:
        return _load(str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise PretrainedError(f"CLIP: cannot load {folder} (given by {setting}): {error}") from error


def _load(name: str, *, local_files_only: bool) -> tuple[CLIPModel, CLIPTokenizer]:
    model = CLIPModel.from_pretrained(name, local_files_only=local_files_only, dtype=torch.float32)
    return model, CLIPTokenizer.from_pretrained(name, local_files_only=local_files_only)


def _random_clip(architecture: Literal["vit-b-32", "tiny"]) -> tuple[CLIPModel, CLIPTokenizer]:
    """The same weights on every call, without touching the global random state."""
    tower: dict[str, Any] = {}
    width, vocabulary = 512, _byte_vocabulary(49408)
    if architecture == "tiny":
        tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        width, vocabulary = 64, _byte_vocabulary(514)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**tower, **ids, "vocab_size": max(vocabulary.values()) + 1}
    config = CLIPConfig(text_config=text, vision_config=tower, projection_dim=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        return CLIPModel(config), tokenizer


def _byte_vocabulary(size: int) -> dict[str, int]:
    """One token per byte, one per word-final byte, and CLIP's two special tokens at the end."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    return {**vocabulary, "<|startoftext|>": size - 2, "<|endoftext|>": size - 1}
