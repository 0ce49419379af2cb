"""Which records are which method of the paper's Table 2: models with their decoders, and the choice among several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_modules.reports import measured_models
from lightning_modules.reports.measured_models import (
    MeasuredModel,
    MeasuredModels,
    models_by_dataset,
    refuse_twins,
)
from lightning_modules.reports.streets.results import Result

OASIS, PATCH = "oasis", "patch"
"""Names of critics in the records."""


@dataclass(frozen=True)
class Method(measured_models.Method):
    """A row of the paper's Table 2."""

    critic: str = OASIS
    """What its g2 was trained against."""


BASELINE = Method("Baseline", False, "g1", "Ballé et al. 2018")
HIFIC = Method("HiFiC-like", False, "g2", "HiFiC", PATCH)
YAN = Method("Yan et al. 2021", False, "g2", "Yan et al. 2021")
PROPOSED_1 = Method("Proposed g1", True, "g1", "Xu et al. (g1)")
PROPOSED_2 = Method("Proposed g2", True, "g2", "Xu et al. (g2)")
METHODS = (BASELINE, HIFIC, YAN, PROPOSED_1, PROPOSED_2)


@dataclass(frozen=True)
class Model(MeasuredModel[Result]):
    """One set of weights, and its results by decoder."""

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
class DatasetModels(MeasuredModels[Result, Method]):
    """The models measured on one test set, by what they are for; one per λ, by rising λ."""

    plain: tuple[Model, ...]
    """Baseline and Yan et al.: without side information, g2 against the critic of OASIS."""
    patch: tuple[Model, ...]
    """The same against the critic of HiFiC."""
    labelled: tuple[Model, ...]
    """Proposed."""

    @property
    def all(self) -> tuple[Model, ...]:
        """All that the report shows, each once."""
        return (*self.plain, *self.patch, *self.labelled)

    def candidates(self, method: Method) -> Sequence[Model]:
        """Those of the method's side information and critic.

        The first stage knows no critic: where only a model with HiFiC's has a baseline of its λ, that one is taken.
        """
        if method is BASELINE:
            there = {model.lmbda for model in self.plain if method.decoder in model.series}
            return (*self.plain, *(model for model in self.patch if model.lmbda not in there))
        return self.labelled if method.labelled else self.patch if method.critic == PATCH else self.plain


def sort_models(results: Iterable[Result]) -> list[DatasetModels]:
    """Group results into models, one `DatasetModels` per test set.

    Raises:
        ReportError: Two models could be the same point of a method.
    """
    return [_sort(name, models) for name, models in models_by_dataset(results, Model).items()]


def _sort(dataset: str, models: Sequence[Model]) -> DatasetModels:
    groups: dict[tuple[bool, str | None], dict[float, Model]] = {}
    by_rising_lambda = sorted(models, key=lambda model: model.lmbda)
    refuse_twins(by_rising_lambda, lambda model: (model.first.labelled, model.first.critic, model.lmbda))
    for model in by_rising_lambda:
        groups.setdefault((model.first.labelled, model.first.critic), {})[model.lmbda] = model
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
        dataset=dataset,
        remarks=tuple(remarks),
        plain=by_lambda(False, OASIS),
        patch=by_lambda(False, PATCH),
        labelled=by_lambda(True, OASIS),
    )


def _described(model: Model) -> str:
    critic = "no critic" if model.first.critic is None else f"critic {model.first.critic}"
    return f"{model}, {critic} ({model.first.place})"
