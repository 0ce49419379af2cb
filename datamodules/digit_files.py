"""Handwritten digits from IDX files, from the Hugging Face hub, and from scikit-learn's wheel."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError

Split = Literal["train", "test"]

CLASSES = 10
SIDE = 28
"""Height and width of MNIST's images, in pixels."""

_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8  # the type code in the third byte of an IDX file
_LAYOUT = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, each with or without .gz"


@dataclass(frozen=True, slots=True)
class DigitSet:
    """Digits as their source has them: one image and one class each."""

    images: NDArray[np.uint8]
    """(N, H, W), white strokes on black."""
    labels: NDArray[np.int64]
    """(N,), in 0..9."""


def digit_set(images: NDArray[np.uint8], labels: NDArray[np.integer], side: int, source: str) -> DigitSet:
    """Check that images and labels belong together.

    Args:
        images: (N, H, W).
        labels: (N,).
        side: What H and W have to be.
        source: Where they come from, for messages.

    Raises:
        DataError: there are none, their numbers differ, an image is not `side` x `side`, or a label is not in 0..9.
    """
    if len(images) == 0:
        raise DataError(f"{source} holds no images: get the data set again")
    if len(images) != len(labels):
        raise DataError(
            f"{source} holds {len(images)} images but {len(labels)} labels: take both files from one data set"
        )
    if images.shape[1:] != (side, side):
        size = "x".join(map(str, images.shape[1:]))
        raise DataError(f"{source} holds images of {size}, expected {side}x{side}: use the original MNIST files")
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong) > 0:
        raise DataError(
            f"{source} has label {labels[wrong[0]]} at position {wrong[0]} ({len(wrong)} labels are not in 0..9): "
            "use a data set of ten digits"
        )
    return DigitSet(images, labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped where the name ends in .gz.

    The format is MNIST's own: two zero bytes, a type code, the number of dimensions, each dimension as a
    big-endian 32-bit integer, and the elements in row-major order.

    Args:
        path: The file.
        dimensions: How many the file has to have: 3 for images, 1 for labels.

    Raises:
        DataError: the file is not (all of) a gzip stream, is of another type or number of dimensions, or holds fewer
            or more elements than its header says.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path} is truncated or no gzip file ({error}): copy or download it again") from error
    magic = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    header = 4 + 4 * dimensions
    if data[:4] != magic:
        raise DataError(
            f"{path} begins with the bytes {data[:4].hex(' ') or '(none)'}, but an IDX file of unsigned bytes in "
            f"{dimensions} dimensions begins with {magic.hex(' ')}: images and labels may be swapped, or the file "
            "may be gzipped without being named .gz"
        )
    if len(data) < header:
        raise DataError(f"{path} ends within its header of {header} bytes: copy or download it again")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    size = len(data) - header
    if size != math.prod(shape):
        raise DataError(
            f"{path} holds {size} elements, but its header announces {' x '.join(map(str, shape))} = "
            f"{math.prod(shape)}: copy or download it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def idx_digits(root: Path, split: Split) -> DigitSet:
    """Read a split of MNIST from the original files, or from others in their names and format.

    Args:
        root: Folder of the files. A file without .gz goes before one with it.
        split: "train" (60,000 images in MNIST) or "test" (10,000).

    Raises:
        DataError: a file is missing or broken, or images and labels do not fit; see `read_idx` and `digit_set`.
    """
    images = read_idx(_idx_file(root, f"{_PREFIX[split]}-images-idx3-ubyte"), 3)
    labels = read_idx(_idx_file(root, f"{_PREFIX[split]}-labels-idx1-ubyte"), 1)
    return digit_set(images, labels, SIDE, f"{root} ({_PREFIX[split]})")


def _idx_file(root: Path, name: str) -> Path:
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"there is no {name}[.gz] in {root}: expected {_LAYOUT}; check --data.root")


def hub_digits(hub_id: str, split: Split) -> DigitSet:
    """Load a split from the Hugging Face hub, or from a folder that `datasets.load_dataset` can read.

    Args:
        hub_id: Such as `ylecun/mnist`; its columns are `image` (8-bit greyscale) and `label`.
        split: "train" or "test".

    Raises:
        DataError: it cannot be loaded (there is no network, or no such data set or split), it has other columns or
            is not greyscale, or images and labels do not fit; see `digit_set`.
    """
    import datasets  # here, for it takes a second, and most runs read no hub

    try:
        table = datasets.load_dataset(hub_id, split=split)
    except Exception as error:  # of the hub, the network, the disk, Arrow: there is no common type
        raise DataError(
            f"cannot load split {split} of {hub_id!r} through `datasets` ({type(error).__name__}: {error}). Without "
            "network, put the four IDX files into a folder and set --data.root to it and --data.hub_id null, or set "
            "--data.hub_id to a local copy of the data set"
        ) from error
    missing = {"image", "label"} - set(table.column_names)
    if missing:
        raise DataError(
            f"{hub_id} has columns {', '.join(table.column_names)}, but no {' and no '.join(sorted(missing))}: "
            "set --data.hub_id to a data set with both, such as ylecun/mnist"
        )
    pictures = table["image"][:]
    unlike = {f"{picture.mode} {picture.width}x{picture.height}" for picture in pictures} - {f"L {SIDE}x{SIDE}"}
    if unlike:
        raise DataError(
            f"{hub_id} has images of {', '.join(sorted(unlike))}, expected 8-bit greyscale (L) of {SIDE}x{SIDE}: "
            "set --data.hub_id to a data set like ylecun/mnist"
        )
    images = np.stack([np.asarray(picture) for picture in pictures]) if pictures else np.empty((0, SIDE, SIDE), "u1")
    return digit_set(images, np.asarray(table["label"][:]), SIDE, f"{hub_id} ({split})")


def embedded_digits(split: Split) -> DigitSet:
    """Load the 1,797 digits of 8x8 that scikit-learn ships: the test part of the UCI set "Optical Recognition of
    Handwritten Digits" (Alpaydin & Kaynak, 1998).

    The last fifth (359, each class 33 to 37 times) is the test set, the 1,438 before it the training set: the source
    goes from writer to writer (blocks of about 130 digits repeat one form), so most test digits are by hands that
    training has not seen. Strokes counted
    from 0 to 16 become the nearest of 0..255.

    Raises:
        DataError: the installed scikit-learn has other digits.
    """
    from sklearn.datasets import load_digits  # here, for it takes a second

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    if len(images) != 1797:
        raise DataError(
            f"the installed scikit-learn has {len(images)} digits, not 1797: install it again with "
            "`pip install --force-reinstall scikit-learn`"
        )
    test = len(images) // 5
    part = slice(None, -test) if split == "train" else slice(-test, None)
    return digit_set(images[part], digits.target[part], 8, "scikit-learn")
