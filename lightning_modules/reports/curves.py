"""From points to curves: what belongs together, under which name, and what must not be mixed."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from callbacks.record import place_and_variant
from lightning_modules.reports.comparable import notes_on, sizes
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.figures import figures_of, is_cost
from lightning_modules.reports.model import Curve, Point
from lightning_modules.reports.records import find_records, read_points

__all__ = ["build_curves", "figures_of", "load_curves"]

OF_KIND = {"compressai": "published", "printed": "printed"}
"""What is added to the name of a curve that has the name of a measured one."""


class Placed(NamedTuple):
    """A point, and the argument it was found under."""

    point: Point
    origin: str


def load_curves(paths: Sequence[Path], dataset: str | None = None) -> list[Curve]:
    """Find, read and group result files.

    Args:
        paths: Result files, and folders of them.
        dataset: What CompressAI's files were measured on; see `read_points`.

    Raises:
        ReportError: See `search`, `read_points` and `build_curves`.
    """
    points: dict[str, list[Point]] = {}
    seen: set[Path] = set()
    for path in paths:
        for file in find_records([path]):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                points.setdefault(str(path), []).extend(read_points(file, dataset))
    return build_curves(points)


def build_curves(points: Mapping[str, Iterable[Point]]) -> list[Curve]:
    """Group points into curves of one codec on one dataset, by rising rate.

    Records of one codec make one curve per dataset. λ places a point on its curve, or else the first item of
    `setting`; where it is another item (a quality, a target rate) or the others differ (4:2:0 and 4:4:4), they are
    different codecs and get different names. The same record twice counts once. Two runs of the same setting with
    other weights or figures cannot share a curve: then each argument makes curves of its own, named after it (without
    the folders that all of them begin with). Each of CompressAI's files is a curve of its own; where names clash, the
    file's name is added.

    Args:
        points: Origin, as the user gave it (a file or a folder) -> points that were found there.

    Returns:
        Curves by dataset, measured ones first; within a dataset no two have the same name, not even in another
        case.

    Raises:
        ReportError: Two runs of the same setting under one argument, or records of one codec and dataset whose
            images differ.
    """
    placed = [Placed(point, origin) for origin, group in points.items() for point in group]
    curves = _measured([item for item in placed if item.point.kind == "measured"])
    curves += _published([item.point for item in placed if item.point.kind != "measured"])
    kinds = ("measured", "compressai", "printed")
    curves = _distinct(sorted(curves, key=lambda c: (c.dataset, kinds.index(c.kind), c.codec.casefold(), c.codec)))
    return [replace(curve, notes=curve.notes + notes) for curve, notes in zip(curves, notes_on(curves), strict=True)]


def _measured(placed: Sequence[Placed]) -> list[Curve]:
    codecs: dict[str, dict[str, list[Placed]]] = defaultdict(dict)
    for item in placed:
        variant = repr(sorted(_variant(item.point).items()))
        codecs[item.point.codec].setdefault(variant, []).append(item)
    curves = []
    for codec, variants in codecs.items():
        told_apart = _names([_variant(items[0].point) for items in variants.values()])
        for suffix, items in zip(told_apart, variants.values(), strict=True):
            name = f"{codec} ({suffix})" if suffix else codec
            kept = _without_copies(items)
            if _clash(kept) is None:
                groups = {name: kept}
            else:
                groups = {}
                short = _short([item.origin for item in kept])
                for item in kept:
                    groups.setdefault(f"{name} [{short[item.origin]}]", []).append(item)
            for group_name, group in groups.items():
                curves += _by_dataset(group_name, group)
    return curves


def _short(origins: Sequence[str]) -> dict[str, str]:
    """Origins without the folders that all of them begin with."""
    try:
        common = os.path.commonpath([Path(origin).parent for origin in origins])
    except ValueError:  # absolute and relative paths have nothing in common
        return {origin: origin for origin in origins}
    return {origin: str(Path(origin).relative_to(common)) for origin in origins}


def _by_dataset(name: str, items: Sequence[Placed]) -> list[Curve]:
    if clash := _clash(items):
        one, other = clash
        raise ReportError(
            f"{other.source} and {one.source} are both {one.codec} at {one.label} on {one.dataset}, but of other "
            "weights or with other figures. Leave one out, or give each run's folder as an argument of its own: "
            "they become curves of their own."
        )
    datasets: dict[str, list[Point]] = defaultdict(list)
    for item in items:
        datasets[item.point.dataset].append(item.point)
    curves = []
    for dataset, points in datasets.items():
        for point in points[1:]:
            if sizes(point) != sizes(points[0]):
                raise ReportError(_other_images(points[0], point))
        ordered = sorted(points, key=lambda point: point.bpp)
        points_ = tuple(replace(point, codec=name) for point in ordered)
        curves.append(Curve(name, dataset, "measured", points_, _missing(ordered)))
    return curves


def _without_copies(items: Sequence[Placed]) -> list[Placed]:
    kept: dict[str, Placed] = {}
    for item in items:
        record = item.point.record
        assert record is not None
        mean = {figure: value for figure, value in record["mean"].items() if not is_cost(figure) or figure == "bpp"}
        key = (item.point.dataset, _setting(item.point), record["weights"], sorted(mean.items()), sizes(item.point))
        kept.setdefault(repr(key), item)
    return list(kept.values())


def _clash(items: Sequence[Placed]) -> tuple[Point, Point] | None:
    """Two points that would have the same place on one curve."""
    seen: dict[tuple[str, str], Point] = {}
    for point, _ in items:
        place = (point.dataset, _setting(point))
        if place in seen:
            return seen[place], point
        seen[place] = point
    return None


def _setting(point: Point) -> str:
    assert point.record is not None
    return repr((point.record["lambda"], point.record.get("setting")))


def _variant(point: Point) -> dict[str, Any]:
    """What of a setting names a variant of a codec: all but the value that places the point."""
    assert point.record is not None
    (name, _), variant = place_and_variant(point.record)
    # One quality for all images and one rate for all images are two ways to a point: not one curve.
    return {"by": name, **variant}


def _names(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each variant from the others, in words; nothing where there is only one."""
    keys = dict.fromkeys(key for variant in variants for key in variant)
    telling = [key for key in keys if len({repr(variant.get(key)) for variant in variants}) > 1]
    return [", ".join(_item(key, variant[key]) for key in telling if key in variant) for variant in variants]


def _item(key: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{key} {value}"


def _other_images(one: Point, other: Point) -> str:
    first, second = sizes(one), sizes(other)
    example = next(iter(sorted(set(first.items()) ^ set(second.items()))))
    return (
        f"{one.source} ({len(first)} images) and {other.source} ({len(second)} images) are both of {one.codec} on "
        f"{one.dataset}, but not on the same images (one of them: {example[0]}, {example[1][0]}x{example[1][1]}). "
        "Test both on the same images, or report them apart."
    )


def _published(points: Iterable[Point]) -> list[Curve]:
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in points:
        # One of CompressAI's files is a whole curve; a publication's points may come from several of its tables.
        source = point.source if point.kind == "compressai" else ""
        groups[point.kind, point.codec, point.dataset, source].append(point)
    curves = []
    for group in groups.values():
        ordered = tuple(sorted(group, key=lambda point: point.bpp))
        sources = dict.fromkeys(f"{p.source}: {p.remark}" if p.remark else p.source for p in group)
        note = f"Published figures ({'; '.join(sources)}); how they were computed is not recorded."
        curves.append(Curve(group[0].codec, group[0].dataset, group[0].kind, ordered, (note, *_missing(ordered))))
    return curves


def _missing(points: Sequence[Point]) -> tuple[str, ...]:
    """What is not available, and at which points."""
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for point in points:
        for figure, reason in point.missing.items():
            labels[figure, reason].append(point.label)
    return tuple(
        f"{figure}, {'every point' if len(where) == len(points) else ', '.join(where)}: {reason.rstrip('.')}."
        for (figure, reason), where in labels.items()
    )


def _distinct(curves: Sequence[Curve]) -> list[Curve]:
    """The same curves under names that differ, ignoring case, within each dataset."""
    named: list[Curve] = []
    for curve in curves:
        others = [c for c in curves if c is not curve and c.dataset == curve.dataset and _same(c.codec, curve.codec)]
        name = curve.codec
        if curve.kind != "measured" and others:
            alike = [c for c in others if c.kind == curve.kind]
            name += f" [{Path(curve.points[0].source).stem}]" if alike else f" ({OF_KIND[curve.kind]})"
        taken = [c.codec for c in named if c.dataset == curve.dataset]
        if any(_same(name, other) for other in taken):
            name = f"{curve.codec} [{curve.points[0].source}]"
        named.append(replace(curve, codec=name, points=tuple(replace(p, codec=name) for p in curve.points)))
    return named


def _same(a: str, b: str) -> bool:
    return a.casefold() == b.casefold()
