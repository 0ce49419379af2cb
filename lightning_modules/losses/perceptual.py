"""LPIPS as a training loss."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.losses.lpips_network import load_lpips


@dataclass
class LpipsPart:
    """Which LPIPS is minimised.

    Args:
        net: Backbone; TACO trains on AlexNet, the network it is also measured with.
        pretrained: true for torchvision's weights by torch.hub; a file with `features.N.weight` keys; false for
            random weights (tests only).
        input_range: "[-1,1]" is what LPIPS expects; "[0,1]" is what the authors' code feeds it, and the published
            weights were trained so. On JPEGs of Kodak, [0,1] gives 0.46 to 0.70 of the right value.
    """

    net: Literal["alex", "vgg"] = "alex"
    pretrained: bool | str = True
    input_range: Literal["[-1,1]", "[0,1]"] = "[-1,1]"


class LpipsLoss(nn.Module):
    """Mean LPIPS distance of a batch.

    Args:
        part: Network and input range.
        setting: Name of the configuration key, for error messages.
    """

    def __init__(self, part: LpipsPart, setting: str = "model.init_args.lpips.pretrained") -> None:
        super().__init__()
        self.network = load_lpips(part.net, part.pretrained, setting)
        self.input_range = part.input_range

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Scalar for pictures (B, 3, H, W) in [0, 1]; x_hat is not clamped, so that its gradient survives."""
        if self.input_range == "[-1,1]":
            x, x_hat = 2 * x - 1, 2 * x_hat - 1
        with torch.autocast(x.device.type, enabled=False):
            return self.network(x.float(), x_hat.float()).mean()
