"""What metrics of distributions share: one network, one pass over the images, one buffer."""

from abc import abstractmethod
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.extractors import FeatureExtractor
from callbacks.gather import all_gather_rows
from callbacks.metric import MetricCallback, OnMissing
from callbacks.metrics.feature_buffer import NO_LABEL, FeatureBuffer, Features, sample_key
from callbacks.metrics.patches import patch_corners
from lightning_modules.step_output import StepOutput

_PATCHES_AT_A_TIME = 32


class DatasetFeatures(Features):
    """Features of a dataset, with the images that they are of."""

    def __init__(self, features: Features, images: list[str], too_small: list[str]) -> None:
        super().__init__(features.real, features.fake, features.key, features.label)
        self.images = images
        """N image names, one per sample; the patches of an image share one."""
        self.too_small = too_small
        """Images that have no sample, being smaller than a patch."""


class FeatureStore:
    """Runs the images of an epoch through an extractor, once for all metrics that share the store.

    Args:
        extractor: of the features.
        patch_size: side of the patches that are taken for samples (see `patch_corners`); `None` takes whole images.
    """

    def __init__(self, extractor: FeatureExtractor, patch_size: int | None = None) -> None:
        self.extractor = extractor
        self.patch_size = patch_size
        self.reset()

    def reset(self) -> None:
        """Forget everything but the network."""
        self._latest: dict[str, StepOutput] = {}
        self._originals: Tensor | None = None
        self._known: dict[tuple[int, int], Tensor] = {}
        self._buffers: dict[str, FeatureBuffer] = {}
        self._images: dict[str, dict[int, str]] = {}
        self._too_small: dict[str, set[str]] = {}
        self._gathered: dict[str, DatasetFeatures] | None = None

    def take(self, output: StepOutput) -> None:
        """Extract the features of a batch, unless this very output was taken in before. Those of the originals are
        extracted once for all outputs in a row that hold the same tensor, as the decoders of a batch do.

        Raises:
            ValueError: original and reconstruction differ in shape, or are no images in [0, 1].
        """
        # Each metric hands over all outputs of a batch before the next metric does: the latest of every data set (of
        # every decoder) must be known. They are kept, so that no other output can be at the same address.
        if self._latest.get(output["dataset"]) is output:
            return
        self._latest[output["dataset"]] = output
        real, fake = output["image"], output["x_hat"]
        if real is not self._originals:
            self._originals, self._known = real, {}
        if real.shape != fake.shape:
            raise ValueError(
                f"{output['dataset']}: originals {tuple(real.shape)} and reconstructions {tuple(fake.shape)} differ"
            )
        labels = output["label"] if "label" in output else torch.full((len(real),), NO_LABEL)
        if self.patch_size is None:
            names = output["name"]
            self._add(output["dataset"], names, names, self._of_originals((0, 0), real), self.extractor(fake), labels)
            return
        height, width = real.shape[-2:]
        corners = patch_corners(height, width, self.patch_size)
        if not corners:
            self._too_small.setdefault(output["dataset"], set()).update(output["name"])
        for i, image in enumerate(output["name"]):
            for start in range(0, len(corners), _PATCHES_AT_A_TIME):
                some = corners[start : start + _PATCHES_AT_A_TIME]
                samples = [f"{image} at {top}, {left}" for top, left in some]
                crops = [torch.stack([self._crop(side[i], *corner) for corner in some]) for side in (real, fake)]
                features = self._of_originals((i, start), crops[0]), self.extractor(crops[1])
                self._add(output["dataset"], [image] * len(some), samples, *features, labels[i].expand(len(some)))

    def _of_originals(self, part: tuple[int, int], images: Tensor) -> Tensor:
        """Features of a part of the originals, on the CPU, so that the buffers of all decoders hold one copy."""
        if part not in self._known:
            self._known[part] = self.extractor(images).cpu()
        return self._known[part]

    def _crop(self, image: Tensor, top: int, left: int) -> Tensor:
        assert self.patch_size is not None
        return image[:, top : top + self.patch_size, left : left + self.patch_size]

    def _add(
        self, dataset: str, images: list[str], samples: list[str], real: Tensor, fake: Tensor, labels: Tensor
    ) -> None:
        """Keep features of some samples."""
        keys = [sample_key(sample) for sample in samples]
        known = self._images.setdefault(dataset, {})
        if again := [image for key, image in zip(keys, images, strict=True) if key in known]:
            # A sampler repeats images across ranks, never within one.
            rank_zero_warn(f"features: image {again[0]!r} occurs twice in {dataset}; it is counted once")
        known.update(zip(keys, images, strict=True))
        buffer = self._buffers.setdefault(dataset, FeatureBuffer())
        buffer.update(real, fake, torch.tensor(keys), labels)

    def gather(self) -> dict[str, DatasetFeatures]:
        """The features of each dataset, those of all processes. All processes must call it; later calls in an epoch
        cost nothing.
        """
        if self._gathered is None:
            datasets = dict.fromkeys([*self._images, *self._too_small])
            local = [(name, self._images.get(name, {}), self._too_small.get(name, set())) for name in datasets]
            everywhere = all_gather_rows(local)
            self._latest, self._originals, self._known = {}, None, {}
            self._gathered = {}
            for dataset in dict.fromkeys(name for name, _, _ in everywhere):
                names: dict[int, str] = {}
                too_small: set[str] = set()
                for name, images, small in everywhere:
                    if name == dataset:
                        names |= images
                        too_small |= small
                features = self._buffer(dataset).compute()
                images_of = [names[key] for key in features.key.tolist()]
                self._gathered[dataset] = DatasetFeatures(features, images_of, sorted(too_small))
            self._buffers = {}
        return self._gathered

    def _buffer(self, dataset: str) -> FeatureBuffer:
        """The dataset's buffer; on a process that saw nothing of it, one that has taken in an empty batch."""
        if dataset not in self._buffers:
            self._buffers[dataset] = FeatureBuffer()
            nothing = torch.empty(0, 0)
            self._buffers[dataset].update(nothing, nothing, torch.empty(0, dtype=torch.int64))
        return self._buffers[dataset]


class FeatureMetric(MetricCallback):
    """A distance between the distributions of originals and reconstructions, in the space of some features.

    A subclass gives `measure`. Metrics of a trainer whose extractors are equal share the network and, where they also
    look at the same patches, the pass over the images and the features of all processes.

    Args:
        name: of the main figure.
        extractor: of the features.
        patch_size: side of the patches that are taken for samples; `None` takes whole images.
        on_missing: "record" warns once and records the metric as not available where the extractor's weights are
            missing; "raise" stops at the start of the validation or test.
    """

    unit = ""
    higher_is_better = False

    def __init__(
        self,
        name: str,
        extractor: FeatureExtractor,
        patch_size: int | None = None,
        on_missing: OnMissing = "record",
    ) -> None:
        super().__init__()
        self.name = name
        self.on_missing = on_missing
        self.store = FeatureStore(extractor, patch_size)

    @property
    def extractor(self) -> FeatureExtractor:
        """Of the features."""
        return self.store.extractor

    @abstractmethod
    def measure(self, dataset: str, features: DatasetFeatures) -> None:
        """Call `report` and `report_missing` for a dataset with at least 2 samples, all finite."""

    def protocol(self) -> dict[str, Any]:
        """What the features are."""
        return self.extractor.protocol()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Join the first metric that has the same features."""
        metrics = [callback for callback in trainer.callbacks if isinstance(callback, FeatureMetric)]  # type: ignore[attr-defined]
        alike = [metric.store for metric in metrics if metric.extractor == self.extractor]
        same = [store for store in alike if store.patch_size == self.store.patch_size]
        self.store = same[0]
        self.store.extractor = alike[0].extractor

    def prepare(self, device: torch.device) -> None:
        """Load the extractor at the first call; follow the module's device afterwards."""
        self.extractor.prepare(device)

    def reset(self) -> None:
        """Forget the features."""
        self.store.reset()

    def update(self, output: StepOutput) -> None:
        """Extract the features of a batch, unless another metric has done so."""
        self.store.take(output)

    def conclude(self) -> None:
        """Gather the features and measure each dataset."""
        for dataset, features in self.store.gather().items():
            if reason := self._obstacle(features):
                self.report_missing(dataset, self.name, reason)
                continue
            self.measure(dataset, features)
            if features.too_small:
                total = len(features.too_small) + len(set(features.images))
                reason = f"{len(features.too_small)} of {total} images: {self._too_small()}"
                self.report_missing(dataset, self.name, reason)

    def _obstacle(self, features: DatasetFeatures) -> str | None:
        """Why there can be no figure."""
        if not len(features):
            return f"all images: {self._too_small()}"
        finite = features.real.isfinite().all(dim=1) & features.fake.isfinite().all(dim=1)
        if not finite.all():
            images = sorted({image for image, fine in zip(features.images, finite.tolist(), strict=True) if not fine})
            return f"features of {_listed(images)} are not finite: look for NaN in original and reconstruction"
        if len(features) < 2:
            return f"{self.name} needs at least 2 {'images' if self.store.patch_size is None else 'patches'}, has 1"
        return None

    def _too_small(self) -> str:
        return f"smaller than the patches of {self.store.patch_size} pixels"

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Free the features."""
        self.reset()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Free the features."""
        self.reset()


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
