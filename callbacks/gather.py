"""Bringing rows of plain Python values together from all processes."""

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def all_gather_rows(rows: list[T]) -> list[T]:
    """Rows of all processes, rank 0's first; the same list on every rank. Every rank must call it.

    Objects are gathered rather than tensors, so ranks may bring different numbers of rows.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return list(rows)
    gathered: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, rows)
    return [row for part in gathered for row in part]
