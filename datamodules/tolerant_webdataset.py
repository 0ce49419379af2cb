"""WebDataset tars in which one garbled caption costs one sample at most, and not the shard."""

import json
from typing import Any, ClassVar

from datasets.packaged_modules.webdataset.webdataset import WebDataset


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _record(content: bytes) -> Any:
    try:
        return json.loads(_text(content))
    except json.JSONDecodeError:
        return {}


class TolerantWebDataset(WebDataset):
    """Reads tars as `datasets` does, but for text that is not UTF-8 and records that are not JSON.

    Bytes that are no text become replacement characters, which `clean_caption` removes; a broken record is empty, so
    that its image has no caption.
    """

    DECODERS: ClassVar[dict[str, Any]] = {
        **WebDataset.DECODERS,
        "json": _record,
        **dict.fromkeys(("txt", "text", "transcript"), _text),
    }
