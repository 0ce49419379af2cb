"""Whether the figures of two curves measure the same thing on the same images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from callbacks.names import BPP
from lightning_modules.reports.figures import figures_of
from lightning_modules.reports.model import Curve, Figure, Point


@dataclass(frozen=True)
class _Basis:
    """What a figure of a point rests on; two figures are comparable where this is equal."""

    images: frozenset[tuple[str, tuple[int, int]]]
    """Names and sizes."""
    rate: str
    """Protocol of the rate, as JSON."""
    protocol: str
    """Protocol of the figure, as JSON."""
    measured_on: frozenset[str]
    """The images that have the figure; none for a figure of a whole dataset, such as FID."""


def incomparable(anchor: Curve, test: Curve, figure: Figure) -> str | None:
    """Why a figure of two curves must not be compared, or `None`.

    Compared are the dataset, the images with their sizes, the protocols of the rate and of the figure, and on which
    of the images the figure could be measured; also within each of the two curves. Published figures come without
    any of this but the dataset: nothing speaks against them, and the curve's notes say that nothing is known.
    """
    if anchor.dataset != test.dataset:
        return f"{anchor.codec} was measured on {anchor.dataset}, {test.codec} on {test.dataset}"
    if reason := mixed(anchor, figure) or mixed(test, figure):
        return reason
    return _difference(_basis_of(anchor, figure), _basis_of(test, figure), figure, anchor.codec, test.codec)


def mixed(curve: Curve, figure: Figure) -> str | None:
    """Why the points of one curve do not have a figure in common, or `None`."""
    points = _points(curve, figure)
    for point in points[1:]:
        labels = (f"{curve.codec} at {points[0].label}", f"{curve.codec} at {point.label}")
        if reason := _difference(_basis(points[0], figure), _basis(point, figure), figure, *labels):
            return reason
    return None


def notes_on(curves: Sequence[Curve]) -> list[tuple[str, ...]]:
    """What a reader must know before setting curves beside the others of their dataset, for each curve.

    Where protocols differ, the one that most curves share is the usual one, and the others get the note.
    """
    notes: list[list[str]] = [[] for _ in curves]
    for figure in figures_of(curves):
        bases: dict[str, list[tuple[int, _Basis]]] = {}
        for i, curve in enumerate(curves):
            if reason := mixed(curve, figure):
                notes[i].append(f"{figure.title}: the points are not comparable with each other: {reason}.")
            elif basis := _basis_of(curve, figure):
                bases.setdefault(curve.dataset, []).append((i, basis))
        for group in bases.values():
            usual = Counter(basis for _, basis in group).most_common(1)[0][0]
            name = next(curves[i].codec for i, basis in group if basis == usual)
            for i, basis in group:
                if reason := _difference(usual, basis, figure, name, curves[i].codec):
                    notes[i].append(f"{figure.title}: not comparable with {name}: {reason}.")
    return [tuple(lines) for lines in notes]


def sizes(point: Point) -> dict[str, tuple[int, int]]:
    """Image name -> width, height in pixels; nothing for a published point."""
    rows = point.record["images"] if point.record is not None else []
    return {row["name"]: (row["width"], row["height"]) for row in rows}


def rules(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol without the results that stand in it: mIoU's has each class's, ConFID's each class's FID beside its
    samples.
    """
    kept = {key: value for key, value in protocol.items() if key != "iou_per_class"}
    if isinstance(classes := kept.get("per_class"), Mapping):
        kept["per_class"] = {
            y: {key: value for key, value in of_class.items() if key != "fid"} for y, of_class in classes.items()
        }
    return kept


def _points(curve: Curve, figure: Figure) -> list[Point]:
    return [point for point in curve.points if point.record is not None and figure.name in point.figures]


def _basis_of(curve: Curve, figure: Figure) -> _Basis | None:
    points = _points(curve, figure)
    return _basis(points[0], figure) if points else None


def _basis(point: Point, figure: Figure) -> _Basis:
    assert point.record is not None
    return _basis_in(_Identical(point.record), figure.name)


class _Identical:
    """A record that equals only itself, so that what was made of it can be kept: it may list 30,000 images."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    def __hash__(self) -> int:
        return id(self.record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identical) and self.record is other.record


@lru_cache(maxsize=4096)
def _basis_in(identical: _Identical, figure: str) -> _Basis:
    record = identical.record
    rows = record["images"]
    return _Basis(
        images=frozenset((row["name"], (row["width"], row["height"])) for row in rows),
        rate=json.dumps(rules(record["protocols"][BPP]), sort_keys=True, ensure_ascii=False),
        protocol=json.dumps(rules(record["protocols"][figure]), sort_keys=True, ensure_ascii=False),
        measured_on=frozenset(row["name"] for row in rows if row.get(figure) is not None),
    )


def _difference(a: _Basis | None, b: _Basis | None, figure: Figure, name_a: str, name_b: str) -> str | None:
    if a is None or b is None or a == b:
        return None
    if a.images != b.images:
        return f"{name_a} and {name_b} were measured on different images"
    for what, one, other in (("the rate", a.rate, b.rate), (figure.title, a.protocol, b.protocol)):
        if one != other:
            return f"the protocols of {what} of {name_a} and {name_b} differ: {_differing(one, other)}"
    return f"{figure.title} of {name_a} and {name_b} could not be measured on the same images"


def _differing(one: str, other: str) -> str:
    a, b = json.loads(one), json.loads(other)
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    return "; ".join(f"{key} is {a.get(key)!r} and {b.get(key)!r}" for key in keys)
