"""g2 for street scenes: a decoder of SPADE residual blocks (Park et al., CVPR 2019; Fig. 9 of Xu et al., 2308.08154).

The figure prints Conv(101, 128, 3, 1), three SPADE blocks, ReLU, Conv(64, 3, 3, 1), and no more. 101 channels are
x_hat (3), the label map Y (34 classes) and noise W (64). Three blocks, and a Y that is sent at an eighth of the
picture's size, fit each other if the stack begins at that size and doubles it after each block. Each block sees all
101 channels, resized to its own scale, as SPADE's condition: otherwise nothing of x_hat finer than an eighth would
reach the picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lightning_modules.codecs.batch_norm import SharedBatchNorm2d
from lightning_modules.codecs.conditional_codec import PerceptualDecoder

SCALES = (8, 4, 2)
"""Of each block, in pixels of the picture per pixel of the block."""


class ConditionConv2d(nn.Conv2d):
    """A 3x3 convolution of maps and of noise that is the same everywhere.

    It is `nn.Conv2d` over (maps, noise expanded over space), at the cost of the maps alone: the noise's part differs
    only where the kernel reaches over the border, so it has nine values per channel, which a 3x3 picture holds.

    Args:
        map_channels: Channels of the maps.
        noise_dim: Channels of the noise.
        out_channels: Channels of the result.
    """

    def __init__(self, map_channels: int, noise_dim: int, out_channels: int) -> None:
        super().__init__(map_channels + noise_dim, out_channels, 3, padding=1)
        self.map_channels = map_channels

    def forward(self, maps: Tensor, noise: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve maps (B, map_channels, H, W), H and W at least 2, beside noise (B, noise_dim)."""
        result = F.conv2d(maps, self.weight[:, : self.map_channels], self.bias, padding=1)
        if not noise.shape[1]:
            return result
        everywhere = noise[:, :, None, None].expand(-1, -1, 3, 3)
        nine = F.conv2d(everywhere, self.weight[:, self.map_channels :], padding=1)
        height, width = result.shape[-2:]
        first, inner, last = nine.split(1, 2)
        rows = torch.cat((first, inner.expand(-1, -1, height - 2, -1), last), 2)
        first, inner, last = rows.split(1, 3)
        return result + torch.cat((first, inner.expand(-1, -1, -1, width - 2), last), 3)


class Spade(nn.Module):
    """Spatially adaptive normalisation (Park et al., 2019, eq. 1 and Fig. 2).

    Batch normalisation without parameters, then (1 + γ) x + β with γ and β two convolutions of the condition's
    features: published code's form of eq. 1, in which γ = 0 leaves x as it is.

    Args:
        channels: Of x.
        map_channels: Of the condition's maps.
        noise_dim: Of the condition's noise.
        hidden: Channels between the condition and γ, β; 128 in the paper.
    """

    def __init__(self, channels: int, map_channels: int, noise_dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = SharedBatchNorm2d(channels, affine=False)
        self.shared = ConditionConv2d(map_channels, noise_dim, hidden)
        # γ's convolution and β's, side by side: one pass over the features.
        self.modulation = nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor, maps: Tensor, noise: Tensor) -> Tensor:
        """Normalise x (B, channels, H, W) under maps (B, map_channels, H, W) and noise (B, noise_dim)."""
        features = F.relu(self.shared(maps, noise))
        gamma, beta = self.modulation(features).chunk(2, 1)
        normal: Tensor = self.norm(x)
        return torch.addcmul(normal + beta, normal, gamma)


class SpadeResidualBlock(nn.Module):
    """Two convolutions, each after SPADE and leaky ReLU (Park et al., 2019, Fig. 4), with spectral normalisation.

    The shortcut is the identity, or SPADE and a 1x1 convolution where the number of channels changes.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the result.
        map_channels: Of the condition's maps.
        noise_dim: Of the condition's noise.
        hidden: See `Spade`.
    """

    def __init__(self, channels_in: int, channels_out: int, map_channels: int, noise_dim: int, hidden: int) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.spade_0 = Spade(channels_in, map_channels, noise_dim, hidden)
        self.conv_0 = spectral_norm(nn.Conv2d(channels_in, middle, 3, padding=1))
        self.spade_1 = Spade(middle, map_channels, noise_dim, hidden)
        self.conv_1 = spectral_norm(nn.Conv2d(middle, channels_out, 3, padding=1))
        self.spade_shortcut: Spade | None = None
        self.conv_shortcut: nn.Module | None = None
        if channels_in != channels_out:
            self.spade_shortcut = Spade(channels_in, map_channels, noise_dim, hidden)
            self.conv_shortcut = spectral_norm(nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor, maps: Tensor, noise: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H, W); the condition as in `Spade`."""
        shortcut = x
        if self.spade_shortcut is not None and self.conv_shortcut is not None:
            shortcut = self.conv_shortcut(self.spade_shortcut(x, maps, noise))
        middle = self.conv_0(F.leaky_relu(self.spade_0(x, maps, noise), 0.2))
        result: Tensor = self.conv_1(F.leaky_relu(self.spade_1(middle, maps, noise), 0.2))
        return shortcut + result


class SpadeDecoder(PerceptualDecoder):
    """g2 for pictures: x_hat of the MSE decoder, the label map and noise to an image.

    Args:
        classes: Classes of the label map, K; 0 for a codec without side information. The paper keeps its channels
            and sets them to 0; leaving them out is the same function with fewer parameters.
        noise_dim: Length of W, which is the same at every pixel; 64 in Fig. 9, 0 makes g2 deterministic.
        width: Channels of the first two blocks and of SPADE's hidden layers, 128 in Fig. 9; the last block has half.
        residual: Add the stack's output to x_hat, and begin with a last convolution of zeros, so that g2 begins as
            g1 bit for bit and its error need not be learnt down again; a short training then stays near x_hat.
            The paper's decoder, with false, paints the whole picture.

    Raises:
        ValueError: A size is out of range.
    """

    def __init__(self, classes: int, noise_dim: int = 64, width: int = 128, residual: bool = True) -> None:
        super().__init__()
        if classes < 0 or noise_dim < 0:
            raise ValueError(f"g2's classes are {classes} and its noise_dim is {noise_dim}: set both to 0 or more")
        if width < 2 or width % 2:
            raise ValueError(
                f"g2's width is {width}: set it to an even number, its last block has half as many channels"
            )
        self.classes, self.noise_dim = classes, noise_dim
        self.width, self.residual = width, residual
        maps = 3 + classes
        self.first = ConditionConv2d(maps, noise_dim, width)
        outputs = (width, width, width // 2)
        self.blocks = nn.ModuleList(
            SpadeResidualBlock(before, after, maps, noise_dim, width)
            for before, after in zip((width, *outputs[:-1]), outputs, strict=True)
        )
        self.last = nn.Conv2d(width // 2, 3, 3, padding=1)
        if residual:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)
        # The faster layout on CPUs, and on tensor cores.
        self.to(memory_format=torch.channels_last)

    def forward(self, code: Tensor, noise: Tensor) -> Tensor:
        """Images (B, 3, H, W), for values in [0, 1], not clamped.

        Args:
            code: float32 (B, 3 + K, H, W), H and W multiples of 8 and at least 16: x_hat, then Y one-hot.
            noise: (B, noise_dim), standard normal.

        Raises:
            ValueError: The code has another shape.
        """
        height, width = code.shape[-2:]
        if code.shape[1] != 3 + self.classes or height % SCALES[0] or width % SCALES[0] or min(height, width) < 16:
            raise ValueError(
                f"g2 reads x_hat and {self.classes} classes, (B, {3 + self.classes}, H, W) with H and W multiples of "
                f"{SCALES[0]} from 16 on, not {tuple(code.shape)}: build it with the codec's `classes`, pad pictures"
            )
        features: Tensor | None = None
        for scale, block in zip(SCALES, self.blocks, strict=True):
            maps = self._resized(code, scale)
            if features is None:
                features = self.first(maps, noise)
            features = F.interpolate(block(features, maps, noise), scale_factor=2.0, mode="nearest")
        assert features is not None
        picture: Tensor = self.last(F.relu(features))
        return code[:, :3] + picture if self.residual else picture

    def _resized(self, code: Tensor, scale: int) -> Tensor:
        """The code at 1/scale: x_hat averaged over squares, Y by nearest sampling, which keeps it one-hot."""
        return torch.cat((F.avg_pool2d(code[:, :3], scale), code[:, 3:, ::scale, ::scale]), 1)

    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in ("classes", "noise_dim", "width", "residual")}
