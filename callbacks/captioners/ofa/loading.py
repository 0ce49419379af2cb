"""OFA's published files, checked name by name."""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils.hub import cached_file

from callbacks.captioners.ofa.config import OfaConfig
from callbacks.captioners.ofa.model import OfaModel
from callbacks.captioners.ofa.words import Words
from callbacks.hugging_face import from_folder_or_hub
from datamodules.errors import first_of
from lightning_modules.pretrained import unusable_file

PART = "captioner"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
LAYOUT = "config.json, vocab.json, merges.txt, and pytorch_model.bin or model.safetensors, as published on the hub"

_EMBEDDING = "encoder.embed_tokens.weight"
_SAME_AS_EMBEDDING = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
_TABLES = re.compile(r"(encoder|decoder)\.(token_rp_bucket|image_rp_bucket|image_position_idx|version)")
"""Buffers of the published model that hold no weights: positions are computed instead."""
_COUNTERS = ".num_batches_tracked"
"""Ending of buffers that only training needs; files may lack them."""


def is_ofa(name: str, setting: str) -> bool:
    """Whether a folder or hub id holds an OFA model, by the `model_type` of its config.json.

    Args:
        name: a hub id, or a folder.
        setting: what `name` was given by, named in errors.

    Raises:
        PretrainedError: it has no config.json, or the hub cannot be reached.
    """
    layout = "config.json and the other files of the model, as published on the hub"

    def read(source: str, local_files_only: bool) -> bool:
        return _read_config(_find(source, "config.json", local_files_only)).get("model_type") == "ofa"

    return from_folder_or_hub(PART, name, setting, layout, ("config.json",), read)


def load_ofa(name: str, setting: str) -> tuple[OfaModel, Words]:
    """A frozen model in float32 and eval mode, on the CPU, and its tokeniser.

    Args:
        name: a hub id, such as `OFA-Sys/ofa-large`, or a folder with its files.
        setting: the configuration setting that `name` came from, named in errors.

    Raises:
        PretrainedError: files are missing, of another kind of model, damaged, or do not fit each other.
    """

    def read(source: str, local_files_only: bool) -> tuple[OfaModel, Words]:
        config = OfaConfig.from_dict(_read_config(_find(source, "config.json", local_files_only)))
        files = [_find(source, file, local_files_only) for file in ("vocab.json", "merges.txt")]
        try:
            words = Words(*files)
        except Exception as error:  # the tokenizers package has no class of its own for bad files
            raise unusable_file(
                PART, name, f"its vocab.json and merges.txt cannot be used ({error})", setting
            ) from error
        if words.size != config.vocab_size:
            problem = f"its vocab.json makes {words.size} tokens, where its config.json has {config.vocab_size}"
            raise unusable_file(PART, name, problem, setting)
        weights = _find_weights(source, local_files_only)
        try:
            return build(config, _read_weights(weights)), words
        except ValueError as error:
            raise unusable_file(PART, f"{weights.name} of {name}", str(error), setting) from error

    return from_folder_or_hub(PART, name, setting, LAYOUT, ("config.json", "vocab.json", "merges.txt"), read)


def build(config: OfaConfig, weights: Mapping[str, Tensor]) -> OfaModel:
    """The model with these weights, which are used as they are where they are float32.

    Raises:
        ValueError: names are missing or surplus, or shapes differ; the message lists all three.
    """
    with torch.device("meta"):  # random numbers for 930 million weights would take longer than reading them
        model = OfaModel(config)
    wanted = model.state_dict()
    given = {key: value for key, value in weights.items() if not _TABLES.fullmatch(key)}
    shared = [given.pop(key) for key in (_EMBEDDING, *_SAME_AS_EMBEDDING) if key in given]
    if shared:
        if any(other.shape != shared[0].shape or not torch.equal(other, shared[0]) for other in shared[1:]):
            raise ValueError(f"{_EMBEDDING} and {' and '.join(_SAME_AS_EMBEDDING)} differ, and should be the same")
        given |= dict.fromkeys((_EMBEDDING, _SAME_AS_EMBEDDING[0]), shared[0])
    given |= {
        key: torch.zeros((), dtype=torch.long) for key in wanted if key.endswith(_COUNTERS) and key not in given
    }
    shapes = [
        f"{key} is {tuple(given[key].shape)} and should be {tuple(wanted[key].shape)}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    problems = {
        "lacks": [key for key in wanted if key not in given],
        "has beyond the model's": sorted(given.keys() - wanted.keys()),
        "has other shapes:": shapes,
    }
    if any(problems.values()):
        raise ValueError("; ".join(f"it {what} {first_of(keys)}" for what, keys in problems.items() if keys))
    floats = {key: value.float() if value.is_floating_point() else value for key, value in given.items()}
    floats[_SAME_AS_EMBEDDING[0]] = floats[_EMBEDDING]
    model.load_state_dict(floats, assign=True)
    return model.eval().requires_grad_(False)


def _read_config(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no settings")
    return content


def _find(source: str, file: str, local_files_only: bool) -> Path:
    path = cached_file(source, file, local_files_only=local_files_only)
    assert path is not None  # it raises an OSError instead
    return Path(path)


def _find_weights(source: str, local_files_only: bool) -> Path:
    if Path(source).is_dir() and not any((Path(source) / file).is_file() for file in WEIGHTS):
        raise ValueError(f"it lacks the weights, {' or '.join(WEIGHTS)}")
    try:
        return _find(source, WEIGHTS[0], local_files_only)
    except OSError:  # the published models have the other
        return _find(source, WEIGHTS[1], local_files_only)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"it cannot be read as weights ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("it is no map from names to weights")
    return content
