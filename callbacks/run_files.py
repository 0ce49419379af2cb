"""Writing into the run directory: atomically, and under names that cannot leave it."""

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


def png_path(folder: Path, dataset: str, name: str) -> Path:
    """Where the picture of an image goes: `{folder}/{dataset}/{name}.png`.

    A name that ends in `.png` is kept; any other is kept whole before the suffix (`a.jpg.png`), so that
    `a.jpg` and `a.png` of one dataset do not overwrite each other.

    Raises:
        ValueError: the dataset or the image name is not a plain file name.
    """
    for part in (dataset, name):
        if not part or part in (".", "..") or Path(part).name != part:
            raise ValueError(f"{part!r} cannot name a file or folder in the run directory")
    return folder / dataset / (name if name.lower().endswith(".png") else f"{name}.png")
