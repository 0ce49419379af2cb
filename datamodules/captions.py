"""Caption files: a JSON map or a CSV table, made safe to print, tokenise and log."""

import csv
import json
import unicodedata
from pathlib import Path

from datamodules.errors import DataError

_REPLACEMENT_CHARACTER = "\ufffd"  # what decoders put where bytes were not text
_BYTE_ORDER_MARK = "\ufeff"


def clean_caption(text: str) -> str:
    """Return `text` without what is not text, and with single spaces.

    Published caption files hold garbled bytes (kodim17 of the OFA captions ends in `New K\\ufffd F\\ufffd`).
    The readable part is kept, because dropping the caption would lose an image of the benchmark; control
    characters and line breaks become spaces; replacement characters, lone surrogates (which cannot be written
    as UTF-8) and byte order marks are removed.
    """
    kept = []
    for character in text:
        if character in (_REPLACEMENT_CHARACTER, _BYTE_ORDER_MARK) or unicodedata.category(character) == "Cs":
            continue
        kept.append(" " if unicodedata.category(character) == "Cc" else character)
    return " ".join("".join(kept).split())


def clean_captions(texts: list[str]) -> tuple[str, ...]:
    """Clean each caption and drop those of which nothing is left."""
    return tuple(caption for caption in map(clean_caption, texts) if caption)


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Read captions by image file name.

    `*.json` holds a map from file name to a caption or to a list of captions. `*.csv` has a header with the
    columns `image` and `caption`, and one row per caption. Bytes that are not UTF-8 do not stop the reading;
    see `clean_caption` for what becomes of them. An image all of whose captions are empty maps to `()`.

    Raises:
        DataError: the file is missing, or is neither of these.
    """
    if not path.is_file():
        raise DataError(
            f"there is no caption file {path}: set --data.captions_file to a .json or .csv file, or to null"
        )
    readers = {".json": _read_json, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is neither .json nor .csv: convert the captions to one of these and rename the file")
    listed = readers[path.suffix.lower()](path)
    return {name: clean_captions(texts) for name, texts in listed.items()}


def read_json(path: Path) -> object:
    """Parse a JSON file, replacing bytes that are not UTF-8.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path in the settings")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON ({error}): repair it or download it again") from error


def _read_json(path: Path) -> dict[str, list[str]]:
    content = read_json(path)
    remedy = 'expected {"image.png": "a caption"} or {"image.png": ["a caption", "another"]}'
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}: {remedy}")
    captions = {}
    for name, value in content.items():
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{path} has {value!r} for {name!r}: {remedy}")
        captions[name] = texts
    return captions


def _read_csv(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if not {"image", "caption"} <= set(rows.fieldnames or ()):
            raise DataError(f"the header of {path} is {rows.fieldnames}: it needs the columns image,caption")
        for row in rows:
            captions.setdefault(row["image"], []).append(row["caption"] or "")
    return captions
