"""The ResNet-18 that names digits: its network, and reading it back from a training checkpoint alone."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from lightning_modules.pretrained import PretrainedError, unusable_file

NAME = "resnet18"
SIDE = 32
"""Height and width that the network is trained on, in pixels."""
FEATURES = 512
"""Length of the vector that its last layer reads."""

_PART = "digit classifier"
_MAKE = "`fit -c configs/digits_classifier.yaml` makes one, as runs/digits_classifier/last.ckpt"


class LoadedClassifier(NamedTuple):
    """A digit classifier in eval mode, and what its weights are called in records."""

    network: ResNet
    digest: str
    """SHA-256 of its weights, hexadecimal; see `weights_digest`."""


def digit_resnet18(classes: int = 10) -> ResNet:
    """torchvision's ResNet-18 (He et al., 2016) for one input channel, with random weights.

    Xu et al. (2023, appendix B.1) name the network and not its first layers. Here they are the original ones: a 7x7
    convolution of stride 2, on one channel instead of three, and max-pooling; so 32x32 pixels are 8x8 positions
    for the first block and one for the last.

    It maps float32 (B, 1, 32, 32) in [0, 1], not normalised, to logits (B, classes). The last layer, `fc`, reads the
    512 features.
    """
    network = resnet18(weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own
    return network


def grey_digits(images: Tensor) -> Tensor:
    """Images as the network takes them: float32 (B, 1, 32, 32).

    Args:
        images: float (B, 1 or 3, 32, 32); three channels must be one that was repeated.

    Raises:
        ValueError: another size, or colours.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.shape[2:] != (SIDE, SIDE):
        raise ValueError(f"the digit classifier takes images (B, 1 or 3, {SIDE}, {SIDE}), not {tuple(images.shape)}")
    grey = images[:, :1]
    if images.shape[1] == 3 and not torch.equal(images.nan_to_num(), grey.nan_to_num().expand_as(images)):
        raise ValueError("the digit classifier takes greyscale images: three channels must be equal; these are not")
    return grey.float()


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of a state dict, in hexadecimal, whatever the order of its entries
    and their device.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def weights_name(digest: str | None) -> str | None:
    """What records call weights of a digest: enough of it to tell any two apart. `None` stands for none loaded."""
    return None if digest is None else f"sha256 {digest[:16]}"


def describe(network: ResNet) -> dict[str, Any]:
    """What a checkpoint says of its classifier: `name`, `classes`, and `sha`, the digest of the weights."""
    return {"name": NAME, "classes": network.fc.out_features, "sha": weights_digest(network.state_dict())}


def load_classifier(path: str | Path, setting: str = "path") -> LoadedClassifier:
    """Rebuild a classifier from what its checkpoint says of it, on the CPU, in eval mode and without gradients.

    Args:
        path: A checkpoint that training wrote, such as `runs/digits_classifier/last.ckpt`.
        setting: The configuration setting that `path` came from, named in errors.

    Raises:
        PretrainedError: There is no such file, it cannot be read, or it holds another network.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise PretrainedError(f"{_PART}: checkpoint {path} (given by {setting}) does not exist; {_MAKE}.")
    try:
        checkpoint: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        problem = f"it cannot be read as a checkpoint ({type(error).__name__}: {_beginning(error)})"
        raise unusable_file(_PART, path, f"{problem}; {_MAKE}", setting) from error
    told = checkpoint.get("classifier") if isinstance(checkpoint, dict) else None
    if not isinstance(told, dict) or told.keys() != {"name", "classes", "sha"} or "state_dict" not in checkpoint:
        raise unusable_file(_PART, path, f"it holds no digit classifier; {_MAKE}", setting)
    if told["name"] != NAME:
        problem = f"it holds a classifier {told['name']!r}, where this program knows {NAME!r}"
        raise unusable_file(_PART, path, problem, setting)
    with torch.random.fork_rng(devices=[]):  # random weights that are replaced; the global state should not shift
        network = digit_resnet18(told["classes"])
    prefix = "network."
    state = {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise unusable_file(_PART, path, f"it is of another network: {_beginning(error)}", setting) from error
    digest = weights_digest(network.state_dict())
    if digest != told["sha"]:
        problem = f"its weights are {weights_name(digest)} where it notes {weights_name(told['sha'])}; it is damaged"
        raise unusable_file(_PART, path, f"{problem}; {_MAKE}", setting)
    return LoadedClassifier(network.eval().requires_grad_(False), digest)


def _beginning(error: Exception) -> str:
    """The beginning, in one line, of a message that may list hundreds of keys."""
    return " ".join(str(error).split())[:200]
