"""The record of one data set, from what the callbacks hold after a test."""

import math
from collections.abc import Mapping
from typing import Any

from callbacks.metric import MetricCallback
from callbacks.per_image import PerImageMetric
from callbacks.record import COMPRESSAI_NAMES, SCHEMA, plain, setting_in_words
from lightning_modules.step_output import CaptionVariant, Decoder


def build_record(
    dataset: str,
    images: dict[str, dict[str, Any]],
    metrics: list[MetricCallback],
    identity: Mapping[str, Any],
    origin: Mapping[str, Any],
    series: Decoder | CaptionVariant | None = None,
) -> dict[str, Any]:
    """The record of one dataset as plain values (see `ResultRecord`).

    Args:
        dataset: its name, by which the figures are kept; of a series that of the series.
        images: image name -> row without figures.
        metrics: the callbacks that hold the figures.
        identity: from the module's `result_identity`.
        origin: `checkpoint`, `device`, `versions`, `git`, `config`, `created`.
        series: which of several decoders, or of several captions; the record is then one of the data set proper,
            and `setting` gets its name.
    """
    mean: dict[str, float] = {}
    not_available: dict[str, str] = {}
    protocols: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        mean |= metric.summary.get(dataset, {})
        not_available |= metric.not_available.get(dataset, {})
        described = {"unit": metric.unit, "higher_is_better": metric.higher_is_better, **metric.protocol()}
        figures = {**metric.summary.get(dataset, {}), **metric.not_available.get(dataset, {})}
        details = metric.details.get(dataset, {})
        protocols |= {figure: described | details.get(figure, {}) for figure in figures}
        if isinstance(metric, PerImageMetric):
            for image, values in metric.rows.get(dataset, {}).items():
                images[image] |= values
            for row in images.values():
                row |= {name: None for name in figures if name not in row}
    results = {}
    for name, value in mean.items():
        theirs, factor = COMPRESSAI_NAMES.get(name, (name, 1.0))
        if math.isfinite(value):
            results[theirs] = [factor * value]
    settled: dict[str, Any] = {"setting": None, **identity}
    place = dataset
    if series is not None:
        settled["setting"] = {**(settled["setting"] or {}), **series.setting()}
    if isinstance(series, Decoder):
        settled["decoder"] = {"name": series.name, "realism": series.realism}
        place = f"{series.dataset}, decoder {series.name}"
    elif series is not None:
        settled["captions"] = series.name
        place = f"{series.dataset}, {series.name} captions"
    return plain(
        {
            "schema": SCHEMA,
            "name": identity["codec"],
            "description": f"{setting_in_words(identity)} on {place}, bits of real files",
            "results": results,
            **settled,
            "dataset": dataset if series is None else series.dataset,
            "mean": mean,
            "not_available": not_available,
            "protocols": protocols,
            **origin,
            "images": list(images.values()),
        }
    )
