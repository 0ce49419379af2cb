"""State dicts of networks that come from torch.hub, or from a local file."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_modules.pretrained import download_failed, unusable_file


def read_state(part: str, url: str, path: str | None, setting: str) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU.

    Args:
        part: what the weights are for ("DISTS weights"), named in errors.
        url: where torch.hub finds the file if its cache ($TORCH_HOME/hub/checkpoints) lacks it.
        path: a local file instead.
        setting: the configuration setting that `path` came from, named in errors.

    Raises:
        PretrainedError: the file is missing, cannot be downloaded, or holds something else.
    """
    try:
        if path is None:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:  # URLError is an OSError
        if path is None:
            raise download_failed(part, Path(url).name, setting, error) from error
        raise unusable_file(part, path, f"{type(error).__name__}: {error}", setting) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise unusable_file(part, path or url, "it holds no state dict", setting)
    return dict(state)


def check_state(
    state: Mapping[str, Tensor], wanted: Mapping[str, torch.Size], part: str, path: str, setting: str
) -> None:
    """Refuse a state dict whose keys or shapes are not those of a network.

    Raises:
        PretrainedError: what differs.
    """
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected:
        raise unusable_file(part, path, f"missing keys {missing}, unexpected keys {unexpected}", setting)
    for key, shape in wanted.items():
        if state[key].shape != shape:
            shapes = f"{tuple(state[key].shape)} instead of {tuple(shape)}"
            raise unusable_file(part, path, f"{key} has shape {shapes}", setting)


def shapes_of(network: nn.Module) -> dict[str, torch.Size]:
    """Key -> shape of a network's state dict."""
    return {key: value.shape for key, value in network.state_dict().items()}
