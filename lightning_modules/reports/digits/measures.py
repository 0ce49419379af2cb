"""The figures that the digits report shows, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterable

from callbacks.names import ACCURACY, CONFID, CONFID_FLOOR, FID, MSE
from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.model import Figure
from lightning_modules.reports.printed_figures import PrintedFigure, PrintedFigures

PRINTED = PrintedFigures(
    [
        PrintedFigure(MSE, "MSE", "", False, 4, 4),
        PrintedFigure(CONFID, "ConFID", "", False, 2, 2),
        PrintedFigure(FID, "FID", "", False, 2, 2),
        PrintedFigure(ACCURACY, "accuracy", "%", True, 2, 2),
    ]
)
"""Of Tables 1 and 3, in the order of Table 1."""
TO_OUR_UNIT = {MSE: 1.0, CONFID: 1.0, FID: 1.0, ACCURACY: 100.0}
"""Factors of Table 3, which prints accuracy as a share."""

_MSE = Figure(MSE, "MSE", "", False)
_ACCURACY = Figure(ACCURACY, "accuracy", "%", True)


def figures_of(results: Iterable[Result]) -> list[Figure]:
    """MSE, ConFID, FID, accuracy in the order of Table 1; ConFID and FID once for each extractor in the records."""
    results = list(results)
    known = {name for result in results for name in (*result.point.figures, *result.point.missing)}
    figures = [_MSE]
    for base, title in ((CONFID, "ConFID"), (FID, "FID")):
        figures += [
            Figure(name, f"{title} ({name.removeprefix(base).lstrip('_') or 'Inception'} features)", "", False)
            for name in sorted(known)
            if (name == base or name.startswith(f"{base}_")) and not _beside(name)
        ]
    return [*figures, _ACCURACY]


def notes_on(results: Iterable[Result], figures: Iterable[Figure]) -> tuple[str, ...]:
    """The floor of ConFID, its number of images, and the ceiling of accuracy."""
    results, notes = list(results), []
    for figure in PRINTED.of_base(figures, CONFID):
        floor = CONFID_FLOOR + figure.name.removeprefix(CONFID)
        values = [value for result in results if (value := result.value(floor)) is not None]
        if values:
            notes.append(
                f"{figure.title} between random halves of the originals of each class, at half the images, is "
                f"{_range(values, 2)}: that much is bias."
            )
        samples = {
            counted
            for result in results
            if figure.name in result.point.figures and result.point.record is not None
            for counted in [result.point.record["protocols"][figure.name].get("samples")]
            if counted is not None
        }
        if samples:
            notes.append(f"{figure.title} is over {_range(sorted(samples), 0)} images of all classes.")
    ceilings = [value for result in results if (value := result.value(f"{ACCURACY}_original")) is not None]
    if ceilings:
        notes.append(f"The classifier is right on {_range(ceilings, 2)} % of the originals.")
    return tuple(notes)


def _beside(name: str) -> bool:
    # The floor stands in the notes; FID over patches is for large pictures.
    return name.startswith((CONFID_FLOOR, f"{FID}_patch"))


def _range(values: list[float] | list[int], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"
