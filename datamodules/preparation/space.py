"""Whether the disk holds what is about to be written."""

import shutil
from pathlib import Path

from datamodules.errors import DataError
from datamodules.preparation.progress import gigabytes

_MARGIN = 64 * 2**20
"""Bytes that must be left, for the folder entries of 100,000 files and for others who write."""


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Check that `size` bytes can be written to `folder`, which exists, before the first is.

    Raises:
        DataError: the disk has less room.
    """
    free = shutil.disk_usage(folder).free
    if size + _MARGIN > free:
        raise DataError(
            f"{purpose} takes {gigabytes(size)}, but the disk of {folder} has {gigabytes(free)} left: free some, or "
            "choose a folder on another disk; the same command continues"
        )
