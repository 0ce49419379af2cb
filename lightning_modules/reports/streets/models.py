"""Which records are which method of the paper's Table 2: models with their decoders, and the choice among several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve
from lightning_modules.reports.streets.results import Result

OASIS, PATCH = "oasis", "patch"
"""Names of critics in the records."""


class Method(NamedTuple):
    """A row of the paper's Table 2."""

    name: str
    labelled: bool
    decoder: str
    critic: str
    """What its g2 was trained against."""
    printed: str
    """Its codec in `configs/references`."""


BASELINE = Method("Baseline", False, "g1", OASIS, "Ballé et al. 2018")
HIFIC = Method("HiFiC-like", False, "g2", PATCH, "HiFiC")
YAN = Method("Yan et al. 2021", False, "g2", OASIS, "Yan et al. 2021")
PROPOSED_1 = Method("Proposed g1", True, "g1", OASIS, "Xu et al. (g1)")
PROPOSED_2 = Method("Proposed g2", True, "g2", OASIS, "Xu et al. (g2)")
METHODS = (BASELINE, HIFIC, YAN, PROPOSED_1, PROPOSED_2)


@dataclass(frozen=True)
class Model:
    """One set of weights, and its results by decoder."""

    series: Mapping[str, Result]

    @property
    def first(self) -> Result:
        """Any of its results: they agree in all that is the model's."""
        return next(iter(self.series.values()))

    @property
    def lmbda(self) -> float:
        """λ."""
        return self.first.lmbda

    @property
    def rate(self) -> float:
        """Bits per pixel of its files."""
        return self.first.rate

    def __str__(self) -> str:
        side = "with the label map" if self.first.labelled else "without side information"
        critic = ", patch critic" if self.first.critic == PATCH else ""
        return f"λ = {self.lmbda:g} {side}{critic}"


@dataclass(frozen=True)
class DatasetModels:
    """The models measured on one test set, by what they are for; one per λ, by rising λ."""

    dataset: str
    plain: tuple[Model, ...]
    """Baseline and Yan et al.: without side information, g2 against the critic of OASIS."""
    patch: tuple[Model, ...]
    """The same against the critic of HiFiC."""
    labelled: tuple[Model, ...]
    """Proposed."""
    remarks: tuple[str, ...]
    """What was left out, and why."""

    @property
    def all(self) -> tuple[Model, ...]:
        """All that the report shows."""
        return (*self.plain, *self.patch, *self.labelled)

    @property
    def results(self) -> list[Result]:
        """Theirs."""
        return [result for model in self.all for result in model.series.values()]

    def of(self, method: Method) -> list[Result]:
        """The results of a method by rate.

        The first stage knows no critic: where only a model with HiFiC's has a baseline of its λ, that one is taken.
        """
        models = list(self.labelled if method.labelled else self.patch if method is HIFIC else self.plain)
        if method is BASELINE:
            there = {model.lmbda for model in models if method.decoder in model.series}
            models += [model for model in self.patch if model.lmbda not in there]
        found = [model.series[method.decoder] for model in models if method.decoder in model.series]
        return sorted(found, key=lambda result: result.rate)

    def curve(self, method: Method) -> Curve:
        """The points of a method."""
        points = tuple(replace(result.point, codec=method.name) for result in self.of(method))
        return Curve(method.name, self.dataset, "measured", points)


def sort_models(results: Iterable[Result]) -> list[DatasetModels]:
    """Group results into models, one `DatasetModels` per test set.

    Raises:
        ReportError: Two models could be the same point of a method.
    """
    datasets: dict[str, dict[str, dict[str, Result]]] = {}
    for result in results:
        datasets.setdefault(result.dataset, {}).setdefault(result.weights, {})[result.decoder] = result
    return [_sort(name, [Model(series) for series in models.values()]) for name, models in sorted(datasets.items())]


def _sort(dataset: str, models: Sequence[Model]) -> DatasetModels:
    groups: dict[tuple[bool, str | None], dict[float, Model]] = {}
    for model in sorted(models, key=lambda model: model.lmbda):
        group = groups.setdefault((model.first.labelled, model.first.critic), {})
        other = group.setdefault(model.lmbda, model)
        if other is not model:
            raise ReportError(
                f"{other.first.path} and {model.first.path} are of two models of {model} on {model.first.dataset}, "
                "and a curve has room for one; give the records of one of them"
            )
    remarks: list[str] = []
    for (labelled, critic), group in list(groups.items()):
        if critic is None:
            # A first stage alone has the place of a model that has both, where there is none.
            both = groups.setdefault((labelled, OASIS), {})
            remarks += [
                f"Left out, as another model of that λ has both stages: {_described(model)}."
                for lmbda, model in group.items()
                if both.setdefault(lmbda, model) is not model
            ]
        elif (labelled, critic) not in ((False, OASIS), (False, PATCH), (True, OASIS)):
            remarks += [f"Left out, as no method of the paper: {_described(model)}." for model in group.values()]

    def by_lambda(labelled: bool, critic: str) -> tuple[Model, ...]:
        return tuple(model for _, model in sorted(groups.get((labelled, critic), {}).items()))

    return DatasetModels(
        dataset, by_lambda(False, OASIS), by_lambda(False, PATCH), by_lambda(True, OASIS), tuple(remarks)
    )


def _described(model: Model) -> str:
    critic = "no critic" if model.first.critic is None else f"critic {model.first.critic}"
    return f"{model}, {critic} ({model.first.place})"
