"""The paper's claims as checks with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from callbacks.names import ACCURACY, BITS, CONFID
from lightning_modules.reports.checks import Row, checks_section, in_words, mse_ratio_check, verdict
from lightning_modules.reports.comparable import incomparable
from lightning_modules.reports.differences import Differences
from lightning_modules.reports.digits.measures import PRINTED
from lightning_modules.reports.digits.models import BASELINE, PROPOSED_1, PROPOSED_2, YAN, DatasetModels, Model
from lightning_modules.reports.digits.swapped import swapped_accuracy
from lightning_modules.reports.interpolation import deviation_check
from lightning_modules.reports.model import Figure
from lightning_modules.reports.section import Section
from lightning_modules.reports.table import Missing

MAX_RATIO = 2.1
"""Of the MSE of g2 to that of g1; Theorem 2.5 has 2 for perfect decoders."""
MIN_ACCURACY = 95.0
"""Of g2 at the lowest rate, in percent; Table 3 has 97.54."""
MAX_GAP = 1.0
"""Of the stream above the cross-entropy, in percent."""


def claims_section(models: DatasetModels, figures: Sequence[Figure], differences: Differences) -> Section:
    """One row per claim: what was measured, and whether it holds."""
    rows = [
        *(_order(differences, figure) for figure in PRINTED.of_base(figures, CONFID)),
        *(mse_ratio_check(model.series, MAX_RATIO, model) for model in (*models.unlabelled, *models.labelled)),
        *_accuracy(models, figures),
        *(row for model in models.labelled if (row := deviation_check(model.series, model)) is not None),
        *(row for model in models.labelled if (row := _swapped(model)) is not None),
        _gap(models),
    ]
    return checks_section(rows)


def _order(differences: Differences, figure: Figure) -> Row:
    claim = f"BD-{figure.title}: proposed g2 < Yan et al. < 0 < proposed g1"
    values = [differences.value(method.name, figure) for method in (PROPOSED_2, YAN, BASELINE, PROPOSED_1)]
    numbers = [value for value in values if not isinstance(value, Missing)]
    if len(numbers) < len(values):
        return claim, "", next(value for value in values if isinstance(value, Missing))
    g2, yan, _, g1 = numbers
    return verdict(claim, f"{in_words(g2)}, {in_words(yan)}, 0, {in_words(g1)}", g2 < yan < 0 < g1)


def _accuracy(models: DatasetModels, figures: Sequence[Figure]) -> list[Row]:
    claims = (
        f"accuracy of proposed g2 at its lowest rate > {MIN_ACCURACY:g} %",
        "accuracy of proposed g2 > that of Yan et al., both at their lowest rate",
    )
    values = [_lowest(models, labelled) for labelled in (True, False)]
    rows: list[Row] = []
    ours, theirs = values
    if isinstance(ours, Missing):
        return [(claim, "", ours) for claim in claims]
    rows.append(verdict(claims[0], f"{ours:.2f} %", ours > MIN_ACCURACY))
    if isinstance(theirs, Missing):
        return [*rows, (claims[1], f"{ours:.2f} %", theirs)]
    (accuracy,) = PRINTED.of_base(figures, ACCURACY)
    # Only their points of the lowest rate are compared: whatever was measured otherwise at other rates is no matter.
    g2, yan = (replace(curve, points=curve.points[:1]) for curve in map(models.curve, (PROPOSED_2, YAN)))
    if differs := incomparable(g2, yan, accuracy):
        return [*rows, (claims[1], "", Missing(differs))]
    return [*rows, verdict(claims[1], f"{ours:.2f} %, {theirs:.2f} %", ours > theirs)]


def _lowest(models: DatasetModels, labelled: bool) -> float | Missing:
    method = PROPOSED_2 if labelled else YAN
    results = models.of(method)
    if not results:
        return Missing(f"no records of {method.name}")
    value = results[0].value(ACCURACY)
    return Missing(results[0].why_missing(ACCURACY)) if value is None else value


def _swapped(model: Model) -> Row | None:
    found = swapped_accuracy(model)
    if not found:
        return None
    mean = sum(found.values()) / len(found)
    claim = f"another label gives the other digit in most cases, {model}"
    return verdict(claim, f"{mean:.2f} % on average over {len(found)} labels", mean > 50)


def _gap(models: DatasetModels) -> Row:
    claim = f"the stream takes at most {MAX_GAP:g} % more than the cross-entropy"
    results = [m.first for m in (*models.unlabelled, *models.labelled, *models.joint)]
    gaps = [100 * (bits / r.rate - 1) for r in results if (bits := r.value(BITS)) is not None]
    if not gaps:
        return claim, "", Missing("no record has the size of its stream")
    return verdict(claim, f"{in_words(max(gaps))} % at most, over {len(gaps)} models", max(gaps) <= MAX_GAP)
