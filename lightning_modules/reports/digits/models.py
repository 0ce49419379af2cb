"""Which records are which method of the paper: models with their decoders, and the choice among several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.errors import ReportError
from lightning_modules.reports.model import Curve

CLASSES = 10
DECODER_INPUTS = 100
"""Channels that g2 takes in: code, one-hot digit and noise together (Yan et al., 2021, published code)."""


class Method(NamedTuple):
    """A row of the paper's Table 1."""

    name: str
    labelled: bool
    decoder: str
    printed: str
    """Its codec in `configs/references`."""


BASELINE = Method("Baseline", False, "g1", "MSE baseline")
YAN = Method("Yan et al. 2021", False, "g2", "Yan et al. 2021")
PROPOSED_1 = Method("Proposed g1", True, "g1", "Xu et al. (g1)")
PROPOSED_2 = Method("Proposed g2", True, "g2", "Xu et al. (g2)")
JOINT = "joint"
"""Decoder of the jointly trained codec."""
METHODS = (BASELINE, YAN, PROPOSED_1, PROPOSED_2)


@dataclass(frozen=True)
class Model:
    """One set of weights, and its results by decoder."""

    series: Mapping[str, Result]

    @property
    def first(self) -> Result:
        """Any of its results: they agree in all that is the model's."""
        return next(iter(self.series.values()))

    @property
    def code_bits(self) -> int:
        """Length of its code."""
        return self.first.code_bits

    @property
    def has_usual_noise(self) -> bool:
        """Whether noise fills g2's input up to `DECODER_INPUTS` channels; the randomness study has less."""
        labels = CLASSES if self.first.labelled else 0
        return self.first.noise_dim == max(0, DECODER_INPUTS - self.code_bits - labels)

    def __str__(self) -> str:
        side = "with the digit" if self.first.labelled else "without side information"
        return f"the {self.code_bits}-bit code {side}"


@dataclass(frozen=True)
class DatasetModels:
    """The models measured on one test set, by what they are for."""

    dataset: str
    unlabelled: tuple[Model, ...]
    """Baseline and Yan et al., one per length of code."""
    labelled: tuple[Model, ...]
    """Proposed, one per length of code."""
    joint: tuple[Model, ...]
    """By beta."""
    noise: Mapping[int, tuple[Model, ...]]
    """Length of code -> models without side information by noise dimensions, where these vary."""
    remarks: tuple[str, ...]
    """What was left out, and why."""

    def of(self, method: Method) -> list[Result]:
        """The results of a method by rate."""
        models = self.labelled if method.labelled else self.unlabelled
        found = [model.series[method.decoder] for model in models if method.decoder in model.series]
        return sorted(found, key=lambda result: result.rate)

    def curve(self, method: Method) -> Curve:
        """The points of a method; their rate is the cross-entropy."""
        points = tuple(replace(result.point, codec=method.name) for result in self.of(method))
        return Curve(method.name, self.dataset, "measured", points)

    @property
    def results(self) -> list[Result]:
        """All that the report shows."""
        groups = (self.unlabelled, self.labelled, self.joint, *self.noise.values())
        return [result for group in groups for model in group for result in model.series.values()]


def sort_models(results: Iterable[Result]) -> list[DatasetModels]:
    """Group results into models, one `DatasetModels` per test set.

    Where models of one length of code differ in noise dimensions, the methods of Table 1 take the one whose noise
    fills g2's input up to `DECODER_INPUTS` channels; once a test set has such models, those with another amount of
    noise belong to the randomness study alone.

    Raises:
        ReportError: Two models could be the same point of a method.
    """
    datasets: dict[str, dict[str, dict[str, Result]]] = {}
    for result in results:
        datasets.setdefault(result.dataset, {}).setdefault(result.weights, {})[result.decoder] = result
    return [_sort(name, [Model(series) for series in models.values()]) for name, models in sorted(datasets.items())]


def _sort(dataset: str, models: Sequence[Model]) -> DatasetModels:
    remarks: list[str] = []
    two_stage = [model for model in models if JOINT not in model.series]
    joint = sorted((m for m in models if JOINT in m.series), key=lambda m: (m.first.beta or 0.0, m.code_bits))
    _refuse_twins(joint, lambda m: (m.first.beta, m.code_bits, m.first.labelled))
    noise = _noise_study([model for model in two_stage if not model.first.labelled], remarks)
    if any(model.has_usual_noise for model in two_stage):
        usual = [model for model in two_stage if model.has_usual_noise]
        studied = {model.first.weights for group in noise.values() for model in group}
        for model in two_stage:
            if model not in usual and model.first.weights not in studied:
                remarks.append(
                    f"Left out of the curves, whose g2 has {DECODER_INPUTS} inputs: {model} with "
                    f"{_noise(model)} ({model.first.place})."
                )
    else:
        usual = two_stage
    _refuse_twins(usual, lambda m: (m.code_bits, m.first.labelled))
    by_code = sorted(usual, key=lambda model: model.code_bits)
    return DatasetModels(
        dataset=dataset,
        unlabelled=tuple(model for model in by_code if not model.first.labelled),
        labelled=tuple(model for model in by_code if model.first.labelled),
        joint=tuple(joint),
        noise=noise,
        remarks=tuple(remarks),
    )


def _noise_study(models: Sequence[Model], remarks: list[str]) -> dict[int, tuple[Model, ...]]:
    """Models by length of code where the noise varies, and nothing else does."""
    study: dict[int, tuple[Model, ...]] = {}
    for code_bits in sorted({model.code_bits for model in models}):
        group = [m for m in models if m.code_bits == code_bits and m.first.noise_dim is not None and "g2" in m.series]
        alike: dict[str, list[Model]] = {}
        for model in group:
            alike.setdefault(repr(sorted(model.first.training.items())), []).append(model)
        largest = max(alike.values(), key=len, default=[])
        if len({model.first.noise_dim for model in largest}) < 2:
            continue
        _refuse_twins(largest, lambda m: (m.code_bits, m.first.noise_dim))
        for model in group:
            if model not in largest:
                remarks.append(
                    f"Left out of the randomness study, as it was trained with other settings than the rest: {model} "
                    f"with {_noise(model)} ({model.first.place})."
                )
        study[code_bits] = tuple(sorted(largest, key=lambda model: model.first.noise_dim or 0))
    return study


def _noise(model: Model) -> str:
    return "no g2" if model.first.noise_dim is None else f"{model.first.noise_dim} noise dimensions"


def _refuse_twins(models: Iterable[Model], key: Callable[[Model], object]) -> None:
    seen: dict[object, Model] = {}
    for model in models:
        other = seen.setdefault(key(model), model)
        if other is not model:
            raise ReportError(
                f"{other.first.path} and {model.first.path} are of two models of {model} on {model.first.dataset}, "
                "and a curve has room for one; give the records of one of them"
            )
