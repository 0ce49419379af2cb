"""Which relative positions share a learned attention bias: logarithmic along text, exact over the image's patches."""

import math

import torch
from torch import Tensor

_LONGEST = 1024  # tokens; the scale of the logarithm, whatever the model's own limit


def text_buckets(length: int, bucket_size: int) -> Tensor:
    """Index of the bias between each two tokens.

    Distances up to half of `bucket_size` have an index each; beyond, indices grow with the logarithm of the distance
    (He et al., DeBERTa, 2021, whose buckets OFA uses).

    Args:
        length: number of tokens L, at most 1024.
        bucket_size: as in the config.

    Returns:
        int64 (L, L) in [0, 2 * bucket_size - 2], of query and key.
    """
    position = torch.arange(length)
    distance = position[:, None] - position[None, :]
    half = bucket_size // 2
    far = distance.abs().clamp(min=half)
    steps = torch.ceil(torch.log(far / half) / math.log((_LONGEST - 1) / half) * (half - 1)).long()
    bucket = torch.where(distance.abs() <= half, distance, distance.sign() * (half + steps))
    return bucket + bucket_size - 1


def image_places(height: int, width: int, bucket_size: int) -> Tensor:
    """Index of each patch's position embedding: places in a grid of `bucket_size` columns, from 1 on.

    Returns:
        int64 (height * width,), row by row.
    """
    rows, columns = torch.arange(height), torch.arange(width)
    return (rows[:, None] * bucket_size + columns[None, :] + 1).flatten()


def image_buckets(height: int, width: int, bucket_size: int) -> Tensor:
    """Index of the bias between each two patches: one for every pair of vertical and horizontal distance.

    Args:
        height: patches along the image's height, at most `bucket_size`.
        width: patches along its width, at most `bucket_size`.
        bucket_size: as in the config.

    Returns:
        int64 (height * width,) * 2 in [0, (2 * bucket_size - 1) ** 2 - 1], of query and key, row by row.
    """
    row, column = (
        place.flatten() for place in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    down = row[:, None] - row[None, :] + bucket_size - 1
    right = column[:, None] - column[None, :] + bucket_size - 1
    return down * (2 * bucket_size - 1) + right
