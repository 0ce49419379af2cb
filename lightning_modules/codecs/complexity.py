"""What a forward pass costs: multiply-accumulate operations by part of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs_by_part(parts: dict[str, nn.Module], run: Callable[[], object]) -> dict[str, int]:
    """Multiply-accumulate operations (convolutions, matrix products, attention) of `run`, by part.

    An operation belongs to the innermost part that runs it: an adapter that is called inside g_a is not counted
    as g_a.

    Args:
        parts: Networks by name; none is inside another.
        run: Runs them.

    Returns:
        Part -> operations, for the parts that have any; one that is run twice counts twice.
    """
    owner = {module: name for name, part in parts.items() for module in part.modules()}
    counts: Counter[str] = Counter()
    running: list[str] = []
    seen = 0

    def settle(counter: FlopCounterMode) -> None:
        """Credit what has been counted since the last call to the part that was running."""
        nonlocal seen
        total = counter.get_total_flops()
        if running:
            counts[running[-1]] += total - seen
        seen = total

    counter = FlopCounterMode(display=False)

    def enter(module: nn.Module, args: object) -> None:
        settle(counter)
        running.append(owner[module])

    def leave(module: nn.Module, args: object, output: object) -> None:
        settle(counter)
        running.pop()

    handles = []
    for module in owner:
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        with torch.no_grad(), counter:
            run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: counts[name] // 2 for name in parts if counts[name]}  # a multiplication and an addition each
