"""Paths as another machine can read them."""

import os
from pathlib import Path
from typing import Any


def portable(value: Any) -> Any:
    """Plain values with paths as another machine can read them: `$DATA_ROOT/kodak`, `runs/taco`, `~/photos`.

    Only absolute paths below $DATA_ROOT, the working directory or the home directory are rewritten.
    """
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    places = [("$DATA_ROOT", os.environ.get("DATA_ROOT")), (".", os.getcwd()), ("~", str(Path.home()))]  # noqa: PTH109
    for short, folder in places:
        if folder and Path(value).is_relative_to(folder):
            return str(Path(short) / Path(value).relative_to(folder))
    return value


def expand(path: str) -> Path:
    """The inverse of `portable` on this machine."""
    return Path(os.path.expandvars(path)).expanduser()
