"""The figures that the report of street scenes compares, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterable

from callbacks.names import FID, MIOU, MIOU_ORIGINAL, MSE
from lightning_modules.reports.figures import title_of
from lightning_modules.reports.model import Figure
from lightning_modules.reports.printed_figures import PrintedFigure, PrintedFigures
from lightning_modules.reports.streets.results import Result

MSE_DIGITS = 5
TITLES = {MSE: "MSE", FID: "FID", MIOU: "mIoU"}
PRINTED = PrintedFigures(
    [
        PrintedFigure(MSE, TITLES[MSE], "", False, MSE_DIGITS, 4),
        PrintedFigure(FID, TITLES[FID], "", False, 2, 2),
        PrintedFigure(MIOU, TITLES[MIOU], "%", True, 2, 2),
    ]
)
"""Of Table 2, in its order."""


def figures_of(results: Iterable[Result]) -> list[Figure]:
    """MSE, FID under every name that it has in the records, and mIoU."""
    known = {name for result in results for name in (*result.point.figures, *result.point.missing)}
    fids = sorted(name for name in known if name == FID or name.startswith(f"{FID}_"))
    return [
        Figure(MSE, TITLES[MSE], "", False),
        *(Figure(name, _fid_title(name), "", False) for name in fids),
        Figure(MIOU, TITLES[MIOU], "%", True),
    ]


def notes_on(results: Iterable[Result], figures: Iterable[Figure]) -> tuple[str, ...]:
    """What FID is over, and which network sees how much of the originals."""
    results, notes = list(results), []
    for figure in PRINTED.of_base(figures, FID):
        samples = _protocols(results, figure.name, "samples")
        if samples:
            counts = " or ".join(map(str, samples))
            notes.append(f"{figure.title} is over {counts} samples, and biased by their number.")
    segmenters = _protocols(results, MIOU, "segmenter")
    ceilings = [value for result in results if (value := result.value(MIOU_ORIGINAL)) is not None]
    if segmenters:
        notes.append(f"mIoU is of one confusion matrix over the test set, by {' or '.join(map(str, segmenters))}.")
    if ceilings:
        low, high = f"{min(ceilings):.2f}", f"{max(ceilings):.2f}"
        notes.append(f"On the originals it is {low if low == high else f'{low} to {high}'} %.")
    return tuple(notes)


def _protocols(results: Iterable[Result], figure: str, key: str) -> list[object]:
    """What the protocols of a figure say under a key, each once."""
    records = [result.point.record for result in results if figure in result.point.figures]
    found = [record["protocols"][figure].get(key) for record in records if record is not None]
    return list(dict.fromkeys(value for value in found if value is not None))


def _fid_title(name: str) -> str:
    title = title_of(name)
    return title if "(" in title else f"{title} (Inception features)"
