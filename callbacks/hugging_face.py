"""Loading a network and its image processor from the Hugging Face hub, or from a folder in its layout."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor

from lightning_modules.pretrained import PretrainedError, unusable_file

LAYOUT = "config.json, model.safetensors and preprocessor_config.json, as published on the hub"


def load_network(part: str, architecture: Any, name: str, setting: str) -> tuple[nn.Module, Any]:
    """A frozen network in float32 and eval mode, on the CPU, and its image processor.

    Args:
        part: what the network is for ("classifier"), named in errors.
        architecture: an auto class of transformers, such as `AutoModelForImageClassification`.
        name: a hub id, or a folder.
        setting: the configuration setting that `name` came from, named in errors.

    Raises:
        PretrainedError: the folder is incomplete, the hub has no such network or cannot be reached, or the network is
            of another kind.
    """
    if is_folder(name):
        folder = Path(name).expanduser()
        missing = [file for file in ("config.json", "preprocessor_config.json") if not (folder / file).is_file()]
        if missing:
            raise PretrainedError(
                f"{part}: folder {name} (given by {setting}) lacks {', '.join(missing)}. It should hold {LAYOUT}."
            )
        try:
            return _load(part, architecture, str(folder), setting, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, PretrainedError):
                raise
            raise unusable_file(part, name, str(error), setting) from error
    try:
        return _load(part, architecture, name, setting, local_files_only=True)
    except (OSError, ValueError):
        pass  # not in the cache: ask the hub
    try:
        return _load(part, architecture, name, setting, local_files_only=False)
    except (OSError, ValueError) as error:
        raise PretrainedError(
            f"{part}: {name} is not in the hub cache and could not be downloaded or loaded "
            f"({type(error).__name__}: {error}). Put {LAYOUT}, into a folder and set {setting} to its path."
        ) from error


def is_folder(name: str) -> bool:
    """Whether a name is a folder's and not a hub id (`owner/model`)."""
    return Path(name).expanduser().is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1


def source_name(name: str) -> str:
    """A network's name for records: the hub id, or the folder's name without its directory."""
    return Path(name).expanduser().name if is_folder(name) else name


def to_bytes(images: Tensor) -> list[Tensor]:
    """Images as processors expect them: each uint8 (3, H, W), one channel repeated to three.

    Args:
        images: float (B, 1 or 3, H, W) in [0, 1], on the 8-bit grid.
    """
    return list((255 * images).round().byte().expand(-1, 3, -1, -1))


def _load(part: str, architecture: Any, name: str, setting: str, *, local_files_only: bool) -> tuple[nn.Module, Any]:
    processor = AutoImageProcessor.from_pretrained(name, local_files_only=local_files_only)
    network, info = architecture.from_pretrained(
        name, local_files_only=local_files_only, dtype=torch.float32, output_loading_info=True
    )
    # transformers fills what a file lacks with random numbers, and only warns.
    if lacking := sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"]):
        problem = f"its weights lack {', '.join(lacking[:3])}, {len(lacking)} in all"
        raise unusable_file(part, name, problem, setting)
    return network.eval().requires_grad_(False), processor
