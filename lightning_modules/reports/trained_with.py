"""What models were trained with, in words: what all have in common, and what is each one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def in_common_and_apart(trainings: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Settings as text.

    Args:
        trainings: `training` of each model's record.

    Returns:
        The settings that all have, "" where there are none, and the others of each.
    """
    flat = [_leaves(training) for training in trainings]
    common = _common(flat)
    return _in_words(common), [_in_words({k: v for k, v in leaves.items() if k not in common}) for leaves in flat]


def _common(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that all have."""
    if not trainings:
        return {}
    first, *others = trainings
    return {key: value for key, value in first.items() if all(key in t and t[key] == value for t in others)}


def _leaves(training: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name, without nesting."""
    leaves: dict[str, Any] = {}
    for key, value in training.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def _in_words(training: Mapping[str, Any]) -> str:
    parts = (f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in training.items())
    return ", ".join(parts)
