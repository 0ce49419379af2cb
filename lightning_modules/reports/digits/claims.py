"""The paper's claims as checks with numbers."""

from __future__ import annotations

from collections.abc import Sequence

from callbacks.names import ACCURACY, BITS, CONFID, MSE
from lightning_modules.reports.digits.differences import Differences
from lightning_modules.reports.digits.measures import of_base
from lightning_modules.reports.digits.models import BASELINE, PROPOSED_1, PROPOSED_2, YAN, DatasetModels, Model
from lightning_modules.reports.digits.section import Section
from lightning_modules.reports.digits.swapped import swapped_accuracy
from lightning_modules.reports.digits.tradeoff import deviations
from lightning_modules.reports.model import Figure
from lightning_modules.reports.table import Cell, Column, Missing, Table

MAX_RATIO = 2.1
"""Of the MSE of g2 to that of g1; Theorem 2.5 has 2 for perfect decoders."""
MIN_ACCURACY = 95.0
"""Of g2 at the lowest rate, in percent; Table 3 has 97.54."""
MAX_DEVIATION = 3.0
"""Of the MSE of an interpolation from the predicted one, in percent."""
MAX_GAP = 1.0
"""Of the stream above the cross-entropy, in percent."""

Row = tuple[Cell, ...]


def claims_section(models: DatasetModels, figures: Sequence[Figure], differences: Differences) -> Section:
    """One row per claim: what was measured, and whether it holds."""
    rows = [
        *(_order(differences, figure) for figure in of_base(figures, CONFID)),
        *(_ratio(model) for model in (*models.unlabelled, *models.labelled)),
        *_accuracy(models),
        *(row for model in models.labelled if (row := _deviation(model)) is not None),
        *(row for model in models.labelled if (row := _swapped(model)) is not None),
        _gap(models),
    ]
    columns = (Column("claim", numeric=False), Column("measured", numeric=False), Column("verdict", numeric=False))
    return Section("Checks", tables=(Table("checks", "The paper's claims.", columns, tuple(rows)),))


def _row(claim: str, measured: str, holds: bool) -> Row:
    return claim, measured, "holds" if holds else "does not hold"


def _order(differences: Differences, figure: Figure) -> Row:
    claim = f"BD-{figure.title}: proposed g2 < Yan et al. < 0 < proposed g1"
    values = [differences.value(method, figure) for method in (PROPOSED_2, YAN, BASELINE, PROPOSED_1)]
    numbers = [value for value in values if not isinstance(value, Missing)]
    if len(numbers) < len(values):
        return claim, "", next(value for value in values if isinstance(value, Missing))
    g2, yan, _, g1 = numbers
    return _row(claim, f"{_n(g2)}, {_n(yan)}, 0, {_n(g1)}", g2 < yan < 0 < g1)


def _ratio(model: Model) -> Row:
    claim = f"MSE of g2 ≤ {MAX_RATIO} x MSE of g1, {model}"
    values = [_value(model, decoder, MSE) for decoder in ("g1", "g2")]
    numbers = [value for value in values if not isinstance(value, Missing)]
    if len(numbers) < len(values):
        return claim, "", next(value for value in values if isinstance(value, Missing))
    ratio = numbers[1] / numbers[0]
    return _row(claim, f"{numbers[1]:.4f} / {numbers[0]:.4f} = {ratio:.3f}", ratio <= MAX_RATIO)


def _accuracy(models: DatasetModels) -> list[Row]:
    claims = (
        f"accuracy of proposed g2 at its lowest rate > {MIN_ACCURACY:g} %",
        "accuracy of proposed g2 > that of Yan et al., both at their lowest rate",
    )
    values = [_lowest(models, labelled) for labelled in (True, False)]
    rows: list[Row] = []
    ours, theirs = values
    if isinstance(ours, Missing):
        return [(claim, "", ours) for claim in claims]
    rows.append(_row(claims[0], f"{ours:.2f} %", ours > MIN_ACCURACY))
    if isinstance(theirs, Missing):
        return [*rows, (claims[1], f"{ours:.2f} %", theirs)]
    return [*rows, _row(claims[1], f"{ours:.2f} %, {theirs:.2f} %", ours > theirs)]


def _lowest(models: DatasetModels, labelled: bool) -> float | Missing:
    method = PROPOSED_2 if labelled else YAN
    results = models.of(method)
    if not results:
        return Missing(f"no records of {method.name}")
    value = results[0].value(ACCURACY)
    return Missing(results[0].why_missing(ACCURACY)) if value is None else value


def _deviation(model: Model) -> Row | None:
    found = deviations(model)
    if not found:
        return None
    worst = max(found, key=lambda a: abs(found[a]))
    claim = f"MSE(a) within {MAX_DEVIATION:g} % of MSE_1 + a² (MSE_2 - MSE_1), {model}"
    weights = ", ".join(f"{a:g}" for a in found)
    measured = f"{_n(found[worst])} % at a = {worst:g}, the furthest of {weights}"
    return _row(claim, measured, abs(found[worst]) <= MAX_DEVIATION)


def _swapped(model: Model) -> Row | None:
    found = swapped_accuracy(model)
    if not found:
        return None
    mean = sum(found.values()) / len(found)
    claim = f"another label gives the other digit in most cases, {model}"
    return _row(claim, f"{mean:.2f} % on average over {len(found)} labels", mean > 50)


def _gap(models: DatasetModels) -> Row:
    claim = f"the stream takes at most {MAX_GAP:g} % more than the cross-entropy"
    results = [m.first for m in (*models.unlabelled, *models.labelled, *models.joint)]
    gaps = [100 * (bits / r.rate - 1) for r in results if (bits := r.value(BITS)) is not None]
    if not gaps:
        return claim, "", Missing("no record has the size of its stream")
    return _row(claim, f"{_n(max(gaps))} % at most, over {len(gaps)} models", max(gaps) <= MAX_GAP)


def _value(model: Model, decoder: str, figure: str) -> float | Missing:
    result = model.series.get(decoder)
    if result is None:
        return Missing(f"no record of {decoder} of {model}")
    value = result.value(figure)
    return Missing(result.why_missing(figure)) if value is None else value


def _n(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
