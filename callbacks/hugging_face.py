"""Loading a network and its image processor from the Hugging Face hub, or from a folder in its layout."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor
from transformers.utils import logging

from lightning_modules.errors import PretrainedError
from lightning_modules.pretrained import unusable_file

LAYOUT = "config.json, model.safetensors and preprocessor_config.json, as published on the hub"

Loaded = TypeVar("Loaded")


def from_folder_or_hub(
    part: str, name: str, setting: str, layout: str, required: Sequence[str], read: Callable[[str, bool], Loaded]
) -> Loaded:
    """What `read` makes of a folder, of the hub's cache, or of the hub, in this order.

    Args:
        part: what is loaded ("classifier"), named in errors.
        name: a hub id, or a folder.
        setting: the configuration setting that `name` came from, named in errors.
        layout: what a folder should hold, in words.
        required: files that a folder must hold.
        read: takes a name and whether only local files may be used.

    Raises:
        PretrainedError: the folder is incomplete, the hub has no such network or cannot be reached, or the files are
            of another kind.
    """
    if is_folder(name):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise PretrainedError(
                f"{part}: folder {name} (given by {setting}) does not exist. It should hold {layout}."
            )
        if missing := [file for file in required if not (folder / file).is_file()]:
            raise PretrainedError(
                f"{part}: folder {name} (given by {setting}) lacks {', '.join(missing)}. It should hold {layout}."
            )
        try:
            return read(str(folder), True)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, PretrainedError):
                raise
            raise unusable_file(part, name, str(error), setting) from error
    try:
        return read(name, True)
    except (OSError, ValueError):
        pass  # not in the cache: ask the hub
    try:
        return read(name, False)
    except (OSError, ValueError) as error:
        raise PretrainedError(
            f"{part}: {name} is not in the hub cache and could not be downloaded or loaded "
            f"({type(error).__name__}: {error}). Put {layout}, into a folder named {name.rpartition('/')[2]} and set "
            f"{setting} to its path."
        ) from error


def read_network(part: str, architecture: Any, name: str, setting: str, local_files_only: bool) -> Any:
    """A frozen network in float32 and eval mode, on the CPU.

    Args:
        part: what the network is for, named in errors.
        architecture: a class of transformers with `from_pretrained`.
        name: a folder or hub id.
        setting: the configuration setting that `name` came from, named in errors.
        local_files_only: do not ask the hub.

    Raises:
        PretrainedError: the weights lack some of the network's, which transformers would fill with random numbers.
        OSError, ValueError: as transformers raises them.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would list the weights that a file has beyond the network's
    try:
        network, info = architecture.from_pretrained(
            name, local_files_only=local_files_only, dtype=torch.float32, output_loading_info=True
        )
    finally:
        logging.set_verbosity(verbosity)
    if lacking := sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"]):
        raise unusable_file(part, name, f"its weights lack {', '.join(lacking[:3])}, {len(lacking)} in all", setting)
    return network.eval().requires_grad_(False)


def load_network(part: str, architecture: Any, name: str, setting: str) -> tuple[nn.Module, Any]:
    """A network and its image processor; see `from_folder_or_hub` and `read_network`.

    Args:
        part: what the network is for ("classifier"), named in errors.
        architecture: an auto class of transformers, such as `AutoModelForImageClassification`.
        name: a hub id, or a folder.
        setting: the configuration setting that `name` came from, named in errors.

    Raises:
        PretrainedError: it cannot be had.
    """

    def read(source: str, local_files_only: bool) -> tuple[nn.Module, Any]:
        processor = AutoImageProcessor.from_pretrained(source, local_files_only=local_files_only)
        return read_network(part, architecture, source, setting, local_files_only), processor

    return from_folder_or_hub(part, name, setting, LAYOUT, ("config.json", "preprocessor_config.json"), read)


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
