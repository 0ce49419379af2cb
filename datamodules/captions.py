"""Caption files: JSON maps, COCO annotations, JSON lines and CSV, made safe to print, tokenise and log."""

import csv
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.errors import DataError

MAX_CHARACTERS = 4000
"""Longer captions are cut. CLIP reads at most 77 tokens, and its longest token stands for 32 bytes: what is cut no
text encoder would have seen, and nobody tokenises the book that was pasted into a caption file."""

_REPLACEMENT_CHARACTER = "\ufffd"  # what decoders put where bytes were not text
_BYTE_ORDER_MARK = "\ufeff"


def clean_caption(text: str) -> str:
    """Return `text` without what is not text, with single spaces, and of at most `MAX_CHARACTERS`.

    Published caption files hold garbled bytes (kodim17 of the OFA captions ends in `New K\\ufffd F\\ufffd`).
    The readable part is kept, because dropping the caption would lose an image of the benchmark; control
    characters and line breaks become spaces; replacement characters, lone surrogates (which cannot be written
    as UTF-8) and byte order marks are removed. A caption that is too long is cut between two words.
    """
    if not (text.isascii() and text.isprintable()):  # nearly all captions are, and there are 600,000 in COCO
        kept = []
        for character in text:
            if character in (_REPLACEMENT_CHARACTER, _BYTE_ORDER_MARK) or unicodedata.category(character) == "Cs":
                continue
            kept.append(" " if unicodedata.category(character) == "Cc" else character)
        text = "".join(kept)
    text = " ".join(text.split())
    if len(text) <= MAX_CHARACTERS:
        return text
    words = text[: MAX_CHARACTERS + 1].rsplit(" ", 1)[0]
    return words[:MAX_CHARACTERS]


def clean_captions(texts: Iterable[str]) -> tuple[str, ...]:
    """Clean each caption and drop those of which nothing is left."""
    return tuple(caption for caption in map(clean_caption, texts) if caption)


@dataclass
class CaptionCounts:
    """Cleans captions and counts what it had to mend."""

    captions: int = 0
    empty: int = 0
    garbled: int = 0
    cut: int = 0

    def clean(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Do what `clean_captions` does, and count."""
        kept = []
        for text in texts:
            caption = clean_caption(text)
            self.captions += 1
            self.empty += not caption
            self.garbled += _REPLACEMENT_CHARACTER in text
            # Spaces that were joined are not a cut: more than the limit must be left of single-spaced text.
            self.cut += len(text) > MAX_CHARACTERS and len(" ".join(text.split())) > MAX_CHARACTERS
            if caption:
                kept.append(caption)
        return tuple(kept)

    def report(self, path: Path) -> None:
        """Warn, on rank zero, of what was mended in `path`; say nothing where nothing was."""
        found = [
            f"{count} {what}"
            for count, what in (
                (self.empty, "are empty and are left out"),
                (self.garbled, "have bytes that are not text, which are removed"),
                (self.cut, f"are longer than {MAX_CHARACTERS} characters and are cut"),
            )
            if count
        ]
        if found:
            rank_zero_warn(f"of {self.captions} captions in {path}, {', '.join(found)}")


class CocoImage(NamedTuple):
    """An image of a COCO annotation file."""

    name: str
    captions: tuple[str, ...]
    size: tuple[int, int] | None
    """Width and height in pixels, where the file has them."""


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Read captions by image file name.

    - `*.json`: a map from file name to a caption or to a list of captions (as the OFA captions of Kodak and CLIC are
      published), or COCO annotations (`images` with `id` and `file_name`, `annotations` with `image_id` and
      `caption`).
    - `*.jsonl`: one object a line with `file_name` and `text`, `caption` or `captions`, as in the `metadata.jsonl` of
      Hugging Face image folders; several lines of an image add up.
    - `*.csv`: a header with the columns `image` and `caption`, and one row per caption.

    Bytes that are not UTF-8 do not stop the reading; see `clean_caption` for what becomes of them. An image all of
    whose captions are empty maps to `()`. What had to be mended is counted in a warning.

    Raises:
        DataError: the file is missing, or is none of these.
    """
    if not path.is_file():
        raise DataError(
            f"there is no caption file {path}: set --data.captions_file to a .json, .jsonl or .csv file, or to null"
        )
    readers = {".json": _read_json, ".jsonl": _read_json_lines, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise DataError(
            f"{path} is neither .json nor .csv nor .jsonl: convert the captions to one of these and rename the file"
        )
    listed = readers[path.suffix.lower()](path)
    counts = CaptionCounts()
    captions = {name: counts.clean(texts) for name, texts in listed.items()}
    counts.report(path)
    return captions


def read_coco(path: Path) -> list[CocoImage]:
    """Read a COCO captions file: its images, in its order, with their captions.

    Raises:
        DataError: the file is missing or is no COCO captions file.
    """
    counts = CaptionCounts()
    try:
        images = [CocoImage(name, counts.clean(texts), size) for name, texts, size in _coco_images(read_json(path))]
    except (AttributeError, KeyError, TypeError) as error:
        raise _not_coco(path, error) from error
    counts.report(path)
    return images


def read_json(path: Path) -> Any:
    """Parse a JSON file, replacing bytes that are not UTF-8.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}: check the path in the settings")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and thousands of brackets
        raise DataError(f"{path} is not valid JSON ({error}): repair it or download it again") from error


def _coco_images(content: Any) -> list[tuple[str, list[str], tuple[int, int] | None]]:
    captions: dict[int, list[str]] = {}
    for annotation in content["annotations"]:
        if not isinstance(annotation["caption"], str):
            raise TypeError(f"image {annotation['image_id']!r:.80} has the caption {annotation['caption']!r:.80}")
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return [
        (
            image["file_name"],
            captions.get(image["id"], []),
            (image["width"], image["height"]) if "width" in image and "height" in image else None,
        )
        for image in content["images"]
    ]


def _not_coco(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is not a COCO captions file ({type(error).__name__}: {error}): "
        "use captions_*.json of the official annotations archive"
    )


def _read_json(path: Path) -> dict[str, list[str]]:
    content = read_json(path)
    remedy = 'expected {"image.png": "a caption"} or {"image.png": ["a caption", "another"]}, or COCO annotations'
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}: {remedy}")
    if {"images", "annotations"} <= content.keys():
        try:
            return {name: texts for name, texts, _ in _coco_images(content)}
        except (AttributeError, KeyError, TypeError) as error:
            raise _not_coco(path, error) from error
    return {
        name: _texts(value, f"{path} has {value!r:.80} for {name!r}: {remedy}") for name, value in content.items()
    }


def _read_json_lines(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            remedy = f'line {number} of {path} is {line.strip()!r:.80}: expected {{"file_name": ..., "caption": ...}}'
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(remedy) from error
            if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
                raise DataError(remedy)
            value = next((row[column] for column in ("captions", "caption", "text") if column in row), None)
            captions.setdefault(row["file_name"], []).extend(_texts(value, remedy))
    return captions


def _read_csv(path: Path) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows: csv.DictReader[Any] = csv.DictReader(file)
        if not {"image", "caption"} <= set(rows.fieldnames or ()):
            raise DataError(f"the header of {path} is {rows.fieldnames}: it needs the columns image,caption")
        try:
            for row in rows:
                if row["image"] is None:
                    raise DataError(
                        f"line {rows.line_num} of {path} ends before the column image: write a name and a caption"
                    )
                # Spreadsheets end lines with empty cells, which lose nothing.
                if any(surplus := row.get(None) or ()):
                    raise DataError(
                        f"line {rows.line_num} of {path} goes on with {','.join(surplus)!r:.80} after the last "
                        'column: put captions that hold commas in quotes, as in a.png,"a dog, running"'
                    )
                captions.setdefault(row["image"], []).append(row["caption"] or "")
        except csv.Error as error:
            raise DataError(f"row {rows.line_num} of {path} is not CSV ({error}): repair it") from error
    return captions


def _texts(value: object, remedy: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    captions = [text for text in texts if isinstance(text, str)]
    if len(captions) < len(texts):
        raise DataError(remedy)
    return captions
