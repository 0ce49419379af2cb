"""The image stem: a ResNet without its last stage."""

from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

CHANNELS = 1024
"""Features per patch."""

STRIDE = 16
"""Side of a patch in pixels."""


class ImageStem(ResNet):
    """Three stages of bottlenecks; torchvision's blocks have the published names and stride in the 3x3 convolution.

    Args:
        blocks: number of blocks in each stage.
    """

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__(Bottleneck, [*blocks, 1])
        del self.layer4, self.avgpool, self.fc

    def forward(self, images: Tensor) -> Tensor:
        """Features of patches.

        Args:
            images: float (B, 3, H, W), normalised to [-1, 1].

        Returns:
            (B, 1024, ceil(H / 16), ceil(W / 16)).
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.layer3(self.layer2(self.layer1(x)))
