"""Writing files so that they are either whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Create or replace `path` so that a reader sees the old file or the whole new one, also after a crash.

    Args:
        path: the file; its folder is made.
        write: writes the content to the path that it is given (a hidden file in the same folder).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two ranks that write the same image (a padded dataset) out of each other's way. The
    # suffix stays, since image writers go by it.
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
