"""Batch normalisation over the batches of all processes."""

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of the global batch, on CPUs as well as on GPUs.

    Two processes then do what one does with the doubled batch. torch's SyncBatchNorm does the same on GPUs alone.
    With one process it is `nn.BatchNorm2d`; state dicts are the same. All processes must have batches of equal size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        world = _processes()
        if not self.training or world == 1:
            return super().forward(x)
        values = x.float()
        mean = cast(Tensor, all_reduce(values.mean((0, 2, 3)))) / world
        centred = values - mean[:, None, None]
        variance = cast(Tensor, all_reduce(centred.square().mean((0, 2, 3)))) / world
        with torch.no_grad():
            count = world * x.numel() // x.shape[1]
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps)
        if not self.affine:
            return (centred * scale[:, None, None]).to(x.dtype)
        normal = centred * (scale * self.weight)[:, None, None] + self.bias[:, None, None]
        return normal.to(x.dtype)
