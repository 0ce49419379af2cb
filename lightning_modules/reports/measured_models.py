"""Measured models with several decoders, and which of their results are which method of a paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from lightning_modules.reports.decoder_result import DecoderResult
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve, Figure


@dataclass(frozen=True)
class Method:
    """A row of a paper's table."""

    name: str
    labelled: bool
    """Whether it sends side information."""
    decoder: str
    printed: str
    """Its codec in `configs/references`."""


R = TypeVar("R", bound=DecoderResult)
K = TypeVar("K", bound=Method)
M = TypeVar("M", bound="MeasuredModel[Any]")


@dataclass(frozen=True)
class MeasuredModel(ABC, Generic[R]):
    """One set of weights, and its results by decoder."""

    series: Mapping[str, R]

    @property
    def first(self) -> R:
        """Any of its results: they agree in all that is the model's."""
        return next(iter(self.series.values()))

    @abstractmethod
    def __str__(self) -> str:
        """The model in words, for tables and messages."""


@dataclass(frozen=True)
class MeasuredModels(ABC, Generic[R, K]):
    """The models measured on one test set, by what they are for."""

    dataset: str
    remarks: tuple[str, ...]
    """What was left out, and why."""

    @property
    @abstractmethod
    def all(self) -> tuple[MeasuredModel[R], ...]:
        """All that the report shows; one that is there for two reasons stands there twice."""

    @abstractmethod
    def candidates(self, method: K) -> Sequence[MeasuredModel[R]]:
        """The models that a method's results are of, as far as they have its decoder."""

    @property
    def results(self) -> list[R]:
        """Those of `all`."""
        return [result for model in self.all for result in model.series.values()]

    def of(self, method: K) -> list[R]:
        """The results of a method by rate."""
        found = [m.series[method.decoder] for m in self.candidates(method) if method.decoder in m.series]
        return sorted(found, key=lambda result: result.rate)

    def curve(self, method: K) -> Curve:
        """The points of a method."""
        points = tuple(replace(result.point, codec=method.name) for result in self.of(method))
        return Curve(method.name, self.dataset, "measured", points)

    def values(self, method: K, figure: Figure) -> list[tuple[float, float]]:
        """Rate and mean of a figure of a method's results, as far as they have it."""
        return [(r.rate, value) for r in self.of(method) if (value := r.value(figure.name)) is not None]


def models_by_dataset(results: Iterable[R], model: Callable[[Mapping[str, R]], M]) -> dict[str, list[M]]:
    """Test set -> its models, by name of the test set.

    Args:
        results: Of any models and test sets.
        model: Makes one of the results of the same weights by decoder.
    """
    datasets: dict[str, dict[str, dict[str, R]]] = {}
    for result in results:
        datasets.setdefault(result.dataset, {}).setdefault(result.weights, {})[result.decoder] = result
    return {name: [model(series) for series in models.values()] for name, models in sorted(datasets.items())}


def refuse_twins(models: Iterable[MeasuredModel[Any]], key: Callable[[Any], object]) -> None:
    """See to it that no two models have the same key, which is their place on a curve.

    Raises:
        ReportError: Two have.
    """
    seen: dict[object, MeasuredModel[Any]] = {}
    for model in models:
        other = seen.setdefault(key(model), model)
        if other is not model:
            raise ReportError(
                f"{other.first.path} and {model.first.path} are of two models of {model} on {model.first.dataset}, "
                "and a curve has room for one; give the records of one of them"
            )
