"""Which records are which method of the paper: models with their decoders, and the choice among several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_modules.reports.digits.results import Result
from lightning_modules.reports.measured_models import (
    MeasuredModel,
    MeasuredModels,
    Method,
    models_by_dataset,
    refuse_twins,
)

CLASSES = 10
DECODER_INPUTS = 100
"""Channels that g2 takes in: code, one-hot digit and noise together (Yan et al., 2021, published code)."""


BASELINE = Method("Baseline", False, "g1", "MSE baseline")
YAN = Method("Yan et al. 2021", False, "g2", "Yan et al. 2021")
PROPOSED_1 = Method("Proposed g1", True, "g1", "Xu et al. (g1)")
PROPOSED_2 = Method("Proposed g2", True, "g2", "Xu et al. (g2)")
JOINT = "joint"
"""Decoder of the jointly trained codec."""
METHODS = (BASELINE, YAN, PROPOSED_1, PROPOSED_2)


@dataclass(frozen=True)
class Model(MeasuredModel[Result]):
    """One set of weights, and its results by decoder."""

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
class DatasetModels(MeasuredModels[Result, Method]):
    """The models measured on one test set, by what they are for; the rate of their points is the cross-entropy."""

    unlabelled: tuple[Model, ...]
    """Baseline and Yan et al., one per length of code."""
    labelled: tuple[Model, ...]
    """Proposed, one per length of code."""
    joint: tuple[Model, ...]
    """By beta."""
    noise: Mapping[int, tuple[Model, ...]]
    """Length of code -> models without side information by noise dimensions, where these vary."""

    @property
    def all(self) -> tuple[Model, ...]:
        """Those of the curves, the jointly trained ones, and those of the randomness study."""
        studied = (model for group in self.noise.values() for model in group)
        return (*self.unlabelled, *self.labelled, *self.joint, *studied)

    def candidates(self, method: Method) -> Sequence[Model]:
        """Those with the method's side information, or without."""
        return self.labelled if method.labelled else self.unlabelled


def sort_models(results: Iterable[Result]) -> list[DatasetModels]:
    """Group results into models, one `DatasetModels` per test set.

    Where models of one length of code differ in noise dimensions, the methods of Table 1 take the one whose noise
    fills g2's input up to `DECODER_INPUTS` channels; once a test set has such models, those with another amount of
    noise belong to the randomness study alone.

    Raises:
        ReportError: Two models could be the same point of a method.
    """
    return [_sort(name, models) for name, models in models_by_dataset(results, Model).items()]


def _sort(dataset: str, models: Sequence[Model]) -> DatasetModels:
    remarks: list[str] = []
    two_stage = [model for model in models if JOINT not in model.series]
    joint = sorted((m for m in models if JOINT in m.series), key=lambda m: (m.first.beta or 0.0, m.code_bits))
    refuse_twins(joint, lambda m: (m.first.beta, m.code_bits, m.first.labelled))
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
    refuse_twins(usual, lambda m: (m.code_bits, m.first.labelled))
    by_code = sorted(usual, key=lambda model: model.code_bits)
    return DatasetModels(
        dataset=dataset,
        remarks=tuple(remarks),
        unlabelled=tuple(model for model in by_code if not model.first.labelled),
        labelled=tuple(model for model in by_code if model.first.labelled),
        joint=tuple(joint),
        noise=noise,
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
        refuse_twins(largest, lambda m: (m.code_bits, m.first.noise_dim))
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
