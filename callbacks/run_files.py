"""Names of files in the run directory, which cannot lead out of it."""

from pathlib import Path


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


def label_map_path(run_dir: Path, dataset: str, name: str) -> Path:
    """Where the label map of an image is: `{run_dir}/label_maps/{dataset}/{name}.png`; see `png_path`."""
    return png_path(run_dir / "label_maps", dataset, name)
