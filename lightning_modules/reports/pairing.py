"""Models of two methods that are shown side by side because their rates are about the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

M = TypeVar("M")


def nearest_pairs(
    plain: Sequence[M], proposed: Sequence[M], rate: Callable[[M], float]
) -> list[tuple[M | None, M | None]]:
    """Models of both methods, each of which is the other's nearest in rate, and all others alone; by rate."""

    def nearest(models: Sequence[M], to: M) -> M | None:
        return min(models, key=lambda model: abs(rate(model) - rate(to)), default=None)

    together: list[tuple[M | None, M | None]] = []
    for model in plain:
        other = nearest(proposed, model)
        mutual = other is not None and nearest(plain, other) is model
        together.append((model, other if mutual else None))
    taken = [other for _, other in together]
    together += [(None, model) for model in proposed if model not in taken]
    return sorted(together, key=lambda pair: min(rate(model) for model in pair if model is not None))
