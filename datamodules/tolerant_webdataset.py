"""WebDataset tars in which one garbled caption costs one sample at most, and not the shard."""

import json
from typing import Any, ClassVar

from datasets.packaged_modules.webdataset.webdataset import WebDataset


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _record(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(_text(content))
    except (ValueError, RecursionError):  # also numbers of thousands of digits, and thousands of brackets
        return {}
    return record if isinstance(record, dict) else {}


class TolerantWebDataset(WebDataset):
    """Reads tars as `datasets` does, but for text that is not UTF-8 and records that are no JSON objects.

    Bytes that are no text become replacement characters, which `clean_caption` removes; a broken record is empty, so
    that its image has no caption.
    """

    DECODERS: ClassVar[dict[str, Any]] = {
        **WebDataset.DECODERS,
        **dict.fromkeys(("json", "jsn"), _record),
        **dict.fromkeys(("txt", "text", "transcript"), _text),
    }
