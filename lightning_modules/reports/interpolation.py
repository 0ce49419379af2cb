"""Pictures between two decoders of one bitstream, (1 - a) g1 + a g2: their MSE, and the one that theory has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from callbacks.names import MSE
from lightning_modules.reports.checks import Row, in_words, verdict
from lightning_modules.reports.decoder_result import DecoderResult
from lightning_modules.reports.table import Cell, Missing

PREFIX = "realism_"
MAX_DEVIATION = 3.0
"""Of the MSE of an interpolation from the predicted one, in percent."""

R = TypeVar("R", bound=DecoderResult)


def interpolation(series: Mapping[str, R]) -> dict[float, R]:
    """The results of g1, g2 and what lies between them, by the weight a of g2.

    Args:
        series: A model's results by decoder.
    """
    results = {result.realism: result for name, result in series.items() if name.startswith(PREFIX)}
    # A dial at 0 or 1 is g1 or g2 itself.
    return results | {a: series[name] for a, name in ((0.0, "g1"), (1.0, "g2")) if name in series}


def predicted_mse(a: float, mse_1: float, mse_2: float) -> float:
    """MSE of (1 - a) g1 + a g2 where g1 is the mean of the images of a code: MSE_1 + a^2 (MSE_2 - MSE_1)."""
    return mse_1 + a * a * (mse_2 - mse_1)


def deviations(series: Mapping[str, DecoderResult]) -> dict[float, float]:
    """By how many percent the measured MSE is above the predicted one, by a, without the two ends."""
    results = interpolation(series)
    ends = [results[a].value(MSE) if a in results else None for a in (0.0, 1.0)]
    if ends[0] is None or ends[1] is None:
        return {}
    found = {a: result.value(MSE) for a, result in results.items() if 0 < a < 1}
    return {
        a: 100 * (mse / predicted_mse(a, ends[0], ends[1]) - 1) for a, mse in sorted(found.items()) if mse is not None
    }


def prediction(a: float, ends: Sequence[Cell], mse: Cell) -> list[Cell]:
    """Two cells: the predicted MSE, and by how many percent the measured one is above it.

    Args:
        a: Weight of g2.
        ends: MSE of g1 and of g2, or why one is missing.
        mse: The measured one.
    """
    missing = next((end for end in ends if isinstance(end, Missing)), None)
    if missing is not None:
        return [missing, missing]
    predicted = predicted_mse(a, *(float(end) for end in ends if not isinstance(end, Missing)))
    return [predicted, mse if isinstance(mse, Missing) else 100 * (float(mse) / predicted - 1)]


def deviation_check(series: Mapping[str, DecoderResult], model: object) -> Row | None:
    """Whether a model's interpolations keep to the prediction; `None` where it has none."""
    found = deviations(series)
    if not found:
        return None
    worst = max(found, key=lambda a: abs(found[a]))
    claim = f"MSE(a) within {MAX_DEVIATION:g} % of MSE_1 + a² (MSE_2 - MSE_1), {model}"
    weights = ", ".join(f"{a:g}" for a in found)
    measured = f"{in_words(found[worst])} % at a = {worst:g}, the furthest of {weights}"
    return verdict(claim, measured, abs(found[worst]) <= MAX_DEVIATION)
