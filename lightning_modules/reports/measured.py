"""Our own result record as a point: everything checked before anything is believed."""

import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from callbacks.names import BPP
from callbacks.portable_paths import expand
from callbacks.record import SCHEMA, setting_in_words
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Picture, Point

NOT_FINITE = {"NaN", "Infinity", "-Infinity"}
TOLERANCE = 1e-6
"""Relative difference allowed between the mean rate and the rows' rates."""


def measured_point(path: Path, record: Mapping[str, Any]) -> Point:
    """The point of a result record (`callbacks.ResultRecord`).

    Means that are not finite, and figures that are not available, are left out of `figures` and named in `missing`.

    Args:
        path: Where the record was read; its pictures are found from there.
        record: Its content.

    Raises:
        ReportError: A key is missing or of a wrong type, the schema is another one, there are no images, an image
            occurs twice, the rate is missing or is not what the rows say.
    """
    schema = _get(path, record, "schema", int)
    if schema != SCHEMA:
        raise ReportError(f"{path} has schema {schema}; this version reads {SCHEMA}. Test again to replace it.")
    codec, dataset = _get(path, record, "codec", str), _get(path, record, "dataset", str)
    _get(path, record, "lambda", Real, type(None))
    _get(path, record, "weights", str, type(None))
    _get(path, record, "protocols", dict)
    setting = _get(path, record, "setting", dict, type(None)) if "setting" in record else None
    for part in ("parameters", "kmacs_per_pixel"):
        counts = _get(path, record, part, dict, type(None)) if part in record else None
        for name, count in (counts or {}).items():
            if not 0 <= as_number(path, f"{part}.{name}", count) < math.inf:
                raise ReportError(f"{path}: {part}.{name} is {count!r}; it should be a count")
    mean = {
        figure: as_number(path, f"mean.{figure}", value) for figure, value in _get(path, record, "mean", dict).items()
    }
    reasons = _get(path, record, "not_available", dict)
    for figure in {**mean, **reasons}:
        _check_protocol(path, record, figure)
    if BPP not in mean:
        raise ReportError(f"{path} has no mean 'bpp'; test again with callbacks.Bpp among trainer.callbacks")
    if "decoder" in record:
        _check_decoder(path, record)
    pictures = _pictures(path, record)
    rate = math.fsum(picture.figures[BPP] for picture in pictures) / len(pictures)
    if not math.isclose(mean[BPP], rate, rel_tol=TOLERANCE):
        raise ReportError(
            f"{path}: mean.bpp is {mean[BPP]} but its {len(pictures)} images have {rate:.6g} on average; the record "
            "was changed or is damaged. Test again to replace it."
        )
    missing = {figure: f"the mean is {value}" for figure, value in mean.items() if not math.isfinite(value)}
    return Point(
        codec=codec,
        dataset=dataset,
        label=setting_in_words(record) if setting or record["lambda"] is not None else "one setting",
        bpp=mean[BPP],
        figures=finite(mean),
        source=str(path),
        pictures=pictures,
        record=record,
        missing={**missing, **{figure: str(reason) for figure, reason in reasons.items()}},
    )


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The finite ones."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def as_number(path: Path, what: str, value: Any) -> float:
    """A number, or one of the strings that stand for infinite and undefined ones.

    Raises:
        ReportError: It is neither.
    """
    # Before isinstance, which is slow with Real: records have some hundred thousand numbers.
    if type(value) in (float, int):
        return float(value)
    if isinstance(value, str) and value in NOT_FINITE:
        return float(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise ReportError(f"{path}: {what} is {value!r}; it should be a number")


def _get(path: Path, holder: Mapping[str, Any], key: str, *kinds: type, where: str = "the record") -> Any:
    if key not in holder:
        raise ReportError(f"{path}: {where} has no {key!r}; it is damaged or of another program")
    value = holder[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if kind is type(None) else kind.__name__.lower() for kind in kinds)
        raise ReportError(f"{path}: {key!r} of {where} is {value!r:.80}; it should be {names}")
    if value == "":
        raise ReportError(f"{path}: {key!r} of {where} is empty")
    return value


def _check_protocol(path: Path, record: Mapping[str, Any], figure: str) -> None:
    protocol = _get(path, record["protocols"], figure, dict, where="'protocols'")
    where = f"the protocol of {figure}"
    if protocol.get("unit") != "":
        _get(path, protocol, "unit", str, where=where)
    _get(path, protocol, "higher_is_better", bool, type(None), where=where)


def _check_decoder(path: Path, record: Mapping[str, Any]) -> None:
    decoder = _get(path, record, "decoder", dict)
    name = _get(path, decoder, "name", str, where="'decoder'")
    as_number(path, "decoder.realism", _get(path, decoder, "realism", Real, where="'decoder'"))
    # Curves are told apart by their settings: without this the points of all decoders would make one.
    if (record.get("setting") or {}).get("decoder") != name:
        raise ReportError(f"{path}: 'decoder' is {name!r}, but 'setting' says otherwise; test again to replace it")


def _pictures(path: Path, record: Mapping[str, Any]) -> tuple[Picture, ...]:
    rows = _get(path, record, "images", list)
    if not rows:
        raise ReportError(f"{path} holds no images; test again on a dataset that has some")
    pictures = []
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ReportError(f"{path}: images[{i}] is {row!r:.80}; it should be a row of figures")
        name = _get(path, row, "name", str, where=f"images[{i}]")
        where = f"image {name!r}"
        # Images that share one file have no size of their own.
        kinds = {"width": (int,), "height": (int,), "file_bytes": (int, type(None))}
        for key, allowed in kinds.items():
            value = _get(path, row, key, *allowed, where=where)
            if value is not None and value <= 0:
                raise ReportError(f"{path}: {key!r} of {where} is {value}; it should be positive")
        values = {
            figure: as_number(path, f"{figure} of {where}", row[figure])
            for figure in record["protocols"]
            if row.get(figure) is not None
        }
        figures = finite(values)
        if figures.get(BPP, 0) <= 0:
            raise ReportError(f"{path}: 'bpp' of {where} is {row.get(BPP)!r}; a rate is a finite number above 0")
        original = _get(path, row, "original", str, type(None), where=where) if "original" in row else None
        reconstruction = (
            _get(path, row, "reconstruction", str, type(None), where=where) if "reconstruction" in row else None
        )
        pictures.append(
            Picture(
                name=name,
                figures=figures,
                original=_existing(expand(original)) if original else None,
                reconstruction=_existing(path.parent / reconstruction) if reconstruction else None,
            )
        )
    names = [picture.name for picture in pictures]
    if len(set(names)) < len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise ReportError(f"{path}: image {again!r} occurs twice; means over it are wrong. Test again to replace it.")
    return tuple(pictures)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
