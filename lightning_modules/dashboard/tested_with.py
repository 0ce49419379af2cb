"""Which of a run directory's configs made a record: a directory keeps one of every test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from callbacks.portable_paths import expand, portable
from callbacks.record import plain

PATTERN = "config_test*.yaml"
"""The last test's has no number, and older ones are numbered by age (`callbacks.SaveRunConfig`)."""


def config_of(record: Mapping[str, Any]) -> str | None:
    """The file that the test of a record ran with, below its run directory.

    Args:
        record: With the `config` that it was measured with.

    Returns:
        Its path, or None where no file on this machine has the record's configuration.
    """
    config = record.get("config") or {}
    if "run_dir" not in config:
        return None
    for file in sorted(expand(config["run_dir"]).glob(PATTERN)):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if plain(portable(content)) == config:
            return f"{config['run_dir']}/{file.name}"
    return None
