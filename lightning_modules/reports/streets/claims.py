"""The paper's claims, and what files promise, as checks with numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from callbacks.names import BPP, BPP_LIKELIHOOD, MIOU
from lightning_modules.reports.checks import Row, checks_section, mse_ratio_check, verdict
from lightning_modules.reports.comparable import incomparable
from lightning_modules.reports.interpolation import deviation_check
from lightning_modules.reports.section import Section
from lightning_modules.reports.streets.measures import PRINTED, figures_of
from lightning_modules.reports.streets.models import HIFIC, PROPOSED_2, YAN, DatasetModels, Method, Model
from lightning_modules.reports.table import Missing

MAX_RATIO = 2.2
"""Of the MSE of g2 to that of g1; Theorem 2.5 has 2 for perfect decoders."""
MAX_SHARE, MAX_BYTES = 0.01, 32
"""How far a file may be from the likelihoods of what it holds: a share of these, and bytes."""


def claims_section(models: DatasetModels) -> Section:
    """One row per claim: what was measured, and whether it holds."""
    others = [method for method in (YAN, HIFIC) if method is YAN or models.of(method)]
    return checks_section(
        [
            *(row for other in others for row in _segmentation(models, other)),
            *(
                mse_ratio_check(model.series, MAX_RATIO, model)
                for model in models.all
                if model.first.critic is not None
            ),
            *(row for model in models.all if (row := deviation_check(model.series, model)) is not None),
            _file_sizes(models.all),
        ]
    )


class Curve(NamedTuple):
    """mIoU of a method by rising rate."""

    method: Method
    rates: list[float]
    values: list[float]

    def at(self, rate: float) -> tuple[float, str]:
        """mIoU at a rate within the curve, and in words between which measured rates it lies.

        Interpolation is linear over the logarithm of the rate, the axis of Bjøntegaard differences.
        """
        if rate in self.rates:
            return self.values[self.rates.index(rate)], "measured"
        above = next(i for i, measured in enumerate(self.rates) if measured > rate)
        value = float(np.interp(math.log(rate), np.log(self.rates), self.values))
        return value, f"between {self.rates[above - 1]:.4f} and {self.rates[above]:.4f} bpp"


def _segmentation(models: DatasetModels, other: Method) -> list[Row]:
    """Whether the label map keeps the layout: mIoU at every rate of one method that the other reaches, too."""
    claim = f"mIoU of {PROPOSED_2.name} > that of {other.name} at the same rate"
    curves: list[Curve] = []
    for method in (PROPOSED_2, other):
        results = models.of(method)
        with_value = [(r.rate, value) for r in results if (value := r.value(MIOU)) is not None]
        if not with_value:
            reason = results[0].why_missing(MIOU) if results else f"no records of {method.name}"
            return [(claim, "", Missing(reason))]
        curves.append(Curve(method, [rate for rate, _ in with_value], [value for _, value in with_value]))
    (miou,) = PRINTED.of_base(figures_of(models.results), MIOU)
    if differs := incomparable(models.curve(PROPOSED_2), models.curve(other), miou):
        return [(claim, "", Missing(differs))]
    low, high = max(curve.rates[0] for curve in curves), min(curve.rates[-1] for curve in curves)
    common = sorted({rate for curve in curves for rate in curve.rates if low <= rate <= high})
    if not common:
        ranges = " and ".join(f"{c.method.name} {c.rates[0]:.4f} to {c.rates[-1]:.4f}" for c in curves)
        return [(claim, "", Missing(f"no rate lies within both curves, {ranges} bpp"))]
    rows = []
    for rate in common:
        (ours, how), (theirs, their_how) = (curve.at(rate) for curve in curves)
        measured = f"{ours:.2f} % ({how}), {theirs:.2f} % ({their_how})"
        rows.append(verdict(f"{claim}, {rate:.4f} bpp", measured, ours > theirs))
    return rows


class FileSize(NamedTuple):
    """A file beside the likelihoods of what it holds."""

    image: str
    model: Model
    off: float
    """Bytes between the two."""
    allowed: float


def _file_sizes(models: Sequence[Model]) -> Row:
    """Whether the files are as large as their likelihoods, for every image; decoders of a model share the files."""
    claim = f"file bpp within {100 * MAX_SHARE:g} % + {MAX_BYTES} bytes of likelihood bpp, every image"
    sizes = []
    for model in models:
        for row in model.first.rows:
            pixels = row["width"] * row["height"]
            if row.get(BPP_LIKELIHOOD) is None:
                return claim, "", Missing(f"{row['name']} of {model.first.place} has no {BPP_LIKELIHOOD}")
            likely = float(row[BPP_LIKELIHOOD]) * pixels / 8
            off = abs(float(row[BPP]) * pixels / 8 - likely)
            sizes.append(FileSize(row["name"], model, off, MAX_SHARE * likely + MAX_BYTES))
    if not sizes:
        return claim, "", Missing("no records")
    worst = max(sizes, key=lambda size: size.off / size.allowed)
    beyond = sum(size.off > size.allowed for size in sizes)
    measured = (
        f"at worst {worst.off:.1f} of {worst.allowed:.1f} bytes ({worst.image}, {worst.model}); {beyond} of "
        f"{len(sizes)} files beyond"
    )
    return verdict(claim, measured, beyond == 0)
