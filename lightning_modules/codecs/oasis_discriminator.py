"""The OASIS discriminator: a U-Net that tells the class of each pixel, or that it is fake.

Written from Sushko et al., "You Only Need Adversarial Supervision for Semantic Image Synthesis" (ICLR 2021), section
3.1 and the table of its appendix on architecture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

MULTIPLE = 64
"""Height and width are halved six times."""


class _Block(nn.Module):
    """Pre-activation residual block that halves, or doubles, height and width.

    Where the number of channels changes, the shortcut is a 1x1 convolution. It runs at the smaller of both sizes:
    it commutes with averaging and with nearest upsampling, so the result is the same for a quarter of the work.
    """

    def __init__(self, channels_in: int, channels_out: int, *, up: bool, activate_first: bool = True) -> None:
        super().__init__()
        self.up, self.activate_first = up, activate_first
        self.conv_0 = spectral_norm(nn.Conv2d(channels_in, channels_out, 3, padding=1))
        self.conv_1 = spectral_norm(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = spectral_norm(nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H/2, W/2), or with `up` (B, channels_out, 2H, 2W)."""
        features = F.leaky_relu(x, 0.2) if self.activate_first else x
        if self.up:
            features = _doubled(features)
        features = self.conv_1(F.leaky_relu(self.conv_0(features), 0.2))
        if self.up:
            return features + _doubled(self.shortcut(x))
        # Averaging is linear: once, after the sum at full size, would need the shortcut at full size.
        return F.avg_pool2d(features, 2) + self.shortcut(F.avg_pool2d(x, 2))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class OasisDiscriminator(nn.Module):
    """Six residual blocks down, six up with skip connections, and N + 1 logits for every pixel.

    Spectral normalisation in every convolution but the last, 1x1; no other normalisation. In published size the
    blocks down have 128, 128, 256, 256, 512, 512 channels and those up 512, 256, 256, 128, 128, 64.

    Args:
        classes: Classes of real pixels, N. Logit 0 is "fake", logit c + 1 is class c. With one class it tells real
            from fake at every pixel.
        width: Channels of the first block, 128 in the paper; the others in proportion.
        condition_channels: Channels that are shown beside the picture: 0, or 3 for x_hat.

    Raises:
        ValueError: A size is out of range.
    """

    def __init__(self, classes: int, width: int = 128, condition_channels: int = 0) -> None:
        super().__init__()
        if classes < 1 or condition_channels < 0:
            raise ValueError(f"a discriminator of {classes} classes beside {condition_channels} channels cannot be")
        if width < 2 or width % 2:
            raise ValueError(
                f"the discriminator's width is {width}: set it to an even number, its last block has half"
            )
        self.classes, self.condition_channels = classes, condition_channels
        down = (3 + condition_channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width)
        up = (4 * width, 2 * width, 2 * width, width, width, width // 2)
        self.down = nn.ModuleList(
            _Block(down[i], down[i + 1], up=False, activate_first=i > 0) for i in range(len(down) - 1)
        )
        # The first block up reads the deepest features; each other one reads its predecessor and a skip connection.
        inputs = [down[-1], *(before + skip for before, skip in zip(up, down[-2:0:-1], strict=False))]
        self.up = nn.ModuleList(_Block(before, after, up=True) for before, after in zip(inputs, up, strict=True))
        self.last = nn.Conv2d(up[-1], classes + 1, 1)
        # Half as long a step on CPUs; and the layout of tensor cores.
        self.to(memory_format=torch.channels_last)

    def forward(self, picture: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, N + 1, H, W) of pictures (B, 3, H, W), H and W multiples of 64.

        Args:
            picture: Values in [0, 1], or not clamped.
            condition: (B, condition_channels, H, W), None if there are no such channels.

        Raises:
            ValueError: The size is no multiple of 64, or the condition is missing or not wanted.
        """
        height, width = picture.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f"the OASIS discriminator takes pictures with sides that are multiples of {MULTIPLE}, not "
                f"{width}x{height}: set data.size or data.crop_size to such a size"
            )
        if (0 if condition is None else condition.shape[1]) != self.condition_channels:
            raise ValueError(
                f"this discriminator was built for {self.condition_channels} channels beside the picture"
            )
        features = picture if condition is None else torch.cat((picture, condition), 1)
        skips: list[Tensor] = []
        for block in self.down:
            features = block(features)
            skips.append(features)
        features = self.up[0](skips.pop())
        for block in self.up[1:]:
            features = block(torch.cat((features, skips.pop()), 1))
        logits: Tensor = self.last(features)
        return logits
