"""The frozen LPIPS network, shared by the training loss and the metric."""

import functools
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import lpips
import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, VGG16_Weights

from lightning_modules.pretrained import download_failed, unusable_file

LpipsNet = Literal["alex", "vgg"]

PUBLISHED = "torchvision IMAGENET1K_V1"

_DIGESTS = {"alex": "276812cc7430109e", "vgg": "d649de3c8126095c"}
"""Beginning of SHA-256 over the published features' tensors in the order of their keys."""

_PARTS = {
    "alex": ("LPIPS AlexNet backbone", AlexNet_Weights.IMAGENET1K_V1),
    "vgg": ("LPIPS VGG16 backbone", VGG16_Weights.IMAGENET1K_V1),
}


class LpipsNetwork(nn.Module):
    """LPIPS v0.1 (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018) as a frozen
    network.

    It stays in eval mode whatever its parent does, its parameters take no gradient, and gradients reach its
    inputs. Build it with `load_lpips`.
    """

    def __init__(self, net: LpipsNet) -> None:
        super().__init__()
        # The package builds its backbone by torchvision's deprecated arguments, and draws random weights that
        # are replaced afterwards: neither the warnings nor a shift of the global random state should reach
        # the user.
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self.lpips = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: dropout before the heads would make the distance random."""
        return super().train(False)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """LPIPS distance per image.

        Args:
            x: float (B, 3, H, W) in [-1, 1]. AlexNet needs sides of at least 31 pixels, VGG16 of at least 16.
            x_hat: like `x`.

        Returns:
            (B,), at least 0; 0 for identical images.
        """
        return self.lpips(x, x_hat).flatten()


def load_lpips(net: LpipsNet, pretrained: bool | str, setting: str = "pretrained") -> LpipsNetwork:
    """Build the frozen LPIPS network. The learned heads ship with the `lpips` package; the backbone is loaded
    here.

    Args:
        net: backbone, AlexNet ("alex", the customary metric) or VGG16 ("vgg", the customary loss).
        pretrained: true downloads torchvision's ImageNet weights (or takes them from torch.hub's cache); a
            string is the path of a file with torchvision's keys (`features.N.weight`, classifier keys are
            ignored); false keeps random weights, for tests.
        setting: the configuration setting that `pretrained` came from, named in errors.

    Raises:
        PretrainedError: the weights cannot be had, or the file is not this backbone's.
    """
    part, weights = _PARTS[net]
    network = LpipsNetwork(net)
    if pretrained is True:
        try:
            state = weights.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:  # URLError is an OSError
            raise download_failed(part, Path(weights.url).name, setting, error) from error
        _load_features(network, state, part, weights.url, setting)
    elif pretrained is not False:
        try:
            state = torch.load(pretrained, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise unusable_file(part, pretrained, f"{type(error).__name__}: {error}", setting) from error
        _load_features(network, state, part, pretrained, setting)
    return network


@functools.cache
def backbone_name(net: LpipsNet, pretrained: bool | str) -> str:
    """Which backbone a record should name: the published one, also where it comes from a file, or another.

    Args:
        net: backbone.
        pretrained: as for `load_lpips`; a file that cannot be read is named as it was given.
    """
    if isinstance(pretrained, bool):
        return PUBLISHED if pretrained else "random"
    name = Path(pretrained).name
    try:
        state = torch.load(pretrained, map_location="cpu", weights_only=True)
        digest = hashlib.sha256()
        for key in sorted(key for key in state if key.startswith("features.")):
            digest.update(state[key].contiguous().numpy().tobytes())
    except (OSError, RuntimeError, AttributeError, TypeError, pickle.UnpicklingError):
        return name
    short = digest.hexdigest()[:16]
    return PUBLISHED if short == _DIGESTS[net] else f"{name} ({short})"


def _load_features(network: LpipsNetwork, state: object, part: str, source: str, setting: str) -> None:
    """Copy `features.N.*` of a torchvision state dict into the package's slices, which keep the number N."""
    if not isinstance(state, Mapping):
        raise unusable_file(part, source, "it holds no state dict", setting)
    given = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    wanted = {"features." + name.split(".", 1)[1]: p for name, p in network.lpips.net.named_parameters()}
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing or unexpected:
        raise unusable_file(
            part, source, f"missing keys {sorted(missing)}, unexpected keys {sorted(unexpected)}", setting
        )
    for key, parameter in wanted.items():
        if given[key].shape != parameter.shape:
            shapes = f"{tuple(given[key].shape)} instead of {tuple(parameter.shape)}"
            raise unusable_file(part, source, f"{key} has shape {shapes}", setting)
        parameter.data.copy_(given[key])
