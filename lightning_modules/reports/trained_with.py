"""What models were trained with, in words: what all have in common, and what is each one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lightning_modules.reports.decoder_result import DecoderResult
from lightning_modules.reports.table import Cell, Column, Table

R = TypeVar("R", bound=DecoderResult)


def training_table(results: Sequence[R], columns: Sequence[Column], cells: Callable[[R], Sequence[Cell]]) -> Table:
    """One row per model: what it was trained with, and the fingerprint of its weights.

    Args:
        results: One of each model.
        columns: What tells the models apart.
        cells: A model's.
    """
    common, apart = _in_common_and_apart([result.training for result in results])
    rows: list[tuple[Cell, ...]] = [
        (*cells(result), training, result.weights[:12]) for result, training in zip(results, apart, strict=True)
    ]
    heads = (*columns, Column("trained with", numeric=False), Column("weights", numeric=False))
    notes = (f"All were trained with {common}.",) if common else ()
    return Table("models", "What was trained.", heads, tuple(rows), notes)


def _in_common_and_apart(trainings: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The settings that all have, "" where there are none, and the others of each, in words."""
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
