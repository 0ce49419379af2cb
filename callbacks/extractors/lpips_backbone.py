"""Features of an ImageNet network that LPIPS uses, for FID where Inception's weights cannot be had."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from callbacks.extractors.base import FeatureExtractor
from lightning_modules.losses.lpips_network import LpipsNet, backbone_name, load_lpips


class LpipsBackbone(FeatureExtractor):
    """Spatial means of the five layers of AlexNet (1152 channels) or VGG16 (1472) that LPIPS compares.

    General features of photographs, as Inception's are, and unlike those of a classifier trained on the data at hand:
    they see blur that leaves the class plain. Figures have names of their own, `fid_alex` and `fid_vgg`.

    Args:
        net: "alex" or "vgg".
        pretrained: true downloads torchvision's ImageNet weights; a string is the path of a file with torchvision's
            keys; false keeps random weights, for tests.
        enlarge: Whole factor that images are enlarged by before, bilinearly; digits of 32x32 need at least 2 for
            AlexNet.
    """

    def __init__(self, net: LpipsNet = "alex", pretrained: bool | str = True, enlarge: int = 1) -> None:
        super().__init__()
        if enlarge < 1:
            raise ValueError(f"enlarge must be at least 1, not {enlarge}")
        self.net = net
        self.pretrained = pretrained
        self.enlarge = enlarge
        self.name = net

    @property
    def weights(self) -> str:
        """What was given."""
        return str(self.pretrained)

    def protocol(self) -> dict[str, Any]:
        """What is computed."""
        return {
            "extractor": f"LPIPS backbone {self.net}, spatial means of its five layers",
            "weights": backbone_name(self.net, self.pretrained),
            "images": "RGB in [-1, 1], standardised as LPIPS does",
            "resize": "none" if self.enlarge == 1 else f"bilinear, {self.enlarge} times as large",
            "dtype": "float32",
        }

    def load(self) -> nn.Module:
        """Build the network with its weights."""
        return load_lpips(self.net, self.pretrained, "callbacks.extractors.LpipsBackbone.init_args.pretrained")

    def extract(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features (B, 1152 or 1472)."""
        if self.enlarge > 1:
            images = F.interpolate(images, scale_factor=self.enlarge, mode="bilinear", align_corners=False)
        lpips: Any = network.lpips
        layers = lpips.net(lpips.scaling_layer(2 * images - 1))
        return torch.cat([layer.mean((2, 3)) for layer in layers], 1)
