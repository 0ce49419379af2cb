"""Deep image structure and texture similarity."""

import piq
import torch
from piq.functional import L2Pool2d
from piq.perceptual import VGG16_LAYERS
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from callbacks.metrics.precision import full_float32
from callbacks.metrics.value import NotAvailable, Value
from callbacks.metrics.weight_file import check_state, read_state, shapes_of

MIN_SIDE = 17
"""Below this the last of the five stages is a single position: it has no variance, and its texture term is void."""

_STAGES = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
_CHANNELS = (3, 64, 128, 256, 512, 512)
"""Of the image and of the five stages."""


class DistsNetwork(piq.DISTS):
    """piq's DISTS on weights that are at hand; piq's own constructor downloads them.

    Args:
        features: convolutions of VGG16, as torchvision has them.
        alpha: (1, 1475, 1, 1), weights of the structure terms.
        beta: (1, 1475, 1, 1), weights of the texture terms.
    """

    def __init__(self, features: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        weights = [part for side in (alpha, beta) for part in side.split(_CHANNELS, dim=1)]
        super(piq.DISTS, self).__init__(
            features,
            layers=[VGG16_LAYERS[stage] for stage in _STAGES],
            weights=weights,
            replace_pooling=True,
            reduction="none",
            allow_layers_weights_mismatch=True,
        )

    def follow(self, device: torch.device) -> None:
        """Move to a device, with the kernels that piq's pooling keeps to itself."""
        self.to(device)
        for module in self.modules():
            if isinstance(module, L2Pool2d):
                module.kernel = None


def load_dists(weights_path: str | None, backbone_path: str | None, setting: str) -> DistsNetwork:
    """Build DISTS with its published weights.

    Args:
        weights_path: piq's file `dists_weights.pt` (`alpha` and `beta`); `None` takes it from torch.hub.
        backbone_path: a file with torchvision's VGG16 (`features.N.weight` keys; classifier keys are ignored); `None`
            takes it from torch.hub.
        setting: prefix of the configuration settings of these two, named in errors.

    Raises:
        PretrainedError: the weights cannot be had, or are those of another network.
    """
    part, setting_of_weights = "DISTS weights", f"{setting}.weights_path"
    weights = read_state(part, piq.DISTS._weights_url, weights_path, setting_of_weights)
    shape = torch.Size((1, sum(_CHANNELS), 1, 1))
    source = weights_path or piq.DISTS._weights_url
    check_state(weights, {"alpha": shape, "beta": shape}, part, source, setting_of_weights)

    part, setting_of_backbone = "DISTS VGG16 backbone", f"{setting}.backbone_path"
    url = VGG16_Weights.IMAGENET1K_V1.url
    state = read_state(part, url, backbone_path, setting_of_backbone)
    state = {
        key.removeprefix("features."): value for key, value in state.items() if not key.startswith("classifier.")
    }
    with torch.device("meta"):  # 138 million parameters that need not exist
        features = vgg16(weights=None).features
    check_state(state, shapes_of(features), part, backbone_path or url, setting_of_backbone)
    features.load_state_dict(state, assign=True)
    return DistsNetwork(features, weights["alpha"], weights["beta"]).eval().requires_grad_(False)


@torch.no_grad()
def dists_distance(network: DistsNetwork, image: Tensor, x_hat: Tensor) -> list[Value]:
    """DISTS per image (Ding et al., "Image quality assessment: unifying structure and texture similarity", TPAMI
    2022, eq. 7), in float32 without TF32.

    As in piq, images whose sides both exceed 256 are first resized to a shorter side of 256, bilinearly and without
    antialiasing.

    Args:
        network: from `load_dists`, on the device of the images.
        image: float (B, 1 or 3, H, W) in [0, 1]. One channel is repeated to three.
        x_hat: like `image`.

    Returns:
        B distances, 0 for equal images (lower is better), or `NotAvailable` for images with a side under 17 pixels.
    """
    if min(image.shape[-2:]) < MIN_SIDE:
        return [NotAvailable(f"DISTS needs both sides of at least {MIN_SIDE} pixels")] * len(image)
    with full_float32():
        return network(x_hat.float().expand(-1, 3, -1, -1), image.float().expand(-1, 3, -1, -1)).tolist()
