"""Which caption belongs to which image: by file name, or by the name without folder and ending."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from datamodules.errors import DataError, first_of

IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
"""What counts as an image, in any case."""

Join = Literal["name", "stem"]
"""By the whole name, or without folder and image ending (`images/kodim01.jpg` and `kodim01` are `kodim01.png`)."""


class Joined(NamedTuple):
    """Captions that have found their images, and who has found nobody."""

    captions: dict[str, tuple[str, ...]]
    """By image name; only images that have a caption."""
    missing: list[str]
    """Images without a caption, in their order."""
    surplus: list[str]
    """Names in the caption file without an image, in the order of the file."""


def join_captions(names: Sequence[str], captions: Mapping[str, tuple[str, ...]], by: Join, source: str) -> Joined:
    """Give each image its captions.

    Args:
        names: File names of the images, without folder.
        captions: Captions by the name that the caption file gives.
        by: What must agree.
        source: What errors call the caption file.

    Raises:
        DataError: two images, or two entries of the caption file, have the same name under `by`.
    """
    if by == "stem":
        images = _by_stem(names, "images")
        entries = {stem: captions[name] for stem, name in _by_stem(list(captions), f"entries of {source}").items()}
    else:
        images = {name: name for name in names}
        entries = dict(captions)
    found = {name: entries[key] for key, name in images.items() if entries.get(key)}
    missing = [name for name in names if name not in found]
    surplus = [name for name in captions if (stem(name) if by == "stem" else name) not in images]
    return Joined(found, missing, surplus)


def stem(name: str) -> str:
    """Return a name without folder and without the ending of an image file.

    >>> [stem(name) for name in ("val/kodim01.PNG", "kodim01", "a.b.jpg", "a.b", "c:\\\\d\\\\e.tif")]
    ['kodim01', 'kodim01', 'a.b', 'a.b', 'e']
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    start, dot, ending = base.rpartition(".")
    return start if dot and f".{ending.lower()}" in IMAGE_EXTENSIONS else base


def advice(missing: Sequence[str], surplus: Sequence[str]) -> str:
    """What to do about images without captions where their names differ in folder or ending only; may be empty."""
    entries = {stem(name): name for name in surplus}
    matches = [(name, entries[stem(name)]) for name in missing if stem(name) in entries]
    if not matches:
        return ""
    image, entry = matches[0]
    return (
        f" {len(matches)} of them differ in folder or ending only ({image} and {entry}): "
        "--data.join stem matches these."
    )


def _by_stem(names: Sequence[str], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    clashes = []
    for name in names:
        first = found.setdefault(stem(name), name)
        if first != name:
            clashes.append(f"{first} and {name}")
    if clashes:
        raise DataError(
            f"{len(clashes)} {what} have the same name but for folder and ending ({first_of(clashes)}): rename one "
            "of each two, or set --data.join to name"
        )
    return found
